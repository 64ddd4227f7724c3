/* pool.h - the workers of a scan, and the watch over them
 *
 * Theory of operation
 *
 * pool_create() maps the shared memory (poolshm.h).  pool_begin() hands out a list of processes, forking the workers the
 * first time; they start reading at once, while the caller can still do other things.  pool_collect() consumes the records
 * and watches: a worker whose progress counter stands still for the timeout is killed, and if the kernel does not let
 * it go, left behind; its process is recorded as RECORD_TIMEOUT and a fresh worker goes on.  A worker that dies costs the
 * process it was at, RECORD_ERROR.  Each task yields exactly one record, whatever happens to workers: the parent keeps a
 * bit a task, and what is missing in the end (a worker died between taking a task and saying so) is made up.
 *
 * The parent reads only the stat file of a process, and only where a worker left no word about it: stat takes no lock
 * that a process can hold.
 *
 * Time stands still for the watchdog while the parent itself does not run (stopped, suspended, starved): a look counts
 * for at most twice the time between looks.
 *
 * Descriptors: a worker keeps those that were open at pool_create() and loses all others, whenever it is forked; its
 * standard input, output and error are /dev/null.
 * So: open what workers need, pool_create(), then open what they must not have (lock, database).
 *
 * One pool a process, one thread.
 */
#ifndef COLLECTOR_POOL_H
#define COLLECTOR_POOL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/record.h"
#include "rle/src.h"

struct pool;

/** struct pool_opts - What a pool works with; copied. */
struct pool_opts {
	struct rle_src *src; /* must outlive the pool */
	int jobs;		   /* 1 to POOL_MAX_JOBS */
	uint64_t timeout_ns;
	const char *map_dir;		    /* folder of the unlinked files for maps; NULL: no maps */
	const volatile sig_atomic_t *stop; /* nonzero: give up; may be NULL */
};

/** struct pool_calls - What pool_collect() calls. */
struct pool_calls {
	/* A record; @map_fd holds r->map_bytes of its map from offset 0, during the call.  Return: 0 or -errno to stop. */
	int (*record)(void *ctx, const struct record *r, int map_fd);
	/* Now and then, ten times a second at most; may be NULL. */
	void (*tick)(void *ctx, size_t done, size_t total);
	void *ctx;
};

/**
 * pool_create() - Make a pool, without workers yet
 * @pool: set; give back with pool_destroy()
 *
 * Return: 0, -EINVAL, -ENOMEM, -errno of the files for maps.
 */
int pool_create(struct pool **pool, const struct pool_opts *opts);

/** pool_destroy() - End all workers; NULL does nothing.  Takes a fifth of a second at most, however they are stuck. */
void pool_destroy(struct pool *pool);

/**
 * pool_begin() - Start reading processes
 * @pids: the list; copied
 * @n: its length, up to POOL_MAX_TASKS
 *
 * The round before must have been collected.
 *
 * Return: 0, -E2BIG, -errno of fork().
 */
int pool_begin(struct pool *pool, const pid_t *pids, size_t n);

/**
 * pool_collect() - Consume the records of all processes of the list
 *
 * Return: 0; -EINTR *stop became nonzero; -ECHILD workers die without doing anything; -errno of fork() when no worker
 * is left; what calls->record returned.  After an error the pool can only be destroyed.
 */
int pool_collect(struct pool *pool, const struct pool_calls *calls);

/** pool_abandoned() - Workers that the kernel has not let go of, so far. */
unsigned int pool_abandoned(const struct pool *pool);

#endif
