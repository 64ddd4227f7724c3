/* host_vsock.c - streams of a VM against a guest played here: connections, bytes and credit both ways, ends of every kind,
 * guests that lie, flood or take nothing */
#include "runtime/host/vsock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

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

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int take(void *ctx, uint32_t guest_port, uint32_t host_port, int stream)
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
static int work(void)
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

static void begin(uint16_t buffers)
{
	guest_open(&g, buffers);
	if (vsock_new(&vs, GUEST_CID, take, &g) || vsock_start(vs, &g.v))
		exit(2);
	accepted = 0;
	work();
}

static void end(void)
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

static struct virtio_vsock_hdr head(const struct conn *c, uint16_t op, uint32_t flags, uint32_t bytes)
{
	return (struct virtio_vsock_hdr){
		.src_cid = GUEST_CID, .dst_cid = 2, .src_port = c->guest_port, .dst_port = c->host_port, .len = bytes,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .flags = flags, .buf_alloc = c->alloc, .fwd_cnt = c->got,
	};
}

static void say(struct conn *c, uint16_t op, uint32_t flags)
{
	const struct virtio_vsock_hdr h = head(c, op, flags, 0);

	if (!guest_put(&g, &h, NULL, 0))
		exit(2);
	work();
}

/* Sends without looking at credit. */
static bool put(struct conn *c, const void *data, uint32_t bytes)
{
	const struct virtio_vsock_hdr h = head(c, VIRTIO_VSOCK_OP_RW, 0, bytes);

	c->sent += bytes;
	return guest_put(&g, &h, data, bytes);
}

/* The next packet, which must be for @c; 0 if there is none. */
static uint16_t next(struct conn *c)
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

static struct conn dial(uint32_t guest_port, uint32_t host_port)
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
static int hear(const struct conn *c, void *data, size_t bytes)
{
	const ssize_t n = recv(c->fd, data, bytes, MSG_DONTWAIT);

	return n < 0 ? -errno : (int)n;
}

static uint32_t mix(uint32_t i)
{
	i *= 2654435761u;
	return i ^ i >> 15;
}

/* --- beginnings and small talk ----------------------------------------------------------------------------------------- */

static void test_connect(void)
{
	struct conn c, r = {.guest_port = 5000, .host_port = REFUSED_PORT}, x = {.guest_port = 700, .host_port = 1024};
	char text[32] = "";
	struct virtio_vsock_hdr h;

	begin(GUEST_SLOTS);
	c = dial(1023, 871);
	tap_ok(p.h.op == VIRTIO_VSOCK_OP_RESPONSE && p.h.buf_alloc == VSOCK_BUF_BYTES && !p.h.fwd_cnt && c.fd >= 0 && asked_guest_port == 1023 &&
		       asked_host_port == 871 && vsock_streams(vs) == 1,
	       "a guest connects");
	tap_ok(!(fcntl(c.fd, F_GETFL) & O_NONBLOCK) && fcntl(c.fd, F_GETFD) == FD_CLOEXEC, "its holder's end blocks, and is closed on exec");
	tap_ok(guest_called(&g, 0) && guest_called(&g, 1), "the guest was interrupted for both queues");
	put(&c, "hello", 5);
	work();
	tap_ok(hear(&c, text, sizeof(text)) == 5 && !memcmp(text, "hello", 5), "the host hears the guest");
	tap_ok(send(c.fd, "world!", 6, 0) == 6 && work() && next(&c) == VIRTIO_VSOCK_OP_RW && p.h.len == 6 && !memcmp(p.data, "world!", 6) &&
		       p.h.fwd_cnt == 5,
	       "the guest hears the host, and that 5 bytes were passed on");
	tap_eq(work(), 0, "at rest there is nothing to do");
	say(&r, VIRTIO_VSOCK_OP_REQUEST, 0);
	tap_ok(next(&r) == VIRTIO_VSOCK_OP_RST && vsock_streams(vs) == 1 && asked_guest_port == 5000, "a connection is refused");
	say(&x, VIRTIO_VSOCK_OP_RW, 0);
	tap_ok(next(&x) == VIRTIO_VSOCK_OP_RST, "a packet for no connection is answered with RST");
	say(&x, VIRTIO_VSOCK_OP_RST, 0);
	say(&x, VIRTIO_VSOCK_OP_SHUTDOWN, 3);
	tap_ok(next(&x) == VIRTIO_VSOCK_OP_RST && !guest_get(&g, &p, true), "an RST is not");
	h = head(&c, VIRTIO_VSOCK_OP_RW, 0, 3);
	h.src_cid = GUEST_CID + 1;
	guest_put(&g, &h, "abc", 3);
	h = head(&x, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	h.dst_cid = 3;
	guest_put(&g, &h, NULL, 0);
	work();
	tap_ok(hear(&c, text, 1) == -EAGAIN && !guest_get(&g, &p, true) && !guest_reap(&g), "packets of and for other CIDs are dropped");
	h = head(&x, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	h.type = 2;
	guest_put(&g, &h, NULL, 0);
	work();
	tap_ok(guest_get(&g, &p, true) && p.h.op == VIRTIO_VSOCK_OP_RST && p.h.type == 2, "another kind of socket is refused");
	guest_put(&g, &h, NULL, 0);
	g.ring[1].desc[2 * g.free_tx[g.nfree_tx]].len = 20; /* too late or in time: it must not matter */
	work();
	while (guest_get(&g, &p, true))
		;
	say(&c, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_CREDIT_UPDATE && p.h.buf_alloc == VSOCK_BUF_BYTES && p.h.fwd_cnt == 5, "who asks for credit is told");
	close(c.fd);
	end();
}

/* A head in pieces and a payload in one buffer with it: the layout is the driver's choice (virtio 1.2, 2.7.4.2). */
static void test_layout(void)
{
	struct conn c;
	struct virtio_vsock_hdr h;
	char text[8] = "";
	struct vring_desc *d = g.ring[1].desc;

	begin(0);
	for (uint16_t i = 0; i < 4; i++) { /* one buffer a packet */
		g.ring[0].desc[i] = (struct vring_desc){0x400000 + i * 4096u, 4096, VRING_DESC_F_WRITE, 0};
		guest_offer(&g, 0, i);
	}
	guest_kick(&g, 0);
	c = (struct conn){.guest_port = 7, .host_port = 8, .alloc = 4096};
	say(&c, VIRTIO_VSOCK_OP_REQUEST, 0);
	memcpy(&h, guest_at(&g, 0x400000), sizeof(h));
	tap_ok(g.ring[0].used->idx == 1 && h.op == VIRTIO_VSOCK_OP_RESPONSE && fd >= 0, "a buffer that holds head and payload");
	c.fd = fd;
	d = g.ring[1].desc;
	h = head(&c, VIRTIO_VSOCK_OP_RW, 0, 4);
	memcpy(guest_at(&g, 0x500000), &h, 10);
	memcpy(guest_at(&g, 0x600000), (char *)&h + 10, sizeof(h) - 10);
	memcpy(guest_at(&g, 0x600000 + sizeof(h) - 10), "abcd", 4);
	d[50] = (struct vring_desc){0x500000, 10, VRING_DESC_F_NEXT, 51};
	d[51] = (struct vring_desc){0x600000, sizeof(h) - 10 + 4, 0, 0};
	guest_offer(&g, 1, 50);
	guest_kick(&g, 1);
	work();
	tap_ok(hear(&c, text, 8) == 4 && !memcmp(text, "abcd", 4), "a head in two pieces, the second with the payload");
	send(c.fd, "xyz", 3, 0);
	work();
	tap_ok(g.ring[0].used->idx == 2 && g.ring[0].used->ring[1].len == sizeof(h) + 3 && !memcmp(guest_at(&g, 0x401000 + sizeof(h)), "xyz", 3),
	       "and to the guest");
	close(c.fd);
	end();
}

/* --- bulk -------------------------------------------------------------------------------------------------------------- */

#define BULK (20u << 20)

/* The guest sends as its credit allows; the holder reads now and then. */
static void test_bulk_from_guest(void)
{
	static uint32_t block[8192], in[8192];
	struct conn c;
	uint32_t heard = 0, wrong = 0, stuck = 0, updates = 0, most = 0;
	bool in_credit = true;

	begin(GUEST_SLOTS);
	c = dial(1000, 1);
	while (heard < BULK && stuck < 100) {
		const uint32_t was = heard;
		int n;

		while (c.sent < BULK && c.sent - c.host_fwd < c.host_alloc) {
			uint32_t room = c.host_alloc - (c.sent - c.host_fwd), bytes = sizeof(block);

			bytes = bytes < BULK - c.sent ? bytes : BULK - c.sent;
			bytes = (bytes < room ? bytes : room) & ~3u;
			for (uint32_t i = 0; i < bytes / 4; i++)
				block[i] = mix(c.sent / 4 + i);
			if (!bytes || !put(&c, block, bytes))
				break;
		}
		most = c.sent - heard > most ? c.sent - heard : most;
		work();
		for (uint16_t op; (op = next(&c)); updates++)
			in_credit = in_credit && op == VIRTIO_VSOCK_OP_CREDIT_UPDATE && c.host_fwd <= c.sent;
		while ((n = hear(&c, in, sizeof(in))) > 0) {
			for (int i = 0; i < n / 4; i++)
				wrong += in[i] != mix(heard / 4 + (uint32_t)i);
			wrong += n % 4 != 0;
			heard += (uint32_t)n;
			if (heard % 3 == 0)
				break; /* slow at times: the buffer fills and wraps */
		}
		work();
		stuck = heard == was ? stuck + 1 : 0;
	}
	tap_eq(heard, BULK, "20 MB come from the guest");
	tap_eq(wrong, 0, "as they were sent");
	tap_ok(in_credit && updates >= BULK / VSOCK_BUF_BYTES, "with %u credit updates and nothing else", updates);
	tap_ok(most > VSOCK_BUF_BYTES, "up to %u bytes were under way: the buffer was in use", most);
	close(c.fd);
	end();
}

static void test_bulk_to_guest(void)
{
	static uint32_t block[16384];
	struct conn c;
	uint32_t sent = 0, wrong = 0, over = 0, told = 0, stuck = 0;

	begin(GUEST_SLOTS);
	c = dial(1000, 1);
	c.alloc = 50000;
	say(&c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	while (c.got < BULK && stuck < 100) {
		const uint32_t was = c.got;
		uint16_t op;
		ssize_t n;

		for (uint32_t i = 0; i < sizeof(block) / 4; i++)
			block[i] = mix(sent / 4 + i);
		n = send(c.fd, block, sizeof(block) < BULK - sent ? sizeof(block) : BULK - sent, MSG_DONTWAIT);
		while (n > 0 && n % 4) { /* whole words only, to keep the pattern simple */
			const ssize_t more = send(c.fd, (char *)block + n, 4 - (size_t)n % 4, MSG_DONTWAIT);

			if (more <= 0)
				exit(2);
			n += more;
		}
		sent += n > 0 ? (uint32_t)n : 0;
		work();
		while (guest_get(&g, &p, true)) {
			op = p.h.op;
			if (op == VIRTIO_VSOCK_OP_RW) {
				for (uint32_t i = 0; i < p.h.len; i++)
					wrong += p.data[i] != (uint8_t)(mix((c.got + i) / 4) >> (c.got + i) % 4 * 8);
				c.got += p.h.len;
			} else if (op != VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
				wrong++;
			}
		}
		over += c.got - told > c.alloc;
		if (c.got - told > 30000 || stuck > 2) {
			told = c.got;
			say(&c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
		}
		stuck = c.got == was ? stuck + 1 : 0;
	}
	tap_eq(c.got, BULK, "20 MB go to the guest");
	tap_eq(wrong, 0, "as they were sent");
	tap_eq(over, 0, "and never more than it has room for");
	close(c.fd);
	end();
}

static void test_credit_of_guest(void)
{
	static char big[100000];
	struct conn c;
	uint16_t op;

	begin(GUEST_SLOTS);
	c = dial(5, 5);
	c.alloc = 1000;
	say(&c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	send(c.fd, big, 100000, MSG_DONTWAIT);
	work();
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RW && p.h.len == 1000, "1000 bytes of credit, 1000 bytes are sent");
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_CREDIT_REQUEST && !next(&c), "then credit is asked for, once");
	tap_eq(work(), 0, "and the host rests");
	c.got = 999;
	say(&c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RW && p.h.len == 999 && next(&c) == VIRTIO_VSOCK_OP_CREDIT_REQUEST && !next(&c), "999 more");
	c.got = 50000; /* more than it was ever sent */
	say(&c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	tap_eq(next(&c), 0, "a guest that says it read more than was sent gets nothing");
	c.alloc = UINT32_MAX;
	c.got = 1999;
	say(&c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	for (c.got = 1999; (op = next(&c)) == VIRTIO_VSOCK_OP_RW;)
		;
	tap_ok(!op && c.got == 100000, "4 GiB of credit cost nothing: what there is, is sent");
	close(c.fd);
	end();
}

/* --- ends -------------------------------------------------------------------------------------------------------------- */

static void test_guest_half_close(void)
{
	struct conn c;
	char text[16];

	begin(GUEST_SLOTS);
	c = dial(10, 20);
	put(&c, "last", 4);
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	tap_ok(hear(&c, text, 16) == 4 && hear(&c, text, 16) == 0, "the guest ends its direction: the host reads the rest, then the end");
	tap_ok(send(c.fd, "answer", 6, MSG_NOSIGNAL) == 6 && work() && next(&c) == VIRTIO_VSOCK_OP_RW && p.h.len == 6, "and can still answer");
	put(&c, "x", 1);
	work();
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && !vsock_streams(vs), "a guest that goes on sending is reset");
	close(c.fd);
	c = dial(11, 20);
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV);
	tap_ok(send(c.fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE && hear(&c, text, 1) == -EAGAIN, "a guest that reads no more: writing fails");
	put(&c, "still", 5);
	work();
	tap_eq(hear(&c, text, 16), 5, "reading goes on");
	put(&c, "final", 5);
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && !vsock_streams(vs) && hear(&c, text, 16) == 5 && hear(&c, text, 16) == 0,
	       "both directions ended: RST answers, and the host reads what was sent");
	close(c.fd);
	end();
}

static void test_host_half_close(void)
{
	struct conn c;
	char text[16];

	begin(GUEST_SLOTS);
	c = dial(10, 20);
	send(c.fd, "last", 4, 0);
	shutdown(c.fd, SHUT_WR);
	work();
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RW && p.h.len == 4 && next(&c) == VIRTIO_VSOCK_OP_SHUTDOWN && p.h.flags == VIRTIO_VSOCK_SHUTDOWN_SEND,
	       "the holder ends its direction: the guest gets the rest, then the end");
	put(&c, "answer", 6);
	work();
	tap_eq(hear(&c, text, 16), 6, "and can still answer");
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, 3);
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && !vsock_streams(vs) && hear(&c, text, 1) == 0, "until it closes");
	close(c.fd);

	c = dial(12, 20);
	shutdown(c.fd, SHUT_RD);
	put(&c, "x", 1);
	work();
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_SHUTDOWN && p.h.flags == VIRTIO_VSOCK_SHUTDOWN_RCV, "a holder that reads no more: the guest is told");
	tap_ok(send(c.fd, "more", 4, MSG_NOSIGNAL) == 4 && work() && next(&c) == VIRTIO_VSOCK_OP_RW, "writing goes on");
	close(c.fd);
	work();
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_SHUTDOWN && p.h.flags == 3, "then it closes");
	say(&c, VIRTIO_VSOCK_OP_RST, 0);
	tap_ok(!next(&c) && !vsock_streams(vs), "the guest's RST ends it");

	c = dial(13, 20);
	send(c.fd, "bye", 3, 0);
	close(c.fd);
	work();
	for (bool data = false; next(&c);) {
		data = data || p.h.op == VIRTIO_VSOCK_OP_RW;
		if (p.h.op == VIRTIO_VSOCK_OP_SHUTDOWN && p.h.flags == 3)
			tap_ok(data && c.got == 3, "a holder that writes and closes: the guest gets what was written, then the end");
	}
	put(&c, "late", 4);
	work();
	tap_ok(!next(&c) && vsock_streams(vs) == 1, "what the guest sends meanwhile is dropped");
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, 3);
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && !vsock_streams(vs), "until it closes");
	end();
}

/* A slow holder gets all of what the guest sent, though the guest is gone. */
static void test_late(void)
{
	static char block[65536], in[65536];
	struct conn c, again;
	uint32_t heard = 0;
	int n;

	begin(GUEST_SLOTS);
	c = dial(30, 40);
	for (int i = 0; i < 100 && c.sent - c.host_fwd < c.host_alloc; i++) {
		put(&c, block, c.host_alloc - (c.sent - c.host_fwd) < sizeof(block) ? c.host_alloc - (c.sent - c.host_fwd) : sizeof(block));
		work();
		while (next(&c))
			;
	}
	tap_ok(c.sent > VSOCK_BUF_BYTES && c.sent < 2u << 20, "a guest fills a stream that nobody reads with %u bytes", c.sent);
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, 3);
	tap_ok(!next(&c) && vsock_streams(vs) == 1, "its close is not answered before they were passed on");
	say(&c, VIRTIO_VSOCK_OP_RST, 0);
	tap_ok(!next(&c) && vsock_streams(vs) == 1, "nor when it does not wait");
	again = dial(30, 40);
	tap_ok(again.fd >= 0 && again.fd != c.fd && vsock_streams(vs) == 2, "its ports are free meanwhile");
	while ((n = hear(&c, in, sizeof(in))) > 0 || (n == -EAGAIN && work()))
		heard += n > 0 ? (uint32_t)n : 0;
	tap_ok(n == 0 && heard == c.sent, "the holder reads all %u bytes and the end", heard);
	tap_ok(!next(&again) && vsock_streams(vs) == 1, "and the guest hears nothing of that");
	put(&again, "new", 3);
	work();
	tap_eq(hear(&again, in, 16), 3, "the second connection of these ports is a stream of its own");
	close(c.fd);
	close(again.fd);
	end();
}

static void test_fork(void)
{
	struct conn c;
	char byte;

	begin(GUEST_SLOTS);
	fork_next = true;
	c = dial(1, 2);
	say(&c, VIRTIO_VSOCK_OP_SHUTDOWN, 3);
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && hear(&c, &byte, 1) == 0, "the holder reads the end though a child still has all descriptors");
	tap_eq(work(), 0, "and nothing comes of a socket that was closed here only");
	kill(forked, SIGKILL);
	waitpid(forked, NULL, 0);
	close(c.fd);
	end();
}

/* --- many, and who hinders whom --------------------------------------------------------------------------------------- */

static void test_flood(void)
{
	static char block[65536];
	struct conn deaf, c, liar;
	char text[8];
	uint32_t n = 0;

	begin(GUEST_SLOTS);
	deaf = dial(1, 1);
	c = dial(2, 1);
	liar = dial(3, 1);
	while (n < 100 && deaf.sent - deaf.host_fwd + sizeof(block) <= deaf.host_alloc) {
		put(&deaf, block, sizeof(block));
		work();
		while (guest_get(&g, &p, true))
			deaf.host_fwd = p.h.dst_port == 1 ? p.h.fwd_cnt : deaf.host_fwd;
		n++;
	}
	tap_ok(n < 100, "a holder does not read: the guest's credit is used up");
	put(&c, "hi", 2);
	work();
	tap_ok(hear(&c, text, 8) == 2 && send(c.fd, "yo", 2, 0) == 2 && work() && next(&c) == VIRTIO_VSOCK_OP_RW, "others go on, both ways");
	for (n = 0; n < 100 && !guest_get(&g, &p, true); n++) {
		put(&liar, block, sizeof(block));
		work();
	}
	while (p.h.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE && guest_get(&g, &p, true))
		;
	for (; n < 100 && p.h.op != VIRTIO_VSOCK_OP_RST; n++) {
		put(&liar, block, sizeof(block));
		work();
		while (guest_get(&g, &p, true) && p.h.op != VIRTIO_VSOCK_OP_RST)
			;
	}
	tap_ok(p.h.op == VIRTIO_VSOCK_OP_RST && p.h.dst_port == 3 && vsock_streams(vs) == 2, "a guest that sends beyond its credit is reset after %u packets",
	       n);
	put(&c, "hi", 2);
	work();
	tap_eq(hear(&c, text, 8), 2, "others still go on");
	close(deaf.fd);
	close(c.fd);
	close(liar.fd);
	end();
}

static void test_no_buffers(void)
{
	static char block[65536];
	struct conn c = {.guest_port = 1, .host_port = 2, .alloc = 1 << 20}, x = {.guest_port = 9, .host_port = 9};
	uint32_t written = 0, packets = 0;
	struct virtio_vsock_hdr h;
	uint32_t left;

	begin(0);
	say(&c, VIRTIO_VSOCK_OP_REQUEST, 0);
	c.fd = fd;
	for (ssize_t n; (n = send(c.fd, block, sizeof(block), MSG_DONTWAIT)) > 0;)
		written += (uint32_t)n;
	work();
	tap_ok(!g.ring[0].used->idx && written > 65536, "a guest gives no buffers: the holder writes %u bytes, then waits", written);
	tap_eq(work(), 0, "the host rests");
	h = head(&x, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);
	for (int i = 0; i < 2000; i++) {
		if (guest_put(&g, &h, NULL, 0))
			packets++;
		work();
	}
	left = guest_reap(&g);
	tap_ok(packets - left >= 256 && packets - left < 400 && left == GUEST_SLOTS,
	       "of a flood of packets for nobody %u are taken, the rest is not looked at", packets - left);
	tap_eq(work(), 0, "the host rests");
	guest_give_buffers(&g, GUEST_SLOTS);
	work();
	for (packets = 0; guest_get(&g, &p, true); packets++) {
		if (p.h.op == VIRTIO_VSOCK_OP_RW)
			c.got += p.h.len;
		work();
	}
	tap_ok(c.got == written && !guest_reap(&g), "with buffers all %u bytes come, and %u packets in all", c.got, packets);
	close(c.fd);
	end();
}

static void test_fair(void)
{
	static char block[65536];
	struct conn a, b;
	uint32_t first = 0, n = 0;

	begin(8);
	a = dial(1, 1);
	b = dial(2, 1);
	while (send(a.fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	work();
	send(b.fd, "me too", 6, 0);
	work();
	while (guest_get(&g, &p, true)) {
		n++;
		if (p.h.dst_port == 2 && !first)
			first = n;
		work();
	}
	tap_ok(first && first <= 8 + 2 && n > 50, "a small message is packet %u of %u beside a flood: behind the buffers in use, and one turn", first, n);
	close(a.fd);
	close(b.fd);
	end();
}

static void test_many(void)
{
	static struct conn c[VSOCK_STREAMS_MAX + 1];
	uint32_t good = 0, heard = 0;
	uint32_t x;

	begin(GUEST_SLOTS);
	for (uint32_t i = 0; i < VSOCK_STREAMS_MAX; i++) {
		c[i] = dial(10000 + i, 7);
		good += c[i].fd >= 0;
	}
	tap_ok(good == VSOCK_STREAMS_MAX && vsock_streams(vs) == VSOCK_STREAMS_MAX, "%u connections at once", good);
	c[VSOCK_STREAMS_MAX] = (struct conn){.guest_port = 9, .host_port = 7};
	say(&c[VSOCK_STREAMS_MAX], VIRTIO_VSOCK_OP_REQUEST, 0);
	tap_ok(next(&c[VSOCK_STREAMS_MAX]) == VIRTIO_VSOCK_OP_RST && vsock_streams(vs) == VSOCK_STREAMS_MAX, "one more is refused");
	for (uint32_t i = 0; i < VSOCK_STREAMS_MAX; i++) {
		put(&c[i], &i, 4);
		work();
	}
	for (uint32_t i = 0; i < VSOCK_STREAMS_MAX; i++)
		heard += hear(&c[i], &x, 4) == 4 && x == i;
	tap_eq(heard, VSOCK_STREAMS_MAX, "each has its own bytes");
	close(c[5].fd);
	work();
	tap_ok(next(&c[5]) == VIRTIO_VSOCK_OP_SHUTDOWN, "one is closed here, and the guest does not answer");
	c[5] = (struct conn){.guest_port = 9, .host_port = 7, .alloc = 1000};
	say(&c[5], VIRTIO_VSOCK_OP_REQUEST, 0);
	good = 0;
	while (guest_get(&g, &p, true))
		good |= p.h.op == VIRTIO_VSOCK_OP_RST && p.h.dst_port == 10005 ? 1 : p.h.op == VIRTIO_VSOCK_OP_RESPONSE && p.h.dst_port == 9 ? 2 : 4;
	tap_ok(vsock_streams(vs) == VSOCK_STREAMS_MAX && good == 3, "its place goes to one that wants it");
	close(fd);
	for (uint32_t i = 0; i < VSOCK_STREAMS_MAX; i++) {
		if (i != 5)
			close(c[i].fd);
	}
	end();
}

/* --- the device ----------------------------------------------------------------------------------------------------- */

static uint32_t base_of(uint32_t queue)
{
	struct vhostuser_msg m = {.head = {VHOSTUSER_GET_VRING_BASE, VHOSTUSER_VERSION, 8}, .payload.state = {queue, 0}}, reply;
	enum vhostuser_event event;
	bool has_reply;

	if (vhostuser_message(&g.v, &m, NULL, 0, &reply, &has_reply, &event) || !has_reply)
		return UINT32_MAX;
	return reply.payload.state.num;
}

static void test_reboot(void)
{
	const int before = count_fds();
	struct conn c;
	char byte;

	begin(GUEST_SLOTS);
	for (int boot = 0; boot < 3; boot++) {
		const uint16_t rx = 3, tx = 4; /* RESPONSE, 2 RW; REQUEST, 3 RW */
		int kick[2];

		c = dial(1000, 871);
		for (int i = 0; i < 3; i++)
			put(&c, "abc", 3);
		work();
		for (int i = 0; i < 2; i++) {
			send(c.fd, "x", 1, 0);
			work();
		}
		put(&c, "y", 1); /* the host has not seen it when the guest dies */
		tap_ok(base_of(0) == rx && base_of(1) == tx, "boot %d: the rings' indices are what was done with", boot);
		vsock_stop(vs);
		tap_ok(hear(&c, &byte, 1) == 1 && !vsock_streams(vs), "the stream has ended");
		close(c.fd);
		for (uint32_t q = 0; q < 2; q++) /* GET_VRING_BASE has closed it */
			kick[q] = g.v.queue[q].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		vsock_run(vs);
		guest_begin(&g, GUEST_SLOTS);
		tap_ok(!vsock_start(vs, &g.v), "it starts again");
		work();
		tap_ok(kick[0] >= 0 && kick[1] >= 0 && !guest_get(&g, &p, true), "with nothing of before");
	}
	/* Stopped and started without a reset of the guest: on from the index. */
	c = dial(1, 1);
	put(&c, "abc", 3);
	work();
	g.v.queue[0].base = g.v.queue[1].base = 0; /* as QEMU gives back what it was answered: */
	vsock_run(vs);
	{
		const uint32_t base[2] = {g.v.queue[0].base, g.v.queue[1].base};

		vsock_stop(vs);
		close(c.fd);
		g.v.queue[0].base = base[0];
		g.v.queue[1].base = base[1];
		tap_ok(base[0] == 1 && base[1] == 2 && !vsock_start(vs, &g.v), "stopped and started in the middle");
	}
	work();
	c = dial(2, 1);
	tap_ok(c.fd >= 0, "the rings go on where they were");
	close(c.fd);
	end();
	tap_eq(count_fds(), before, "no descriptor is left");
}

static void test_table_change(void)
{
	struct conn c;
	char text[8];
	int i;

	begin(GUEST_SLOTS);
	c = dial(1, 1);
	g.v.region[1].bytes -= 1 << 20; /* memory is unplugged that no packet is in */
	g.v.region[0].uaddr += 4096; /* the VMM has moved its mapping */
	for (i = 0; i < 2; i++) {
		g.v.queue[i].desc += 4096;
		g.v.queue[i].avail += 4096;
		g.v.queue[i].used += 4096;
	}
	tap_ok(!vsock_start(vs, &g.v), "another memory table while it runs");
	put(&c, "abc", 3);
	work();
	tap_ok(hear(&c, text, 8) == 3, "streams go on");
	g.v.region[0].gpa_bytes = GUEST_REGION;
	g.v.region[0].uaddr += GUEST_REGION;
	tap_eq(vsock_start(vs, &g.v), -ENXIO, "a table without the rings stops it");
	tap_ok(hear(&c, text, 8) == 0 && !vsock_streams(vs), "streams have ended");
	g.v.has_table = false;
	tap_eq(vsock_start(vs, &g.v), -ENOENT, "no table");
	g.v.running = false;
	tap_eq(vsock_start(vs, &g.v), -EINVAL, "not running");
	close(c.fd);
	end();
}

static void test_broken(void)
{
	struct conn c;
	char byte;
	eventfd_t n;
	bool broken;

	for (int kind = 0; kind < 3; kind++) {
		begin(kind == 2 ? 0 : GUEST_SLOTS);
		if (kind < 2) {
			c = dial(1, 1);
		} else {
			c = (struct conn){.guest_port = 1, .host_port = 1};
			say(&c, VIRTIO_VSOCK_OP_REQUEST, 0);
			c.fd = fd;
		}
		if (kind == 0) {
			g.ring[1].avail->idx = (uint16_t)(g.ring[1].avail->idx - 5);
			guest_kick(&g, 1);
		} else if (kind == 1) {
			for (uint16_t i = 0; i < GUEST_RING; i++)
				g.ring[0].desc[i].addr = UINT64_MAX / 2;
			send(c.fd, "x", 1, 0);
		} else {
			g.ring[0].desc[0] = (struct vring_desc){0x400000, 44, VRING_DESC_F_WRITE, 0};
			guest_offer(&g, 0, 0);
			guest_kick(&g, 0);
		}
		broken = !vsock_err(vs) && vsock_run(vs) == -EPROTO && vsock_err(vs);
		tap_ok(broken, "a broken ring stops the device: %s", vsock_err(vs));
		work();
		tap_ok(!eventfd_read(g.v.queue[kind ? 0 : 1].error, &n) && hear(&c, &byte, 1) <= 0 && !vsock_streams(vs), "QEMU and the holder are told");
		tap_ok(vsock_start(vs, &g.v) == -EPROTO && vsock_run(vs) == -EPROTO, "it stays so");
		vsock_stop(vs);
		close(c.fd);
		guest_begin(&g, GUEST_SLOTS);
		tap_ok(!vsock_start(vs, &g.v) && !vsock_err(vs) && dial(2, 2).fd >= 0, "until the guest has reset it");
		close(fd);
		end();
	}
}

/* Packets that no guest's kernel sends: each costs its connection and nothing else. */
static void test_bad_packets(void)
{
	static const struct {
		const char *what;
		uint16_t op, type;
		uint32_t len, bytes; /* said, and there */
	} t[] = {
		{"a payload longer than its buffers", VIRTIO_VSOCK_OP_RW, 1, 100, 99},
		{"a payload of 4 GiB", VIRTIO_VSOCK_OP_RW, 1, UINT32_MAX, 64},
		{"a payload of more than 64 KiB", VIRTIO_VSOCK_OP_RW, 1, (64 << 10) + 1, 64 << 10},
		{"a second REQUEST", VIRTIO_VSOCK_OP_REQUEST, 1, 0, 0},
		{"a RESPONSE", VIRTIO_VSOCK_OP_RESPONSE, 1, 0, 0},
		{"operation 0", 0, 1, 0, 0},
		{"operation 65535", 65535, 1, 0, 0},
	};
	static char block[64 << 10];
	struct conn c, other;
	struct virtio_vsock_hdr h;
	char text[8];

	begin(GUEST_SLOTS);
	other = dial(2, 2);
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		c = dial(1, 1);
		h = head(&c, t[i].op, UINT32_MAX, t[i].len);
		guest_put(&g, &h, block, t[i].bytes);
		work();
		tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && hear(&c, text, 8) == 0 && vsock_streams(vs) == 1, "%s ends its connection", t[i].what);
		close(c.fd);
	}
	c = dial(1, 1);
	h = head(&c, VIRTIO_VSOCK_OP_RW, 0, 0);
	guest_put(&g, &h, NULL, 0);
	h.op = VIRTIO_VSOCK_OP_SHUTDOWN;
	guest_put(&g, &h, NULL, 0);
	work();
	tap_ok(!next(&c) && vsock_streams(vs) == 2, "no payload and no flags are nothing");
	h.flags = UINT32_MAX;
	guest_put(&g, &h, NULL, 0);
	work();
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && vsock_streams(vs) == 1, "of SHUTDOWN's flags the known ones count");
	put(&other, "fine", 4);
	work();
	tap_eq(hear(&other, text, 8), 4, "another connection has seen nothing of all that");
	close(c.fd);
	close(other.fd);
	end();
}

int main(void)
{
	signal(SIGPIPE, SIG_DFL);
	test_connect();
	test_layout();
	test_bulk_from_guest();
	test_bulk_to_guest();
	test_credit_of_guest();
	test_guest_half_close();
	test_host_half_close();
	test_late();
	test_fork();
	test_flood();
	test_no_buffers();
	test_fair();
	test_many();
	test_reboot();
	test_table_change();
	test_broken();
	test_bad_packets();
	return tap_done();
}
