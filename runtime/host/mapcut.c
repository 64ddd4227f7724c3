/* mapcut.c - see mapcut.h */
#include "runtime/host/mapcut.h"

#include <errno.h>
#include <stdlib.h>

#include "rle/cleanup.h"
#include "rle/mapw.h"

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

static int by_page(const void *a, const void *b)
{
	const struct ds_shadow_range *x = a, *y = b;

	return x->vpn < y->vpn ? -1 : x->vpn > y->vpn;
}

/* The RAM pages of a map as ranges that rise and do not touch.  NULL: no memory. */
static struct ds_shadow_range *ram_pages(const struct rle_map *map, size_t *n)
{
	struct ds_shadow_range *all = malloc((map->nruns + 1) * sizeof(*all));
	size_t have = 0;

	if (!all)
		return NULL;
	for (uint64_t i = 0; i < map->nruns; i++)
		all[i] = (struct ds_shadow_range){map->runs[i].pfn.n, map->runs[i].npages};
	qsort(all, map->nruns, sizeof(*all), by_page);
	for (uint64_t i = 0; i < map->nruns; i++) {
		struct ds_shadow_range *last = have ? &all[have - 1] : NULL;
		const uint64_t end = all[i].vpn + all[i].npages;

		if (!last || all[i].vpn > last->vpn + last->npages)
			all[have++] = all[i];
		else if (end > last->vpn + last->npages)
			last->npages = end - last->vpn;
	}
	*n = have;
	return all;
}

int mapcut_gone(const struct rle_map *was, const struct rle_map *now, struct ds_shadow_range **ranges, size_t *n)
{
	cleanup_free struct ds_shadow_range *a = NULL, *b = NULL;
	struct ds_shadow_range *out;
	size_t na, nb, have = 0, k = 0;

	*ranges = NULL;
	*n = 0;
	a = ram_pages(was, &na);
	b = a ? ram_pages(now, &nb) : NULL;
	/* Each range of @b can cut one of @a in two, and no more. */
	out = b ? malloc((na + nb + 1) * sizeof(*out)) : NULL;
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < na; i++) {
		uint64_t at = a[i].vpn;
		const uint64_t end = at + a[i].npages;

		while (k < nb && b[k].vpn + b[k].npages <= at)
			k++;
		for (size_t j = k; at < end; j++) {
			const uint64_t from = j < nb && b[j].vpn < end ? b[j].vpn : end;

			if (from > at)
				out[have++] = (struct ds_shadow_range){at, from - at};
			at = from == end ? end : b[j].vpn + b[j].npages;
		}
	}
	*ranges = out;
	*n = have;
	return 0;
}
