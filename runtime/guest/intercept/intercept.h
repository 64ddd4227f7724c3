/* intercept.h - every system call of this process goes through a function of ours
 *
 * Theory of operation
 *
 * Syscall User Dispatch (Linux 5.11, Documentation/admin-guide/syscall-user-dispatch.rst) makes every `syscall`
 * instruction outside one range of addresses a SIGSYS.  The range holds entry.S and nothing else, so whatever the
 * program does, raw instructions and code that it generates included, arrives here:
 *
 *   program: syscall --SIGSYS--> signals.c: handler sets RIP to intercept_entry, RCX to where the program goes on, returns
 *   intercept_entry (entry.S)    outside signal context; on the program's stack, below its red zone
 *     intercept_dispatch (dispatch.c)   what the kernel must not be asked verbatim: signals, clone, exec; then the hook
 *       intercept_raw (entry.S)         the call itself
 *     back to RCX, registers as the kernel would leave them
 *
 * Because the call is made outside signal context, a blocked call can be interrupted, restarted, cancelled or left by
 * siglongjmp() as ever: the handlers of the program see a stack with the program's own frames and one more.  A trap
 * costs two microseconds; patch.c turns places that trap often into jumps.
 *
 * Rules that keep this sound
 *   - SIGSYS is never blocked and its action is ours, or the kernel kills the process: signals.c keeps the program's
 *     wishes about SIGSYS on paper and takes it out of every mask on its way to the kernel.
 *   - The dispatch belongs to a thread and is gone after clone, fork, vfork and exec: clone.c sets it again in the child,
 *     with signals blocked until then; execenv.c sees that the next program loads this library again.
 *   - Code here runs at any place of the program, signal handlers included, before its C library is ready and after it is
 *     torn down: no C library, no thread-local storage, no vector registers, no lock that is waited for, little stack.
 *   - Memory that the program names is read by process_vm_readv(2), so that a bad pointer is -EFAULT and no crash.
 *
 * What it does not see: the vDSO (clock_gettime and the like are no system calls), io_uring (refused with ENOSYS), calls
 * by `int $0x80` (ENOSYS).
 */
#ifndef GUEST_INTERCEPT_H
#define GUEST_INTERCEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** struct intercept_call - A system call under way, as entry.S lays it out on the stack. */
struct intercept_call {
	uint64_t nr;
	uint64_t arg[6];
	uint64_t trapped; /* 1: by SIGSYS; 0: by a patched place */
	uint64_t pc;	  /* where the program goes on: behind its `syscall` instruction */
};

/**
 * intercept_hook - Decides about a call
 * @call: may be changed: what is in it is what the kernel is asked then
 * @result: set if the hook has done the call: what the program gets, -errno included
 *
 * May be entered again from a signal handler at any moment.  Calls of the kernel by intercept_raw() only.
 *
 * Return: whether it has done the call.
 */
typedef bool (*intercept_hook)(struct intercept_call *call, int64_t *result);

/** enum intercept_reach - Whether a program that is to be started will load this library, by LD_PRELOAD; or why not. */
enum intercept_reach {
	INTERCEPT_REACHED,
	INTERCEPT_STATIC,  /* no dynamic linker starts it (static, or the dynamic linker itself) */
	INTERCEPT_SETUID,  /* it runs with other rights, and the dynamic linker ignores LD_PRELOAD */
	INTERCEPT_FOREIGN, /* for another machine, i386 included */
};

/** struct intercept_config - What intercept_start() is told; strings must stay. */
struct intercept_config {
	intercept_hook hook; /* NULL: all calls go to the kernel */
	const char *preload; /* path of this library, kept in LD_PRELOAD over exec; NULL: programs started are on their own */
	const char *const *env; /* further "NAME=value" kept over exec, NULL at the end; may be NULL */
	bool patch;	     /* turn places that trap often into jumps */

	/**
	 * unreached() - Told before a program is started that will not load the library; NULL: nobody is
	 * @call: the execve or execveat
	 *
	 * Under the rules of intercept_hook.  Return: 0: it starts, and its calls are its own; -errno: what the exec gives; a positive
	 * number: it starts, and that number is for unstarted().
	 */
	int64_t (*unreached)(const struct intercept_call *call, enum intercept_reach why);

	/** unstarted() - The exec has failed after all.  @given: what unreached() returned. */
	void (*unstarted)(int64_t given);

	/**
	 * cloning() - Told before a process is made, not a thread; NULL: nobody is
	 * @call: clone, clone3, fork or vfork
	 * @flags: of the clone; of a fork 0
	 *
	 * With all signals blocked.  Return: for cloned(); 0: that is not called.
	 */
	uint64_t (*cloning)(const struct intercept_call *call, uint64_t flags);

	/**
	 * cloned() - Told afterwards, with all signals blocked: in the child (@value is 0), in the parent (its number, or -errno)
	 *
	 * Of vfork the parent hears when the child has executed a program or ended.  On whatever stack the child has.
	 */
	void (*cloned)(uint64_t cookie, int64_t value);
};

/**
 * intercept_start() - Intercepts the calls of the calling thread, and of every thread and child it makes from now on
 * @config: copied
 *
 * Call it while there is one thread.
 *
 * Return: 0; -EINVAL: the kernel has no Syscall User Dispatch (before 5.11, or not x86-64); -errno.
 */
int intercept_start(const struct intercept_config *config);

/**
 * intercept_environment() - The environment, for a constructor that runs before all others
 * @third: the constructor's third argument, which glibc passes and musl does not
 *
 * Return: an array of strings, NULL at the end.
 */
char **intercept_environment(char **third);

/** intercept_raw() - A system call that is not intercepted.  Return: as the kernel does, -errno included. */
int64_t intercept_raw(uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);

/** struct intercept_stats - Counts since the start, of this process; threads that count at once lose some. */
struct intercept_stats {
	uint64_t traps;	  /* calls that came by SIGSYS */
	uint64_t jumps;	  /* calls that came from patched places */
	uint64_t patched; /* places patched */
};

/** intercept_stats() - Reads the counts. */
void intercept_stats(struct intercept_stats *stats);

#endif
