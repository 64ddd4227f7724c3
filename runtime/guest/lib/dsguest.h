/* dsguest.h - for programs in a guest that know they have a shadow on the host; link with -ldsguest, or run under dsrun
 *
 * A shadow is a process on the host that has this process's memory at the same addresses (dsguest(3)).  A program that was
 * started by dsrun has one before its main(); another asks with dsguest_shadow().
 *
 * What the program does to its own memory must reach the mirror before it takes effect.  The library's own munmap(), mremap(),
 * madvise(), mmap() over something, brk() and sbrk() see to that.  What does not go through them (libc's own allocator
 * returning memory, direct system calls) is put between dsguest_drop() and dsguest_refresh(), or is found out by the next
 * refresh; until then the shadow has the old pages there, which nobody else gets.
 *
 * All functions may be called by any thread.  They return 0 or more, or -errno; dsguest_why() puts the last failure of this thread
 * into words.  After fork() the child has no shadow; it may ask for one of its own.
 */
#ifndef DSGUEST_H
#define DSGUEST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DSGUEST_MESSAGE_MAX 4096 /* bytes of a message to the service, and of its answer */

enum dsguest_mode {
	DSGUEST_EAGER = 0,  /* all memory is mirrored before the service starts */
	DSGUEST_DEMAND = 1, /* pages are mirrored when the service touches them */
};

/**
 * dsguest_shadow() - Ask for a shadow of this process
 * @service: its name on the host
 * @mode: enum dsguest_mode
 * @args: text for the service; may be NULL
 *
 * Return: 0; -EALREADY: there is one; -ENOENT or -ECONNREFUSED: no dsagent runs here; -EHOSTUNREACH: the host is not there;
 * -EPERM: the host refuses; -EACCES: dsagent does; -ENOSPC: a limit; -EINVAL: a text too long; -ETIMEDOUT; -errno.
 */
int dsguest_shadow(const char *service, int mode, const char *args);

/** dsguest_active() - Whether this process has a shadow, as far as is known: 1 or 0.  Costs a memory access. */
int dsguest_active(void);

/**
 * dsguest_call() - Send the service a message and wait for its answer
 * @message: copied
 * @bytes: at most DSGUEST_MESSAGE_MAX
 * @answer: filled in
 * @room: bytes at @answer; what does not fit is cut off
 *
 * Waits as long as the service takes; signal handlers run meanwhile.  Several threads may call at once.
 *
 * Return: bytes of the whole answer; -ESRCH: there is no shadow (any more); -EMSGSIZE; -errno.
 */
long dsguest_call(const void *message, size_t bytes, void *answer, size_t room);

/**
 * dsguest_drop() - These pages are about to go: take them out of the mirror
 * @addr: start; rounded down to a page
 * @bytes: length; rounded up
 *
 * After it the service has no access there, and waits if it tries, until dsguest_refresh().
 *
 * Return: 0, also without a shadow; -errno: the mirror is as it was, or the shadow has ended.
 */
int dsguest_drop(const void *addr, size_t bytes);

/**
 * dsguest_refresh() - Mirror these pages as they are now
 * @addr: start; @bytes: length; 0 bytes: everything
 *
 * Return: 0, also without a shadow; -errno.
 */
int dsguest_refresh(const void *addr, size_t bytes);

/** dsguest_stop() - End the shadow; after it nothing is mirrored or pinned.  Return: 0; -ESRCH: there is none; -errno. */
int dsguest_stop(void);

/** dsguest_why() - The last failure of this thread, in a line of plain English; "" if there was none. */
const char *dsguest_why(void);

#ifdef __cplusplus
}
#endif

#endif
