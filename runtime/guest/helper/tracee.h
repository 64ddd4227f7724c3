/* tracee.h - one thread of another process, stopped by ptrace, made to do system calls, and let go as if nothing had been
 *
 * The parts of ptrace that inject.c and freeze.c share; inject.h says why things are as they are.  All of it must be called by
 * the thread that seized.  A struct tracee goes through these states:
 *
 *	tracee_seize() -> seized -> tracee_interrupt(), tracee_wait() -> stopped -> tracee_save() -> tracee_call()... -> tracee_restore() -> gone
 *
 * A stopped tracee that was not saved is let go with tracee_detach().  One that does not stop can only be let go of by the
 * end of the thread that seized it.
 */
#ifndef RUNTIME_GUEST_TRACEE_H
#define RUNTIME_GUEST_TRACEE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "runtime/guest/helper/inject.h"

struct tracee {
	pid_t pid, tid;
	bool stopped;
	struct user_regs_struct regs; /* as it will go on */
	uint64_t mask;		      /* its blocked signals */
	uint64_t rseq_addr, rseq_cs;  /* the restartable sequence it is in; 0: none */
	siginfo_t due;		      /* a signal that came meanwhile and could not be blocked; si_signo 0: none */
	uint64_t held;		      /* any further ones: bit N-1 for signal N */
	uint64_t events;	      /* the last PTRACE_EVENT_CLONE's message: the new task */
};

/** tracee_now_ms() - CLOCK_MONOTONIC, for deadlines. */
int64_t tracee_now_ms(void);

/** tracee_refuse() - Fill in @why.  Return: @err. */
int tracee_refuse(struct inject_err *why, int err, pid_t tid, const char *text);

/** enum tracee_mood - What a thread is doing, from /proc, before anything is done to it. */
enum tracee_mood {
	TRACEE_FINE,   /* it can be stopped */
	TRACEE_BUSY,   /* blocked in a call that would return early: a write half done */
	TRACEE_ASLEEP, /* in an uninterruptible sleep */
	TRACEE_DEAD,   /* exited, or a zombie */
};
enum tracee_mood tracee_mood(pid_t pid, pid_t tid);

/** tracee_seize() - PTRACE_SEIZE with @options.  Return: 0; -ESRCH; -EPERM; -errno. */
int tracee_seize(struct tracee *t, pid_t pid, pid_t tid, unsigned long options);

/** tracee_interrupt() - Ask it to stop. */
void tracee_interrupt(const struct tracee *t);

/** tracee_wait() - Wait until it has.  Return: 0; -ESRCH: it exited; -ETIMEDOUT: not by @deadline_ms. */
int tracee_wait(struct tracee *t, int64_t deadline_ms);

/**
 * tracee_save() - Keep what it was doing, with calls that a stop would end prepared to be restarted, and block its signals
 *
 * Return: 0; -ENOEXEC: it runs 32-bit code; -errno.
 */
int tracee_save(struct tracee *t, struct inject_err *why);

/** tracee_patch() - Only prepare an interrupted call to be restarted; for a stopped tracee that makes no calls itself. */
int tracee_patch(struct tracee *t);

/**
 * tracee_call() - Make it do a system call
 * @t: saved
 * @ip: address of a syscall instruction in its memory
 * @call: what
 * @result: what it returned
 *
 * Waits as long as the call takes: a thread cannot be let go of half way.  What it is about to do is looked at when it enters the
 * kernel, so this call is made or none, whatever the program has made of the code there.
 *
 * Return: 0; -ESRCH: it was killed; -EPROTO: it was about to make another call, which was not made; -EACCES: its system calls are intercepted; -EFAULT: a fault at @ip; -errno.
 */
int tracee_call(struct tracee *t, uint64_t ip, const struct remote_call *call, int64_t *result);

/**
 * tracee_go() - Let it run from @regs on to a trap
 * @t: saved, of all signals blocked
 * @regs: where it starts; what it has at the end
 * @end: where it is when it has trapped as it should
 *
 * Return: 0; -ESRCH: it was killed; -EFAULT: it came to another end; -errno.
 */
int tracee_go(struct tracee *t, struct user_regs_struct *regs, uint64_t end);

/**
 * tracee_put_back() - What it was doing, as tracee_save() has kept it; it stays stopped
 *
 * In a stop on its way to user mode, as PTRACE_INTERRUPT or a signal brings about: only there the kernel looks at what is to be restarted.
 *
 * Return: 0; -errno.
 */
int tracee_put_back(struct tracee *t);

/** tracee_restore() - Let it go on with what it was doing, untraced.  Return: 0; -ESRCH: it was killed; -errno. */
int tracee_restore(struct tracee *t);

/** tracee_detach() - Let a stopped tracee go on, untraced. */
void tracee_detach(struct tracee *t);

/** tracee_run() - Run @fn in a thread of its own, whose end lets go of every tracee.  Return: what @fn returned, or -errno. */
int tracee_run(int (*fn)(void *ctx), void *ctx);

#endif
