/* vmmaps.c - the VMM's own mappings of a VM's memory; theory in vmmaps.h */
#include "runtime/host/window/vmmaps.h"

#include <errno.h>

#include "rle/cleanup.h"
#include "rle/run.h"
#include "rle/vma.h"

static int refuse(struct ramtable_err *err, int number, const char *why, uint64_t index, uint64_t gpa_bytes)
{
	if (err)
		*err = (struct ramtable_err){.why = why, .index = index, .value = gpa_bytes};
	return number;
}

int vmmaps_check(int maps_fd, const struct vhostuser_region *region, uint32_t nregions, struct ramtable_err *err)
{
	uint64_t at[VHOSTUSER_REGIONS_MAX], end[VHOSTUSER_REGIONS_MAX]; /* pages of each region: seen up to here, its end */
	cleanup_free char *buf = malloc(RLE_VMA_BUF_BYTES);
	struct rle_vma_iter it;
	struct rle_vma vma;
	bool query = true;
	int r;

	if (!buf)
		return refuse(err, -ENOMEM, "no memory", RAMTABLE_NO_INDEX, 0);
	for (uint32_t i = 0; i < nregions; i++) {
		at[i] = region[i].uaddr >> DS_PAGE_SHIFT;
		end[i] = at[i] + (region[i].bytes >> DS_PAGE_SHIFT); /* both below 2^52 */
	}
	rle_vma_start(&it, maps_fd, buf, &query);
	while ((r = rle_vma_next(&it, &vma)) > 0) {
		for (uint32_t i = 0; i < nregions; i++) {
			if (at[i] < vma.start.n || at[i] >= vma.end.n || at[i] >= end[i])
				continue;
			if (!(vma.prot & RLE_ATTR_MAY_SHARE))
				return refuse(err, -EOPNOTSUPP, "the RAM is private to the VMM: its backend needs share=on", i,
					      region[i].gpa_bytes);
			if (vma.hugetlb)
				return refuse(err, -EOPNOTSUPP, "the RAM is made of hugetlb pages, which cannot be mapped 4 KiB at a time", i,
					      region[i].gpa_bytes);
			at[i] = vma.end.n < end[i] ? vma.end.n : end[i];
		}
	}
	if (r)
		return refuse(err, r, "the VMM's mappings cannot be read", RAMTABLE_NO_INDEX, 0);
	for (uint32_t i = 0; i < nregions; i++) {
		if (at[i] < end[i])
			return refuse(err, -ENXIO, "the VMM has not mapped the RAM where it says", i, region[i].gpa_bytes);
	}
	return 0;
}
