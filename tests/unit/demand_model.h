/* demand_model.h - the guest and the capsule around the machine behind a mirror that faults, as host_demand.c plays them */
#ifndef TESTS_DEMAND_MODEL_H
#define TESTS_DEMAND_MODEL_H

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rle/mapw.h"
#include "runtime/host/demand/demand.h"
#include "tests/tap.h"

#define BASE UINT64_C(0x555500000)
#define PAGES 3000u
#define REGIONS 6u
#define REGION_PAGES (PAGES / REGIONS)
#define THREADS 8u
#define STEPS 1600000
#define MAX_VMAS (DEMAND_VMAS_MIN + REGIONS)
#define QUEUE 8192u
#define FRAMES (1u << 22)
#define RW (RLE_ATTR_READ | RLE_ATTR_WRITE)

static uint64_t random_state;

static uint64_t rnd(uint64_t below)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

static const char *wrong; /* the first thing that did not hold */
static unsigned int at_step;

static void fail(const char *what)
{
	if (!wrong) {
		wrong = what;
		printf("# step %u: %s\n", at_step, what);
	}
}

/* --- the guest --------------------------------------------------------------------------------------------------- */

static struct {
	uint32_t frame[PAGES]; /* 0: the guest has no page there */
	bool back[FRAMES];     /* the guest has got it back */
	uint32_t next;
	bool here[REGIONS];    /* mappings that the guest has, as last told */
} guest;

static void guest_change(uint32_t page)
{
	guest.back[guest.frame[page]] = true;
	/* frames often follow each other, so that there are runs */
	if (rnd(3) == 0)
		guest.next += 2;
	guest.frame[page] = rnd(12) && guest.next < FRAMES - 4 ? ++guest.next : 0;
	guest.back[0] = false;
}

static uint64_t guest_ranges(struct ds_shadow_range ranges[REGIONS], const bool here[REGIONS])
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < REGIONS; i++) {
		if (here[i] && i && here[i - 1])
			ranges[n - 1].npages += REGION_PAGES;
		else if (here[i])
			ranges[n++] = (struct ds_shadow_range){BASE + i * REGION_PAGES, REGION_PAGES};
	}
	return n;
}

/* --- the capsule ------------------------------------------------------------------------------------------------- */

enum page_is { NOTHING, FAULTS, MAPPED, HOLE };

union message {
	struct {
		struct ds_shadow_map map;
		struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
	} m;
	struct {
		struct ds_shadow_head head;
		bool here[REGIONS];
	} update;
};

static struct thread {
	bool waits, unread; /* unread: the fault is in the userfaultfd */
	bool write;
	uint32_t page;
	uint32_t since; /* changes of the guest's memory when it touched */
} threads[THREADS];

static struct {
	enum page_is is[PAGES];
	uint32_t frame[PAGES], prot[PAGES];
	bool ordered[PAGES]; /* may be mapped to what is in order_frame */
	uint32_t order_frame[PAGES];
	bool here[REGIONS]; /* in force */
	uint32_t covers;
	union message last_cover;
	union message change, held; /* head.kind 0: none */
	bool covering;		    /* one of them covers */
	uint32_t waits[THREADS];    /* then: the page + 1 that a thread is known to wait for; 0: none */
	union message in[QUEUE];
	unsigned int in_first, in_n;
	struct ds_shadow_head out[QUEUE];
	unsigned int out_first, out_n;
} capsule;

static uint32_t changes; /* of the guest's memory */
static unsigned int touched, got, faulted, evict_refused;

static void end_wait(struct thread *t, bool good)
{
	t->waits = t->unread = false;
	if (good) {
		got++;
		if (guest.back[capsule.frame[t->page]])
			fail("a thread got a page that the guest has taken back");
	} else {
		faulted++;
		if (changes == t->since && guest.frame[t->page] && guest.here[t->page / REGION_PAGES] &&
		    capsule.here[t->page / REGION_PAGES])
			fail("a thread got a fault for a page that the guest has");
	}
}

/* The access of a thread, for the first time or again. */
static void access_page(struct thread *t)
{
	switch (capsule.is[t->page]) {
	case FAULTS: t->waits = t->unread = true; break;
	case MAPPED: end_wait(t, true); break;
	default: end_wait(t, false); break;
	}
}

static void wake(uint32_t first, uint32_t end)
{
	for (unsigned int i = 0; i < THREADS; i++)
		if (capsule.waits[i] > first && capsule.waits[i] <= end)
			capsule.waits[i] = 0;
	for (unsigned int i = 0; i < THREADS; i++)
		if (threads[i].waits && threads[i].page >= first && threads[i].page < end)
			access_page(&threads[i]);
}

/* @known: but for those that are known to, who use no memory meanwhile. */
static bool anybody_waits(bool known)
{
	bool any = false;

	for (unsigned int i = 0; i < THREADS; i++) {
		any |= threads[i].waits && !(known && capsule.waits[i]);
		if (capsule.waits[i] && (!threads[i].waits || threads[i].page + 1 != capsule.waits[i]))
			fail("a thread is said to wait for a page, and does not");
	}
	return any;
}

static void note_waits(const union message *m)
{
	for (uint32_t s = 0; s < m->m.map.nsegs && capsule.covering; s++)
		if (m->m.seg[s].prot == DS_SHADOW_WAITS)
			capsule.waits[m->m.seg[s].pfn - 1] = (uint32_t)(m->m.seg[s].vpn - BASE) + 1;
}

/* A covering has come, or is over. */
static void covering(const union message *m)
{
	memset(capsule.waits, 0, sizeof(capsule.waits));
	capsule.covering = m;
	if (m) {
		capsule.last_cover = *m;
		note_waits(m);
	}
}

static void answer(uint16_t kind, uint32_t seq)
{
	capsule.out[(capsule.out_first + capsule.out_n++) % QUEUE] = (struct ds_shadow_head){.kind = kind, .seq = seq};
}

static bool meets_last_cover(const struct ds_shadow_seg *seg)
{
	for (uint32_t i = 0; i < capsule.last_cover.m.map.nsegs; i++) {
		const struct ds_shadow_seg *c = &capsule.last_cover.m.seg[i];

		if (c->prot == DS_SHADOW_COVER && c->vpn < seg->vpn + seg->npages && seg->vpn < c->vpn + c->npages)
			return true;
	}
	return false;
}

static void map_page(const struct ds_shadow_seg *seg, uint64_t i)
{
	const uint32_t page = (uint32_t)(seg->vpn + i - BASE);

	if (!capsule.here[page / REGION_PAGES])
		return;
	if (seg->prot && (!capsule.ordered[page] || capsule.order_frame[page] != seg->pfn + i))
		fail("a page is mapped that was not ordered, or that was revoked");
	if (seg->prot && guest.back[seg->pfn + i])
		fail("a frame is mapped that the guest has got back");
	capsule.ordered[page] = false;
	capsule.is[page] = seg->prot ? MAPPED : HOLE;
	capsule.frame[page] = (uint32_t)(seg->pfn + i);
	capsule.prot[page] = seg->prot;
}

static void do_map(const union message *m)
{
	note_waits(m);
	for (uint32_t s = 0; s < m->m.map.nsegs; s++) {
		const struct ds_shadow_seg *seg = &m->m.seg[s];
		uint64_t here = 0;

		if (seg->prot == DS_SHADOW_WAITS)
			continue;
		for (uint64_t i = 0; i < seg->npages && seg->vpn >= BASE && seg->vpn + i < BASE + PAGES; i++)
			here += capsule.here[(seg->vpn + i - BASE) / REGION_PAGES];
		if (here && here < seg->npages)
			fail("a segment can be mapped in part only, which is not what was ordered");
		for (uint64_t i = 0; i < seg->npages && seg->vpn >= BASE && seg->vpn + i < BASE + PAGES; i++)
			if (seg->prot != DS_SHADOW_WAKE && (m->m.map.covers == capsule.covers || !meets_last_cover(seg)))
				map_page(seg, i);
		wake((uint32_t)(seg->vpn - BASE), (uint32_t)(seg->vpn + seg->npages - BASE));
	}
}

static bool is_cover(const union message *m)
{
	return m->m.map.head.kind == DS_SHADOW_MAP && m->m.seg[0].prot == DS_SHADOW_COVER;
}

static void apply_cover(const union message *m)
{
	for (uint32_t s = 0; s < m->m.map.nsegs; s++) {
		for (uint64_t i = 0; i < m->m.seg[s].npages; i++) {
			const uint64_t page = m->m.seg[s].vpn + i - BASE;

			if (m->m.seg[s].prot == DS_SHADOW_COVER && page < PAGES && capsule.here[page / REGION_PAGES])
				capsule.is[page] = FAULTS;
		}
	}
	capsule.covers++;
	covering(NULL);
	answer(DS_SHADOW_STATUS, m->m.map.head.seq);
}

static void apply_update(const union message *m)
{
	for (uint32_t page = 0; page < PAGES; page++) {
		const bool was = capsule.here[page / REGION_PAGES], now = m->update.here[page / REGION_PAGES];

		if (was != now)
			capsule.is[page] = now ? FAULTS : NOTHING;
	}
	memcpy(capsule.here, m->update.here, sizeof(capsule.here));
	wake(0, PAGES);
	answer(DS_SHADOW_STATUS, m->update.head.seq);
}

static bool dropping(void);

/* One step of the control thread.  Return: whether there was one to make. */
static bool capsule_step(void)
{
	union message *m = &capsule.in[capsule.in_first % QUEUE];
	bool change;

	if (capsule.change.m.map.head.kind && !anybody_waits(is_cover(&capsule.change))) {
		if (is_cover(&capsule.change))
			apply_cover(&capsule.change);
		else
			apply_update(&capsule.change);
		capsule.change.m.map.head.kind = 0;
		return true;
	}
	if (!capsule.change.m.map.head.kind && capsule.held.m.map.head.kind) {
		capsule.change = capsule.held;
		capsule.held.m.map.head.kind = 0;
		return true;
	}
	if (capsule.change.m.map.head.kind && is_cover(&capsule.change) && !dropping() && rnd(30) == 0) {
		answer(DS_SHADOW_REFUSED, capsule.change.m.map.head.seq); /* an executor did not stop */
		capsule.change.m.map.head.kind = 0;
		covering(NULL);
		evict_refused++;
		return true;
	}
	if (!capsule.in_n)
		return false;
	change = is_cover(m) || m->m.map.head.kind == DS_SHADOW_UPDATE;
	if (is_cover(m) && !capsule.held.m.map.head.kind)
		covering(m);
	if (!change) {
		do_map(m);
	} else if (!capsule.change.m.map.head.kind) {
		capsule.change = *m;
	} else if (!capsule.held.m.map.head.kind) {
		capsule.held = *m;
	} else {
		fail("a third change at a time");
	}
	capsule.in_first++;
	capsule.in_n--;
	return true;
}

static union message *to_capsule(void)
{
	if (capsule.in_n == QUEUE)
		errx(2, "the channel overflows");
	return &capsule.in[(capsule.in_first + capsule.in_n++) % QUEUE];
}

/* What the kernel would count between the first and the last page. */
static uint64_t mappings(void)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < PAGES; i++) {
		const bool same = i && capsule.is[i] == capsule.is[i - 1] &&
				  (capsule.is[i] != MAPPED ||
				   (capsule.frame[i] == capsule.frame[i - 1] + 1 && capsule.prot[i] == capsule.prot[i - 1]));

		n += capsule.is[i] != NOTHING && !same;
	}
	return n;
}

#endif
