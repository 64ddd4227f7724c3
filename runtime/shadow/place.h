/* place.h - where the capsule goes
 *
 * Theory of operation
 *
 * Everything that the capsule must keep out of comes as a few sources, each a list of ranges that rises: the runs of
 * the map in force and of the one to come, the forbidden ranges, what the kernel mapped at the start, the capsule
 * itself.  Sources may overlap each other.  One merging pass over them visits every gap; nothing is allocated.
 *
 * The place: the range that dshost reserved, if the capsule fits into it; else somewhere in the middle half of the
 * largest gap.  The middle, because mappings grow at their edges; somewhere, because an address that a hostile guest
 * can guess is worth less.
 *
 * Pure: no system calls, no state.  Tests run it natively.
 */
#ifndef SHADOW_PLACE_H
#define SHADOW_PLACE_H

#include <stddef.h>
#include <stdint.h>

#include "rle/map.h"
#include "runtime/wire/shadow.h"

/* The page behind the last one a process may map with 4-level page tables: TASK_SIZE_MAX, arch/x86/include/asm. */
#define PLACE_VPN_END (UINT64_C(0x7ffffffff000) >> DS_PAGE_SHIFT)

/** struct place_src - One list of ranges to keep out of; either runs or ranges. */
struct place_src {
	const struct rle_run *runs;
	const struct ds_shadow_range *ranges;
	uint64_t n;
};

#define PLACE_NSRC 5

/** struct place_want - What is looked for. */
struct place_want {
	struct place_src src[PLACE_NSRC]; /* unused ones: n 0 */
	uint64_t npages;		  /* not 0 */
	uint64_t first_vpn;		  /* nothing below */
	struct ds_shadow_range reserve;	  /* preferred */
	uint64_t random;
};

/** place_of_map() - A map as a source. */
static inline struct place_src place_of_map(const struct rle_map *map)
{
	return (struct place_src){.runs = map->runs, .n = map->nruns};
}

/** place_of_ranges() - Ranges as a source. */
static inline struct place_src place_of_ranges(const struct ds_shadow_range *ranges, uint64_t n)
{
	return (struct place_src){.ranges = ranges, .n = n};
}

/**
 * place_find() - Finds a place
 * @want: what and what to avoid
 * @vpn: filled with its first page
 *
 * Return: 0; -ENOSPC no gap is large enough.
 */
int place_find(const struct place_want *want, uint64_t *vpn);

/**
 * place_free() - Whether a range is in nobody's way
 * @want: the sources; the rest is not looked at
 *
 * Return: 1 or 0.
 */
int place_free(const struct place_want *want, struct ds_shadow_range range);

/**
 * place_check_ranges() - Whether ranges can be a source
 *
 * Return: @n if all is well, else the index of the first that is empty, not behind the one before, or beyond
 * PLACE_VPN_END.
 */
uint64_t place_check_ranges(const struct ds_shadow_range *ranges, uint64_t n);

/** place_piece_fn - Receives a piece.  Return: 0 to go on, or -errno to stop. */
typedef int (*place_piece_fn)(void *ctx, struct ds_shadow_range piece);

/**
 * place_within() - The pieces of a range that lie in ranges
 *
 * Return: 0 or what @fn returned.
 */
int place_within(const struct ds_shadow_range *ranges, uint64_t n, struct ds_shadow_range range, place_piece_fn fn, void *ctx);

/**
 * place_without() - The pieces of ranges that lie in none of others
 * @ranges: as place_check_ranges() passes them, like @others
 *
 * Return: 0 or what @fn returned.
 */
int place_without(const struct ds_shadow_range *ranges, uint64_t n, const struct ds_shadow_range *others, uint64_t nothers,
		  place_piece_fn fn, void *ctx);

#endif
