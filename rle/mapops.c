/* mapops.c - see mapops.h */
#include "rle/mapops.h"

#include <errno.h>

#include "rle/mapmerge.h"

/* The one place where a frame becomes a key: the second map of a composition is keyed by frames. */
static ds_vpn frame_key(ds_pfn pfn)
{
	return (ds_vpn){pfn.n};
}

/*
 * The piece at the head of @rest (part of a run of the first map): as long as it lies in one run of @b or in one gap.
 * @index is that of the first run of @b that ends behind its frame.  Return: its length; @target: its first page's
 * frame in @b's space; @covered: false in a gap.
 */
static uint32_t head_piece(const struct rle_run *rest, const struct rle_map *b, uint64_t index, ds_pfn *target, bool *covered)
{
	const ds_vpn key = frame_key(rest->pfn);
	uint64_t room = UINT64_MAX;

	*covered = false;
	if (index < b->nruns) {
		const struct rle_run *r = &b->runs[index];

		*covered = r->vpn.n <= key.n;
		*target = ds_pfn_add(r->pfn, key.n - r->vpn.n);
		room = *covered ? rle_run_end(r).n - key.n : r->vpn.n - key.n;
	}
	return room < rest->npages ? (uint32_t)room : rest->npages;
}

static int compose_run(struct rle_run rest, const struct rle_map *b, const struct rle_compose_opt *opt,
		       struct rle_map_merge *out, struct rle_compose_stat *stat)
{
	uint64_t index = rle_map_find(b, frame_key(rest.pfn));

	while (rest.npages) {
		ds_pfn target;
		bool covered;
		uint32_t n = head_piece(&rest, b, index, &target, &covered);
		int rc = 0;

		if (stat->pieces == opt->max_pieces)
			return -E2BIG;
		stat->pieces++;
		if (covered) {
			stat->covered_pages += n;
			rc = rle_map_merge_add(out, rest.vpn, target, n, rest.attr);
			index++;
		} else {
			if (!stat->uncovered.npages) {
				stat->uncovered = rest;
				stat->uncovered.npages = n;
			}
			stat->uncovered_pages += n;
			rc = opt->skip_uncovered ? 0 : -ENXIO;
		}
		if (rc)
			return rc;
		rest = rle_run_skip(rest, n);
	}
	return 0;
}

int rle_map_compose(const struct rle_map *a, const struct rle_map *b, const struct rle_compose_opt *opt, rle_run_fn fn,
		    void *ctx, struct rle_compose_stat *stat)
{
	struct rle_compose_stat own;
	struct rle_map_merge out;
	int rc;

	if (!stat)
		stat = &own;
	*stat = (struct rle_compose_stat){0};
	if (a->meta.space != b->meta.key)
		return -EINVAL;
	rle_map_merge_init(&out, a->meta.split, a->meta.key, fn, ctx);
	for (uint64_t i = 0; i < a->nruns; i++) {
		rc = compose_run(a->runs[i], b, opt, &out, stat);
		if (rc)
			return rc;
	}
	return rle_map_merge_end(&out);
}

/* One side of a difference: the part of the current run that was not dealt with. */
struct side {
	struct rle_map_iter it;
	struct rle_run rest; /* npages 0: the map is at its end */
};

static void side_skip(struct side *s, uint32_t npages)
{
	if (npages < s->rest.npages)
		s->rest = rle_run_skip(s->rest, npages);
	else if (!rle_map_next(&s->it, &s->rest))
		s->rest.npages = 0;
}

/* How many pages of @s lie before the next page of @other. */
static uint32_t side_lead(const struct side *s, const struct side *other)
{
	uint64_t lead;

	if (!other->rest.npages)
		return s->rest.npages;
	if (!s->rest.npages || s->rest.vpn.n >= other->rest.vpn.n)
		return 0;
	lead = other->rest.vpn.n - s->rest.vpn.n;
	return lead < s->rest.npages ? (uint32_t)lead : s->rest.npages;
}

/* Both sides stand at the same page.  Return: the pages they agree or differ on as one; @change filled, @same told. */
static uint32_t compare(const struct side *was, const struct side *now, uint32_t mask, struct rle_change *change, bool *same)
{
	const struct rle_run *w = &was->rest, *n = &now->rest;
	const bool moved = w->pfn.n != n->pfn.n;

	*same = !moved && !((w->attr ^ n->attr) & mask);
	*change = (struct rle_change){
		.kind = moved ? RLE_CHANGE_MOVED : RLE_CHANGE_ATTR,
		.npages = w->npages < n->npages ? w->npages : n->npages,
		.vpn = w->vpn,
		.was_pfn = w->pfn,
		.now_pfn = n->pfn,
		.was_attr = w->attr,
		.now_attr = n->attr,
	};
	return change->npages;
}

int rle_map_diff(const struct rle_map *was_map, const struct rle_map *now_map, rle_change_fn fn, void *ctx)
{
	struct side was = {.it = rle_map_all(was_map)}, now = {.it = rle_map_all(now_map)};
	const uint32_t mask = rle_split_mask(was_map->meta.split);

	if (was_map->meta.split != now_map->meta.split || was_map->meta.key != now_map->meta.key ||
	    was_map->meta.space != now_map->meta.space)
		return -EINVAL;
	side_skip(&was, 0);
	side_skip(&now, 0);
	while (was.rest.npages || now.rest.npages) {
		const uint32_t removed = side_lead(&was, &now), added = side_lead(&now, &was);
		struct rle_change change;
		bool same = false;
		int rc;

		if (removed) {
			change = (struct rle_change){.kind = RLE_CHANGE_REMOVED, .npages = removed, .vpn = was.rest.vpn,
						     .was_pfn = was.rest.pfn, .was_attr = was.rest.attr};
			side_skip(&was, removed);
		} else if (added) {
			change = (struct rle_change){.kind = RLE_CHANGE_ADDED, .npages = added, .vpn = now.rest.vpn,
						     .now_pfn = now.rest.pfn, .now_attr = now.rest.attr};
			side_skip(&now, added);
		} else {
			uint32_t both = compare(&was, &now, mask, &change, &same);

			side_skip(&was, both);
			side_skip(&now, both);
		}
		rc = same ? 0 : fn(ctx, &change);
		if (rc)
			return rc;
	}
	return 0;
}
