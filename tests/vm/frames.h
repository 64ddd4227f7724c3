/* frames.h - for tests of pinning: which frames lie behind this process's own pages, by a scan with rle/ */
#ifndef TESTS_VM_FRAMES_H
#define TESTS_VM_FRAMES_H

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/mapw.h"
#include "rle/proc.h"
#include "runtime/guest/helper/pin.h"
#include "tests/tap.h"

#define PAGE 4096ul

static inline void frames_die(const char *what)
{
	perror(what);
	exit(2);
}

/* A map of this process. */
static inline struct rle_map frames_scan(void)
{
	struct rle_map_meta meta = {.split = RLE_SPLIT_PROT, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = getpid()};
	static struct rle_src src;
	static bool open;
	struct rle_mapw *w;
	struct rle_proc p;
	struct rle_map map;
	struct rle_enc e;
	const char *why;
	size_t bytes;
	void *blob;

	if (!open && rle_src_open(&src, NULL, RLE_JOIN_NONE, &why))
		frames_die(why);
	open = true;
	if (rle_proc_open(&p, &src, getpid()) || rle_mapw_begin_mem(&w, &meta, 64 << 20))
		frames_die("scan");
	rle_enc_init(&e, meta.split, rle_mapw_run, w, &src.frames);
	if (rle_proc_scan(&p, &e, NULL) || rle_mapw_finish(w))
		frames_die("scan");
	rle_proc_close(&p);
	blob = rle_mapw_take(w, &bytes);
	if (rle_map_open_copy(&map, blob, bytes, NULL))
		frames_die("map");
	free(blob);
	rle_mapw_free(w);
	return map;
}

/* Frames of @npages pages at @area; 0 where none is present. */
static inline void frames_of(const char *area, size_t npages, uint64_t *pfn)
{
	struct rle_map map = frames_scan();
	struct rle_run hit;

	for (size_t i = 0; i < npages; i++)
		pfn[i] = rle_map_lookup(&map, (ds_vpn){(uintptr_t)area / PAGE + i}, &hit) ? hit.pfn.n : 0;
	rle_map_close(&map);
}

static inline size_t frames_differ(const uint64_t *a, const uint64_t *b, size_t n)
{
	size_t differ = 0;

	for (size_t i = 0; i < n; i++)
		differ += a[i] != b[i];
	return differ;
}

/* Asks the kernel to move pages to a NUMA node.  Return: how many say that they are there. */
static inline size_t frames_to_node(char *area, size_t npages, int node)
{
	void **page = calloc(npages, sizeof(*page));
	int *to = calloc(npages, sizeof(*to)), *status = calloc(npages, sizeof(*status));
	size_t there = 0;

	for (size_t i = 0; i < npages; i++) {
		page[i] = area + i * PAGE;
		to[i] = node;
		status[i] = -1;
	}
	syscall(SYS_move_pages, 0, npages, page, to, status, MPOL_MF_MOVE);
	for (size_t i = 0; i < npages; i++)
		there += status[i] == node;
	free(page);
	free(to);
	free(status);
	return there;
}

static inline void frames_set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		frames_die(path);
	close(fd);
}

static inline uint64_t frames_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		frames_die(path);
	close(fd);
	return strtoull(text, NULL, 10);
}

/* What pin_range() reported, pages by outcome. */
struct tally {
	uint64_t pages[PIN_NOUTCOMES];
	int err;
};

static inline void frames_tally(void *ctx, const struct pin_stretch *s)
{
	struct tally *t = ctx;

	t->pages[s->outcome] += s->bytes / PAGE;
	if (s->err)
		t->err = s->err;
}

static inline struct tally frames_pin(struct pin *p, const void *area, size_t npages, unsigned int flags)
{
	struct tally t = {0};
	int err = pin_range(p, (uintptr_t)area, npages * PAGE, flags, frames_tally, &t);

	if (err)
		printf("# pin_range: %d\n", err);
	return t;
}

#endif
