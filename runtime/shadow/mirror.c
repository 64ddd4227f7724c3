/* mirror.c - the guest process's memory in this address space
 *
 * Theory of operation
 *
 * Eager, as in the paper: every segment of the map (plan.h) is one mmap() of the RAM descriptor, shared, at the guest's
 * address.  Whether all of it can work (bounds, vm.max_map_count, the lowest address) is checked before the first
 * call, so that a map is refused whole, never half-way.  map_seg() is the only place where the RAM descriptors are used:
 * what guards a shadow from outside sees these calls and no others.  What may not be written is mapped by the descriptor
 * that is open for reading only, so that it stays so whoever calls mprotect().  A mirror that faults on demand (demand.c)
 * maps segments here too, when they are touched.
 *
 * An update applies the difference, in place, with executors possibly blocked in calls that use the memory: what moves
 * is mapped over, never unmapped first.  In passing that can need more mappings than either mirror has, and the kernel
 * then says ENOMEM: the mirror is rebuilt from nothing, which is known to fit, with every executor stopped for good.
 * Anything else that fails leaves a mirror that is neither the old nor the new one; the shadow ends then.
 */
#include <errno.h>

#include "runtime/shadow/capsule.h"
#include "runtime/shadow/params.h"

/* VMAs of a region: two an executor, two of the control thread, three of the image; at a move there are two regions, and
 * a mapping over a part of another makes two more for a moment. */
#define REGION_VMAS(nexec) (2 * (nexec) + 6)
#define SPARE_VMAS 8

struct rle_map mirror_blob_view(const void *block)
{
	struct rle_map_header h;

	memcpy(&h, block, sizeof(h));
	return (struct rle_map){
		.meta = {.split = h.split, .key = h.key, .space = h.space, .pid = h.pid, .start_ticks = h.start_ticks},
		.runs = (const struct rle_run *)((const char *)block + sizeof(h)),
		.nruns = h.nruns,
		.npages = h.npages,
	};
}

struct rle_map mirror_view(const struct cap_map *m)
{
	const void *block = shadow_at(m->block);

	return block ? mirror_blob_view(block) : (struct rle_map){0};
}

struct place_src mirror_forbidden(const struct cap_map *m)
{
	const char *block = shadow_at(m->block);

	if (!block)
		return (struct place_src){0};
	return place_of_ranges((const struct ds_shadow_range *)(block + m->data.map_bytes), m->data.nforbidden);
}

int mirror_check(const void *block, const struct ds_shadow_data *data, struct plan_sum *sum,
		 struct ds_shadow_refused *refused)
{
	const struct ds_shadow_range *forbidden = (const void *)((const char *)block + data->map_bytes);
	const uint64_t reserve = 2 * REGION_VMAS(cap.boot.nexecutors) + SPARE_VMAS;
	const struct plan_limits limits = {
		.min_vpn = cap.boot.min_vpn,
		.ram_pages = cap.boot.ram_bytes >> DS_PAGE_SHIFT,
		.max_segs = cap.boot.max_maps > reserve ? cap.boot.max_maps - reserve : 0,
		.space = cap.boot.provider == DS_SHADOW_RAM_FILE ? RLE_SPACE_FILE : RLE_SPACE_HOST,
	};
	struct rle_map_err err = {.run = RLE_MAP_NO_RUN};
	struct rle_map map;
	uint64_t bad;
	int rc = rle_map_open(&map, block, data->map_bytes, &err);

	if (rc) {
		*refused = (struct ds_shadow_refused){
			.reason = DS_SHADOW_R_MAP, .err = rc, .index = err.run, .value = err.offset_bytes};
		return rc;
	}
	rc = plan_check(&map, &limits, sum, refused);
	if (rc)
		return rc;
	bad = place_check_ranges(forbidden, data->nforbidden);
	if (bad != data->nforbidden) {
		*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_FORBIDDEN, .index = bad, .value = forbidden[bad].vpn};
		return -EINVAL;
	}
	/* A segment in the middle of a range that faults makes two mappings more. */
	if (cap.boot.mode == DS_SHADOW_DEMAND && 2 * sum->segs + data->nforbidden > limits.max_segs) {
		*refused = (struct ds_shadow_refused){
			.reason = DS_SHADOW_R_MAX_MAPS, .index = limits.max_segs, .value = 2 * sum->segs + data->nforbidden};
		return -EINVAL;
	}
	return 0;
}

/* A plan_seg_fn.  @ctx: struct ds_shadow_refused, or NULL. */
static int map_seg(void *ctx, const struct plan_seg *seg)
{
	uint64_t address = seg->vpn.n << DS_PAGE_SHIFT, bytes = seg->npages << DS_PAGE_SHIFT;
	struct ds_shadow_refused *refused = ctx;
	long ret;

	if (seg->prot == PLAN_UNMAP)
		ret = sys(munmap, address, bytes);
	else
		ret = sys(mmap, address, bytes, seg->prot, SYS_MAP_SHARED | SYS_MAP_FIXED,
			  seg->prot & SYS_PROT_WRITE ? DS_SHADOW_RAM_FD : DS_SHADOW_RAM_RO_FD, seg->pfn.n << DS_PAGE_SHIFT);
	if (!sys_failed(ret))
		return 0;
	if (refused)
		*refused = (struct ds_shadow_refused){
			.reason = DS_SHADOW_R_MMAP, .err = (int32_t)ret, .index = seg->run, .value = seg->vpn.n};
	return (int)ret;
}

int mirror_map(const struct plan_seg *seg)
{
	return map_seg(NULL, seg);
}

int mirror_make(struct ds_shadow_refused *refused)
{
	const struct rle_map map = mirror_view(&cap.now);
	int rc = cap.boot.mode == DS_SHADOW_DEMAND ? demand_make(refused) : 0;

	return rc ? rc : plan_map(&map, map_seg, refused);
}

int mirror_only(void)
{
	const struct cap_region here = move_here();
	const uint64_t end = here.lo + here.bytes;
	long ret = sys(munmap, 0, here.lo);

	if (!ret)
		ret = sys(munmap, end, (PLACE_VPN_END << DS_PAGE_SHIFT) - end);
	return (int)ret;
}

int mirror_change(void)
{
	const struct rle_map was = mirror_view(&cap.now), now = mirror_view(&cap.coming);
	uint32_t who;
	int rc;

	if (cap.boot.mode == DS_SHADOW_DEMAND) {
		rc = demand_change();
		return rc ? rc : plan_map(&now, map_seg, NULL);
	}
	rc = plan_diff(&was, &now, map_seg, NULL);
	if (rc != -ENOMEM)
		return rc;
	cap.rebuilds++;
	rc = exec_stop(EXEC_STOP_HARD, &who);
	if (!rc)
		rc = mirror_only();
	return rc ? rc : plan_map(&now, map_seg, NULL);
}
