/* worker.h - the side that reads processes
 *
 * Theory of operation
 *
 * Reading maps, pagemap or cmdline of a process takes its mmap_lock, and a process can be made to hold that for ever
 * (a page of a FUSE file whose server is asleep is enough), so whoever reads must be somebody who can be killed.  A
 * worker is a forked process that takes the next task of the list in shared memory, visits that process, and
 * publishes a record in a ring of its own.  Beyond that memory and what it inherited from struct rle_src it holds
 * nothing: no database, no lock file, no terminal.
 *
 * Only stat, status and cgroup are read besides maps and pagemap; none of the three needs mmap_lock (fs/proc/array.c,
 * kernel/cgroup/cgroup.c; watched on 6.18).  cmdline and environ do, and are not read.
 */
#ifndef COLLECTOR_WORKER_H
#define COLLECTOR_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "collector/record.h"
#include "rle/src.h"

/** struct worker_job - What a visit needs besides the process. */
struct worker_job {
	struct rle_src *src;
	atomic_uint_least64_t *progress; /* raised all the time; standing still means hung */
	int map_fd;			 /* receives the map of the process, replacing what it held; -1: not wanted */
	struct rle_stats *stats;	 /* scratch */
};

/**
 * worker_visit() - Read one process
 * @job: as above
 * @pid: which
 * @leave_alone: it has hung a worker before that still hangs: find out who it is, record RECORD_TIMEOUT
 * @r: filled, all but task, which it does not touch
 *
 * An exec during the visit gives the process a new address space; it is then read once more.
 */
void worker_visit(const struct worker_job *job, pid_t pid, bool leave_alone, struct record *r);

struct pool_shm;
struct pool_slot;

/**
 * worker_main() - Serve rounds until killed
 * @shm: shared with the parent
 * @slot: this worker's part of it
 * @src: inherited
 * @map_fd: as above
 * @parent: PID of the parent at the time of the fork
 * @seen_round: the round that has been served already; the next one is taken up
 *
 * Runs in the child of a fork and never returns.  Dies with the parent.
 */
__attribute__((noreturn)) void worker_main(struct pool_shm *shm, struct pool_slot *slot, struct rle_src *src, int map_fd,
					   pid_t parent, uint32_t seen_round);

#endif
