/* churn.h - how much of a process's map changes from one snapshot to the next
 *
 * A shadow holds a mirror of a process's map and has to follow its changes (paper, Section II, "Map maintenance").
 * Databases collected with `dscollect --keep-runs` hold the map of every sample; two maps of a process from
 * consecutive snapshots are a pair, and their difference (rle_map_diff()) is what a mirror would have had to do if it
 * was brought up to date once an interval: one mmap() or munmap() for each change.  What came and went within the
 * interval is not in it.
 *
 * Consecutive means: of the snapshots in the report, neighbours of the same boot.  A process without a sample or
 * without a map in one of them makes no pair across it.  A process that calls exec stays the same process, as PID and
 * start time say; all its pages are then removed or replaced, which is what its mirror has to follow.
 *
 * Maps are split by VPN and PFN only, so a change of protection alone is not seen.  The count of changes is an upper
 * bound of the calls: one munmap() could take neighbours that were separate runs.
 *
 * The pairs are made process by process in order of time, with two maps in memory.  Blobs come from outside: each is
 * checked whole before it is used, and one that is refused, or is not what dscollect writes for that process, is a
 * sample without a map, counted.
 */
#ifndef ANALYSIS_CHURN_H
#define ANALYSIS_CHURN_H

#include "analysis/dataset.h"
#include "rle/map.h"

enum churn_kind {
	CHURN_REMOVED, /* pages in the old map only */
	CHURN_ADDED,   /* in the new one only */
	CHURN_MOVED,   /* in both, on another frame */
	CHURN_NKINDS
};

/** struct churn_ref - A sample that has a map. */
struct churn_ref {
	uint32_t process, snapshot, comm; /* of the dataset */
	uint32_t source;		  /* for the loader: which database */
	int64_t map;			  /* for the loader: which map in it */
};

/** struct churn_pair - What changed between two consecutive maps of a process. */
struct churn_pair {
	double seconds; /* between the snapshots, > 0 */
	uint64_t pages_before, pages_after, runs_before, runs_after;
	uint64_t pages[CHURN_NKINDS];
	uint64_t changes; /* stretches that changed as one */
};

/** struct churn - All pairs of a report; all zero is none. */
struct churn {
	struct churn_pair *pair;
	size_t n, cap;
	size_t processes;	   /* that have a pair */
	size_t bad;		   /* maps that were refused */
	struct churn_ref first_bad; /* the first of them */
	struct rle_map_err why;	   /* and what was wrong */
};

/**
 * churn_load_fn() - Fetches a map
 * @ctx: the caller's
 * @ref: which
 * @map: filled, to be given to rle_map_close()
 * @why: filled when the map is refused
 *
 * Return: 0; -ENOENT (cannot be had any more; not counted as bad); -ENOMEM; any other -errno: refused.
 */
typedef int (*churn_load_fn)(void *ctx, const struct churn_ref *ref, struct rle_map *map, struct rle_map_err *why);

/** churn_pair_fn() - Receives a pair; @ref is the later sample. */
typedef void (*churn_pair_fn)(void *ctx, const struct churn_ref *ref, const struct churn_pair *pair);

/**
 * churn_compute() - Make all pairs
 * @c: added to; to be given to churn_free()
 * @d: dataset with the snapshots and processes that the samples name
 * @ref: samples with a map; sorted by process and snapshot here
 * @n: how many
 * @load: fetches their maps
 * @pair: receives each pair, by process, then time; may be NULL
 * @ctx: for both
 *
 * Return: 0 or -ENOMEM.
 */
int churn_compute(struct churn *c, const struct dataset *d, struct churn_ref *ref, size_t n, churn_load_fn load,
		  churn_pair_fn pair, void *ctx);

/** churn_add() - Append a pair.  Return: 0 or -ENOMEM. */
int churn_add(struct churn *c, const struct churn_pair *pair);

/** churn_changed() - Pages that changed in any way. */
uint64_t churn_changed(const struct churn_pair *pair);

/** churn_share() - Changed pages as a share of those in either map, 0 to 1; NaN when both are empty. */
double churn_share(const struct churn_pair *pair);

/** churn_free() - Free what @c holds, and empty it. */
void churn_free(struct churn *c);

#endif
