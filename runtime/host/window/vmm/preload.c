/* preload.c - libdswindow.so: a VMM that is started with it has the helper's thread (../vmmhelper.h), and need not be traced
 *
 *	dshost run -- env DARK_WINDOW=1 LD_PRELOAD=/usr/lib/dark-shadows/libdswindow.so qemu-system-x86_64 ...
 *
 * The constructor copies the code, as it would lie there by injection, and makes the thread; it listens for the VM process, which knows the
 * VMM's number.  SIGBUS has to reach the handler in whatever thread it comes, so pthread_sigmask() is replaced by one that
 * never blocks it.  Programs that the VMM executes do not get a thread: DARK_WINDOW is taken out of the environment.
 */
#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/host/window/vmmhelper.h"

#define THREAD (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

/* A thread that goes on at @entry, with all signals blocked.  Return: its number or -errno. */
static long make_thread(const void *entry, void *stack_top)
{
	register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
	long result;

	__asm__ volatile("syscall\n"
			 "	test	%%rax, %%rax\n"
			 "	jnz	1f\n"
			 "	jmp	*%[entry]\n"
			 "1:"
			 : "=a"(result)
			 : "a"(SYS_clone), "D"((long)THREAD), "S"(stack_top), "d"(0L), "r"(r10), "r"(r8), [entry] "b"(entry)
			 : "rcx", "r11", "memory");
	return result;
}

__attribute__((constructor)) static void start(void)
{
	const uint64_t all = ~UINT64_C(0);
	struct vmm_state *s;
	uint64_t before;
	uint8_t *at;

	if (!getenv("DARK_WINDOW"))
		return;
	unsetenv("DARK_WINDOW");
	at = mmap(NULL, VMM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return;
	memcpy(at, vmm_code, vmm_code_bytes());
	s = (struct vmm_state *)(void *)(at + VMM_CODE_BYTES);
	s->listens = 1;
	s->address.family = AF_UNIX;
	s->path_bytes = 1 + (uint32_t)snprintf(s->address.path + 1, VMM_PATH_BYTES - 1, VMM_LISTENS, getpid());
	if (mprotect(at, VMM_CODE_BYTES, PROT_READ | PROT_EXEC))
		return;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
	if (make_thread(at + vmm_enter_offset(), at + VMM_BYTES) > 0)
		while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE))
			sched_yield(); /* from now on it listens */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
}

__attribute__((visibility("default"))) int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	static int (*next)(int, const sigset_t *, sigset_t *);
	sigset_t less;

	if (!next)
		next = (int (*)(int, const sigset_t *, sigset_t *))dlsym(RTLD_NEXT, "pthread_sigmask");
	if (!set || how == SIG_UNBLOCK)
		return next(how, set, old);
	less = *set;
	sigdelset(&less, SIGBUS);
	return next(how, &less, old);
}
