/* unixmsg.h - messages with descriptors, sent and received in a shadow's place
 *
 * Theory of operation
 *
 * What sendmsg() sends along is in memory, where no filter can see it, and what recvmsg() brings is up to who sends it.  So a shadow has
 * neither for unix sockets (filter_group.h); the keeper (keeper.h) does both on sockets that were laid aside, with descriptors that were
 * laid aside.  It has no rights, and the VM's RAM is nowhere in it.
 *
 * What may come is decided here: regular files, pipes, unix sockets.  All else is closed, and the message says MSG_CTRUNC, as it does where
 * a receiver has no room:
 *
 *   directories, and what is open with O_PATH	from them the way leads on, to what the rule does not name
 *   devices					are a matter of device= of the rule
 *   sockets of other families			are a matter of net= of the rule
 *   what has no type of file			(epoll, eventfd, pidfd, io_uring, userfaultfd, ...): not needed
 *
 * To programs of the host the sender of such a message (SCM_CREDENTIALS) is the keeper, who is nobody; the one at the other end of the
 * connection (SO_PEERCRED) is the shadow, which made it.
 */
#ifndef HOST_UNIXMSG_H
#define HOST_UNIXMSG_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/estate.h"

/**
 * unixmsg_send() - Sends, without waiting
 * @fd: a unix socket; another file is -ENOTSOCK, another socket -EINVAL
 * @flags: only MSG_EOR and MSG_OOB count
 * @fds: nfds of them, at most DS_ESTATE_RIGHTS_MAX; stay the caller's
 *
 * Return: bytes sent; -errno of sendmsg(2).
 */
int64_t unixmsg_send(int fd, const void *data, size_t bytes, uint32_t flags, const int *fds, uint32_t nfds);

/**
 * unixmsg_receive() - Receives, without waiting
 * @fd: as above
 * @flags: only MSG_PEEK, MSG_TRUNC and MSG_OOB count
 * @fds: DS_ESTATE_RIGHTS_MAX; the first *nfds are set, and are the caller's
 * @got: flags of the message
 *
 * Return: as recvmsg(2); -errno.
 */
int64_t unixmsg_receive(int fd, void *data, size_t room, uint32_t flags, int *fds, uint32_t *nfds, uint32_t *got);

#endif
