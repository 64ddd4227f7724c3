/* mapmerge.c - see mapmerge.h */
#include "rle/mapmerge.h"

#include <errno.h>

void rle_map_merge_init(struct rle_map_merge *m, enum rle_split split, enum rle_space key, rle_run_fn fn, void *ctx)
{
	*m = (struct rle_map_merge){.split = split, .key = key, .fn = fn, .ctx = ctx};
}

/* Why the run held back ends where a stretch at (vpn, pfn, attr) begins that it could not swallow whole. */
static enum rle_end end_before(const struct rle_map_merge *m, ds_vpn vpn, ds_pfn pfn, uint32_t attr)
{
	uint32_t apart = (m->run.attr ^ attr) & rle_split_mask(m->split);

	if (vpn.n != rle_run_end(&m->run).n)
		return RLE_END_HOLE;
	if (pfn.n - m->run.pfn.n != m->run.npages)
		return RLE_END_PHYS;
	if (apart & RLE_ATTR_PROT)
		return RLE_END_PROT;
	return apart ? RLE_END_ATTR : RLE_END_LONG;
}

int rle_map_merge_add(struct rle_map_merge *m, ds_vpn vpn, ds_pfn pfn, uint64_t npages, uint32_t attr)
{
	m->why = rle_map_range_fault(m->key, vpn, pfn, npages, attr);
	if (!m->why && m->run.npages && vpn.n < rle_run_end(&m->run).n)
		m->why = "run begins before the end of the one before";
	if (m->why)
		return -EINVAL;

	/* A stretch spans at most DS_USER_VPN_END / RLE_RUN_MAX_PAGES + 1 = 4097 runs, whoever gave it. */
	while (npages) {
		uint64_t room = 0, n;
		int rc;

		if (m->run.npages && rle_map_continues(m->split, &m->run, vpn, pfn, attr))
			room = RLE_RUN_MAX_PAGES - m->run.npages;
		if (!room) {
			if (m->run.npages) {
				rc = m->fn(m->ctx, &m->run, end_before(m, vpn, pfn, attr));
				if (rc)
					return rc;
			}
			m->run = (struct rle_run){.vpn = vpn, .pfn = pfn, .attr = attr};
			room = RLE_RUN_MAX_PAGES;
		}
		n = npages < room ? npages : room;
		m->run.npages += (uint32_t)n;
		vpn = ds_vpn_add(vpn, n);
		pfn = ds_pfn_add(pfn, n);
		npages -= n;
	}
	return 0;
}

int rle_map_merge_end(struct rle_map_merge *m)
{
	struct rle_run last = m->run;

	m->run.npages = 0;
	return last.npages ? m->fn(m->ctx, &last, RLE_END_HOLE) : 0;
}
