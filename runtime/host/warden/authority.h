/* authority.h - what a shadow may map of the RAM at this moment
 *
 * Theory of operation
 *
 * The guard (guard.h) stops every mmap() of a shadow that has a file, and asks here.  What may be mapped comes from
 * four places:
 *
 *   in force   the map that the shadow mirrors
 *   coming     the map of an update that was sent and is not answered yet; answered, it is the map in force and the old
 *		one is nothing any more (authority_commit); refused, it is nothing (authority_withdraw)
 *   a file     one mmap() of a descriptor that is none of the capsule's own (DS_SHADOW_WINDOW), as its warden has ordered it; good once
 *   orders     single segments that a mirror that faults was told to map (DS_SHADOW_MAP).  Each is good once, and whole.
 *
 * A call is right if it is the one kind that the capsule makes, MAP_SHARED | MAP_FIXED, and if every one of its pages is the
 * page of the RAM that one and the same of the two maps has there, or if it is exactly an order.  Its protection may be
 * less than what the map allows (plan_prot()), never more.  What asks for PROT_WRITE comes with DS_SHADOW_RAM_FD, and
 * every page of it may be written; what does not comes with DS_SHADOW_RAM_RO_FD, so that it never can be.
 *
 * Maps are borrowed: they stay where they are until they are replaced.  Pure but for memory: no system calls.
 */
#ifndef HOST_AUTHORITY_H
#define HOST_AUTHORITY_H

#include <stdbool.h>
#include <stdint.h>

#include "rle/map.h"
#include "runtime/wire/shadow.h"

#define AUTHORITY_ORDERS_MAX 4096 /* outstanding segments: 32 messages of DS_SHADOW_SEGS_MAX */

struct authority;

/** struct authority_call - An mmap() as the kernel was asked for it: six words. */
struct authority_call {
	uint64_t address, bytes, prot, flags, fd, offset;
};

/**
 * authority_new() - Nothing may be mapped
 * @a: set; given back by authority_free()
 *
 * Return: 0, -ENOMEM.
 */
int authority_new(struct authority **a);

/** authority_free() - Gives it back; NULL is nothing. */
void authority_free(struct authority *a);

/**
 * authority_set() - Makes @map the map in force; there is no coming one afterwards
 * @map: an open view into RAM pages, borrowed; NULL: none
 */
void authority_set(struct authority *a, const struct rle_map *map);

/** authority_coming() - An update is on its way.  @map: borrowed. */
void authority_coming(struct authority *a, const struct rle_map *map);

/** authority_commit() - The update is in force: the old map's pages may not be mapped any more. */
void authority_commit(struct authority *a);

/** authority_withdraw() - The update was refused. */
void authority_withdraw(struct authority *a);

/**
 * authority_order() - Lets segments be mapped, once each
 * @seg: copied; those of prot 0 are holes and need no leave
 *
 * Return: 0; -ENOSPC more than AUTHORITY_ORDERS_MAX would be outstanding (none of @seg is added).
 */
int authority_order(struct authority *a, const struct ds_shadow_seg *seg, uint32_t nsegs);

/**
 * authority_file() - Lets one mmap() of another file than the RAM be made, once
 * @call: whole and exactly, but for the descriptor, which has a number that the kernel gives to what comes in: above
 *	DS_SHADOW_HOLD_FD, where the RAM cannot be (filter.h); NULL: no longer
 */
void authority_file(struct authority *a, const struct authority_call *call);

/** authority_orders() - How many orders are outstanding. */
uint32_t authority_orders(const struct authority *a);

/** authority_cancel() - Takes back all orders that have a page of [vpn, vpn + npages).  Return: how many. */
uint32_t authority_cancel(struct authority *a, uint64_t vpn, uint64_t npages);

/**
 * authority_check() - Whether a call may be made; an order is used up by it
 *
 * Return: NULL if it may; else why not, in words.
 */
const char *authority_check(struct authority *a, const struct authority_call *call);

/**
 * authority_span() - How many pages from @vpn on, at most @npages, are by the map in force pages @pfn and on
 * @write: filled: whether these may be written; the span ends where that changes
 *
 * For who looks at mappings from outside (gone.h).  Return: 0: page @pfn has no business at @vpn.
 */
uint64_t authority_span(const struct authority *a, uint64_t vpn, uint64_t pfn, uint64_t npages, bool *write);

#endif
