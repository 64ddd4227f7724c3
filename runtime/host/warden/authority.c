/* authority.c - what a shadow may map; theory in authority.h */
#include "runtime/host/warden/authority.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/shadow/place.h"
#include "runtime/shadow/plan.h"

struct authority {
	const struct rle_map *now, *coming; /* NULL: none */
	/* a ring, oldest first: the capsule maps in the order it was told, so the first is nearly always the one */
	struct ds_shadow_seg order[AUTHORITY_ORDERS_MAX];
	uint32_t first, norders;
	struct authority_call file; /* bytes 0: none */
};

int authority_new(struct authority **a)
{
	*a = calloc(1, sizeof(**a));
	return *a ? 0 : -ENOMEM;
}

void authority_free(struct authority *a)
{
	free(a);
}

void authority_set(struct authority *a, const struct rle_map *map)
{
	a->now = map;
	a->coming = NULL;
}

void authority_coming(struct authority *a, const struct rle_map *map)
{
	a->coming = map;
}

void authority_commit(struct authority *a)
{
	a->now = a->coming;
	a->coming = NULL;
}

void authority_withdraw(struct authority *a)
{
	a->coming = NULL;
}

/* --- orders -------------------------------------------------------------------------------------------------------- */

static struct ds_shadow_seg *order_at(struct authority *a, uint32_t i)
{
	return &a->order[(a->first + i) % AUTHORITY_ORDERS_MAX];
}

/* Those before move up by one. */
static void remove_order(struct authority *a, uint32_t i)
{
	for (; i > 0; i--)
		*order_at(a, i) = *order_at(a, i - 1);
	a->first = (a->first + 1) % AUTHORITY_ORDERS_MAX;
	a->norders--;
}

uint32_t authority_orders(const struct authority *a)
{
	return a->norders;
}

int authority_order(struct authority *a, const struct ds_shadow_seg *seg, uint32_t nsegs)
{
	uint32_t wanted = 0;

	for (uint32_t i = 0; i < nsegs; i++)
		wanted += seg[i].prot != 0;
	if (wanted > AUTHORITY_ORDERS_MAX - a->norders)
		return -ENOSPC;
	for (uint32_t i = 0; i < nsegs; i++)
		if (seg[i].prot)
			*order_at(a, a->norders++) = seg[i];
	return 0;
}

static bool overlap(const struct ds_shadow_seg *seg, uint64_t vpn, uint64_t npages)
{
	return seg->vpn < vpn ? vpn - seg->vpn < seg->npages : seg->vpn - vpn < npages;
}

uint32_t authority_cancel(struct authority *a, uint64_t vpn, uint64_t npages)
{
	uint32_t kept = 0, norders = a->norders;

	for (uint32_t i = 0; i < norders; i++) {
		const struct ds_shadow_seg seg = *order_at(a, i);

		if (!overlap(&seg, vpn, npages))
			*order_at(a, kept++) = seg;
	}
	a->norders = kept;
	return norders - kept;
}

/* Whether the call is an order; it is used up then. */
static bool take_order(struct authority *a, uint64_t vpn, uint64_t npages, uint64_t pfn, uint32_t prot)
{
	for (uint32_t i = 0; i < a->norders; i++) {
		const struct ds_shadow_seg *seg = order_at(a, i);

		if (seg->vpn == vpn && seg->npages == npages && seg->pfn == pfn && seg->prot == prot) {
			remove_order(a, i);
			return true;
		}
	}
	return false;
}

void authority_file(struct authority *a, const struct authority_call *call)
{
	a->file = call ? *call : (struct authority_call){0};
}

/* Whether the call is that of the file; it is used up then. */
static bool take_file(struct authority *a, const struct authority_call *call)
{
	const struct authority_call *f = &a->file;

	if (!f->bytes || call->address != f->address || call->bytes != f->bytes || call->prot != f->prot || call->flags != f->flags ||
	    call->fd <= DS_SHADOW_HOLD_FD || call->fd >= DS_SHADOW_FDS_MAX || call->offset != f->offset)
		return false;
	a->file.bytes = 0;
	return true;
}

/* --- maps ---------------------------------------------------------------------------------------------------------- */

/*
 * How many pages from @vpn on are pages @pfn and on by @map.  @prot: what they may be used for, all of them; @mixed: else
 * the span ends where that changes.
 */
static uint64_t span(const struct rle_map *map, uint64_t vpn, uint64_t pfn, uint64_t npages, bool mixed, int *prot)
{
	uint64_t done = 0, i;

	*prot = PROT_READ | PROT_WRITE;
	if (!map)
		return 0;
	for (i = rle_map_find(map, (ds_vpn){vpn}); i < map->nruns && done < npages; i++) {
		const struct rle_run *run = &map->runs[i];
		const int allowed = plan_prot(run->attr);
		const uint64_t at = vpn + done;
		uint64_t skip;

		if (run->vpn.n > at)
			break;
		skip = at - run->vpn.n;
		if (run->pfn.n + skip != pfn + done)
			break;
		if (done && !mixed && (*prot ^ allowed) & PROT_WRITE)
			break;
		*prot &= allowed;
		done += run->npages - skip;
	}
	return done < npages ? done : npages;
}

uint64_t authority_span(const struct authority *a, uint64_t vpn, uint64_t pfn, uint64_t npages, bool *write)
{
	int prot;
	uint64_t n = span(a->now, vpn, pfn, npages, false, &prot);

	*write = n && prot & PROT_WRITE;
	return n;
}

/* What a call that is the right kind names, in pages. */
struct wanted {
	uint64_t vpn, npages, pfn;
	uint32_t prot;
};

/* Return: why the call is none that a capsule makes; NULL: it could be. */
static const char *parse(const struct authority_call *c, struct wanted *w)
{
	const uint64_t beyond = PLACE_VPN_END << DS_PAGE_SHIFT;

	if (c->flags != (MAP_SHARED | MAP_FIXED))
		return "its flags are not MAP_SHARED | MAP_FIXED";
	if (c->prot & ~(uint64_t)(PROT_READ | PROT_WRITE))
		return "it asks for another protection than reading and writing";
	if (c->fd != DS_SHADOW_RAM_FD && c->fd != DS_SHADOW_RAM_RO_FD)
		return "its descriptor is not the RAM";
	if (!!(c->prot & PROT_WRITE) != (c->fd == DS_SHADOW_RAM_FD))
		return c->fd == DS_SHADOW_RAM_FD ? "it takes the RAM's writable descriptor for what is not to be written" :
						   "it asks to write by the RAM's read-only descriptor";
	if ((c->address | c->bytes | c->offset) % DS_PAGE_BYTES)
		return "it is not in whole pages";
	if (!c->bytes || c->address >= beyond || c->bytes > beyond - c->address)
		return "it is empty or beyond the user half";
	*w = (struct wanted){.vpn = c->address >> DS_PAGE_SHIFT,
			     .npages = c->bytes >> DS_PAGE_SHIFT,
			     .pfn = c->offset >> DS_PAGE_SHIFT,
			     .prot = (uint32_t)c->prot};
	return NULL;
}

/* Return: NULL if @map allows it. */
static const char *by_map(const struct rle_map *map, const struct wanted *w)
{
	int prot;

	if (span(map, w->vpn, w->pfn, w->npages, true, &prot) != w->npages)
		return "these are not pages that the process has there";
	if (w->prot & ~(uint32_t)prot)
		return "it asks for more than the process's pages may be used for";
	return NULL;
}

const char *authority_check(struct authority *a, const struct authority_call *call)
{
	struct wanted w;
	const char *why;

	if (take_file(a, call))
		return NULL;
	why = parse(call, &w);
	if (why)
		return why;
	if (take_order(a, w.vpn, w.npages, w.pfn, w.prot))
		return NULL;
	why = by_map(a->now, &w);
	return why && a->coming ? by_map(a->coming, &w) : why;
}
