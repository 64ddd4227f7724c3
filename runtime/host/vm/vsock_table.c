/* vsock_table.c - all streams of a VM; theory in vsock_table.h */
#include "runtime/host/vm/vsock_table.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct vsock_stream **bucket_of(struct vsock_table *t, uint32_t guest_port, uint32_t host_port)
{
	const uint64_t h = ((uint64_t)guest_port << 32 | host_port) * UINT64_C(0x9e3779b97f4a7c15);

	return &t->bucket[h >> 32 & (VSOCK_BUCKETS - 1)];
}

void vsock_table_init(struct vsock_table *t, int epoll, vsock_accept_fn accept, void *ctx)
{
	memset(t, 0, sizeof(*t));
	t->epoll = epoll;
	t->accept = accept;
	t->ctx = ctx;
	TAILQ_INIT(&t->all);
	TAILQ_INIT(&t->turn);
}

struct vsock_stream *vsock_table_find(struct vsock_table *t, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_stream *s = *bucket_of(t, guest_port, host_port);

	while (s && (s->guest_port != guest_port || s->host_port != host_port))
		s = s->bucket;
	return s;
}

static void forget_ports(struct vsock_table *t, const struct vsock_stream *s)
{
	struct vsock_stream **p = bucket_of(t, s->guest_port, s->host_port);

	while (*p && *p != s)
		p = &(*p)->bucket;
	if (*p)
		*p = s->bucket;
}

void vsock_table_turn(struct vsock_table *t, struct vsock_stream *s)
{
	if (!s->has_turn)
		TAILQ_INSERT_TAIL(&t->turn, s, turn);
	s->has_turn = true;
}

void vsock_table_wait(struct vsock_table *t, struct vsock_stream *s)
{
	if (s->has_turn)
		TAILQ_REMOVE(&t->turn, s, turn);
	s->has_turn = false;
}

void vsock_table_close(struct vsock_table *t, struct vsock_stream *s)
{
	if (s->fd < 0)
		return;
	epoll_ctl(t->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	shutdown(s->fd, SHUT_RDWR); /* the holder sees the end even if a forked child has our end too */
	close(s->fd);
	s->fd = -1;
}

static void drop(struct vsock_table *t, struct vsock_stream *s)
{
	vsock_table_wait(t, s);
	vsock_table_close(t, s);
	forget_ports(t, s);
	TAILQ_REMOVE(&t->all, s, all);
	t->nstreams--;
	free(s->buf);
	free(s);
}

void vsock_table_clear(struct vsock_table *t)
{
	while (!TAILQ_EMPTY(&t->all))
		drop(t, TAILQ_FIRST(&t->all));
	t->nresets = 0;
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

void vsock_table_reset(struct vsock_table *t, uint32_t guest_port, uint32_t host_port, uint16_t type)
{
	if (t->nresets < VSOCK_RESETS_MAX)
		t->reset[(t->reset_at + t->nresets++) % VSOCK_RESETS_MAX] = (struct vsock_reset){guest_port, host_port, type};
}

struct vsock_reset vsock_table_next_reset(struct vsock_table *t)
{
	const struct vsock_reset r = t->reset[t->reset_at];

	t->reset_at = (t->reset_at + 1) % VSOCK_RESETS_MAX;
	t->nresets--;
	return r;
}

void vsock_table_end(struct vsock_table *t, struct vsock_stream *s)
{
	if (!s->gone)
		vsock_table_reset(t, s->guest_port, s->host_port, VIRTIO_VSOCK_TYPE_STREAM);
	drop(t, s);
}

void vsock_table_settle(struct vsock_table *t, struct vsock_stream *s)
{
	vsock_stream_flush(s);
	if (vsock_stream_over(s))
		vsock_table_end(t, s);
	else
		vsock_table_turn(t, s);
}

void vsock_table_gone(struct vsock_table *t, struct vsock_stream *s)
{
	forget_ports(t, s);
	s->gone = true;
	s->guest_shut = VSOCK_SHUT_BOTH;
	vsock_table_settle(t, s);
}

/* --- beginnings --------------------------------------------------------------------------------------------------- */

/* A stream whose holder has closed and whose guest does not answer that is in nobody's use. */
static bool make_room(struct vsock_table *t)
{
	struct vsock_stream *s;

	if (t->nstreams < VSOCK_STREAMS_MAX)
		return true;
	TAILQ_FOREACH(s, &t->all, all) {
		if (s->fd < 0) {
			vsock_table_end(t, s);
			return true;
		}
	}
	return false;
}

/* Refusals that were meant for an earlier connection of these ports must not hit the one that begins. */
static void forget_resets(struct vsock_table *t, uint32_t guest_port, uint32_t host_port)
{
	const uint32_t n = t->nresets;

	t->nresets = 0; /* what stays moves towards the beginning of the ring, never past what is still to be looked at */
	for (uint32_t i = 0; i < n; i++) {
		const struct vsock_reset r = t->reset[(t->reset_at + i) % VSOCK_RESETS_MAX];

		if (r.guest_port != guest_port || r.host_port != host_port)
			vsock_table_reset(t, r.guest_port, r.host_port, r.type);
	}
}

/* A socketpair of which we watch one end.  Return: the holder's end, or -errno. */
static int make_pair(struct vsock_table *t, struct vsock_stream *s)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	s->fd = pair[0];
	if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, s->fd, &ev)) {
		const int r = -errno;

		close(pair[0]);
		close(pair[1]);
		return r;
	}
	return pair[1];
}

int vsock_table_connect(struct vsock_table *t, const struct virtio_vsock_hdr *h)
{
	struct vsock_stream *s = make_room(t) ? calloc(1, sizeof(*s)) : NULL, **bucket;
	int fd, r;

	if (!s)
		return t->nstreams < VSOCK_STREAMS_MAX ? -ENOMEM : -EMFILE;
	fd = make_pair(t, s);
	if (fd < 0) {
		free(s);
		return fd;
	}
	s->guest_port = le32toh(h->src_port);
	s->host_port = le32toh(h->dst_port);
	s->guest_alloc = le32toh(h->buf_alloc);
	s->guest_fwd = le32toh(h->fwd_cnt);
	s->respond = s->readable = true;
	r = t->accept(t->ctx, s->guest_port, s->host_port, fd);
	if (r) {
		close(fd);
		vsock_table_close(t, s);
		free(s);
		return r;
	}
	forget_resets(t, s->guest_port, s->host_port);
	bucket = bucket_of(t, s->guest_port, s->host_port);
	s->bucket = *bucket;
	*bucket = s;
	TAILQ_INSERT_TAIL(&t->all, s, all);
	t->nstreams++;
	vsock_table_turn(t, s);
	return 0;
}
