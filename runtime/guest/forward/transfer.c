/* transfer.c - a call goes to the host and comes back; signals meanwhile
 *
 * Theory of operation
 *
 * runtime/wire/forward.h says how slot and bell work; this is the guest's side of it.  Signals are blocked from before a call is
 * posted until its result is taken, SIGSYS excepted.  While the thread sleeps, a signalfd whose set is what the program has
 * not blocked and would notice (a handler, or a default action that ends or stops it) is polled beside the bell: readable means that
 * a signal is pending for this thread.  Then the host's call is interrupted, its result awaited, and the signals are
 * unblocked: handlers run where the kernel would run them, between the end of the call and the program.
 *
 * A call that ended with -EINTR starts again as signal(7) says: if every handler that runs has SA_RESTART, and the call is
 * not one of those that never restart.  A stop and its continuation restart it too.
 *
 * What a signal does is asked from the kernel once and kept until the program changes an action.  Whoever changes one sees to
 * the threads that sleep: each has said so (`sleeps`) before it looked at the count of changes for the last time, and the count is
 * raised before `sleeps` is read, so that one of the two sets the signalfd anew, which wakes its poll if need be.  A
 * thread that is about to be cancelled is such a case: the C library installs its handler with the first pthread_cancel(), and what
 * started the program may have left that signal ignored.
 */
#include <errno.h>
#include <linux/time_types.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>

#include "runtime/guest/forward/forward.h"
#include "runtime/guest/forward/spin.h"
#include "runtime/guest/forward/window.h"

#define AGAIN_NS (NS_PER_SEC / 10) /* an interruption is said again, in case the host's call had not begun */
#define LEFT_NS 2000000		   /* a signal that is left to another thread is looked for again after that */
#define TRIES 5u		   /* a millisecond each, before another call is interrupted */
#define LENT_TRIES 5000u		   /* a millisecond each */
#define EVICTED_NS 3000000	   /* who was interrupted stays away for so long */
#define SHIFT_MAX 6u		   /* both double with each interruption, so often at most */
#define BIT(n) (UINT64_C(1) << ((n) - 1))
#define NO_SET UINT64_MAX /* no set is this: SIGKILL is never in it */

struct action {
	uint64_t handler, flags, restorer, mask;
};

/* Sets of signals: the program notices them; has a handler without SA_RESTART for them. */
struct reactions {
	uint64_t noticed, ends_calls;
};

static uint32_t changes; /* of actions */
static struct {
	struct reactions reactions;
	uint32_t at;	/* `changes` then, plus one; 0: being written */
	uint32_t taken; /* by who writes: one at a time, and nobody waits for it */
} cached;

int64_t forward_now_ns(void)
{
	struct __kernel_timespec ts = {0, 0};

	raw2(__NR_clock_gettime, CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

static struct reactions ask_reactions(void)
{
	const uint64_t nothing = BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGURG) | BIT(SIGWINCH);
	struct reactions r = {0};

	for (int n = 1; n <= 64; n++) {
		struct action act = {0};

		if (n == SIGKILL || n == SIGSTOP || n == SIGSYS_NR || raw4(__NR_rt_sigaction, n, 0, &act, 8))
			continue;
		if (act.handler == (uint64_t)SIG_IGN || (act.handler == (uint64_t)SIG_DFL && nothing & BIT(n)))
			continue;
		r.noticed |= BIT(n);
		if (act.handler != (uint64_t)SIG_DFL && !(act.flags & SA_RESTART))
			r.ends_calls |= BIT(n);
	}
	return r;
}

/* Under blocked signals: who has `cached.taken` goes on to give it back.  @at: set to the count of changes it holds for. */
static struct reactions look_at_actions(uint32_t *at)
{
	const uint32_t now = __atomic_load_n(&changes, __ATOMIC_SEQ_CST);
	struct reactions r;

	*at = now;
	if (__atomic_load_n(&cached.at, __ATOMIC_ACQUIRE) == now + 1) {
		r.noticed = __atomic_load_n(&cached.reactions.noticed, __ATOMIC_RELAXED);
		r.ends_calls = __atomic_load_n(&cached.reactions.ends_calls, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&cached.at, __ATOMIC_RELAXED) == now + 1)
			return r;
	}
	r = ask_reactions();
	if (!__atomic_exchange_n(&cached.taken, 1, __ATOMIC_ACQUIRE)) {
		__atomic_store_n(&cached.at, 0, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_RELEASE);
		__atomic_store_n(&cached.reactions.noticed, r.noticed, __ATOMIC_RELAXED);
		__atomic_store_n(&cached.reactions.ends_calls, r.ends_calls, __ATOMIC_RELAXED);
		__atomic_store_n(&cached.at, now + 1, __ATOMIC_RELEASE);
		__atomic_store_n(&cached.taken, 0, __ATOMIC_RELEASE);
	}
	return r;
}

/* The signalfd of an entry is for what its thread would notice now. */
static void watch_signals(struct forward_entry *e)
{
	uint32_t at;

	do {
		const uint64_t set = look_at_actions(&at).noticed & ~e->mask;

		if (e->sigfd >= 0 && __atomic_load_n(&e->sigset, __ATOMIC_SEQ_CST) == set)
			continue;
		__atomic_store_n(&e->sigset, set, __ATOMIC_SEQ_CST);
		if (e->sigfd >= 0)
			raw4(__NR_signalfd4, e->sigfd, &set, 8, 0);
		else
			forward_own_add(raw4(__NR_signalfd4, -1, &set, 8, SFD_CLOEXEC | SFD_NONBLOCK), &e->sigfd);
	} while (__atomic_load_n(&changes, __ATOMIC_SEQ_CST) != at);
}

/* Whoever sets it looks again afterwards whether that was for what is so now: the last one to set it sets it right. */
static void actions_changed_for(struct forward_entry *e)
{
	uint64_t set;
	uint32_t at;

	do {
		set = look_at_actions(&at).noticed & ~__atomic_load_n(&e->mask, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&e->sleeps, __ATOMIC_SEQ_CST) || e->sigfd < 0)
			return;
		__atomic_store_n(&e->sigset, NO_SET, __ATOMIC_SEQ_CST); /* its owner does not rely on it the next time */
		raw4(__NR_signalfd4, e->sigfd, &set, 8, 0);
	} while (__atomic_load_n(&changes, __ATOMIC_SEQ_CST) != at ||
		 (look_at_actions(&at).noticed & ~__atomic_load_n(&e->mask, __ATOMIC_SEQ_CST)) != set);
}

void forward_actions_changed(void)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	uint64_t mask = 0;

	__atomic_fetch_add(&changes, 1, __ATOMIC_SEQ_CST);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &mask, 8);
	forward_pool_each(actions_changed_for);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
}

/* --- the bell -------------------------------------------------------------------------------------------------------- */

static void ring(const struct forward_entry *e, uint8_t what)
{
	raw6(__NR_sendto, e->bell, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
}

/* Takes the rings.  Return: false: the bell is gone. */
static bool drain(const struct forward_entry *e)
{
	uint8_t rings[64];
	const int64_t n = raw6(__NR_recvfrom, e->bell, rings, sizeof(rings), MSG_DONTWAIT, 0, 0);

	return n > 0 || n == -EAGAIN || n == -EINTR;
}

static bool is_done(const struct forward_entry *e)
{
	return ds_forward_done(e->slot);
}

void forward_turn_post(struct forward_turn *turn, uint64_t nr, const uint64_t arg[6])
{
	struct forward_entry *e = turn->entry;
	struct ds_forward_slot *slot = e->slot;

	slot->nr = nr;
	for (int i = 0; i < 6; i++)
		slot->arg[i] = arg[i];
	if (ds_forward_post(slot))
		ring(e, DS_FORWARD_RING);
}

static bool to_timespec(int64_t left_ns, struct __kernel_timespec *ts)
{
	*ts = (struct __kernel_timespec){left_ns / NS_PER_SEC, left_ns % NS_PER_SEC};
	return true;
}

enum forward_event forward_turn_wait(struct forward_turn *turn, struct pollfd *fds, uint32_t nfds, int64_t deadline_ns)
{
	struct forward_entry *e = turn->entry;
	struct pollfd two[2];
	enum forward_event event = FORWARD_E_DONE;
	uint32_t looks = 0;
	int64_t left_ns = 0; /* a signal has been left to another thread: until then */

	if (!fds) {
		fds = two;
		nfds = 2;
	}
	fds[0] = (struct pollfd){.fd = e->bell, .events = POLLIN};
	__atomic_store_n(&e->mask, turn->mask, __ATOMIC_SEQ_CST);
	__atomic_store_n(&e->sleeps, !turn->told, __ATOMIC_SEQ_CST);
	if (!turn->told)
		watch_signals(e);
	fds[1] = (struct pollfd){.fd = turn->told ? -1 : e->sigfd, .events = POLLIN};
	__atomic_store_n(&e->slot->guest_asleep, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	while (!is_done(e)) {
		struct __kernel_timespec ts;
		const int64_t now = deadline_ns < 0 && !left_ns ? 0 : forward_now_ns();
		int64_t n, until;

		if (deadline_ns >= 0 && now >= deadline_ns) {
			event = FORWARD_E_TIME;
			break;
		}
		if (left_ns && now >= left_ns) {
			left_ns = 0;
			fds[1].fd = e->sigfd;
		}
		until = left_ns && (deadline_ns < 0 || left_ns < deadline_ns) ? left_ns : deadline_ns;
		n = raw6(__NR_ppoll, fds, nfds, until >= 0 && to_timespec(until - now, &ts) ? &ts : NULL, 0, 0, 0);
		if (n <= 0)
			continue;
		if (fds[0].revents && !drain(e)) {
			event = is_done(e) ? FORWARD_E_DONE : FORWARD_E_DEAD;
			break;
		}
		if (is_done(e))
			break;
		if (fds[1].revents) {
			if (forward_election_lost(e, looks++)) {
				left_ns = forward_now_ns() + LEFT_NS;
				fds[1].fd = -1;
				continue;
			}
			event = FORWARD_E_SIGNAL;
			break;
		}
		if (n > !!fds[0].revents) {
			event = FORWARD_E_READY;
			break;
		}
	}
	__atomic_store_n(&e->sleeps, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&e->slot->guest_asleep, 0, __ATOMIC_RELAXED);
	return event;
}

int64_t forward_turn_finish(struct forward_turn *turn)
{
	while (!is_done(turn->entry)) {
		enum forward_event event;

		turn->told = true;
		ring(turn->entry, DS_FORWARD_INTERRUPT);
		event = forward_turn_wait(turn, NULL, 0, forward_now_ns() + AGAIN_NS);
		if (event == FORWARD_E_DEAD)
			return forward_dead("the connection to its host has ended");
	}
	return ds_forward_take(turn->entry->slot);
}

static int64_t complete(struct forward_turn *turn, bool noticing)
{
	const bool was = turn->told;
	const uint32_t spin_ns = forward_settings.spin_ns;

	if (!forward_spin(turn->entry->slot, spin_ns)) {
		enum forward_event event;

		turn->told = !noticing;
		event = forward_turn_wait(turn, NULL, 0, -1);
		turn->told = was;
		if (event == FORWARD_E_DEAD)
			return forward_dead("the connection to its host has ended");
		if (event == FORWARD_E_SIGNAL)
			return forward_turn_finish(turn);
	}
	forward_spin_learn(turn->entry->slot, spin_ns);
	return ds_forward_take(turn->entry->slot);
}

/* --- turns ----------------------------------------------------------------------------------------------------------- */

int64_t forward_turn_begin_again(struct forward_turn *turn, uint32_t evictions)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	const struct __kernel_timespec pause = {0, 1000000};
	const int32_t tid = clone_threads() ? (int32_t)raw0(__NR_gettid) : forward_live->pid;
	uint32_t tries = 0;
	int64_t error = 0;

	turn->told = false;
	forward_agent_settle();
	if (!forward_alive())
		return -EIO;
	for (;;) {
		const bool candidate = forward_election_nears(tid);

		raw4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &turn->mask, 8);
		turn->entry = forward_pool_take(&error);
		if (turn->entry) {
			__atomic_store_n(&turn->entry->mask, turn->mask, __ATOMIC_SEQ_CST);
			__atomic_store_n(&turn->entry->tid, tid, __ATOMIC_SEQ_CST);
		} else {
			raw4(__NR_rt_sigprocmask, SIG_SETMASK, &turn->mask, 0, 8);
		}
		if (candidate)
			forward_election_over();
		if (turn->entry)
			return 0;
		if (error != -EAGAIN)
			return error;
		if (++tries % (TRIES << (evictions < SHIFT_MAX ? evictions : SHIFT_MAX)) == 0)
			forward_pool_evict();
		/* Every executor has a call: handlers may run while one is waited for. */
		raw2(__NR_nanosleep, &pause, 0);
	}
}

int64_t forward_turn_begin_lent(struct forward_turn *turn)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	const struct __kernel_timespec pause = {0, 1000000};

	turn->told = false;
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &turn->mask, 8);
	for (uint32_t tries = 0; tries < LENT_TRIES && forward_alive(); tries++) {
		turn->entry = forward_pool_lend();
		if (turn->entry)
			return 0;
		raw2(__NR_nanosleep, &pause, 0);
	}
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &turn->mask, 0, 8);
	return -EAGAIN;
}

bool forward_turn_evicted(struct forward_turn *turn, int64_t result)
{
	/* Also when the interrupt was meant for the call before, which had ended by itself (runtime/wire/forward.h). */
	if (result != -EINTR || turn->told)
		return false;
	__atomic_store_n(&turn->entry->evicted, 0, __ATOMIC_RELAXED);
	return true;
}

void forward_turn_pause(uint32_t *evictions)
{
	const struct __kernel_timespec pause = {0, EVICTED_NS << (*evictions < SHIFT_MAX ? *evictions : SHIFT_MAX)};

	++*evictions;
	raw2(__NR_nanosleep, &pause, 0);
}

void forward_turn_end(struct forward_turn *turn)
{
	const uint64_t mask = turn->mask;

	const bool candidate = turn->told && forward_election_nears(turn->entry->tid);

	forward_pool_give(turn->entry);
	turn->entry = NULL;
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
	if (candidate)
		forward_election_over();
}

int64_t forward_turn_call(struct forward_turn *turn, uint64_t nr, const uint64_t arg[6])
{
	turn->told = false;
	forward_turn_post(turn, nr, arg);
	return complete(turn, true);
}

int64_t forward_turn_quick(struct forward_turn *turn, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t arg[6] = {a, b, c, d, 0, 0};
	int64_t result;

	turn->told = false;
	do {
		forward_turn_post(turn, nr, arg);
		result = complete(turn, false);
	} while (forward_turn_evicted(turn, result));
	return result;
}

bool forward_turn_restarts(const struct forward_turn *turn)
{
	uint64_t pending = 0;
	uint32_t at;

	if (!turn->told)
		return false;
	raw2(__NR_rt_sigpending, &pending, 8);
	return !(pending & ~turn->mask & look_at_actions(&at).ends_calls);
}

int64_t forward_call_then(const struct intercept_call *call, const struct forward_rule *rule, forward_then *then, void *ctx)
{
	uint32_t evictions = 0, faults = 0;

	for (;;) {
		struct forward_turn turn;
		bool again, evicted;
		int64_t result;

		forward_memory_ready(call->nr, call->arg, rule->flags & FORWARD_NESTED);
		result = forward_turn_begin_again(&turn, evictions);
		if (result)
			return result;
		result = forward_turn_call(&turn, call->nr, call->arg);
		/* Such a call may end so by itself (KVM_RUN: immediate_exit), and its callers make it again. */
		evicted = !(rule->flags & FORWARD_NO_RESTART) && forward_turn_evicted(&turn, result);
		again = evicted || (result == -EINTR && !(rule->flags & FORWARD_NO_RESTART) && forward_turn_restarts(&turn));
		if (result >= 0 && then)
			result = then(&turn, result, ctx);
		forward_turn_end(&turn);
		if (evicted)
			forward_turn_pause(&evictions);
		if (!again && !forward_memory_again(result, &faults))
			return result;
	}
}

static int64_t adopt(struct forward_turn *turn, int64_t result, void *ctx)
{
	return forward_fd_adopt(turn, result, *(const enum forward_result *)ctx == FORWARD_R_FD_CLOEXEC);
}

int64_t forward_call_fd(const struct intercept_call *call, const struct forward_rule *rule, enum forward_result kind)
{
	return forward_call_then(call, rule, kind == FORWARD_R_PLAIN ? NULL : adopt, &kind);
}

int64_t forward_call(const struct intercept_call *call, const struct forward_rule *rule)
{
	return forward_call_fd(call, rule, FORWARD_R_PLAIN);
}

int64_t forward_quick(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct forward_turn turn;
	int64_t result = forward_turn_begin(&turn);

	if (result)
		return result;
	result = forward_turn_quick(&turn, nr, a, b, c, d);
	forward_turn_end(&turn);
	return result;
}
