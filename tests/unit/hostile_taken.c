/* hostile_taken.c - a shadow that its guest has taken over, with everything granted that there is, makes calls at random
 *
 * What tests/unit/hostile_random.c does through the service, by an instruction of its own: nothing of the capsule stands between it and
 * the kernel, so what holds it is the jail, the filter and the guard alone.  Every number comes first with each of some fixed
 * arguments, then at random.  Shadows that wait for something or have ruined themselves are replaced.
 *
 *   HOSTILE_SECONDS=N   how long (default 2)      HOSTILE_SEED=N   another course of things
 */
#include <sys/syscall.h>
#include <time.h>

#include "tests/hostile.h"
#include "tests/hostile_places.h"
#include "tests/random_calls.h"

#define CALLS_A_TURN 8u
#define WAIT_MS 60
#define BUF(n) (HOSTILE_BUFFER + (n))

static struct random_calls calls = {.state = 5};
static struct {
	uint64_t made, passed, lives, ended, waited, mapped;
} count;

static uint64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void begin(void)
{
	static const struct filter_want want = {
		.bells = true, .groups = CALLGROUP_FILE | CALLGROUP_DIR | CALLGROUP_SOCKET | CALLGROUP_POLL | CALLGROUP_INFO};
	const struct jail_bind binds[] = {{.guest = "/data", .host = places.grant, .writable = true}, {.guest = "/ro", .host = places.ro}};
	struct jail_params p = {.threads = 3, .memory_bytes = 32 << 20, .uid = NOBODY, .gid = NOBODY, .binds = binds, .nbinds = 2};

	guarded_init(&shadow, RAM_PAGES);
	if (guarded_spawn(&shadow, "hostile", &want, &p))
		errx(2, "jail: %s: %s", shadow.jail_err.what, strerror(-shadow.jail_err.err));
	if (guarded_boot(&shadow, "hostile", 2, hostile_runs, NRUNS) != DS_SHADOW_STATUS)
		errx(2, "boot: reason %u", shadow.h.refused.reason);
	count.lives++;
	calls.capsule[0] = shadow.h.status.capsule.vpn * PAGE;
	calls.capsule[1] = (shadow.h.status.capsule.vpn + shadow.h.status.capsule.npages - 1) * PAGE;
	calls.ncapsule = 2;
}

/* What the shadow has mapped of the VM's memory beyond what it may.  Executable is what it likes, by mprotect(): filter.h. */
static bool maps_too_much(void)
{
	char path[64], line[512], prot[8];
	bool any = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", shadow.jail.pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t from, to, offset;
		bool wrong = false;

		if (!strstr(line, "memfd:ram") || sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64, &from, &to, prot, &offset) != 4)
			continue;
		for (uint64_t vpn = from / PAGE; vpn < to / PAGE; vpn++) {
			const struct rle_run *run = model_find(hostile_runs, NRUNS, vpn);

			wrong |= !run || offset / PAGE + vpn - from / PAGE != run->pfn.n + vpn - run->vpn.n ||
				 (prot[1] == 'w' && !(run->attr & RLE_ATTR_WRITE));
		}
		if (wrong)
			printf("# mapped: %s", line);
		any |= wrong;
	}
	if (f)
		fclose(f);
	return any;
}

/* Ends the thread, the process, or what the test looks at; or waits, whatever its arguments are. */
static bool is_left_out(uint64_t nr)
{
	switch (nr) {
	case SYS_exit:
	case SYS_exit_group:
	case SYS_rt_sigreturn:
	case SYS_munmap:
	case 335: /* uretprobe, uprobe: a SIGILL */
	case 336:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_futex:
	case SYS_tgkill: return true;
	default: return nr >> 32 != 0; /* above that it is the service's word, not a number */
	}
}

/* What comes from the shadow, which sends what it likes.  Return: kind of message; 0: it has ended, or sent what is none; -1: nothing came. */
static int listen_to(union host_message *m)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = shadow.h.ctl, .events = POLLIN}, {.fd = shadow.guard.listener, .events = POLLIN}};
		ssize_t got;

		if (poll(p, 2, WAIT_MS) <= 0)
			return -1;
		if (p[1].revents & POLLIN && guard_answer(&shadow.guard) < 0)
			return 0;
		if (!p[0].revents && p[1].revents & POLLHUP)
			return 0;
		if (!p[0].revents)
			continue;
		got = recv(shadow.h.ctl, m, sizeof(*m), MSG_DONTWAIT);
		return got >= (ssize_t)sizeof(m->head) && m->head.bytes == got && m->head.magic == DS_SHADOW_MAGIC ? m->head.kind : 0;
	}
}

/* Return: whether the shadow is still of use. */
static bool ask(struct hostile_request *r)
{
	union host_message m;
	int kind;

	hostile_send(r);
	count.made += r->ncalls;
	kind = listen_to(&m);
	if (kind == -1)
		count.waited++;
	else if (kind != DS_SHADOW_MESSAGE)
		count.ended++;
	if (kind != DS_SHADOW_MESSAGE)
		return false;
	memcpy(&answered, m.message.payload, sizeof(answered));
	for (uint32_t i = 0; i < r->ncalls; i++)
		count.passed += answered.result[i] >= 0;
	return true;
}

static uint64_t next_ordered;

/* Every number in turn, with four sets of arguments; then nothing any more. */
static bool ordered(struct hostile_call *c)
{
	static const uint64_t sets[4][6] = {
		{BUF(0), BUF(64), BUF(128), BUF(192), 0, 0},
		{3, BUF(0), 64, 0, 0, 0},
		{(uint64_t)AT_FDCWD, BUF(0), (uint64_t)AT_FDCWD, BUF(0), 0, 0},
		{DS_SHADOW_RAM_FD, BUF(0), 64, 0, DS_SHADOW_RAM_FD, 0},
	};

	if (next_ordered >= RANDOM_NR_MAX * 4)
		return false;
	*c = (struct hostile_call){.nr = (int64_t)(next_ordered / 4)};
	memcpy(c->args, sets[next_ordered % 4], sizeof(c->args));
	if (c->nr == SYS_close && c->args[0] == DS_SHADOW_RAM_FD) /* should it pass, nothing else would be noticed */
		c->nr = SYS_pwrite64;
	next_ordered++;
	return true;
}

static void compose(struct hostile_request *r)
{
	*r = (struct hostile_request){.op = HOSTILE_CALLS, .bytes = "/data/own"};
	while (r->ncalls < CALLS_A_TURN) {
		struct hostile_call *c = &r->call[r->ncalls];

		if (!ordered(c)) {
			c->nr = (int64_t)random_number(&calls);
			for (int k = 0; k < 6; k++)
				c->args[k] = random_below(&calls, 5) ? random_argument(&calls) : BUF(random_below(&calls, 60) * 8);
		}
		r->ncalls += !is_left_out((uint64_t)c->nr);
	}
	if (next_ordered >= RANDOM_NR_MAX * 4) {
		uint8_t words[HOSTILE_BYTES];

		for (uint32_t i = 0; i < sizeof(words) / 8; i++) {
			const uint64_t word = random_argument(&calls);

			memcpy(words + 8 * i, &word, 8);
		}
		memcpy(r->bytes, words, sizeof(r->bytes));
		if (random_below(&calls, 2))
			strcpy((char *)r->bytes, random_below(&calls, 2) ? "/data/a" : "/data/../../etc/passwd");
	}
}

/* Return: whether memory that is not its own to write is as it was. */
static bool memory_same(void)
{
	for (uint64_t n = 0; n < RAM_PAGES; n++) {
		bool own = (n >= 3 && n < 7) || n == 20 || n == 21; /* hostile_runs */
		const uint64_t *words = (const uint64_t *)(void *)(shadow.h.ram + n * PAGE);

		for (uint64_t i = 0; !own && i < PAGE / 8; i++)
			if (words[i] != (i ? 0 : host_word(n)))
				return false;
	}
	return true;
}

int main(void)
{
	const char *seconds = getenv("HOSTILE_SECONDS"), *seed = getenv("HOSTILE_SEED"), *why = places_make();
	const uint64_t until_ms = ms_now() + 1000u * (seconds ? (uint64_t)atoi(seconds) : 2);
	unsigned int mapped = 0, changed = 0, alive = 0;
	uint64_t files;

	if (why) {
		tap_skip("a shadow that was taken over harms nothing", why);
		return tap_done();
	}
	if (seed)
		calls.state = (uint64_t)atoll(seed);
	calls.buffers = A_VPN * PAGE;
	calls.buffer_bytes = 4 * PAGE;
	calls.paths = A_VPN * PAGE + PAGE;
	calls.read_only = B_VPN * PAGE;
	files = places_sum();
	while (ms_now() < until_ms || next_ordered < RANDOM_NR_MAX * 4) {
		const uint64_t from_ms = ms_now();
		struct hostile_request r;

		begin();
		random_fill(&calls, shadow.h.ram + 3 * PAGE); /* pages 3 to 6 are neighbours */
		do
			compose(&r);
		while (ask(&r) && ms_now() - from_ms < 1000);
		mapped += maps_too_much();
		changed += !memory_same();
		count.mapped += shadow.guard.refused;
		alive += hostile_end() == -ETIMEDOUT;
	}
	printf("# %llu calls, %llu of which passed, %llu mappings refused by the guard; %llu shadows, %llu of which ended, %llu of which waited\n",
	       (unsigned long long)count.made, (unsigned long long)count.passed, (unsigned long long)count.mapped, (unsigned long long)count.lives,
	       (unsigned long long)count.ended, (unsigned long long)count.waited);
	tap_ok(count.made > 1500 && count.passed > 100, "a shadow that was taken over makes calls of all numbers");
	tap_eq(mapped, 0, "it has mapped nothing of the VM's memory that it may not");
	tap_eq(changed, 0, "and changed nothing there");
	tap_ok(places_sum() == files, "files that were not granted, or not for writing, are as they were");
	tap_eq(alive, 0, "each is ended");
	places_free();
	return tap_done();
}
