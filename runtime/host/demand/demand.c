/* demand.c - see demand.h
 *
 * Who waits is a list of pages (struct wait).  Whatever happens (a fault, an answer, a covering in force, an update), in the
 * end settle() goes through it and does for each what can be done now: map, make a hole, ask, or go on waiting.  So
 * there is no path on which somebody is forgotten, and no event needs to know what the others left.
 */
#include "runtime/host/demand/demand_impl.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/shadow/place.h"
#include "runtime/shadow/plan.h"

#define EVENTS 64
#define READS 16

/* --- asking ------------------------------------------------------------------------------------------------------ */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Whether an answer that is awaited may bring @vpn. */
static bool is_asked(const struct demand *d, uint64_t vpn)
{
	for (uint32_t i = 0; i < d->nasks; i++) {
		const struct ask *a = &d->asks[i];

		if (vpn - a->window.vpn < a->window.npages && (vpn < a->void_lo || vpn >= a->void_hi))
			return true;
	}
	return false;
}

static bool is_unknown(const struct demand *d, uint64_t vpn)
{
	const struct chunk *c = pages_find(&d->pages, vpn);

	return !(c && (c->known | c->hole) & pages_bit(vpn)) && !demand_dropped(d, vpn);
}

/* Asks for the part of the window around @w's page of which nothing is known. */
static int ask(struct demand *d, const struct wait *w, struct ds_shadow_range in)
{
	const struct ds_shadow_range window = demand_cut(w->window, in);
	uint64_t lo = w->vpn, hi = w->vpn + 1;
	struct ask *a;

	if (d->nasks == DEMAND_ASKS_MAX) /* after an answer */
		return 0;
	while (hi < demand_end_of(window) && is_unknown(d, hi))
		hi++;
	while (lo > window.vpn && is_unknown(d, lo - 1))
		lo--;
	a = &d->asks[d->nasks++];
	*a = (struct ask){.seq = ++d->ask_seq, .vpn = w->vpn, .at_ns = now_ns(), .window = {lo, hi - lo}};
	d->stat.asks++;
	return d->ops->ask(d->ctx, a->seq, a->vpn, a->window, w->write);
}

uint64_t demand_asked_ns(const struct demand *d)
{
	return d->nasks ? d->asks[0].at_ns : 0; /* in the order in which they were asked */
}

/* --- settling ---------------------------------------------------------------------------------------------------- */

/* Does for @w what can be done.  *@stay: it has to wait on. */
static int serve(struct demand *d, const struct wait *w, bool *stay)
{
	const struct chunk *c = pages_find(&d->pages, w->vpn);
	const uint64_t bit = pages_bit(w->vpn);
	struct ds_shadow_range in;
	int rc;

	/* In a mapping that is coming: it has come, but that has not been read yet. */
	*stay = d->updating && !demand_ranges_find(&d->ranges, w->vpn) && demand_ranges_find(&d->coming, w->vpn);
	if (!demand_within(d, w->vpn, &in))
		return *stay ? 0 : demand_make_hole(d, w->vpn, false);
	*stay = w->unsure && demand_being_covered(d, w->vpn);
	if (*stay)
		return 0;
	if (w->unsure) /* if it was after, it faults again */
		return demand_wake(d, w->vpn);
	if (c && (c->mapped | c->hole) & bit) /* the message that wakes has been made */
		return 0;
	*stay = true;
	if (demand_dropped(d, w->vpn))
		return 0;
	if (!(c && c->known & bit) && d->ops->foreign && d->ops->foreign(d->ctx, w->vpn)) {
		*stay = false;
		return 0;
	}
	if (!(c && c->known & bit))
		return is_asked(d, w->vpn) ? 0 : ask(d, w, in);
	rc = demand_map_wait(d, w, in);
	*stay = rc == -ENOSPC;
	return rc == -ENOSPC ? 0 : rc;
}

int demand_settle(struct demand *d)
{
	uint32_t kept = 0;
	int rc = 0;

	for (uint32_t i = 0; i < d->nwaits; i++) {
		bool stay = true;

		if (!rc)
			rc = serve(d, &d->waits[i], &stay);
		if (stay)
			d->waits[kept++] = d->waits[i];
	}
	d->nwaits = kept;
	if (!rc && d->cover.kind != COVER_NONE) {
		struct outgoing *o = NULL;

		rc = demand_tell_sleepers(d, &o);
	}
	if (!rc)
		rc = demand_evict(d);
	return rc ? rc : demand_flush(d);
}

/* --- events ------------------------------------------------------------------------------------------------------ */

/* Which window a fault at @w->vpn opens. */
static void choose_window(struct demand *d, struct wait *w)
{
	struct stream *s = &d->streams[0];

	for (int i = 0; i < DEMAND_STREAMS; i++) {
		struct stream *t = &d->streams[i];
		const bool up = t->npages && w->vpn >= t->end && w->vpn - t->end < t->npages;
		const bool down = t->npages && w->vpn < t->first && t->first - w->vpn <= t->npages;

		if (up || down) {
			t->npages = 2 * t->npages < DEMAND_WINDOW_MAX ? 2 * t->npages : DEMAND_WINDOW_MAX;
			w->all = true;
			w->window = (struct ds_shadow_range){w->vpn, t->npages};
			if (down) {
				w->window.vpn = t->first > t->npages ? t->first - t->npages : 0;
				w->window.npages = t->first - w->window.vpn;
			}
			*t = (struct stream){w->vpn, w->vpn + 1, t->npages, ++d->clock};
			return;
		}
		if (t->used < s->used)
			s = t;
	}
	w->window = (struct ds_shadow_range){w->vpn & ~(uint64_t)(DEMAND_WINDOW_MIN - 1), DEMAND_WINDOW_MIN};
	*s = (struct stream){w->vpn, w->vpn + 1, DEMAND_WINDOW_MIN, ++d->clock};
}

/* It sleeps until a message has @vpn.  A process that has more threads than a capsule gets no help. */
static void note_sleeper(struct demand *d, uint32_t tid, uint64_t vpn)
{
	uint32_t i = 0;

	while (i < d->nsleepers && d->sleepers[i].tid != tid)
		i++;
	if (!tid || i == SLEEPERS_MAX || (i < d->nsleepers && d->sleepers[i].vpn == vpn))
		return;
	d->sleepers[i] = (struct sleeper){.tid = tid, .vpn = vpn};
	d->nsleepers += i == d->nsleepers;
}

static int note_fault(struct demand *d, uint64_t vpn, bool write, uint32_t tid)
{
	const struct chunk *c = pages_find(&d->pages, vpn);
	const bool done = c && (c->mapped | c->hole) & pages_bit(vpn), unsure = done && demand_being_covered(d, vpn);
	struct ds_shadow_range in;
	struct wait *w;

	d->stat.faults++;
	if (done && !unsure) {
		d->stat.stale_faults++;
		return 0;
	}
	if (!unsure && demand_within(d, vpn, &in))
		note_sleeper(d, tid, vpn);
	for (uint32_t i = 0; i < d->nwaits; i++) {
		if (d->waits[i].vpn == vpn) {
			d->waits[i].write |= write;
			return 0;
		}
	}
	if (d->nwaits == DEMAND_WAITS_MAX)
		return -EPROTO;
	w = &d->waits[d->nwaits++];
	*w = (struct wait){.vpn = vpn, .write = write, .unsure = unsure};
	if (!unsure)
		choose_window(d, w);
	return 0;
}

int demand_fault(struct demand *d, uint64_t vpn, bool write, uint32_t tid)
{
	int rc = note_fault(d, vpn, write, tid);

	return rc ? rc : demand_settle(d);
}

int demand_run(struct demand *d)
{
	struct uffd_msg events[EVENTS];
	ssize_t got = sizeof(events);

	for (int k = 0; k < READS && got == sizeof(events); k++) {
		int rc = 0;

		got = read(d->uffd, events, sizeof(events));
		if (got < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		for (size_t i = 0; i < (size_t)got / sizeof(events[0]) && !rc; i++) {
			if (events[i].event != UFFD_EVENT_PAGEFAULT)
				return -EPROTO;
			rc = note_fault(d, events[i].arg.pagefault.address >> DS_PAGE_SHIFT,
					events[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE,
					events[i].arg.pagefault.feat.ptid);
		}
		if (!rc)
			rc = demand_settle(d);
		if (rc)
			return rc;
	}
	return 0;
}

/* Notes the frames of a run, but for pages in [@void_lo, @void_hi). */
static int learn(struct demand *d, struct ds_shadow_range r, uint64_t pfn, uint32_t prot, uint64_t void_lo, uint64_t void_hi)
{
	struct chunk *c = NULL;

	for (uint64_t i = 0; i < r.npages && prot; i++) {
		const uint64_t vpn = r.vpn + i, bit = pages_bit(vpn);

		if ((vpn >= void_lo && vpn < void_hi) || demand_dropped(d, vpn))
			continue;
		if (!c || c->key != vpn >> CHUNK_SHIFT)
			c = pages_get(&d->pages, vpn);
		if (!c)
			return -ENOMEM;
		if (c->mapped & bit) /* what it leads to now stays until it is dropped */
			continue;
		d->pages.known += !(c->known & bit);
		c->known |= bit;
		c->frame[vpn & (CHUNK_PAGES - 1)] = frame_make(pfn + i, prot);
	}
	return 0;
}

static struct ask *find_ask(struct demand *d, uint32_t seq)
{
	for (uint32_t i = 0; i < d->nasks; i++)
		if (d->asks[i].seq == seq)
			return &d->asks[i];
	return NULL;
}

int demand_pages(struct demand *d, uint32_t seq, const struct rle_map *map)
{
	struct ask *found = find_ask(d, seq), a;
	struct ds_shadow_range in;
	int rc = 0;

	if (!found)
		return -EBADMSG;
	a = *found;
	for (uint64_t i = 0; i < map->nruns; i++)
		if (map->runs[i].vpn.n < a.window.vpn || rle_run_end(&map->runs[i]).n > demand_end_of(a.window))
			return -EBADMSG;
	memmove(found, found + 1, (size_t)(&d->asks[d->nasks] - (found + 1)) * sizeof(*found));
	d->nasks--;
	for (uint64_t i = 0; i < map->nruns && !rc; i++) {
		const struct rle_run *run = &map->runs[i];

		rc = learn(d, (struct ds_shadow_range){run->vpn.n, run->npages}, run->pfn.n, (uint32_t)plan_prot(run->attr), a.void_lo,
			   a.void_hi);
	}
	if (!rc && is_unknown(d, a.vpn) && (a.vpn < a.void_lo || a.vpn >= a.void_hi) && demand_within(d, a.vpn, &in))
		rc = demand_make_hole(d, a.vpn, true);
	return rc ? rc : demand_settle(d);
}

struct known {
	struct demand *d;
	const struct rle_run *run;
};

/* A place_piece_fn. */
static int learn_piece(void *ctx, struct ds_shadow_range piece)
{
	const struct known *k = ctx;

	return learn(k->d, piece, k->run->pfn.n + piece.vpn - k->run->vpn.n, (uint32_t)plan_prot(k->run->attr), 0, 0);
}

int demand_known(struct demand *d, const struct rle_map *map)
{
	int rc = 0;

	for (uint64_t i = 0; i < map->nruns && !rc; i++) {
		struct known k = {d, &map->runs[i]};

		rc = place_within(d->ranges.at, d->ranges.n, (struct ds_shadow_range){k.run->vpn.n, k.run->npages}, learn_piece, &k);
	}
	return rc ? rc : demand_settle(d);
}

/* A place_piece_fn. */
static int make_foreign(void *ctx, struct ds_shadow_range piece)
{
	struct demand *d = ctx;

	for (uint64_t vpn = piece.vpn; vpn < demand_end_of(piece); vpn = ((vpn >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT) {
		struct chunk *c = pages_get(&d->pages, vpn);
		uint64_t mask;

		if (!c)
			return -ENOMEM;
		mask = pages_mask(c->key, piece);
		pages_forget(&d->pages, c, mask);
		d->pages.holes += (uint64_t)__builtin_popcountll(mask);
		c->hole |= mask;
		pages_recount(&d->pages, c);
	}
	return 0;
}

int demand_foreign(struct demand *d, struct ds_shadow_range range)
{
	demand_awake(d, range);
	return place_within(d->ranges.at, d->ranges.n, range, make_foreign, d);
}

int demand_not_foreign(struct demand *d, struct ds_shadow_range range, bool hole)
{
	struct outgoing *o = NULL;
	const int rc = demand_add(d, &o, (struct ds_shadow_seg){.vpn = range.vpn, .npages = range.npages, .prot = hole ? 0 : DS_SHADOW_WAKE});

	demand_awake(d, range);
	return rc ? rc : demand_flush(d);
}

/* --- beginning and end ------------------------------------------------------------------------------------------- */

static void free_demand(struct demand **d)
{
	demand_free(*d);
}

int demand_new(struct demand **d, const struct demand_params *params)
{
	struct demand *new __attribute__((cleanup(free_demand))) = calloc(1, sizeof(*new));
	int rc;

	if (!new)
		return -ENOMEM;
	new->uffd = -1;
	new->ops = params->ops;
	new->ctx = params->ctx;
	new->max_vmas = params->max_vmas;
	rc = params->max_vmas < params->nranges + DEMAND_VMAS_MIN ? -EINVAL : pages_init(&new->pages);
	if (!rc)
		rc = demand_ranges_copy(&new->ranges, params->ranges, params->nranges);
	if (rc)
		return rc;
	*d = new;
	new = NULL;
	return 0;
}

void demand_free(struct demand *d)
{
	if (!d)
		return;
	if (d->uffd >= 0)
		close(d->uffd);
	while (d->first) {
		struct outgoing *o = d->first;

		d->first = o->next;
		free(o);
	}
	demand_ranges_free(&d->ranges);
	demand_ranges_free(&d->coming);
	demand_ranges_free(&d->drop.ranges);
	pages_free(&d->pages);
	free(d);
}

void demand_start(struct demand *d, int uffd)
{
	d->uffd = uffd;
}

int demand_fd(const struct demand *d)
{
	return d->uffd;
}

struct demand_stat demand_stat(const struct demand *d)
{
	struct demand_stat stat = d->stat;

	stat.known_pages = d->pages.known;
	stat.mapped_pages = d->pages.mapped;
	stat.hole_pages = d->pages.holes;
	stat.vmas = demand_vmas(d);
	stat.waiting = d->nwaits;
	return stat;
}
