/* signals.c - SIGSYS is ours; what the program thinks of it is kept on paper
 *
 * Theory of operation
 *
 * A SIGSYS that is blocked or has no handler when a call traps kills the process (Linux, kernel/signal.c, force_sig_info).
 * So it is never blocked: it is taken out of every mask on its way to the kernel (rt_sigprocmask, sa_mask, rt_sigsuspend,
 * ppoll, pselect6, epoll_pwait, io_pgetevents; of the mask that a handler's frame brings back, in entry.S).  And its action is
 * always ours.
 *
 * What the program is told instead:
 *   - its action for SIGSYS, from a copy; a SIGSYS that is no trap (kill, raise, seccomp) gets it;
 *   - which threads believe to have blocked it, in a table by thread id; in such a thread a SIGSYS from outside stays
 *     pending until it is unblocked.  The table is looked at only while there is an entry in it, which is rare except
 *     around thread creation, where the C library blocks all signals for a moment;
 *   - which sa_mask had it.  While such a handler runs, SIGSYS is not held back: nobody sees a handler begin.
 *     And a program that is executed with SIGSYS blocked begins with it unblocked; ignored it stays ignored.
 *
 * The handler does nothing but send the thread to intercept_entry.  It runs with all signals blocked, on the alternate
 * stack if there is one: a thread whose own stack is too small for signals has one.  A program may unmap its alternate stack
 * and leave it set, if it expects no further signal that would use it; SIGSYS would, so it is taken back with its memory.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#include "runtime/guest/intercept/internal.h"

#define KERNEL_SA_RESTORER 0x04000000u
#define SIGSET_BYTES 8
#define TABLE 1024 /* threads that believe SIGSYS to be blocked; beyond these nobody is told */

/* The kernel's struct sigaction and struct sigset_argpack. */
struct action {
	uint64_t handler, flags, restorer, mask;
};
struct maskpack {
	uint64_t mask, bytes;
};

static struct action wanted[2]; /* the program's for SIGSYS: wanted[current] */
static uint32_t current;
static uint64_t masks_with_sigsys; /* bit n - 1: the program's sa_mask for signal n has it */
static struct {
	uint32_t tid;
	uint32_t pending;
} hidden[TABLE];
static uint32_t nhidden;

static int32_t find(uint32_t tid)
{
	if (!__atomic_load_n(&nhidden, __ATOMIC_RELAXED))
		return -1;
	for (int32_t i = 0; i < TABLE; i++)
		if (__atomic_load_n(&hidden[i].tid, __ATOMIC_RELAXED) == tid)
			return i;
	return -1;
}

static void hide(uint32_t tid)
{
	if (find(tid) >= 0)
		return;
	for (int32_t i = 0; i < TABLE; i++) {
		uint32_t none = 0;

		if (__atomic_compare_exchange_n(&hidden[i].tid, &none, tid, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			hidden[i].pending = 0;
			__atomic_fetch_add(&nhidden, 1, __ATOMIC_RELAXED);
			return;
		}
	}
}

static void show(uint32_t tid)
{
	const int32_t at = find(tid);
	uint32_t pending;

	if (at < 0)
		return;
	pending = hidden[at].pending;
	__atomic_store_n(&hidden[at].tid, 0, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&nhidden, 1, __ATOMIC_RELAXED);
	if (pending)
		raw3(__NR_tgkill, raw0(__NR_getpid), tid, SIGSYS_NR);
}

bool signals_hidden(void)
{
	return __atomic_load_n(&nhidden, __ATOMIC_RELAXED) && find((uint32_t)raw0(__NR_gettid)) >= 0;
}

void signals_hide(void)
{
	hide((uint32_t)raw0(__NR_gettid));
}

/* --- the handler -------------------------------------------------------------------------------------------------- */

/* A SIGSYS that is no trap of ours: what the program wants done with it.  Signals are blocked. */
static void outside(siginfo_t *info, ucontext_t *context)
{
	const uint32_t tid = (uint32_t)raw0(__NR_gettid);
	const struct action action = wanted[__atomic_load_n(&current, __ATOMIC_ACQUIRE) & 1];
	struct action plain = {0};
	uint64_t mask = SIGSYS_BIT;
	int32_t at = find(tid);

	if (at >= 0) {
		hidden[at].pending = 1;
		return;
	}
	if (action.handler == (uint64_t)SIG_IGN)
		return;
	if (action.handler == (uint64_t)SIG_DFL) {
		raw4(__NR_rt_sigaction, SIGSYS_NR, &plain, 0, SIGSET_BYTES);
		raw3(__NR_tgkill, raw0(__NR_getpid), tid, SIGSYS_NR);
		raw4(__NR_rt_sigprocmask, SIG_UNBLOCK, &mask, 0, SIGSET_BYTES);
		return;
	}
	if (action.flags & SA_RESETHAND)
		wanted[current & 1].handler = (uint64_t)SIG_DFL;
	mask = (*(uint64_t *)&context->uc_sigmask | action.mask) & ~SIGSYS_BIT;
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, SIGSET_BYTES);
	if (!(action.flags & SA_NODEFER))
		hide(tid); /* another one waits until this one has been handled */
	((void (*)(int, siginfo_t *, void *))action.handler)(SIGSYS_NR, info, context);
	*(uint64_t *)&context->uc_sigmask &= ~SIGSYS_BIT;
	if (!(action.flags & SA_NODEFER))
		show(tid);
}

/* Whether a call has to be made on the stack that it comes with (stacks.c): the end of a handler; a thread that is made; a handler's. */
static bool stays(const ucontext_t *context)
{
	const greg_t *regs = context->uc_mcontext.gregs;
	const uint64_t sp = (uint64_t)regs[REG_RSP], nr = (uint64_t)regs[REG_RAX];

	return nr == __NR_rt_sigreturn || nr == __NR_clone3 || (nr == __NR_clone && regs[REG_RSI]) ||
	       (!(context->uc_stack.ss_flags & SS_DISABLE) && sp - (uint64_t)context->uc_stack.ss_sp <= context->uc_stack.ss_size);
}

static void on_sigsys(int signal, siginfo_t *info, void *context_pointer)
{
	ucontext_t *context = context_pointer;
	greg_t *regs = context->uc_mcontext.gregs;
	uint64_t top;

	(void)signal;
	if (info->si_code != SYS_USER_DISPATCH) {
		outside(info, context);
		return;
	}
	if ((unsigned int)info->si_arch != INTERCEPT_ARCH) { /* int $0x80: other numbers, other registers */
		regs[REG_RAX] = -ENOSYS;
		return;
	}
	regs[REG_RCX] = regs[REG_RIP];
	regs[REG_RIP] = (greg_t)intercept_entry;
	if (stacks_small && !stays(context) && (top = stacks_top())) {
		regs[REG_R11] = regs[REG_RSP];
		regs[REG_RSP] = (greg_t)top;
		regs[REG_RIP] = (greg_t)intercept_entry_small;
	}
}

/* A SIGSYS that the program handles with SA_RESTART, or ignores, is not to end a call that is blocked; traps do not care. */
int signals_install(void)
{
	const struct action *want = &wanted[__atomic_load_n(&current, __ATOMIC_ACQUIRE) & 1];
	const uint64_t restart = want->handler == (uint64_t)SIG_IGN ? SA_RESTART : want->flags & SA_RESTART;
	const struct action ours = {
		.handler = (uint64_t)on_sigsys,
		.flags = SA_SIGINFO | SA_ONSTACK | KERNEL_SA_RESTORER | restart,
		.restorer = (uint64_t)intercept_restorer,
		.mask = ALL_SIGNALS,
	};

	return intercept_traced() ? 0 : (int)raw4(__NR_rt_sigaction, SIGSYS_NR, &ours, 0, SIGSET_BYTES);
}

/* A trap while it is ignored kills: not with other threads.  A handler that runs before the exec is made is the price. */
bool signals_exec(void)
{
	const struct action ignored = {.handler = (uint64_t)SIG_IGN};

	if (intercept_traced() || wanted[__atomic_load_n(&current, __ATOMIC_ACQUIRE) & 1].handler != (uint64_t)SIG_IGN || clone_threads())
		return false;
	raw4(__NR_rt_sigaction, SIGSYS_NR, &ignored, 0, SIGSET_BYTES);
	return true;
}

int signals_start(void)
{
	const uint64_t sigsys = SIGSYS_BIT;
	uint64_t before = 0;
	int rc = (int)raw4(__NR_rt_sigaction, SIGSYS_NR, 0, &wanted[0], SIGSET_BYTES);

	if (!rc)
		rc = signals_install();
	if (!rc)
		rc = (int)raw4(__NR_rt_sigprocmask, SIG_UNBLOCK, &sigsys, &before, SIGSET_BYTES);
	if (!rc && before & SIGSYS_BIT)
		signals_hide();
	return rc;
}

/* --- the program's calls ------------------------------------------------------------------------------------------ */

static int64_t change_action(const struct intercept_call *call)
{
	const uint64_t n = call->arg[0];
	struct action act, old;
	bool had;
	int64_t ret;

	if (n == 0 || n > 64 || call->arg[3] != SIGSET_BYTES)
		return -EINVAL;
	if (call->arg[1] && intercept_fetch(&act, call->arg[1], sizeof(act)))
		return -EFAULT;
	had = n == SIGSYS_NR ? false : __atomic_load_n(&masks_with_sigsys, __ATOMIC_RELAXED) >> (n - 1) & 1;
	if (n == SIGSYS_NR) {
		const uint32_t now = __atomic_load_n(&current, __ATOMIC_ACQUIRE);

		old = wanted[now & 1];
		if (call->arg[1]) {
			wanted[(now + 1) & 1] = act;
			__atomic_store_n(&current, now + 1, __ATOMIC_RELEASE);
			signals_install();
		}
	} else {
		const uint64_t bit = UINT64_C(1) << (n - 1);
		const bool has = call->arg[1] && act.mask & SIGSYS_BIT;

		act.mask &= ~SIGSYS_BIT;
		ret = raw4(__NR_rt_sigaction, n, call->arg[1] ? &act : NULL, &old, SIGSET_BYTES);
		if (ret)
			return ret;
		if (call->arg[1] && has)
			__atomic_fetch_or(&masks_with_sigsys, bit, __ATOMIC_RELAXED);
		else if (call->arg[1] && had)
			__atomic_fetch_and(&masks_with_sigsys, ~bit, __ATOMIC_RELAXED);
	}
	if (had)
		old.mask |= SIGSYS_BIT;
	return call->arg[2] ? intercept_store(call->arg[2], &old, sizeof(old)) : 0;
}

static int64_t change_mask(const struct intercept_call *call)
{
	const bool any = __atomic_load_n(&nhidden, __ATOMIC_RELAXED);
	uint64_t set = 0, old = 0;
	bool named, was = false;
	uint32_t tid = 0;
	int64_t ret;

	if (call->arg[3] != SIGSET_BYTES)
		return -EINVAL;
	if (call->arg[1] && intercept_fetch(&set, call->arg[1], sizeof(set)))
		return -EFAULT;
	named = call->arg[1] && set & SIGSYS_BIT;
	set &= ~SIGSYS_BIT;
	if (any || named) {
		tid = (uint32_t)raw0(__NR_gettid);
		was = find(tid) >= 0;
	}
	ret = raw4(__NR_rt_sigprocmask, call->arg[0], call->arg[1] ? &set : NULL, &old, SIGSET_BYTES);
	if (ret)
		return ret;
	if (was)
		old |= SIGSYS_BIT;
	if (call->arg[2] && intercept_store(call->arg[2], &old, sizeof(old)))
		return -EFAULT;
	if (call->arg[1] && named && call->arg[0] != SIG_UNBLOCK)
		hide(tid);
	else if (call->arg[1] && was && (named || call->arg[0] == SIG_SETMASK))
		show(tid);
	return 0;
}

/* A call that takes a mask for its duration, in argument @at, or behind a pointer in it (@packed). */
static int64_t with_mask(const struct intercept_call *call, unsigned int at, bool packed)
{
	uint64_t arg[6], set;
	struct maskpack pack = {0};

	__builtin_memcpy(arg, call->arg, sizeof(arg));
	if (packed && arg[at]) {
		if (intercept_fetch(&pack, arg[at], sizeof(pack)))
			return -EFAULT;
		if (pack.mask) {
			if (intercept_fetch(&set, pack.mask, sizeof(set)))
				return -EFAULT;
			set &= ~SIGSYS_BIT;
			pack.mask = (uint64_t)&set;
			arg[at] = (uint64_t)&pack;
		}
	} else if (arg[at]) {
		if (intercept_fetch(&set, arg[at], sizeof(set)))
			return -EFAULT;
		set &= ~SIGSYS_BIT;
		arg[at] = (uint64_t)&set;
	}
	return intercept_raw(call->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

int64_t signals_unmap(const struct intercept_call *call)
{
	stack_t stack = {.ss_flags = SS_DISABLE}, none = {.ss_flags = SS_DISABLE};
	const uint64_t start = call->arg[0], end = start + call->arg[1];
	bool goes;
	int64_t ret;

	if (intercept_sandboxed() || intercept_traced())
		return raw2(__NR_munmap, call->arg[0], call->arg[1]);
	raw2(__NR_sigaltstack, 0, &stack);
	goes = !(stack.ss_flags & (SS_DISABLE | SS_ONSTACK)) && (uint64_t)stack.ss_sp < end &&
	       start < (uint64_t)stack.ss_sp + stack.ss_size;
	if (goes)
		raw2(__NR_sigaltstack, &none, 0);
	ret = raw2(__NR_munmap, call->arg[0], call->arg[1]);
	if (goes && ret)
		raw2(__NR_sigaltstack, &stack, 0);
	return ret;
}

/* SIGSYS that is pending on paper, for a thread that waits for it or asks: rt_sigtimedwait(), rt_sigpending(). */
static int32_t pending_here(void)
{
	const int32_t at = __atomic_load_n(&nhidden, __ATOMIC_RELAXED) ? find((uint32_t)raw0(__NR_gettid)) : -1;

	return at >= 0 && hidden[at].pending ? at : -1;
}

static bool wait_for_signal(const struct intercept_call *call, int64_t *result)
{
	const int32_t at = pending_here();
	siginfo_t info = {.si_signo = SIGSYS_NR, .si_code = SI_USER};
	uint64_t set;

	if (at < 0 || call->arg[3] != SIGSET_BYTES || intercept_fetch(&set, call->arg[0], sizeof(set)) || !(set & SIGSYS_BIT))
		return false;
	hidden[at].pending = 0;
	info.si_pid = (pid_t)raw0(__NR_getpid);
	*result = call->arg[1] && intercept_store(call->arg[1], &info, sizeof(info)) ? -EFAULT : SIGSYS_NR;
	return true;
}

static bool tell_pending(const struct intercept_call *call, int64_t *result)
{
	uint64_t set = 0;

	if (pending_here() < 0 || call->arg[1] > SIGSET_BYTES)
		return false;
	*result = raw2(__NR_rt_sigpending, &set, SIGSET_BYTES);
	set |= SIGSYS_BIT;
	if (!*result)
		*result = intercept_store(call->arg[0], &set, call->arg[1]);
	return true;
}

bool signals_call(struct intercept_call *call, int64_t *result)
{
	if (intercept_traced())
		return false;
	switch (call->nr) {
	case __NR_rt_sigaction: *result = change_action(call); return true;
	case __NR_rt_sigprocmask: *result = change_mask(call); return true;
	case __NR_rt_sigsuspend: *result = with_mask(call, 0, false); return true;
	case __NR_ppoll: *result = with_mask(call, 3, false); return true;
	case __NR_epoll_pwait: *result = with_mask(call, 4, false); return true;
	case __NR_epoll_pwait2: *result = with_mask(call, 4, false); return true;
	case __NR_pselect6: *result = with_mask(call, 5, true); return true;
	case __NR_io_pgetevents: *result = with_mask(call, 5, true); return true;
	case __NR_rt_sigtimedwait: return wait_for_signal(call, result);
	case __NR_rt_sigpending: return tell_pending(call, result);
	case __NR_exit:
		if (__atomic_load_n(&nhidden, __ATOMIC_RELAXED)) {
			const int32_t at = find((uint32_t)raw0(__NR_gettid));

			if (at >= 0)
				hidden[at].pending = 0;
			show((uint32_t)raw0(__NR_gettid));
		}
		return false;
	default: return false;
	}
}
