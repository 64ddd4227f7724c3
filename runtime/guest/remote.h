/* remote.h - system calls and memory accesses in the address space of another process, through a helper
 *
 * Theory of operation
 *
 * The helper (runtime/guest/helper.S) is a task that shares nothing with the program but its memory: made by
 * clone(CLONE_VM), it has a process, a descriptor table, signal handlers and limits of its own.  inject_helper() puts it there
 * with ptrace and detaches; from then on no ptrace is needed.  It waits on a socket for batches of system calls, makes
 * them, and sends the results back.  What mmap(), mremap(), mprotect() or io_uring_register() do then happens to the
 * program's address space, while the program's threads run undisturbed.
 *
 * A batch is one message, laid out at remote_buf in the program's memory as it arrives:
 *
 *     0                 8                8 + 56 n                        REMOTE_MESSAGE_BYTES at most
 *     | n, number of    | n calls: nr,   | data: what the calls' pointers |
 *     | calls           | six arguments  | point to (remote_data())       |
 *
 * and its answer n results of 8 bytes.  Calls are made in order whatever those before them returned.  A batch of one
 * call costs about what a switch to another process and back costs; further calls in it are nearly free.
 *
 * Trust: the program can write to the helper's code and message buffer, as they are in its memory.  So a result is a claim.
 * Whoever acts on one must be right also if it is a lie, or check it against the kernel (/proc).  The other way round the
 * helper gives the program nothing: when inject_helper() returns it has no descriptor but its socket and its ring, no
 * capabilities, and a seccomp filter that lets it change memory mappings and register buffers and nothing else.  The batch that
 * is made before (inject_prepare.c) runs with what the program may do itself.
 *
 * End: the helper exits when its socket closes, so also when the agent dies, and is killed when the program's main thread
 * ends.  While it lives, the memory does too, even if the program has exited: remote_read() and pin_drop() still work then.
 * An answer that takes longer than REMOTE_TIMEOUT_MS makes the remote useless (-ETIMEDOUT now, -ESRCH from then on)
 * and the helper is killed.
 *
 * One thread at a time for each struct remote.
 */
#ifndef RUNTIME_GUEST_REMOTE_H
#define RUNTIME_GUEST_REMOTE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define REMOTE_MESSAGE_BYTES 4096u
#define REMOTE_CALLS_MAX 64u
#define REMOTE_TIMEOUT_MS 10000

/** struct remote_call - A system call; also its form in a message. */
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
	int socket;	    /* -1: the helper is gone or does not answer */
	int ring_fd;	    /* in the helper's descriptor table: an io_uring for pins; -errno if it could not be made */
	int mem_fd;	    /* /proc/HELPER/mem: this address space, whatever becomes of process numbers */
	int maps_fd;	    /* /proc/HELPER/maps, likewise */
	int pagemap_fd;	    /* /proc/HELPER/pagemap, likewise */
	uint64_t stub;	    /* where the helper's code lies in the program: one page, and the buffer behind it */
	uint64_t buf;	    /* where messages arrive */
};

/** REMOTE_NONE - What a struct remote is before inject_helper() and after inject_remove(); remote_close() accepts it. */
#define REMOTE_NONE                                                                                                              \
	(struct remote)                                                                                                          \
	{                                                                                                                        \
		.pidfd = -1, .helper_pidfd = -1, .socket = -1, .ring_fd = -1, .mem_fd = -1, .maps_fd = -1, .pagemap_fd = -1,      \
	}

/**
 * remote_batch() - Make several system calls
 * @r: where
 * @calls: the calls; pointers among the arguments are addresses in the program's memory, such as remote_data() names
 * @n: how many, 1 to REMOTE_CALLS_MAX
 * @data: copied behind the calls; may be NULL when @data_bytes is 0
 * @data_bytes: at most REMOTE_MESSAGE_BYTES - 8 - @n * sizeof(struct remote_call)
 * @results: filled in, one for each call: what the call returned, -errno included; untouched when this fails
 *
 * Return: 0; -EINVAL: does not fit; -ESRCH: the helper is gone; -ETIMEDOUT: it did not answer and was killed; -EPROTO: it
 * answered nonsense and was killed; -errno.
 */
int remote_batch(struct remote *r, const struct remote_call *calls, uint32_t n, const void *data, uint32_t data_bytes, int64_t *results);

/** remote_data() - The address, in the program, of the first data byte of a batch of @n calls. */
uint64_t remote_data(const struct remote *r, uint32_t n);

/**
 * remote_syscall() - Make one system call without data
 * @r: where
 * @nr: its number
 * @args: its arguments
 *
 * What the helper may call: mmap, munmap, mremap, mprotect, madvise, io_uring_register for buffers, close; everything else
 * returns -EPERM.
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
 * remote_close() - Give all descriptors back; the helper ends by itself
 *
 * What it leaves in a program that lives on: a few pages of address space and a process that has exited and is not waited for.
 * inject_remove() (inject.h) leaves nothing.
 */
void remote_close(struct remote *r);

#endif
