/* mapw.h - writing a map: to a file in constant memory, or into a buffer that grows
 *
 * Theory of operation
 *
 *   rle_mapw_begin_fd() or _mem()  ->  rle_mapw_run() or rle_mapw_add(), rising  ->  rle_mapw_finish()
 *
 * rle_mapw_run() is a rle_run_fn: the encoder and the composition feed a writer directly.  Runs go through a merger
 * (mapmerge.h), so that the map is canonical however they were cut, and through a buffer of 8 KiB.  Their checksum
 * is taken as they pass; length, sums and checksums are known at the end, so the header is written last.
 *
 * Until then a file begins with 72 zero bytes, which no reader accepts: a writer that is killed, that runs out of
 * disk or that gives up half-way never leaves a map that looks whole.  For the same reason an error sticks: after a
 * failed call rle_mapw_finish() fails too.
 *
 * What a writer accepts, a reader accepts: both ask rle_map_meta_fault() and rle_map_range_fault().
 *
 * One thread at a time.
 */
#ifndef RLE_MAPW_H
#define RLE_MAPW_H

#include <stddef.h>

#include "rle/map.h"

struct rle_mapw;

/**
 * rle_mapw_begin_fd() - Starts to write a map to a file
 * @w: the writer, to be given to rle_mapw_free(); NULL after an error
 * @meta: copied
 * @fd: regular file or memfd open for writing, not O_APPEND (there pwrite() ignores its offset, pwrite(2), BUGS); the
 *	caller's to close, sync and rename; what it held is cut off
 *
 * Return: 0, -EINVAL (@meta is wrong, @fd unsuitable), -ENOMEM, or the -errno of ftruncate().
 */
int rle_mapw_begin_fd(struct rle_mapw **w, const struct rle_map_meta *meta, int fd);

/**
 * rle_mapw_begin_mem() - Starts to write a map into memory
 * @w: the writer, to be given to rle_mapw_free(); NULL after an error
 * @meta: copied
 * @max_bytes: a map that would become longer is an error, -E2BIG
 *
 * Return: 0, -EINVAL (@meta is wrong), -E2BIG (@max_bytes has no room for a header), -ENOMEM.
 */
int rle_mapw_begin_mem(struct rle_mapw **w, const struct rle_map_meta *meta, size_t max_bytes);

/**
 * rle_mapw_run() - Adds a run; a rle_run_fn
 * @w: struct rle_mapw
 * @run: at or beyond the end of what was added before
 * @end: not used
 *
 * Return: 0, -EINVAL (a run that no map may hold; rle_mapw_fault() says why), -E2BIG, -ENOMEM, the -errno of
 * pwrite(), or the error of an earlier call.
 */
int rle_mapw_run(void *w, const struct rle_run *run, enum rle_end end);

/**
 * rle_mapw_add() - Adds a stretch of any length, such as a range of a VM's memory
 *
 * One longer than RLE_RUN_MAX_PAGES becomes several runs.
 *
 * Return: as rle_mapw_run().
 */
int rle_mapw_add(struct rle_mapw *w, ds_vpn vpn, ds_pfn pfn, uint64_t npages, uint32_t attr);

/**
 * rle_mapw_finish() - Writes what is held back, then the header
 *
 * Once; only rle_mapw_take() and rle_mapw_free() may follow.
 *
 * Return: as rle_mapw_run().
 */
int rle_mapw_finish(struct rle_mapw *w);

/**
 * rle_mapw_take() - Hands over the blob of a finished writer to memory
 * @blob_bytes: its length
 *
 * Return: the blob, the caller's to free(), aligned for rle_map_open(); NULL when there is none (a writer to a file,
 * not finished, taken before).
 */
void *rle_mapw_take(struct rle_mapw *w, size_t *blob_bytes);

/** rle_mapw_fault() - After -EINVAL: what was wrong with the run, static text; else NULL. */
const char *rle_mapw_fault(const struct rle_mapw *w);

/** rle_mapw_free() - Frees a writer in any state; NULL does nothing. */
void rle_mapw_free(struct rle_mapw *w);

/** rle_mapw_cleanup() - For __attribute__((cleanup(rle_mapw_cleanup))). */
static inline void rle_mapw_cleanup(struct rle_mapw **w)
{
	rle_mapw_free(*w);
}

#endif
