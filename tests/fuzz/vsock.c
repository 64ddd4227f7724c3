/* vsock.c - fuzzes the vsock back end: packets, descriptors and anything else that a guest can write into its memory
 *
 * Input: one step after the other, each a byte that says what (modulo the number of kinds) and its arguments:
 *   packet   a head of a few bytes (port, operation, flags, length, credit) in a sound chain
 *   poke     bytes written anywhere in the first region's rings, or a descriptor of the input's choice
 *   offer    a head or an index of the input's choice in a ring
 *   buffers  buffers for packets are offered, used ones taken back
 *   holder   a holder writes, reads, shuts down, closes
 *   device   a reset, another table, a start
 * After each the host works.  Whatever comes: it comes to rest in a bounded number of runs, streams are bounded, a
 * holder hears no more than was sent to it, indices are those of the rings, and no descriptor or memory is left at
 * the end.
 */
#include "runtime/host/vm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "tests/vsock_guest.h"
#include "tests/fuzz/target.h"

#define HOLDERS 32u
#define RUNS_MAX 200 /* of a step; each does up to 64 packets a queue */

struct input {
	const uint8_t *at;
	size_t left;
};

static struct guest g;
static struct vsock *vs;
static int holder[HOLDERS];
static uint32_t nholders;
static uint64_t said, heard; /* bytes that the guest has offered as payload, and that holders read */

static uint32_t take(struct input *in, uint32_t bytes)
{
	uint32_t n = 0;

	for (; bytes && in->left; bytes--) {
		n = n << 8 | *in->at++;
		in->left--;
	}
	return n;
}

static int hold(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
	(void)ctx;
	MUST(fd >= 0);
	if (nholders == HOLDERS || host_port == 7)
		return guest_port & 1 ? -EACCES : -EMFILE;
	holder[nholders++] = fd;
	return 0;
}

static void work(void)
{
	struct pollfd p = {.fd = vsock_fd(vs), .events = POLLIN};
	int n = 0;

	while (poll(&p, 1, 0) == 1) {
		const int r = vsock_run(vs);

		MUST(!r || (r == -EPROTO && vsock_err(vs) && !vsock_streams(vs)));
		MUST(++n < RUNS_MAX);
	}
	MUST(vsock_streams(vs) <= VSOCK_STREAMS_MAX);
	for (uint32_t q = 0; q < 2; q++)
		MUST(g.v.queue[q].base <= UINT16_MAX);
}

/* The guest's own state may be anything by now: its memory is fuzzed. */
static uint16_t any_slot(uint32_t n)
{
	return (uint16_t)(n % GUEST_SLOTS);
}

static void packet(struct input *in)
{
	static const uint8_t zeros[GUEST_TX_BYTES];
	const uint32_t ports = take(in, 1), op = take(in, 1), bytes = take(in, 2), slot = take(in, 1);
	struct virtio_vsock_hdr h = {
		.src_cid = GUEST_CID, .dst_cid = 2, .src_port = ports & 15, .dst_port = ports >> 4 & 3, .len = bytes, .type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op & 15, .flags = take(in, 1), .buf_alloc = take(in, 2) << (op >> 4), .fwd_cnt = take(in, 2),
	};

	if (op & 128)
		((uint8_t *)&h)[take(in, 1) % sizeof(h)] = (uint8_t)take(in, 1);
	guest_chain(&g, 1, any_slot(slot), bytes);
	memcpy(guest_at(&g, GUEST_HEADS(1) + any_slot(slot) * 64u), &h, sizeof(h));
	memcpy(guest_at(&g, guest_payload(1, any_slot(slot))), zeros, bytes);
	guest_offer(&g, 1, (uint16_t)(2 * any_slot(slot)));
	guest_kick(&g, 1);
	said += (uint64_t)bytes * GUEST_RING; /* the slot may be in the ring already, as often as that */
}

static void poke(struct input *in)
{
	const uint32_t how = take(in, 1), q = how & 1, i = take(in, 1) % GUEST_RING;

	if (how & 2) {
		g.ring[q].desc[i].addr = (uint64_t)take(in, 1) << (take(in, 1) & 63) | take(in, 2);
		g.ring[q].desc[i].len = take(in, 1) << (take(in, 1) & 31) | take(in, 1);
		g.ring[q].desc[i].flags = (uint16_t)take(in, 2);
		g.ring[q].desc[i].next = (uint16_t)(how & 4 ? take(in, 2) : take(in, 1) % GUEST_RING);
	} else {
		guest_at(&g, 0x10000)[take(in, 3) % 0x40000] = (uint8_t)take(in, 1);
	}
	said += UINT64_C(1) << 40; /* what a chain says is the input's choice now */
}

static void offer(struct input *in)
{
	const uint32_t how = take(in, 1), q = how & 1;

	if (how & 2)
		g.ring[q].avail->idx = (uint16_t)take(in, 2);
	else
		guest_offer(&g, q, (uint16_t)take(in, how & 4 ? 2 : 1));
	guest_kick(&g, q);
	said += UINT64_C(1) << 40;
}

static void buffers(struct input *in)
{
	for (uint32_t n = take(in, 1) % GUEST_SLOTS, at = take(in, 1); n; n--)
		guest_offer_rx(&g, any_slot(at++));
	guest_kick(&g, 0);
}

static void holder_acts(struct input *in)
{
	static char block[65536];
	const uint32_t how = take(in, 1), i = take(in, 1);
	const int fd = nholders ? holder[i % nholders] : -1;
	ssize_t n;

	if (fd < 0)
		return;
	switch (how % 5) {
	case 0:
		n = send(fd, block, take(in, 2), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
	case 2:
		n = recv(fd, block, how % 5 == 1 ? sizeof(block) : take(in, 1), MSG_DONTWAIT);
		heard += n > 0 ? (uint64_t)n : 0;
		break;
	case 3:
		shutdown(fd, how & 64 ? SHUT_RD : SHUT_WR);
		break;
	default:
		close(fd);
		holder[i % nholders] = holder[nholders - 1];
		nholders--;
	}
	MUST(heard <= said);
}

static void device(struct input *in)
{
	const uint32_t how = take(in, 1);

	if (how & 1) {
		vsock_stop(vs);
		MUST(!vsock_streams(vs) && !vsock_err(vs));
	}
	if (how & 2)
		guest_begin(&g, (uint16_t)(how >> 4));
	if (how & 4)
		g.v.region[1].bytes = how & 8 ? GUEST_REGION : GUEST_REGION / 2;
	vsock_start(vs, &g.v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const step[])(struct input *) = {packet, packet, poke, offer, buffers, holder_acts, device};
	struct input in = {data, size < 4096 ? size : 4096};
	const int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int after;

	MUST(lowest >= 0);
	close(lowest);
	guest_open(&g, GUEST_SLOTS / 2);
	nholders = 0;
	said = heard = 0;
	MUST(!vsock_new(&vs, GUEST_CID, hold, NULL) && !vsock_start(vs, &g.v));
	while (in.left) {
		step[take(&in, 1) % (sizeof(step) / sizeof(*step))](&in);
		work();
	}
	vsock_free(vs);
	while (nholders)
		close(holder[--nholders]);
	guest_close(&g);
	after = open("/dev/null", O_RDONLY | O_CLOEXEC);
	MUST(after == lowest);
	close(after);
	return 0;
}
