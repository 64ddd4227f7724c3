/* host_vring.c - a virtqueue in guest memory: chains as they may be, and everything that a hostile guest can write there */
#include "runtime/host/vm/vring.h"

#include <errno.h>

#include "tests/tap.h"
#include "tests/vsock_guest.h"

#define ARRAY(a) (sizeof(a) / sizeof(*(a)))

static struct guest g;
static struct vring_mem mem;
static struct vring_queue r;
static struct vring_chain c;

/* A ring from the beginning, queue 1 of the guest. */
static void fresh(void)
{
	guest_begin(&g, 0);
	vring_start(&r, &mem, &g.v.queue[1]);
	vring_kicks(&r, true);
}

static void describe(uint16_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	g.ring[1].desc[i] = (struct vring_desc){addr, len, flags, next};
}

static void test_memory(void)
{
	uint64_t bytes = 10;

	tap_ok(vring_mem_at(&mem, 0, &bytes) && bytes == 10, "the first byte is there");
	tap_ok(vring_mem_at(&mem, GUEST_REGION - 4, &bytes) && bytes == 4, "a region's end shortens what is asked for");
	bytes = 1;
	tap_ok(!vring_mem_at(&mem, GUEST_REGION, &bytes) && !vring_mem_at(&mem, GUEST_HIGH - 1, &bytes) &&
		       !vring_mem_at(&mem, GUEST_HIGH + GUEST_REGION, &bytes) && !vring_mem_at(&mem, UINT64_MAX, &bytes),
	       "what is between, behind and at the end of addresses is not");
	bytes = UINT64_MAX;
	tap_ok(vring_mem_at(&mem, GUEST_HIGH + 1, &bytes) && bytes == GUEST_REGION - 1, "all that there could be is asked for");
	memcpy(guest_at(&g, GUEST_HIGH + 5), "mark", 4);
	bytes = 4;
	tap_ok(!memcmp(vring_mem_at(&mem, GUEST_HIGH + 5, &bytes), "mark", 4), "the second region shows its own part of the file");
}

static void test_places(void)
{
	const struct vhostuser_queue good = g.v.queue[1];
	const struct {
		const char *what;
		uint32_t num;
		uint64_t desc, avail, used;
		int want;
	} t[] = {
		{"where it is", GUEST_RING, good.desc, good.avail, good.used, 0},
		{"ends with the region", GUEST_RING, GUEST_UADDR1 + GUEST_REGION - 16 * GUEST_RING, good.avail, good.used, 0},
		{"a descriptor beyond the region", GUEST_RING, GUEST_UADDR1 + GUEST_REGION - 16 * GUEST_RING + 16, good.avail, good.used, -ENXIO},
		{"avail beyond", GUEST_RING, good.desc, GUEST_UADDR0 + GUEST_REGION - 4 - 2 * GUEST_RING + 2, good.used, -ENXIO},
		{"avail ends with the region", GUEST_RING, good.desc, GUEST_UADDR0 + GUEST_REGION - 4 - 2 * GUEST_RING, good.used, 0},
		{"used beyond", GUEST_RING, good.desc, good.avail, GUEST_UADDR0 + GUEST_REGION - 4 - 8 * GUEST_RING + 4, -ENXIO},
		{"guest-physical addresses, not the VMM's", GUEST_RING, GUEST_DESC(1), GUEST_AVAIL(1), GUEST_USED(1), -ENXIO},
		{"an address at the end of all addresses", GUEST_RING, UINT64_MAX - 15, good.avail, good.used, -ENXIO},
		{"not aligned", GUEST_RING, good.desc + 8, good.avail, good.used, -ENXIO},
		{"no size", 0, good.desc, good.avail, good.used, -EINVAL},
		{"129 entries", 129, good.desc, good.avail, good.used, -EINVAL},
		{"2^31 entries", UINT32_C(1) << 31, good.desc, good.avail, good.used, -EINVAL},
	};

	for (size_t i = 0; i < ARRAY(t); i++) {
		struct vhostuser_queue q = good;

		q.num = t[i].num;
		q.desc = t[i].desc;
		q.avail = t[i].avail;
		q.used = t[i].used;
		tap_eq(vring_start(&r, &mem, &q), t[i].want, "a ring: %s", t[i].what);
	}
}

static void test_chain(void)
{
	char text[16] = "";
	struct iovec part[VRING_CHAIN_MAX];

	fresh();
	tap_eq(vring_next(&r, &c), 0, "an empty ring has no chain");
	memcpy(guest_at(&g, 0x200000), "hello ", 6);
	memcpy(guest_at(&g, GUEST_HIGH + 0x1000), "world", 5);
	describe(7, 0x200000, 6, VRING_DESC_F_NEXT, 3);
	describe(3, GUEST_HIGH + 0x1000, 5, VRING_DESC_F_NEXT, 100);
	describe(100, 0x300000, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 101);
	describe(101, 0x300010, 4, VRING_DESC_F_WRITE, 0);
	guest_offer(&g, 1, 7);
	tap_ok(vring_next(&r, &c) == 1 && c.head == 7 && c.nread == 2 && c.nwrite == 2 && c.read_bytes == 11 && c.write_bytes == 8,
	       "a chain of two readable and two writable buffers");
	tap_ok(vring_copy_out(&c, 0, text, sizeof(text)) == 11 && !strcmp(text, "hello world"), "read across buffers and regions");
	tap_ok(vring_copy_out(&c, 4, text, 3) == 3 && !memcmp(text, "o w", 3) && vring_copy_out(&c, 11, text, 3) == 0, "from the middle, and behind the end");
	tap_ok(vring_slice(c.iov, 2, 8, 100, part) == 1 && part[0].iov_len == 3 && vring_slice(c.iov, 2, 0, 0, part) == 0, "a slice");
	tap_ok(vring_copy_in(&c, "ABCDEFGHIJ", 10) == 8 && !memcmp(guest_at(&g, 0x300000), "ABCD", 4) &&
		       !memcmp(guest_at(&g, 0x300010), "EFGH", 4) && !*guest_at(&g, 0x300004) && !*guest_at(&g, 0x300014),
	       "written, and not beyond the buffers");
	tap_ok(vring_next(&r, &c) == 1 && c.head == 7 && !g.ring[1].used->idx, "it is offered until it was done with");
	vring_done(&r, &c, 8);
	tap_ok(g.ring[1].used->idx == 1 && g.ring[1].used->ring[0].id == 7 && g.ring[1].used->ring[0].len == 8 && vring_next(&r, &c) == 0,
	       "done with: it is in the used ring, with its length");
	tap_ok(vring_wants_call(&r) && !vring_wants_call(&r), "the guest wants to hear of it, once");
	g.ring[1].avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	guest_offer(&g, 1, 7);
	tap_ok(vring_next(&r, &c) == 1, "another");
	vring_done(&r, &c, 0);
	tap_ok(!vring_wants_call(&r), "no interrupt for a guest that wants none");
	tap_ok(!vring_kicks(&r, false) && g.ring[1].used->flags == VRING_USED_F_NO_NOTIFY && !vring_kicks(&r, true) && !g.ring[1].used->flags,
	       "kicks are switched off and on");
	guest_offer(&g, 1, 7);
	tap_ok(vring_kicks(&r, true), "a chain that came before the guest could see that is told of");
	describe(9, 0x200000, 0, 0, 0);
	guest_offer(&g, 1, 9);
	vring_next(&r, &c);
	vring_done(&r, &c, 0);
	tap_ok(vring_next(&r, &c) == 1 && c.head == 9 && !c.nread && !c.read_bytes && vring_copy_out(&c, 0, text, 1) == 0, "an empty buffer is nothing");
}

static void test_wrap(void)
{
	bool good = true;

	fresh();
	g.v.queue[1].base = 65530;
	g.ring[1].avail->idx = 65530;
	g.ring[1].used->idx = 1234; /* of no interest: it is ours */
	tap_ok(!vring_start(&r, &mem, &g.v.queue[1]) && vring_next(&r, &c) == 0, "a ring is taken up at index 65530");
	for (uint16_t i = 0; i < 1000; i++) {
		const uint16_t head = i % GUEST_RING;

		describe(head, 0x200000 + i, 1, 0, 0);
		guest_offer(&g, 1, head);
		good = good && vring_next(&r, &c) == 1 && c.head == head && c.iov[0].iov_base == mem.region[0].at + 0x200000 + i;
		vring_done(&r, &c, i);
		good = good && g.ring[1].used->idx == (uint16_t)(65531 + i) && g.ring[1].used->ring[(uint16_t)(65530 + i) % GUEST_RING].len == i;
	}
	tap_ok(good, "a thousand chains, past the end of the index");
	tap_eq(r.next, (uint16_t)(65530 + 1000), "and the index to go on from");
	for (uint16_t i = 0; i < GUEST_RING; i++)
		guest_offer(&g, 1, 5);
	for (uint16_t i = 0; i < GUEST_RING; i++) {
		good = good && vring_next(&r, &c) == 1 && c.head == 5;
		vring_done(&r, &c, 0);
	}
	tap_ok(good && vring_next(&r, &c) == 0, "a full ring, the same chain each time");
}

/* Two regions that are neighbours in guest-physical addresses and strangers in the file. */
static void test_neighbours(void)
{
	const struct vhostuser_region was = g.v.region[1];
	struct vring_mem near;
	char text[8];

	g.v.region[1].gpa_bytes = GUEST_REGION;
	if (vring_mem_map(&near, &g.v))
		exit(2);
	g.v.region[1] = was;
	fresh();
	r.mem = &near;
	memcpy(g.ram + GUEST_REGION - 4, "leftrigh", 8);
	describe(0, GUEST_REGION - 4, 8, 0, 0);
	guest_offer(&g, 1, 0);
	tap_ok(vring_next(&r, &c) == 1 && c.nread == 2 && vring_copy_out(&c, 0, text, 8) == 8 && !memcmp(text, "leftrigh", 8),
	       "a buffer that goes on in the next region");
	vring_done(&r, &c, 0);
	for (uint16_t i = 0; i < GUEST_RING; i++)
		describe(i, GUEST_REGION - 4, 8, i < GUEST_RING - 1 ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
	guest_offer(&g, 1, 28);
	tap_eq(vring_next(&r, &c), -EPROTO, "a hundred of them make too many buffers");
	vring_mem_unmap(&near);
}

static void is_broken(const char *what)
{
	const uint16_t used = g.ring[1].used->idx, next = r.next;
	const int got = vring_next(&r, &c);

	tap_ok(got == -EPROTO && r.why && vring_next(&r, &c) == -EPROTO && r.next == next && g.ring[1].used->idx == used,
	       "%s breaks the ring for good (%d): %s", what, got, r.why ? r.why : "no reason");
	fresh();
}

static void test_hostile(void)
{
	fresh();
	describe(0, 0x200000, 8, VRING_DESC_F_NEXT, 0);
	guest_offer(&g, 1, 0);
	is_broken("a descriptor that is its own next");
	for (uint16_t i = 0; i < GUEST_RING; i++)
		describe(i, 0x200000, 8, VRING_DESC_F_NEXT, (uint16_t)((i + 1) % GUEST_RING));
	guest_offer(&g, 1, 3);
	is_broken("a loop through all descriptors");
	for (uint16_t i = 0; i < GUEST_RING; i++)
		describe(i, 0x200000, UINT32_C(0), VRING_DESC_F_NEXT, (uint16_t)((i + 1) % GUEST_RING));
	guest_offer(&g, 1, 3);
	is_broken("a loop of empty buffers");
	guest_offer(&g, 1, GUEST_RING);
	is_broken("a head beyond the ring");
	guest_offer(&g, 1, 65535);
	is_broken("head 65535");
	describe(0, 0x200000, 8, VRING_DESC_F_NEXT, GUEST_RING);
	guest_offer(&g, 1, 0);
	is_broken("a next beyond the ring");
	describe(0, GUEST_REGION, 1, 0, 0);
	guest_offer(&g, 1, 0);
	is_broken("an address behind the first region");
	describe(0, GUEST_REGION - 4, 5, 0, 0);
	guest_offer(&g, 1, 0);
	is_broken("a buffer that leaves its region");
	describe(0, GUEST_HIGH, UINT32_MAX, 0, 0);
	guest_offer(&g, 1, 0);
	is_broken("a length of 4 GiB");
	describe(0, UINT64_MAX, 1, 0, 0);
	guest_offer(&g, 1, 0);
	is_broken("the last address there is");
	describe(0, UINT64_MAX - 4, 0xffff, VRING_DESC_F_WRITE, 0);
	guest_offer(&g, 1, 0);
	is_broken("a buffer that wraps");
	describe(0, 0x200000, 8, VRING_DESC_F_INDIRECT, 0);
	guest_offer(&g, 1, 0);
	is_broken("an indirect table, never negotiated");
	describe(0, 0x200000, 8, 0x8000, 0);
	guest_offer(&g, 1, 0);
	is_broken("a flag that nobody knows");
	describe(0, 0x200000, 8, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	describe(1, 0x200000, 8, 0, 0);
	guest_offer(&g, 1, 0);
	is_broken("readable behind writable");
	g.ring[1].avail->idx = GUEST_RING + 1;
	is_broken("an index one more than a ring ahead");
	g.ring[1].avail->idx = 65535;
	is_broken("an index that went back");
	guest_offer(&g, 1, 9);
	describe(9, 0x200000, 1, 0, 0);
	vring_next(&r, &c);
	vring_done(&r, &c, 0);
	g.ring[1].used->idx = 77;
	guest_offer(&g, 1, 9);
	tap_ok(vring_next(&r, &c) == 1, "a used index that the guest has changed");
	vring_done(&r, &c, 0);
	tap_eq(g.ring[1].used->idx, 2, "is what it was again");
}

/* The guest writes a ring into the very memory that the ring's buffers are. */
static void test_overlap(void)
{
	uint8_t junk[64];

	fresh();
	memset(junk, 0xee, sizeof(junk));
	describe(0, GUEST_DESC(1), sizeof(junk), VRING_DESC_F_WRITE, 0);
	guest_offer(&g, 1, 0);
	tap_ok(vring_next(&r, &c) == 1 && vring_copy_in(&c, junk, sizeof(junk)) == sizeof(junk), "a buffer that is the descriptors themselves is written");
	vring_done(&r, &c, sizeof(junk));
	guest_offer(&g, 1, 0);
	tap_eq(vring_next(&r, &c), -EPROTO, "what the guest has done to itself breaks its ring, and nothing else");
	fresh();
	describe(0, GUEST_USED(1), 8, VRING_DESC_F_WRITE, 0);
	guest_offer(&g, 1, 0);
	tap_ok(vring_next(&r, &c) == 1 && vring_copy_in(&c, junk, 8) == 8, "a buffer that is the used ring");
	vring_done(&r, &c, 8);
	tap_eq(g.ring[1].used->idx, 1, "has the right index after it was done with");
}

int main(void)
{
	guest_open(&g, 0);
	g.v.has_table = false;
	tap_eq(vring_mem_map(&mem, &g.v), -ENOENT, "without a table there is nothing to map");
	g.v.has_table = true;
	if (vring_mem_map(&mem, &g.v))
		return 2;
	test_memory();
	test_places();
	test_chain();
	test_wrap();
	test_neighbours();
	test_hostile();
	test_overlap();
	vring_mem_unmap(&mem);
	vring_mem_unmap(&mem);
	guest_close(&g);
	return tap_done();
}
