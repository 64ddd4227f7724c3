/* host_warden_demand.c - a warden and a mirror that faults, with a guest that answers
 *
 * The guest's process is a list of pages in the RAM (lay_out()), each filled with its own words.  The test answers each FAULT
 * from that list, as an agent would, and sees what the service then reads and writes.
 *
 * WARDEN_FUZZ_SECONDS and WARDEN_FUZZ_SEED: as in host_warden_hostile.c.
 */
#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/services/calls.h"
#include "tests/tap.h"
#include "tests/warden_host.h"

static const char lazily[] = "allow program=/bin/x service=calls uid=any mode=demand executors=3 max-pages=290\n"
			     "allow program=/bin/large service=calls uid=any mode=demand executors=3\n";

static struct shadow s;
static unsigned int faults, writes, asked_pages;
static bool absent[HEAP_PAGES]; /* pages that the guest says it has not */
static unsigned int held;	/* questions that are not answered */
static union agent_message held_fault;

static uint64_t word(uint64_t vpn)
{
	return vpn * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void fill(void)
{
	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		*(uint64_t *)(void *)(ram + ram_page(page[i].frame) * PAGE) = word(page[i].vpn);
}

/* Answers a question with what there is of its window. */
static void answer_fault(const struct ds_agent_fault *f)
{
	struct guest_page list[HEAP_PAGES];
	size_t n = 0, bytes;
	void *all;

	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		if (page[i].vpn >= f->window.vpn && page[i].vpn - f->window.vpn < f->window.npages && !absent[i])
			list[n++] = page[i];
	asked_pages += (unsigned int)n;
	all = agent_pages_message(&s.a, f->head.seq, list, n, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
}

/* The next message that is no FAULT.  Return: its kind. */
static int hear(union agent_message *m)
{
	int kind;

	while ((kind = agent_receive(&s.a, m, AGENT_TIMEOUT_MS)) == DS_AGENT_FAULT) {
		faults++;
		writes += m->fault.write;
		if (held) {
			held_fault = *m;
			return kind;
		}
		answer_fault(&m->fault);
	}
	return kind;
}

/* One call of the service.  Return: whether it was answered. */
static bool ask(uint32_t executor, const struct calls_request *request, int64_t *result)
{
	union agent_message m;

	agent_call(&s.a, executor, request, sizeof(*request));
	if (hear(&m) != DS_AGENT_REPLY)
		return false;
	*result = ((struct calls_answer *)(void *)(m.bytes + sizeof(m.reply)))->result;
	return true;
}

static bool load(uint64_t address, uint64_t *value)
{
	const struct calls_request request = {.op = CALLS_LOAD, .args = {address}};

	return ask(0, &request, (int64_t *)value);
}

static bool start_program(const char *program, const struct warden_times *times)
{
	struct ds_agent_hello hello;
	struct ds_agent_attach msg;
	size_t bytes;
	void *all;

	faults = writes = asked_pages = held = 0;
	memset(absent, 0, sizeof(absent));
	shadow_start(&s, &(struct shadow_want){.policy = lazily, .times = *times});
	hello = agent_hello(&s.a);
	agent_ask(&s.a, &hello, sizeof(hello), false);
	msg = agent_attach(&s.a, program, "calls", DS_AGENT_DEMAND);
	all = agent_attach_message(&msg, NULL, 0, &heap_range, 1, &bytes);
	if (agent_ask(&s.a, all, bytes, true) == DS_AGENT_STARTED)
		return true;
	printf("# %s\n", s.a.refused.text);
	return false;
}

static bool start_demand(const struct warden_times *times)
{
	return start_program("/bin/x", times);
}

/* Waits for the end.  Return: whether it came for this reason. */
static bool ended(uint32_t code, const char *words)
{
	union agent_message m;
	int kind;

	do
		kind = hear(&m);
	while (kind == DS_AGENT_REPLY || kind == DS_AGENT_FAULT);
	printf("# %s\n", s.a.refused.text);
	return kind == DS_AGENT_ENDED && s.a.refused.code == code && strstr(s.a.refused.text, words) && shadow_end(&s) == 1;
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void test_faults(void)
{
	struct calls_request request = {.op = CALLS_SYSCALL, .nr = SYS_write, .args = {99, 0, PAGE}};
	struct warden_view view;
	unsigned int wrong = 0;
	uint64_t value = 0;
	int64_t result;

	if (!tap_ok(start_demand(&(struct warden_times){0}), "a shadow stands before a page of the process is known"))
		exit(tap_done());
	tap_ok(load(HEAP_VPN * PAGE, &value) && value == word(HEAP_VPN) && faults == 1,
	       "the first touch asks the guest, and finds the page");
	for (uint32_t i = 0; i < 280; i++)
		wrong += !load(page[i].vpn * PAGE, &value) || value != word(page[i].vpn);
	tap_eq(wrong, 0, "280 pages hold what the process has there");
	tap_ok(faults > 1 && faults < 40, "neighbours came along: %u questions", faults);
	request = (struct calls_request){.op = CALLS_STORE, .args = {page[5].vpn * PAGE + 8, 77}};
	tap_ok(ask(1, &request, &result) && *(uint64_t *)(void *)(ram + ram_page(page[5].frame) * PAGE + 8) == 77,
	       "a store is seen by the guest");
	view = shadow_view_after(&s, 282);
	tap_ok(view.mode == DS_AGENT_DEMAND && view.faults == faults && view.fault_pages == asked_pages &&
		       view.pages >= 280 && view.guarded_calls > 0 && !view.denied_calls,
	       "the status counts them: %llu pages in %llu mappings", (unsigned long long)view.pages,
	       (unsigned long long)view.vmas);
	tap_eq(shadow_end(&s), 0, "the end");
	shadow_free(&s);
}

/* A system call that reads the word at @address, and finds that it is not 0 (futex(2), FUTEX_WAIT). */
static int64_t futex_at(uint64_t address)
{
	const struct calls_request request = {
		.op = CALLS_SYSCALL, .nr = SYS_futex, .args = {address, FUTEX_WAIT_PRIVATE, 0, 0}};
	int64_t result = 0;

	return ask(0, &request, &result) ? result : 0;
}

static void test_holes(void)
{
	const struct calls_request touch = {.op = CALLS_LOAD, .args = {page[3].vpn * PAGE}};

	start_demand(&(struct warden_times){0});
	tap_eq(futex_at(page[20].vpn * PAGE), -EAGAIN, "a system call touches a page, the guest names it, the call goes on");
	absent[3] = true;
	tap_eq(futex_at(page[3].vpn * PAGE), -EFAULT, "a page that the guest has not is EFAULT to it");
	agent_call(&s.a, 0, &touch, sizeof(touch));
	tap_ok(ended(DS_AGENT_C_GONE, "not there"), "and to the service itself the end");
	shadow_free(&s);
}

/*
 * The warden and the capsule share the userfaultfd's file.  A capsule that made it block and took the event for which the
 * warden was woken would hold the warden in read(), and with it the guest's next drop.
 */
static void test_shared_file(void)
{
	static const struct {
		const char *what;
		int64_t nr;
		uint64_t args[3];
	} list[] = {
		{"made to block", SYS_fcntl, {DS_SHADOW_FAULT_FD, F_SETFL, 0}},
		{"made to block by ioctl()", SYS_ioctl, {DS_SHADOW_FAULT_FD, 0x5421 /* FIONBIO */, 0}},
		{"asked for another interface", SYS_ioctl, {DS_SHADOW_FAULT_FD, 0xc018aa3f /* UFFDIO_API */, 0}},
		{"filled by itself", SYS_ioctl, {DS_SHADOW_FAULT_FD, 0xc028aa03 /* UFFDIO_COPY */, 0}},
		{"read", SYS_read, {DS_SHADOW_FAULT_FD, HEAP_VPN * PAGE, 32}},
		{"read at a place", SYS_pread64, {DS_SHADOW_FAULT_FD, HEAP_VPN * PAGE, 32}},
		{"received from", SYS_recvmsg, {DS_SHADOW_FAULT_FD, HEAP_VPN * PAGE, 0}},
		{"closed", SYS_close, {DS_SHADOW_FAULT_FD}},
		{"given another number", SYS_dup, {DS_SHADOW_FAULT_FD}},
	};
	uint64_t value;

	start_demand(&(struct warden_times){0});
	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		struct calls_request request = {.op = CALLS_SYSCALL, .nr = list[i].nr};
		int64_t result = 0;

		memcpy(request.args, list[i].args, sizeof(list[i].args));
		tap_ok(ask(0, &request, &result) && result == -EPERM, "the userfaultfd is not %s by a capsule: %" PRId64, list[i].what, result);
	}
	tap_ok(load(HEAP_VPN * PAGE, &value) && value == word(HEAP_VPN), "and faults are answered");
	tap_eq(shadow_end(&s), 0, "the end");
	shadow_free(&s);
}

/* How many pages of the RAM the capsule has mapped in a range. */
static uint64_t mapped(uint64_t first, uint64_t npages)
{
	uint64_t from, to, pages = 0, ino;
	char path[64], line[512];
	struct stat st;
	FILE *f;

	fstat(ram_fd, &st);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)s.a.started.host_pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %" SCNu64, &from, &to, &ino) == 3 && ino == st.st_ino)
			for (uint64_t vpn = from / PAGE; vpn < to / PAGE; vpn++)
				pages += vpn - first < npages;
	if (f)
		fclose(f);
	return pages;
}

static void test_changes(void)
{
	const struct ds_agent_range some = part(0, 8), shorter = {HEAP_VPN + 4, HEAP_PAGES - 4};
	union agent_message m;
	unsigned int before;
	uint64_t value;
	size_t bytes;
	void *all;

	start_demand(&(struct warden_times){0});
	for (uint32_t i = 0; i < 40; i++)
		load(page[i].vpn * PAGE, &value);
	tap_ok(mapped(HEAP_VPN, 40) == 40, "forty pages have been touched");
	all = agent_drop_message(&s.a, &some, 1, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
	tap_ok(hear(&m) == DS_AGENT_DONE && mapped(HEAP_VPN, 8) == 0 && mapped(HEAP_VPN, 40) == 32,
	       "eight are dropped, and only those");
	before = faults;
	page[2].frame = ram_frame(1990);
	fill();
	tap_ok(load(page[2].vpn * PAGE, &value) && value == word(page[2].vpn) && faults == before + 1 &&
		       *(uint64_t *)(void *)(ram + 1990 * PAGE) == value,
	       "touched again they are asked for again, and are other frames");

	all = agent_update_message(&s.a, NULL, 0, false, &shorter, 1, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
	tap_ok(hear(&m) == DS_AGENT_DONE && mapped(HEAP_VPN, 4) == 0,
	       "a mapping becomes shorter: nothing of the RAM is left there");
	tap_ok(load(page[30].vpn * PAGE, &value) && value == word(page[30].vpn), "the rest is there");

	/* executors that wait for a page do not keep a drop from being done */
	held = 1;
	agent_call(&s.a, 1, &(struct calls_request){.op = CALLS_LOAD, .args = {page[250].vpn * PAGE}},
		   sizeof(struct calls_request));
	tap_eq(hear(&m), DS_AGENT_FAULT, "an executor waits for a page");
	held = 0;
	all = agent_drop_message(&s.a, &(struct ds_agent_range){HEAP_VPN + 20, 4}, 1, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
	usleep(20000);
	answer_fault(&held_fault.fault);
	{
		int first = hear(&m), second = hear(&m);

		tap_ok((first == DS_AGENT_DONE && second == DS_AGENT_REPLY) ||
			       (first == DS_AGENT_REPLY && second == DS_AGENT_DONE),
		       "a drop that comes meanwhile and the call are both answered");
	}
	tap_eq(mapped(HEAP_VPN + 20, 4), 0, "the dropped pages are gone");
	for (int i = 0; i < 30; i++) {
		all = agent_drop_message(&s.a, &(struct ds_agent_range){HEAP_VPN + 40 + (uint64_t)i, 5}, 1, &bytes);
		agent_write(&s.a, all, bytes);
		free(all);
		if (hear(&m) != DS_AGENT_DONE || mapped(HEAP_VPN + 40 + (uint64_t)i, 5) ||
		    !load((HEAP_VPN + 42 + (uint64_t)i) * PAGE, &value) || value != word(HEAP_VPN + 42 + (uint64_t)i))
			held++;
	}
	tap_eq(held, 0, "dropped and touched again and again");

	/* many changes at once, and behind them the answer that the first one waits for */
	held = 1;
	agent_call(&s.a, 1, &(struct calls_request){.op = CALLS_LOAD, .args = {page[200].vpn * PAGE}}, sizeof(struct calls_request));
	hear(&m);
	held = 0;
	for (uint64_t i = 0; i < 12; i++) {
		all = agent_drop_message(&s.a, &(struct ds_agent_range){HEAP_VPN + 40 + i, 3}, 1, &bytes);
		agent_write(&s.a, all, bytes);
		free(all);
	}
	usleep(20000);
	answer_fault(&held_fault.fault);
	before = 0;
	for (int i = 0; i < 13; i++)
		before += hear(&m) == DS_AGENT_DONE;
	tap_ok(before == 12 && !mapped(HEAP_VPN + 40, 14) && s.a.refused.code == 0, "twelve drops in a row, and the fault that the first waits for");
	tap_eq(shadow_end(&s), 0, "the end");
	shadow_free(&s);
}

static void test_lies(void)
{
	const struct calls_request touch = {.op = CALLS_LOAD, .args = {page[100].vpn * PAGE}};
	struct guest_page list[2];
	union agent_message m;
	size_t bytes;
	void *all;

	for (int i = 0; i < 4; i++) {
		static const struct {
			uint32_t code;
			const char *words, *what;
		} lie[4] = {{DS_AGENT_C_MAP, "outside the VM", "a frame that the VM has not"},
			    {DS_AGENT_C_MESSAGE, "another place", "pages outside of the window"},
			    {DS_AGENT_C_MESSAGE, "not asked", "an answer to no question"},
			    {DS_AGENT_C_MAP, "not valid", "a map that is none"}};

		start_demand(&(struct warden_times){0});
		held = 1;
		agent_call(&s.a, 0, &touch, sizeof(touch));
		hear(&m);
		list[0] = page[100];
		if (i == 0)
			list[0].frame = HIGH_FRAME * 7;
		if (i == 1)
			list[0].vpn = m.fault.window.vpn + m.fault.window.npages;
		all = agent_pages_message(&s.a, m.head.seq + (i == 2), list, 1, &bytes);
		if (i == 3)
			((uint8_t *)all)[60] ^= 1;
		agent_write(&s.a, all, bytes);
		free(all);
		tap_ok(ended(lie[i].code, lie[i].words), "the guest answers with %s", lie[i].what);
		shadow_free(&s);
	}
	start_demand(&(struct warden_times){.fault_ms = 200});
	held = 1;
	agent_call(&s.a, 0, &touch, sizeof(touch));
	tap_ok(ended(DS_AGENT_C_TIMEOUT, "did not answer a fault"), "the guest does not answer");
	shadow_free(&s);

	start_demand(&(struct warden_times){0});
	for (uint32_t i = 0; i < HEAP_PAGES; i++) {
		uint64_t value;

		if (!load(page[i].vpn * PAGE, &value))
			break;
	}
	tap_ok(s.a.refused.code == DS_AGENT_C_LIMIT && strstr(s.a.refused.text, "290 pages"),
	       "more pages than the policy allows: %s", s.a.refused.text);
	tap_eq(shadow_end(&s), 1, "end it");
	shadow_free(&s);
}

/*
 * Under a rule that allows any number of pages: no message of a mirror that faults is longer than what a window and all
 * mappings need, and who begins one is not read to its end.  UPDATEs that wait aside are held in memory whole.
 */
static void test_long(void)
{
	const uint64_t map_bytes = 32 << 20;
	struct ds_agent_update msg;

	start_program("/bin/large", &(struct warden_times){0});
	msg = (struct ds_agent_update){.head = agent_head(&s.a, DS_AGENT_UPDATE, sizeof(msg) + map_bytes), .map_bytes = map_bytes};
	agent_write(&s.a, &msg, sizeof(msg));
	tap_ok(ended(DS_AGENT_C_LIMIT, "longer than"), "an UPDATE with a map of 32 MiB is refused when it begins: %s", s.a.refused.text);
	shadow_free(&s);
}

/* --- made up ----------------------------------------------------------------------------------------------------- */

#define EXECUTORS 3

static struct {
	uint64_t free_frame[RAM_PAGES];
	uint32_t nfree;
	uint64_t loading[EXECUTORS]; /* the page that an executor reads; 0: it is idle */
	struct ds_agent_fault fault[64];
	uint32_t nfaults;
	struct ds_agent_range dropping; /* npages 0: nothing */
	unsigned int loads, drops, wrong;
} play;

/* Frames that no page has, so that one that is given up is not used again at once. */
static void play_begin(void)
{
	bool used[RAM_PAGES] = {0};

	memset(&play, 0, sizeof(play));
	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		used[ram_page(page[i].frame)] = true;
	for (uint64_t n = 0; n < RAM_PAGES; n++)
		if (!used[n])
			play.free_frame[play.nfree++] = ram_frame(n);
	fill();
}

/* The host says that the shadow has the dropped pages no more: their frames get other contents, the pages other frames. */
static void play_dropped(void)
{
	if (mapped(play.dropping.vpn, play.dropping.npages))
		play.wrong++;
	for (uint64_t vpn = play.dropping.vpn; vpn < play.dropping.vpn + play.dropping.npages; vpn++) {
		struct guest_page *p = &page[vpn - HEAP_VPN];
		uint64_t *swap = &play.free_frame[(uint32_t)rand() % play.nfree];
		const uint64_t was = p->frame;

		memset(ram + ram_page(was) * PAGE, 0xee, 8);
		p->frame = *swap;
		*swap = was;
		*(uint64_t *)(void *)(ram + ram_page(p->frame) * PAGE) = word(vpn);
	}
	play.dropping.npages = 0;
	play.drops++;
}

/* Takes a message if there is one.  Return: false: the shadow has ended. */
static bool play_hear(int timeout_ms)
{
	union agent_message m;
	uint64_t value;

	switch (agent_receive(&s.a, &m, timeout_ms)) {
	case -1: return true;
	case DS_AGENT_FAULT:
		if (play.nfaults == 64)
			return false;
		play.fault[play.nfaults++] = m.fault;
		return true;
	case DS_AGENT_DONE: play_dropped(); return true;
	case DS_AGENT_REPLY:
		memcpy(&value, m.bytes + sizeof(m.reply), sizeof(value));
		play.wrong += m.reply.executor >= EXECUTORS || value != word(play.loading[m.reply.executor]);
		play.loading[m.reply.executor] = 0;
		play.loads++;
		return true;
	default: printf("# %s\n", s.a.refused.text); return false;
	}
}

/* One of the things that an agent does, at any time. */
static void play_step(void)
{
	const uint32_t x = (uint32_t)rand() % EXECUTORS, i = play.nfaults ? (uint32_t)rand() % play.nfaults : 0;
	const uint64_t vpn = HEAP_VPN + (uint64_t)rand() % 200;
	size_t bytes;
	void *all;

	switch (rand() % 4) {
	case 0:
		if (!play.dropping.npages) {
			play.dropping = (struct ds_agent_range){vpn, 1 + (uint64_t)rand() % 30};
			all = agent_drop_message(&s.a, &play.dropping, 1, &bytes);
			agent_write(&s.a, all, bytes);
			free(all);
		}
		break;
	case 1:
		if (play.nfaults) { /* the oldest first, or not */
			const struct ds_agent_fault f = play.fault[i];

			play.fault[i] = play.fault[--play.nfaults];
			answer_fault(&f);
		}
		break;
	default:
		if (!play.loading[x]) {
			const struct calls_request request = {.op = CALLS_LOAD, .args = {vpn * PAGE}};

			play.loading[x] = vpn;
			agent_call(&s.a, x, &request, sizeof(request));
		}
	}
}

static void test_made_up(void)
{
	const char *seconds = getenv("WARDEN_FUZZ_SECONDS"), *given = getenv("WARDEN_FUZZ_SEED");
	unsigned int seed = given ? (unsigned int)strtoul(given, NULL, 0) : (unsigned int)time(NULL);
	const time_t end = time(NULL) + (seconds ? atoi(seconds) : 2);
	unsigned int loads = 0, drops = 0;
	bool ok = true;

	do {
		srand(seed++);
		ok = start_program("/bin/large", &(struct warden_times){0});
		play_begin();
		for (int i = 0; ok && i < 400; i++) {
			play_step();
			ok = play_hear(rand() % 3 ? 0 : 1) && !play.wrong;
		}
		/* let everything come to its end */
		for (int i = 0; ok && i < 2000 && (play.loading[0] || play.loading[1] || play.loading[2] || play.dropping.npages); i++) {
			while (play.nfaults)
				answer_fault(&play.fault[--play.nfaults]);
			ok = play_hear(20) && !play.wrong;
		}
		ok = ok && !play.loading[0] && !play.loading[1] && !play.loading[2] && !play.dropping.npages;
		ok = shadow_end(&s) == 0 && ok;
		if (!ok)
			shadow_logged(&s, "(all of it)");
		shadow_free(&s);
		loads += play.loads;
		drops += play.drops;
	} while (ok && time(NULL) < end);
	if (!tap_ok(ok, "%u touches by three executors, %u drops, answers in any order: each touch finds what the page holds", loads, drops))
		printf("# again: WARDEN_FUZZ_SEED=%u\n", seed - 1);
}

int main(void)
{
	const int fds = (prctl(PR_SET_CHILD_SUBREAPER, 1), ram_make(), lay_out(), fill(), open_fds(getpid()));

	if (access("/dev/userfaultfd", R_OK | W_OK)) {
		tap_skip("mirrors that fault", "no /dev/userfaultfd here");
		return tap_done();
	}
	test_faults();
	test_holes();
	test_shared_file();
	test_changes();
	test_lies();
	test_long();
	test_made_up();
	tap_eq(left_processes(), 0, "no process is left");
	tap_eq(open_fds(getpid()), fds, "no descriptor is left");
	return tap_done();
}
