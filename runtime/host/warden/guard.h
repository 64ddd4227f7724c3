/* guard.h - answers a shadow's mmap() calls from outside
 *
 * Theory of operation
 *
 * The second filter (filter.h) reports every mmap() of a shadow that has a file: the caller waits in the kernel, its
 * process's listener becomes readable, and who holds the listener says what becomes of the call (seccomp_unotify(2)).  The
 * call's arguments are the caller's registers.  No other thread can change those while it waits (no ptrace), so that
 * SECCOMP_USER_NOTIF_FLAG_CONTINUE, which is unsafe where an argument is a pointer, is safe here; and the descriptor's
 * number means the RAM for ever (filter.h).  tests/kernel/guard_kernel.c shows it.
 *
 * The listener's numbers of a guard's life, told in runtime/wire/shadow.h:
 *
 *   guard_take()    on the STATUS that tells the listener: takes it (pidfd_getfd), looks that the filters are in force and
 *		     are the ones that we made, and answers the knock.  Only then does the service start.
 *   guard_sealed()  on the next STATUS: looks that the shadow has no descriptor of its listener, with which it would
 *		     answer itself.
 *   guard_answer()  whenever the listener is readable.
 *   guard_settle()  after leave has been taken back and before gone_check(): waits until no call that was let pass is
 *		     still on its way in the kernel.
 *
 * Whoever polls sees POLLHUP on the listener when the last thread of the shadow is gone.  After POLLIN guard_answer() does
 * not block, even if the call is withdrawn (a signal) in between: the kernel counts it, and says ENOENT.  When the
 * last descriptor of a listener is closed, calls that would be reported fail with ENOSYS: a dead warden opens nothing.
 */
#ifndef HOST_GUARD_H
#define HOST_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/host/warden/authority.h"
#include "runtime/host/jail/filter.h"
#include "runtime/wire/shadow.h"

#define GUARD_SETTLE_MAX (DS_SHADOW_EXECUTORS_MAX + 8) /* threads that have made a call */

/** struct guard_refusal - A call that was not let pass. */
struct guard_refusal {
	const char *why; /* static text; NULL: there was none */
	pid_t tid;
	struct authority_call call;
};

/** struct guard - One shadow's. */
struct guard {
	int listener; /* -1: none */
	int pidfd;    /* borrowed */
	pid_t pid;
	struct authority *authority; /* borrowed */
	uint64_t passed, refused;    /* calls */
	struct guard_refusal last;   /* refused */
	bool read_back; /* the kernel showed us the filter: it is the one we made */
	bool sync_wake; /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6 */
	/* threads whose calls may still be on their way */
	pid_t tid[GUARD_SETTLE_MAX];
	uint32_t ntids;
	bool overflow;
};

/** struct guard_err - Why a guard is none. */
struct guard_err {
	const char *why; /* static text */
	int err;	 /* -errno or 0 */
};

/** guard_init() - A guard that has no listener yet. */
void guard_init(struct guard *g, pid_t pid, int pidfd, struct authority *authority);

/**
 * guard_take() - Takes the listener and answers the knock
 * @g: initialised
 * @listener_fd: its number in the shadow (ds_shadow_status.guard_fd)
 * @first: the filter of the jail; NULL: none (a shadow that is not in a jail, for tests)
 * @second: the filter that was sent with BOOT
 * @timeout_ms: for the knock
 * @err: filled on an error
 *
 * Looks at each thread's /proc/PID/task/TID/status (seccomp mode, number of filters: those of this process and the two, no_new_privs), and stops the process
 * for a moment to read the filters back (PTRACE_SECCOMP_GET_FILTER) where dshost may: not if it runs under seccomp
 * itself.  That is no error; g->read_back tells.
 *
 * Return: 0; -EPERM what is in force is not what it should be; -ETIMEDOUT no knock; -ESRCH it is dead; -errno.
 * After an error the shadow must be killed.
 */
int guard_take(struct guard *g, int listener_fd, const struct filter *first, const struct filter *second, int timeout_ms,
	       struct guard_err *err);

/**
 * guard_sealed() - Whether the shadow holds no listener itself
 *
 * Return: 0; -EPERM it does (@err); -errno.  After an error the shadow must be killed.
 */
int guard_sealed(const struct guard *g, struct guard_err *err);

/**
 * guard_answer() - Answers one call; to be used when the listener is readable
 *
 * What the authority does not allow gets EPERM, and g->refused and g->last say so: the capsule makes no such call, so
 * whoever does is no capsule any more.
 *
 * Return: 1 answered (or withdrawn meanwhile); 0 there was none; -errno.
 */
int guard_answer(struct guard *g);

/**
 * guard_settle() - Waits until no call that was let pass is on its way any more
 * @timeout_ms: for all threads
 *
 * A thread that has been let pass is settled when it waits in another call than mmap(), or is gone
 * (/proc/PID/task/TID/syscall).  Calls that come meanwhile are answered.
 *
 * Return: 0; -ETIMEDOUT a thread does not come to rest: the shadow must be killed; -errno.
 */
int guard_settle(struct guard *g, int timeout_ms);

/** guard_close() - Lets go of the listener. */
void guard_close(struct guard *g);

#endif
