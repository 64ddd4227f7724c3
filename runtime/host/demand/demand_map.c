/* demand_map.c - which pages are mapped, and together with which; see demand_impl.h */
#include "runtime/host/demand/demand_impl.h"

#include <errno.h>

#define RUN_REACH 512u /* pages to either side that a run may bring along */

uint64_t demand_vmas(const struct demand *d)
{
	return d->pages.vmas + d->ranges.n + (d->updating ? d->coming.n : 0);
}

uint64_t demand_many_vmas(const struct demand *d)
{
	return d->max_vmas - d->max_vmas / 8;
}

/* Whether a page's frame is known and can be mapped. */
static bool can_map(const struct demand *d, uint64_t vpn, uint64_t *frame)
{
	const struct chunk *c = pages_find(&d->pages, vpn);
	const uint64_t bit = pages_bit(vpn);

	if (!c || !(c->known & bit) || (c->mapped | c->hole) & bit)
		return false;
	*frame = c->frame[vpn & (CHUNK_PAGES - 1)];
	return true;
}

/* Whether @vpn continues the run that ends with a page of @frame, seen upwards or (@step -1) downwards. */
static bool continues(const struct demand *d, uint64_t vpn, int step, uint64_t frame)
{
	uint64_t next;

	if (!can_map(d, vpn, &next) || next != frame + (uint64_t)((int64_t)step * 4))
		return false;
	return d->cover.kind == COVER_NONE || demand_last_covered(d, vpn) == demand_last_covered(d, vpn - (uint64_t)(int64_t)step);
}

/* Notes that pages are mapped; who has done with a window calls recount(). */
static void mark(struct demand *d, struct ds_shadow_range r)
{
	for (uint64_t vpn = r.vpn; vpn < demand_end_of(r); vpn = (vpn | (CHUNK_PAGES - 1)) + 1) {
		struct chunk *c = pages_find(&d->pages, vpn);
		const uint64_t mask = pages_mask(c->key, r);

		d->pages.mapped += (uint64_t)__builtin_popcountll(mask);
		c->mapped |= mask;
	}
}

static void recount(struct demand *d, struct ds_shadow_range r)
{
	for (uint64_t vpn = r.vpn; vpn < demand_end_of(r); vpn = (vpn | (CHUNK_PAGES - 1)) + 1) {
		struct chunk *c = pages_find(&d->pages, vpn);

		if (c)
			pages_recount(&d->pages, c);
	}
}

/* The run of frames around @vpn, which can be mapped, within @reach: one segment.  @run: filled. */
static int map_run(struct demand *d, uint64_t vpn, struct ds_shadow_range reach, struct outgoing **o, struct ds_shadow_range *run)
{
	uint64_t lo = vpn, hi = vpn + 1, first, last;

	can_map(d, vpn, &first);
	for (last = first; hi < demand_end_of(reach) && continues(d, hi, 1, last); hi++)
		last += 4;
	for (; lo > reach.vpn && continues(d, lo - 1, -1, first); lo--)
		first -= 4;
	*run = (struct ds_shadow_range){lo, hi - lo};
	mark(d, *run);
	demand_awake(d, *run);
	return demand_add(d, o, (struct ds_shadow_seg){.vpn = lo, .pfn = first >> 2, .npages = (uint32_t)(hi - lo), .prot = first & 3});
}

static void stream_brought(struct demand *d, uint64_t vpn, struct ds_shadow_range what)
{
	for (int i = 0; i < DEMAND_STREAMS; i++) {
		struct stream *s = &d->streams[i];

		if (s->npages && vpn >= s->first && vpn < s->end) {
			s->first = what.vpn < s->first ? what.vpn : s->first;
			s->end = demand_end_of(what) > s->end ? demand_end_of(what) : s->end;
		}
	}
}

int demand_map_wait(struct demand *d, const struct wait *w, struct ds_shadow_range in)
{
	const uint64_t lo = w->vpn > RUN_REACH ? w->vpn - RUN_REACH : 0;
	const struct ds_shadow_range around = {lo, w->vpn + RUN_REACH - lo};
	const struct ds_shadow_range window = demand_cut(w->window, in), reach = demand_cut(around, in);
	struct ds_shadow_range run;
	struct outgoing *o = NULL;
	int rc;

	if (demand_vmas(d) + 3 > d->max_vmas)
		return -ENOSPC;
	if (!w->all || demand_vmas(d) + 2 * window.npages > demand_many_vmas(d)) {
		rc = map_run(d, w->vpn, reach, &o, &run);
		recount(d, run);
		stream_brought(d, w->vpn, run);
		return rc;
	}
	rc = map_run(d, w->vpn, window, &o, &run); /* first, as who waits is woken with the message that holds it */
	for (uint64_t vpn = window.vpn; vpn < demand_end_of(window) && !rc; vpn++) {
		uint64_t frame;

		if (can_map(d, vpn, &frame)) {
			rc = map_run(d, vpn, window, &o, &run);
			vpn = demand_end_of(run) - 1;
		}
	}
	recount(d, window);
	stream_brought(d, w->vpn, window);
	return rc;
}

int demand_wake(struct demand *d, uint64_t vpn)
{
	struct outgoing *o = NULL;

	demand_awake(d, (struct ds_shadow_range){vpn, 1});
	return demand_add(d, &o, (struct ds_shadow_seg){.vpn = vpn, .npages = 1, .prot = DS_SHADOW_WAKE});
}

int demand_make_hole(struct demand *d, uint64_t vpn, bool remember)
{
	struct chunk *c = remember ? pages_get(&d->pages, vpn) : NULL;
	struct outgoing *o = NULL;

	if (remember && !c)
		return -ENOMEM;
	if (c) {
		c->hole |= pages_bit(vpn);
		d->pages.holes++;
		pages_recount(&d->pages, c);
	}
	demand_awake(d, (struct ds_shadow_range){vpn, 1});
	return demand_add(d, &o, (struct ds_shadow_seg){.vpn = vpn, .npages = 1});
}
