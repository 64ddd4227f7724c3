/* plan.h - from a map to the mmap() calls that make its mirror
 *
 * Theory of operation
 *
 * A map is cut by every attribute; the kernel distinguishes protections only.  Runs that meet in VPN and in file page
 * and get the same protection are one segment: one mmap(), one VMA.  The kernel would merge them anyway, one call
 * each; here they are merged before, so that segments count the VMAs exactly and calls are saved.
 *
 * What the shadow may do with a page (plan_prot()) is less than what the guest process may:
 * - It never executes guest memory.  Guest text is data here, and bytes the guest chose are no code for anybody who
 *   has got control of the shadow.
 * - A page of a private mapping that is still the file's own (RLE_ATTR_FILE without RLE_ATTR_MAY_SHARE) belongs to the
 *   guest's page cache: the guest's own write would copy it first, a write through the mirror would not.  Read-only.
 * - So is a page known to be the zero page, or merged by KSM: others in the guest use it.
 * This is why the map has to be split by RLE_SPLIT_ATTR: under a coarser policy a run's attributes are those of its
 * first page and say nothing of the rest.
 *
 * The plan is pure: no system calls.  plan_check() is what makes the capsule refuse before it starts, and what dshost
 * can run over the same map.
 */
#ifndef SHADOW_PLAN_H
#define SHADOW_PLAN_H

#include <stdint.h>

#include "rle/mapops.h"
#include "runtime/wire/shadow.h"

/** plan_prot() - PROT_ bits of a page with attributes @attr in the mirror. */
static inline int plan_prot(uint32_t attr)
{
	const uint32_t others = RLE_ATTR_ZERO | RLE_ATTR_KSM;
	int read = attr & (RLE_ATTR_READ | RLE_ATTR_EXEC) ? 1 : 0; /* PROT_READ; x86 reads what it can execute */
	int write = attr & RLE_ATTR_WRITE ? 2 : 0;		    /* PROT_WRITE */

	if (attr & others || (attr & RLE_ATTR_FILE && !(attr & RLE_ATTR_MAY_SHARE)))
		write = 0;
	return read | write;
}

/** struct plan_seg - What one mmap() makes, or one munmap() takes away. */
struct plan_seg {
	ds_vpn vpn;
	ds_pfn pfn;	 /* page of the RAM file */
	uint64_t npages; /* 0: none */
	int prot;	 /* PLAN_UNMAP: take it away; pfn means nothing then */
	uint64_t run;	 /* index of the run it begins in; of no meaning in a difference */
};
#define PLAN_UNMAP (-1)

/**
 * plan_seg_fn - Receives a segment
 *
 * Return: 0 to go on, or -errno to stop.
 */
typedef int (*plan_seg_fn)(void *ctx, const struct plan_seg *seg);

/**
 * plan_map() - The segments of a whole map, rising
 *
 * Return: 0 or what @fn returned.
 */
int plan_map(const struct rle_map *map, plan_seg_fn fn, void *ctx);

/**
 * plan_diff() - The segments that make @now's mirror of @was's
 *
 * Rising.  Pages whose frame or protection changes are mapped over, never unmapped first: a system call that uses
 * them at that moment sees either page, not a hole.
 *
 * Return: 0, -EINVAL (the maps cannot be compared), or what @fn returned.
 */
int plan_diff(const struct rle_map *was, const struct rle_map *now, plan_seg_fn fn, void *ctx);

/** struct plan_limits - What a map is held against. */
struct plan_limits {
	uint64_t min_vpn;	/* vm.mmap_min_addr in pages */
	uint64_t ram_pages;	/* of the RAM file */
	uint64_t max_segs;	/* mappings that the mirror may take */
	enum rle_space space;	/* RLE_SPACE_FILE or RLE_SPACE_HOST */
};

/** struct plan_sum - What a map comes to. */
struct plan_sum {
	uint64_t segs, pages;
};

/**
 * plan_check() - Whether a valid map can be mirrored
 * @map: an open view
 * @limits: what it is held against
 * @sum: filled with what it comes to, also when there are too many
 * @fault: filled with reason, index and value on refusal
 *
 * Return: 0 or -EINVAL.
 */
int plan_check(const struct rle_map *map, const struct plan_limits *limits, struct plan_sum *sum,
	       struct ds_shadow_refused *fault);

#endif
