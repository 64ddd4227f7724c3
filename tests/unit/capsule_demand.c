/* capsule_demand.c - a mirror that faults, with the real capsule, the host's machine and a guest that is played
 *
 * What a touch should find is told by the guest's page table as the test keeps it (struct dh_page) and by the words that
 * the RAM's pages begin with.
 */
#include <linux/futex.h>

#include "tests/demand_host.h"
#include "tests/tap.h"

#define RAM_PAGES 16384u
#define REGION UINT64_C(0x7f0000000)

static uint64_t address(uint64_t vpn)
{
	return vpn * PAGE;
}

/* Pages of a region with scattered frames, some of them without. */
static void populate(struct dh_region *r, unsigned int holes)
{
	for (uint64_t i = 0; i < r->npages; i++)
		r->pages[i] = (struct dh_page){(uint32_t)host_random(RAM_PAGES), holes && host_random(holes) == 0 ? 0 : RW};
}

static void begin(uint32_t nexecutors, uint64_t npages, unsigned int holes)
{
	host_ram(&dh.h, RAM_PAGES);
	populate(dh_region(REGION, npages), holes);
	if (dh_start("calls", nexecutors, 0) != DS_SHADOW_STATUS)
		errx(2, "no capsule: reason %u err %d", dh.h.refused.reason, dh.h.refused.err);
}

static int64_t call(uint32_t op, uint64_t a, uint64_t b, uint64_t c)
{
	return dh_call(0, (struct calls_request){.op = op, .args = {a, b, c}});
}

static void test_pages(void)
{
	unsigned int wrong = 0, holes = 0, bad_holes = 0;
	struct dh_region *r;

	begin(1, 1000, 10);
	r = &dh.regions[0];
	for (int i = 0; i < 3000; i++) {
		const uint64_t k = host_random(1000);
		const int64_t got = call(CALLS_FETCH, address(REGION + k), 0, 0);
		uint64_t word;

		memcpy(&word, dh_calls_answer.bytes, sizeof(word));
		if (r->pages[k].attr)
			wrong += got != 0 || word != host_word(r->pages[k].pfn);
		else
			holes++, bad_holes += got != -EFAULT;
	}
	tap_eq(wrong, 0, "every page that is touched, in any order, is the guest's");
	tap_ok(holes && !bad_holes, "a page that the guest does not have is EFAULT for shadow_fetch() (%u times)", holes);
	tap_eq(call(CALLS_FETCH, address(REGION + 1000), 0, 0), -EFAULT, "and so is what is in no mapping of the guest");
	tap_eq(call(CALLS_COVERED, address(REGION), PAGE, 0), r->pages[0].attr ? (int64_t)PAGE : 0, "shadow_covered() says what can be touched");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

/* --- system calls on addresses that fault ------------------------------------------------------------------------- */

static int pipe_fds[2]; /* the capsule inherits them, above the numbers that it uses itself */

static void make_pipe(void)
{
	int fds[2];

	if (pipe(fds))
		err(2, "pipe");
	for (int i = 0; i < 2; i++) {
		pipe_fds[i] = fcntl(fds[i], F_DUPFD, 100 + i);
		close(fds[i]);
	}
}

static int64_t syscall_at(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return dh_call(0, (struct calls_request){.op = CALLS_SYSCALL, .nr = nr, .args = {a, b, c, d}});
}

static uint8_t *ram_of(uint64_t k)
{
	return dh.h.ram + dh.regions[0].pages[k].pfn * PAGE;
}

static void test_syscalls(void)
{
	static char data[3 * PAGE], back[3 * PAGE];
	const struct timespec soon = {0, 1000000};
	uint32_t word;
	bool good;

	make_pipe();
	begin(1, 1000, 0);
	for (unsigned int i = 0; i < 1000; i++) /* so that what a call wrote is told from what was there */
		dh.regions[0].pages[i].pfn = i;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 4096);
	if (write(pipe_fds[1], data, sizeof(data)) != (ssize_t)sizeof(data))
		err(2, "write");
	tap_eq(syscall_at(SYS_read, (uint64_t)pipe_fds[0], address(REGION + 100) + 2000, sizeof(data), 0), (int64_t)sizeof(data),
	       "read() into four pages that are not there yet");
	good = true;
	for (size_t i = 0; i < sizeof(data); i++)
		good &= ram_of(100 + (2000 + i) / PAGE)[(2000 + i) % PAGE] == (uint8_t)data[i];
	tap_ok(good, "the bytes are in the guest's memory");
	for (size_t i = 0; i < sizeof(data); i++)
		ram_of(200 + (100 + i) / PAGE)[(100 + i) % PAGE] = (uint8_t)data[i];
	tap_eq(syscall_at(SYS_write, (uint64_t)pipe_fds[1], address(REGION + 200) + 100, sizeof(data), 0), (int64_t)sizeof(data),
	       "write() from pages that are not there yet");
	tap_ok(read(pipe_fds[0], back, sizeof(back)) == (ssize_t)sizeof(back) && !memcmp(back, data, sizeof(back)), "the bytes are right");
	word = (uint32_t)host_word(300);
	tap_eq(syscall_at(SYS_futex, address(REGION + 300), FUTEX_WAIT, word + 1, 0), -EAGAIN, "a shared futex word is read there");
	tap_eq(syscall_at(SYS_futex, address(REGION + 330), FUTEX_WAIT_PRIVATE, 1, 0), -EAGAIN, "and a private one");
	memcpy(ram_of(400) + 8, &soon, sizeof(soon));
	tap_eq(syscall_at(SYS_nanosleep, address(REGION + 400) + 8, 0, 0, 0), 0, "nanosleep() finds its time there");
	dh.regions[0].pages[501].attr = 0;
	tap_eq(syscall_at(SYS_write, (uint64_t)pipe_fds[1], address(REGION + 501), 100, 0), -EFAULT, "a page that the guest has not is EFAULT");
	tap_eq(syscall_at(SYS_write, (uint64_t)pipe_fds[1], address(REGION + 1000), 100, 0), -EFAULT, "so is memory of nobody");
	dh.regions[0].pages[600].attr = RLE_ATTR_READ;
	tap_eq(call(CALLS_FETCH, address(REGION + 600), 0, 0), 0, "a page that may only be read is read");
	tap_eq(call(CALLS_PUT, address(REGION + 600), 1, 0), -EFAULT, "and not written");
	tap_eq(call(CALLS_PUT, address(REGION + 700), 77, 0), 0, "one that may be is");
	tap_eq(*(uint64_t *)ram_of(700), 77, "in the guest");
	host_message(&dh.h, 0, &(struct calls_request){.op = CALLS_LOAD, .args = {address(REGION + 501)}}, sizeof(struct calls_request));
	while (!dh.ended)
		dh_round(100);
	tap_ok(dh.ended == DS_SHADOW_FAULT && dh.fault.address == address(REGION + 501) && dh.fault.signal == SIGSEGV,
	       "a plain access to a page that the guest has not ends the shadow");
	dh_end();
	host_free(&dh.h);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

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

/* What /proc/PID/maps shows of the mirror: the guest's pages of now, pages that fault, holes; nothing elsewhere. */
static const char *look(uint64_t *mappings)
{
	static char text[256];
	uint64_t from, to, offset;
	char path[64], prot[8], name[128], line[512];
	const char *wrong = NULL;
	FILE *f;

	*mappings = 0;
	host_ping(&dh.h);
	snprintf(path, sizeof(path), "/proc/%d/maps", dh.h.pid);
	f = fopen(path, "r");
	while (f && !wrong && fgets(line, sizeof(line), f)) {
		name[0] = 0;
		sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %127s", &from, &to, prot, &offset, name);
		if (!strcmp(name, "[vsyscall]") || (from / PAGE >= dh.h.status.capsule.vpn &&
						    to / PAGE <= dh.h.status.capsule.vpn + dh.h.status.capsule.npages))
			continue;
		++*mappings;
		for (uint64_t vpn = from / PAGE; vpn < to / PAGE && !wrong; vpn++) {
			const struct dh_page *p = dh_page(vpn);

			if (!p)
				wrong = "not in the guest's mappings";
			else if (strncmp(name, "/memfd:ram", 10))
				wrong = !name[0] && (!strcmp(prot, "rw-p") || (!strcmp(prot, "---p") && !p->attr)) ? NULL : "strange";
			else if (!p->attr || p->pfn != offset / PAGE + vpn - from / PAGE || strcmp(prot, model_prot(p->attr)))
				wrong = "not the guest's page";
		}
		if (wrong) {
			snprintf(text, sizeof(text), "%.60s: %.180s", wrong, line);
			wrong = text;
		}
	}
	if (f)
		fclose(f);
	return wrong;
}

static void mirror_is_right(const char *what)
{
	uint64_t mappings;
	const char *wrong = look(&mappings);

	if (!tap_ok(!wrong, "%s: what is mapped is the guest's, all else faults", what))
		printf("# %s\n", wrong);
	tap_ok(mappings <= demand_stat(dh.d).vmas, "it takes no more mappings than were counted (%" PRIu64 " of %" PRIu64 ")", mappings,
	       demand_stat(dh.d).vmas);
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

/* --- updates ----------------------------------------------------------------------------------------------------- */

static void test_update_waits(void)
{
	struct calls_request fetch = {.op = CALLS_FETCH, .args = {address(REGION + 5)}};
	const struct ds_shadow_range mapped = {REGION + 50, 1};
	struct ds_shadow_update update;
	struct ds_shadow_range ranges[DH_REGIONS];
	uint64_t n;
	uint32_t before, answered;
	int fd;

	begin(2, 100, 0);
	call(CALLS_FETCH, address(REGION + 50), 0, 0);
	dh.held = 1;
	answered = dh_calls_seq;
	host_message(&dh.h, 0, &fetch, sizeof(fetch));
	while (!dh.nasks)
		dh_round(10);
	populate(dh_region(REGION + 100, 100), 0); /* adjacent: one mapping to the kernel */
	n = dh_ranges(ranges);
	update = (struct ds_shadow_update){.head = host_head(&dh.h, DS_SHADOW_UPDATE, sizeof(update))};
	fd = host_data(NULL, 0, ranges, n, &update.data);
	demand_update_begin(dh.d, ranges, n);
	before = dh.done;
	host_send(&dh.h, &update, sizeof(update), &fd, 1);
	close(fd);
	dh.drop_done = demand_drop(dh.d, &mapped, 1) == 1;
	for (int i = 0; i < 20; i++)
		dh_round(5);
	tap_ok(!dh.drop_done, "a drop that comes meanwhile waits for the update");
	tap_ok(dh.done == before && dh_calls_seq == answered, "an update waits for an executor that waits for a page");
	dh.held = 0;
	tap_ok(dh_until(&dh.done, before), "and is made when the page has come");
	demand_update_end(dh.d, true);
	for (int i = 0; i < 100 && !dh.drop_done; i++)
		dh_round(10);
	tap_ok(dh.drop_done, "then the drop");
	demand_drop_end(dh.d);
	dh_until(&dh_calls_seq, answered);
	tap_eq(dh_calls_answer.result, 0, "which the executor has got");
	tap_eq(call(CALLS_FETCH, address(REGION + 199), 0, 0), 0, "pages of the new mapping are there");
	dh.regions[0].unmapped = true;
	tap_ok(dh_update(), "a mapping goes");
	tap_eq(call(CALLS_FETCH, address(REGION + 5), 0, 0), -EFAULT, "its pages are gone");
	dh.regions[0].unmapped = false;
	tap_ok(dh_update(), "and comes again");
	dh.regions[0].pages[5].pfn ^= 1;
	tap_eq(call(CALLS_FETCH, address(REGION + 5), 0, 0), 0, "with pages that are asked for anew");
	tap_ok(*(uint64_t *)dh_calls_answer.bytes == host_word(dh.regions[0].pages[5].pfn), "and are those of now");
	mirror_is_right("after updates");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

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

/* --- more pages than mappings ------------------------------------------------------------------------------------ */

/* Touches @npages pages of region 0, @stride apart, @step with one request.  Return: how many requests were wrong. */
static unsigned int touch_all(uint64_t npages, uint64_t stride, uint64_t step, uint64_t *most)
{
	unsigned int wrong = 0;

	for (uint64_t k = 0; k < npages && !dh.ended; k += step) {
		uint64_t want = 0, n = k + step < npages ? step : npages - k;

		for (uint64_t i = 0; i < n; i++)
			want ^= host_word(dh.regions[0].pages[(k + i) * stride].pfn);
		wrong += call(CALLS_TOUCH, address(REGION + k * stride), n, stride) != (int64_t)want;
		if (demand_stat(dh.d).vmas > *most)
			*most = demand_stat(dh.d).vmas;
	}
	return wrong;
}

static void test_few_mappings(void)
{
	uint64_t most = 0, limit = 1000, asks;

	host_ram(&dh.h, RAM_PAGES);
	populate(dh_region(REGION, 20000), 0);
	if (dh_start("calls", 1, limit) != DS_SHADOW_STATUS)
		errx(2, "no capsule");
	tap_eq(touch_all(5000, 4, 10, &most), 0, "5000 scattered pages through %" PRIu64 " mappings: each is right", limit);
	tap_ok(most <= limit && most > limit / 2, "there are never more (%" PRIu64 ")", most);
	tap_ok(demand_stat(dh.d).evicted_pages > 3000, "pages are evicted (%" PRIu64 ")", demand_stat(dh.d).evicted_pages);
	asks = demand_stat(dh.d).asks;
	tap_eq(touch_all(5000, 4, 10, &most), 0, "a second time");
	tap_eq(demand_stat(dh.d).asks, asks, "without a question to the guest");
	tap_eq(touch_all(20000, 1, 100, &most), 0, "20000 pages in sequence");
	tap_ok(most <= limit, "never more mappings (%" PRIu64 ")", most);
	mirror_is_right("after evictions");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

static void test_many_pages(void)
{
	const uint64_t limit = host_sysctl("/proc/sys/vm/max_map_count"), npages = 40000;
	uint64_t most = 0;

	if (limit > 70000) {
		tap_skip("more pages than vm.max_map_count allows mappings", "the limit is raised here");
		return;
	}
	begin(1, 2 * npages, 0);
	tap_eq(touch_all(npages, 2, 16, &most), 0, "%" PRIu64 " scattered pages, %" PRIu64 " mappings, beyond vm.max_map_count (%" PRIu64 ")",
	       npages, 2 * npages, limit);
	tap_ok(most < limit && demand_stat(dh.d).evicted_pages, "by eviction (%" PRIu64 " pages, %" PRIu64 " mappings at most)",
	       demand_stat(dh.d).evicted_pages, most);
	mirror_is_right("near the kernel's limit");
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
	test_pages();
	test_syscalls();
	test_threads();
	test_drops(false);
	test_drops(true);
	test_drop_under_call();
	test_drops_under_busy_calls();
	test_update_waits();
	test_moves(false);
	test_moves(true);
	test_few_mappings();
	test_many_pages();
	return tap_done();
}
