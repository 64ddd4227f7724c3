/* forward_thread.h - plays threads of a guest program that forward their calls (runtime/wire/forward.h), for a capsule that a
 * test has started (capsule_host.h)
 *
 * The guest's process has one stretch of memory, PLAY_VPN on, pages 0 to PLAY_PAGES - 1 of the RAM.  Slots are in its page 0.
 */
#ifndef TESTS_FORWARD_THREAD_H
#define TESTS_FORWARD_THREAD_H

#include <asm/unistd.h>
#include <time.h>

#include "runtime/wire/forward.h"
#include "tests/capsule_host.h"

#define PLAY_VPN UINT64_C(0x7f1234000)
#define PLAY_PAGES 256u
#define FWD_UNUSED __attribute__((unused))
#define FWD_LOST INT64_C(-100000)
#define FWD_WAIT_MS 10000
#define FWD_LOOKS 32 /* before it looks at the clock, as the library does */

struct fwd {
	struct ds_forward_slot *slot;
	uint32_t executor;
	int bell;
	uint32_t spin_ns;    /* of the guest's side */
	uint32_t vain, rest; /* as the executor's: times that it was for nothing, calls that are not spun for */
	uint64_t slept;	  /* times that it read its bell */
};

static const struct rle_run play_runs[] = {{{PLAY_VPN}, {0}, PLAY_PAGES, RW}};

/* Byte @offset of the process: its address there, and where it is here. */
FWD_UNUSED static uint64_t play_at(uint64_t offset)
{
	return PLAY_VPN * PAGE + offset;
}

FWD_UNUSED static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- bells ----------------------------------------------------------------------------------------------------------- */

/* Sends DS_SHADOW_FD.  Return: the guest's end of the bell. */
FWD_UNUSED static int fwd_give(struct host *h, uint32_t executor, uint64_t slot, uint32_t spin_ns)
{
	struct ds_shadow_fd m = {
		.head = host_head(h, DS_SHADOW_FD, sizeof(m)), .executor = executor, .spin_ns = spin_ns, .slot = slot};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(2, "socketpair");
	host_send(h, &m, sizeof(m), &pair[1], 1);
	close(pair[1]);
	return pair[0];
}

/* A thread with slot @executor of page 0. */
FWD_UNUSED static void fwd_start(struct host *h, struct fwd *t, uint32_t executor, uint32_t host_spin_ns, uint32_t guest_spin_ns)
{
	*t = (struct fwd){.slot = (struct ds_forward_slot *)h->ram + executor, .executor = executor, .spin_ns = guest_spin_ns};
	*t->slot = (struct ds_forward_slot){.host_asleep = 2};
	t->bell = fwd_give(h, executor, play_at(executor * sizeof(*t->slot)), host_spin_ns);
}

FWD_UNUSED static void fwd_interrupt(struct host *h, uint32_t executor)
{
	struct ds_shadow_interrupt m = {.head = host_head(h, DS_SHADOW_INTERRUPT, sizeof(m)), .executor = executor};

	host_send(h, &m, sizeof(m), NULL, 0);
}

/* --- calls ------------------------------------------------------------------------------------------------------------- */

FWD_UNUSED static void fwd_post(struct fwd *t, long nr, const uint64_t arg[6])
{
	struct ds_forward_slot *s = t->slot;

	s->nr = (uint64_t)nr;
	memcpy(s->arg, arg, sizeof(s->arg));
	if (ds_forward_post(s) && __atomic_load_n(&s->host_asleep, __ATOMIC_SEQ_CST) == 1 && write(t->bell, "\1", 1) != 1)
		err(2, "ring");
}

static bool fwd_is_done(const struct fwd *t)
{
	return ds_forward_done(t->slot);
}

/* Takes the result as a guest does: it spins, then sleeps on its bell and on nothing else.  Return: false: it did not come. */
FWD_UNUSED static bool fwd_wait(struct fwd *t, int timeout_ms)
{
	bool done = fwd_is_done(t);
	uint64_t from_ns;
	char bytes[64];

	for (int i = 0; i < FWD_LOOKS && t->spin_ns && !t->rest && !done; i++) {
		__builtin_ia32_pause();
		done = fwd_is_done(t);
	}
	if (done) {
		t->vain /= 2;
		ds_forward_take(t->slot);
		return true;
	}
	done = true;
	from_ns = now_ns();

	if (t->rest) {
		t->rest--;
	} else {
		while (!fwd_is_done(t) && now_ns() - from_ns < t->spin_ns)
			__builtin_ia32_pause();
		t->vain = fwd_is_done(t) ? t->vain / 2 : t->vain < 13 ? t->vain + 1 : t->vain;
		t->rest = t->vain > 3 && t->spin_ns ? 1u << (t->vain - 3) : 0;
	}
	while (!fwd_is_done(t) && done) {
		struct pollfd p = {.fd = t->bell, .events = POLLIN};

		__atomic_store_n(&t->slot->guest_asleep, 1, __ATOMIC_SEQ_CST);
		if (fwd_is_done(t))
			break;
		t->slept++;
		done = poll(&p, 1, timeout_ms) == 1 && read(t->bell, bytes, sizeof(bytes)) > 0;
	}
	__atomic_store_n(&t->slot->guest_asleep, 0, __ATOMIC_SEQ_CST);
	if (done)
		ds_forward_take(t->slot);
	return done;
}

/* A call, as the kernel returns it. */
#define fwd_call(t, nr, ...) fwd_call6(t, nr, (const uint64_t[6]){__VA_ARGS__})
FWD_UNUSED static int64_t fwd_call6(struct fwd *t, long nr, const uint64_t arg[6])
{
	fwd_post(t, nr, arg);
	return fwd_wait(t, FWD_WAIT_MS) ? t->slot->result : FWD_LOST;
}

/* Until the executor has the call, and a moment more for it to be blocked there. */
FWD_UNUSED static void fwd_running(const struct fwd *t)
{
	for (int i = 0; i < 5000 && ds_forward_state(t->slot) != DS_FORWARD_RUNNING; i++)
		usleep(100);
	usleep(20000);
}

/* Waits for the report that the executor is free.  Return: whether it comes; @report is the last one. */
FWD_UNUSED static bool fwd_over(struct host *h, uint32_t executor, struct ds_forward_report *report)
{
	union host_message m;

	while (host_receive(h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_MESSAGE) {
		memcpy(report, m.message.payload, sizeof(*report));
		if (m.message.executor == executor && m.message.payload_bytes == sizeof(*report) && report->over)
			return true;
	}
	return false;
}

#endif
