/* demand_change.c - coverings, for evictions and drops, and updates; see demand_impl.h */
#include "runtime/host/demand/demand_impl.h"

#include <errno.h>

#include "runtime/shadow/place.h"

#define HULLS_MAX 48 /* of a drop; leaves room in a message for those beyond 2^32 pages, and for sleepers */
#define EVICT_MAX (DS_SHADOW_SEGS_MAX - SLEEPERS_MAX)
_Static_assert(HULLS_MAX + (PLACE_VPN_END >> 32) < EVICT_MAX, "a covering and all sleepers fit into one message");

static int cover(struct demand *d, enum cover_kind kind)
{
	struct outgoing *o = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < d->cover.n && !rc; i++)
		rc = demand_add(d, &o, d->cover.seg[i]);
	for (uint32_t i = 0; i < d->nsleepers; i++)
		d->sleepers[i].told = false;
	if (!rc)
		rc = demand_tell_sleepers(d, &o);
	if (rc)
		return rc;
	d->cover.kind = kind;
	d->cover.seq = o->map.head.seq;
	d->stat.covers++;
	return 0;
}

static void cover_add(struct demand *d, uint64_t vpn, uint64_t npages)
{
	d->cover.seg[d->cover.n++] = (struct ds_shadow_seg){.vpn = vpn, .npages = (uint32_t)npages, .prot = DS_SHADOW_COVER};
}

int demand_evict(struct demand *d)
{
	const uint64_t enough = d->max_vmas - d->max_vmas / 4;
	uint64_t left = demand_vmas(d);

	if (left > demand_many_vmas(d))
		d->evicting = true;
	if (left <= enough)
		d->evicting = false;
	if (!d->evicting || d->cover.kind != COVER_NONE || d->drop.state == DROP_QUEUED)
		return 0;
	d->cover.n = 0;
	for (const struct chunk *c = d->pages.full.oldest; c && left > enough && d->cover.n < EVICT_MAX; c = c->newer) {
		const uint64_t bits = c->mapped | c->hole;
		const unsigned int first = (unsigned int)__builtin_ctzll(bits), last = 63 - (unsigned int)__builtin_clzll(bits);

		cover_add(d, (c->key << CHUNK_SHIFT) + first, last - first + 1);
		d->stat.evicted_pages += (uint64_t)__builtin_popcountll(c->mapped);
		left -= c->vmas < left ? c->vmas : left;
	}
	return d->cover.n ? cover(d, COVER_EVICT) : 0;
}

/* A drop of many ranges becomes at most HULLS_MAX: what lies between them is covered too, and comes back unasked. */
static int cover_drop(struct demand *d)
{
	const struct ranges *r = &d->drop.ranges;
	const uint64_t each = (r->n + HULLS_MAX - 1) / HULLS_MAX;

	d->cover.n = 0;
	for (uint64_t i = 0; i < r->n; i += each) {
		const uint64_t last = i + each < r->n ? i + each - 1 : r->n - 1;

		for (uint64_t vpn = r->at[i].vpn, end = demand_end_of(r->at[last]), n; vpn < end; vpn += n) {
			n = end - vpn < UINT32_MAX ? end - vpn : UINT32_MAX;
			cover_add(d, vpn, n);
		}
	}
	d->drop.state = DROP_SENT;
	return cover(d, COVER_DROP);
}

static void void_answers(struct demand *d, struct ds_shadow_range r)
{
	for (uint32_t i = 0; i < d->nasks; i++) {
		struct ask *a = &d->asks[i];
		const struct ds_shadow_range both = demand_cut(a->window, r);

		if (!both.npages)
			continue;
		a->void_lo = a->void_hi && a->void_lo < both.vpn ? a->void_lo : both.vpn;
		a->void_hi = a->void_hi > demand_end_of(both) ? a->void_hi : demand_end_of(both);
	}
}

/* Nothing of the dropped ranges is in the capsule any more. */
static void drop_in_force(struct demand *d)
{
	for (uint64_t i = 0; i < d->drop.ranges.n; i++) {
		pages_each(&d->pages, d->drop.ranges.at[i], pages_forget);
		void_answers(d, d->drop.ranges.at[i]);
		d->ops->revoke(d->ctx, d->drop.ranges.at[i]);
	}
	d->drop.state = DROP_IN_FORCE;
}

/* --- drops and updates ------------------------------------------------------------------------------------------- */

int demand_drop(struct demand *d, const struct ds_shadow_range *ranges, uint64_t n)
{
	int rc;

	if (d->drop.state != DROP_NONE)
		return -EBUSY;
	rc = demand_ranges_copy(&d->drop.ranges, ranges, n);
	if (rc)
		return rc;
	d->pages.found = 0;
	for (uint64_t i = 0; i < n && !d->pages.found; i++)
		pages_each(&d->pages, ranges[i], pages_look);
	if (!d->pages.found) {
		drop_in_force(d);
		return 1;
	}
	d->drop.state = DROP_QUEUED;
	if (d->cover.kind != COVER_NONE)
		return 0;
	rc = cover_drop(d);
	return rc ? rc : demand_flush(d);
}

int demand_status(struct demand *d, uint32_t seq)
{
	const enum cover_kind kind = d->cover.kind;
	int rc = 0;

	if (kind == COVER_NONE || seq != d->cover.seq)
		return -EPROTO;
	d->covers++;
	d->cover.kind = COVER_NONE;
	for (struct outgoing *o = d->first; o; o = o->next)
		for (uint32_t i = 0; i < o->map.nsegs; i++)
			o->late[i] |= demand_last_covered(d, o->seg[i].vpn);
	for (uint32_t i = 0; i < d->cover.n; i++) {
		const struct ds_shadow_range r = {d->cover.seg[i].vpn, d->cover.seg[i].npages};

		pages_each(&d->pages, r, pages_cover);
		d->ops->revoke(d->ctx, r);
	}
	if (kind == COVER_DROP)
		drop_in_force(d);
	else if (d->drop.state == DROP_QUEUED)
		rc = cover_drop(d);
	if (!rc)
		rc = demand_settle(d);
	return rc ? rc : kind == COVER_DROP;
}

int demand_refused(struct demand *d, uint32_t seq)
{
	int rc = 0;

	if (d->cover.kind != COVER_EVICT || seq != d->cover.seq || demand_vmas(d) + 3 > d->max_vmas)
		return -EBUSY;
	d->cover.kind = COVER_NONE;
	d->cover.n = 0;
	if (d->drop.state == DROP_QUEUED)
		rc = cover_drop(d);
	return rc ? rc : demand_flush(d);
}

int demand_drop_end(struct demand *d)
{
	if (d->drop.state != DROP_IN_FORCE)
		return 0;
	demand_ranges_free(&d->drop.ranges);
	d->drop.state = DROP_NONE;
	return demand_settle(d);
}

/* A place_piece_fn: who waits for these pages will be woken at a time that is not known here. */
static int going(void *ctx, struct ds_shadow_range piece)
{
	demand_awake(ctx, piece);
	return 0;
}

int demand_update_begin(struct demand *d, const struct ds_shadow_range *ranges, uint64_t n)
{
	int rc;

	if (demand_pending(d))
		return -EAGAIN;
	if (d->updating)
		return -EBUSY;
	rc = demand_ranges_copy(&d->coming, ranges, n);
	if (rc)
		return rc;
	d->updating = true;
	return place_without(d->ranges.at, d->ranges.n, ranges, n, going, d);
}

/* A place_piece_fn: these pages are in no mapping any more. */
static int gone(void *ctx, struct ds_shadow_range piece)
{
	struct demand *d = ctx;

	pages_each(&d->pages, piece, pages_forget);
	void_answers(d, piece);
	d->ops->revoke(d->ctx, piece);
	return 0;
}

int demand_update_end(struct demand *d, bool applied)
{
	struct ranges *old = applied ? &d->ranges : &d->coming, was;

	if (!d->updating)
		return 0;
	d->updating = false;
	if (applied)
		place_without(d->ranges.at, d->ranges.n, d->coming.at, d->coming.n, gone, d);
	was = *old;
	if (applied)
		d->ranges = d->coming;
	d->coming = (struct ranges){0};
	demand_ranges_free(&was);
	return demand_settle(d);
}
