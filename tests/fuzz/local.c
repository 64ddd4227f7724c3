/* local.c - fuzzes the check of what local programs ask dsagent for
 *
 * Input: one packet.  What was found good is held against what dsagent then relies on, asked in another way.
 */
#include "runtime/guest/agent/agent_local.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

static void check_ranges(const uint8_t *packet, size_t size)
{
	struct ds_local_ranges m;
	unsigned __int128 at = 0;

	memcpy(&m, packet, sizeof(m));
	MUST(size == sizeof(m) + (unsigned __int128)m.nranges * sizeof(struct ds_local_range));
	for (uint32_t i = 0; i < m.nranges; i++) {
		struct ds_local_range r;

		memcpy(&r, packet + sizeof(m) + i * sizeof(r), sizeof(r));
		MUST(r.npages && r.vpn >= at);
		at = (unsigned __int128)r.vpn + r.npages;
		MUST(at <= (UINT64_C(1) << 44));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	void *packet = malloc(size ? size : 1); /* aligned, and as long as the input, so that a sanitizer sees its end */
	const struct ds_local_head *head = packet;
	const struct ds_local_shadow *shadow = packet;
	const struct ds_local_call *call = packet;
	const char *why = "unset";
	int err;

	MUST(packet);
	memcpy(packet, data, size);
	err = agent_local_check(packet, size, &why);
	MUST(!err == !why && (!why || *why));
	if (!err) {
		MUST(size <= DS_LOCAL_BYTES_MAX && head->bytes == size && head->kind && head->kind < DS_LOCAL_MAPPED);
		if (head->kind == DS_LOCAL_SHADOW)
			MUST(size == sizeof(*shadow) && strnlen(shadow->service, sizeof(shadow->service)) < sizeof(shadow->service) &&
			     strnlen(shadow->args, sizeof(shadow->args)) < sizeof(shadow->args) && shadow->mode <= 1 && shadow->service[0]);
		if (head->kind == DS_LOCAL_CALL)
			MUST(call->payload_bytes <= DS_LOCAL_PAYLOAD_MAX && size == sizeof(*call) + call->payload_bytes);
		if (head->kind == DS_LOCAL_DROP || head->kind == DS_LOCAL_REFRESH)
			check_ranges(packet, size);
	}
	free(packet);
	return 0;
}
