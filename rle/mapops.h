/* mapops.h - what is done with two maps: composition and difference
 *
 * Both stream: they hold a constant amount of state, hand their result to a callback piece by piece, and stop as
 * soon as it returns an error.  Both take open views, so the invariants of map.h hold for their input, hostile
 * or not; how much work hostile input can cause is said at each.
 */
#ifndef RLE_MAPOPS_H
#define RLE_MAPOPS_H

#include "rle/map.h"

/* --- composition ----------------------------------------------------------------------------------------------
 *
 * The guest's map leads from virtual pages to guest frames, the table of the VM's memory from guest frames to
 * pages of the file that holds them (or to host frames); composed they lead from virtual pages to that file: what
 * the shadow process maps (paper, Section II, "Translation and transport").
 *
 * The second map is a map like any other, keyed by frames: a few runs made with rle_mapw_add() from a VM's table
 * of memory, or many, where the host's memory is in pieces.  A run of the first map is cut where the second one
 * breaks; pieces that meet in the target are merged again, under the first map's policy, so that the result is
 * canonical.  Attributes come from the first map: they say what the process may do.
 *
 * For every run of A the place in B is found by binary search, then both advance together.  A's runs may share
 * frames, all of them the same ones, so n and m runs can make n * m pieces: the caller sets a limit.
 */

/** struct rle_compose_opt - How to compose. */
struct rle_compose_opt {
	bool skip_uncovered; /* pages of A outside B are left out and counted; false: the first one ends it with -ENXIO */
	uint64_t max_pieces; /* limit of the work: pieces that A's runs may be cut into, gaps included */
};

/** struct rle_compose_stat - What came of it; filled on success and on failure. */
struct rle_compose_stat {
	uint64_t pieces;
	uint64_t covered_pages;
	uint64_t uncovered_pages;
	struct rle_run uncovered; /* the first stretch of A outside B: VPN, GPA, length; npages 0: none */
};

/**
 * rle_map_compose() - Composes two maps
 * @a: leads into the space that @b is keyed by
 * @b: keyed by frames
 * @opt: how
 * @fn: receives the runs of the result, rising, canonical; their rle_end as in rle_map_merge_init().  A writer
 *	(rle_mapw_run()) for the result has a's split, key, pid and start_ticks, and b's space.
 * @ctx: for @fn
 * @stat: may be NULL
 *
 * After an error @fn has seen a part of the result, which is of no use.
 *
 * Return: 0, -EINVAL (@a does not lead to @b's key), -ENXIO (a page of @a is not in @b: stat->uncovered),
 * -E2BIG (beyond opt->max_pieces), or what @fn returned.
 */
int rle_map_compose(const struct rle_map *a, const struct rle_map *b, const struct rle_compose_opt *opt, rle_run_fn fn,
		    void *ctx, struct rle_compose_stat *stat);

/* --- difference -----------------------------------------------------------------------------------------------
 *
 * Every virtual page is in at most one change.  Changes rise in VPN and do not overlap; each is as long as it can
 * be, RLE_RUN_MAX_PAGES aside.  Applying all of them, in any order, to the old map's pages gives the new map's.
 * A page that changed its frame is one change (MOVED), not two, so that a user who has to unmap before
 * mapping anew sees both sides at once.
 *
 * Attributes are compared as far as the policy of the maps looks at them: under RLE_SPLIT_VPN_PFN those of a run are
 * those of its first page and say nothing of the others.
 *
 * One pass over both: at most 2 * (n + m) steps, and no more changes than that.
 */

enum rle_change_kind {
	RLE_CHANGE_REMOVED, /* in the old map only; now_* are 0 */
	RLE_CHANGE_ADDED,   /* in the new map only; was_* are 0 */
	RLE_CHANGE_MOVED,   /* other frames; perhaps other attributes too */
	RLE_CHANGE_ATTR,    /* the same frames, other attributes */
};

/** struct rle_change - What became of @npages pages from @vpn on. */
struct rle_change {
	enum rle_change_kind kind;
	uint32_t npages;
	ds_vpn vpn;
	ds_pfn was_pfn, now_pfn; /* of the first page */
	uint32_t was_attr, now_attr;
};

/** rle_change_fn - Receives a change, valid during the call.  Return: 0 to go on, -errno to stop. */
typedef int (*rle_change_fn)(void *ctx, const struct rle_change *change);

/**
 * rle_map_diff() - Tells what changed between two maps
 * @was: the old one
 * @now: the new one, of the same split, key and space; may be of another process (parent and child)
 * @fn: receives the changes
 * @ctx: for @fn
 *
 * Return: 0, -EINVAL (the maps cannot be compared), or what @fn returned.
 */
int rle_map_diff(const struct rle_map *was, const struct rle_map *now, rle_change_fn fn, void *ctx);

#endif
