/* agent_ranges.h - a set of pages, kept as ranges that rise and do not touch
 *
 * A range is struct ds_agent_range (runtime/wire/agent.h), so that a set can be sent as it is.  What is asked of a set
 * (agent_ranges_at()) is a binary search; adding and cutting move what lies behind.  Page numbers stay below
 * DS_USER_VPN_END, which callers check where numbers come from outside, so no sum overflows.
 *
 * Zero-filled it is an empty set.  The struct owns its array; agent_ranges_free() gives it back.
 */
#ifndef GUEST_AGENT_RANGES_H
#define GUEST_AGENT_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/agent.h"

/** struct agent_ranges - The set; r[0] to r[n - 1], rising, with at least a page between one and the next. */
struct agent_ranges {
	struct ds_agent_range *r;
	size_t n, room;
};

/** agent_ranges_add() - Put pages [vpn, vpn + npages) in.  Return: 0 or -ENOMEM. */
int agent_ranges_add(struct agent_ranges *s, uint64_t vpn, uint64_t npages);

/** agent_ranges_cut() - Take pages out.  Return: 0 or -ENOMEM (a range in two needs room); the set is as it was then. */
int agent_ranges_cut(struct agent_ranges *s, uint64_t vpn, uint64_t npages);

/**
 * agent_ranges_at() - Whether a page is in the set, and how far that answer holds
 * @npages: set to the pages from @vpn on of which the same is true; UINT64_MAX when it is so for all that follow
 */
bool agent_ranges_at(const struct agent_ranges *s, uint64_t vpn, uint64_t *npages);

/** agent_ranges_meet() - Whether any page of [vpn, vpn + npages) is in the set. */
bool agent_ranges_meet(const struct agent_ranges *s, uint64_t vpn, uint64_t npages);

/** agent_ranges_within() - Whether every page of @a is in @b. */
bool agent_ranges_within(const struct agent_ranges *a, const struct agent_ranges *b);

/** agent_ranges_clear() - Empty the set; it keeps its array. */
void agent_ranges_clear(struct agent_ranges *s);

/** agent_ranges_free() - Empty the set and give its array back; for __attribute__((cleanup)) too. */
void agent_ranges_free(struct agent_ranges *s);

#endif
