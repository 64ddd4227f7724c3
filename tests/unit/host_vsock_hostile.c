/* host_vsock_hostile.c - streams of a VM whose guest lies, floods, takes nothing, breaks its rings or reboots: others go on */
#include "tests/vsock_conn.h"

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

/* Packets and buffers of one descriptor each: more in the rings than one run works off. */
static void test_full_rings(void)
{
	const struct conn x = {.guest_port = 9, .host_port = 9};
	const struct virtio_vsock_hdr h = head(&x, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);

	begin(0);
	memcpy(guest_at(&g, 0x400000), &h, sizeof(h));
	for (uint16_t i = 0; i < GUEST_RING; i++) {
		g.ring[1].desc[i] = (struct vring_desc){0x400000, sizeof(h), 0, 0};
		guest_offer(&g, 1, i);
	}
	guest_kick(&g, 1);
	work();
	tap_eq(g.ring[1].used->idx, GUEST_RING, "a full ring of packets is taken after one kick");
	for (uint16_t i = 0; i < GUEST_RING; i++) {
		g.ring[0].desc[i] = (struct vring_desc){0x500000 + i * 64u, 64, VRING_DESC_F_WRITE, 0};
		guest_offer(&g, 0, i);
	}
	guest_kick(&g, 0);
	work();
	tap_eq(g.ring[0].used->idx, GUEST_RING, "and a full ring of buffers filled after another");
	end();
}

/* Refusals that wait for buffers: they hinder no stream, hit no later connection, and are gone with the guest. */
static void test_waiting_resets(void)
{
	struct conn c = {.guest_port = 1, .host_port = 2, .alloc = 1 << 20}, x = {.guest_port = 9, .host_port = 9, .alloc = 1000};
	const struct virtio_vsock_hdr h = head(&x, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);
	uint32_t n = 0;

	begin(0);
	say(&c, VIRTIO_VSOCK_OP_REQUEST, 0);
	c.fd = fd;
	for (int i = 0; i < 100; i++) {
		guest_put(&g, &h, NULL, 0);
		work();
	}
	send(c.fd, "urgent", 6, 0);
	guest_give_buffers(&g, 5);
	work();
	while (guest_get(&g, &p, false))
		n += p.h.dst_port == 1;
	tap_ok(n == 2, "of the first 5 buffers %u go to a stream that has two packets for them, beside 100 refusals", n);

	say(&x, VIRTIO_VSOCK_OP_REQUEST, 0);
	x.fd = fd;
	guest_give_buffers(&g, GUEST_SLOTS);
	work();
	for (n = 0; guest_get(&g, &p, true); n++)
		work();
	tap_ok(n == 1 && p.h.op == VIRTIO_VSOCK_OP_RESPONSE && p.h.dst_port == 9 && vsock_streams(vs) == 2,
	       "refusals of its ports' past are forgotten when a guest connects (%u packets)", n);

	say(&c, VIRTIO_VSOCK_OP_RESPONSE, 0);
	vsock_stop(vs);
	guest_begin(&g, 0);
	vsock_start(vs, &g.v);
	c.guest_port = 77;
	say(&c, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	vsock_stop(vs);
	guest_begin(&g, GUEST_SLOTS);
	vsock_start(vs, &g.v);
	work();
	tap_ok(!guest_get(&g, &p, true), "and when it reboots");
	close(c.fd);
	close(x.fd);
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
		{"a payload of more than 64 KiB", VIRTIO_VSOCK_OP_RW, 1, (64 << 10) + 1, (64 << 10) + 1},
		{"a second REQUEST", VIRTIO_VSOCK_OP_REQUEST, 1, 0, 0},
		{"a RESPONSE", VIRTIO_VSOCK_OP_RESPONSE, 1, 0, 0},
		{"operation 0", 0, 1, 0, 0},
		{"operation 65535", 65535, 1, 0, 0},
	};
	static char block[(64 << 10) + 1];
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
	test_flood();
	test_no_buffers();
	test_full_rings();
	test_waiting_resets();
	test_fair();
	test_many();
	test_reboot();
	test_table_change();
	test_broken();
	test_bad_packets();
	return tap_done();
}
