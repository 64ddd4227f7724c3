/* demand.c - see demand.h
 *
 * Who waits is a list of pages (struct wait).  Whatever happens (a fault, an answer, a covering in force, an update), in the
 * end settle() goes through it and does for each what can be done now: map, make a hole, ask, or go on waiting.  So
 * there is no path on which somebody is forgotten, and no event needs to know what the others left.
 */
#include "runtime/host/demand_impl.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/shadow/place.h"
#include "runtime/shadow/plan.h"

#define NSTREAMS 8
#define RUN_REACH 512u /* pages to either side that a run may bring along */
#define EVENTS 64
#define READS 16
#define HULLS_MAX 96 /* of a drop; leaves room in a message for those beyond 2^32 pages */

struct ranges {
	struct ds_shadow_range *at;
	uint64_t n;
};

struct wait {
	uint64_t vpn;
	struct ds_shadow_range window;
	bool write;
	bool all; /* map everything that is known of the window */
};

struct ask {
	uint32_t seq;
	uint64_t vpn, at_ns;
	struct ds_shadow_range window;
	uint64_t void_lo, void_hi; /* of the answer, these pages count no more */
};

/* An access pattern: what the last fault of it brought. */
struct stream {
	uint64_t first, end;
	uint32_t npages; /* of its window */
	uint64_t used;
};

struct outgoing {
	struct outgoing *next;
	uint32_t nordered; /* segments */
	bool late[DS_SHADOW_SEGS_MAX]; /* segments that the capsule will leave out: covered since the message was made */
	struct ds_shadow_map map;
	struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
};

enum cover_kind { COVER_NONE, COVER_EVICT, COVER_DROP };
enum drop_state { DROP_NONE, DROP_QUEUED, DROP_SENT, DROP_IN_FORCE };

struct demand {
	const struct demand_ops *ops;
	void *ctx;
	int uffd;
	struct pages pages;
	struct ranges ranges, coming; /* coming: of the update under way */
	bool updating;
	uint64_t max_vmas;
	bool evicting; /* until there is room again */
	struct wait waits[DEMAND_WAITS_MAX];
	uint32_t nwaits;
	struct ask asks[DEMAND_ASKS_MAX];
	uint32_t nasks, ask_seq;
	struct stream streams[NSTREAMS];
	uint64_t clock;
	struct outgoing *first, *last;
	uint32_t nqueued, seq;
	uint32_t covers; /* in force */
	struct {
		enum cover_kind kind; /* under way; the rest is of the last one */
		uint32_t seq, n;
		struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
	} cover;
	struct {
		enum drop_state state;
		struct ranges ranges;
	} drop;
	struct demand_stat stat;
};

/* --- ranges ------------------------------------------------------------------------------------------------------ */

static uint64_t end_of(struct ds_shadow_range r)
{
	return r.vpn + r.npages;
}

static int ranges_copy(struct ranges *to, const struct ds_shadow_range *at, uint64_t n)
{
	if (n > DS_SHADOW_FORBIDDEN_MAX || place_check_ranges(at, n) != n)
		return -EINVAL;
	*to = (struct ranges){.at = malloc((n ? n : 1) * sizeof(*at)), .n = n};
	if (!to->at)
		return -ENOMEM;
	if (n)
		memcpy(to->at, at, n * sizeof(*at));
	return 0;
}

static void ranges_free(struct ranges *r)
{
	free(r->at);
	*r = (struct ranges){0};
}

/* The range that holds @vpn, NULL if none does. */
static const struct ds_shadow_range *ranges_find(const struct ranges *r, uint64_t vpn)
{
	uint64_t low = 0, high = r->n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (end_of(r->at[mid]) > vpn)
			high = mid;
		else
			low = mid + 1;
	}
	return low < r->n && r->at[low].vpn <= vpn ? &r->at[low] : NULL;
}

/* Where pages around @vpn may be mapped at this moment.  Return: whether @vpn may. */
static bool within(const struct demand *d, uint64_t vpn, struct ds_shadow_range *r)
{
	const struct ds_shadow_range *now = ranges_find(&d->ranges, vpn), *coming = NULL;
	uint64_t lo, hi;

	if (d->updating)
		coming = ranges_find(&d->coming, vpn);
	if (!now || (d->updating && !coming))
		return false;
	lo = coming && coming->vpn > now->vpn ? coming->vpn : now->vpn;
	hi = coming && end_of(*coming) < end_of(*now) ? end_of(*coming) : end_of(*now);
	*r = (struct ds_shadow_range){lo, hi - lo};
	return true;
}

static struct ds_shadow_range cut(struct ds_shadow_range r, struct ds_shadow_range to)
{
	const uint64_t lo = r.vpn > to.vpn ? r.vpn : to.vpn, hi = end_of(r) < end_of(to) ? end_of(r) : end_of(to);

	return (struct ds_shadow_range){lo, hi > lo ? hi - lo : 0};
}

/* Pages that the guest has given up, and may not have done with yet. */
static bool dropped(const struct demand *d, uint64_t vpn)
{
	return d->drop.state == DROP_IN_FORCE && ranges_find(&d->drop.ranges, vpn);
}

static bool last_covered(const struct demand *d, uint64_t vpn)
{
	for (uint32_t i = 0; i < d->cover.n; i++)
		if (vpn - d->cover.seg[i].vpn < d->cover.seg[i].npages)
			return true;
	return false;
}

static bool being_covered(const struct demand *d, uint64_t vpn)
{
	return d->cover.kind != COVER_NONE && last_covered(d, vpn);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

/* Appends a message without segments.  Return: NULL when there is no memory. */
static struct outgoing *message(struct demand *d)
{
	struct outgoing *o = malloc(sizeof(*o));

	if (!o)
		return NULL;
	o->next = NULL;
	o->nordered = 0;
	memset(o->late, 0, sizeof(o->late));
	o->map = (struct ds_shadow_map){
		.head = {.magic = DS_SHADOW_MAGIC, .version = DS_SHADOW_VERSION, .kind = DS_SHADOW_MAP, .seq = DEMAND_SEQ | ++d->seq},
		.covers = d->covers,
	};
	*(d->last ? &d->last->next : &d->first) = o;
	d->last = o;
	d->nqueued++;
	return o;
}

/* Adds a segment to *@o, or to a new message if that is full or there is none. */
static int add(struct demand *d, struct outgoing **o, struct ds_shadow_seg seg)
{
	if (!*o || (*o)->map.nsegs == DS_SHADOW_SEGS_MAX) {
		if (d->nqueued >= DEMAND_QUEUE_MAX)
			return -EPROTO;
		*o = message(d);
		if (!*o)
			return -ENOMEM;
	}
	(*o)->seg[(*o)->map.nsegs++] = seg;
	(*o)->map.head.bytes = (uint32_t)(sizeof((*o)->map) + (*o)->map.nsegs * sizeof(seg));
	return 0;
}

static int order(struct demand *d, struct outgoing *o)
{
	for (; o->nordered < o->map.nsegs; o->nordered++) {
		const struct ds_shadow_seg *seg = &o->seg[o->nordered];
		int rc = 0;

		if (seg->prot && seg->prot != DS_SHADOW_COVER && !o->late[o->nordered])
			rc = d->ops->order(d->ctx, seg);
		if (rc)
			return rc == -ENOSPC ? -EAGAIN : rc;
	}
	return 0;
}

int demand_flush(struct demand *d)
{
	while (d->first) {
		struct outgoing *o = d->first;
		int rc = order(d, o);

		if (!rc)
			rc = d->ops->send(d->ctx, &o->map);
		if (rc)
			return rc == -EAGAIN ? 0 : rc;
		d->stat.segs += o->map.nsegs;
		d->first = o->next;
		if (!d->first)
			d->last = NULL;
		d->nqueued--;
		free(o);
	}
	return 0;
}

bool demand_pending(const struct demand *d)
{
	return d->first;
}

/* --- mapping ----------------------------------------------------------------------------------------------------- */

static uint64_t vmas(const struct demand *d)
{
	return d->pages.vmas + d->ranges.n + (d->updating ? d->coming.n : 0);
}

/* Above it pages are evicted. */
static uint64_t many_vmas(const struct demand *d)
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
	return d->cover.kind == COVER_NONE || last_covered(d, vpn) == last_covered(d, vpn - (uint64_t)(int64_t)step);
}

/* Notes that pages are mapped; who has done with a window calls recount(). */
static void mark(struct demand *d, struct ds_shadow_range r)
{
	for (uint64_t vpn = r.vpn; vpn < end_of(r); vpn = (vpn | (CHUNK_PAGES - 1)) + 1) {
		struct chunk *c = pages_find(&d->pages, vpn);
		const uint64_t mask = pages_mask(c->key, r);

		d->pages.mapped += (uint64_t)__builtin_popcountll(mask);
		c->mapped |= mask;
	}
}

static void recount(struct demand *d, struct ds_shadow_range r)
{
	for (uint64_t vpn = r.vpn; vpn < end_of(r); vpn = (vpn | (CHUNK_PAGES - 1)) + 1) {
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
	for (last = first; hi < end_of(reach) && continues(d, hi, 1, last); hi++)
		last += 4;
	for (; lo > reach.vpn && continues(d, lo - 1, -1, first); lo--)
		first -= 4;
	*run = (struct ds_shadow_range){lo, hi - lo};
	mark(d, *run);
	return add(d, o, (struct ds_shadow_seg){.vpn = lo, .pfn = first >> 2, .npages = (uint32_t)(hi - lo), .prot = first & 3});
}

static void stream_brought(struct demand *d, uint64_t vpn, struct ds_shadow_range what)
{
	for (int i = 0; i < NSTREAMS; i++) {
		struct stream *s = &d->streams[i];

		if (s->npages && vpn >= s->first && vpn < s->end) {
			s->first = what.vpn < s->first ? what.vpn : s->first;
			s->end = end_of(what) > s->end ? end_of(what) : s->end;
		}
	}
}

/* Maps what @w waits for, and more.  Return: 0; -ENOSPC: not now. */
static int map_wait(struct demand *d, const struct wait *w, struct ds_shadow_range in)
{
	const uint64_t lo = w->vpn > RUN_REACH ? w->vpn - RUN_REACH : 0;
	const struct ds_shadow_range around = {lo, w->vpn + RUN_REACH - lo};
	const struct ds_shadow_range window = cut(w->window, in), reach = cut(around, in);
	struct ds_shadow_range run;
	struct outgoing *o = NULL;
	int rc;

	if (vmas(d) + 3 > d->max_vmas)
		return -ENOSPC;
	if (!w->all || vmas(d) + 2 * window.npages > many_vmas(d)) {
		rc = map_run(d, w->vpn, reach, &o, &run);
		recount(d, run);
		stream_brought(d, w->vpn, run);
		return rc;
	}
	rc = map_run(d, w->vpn, window, &o, &run); /* first, as who waits is woken with the message that holds it */
	for (uint64_t vpn = window.vpn; vpn < end_of(window) && !rc; vpn++) {
		uint64_t frame;

		if (can_map(d, vpn, &frame)) {
			rc = map_run(d, vpn, window, &o, &run);
			vpn = end_of(run) - 1;
		}
	}
	recount(d, window);
	stream_brought(d, w->vpn, window);
	return rc;
}

/* Tells the capsule that a page is not there.  @remember: it is in the guest's mappings. */
static int make_hole(struct demand *d, uint64_t vpn, bool remember)
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
	return add(d, &o, (struct ds_shadow_seg){.vpn = vpn, .npages = 1});
}

/* --- covering ---------------------------------------------------------------------------------------------------- */

static int cover(struct demand *d, enum cover_kind kind)
{
	struct outgoing *o = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < d->cover.n && !rc; i++)
		rc = add(d, &o, d->cover.seg[i]);
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

/* Evicts from the chunks that were changed first, if there are too many mappings. */
static int evict(struct demand *d)
{
	const uint64_t enough = d->max_vmas - d->max_vmas / 4;
	uint64_t left = vmas(d);

	if (left > many_vmas(d))
		d->evicting = true;
	if (left <= enough)
		d->evicting = false;
	if (!d->evicting || d->cover.kind != COVER_NONE || d->drop.state == DROP_QUEUED)
		return 0;
	d->cover.n = 0;
	for (const struct chunk *c = d->pages.full.oldest; c && left > enough && d->cover.n < DS_SHADOW_SEGS_MAX; c = c->newer) {
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

		for (uint64_t vpn = r->at[i].vpn, end = end_of(r->at[last]), n; vpn < end; vpn += n) {
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
		const struct ds_shadow_range both = cut(a->window, r);

		if (!both.npages)
			continue;
		a->void_lo = a->void_hi && a->void_lo < both.vpn ? a->void_lo : both.vpn;
		a->void_hi = a->void_hi > end_of(both) ? a->void_hi : end_of(both);
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

	return !(c && (c->known | c->hole) & pages_bit(vpn)) && !dropped(d, vpn);
}

/* Asks for the part of the window around @w's page of which nothing is known. */
static int ask(struct demand *d, const struct wait *w, struct ds_shadow_range in)
{
	const struct ds_shadow_range window = cut(w->window, in);
	uint64_t lo = w->vpn, hi = w->vpn + 1;
	struct ask *a;

	if (d->nasks == DEMAND_ASKS_MAX) /* after an answer */
		return 0;
	while (hi < end_of(window) && is_unknown(d, hi))
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
	*stay = d->updating && !ranges_find(&d->ranges, w->vpn) && ranges_find(&d->coming, w->vpn);
	if (!within(d, w->vpn, &in))
		return *stay ? 0 : make_hole(d, w->vpn, false);
	*stay = false;
	if (c && (c->mapped | c->hole) & bit) {
		/* the message that wakes has been made; if the page is covered meanwhile it faults again */
		*stay = being_covered(d, w->vpn);
		return 0;
	}
	*stay = true;
	if (dropped(d, w->vpn))
		return 0;
	if (!(c && c->known & bit))
		return is_asked(d, w->vpn) ? 0 : ask(d, w, in);
	rc = map_wait(d, w, in);
	*stay = rc == -ENOSPC;
	return rc == -ENOSPC ? 0 : rc;
}

static int settle(struct demand *d)
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
	if (!rc)
		rc = evict(d);
	return rc ? rc : demand_flush(d);
}

/* --- events ------------------------------------------------------------------------------------------------------ */

/* Which window a fault at @w->vpn opens. */
static void choose_window(struct demand *d, struct wait *w)
{
	struct stream *s = &d->streams[0];

	for (int i = 0; i < NSTREAMS; i++) {
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

static int note_fault(struct demand *d, uint64_t vpn, bool write)
{
	const struct chunk *c = pages_find(&d->pages, vpn);
	struct wait *w;

	d->stat.faults++;
	if (c && (c->mapped | c->hole) & pages_bit(vpn) && !being_covered(d, vpn)) {
		d->stat.stale_faults++;
		return 0;
	}
	for (uint32_t i = 0; i < d->nwaits; i++) {
		if (d->waits[i].vpn == vpn) {
			d->waits[i].write |= write;
			return 0;
		}
	}
	if (d->nwaits == DEMAND_WAITS_MAX)
		return -EPROTO;
	w = &d->waits[d->nwaits++];
	*w = (struct wait){.vpn = vpn, .write = write};
	choose_window(d, w);
	return 0;
}

int demand_fault(struct demand *d, uint64_t vpn, bool write)
{
	int rc = note_fault(d, vpn, write);

	return rc ? rc : settle(d);
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
					events[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE);
		}
		if (!rc)
			rc = settle(d);
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

		if ((vpn >= void_lo && vpn < void_hi) || dropped(d, vpn))
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
		if (map->runs[i].vpn.n < a.window.vpn || rle_run_end(&map->runs[i]).n > end_of(a.window))
			return -EBADMSG;
	memmove(found, found + 1, (size_t)(&d->asks[d->nasks] - (found + 1)) * sizeof(*found));
	d->nasks--;
	for (uint64_t i = 0; i < map->nruns && !rc; i++) {
		const struct rle_run *run = &map->runs[i];

		rc = learn(d, (struct ds_shadow_range){run->vpn.n, run->npages}, run->pfn.n, (uint32_t)plan_prot(run->attr), a.void_lo,
			   a.void_hi);
	}
	if (!rc && is_unknown(d, a.vpn) && (a.vpn < a.void_lo || a.vpn >= a.void_hi) && within(d, a.vpn, &in))
		rc = make_hole(d, a.vpn, true);
	return rc ? rc : settle(d);
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
	return rc ? rc : settle(d);
}

/* --- drops and updates ------------------------------------------------------------------------------------------- */

int demand_drop(struct demand *d, const struct ds_shadow_range *ranges, uint64_t n)
{
	int rc;

	if (d->drop.state != DROP_NONE)
		return -EBUSY;
	rc = ranges_copy(&d->drop.ranges, ranges, n);
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
			o->late[i] |= last_covered(d, o->seg[i].vpn);
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
		rc = settle(d);
	return rc ? rc : kind == COVER_DROP;
}

int demand_refused(struct demand *d, uint32_t seq)
{
	int rc = 0;

	if (d->cover.kind != COVER_EVICT || seq != d->cover.seq || vmas(d) + 3 > d->max_vmas)
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
	ranges_free(&d->drop.ranges);
	d->drop.state = DROP_NONE;
	return settle(d);
}

int demand_update_begin(struct demand *d, const struct ds_shadow_range *ranges, uint64_t n)
{
	int rc;

	if (demand_pending(d))
		return -EAGAIN;
	if (d->updating)
		return -EBUSY;
	rc = ranges_copy(&d->coming, ranges, n);
	d->updating = !rc;
	return rc;
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
	ranges_free(&was);
	return settle(d);
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
		rc = ranges_copy(&new->ranges, params->ranges, params->nranges);
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
	ranges_free(&d->ranges);
	ranges_free(&d->coming);
	ranges_free(&d->drop.ranges);
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
	stat.vmas = vmas(d);
	stat.waiting = d->nwaits;
	return stat;
}
