/* agent_hostmsg.h - cuts the stream that comes from the host into messages, and checks them
 *
 * The host is trusted more than guests are, but a stream may be cut anywhere and what sits behind a test's socket may say
 * anything: nothing is used before it was checked.  Pure: no system call.  Messages of the host are short (the longest is a
 * REPLY), so a fixed buffer holds any of them.
 */
#ifndef GUEST_AGENT_HOSTMSG_H
#define GUEST_AGENT_HOSTMSG_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/agent.h"

#define AGENT_HOSTMSG_BYTES (sizeof(struct ds_agent_call) + DS_AGENT_PAYLOAD_MAX)

/** struct agent_hostmsg - What was received and not yet taken; zero-filled: nothing. */
struct agent_hostmsg {
	_Alignas(8) uint8_t msg[AGENT_HOSTMSG_BYTES]; /* the message that agent_hostmsg_next() delivered */
	uint8_t buf[2 * AGENT_HOSTMSG_BYTES];
	size_t have;
};

/**
 * agent_hostmsg_room() - Where bytes that are received go
 * @bytes: how many fit; never 0 after agent_hostmsg_next() returned 0
 */
uint8_t *agent_hostmsg_room(struct agent_hostmsg *m, size_t *bytes);

/** agent_hostmsg_got() - @bytes were put there. */
void agent_hostmsg_got(struct agent_hostmsg *m, size_t bytes);

/**
 * agent_hostmsg_next() - Take the next message
 * @m: the stream
 * @msg: set to it; valid until the next call.  Its length is that of its kind, texts are terminated, a FAULT's window is
 *	not empty, lies below DS_USER_VPN_END and holds the page
 * @why: set on error; static text
 *
 * Return: 1; 0 more has to be received; -EBADMSG, after which the stream is of no use.
 */
int agent_hostmsg_next(struct agent_hostmsg *m, const struct ds_agent_head **msg, const char **why);

#endif
