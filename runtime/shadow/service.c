/* service.c - the part of service.h that is not about the heap */
#include "runtime/shadow/service.h"

#include <errno.h>

#include "runtime/shadow/capsule.h"

_Static_assert(SHADOW_PAYLOAD_MAX == DS_SHADOW_PAYLOAD_MAX, "a service can answer what it can be sent");

void *shadow_state(struct shadow_exec *x)
{
	return x->service_state;
}

void shadow_reply(struct shadow_exec *x, const void *data, uint32_t bytes)
{
	if (bytes > SHADOW_PAYLOAD_MAX)
		bytes = SHADOW_PAYLOAD_MAX;
	x->out.message = (struct ds_shadow_message){
		.head = {.magic = DS_SHADOW_MAGIC,
			 .version = DS_SHADOW_VERSION,
			 .kind = DS_SHADOW_MESSAGE,
			 .bytes = (uint32_t)sizeof(x->out.message) + bytes,
			 .seq = x->reply_seq},
		.executor = x->index,
		.payload_bytes = bytes,
	};
	memcpy(x->out.payload, data, bytes);
	x->reply_bytes = bytes;
}

void shadow_call(struct shadow_exec *x, long nr, const uint64_t args[static 6], uint32_t handles)
{
	x->nr = nr;
	for (int i = 0; i < 6; i++)
		x->args[i] = args[i];
	x->handles = handles;
}

int shadow_fetch(void *to, uint64_t guest_address, size_t bytes)
{
	return guard_copy(to, (const void *)guest_address, bytes);
}

int shadow_store(uint64_t guest_address, const void *from, size_t bytes)
{
	return guard_copy((void *)guest_address, from, bytes);
}

int shadow_fetch_words(uint64_t *to, uint64_t guest_address, size_t n)
{
	return guard_words(to, (const uint64_t *)guest_address, n);
}

int shadow_store_words(uint64_t guest_address, const uint64_t *from, size_t n)
{
	return guard_words((uint64_t *)guest_address, from, n);
}

int shadow_load32(uint32_t *to, uint64_t guest_address)
{
	return guest_address % sizeof(*to) ? -EFAULT : guard_load32(to, (const uint32_t *)guest_address);
}

int shadow_store32(uint64_t guest_address, uint32_t value)
{
	return guest_address % sizeof(value) ? -EFAULT : guard_store32((uint32_t *)guest_address, value);
}

int shadow_swap32(uint64_t guest_address, uint32_t value)
{
	return guest_address % sizeof(value) ? -EFAULT : guard_swap32((uint32_t *)guest_address, value);
}

int shadow_hold_fd(void)
{
	return DS_SHADOW_HOLD_FD;
}

bool shadow_hurry(const struct shadow_exec *x)
{
	return __atomic_load_n(&x->order, __ATOMIC_RELAXED) != EXEC_GO;
}

uint64_t shadow_now_ns(void)
{
	return (uint64_t)((unsigned __int128)__builtin_ia32_rdtsc() * cap.ns_per_tick >> 32);
}

/* Pages from @first on that are there when they are touched: a mirror that faults has no other way to say. */
static uint64_t reachable(uint64_t first, uint64_t pages)
{
	const struct place_src ranges = mirror_forbidden(&cap.now);
	const struct place_want want = {.src = {ranges}};
	uint64_t n;
	uint8_t byte;

	for (n = 0; n < pages; n++) /* not the capsule's own memory */
		if (place_free(&want, (struct ds_shadow_range){first + n, 1}) ||
		    guard_copy(&byte, (const void *)((first + n) << DS_PAGE_SHIFT), sizeof(byte)))
			break;
	return n;
}

uint64_t shadow_covered(uint64_t guest_address, uint64_t bytes)
{
	const struct rle_map map = mirror_view(&cap.now);
	uint64_t first = guest_address >> DS_PAGE_SHIFT, in_page = guest_address & (DS_PAGE_BYTES - 1), pages, covered;

	if (!bytes || first >= PLACE_VPN_END)
		return 0;
	if (bytes > (PLACE_VPN_END << DS_PAGE_SHIFT) - guest_address)
		bytes = (PLACE_VPN_END << DS_PAGE_SHIFT) - guest_address;
	pages = (in_page + bytes + DS_PAGE_BYTES - 1) >> DS_PAGE_SHIFT;
	covered = cap.boot.mode == DS_SHADOW_DEMAND ? reachable(first, pages) : rle_map_covered(&map, (ds_vpn){first}, pages);
	if (covered == pages)
		return bytes;
	return covered ? (covered << DS_PAGE_SHIFT) - in_page : 0;
}
