/* sides.h - calls that are about both sides, or of which only their arguments in memory say which side they are about */
#ifndef GUEST_FORWARD_SIDES_H
#define GUEST_FORWARD_SIDES_H

#include "runtime/guest/forward/forward.h"

/** forward_message_call() - sendmsg, recvmsg, sendmmsg, recvmmsg on a socket of the host (message.c).  Return: its result. */
int64_t forward_message_call(const struct intercept_call *call);

/** forward_between_call() - sendfile, splice between the sides (between.c).  Return: whether it did it. */
bool forward_between_call(const struct intercept_call *call, int64_t *result);

/**
 * forward_address_call() - connect, bind (cross.c)
 * @host: the socket is the host's already
 *
 * Return: whether it was a path of the host's, and done.
 */
bool forward_address_call(const struct intercept_call *call, bool host, int64_t *result);

/** forward_watch_call() - inotify_add_watch of what is the host's, or by a descriptor that is (cross.c).  Return: its result. */
int64_t forward_watch_call(const struct intercept_call *call, enum forward_side path, bool rewrite);

#endif
