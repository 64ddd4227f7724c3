/* estate.h - descriptors of the host on their way from one process of the guest to another
 *
 * Theory of operation
 *
 * A descriptor of the host is open in the shadow of one process.  Where the guest's program hands it on (fork, exec, a message
 * with SCM_RIGHTS), the next process has no shadow yet, the first may be gone before it has one, and most never use what they
 * inherit.  So it is laid aside: copies of the descriptors (the same open file descriptions) go into an *estate*, which the VM's
 * process for estates keeps (runtime/host/estate.h), until somebody claims them for a shadow of his own, or nobody can any more.
 *
 *   process                           host
 *   connects to DS_ESTATE_PORT
 *   HELLO: source, pairs        ->    takes those descriptors from the shadow, or copies those of another estate
 *                               <-    reply, token: laid aside
 *   CLAIM: shadow, pairs        ->    gives copies to that shadow, at the numbers wanted
 *                               <-    reply: they are there
 *   DROP: numbers               ->    closes those
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
#define DS_ESTATE_PAIRS_MAX 1024 /* descriptors of an estate */

enum ds_estate_what {
	DS_ESTATE_HELLO = 1, /* first, once; answered with the token and the numbers */
	DS_ESTATE_CLAIM = 2, /* token: of a shadow; answered with the numbers that it has got */
	DS_ESTATE_DROP = 3,  /* pairs[].from; no pairs: all.  Answered */
};

/** struct ds_estate_pair - See above. */
struct ds_estate_pair {
	uint16_t from, to;
};

/** struct ds_estate_request - Guest to host; npairs of struct ds_estate_pair follow. */
struct ds_estate_request {
	uint32_t magic;
	uint16_t version, what;
	uint32_t npairs;
	uint32_t zero;
	uint8_t token[DS_ESTATE_TOKEN_BYTES]; /* HELLO: of a shadow or an estate; CLAIM: of a shadow; else 0 */
};

/** struct ds_estate_reply - Host to guest; `n` numbers (uint16_t) follow. */
struct ds_estate_reply {
	uint32_t magic;
	uint16_t version, what;
	int32_t error; /* 0 or -errno: nothing was done.  -ENOENT: no such shadow or estate, -ENOSPC: a limit of the host */
	uint32_t n;
	uint8_t token[DS_ESTATE_TOKEN_BYTES]; /* HELLO: the estate's own */
};

_Static_assert(sizeof(struct ds_estate_pair) == 4 && sizeof(struct ds_estate_request) == 32 && sizeof(struct ds_estate_reply) == 32, "no padding");

#endif
