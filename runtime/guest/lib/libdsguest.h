/* libdsguest.h - inside libdsguest.so: the state that its files share
 *
 * Theory of operation
 *
 * The library lives in programs that do not know of it: it starts no thread, takes no memory from the heap, and holds one
 * descriptor, far above those that programs count on, through which dsagent tells it that the shadow has ended.
 *
 * State lies in a page of its own with MADV_WIPEONFORK: in a child it reads as zero, "no shadow", however the child was made
 * (fork, clone), and the wrappers pass through.  Without a shadow a wrapper costs one load and one comparison.
 *
 * Requests about memory (DROP, REFRESH) go through the one connection, one exchange at a time, under a lock that is held with
 * all signals blocked: a handler that unmaps something would wait for the thread it interrupted.  An exchange is bounded by
 * SHADOW_MS; when it fails, the shadow is taken to be gone, and what the program wanted is done all the same: frames that the host
 * still has stay allocated.  A call to the service may last; it has a connection of its own.
 */
#ifndef LIBDSGUEST_H
#define LIBDSGUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/guest/local.h"

#define GUEST_PAGE 4096ul
#define GUEST_START_MS 60000 /* pinning and mirroring a large process takes seconds */
#define GUEST_MEMORY_MS 20000

struct guest_state {
	int active;	    /* a shadow stands, or is tried again */
	int lock;	    /* 0 free, 1 taken, 2 taken and waited for */
	int fd;		    /* the connection */
	dev_t dev;	    /* and which socket it is: the program may have closed it */
	ino_t ino;
	uint32_t seq;
};

extern struct guest_state *guest;

/** guest_syscall() - A system call that leaves errno alone.  Return: what the kernel returned. */
long guest_syscall(long nr, long a, long b, long c, long d, long e, long f);

/** guest_say() - Remember for dsguest_why(), printf style.  Return: @err. */
int guest_say(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * guest_change() - Announce to the mirror that pages will change, or have
 * @kind: DS_LOCAL_DROP or DS_LOCAL_REFRESH
 * @ranges: pages; rising, not overlapping, not empty
 * @n: 0 to 2
 *
 * Return: 0; -errno: there is no shadow any more.
 */
int guest_change(enum ds_local_kind kind, const struct ds_local_range *ranges, uint32_t n);

/** guest_active() - Whether the wrappers have anything to do. */
static inline bool guest_active(void)
{
	return guest && __atomic_load_n(&guest->active, __ATOMIC_ACQUIRE);
}

#endif
