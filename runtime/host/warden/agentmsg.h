/* agentmsg.h - messages of a guest's agent, taken from a stream piece by piece, and checked
 *
 * Theory of operation
 *
 *   agentmsg_room() -> read(2) into it -> agentmsg_got() -> agentmsg_next() until it returns 0 -> ...
 *
 * Everything that arrives is hostile.  A message is checked as soon as there is enough of it: the head when 16 bytes
 * are there, the struct when all of that is, the ranges when they are, so that a length is refused before anything is
 * kept for it.  Memory grows with what has really arrived, to at most twice that, never with what is announced.
 *
 * What a message passed to the caller is known to be:
 *   - one that a guest may send (HELLO to CALL), of this version, exactly as long as its head says, aligned to 8 bytes;
 *   - with lengths within the limits of runtime/wire/agent.h, that add up to that length;
 *   - with terminated strings, a known mode, flags of 0 or 1;
 *   - with ranges that are not empty, rise, do not overlap and end within the user half.
 * The map in it is bytes: rle_map_open_copy() is the next to look at it.  Whether it comes in the right order, and
 * whether anybody wants it, is the warden's to say.
 *
 * A stream with an error is of no use any more: where the next message would begin is not known.  The error stays.
 *
 * Pure: no system calls.  One thread.
 */
#ifndef HOST_AGENTMSG_H
#define HOST_AGENTMSG_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/agent.h"

/** struct agentmsg_err - What is wrong with a message. */
struct agentmsg_err {
	const char *why;  /* static text */
	uint64_t offset;  /* of the field, in the message */
	uint64_t value;	  /* what is there */
};

/** struct agentmsg - A stream's state; filled by agentmsg_init(), given back by agentmsg_free(). */
struct agentmsg {
	uint8_t *buf;
	size_t have, room;
	size_t limit_bytes; /* of a message */
	int broken;	    /* -errno, once there was one */
	unsigned int looked; /* how much of the message at the front has been checked: enum in agentmsg.c */
	struct agentmsg_err err;
};

/** agentmsg_init() - Makes a state for a new stream; takes no memory yet. */
void agentmsg_init(struct agentmsg *m);

/** agentmsg_free() - Gives back its memory. */
void agentmsg_free(struct agentmsg *m);

/**
 * agentmsg_limit() - Lowers what a message may be long, the one under way included
 * @bytes: a longer one is refused with -EFBIG
 */
void agentmsg_limit(struct agentmsg *m, size_t bytes);

/**
 * agentmsg_room() - Where the next bytes of the stream go
 * @at: set
 * @bytes: set to how many may be put there, at least 1
 *
 * Return: 0, -ENOMEM, the error that broke the stream, -EBUSY (a whole message is waiting to be taken).
 */
int agentmsg_room(struct agentmsg *m, void **at, size_t *bytes);

/** agentmsg_got() - Says that @bytes were put there. */
void agentmsg_got(struct agentmsg *m, size_t bytes);

/**
 * agentmsg_next() - The message at the front
 * @msg: set when it is whole; good until agentmsg_done()
 *
 * Return: 1; 0 (not all of it is there yet); -EBADMSG, -EPROTONOSUPPORT (version), -EFBIG (m->err says why).
 */
int agentmsg_next(struct agentmsg *m, const struct ds_agent_head **msg);

/** agentmsg_done() - The message that agentmsg_next() gave has been dealt with. */
void agentmsg_done(struct agentmsg *m);

/**
 * agentmsg_peek() - The head and struct of the message at the front, before the rest of it has arrived
 *
 * Return: NULL while that is not all there and checked.
 */
const struct ds_agent_head *agentmsg_peek(const struct agentmsg *m);

/** agentmsg_under_way() - Bytes of the message at the front that has begun: as announced, 0: none has. */
size_t agentmsg_under_way(const struct agentmsg *m);

/** agentmsg_ranges() - The ranges behind an ATTACH, UPDATE or DROP that agentmsg_next() gave. */
const struct ds_agent_range *agentmsg_ranges(const struct ds_agent_head *msg, size_t *n);

/** agentmsg_map() - The map's bytes behind an ATTACH, UPDATE or PAGES that agentmsg_next() gave. */
const void *agentmsg_map(const struct ds_agent_head *msg, size_t *bytes);

#endif
