/* estate.h - descriptors of the host on their way from one process of the guest to another
 *
 * Theory of operation
 *
 * A descriptor of the host is open in the shadow of one process.  Where the guest's program hands it on (fork, exec, a message
 * with SCM_RIGHTS), the next process has no shadow yet, the first may be gone before it has one, and most never use what they
 * inherit.  So it is laid aside: copies of the descriptors (the same open file descriptions) go into an *estate*, which the VM's
 * process for estates keeps (runtime/host/warden/estate.h), until somebody claims them for a shadow of his own, or nobody can any more.
 *
 *   process                           host
 *   connects to DS_ESTATE_PORT
 *   HELLO: source, pairs        ->    takes those descriptors from the shadow, or copies those of another estate
 *                               <-    reply, token: laid aside
 *   CLAIM: shadow, pairs        ->    gives copies to that shadow, at the numbers wanted
 *                               <-    reply: they are there
 *   DROP: numbers               ->    closes those
 *   SEND: a socket, numbers     ->    sends data with those descriptors over that unix socket
 *   RECEIVE: a socket           ->    receives; descriptors that come are in the estate then
 *   the stream ends                   closes all
 *
 * An estate lives as long as its stream.  The process that lays it aside makes the stream before it forks or executes, and keeps
 * no copy; so the stream ends when the last process ends, or closes it, that could claim.  Whoever knows an estate's token
 * may copy it; the token of the shadow (STARTED in agent.h) is what makes somebody the shadow's process.
 *
 * Inside an estate each descriptor has a number: HELLO's pairs say {number at the source, number in the estate}, CLAIM's {number in
 * the estate, number in the shadow}.  No pairs: all, and the numbers stay.  A reply tells what there is: descriptors that
 * were not open at the source are left out.
 *
 * SEND and RECEIVE are for sockets whose other end is a program of the host.  A shadow itself may neither send nor receive
 * descriptors; here it is done by a process that has nothing but what was laid aside, and receives nothing but regular files,
 * pipes and unix sockets (runtime/host/warden/unixmsg.h).  Only where the shadow's rule gives it unix sockets, and only from an estate that was laid
 * aside from that shadow.  Neither waits: -EAGAIN.
 *
 * Integers are in the machine's byte order.  The host believes nothing but tokens; a message that is not as said here ends the
 * stream.  One message at a time: the next one is sent when the answer to the last has been read.
 */
#ifndef WIRE_ESTATE_H
#define WIRE_ESTATE_H

#include <stdint.h>

#include "runtime/wire/forward.h"

#define DS_ESTATE_PORT 873 /* of the host, AF_VSOCK; any port of the guest connects to it */
#define DS_ESTATE_VERSION 1
#define DS_ESTATE_MAGIC UINT32_C(0x54455344) /* the bytes "DSET" */
#define DS_ESTATE_TOKEN_BYTES DS_FORWARD_TOKEN_BYTES
#define DS_ESTATE_WINDOW 65535 /* a number of no descriptor: what the process has mapped of the window (window.h); as `from` and `to` alike */
#define DS_ESTATE_PAIRS_MAX 1024 /* descriptors of an estate */
#define DS_ESTATE_DATA_MAX 32768u /* bytes of a message */
#define DS_ESTATE_RIGHTS_MAX 253u /* its descriptors: SCM_MAX_FD of the kernel's include/net/scm.h */

enum ds_estate_what {
	DS_ESTATE_HELLO = 1, /* first, once; answered with the token and the numbers */
	DS_ESTATE_CLAIM = 2, /* token: of a shadow; answered with the numbers that it has got */
	DS_ESTATE_DROP = 3,  /* pairs[].from; no pairs: all.  Answered */
	/* pairs[0]: from: the socket, to: flags of the call (MSG_PEEK, MSG_EOR, ...) */
	DS_ESTATE_SEND = 4,    /* from the second pair on, from: descriptors to send.  Answered with how much was sent */
	DS_ESTATE_RECEIVE = 5, /* answered with the message, and numbers of the descriptors that came with it */
};

/** struct ds_estate_pair - See above. */
struct ds_estate_pair {
	uint16_t from, to;
};

/** struct ds_estate_request - Guest to host; npairs of struct ds_estate_pair follow, and of SEND the data. */
struct ds_estate_request {
	uint32_t magic;
	uint16_t version, what;
	uint32_t npairs;
	uint32_t bytes; /* SEND: of data; RECEIVE: room for data; at most DS_ESTATE_DATA_MAX.  Else 0 */
	uint8_t token[DS_ESTATE_TOKEN_BYTES]; /* HELLO: of a shadow or an estate; CLAIM: of a shadow; else 0 */
};

/** struct ds_estate_reply - Host to guest; `n` numbers (uint16_t) follow, and of RECEIVE the data. */
struct ds_estate_reply {
	uint32_t magic;
	uint16_t version, what;
	int32_t error; /* 0 or -errno: nothing was done.  -ENOENT: no such shadow or estate, -ENOSPC: a limit of the host.
			  SEND: bytes sent, RECEIVE: bytes of the message, with MSG_TRUNC more than there was room for; -EPERM: the shadow may not */
	uint32_t n;
	union {
		uint8_t token[DS_ESTATE_TOKEN_BYTES]; /* HELLO: the estate's own */
		uint32_t flags;			      /* RECEIVE: of the message: MSG_TRUNC, MSG_CTRUNC, MSG_EOR */
	};
};

_Static_assert(sizeof(struct ds_estate_pair) == 4 && sizeof(struct ds_estate_request) == 32 && sizeof(struct ds_estate_reply) == 32, "no padding");

#endif
