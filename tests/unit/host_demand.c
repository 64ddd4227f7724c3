/* host_demand.c - the machine behind a mirror that faults (runtime/host/demand/demand.c), against a model of everything around it
 *
 * The capsule, its threads, the guest and the channels between them are played, in one thread, one random step at a time:
 * messages wait in their channels for any time, answers tell what was true when they were made, a change of the capsule
 * waits for threads that wait for pages, the channel is full now and then.  Histories that take days to meet on a machine
 * are met here in a second.  What must hold in each of them:
 *
 *   - the capsule maps only what was ordered, once, and not what was revoked
 *   - it maps no frame that the guest has got back
 *   - when a drop is said to be in force, nothing of it is mapped, nor will be by any message under way
 *   - who touches a page that the guest has gets it; who touches one that it has not gets a fault
 *   - there are no more mappings than counted, and not more than allowed
 *   - when all messages have been delivered nobody waits
 */
#include "tests/unit/demand_model.h"

/* --- the machine's ops ------------------------------------------------------------------------------------------- */

static struct demand *d;

static struct question {
	uint32_t seq;
	uint64_t vpn;
	struct ds_shadow_range window;
	bool made;
	struct rle_run runs[DEMAND_WINDOW_MAX];
	unsigned int nruns;
} questions[DEMAND_ASKS_MAX];
static unsigned int nquestions;
static bool calm; /* at the end: everything is taken at once */
static bool full; /* the channel, for a while */

static int op_ask(void *ctx, uint32_t seq, uint64_t vpn, struct ds_shadow_range window, bool write)
{
	struct question *q = &questions[nquestions++];

	(void)ctx, (void)write;
	if (nquestions > DEMAND_ASKS_MAX)
		errx(2, "too many questions");
	if (vpn < window.vpn || vpn >= window.vpn + window.npages || window.npages > DEMAND_WINDOW_MAX)
		fail("a window that does not hold the page, or is too large");
	*q = (struct question){.seq = seq, .vpn = vpn, .window = window};
	return 0;
}

static int op_order(void *ctx, const struct ds_shadow_seg *seg)
{
	(void)ctx;
	for (uint64_t i = 0; i < seg->npages; i++) {
		if (guest.back[seg->pfn + i])
			fail("a frame is ordered that the guest has got back");
		capsule.ordered[seg->vpn + i - BASE] = true;
		capsule.order_frame[seg->vpn + i - BASE] = (uint32_t)(seg->pfn + i);
	}
	return 0;
}

static void op_revoke(void *ctx, struct ds_shadow_range r)
{
	(void)ctx;
	for (uint64_t i = 0; i < r.npages; i++)
		if (r.vpn + i >= BASE && r.vpn + i < BASE + PAGES)
			capsule.ordered[r.vpn + i - BASE] = false;
}

static int op_send(void *ctx, const struct ds_shadow_map *map)
{
	(void)ctx;
	if (!calm && (full || rnd(8) == 0))
		return -EAGAIN;
	memcpy(to_capsule(), map, map->head.bytes);
	return 0;
}

static const struct demand_ops ops = {op_ask, op_order, op_revoke, op_send, NULL};

static void check(int rc, const char *what)
{
	if (rc < 0) {
		printf("# %s: %s\n", what, strerror(-rc));
		fail(what);
	}
}

/* --- the owner: answers, drops, updates ---------------------------------------------------------------------------- */

static enum { IDLE, DROPPING, DROPPED, UPDATE_DUE, UPDATING } doing;
static struct ds_shadow_range drop_ranges[200];
static uint64_t ndrop;
static bool coming[REGIONS]; /* the mappings after the change under way */
static bool will_update;
static bool strict; /* the guest */
static unsigned int drops, updates;

static bool dropping(void)
{
	return doing == DROPPING;
}

static void make_answer(struct question *q)
{
	if (q->made)
		return;
	q->made = true;
	for (uint64_t vpn = q->window.vpn; vpn < q->window.vpn + q->window.npages; vpn++) {
		const uint32_t frame = guest.frame[vpn - BASE];

		/* the guest need not bring along what was not touched, but that is not known here: it brings all or the half */
		if (frame && guest.here[(vpn - BASE) / REGION_PAGES])
			q->runs[q->nruns++] = (struct rle_run){{vpn}, {frame}, 1, frame % 7 ? RW : RLE_ATTR_READ};
	}
}

/* A guest may hold an answer back until what it gives up is given up. */
static bool held_back(const struct question *q)
{
	for (uint64_t i = 0; i < ndrop && strict && (doing == DROPPING || doing == DROPPED); i++)
		if (q->vpn - drop_ranges[i].vpn < drop_ranges[i].npages)
			return true;
	return false;
}

/* Return: whether it is given. */
static bool give_answer(unsigned int i)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FILE};
	struct question *q = &questions[i];
	struct rle_mapw *w;
	struct rle_map map;
	size_t bytes;
	void *blob;

	if (held_back(q))
		return false;
	make_answer(q);
	if (rle_mapw_begin_mem(&w, &meta, 1 << 20))
		errx(2, "rle_mapw_begin_mem");
	for (unsigned int k = 0; k < q->nruns; k++)
		if (rle_mapw_run(w, &q->runs[k], RLE_END_HOLE))
			errx(2, "%s", rle_mapw_fault(w));
	rle_mapw_finish(w);
	blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	if (rle_map_open(&map, blob, bytes, NULL))
		errx(2, "rle_map_open");
	check(demand_pages(d, q->seq, &map), "demand_pages");
	free(blob);
	questions[i] = questions[--nquestions];
	return true;
}

static void drop_in_force(void)
{
	doing = DROPPED;
	for (uint64_t i = 0; i < ndrop; i++) {
		for (uint64_t vpn = drop_ranges[i].vpn; vpn < drop_ranges[i].vpn + drop_ranges[i].npages; vpn++) {
			if (capsule.is[vpn - BASE] == MAPPED)
				fail("a drop is said to be in force, and a page of it is mapped");
			if (capsule.ordered[vpn - BASE])
				fail("a drop is said to be in force, and a page of it may be mapped");
		}
	}
}

/* The guest has DONE: the pages go, before the next FAULT is answered. */
static void guest_goes_on(void)
{
	for (uint64_t i = 0; i < ndrop; i++)
		for (uint64_t vpn = drop_ranges[i].vpn; vpn < drop_ranges[i].vpn + drop_ranges[i].npages; vpn++)
			guest_change((uint32_t)(vpn - BASE));
	for (uint32_t i = 0; i < REGIONS; i++)
		guest.here[i] &= coming[i];
	changes++;
}

static void begin_drop(void)
{
	int rc;

	drops++;
	memcpy(coming, guest.here, sizeof(coming));
	will_update = rnd(3) == 0;
	ndrop = 0;
	if (will_update) {
		const uint32_t region = (uint32_t)rnd(REGIONS);

		coming[region] = !coming[region];
		if (!coming[region])
			drop_ranges[ndrop++] = (struct ds_shadow_range){BASE + region * REGION_PAGES, REGION_PAGES};
	} else {
		const uint64_t most = rnd(5) ? 1 + rnd(4) : 150;

		for (uint64_t page = rnd(PAGES); page < PAGES && ndrop < most; ndrop++) {
			const uint64_t n = 1 + rnd(rnd(4) ? 6 : 200);

			drop_ranges[ndrop] = (struct ds_shadow_range){BASE + page, n < PAGES - page ? n : PAGES - page};
			page += drop_ranges[ndrop].npages + rnd(30);
		}
	}
	doing = DROPPING;
	rc = demand_drop(d, drop_ranges, ndrop);
	check(rc, "demand_drop");
	if (rc == 1)
		drop_in_force();
}

static void begin_update(void)
{
	struct ds_shadow_range ranges[REGIONS];
	int rc = demand_update_begin(d, ranges, guest_ranges(ranges, coming));
	union message *m;

	if (rc == -EAGAIN)
		return;
	check(rc, "demand_update_begin");
	updates++;
	doing = UPDATING;
	changes++;
	for (uint32_t i = 0; i < PAGES; i++)
		if (coming[i / REGION_PAGES] != guest.here[i / REGION_PAGES])
			guest_change(i);
	memcpy(guest.here, coming, sizeof(coming));
	m = to_capsule();
	m->update.head = (struct ds_shadow_head){.kind = DS_SHADOW_UPDATE, .seq = 1};
	memcpy(m->update.here, coming, sizeof(coming));
}

static void owner_step(void)
{
	switch (doing) {
	case IDLE:
		if (rnd(40) == 0)
			begin_drop();
		break;
	case DROPPED:
		guest_goes_on();
		check(demand_drop_end(d), "demand_drop_end");
		doing = will_update ? UPDATE_DUE : IDLE;
		break;
	case UPDATE_DUE: begin_update(); break;
	default: break;
	}
}

/* Takes an answer of the capsule.  Return: whether there was one. */
static bool take_reply(void)
{
	const struct ds_shadow_head head = capsule.out[capsule.out_first % QUEUE];
	int rc;

	if (!capsule.out_n)
		return false;
	capsule.out_first++;
	capsule.out_n--;
	if (head.seq < DEMAND_SEQ) {
		check(demand_update_end(d, true), "demand_update_end");
		changes++;
		doing = IDLE;
	} else if (head.kind == DS_SHADOW_REFUSED) {
		check(demand_refused(d, head.seq), "demand_refused");
	} else {
		rc = demand_status(d, head.seq);
		check(rc, "demand_status");
		if (rc == 1)
			drop_in_force();
	}
	return true;
}

/* Reads a fault, as read() of the userfaultfd does: from then on the thread's wake-up does not take it back. */
static bool read_fault(void)
{
	const unsigned int first = (unsigned int)rnd(THREADS);

	for (unsigned int i = 0; i < THREADS; i++) {
		struct thread *t = &threads[(first + i) % THREADS];

		if (t->unread) {
			t->unread = false;
			check(demand_fault(d, BASE + t->page, t->write, (uint32_t)(t - threads) + 1), "demand_fault");
			return true;
		}
	}
	return false;
}

static void touch(void)
{
	struct thread *t = &threads[rnd(THREADS)];
	static uint32_t next;

	if (t->waits || capsule.change.m.map.head.kind) /* executors that are to stop begin nothing */
		return;
	next = rnd(8) ? (next + 1) % PAGES : (uint32_t)rnd(PAGES); /* some of it in sequence */
	t->page = rnd(3) ? next : (uint32_t)rnd(PAGES);
	t->since = changes;
	t->write = rnd(2);
	touched++;
	access_page(t);
}

static void random_step(void)
{
	if (rnd(100) == 0)
		full = !full;
	switch (rnd(9)) {
	case 0:
	case 1: touch(); break;
	case 2: read_fault(); break;
	case 3: capsule_step(); break;
	case 4: take_reply(); break;
	case 5: owner_step(); break;
	case 6:
		if (demand_pending(d))
			check(demand_flush(d), "demand_flush");
		break;
	case 7:
		if (nquestions)
			make_answer(&questions[rnd(nquestions)]);
		break;
	default:
		if (nquestions && rnd(4) == 0)
			give_answer((unsigned int)rnd(nquestions));
	}
}

static void begin(uint64_t seed)
{
	struct ds_shadow_range ranges[REGIONS];
	struct demand_params params = {.ranges = ranges, .max_vmas = MAX_VMAS, .ops = &ops};

	memset(&guest, 0, sizeof(guest));
	memset(&capsule, 0, sizeof(capsule));
	memset(threads, 0, sizeof(threads));
	nquestions = 0;
	doing = IDLE;
	calm = full = false;
	random_state = seed;
	strict = seed % 2;
	for (uint32_t i = 0; i < REGIONS; i++)
		guest.here[i] = capsule.here[i] = i % 3 != 2;
	for (uint32_t i = 0; i < PAGES; i++) {
		guest_change(i);
		capsule.is[i] = guest.here[i / REGION_PAGES] ? FAULTS : NOTHING;
	}
	params.nranges = guest_ranges(ranges, guest.here);
	if (demand_new(&d, &params))
		errx(2, "demand_new");
}

static void histories(void)
{
	uint64_t faults = 0, covers = 0, evicted = 0, most = 0, loose = 0;
	bool waits = false;

	for (uint64_t seed = 1; seed <= 8 && !wrong; seed++) {
		begin(seed);
		for (at_step = 0; at_step < STEPS / 8 && !wrong; at_step++) {
			random_step();
			if (at_step % 64 == 0) {
				const uint64_t n = mappings();

				/* what is under way may join mappings; a hole in what an update takes away is not counted */
				if (!capsule.in_n && !capsule.out_n && !demand_pending(d) && n > demand_stat(d).vmas + (doing == UPDATING ? 2 * THREADS : 0))
					fail("more mappings than were counted");
				most = n > most ? n : most;
				if (demand_stat(d).vmas > MAX_VMAS)
					fail("more mappings are counted than may be");
			}
		}
		calm = true;
		for (unsigned int i = 0; i < 100000 && !wrong; i++) {
			bool more = read_fault() | capsule_step() | take_reply();

			if (doing == DROPPED || doing == UPDATE_DUE)
				owner_step(), more = true;
			check(demand_flush(d), "demand_flush");
			for (unsigned int q = 0; q < nquestions && !more; q++)
				more = give_answer(q);
			if (!more && !capsule.in_n)
				break;
		}
		waits |= anybody_waits(false);
		loose += demand_stat(d).waiting;
		faults += demand_stat(d).faults;
		covers += demand_stat(d).covers;
		evicted += demand_stat(d).evicted_pages;
		demand_free(d);
	}
	tap_ok(!wrong, "random histories: %s", wrong ? wrong : "orders, frames, drops, faults, mappings are as they must be");
	tap_ok(!waits && !loose, "in the end nobody waits");
	tap_ok(got > 10000 && faulted > 1000, "%u touches: %u found a page, %u none", touched, got, faulted);
	tap_ok(faults > 5000 && drops > 100 && updates > 50, "%" PRIu64 " faults, %u drops, %u updates", faults, drops, updates);
	tap_ok(covers > 200 && evicted > 1000 && evict_refused, "%" PRIu64 " coverings, %" PRIu64 " pages evicted, %u times not", covers,
	       evicted, evict_refused);
	tap_ok(most > MAX_VMAS / 2, "the limit of mappings was approached (%" PRIu64 " of %u)", most, (unsigned int)MAX_VMAS);
}

/* --- what a guest or a shadow must not get away with --------------------------------------------------------------- */

static struct rle_map one_run(uint64_t vpn, uint32_t npages, void **blob)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FILE};
	struct rle_mapw *w;
	struct rle_map map;
	size_t bytes;

	if (rle_mapw_begin_mem(&w, &meta, 1 << 20) || rle_mapw_add(w, (ds_vpn){vpn}, (ds_pfn){100}, npages, RW) || rle_mapw_finish(w))
		errx(2, "rle_mapw");
	*blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	if (rle_map_open(&map, *blob, bytes, NULL))
		errx(2, "rle_map_open");
	return map;
}

static void bad_input(void)
{
	const struct ds_shadow_range twice[2] = {{BASE, 10}, {BASE + 5, 10}}, one = {BASE, 10};
	struct demand_params params = {.ranges = twice, .nranges = 2, .max_vmas = MAX_VMAS, .ops = &ops};
	struct demand *other;
	struct rle_map map;
	void *blob;
	int rc = 0;

	tap_eq(demand_new(&other, &params), -EINVAL, "mappings that overlap are refused");
	params = (struct demand_params){.ranges = &one, .nranges = 1, .max_vmas = DEMAND_VMAS_MIN, .ops = &ops};
	tap_eq(demand_new(&other, &params), -EINVAL, "and a limit that leaves no room");
	begin(1);
	calm = true;
	check(demand_fault(d, BASE + 3, false, 0), "demand_fault");
	tap_eq(nquestions, 1, "a fault is a question");
	check(demand_fault(d, BASE + 3, true, 0), "demand_fault");
	check(demand_fault(d, BASE + 4, false, 0), "demand_fault");
	tap_eq(nquestions, 1, "the same fault again, or one in its window, is none");
	tap_ok(demand_asked_ns(d) != 0, "it is known since when an answer is awaited");
	map = one_run(BASE + 3, 1, &blob);
	tap_eq(demand_pages(d, questions[0].seq + 1, &map), -EBADMSG, "an answer that nobody asked for");
	free(blob);
	map = one_run(questions[0].window.vpn, (uint32_t)questions[0].window.npages + 1, &blob);
	tap_eq(demand_pages(d, questions[0].seq, &map), -EBADMSG, "an answer beyond the window");
	free(blob);
	map = one_run(questions[0].window.vpn, (uint32_t)questions[0].window.npages, &blob);
	tap_eq(demand_pages(d, questions[0].seq, &map), 0, "a good one");
	tap_eq(demand_pages(d, questions[0].seq, &map), -EBADMSG, "is good once");
	free(blob);
	tap_eq(demand_asked_ns(d), 0, "nothing is awaited");
	tap_ok(capsule.in_n == 1 && capsule.in[0].m.map.nsegs == 1 && capsule.in[0].m.seg[0].npages == DEMAND_WINDOW_MIN,
	       "one segment is mapped");
	tap_eq(demand_status(d, DEMAND_SEQ), -EPROTO, "a STATUS that nobody asked for");
	tap_eq(demand_refused(d, capsule.in[0].m.map.head.seq), -EBUSY, "a mapping that is refused ends the shadow");
	tap_eq(demand_drop(d, twice, 2), -EINVAL, "a drop whose ranges overlap");
	tap_eq(demand_drop(d, &one, 1), 0, "a good one is under way");
	tap_eq(demand_drop(d, &one, 1), -EBUSY, "a second one has to wait");
	nquestions = 0;
	for (uint64_t i = 0; i < 10 * DEMAND_WAITS_MAX && !rc; i++) {
		nquestions = 0;
		rc = demand_fault(d, BASE + 20 + i % REGION_PAGES + (i / REGION_PAGES % REGIONS) * REGION_PAGES, false, 0);
		if (!rc) /* and far away, where nothing is mapped */
			rc = demand_fault(d, (BASE << 1) + i, false, 0);
	}
	tap_eq(rc, -EPROTO, "a shadow that makes faults without end is found out");
	demand_free(d);
}

/* A file in the place of some pages: nobody asks the guest for them, and a drop covers them. */
static void foreign(void)
{
	const struct ds_shadow_range some = {BASE + 1, 3}, beside = {BASE + 8, 4}, outside = {BASE << 1, 4};

	begin(2);
	calm = true;
	nquestions = 0;
	tap_eq(demand_drop(d, &some, 1), 1, "a drop of pages that nobody has is in force at once");
	check(demand_drop_end(d), "demand_drop_end");
	check(demand_foreign(d, some), "demand_foreign");
	check(demand_fault(d, BASE + 2, false, 0), "demand_fault");
	tap_eq(nquestions, 0, "of pages that are a file's the guest is not asked");
	tap_eq(demand_stat(d).hole_pages, 3, "they are taken for holes");
	tap_eq(demand_foreign(d, outside), 0, "pages outside of the mappings are left out");
	tap_eq(demand_stat(d).hole_pages, 3, "all of them");
	tap_eq(demand_drop(d, &beside, 1), 1, "a drop beside it has nothing to do");
	check(demand_drop_end(d), "demand_drop_end");
	tap_eq(demand_drop(d, &some, 1), 0, "one of the file's pages has");
	tap_ok(capsule.in_n == 1 && capsule.in[0].m.seg[0].prot == DS_SHADOW_COVER && capsule.in[0].m.seg[0].vpn == some.vpn &&
		       capsule.in[0].m.seg[0].npages == some.npages,
	       "they are covered");
	demand_free(d);
}

int main(void)
{
	histories();
	bad_input();
	foreign();
	return tap_done();
}
