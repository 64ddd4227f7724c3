/* devmem_host.c - on the host of devmem.sh: where a process of VM B lies in the physical memory of VM A
 *
 * usage: devmem_host QMP-OF-A QMP-OF-B OUTPUT-OF-B PIPE-TO-A
 *
 * B's RAM file is a DIMM of A, in one piece: A's monitor says at which address (query-memory-devices), B's monitor which
 * of B's frames are which pages of the file.  So B's process is mapped from its virtual pages to A's frames.  Writes
 * what devmem_peer.c printed to A, the map so composed, and the frame of the scratch page.
 *
 * Exit status: 0, or 2 with a reason.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rle/mapops.h"
#include "rle/mapw.h"
#include "runtime/host/vm/mtree.h"
#include "runtime/host/vm/qmp.h"
#include "tests/vm/devmem.h"

#define PATIENCE_S 200

static char text[8u << 20];

/* Waits until B has told everything. */
static void read_told(const char *path, struct devmem_told *told, struct rle_map *map)
{
	static uint8_t blob[TRANSLATE_MAP_BYTES];
	const char *at = NULL;
	size_t bytes = 0;

	for (int i = 0; i < PATIENCE_S * 10 && !at; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

		close(fd);
		text[got > 0 ? got : 0] = 0;
		at = strstr(text, "\nMAP ");
		if (at && !strchr(at + 1, '\n'))
			at = NULL;
		usleep(at ? 0 : 100000);
	}
	if (!at || sscanf(text, DEVMEM_TOLD_SCAN, &told->pattern, &told->talk, &told->list, &told->scratch, &told->seed,
			  &told->scratch_frame) != 6)
		errx(2, "VM B has not told its map");
	for (at += 5; bytes < sizeof(blob) && *at != '\n' && sscanf(at, "%2hhx", &blob[bytes]) == 1; at += 2)
		bytes++;
	if (rle_map_open_copy(map, blob, bytes, NULL))
		errx(2, "VM B's map is not valid");
}

/* The one memory device of A.  Return: its first frame. */
static uint64_t dimm_frame(struct qmp *q)
{
	struct json_object *list = NULL, *data, *addr;

	if (qmp_command(q, "query-memory-devices", NULL, &list) || json_object_array_length(list) != 1 ||
	    !json_object_object_get_ex(json_object_array_get_idx(list, 0), "data", &data) ||
	    !json_object_object_get_ex(data, "addr", &addr))
		errx(2, "VM A does not tell where its DIMM is: %s", q->fault);
	return json_object_get_uint64(addr) / DS_PAGE_BYTES;
}

/* B's process in A's frames: its map composed with B's table, moved to where the DIMM begins.  Return: the blob. */
static uint8_t *compose(const struct rle_map *guest, const struct ramtable *t, uint64_t first, size_t *bytes)
{
	const struct rle_map_meta frames_meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_FRAME, .space = RLE_SPACE_HOST};
	struct rle_map_meta meta = guest->meta;
	struct rle_compose_opt opt = {.max_pieces = 1 << 20};
	struct rle_map frames;
	struct rle_mapw *w;
	void *blob;

	if (rle_mapw_begin_mem(&w, &frames_meta, 1 << 16))
		errx(2, "no memory");
	for (uint32_t i = 0; i < t->nranges; i++)
		if (t->range[i].file == 0 && rle_mapw_add(w, t->range[i].frame, (ds_pfn){t->range[i].page.n + first}, t->range[i].npages, 0))
			errx(2, "range %u: %s", i, rle_mapw_fault(w));
	if (rle_mapw_finish(w))
		errx(2, "the table of VM B cannot be made a map");
	blob = rle_mapw_take(w, bytes);
	rle_mapw_free(w);
	meta.space = RLE_SPACE_HOST;
	if (rle_map_open(&frames, blob, *bytes, NULL) || rle_mapw_begin_mem(&w, &meta, TRANSLATE_MAP_BYTES) ||
	    rle_map_compose(guest, &frames, &opt, rle_mapw_run, w, NULL) || rle_mapw_finish(w))
		errx(2, "the map cannot be composed");
	free(blob);
	blob = rle_mapw_take(w, bytes);
	rle_mapw_free(w);
	return blob;
}

int main(int argc, char **argv)
{
	struct ramtable_err why = {0};
	struct devmem_told told;
	struct ramtable table;
	struct rle_map guest, host;
	struct rle_run hit;
	struct qmp a, b;
	uint8_t *blob;
	size_t bytes;
	FILE *out;

	if (argc != 5)
		errx(2, "usage: devmem_host QMP-OF-A QMP-OF-B OUTPUT-OF-B PIPE-TO-A");
	read_told(argv[3], &told, &guest);
	if (qmp_connect(&a, argv[1], 20000) || qmp_connect(&b, argv[2], 20000))
		errx(2, "a VM has no monitor");
	if (mtree_read(&b, &table, &why))
		errx(2, "VM B's memory: %s", why.why ? why.why : "no answer");
	blob = compose(&guest, &table, dimm_frame(&a), &bytes);
	if (rle_map_open(&host, blob, bytes, NULL) || !rle_map_lookup(&host, (ds_vpn){told.scratch / DS_PAGE_BYTES}, &hit))
		errx(2, "the scratch page is not in the map");
	told.scratch_frame = hit.pfn.n;
	out = fopen(argv[4], "w");
	if (!out)
		err(2, "%s", argv[4]);
	fprintf(out, DEVMEM_TOLD_FORMAT "MAP ", told.pattern, told.talk, told.list, told.scratch, told.seed, told.scratch_frame);
	for (size_t i = 0; i < bytes; i++)
		fprintf(out, "%02x", blob[i]);
	fputc('\n', out);
	if (fclose(out))
		err(2, "%s", argv[4]);
	free(blob);
	rle_map_close(&guest);
	qmp_close(&a);
	qmp_close(&b);
	return 0;
}
