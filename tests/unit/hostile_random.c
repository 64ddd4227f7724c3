/* hostile_random.c - every system call number with random arguments through live shadows, by threads at the same time
 *
 * As a guest makes them: by slots and bells, to the service that serves programs.  Half of the shadows are also told where their own
 * capsule lies, so they do not live long.  Calls that wait are interrupted.  hostile_world.h tells what must not be harmed by that.
 *
 *   HOSTILE_SECONDS=N   how long (default 3)      HOSTILE_SEED=N   another course of things
 */
#include <time.h>

#include "tests/hostile_world.h"
#include "tests/random_calls.h"

#define THREADS 4u
#define BUF 1u	    /* first of the pages with buffers; */
#define BUF_PAGES 8u
#define IMPATIENCE_MS 3
#define STUCK_MS 30000

static struct shadow own;
static struct thread t[THREADS];
static struct random_calls calls = {.state = 1};
static struct {
	uint64_t made, refused, interrupted, lives, ruined, stuck, slow_starts;
	uint32_t numbers[RANDOM_NR_MAX];
} count;
static uint64_t since_ms[THREADS], told_ms[THREADS];

static uint64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void begin(bool with_capsule)
{
	struct stretch list[32];
	uint32_t n;

	if (vm_shadow(&own, "/usr/bin/hostile") != DS_AGENT_STARTED)
		errx(2, "no shadow: %s", own.a.refused.text);
	for (uint32_t i = 0; i < THREADS; i++)
		if (!thread_start(&t[i], own.a.started.token, 0, i, 20000))
			errx(2, "thread %u gets no executor", i);
	n = with_capsule ? hostile_capsule(list, 32) : 0;
	calls.ncapsule = 0;
	for (uint32_t i = 0; i < n && calls.ncapsule < RANDOM_CAPSULE; i++)
		if (list[i].writable || i % 4 == 0) /* both ends: stacks are used from above */
			calls.capsule[calls.ncapsule++] = random_below(&calls, 2) ? list[i].from : list[i].to - PAGE;
	count.lives++;
}

/* Whether the host has ended the shadow. */
static bool is_over(void)
{
	char bytes[4096];
	ssize_t n;

	while ((n = recv(own.a.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		;
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void post(uint32_t i)
{
	struct ds_forward_slot *s = t[i].slot;

	s->nr = random_number(&calls);
	for (int k = 0; k < 6; k++)
		s->arg[k] = random_argument(&calls);
	if (s->nr < RANDOM_NR_MAX)
		count.numbers[s->nr]++;
	count.made++;
	if (ds_forward_post(s))
		send(t[i].bell, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	since_ms[i] = told_ms[i] = ms_now();
}

/* Return: false: the shadow must be given up. */
static bool turn(uint32_t i, uint64_t now_ms)
{
	struct ds_forward_slot *s = t[i].slot;
	const enum ds_forward_state state = ds_forward_state(s);

	if (state == DS_FORWARD_DONE) {
		count.refused += s->posted && s->result < 0 && s->result >= -4095;
		post(i);
		return true;
	}
	if (now_ms - told_ms[i] >= IMPATIENCE_MS) {
		thread_interrupt(&t[i]);
		told_ms[i] = now_ms;
		count.interrupted++;
	}
	if (now_ms - since_ms[i] < STUCK_MS)
		return true;
	printf("# stuck: call %llu (%llx, %llx, %llx, %llx), state %u\n", (unsigned long long)s->nr, (unsigned long long)s->arg[0],
	       (unsigned long long)s->arg[1], (unsigned long long)s->arg[2], (unsigned long long)s->arg[3], state);
	count.stuck += !calls.ncapsule; /* an executor whose stack was overwritten does anything */
	return false;
}

static void fill(void)
{
	static uint8_t bytes[BUF_PAGES * PAGE];

	random_fill(&calls, bytes);
	for (uint32_t i = 0; i < BUF_PAGES; i++) /* neighbours in the process are none here */
		memcpy(at_host(BUF + i), bytes + i * PAGE, PAGE);
}

/* The life of one shadow, at most @ms.  Return: whether it was itself to the end. */
static bool life(uint64_t ms)
{
	const uint64_t from_ms = ms_now();

	for (uint32_t n = 0;; n++) {
		const uint64_t now_ms = ms_now();
		bool well = true;

		for (uint32_t i = 0; i < THREADS; i++)
			well = turn(i, now_ms) && well;
		if (n % 64 == 0)
			fill();
		if (n % 256 == 0 && is_over())
			return false;
		if (!well)
			return false;
		/* one that was ruined may be silent, too */
		if (now_ms - from_ms >= ms || (calls.ncapsule && now_ms - since_ms[n % THREADS] > 500))
			return true;
		if (n % 16 == 0)
			pump(0);
		sched_yield();
	}
}

int main(void)
{
	const char *seconds = getenv("HOSTILE_SECONDS"), *seed = getenv("HOSTILE_SEED"), *why = world_begin("executors=8");
	const uint64_t until_ms = ms_now() + 1000u * (seconds ? (uint64_t)atoi(seconds) : 3);
	unsigned int tried = 0, wrong = 0, left = 0;

	if (why) {
		tap_skip("random calls of a guest harm nothing but itself", why);
		return tap_done();
	}
	if (seed)
		calls.state = (uint64_t)atoll(seed);
	calls.buffers = at_guest(BUF);
	calls.paths = at_guest(BUF + 1);
	calls.read_only = at_guest(RO_FIRST);
	calls.buffer_bytes = BUF_PAGES * PAGE;
	for (uint32_t k = 0; ms_now() < until_ms || (count.made < 8000 && ms_now() < until_ms + 60000); k++) {
		vm_rules(world_rules(k % 4 < 2 ? "executors=8 family=unix" : "executors=8"));
		begin(k % 2);
		fill();
		count.ruined += !life(k % 2 ? 700 : 1500);
		left += !hostile_end(&own, t, THREADS);
		if (k % 4 == 3)
			wrong += !world_witness_works();
	}
	for (uint32_t i = 0; i < RANDOM_NR_MAX; i++)
		tried += count.numbers[i] > 0;
	printf("# %llu calls, %llu of them refused or failed, %llu interrupts, %llu shadows, %llu of which ended before\n",
	       (unsigned long long)count.made, (unsigned long long)count.refused, (unsigned long long)count.interrupted,
	       (unsigned long long)count.lives, (unsigned long long)count.ruined);
	tap_ok(tried > RANDOM_NR_MAX * 9 / 10, "%u of %u system call numbers were tried through live shadows", tried, RANDOM_NR_MAX);
	tap_eq(count.stuck, 0, "none of the calls outlives an interrupt, where the shadow is itself");
	tap_eq(left, 0, "each shadow ends when its guest does");
	tap_eq(wrong, 0, "the other shadow works all the time");
	world_unharmed("after that");
	world_end();
	return tap_done();
}
