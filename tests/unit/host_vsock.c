/* host_vsock.c - streams of a VM against a guest played here: connections, bytes and credit both ways, ends of every kind */
#include <fcntl.h>

#include "tests/vsock_conn.h"

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

/* The guest sends as its credit allows; the holder reads now and then.  @room_bytes: of the socket, 0: the system's choice. */
static void test_bulk_from_guest(int room_bytes)
{
	static uint32_t block[8192], in[8192];
	struct conn c;
	uint32_t heard = 0, wrong = 0, stuck = 0, updates = 0, most = 0;
	bool in_credit = true;

	begin(GUEST_SLOTS);
	c = dial(1000, 1);
	if (room_bytes)
		setsockopt(c.fd - 1, SOL_SOCKET, SO_SNDBUF, &room_bytes, sizeof(room_bytes)); /* the other end: made just before */
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
	static char block[65536];
	struct conn c;
	bool told = false;
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

	c = dial(14, 20);
	for (int i = 0; i < 100 && c.sent - c.host_fwd < c.host_alloc; i++) {
		put(&c, block, c.host_alloc - (c.sent - c.host_fwd) < sizeof(block) ? c.host_alloc - (c.sent - c.host_fwd) : sizeof(block));
		work();
		while (next(&c))
			;
	}
	close(c.fd);
	work();
	for (uint16_t op; (op = next(&c));)
		told = told || (op == VIRTIO_VSOCK_OP_SHUTDOWN && p.h.flags == 3);
	tap_ok(told && c.sent > VSOCK_BUF_BYTES && c.host_fwd == c.sent, "a holder closes while %u bytes wait for it: they are dropped, and the guest has its credit back",
	       c.sent);
	say(&c, VIRTIO_VSOCK_OP_RST, 0);

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
	close(c.fd);
	kill(forked, SIGKILL);
	waitpid(forked, NULL, 0);
	fork_next = true;
	c = dial(3, 4);
	say(&c, VIRTIO_VSOCK_OP_RESPONSE, 0); /* out of order: the stream ends with no word of the guest */
	tap_ok(next(&c) == VIRTIO_VSOCK_OP_RST && hear(&c, &byte, 1) == 0, "nor does a child keep a stream that was reset");
	kill(forked, SIGKILL);
	waitpid(forked, NULL, 0);
	close(c.fd);
	end();
}

/* --- who looks on -------------------------------------------------------------------------------------------------------- */

static char seen[64];
static uint32_t nseen, looks, seen_port;

static void look(void *ctx, uint32_t guest_port, const struct iovec *iov, uint32_t n, uint32_t bytes)
{
	(void)ctx;
	looks++;
	seen_port = guest_port;
	for (uint32_t i = 0; i < n && nseen + iov[i].iov_len <= sizeof(seen); i++) {
		memcpy(seen + nseen, iov[i].iov_base, iov[i].iov_len);
		nseen += (uint32_t)iov[i].iov_len;
	}
	if (nseen != bytes)
		nseen = UINT32_MAX / 2; /* the parts are as long as is said */
}

static void test_look(void)
{
	struct conn c, other;
	char text[16] = "";

	begin(GUEST_SLOTS);
	vsock_look(vs, 872, look);
	other = dial(3000, 871);
	c = dial(3001, 872);
	put(&other, "not shown", 9);
	work();
	tap_ok(!looks && hear(&other, text, sizeof(text)) == 9, "what goes to other ports is not shown");
	put(&c, "a ring", 6);
	work();
	tap_ok(looks == 1 && seen_port == 3001 && nseen == 6 && !memcmp(seen, "a ring", 6), "what goes to the port is");
	tap_ok(hear(&c, text, sizeof(text)) == 6 && !memcmp(text, "a ring", 6), "and passed on all the same");
	tap_ok(send(c.fd, "back", 4, 0) == 4 && work() && next(&c) == VIRTIO_VSOCK_OP_RW && looks == 1, "what comes from there is not");
	tap_ok(vsock_has(vs, 3001, 872) && !vsock_has(vs, 3001, 871) && !vsock_has(vs, 3002, 872), "a stream is there by both its ports");
	say(&c, VIRTIO_VSOCK_OP_RST, 0);
	tap_ok(!vsock_has(vs, 3001, 872), "until the guest has forgotten it");
	close(c.fd);
	close(other.fd);
	end();
}

int main(void)
{
	signal(SIGPIPE, SIG_DFL);
	test_connect();
	test_layout();
	test_bulk_from_guest(0);
	test_bulk_from_guest(30000); /* less than the buffer holds: it is emptied in pieces, and goes round */
	test_bulk_to_guest();
	test_credit_of_guest();
	test_guest_half_close();
	test_host_half_close();
	test_late();
	test_fork();
	test_look();
	return tap_done();
}
