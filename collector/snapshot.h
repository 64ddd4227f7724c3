/* snapshot.h - one pass over all processes, and where its records go
 *
 * Theory of operation
 *
 * snapshot_start() lists the processes and sets the workers on them; snapshot_finish() reads the machine's state meanwhile,
 * consumes the records, and stores and prints them as they come, so that memory does not grow with their number.
 * Between the two the caller may do what takes a while, such as open the database.
 */
#ifndef COLLECTOR_SNAPSHOT_H
#define COLLECTOR_SNAPSHOT_H

#include <stdio.h>

#include "collector/db.h"
#include "collector/machine.h"
#include "collector/pool.h"

#define SNAPSHOT_RATIO_STEPS 10000 /* the median ratio is exact to 1/10000 */

/** struct snapshot_env - What all snapshots of a run share; the owner of each part is the caller. */
struct snapshot_env {
	struct rle_src *src;
	struct pool *pool;
	struct db *db;	       /* NULL: not stored */
	FILE *json;	       /* NULL: not printed */
	const char *root;      /* of a recorded tree, or NULL */
	const pid_t *only;     /* the processes asked for; NULL: all */
	size_t nonly;
	bool distinct;	       /* rle_src_count_distinct() is at work */
	struct machine_id id;
	void (*complain)(const struct record *r);      /* about a process that should have been read; may be NULL */
	void (*progress)(size_t done, size_t total); /* may be NULL */
};

/** struct snapshot - One snapshot under way, then its outcome. */
struct snapshot {
	struct machine machine;
	struct db_totals totals;
	uint64_t pages, runs;
	uint64_t start_ns; /* CLOCK_MONOTONIC */
	uint64_t exclusive;
	bool any; /* a sample has been printed */
	uint32_t ratio[SNAPSHOT_RATIO_STEPS + 1]; /* processes whose ratio rounds to i / SNAPSHOT_RATIO_STEPS */
	const char *why; /* after an error: in words; valid as db_why() */
};

/**
 * snapshot_start() - List the processes and start reading them
 * @s: overwritten
 *
 * Return: 0 or -errno, with s->why.
 */
int snapshot_start(struct snapshot_env *env, struct snapshot *s);

/**
 * snapshot_finish() - Read them all; store and print
 *
 * Return: 0; -EINTR stopped, nothing stored; -errno, nothing stored, with s->why.
 */
int snapshot_finish(struct snapshot_env *env, struct snapshot *s);

/** snapshot_median_ratio() - Median of runs / present pages over the processes; NAN if there are none. */
double snapshot_median_ratio(const struct snapshot *s);

/** snapshot_partial() - Whether processes were missed for other reasons than that they ended. */
bool snapshot_partial(const struct snapshot *s);

#endif
