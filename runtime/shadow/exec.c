/* exec.c - executors: the threads that run a service
 *
 * Theory of operation
 *
 * An executor alternates between C (exec_step(), which calls the service) and the stub of start.S, which makes one
 * system call.  Everything it waits for is such a call: a message (a futex on its mailbox), the sending of a reply,
 * the calls of the service.  So blocked executors are all alike, and stopping one is the same for all.
 *
 * Two words tie it to the control thread: `state` is the executor's, `order` the control thread's.
 *
 *   stop softly   order = STOP.  An executor in C finishes its step, sees the order before the stub and parks.  One
 *		   in a call stays there; when the call returns it parks before it enters C.  Enough to change the mirror.
 *   stop hard     and a signal to those in a call.  It interrupts the call; see exec_signal in start.S.  Needed to
 *		   move.
 *   stop quietly  the same, but only calls of the service are interrupted, and who waits for a page of a mirror that
 *		   faults is left alone (demand.c): nobody uses the guest's memory then.
 *   go            order = GO.
 *   nudge	   order = NUDGE, and a signal to who is in a call: it leaves the stub, turns the order into GO and looks again
 *		   at what there is to do.  Nobody waits for it.  So a guest's interrupt reaches a call that is blocked, and
 *		   one that is about to be made, and cannot fall in between: `interrupt` is looked at after each order.
 *
 * In demand mode an executor may wait for memory, in C or in a call, and what it waits for comes through the control
 * thread: who waits for executors serves the channel in between.  A signal does not end such waiting: in C the access is
 * tried again after the handler, in a call the kernel goes on trying and delivers the signal afterwards.
 *
 * That none slips through: executor: "state = IN_CALL; barrier; read order", control thread: "order = STOP; barrier;
 * read state".  One of them sees the other's store.  If the control thread reads RUNNING, the executor reads STOP at
 * the latest before its next call.  If it reads IN_CALL, the executor is in the stub, or has left it and reads STOP at
 * the head of its loop before it enters C.
 *
 * A call that was interrupted is issued again with its arguments worked out anew, since handles have new addresses.
 * What the kernel says then decides what "exactly once" means (signal(7), "Interruption of system calls"): with a
 * result other than EINTR the call has happened and is not repeated; with EINTR it has done nothing, except close(),
 * which has closed.  Relative timeouts become deadlines on the first issue, so that interruptions do not lengthen
 * them.  A write cut short after a part of its bytes is continued with the rest.
 */
#include "runtime/shadow/capsule.h"

#include <errno.h>

#define NO_REPLY UINT32_MAX
#define NR_epoll_pwait2 441 /* Linux 5.11 */
#define MSG_NOSIGNAL 0x4000
#define FUTEX_WAIT 0
#define FUTEX_CMD_MASK (~(128 | 256))
#define TIMER_ABSTIME 1
#define CLONE_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000) /* VM FS FILES SIGHAND THREAD SYSVSEM */
#define NS_PER_SEC INT64_C(1000000000)
#define SERVE_NS 200000u /* between two looks at the channel while an executor is waited for */
_Static_assert(DS_SHADOW_EXECUTORS_MAX <= 64, "a word has a bit for each executor");

struct shadow_exec *exec_at(uint32_t i)
{
	return (struct shadow_exec *)(cap_image() - CAP_CTL_BLOCK - (uint64_t)i * CAP_EXEC_BLOCK - CAP_EXEC_BYTES);
}

/* --- timeouts ---------------------------------------------------------------------------------------------------- */

/* Which argument of the call is a relative timeout: 0-5, or -1; @ms: a number of milliseconds, not a timespec. */
static int timeout_arg(const struct shadow_exec *x, bool *ms)
{
	*ms = false;
	switch (x->nr) {
	case __NR_poll: *ms = true; return 2;
	case __NR_epoll_wait:
	case __NR_epoll_pwait: *ms = true; return 3;
	case NR_epoll_pwait2: return 3;
	case __NR_nanosleep: return 0;
	case __NR_clock_nanosleep: return x->args[1] & TIMER_ABSTIME ? -1 : 2;
	case __NR_futex: return ((int)x->args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT ? 3 : -1;
	default: return -1; /* select, pselect6 and ppoll leave the rest in the caller's timeout themselves */
	}
}

/* On the first issue: when the timeout will be over.  0: never, or the kernel will refuse it. */
static uint64_t deadline(uint64_t word, bool ms)
{
	struct sys_timespec ts;

	if (ms)
		return (int32_t)word >= 0 ? sys_now_ns() + (uint64_t)(int32_t)word * 1000000u : 0;
	if (!word || guard_copy(&ts, (const void *)word, sizeof(ts)))
		return 0;
	if (ts.sec < 0 || ts.sec > INT64_MAX / NS_PER_SEC / 4 || ts.nsec < 0 || ts.nsec >= NS_PER_SEC)
		return 0;
	return sys_now_ns() + (uint64_t)(ts.sec * NS_PER_SEC + ts.nsec);
}

static void set_timeout(struct shadow_exec *x, int arg, bool ms)
{
	uint64_t now, left;

	if (!x->issued) {
		x->deadline_ns = deadline(x->regs[1 + arg], ms);
		return;
	}
	if (!x->deadline_ns)
		return;
	now = sys_now_ns();
	left = now < x->deadline_ns ? x->deadline_ns - now : 0;
	if (ms) {
		x->regs[1 + arg] = (left + 999999) / 1000000;
		return;
	}
	x->left = (struct sys_timespec){(int64_t)left / NS_PER_SEC, (int64_t)left % NS_PER_SEC};
	x->regs[1 + arg] = (uint64_t)&x->left;
}

/* --- one call ---------------------------------------------------------------------------------------------------- */

static void set_regs(struct shadow_exec *x, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t regs[7] = {(uint64_t)nr, a, b, c, d, 0, 0};

	memcpy(x->regs, regs, sizeof(regs));
}

/* Fills the registers; everything that is an address in the capsule is looked up now. */
static void prepare(struct shadow_exec *x)
{
	bool ms;
	int arg;

	switch (x->doing) {
	case CAP_MAIL: set_regs(x, __NR_futex, (uint64_t)&x->mail, SYS_FUTEX_WAIT_PRIVATE, 0, 0); break;
	case CAP_SEND:
		set_regs(x, __NR_sendto, DS_SHADOW_CTL_FD, (uint64_t)&x->out, x->out.message.head.bytes, MSG_NOSIGNAL);
		break;
	case CAP_NOTHING: set_regs(x, __NR_gettid, 0, 0, 0, 0); break;
	case CAP_CALL:
		x->regs[0] = (uint64_t)x->nr;
		for (int i = 0; i < 6; i++)
			x->regs[1 + i] = x->handles & 1u << i ? cap_image() + x->args[i] : x->args[i];
		arg = timeout_arg(x, &ms);
		if (arg >= 0)
			set_timeout(x, arg, ms);
		break;
	}
	if (x->cut)
		x->restarts++;
	x->cut = 0;
	x->issued = 1;
}

static void begin(struct shadow_exec *x, enum shadow_next next)
{
	x->phase = EXEC_ISSUE;
	x->issued = 0;
	x->cut = 0;
	switch (next) {
	case SHADOW_CALL:
		x->doing = CAP_CALL;
		x->for_guest = x->handles & SHADOW_FOR_GUEST;
		if (x->for_guest) {
			/* In this order; an interrupt that misses `busy` by a moment has come too early (exec_interrupt()). */
			__atomic_store_n(&x->interrupt, 0, __ATOMIC_RELAXED);
			__atomic_store_n(&x->busy, 1, __ATOMIC_RELEASE);
		}
		x->transferred = 0;
		x->deadline_ns = 0;
		break;
	case SHADOW_AGAIN:
		x->doing = CAP_NOTHING;
		/* Through the stub only if somebody wants us to stop. */
		if (__atomic_load_n(&x->order, __ATOMIC_ACQUIRE) == EXEC_GO)
			x->phase = EXEC_DONE;
		break;
	default: x->doing = CAP_MAIL; break;
	}
}

/*
 * Whether the guest wants the call to end that is to be issued: it ends as if it had been interrupted then.  Without a barrier, as
 * each call is made without one more: who sets `interrupt` after this look gives an order then, which the head of the stub sees.
 */
static bool guest_interrupts(struct shadow_exec *x)
{
	if (x->doing != CAP_CALL || !x->for_guest || !__atomic_load_n(&x->interrupt, __ATOMIC_ACQUIRE))
		return false;
	__atomic_store_n(&x->interrupt, 0, __ATOMIC_RELAXED);
	x->result = x->transferred ? 0 : -EINTR;
	x->phase = EXEC_DONE;
	return true;
}

/* Whether the call has its final result; else the rest of it is to be issued. */
static bool finished(struct shadow_exec *x)
{
	if ((x->nr == __NR_write || x->nr == __NR_pwrite64) && x->cut && x->result > 0 && (uint64_t)x->result < x->args[2]) {
		x->transferred += x->result;
		x->args[1] += (uint64_t)x->result;
		x->args[2] -= (uint64_t)x->result;
		if (x->nr == __NR_pwrite64)
			x->args[3] += (uint64_t)x->result;
		x->phase = EXEC_ISSUE;
		return false;
	}
	if (x->transferred)
		x->result = x->transferred + (x->result > 0 ? x->result : 0);
	return true;
}

/* Whether there is something to tell the service. */
static bool take_event(struct shadow_exec *x, struct shadow_event *ev)
{
	switch (x->doing) {
	case CAP_MAIL:
		if (!__atomic_load_n(&x->mail, __ATOMIC_ACQUIRE)) {
			x->phase = EXEC_ISSUE;
			return false;
		}
		x->reply_seq = x->mail_seq;
		*ev = (struct shadow_event){.kind = x->mail == CAP_MAIL_BELL ? SHADOW_EV_BELL : SHADOW_EV_MESSAGE,
					    .payload = x->inbox,
					    .payload_bytes = x->mail_bytes};
		return true;
	case CAP_SEND:
		if (x->result < 0)
			ctl_lost(x->result);
		begin(x, x->next);
		return false;
	case CAP_NOTHING: *ev = (struct shadow_event){.kind = SHADOW_EV_AGAIN}; return true;
	default:
		if (!finished(x))
			return false;
		if (x->for_guest)
			__atomic_store_n(&x->busy, 0, __ATOMIC_RELEASE);
		*ev = (struct shadow_event){.kind = SHADOW_EV_RESULT, .result = x->result};
		return true;
	}
}

void exec_step(struct shadow_exec *x)
{
	for (;;) {
		struct shadow_event ev;
		enum shadow_next next;

		if (x->phase == EXEC_ISSUE && !guest_interrupts(x)) {
			prepare(x);
			return;
		}
		if (!take_event(x, &ev))
			continue;
		x->reply_bytes = NO_REPLY;
		next = shadow_service.step(x, &ev);
		if (next == SHADOW_WAIT) /* it has done with its bell */
			__atomic_store_n(&x->bell, 0, __ATOMIC_RELEASE);
		if (ev.kind == SHADOW_EV_MESSAGE || ev.kind == SHADOW_EV_BELL)
			__atomic_store_n(&x->mail, 0, __ATOMIC_RELEASE);
		begin(x, next);
		if (x->reply_bytes != NO_REPLY) {
			x->next = next;
			x->doing = CAP_SEND;
			x->phase = EXEC_ISSUE;
		}
	}
}

/* --- from the control thread ------------------------------------------------------------------------------------- */

void exec_wake(uint32_t *word)
{
	sys(futex, word, SYS_FUTEX_WAKE_PRIVATE, INT32_MAX);
}

static uint32_t state_of(const struct shadow_exec *x)
{
	return __atomic_load_n(&x->state, __ATOMIC_SEQ_CST);
}

static void set_order(struct shadow_exec *x, uint32_t order)
{
	__atomic_store_n(&x->order, order, __ATOMIC_SEQ_CST);
}

int exec_start(void)
{
	for (uint32_t i = 0; i < cap.boot.nexecutors; i++) {
		struct shadow_exec *x = exec_at(i);
		long tid;

		x->index = i;
		begin(x, SHADOW_WAIT);
		tid = exec_clone(CLONE_FLAGS, x);
		if (tid < 0)
			return (int)tid;
		x->tid = (int32_t)tid;
		cap.nexec++;
	}
	return 0;
}

/* Whether the call it is in may use the guest's memory.  A service with bells says so of each call; of others all may. */
static bool uses_guest(const struct shadow_exec *x)
{
	return x->doing == CAP_CALL && (x->for_guest || !shadow_service.bells);
}

/* `doing` is the executor's, but it has written it before it said that it is in a call, and does not go on. */
static bool stopped(const struct shadow_exec *x, uint32_t state, enum exec_how how)
{
	if (how == EXEC_STOP_QUIET && demand_waits(x->tid))
		return true;
	if (state == EXEC_IN_CALL)
		return how == EXEC_STOP_SOFT || (how == EXEC_STOP_QUIET && !uses_guest(x));
	return state == EXEC_PARKED || state == EXEC_ARRIVED;
}

/*
 * Interrupts the call that @x is in, if it has to stop.  In C no signal is needed: the order is seen before the next call.
 * Return: whether it is in one.
 */
static bool interrupt(const struct shadow_exec *x, enum exec_how how)
{
	const uint32_t state = state_of(x);

	if (state != EXEC_IN_CALL || stopped(x, state, how))
		return false;
	sys(tgkill, cap.pid, x->tid, CAP_STOP_SIGNAL);
	return true;
}

/* Return: whether @x stopped before @until_ns.  @told: it has been interrupted. */
static bool await_stop(struct shadow_exec *x, enum exec_how how, uint64_t until_ns, bool told)
{
	const uint64_t longest_ns = cap.boot.mode == DS_SHADOW_DEMAND ? SERVE_NS : UINT64_MAX;

	for (;;) {
		uint32_t state = state_of(x);
		uint64_t now, left_ns;
		struct sys_timespec left;

		if (stopped(x, state, how))
			return true;
		if (!told)
			told = interrupt(x, how);
		now = sys_now_ns();
		if (now >= until_ns)
			return false;
		left_ns = until_ns - now < longest_ns ? until_ns - now : longest_ns;
		left = (struct sys_timespec){(int64_t)left_ns / NS_PER_SEC, (int64_t)left_ns % NS_PER_SEC};
		sys(futex, &x->state, SYS_FUTEX_WAIT_PRIVATE, state, &left);
		if (cap.boot.mode == DS_SHADOW_DEMAND)
			ctl_serve();
	}
}

int exec_stop(enum exec_how how, uint32_t *who)
{
	uint64_t until_ns = sys_now_ns() + (uint64_t)cap.boot.stop_timeout_ms * 1000000u, told = 0;

	for (uint32_t i = 0; i < cap.nexec; i++)
		set_order(exec_at(i), EXEC_STOP);
	for (uint32_t i = 0; i < cap.nexec; i++)
		told |= (uint64_t)interrupt(exec_at(i), how) << i;
	/* What is served while one is waited for may wake another that waited for a page: until all have stopped at once. */
	for (bool all = false; !all;) {
		all = true;
		for (uint32_t i = 0; i < cap.nexec; i++) {
			if (stopped(exec_at(i), state_of(exec_at(i)), how))
				continue;
			all = false;
			if (!await_stop(exec_at(i), how, until_ns, told >> i & 1)) {
				*who = i;
				exec_go();
				return -EBUSY;
			}
		}
	}
	return 0;
}

void exec_interrupt(uint32_t i)
{
	struct shadow_exec *x = exec_at(i);

	if (!__atomic_load_n(&x->busy, __ATOMIC_SEQ_CST)) /* it would hit the next call: who sent it asks again if it waits */
		return;
	__atomic_store_n(&x->interrupt, 1, __ATOMIC_SEQ_CST);
	/* Who has been told to stop looks at it when he goes on. */
	if (__atomic_load_n(&x->order, __ATOMIC_SEQ_CST) != EXEC_STOP)
		set_order(x, EXEC_NUDGE);
	if (state_of(x) == EXEC_IN_CALL)
		sys(tgkill, cap.pid, x->tid, CAP_STOP_SIGNAL);
}

void exec_go(void)
{
	for (uint32_t i = 0; i < cap.nexec; i++) {
		set_order(exec_at(i), EXEC_GO);
		exec_wake(&exec_at(i)->order);
	}
}

void exec_jump(int64_t delta)
{
	for (uint32_t i = 0; i < cap.nexec; i++) {
		struct shadow_exec *old = (struct shadow_exec *)((char *)exec_at(i) - delta);

		old->delta = delta;
		set_order(old, EXEC_JUMP);
		exec_wake(&old->order);
	}
	for (uint32_t i = 0; i < cap.nexec; i++) {
		while (state_of(exec_at(i)) != EXEC_ARRIVED)
			sys(futex, &exec_at(i)->state, SYS_FUTEX_WAIT_PRIVATE, EXEC_PARKED);
	}
}
