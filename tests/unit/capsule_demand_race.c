/* capsule_demand_race.c - a mirror that faults while it changes: executors touch pages all the time, in C and in system calls,
 * while the guest gives pages up, gets others, and its mappings come to lie where the capsule is
 */
#include "tests/demand_tests.h"

/* --- executors that touch pages all the time, and what changes under them ------------------------------------------ */

#define WORKERS 6u
#define HISTORY 4096u
#define PAST 12

/* What was at a page before the drops that changed it, the last one first. */
static struct past {
	struct dh_page was;
	uint32_t drop;
} history[DH_REGIONS][HISTORY][PAST];

static struct worker {
	unsigned int region;
	uint64_t k;
	uint32_t since; /* drops that were done when it was sent */
	bool update;	/* an update was under way at some time */
	bool busy;
} workers[WORKERS];
static uint32_t drops_done, drop_now;
static bool updating, no_more;
static unsigned int answers, wrong_words, efaults;

static void work(unsigned int i)
{
	struct worker *w = &workers[i];
	struct calls_request r = {.op = host_random(2) ? CALLS_FETCH : CALLS_COVERED};

	do
		w->region = (unsigned int)host_random(dh.nregions);
	while (dh.regions[w->region].unmapped);
	w->k = host_random(dh.regions[w->region].npages);
	if (host_random(2)) /* where others are too */
		w->k = w->k % 64 + dh.regions[w->region].npages / 2;
	w->since = drops_done;
	w->update = updating;
	w->busy = true;
	r.op = CALLS_FETCH;
	r.args[0] = address(dh.regions[w->region].vpn + w->k);
	host_message(&dh.h, i, &r, sizeof(r));
}

static bool is_word(const struct dh_page *p, int64_t result, uint64_t word)
{
	return p->attr ? result == 0 && word == host_word(p->pfn) : result == -EFAULT;
}

static void worked(const struct ds_shadow_message *m)
{
	struct worker *w = &workers[m->executor];
	struct calls_answer a;
	uint64_t word;
	bool good;

	if (m->executor >= WORKERS) {
		dh_note_answer(m);
		return;
	}
	memcpy(&a, m->payload, sizeof(a));
	memcpy(&word, a.bytes, sizeof(word));
	good = is_word(&dh.regions[w->region].pages[w->k], a.result, word);
	for (int i = 0; i < PAST && history[w->region][w->k][i].drop > w->since; i++)
		good |= is_word(&history[w->region][w->k][i].was, a.result, word);
	if (history[w->region][w->k][PAST - 1].drop > w->since) /* too long ago to tell */
		good = true;
	if (w->update && a.result == -EFAULT)
		good = true; /* the region went, or was elsewhere */
	if (!good && !wrong_words++)
		printf("# page %" PRIu64 " of region %u: result %" PRId64 "\n", w->k, w->region, a.result);
	efaults += a.result == -EFAULT;
	answers++;
	w->busy = false;
	if (!no_more)
		work(m->executor);
}

static void work_begin(void)
{
	memset(history, 0, sizeof(history));
	answers = wrong_words = efaults = 0;
	drops_done = 0;
	no_more = updating = false;
	dh.message = worked;
	for (unsigned int i = 0; i < WORKERS; i++)
		work(i);
}

static void work_end(void)
{
	const time_t end = time(NULL) + 10;
	unsigned int busy = 1;

	no_more = true;
	while (busy && !dh.ended && time(NULL) < end) {
		dh_round(100);
		busy = 0;
		for (unsigned int i = 0; i < WORKERS; i++)
			busy += workers[i].busy;
	}
	tap_ok(!busy && !dh.ended, "nobody sleeps for ever (%u faults, %u answers)", (unsigned int)demand_stat(dh.d).faults, answers);
	if (busy || dh.ended)
		printf("# %u sleep, ended by %d; reason %u err %d\n", busy, dh.ended, dh.h.refused.reason, dh.h.refused.err);
	tap_eq(wrong_words, 0, "every word is the guest's of then");
}

static void test_threads(void)
{
	begin(WORKERS, 3000, 20);
	dh.delay = 3;
	work_begin();
	while (answers < 6000 && !dh.ended)
		dh_round(100);
	work_end();
	mirror_is_right("after 6000 touches by six executors");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

/* --- drops ------------------------------------------------------------------------------------------------------- */

static struct ds_shadow_range dropping[40];
static uint64_t ndropping;

/* The guest's pages of the ranges get other frames, or go. */
static void change(void)
{
	for (unsigned int g = 0; g < dh.nregions; g++) {
		for (uint64_t i = 0; i < ndropping; i++) {
			for (uint64_t vpn = dropping[i].vpn; vpn < dropping[i].vpn + dropping[i].npages; vpn++) {
				struct dh_region *r = &dh.regions[g];
				const uint64_t k = vpn - r->vpn;

				if (k >= r->npages)
					continue;
				memmove(&history[g][k][1], &history[g][k][0], (PAST - 1) * sizeof(history[g][k][0]));
				history[g][k][0] = (struct past){r->pages[k], drop_now};
				r->pages[k] = (struct dh_page){(uint32_t)host_random(RAM_PAGES), host_random(10) ? RW : 0};
			}
		}
	}
}

static void drop_some(void)
{
	const struct dh_region *r = &dh.regions[host_random(dh.nregions)];
	uint64_t vpn = r->vpn + host_random(r->npages / 4), most = host_random(4) ? 3 : 40;

	if (host_random(2)) {
		vpn = r->vpn + r->npages / 2;
		most = 3;
	}
	for (ndropping = 0; ndropping < most && vpn < r->vpn + r->npages; ndropping++) {
		dropping[ndropping] = (struct ds_shadow_range){vpn, 1 + host_random(40)};
		vpn += dropping[ndropping].npages + host_random(60);
	}
	drop_now++;
	if (!dh_drop(dropping, ndropping, change))
		errx(2, "drop %u failed: ended by %d", drop_now, dh.ended);
	drops_done = drop_now;
}

static void test_drops(bool guarded)
{
	unsigned int before;

	dh.guarded = guarded;
	begin(WORKERS, 3000, 20);
	dh.delay = 5;
	dh.congested = 3;
	drop_now = 0;
	work_begin();
	for (int i = 0; i < (guarded ? 400 : 1500) && !dh.ended; i++) {
		before = answers;
		drop_some();
		for (int k = (int)host_random(4); k && answers < before + 4; k--)
			dh_round(10);
	}
	work_end();
	tap_ok(demand_stat(dh.d).covers > drops_done / 2, "%u drops, %u coverings%s", drops_done, (unsigned int)demand_stat(dh.d).covers,
	       guarded ? ", in a jail and guarded" : "");
	mirror_is_right("after drops under six executors");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

/* A read() is blocked while the page it is to fill is dropped and gets another frame. */
static void test_drop_under_call(void)
{
	const struct ds_shadow_range r = {REGION + 10, 1};
	struct calls_request read_there = {.op = CALLS_SYSCALL, .nr = SYS_read, .args = {0, address(REGION + 10), 8}};
	uint64_t word = 4711;
	uint32_t old, before;

	make_pipe();
	begin(2, 100, 0);
	read_there.args[0] = (uint64_t)pipe_fds[0];
	call(CALLS_FETCH, address(REGION + 10), 0, 0);
	host_message(&dh.h, 1, &read_there, sizeof(read_there));
	before = dh_calls_seq;
	usleep(20000);
	old = dh.regions[0].pages[10].pfn;
	tap_ok(dh_drop(&r, 1, NULL), "a page is dropped that a blocked read() is to fill");
	dh.regions[0].pages[10].pfn = old + 1;
	if (write(pipe_fds[1], &word, sizeof(word)) != sizeof(word))
		err(2, "write");
	tap_ok(dh_until(&dh_calls_seq, before) && dh_calls_answer.result == 8, "the read() ends as if nothing had happened");
	tap_ok(*(uint64_t *)ram_of(10) == 4711 && *(uint64_t *)(dh.h.ram + old * PAGE) == host_word(old),
	       "its bytes are in the page that is there now, not in the one that was");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void change_awaited(void)
{
	dh.regions[0].pages[12].pfn = 1;
	dh.regions[0].pages[40].pfn = 2;
}

/* A guest may give a page only when the drop that has it is done: who waits for the page must not be waited for. */
static void test_drop_of_what_is_awaited(void)
{
	const struct ds_shadow_range r = {REGION, 60};
	struct calls_request fetch = {.op = CALLS_FETCH, .args = {address(REGION + 12)}};
	struct calls_request read_there = {.op = CALLS_SYSCALL, .nr = SYS_read, .args = {0, address(REGION + 40), 8}};
	uint64_t word = 4711;
	bool mapped = true;

	make_pipe();
	begin(3, 100, 0);
	read_there.args[0] = (uint64_t)pipe_fds[0];
	if (write(pipe_fds[1], &word, sizeof(word)) != sizeof(word))
		err(2, "write");
	for (uint64_t k = 0; k < 60; k += 20)
		mapped &= dh_call(2, (struct calls_request){.op = CALLS_FETCH, .args = {address(REGION + k)}}) == 0;
	dh.regions[0].pages[12].attr = dh.regions[0].pages[40].attr = RW;
	tap_ok(dh_drop(&(struct ds_shadow_range){REGION + 12, 1}, 1, NULL) && dh_drop(&(struct ds_shadow_range){REGION + 40, 1}, 1, NULL) && mapped,
	       "pages are mapped, two among them are not");
	dh.held = 1;
	host_message(&dh.h, 0, &fetch, sizeof(fetch));
	while (dh.nasks < 1 && !dh.ended)
		dh_round(10);
	host_message(&dh.h, 1, &read_there, sizeof(read_there));
	while (dh.nasks < 2 && !dh.ended)
		dh_round(10);
	dh_calls_seq = 0;
	tap_ok(dh_drop(&r, 1, change_awaited), "all are dropped while an executor waits for one in C, and another in read()");
	tap_eq(dh_calls_seq, 0, "who go on waiting");
	dh.held = 0;
	for (int i = 0; i < 2; i++) {
		dh_until(&dh_calls_seq, 0);
		dh_calls_seq = 0;
		if (dh_calls_answer.result == 0)
			tap_ok(*(uint64_t *)dh_calls_answer.bytes == host_word(1), "the one gets the page that is there then");
		else
			tap_ok(dh_calls_answer.result == 8 && *(uint64_t *)(dh.h.ram + 2 * PAGE) == word, "so does the other");
	}
	mirror_is_right("after that");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

#define BUFFER_PAGES 256u

static unsigned int writes, bad_writes;
static int sink_fd;

static void write_again(void)
{
	const struct calls_request r = {
		.op = CALLS_SYSCALL, .nr = SYS_pwrite64, .args = {(uint64_t)sink_fd, address(REGION), BUFFER_PAGES * PAGE, 0}};

	host_message(&dh.h, 1, &r, sizeof(r));
}

static void written(const struct ds_shadow_message *m)
{
	struct calls_answer a;

	memcpy(&a, m->payload, sizeof(a));
	writes++;
	if (a.result != BUFFER_PAGES * PAGE && !bad_writes++)
		printf("# write() of %" PRIu64 " bytes said %" PRId64 "\n", (uint64_t)BUFFER_PAGES * PAGE, a.result);
	if (!no_more)
		write_again();
}

/* A call is using the very pages that are covered, at any moment of the covering. */
static void test_drops_under_busy_calls(void)
{
	int fd = memfd_create("sink", 0);

	sink_fd = fcntl(fd, F_DUPFD, 100);
	close(fd);
	begin(2, BUFFER_PAGES, 0);
	writes = bad_writes = 0;
	no_more = false;
	dh.message = written;
	write_again();
	for (int i = 0; i < 3000 && !dh.ended; i++) {
		const struct ds_shadow_range r = {REGION + host_random(BUFFER_PAGES - 4), 1 + host_random(4)};

		if (!dh_drop(&r, 1, NULL))
			errx(2, "drop %d failed: ended by %d", i, dh.ended);
		for (unsigned int before = writes + (unsigned int)host_random(2); writes < before && !dh.ended;)
			dh_round(10);
	}
	no_more = true;
	dh_round(100);
	tap_ok(writes > 100 && !bad_writes, "a call whose memory is dropped under it 3000 times notices nothing (%u calls, %u did)", writes,
	       bad_writes);
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
	close(sink_fd);
}

/* --- moves ------------------------------------------------------------------------------------------------------- */

#define MOVES 1500
#define MOVES_GUARDED 300

/* Each update puts a mapping of the guest where the capsule is; six executors are in faults and between them. */
static void test_moves(bool guarded)
{
	const int n = guarded ? MOVES_GUARDED : MOVES;
	unsigned int still = 0;
	uint64_t moves;

	dh.guarded = guarded;
	begin(WORKERS, 2000, 30);
	populate(dh_region(REGION + 4000, 300), 10);
	dh.delay = 4;
	drop_now = 0;
	work_begin();
	for (int i = 0; i < n && !dh.ended; i++) {
		updating = true;
		for (unsigned int k = 0; k < WORKERS; k++)
			workers[k].update = true;
		/* what moves is dropped, as in a guest */
		moves = dh.h.status.moves;
		dropping[0] = (struct ds_shadow_range){dh.regions[1].vpn, dh.regions[1].npages};
		if (!dh_drop(dropping, 1, NULL))
			errx(2, "drop %d failed: ended by %d", i, dh.ended);
		dh.regions[1].vpn = dh.h.status.capsule.vpn + host_random(dh.h.status.capsule.npages + 200) - 200;
		if (!dh_update())
			errx(2, "move %d: ended by %d, reason %u err %d index %" PRIu64, i, dh.ended, dh.h.refused.reason, dh.h.refused.err,
			     dh.h.refused.index);
		updating = false;
		still += dh.h.status.moves == moves;
		if (host_random(4) == 0)
			drop_some();
		dh_round(1);
	}
	work_end();
	tap_eq(still, 0, "every one of %d updates that land on the capsule moves it, whoever waits for pages%s", n,
	       guarded ? ", in a jail and guarded" : "");
	mirror_is_right("after the moves");
	printf("# %u of %u touches found nothing, as their mapping had moved\n", efaults, answers);
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

int main(void)
{
	host_random_state = 4711;
	if (access("/dev/userfaultfd", R_OK | W_OK)) {
		tap_skip("a mirror that faults", "no access to /dev/userfaultfd (Linux 6.1, root)");
		return tap_done();
	}
	test_threads();
	test_drops(false);
	test_drops(true);
	test_drop_under_call();
	test_drop_of_what_is_awaited();
	test_drops_under_busy_calls();
	test_moves(false);
	test_moves(true);
	return tap_done();
}
