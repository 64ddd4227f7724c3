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
 *   its calls	Each is looked at when it enters the kernel (tracee_call()): number and arguments are what was asked for, or the call
 *		is not made.  What it returns is read from its registers.  So a result is a fact, whatever the program has made
 *		of the code there.  Nobody else can trace a task that is traced.
 *   what pointers lead to	is in the program's memory.  The desk is a piece of memory that we write to and that is mapped there
 *		for reading only, of a file that nobody else can get for writing (F_SEAL_FUTURE_WRITE), shared: so not
 *		even a debugger's write reaches it.  The program can unmap it and put something else there, though: with all
 *		threads stopped remote_desk_ok() tells.
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

#define REMOTE_CALLS_MAX 64u
#define REMOTE_DESK_PAGES 4u
#define REMOTE_DESK_BYTES (REMOTE_DESK_PAGES * 4096u)
#define REMOTE_TIMEOUT_MS 10000

struct tracer;

/** struct remote_call - A system call. */
struct remote_call {
	uint64_t nr, args[6];
};

/** struct remote - A helper and the address space it works in; all members are read-only to others. */
struct remote {
	pid_t pid;	    /* the program */
	int pidfd;	    /* of the program: readable (poll) when it has exited */
	pid_t helper;	    /* shares the memory; its own process */
	pid_t helper_inside; /* its number in the program's pid namespace */
	int helper_pidfd;   /* readable when the helper has ended */
	struct tracer *tracer; /* NULL: the helper is gone or does not answer */
	int ring_fd;	    /* in the helper's descriptor table: an io_uring for pins; -errno if it could not be made */
	int chute_there;    /* in the helper's descriptor table: the chute, for writing */
	int chute_fd;	    /* the chute, for reading; non-blocking */
	int mem_fd;	    /* /proc/HELPER/mem: this address space, whatever becomes of process numbers */
	int maps_fd;	    /* /proc/HELPER/maps, likewise */
	int pagemap_fd;	    /* /proc/HELPER/pagemap, likewise */
	uint64_t stub;	    /* where the helper's code lies in the program: one page, a page of scratch memory, the desk */
	uint64_t scratch;
	uint64_t desk;
	uint8_t *desk_here; /* the same memory */
};

/** REMOTE_NONE - What a struct remote is before inject_helper() and after inject_remove(); remote_close() accepts it. */
#define REMOTE_NONE                                                                                                              \
	(struct remote)                                                                                                          \
	{                                                                                                                        \
		.pidfd = -1, .helper_pidfd = -1, .ring_fd = -1, .chute_fd = -1, .mem_fd = -1, .maps_fd = -1, .pagemap_fd = -1,    \
	}

/**
 * remote_batch() - Make several system calls
 * @r: where
 * @calls: the calls, made in order whatever those before them returned; pointers among the arguments are addresses in the
 *	program's memory, such as @r->desk
 * @n: how many, 1 to REMOTE_CALLS_MAX
 * @data: put on the desk before; may be NULL when @data_bytes is 0
 * @data_bytes: at most REMOTE_DESK_BYTES
 * @results: filled in, one for each call: what the call returned, -errno included; untouched when this fails
 *
 * Return: 0; -EINVAL: does not fit; -ESRCH: the helper is gone; -ETIMEDOUT: it took too long and was killed; -EPROTO: it was about
 * to do something else and was killed; -errno.
 */
int remote_batch(struct remote *r, const struct remote_call *calls, uint32_t n, const void *data, uint32_t data_bytes, int64_t *results);

/**
 * remote_desk_ok() - Whether a call that was made since all threads of the program stopped has read from the desk what was put on it
 * @r: where
 * @bytes: how much it read there
 *
 * To be asked after it.  The pages there must be the frames that are ours: a private mapping of the same file, which is
 * all that a program could put in the desk's place, loses them when it is written to and cannot get them back while everything
 * stands still.  Without the right to see frame numbers the answer is no.
 */
bool remote_desk_ok(const struct remote *r, size_t bytes);

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

/** remote_kill() - End the helper at once; the remote answers -ESRCH from then on.  remote_read() and remote_write() end too. */
void remote_kill(struct remote *r);

/**
 * remote_close() - End the helper and give everything back
 *
 * What it leaves in a program that lives on: a few pages of address space and a process that has exited and is not waited for.
 * inject_remove() (inject.h) leaves nothing.
 */
void remote_close(struct remote *r);

#endif
