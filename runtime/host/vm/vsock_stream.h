/* vsock_stream.h - one stream between a guest process and the host: its socket, its buffer, its credit, its two ends
 *
 * Theory of operation
 *
 * The part of vsock.h that knows nothing of queues.  A stream has our end of a socketpair; the holder has the other.  The
 * two directions end on their own: guest_shut says what the guest has said (VIRTIO_VSOCK_SHUTDOWN_SEND: it sends no more,
 * _RCV: it takes no more), host_shut what the holder has done, told what the guest was told of that.
 *
 * Credit: each side says how large its buffer is and how many bytes it has passed on so far, modulo 2^32; the other may
 * have sent that many more than were passed on.  Of the guest's numbers nothing is believed but that they bound what we
 * send; ours are in the buffer here: who sends more than VSOCK_BUF_BYTES beyond fwd_bytes is out of order.  Bytes count
 * as passed on when the socketpair has taken them, or when nobody will ever read them.
 *
 * Sockets are polled edge-triggered: `readable` stays set until a call says otherwise.
 */
#ifndef HOST_VSOCK_STREAM_H
#define HOST_VSOCK_STREAM_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#define VSOCK_SHUT_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/** struct vsock_stream - A stream; its lists are vsock.c's. */
struct vsock_stream {
	TAILQ_ENTRY(vsock_stream) all, turn;
	struct vsock_stream *bucket; /* the next one whose ports hash alike */
	bool has_turn;		     /* in the list of those that may have something for the guest */
	uint32_t guest_port, host_port;
	int fd; /* our end; -1: closed, as the holder has closed the other and the guest knows */

	uint8_t *buf; /* from the guest, not taken by the socket yet; NULL: nothing */
	uint32_t buf_at, buf_bytes;
	uint32_t fwd_bytes, fwd_told; /* passed on, and what the guest knows of that */

	uint32_t sent_bytes;		/* to the guest */
	uint32_t guest_alloc, guest_fwd; /* as the guest says */

	uint8_t guest_shut, host_shut, told;
	bool readable;	   /* there may be bytes from the holder, or the end of them */
	bool respond;	   /* RESPONSE is due */
	bool credit;	   /* CREDIT_UPDATE is due */
	bool asked;	   /* CREDIT_REQUEST is out */
	bool gone;	   /* the guest has forgotten it; what it sent is still passed on */
	bool ended[2];	   /* the socket was shut down for reading, for writing */
};

/**
 * vsock_stream_deliver() - Takes a packet's payload
 * @s: the stream
 * @iov: the payload, @n parts in guest memory; changed
 * @bytes: of all parts
 *
 * Return: 0; -EPROTO (more than the guest has credit for, or after it said that it sends no more); -ENOMEM.  After an
 * error the stream is of no use.
 */
int vsock_stream_deliver(struct vsock_stream *s, struct iovec *iov, uint32_t n, uint32_t bytes);

/** vsock_stream_flush() - Passes on what waits, as far as the socket takes it, and then the guest's end if there is one. */
void vsock_stream_flush(struct vsock_stream *s);

/** vsock_stream_hup() - The holder has closed: what waits for it is dropped; what it sent is still to be fetched. */
void vsock_stream_hup(struct vsock_stream *s);

/**
 * vsock_stream_fetch() - Receives bytes for the guest, bounded by its credit and VSOCK_PACKET_BYTES_MAX
 * @s: the stream
 * @iov: where to, @n parts in guest memory
 *
 * Return: how many there were; 0: none now, or no more ever (host_shut says that).
 */
uint32_t vsock_stream_fetch(struct vsock_stream *s, const struct iovec *iov, uint32_t n);

/** vsock_stream_room() - How many bytes the guest's credit allows. */
uint32_t vsock_stream_room(const struct vsock_stream *s);

/**
 * vsock_stream_due() - The next packet without payload that the guest should get
 * @s: the stream; taken to have been sent
 * @flags: set to the packet's flags
 *
 * Return: enum virtio_vsock_op; 0: none.
 */
uint16_t vsock_stream_due(struct vsock_stream *s, uint32_t *flags);

/**
 * vsock_stream_over() - Whether nothing more will happen: the guest wants to hear so (or has forgotten it), and all it
 * sent was passed on
 */
bool vsock_stream_over(const struct vsock_stream *s);

#endif
