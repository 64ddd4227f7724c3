/* remote.h - system calls and memory accesses in the address space of another process, through a helper
 *
 * Theory of operation
 *
 * The helper is a task that shares nothing with the program but its memory: made by clone(CLONE_VM), it has a process, a
 * descriptor table, signal handlers and limits of its own.  inject_helper() puts it there with ptrace.  From its first
 * instruction on it is traced by a thread of ours (tracer.h), in which it stands still but for the system calls that it is made to
 * do, one by one.  What mmap(), mremap(), mprotect() or io_uring_register() do then happens to the program's address space, while
 * the program's threads run undisturbed.
 *
 * Trust: the helper has the rights of the program's user, lies in the program's memory, and must not do anything for either.
 *   its calls	One by one: each is looked at when it enters the kernel (tracee_call()), so that number and arguments are what was asked
 *		for or the call is not made.  What it returns is read from its registers.  So a result is a fact, whatever the program
 *		has made of the code there.  Nobody else can trace a task that is traced.
 *   the desk	is memory that we write to and that is mapped there for reading and executing only, of a file that nobody else can get
 *		for writing (F_SEAL_FUTURE_WRITE), shared: so not even a debugger's write reaches it.  The program can
 *		unmap it and put something else there, though: with all threads stopped remote_settle() looks.  While that holds,
 *		batches run on the desk's own code (helper.S) in one go, and calls may rely on what they read on it.
 *   its descriptors	are a pipe's end for writing (the chute), which is ours, and an io_uring.  Whoever has the user's rights can have
 *		copies of both (pidfd_getfd(2)): what is in the pipe cannot be taken out at that end, what the ring holds can.
 *   seccomp	A filter of the program's would be the helper's, and could make up results.  So there must be none, or
 *		it is suspended (PTRACE_O_SUSPEND_SECCOMP).
 *
 * End: the helper is killed when the thread that traces it ends, so also when the agent dies, and when the program's main thread
 * ends.  While it lives, the memory does too, even if the program has exited: remote_read() and pin_drop() still work then.
 * A batch that takes longer than REMOTE_TIMEOUT_MS makes the remote useless (-ETIMEDOUT now, -ESRCH from then on)
 * and the helper is killed.
 *
 * One thread at a time for each struct remote.
 */
#ifndef RUNTIME_GUEST_REMOTE_H
#define RUNTIME_GUEST_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/guest/helper/sharers.h"

#define REMOTE_CALLS_MAX 64u
#define REMOTE_DESK_PAGES 7u /* code, calls (two), data */
#define REMOTE_DATA_BYTES (4 * 4096u)
#define REMOTE_TIMEOUT_MS 10000

struct tracer;

/** struct remote_call - A system call; also its form on the desk. */
struct remote_call {
	uint64_t nr, args[6];
	int64_t want;  /* what it has to return for the next ones to be made */
	uint64_t any; /* not 0: they are made whatever it returns */
};

/** struct remote - A helper and the address space it works in; all members are read-only to others. */
struct remote {
	pid_t pid;	    /* the program */
	int pidfd;	    /* of the program: readable (poll) when it has exited */
	pid_t helper;	    /* shares the memory; its own process */
	pid_t helper_inside; /* its number in the program's pid namespace */
	int helper_pidfd;   /* readable when the helper has ended */
	struct sharers sharers; /* of the memory, beside program and helper */
	struct tracer *tracer;
	bool gone;	    /* the helper has ended, or is of no use any more */
	bool settled;	    /* remote_settle() */
	bool whole;	    /* inject_rest() was called */
	bool runs_desk;	    /* the desk could be mapped executable */
	int ring_fd;	    /* in the helper's descriptor table: an io_uring for pins; -errno if it could not be made */
	int chute_there;    /* in the helper's descriptor table: the chute, for writing */
	int chute_fd;	    /* the chute, for reading; non-blocking */
	int mem_fd;	    /* /proc/HELPER/mem: this address space, whatever becomes of process numbers */
	int maps_fd;	    /* /proc/HELPER/maps, likewise */
	int pagemap_fd;	    /* /proc/HELPER/pagemap, likewise */
	uint64_t stub;	    /* in the program: a page with a system call instruction, a page of scratch memory, the desk */
	uint64_t scratch;
	uint64_t desk;
	uint64_t data;	    /* on the desk: REMOTE_DATA_BYTES */
	uint8_t *desk_here; /* the desk's memory */
	uint64_t desk_dev, desk_ino; /* its file */
};

/** REMOTE_NONE - What a struct remote is before inject_helper() and after inject_remove(); remote_close() accepts it. */
#define REMOTE_NONE                                                                                                              \
	(struct remote)                                                                                                          \
	{                                                                                                                        \
		.pidfd = -1, .helper_pidfd = -1, .ring_fd = -1, .chute_fd = -1, .mem_fd = -1, .maps_fd = -1, .pagemap_fd = -1,    \
	}

/**
 * remote_batch() - Make several system calls, up to the first one that does not return what it should
 * @r: where
 * @calls: the calls; pointers among the arguments are addresses in the program's memory, such as @r->data
 * @n: how many, 1 to REMOTE_CALLS_MAX
 * @data: put on the desk, at @r->data, before; may be NULL when @data_bytes is 0
 * @data_bytes: at most REMOTE_DATA_BYTES
 * @result: filled in: what the last call that was made returned, -errno included; untouched when this fails
 *
 * Return: how many did what they should, @n or, if the next one did not, less; -EINVAL: does not fit; -ESRCH: the helper is gone;
 * -ETIMEDOUT: it took too long and was killed; -EPROTO: it was about to do something else and was killed; -errno.
 */
int remote_batch(struct remote *r, const struct remote_call *calls, uint32_t n, const void *data, uint32_t data_bytes, int64_t *result);

/**
 * remote_settle() - All threads of the program have stopped: see whether the desk is ours
 *
 * If so, calls may read from it what others must not change, and batches are made faster, until remote_unsettle(), which must be
 * before threads go on.
 *
 * Return: 0; -EPROTO: something else is in its place; -ESRCH; -errno.
 */
int remote_settle(struct remote *r);

/** remote_unsettle() - Threads may go on. */
void remote_unsettle(struct remote *r);

/**
 * remote_together() - Have a function run where many batches cost less
 * @r: where
 * @fn: what, by the thread that traces the helper
 * @ctx: for it
 * @limit_ms: after which the helper is killed
 *
 * Return: what @fn returned; -ETIMEDOUT; -ESRCH.
 */
int remote_together(struct remote *r, int (*fn)(void *ctx), void *ctx, int limit_ms);

/**
 * remote_syscall() - Make one system call without data
 * @r: where
 * @nr: its number
 * @args: its arguments
 *
 * Return: what it returned there, or an error of remote_batch(), which no memory call returns: -ESRCH, -ETIMEDOUT, -EPROTO.
 */
int64_t remote_syscall(struct remote *r, long nr, const uint64_t args[static 6]);

/**
 * remote_read() - Copy out of the program's memory
 * @r: where
 * @addr: address there
 * @buf: filled in
 * @bytes: length
 *
 * Reads what is mapped, whatever the protection; unpopulated pages are populated, as by a read access.
 *
 * Return: 0; -EIO: not all of it is mapped or readable; -ESRCH: the address space is gone; -errno.
 */
int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t bytes);

/**
 * remote_write() - Copy into the program's memory
 *
 * Arguments and results as for remote_read().  Private pages that are not writable are written all the same, as a debugger does.
 */
int remote_write(const struct remote *r, uint64_t addr, const void *buf, size_t bytes);

/** remote_kill() - End the helper at once; the remote answers -ESRCH from then on.  Its memory may end with it. */
void remote_kill(struct remote *r);

/**
 * remote_close() - End the helper and give everything back
 *
 * What it leaves in a program that lives on: a few pages of address space and a process that has exited and is not waited for.
 * inject_remove() (inject.h) leaves nothing.
 */
void remote_close(struct remote *r);

#endif
