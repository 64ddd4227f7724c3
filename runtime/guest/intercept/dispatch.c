/* dispatch.c - a call under way: what must not reach the kernel verbatim, then the hook, then the kernel
 *
 * Runs on the program's stack at any place of the program (intercept.h), so it keeps no state of its own and holds
 * nothing while a call is under way: a handler may run on top of it and leave by siglongjmp().
 *
 * A program with a seccomp filter of its own is killed for calls that the filter does not know, ours included.  From then on
 * memory is read directly (a bad pointer given to a call about signals or exec is then SIGSEGV instead of EFAULT) and no place is
 * patched.  What remains: rt_sigreturn at every trap, which every filter has to allow; gettid and rt_sigprocmask around
 * threads and forks, which the C library makes there too.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/uio.h>

#include "runtime/guest/intercept/internal.h"
#include "runtime/guest/intercept/offsets.h"

#define STACK_NEAR (UINT64_C(4) << 20)
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

_Static_assert(offsetof(struct intercept_slot, ret) == SLOT_RET && offsetof(struct intercept_slot, rbx) == SLOT_RBX &&
		       offsetof(struct intercept_slot, refs) == SLOT_REFS,
	       "entry.S knows the slot");
_Static_assert(sizeof(struct intercept_call) == 72 && __NR_rt_sigreturn == NR_RT_SIGRETURN && __NR_pause == NR_PAUSE,
	       "entry.S knows the frame");

struct intercept_config intercept_config;
struct intercept_stats intercept_counts;
static bool sandboxed;
static uint64_t stack_end; /* behind the page of the first thread's stack that intercept_start() was called on */

/* The page of our own frame is there, and on the first thread's stack all that is above it, up to where intercept_start()
 * was called; about any other memory the kernel is asked, which takes as long as three calls.  Other stacks are far from
 * that one: the kernel leaves a gap of 128 MB (arch/x86/mm/mmap.c). */
static bool own_page(uint64_t address, uint64_t bytes)
{
	const uint64_t here = (uint64_t)__builtin_frame_address(0) & ~UINT64_C(4095);
	const uint64_t end = stack_end - here - 1 < STACK_NEAR ? stack_end : here + 4096;

	return address >= here && address < end && bytes <= end - address;
}

bool intercept_sandboxed(void)
{
	return __atomic_load_n(&sandboxed, __ATOMIC_RELAXED);
}

static int copy(uint64_t nr, void *ours, uint64_t theirs, uint64_t bytes)
{
	const struct iovec local = {ours, bytes}, remote = {(void *)theirs, bytes}; /* NOLINT: an address as the program gave it */

	if (!bytes)
		return 0;
	return raw6(nr, raw0(__NR_getpid), &local, 1, &remote, 1, 0) == (int64_t)bytes ? 0 : -EFAULT;
}

int intercept_fetch(void *to, uint64_t from, uint64_t bytes)
{
	if (own_page(from, bytes) || intercept_sandboxed()) {
		memcpy(to, (const void *)from, bytes);
		return 0;
	}
	return copy(__NR_process_vm_readv, to, from, bytes);
}

int intercept_store(uint64_t to, const void *from, uint64_t bytes)
{
	if (own_page(to, bytes) || intercept_sandboxed()) {
		memcpy((void *)to, from, bytes);
		return 0;
	}
	return copy(__NR_process_vm_writev, (void *)from, to, bytes);
}

static int64_t forward(const struct intercept_call *call)
{
	return intercept_raw(call->nr, call->arg[0], call->arg[1], call->arg[2], call->arg[3], call->arg[4], call->arg[5]);
}

/* A locked addition would be a fifth of what a call from a patched place costs. */
static inline void count(uint64_t *counter)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* Whether the kernel may be asked verbatim: what all the functions below would say no to. */
static inline bool verbatim(uint64_t nr)
{
	switch (nr) {
	case __NR_fork:
	case __NR_vfork:
	case __NR_clone:
	case __NR_clone3:
	case __NR_execve:
	case __NR_execveat:
	case __NR_rt_sigaction:
	case __NR_rt_sigprocmask:
	case __NR_rt_sigsuspend:
	case __NR_rt_sigtimedwait:
	case __NR_rt_sigpending:
	case __NR_ppoll:
	case __NR_pselect6:
	case __NR_epoll_pwait:
	case __NR_epoll_pwait2:
	case __NR_io_pgetevents:
	case __NR_exit:
	case __NR_io_uring_setup:
	case __NR_prctl:
	case __NR_seccomp:
	case __NR_munmap: return false;
	default: return true;
	}
}

struct intercept_ret intercept_dispatch(struct intercept_call *call)
{
	struct intercept_ret ret = {0};

	if (call->trapped) {
		count(&intercept_counts.traps);
		if (intercept_config.patch && !intercept_sandboxed())
			patch_note(call);
	} else {
		count(&intercept_counts.jumps);
	}
	if (intercept_config.hook && intercept_config.hook(call, &ret.value))
		return ret;
	if (verbatim(call->nr)) {
		ret.value = forward(call);
		return ret;
	}
	if (clone_call(call, &ret) || signals_call(call, &ret.value) || execenv_call(call, &ret.value))
		return ret;
	switch (call->nr) {
	case __NR_io_uring_setup: ret.value = -ENOSYS; break; /* a ring makes calls that nobody sees */
	case __NR_prctl:
		ret.value = call->arg[0] == PR_SET_SYSCALL_USER_DISPATCH ? -EINVAL : forward(call);
		if (call->arg[0] == PR_SET_SECCOMP && !ret.value)
			__atomic_store_n(&sandboxed, true, __ATOMIC_RELAXED);
		break;
	case __NR_seccomp:
		ret.value = forward(call);
		if (call->arg[0] <= SECCOMP_SET_MODE_FILTER && ret.value >= 0)
			__atomic_store_n(&sandboxed, true, __ATOMIC_RELAXED);
		break;
	case __NR_munmap: ret.value = signals_unmap(call); break;
	default: ret.value = forward(call); break;
	}
	return ret;
}

int intercept_start(const struct intercept_config *config)
{
	int rc;

	intercept_config = *config;
	stack_end = ((uint64_t)__builtin_frame_address(0) & ~UINT64_C(4095)) + 4096;
	if (intercept_followed())
		intercept_config.preload = NULL;
	if (intercept_traced()) {
		intercept_config.patch = false;
		return 0;
	}
	stacks_start();
	if (stacks_small)
		intercept_config.patch = false;
	rc = signals_start();
	return rc ? rc : clone_arm();
}

void intercept_stats(struct intercept_stats *stats)
{
	stats->traps = __atomic_load_n(&intercept_counts.traps, __ATOMIC_RELAXED);
	stats->jumps = __atomic_load_n(&intercept_counts.jumps, __ATOMIC_RELAXED);
	stats->patched = __atomic_load_n(&intercept_counts.patched, __ATOMIC_RELAXED);
}
