/* vsock_guest.h - for tests: the guest's side of a vhost-user-vsock device, played by the test
 *
 * A memfd is the RAM, in two regions that are apart in guest-physical addresses, in the file, and in the VMM's addresses.
 * The guest's driver is written from the specification (virtio 1.2, 2.7 and 5.10), not from the code under test: rings in
 * the first region, packets in the second, a packet's head and payload in buffers of their own as Linux 6.1 has it.
 */
#ifndef TESTS_VSOCK_GUEST_H
#define TESTS_VSOCK_GUEST_H

#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/host/vm/vhostuser.h"

#define GUEST_CID 42u
#define GUEST_RING 128u		  /* descriptors: 64 packets */
#define GUEST_SLOTS (GUEST_RING / 2)
#define GUEST_REGION (UINT64_C(8) << 20)
#define GUEST_HIGH (UINT64_C(1) << 32) /* GPA of the second region */
#define GUEST_UADDR0 UINT64_C(0x7f0000000000)
#define GUEST_UADDR1 UINT64_C(0x7e0000000000)
#define GUEST_TX_BYTES (64u << 10)
#define GUEST_RX_BYTES 4096u

/* Places of queue q's parts in the first region. */
#define GUEST_DESC(q) (0x10000u + (q) * 0x10000u)
#define GUEST_AVAIL(q) (0x14000u + (q) * 0x10000u)
#define GUEST_USED(q) (0x18000u + (q) * 0x10000u)
#define GUEST_HEADS(q) (0x80000u + (q) * 0x10000u) /* 64 bytes a packet */

struct guest_ring {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t seen; /* of the used index */
};

struct guest {
	int ram_fd;
	uint8_t *ram; /* all of it, in file order: the regions one after the other */
	struct vhostuser v;
	struct guest_ring ring[2]; /* 0: to the guest, 1: from it */
	uint16_t free_tx[GUEST_SLOTS], nfree_tx;
	uint16_t held[GUEST_SLOTS], nheld; /* buffers that were used and not offered again */
};

/* A packet that the guest received. */
struct guest_packet {
	struct virtio_vsock_hdr h;
	uint8_t data[GUEST_RX_BYTES];
};

static inline uint8_t *guest_at(const struct guest *g, uint64_t gpa)
{
	return g->ram + (gpa >= GUEST_HIGH ? GUEST_REGION + (gpa - GUEST_HIGH) : gpa);
}

static inline uint64_t guest_payload(uint32_t q, uint32_t slot)
{
	return GUEST_HIGH + (q ? (uint64_t)slot * GUEST_TX_BYTES : UINT64_C(0x600000) + (uint64_t)slot * GUEST_RX_BYTES);
}

/* Offers the chain that begins with descriptor @head. */
static inline void guest_offer(struct guest *g, uint32_t q, uint16_t head)
{
	struct vring_avail *a = g->ring[q].avail;

	a->ring[a->idx % GUEST_RING] = head;
	__atomic_store_n(&a->idx, (uint16_t)(a->idx + 1), __ATOMIC_RELEASE);
}

static inline void guest_kick(struct guest *g, uint32_t q)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!(g->ring[q].used->flags & VRING_USED_F_NO_NOTIFY))
		eventfd_write(g->v.queue[q].kick, 1);
}

/* A chain of two buffers, head and payload, for slot @i. */
static inline void guest_chain(struct guest *g, uint32_t q, uint16_t i, uint32_t bytes)
{
	const uint16_t write = q ? 0 : VRING_DESC_F_WRITE;
	struct vring_desc *d = &g->ring[q].desc[2 * i];

	d[0] = (struct vring_desc){GUEST_HEADS(q) + i * 64u, sizeof(struct virtio_vsock_hdr), (uint16_t)(write | (bytes ? VRING_DESC_F_NEXT : 0)),
				   (uint16_t)(2 * i + 1)};
	d[1] = (struct vring_desc){guest_payload(q, i), bytes, write, 0};
}

static inline void guest_offer_rx(struct guest *g, uint16_t slot)
{
	guest_chain(g, 0, slot, GUEST_RX_BYTES);
	guest_offer(g, 0, (uint16_t)(2 * slot));
}

/* As the guest's driver starts the device: both rings empty, then (@buffers) all buffers for packets offered. */
static inline void guest_begin(struct guest *g, uint16_t buffers)
{
	for (uint32_t q = 0; q < 2; q++) {
		struct vhostuser_queue *vq = &g->v.queue[q];

		memset(guest_at(g, GUEST_DESC(q)), 0, 0x10000);
		g->ring[q].desc = (void *)guest_at(g, GUEST_DESC(q));
		g->ring[q].avail = (void *)guest_at(g, GUEST_AVAIL(q));
		g->ring[q].used = (void *)guest_at(g, GUEST_USED(q));
		g->ring[q].seen = 0;
		vq->num = GUEST_RING;
		vq->base = 0;
		vq->desc = GUEST_UADDR0 + GUEST_DESC(q);
		vq->avail = GUEST_UADDR0 + GUEST_AVAIL(q);
		vq->used = GUEST_UADDR0 + GUEST_USED(q);
		vq->started = vq->enabled = true;
	}
	g->v.running = true;
	g->nfree_tx = g->nheld = 0;
	for (uint16_t i = 0; i < GUEST_SLOTS; i++) {
		g->free_tx[g->nfree_tx++] = i;
		if (i < buffers)
			guest_offer_rx(g, i);
		else
			g->held[g->nheld++] = i;
	}
}

static inline void guest_open(struct guest *g, uint16_t buffers)
{
	memset(g, 0, sizeof(*g));
	g->ram_fd = memfd_create("guest", MFD_CLOEXEC);
	if (g->ram_fd < 0 || ftruncate(g->ram_fd, 2 * GUEST_REGION))
		exit(2);
	g->ram = mmap(NULL, 2 * GUEST_REGION, PROT_READ | PROT_WRITE, MAP_SHARED, g->ram_fd, 0);
	if (g->ram == MAP_FAILED)
		exit(2);
	vhostuser_init(&g->v, GUEST_CID);
	g->v.features = VHOSTUSER_FEATURES;
	g->v.nregions = 2;
	g->v.region[0] = (struct vhostuser_region){0, GUEST_REGION, GUEST_UADDR0, 0};
	g->v.region[1] = (struct vhostuser_region){GUEST_HIGH, GUEST_REGION, GUEST_UADDR1, GUEST_REGION};
	g->v.fd[0] = dup(g->ram_fd);
	g->v.fd[1] = dup(g->ram_fd);
	g->v.has_table = true;
	for (uint32_t q = 0; q < 2; q++) {
		g->v.queue[q].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		g->v.queue[q].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		g->v.queue[q].error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	guest_begin(g, buffers);
}

static inline void guest_close(struct guest *g)
{
	vhostuser_close(&g->v);
	munmap(g->ram, 2 * GUEST_REGION);
	close(g->ram_fd);
}

/* Takes back what the host has done with.  Return: packets that are still with the host. */
static inline uint32_t guest_reap(struct guest *g)
{
	struct guest_ring *r = &g->ring[1];

	while (r->seen != __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE)) {
		const struct vring_used_elem e = r->used->ring[r->seen++ % GUEST_RING];

		g->free_tx[g->nfree_tx++] = (uint16_t)(e.id / 2);
	}
	return GUEST_SLOTS - g->nfree_tx;
}

/* Offers a packet; the head goes out as it is, the payload is h->len bytes at @data.  Return: false: no descriptors. */
static inline bool guest_put(struct guest *g, const struct virtio_vsock_hdr *h, const void *data, uint32_t bytes)
{
	uint16_t slot;

	guest_reap(g);
	if (!g->nfree_tx)
		return false;
	slot = g->free_tx[--g->nfree_tx];
	guest_chain(g, 1, slot, bytes);
	memcpy(guest_at(g, GUEST_HEADS(1) + slot * 64u), h, sizeof(*h));
	if (bytes)
		memcpy(guest_at(g, guest_payload(1, slot)), data, bytes);
	guest_offer(g, 1, (uint16_t)(2 * slot));
	guest_kick(g, 1);
	return true;
}

/* The next packet for the guest; its buffer is offered again if @again, else held.  Return: false: there is none. */
static inline bool guest_get(struct guest *g, struct guest_packet *p, bool again)
{
	struct guest_ring *r = &g->ring[0];
	struct vring_used_elem e;
	uint16_t slot;

	if (r->seen == __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE))
		return false;
	e = r->used->ring[r->seen++ % GUEST_RING];
	slot = (uint16_t)(e.id / 2);
	memset(p, 0, sizeof(*p));
	memcpy(&p->h, guest_at(g, GUEST_HEADS(0) + slot * 64u), sizeof(p->h));
	memcpy(p->data, guest_at(g, guest_payload(0, slot)), GUEST_RX_BYTES);
	if (e.len != sizeof(p->h) + p->h.len)
		p->h.op = 0xffff; /* no test expects that */
	if (again) {
		guest_offer_rx(g, slot);
		guest_kick(g, 0);
	} else {
		g->held[g->nheld++] = slot;
	}
	return true;
}

/* Offers up to @n buffers that were held. */
static inline void guest_give_buffers(struct guest *g, uint16_t n)
{
	for (; n && g->nheld; n--)
		guest_offer_rx(g, g->held[--g->nheld]);
	guest_kick(g, 0);
}

/* Whether the host has interrupted the guest for queue @q since this was asked last. */
static inline bool guest_called(struct guest *g, uint32_t q)
{
	eventfd_t n;

	return !eventfd_read(g->v.queue[q].call, &n);
}

#endif
