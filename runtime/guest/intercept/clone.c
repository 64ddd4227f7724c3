/* clone.c - threads and processes that the program makes: the dispatch goes along
 *
 * Theory of operation
 *
 * A child begins without dispatch (Linux, kernel/fork.c: clear_syscall_work_syscall_user_dispatch).  It has to set it
 * before the program goes on in it, and before a handler runs in it: signals are blocked from before the call until then.
 *
 * The child of a clone may have a stack of its own, with nothing of ours on it, or share its parent's (vfork), where it
 * overwrites what the parent has below its stack pointer.  So what both sides need is in a slot (static memory), and the
 * slot's address travels in rbx, which the call leaves alone; entry.S does that.  With memory of its own the child has its
 * own copy of the slot.  A slot is free again when all sides that see it have gone on; a child that is killed before costs
 * one, and without slots a clone fails as it does without memory (EAGAIN).
 */
#include <errno.h>
#include <linux/prctl.h>
#include <linux/sched.h>

#include "runtime/guest/intercept/internal.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#define NSLOTS 32768 /* bounds how deep a chain of vforks gets; pages that are not used cost nothing */

static struct intercept_slot slots[NSLOTS];
static bool threads;

bool clone_threads(void)
{
	return __atomic_load_n(&threads, __ATOMIC_RELAXED);
}

int clone_arm(void)
{
	if (intercept_traced())
		return 0;
	return (int)intercept_raw(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, (uint64_t)intercept_exempt_start,
				  (uint64_t)(intercept_exempt_end - intercept_exempt_start), 0, 0);
}

static struct intercept_slot *slot_take(uint32_t refs)
{
	for (unsigned int i = 0; i < NSLOTS; i++) {
		uint32_t none = 0;

		if (__atomic_compare_exchange_n(&slots[i].refs, &none, refs, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return &slots[i];
	}
	return NULL;
}

/* The flags of any of the four calls.  Return: 0, -EFAULT; -ENOENT: it is none of them. */
static int flags_of(const struct intercept_call *call, uint64_t *flags)
{
	switch (call->nr) {
	case __NR_fork: *flags = 0; return 0;
	case __NR_vfork: *flags = CLONE_VM | CLONE_VFORK; return 0;
	case __NR_clone: *flags = call->arg[0]; return 0;
	case __NR_clone3: return intercept_fetch(flags, call->arg[0], sizeof(*flags));
	default: return -ENOENT;
	}
}

bool clone_call(struct intercept_call *call, struct intercept_ret *ret)
{
	uint64_t flags;
	struct intercept_slot *slot;
	const uint64_t all = ALL_SIGNALS;
	int rc = flags_of(call, &flags);

	if (rc == -ENOENT)
		return false;
	slot = rc ? NULL : slot_take(flags & CLONE_VM ? 2 : 1);
	if (!slot) {
		ret->value = rc ? rc : -EAGAIN;
		return true;
	}
	if (flags & CLONE_THREAD)
		__atomic_store_n(&threads, true, __ATOMIC_RELAXED);
	slot->ret = call->pc;
	slot->flags = (call->nr == __NR_clone3 && flags & CLONE_CLEAR_SIGHAND ? INTERCEPT_CLEAR_SIGHAND : 0) |
		      (flags & CLONE_VM ? INTERCEPT_SHARED : 0) | (flags & CLONE_VFORK ? INTERCEPT_WAITED : 0) |
		      (signals_hidden() ? INTERCEPT_HIDDEN : 0);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &all, &slot->mask, sizeof(all));
	slot->cookie = intercept_config.cloning && !(flags & CLONE_THREAD) ? intercept_config.cloning(call, flags) : 0;
	ret->slot = slot;
	return true;
}

void clone_after(struct intercept_slot *slot, int64_t value)
{
	if (value == 0) {
		if (slot->flags & INTERCEPT_CLEAR_SIGHAND)
			signals_install();
		if (slot->flags & INTERCEPT_HIDDEN)
			signals_hide();
		if (!(slot->flags & INTERCEPT_SHARED))
			patch_child();
		clone_arm();
	} else if (value < 0 && slot->flags & INTERCEPT_SHARED) {
		__atomic_fetch_sub(&slot->refs, 1, __ATOMIC_RELEASE); /* the side that there is not */
	} else if (slot->flags & INTERCEPT_SHARED && slot->flags & INTERCEPT_WAITED) {
		execenv_forget((int)value); /* not of one that runs beside this: it may be in an exec right now */
	}
	if (slot->cookie)
		intercept_config.cloned(slot->cookie, value);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &slot->mask, 0, sizeof(slot->mask));
}
