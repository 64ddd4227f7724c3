/* monitor.h - the system calls of a program through ptrace(2): the paper's way, and what the other way is held against
 *
 * The paper's runtime attaches to the program and looks at each system call when it begins and when it ends (section V).
 * A call costs four switches between two processes, a hundred times what intercept.h takes, but nothing of it lies in the
 * program: static programs, programs that preload nothing and those that close every descriptor are seen as well.
 *
 * A program that runs with other rights than who starts it (setuid) gets none from an ordinary user's monitor; the kernel
 * then starts it without them (ptrace(2), execve(2)).  A call by `int $0x80` or of a 32-bit program is -ENOSYS, as it is with
 * intercept.h.  A program cannot trace its own children: it has a tracer, and a process has one.
 */
#ifndef GUEST_MONITOR_H
#define GUEST_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>

#include "runtime/guest/intercept/intercept.h"

/** enum monitor_event - What monitor_config.event is told. */
enum monitor_event {
	MONITOR_MADE,	/* @tid has made a thread or process: @other */
	MONITOR_EXEC,	/* @tid is a new program; @other is what the thread was called that started it */
	MONITOR_SIGNAL, /* @tid gets the signal @other */
	MONITOR_EXIT,	/* @tid has ended; @other is its status as wait(2) tells it */
};

/** struct monitor_jump - Where a thread is sent. */
struct monitor_jump {
	uint64_t pc;
};

/** struct monitor_config - What monitor_run() does with the calls; all functions get @context. */
struct monitor_config {
	void *context;
	bool from_now_on; /* for monitor_follow(): the program is the one that runs now, not what it executes next */

	/**
	 * enter() - Decides about a call of thread @tid; NULL: all go on
	 * @call: may be changed: what is in it is what the kernel is asked then; the program's registers stay.  @call->trapped is
	 *        1 if the kernel makes the call again after a signal (a changed one is asked about again, as the program has it)
	 * @result: set if it is answered here: what the program gets, -errno included
	 *
	 * The thread stands still; its memory is within reach of process_vm_readv(2).
	 *
	 * Return: whether it is answered.
	 */
	bool (*enter)(void *context, pid_t tid, struct intercept_call *call, int64_t *result);

	/**
	 * jump() - Asked first: whether the thread is to go on elsewhere instead of making the call; NULL: never
	 * @to: filled in then
	 *
	 * It goes on at @to->pc with the call's number in rax, its arguments where they were, and the place behind the call in rcx, as
	 * intercept.h has it for a trap.  Neither enter() nor leave() is asked about such a call.
	 */
	bool (*jump)(void *context, pid_t tid, const struct intercept_call *call, struct monitor_jump *to);

	/**
	 * park() - Where thread @tid can wait, in its memory: code that makes pause(2) for ever; NULL, or 0: nowhere
	 *
	 * Of monitor_follow(), which then lends processes (lend.h).  The descriptors LEND_FD and LEND_FD + 1 are taken for that.
	 */
	uint64_t (*park)(void *context, pid_t tid);

	/** leave() - A call has ended; NULL: nobody needs to know.  @result may be one of the kernel's own codes for "again" (512...). */
	void (*leave)(void *context, pid_t tid, const struct intercept_call *call, int64_t result);

	/** event() - Something else; NULL: nobody needs to know. */
	void (*event)(void *context, pid_t tid, enum monitor_event event, int64_t other);
};

/**
 * monitor_run() - Runs a program, found as execvp(3) does, with all that it starts, until the last of them has ended
 * @argv: NULL at the end
 * @status: of the program itself, as wait(2) tells it
 *
 * The caller has no other children (they would be waited for) and gets SIGINT and SIGQUIT ignored meanwhile, as by system(3): what
 * is typed at the terminal is for the program.  Should the caller die, the program is killed (PTRACE_O_EXITKILL).
 *
 * Return: 0; -ENOENT and the like: the program cannot be started; -EPERM: no tracing here; -ENOSYS: before Linux 5.3; -errno.
 */
int monitor_run(const struct monitor_config *config, char *const argv[], int *status);

/** MONITOR_OPTIONS - What a process that monitor_follow() is to follow must have been seized with (PTRACE_SEIZE). */
#define MONITOR_OPTIONS                                                                                                      \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |        \
	 PTRACE_O_TRACEEXEC)

/**
 * monitor_follow() - Watches what a process does from its next exec on (monitor_config.from_now_on: at once), with all that it starts, until the last of them has ended
 * @pid: seized by the caller, with one thread
 * @status: of the program, as wait(2) tells it
 *
 * Return: as monitor_run().
 */
int monitor_follow(const struct monitor_config *config, pid_t pid, int *status);

#endif
