/* plan.c - see plan.h */
#include "runtime/shadow/plan.h"

#include <errno.h>

#include "runtime/shadow/place.h"

/* Holds a segment back as long as the next one continues it. */
struct joiner {
	struct plan_seg seg;
	plan_seg_fn fn;
	void *ctx;
};

static int join_flush(struct joiner *j)
{
	struct plan_seg seg = j->seg;

	j->seg.npages = 0;
	return seg.npages ? j->fn(j->ctx, &seg) : 0;
}

static int join_add(struct joiner *j, const struct plan_seg *next)
{
	struct plan_seg *seg = &j->seg;
	int rc;

	if (seg->npages && seg->prot == next->prot && seg->vpn.n + seg->npages == next->vpn.n &&
	    (next->prot == PLAN_UNMAP || seg->pfn.n + seg->npages == next->pfn.n)) {
		seg->npages += next->npages;
		return 0;
	}
	rc = join_flush(j);
	*seg = *next;
	return rc;
}

int plan_map(const struct rle_map *map, plan_seg_fn fn, void *ctx)
{
	struct joiner j = {.fn = fn, .ctx = ctx};

	for (uint64_t i = 0; i < map->nruns; i++) {
		const struct rle_run *run = &map->runs[i];
		const struct plan_seg next = {
			.vpn = run->vpn, .pfn = run->pfn, .npages = run->npages, .prot = plan_prot(run->attr), .run = i};
		int rc = join_add(&j, &next);

		if (rc)
			return rc;
	}
	return join_flush(&j);
}

static int diff_change(void *ctx, const struct rle_change *change)
{
	struct plan_seg next = {
		.vpn = change->vpn, .pfn = change->now_pfn, .npages = change->npages, .prot = plan_prot(change->now_attr)};

	if (change->kind == RLE_CHANGE_REMOVED)
		next.prot = PLAN_UNMAP;
	else if (change->kind == RLE_CHANGE_ATTR && plan_prot(change->was_attr) == next.prot)
		return 0;
	return join_add(ctx, &next);
}

int plan_diff(const struct rle_map *was, const struct rle_map *now, plan_seg_fn fn, void *ctx)
{
	struct joiner j = {.fn = fn, .ctx = ctx};
	int rc = rle_map_diff(was, now, diff_change, &j);

	return rc ? rc : join_flush(&j);
}

static int refuse(struct ds_shadow_refused *fault, uint32_t reason, uint64_t index, uint64_t value)
{
	fault->reason = reason;
	fault->err = 0;
	fault->index = index;
	fault->value = value;
	return -EINVAL;
}

static int count_seg(void *ctx, const struct plan_seg *seg)
{
	struct plan_sum *sum = ctx;

	sum->segs++;
	sum->pages += seg->npages;
	return 0;
}

int plan_check(const struct rle_map *map, const struct plan_limits *limits, struct plan_sum *sum,
	       struct ds_shadow_refused *fault)
{
	*sum = (struct plan_sum){0};
	if (map->meta.key != RLE_SPACE_VIRTUAL || map->meta.space != limits->space || map->meta.split != RLE_SPLIT_ATTR)
		return refuse(fault, DS_SHADOW_R_SPACE, 0, 0);
	for (uint64_t i = 0; i < map->nruns; i++) {
		const struct rle_run *run = &map->runs[i];

		if (rle_run_end(run).n > PLACE_VPN_END)
			return refuse(fault, DS_SHADOW_R_RUN_HIGH, i, run->vpn.n);
		if (run->vpn.n < limits->min_vpn)
			return refuse(fault, DS_SHADOW_R_RUN_LOW, i, run->vpn.n);
		if (run->pfn.n >= limits->ram_pages || run->npages > limits->ram_pages - run->pfn.n)
			return refuse(fault, DS_SHADOW_R_RUN_RAM, i, run->pfn.n);
	}
	plan_map(map, count_seg, sum);
	if (sum->segs > limits->max_segs)
		return refuse(fault, DS_SHADOW_R_MAX_MAPS, limits->max_segs, sum->segs);
	return 0;
}
