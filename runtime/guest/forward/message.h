/* message.h - a message of a socket and its control data, as the kernel has them: what message.c and carry.c share */
#ifndef GUEST_FORWARD_MESSAGE_H
#define GUEST_FORWARD_MESSAGE_H

#include "runtime/guest/forward/forward.h"

#define FORWARD_MESSAGES_MAX 1024u		    /* of a sendmmsg(), UIO_MAXIOV */
#define FORWARD_CONTROL_MAX (UINT64_C(1) << 16)	    /* bytes of control data that are looked at */
#define FORWARD_CONTROL_ALIGN(n) (((n) + 7) & ~UINT64_C(7))
#define FORWARD_SCM_RIGHTS 1
#define FORWARD_SCM_PIDFD 4 /* Linux 6.5 */

/** struct forward_message - struct user_msghdr (linux/socket.h). */
struct forward_message {
	uint64_t name;
	uint32_t name_bytes, pad;
	uint64_t iov, niov, control, control_bytes;
	uint32_t flags, pad2;
};

/** struct forward_many - struct mmsghdr. */
struct forward_many {
	struct forward_message message;
	uint32_t bytes, pad;
};

/** struct forward_control - struct cmsghdr. */
struct forward_control {
	uint64_t bytes; /* these and the content */
	int32_t level, type;
};
_Static_assert(sizeof(struct forward_message) == 56 && sizeof(struct forward_many) == 64 && sizeof(struct forward_control) == 16, "as the kernel has them");

/** struct forward_receipt - What is done with descriptors that have come. */
struct forward_receipt {
	/* One has come as @raw.  Return: the number that the program is to see; negative: there is none, and @raw is closed. */
	int64_t (*take)(void *ctx, int32_t raw, bool cloexec);
	void (*drop)(void *ctx, int32_t raw); /* closes one that the program is not to see */
	void *ctx;
};

/**
 * forward_message_received() - Looks at the control data of a message that has come
 * @at: the message's header, in the program's memory; is changed where a descriptor gets another number
 *
 * With the first descriptor that cannot be had the rest is dropped, and the message says MSG_CTRUNC (unix(7)).
 */
void forward_message_received(uint64_t at, bool cloexec, const struct forward_receipt *receipt);

/**
 * forward_message_rights() - Goes through the descriptors that a message is to take along
 * @each: is called with each one, and where it stands in the program's memory; a result other than 0 ends it
 *
 * Return: 0; what @each said; -EFAULT, -EINVAL, -ENOBUFS as sendmsg(2).
 */
int64_t forward_message_rights(const struct forward_message *m, int64_t (*each)(void *ctx, int32_t fd, uint64_t at), void *ctx);

/** struct forward_piece - struct iovec. */
struct forward_piece {
	uint64_t base, bytes;
};

/**
 * forward_deliver_send() - sendmsg() with descriptors over a unix socket of the host, where the shadow may not do it (deliver.c)
 * @rights: how many descriptors; all control data that there is
 *
 * Return: as sendmsg(2).
 */
int64_t forward_deliver_send(uint64_t fd, const struct forward_message *m, uint64_t flags, uint32_t rights);

/** forward_deliver_receive() - recvmsg() likewise; @at: the message's header.  Return: as recvmsg(2). */
int64_t forward_deliver_receive(uint64_t fd, uint64_t at, uint64_t flags);

/** forward_deliver_is_unix() - Whether a socket of the host is a unix socket. */
bool forward_deliver_is_unix(uint64_t fd);

/**
 * forward_carry_call() - sendmsg, recvmsg and their kin on a socket of the guest (carry.c)
 *
 * Return: whether it was one that may carry descriptors of the host, and is done.
 */
bool forward_carry_call(struct intercept_call *call, enum forward_who who, int64_t *result);

#endif
