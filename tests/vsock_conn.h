/* vsock_conn.h - for tests of streams: a device with its guest (tests/vsock_guest.h), and connections as the guest's kernel
 * keeps them; included once by a test program
 */
#ifndef TESTS_VSOCK_CONN_H
#define TESTS_VSOCK_CONN_H

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "runtime/host/vm/vsock.h"
#include "tests/count_fds.h"
#include "tests/tap.h"
#include "tests/vsock_guest.h"

#define REFUSED_PORT 99u

static struct guest g;
static struct vsock *vs;
static struct guest_packet p;
static int fd = -1; /* the stream that was accepted last */
static uint32_t accepted, asked_guest_port, asked_host_port;
static pid_t forked; /* a child that accept() has made, if it was asked to */
static bool fork_next;

static inline int take(void *ctx, uint32_t guest_port, uint32_t host_port, int stream)
{
	asked_guest_port = guest_port;
	asked_host_port = host_port;
	if (ctx != &g || host_port == REFUSED_PORT)
		return -EACCES;
	accepted++;
	fd = stream;
	if (fork_next) {
		forked = fork();
		if (!forked) {
			pause();
			_exit(0);
		}
	}
	fork_next = false;
	return 0;
}

/* Lets the host work until it has nothing to do.  Return: how many runs that were; a busy loop ends the test. */
static inline int work(void)
{
	struct pollfd pf = {.fd = vsock_fd(vs), .events = POLLIN};
	int n = 0;

	while (poll(&pf, 1, 0) == 1) {
		vsock_run(vs);
		if (++n == 10000) {
			tap_ok(false, "the host comes to rest");
			exit(1);
		}
	}
	return n;
}

static inline void begin(uint16_t buffers)
{
	guest_open(&g, buffers);
	if (vsock_new(&vs, GUEST_CID, take, &g) || vsock_start(vs, &g.v))
		exit(2);
	accepted = 0;
	work();
}

static inline void end(void)
{
	vsock_free(vs);
	guest_close(&g);
}

/* A connection as the guest's kernel sees it. */
struct conn {
	uint32_t guest_port, host_port;
	int fd;
	uint32_t sent, host_alloc, host_fwd; /* our bytes, the host's credit */
	uint32_t got;			     /* the host's bytes, all of which the guest's process reads at once */
	uint32_t alloc;
};

static inline struct virtio_vsock_hdr head(const struct conn *c, uint16_t op, uint32_t flags, uint32_t bytes)
{
	return (struct virtio_vsock_hdr){
		.src_cid = GUEST_CID, .dst_cid = 2, .src_port = c->guest_port, .dst_port = c->host_port, .len = bytes,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .flags = flags, .buf_alloc = c->alloc, .fwd_cnt = c->got,
	};
}

static inline void say(struct conn *c, uint16_t op, uint32_t flags)
{
	const struct virtio_vsock_hdr h = head(c, op, flags, 0);

	if (!guest_put(&g, &h, NULL, 0))
		exit(2);
	work();
}

/* Sends without looking at credit. */
static inline bool put(struct conn *c, const void *data, uint32_t bytes)
{
	const struct virtio_vsock_hdr h = head(c, VIRTIO_VSOCK_OP_RW, 0, bytes);

	c->sent += bytes;
	return guest_put(&g, &h, data, bytes);
}

/* The next packet, which must be for @c; 0 if there is none. */
static inline uint16_t next(struct conn *c)
{
	if (!guest_get(&g, &p, true))
		return 0;
	if (p.h.src_cid != 2 || p.h.dst_cid != GUEST_CID || p.h.src_port != c->host_port || p.h.dst_port != c->guest_port ||
	    p.h.type != VIRTIO_VSOCK_TYPE_STREAM)
		return 0xffff;
	if (p.h.op != VIRTIO_VSOCK_OP_RST) {
		c->host_alloc = p.h.buf_alloc;
		c->host_fwd = p.h.fwd_cnt;
	}
	if (p.h.op == VIRTIO_VSOCK_OP_RW)
		c->got += p.h.len;
	work();
	return p.h.op;
}

static inline struct conn dial(uint32_t guest_port, uint32_t host_port)
{
	struct conn c = {.guest_port = guest_port, .host_port = host_port, .alloc = 256 << 10};

	fd = -1;
	say(&c, VIRTIO_VSOCK_OP_REQUEST, 0);
	if (next(&c) != VIRTIO_VSOCK_OP_RESPONSE)
		printf("# port %u was not answered\n", guest_port);
	c.fd = fd;
	return c;
}

/* What the holder reads now: bytes, 0 at the end, -errno. */
static inline int hear(const struct conn *c, void *data, size_t bytes)
{
	const ssize_t n = recv(c->fd, data, bytes, MSG_DONTWAIT);

	return n < 0 ? -errno : (int)n;
}

#endif
