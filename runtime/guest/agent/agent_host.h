/* agent_host.h - the stream to the host: made, written to, read from
 *
 * One stream is one shadow.  It is an AF_VSOCK stream to the host (CID 2) from a port below 1024, which only root can bind,
 * so that the host can tell dsagent from other programs of the guest; or, for tests, a unix socket.  The descriptor never
 * blocks; agent_host_send() waits with poll(), for a bounded time, because the host reads all the time while it lives.
 */
#ifndef GUEST_AGENT_HOST_H
#define GUEST_AGENT_HOST_H

#include <stddef.h>
#include <sys/uio.h>

#include "runtime/guest/agent/agent_hostmsg.h"

#define AGENT_HOST_SEND_MS 30000 /* that a host may go without reading a byte */

/**
 * agent_host_connect() - Start to connect
 * @path: a unix socket in place of the host, or NULL
 *
 * The descriptor is non-blocking and close-on-exec; it is writable when the connection stands, or has failed
 * (agent_host_connected() tells).
 *
 * Return: a descriptor; -ECONNREFUSED, -ENODEV, ... as connect(2) says; -EADDRINUSE: no port below 1024 is free.
 */
int agent_host_connect(const char *path);

/** agent_host_connected() - Wait until the connection stands.  Return: 0; -ETIMEDOUT; -errno of the connection. */
int agent_host_connected(int fd, int timeout_ms);

/**
 * agent_host_send() - Send all of it
 * @fd: the stream
 * @iov: what; changed
 * @n: how many
 *
 * Return: 0; -ETIMEDOUT: the host does not read; -EPIPE; -errno.  After an error the stream is of no use.
 */
int agent_host_send(int fd, struct iovec *iov, int n);

/**
 * agent_host_receive() - Read what is there
 * @fd: the stream
 * @in: gets it
 *
 * Return: 1 something came; 0 nothing is there; -EPIPE the host has closed; -errno.
 */
int agent_host_receive(int fd, struct agent_hostmsg *in);

#endif
