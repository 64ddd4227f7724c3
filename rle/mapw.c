/* mapw.c - see mapw.h */
#include "rle/mapw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "rle/mapmerge.h"

/* 8 KiB: the cost of a pwrite() and of a hash update vanishes over so many runs. */
#define CHUNK_RUNS (8192 / sizeof(struct rle_run))

struct rle_mapw {
	struct rle_map_meta meta;
	struct rle_map_merge merge;
	XXH3_state_t *hash; /* of the runs that left the chunk */
	uint64_t bytes;	    /* of the blob so far, the header's place included */
	uint64_t npages;
	uint64_t nruns;
	int fd;		    /* -1: memory */
	char *blob;	    /* memory: @room bytes, of which @bytes are used */
	size_t room, max_bytes;
	int rc; /* the first error, or -EALREADY once finished */
	bool whole;
	size_t nchunk;
	struct rle_run chunk[CHUNK_RUNS];
};

static int write_at(int fd, const void *data, size_t bytes, uint64_t offset)
{
	while (bytes) {
		ssize_t n = pwrite(fd, data, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		data = (const char *)data + n;
		bytes -= (size_t)n;
		offset += (size_t)n;
	}
	return 0;
}

/* Makes room for @bytes in all, doubling, never beyond the caller's limit. */
static int reserve(struct rle_mapw *w, uint64_t bytes)
{
	size_t room = w->room;
	char *blob;

	if (bytes > w->max_bytes)
		return -E2BIG;
	if (bytes <= room)
		return 0;
	room = room > w->max_bytes / 2 ? w->max_bytes : 2 * room;
	if (room < bytes)
		room = bytes;
	blob = realloc(w->blob, room);
	if (!blob)
		return -ENOMEM;
	w->blob = blob;
	w->room = room;
	return 0;
}

static int put(struct rle_mapw *w, const void *data, size_t bytes, uint64_t offset)
{
	int rc;

	if (w->fd >= 0)
		return write_at(w->fd, data, bytes, offset);
	rc = reserve(w, offset + bytes);
	if (!rc)
		memcpy(w->blob + offset, data, bytes);
	return rc;
}

static int flush(struct rle_mapw *w)
{
	size_t bytes = w->nchunk * sizeof(w->chunk[0]);
	int rc;

	if (!bytes)
		return 0;
	rc = put(w, w->chunk, bytes, w->bytes);
	if (rc)
		return rc;
	XXH3_64bits_update(w->hash, w->chunk, bytes);
	w->bytes += bytes;
	w->nchunk = 0;
	return 0;
}

/* Behind the merger: final, canonical runs. */
static int keep(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct rle_mapw *w = ctx;
	int rc = 0;

	(void)end;
	if (w->nchunk == CHUNK_RUNS)
		rc = flush(w);
	if (rc)
		return rc;
	w->chunk[w->nchunk++] = *run;
	w->nruns++;
	w->npages += run->npages;
	return 0;
}

static int begin(struct rle_mapw **out, const struct rle_map_meta *meta)
{
	struct rle_mapw *w;

	*out = NULL;
	if (rle_map_meta_fault(meta))
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->meta = *meta;
	w->fd = -1;
	w->bytes = sizeof(struct rle_map_header);
	rle_map_merge_init(&w->merge, meta->split, meta->key, keep, w);
	w->hash = XXH3_createState();
	if (!w->hash) {
		free(w);
		return -ENOMEM;
	}
	XXH3_64bits_reset(w->hash);
	*out = w;
	return 0;
}

int rle_mapw_begin_fd(struct rle_mapw **w, const struct rle_map_meta *meta, int fd)
{
	int flags = fcntl(fd, F_GETFL);
	int rc;

	*w = NULL;
	if (flags < 0)
		return -errno;
	if ((flags & O_APPEND) || rle_map_meta_fault(meta))
		return -EINVAL;
	if (ftruncate(fd, 0))
		return -errno;
	rc = begin(w, meta);
	if (!rc)
		(*w)->fd = fd;
	return rc;
}

int rle_mapw_begin_mem(struct rle_mapw **w, const struct rle_map_meta *meta, size_t max_bytes)
{
	int rc = begin(w, meta);

	if (rc)
		return rc;
	(*w)->max_bytes = max_bytes;
	rc = reserve(*w, sizeof(struct rle_map_header));
	if (rc) {
		rle_mapw_free(*w);
		*w = NULL;
	}
	return rc;
}

int rle_mapw_add(struct rle_mapw *w, ds_vpn vpn, ds_pfn pfn, uint64_t npages, uint32_t attr)
{
	if (!w->rc)
		w->rc = rle_map_merge_add(&w->merge, vpn, pfn, npages, attr);
	return w->rc;
}

int rle_mapw_run(void *w, const struct rle_run *run, enum rle_end end)
{
	(void)end;
	return rle_mapw_add(w, run->vpn, run->pfn, run->npages, run->attr);
}

int rle_mapw_finish(struct rle_mapw *w)
{
	struct rle_map_header h;

	if (!w->rc)
		w->rc = rle_map_merge_end(&w->merge);
	if (!w->rc)
		w->rc = flush(w);
	if (w->rc)
		return w->rc;
	h = (struct rle_map_header){
		.magic = RLE_MAP_MAGIC,
		.endian_tag = RLE_MAP_ENDIAN_TAG,
		.version = RLE_MAP_VERSION,
		.header_bytes = sizeof(h),
		.page_shift = DS_PAGE_SHIFT,
		.split = (uint8_t)w->meta.split,
		.space = (uint8_t)w->meta.space,
		.key = (uint8_t)w->meta.key,
		.nruns = w->nruns,
		.npages = w->npages,
		.pid = w->meta.pid,
		.start_ticks = w->meta.start_ticks,
		.runs_xxh3 = XXH3_64bits_digest(w->hash),
	};
	h.header_xxh3 = XXH3_64bits(&h, offsetof(struct rle_map_header, header_xxh3));
	w->rc = put(w, &h, sizeof(h), 0);
	if (w->rc)
		return w->rc;
	w->whole = true;
	w->rc = -EALREADY; /* nothing may follow */
	return 0;
}

void *rle_mapw_take(struct rle_mapw *w, size_t *blob_bytes)
{
	char *blob = w->blob;

	if (!w->whole || !blob)
		return NULL;
	*blob_bytes = w->bytes;
	w->blob = NULL;
	return blob;
}

const char *rle_mapw_fault(const struct rle_mapw *w)
{
	return w->merge.why;
}

void rle_mapw_free(struct rle_mapw *w)
{
	if (!w)
		return;
	XXH3_freeState(w->hash);
	free(w->blob);
	free(w);
}
