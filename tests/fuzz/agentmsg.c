/* agentmsg.c - fuzzes the parser of what a guest's agent says
 *
 * Input: a byte that says in which pieces the rest arrives (0: all at once), then a stream.  The stream is parsed twice, in
 * those pieces and byte by byte: both must give the same messages and the same verdict.  Of every message that is
 * passed what agentmsg.h promises is checked again here, with sums that cannot overflow.
 */
#include "runtime/host/warden/agentmsg.h"

#include <stdbool.h>
#include <string.h>

#include "rle/map.h"
#include "tests/fuzz/target.h"

static bool ends(const char *text, size_t bytes)
{
	return memchr(text, 0, bytes) != NULL;
}

static void check(const struct ds_agent_head *msg)
{
	size_t n, map_bytes;
	const struct ds_agent_range *range = agentmsg_ranges(msg, &n);
	const uint8_t *map = agentmsg_map(msg, &map_bytes), *start = (const uint8_t *)msg;
	struct rle_map view = {0};
	uint64_t end = 0;

	MUST(!((uintptr_t)msg % 8) && msg->magic == DS_AGENT_MAGIC && msg->version == DS_AGENT_VERSION);
	MUST(msg->kind >= DS_AGENT_HELLO && msg->kind <= DS_AGENT_CALL);
	MUST((const uint8_t *)range >= start && (const uint8_t *)(range + n) == map && map + map_bytes == start + msg->bytes);
	for (size_t i = 0; i < n; i++) {
		MUST(range[i].npages && range[i].vpn >= end && range[i].npages <= (UINT64_C(1) << 35) - 1 - range[i].vpn);
		end = range[i].vpn + range[i].npages;
	}
	if (msg->kind == DS_AGENT_ATTACH) {
		const struct ds_agent_attach *a = (const void *)msg;

		MUST(ends(a->service, sizeof(a->service)) && ends(a->args, sizeof(a->args)) && ends(a->program, sizeof(a->program)));
		MUST(a->mode <= DS_AGENT_DEMAND && a->map_bytes == map_bytes && a->nranges == n);
		MUST(a->reserve.npages <= UINT64_C(1) << 35 && a->reserve.vpn <= UINT64_C(1) << 35);
	}
	if (msg->kind == DS_AGENT_CALL)
		MUST(((const struct ds_agent_call *)(const void *)msg)->payload_bytes == map_bytes && map_bytes <= DS_AGENT_PAYLOAD_MAX);
	else if (map_bytes && !rle_map_open_copy(&view, map, map_bytes, NULL))
		rle_map_close(&view);
}

struct result {
	uint64_t sum; /* of all bytes of all messages */
	uint32_t messages;
	int broken;
};

static struct result parse(const uint8_t *data, size_t size, size_t piece)
{
	struct result r = {.sum = UINT64_C(0xcbf29ce484222325)};
	struct agentmsg m;

	agentmsg_init(&m);
	while (size && !r.broken) {
		const struct ds_agent_head *msg;
		size_t room;
		void *at;
		int got;

		MUST(!agentmsg_room(&m, &at, &room) && room);
		room = room < size ? room : size;
		room = piece && room > piece ? piece : room;
		memcpy(at, data, room);
		agentmsg_got(&m, room);
		data += room, size -= room;
		while ((got = agentmsg_next(&m, &msg)) > 0) {
			check(msg);
			for (uint32_t i = 0; i < msg->bytes; i++)
				r.sum = (r.sum ^ ((const uint8_t *)msg)[i]) * UINT64_C(0x100000001b3);
			r.messages++;
			agentmsg_done(&m);
		}
		MUST(m.have <= m.room && (!agentmsg_peek(&m) || !m.broken));
		if (got < 0) {
			MUST(m.err.why && m.broken == got && agentmsg_next(&m, &msg) == got && !msg);
			r.broken = got;
		}
	}
	agentmsg_free(&m);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result a, b;

	if (!size)
		return 0;
	a = parse(data + 1, size - 1, *data);
	b = parse(data + 1, size - 1, 1);
	MUST(a.broken == b.broken && a.messages == b.messages && a.sum == b.sum);
	return 0;
}
