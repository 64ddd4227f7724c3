/* estate.h - descriptors that a guest's processes hand on: laid aside, claimed, dropped
 *
 * Theory of operation
 *
 * runtime/wire/estate.h says what an estate is and what the guest says about it.  Four processes have a part in it:
 *
 *   guest's process --- stream ---> VM process     passes the stream on, unread (estates_accept())
 *                                   keeper         a process of the VM's; has the estates, reads the streams (keeper.h)
 *                                   warden         takes descriptors from its capsule (pidfd_getfd(2)) and gives it some
 *
 * The keeper is a process of its own because it closes descriptors of a guest's: the last close() of a socket may wait as
 * long as the guest has said that it is to (SO_LINGER), and the VM process never waits.  It has no rights and knows no
 * token but those of its estates.  It is forked when the first stream comes, and again if it was killed; its end ends its
 * estates, and nothing else.
 *
 * What the keeper wants of a shadow it asks of the VM process, which knows the tokens of shadows: an order with the token
 * (struct estate_order), passed on to that shadow's warden, with a socket for the answer:
 *
 *   LAY    the warden sends the descriptors that the capsule has open at @number, as packets of struct estate_batch with as
 *	    many descriptors, the last of which has n = 0
 *   ADOPT  the warden gives the capsule the descriptors that come along, the n of them at @number, and sends one byte
 *
 * An answer's socket that ends before that means: no such shadow, or not now.
 *
 * A warden takes numbers below DS_SHADOW_GUEST_FDS only, and neither takes nor gives anything that is the VM's RAM.  What has been laid aside can be claimed
 * by any shadow of the same VM whose process has the token: handing on is the guest program's right, as it is between
 * processes of one machine, and what a shadow may do with what it has is its own rule's to say.
 *
 * This is the VM process's side.  Single-threaded, never blocks.
 */
#ifndef HOST_ESTATE_H
#define HOST_ESTATE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/estate.h"
#include "runtime/wire/shadow.h"

struct shadows;
struct estates;

/** struct estate_order - What a warden is told about descriptors; the numbers in use end the packet. */
struct estate_order {
	uint8_t token[DS_ESTATE_TOKEN_BYTES]; /* the shadow's; zeroed when it reaches the warden */
	uint32_t what; /* BELLS_LAY, BELLS_ADOPT (bells.h) */
	uint32_t n;    /* LAY: at most DS_ESTATE_PAIRS_MAX, ADOPT: at most DS_SHADOW_ADOPT_MAX */
	uint16_t number[DS_ESTATE_PAIRS_MAX];
};

/** struct estate_batch - A packet of descriptors; the numbers in use end it. */
struct estate_batch {
	uint32_t n; /* 0: that was all; ESTATE_MESSAGES */
	uint16_t number[DS_SHADOW_ADOPT_MAX];
};

#define ESTATE_MESSAGES UINT32_MAX /* no descriptors; the shadow has unix sockets: messages may be sent and received for it */

/** estate_order_bytes() - Length of an order. */
static inline size_t estate_order_bytes(const struct estate_order *o)
{
	return offsetof(struct estate_order, number) + o->n * sizeof(o->number[0]);
}

/**
 * estates_new() - Makes the VM process's side; the keeper comes when it is needed
 * @out: set; given back by estates_free(); NULL after an error
 * @shadows: of the VM; stays the caller's
 *
 * Return: 0, -ENOMEM.
 */
int estates_new(struct estates **out, struct shadows *shadows);

/** struct estates_of - Whose descriptors they are, where that are not a VM's shadows. */
struct estates_of {
	void *ctx;
	/* An order, for the shadow with @token; the descriptors stay the caller's. */
	void (*tell)(void *ctx, const uint8_t *token, struct estate_order *o, const int *fds, unsigned int nfds);
	void (*forget)(void *ctx); /* in the keeper, which has been forked: tokens, descriptors */
};

/** estates_new_of() - As estates_new(). */
int estates_new_of(struct estates **out, const struct estates_of *of);

/**
 * estate_lay() - Answers BELLS_LAY: takes descriptors from a process and sends them to the keeper
 * @pidfd: of the process
 * @hold: what of its descriptors is good for nothing and not taken, a copy; -1: not known
 * @ram_fd: what else is not; -1: nothing
 * @o: the order
 * @answer: its socket
 */
void estate_lay(int pidfd, int hold, int ram_fd, const struct estate_order *o, int answer);

/** estates_free() - Ends the keeper and with it the estates; NULL is allowed. */
void estates_free(struct estates *e);

/** estates_accept() - A stream to DS_ESTATE_PORT; @fd is taken over on return 0.  Return: 0, -errno. */
int estates_accept(struct estates *e, int fd);

/** estates_fd() - A descriptor that poll() calls readable when estates_run() has something to do; -1: not now. */
int estates_fd(const struct estates *e);

/** estates_run() - Passes on what the keeper wants. */
void estates_run(struct estates *e);

/**
 * estate_send() - A packet with descriptors, without waiting
 * @fds: go along, stay the caller's
 *
 * Return: 0, -errno of sendmsg().
 */
int estate_send(int socket, const void *packet, size_t bytes, const int *fds, unsigned int nfds);

/**
 * estate_receive() - One packet, without waiting
 * @fds: SHADOWS_TELL_FDS of them, the caller's to close
 * @nfds: how many came
 *
 * Return: its length, 0: the end; -EAGAIN; -EMFILE: descriptors that came along had no room; -errno of recvmsg().
 */
int64_t estate_receive(int socket, void *packet, size_t room, int *fds, unsigned int *nfds);

#endif
