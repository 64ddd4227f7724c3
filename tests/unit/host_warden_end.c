/* host_warden_end.c - how shadows are refused and how they end: each way with its reason, and nothing is left behind
 *
 * Each case is a warden of its own.  For each: what the guest is told, what the log says, the exit status, and that
 * warden, capsule and stream are gone afterwards.
 */
#include <sys/syscall.h>
#include <xxhash.h>

#include "tests/services/calls.h"
#include "tests/tap.h"
#include "tests/warden_host.h"

/* --- refused ----------------------------------------------------------------------------------------------------- */

/* Everything that an ATTACH is made of, for a case to spoil. */
struct offer {
	struct ds_agent_attach attach;
	struct guest_page list[HEAP_PAGES];
	size_t npages;
	struct ds_agent_range ranges[2];
	size_t nranges;
	const char *policy;
	bool sign; /* make the checksums right again after changes of the blob */
	void (*blob)(struct rle_map_header *h, struct rle_run *run);
};

#define SPOIL(name, ...)                                                                                                         \
	static void name(struct offer *o)                                                                                        \
	{                                                                                                                        \
		__VA_ARGS__                                                                                                      \
	}
SPOIL(nothing, (void)o;)
SPOIL(other_service, strcpy(o->attach.service, "forward");)
SPOIL(path_service, strcpy(o->attach.service, "../checksum");)
SPOIL(no_service, o->attach.service[0] = 0;)
SPOIL(missing_service, strcpy(o->attach.service, "no-such");)
SPOIL(other_program, strcpy(o->attach.program, "/usr/bin/guest2");)
SPOIL(nasty_program, strcpy(o->attach.program, "/tmp/\n<3>all is well\033[2J");)
SPOIL(other_mode, o->attach.mode = DS_AGENT_DEMAND;)
SPOIL(other_uid, o->attach.uid = 0;)
SPOIL(too_many_pages, o->policy = "allow program=** service=checksum uid=any max-pages=299";)
SPOIL(kernel_range, o->ranges[0].npages = UINT64_C(1) << 40;)
SPOIL(frame_between, o->list[2].frame = LOW_PAGES + 5;)
SPOIL(frame_beyond, o->list[299].frame = HIGH_FRAME + RAM_PAGES;)
static uint64_t min_vpn; /* vm.mmap_min_addr in pages: 1 or more on any kernel that is not asking for it */
SPOIL(low_page, o->list[0].vpn = min_vpn - 1;)
SPOIL(page_zero, o->list[0].vpn = 0;)

static void end_of_user(struct rle_map_header *h, struct rle_run *run)
{
	run[h->nruns - 1].vpn.n = (UINT64_C(0x7ffffffff000) >> 12);
}
static void kernel_half(struct rle_map_header *h, struct rle_run *run)
{
	run[h->nruns - 1].vpn.n = UINT64_C(0xffff888000000000) >> 12;
}
static void overlapping(struct rle_map_header *h, struct rle_run *run)
{
	(void)h;
	run[1].vpn.n = run[0].vpn.n;
}
static void empty_run(struct rle_map_header *h, struct rle_run *run)
{
	run[0].npages = 0;
	h->npages -= 4;
}
static void huge_run(struct rle_map_header *h, struct rle_run *run)
{
	h->npages += UINT32_MAX - run[h->nruns - 1].npages;
	run[h->nruns - 1].npages = UINT32_MAX;
}
static void host_space(struct rle_map_header *h, struct rle_run *run)
{
	(void)run;
	h->space = RLE_SPACE_HOST;
}
static void file_space(struct rle_map_header *h, struct rle_run *run)
{
	(void)run;
	h->space = RLE_SPACE_FILE;
}
static void coarse_split(struct rle_map_header *h, struct rle_run *run)
{
	(void)run;
	h->split = RLE_SPLIT_PROT;
}
static void more_runs(struct rle_map_header *h, struct rle_run *run)
{
	(void)run;
	h->nruns += UINT64_C(1) << 60;
}
static void damaged(struct rle_map_header *h, struct rle_run *run)
{
	(void)h;
	run[0].pfn.n ^= 1;
}
SPOIL(blob_end_of_user, o->blob = end_of_user; o->sign = true;)
SPOIL(blob_kernel_half, o->blob = kernel_half; o->sign = true;)
SPOIL(blob_overlapping, o->blob = overlapping; o->sign = true;)
SPOIL(blob_empty_run, o->blob = empty_run; o->sign = true;)
SPOIL(blob_huge_run, o->blob = huge_run; o->sign = true;)
SPOIL(blob_host_space, o->blob = host_space; o->sign = true;)
SPOIL(blob_file_space, o->blob = file_space; o->sign = true;)
SPOIL(blob_coarse_split, o->blob = coarse_split; o->sign = true;)
SPOIL(blob_more_runs, o->blob = more_runs; o->sign = true;)
SPOIL(blob_damaged, o->blob = damaged;)

static const struct {
	const char *what;
	void (*spoil)(struct offer *o);
	uint32_t code; /* 0: it is accepted */
	const char *words;
} refused[] = {
	{"nothing is wrong", nothing, 0, ""},
	{"a service that no rule grants", other_service, DS_AGENT_C_POLICY, "policy does not give it service forward"},
	{"a service that is a path", path_service, DS_AGENT_C_POLICY, "no name of a service"},
	{"no service", no_service, DS_AGENT_C_POLICY, "no name of a service"},
	{"a service that the host has not", missing_service, DS_AGENT_C_SHADOW, "the host has no service no-such"},
	{"another program", other_program, DS_AGENT_C_POLICY, "policy does not give"},
	{"a program that wants to write into the log", nasty_program, DS_AGENT_C_POLICY, "policy does not give"},
	{"a mode that no rule grants", other_mode, DS_AGENT_C_POLICY, "on demand"},
	{"a user whom a rule denies it", other_uid, DS_AGENT_C_POLICY, "policy does not give"},
	{"more pages than the rule allows", too_many_pages, DS_AGENT_C_LIMIT, "300 pages and the policy allows 299"},
	{"a mapping in the kernel half", kernel_range, DS_AGENT_C_MESSAGE, "user half"},
	{"a frame between two ranges of the RAM", frame_between, DS_AGENT_C_MAP, "outside the VM's memory"},
	{"a frame beyond the RAM", frame_beyond, DS_AGENT_C_MAP, "outside the VM's memory"},
	{"the last page below vm.mmap_min_addr", low_page, DS_AGENT_C_MAP, "vm.mmap_min_addr"},
	{"page zero", page_zero, DS_AGENT_C_MAP, "run 0 of the map, at 0x0,"},
	{"the last page of the user half that is none", blob_end_of_user, DS_AGENT_C_MAP, "user half"},
	{"a page of the kernel half", blob_kernel_half, DS_AGENT_C_MAP, "not valid"},
	{"runs that overlap", blob_overlapping, DS_AGENT_C_MAP, "not valid"},
	{"a run of no pages", blob_empty_run, DS_AGENT_C_MAP, "not valid"},
	{"a run of 16 TiB", blob_huge_run, DS_AGENT_C_LIMIT, "policy allows"},
	{"a map into the host's memory", blob_host_space, DS_AGENT_C_MAP, "guest frames"},
	{"a map into the RAM file", blob_file_space, DS_AGENT_C_MAP, "guest frames"},
	{"a map that hides attributes", blob_coarse_split, DS_AGENT_C_MAP, ""},
	{"a map that says it is longer than it is", blob_more_runs, DS_AGENT_C_MAP, "not valid"},
	{"a map with a wrong checksum", blob_damaged, DS_AGENT_C_MAP, "not valid"},
};

static const char rules[] = "deny uid=0\n"
			    "allow program=/usr/bin/guest service=checksum uid=any mode=eager max-pages=300 # a comment\n"
			    "allow program=/usr/bin/guest service=no-such uid=any\n";

/* Return: the whole message. */
static uint8_t *offer_message(struct offer *o, size_t *bytes)
{
	size_t map_bytes = 0;
	void *map = o->attach.mode == DS_AGENT_EAGER ? agent_map(o->list, o->npages, &map_bytes) : NULL;
	struct rle_map_header *h = map;
	uint8_t *all;

	if (o->blob)
		o->blob(h, (struct rle_run *)(h + 1));
	if (o->sign) {
		h->runs_xxh3 = XXH3_64bits(h + 1, map_bytes - sizeof(*h));
		h->header_xxh3 = XXH3_64bits(h, offsetof(struct rle_map_header, header_xxh3));
	}
	o->attach.nranges = o->nranges;
	o->attach.map_bytes = map_bytes;
	all = agent_join(&o->attach, sizeof(o->attach), o->ranges, o->nranges, map, map_bytes, bytes);
	free(map);
	return all;
}

static void test_refused(void)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		struct offer *o = calloc(1, sizeof(*o));
		struct ds_agent_hello hello;
		struct warden_view view;
		union agent_message m;
		struct shadow s;
		size_t bytes;
		uint8_t *all;
		uint32_t seq;
		int kind;

		*o = (struct offer){.npages = HEAP_PAGES, .ranges = {heap_range}, .nranges = 1, .policy = rules};
		memcpy(o->list, page, sizeof(page));
		o->attach = agent_attach(&(struct agent){.seq = 76}, "/usr/bin/guest", "checksum", DS_AGENT_EAGER);
		seq = o->attach.head.seq;
		refused[i].spoil(o);
		shadow_start(&s, &(struct shadow_want){.policy = o->policy});
		hello = agent_hello(&s.a);
		agent_ask(&s.a, &hello, sizeof(hello), false);
		all = offer_message(o, &bytes);
		kind = agent_ask(&s.a, all, bytes, true);
		if (!refused[i].code) {
			tap_ok(kind == DS_AGENT_STARTED && shadow_end(&s) == 0, "%s: a shadow", refused[i].what);
		} else {
			/* what is malformed is refused before its seq is believed */
			const bool named = refused[i].code != DS_AGENT_C_MESSAGE
						   ? kind == DS_AGENT_REFUSED && s.a.refused.head.seq == seq
						   : true;
			const bool right =
				named && s.a.refused.code == refused[i].code && strstr(s.a.refused.text, refused[i].words);

			if (!tap_ok(right && agent_receive(&s.a, &m, AGENT_TIMEOUT_MS) == 0 && shadow_end(&s) == 1 &&
					    shadow_logged(&s, "no shadow"),
				    "%s: %s", refused[i].what, s.a.refused.text))
				printf("# message %d, code %u\n", kind, s.a.refused.code);
			view = shadow_view(&s);
			if (view.state != WARDEN_END || view.capsule_pid || view.code != refused[i].code ||
			    strcmp(view.text, s.a.refused.text))
				tap_ok(false, "the status says the same: %s", view.text);
		}
		if (refused[i].spoil == nasty_program)
			tap_ok(shadow_logged(&s, "process 4711 (/tmp/\\n<3>all is well\\x1b[2J, uid 1000)"),
			       "which it does not: one line, nothing but text");
		shadow_free(&s);
		free(o);
	}
}

/* --- ended ------------------------------------------------------------------------------------------------------- */

/* Waits for the end of a shadow that stands, and looks at it.  @code 0: the guest ends it itself. */
static void ended(struct shadow *s, uint32_t code, const char *words, const char *what)
{
	const pid_t capsule = (pid_t)s->a.started.host_pid;
	union agent_message m;
	int kind, status;

	do
		kind = agent_receive(&s->a, &m, AGENT_TIMEOUT_MS);
	while (kind == DS_AGENT_REPLY || kind == DS_AGENT_DONE);
	/* the stream ends only after the capsule has: a guest gives its frames back upon that */
	tap_ok(kind == DS_AGENT_ENDED && s->a.refused.code == code && strstr(s->a.refused.text, words) &&
		       kill(capsule, 0) && errno == ESRCH,
	       "%s: %s", what, s->a.refused.text);
	if (kind != DS_AGENT_ENDED)
		printf("# message %d\n", kind);
	tap_ok(agent_receive(&s->a, &m, AGENT_TIMEOUT_MS) == 0, "then the stream ends");
	status = shadow_end(s);
	tap_ok(status == 1 && shadow_logged(s, "the shadow has ended"), "the warden too, and logs it");
	shadow_free(s);
}

static void call(struct shadow *s, uint32_t executor, uint32_t op, uint64_t a0)
{
	const struct calls_request request = {.op = op, .args = {a0}};

	agent_call(&s->a, executor, &request, sizeof(request));
}

/* The service maps a page of the RAM. */
static void map_ram(struct shadow *s, uint64_t vpn, uint64_t pfn, uint64_t prot)
{
	const struct calls_request request = {
		.op = CALLS_SYSCALL,
		.nr = SYS_mmap,
		.args = {vpn * PAGE, PAGE, prot, MAP_SHARED | MAP_FIXED, DS_SHADOW_RAM_FD, pfn * PAGE}};

	agent_call(&s->a, 0, &request, sizeof(request));
}

static void test_ended(void)
{
	const struct ds_agent_range some = part(10, 5);
	const struct calls_request spin = {.op = CALLS_SYSCALL, .nr = SYS_nanosleep /* of nothing: EFAULT */};
	struct calls_answer answer;
	struct shadow s;
	size_t bytes;
	void *all;

	start(&s, "calls");
	shadow_signal(&s, SIGKILL);
	ended(&s, DS_AGENT_C_GONE, "signal 9", "somebody kills the capsule");

	start(&s, "calls");
	call(&s, 1, CALLS_LOAD, 0x123456000);
	ended(&s, DS_AGENT_C_GONE, "0x123456000", "the service touches what is not there");

	/* a shadow that has been taken over: it may map what its map has, and nothing else */
	start(&s, "calls");
	map_ram(&s, page[7].vpn, ram_page(page[7].frame), 3);
	tap_ok(agent_answer(&s.a, &answer, sizeof(answer)) == sizeof(answer) && answer.result == (int64_t)(page[7].vpn * PAGE),
	       "a page that its map has may be mapped again");
	map_ram(&s, page[7].vpn, ram_page(page[7].frame) ^ 1, 3);
	ended(&s, DS_AGENT_C_GONE, "wanted to map what it may not have", "another page there");
	start(&s, "calls");
	drop(&s, &some, 1);
	map_ram(&s, page[10].vpn, ram_page(page[10].frame), 3);
	ended(&s, DS_AGENT_C_GONE, "wanted to map what it may not have", "a page that has been dropped");

	start(&s, "calls");
	agent_call(&s.a, 2, &spin, sizeof(spin));
	tap_eq(agent_answer(&s.a, &answer, sizeof(answer)), sizeof(answer), "a service's call to the kernel is answered");
	kill(s.pid, SIGTERM);
	ended(&s, DS_AGENT_C_GONE, "by the host", "the host ends it");

	start(&s, "calls");
	agent_write(&s.a, "not a message at all", 20);
	ended(&s, DS_AGENT_C_MESSAGE, "magic", "the guest talks nonsense");

	start(&s, "calls");
	all = agent_pages_message(&s.a, 1, page, 1, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
	ended(&s, DS_AGENT_C_MESSAGE, "out of turn", "the guest answers what it was not asked");

	/* an executor that never returns cannot be stopped: an update is refused, a drop ends the shadow */
	shadow_start(&s, &(struct shadow_want){.policy = anything, .times = {.stop_ms = 300}});
	attach(&s, "/usr/bin/guest", "calls");
	call(&s, 0, CALLS_HANG, 0);
	usleep(50000);
	tap_ok(update(&s, page, HEAP_PAGES - 1) == DS_AGENT_REFUSED && s.a.refused.code == DS_AGENT_C_SHADOW &&
		       strstr(s.a.refused.text, "did not stop"),
	       "an update that a service does not let happen is refused");
	all = agent_drop_message(&s.a, &some, 1, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
	ended(&s, DS_AGENT_C_GONE, "did not let go", "a drop that it does not let happen takes the pages by force");

	/* the same when the capsule answers nothing at all */
	shadow_start(&s, &(struct shadow_want){.policy = anything, .times = {.stop_ms = 100, .capsule_ms = 200}});
	attach(&s, "/usr/bin/guest", "calls");
	shadow_signal(&s, SIGSTOP);
	all = agent_drop_message(&s.a, &some, 1, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
	ended(&s, DS_AGENT_C_GONE, "in time", "a capsule that is stopped");

	/* the warden is killed: the kernel kills the capsule */
	start(&s, "calls");
	kill(s.pid, SIGKILL);
	tap_eq(shadow_end(&s), 256 + SIGKILL, "somebody kills the warden");
	tap_eq(waitpid((pid_t)s.a.started.host_pid, NULL, 0), (pid_t)s.a.started.host_pid, "its capsule dies with it");
	tap_ok(shadow_view(&s).capsule_pid == (int32_t)s.a.started.host_pid, "the status still says which that was");
	shadow_free(&s);
}

/* --- too late ---------------------------------------------------------------------------------------------------- */

static void late(struct shadow *s, const char *words, const char *what)
{
	union agent_message m;
	int kind = agent_receive(&s->a, &m, AGENT_TIMEOUT_MS);

	if (kind == DS_AGENT_WELCOME)
		kind = agent_receive(&s->a, &m, AGENT_TIMEOUT_MS);
	tap_ok((kind == DS_AGENT_ENDED || kind == DS_AGENT_REFUSED) && s->a.refused.code == DS_AGENT_C_TIMEOUT &&
		       strstr(s->a.refused.text, words),
	       "%s: %s", what, s->a.refused.text);
	tap_eq(shadow_end(s), 1, "the warden ends");
	shadow_free(s);
}

/* A guest that asks and asks and never reads: the warden must not wait for it. */
static void test_unread(const struct shadow_want *want, const char *what)
{
	const uint64_t request[2] = {HEAP_VPN * PAGE, 64};
	union agent_message m;
	struct shadow s;

	shadow_start(&s, want);
	attach(&s, "/usr/bin/guest", "checksum");
	for (int i = 0; i < 200000; i++) {
		struct {
			struct ds_agent_call call;
			uint64_t request[2];
		} c = {{agent_head(&s.a, DS_AGENT_CALL, sizeof(c)), 0, 16}, {request[0], request[1]}};

		if (send(s.a.fd, &c, sizeof(c), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(c) && errno != EAGAIN)
			break;
		if (i % 1000 == 999)
			usleep(1000);
	}
	for (int i = 0; i < AGENT_TIMEOUT_MS && shadow_view(&s).state != WARDEN_END; i++)
		usleep(1000);
	tap_ok(shadow_view(&s).state == WARDEN_END && shadow_view(&s).code == DS_AGENT_C_TIMEOUT, "%s: %s", what,
	       shadow_view(&s).text);
	while (agent_receive(&s.a, &m, 1000) > 0)
		;
	tap_eq(shadow_end(&s), 1, "the warden ends");
	shadow_free(&s);
}

static void test_late(void)
{
	const struct shadow_want hasty = {.policy = anything, .times = {.hello_ms = 100, .write_ms = 200}};
	struct ds_agent_attach msg = agent_attach(&(struct agent){0}, "/usr/bin/guest", "checksum", DS_AGENT_EAGER);
	size_t bytes;
	void *all = agent_attach_message(&msg, page, HEAP_PAGES, &heap_range, 1, &bytes);
	struct ds_agent_hello hello = agent_hello(&(struct agent){0});
	struct shadow s;

	shadow_start(&s, &hasty);
	late(&s, "HELLO", "an agent that says nothing");
	shadow_start(&s, &hasty);
	agent_write(&s.a, &hello, sizeof(hello) - 1);
	late(&s, "in time", "one that does not finish its first message");
	shadow_start(&s, &hasty);
	agent_write(&s.a, &hello, sizeof(hello));
	late(&s, "ATTACH", "one that says only HELLO");
	shadow_start(&s, &hasty);
	agent_write(&s.a, &hello, sizeof(hello));
	agent_write(&s.a, all, bytes - 1);
	late(&s, "in time", "one that does not finish its map");

	/* by its time, and, with all the time there is, by what would have to be kept for it */
	test_unread(&hasty, "one that never reads");
	test_unread(&(struct shadow_want){.policy = anything}, "one that never reads, and has time");
	free(all);
}

static uint64_t lowest_vpn(void)
{
	unsigned long long bytes = 0;
	FILE *f = fopen("/proc/sys/vm/mmap_min_addr", "r");

	if (!f || fscanf(f, "%llu", &bytes) != 1)
		errx(2, "vm.mmap_min_addr");
	fclose(f);
	return bytes > PAGE ? (bytes + PAGE - 1) / PAGE : 1;
}

int main(void)
{
	const int fds = (prctl(PR_SET_CHILD_SUBREAPER, 1), ram_make(), lay_out(), open_fds(getpid()));

	min_vpn = lowest_vpn();
	test_refused();
	test_ended();
	test_late();
	tap_eq(left_processes(), 0, "no process is left");
	tap_eq(open_fds(getpid()), fds, "no descriptor is left");
	return tap_done();
}
