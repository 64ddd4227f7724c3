/* vring.c - split virtqueues in hostile memory; theory in vring.h */
#include "runtime/host/vm/vring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/mman.h>

/* --- memory ------------------------------------------------------------------------------------------------------- */

int vring_mem_map(struct vring_mem *m, const struct vhostuser *v)
{
	m->nregions = 0;
	if (!v->has_table)
		return -ENOENT;
	for (uint32_t i = 0; i < v->nregions; i++) {
		const struct vhostuser_region *r = &v->region[i];
		void *at = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd[i], (off_t)r->offset_bytes);

		if (at == MAP_FAILED)
			return -errno;
		m->region[m->nregions++] = (struct vring_region){r->gpa_bytes, r->uaddr, r->bytes, at};
		if (madvise(at, r->bytes, MADV_DONTFORK))
			return -errno;
	}
	return 0;
}

void vring_mem_unmap(struct vring_mem *m)
{
	for (uint32_t i = 0; i < m->nregions; i++)
		munmap(m->region[i].at, m->region[i].bytes);
	m->nregions = 0;
}

void *vring_mem_at(const struct vring_mem *m, uint64_t gpa_bytes, uint64_t *bytes)
{
	for (uint32_t i = 0; i < m->nregions; i++) {
		const struct vring_region *r = &m->region[i];

		if (gpa_bytes < r->gpa_bytes || gpa_bytes - r->gpa_bytes >= r->bytes)
			continue;
		if (*bytes > r->bytes - (gpa_bytes - r->gpa_bytes))
			*bytes = r->bytes - (gpa_bytes - r->gpa_bytes);
		return r->at + (gpa_bytes - r->gpa_bytes);
	}
	return NULL;
}

/* A part of a ring, all of it, by its address in the VMM; NULL: not in memory, or not aligned here. */
static void *ring_part(const struct vring_mem *m, uint64_t uaddr, uint64_t bytes, uint64_t align)
{
	for (uint32_t i = 0; i < m->nregions; i++) {
		const struct vring_region *r = &m->region[i];
		uint8_t *at;

		if (uaddr < r->uaddr || bytes > r->bytes || uaddr - r->uaddr > r->bytes - bytes)
			continue;
		at = r->at + (uaddr - r->uaddr);
		return (uintptr_t)at % align ? NULL : at;
	}
	return NULL;
}

/* --- the ring ----------------------------------------------------------------------------------------------------- */

int vring_start(struct vring_queue *r, const struct vring_mem *m, const struct vhostuser_queue *q)
{
	*r = (struct vring_queue){.mem = m, .num = q->num, .next = (uint16_t)q->base};
	if (!q->num || q->num > VHOSTUSER_RING_SIZE_MAX || q->num & (q->num - 1))
		return -EINVAL;
	r->desc = ring_part(m, q->desc, q->num * sizeof(r->desc[0]), VRING_DESC_ALIGN_SIZE);
	r->avail = ring_part(m, q->avail, sizeof(*r->avail) + q->num * sizeof(r->avail->ring[0]), VRING_AVAIL_ALIGN_SIZE);
	r->used = ring_part(m, q->used, sizeof(*r->used) + q->num * sizeof(r->used->ring[0]), VRING_USED_ALIGN_SIZE);
	return r->desc && r->avail && r->used ? 0 : -ENXIO;
}

static int broken(struct vring_queue *r, const char *why)
{
	r->why = why;
	return -EPROTO;
}

/* How many chains are offered; the only reader of the avail index. */
static uint16_t offered(const struct vring_queue *r)
{
	return (uint16_t)(__atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE) - r->next);
}

/* A descriptor as it is now: what is checked is this copy, and nothing else is used. */
static struct vring_desc read_desc(const struct vring_queue *r, uint32_t i)
{
	const struct vring_desc *d = &r->desc[i];

	return (struct vring_desc){
		.addr = __atomic_load_n(&d->addr, __ATOMIC_RELAXED),
		.len = __atomic_load_n(&d->len, __ATOMIC_RELAXED),
		.flags = __atomic_load_n(&d->flags, __ATOMIC_RELAXED),
		.next = __atomic_load_n(&d->next, __ATOMIC_RELAXED),
	};
}

/* Adds a descriptor's buffer, which may go on from one region into the next, to the chain. */
static int add_buffer(struct vring_queue *r, struct vring_chain *c, const struct vring_desc *d)
{
	const bool write = d->flags & VRING_DESC_F_WRITE;
	uint64_t gpa = d->addr, left = d->len;

	if (!write && c->nwrite)
		return broken(r, "a chain has a readable buffer behind a writable one");
	while (left) {
		uint64_t bytes = left;
		void *at = vring_mem_at(r->mem, gpa, &bytes);

		if (!at)
			return broken(r, "a descriptor leads out of the VM's memory");
		if (c->nread + c->nwrite == VRING_CHAIN_MAX)
			return broken(r, "a chain has too many buffers");
		c->iov[c->nread + c->nwrite] = (struct iovec){at, bytes};
		if (write)
			c->nwrite++;
		else
			c->nread++;
		gpa += bytes; /* cannot wrap: [gpa, gpa + bytes) is in a region */
		left -= bytes;
	}
	if (write)
		c->write_bytes += d->len;
	else
		c->read_bytes += d->len;
	return 0;
}

int vring_next(struct vring_queue *r, struct vring_chain *c)
{
	const uint16_t n = r->why ? 0 : offered(r);
	struct vring_desc d;
	uint32_t i;

	if (r->why)
		return -EPROTO;
	if (!n)
		return 0;
	if (n > r->num)
		return broken(r, "the avail index is more than a ring ahead");
	c->head = __atomic_load_n(&r->avail->ring[r->next & (r->num - 1)], __ATOMIC_RELAXED);
	c->nread = c->nwrite = 0;
	c->read_bytes = c->write_bytes = 0;
	i = c->head;
	for (uint32_t seen = 0;; seen++) {
		if (i >= r->num)
			return broken(r, "a descriptor's number is beyond the ring");
		if (seen == VRING_CHAIN_MAX)
			return broken(r, "a chain has too many descriptors");
		d = read_desc(r, i);
		if (d.flags & ~(VRING_DESC_F_NEXT | VRING_DESC_F_WRITE))
			return broken(r, "a descriptor has a flag that was not negotiated");
		if (add_buffer(r, c, &d))
			return -EPROTO;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 1;
		i = d.next;
	}
}

void vring_done(struct vring_queue *r, const struct vring_chain *c, uint32_t written)
{
	struct vring_used_elem *e = &r->used->ring[r->next & (r->num - 1)];

	__atomic_store_n(&e->id, c->head, __ATOMIC_RELAXED);
	__atomic_store_n(&e->len, written, __ATOMIC_RELAXED);
	r->next++;
	__atomic_store_n(&r->used->idx, r->next, __ATOMIC_RELEASE);
	r->call = true;
}

bool vring_wants_call(struct vring_queue *r)
{
	if (!r->call)
		return false;
	r->call = false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !(__atomic_load_n(&r->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool vring_kicks(struct vring_queue *r, bool on)
{
	__atomic_store_n(&r->used->flags, on ? 0 : VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return offered(r);
}

/* --- buffers ------------------------------------------------------------------------------------------------------ */

uint32_t vring_slice(const struct iovec *in, uint32_t n, size_t from, size_t bytes, struct iovec *out)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < n && bytes; i++) {
		size_t len = in[i].iov_len;

		if (from >= len) {
			from -= len;
			continue;
		}
		len = len - from < bytes ? len - from : bytes;
		out[k++] = (struct iovec){(uint8_t *)in[i].iov_base + from, len};
		bytes -= len;
		from = 0;
	}
	return k;
}

size_t vring_copy_out(const struct vring_chain *c, size_t from, void *to, size_t bytes)
{
	struct iovec part[VRING_CHAIN_MAX];
	const uint32_t n = vring_slice(c->iov, c->nread, from, bytes, part);
	size_t done = 0;

	for (uint32_t i = 0; i < n; i++) {
		memcpy((uint8_t *)to + done, part[i].iov_base, part[i].iov_len);
		done += part[i].iov_len;
	}
	return done;
}

size_t vring_copy_in(const struct vring_chain *c, const void *from, size_t bytes)
{
	struct iovec part[VRING_CHAIN_MAX];
	const uint32_t n = vring_slice(c->iov + c->nread, c->nwrite, 0, bytes, part);
	size_t done = 0;

	for (uint32_t i = 0; i < n; i++) {
		memcpy(part[i].iov_base, (const uint8_t *)from + done, part[i].iov_len);
		done += part[i].iov_len;
	}
	return done;
}
