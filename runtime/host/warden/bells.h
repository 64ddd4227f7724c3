/* bells.h - streams of guest threads that have calls forwarded: from the VM's vsock device to the shadow that they belong to
 *
 * Theory of operation
 *
 * Any process of the guest may connect to DS_FORWARD_PORT (runtime/wire/forward.h).  Nothing is known of a stream before its
 * hello has arrived; then the token in it says which shadow it is for, or the stream is closed.  The VM process reads the
 * hello, as it is the one that has the streams and knows all tokens; the rest is the warden's, which gets the descriptor
 * (struct bells_message, SCM_RIGHTS), and the executor's, which gets it from there.
 *
 *   waiting   at most BELLS_WAITING_MAX streams whose hello is not there yet, each for BELLS_HELLO_MS at most.  One more, and the
 *	       oldest goes: whoever connects and says nothing cannot keep others out, as those speak at once.
 *   tokens    are compared with those of all shadows, byte by byte to the end, whatever is found: time tells nothing.
 *   passed on a port of the guest is remembered with the shadow that its stream went to, for interrupts.
 *
 * Interrupts: the one thing in a bell that is not for the executor, since that is in the call which is to be
 * interrupted.  vsock.h shows what comes from the guest before it goes on (bells_look()), and the warden is told.
 *
 * To a warden nothing is sent that would have to be waited for: a bell that does not fit is closed, an interrupt that
 * does not fit is lost (its sender repeats it).  Single-threaded, never blocks; what there is to do is behind one descriptor.
 */
#ifndef HOST_BELLS_H
#define HOST_BELLS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "runtime/wire/forward.h"

#define BELLS_WAITING_MAX 64u
#define BELLS_HELLO_MS 2000u
#define BELLS_PASSED_MAX 1024u /* VSOCK_STREAMS_MAX: there cannot be more */

struct shadows;
struct vsock;
struct bells;

/** enum bells_what - What a warden is told. */
enum bells_what {
	BELLS_NEW = 1,	 /* a bell; its descriptor comes along */
	BELLS_INTERRUPT, /* the call that is forwarded by bell @id */
	BELLS_LAY,	 /* struct estate_order, estate.h */
	BELLS_ADOPT,	 /* likewise */
};

/** struct bells_message - A packet to a warden. */
struct bells_message {
	uint32_t what;
	uint32_t id;	  /* of the bell: its port in the guest */
	uint32_t spin_ns; /* NEW: from the hello */
	uint32_t zero;
	uint64_t slot; /* likewise */
};

/**
 * bells_new() - Makes the row
 * @out: set; given back by bells_free(); NULL after an error
 * @shadows: of the VM; stays the caller's
 * @vsock: likewise: tells which streams there are; NULL: all that were passed on, for tests
 *
 * Return: 0, -ENOMEM, -errno of epoll_create1() and timerfd_create().
 */
int bells_new(struct bells **out, struct shadows *shadows, struct vsock *vsock);

/** bells_free() - Closes what waits; NULL is allowed. */
void bells_free(struct bells *b);

/** bells_accept() - A stream from @guest_port; @fd is taken over on return 0.  Return: 0, -errno of epoll_ctl(). */
int bells_accept(struct bells *b, uint32_t guest_port, int fd);

/** bells_look() - Bytes of the guest pass on a stream from @guest_port. */
void bells_look(struct bells *b, uint32_t guest_port, const struct iovec *iov, uint32_t n, uint32_t bytes);

/** bells_fd() - A descriptor that poll() calls readable when bells_run() has something to do. */
int bells_fd(const struct bells *b);

/** bells_run() - Reads hellos, passes streams on, closes those that are late. */
void bells_run(struct bells *b);

/** bells_refused() - How many streams have been closed, of all time. */
uint64_t bells_refused(const struct bells *b);

#endif
