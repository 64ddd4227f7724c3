/* election.c - which of several threads that sleep in calls of the host takes a signal
 *
 * A signal that is sent to a process is taken by one thread that has not blocked it, and by the first one if that is among them
 * (Linux, kernel/signal.c, complete_signal()).  Programs rely on it: python handles signals in its first thread only.  Threads that
 * sleep in a turn have all signals blocked, so the kernel makes no choice, and the signalfd of each of them tells of the signal.
 * So a thread that hears of one leaves it to the first thread if that one sleeps too, would take it, and hears of it
 * likewise; it looks again a little later.  A signal for this thread alone is not left to anybody: proc(5), SigPnd.
 *
 * If the first thread is not in a turn, it has the signal blocked, or has been given it; but it may be about to begin a turn, so it
 * is not looked for just once.  Among the others it is who comes first.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/guest/forward/forward.h"

#define NEARS_NS NS_PER_SEC

/* Signals that are pending for the calling thread alone.  Return: all, if that cannot be found out. */
static uint64_t own_pending(void)
{
	static const char name[] = "\nSigPnd:\t";
	const int64_t fd = raw3(__NR_open, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
	uint64_t set = 0;
	char text[2048];
	const char *at;
	int64_t n;

	if (fd < 0)
		return ALL_SIGNALS;
	n = raw3(__NR_read, fd, text, sizeof(text) - 1);
	raw1(__NR_close, fd);
	text[n > 0 ? n : 0] = 0;
	at = strstr(text, name);
	if (!at)
		return ALL_SIGNALS;
	for (at += sizeof(name) - 1; (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'); at++)
		set = set << 4 | (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
	return set;
}

static int64_t nears_ns; /* since when the first thread has been about to block signals or to unblock them; 0: it is not */

bool forward_election_nears(int32_t tid)
{
	if (tid != forward_live->pid || !clone_threads())
		return false;
	__atomic_store_n(&nears_ns, forward_now_ns(), __ATOMIC_SEQ_CST);
	return true;
}

void forward_election_over(void)
{
	__atomic_store_n(&nears_ns, 0, __ATOMIC_SEQ_CST);
}

/* A handler that leaves by siglongjmp() does not go on to its end: hence the limit. */
static bool is_near(void)
{
	const int64_t since = __atomic_load_n(&nears_ns, __ATOMIC_SEQ_CST);

	return since && forward_now_ns() - since < NEARS_NS;
}

bool forward_election_lost(const struct forward_entry *mine, uint32_t looks)
{
	const struct forward_entry *first;
	uint64_t pending = 0;

	if (!clone_threads() || mine->tid == forward_live->pid)
		return false;
	first = forward_pool_of(forward_live->pid);
	if (!first && !is_near() && looks)
		return false;
	if (raw2(__NR_rt_sigpending, &pending, 8))
		return false;
	pending &= ~__atomic_load_n(&mine->mask, __ATOMIC_RELAXED) & ~SIGSYS_BIT;
	if (pending & own_pending())
		return false;
	return !first || !(pending & __atomic_load_n(&first->mask, __ATOMIC_SEQ_CST));
}
