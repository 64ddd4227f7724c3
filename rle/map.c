/* map.c - opening, checking and reading maps; the format and its invariants are in map.h
 *
 * The order of the checks matters: length, magic, byte order and version first, because what another version puts
 * behind them is unknown; then the header's checksum, so that damage is called damage; then what the header says,
 * the length it implies, the runs' checksum, and the runs one by one.
 */
#include "rle/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "rle/mapmerge.h"

#define HEADER_BYTES sizeof(struct rle_map_header)
#define RUN_BYTES sizeof(struct rle_run)

static int refuse(struct rle_map_err *err, int rc, const char *why, uint64_t offset_bytes, uint64_t run)
{
	if (err)
		*err = (struct rle_map_err){.why = why, .offset_bytes = offset_bytes, .run = run};
	return rc;
}
#define refuse_field(err, rc, why, field) refuse(err, rc, why, offsetof(struct rle_map_header, field), RLE_MAP_NO_RUN)

const char *rle_map_meta_fault(const struct rle_map_meta *meta)
{
	if (meta->split >= RLE_NSPLIT)
		return "unknown split policy";
	if (meta->key != RLE_SPACE_VIRTUAL && meta->key != RLE_SPACE_FRAME)
		return "a map is keyed by virtual pages or by frames";
	if (meta->space >= RLE_NSPACE || meta->space <= meta->key)
		return "a map does not lead from this space to that";
	return NULL;
}

const char *rle_map_range_fault(enum rle_space key, ds_vpn vpn, ds_pfn pfn, uint64_t npages, uint32_t attr)
{
	uint64_t end = rle_space_end(key);

	if (!npages)
		return "run of no pages";
	if (vpn.n >= end || npages > end - vpn.n)
		return "run ends beyond the last page of its key space";
	if (pfn.n >= DS_PFN_END || npages > DS_PFN_END - pfn.n)
		return "run ends beyond the last possible frame";
	if (attr & ~(uint32_t)RLE_ATTR_ALL)
		return "unknown attribute";
	return NULL;
}

static int check_header(const struct rle_map_header *h, size_t blob_bytes, struct rle_map_err *err)
{
	const struct rle_map_meta meta = {.split = h->split, .key = h->key, .space = h->space};
	const uint64_t body_bytes = blob_bytes - HEADER_BYTES;
	const char *why;

	if (memcmp(h->magic, RLE_MAP_MAGIC, sizeof(h->magic)))
		return refuse_field(err, -EBADMSG, "not a map: the magic is missing", magic);
	if (h->endian_tag == __builtin_bswap32(RLE_MAP_ENDIAN_TAG))
		return refuse_field(err, -EPROTONOSUPPORT, "written on a machine of the other byte order", endian_tag);
	if (h->endian_tag != RLE_MAP_ENDIAN_TAG)
		return refuse_field(err, -EBADMSG, "damaged endian tag", endian_tag);
	if (h->version != RLE_MAP_VERSION)
		return refuse_field(err, -EPROTONOSUPPORT, "version of the format that this reader does not know", version);
	if (h->header_xxh3 != XXH3_64bits(h, offsetof(struct rle_map_header, header_xxh3)))
		return refuse_field(err, -EBADMSG, "checksum of the header is wrong", header_xxh3);
	if (h->header_bytes != HEADER_BYTES)
		return refuse_field(err, -EBADMSG, "length of the header is not that of its version", header_bytes);
	if (h->page_shift != DS_PAGE_SHIFT)
		return refuse_field(err, -EPROTONOSUPPORT, "page size other than this reader's", page_shift);
	why = rle_map_meta_fault(&meta);
	if (why)
		return refuse_field(err, -EBADMSG, why, split);
	if (h->zero)
		return refuse_field(err, -EBADMSG, "reserved bytes are not zero", zero);
	/* Divided, not multiplied: nruns may be anything. */
	if (h->nruns > body_bytes / RUN_BYTES)
		return refuse(err, -EBADMSG, "shorter than its runs", blob_bytes, RLE_MAP_NO_RUN);
	if (h->nruns * RUN_BYTES != body_bytes)
		return refuse(err, -EBADMSG, "bytes after the last run", HEADER_BYTES + h->nruns * RUN_BYTES, RLE_MAP_NO_RUN);
	return 0;
}

static const char *run_fault(const struct rle_map_meta *meta, const struct rle_run *before, const struct rle_run *run)
{
	const char *why = rle_map_range_fault(meta->key, run->vpn, run->pfn, run->npages, run->attr);

	if (why || !before)
		return why;
	if (run->vpn.n <= before->vpn.n)
		return "runs are not in rising order";
	if (run->vpn.n < rle_run_end(before).n)
		return "run overlaps the one before";
	if (before->npages != RLE_RUN_MAX_PAGES && rle_map_continues(meta->split, before, run->vpn, run->pfn, run->attr))
		return "run is a part of the one before: not canonical";
	return NULL;
}

static int check_runs(const struct rle_map *map, uint64_t npages, struct rle_map_err *err)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < map->nruns; i++) {
		const char *why = run_fault(&map->meta, i ? &map->runs[i - 1] : NULL, &map->runs[i]);

		if (why)
			return refuse(err, -EBADMSG, why, HEADER_BYTES + i * RUN_BYTES, i);
		sum += map->runs[i].npages; /* below 2^44: the runs do not overlap */
	}
	if (sum != npages)
		return refuse_field(err, -EBADMSG, "number of pages is not the sum of the runs", npages);
	return 0;
}

int rle_map_open(struct rle_map *map, const void *blob, size_t blob_bytes, struct rle_map_err *err)
{
	struct rle_map_header h;
	struct rle_map view;
	int rc;

	*map = (struct rle_map){0};
	if (blob_bytes < HEADER_BYTES)
		return refuse(err, -EBADMSG, "shorter than a header", blob_bytes, RLE_MAP_NO_RUN);
	if ((uintptr_t)blob % _Alignof(struct rle_run))
		return refuse(err, -EINVAL, "lies at an address that is not a multiple of 8", 0, RLE_MAP_NO_RUN);
	memcpy(&h, blob, sizeof(h));
	rc = check_header(&h, blob_bytes, err);
	if (rc)
		return rc;

	view = (struct rle_map){
		.meta = {.split = h.split, .key = h.key, .space = h.space, .pid = h.pid, .start_ticks = h.start_ticks},
		.runs = (const struct rle_run *)((const char *)blob + HEADER_BYTES),
		.nruns = h.nruns,
		.npages = h.npages,
	};
	if (h.runs_xxh3 != XXH3_64bits(view.runs, blob_bytes - HEADER_BYTES))
		return refuse_field(err, -EBADMSG, "checksum of the runs is wrong", runs_xxh3);
	rc = check_runs(&view, h.npages, err);
	if (rc)
		return rc;
	*map = view;
	return 0;
}

/* Opens @blob, which is on the heap, and hands it to @map; freed here when it is refused. */
static int open_owned(struct rle_map *map, void *blob, size_t blob_bytes, struct rle_map_err *err)
{
	int rc = rle_map_open(map, blob, blob_bytes, err);

	if (rc)
		free(blob);
	else
		map->owned = blob;
	return rc;
}

int rle_map_open_copy(struct rle_map *map, const void *blob, size_t blob_bytes, struct rle_map_err *err)
{
	void *copy;

	*map = (struct rle_map){0};
	if (blob_bytes < HEADER_BYTES)
		return refuse(err, -EBADMSG, "shorter than a header", blob_bytes, RLE_MAP_NO_RUN);
	copy = malloc(blob_bytes);
	if (!copy)
		return refuse(err, -ENOMEM, "no memory for a copy", 0, RLE_MAP_NO_RUN);
	memcpy(copy, blob, blob_bytes);
	return open_owned(map, copy, blob_bytes, err);
}

static int load_copy(struct rle_map *map, int fd, size_t file_bytes, struct rle_map_err *err)
{
	char *copy = malloc(file_bytes);
	size_t done = 0;

	if (!copy)
		return refuse(err, -ENOMEM, "no memory for a copy", 0, RLE_MAP_NO_RUN);
	while (done < file_bytes) {
		ssize_t n = pread(fd, copy + done, file_bytes - done, (off_t)done);
		int rc = n < 0 ? -errno : -EBADMSG;

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (rc == -EINTR)
			continue;
		free(copy);
		return refuse(err, rc, n < 0 ? "cannot be read" : "became shorter while it was read", done, RLE_MAP_NO_RUN);
	}
	return open_owned(map, copy, file_bytes, err);
}

int rle_map_load(struct rle_map *map, int fd, size_t max_bytes, bool copy, struct rle_map_err *err)
{
	struct stat st;
	size_t file_bytes;
	void *mapping;
	int rc;

	*map = (struct rle_map){0};
	if (fstat(fd, &st))
		return refuse(err, -errno, "fstat failed", 0, RLE_MAP_NO_RUN);
	if (!S_ISREG(st.st_mode))
		return refuse(err, -EINVAL, "not a regular file", 0, RLE_MAP_NO_RUN);
	if ((uintmax_t)st.st_size > max_bytes)
		return refuse(err, -EFBIG, "file longer than the limit", max_bytes, RLE_MAP_NO_RUN);
	file_bytes = (size_t)st.st_size;
	if (file_bytes < HEADER_BYTES)
		return refuse(err, -EBADMSG, "shorter than a header", file_bytes, RLE_MAP_NO_RUN);
	if (copy)
		return load_copy(map, fd, file_bytes, err);

	mapping = mmap(NULL, file_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (mapping == MAP_FAILED)
		return refuse(err, -errno, "mmap failed", 0, RLE_MAP_NO_RUN);
	rc = rle_map_open(map, mapping, file_bytes, err);
	if (rc) {
		munmap(mapping, file_bytes);
		return rc;
	}
	map->owned = mapping;
	map->mapped_bytes = file_bytes;
	return 0;
}

void rle_map_close(struct rle_map *map)
{
	if (map->mapped_bytes)
		munmap(map->owned, map->mapped_bytes);
	else
		free(map->owned);
	*map = (struct rle_map){0};
}

uint64_t rle_map_find(const struct rle_map *map, ds_vpn vpn)
{
	uint64_t low = 0, high = map->nruns;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (rle_run_end(&map->runs[mid]).n > vpn.n)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

struct rle_map_iter rle_map_range(const struct rle_map *map, ds_vpn first, ds_vpn end)
{
	return (struct rle_map_iter){.map = map, .index = rle_map_find(map, first), .first = first, .end = end};
}

struct rle_map_iter rle_map_all(const struct rle_map *map)
{
	return (struct rle_map_iter){.map = map, .end = {UINT64_MAX}};
}

bool rle_map_next(struct rle_map_iter *it, struct rle_run *run)
{
	struct rle_run r;

	if (it->index >= it->map->nruns)
		return false;
	r = it->map->runs[it->index];
	if (r.vpn.n >= it->end.n || it->first.n >= it->end.n)
		return false;
	if (r.vpn.n < it->first.n)
		r = rle_run_skip(r, (uint32_t)(it->first.n - r.vpn.n));
	if (it->end.n - r.vpn.n < r.npages)
		r.npages = (uint32_t)(it->end.n - r.vpn.n);
	it->index++;
	*run = r;
	return true;
}

bool rle_map_lookup(const struct rle_map *map, ds_vpn vpn, struct rle_run *hit)
{
	struct rle_map_iter it = rle_map_range(map, vpn, (ds_vpn){UINT64_MAX});
	struct rle_run run;

	if (!rle_map_next(&it, &run) || run.vpn.n != vpn.n)
		return false;
	*hit = run;
	return true;
}

uint64_t rle_map_covered(const struct rle_map *map, ds_vpn first, uint64_t npages)
{
	struct rle_map_iter it = rle_map_range(map, first, (ds_vpn){UINT64_MAX});
	uint64_t covered = 0;
	struct rle_run run;

	while (covered < npages && rle_map_next(&it, &run) && run.vpn.n - first.n == covered)
		covered += run.npages;
	return covered < npages ? covered : npages;
}
