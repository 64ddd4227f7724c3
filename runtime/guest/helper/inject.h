/* inject.h - puts a helper into a running program, with ptrace and without the program's noticing
 *
 * Theory of operation
 *
 * One thread of the program (the main thread unless that one cannot be stopped now) is seized and stopped, made to do two system calls, and let
 * go: mmap() of a few pages for the helper's code and buffer, and clone(CLONE_VM) of the helper.  The other threads run on.
 * Everything else that the helper needs (closing what it inherited, descriptors from us, the desk, its ring) it does itself,
 * driven by ptrace as a process of its own, which it stays for good (remote.h), so nothing ever appears in the program's
 * descriptor table.  The thread's stop lasts a fraction of a millisecond.
 *
 * What a stopped thread was doing goes on as if nothing had been:
 *   registers	The integer ones are put back; system calls leave the others (x87, SSE, AVX, ...) alone.
 *   a system call it was blocked in	is restarted by the kernel, which leaves -ERESTART* in rax and the number in orig_rax until
 *	the thread really leaves a stop in get_signal().  So registers are put back in such a stop (a second
 *	PTRACE_INTERRUPT brings it about) and the kernel's own logic does the rest: waits with a timeout
 *	(nanosleep, poll, futex) go on for the remaining time, through the restart block, which the calls made meanwhile
 *	do not touch; and if a signal came, its handler runs and the call returns what it would have returned.
 *	Calls that return EINTR after any stop, even one without a handler (signal(7): epoll_wait, semop, sigtimedwait, reads
 *	with a socket timeout, inotify, ...), are given -ERESTARTNOHAND in its stead.  Their timeout starts anew.
 *   a write that is half done	would return early.  Threads blocked in calls of that kind are waited for, and then refused (-EAGAIN).
 *   signals	are blocked meanwhile in that thread and stay pending where they are.  SIGSTOP and SIGCONT take effect as usual: a
 *	stopped process stays stopped.
 *   intercepted calls	(Syscall User Dispatch) The two calls are made at an instruction that is exempt, if one is found.
 *   restartable sequences	A thread stopped inside one finds it aborted, as after any preemption.
 *
 * What is visible afterwards: in /proc/PID/maps two pages and the desk, in the middle of the largest hole; in ps one more
 * process, ds-helper, a child of the program, which is traced.  wait() does not see it: its exit signal is 0, and only __WALL or
 * __WCLONE ask for such children.  fork() does not pass the pages on (MADV_DONTFORK).  After inject_remove() nothing is
 * left, save that the helper's page faults and memory count in getrusage(RUSAGE_CHILDREN).
 *
 * If the agent is killed during the two calls, that thread continues with wrong registers and the program crashes: the window is
 * a fraction of a millisecond.  At any other time an agent's death ends the helper and is not noticed.
 *
 * ptrace belongs to a thread, and a thread that cannot be stopped (in an uninterruptible sleep) cannot be let go of
 * either.  So the work is done by a thread of its own, whose end makes the kernel let go.  The process that calls this
 * must not wait() for "any child" with __WALL meanwhile.
 *
 * Nobody else may use the program's memory (sharers.h).  That is looked at while the helper is put in, and before anything is done
 * with it; one that does so for a moment, a child of vfork(2), is waited for.
 */
#ifndef RUNTIME_GUEST_INJECT_H
#define RUNTIME_GUEST_INJECT_H

#include "runtime/guest/helper/remote.h"

#define INJECT_STOP_MS 2000 /* how long a thread may take to stop, or to leave a call that must not be interrupted */

enum inject_flags {
	INJECT_SECCOMP = 1, /* also a process with a seccomp filter: the helper inherits it, and one that kills on what it does not know kills the helper */
};

/** struct inject_err - Why a process was refused. */
struct inject_err {
	int err;	 /* -errno, the same that was returned */
	pid_t tid;	 /* the thread, or 0 */
	const char *why; /* static text, in plain English: "it runs 32-bit code" */
};

/**
 * inject_helper() - Put a helper into a process
 * @pid: the process (a thread group's leader), of x86-64 code
 * @flags: enum inject_flags
 * @out: filled in on success; give back with inject_remove() or remote_close()
 * @why: filled in on failure
 *
 * Needs CAP_SYS_PTRACE, or the program's user without other obstacles; CAP_SYS_RESOURCE for pins beyond RLIMIT_MEMLOCK.
 *
 * Return: 0; -ESRCH: gone, or a zombie; -EPERM: a kernel thread, traced by another, or no right to; -ENOEXEC: 32-bit code;
 * -EACCES: seccomp would be in the way, or its system calls are intercepted; -EOPNOTSUPP: its main thread has ended; -EBUSY: its memory is shared with another process (vfork); -EAGAIN: it could
 * not be stopped in time, or where it must not be interrupted; -ENOMEM or -EAGAIN: its limits on memory or processes; -errno.
 */
int inject_helper(pid_t pid, unsigned int flags, struct remote *out, struct inject_err *why);

/** inject_meanwhile_fn - Run by the caller of inject_first() while the helper is put in. */
typedef void (*inject_meanwhile_fn)(void *ctx);

/**
 * inject_first() - As inject_helper(), with the helper good for single calls and not yet for pins: inject_whole() does what is left
 * @pid: the process
 * @flags: enum inject_flags
 * @meanwhile: called once, after what can be refused at a glance, while another thread works; may be NULL
 * @ctx: for @meanwhile
 * @out: filled in on success, as by inject_helper()
 * @why: filled in on failure
 *
 * Return: as inject_helper().
 */
int inject_first(pid_t pid, unsigned int flags, inject_meanwhile_fn meanwhile, void *ctx, struct remote *out, struct inject_err *why);

/** inject_rest() - Begin with what inject_first() has left for later, the ring's table and comforts; the caller goes on meanwhile. */
void inject_rest(struct remote *r);

/**
 * inject_whole() - Nothing is left of that any more
 * @r: from inject_first(); inject_rest() need not have been called
 *
 * What keeps the ring from having its table is in @r->ring_fd then, as after inject_helper().
 *
 * Return: 0; -ESRCH: the helper is gone; -ETIMEDOUT: it hung, and was killed.
 */
int inject_whole(struct remote *r);

/**
 * inject_remove() - Take a helper out again: end it, unmap its pages, reap it, give the descriptors back
 * @r: from inject_helper(); REMOTE_NONE afterwards, whatever happens
 * @why: filled in on failure
 *
 * Pins are gone with the ring; what hold.h holds is not.  In a program that has called exec there is only something to reap.
 *
 * Return: 0; -errno: the program could not be stopped; pages of the helper's remain in it.
 */
int inject_remove(struct remote *r, struct inject_err *why);

#endif
