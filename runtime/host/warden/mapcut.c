/* mapcut.c - see mapcut.h */
#include "runtime/host/warden/mapcut.h"

#include <errno.h>
#include <stdlib.h>

#include "rle/mapops.h"
#include "rle/mapw.h"
#include "runtime/shadow/place.h"

/* What is left of a run, stretch by stretch.  @i: the first range that does not end before it. */
static int add_rest(struct rle_mapw *w, struct rle_run run, const struct ds_shadow_range *ranges, size_t n, size_t *i,
		    uint64_t *cut_pages)
{
	uint64_t vpn = run.vpn.n, end = rle_run_end(&run).n, stop;
	int r = 0;

	while (*i < n && ranges[*i].vpn + ranges[*i].npages <= vpn)
		++*i;
	for (size_t k = *i; !r && vpn < end; k++) {
		const uint64_t first = k < n ? ranges[k].vpn : end, last = k < n ? first + ranges[k].npages : end;

		stop = first < vpn ? vpn : first < end ? first : end;
		if (stop > vpn)
			r = rle_mapw_add(w, (ds_vpn){vpn}, (ds_pfn){run.pfn.n + vpn - run.vpn.n}, stop - vpn, run.attr);
		vpn = stop;
		if (vpn < end && last > vpn) {
			const uint64_t to = last < end ? last : end;

			*cut_pages += to - vpn;
			vpn = to;
		}
	}
	return r;
}

int mapcut_without(const struct rle_map *map, const struct ds_shadow_range *ranges, size_t n, void **blob, size_t *blob_bytes,
		   uint64_t *cut_pages)
{
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;
	uint64_t end = 0;
	size_t i = 0;
	int r;

	*blob = NULL;
	*blob_bytes = 0;
	*cut_pages = 0;
	for (size_t k = 0; k < n; k++) {
		if (ranges[k].vpn < end || ranges[k].npages > DS_USER_VPN_END || ranges[k].vpn > DS_USER_VPN_END - ranges[k].npages)
			return -EINVAL;
		end = ranges[k].vpn + ranges[k].npages;
	}
	r = rle_mapw_begin_mem(&w, &map->meta, DS_SHADOW_MAP_BYTES_MAX);
	for (uint64_t k = 0; !r && k < map->nruns; k++)
		r = add_rest(w, map->runs[k], ranges, n, &i, cut_pages);
	if (!r)
		r = rle_mapw_finish(w);
	if (!r && !(*blob = rle_mapw_take(w, blob_bytes)))
		r = -ENOMEM;
	return r;
}

/* Ranges that grow as changes are told. */
struct gather {
	struct ds_shadow_range *range;
	size_t n, room;
};

static int gather_change(void *ctx, const struct rle_change *change)
{
	struct gather *g = ctx;
	struct ds_shadow_range *last = g->n ? &g->range[g->n - 1] : NULL;

	if (change->kind == RLE_CHANGE_ADDED)
		return 0;
	if (last && last->vpn + last->npages == change->vpn.n) {
		last->npages += change->npages;
		return 0;
	}
	if (g->n == g->room) {
		const size_t room = g->room ? 2 * g->room : 64;
		struct ds_shadow_range *more = realloc(g->range, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		g->range = more;
		g->room = room;
	}
	g->range[g->n++] = (struct ds_shadow_range){change->vpn.n, change->npages};
	return 0;
}

int mapcut_changed(const struct rle_map *was, const struct rle_map *now, struct ds_shadow_range **ranges, size_t *n)
{
	struct gather g = {0};
	const int r = rle_map_diff(was, now, gather_change, &g);

	if (r) {
		free(g.range);
		g = (struct gather){0};
	}
	*ranges = g.range;
	*n = g.n;
	return r;
}

int mapcut_outside(const struct ds_shadow_range *ranges, size_t n, struct ds_shadow_range **outside, size_t *noutside)
{
	struct ds_shadow_range *out = malloc((n + 1) * sizeof(*out));
	uint64_t end = 0;
	size_t have = 0;

	*outside = out;
	*noutside = 0;
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (ranges[i].vpn > end)
			out[have++] = (struct ds_shadow_range){end, ranges[i].vpn - end};
		end = ranges[i].vpn + ranges[i].npages;
	}
	if (end < PLACE_VPN_END)
		out[have++] = (struct ds_shadow_range){end, PLACE_VPN_END - end};
	*noutside = have;
	return 0;
}
