/* run.h - the run: the unit that everything here counts, stores, sends and maps
 *
 * A run is a maximal stretch of present pages in which VPN and PFN both rise by one from page to page
 * (paper, Section II, "Guest process page table discovery").  What else may split it is a policy.
 *
 * The struct is also the record of the map blob (map.h), byte for byte, so that a blob is used in place.
 */
#ifndef RLE_RUN_H
#define RLE_RUN_H

#include <stdint.h>

#include "rle/addr.h"

/* Attributes of the pages of a run; under RLE_SPLIT_VPN_PFN those of its first page. */
enum rle_attr {
	/* from the VMA */
	RLE_ATTR_READ = 1u << 0,
	RLE_ATTR_WRITE = 1u << 1,
	RLE_ATTR_EXEC = 1u << 2,
	RLE_ATTR_MAY_SHARE = 1u << 3, /* VM_MAYSHARE: the 's' of maps */
	RLE_ATTR_PROT = 0xfu,	      /* the four above: what RLE_SPLIT_PROT compares */
	/* from the pagemap word */
	RLE_ATTR_FILE = 1u << 4,    /* bit 61: file page or shared anonymous page */
	RLE_ATTR_UFFD_WP = 1u << 5, /* bit 57 */
	/* from kpageflags and kpagecount, only with a join; the byte that kpage.h delivers */
	RLE_ATTR_ANON = 1u << 8,
	RLE_ATTR_KSM = 1u << 9,
	RLE_ATTR_THP = 1u << 10,
	RLE_ATTR_HUGETLB = 1u << 11,
	RLE_ATTR_ZERO = 1u << 12,    /* the zero page or the huge zero page */
	RLE_ATTR_NOPAGE = 1u << 13,  /* no struct page: device memory */
	RLE_ATTR_MULTI = 1u << 14,   /* kpagecount > 1: mapped more than once */
	RLE_ATTR_JOINED = 1u << 15,  /* the seven bits above are known */
	RLE_ATTR_KPAGE = 0xff00u,
	RLE_ATTR_ALL = 0xff3fu,
};
#define RLE_ATTR_KPAGE_SHIFT 8

/** struct rle_run - One run; 24 bytes, no padding, no pointer. */
struct rle_run {
	ds_vpn vpn;	 /* first virtual page */
	ds_pfn pfn;	 /* its frame */
	uint32_t npages; /* length; a stretch beyond RLE_RUN_MAX_PAGES is several runs */
	uint32_t attr;	 /* enum rle_attr */
};
_Static_assert(sizeof(struct rle_run) == 24, "a run is a record of the map format");

#define RLE_RUN_MAX_PAGES UINT32_MAX

/** enum rle_split - What splits a run besides a break of VPN or PFN; each policy includes the ones before. */
enum rle_split {
	RLE_SPLIT_VPN_PFN, /* nothing: the paper's ratio */
	RLE_SPLIT_PROT,	   /* protection: what mmap() needs to instantiate the run */
	RLE_SPLIT_ATTR,	   /* every attribute: the paper's "physical page attributes" */
	RLE_NSPLIT
};

/** enum rle_end - Why a run ended, seen from the page that would have come next. */
enum rle_end {
	RLE_END_VMA,  /* that virtual page belongs to no mapping */
	RLE_END_HOLE, /* it is mapped but not present */
	RLE_END_PHYS, /* it is present, but its frame is not the next one */
	RLE_END_PROT, /* its protection differs (RLE_SPLIT_PROT and up) */
	RLE_END_ATTR, /* another attribute differs (RLE_SPLIT_ATTR) */
	RLE_END_LONG, /* RLE_RUN_MAX_PAGES reached */
	RLE_NEND
};

/**
 * rle_run_fn - Receives finished runs in rising order of VPN
 * @ctx: the caller's
 * @run: valid during the call
 * @end: why it ended
 *
 * Return: 0 to go on, -errno to stop the encoder, which then returns that.
 */
typedef int (*rle_run_fn)(void *ctx, const struct rle_run *run, enum rle_end end);

#endif
