/* filter.h - the two seccomp filters of a shadow
 *
 * Theory of operation
 *
 * Both are allowlists; a call has to pass both (seccomp(2), the strictest result counts).
 *
 *   first    put in place by the jail before the capsule is executed: what a capsule needs to start, and everything that
 *	      the second lets through.  Until the second is there only our own code has run, on input that dshost has checked.
 *   second   installed by the capsule itself when its mirror stands (runtime/wire/shadow.h), with a listener that dshost
 *	      takes.  From then on the shadow is assumed to run whatever code its attacker likes.
 *
 * What the second rests on, and what it therefore keeps:
 *
 *   - A descriptor's number says which file it is.  The numbers from DS_SHADOW_GUEST_FDS to DS_SHADOW_OWN_FDS_END, the RAM's among
 *     them, can neither be closed nor be made to mean another file, nor get another number: no call that takes a
 *     descriptor takes these (runtime/wire/fdargs.h: also as the directory of a path, AT_EMPTY_PATH), but mmap(), which is
 *     reported to dshost, and what the capsule itself does with its channel and its userfaultfd.  sendmsg() is not
 *     there at all: what it sends is in memory, where a filter cannot look, and could be the RAM's descriptor.  Nor
 *     may a shadow have /proc or /dev/fd, where such a number is a file name (jail.h).
 *   - What is mapped stays where it was mapped, and what was mapped by DS_SHADOW_RAM_RO_FD is not written: mremap(),
 *     remap_file_pages() and everything that maps without mmap() (shmat, io_uring) is not there.
 *   - mmap() of memory of its own is let through unseen, if it is private, anonymous, not executable and asks for nothing
 *     unusual; so that the capsule can move without a notification.  mprotect() may make it executable: a capsule
 *     that moves needs that, and code of its own is nothing that an attacker has not got already.
 *   - Threads of the one kind that the capsule makes, nothing else; clone3() says ENOSYS, as its flags cannot be seen.
 *   - futex() waits and wakes; nothing of what it can do beside (requeueing, priority inheritance) is used.
 *   - prctl() serves PR_SET_MM_MAP only: the signal of the parent's death and dumpable stay as they are.
 *
 * Everything else is EPERM; calls of another architecture (int 0x80) end the shadow.  What an int or an unsigned int
 * argument is in the kernel is compared in its lower half, everything else whole (seccomp(2), "args").
 *
 * A service that needs more calls gets them by name of its caller (struct filter_call), within limits: see
 * filter_refuses().  One that makes a guest program's calls gets them by groups, with their arguments looked at: filter_group.h.
 */
#ifndef HOST_FILTER_H
#define HOST_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILTER_MAX 1536	    /* instructions of a program; the kernel takes 4096 */
#define FILTER_CALLS_MAX 64 /* extra calls */

/** struct filter_call - A system call that a service may make beside those of every capsule. */
struct filter_call {
	uint32_t nr;
	uint8_t fds; /* bit i: argument i is a descriptor; what is known here of the usual calls is added */
};

/** struct filter_want - What the filters are for. */
struct filter_want {
	bool demand; /* a mirror that faults: the calls of userfaultfd */
	bool bells;  /* a service that makes calls for a guest's threads: what it needs for its bells, and with descriptors of any kind */
	uint32_t groups; /* bits of enum callgroup: what it may do beside */
	const struct filter_call *calls;
	size_t ncalls; /* at most FILTER_CALLS_MAX */
	/* limits of a rule; 0: none */
	uint32_t descriptors; /* the program's have numbers below; else EMFILE */
	bool no_inet, no_inet6; /* families of sockets that it has not */
	bool unix_sockets;	/* and one that it has: without messages that may bring or take descriptors (unixmsg.h) */
	bool net_limited;     /* to addresses (jailnet.h): no protocols that these do not see */
	bool no_listen;	      /* for who may bind to nothing, since listen() binds, too */
	bool no_splice;	      /* which moves bytes that nobody counts (warden_pace.c) */
};

/** struct filter - A program. */
struct filter {
	struct sock_filter ins[FILTER_MAX];
	uint16_t n;
};

/** filter_refuses() - Whether no service may have call @nr, because what the guard rests on would fall with it. */
bool filter_refuses(uint32_t nr);

/**
 * filter_first() - The filter of the jail
 * @want: what it is for; not kept
 * @f: filled
 *
 * Return: 0, -EINVAL (a call that filter_refuses()), -E2BIG.
 */
int filter_first(const struct filter_want *want, struct filter *f);

/** filter_second() - The filter of the guard; as filter_first(). */
int filter_second(const struct filter_want *want, struct filter *f);

#endif
