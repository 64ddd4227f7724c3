/* place.c - see place.h */
#include "runtime/shadow/place.h"

#include <errno.h>

/* The gaps between all sources, from below. */
struct gaps {
	const struct place_want *want;
	uint64_t next[PLACE_NSRC]; /* index of the first range not passed, a source each */
	uint64_t at;		   /* everything below has been seen */
};

static struct ds_shadow_range range_at(const struct place_src *src, uint64_t i)
{
	if (src->runs)
		return (struct ds_shadow_range){.vpn = src->runs[i].vpn.n, .npages = src->runs[i].npages};
	return src->ranges[i];
}

/* Return: whether there was another gap; it is not empty. */
static int gaps_next(struct gaps *g, struct ds_shadow_range *gap)
{
	while (g->at < PLACE_VPN_END) {
		struct ds_shadow_range nearest = {.vpn = PLACE_VPN_END};
		uint64_t from = g->at;
		int source = -1;

		for (int s = 0; s < PLACE_NSRC; s++) {
			if (g->next[s] < g->want->src[s].n) {
				struct ds_shadow_range r = range_at(&g->want->src[s], g->next[s]);

				if (source < 0 || r.vpn < nearest.vpn) {
					nearest = r;
					source = s;
				}
			}
		}
		if (source < 0 || nearest.vpn >= PLACE_VPN_END) {
			g->at = PLACE_VPN_END;
			*gap = (struct ds_shadow_range){.vpn = from, .npages = PLACE_VPN_END - from};
			return 1;
		}
		g->next[source]++;
		if (nearest.vpn + nearest.npages > g->at)
			g->at = nearest.vpn + nearest.npages;
		if (nearest.vpn > from) {
			*gap = (struct ds_shadow_range){.vpn = from, .npages = nearest.vpn - from};
			return 1;
		}
	}
	return 0;
}

int place_find(const struct place_want *want, uint64_t *vpn)
{
	struct gaps g = {.want = want, .at = want->first_vpn};
	struct ds_shadow_range gap, best = {0};
	const struct ds_shadow_range *wish = &want->reserve;
	uint64_t slack;

	while (gaps_next(&g, &gap)) {
		uint64_t low = gap.vpn > wish->vpn ? gap.vpn : wish->vpn;
		uint64_t gap_end = gap.vpn + gap.npages, wish_end = wish->vpn + wish->npages;
		uint64_t high = gap_end < wish_end ? gap_end : wish_end;

		if (low < high && high - low >= want->npages) {
			*vpn = low;
			return 0;
		}
		if (gap.npages > best.npages)
			best = gap;
	}
	if (best.npages < want->npages)
		return -ENOSPC;
	slack = best.npages - want->npages;
	*vpn = best.vpn + slack / 4 + want->random % (slack / 2 + 1);
	return 0;
}

int place_free(const struct place_want *want, struct ds_shadow_range range)
{
	for (int s = 0; s < PLACE_NSRC; s++) {
		const struct place_src *src = &want->src[s];
		uint64_t low = 0, high = src->n;

		/* the first range that ends behind range.vpn */
		while (low < high) {
			uint64_t mid = low + (high - low) / 2;
			struct ds_shadow_range r = range_at(src, mid);

			if (r.vpn + r.npages > range.vpn)
				high = mid;
			else
				low = mid + 1;
		}
		if (low < src->n && range_at(src, low).vpn < range.vpn + range.npages)
			return 0;
	}
	return 1;
}

uint64_t place_check_ranges(const struct ds_shadow_range *ranges, uint64_t n)
{
	uint64_t end = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct ds_shadow_range r = ranges[i];

		if (!r.npages || r.vpn < end || r.vpn >= PLACE_VPN_END || r.npages > PLACE_VPN_END - r.vpn)
			return i;
		end = r.vpn + r.npages;
	}
	return n;
}

static uint64_t range_end(struct ds_shadow_range r)
{
	return r.vpn + r.npages;
}

/* Index of the first range that ends behind @vpn. */
static uint64_t first_behind(const struct ds_shadow_range *ranges, uint64_t n, uint64_t vpn)
{
	uint64_t low = 0, high = n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (range_end(ranges[mid]) > vpn)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

int place_within(const struct ds_shadow_range *ranges, uint64_t n, struct ds_shadow_range range, place_piece_fn fn, void *ctx)
{
	for (uint64_t i = first_behind(ranges, n, range.vpn); i < n && ranges[i].vpn < range_end(range); i++) {
		const uint64_t from = ranges[i].vpn > range.vpn ? ranges[i].vpn : range.vpn;
		const uint64_t to = range_end(ranges[i]) < range_end(range) ? range_end(ranges[i]) : range_end(range);
		int rc = fn(ctx, (struct ds_shadow_range){from, to - from});

		if (rc)
			return rc;
	}
	return 0;
}

int place_without(const struct ds_shadow_range *ranges, uint64_t n, const struct ds_shadow_range *others, uint64_t nothers,
		  place_piece_fn fn, void *ctx)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = ranges[i].vpn;
		uint64_t k = first_behind(others, nothers, at);

		while (at < range_end(ranges[i])) {
			uint64_t to = range_end(ranges[i]);
			int rc;

			if (k < nothers && others[k].vpn < to)
				to = others[k].vpn;
			rc = to > at ? fn(ctx, (struct ds_shadow_range){at, to - at}) : 0;
			if (rc)
				return rc;
			at = to < range_end(ranges[i]) ? range_end(others[k++]) : to;
		}
	}
	return 0;
}
