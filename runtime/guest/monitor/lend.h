/* lend.h - a monitor lends a process to dsagent for a moment: a task has one tracer, and both need to be it
 *
 * Theory of operation
 *
 * Injection and freeze (inject.h, freeze.h) seize threads.  Those of a program that runs under `dsrun --intercept=ptrace` have a tracer
 * already, its monitor (monitor.h).  The monitor could act in dsagent's name; but it belongs to the program's user, and what
 * dsagent tells the host rests on threads that really stand still.  So dsagent believes nothing, and is the tracer itself meanwhile:
 *
 *   dsagent                                monitor
 *   a socket, "process P" ---------------> stops every thread of P, keeps what each was doing (tracee_save()), sends it to a place in
 *                                          the library where it waits for ever with all signals blocked (intercept_park), and detaches
 *   <-------------------------------- 0
 *   seizes, stops, does its work, detaches
 *   shuts its end of the socket ---------> seizes each thread again, stops it, puts it back
 *   <------------- the other end is closed
 *
 * A thread that has come to a system call but not made it is sent back before the instruction, and makes it afterwards; one that is
 * in a call is interrupted as by any stop, and the kernel goes on with it in the end (inject.h).  Threads where that must not be, blocked
 * in a write, are not lent: -EAGAIN, and dsagent asks again.
 *
 * Nothing has to be found or named: the tracer's number is in /proc/P/status, and the monitor's end for requests is at the number LEND_FD in its
 * table of descriptors, from where dsagent takes it (pidfd_getfd(2)), which takes the right to trace it.  Whoever may do that to a
 * monitor may do worse.  A request is a struct lend_request with one end of a new socket pair; the answer comes there, an int32.  The loan lasts until
 * dsagent shuts its end, or dies.  Should the monitor die meanwhile, the program is killed as it always is
 * without its monitor: by dsagent (lend_give()), as the kernel cannot do it then.
 */
#ifndef RUNTIME_GUEST_LEND_H
#define RUNTIME_GUEST_LEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/guest/helper/inject.h"

#define LEND_FD 9 /* in the monitor */
#define LEND_MAGIC UINT32_C(0x444e454c)

/** struct lend_request - With one descriptor, for the answer. */
struct lend_request {
	uint32_t magic;
	int32_t pid; /* as the process knows itself */
};

/** struct lend - A loan, on dsagent's side. */
struct lend {
	int fd;	   /* -1: nobody traces the process, so nothing is lent */
	int pidfd; /* of the process */
	pid_t pid;
};

/** LEND_NONE - What a struct lend is before lend_take() and after lend_give(). */
#define LEND_NONE ((struct lend){.fd = -1, .pidfd = -1})

/** lend_can() - Whether @pid has a tracer that lends it. */
bool lend_can(pid_t pid);

/**
 * lend_take() - The caller needs to trace a process: has its monitor, if it has one, let go of it
 * @lend: filled in; give back with lend_give(), when no thread is traced any more
 * @deadline_ms: as tracee_now_ms()
 * @why: filled in on failure
 *
 * Return: 0, also if there is no tracer; -EPERM: it is traced by somebody who does not lend; -EAGAIN: not by @deadline_ms; -ESRCH; -errno.
 */
int lend_take(pid_t pid, int64_t deadline_ms, struct lend *lend, struct inject_err *why);

/** lend_give() - Back to its monitor.  @lend: LEND_NONE afterwards. */
void lend_give(struct lend *lend);

#endif
