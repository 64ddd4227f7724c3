/* lock.c - one thread of the program at a time in a part of the library
 *
 * Theory of operation
 *
 * A lock is a word, 0 or 1.  It is held with the program's signals blocked, SIGSYS excepted: a handler of the thread that holds it
 * would call the library and wait for itself.  There is no futex behind it: locks are held briefly, or across an exchange with another
 * process at the longest, and a forked child resets those that a thread of its parent's had, which it does not have itself.
 */
#include <linux/time_types.h>

#include "runtime/guest/forward/forward.h"

#define YIELDS 8u
#define YIELD_NS 16000 /* doubles each time */
#define YIELD_SHIFT_MAX 7u

void forward_yield(uint32_t *turns)
{
	const struct __kernel_timespec pause = {0, YIELD_NS << (*turns < YIELDS ? 0 : *turns - YIELDS < YIELD_SHIFT_MAX ? *turns - YIELDS : YIELD_SHIFT_MAX)};

	if ((*turns)++ < YIELDS)
		raw0(__NR_sched_yield);
	else
		raw2(__NR_nanosleep, &pause, 0);
}

void forward_lock(uint32_t *lock, uint64_t *mask)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	uint32_t turns = 0;

	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &all, mask, 8);
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
		forward_yield(&turns);
}

void forward_unlock(uint32_t *lock, const uint64_t *mask)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, mask, 0, 8);
}
