/* demand.c - a mirror that faults
 *
 * Theory of operation
 *
 * The guest's mappings (the ranges of the data file) are covered by anonymous memory that is registered for missing pages
 * with a userfaultfd.  Nothing is ever put into it: whoever touches it sleeps, in user mode or inside a system call, until
 * DS_SHADOW_MAP has a page of the RAM mapped over the place and wakes him.  Who reads the faults is outside
 * (runtime/host/demand/demand.c) and has the descriptor from us.  It is made from /dev/userfaultfd, which dshost opens and passes:
 * a process without privileges may not have one that also handles faults of system calls (Linux 6.1, userfaultfd(2),
 * ioctl_userfaultfd(2)).  A fault says which thread waits.  UFFD_FEATURE_EVENT_* are not asked for: nothing here waits for
 * who reads.
 *
 * Covering.  Memory that is not registered yet must not be touched: a touch would find a page of zeroes there, which
 * would stay.  So it is mapped without access, registered, and then made accessible, which keeps the registration.  In
 * between a touch is a SIGSEGV or EFAULT.  Where there was nothing before, a touch was that before, too.  Where pages of
 * the RAM are covered again (a drop, an eviction), nobody may notice: no executor is in C meanwhile and none in a call of the
 * service, which may use the memory (exec_stop(EXEC_STOP_QUIET)).  The calls are interrupted and issued again as for a move.
 * An executor that waits for a page is as good as stopped, wherever it is: it tries no other page before this one is mapped,
 * which only the control thread does.  It must not be waited for, since the guest may give that page only when
 * the covering is in force.  dshost says who waits (DS_SHADOW_WAITS), a mapping or wake-up of the page makes it void.
 *
 * Order.  While an update, or a covering, waits for executors, these may wait for faults: exec_stop() serves messages of
 * the channel meanwhile (ctl_serve()), MAP among them.  What a MAP can undo is left out, see struct ds_shadow_map.
 *
 * Files that the guest's program has mapped (DS_SHADOW_WINDOW), when a call touches them first, lie over the cover like pages of the RAM, and
 * go when their range is covered again.
 *
 * A mapping over registered memory splits it; covered again, the pieces merge (same userfaultfd, no pages in them).
 * Nobody is woken by a change of the mappings alone: where somebody may sleep, it is followed by UFFDIO_WAKE.  Who is woken
 * tries again and finds what there is then.
 *
 * tests/kernel/demand_kernel.c and demand_calls.c prove all this on the running kernel.
 */
#include <errno.h>
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

#include "runtime/shadow/capsule.h"
#include "runtime/shadow/params.h"

#define O_CLOEXEC 02000000
#define O_NONBLOCK_CLOEXEC (04000 | O_CLOEXEC)
#define COVER_FLAGS (SYS_MAP_PRIVATE | SYS_MAP_ANONYMOUS | SYS_MAP_NORESERVE | SYS_MAP_FIXED)

int demand_open(struct ds_shadow_refused *refused)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID};
	long ret = sys(ioctl, DS_SHADOW_FAULT_DEV_FD, USERFAULTFD_IOC_NEW, O_NONBLOCK_CLOEXEC);

	if (ret >= 0) {
		const long made = ret;

		ret = sys(dup3, made, DS_SHADOW_FAULT_FD, O_CLOEXEC);
		sys(close, made);
	}
	if (ret >= 0) {
		cap.fault_fd = DS_SHADOW_FAULT_FD;
		ret = sys(ioctl, cap.fault_fd, UFFDIO_API, &api);
	}
	sys(close, DS_SHADOW_FAULT_DEV_FD);
	if (ret < 0)
		*refused = (struct ds_shadow_refused){
			.reason = DS_SHADOW_R_KERNEL, .err = (int32_t)ret, .index = __NR_userfaultfd};
	return ret < 0 ? (int)ret : 0;
}

static void wake(uint64_t vpn, uint64_t npages)
{
	struct uffdio_range range = {vpn << DS_PAGE_SHIFT, npages << DS_PAGE_SHIFT};

	for (uint32_t i = 0; i < cap.nwaits; i++)
		if (cap.waits[i].vpn - vpn < npages)
			cap.waits[i].tid = 0;
	sys(ioctl, cap.fault_fd, UFFDIO_WAKE, &range); /* can only fail for a range that is none */
}

static long without_access(struct ds_shadow_range r)
{
	long ret = sys(mmap, r.vpn << DS_PAGE_SHIFT, r.npages << DS_PAGE_SHIFT, 0, COVER_FLAGS, -1, 0);

	return sys_failed(ret) ? ret : 0;
}

/* A place_piece_fn.  What the kernel does not let a process map (vm.mmap_min_addr) is left out. */
static int cover(void *ctx, struct ds_shadow_range r)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	long ret;

	(void)ctx;
	if (r.vpn < cap.boot.min_vpn) {
		if (r.vpn + r.npages <= cap.boot.min_vpn)
			return 0;
		r = (struct ds_shadow_range){cap.boot.min_vpn, r.vpn + r.npages - cap.boot.min_vpn};
	}
	reg.range = (struct uffdio_range){r.vpn << DS_PAGE_SHIFT, r.npages << DS_PAGE_SHIFT};
	ret = without_access(r);
	if (!ret)
		ret = sys(ioctl, cap.fault_fd, UFFDIO_REGISTER, &reg);
	if (!ret)
		ret = sys(mprotect, reg.range.start, reg.range.len, SYS_PROT_READ | SYS_PROT_WRITE);
	return (int)ret;
}

int demand_make(struct ds_shadow_refused *refused)
{
	const struct place_src ranges = mirror_forbidden(&cap.now);

	for (uint64_t i = 0; i < ranges.n; i++) {
		int rc = cover(NULL, ranges.ranges[i]);

		if (!rc)
			continue;
		*refused = (struct ds_shadow_refused){
			.reason = DS_SHADOW_R_MMAP, .err = rc, .index = i, .value = ranges.ranges[i].vpn};
		return rc;
	}
	return 0;
}

/* A place_piece_fn. */
static int uncover(void *ctx, struct ds_shadow_range r)
{
	long ret = sys(munmap, r.vpn << DS_PAGE_SHIFT, r.npages << DS_PAGE_SHIFT);

	(void)ctx;
	wake(r.vpn, r.npages);
	return (int)ret;
}

int demand_change(void)
{
	const struct place_src was = mirror_forbidden(&cap.now), now = mirror_forbidden(&cap.coming);
	int rc = place_without(was.ranges, was.n, now.ranges, now.n, uncover, NULL);

	return rc ? rc : place_without(now.ranges, now.n, was.ranges, was.n, cover, NULL);
}

/* --- DS_SHADOW_MAP ----------------------------------------------------------------------------------------------- */

/* Whether a segment meets the pages that were covered last. */
static bool was_covered(const struct ds_shadow_seg *seg)
{
	for (uint32_t i = 0; i < cap.covered.map.nsegs; i++) {
		const struct ds_shadow_seg *c = &cap.covered.seg[i];

		if (c->prot == DS_SHADOW_COVER && c->vpn < seg->vpn + seg->npages && seg->vpn < c->vpn + c->npages)
			return true;
	}
	return false;
}

/* A place_piece_fn.  @ctx: the segment. */
static int map_piece(void *ctx, struct ds_shadow_range r)
{
	const struct ds_shadow_seg *seg = ctx;
	const struct plan_seg piece = {
		.vpn = {r.vpn}, .pfn = {seg->pfn + r.vpn - seg->vpn}, .npages = r.npages, .prot = (int)seg->prot};

	return seg->prot ? mirror_map(&piece) : (int)without_access(r);
}

static void note_wait(const struct ds_shadow_seg *seg)
{
	uint32_t i = 0;

	for (uint32_t k = 0; k < cap.nwaits; k++)
		if (cap.waits[k].tid == (int32_t)seg->pfn)
			cap.waits[k].tid = 0;
	while (i < cap.nwaits && cap.waits[i].tid)
		i++;
	if (!cap.covering || i == DS_SHADOW_EXECUTORS_MAX)
		return;
	cap.waits[i] = (struct cap_wait){seg->vpn, (int32_t)seg->pfn};
	cap.nwaits += i == cap.nwaits;
}

bool demand_waits(int32_t tid)
{
	for (uint32_t i = 0; i < cap.nwaits; i++)
		if (cap.waits[i].tid == tid)
			return true;
	return false;
}

void demand_arrived(const struct ds_shadow_map *map)
{
	memcpy(&cap.covered, map, map->head.bytes);
	cap.covering = true;
	cap.nwaits = 0;
	for (uint32_t i = 0; i < map->nsegs; i++)
		if (map->seg[i].prot == DS_SHADOW_WAITS)
			note_wait(&map->seg[i]);
}

int demand_map(const struct ds_shadow_map *map, struct ds_shadow_refused *refused)
{
	const struct place_src ranges = mirror_forbidden(&cap.now);
	uint64_t lo = 0, hi = 0; /* mapped, and not woken yet */

	for (uint32_t i = 0; i < map->nsegs; i++) {
		struct ds_shadow_seg seg = map->seg[i];
		int rc = 0;

		if (seg.prot == DS_SHADOW_WAITS) {
			note_wait(&seg);
			continue;
		}
		if (seg.prot == DS_SHADOW_WAKE)
			; /* as below */
		else if (map->covers == cap.covers || !was_covered(&seg))
			rc = place_within(ranges.ranges, ranges.n, (struct ds_shadow_range){seg.vpn, seg.npages}, map_piece, &seg);
		if (rc) {
			*refused = (struct ds_shadow_refused){
				.reason = DS_SHADOW_R_MMAP, .err = rc, .index = i, .value = seg.vpn};
			return rc;
		}
		if (seg.vpn != hi) {
			if (hi > lo)
				wake(lo, hi - lo);
			lo = seg.vpn;
		}
		hi = seg.vpn + seg.npages;
	}
	if (hi > lo)
		wake(lo, hi - lo);
	return 0;
}

/* A place_piece_fn.  @ctx: the whole range, which is the piece if all of it is the guest's. */
static int is_whole(void *ctx, struct ds_shadow_range r)
{
	const struct ds_shadow_range *range = ctx;

	return r.vpn == range->vpn && r.npages == range->npages;
}

int demand_window(const struct ds_shadow_window *window, int fd, struct ds_shadow_refused *refused)
{
	const struct place_src ranges = mirror_forbidden(&cap.now);
	struct ds_shadow_range range = window->range;
	long ret = -ENXIO;

	/* One call, which the guard expects as it is; and never where the capsule might be. */
	if (range.vpn >= cap.boot.min_vpn && place_within(ranges.ranges, ranges.n, range, is_whole, &range) == 1)
		ret = sys(mmap, range.vpn << DS_PAGE_SHIFT, range.npages << DS_PAGE_SHIFT, window->prot, SYS_MAP_SHARED | SYS_MAP_FIXED, fd,
			  window->offset);
	if (!sys_failed(ret)) {
		wake(range.vpn, range.npages);
		return 0;
	}
	*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_MMAP, .err = (int32_t)ret, .value = range.vpn};
	return (int)ret;
}

/* A place_piece_fn.  The pages that somebody waits for are covered already, and stay so without a moment of anything else. */
static int cover_around(void *ctx, struct ds_shadow_range r)
{
	const uint64_t end = r.vpn + r.npages;
	uint64_t at = r.vpn;

	while (at < end) {
		uint64_t to = end;
		int rc = 0;

		for (uint32_t i = 0; i < cap.nwaits; i++)
			if (cap.waits[i].tid && cap.waits[i].vpn >= at && cap.waits[i].vpn < to)
				to = cap.waits[i].vpn;
		if (to > at)
			rc = cover(ctx, (struct ds_shadow_range){at, to - at});
		if (rc)
			return rc;
		at = to + 1;
	}
	return 0;
}

int demand_cover(void)
{
	const struct place_src ranges = mirror_forbidden(&cap.now);

	for (uint32_t i = 0; i < cap.covered.map.nsegs; i++) {
		const struct ds_shadow_seg *seg = &cap.covered.seg[i];
		int rc = 0;

		if (seg->prot == DS_SHADOW_COVER)
			rc = place_within(ranges.ranges, ranges.n, (struct ds_shadow_range){seg->vpn, seg->npages}, cover_around, NULL);
		if (rc)
			return rc;
	}
	cap.covers++;
	cap.covering = false;
	cap.nwaits = 0;
	return 0;
}
