/* mapmerge.h - from runs in any cut to the canonical ones
 *
 * Theory of operation
 *
 * Two producers deliver stretches that are finer than runs: the composition cuts wherever the second map breaks, and
 * a VM's table of RAM has ranges longer than a run may be.  The merger holds one run back and lengthens it while the
 * next stretch continues it; what comes out is canonical (map.h): of two runs that could have been one, the first
 * has RLE_RUN_MAX_PAGES pages.
 *
 * It keeps the one run, never allocates, and checks what it is given: its output is always valid in a map.
 */
#ifndef RLE_MAPMERGE_H
#define RLE_MAPMERGE_H

#include "rle/map.h"

/** struct rle_map_merge - State of a merger; fill with rle_map_merge_init(). */
struct rle_map_merge {
	enum rle_split split;
	enum rle_space key;
	rle_run_fn fn;
	void *ctx;
	const char *why;    /* after -EINVAL: what was wrong, static text */
	struct rle_run run; /* held back; npages 0: none yet */
};

/** rle_split_mask() - The attributes that separate runs under @split. */
static inline uint32_t rle_split_mask(enum rle_split split)
{
	return split == RLE_SPLIT_VPN_PFN ? 0 : split == RLE_SPLIT_PROT ? RLE_ATTR_PROT : RLE_ATTR_ALL;
}

/** rle_map_continues() - Whether a stretch at (@vpn, @pfn, @attr) continues @run under @split, length aside. */
static inline bool rle_map_continues(enum rle_split split, const struct rle_run *run, ds_vpn vpn, ds_pfn pfn, uint32_t attr)
{
	return vpn.n - run->vpn.n == run->npages && pfn.n - run->pfn.n == run->npages &&
	       !((run->attr ^ attr) & rle_split_mask(split));
}

/**
 * rle_map_merge_init() - Prepares a merger
 * @split: policy of the output
 * @key: what the VPNs count, for their bound
 * @fn: receives the runs; the reasons it is told are those that runs alone show: RLE_END_HOLE where the next VPN is
 *	missing (also where it is in no VMA, and after the last run), RLE_END_PHYS, RLE_END_PROT, RLE_END_ATTR,
 *	RLE_END_LONG
 * @ctx: for @fn
 */
void rle_map_merge_init(struct rle_map_merge *m, enum rle_split split, enum rle_space key, rle_run_fn fn, void *ctx);

/**
 * rle_map_merge_add() - Adds a stretch
 * @vpn: at or beyond the end of what was added before
 * @npages: any length that fits the spaces
 * @attr: of its first page; where the policy lets stretches of different attributes merge, the first one's stay
 *
 * Return: 0, -EINVAL (m->why says what), or what @fn returned.
 */
int rle_map_merge_add(struct rle_map_merge *m, ds_vpn vpn, ds_pfn pfn, uint64_t npages, uint32_t attr);

/** rle_map_merge_end() - Delivers the run held back.  Return: 0 or what @fn returned. */
int rle_map_merge_end(struct rle_map_merge *m);

#endif
