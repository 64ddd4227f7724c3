/* spin.c - how long a thread looks for the end of its call on the host before it sleeps
 *
 * Theory of operation
 *
 * Sleeping costs a doorbell and a wake-up, each of which takes ten times as long as most calls.  Two waits follow each other, and each
 * has its own bound, as multiples of the settings' spin_ns:
 *
 *   POSTED    The executor sleeps and has been rung for, or the host has no processor for it.  Who does not wait for that until it is
 *	       there will find it asleep the next time too: a pair that both sleep goes on doing so, however soon the next call comes.
 *	       So the bound (SPIN_WAKE) is what waking usually takes at most.  When that is in vain, the next 1, 2, ... 2^LATE_MAX calls
 *	       do not wait for so long, as the host is busy otherwise.
 *   RUNNING   The call is being made.  How long calls of a kind take there the executor says; their mean decides.  A call that is
 *	       likely to be done soon is waited for, for up to SPIN_MOST; one that is likely to block (a poll) only as long as it may
 *	       turn out to be ready at once.
 *
 * While the executor has not taken the call the processor is offered to others: the vsock driver of Linux 6.1 sends by a kernel thread of the
 * same processor, and a thread that spins would keep its own ring from being sent.
 *
 * All of it is about time only: threads read and write these words as they come.
 */
#include "runtime/guest/forward/forward.h"
#include "runtime/guest/forward/spin.h"

#define SPINS 32u     /* between two looks at the clock */
#define SPIN_MOST 4u  /* times spin_ns */
#define SPIN_WAKE 20u /* likewise */
#define SPIN_LEAST 8u /* a part of it */
#define LATE_MAX 9u
#define KINDS 512u
#define MEAN_OF 8

static int64_t usual_ns[KINDS]; /* of calls, by their numbers */

/* Times that an executor did not wake up soon enough, and calls that it will not be waited for so long. */
static uint32_t late, rest;

static int64_t patience_ns(uint64_t nr, int64_t spin_ns)
{
	const int64_t usual = nr < KINDS ? __atomic_load_n(&usual_ns[nr], __ATOMIC_RELAXED) : 0;
	const int64_t most = spin_ns * SPIN_MOST;

	if (usual >= most)
		return spin_ns / SPIN_LEAST;
	return 2 * usual < spin_ns ? spin_ns : 2 * usual < most ? 2 * usual : most;
}

bool forward_spin(const struct ds_forward_slot *slot, uint32_t spin_ns)
{
	const uint32_t resting = __atomic_load_n(&rest, __ATOMIC_RELAXED);
	int64_t until = 0;
	bool taken = false;

	if (ds_forward_done(slot))
		return true;
	if (!spin_ns)
		return false;
	if (resting)
		__atomic_store_n(&rest, resting - 1, __ATOMIC_RELAXED);
	for (;;) {
		int64_t now;

		for (uint32_t i = 0; i < SPINS; i++) {
			if (ds_forward_done(slot))
				return true;
			__asm__ volatile("pause");
		}
		if (!taken)
			raw0(__NR_sched_yield);
		now = forward_now_ns();
		if (!until)
			until = now + (int64_t)spin_ns * (resting ? 1 : SPIN_WAKE);
		if (!taken && ds_forward_state(slot) != DS_FORWARD_POSTED) {
			taken = true;
			until = now + patience_ns(slot->nr, spin_ns);
			__atomic_store_n(&late, __atomic_load_n(&late, __ATOMIC_RELAXED) / 2, __ATOMIC_RELAXED);
		}
		if (now >= until)
			break;
	}
	if (!taken && !resting) {
		const uint32_t n = __atomic_load_n(&late, __ATOMIC_RELAXED);

		__atomic_store_n(&late, n < LATE_MAX ? n + 1 : n, __ATOMIC_RELAXED);
		__atomic_store_n(&rest, 1u << n, __ATOMIC_RELAXED);
	}
	return false;
}

void forward_spin_learn(const struct ds_forward_slot *slot, uint32_t spin_ns)
{
	const uint64_t nr = slot->nr, host_ns = slot->host_ns;
	const int64_t most = 2 * (int64_t)spin_ns * SPIN_MOST;

	if (nr < KINDS) {
		const int64_t usual = __atomic_load_n(&usual_ns[nr], __ATOMIC_RELAXED), now = host_ns < (uint64_t)most ? (int64_t)host_ns : most;

		__atomic_store_n(&usual_ns[nr], usual + (now - usual) / MEAN_OF, __ATOMIC_RELAXED);
	}
}
