/* keeper.h - the process that keeps the estates of a VM; estate.h tells what it is for
 *
 * Theory of operation
 *
 * One thread, one epoll set.  A stream of a guest's process is an estate, from its first byte on:
 *
 *   hello    the request is read, for KEEPER_HELLO_MS at most
 *   laying   descriptors come from a warden (or from another estate, at once)
 *   idle     waits for CLAIM, DROP, or the end
 *   giving   a claim is under way, DS_SHADOW_ADOPT_MAX descriptors at a time
 *
 * SEND and RECEIVE are done at once (unixmsg.h): neither waits.
 *
 * While something is under way the stream is not read: one request at a time.  What a warden does not answer within
 * KEEPER_ANSWER_MS is given up.  The end of a stream ends its estate at any moment, by closing all that is in it.
 *
 * Limits: KEEPER_ESTATES_MAX streams, of which the oldest that has said nothing goes when there is one more;
 * DS_ESTATE_PAIRS_MAX descriptors in an estate, KEEPER_FDS_MAX in all.
 */
#ifndef HOST_KEEPER_H
#define HOST_KEEPER_H

#include <stdint.h>

#define KEEPER_ESTATES_MAX 512u
#define KEEPER_FDS_MAX 16384u
#define KEEPER_HELLO_MS 2000u
#define KEEPER_ANSWER_MS 10000u

/**
 * keeper_main() - The keeper's life; called in a child forked for it
 * @channel: to the VM process: streams come (one byte and a descriptor), orders go (struct estate_order); SOCK_SEQPACKET
 *
 * Closes nothing but what it opens and gets.  Ends when the channel does.
 *
 * Return: exit status.
 */
int keeper_main(int channel);

#endif
