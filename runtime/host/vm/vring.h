/* vring.h - a split virtqueue in a VM's memory, worked from outside the VM
 *
 * Theory of operation
 *
 * A queue is three arrays in guest memory (virtio 1.2, 2.7): descriptors (an address, a length, flags, the next one),
 * avail (heads of chains that the guest offers, and an index that counts them) and used (heads that were done with).
 * vhost-user tells where they are in the VMM's address space; descriptors hold guest-physical addresses.  struct vring_mem
 * maps the VM's regions here and knows both.
 *
 * Everything in guest memory is hostile and changes while it is read.  So:
 *   - every number is read once, into a variable, and checked there; nothing is read again after the check
 *   - the avail index may be at most one ring ahead of what was taken; heads and nexts are below the ring's size
 *   - a chain has at most VRING_CHAIN_MAX descriptors, whatever its nexts say (a loop ends there)
 *   - every byte of every buffer lies in a region; readable ones come before writable ones
 *   - INDIRECT and every unknown flag were never negotiated and are refused
 *   - the used index is ours: it is never read from the guest
 * A ring that breaks one of these is broken for good: -EPROTO, and `why` says what.
 *
 * Chains are done with in the order they were taken, one at a time, so the index of the next available entry is
 * also the used index, and is all that must be kept to go on later (`next`, which GET_VRING_BASE asks for).
 *
 * Order of memory accesses: the avail index is read with acquire before what it announces; used entries are
 * written before the used index (release).  Between writing the used index and asking whether the guest wants to be called,
 * and between asking for kicks and looking at the avail index once more, there is a full barrier, or each side could
 * miss what the other wrote (virtio 1.2, 2.7.10 and 2.7.7).
 *
 * The files behind the regions come from the VMM, which is trusted not to truncate them.
 */
#ifndef HOST_VRING_H
#define HOST_VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "runtime/host/vm/vhostuser.h"

#define VRING_CHAIN_MAX 128u /* descriptors of a chain; Linux's vsock uses up to 19 */

/** struct vring_mem - A VM's memory, mapped into this process. */
struct vring_mem {
	struct vring_region {
		uint64_t gpa_bytes, uaddr, bytes; /* guest-physical, and in the VMM */
		uint8_t *at;			  /* here */
	} region[VHOSTUSER_REGIONS_MAX];
	uint32_t nregions;
};

/** struct vring_chain - Buffers of one chain; guest memory, so what is read there is read once. */
struct vring_chain {
	uint16_t head;
	uint32_t nread, nwrite;	      /* iov[0, nread) is for us to read, iov[nread, nread + nwrite) for us to write */
	uint64_t read_bytes, write_bytes;
	struct iovec iov[VRING_CHAIN_MAX];
};

/** struct vring_queue - One queue. */
struct vring_queue {
	const struct vring_mem *mem;
	uint32_t num;
	struct vring_desc *desc; /* linux/virtio_ring.h; guest memory, all three */
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next;	 /* index of the next available entry, and of the next used one */
	bool call;	 /* something was done with since vring_wants_call() was asked */
	const char *why; /* why it is broken; NULL: it is not */
};

/**
 * vring_mem_map() - Maps all regions that QEMU sent
 * @m: filled; to be given to vring_mem_unmap(), also after an error
 * @v: has_table; its descriptors are not needed afterwards
 *
 * The mappings are not inherited by a forked child.
 *
 * Return: 0, -ENOENT (there is no table), -errno of mmap() and madvise().
 */
int vring_mem_map(struct vring_mem *m, const struct vhostuser *v);

/** vring_mem_unmap() - Unmaps what vring_mem_map() mapped; harmless twice. */
void vring_mem_unmap(struct vring_mem *m);

/**
 * vring_mem_at() - Where a guest-physical address is mapped here
 * @gpa_bytes: any number
 * @bytes: in: how many are wanted, not 0; out: how many of them follow each other in the same region
 *
 * Return: the place; NULL if the address is not in the VM's memory.
 */
void *vring_mem_at(const struct vring_mem *m, uint64_t gpa_bytes, uint64_t *bytes);

/**
 * vring_start() - Finds a queue in memory
 * @r: filled
 * @m: mapped as long as @r is in use
 * @q: what QEMU said of it; the first entry to look at is q->base
 *
 * Return: 0, -ENXIO (a part of it lies outside of the VM's memory), -EINVAL (it has no size).
 */
int vring_start(struct vring_queue *r, const struct vring_mem *m, const struct vhostuser_queue *q);

/**
 * vring_next() - Looks at the next chain that the guest offers; taken only by vring_done()
 * @c: filled if there is one
 *
 * Return: 1; 0 if there is none; -EPROTO (and from then on).
 */
int vring_next(struct vring_queue *r, struct vring_chain *c);

/**
 * vring_done() - Gives the chain that vring_next() showed back to the guest
 * @written: bytes that were written into it
 */
void vring_done(struct vring_queue *r, const struct vring_chain *c, uint32_t written);

/** vring_wants_call() - Whether something was done with since the last time this was asked, and the guest wants to know. */
bool vring_wants_call(struct vring_queue *r);

/**
 * vring_kicks() - Tells the guest whether to kick when it offers chains; it may kick all the same
 *
 * Return: whether chains are there that were offered before @on could be seen: they will not be announced.
 */
bool vring_kicks(struct vring_queue *r, bool on);

/**
 * vring_copy_out() - Copies from the readable part of a chain, once
 * @c: the chain
 * @from: bytes of it to skip
 * @to: gets @bytes
 *
 * Return: how many bytes there were, at most @bytes.
 */
size_t vring_copy_out(const struct vring_chain *c, size_t from, void *to, size_t bytes);

/**
 * vring_copy_in() - Copies to the beginning of the writable part of a chain
 *
 * Return: how many bytes had room, at most @bytes.
 */
size_t vring_copy_in(const struct vring_chain *c, const void *from, size_t bytes);

/**
 * vring_slice() - A part of a list of buffers
 * @in: @n buffers
 * @from: bytes to skip
 * @bytes: at most so many
 * @out: room for @n; set to the part
 *
 * Return: how many buffers @out has.
 */
uint32_t vring_slice(const struct iovec *in, uint32_t n, size_t from, size_t bytes, struct iovec *out);

#endif
