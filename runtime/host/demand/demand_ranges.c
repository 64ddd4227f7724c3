/* demand_ranges.c - see demand_impl.h */
#include "runtime/host/demand/demand_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/shadow/place.h"

int demand_ranges_copy(struct ranges *to, const struct ds_shadow_range *at, uint64_t n)
{
	if (n > DS_SHADOW_FORBIDDEN_MAX || place_check_ranges(at, n) != n)
		return -EINVAL;
	*to = (struct ranges){.at = malloc((n ? n : 1) * sizeof(*at)), .n = n};
	if (!to->at)
		return -ENOMEM;
	if (n)
		memcpy(to->at, at, n * sizeof(*at));
	return 0;
}

void demand_ranges_free(struct ranges *r)
{
	free(r->at);
	*r = (struct ranges){0};
}

const struct ds_shadow_range *demand_ranges_find(const struct ranges *r, uint64_t vpn)
{
	uint64_t low = 0, high = r->n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (demand_end_of(r->at[mid]) > vpn)
			high = mid;
		else
			low = mid + 1;
	}
	return low < r->n && r->at[low].vpn <= vpn ? &r->at[low] : NULL;
}

bool demand_within(const struct demand *d, uint64_t vpn, struct ds_shadow_range *r)
{
	const struct ds_shadow_range *now = demand_ranges_find(&d->ranges, vpn), *coming = NULL;
	uint64_t lo, hi;

	if (d->updating)
		coming = demand_ranges_find(&d->coming, vpn);
	if (!now || (d->updating && !coming))
		return false;
	lo = coming && coming->vpn > now->vpn ? coming->vpn : now->vpn;
	hi = coming && demand_end_of(*coming) < demand_end_of(*now) ? demand_end_of(*coming) : demand_end_of(*now);
	*r = (struct ds_shadow_range){lo, hi - lo};
	return true;
}

struct ds_shadow_range demand_cut(struct ds_shadow_range r, struct ds_shadow_range to)
{
	const uint64_t lo = r.vpn > to.vpn ? r.vpn : to.vpn, hi = demand_end_of(r) < demand_end_of(to) ? demand_end_of(r) : demand_end_of(to);

	return (struct ds_shadow_range){lo, hi > lo ? hi - lo : 0};
}

bool demand_dropped(const struct demand *d, uint64_t vpn)
{
	return d->drop.state == DROP_IN_FORCE && demand_ranges_find(&d->drop.ranges, vpn);
}

bool demand_last_covered(const struct demand *d, uint64_t vpn)
{
	for (uint32_t i = 0; i < d->cover.n; i++)
		if (vpn - d->cover.seg[i].vpn < d->cover.seg[i].npages)
			return true;
	return false;
}

bool demand_being_covered(const struct demand *d, uint64_t vpn)
{
	return d->cover.kind != COVER_NONE && demand_last_covered(d, vpn);
}
