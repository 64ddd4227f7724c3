/* vsock.c - the queues of a vhost-user-vsock device and its streams; theory in vsock.h */
#include "runtime/host/vm/vsock.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/host/vm/vring.h"
#include "runtime/host/vm/vsock_table.h"

#define HEAD_BYTES sizeof(struct virtio_vsock_hdr)
#define QUEUE_RX 0 /* to the guest; the numbers are the guest's driver's, virtio 1.2, 5.10.2 */
#define QUEUE_TX 1
#define PACKETS_A_RUN 64 /* of each queue: then others have their turn */
#define EVENTS_A_RUN 64

struct vsock {
	uint64_t guest_cid;
	int epoll, again; /* again: an eventfd that is set while there is more to do than one run does */
	bool more;	  /* it is set */

	struct vhostuser *v; /* NULL: stopped */
	const char *err;     /* a ring is broken */
	struct vring_mem mem;
	struct vring_queue rx, tx;
	int kick[VHOSTUSER_QUEUES]; /* duplicates, as vhostuser.c closes its own before we can forget them */
	bool rx_kicks;		    /* the guest was asked to kick when it adds buffers */

	struct vsock_table table;
	bool reset_next; /* whose turn it is: resets' or streams' */

	vsock_look_fn look; /* NULL: none */
	void *ctx;
	uint32_t look_port;
};

/* --- from the guest ----------------------------------------------------------------------------------------------- */

static void reset_unknown(struct vsock *vs, const struct virtio_vsock_hdr *h)
{
	if (le16toh(h->op) != VIRTIO_VSOCK_OP_RST)
		vsock_table_reset(&vs->table, le32toh(h->src_port), le32toh(h->dst_port), le16toh(h->type));
}

static int deliver(struct vsock *vs, struct vsock_stream *s, const struct vring_chain *c, uint32_t bytes)
{
	struct iovec iov[VRING_CHAIN_MAX];
	const uint32_t n = vring_slice(c->iov, c->nread, HEAD_BYTES, bytes, iov);

	if (vs->look && s->host_port == vs->look_port)
		vs->look(vs->ctx, s->guest_port, iov, n, bytes);
	return vsock_stream_deliver(s, iov, n, bytes);
}

/* A packet for a stream.  Return: 0, or -errno: it is out of order. */
static int take_packet(struct vsock *vs, struct vsock_stream *s, const struct virtio_vsock_hdr *h, const struct vring_chain *c)
{
	s->guest_alloc = le32toh(h->buf_alloc);
	s->guest_fwd = le32toh(h->fwd_cnt);
	s->asked = s->asked && !vsock_stream_room(s);
	switch (le16toh(h->op)) {
	case VIRTIO_VSOCK_OP_RST:
		vsock_table_gone(&vs->table, s);
		return 0;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		s->guest_shut |= le32toh(h->flags) & VSOCK_SHUT_BOTH;
		break;
	case VIRTIO_VSOCK_OP_RW: {
		const int r = deliver(vs, s, c, le32toh(h->len));

		if (r)
			return r;
		break;
	}
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		s->credit = true;
		break;
	default: /* REQUEST of what is connected, RESPONSE to what nobody asked, unknown ones */
		return -EPROTO;
	}
	vsock_table_settle(&vs->table, s);
	return 0;
}

static void from_guest(struct vsock *vs, const struct vring_chain *c)
{
	struct virtio_vsock_hdr h; /* read once */
	struct vsock_stream *s;
	bool sound;

	if (vring_copy_out(c, 0, &h, sizeof(h)) < sizeof(h))
		return;
	if (le64toh(h.src_cid) != vs->guest_cid || le64toh(h.dst_cid) != VSOCK_HOST_CID)
		return;
	sound = le16toh(h.type) == VIRTIO_VSOCK_TYPE_STREAM && le32toh(h.len) <= VSOCK_PACKET_BYTES_MAX &&
		le32toh(h.len) <= c->read_bytes - sizeof(h);
	s = le16toh(h.type) == VIRTIO_VSOCK_TYPE_STREAM ? vsock_table_find(&vs->table, le32toh(h.src_port), le32toh(h.dst_port)) : NULL;
	if (s) {
		if (!sound || take_packet(vs, s, &h, c))
			vsock_table_end(&vs->table, s);
	} else if (!sound || le16toh(h.op) != VIRTIO_VSOCK_OP_REQUEST || vsock_table_connect(&vs->table, &h)) {
		reset_unknown(vs, &h);
	}
}

/* Return: whether chains may be left; -EPROTO. */
static int work_tx(struct vsock *vs)
{
	struct vring_chain c;

	vring_kicks(&vs->tx, false);
	for (uint32_t i = 0; i < PACKETS_A_RUN && vs->table.nresets < VSOCK_RESETS_HIGH; i++) {
		int r = vring_next(&vs->tx, &c);

		if (r < 0)
			return r;
		if (!r && !vring_kicks(&vs->tx, true))
			return 0;
		if (!r)
			continue; /* offered meanwhile */
		from_guest(vs, &c);
		vring_done(&vs->tx, &c, 0);
	}
	return 1;
}

/* --- to the guest ------------------------------------------------------------------------------------------------- */

static void to_guest(struct vsock *vs, const struct vring_chain *c, uint32_t guest_port, uint32_t host_port, uint16_t type,
		     uint16_t op, uint32_t flags, uint32_t bytes, struct vsock_stream *s)
{
	struct virtio_vsock_hdr h = {
		.src_cid = htole64(VSOCK_HOST_CID),
		.dst_cid = htole64(vs->guest_cid),
		.src_port = htole32(host_port),
		.dst_port = htole32(guest_port),
		.len = htole32(bytes),
		.type = htole16(type),
		.op = htole16(op),
		.flags = htole32(flags),
	};

	if (s) {
		h.buf_alloc = htole32(VSOCK_BUF_BYTES);
		h.fwd_cnt = htole32(s->fwd_bytes);
		s->fwd_told = s->fwd_bytes;
	}
	vring_copy_in(c, &h, sizeof(h));
	vring_done(&vs->rx, c, (uint32_t)sizeof(h) + bytes);
}

static void send_reset(struct vsock *vs, const struct vring_chain *c)
{
	const struct vsock_reset r = vsock_table_next_reset(&vs->table);

	to_guest(vs, c, r.guest_port, r.host_port, r.type, VIRTIO_VSOCK_OP_RST, 0, 0, NULL);
}

/* Fills a buffer with what the stream has for the guest, and then it has another turn; a buffer stays unused if there is
 * nothing, and is offered again for the next one. */
static void send_one(struct vsock *vs, struct vsock_stream *s, const struct vring_chain *c)
{
	struct iovec iov[VRING_CHAIN_MAX];
	uint32_t flags = 0, n, bytes = 0;
	uint16_t op = VIRTIO_VSOCK_OP_RW;

	vsock_table_wait(&vs->table, s);
	if (!s->respond) {
		n = vring_slice(c->iov + c->nread, c->nwrite, HEAD_BYTES, VSOCK_PACKET_BYTES_MAX, iov);
		bytes = vsock_stream_fetch(s, iov, n);
	}
	if (!bytes)
		op = vsock_stream_due(s, &flags);
	if (!op)
		return;
	to_guest(vs, c, s->guest_port, s->host_port, VIRTIO_VSOCK_TYPE_STREAM, op, flags, bytes, s);
	if (s->told == VSOCK_SHUT_BOTH)
		vsock_table_close(&vs->table, s); /* the guest answers with RST when its process has read all */
	vsock_table_turn(&vs->table, s);
}

/* Return: whether there may be more to send and buffers for it; -EPROTO. */
static int work_rx(struct vsock *vs)
{
	struct vring_chain c;

	if (vs->rx_kicks)
		vring_kicks(&vs->rx, false);
	vs->rx_kicks = false;
	for (uint32_t i = 0; i < PACKETS_A_RUN && (vs->table.nresets || !TAILQ_EMPTY(&vs->table.turn)); i++) {
		int r = vring_next(&vs->rx, &c);

		if (r < 0)
			return r;
		if (!r) {
			vs->rx_kicks = !vring_kicks(&vs->rx, true);
			if (vs->rx_kicks)
				return 0;
			continue;
		}
		if (c.write_bytes <= HEAD_BYTES) {
			vs->rx.why = "a buffer for packets has no room for one";
			return -EPROTO;
		}
		if (vs->table.nresets && (vs->reset_next || TAILQ_EMPTY(&vs->table.turn)))
			send_reset(vs, &c);
		else
			send_one(vs, TAILQ_FIRST(&vs->table.turn), &c);
		vs->reset_next = !vs->reset_next;
	}
	return vs->table.nresets || !TAILQ_EMPTY(&vs->table.turn);
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static int watch(struct vsock *vs, int fd, void *who)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = who};

	return epoll_ctl(vs->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static void ring(int eventfd)
{
	const uint64_t one = 1;

	if (eventfd >= 0 && write(eventfd, &one, sizeof(one)) < 0)
		return; /* its counter is full: the other side has been told */
}

static void hush(int eventfd)
{
	uint64_t n;

	if (read(eventfd, &n, sizeof(n)) < 0)
		return; /* somebody was faster */
}

static int fail(struct vsock *vs, const struct vring_queue *q, uint32_t number)
{
	vs->err = q->why;
	vsock_table_clear(&vs->table);
	ring(vs->v->queue[number].error);
	return -EPROTO;
}

static void stream_event(struct vsock *vs, struct vsock_stream *s, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->readable = true;
	if (events & EPOLLHUP)
		vsock_stream_hup(s);
	vsock_table_settle(&vs->table, s);
}

/* Streams end here only by their own events, of which there is one each: nothing in @ev becomes stale. */
static void take_events(struct vsock *vs)
{
	struct epoll_event ev[EVENTS_A_RUN];
	const int n = epoll_wait(vs->epoll, ev, EVENTS_A_RUN, 0);

	for (int i = 0; i < n; i++) {
		if (ev[i].data.ptr == &vs->again) {
			hush(vs->again);
			vs->more = false;
		} else if (ev[i].data.ptr == &vs->kick[QUEUE_RX] || ev[i].data.ptr == &vs->kick[QUEUE_TX]) {
			hush(*(const int *)ev[i].data.ptr);
		} else {
			stream_event(vs, ev[i].data.ptr, ev[i].events);
		}
	}
}

int vsock_run(struct vsock *vs)
{
	int more_tx, more_rx;

	take_events(vs);
	if (vs->err)
		return -EPROTO;
	if (!vs->v)
		return 0;
	more_tx = work_tx(vs);
	if (more_tx < 0)
		return fail(vs, &vs->tx, QUEUE_TX);
	more_rx = work_rx(vs);
	if (more_rx < 0)
		return fail(vs, &vs->rx, QUEUE_RX);
	vs->v->queue[QUEUE_TX].base = vs->tx.next;
	vs->v->queue[QUEUE_RX].base = vs->rx.next;
	if (vring_wants_call(&vs->tx))
		ring(vs->v->queue[QUEUE_TX].call);
	if (vring_wants_call(&vs->rx))
		ring(vs->v->queue[QUEUE_RX].call);
	/* Packets that wait for room for resets go on when there is some: then the guest kicks. */
	if (!vs->more && (more_rx || (more_tx && vs->table.nresets < VSOCK_RESETS_HIGH))) {
		ring(vs->again);
		vs->more = true;
	}
	return 0;
}

int vsock_fd(const struct vsock *vs)
{
	return vs->epoll;
}

const char *vsock_err(const struct vsock *vs)
{
	return vs->err;
}

void vsock_look(struct vsock *vs, uint32_t host_port, vsock_look_fn look)
{
	vs->look = look;
	vs->look_port = host_port;
}

bool vsock_has(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	return vsock_table_find(&vs->table, guest_port, host_port) != NULL;
}

uint32_t vsock_streams(const struct vsock *vs)
{
	return vs->table.nstreams;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

int vsock_new(struct vsock **out, uint64_t guest_cid, vsock_accept_fn accept, void *ctx)
{
	struct vsock *vs = calloc(1, sizeof(*vs));
	int r;

	*out = NULL;
	if (!vs)
		return -ENOMEM;
	vs->guest_cid = guest_cid;
	vs->ctx = ctx;
	vs->kick[QUEUE_RX] = vs->kick[QUEUE_TX] = -1;
	vs->epoll = epoll_create1(EPOLL_CLOEXEC);
	vsock_table_init(&vs->table, vs->epoll, accept, ctx);
	vs->again = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = vs->epoll < 0 || vs->again < 0 ? -errno : watch(vs, vs->again, &vs->again);
	if (r) {
		vsock_free(vs);
		return r;
	}
	*out = vs;
	return 0;
}

static void release_queues(struct vsock *vs)
{
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES; i++) {
		if (vs->kick[i] >= 0) {
			epoll_ctl(vs->epoll, EPOLL_CTL_DEL, vs->kick[i], NULL);
			close(vs->kick[i]);
		}
		vs->kick[i] = -1;
	}
	vring_mem_unmap(&vs->mem);
}

void vsock_stop(struct vsock *vs)
{
	vsock_table_clear(&vs->table);
	release_queues(vs);
	vs->v = NULL;
	vs->err = NULL;
}

void vsock_free(struct vsock *vs)
{
	if (!vs)
		return;
	vsock_stop(vs);
	if (vs->again >= 0)
		close(vs->again);
	if (vs->epoll >= 0)
		close(vs->epoll);
	free(vs);
}

/* A queue's kicks; QEMU may not send a descriptor, then nobody kicks and every run looks. */
static int watch_kick(struct vsock *vs, uint32_t i, int fd)
{
	if (fd < 0)
		return 0;
	vs->kick[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (vs->kick[i] < 0 || fcntl(vs->kick[i], F_SETFL, O_NONBLOCK))
		return -errno;
	return watch(vs, vs->kick[i], &vs->kick[i]);
}

static int begin(struct vsock *vs, const struct vhostuser *v)
{
	int r = v->running ? vring_mem_map(&vs->mem, v) : -EINVAL;

	if (!r)
		r = vring_start(&vs->rx, &vs->mem, &v->queue[QUEUE_RX]);
	if (!r)
		r = vring_start(&vs->tx, &vs->mem, &v->queue[QUEUE_TX]);
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES && !r; i++)
		r = watch_kick(vs, i, v->queue[i].kick);
	return r;
}

int vsock_start(struct vsock *vs, struct vhostuser *v)
{
	int r;

	if (vs->err)
		return -EPROTO;
	release_queues(vs);
	r = begin(vs, v);
	if (r) {
		vsock_stop(vs);
		return r;
	}
	vs->v = v;
	vs->rx_kicks = true; /* as the ring begins */
	vs->rx.call = vs->tx.call = true; /* what was done before may not have been announced */
	ring(vs->again);
	vs->more = true;
	return 0;
}
