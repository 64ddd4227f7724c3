/* record.h - what a worker hands to the parent about one process: fixed size, no pointers, lives in shared memory
 *
 * The worker fills a record in the order of enum record_phase and raises @phase after each part, so that the parent
 * can still use the first part of a record whose worker hung or died behind it.
 */
#ifndef COLLECTOR_RECORD_H
#define COLLECTOR_RECORD_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "rle/enc.h"
#include "rle/proc.h"
#include "rle/stats.h"

#define RECORD_CGROUP_BYTES 1024 /* longer paths are cut */

/** enum record_status - How the visit to a process ended; record_status_name() is the word in the database. */
enum record_status {
	RECORD_OK,
	RECORD_VANISHED, /* ended, or changed its address space by exec, twice, while it was read */
	RECORD_DENIED,	 /* the kernel refused */
	RECORD_TIMEOUT,	 /* hung its reader */
	RECORD_HIDDEN,	 /* was read, but without frame numbers */
	RECORD_ERROR,	 /* anything else, the end of the worker included */
	RECORD_NSTORED,	 /* what follows is counted and has no row */
	RECORD_KERNEL = RECORD_NSTORED,
	RECORD_ZOMBIE,
	RECORD_NSTATUS
};

/** enum record_phase - How much of a record is filled. */
enum record_phase {
	RECORD_EMPTY,	 /* pid and task */
	RECORD_IDENTITY, /* comm, start_ticks, vsz_bytes too */
	RECORD_OWNER,	 /* uid and cgroup too */
	RECORD_WHOLE,	 /* everything; counts hold if status is RECORD_OK */
};

/** struct record - One visit to one process. */
struct record {
	_Atomic(uint32_t) phase;
	uint32_t task; /* index into the snapshot's list */
	pid_t pid;
	enum record_status status;
	int err; /* what failed, as -errno; 0 if nothing did */
	uid_t uid;
	uint64_t start_ticks;
	uint64_t vsz_bytes;
	uint64_t scan_ns;   /* the whole visit, CLOCK_MONOTONIC */
	uint64_t map_bytes; /* of the map in the worker's file; 0: none */
	char comm[RLE_COMM_BYTES];	  /* valid UTF-8, see text.h */
	char cgroup[RECORD_CGROUP_BYTES]; /* likewise */
	struct rle_counts n;
	uint64_t hugetlb_pages; /* by mapping or by status, whichever knows of more; by page with a full join */
	int64_t ksm_pages;	/* -1: not known */
	uint64_t cover[5]; /* runs to cover 50, 90, 95, 99, 100 % of the pages */
	uint64_t in_size[RLE_NSIZE], aligned[RLE_NSIZE];
	uint64_t log2_runs[RLE_STATS_NLOG2], log2_pages[RLE_STATS_NLOG2];
};

/** record_status_name() - The word for @status in the database and in JSON. */
static inline const char *record_status_name(enum record_status status)
{
	static const char *const name[RECORD_NSTATUS] = {"ok",	   "vanished", "denied", "timeout",
							 "hidden", "error",    "kernel", "zombie"};

	return name[status];
}

/** record_has() - Whether @r is filled up to @phase; what was written before it is visible then. */
static inline bool record_has(const struct record *r, enum record_phase phase)
{
	return atomic_load_explicit(&r->phase, memory_order_acquire) >= (uint32_t)phase;
}

#endif
