/* vsock.h - the host's end of a VM's streams (AF_VSOCK): connections of guest processes become sockets of this process
 *
 * Theory of operation
 *
 * vhostuser.h holds the state of a vhost-user-vsock device; this works its two queues.  A guest process that connects to
 * a port of CID 2 makes its kernel put a REQUEST into the transmit queue; accept() is called with one end of a
 * socketpair, the other stays here, and from then on bytes go between the queues and that pair:
 *
 *   guest -> host   a packet's payload is sent to the pair straight out of guest memory.  What the pair does not take
 *                   waits in a buffer of VSOCK_BUF_BYTES, which is what the guest may have under way (its credit).
 *                   Credit is given back at VSOCK_CREDIT_STEP_BYTES, and on request.  A guest that sends more is reset.
 *   host -> guest   bytes are received from the pair straight into the guest's buffers, as far as the guest's credit and
 *                   its buffers go; what is beyond that stays in the pair, and who writes there waits.  There is no
 *                   other buffer, so a guest that takes nothing costs nothing.
 *
 * Ends: the guest's shutdown() of one direction is passed on to the pair and the other way round (half close).  When
 * the guest has closed, what it had sent is delivered first, then the holder of the pair reads the end.  When the holder
 * closes, the guest reads what was sent, then the end.  A packet for no connection is answered by RST.  (A holder that
 * only shuts down its reading side is found out when the next bytes are passed to it.)
 *
 * Nobody waits for anybody: turns are taken packet by packet, each vsock_run() does a bounded amount of work, and answers
 * without a connection to keep them in (RST) are bounded by not taking more packets until the guest makes room for them.
 *
 * What is hostile: everything in guest memory.  vring.h checks places, lengths and order; here the numbers of packets are
 * checked.  A ring that is not as it may be stops the device until the guest resets it (vsock_err() says why): that can
 * only be the guest's kernel.  An impossible packet costs its connection.
 *
 * Processes: the maker of a vsock may fork (in accept() too).  Guest memory is not mapped in the child (MADV_DONTFORK),
 * but descriptors are inherited: the child closes all that is not its own (close_range(2)) before it does anything long,
 * or ends of streams are not seen.  It never calls into here.
 *
 * Single-threaded.  Nothing here blocks.  Packets and credit: virtio 1.2, 5.10.6; Linux's net/vmw_vsock/virtio_transport_common.c.
 */
#ifndef HOST_VSOCK_H
#define HOST_VSOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "runtime/host/vm/vhostuser.h"

#define VSOCK_HOST_CID 2u
#define VSOCK_STREAMS_MAX 1024u		/* of one VM; a connection more is refused */
#define VSOCK_BUF_BYTES (128u << 10)	/* of one stream, guest -> host; allocated only while the holder does not read */
#define VSOCK_CREDIT_STEP_BYTES (64u << 10)
#define VSOCK_PACKET_BYTES_MAX (64u << 10) /* payload; no Linux sends more */

struct vsock;

/**
 * vsock_accept_fn - A guest process wants to connect
 * @ctx: as given to vsock_new()
 * @guest_port: below 1024 only for those who may CAP_NET_BIND_SERVICE in the guest
 * @host_port: where to
 * @fd: the host's end of the stream, blocking, close-on-exec; the callee's to close if it returns 0
 *
 * Called from within vsock_run(); must not block nor call into here.  Data may be read once it has returned.
 *
 * Return: 0, or any -errno: refused, and the guest's connect() fails with ECONNRESET at once.  @fd is closed then.
 */
typedef int (*vsock_accept_fn)(void *ctx, uint32_t guest_port, uint32_t host_port, int fd);

/**
 * vsock_new() - Makes the host's end for one VM; no queue is worked yet
 * @out: set; given back by vsock_free(); NULL after an error
 * @guest_cid: the guest's, as vhostuser_init() was told
 * @accept: decides about connections
 * @ctx: its first argument
 *
 * Return: 0, -ENOMEM, -errno of epoll_create1() and eventfd().
 */
int vsock_new(struct vsock **out, uint64_t guest_cid, vsock_accept_fn accept, void *ctx);

/** vsock_free() - vsock_stop(), and everything else is given back; NULL is allowed. */
void vsock_free(struct vsock *vs);

/**
 * vsock_look_fn - Payload from the guest, before it is passed on
 * @iov: @n parts in guest memory, which may change meanwhile; @bytes in all
 *
 * Must not block nor call into here.
 */
typedef void (*vsock_look_fn)(void *ctx, uint32_t guest_port, const struct iovec *iov, uint32_t n, uint32_t bytes);

/** vsock_look() - Streams to @host_port have their payload shown to @look, with the context of vsock_new(). */
void vsock_look(struct vsock *vs, uint32_t host_port, vsock_look_fn look);

/** vsock_has() - Whether there is a stream with these ports. */
bool vsock_has(struct vsock *vs, uint32_t guest_port, uint32_t host_port);

/**
 * vsock_start() - Begins to work the queues, or goes on with them under another memory table
 * @vs: stopped (on VHOSTUSER_EV_STARTED), or running (on VHOSTUSER_EV_TABLE while v->running)
 * @v: both queues run; kept, and used until vsock_stop(): its queues' `call` is signalled and its queues' `base` is kept
 *	up to date, so that GET_VRING_BASE is answered rightly
 *
 * Maps all regions of @v.  Streams go on where it was running already; whoever does not want that ends them by closing.
 *
 * Return: 0; -ENOENT (there is no table), -ENXIO (a queue lies outside of the VM's memory), -EINVAL (@v does not run),
 * -errno of mmap(), dup(), epoll_ctl().  After an error it is stopped.
 */
int vsock_start(struct vsock *vs, struct vhostuser *v);

/**
 * vsock_stop() - Leaves the queues alone, unmaps the VM's memory and ends all streams, without a word to the guest
 *
 * For VHOSTUSER_EV_STOPPED, VHOSTUSER_EV_NO_TABLE, and the end of the connection.  Holders of streams read what had
 * been passed on and then the end.  Harmless when it is stopped already.
 */
void vsock_stop(struct vsock *vs);

/** vsock_fd() - A descriptor that poll() calls readable when vsock_run() has something to do; stays the same. */
int vsock_fd(const struct vsock *vs);

/**
 * vsock_run() - Does what there is to do, up to a bound; never blocks
 *
 * Return: 0; -EPROTO if a ring is not as it may be: nothing is done any more and all streams have ended until
 * vsock_start() after a vsock_stop().
 */
int vsock_run(struct vsock *vs);

/** vsock_err() - Why vsock_run() returned -EPROTO: static text; NULL if it did not. */
const char *vsock_err(const struct vsock *vs);

/** vsock_streams() - How many streams there are, those included that one side has closed. */
uint32_t vsock_streams(const struct vsock *vs);

#endif
