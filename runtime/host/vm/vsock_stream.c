/* vsock_stream.c - one stream between a guest process and the host; theory in vsock_stream.h */
#include "runtime/host/vm/vsock_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/host/vm/vring.h"
#include "runtime/host/vm/vsock.h"

/* --- guest to host ------------------------------------------------------------------------------------------------ */

static void drop_buf(struct vsock_stream *s)
{
	s->fwd_bytes += s->buf_bytes;
	s->buf_bytes = s->buf_at = 0;
	free(s->buf);
	s->buf = NULL;
}

/* The holder reads no more: what waits and what comes is dropped, and the guest is told. */
static void holder_is_deaf(struct vsock_stream *s)
{
	s->host_shut |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	drop_buf(s);
}

/* Sends to the socket.  Return: bytes taken; 0 if it is full, or nobody reads there (host_shut says that). */
static size_t send_some(struct vsock_stream *s, struct iovec *iov, uint32_t n)
{
	const struct msghdr mh = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t r;

	do {
		r = sendmsg(s->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return (size_t)r;
	/* ENOBUFS and ENOMEM would leave nobody to tell when to try again: they end the direction like EPIPE does. */
	if (errno != EAGAIN)
		holder_is_deaf(s);
	return 0;
}

static void shut_once(struct vsock_stream *s, int how)
{
	if (s->fd >= 0 && !s->ended[how])
		shutdown(s->fd, how);
	s->ended[how] = true;
}

void vsock_stream_flush(struct vsock_stream *s)
{
	while (s->buf_bytes) {
		const uint32_t first = VSOCK_BUF_BYTES - s->buf_at < s->buf_bytes ? VSOCK_BUF_BYTES - s->buf_at : s->buf_bytes;
		struct iovec iov[2] = {{s->buf + s->buf_at, first}, {s->buf, s->buf_bytes - first}};
		const size_t sent = send_some(s, iov, first < s->buf_bytes ? 2 : 1);

		if (!sent)
			break;
		s->buf_at = (uint32_t)(s->buf_at + sent) % VSOCK_BUF_BYTES;
		s->buf_bytes -= (uint32_t)sent;
		s->fwd_bytes += (uint32_t)sent;
	}
	if (!s->buf_bytes)
		drop_buf(s);
	if (s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND && !s->buf_bytes)
		shut_once(s, SHUT_WR);
	if (s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		shut_once(s, SHUT_RD);
}

/* Appends to the buffer; the caller has checked that there is room. */
static int keep(struct vsock_stream *s, const struct iovec *iov, uint32_t n)
{
	if (!s->buf)
		s->buf = malloc(VSOCK_BUF_BYTES);
	if (!s->buf)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *from = iov[i].iov_base;

		for (size_t left = iov[i].iov_len; left;) {
			const uint32_t to = (s->buf_at + s->buf_bytes) % VSOCK_BUF_BYTES;
			const size_t bytes = left < VSOCK_BUF_BYTES - to ? left : VSOCK_BUF_BYTES - to;

			memcpy(s->buf + to, from, bytes);
			s->buf_bytes += (uint32_t)bytes;
			from += bytes;
			left -= bytes;
		}
	}
	return 0;
}

int vsock_stream_deliver(struct vsock_stream *s, struct iovec *iov, uint32_t n, uint32_t bytes)
{
	struct iovec rest[VRING_CHAIN_MAX];
	size_t sent = 0;

	if (s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND || bytes > VSOCK_BUF_BYTES - s->buf_bytes)
		return -EPROTO;
	if (!s->buf_bytes && bytes && !(s->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV))
		sent = send_some(s, iov, n);
	s->fwd_bytes += (uint32_t)sent;
	bytes -= (uint32_t)sent;
	if (s->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		s->fwd_bytes += bytes;
		return 0;
	}
	return bytes ? keep(s, rest, vring_slice(iov, n, sent, bytes, rest)) : 0;
}

void vsock_stream_hup(struct vsock_stream *s)
{
	holder_is_deaf(s);
}

/* --- host to guest ------------------------------------------------------------------------------------------------ */

uint32_t vsock_stream_room(const struct vsock_stream *s)
{
	const uint32_t under_way = s->sent_bytes - s->guest_fwd;

	return under_way < s->guest_alloc ? s->guest_alloc - under_way : 0;
}

uint32_t vsock_stream_fetch(struct vsock_stream *s, const struct iovec *iov, uint32_t n)
{
	const uint32_t room = vsock_stream_room(s);
	struct iovec part[VRING_CHAIN_MAX];
	struct msghdr mh = {.msg_iov = part};
	ssize_t r;

	if (!s->readable || !room || s->fd < 0 || s->gone || s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV ||
	    s->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		return 0;
	mh.msg_iovlen = vring_slice(iov, n, 0, room < VSOCK_PACKET_BYTES_MAX ? room : VSOCK_PACKET_BYTES_MAX, part);
	if (!mh.msg_iovlen)
		return 0; /* a buffer for a head alone */
	do {
		r = recvmsg(s->fd, &mh, MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	if (r > 0) {
		s->sent_bytes += (uint32_t)r;
		return (uint32_t)r;
	}
	s->readable = false;
	if (r < 0 && errno == EAGAIN)
		return 0;
	s->host_shut |= VIRTIO_VSOCK_SHUTDOWN_SEND; /* an error, too, is the end: the holder has closed without reading all */
	return 0;
}

/* --- packets without payload --------------------------------------------------------------------------------------- */

uint16_t vsock_stream_due(struct vsock_stream *s, uint32_t *flags)
{
	*flags = 0;
	if (s->gone)
		return 0;
	if (s->respond) {
		s->respond = false;
		return VIRTIO_VSOCK_OP_RESPONSE;
	}
	if (s->credit || s->fwd_bytes - s->fwd_told >= VSOCK_CREDIT_STEP_BYTES) {
		s->credit = false;
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	}
	if (s->host_shut & ~s->told) {
		s->told = s->host_shut;
		*flags = s->told;
		return VIRTIO_VSOCK_OP_SHUTDOWN;
	}
	if (s->readable && !s->asked && !vsock_stream_room(s) && !(s->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		s->asked = true;
		return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
	}
	return 0;
}

bool vsock_stream_over(const struct vsock_stream *s)
{
	return (s->gone || s->guest_shut == VSOCK_SHUT_BOTH) && (!s->buf_bytes || s->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);
}
