/* map.h - the map: runs in a blob that can be stored, sent, mmapped and used in place
 *
 * Theory of operation
 *
 * A map is a header of 72 bytes and then the runs, 24 bytes each, sorted.  It holds no pointer and needs no
 * decoding: a valid blob is used where it lies, through a view (struct rle_map) that points into it.  Nothing
 * in a blob is believed before rle_map_open() has looked at all of it, so everything behind an open view may rely
 * on the invariants below, whoever made the blob.
 *
 *   offset size
 *        0    8  magic, the bytes "DSRUNMAP"
 *        8    4  endian tag 0x01020304; read as 0x04030201 it comes from a machine of the other byte order
 *       12    2  version, 1
 *       14    2  header_bytes, 72: where the runs begin
 *       16    1  page_shift, 12: every page number here counts pages of 2^12 bytes
 *       17    1  split, enum rle_split: the policy the runs were cut by
 *       18    1  space, enum rle_space: what PFNs count (1, 2 or 3)
 *       19    1  key, enum rle_space: what VPNs count (0 or 1); less than space
 *       20    4  zero
 *       24    8  nruns
 *       32    8  npages, the sum over the runs
 *       40    8  pid of the process; 0: none
 *       48    8  start_ticks, its start time (field 22 of /proc/PID/stat); 0: none
 *       56    8  XXH3-64 (seed 0) of all bytes from 72 on
 *       64    8  XXH3-64 (seed 0) of bytes 0 to 63
 *       72   24  run 0 (struct rle_run)
 *                  +0  8  VPN of its first page
 *                  +8  8  PFN of its first page
 *                 +16  4  npages
 *                 +20  4  attributes, enum rle_attr
 *       96   24  run 1, and so on; the blob ends with the last run
 *
 * Integers are in the byte order of the machine that wrote them: a map is used on the machine it describes or on
 * its VM's host, which is the same machine.  A reader of the other order refuses by the tag.
 *
 * Worked example: the paper's (1 -> 5, 2 -> 6, 3 -> 7), Section III, becomes (1 -> 5 x 3).  Readable and writable,
 * split by protection, process 42 started at tick 1000 (tests/golden/paper.map, x86-64):
 *
 *   00  44 53 52 55 4e 4d 41 50  04 03 02 01 01 00 48 00   DSRUNMAP, tag, version 1, 72 bytes
 *   10  0c 01 01 00 00 00 00 00  01 00 00 00 00 00 00 00   shift 12, by protection, virtual -> frame; 1 run
 *   20  03 00 00 00 00 00 00 00  2a 00 00 00 00 00 00 00   3 pages; pid 42
 *   30  e8 03 00 00 00 00 00 00  64 14 7c 19 f9 f8 92 ee   start 1000; checksum of the runs
 *   40  cb 66 13 38 5d 8a 9f 63  01 00 00 00 00 00 00 00   checksum of the header; VPN 1
 *   50  05 00 00 00 00 00 00 00  03 00 00 00 03 00 00 00   PFN 5; 3 pages; read, write
 *
 * Invariants of a valid map
 *   - VPNs rise and runs do not overlap; no run is empty.
 *   - The last VPN lies below the end of the key space (rle_space_end()), the last PFN below DS_PFN_END.  No sum
 *     that a user of the map forms can overflow: all are below 2^45.
 *   - Only attributes of RLE_ATTR_ALL.
 *   - nruns fills the blob exactly; npages is the sum.
 *   - The form is canonical: of two runs that touch in VPN and PFN and that the policy does not separate, the
 *     first has RLE_RUN_MAX_PAGES pages.  So a page table has one map only: maps are equal when their bytes are,
 *     counts of runs can be compared, and a blob cannot be padded into millions of runs that say nothing.
 *
 * The checksums find damage, not malice: anybody can compute them.  What a hostile blob cannot do is break an
 * invariant.  Memory that somebody else can still write is another matter: copy it (rle_map_open_copy()).
 *
 * Threads: an open view is only read; any number may use it.
 */
#ifndef RLE_MAP_H
#define RLE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rle/run.h"

#define RLE_MAP_MAGIC "DSRUNMAP"
#define RLE_MAP_ENDIAN_TAG UINT32_C(0x01020304)
#define RLE_MAP_VERSION 1

/** enum rle_space - What a page number of a map counts; a map leads from a space to a later one. */
enum rle_space {
	RLE_SPACE_VIRTUAL, /* pages of a process's address space (GVA, or HVA of a process on the host) */
	RLE_SPACE_FRAME,   /* frames of the machine or VM that the process runs on (GPA; in a plain scan simply the PFN) */
	RLE_SPACE_HOST,	   /* frames of the host (HPA), of which /dev/mem is the file */
	RLE_SPACE_FILE,	   /* pages of a file, the one that holds a VM's memory */
	RLE_NSPACE
};

/** struct rle_map_header - The first 72 bytes of a blob, as drawn above. */
struct rle_map_header {
	char magic[8];
	uint32_t endian_tag;
	uint16_t version;
	uint16_t header_bytes;
	uint8_t page_shift;
	uint8_t split;
	uint8_t space;
	uint8_t key;
	uint32_t zero;
	uint64_t nruns;
	uint64_t npages;
	uint64_t pid;
	uint64_t start_ticks;
	uint64_t runs_xxh3;
	uint64_t header_xxh3;
};
_Static_assert(sizeof(struct rle_map_header) == 72, "the header has 72 bytes and no padding");
_Static_assert(offsetof(struct rle_map_header, nruns) == 24 && offsetof(struct rle_map_header, runs_xxh3) == 56 &&
		       offsetof(struct rle_map_header, header_xxh3) == 64,
	       "the header is laid out as drawn");

/** struct rle_map_meta - What a map says about itself besides its runs. */
struct rle_map_meta {
	enum rle_split split;
	enum rle_space key;   /* of the VPNs; a map keyed by frames holds GPAs in its ds_vpn fields */
	enum rle_space space; /* of the PFNs */
	uint64_t pid;
	uint64_t start_ticks;
};

/** struct rle_map - A view of a valid blob; 0-filled it is an empty map that rle_map_close() accepts. */
struct rle_map {
	struct rle_map_meta meta;
	const struct rle_run *runs; /* in the blob */
	uint64_t nruns;
	uint64_t npages;
	void *owned; /* what rle_map_close() gives back: a copy or a mapping; NULL when the buffer is the caller's */
	size_t mapped_bytes; /* of a mapping; 0: @owned is a copy on the heap */
};

#define RLE_MAP_NO_RUN UINT64_MAX

/** struct rle_map_err - Why a blob was refused. */
struct rle_map_err {
	const char *why;     /* static text */
	uint64_t offset_bytes; /* of the field or run in the blob */
	uint64_t run;	     /* index of that run, or RLE_MAP_NO_RUN */
};

/** rle_space_end() - The first key beyond @key's space: no VPN of a map keyed by it may reach that. */
static inline uint64_t rle_space_end(enum rle_space key)
{
	return key == RLE_SPACE_VIRTUAL ? DS_USER_VPN_END : DS_PFN_END;
}

/** rle_run_end() - The first VPN after @run. */
static inline ds_vpn rle_run_end(const struct rle_run *run)
{
	return ds_vpn_add(run->vpn, run->npages);
}

/** rle_run_skip() - What is left of @run without its first @npages pages (fewer than it has). */
static inline struct rle_run rle_run_skip(struct rle_run run, uint32_t npages)
{
	return (struct rle_run){
		.vpn = ds_vpn_add(run.vpn, npages),
		.pfn = ds_pfn_add(run.pfn, npages),
		.npages = run.npages - npages,
		.attr = run.attr,
	};
}

/**
 * rle_map_open() - Checks a blob and makes a view of it, in place
 * @map: filled; empty after an error
 * @blob: the caller's; must stay as it is while the view is used; aligned to 8 bytes
 * @blob_bytes: its exact length
 * @err: filled on an error that concerns the blob; may be NULL
 *
 * Reads every byte once, costs no memory.
 *
 * Return: 0, -EINVAL (@blob is misaligned: use rle_map_open_copy()), -EPROTONOSUPPORT (version, byte order or page
 * size that this reader does not know), -EBADMSG (anything else that is wrong with it).
 */
int rle_map_open(struct rle_map *map, const void *blob, size_t blob_bytes, struct rle_map_err *err);

/**
 * rle_map_open_copy() - Copies a blob, then checks the copy
 * @map: filled; rle_map_close() frees the copy
 * @blob: any alignment; may be memory that somebody else can write (they cannot change what was checked)
 * @blob_bytes: its exact length; bounded by the caller
 * @err: as in rle_map_open()
 *
 * Return: as rle_map_open(), but never for alignment; -ENOMEM.
 */
int rle_map_open_copy(struct rle_map *map, const void *blob, size_t blob_bytes, struct rle_map_err *err);

/**
 * rle_map_load() - Opens a map that is a file
 * @map: filled; rle_map_close() unmaps or frees
 * @fd: a regular file or memfd, opened for reading; not kept, its offset not used
 * @max_bytes: a longer file is refused
 * @copy: false: mmapped and used in place.  Whoever can write the file can then change the map under the reader
 *	and, by shortening the file, kill the reader with SIGBUS: only for files that nobody else can write, or that
 *	are sealed.  true: read into memory first, and so safe from both.
 * @err: as in rle_map_open()
 *
 * Return: as rle_map_open(); -EINVAL (not a regular file), -EFBIG (beyond @max_bytes), -ENOMEM, or the -errno of
 * fstat(), mmap() or pread().
 */
int rle_map_load(struct rle_map *map, int fd, size_t max_bytes, bool copy, struct rle_map_err *err);

/** rle_map_close() - Gives back what @map owns and empties it; for __attribute__((cleanup(rle_map_close))) too. */
void rle_map_close(struct rle_map *map);

/**
 * rle_map_find() - The index of the first run that ends after @vpn, by binary search
 *
 * That run holds @vpn, or begins after it.
 *
 * Return: 0 to @map->nruns; the latter when all runs end at or before @vpn.
 */
uint64_t rle_map_find(const struct rle_map *map, ds_vpn vpn);

/**
 * rle_map_lookup() - What one virtual page translates to
 * @hit: filled when found: the rest of the run that holds @vpn, so hit->vpn is @vpn, hit->pfn its frame and
 *	hit->npages the pages from there to the end of the run
 *
 * Return: whether @vpn is in the map.
 */
bool rle_map_lookup(const struct rle_map *map, ds_vpn vpn, struct rle_run *hit);

/**
 * rle_map_covered() - How far a range is in the map without a hole
 * @first: its first page
 * @npages: its length
 *
 * Return: pages from @first to the first one that is missing; @npages when none is.
 */
uint64_t rle_map_covered(const struct rle_map *map, ds_vpn first, uint64_t npages);

/** struct rle_map_iter - A place in a map; no resources, may be copied and dropped. */
struct rle_map_iter {
	const struct rle_map *map;
	uint64_t index; /* of the run that comes next */
	ds_vpn first, end;
};

/** rle_map_range() - Starts to go through the runs between @first and @end (that one not included). */
struct rle_map_iter rle_map_range(const struct rle_map *map, ds_vpn first, ds_vpn end);

/** rle_map_all() - Starts to go through all runs. */
struct rle_map_iter rle_map_all(const struct rle_map *map);

/**
 * rle_map_next() - Delivers the next run, cut to the range
 *
 * Return: whether there was one.
 */
bool rle_map_next(struct rle_map_iter *it, struct rle_run *run);

/**
 * rle_map_meta_fault() - What is wrong with the self-description of a map: reader and writer ask the same
 *
 * Return: static text, NULL when nothing.
 */
const char *rle_map_meta_fault(const struct rle_map_meta *meta);

/**
 * rle_map_range_fault() - What is wrong with a run that stands alone: empty, out of range, unknown attribute
 * @key: what @vpn counts
 * @npages: of any size
 *
 * Return: static text, NULL when nothing.
 */
const char *rle_map_range_fault(enum rle_space key, ds_vpn vpn, ds_pfn pfn, uint64_t npages, uint32_t attr);

#endif
