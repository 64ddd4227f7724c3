/* heap.c - memory in the capsule, named by handles
 *
 * Theory of operation
 *
 * The heap begins where the image ends and is covered by blocks without a gap: a header of 16 bytes, then what was
 * asked for, in multiples of 16.  First fit; neighbours that are free are joined while the search passes them.  A
 * header knows its length only, so there is nothing to correct when the capsule moves.
 *
 * When nothing fits the heap is made longer in place, if neither the map nor a forbidden range is in the way; else
 * the allocation fails.  The control thread, which must find room for a new map, then moves to a larger place.
 *
 * A lock, not a mutex: allocations are short, and executors stop between steps only, so never while they hold it.
 */
#include "runtime/shadow/capsule.h"

#define USED UINT64_C(1)
#define UNIT 16u
#define GROW_BYTES 65536u

struct block {
	uint64_t bytes; /* with the header; USED in its lowest bit */
	uint64_t pad;
};
_Static_assert(sizeof(struct block) == UNIT, "blocks keep their alignment");

static uint32_t heap_lock;

static void lock(void)
{
	while (__atomic_exchange_n(&heap_lock, 1, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
}

static void unlock(void)
{
	__atomic_store_n(&heap_lock, 0, __ATOMIC_RELEASE);
}

uint64_t heap_start(void)
{
	return (cap_image() + cap_image_bytes());
}

static struct block *block_at(uint64_t offset)
{
	return (struct block *)(heap_start() + offset);
}

/* A new free block at the end; a free one before it is joined by the next search. */
void heap_extended(void)
{
	if (cap.heap_bytes > cap.heap_known)
		block_at(cap.heap_known)->bytes = cap.heap_bytes - cap.heap_known;
	cap.heap_known = cap.heap_bytes;
}

void heap_init(void)
{
	cap.heap_known = 0;
	heap_extended();
}

uint64_t heap_used(void)
{
	uint64_t end = 0;

	for (uint64_t at = 0; at < cap.heap_known; at += block_at(at)->bytes & ~USED) {
		/* a free block counts with its header */
		end = at + (block_at(at)->bytes & USED ? block_at(at)->bytes & ~USED : UNIT);
	}
	return end;
}

/* Whether it worked; for @bytes at least. */
static bool grow(uint64_t bytes)
{
	uint64_t more = (bytes + GROW_BYTES - 1) / GROW_BYTES * GROW_BYTES, end = heap_start() + cap.heap_bytes;
	struct rle_map map = mirror_view(&cap.now);
	struct place_want want = {.src = {place_of_map(&map), mirror_forbidden(&cap.now)}};
	struct ds_shadow_range range = {.vpn = end >> DS_PAGE_SHIFT, .npages = more >> DS_PAGE_SHIFT};
	long at;

	if (cap.heap_bytes + more > 2 * DS_SHADOW_HEAP_BYTES_MAX || range.vpn + range.npages > PLACE_VPN_END ||
	    !place_free(&want, range))
		return false;
	at = sys(mmap, end, more, SYS_PROT_READ | SYS_PROT_WRITE,
		 SYS_MAP_PRIVATE | SYS_MAP_ANONYMOUS | SYS_MAP_NORESERVE | SYS_MAP_FIXED_NOREPLACE, -1, 0);
	if (at != (long)end) {
		if (!sys_failed(at))
			sys(munmap, at, more);
		return false;
	}
	cap.heap_bytes += more;
	heap_extended();
	return true;
}

static struct block *find(uint64_t bytes)
{
	for (uint64_t at = 0; at < cap.heap_known; at += block_at(at)->bytes & ~USED) {
		struct block *b = block_at(at);

		if (b->bytes & USED)
			continue;
		while (at + b->bytes < cap.heap_known && !(block_at(at + b->bytes)->bytes & USED))
			b->bytes += block_at(at + b->bytes)->bytes;
		if (b->bytes < bytes)
			continue;
		if (b->bytes > bytes) {
			block_at(at + bytes)->bytes = b->bytes - bytes;
			b->bytes = bytes;
		}
		return b;
	}
	return NULL;
}

struct shadow_handle shadow_alloc(size_t bytes)
{
	struct shadow_handle handle = {0};
	uint64_t whole;
	struct block *b;

	if (bytes > DS_SHADOW_HEAP_BYTES_MAX)
		return handle;
	whole = (bytes + UNIT - 1) / UNIT * UNIT + UNIT;
	lock();
	b = find(whole);
	if (!b && grow(whole))
		b = find(whole);
	if (b) {
		b->bytes |= USED;
		handle = shadow_handle_of(b + 1);
	}
	unlock();
	if (handle.offset)
		memset(shadow_at(handle), 0, bytes);
	return handle;
}

void shadow_free(struct shadow_handle handle)
{
	if (!handle.offset)
		return;
	lock();
	((struct block *)shadow_at(handle))[-1].bytes &= ~USED;
	unlock();
}

void *shadow_at(struct shadow_handle handle)
{
	return handle.offset ? (void *)(cap_image() + (uint64_t)handle.offset) : NULL;
}

struct shadow_handle shadow_handle_of(const void *pointer)
{
	return (struct shadow_handle){(int64_t)((uint64_t)pointer - cap_image())};
}
