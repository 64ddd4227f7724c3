/* agentmsg.c - see agentmsg.h */
#include "runtime/host/warden/agentmsg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/shadow/place.h"

#define SMALL_BYTES 8192u      /* what a stream of small messages needs */
#define LARGE_BYTES (1u << 20) /* a buffer beyond this is given back after its message */

/* How much of the message at the front has been looked at. */
enum { LOOKED_NONE, LOOKED_HEAD, LOOKED_STRUCT, LOOKED_ALL };

static int refuse(struct agentmsg *m, int number, const char *why, uint64_t offset, uint64_t value)
{
	m->err = (struct agentmsg_err){why, offset, value};
	m->broken = number;
	return number;
}
#define BAD(m, type, field, why) refuse(m, -EBADMSG, why, offsetof(struct type, field), (uint64_t)msg->field)

void agentmsg_init(struct agentmsg *m)
{
	*m = (struct agentmsg){.limit_bytes = SIZE_MAX};
}

void agentmsg_free(struct agentmsg *m)
{
	free(m->buf);
	*m = (struct agentmsg){.broken = -EBADF, .err = {"the stream is closed", 0, 0}};
}

static struct ds_agent_head *front(const struct agentmsg *m)
{
	return (struct ds_agent_head *)m->buf;
}

size_t agentmsg_under_way(const struct agentmsg *m)
{
	return !m->have ? 0 : m->looked >= LOOKED_HEAD ? front(m)->bytes : sizeof(struct ds_agent_head);
}

int agentmsg_room(struct agentmsg *m, void **at, size_t *bytes)
{
	size_t want = agentmsg_under_way(m), room = m->room;
	uint8_t *buf;

	if (m->broken)
		return m->broken;
	if (want < SMALL_BYTES)
		want = SMALL_BYTES;
	if (m->have >= want)
		return -EBUSY;
	if (m->have == room) {
		room = room < SMALL_BYTES / 2 ? SMALL_BYTES : room > want / 2 ? want : 2 * room;
		buf = realloc(m->buf, room);
		if (!buf)
			return -ENOMEM;
		m->buf = buf;
		m->room = room;
	}
	/* Nothing behind a long message is read with it: what would have to be moved to the front then stays small. */
	*at = m->buf + m->have;
	*bytes = (m->room < want ? m->room : want) - m->have;
	return 0;
}

void agentmsg_got(struct agentmsg *m, size_t bytes)
{
	m->have += bytes;
}

void agentmsg_limit(struct agentmsg *m, size_t bytes)
{
	if (bytes < m->limit_bytes)
		m->limit_bytes = bytes;
}

/* Length of the struct that a kind begins with; 0: not a guest's to send. */
static size_t struct_bytes(uint16_t kind)
{
	switch (kind) {
	case DS_AGENT_HELLO: return sizeof(struct ds_agent_hello);
	case DS_AGENT_ATTACH: return sizeof(struct ds_agent_attach);
	case DS_AGENT_UPDATE: return sizeof(struct ds_agent_update);
	case DS_AGENT_DROP: return sizeof(struct ds_agent_drop);
	case DS_AGENT_PAGES: return sizeof(struct ds_agent_pages);
	case DS_AGENT_CALL: return sizeof(struct ds_agent_call);
	case DS_AGENT_DEVICES: return sizeof(struct ds_agent_devices);
	case DS_AGENT_MAP: return sizeof(struct ds_agent_map);
	case DS_AGENT_UNMAP: return sizeof(struct ds_agent_unmap);
	default: return 0;
	}
}

static uint64_t longest(uint16_t kind)
{
	const uint64_t ranges = (uint64_t)DS_AGENT_RANGES_MAX * sizeof(struct ds_agent_range);

	switch (kind) {
	case DS_AGENT_ATTACH:
	case DS_AGENT_UPDATE: return struct_bytes(kind) + ranges + DS_AGENT_MAP_BYTES_MAX;
	case DS_AGENT_DROP: return struct_bytes(kind) + DS_AGENT_DROP_MAX * sizeof(struct ds_agent_range);
	case DS_AGENT_PAGES: return struct_bytes(kind) + DS_AGENT_MAP_BYTES_MAX;
	case DS_AGENT_CALL: return struct_bytes(kind) + DS_AGENT_PAYLOAD_MAX;
	default: return struct_bytes(kind);
	}
}

static int check_head(struct agentmsg *m)
{
	const struct ds_agent_head *msg = front(m);

	if (msg->magic != DS_AGENT_MAGIC)
		return BAD(m, ds_agent_head, magic, "a message does not begin with the magic number");
	if (msg->version != DS_AGENT_VERSION)
		return refuse(m, -EPROTONOSUPPORT, "a message is of another version of the protocol",
			      offsetof(struct ds_agent_head, version), msg->version);
	if (!struct_bytes(msg->kind))
		return BAD(m, ds_agent_head, kind, "a message is of a kind that a guest does not send");
	if (msg->bytes < struct_bytes(msg->kind) || msg->bytes > longest(msg->kind))
		return BAD(m, ds_agent_head, bytes, "a message has a length that its kind cannot have");
	return 0;
}

#define TERMINATED(text) (memchr(text, 0, sizeof(text)) != NULL)

static int check_attach(struct agentmsg *m, const struct ds_agent_attach *msg)
{
	if (msg->mode != DS_AGENT_EAGER && msg->mode != DS_AGENT_DEMAND)
		return BAD(m, ds_agent_attach, mode, "ATTACH names a mode that is not known");
	if (msg->has_sha256 > 1)
		return BAD(m, ds_agent_attach, has_sha256, "a flag of ATTACH is neither 0 nor 1");
	if (msg->reserve.vpn > PLACE_VPN_END || msg->reserve.npages > PLACE_VPN_END - msg->reserve.vpn)
		return BAD(m, ds_agent_attach, reserve.vpn, "the range reserved for the capsule ends beyond the user half");
	if (!TERMINATED(msg->service) || !TERMINATED(msg->args) || !TERMINATED(msg->program))
		return refuse(m, -EBADMSG, "a text of ATTACH has no end", offsetof(struct ds_agent_attach, service), 0);
	if ((msg->mode == DS_AGENT_DEMAND) != !msg->map_bytes)
		return BAD(m, ds_agent_attach, map_bytes, "ATTACH has a map in demand mode, or none in eager mode");
	return 0;
}

/* The ranges and the map fill the message exactly.  Every length is bounded before it is multiplied. */
static int check_lengths(struct agentmsg *m, uint64_t nranges, uint64_t ranges_max, uint64_t map_bytes)
{
	const struct ds_agent_head *msg = front(m);
	const uint64_t fixed = struct_bytes(msg->kind);

	if (nranges > ranges_max)
		return refuse(m, -EBADMSG, "a message has more ranges than there may be", sizeof(*msg), nranges);
	if (map_bytes > DS_AGENT_MAP_BYTES_MAX)
		return refuse(m, -EBADMSG, "the map of a message is longer than it may be", sizeof(*msg), map_bytes);
	if (msg->bytes != fixed + nranges * sizeof(struct ds_agent_range) + map_bytes)
		return BAD(m, ds_agent_head, bytes, "the parts of a message do not add up to its length");
	return 0;
}

static bool in_user_half(uint64_t vpn, uint64_t npages)
{
	return npages && vpn <= PLACE_VPN_END && npages <= PLACE_VPN_END - vpn;
}

static int check_struct(struct agentmsg *m)
{
	const struct ds_agent_head *head = front(m);
	const void *p = head;
	int r;

	switch (head->kind) {
	case DS_AGENT_HELLO: {
		const struct ds_agent_hello *msg = p;

		return TERMINATED(msg->release) ? 0 : refuse(m, -EBADMSG, "the release in HELLO has no end", 32, 0);
	}
	case DS_AGENT_ATTACH: {
		const struct ds_agent_attach *msg = p;

		r = check_attach(m, msg);
		return r ? r : check_lengths(m, msg->nranges, DS_AGENT_RANGES_MAX, msg->map_bytes);
	}
	case DS_AGENT_UPDATE: {
		const struct ds_agent_update *msg = p;

		return check_lengths(m, msg->nranges, DS_AGENT_RANGES_MAX, msg->map_bytes);
	}
	case DS_AGENT_DROP: return check_lengths(m, ((const struct ds_agent_drop *)p)->nranges, DS_AGENT_DROP_MAX, 0);
	case DS_AGENT_DEVICES: {
		const struct ds_agent_devices *msg = p;

		return TERMINATED(msg->service) && TERMINATED(msg->program) ? 0 : refuse(m, -EBADMSG, "a text of DEVICES has no end", 24, 0);
	}
	case DS_AGENT_PAGES: return check_lengths(m, 0, 0, ((const struct ds_agent_pages *)p)->map_bytes);
	case DS_AGENT_MAP: {
		const struct ds_agent_map *msg = p;

		if (!in_user_half(msg->want.vpn, msg->want.npages) || msg->want.offset % DS_PAGE_BYTES || msg->want.what >= DS_WINDOW_WHATS)
			return BAD(m, ds_agent_map, want.vpn, "MAP names no pages that a process can have");
		return 0;
	}
	case DS_AGENT_UNMAP: {
		const struct ds_agent_unmap *msg = p;

		return in_user_half(msg->what.vpn, msg->what.npages) ? 0 : BAD(m, ds_agent_unmap, what.vpn, "UNMAP names no pages that a process can have");
	}
	default: {
		const struct ds_agent_call *msg = p;

		if (msg->payload_bytes != head->bytes - sizeof(*msg)) /* which is DS_AGENT_PAYLOAD_MAX at most */
			return BAD(m, ds_agent_call, payload_bytes, "the payload of a CALL is not what its length leaves");
		return 0;
	}
	}
}

const struct ds_agent_range *agentmsg_ranges(const struct ds_agent_head *msg, size_t *n)
{
	const void *p = msg;

	switch (msg->kind) {
	case DS_AGENT_ATTACH: *n = ((const struct ds_agent_attach *)p)->nranges; break;
	case DS_AGENT_UPDATE: *n = ((const struct ds_agent_update *)p)->nranges; break;
	case DS_AGENT_DROP: *n = ((const struct ds_agent_drop *)p)->nranges; break;
	default: *n = 0;
	}
	return (const struct ds_agent_range *)((const uint8_t *)p + struct_bytes(msg->kind));
}

const void *agentmsg_map(const struct ds_agent_head *msg, size_t *bytes)
{
	size_t nranges;
	const struct ds_agent_range *ranges = agentmsg_ranges(msg, &nranges);

	*bytes = msg->bytes - (size_t)((const uint8_t *)(ranges + nranges) - (const uint8_t *)msg);
	return ranges + nranges;
}

static int check_ranges(struct agentmsg *m)
{
	const struct ds_agent_head *head = front(m);
	size_t n;
	const struct ds_agent_range *range = agentmsg_ranges(head, &n);
	uint64_t end = 0;

	for (size_t i = 0; i < n; i++) {
		const uint64_t offset = (uint64_t)((const uint8_t *)&range[i] - (const uint8_t *)head);

		if (!range[i].npages)
			return refuse(m, -EBADMSG, "a range is empty", offset, range[i].vpn);
		if (range[i].vpn < end)
			return refuse(m, -EBADMSG, "ranges overlap or do not rise", offset, range[i].vpn);
		if (range[i].vpn > PLACE_VPN_END || range[i].npages > PLACE_VPN_END - range[i].vpn)
			return refuse(m, -EBADMSG, "a range ends beyond the user half", offset, range[i].vpn);
		end = range[i].vpn + range[i].npages;
	}
	return 0;
}

int agentmsg_next(struct agentmsg *m, const struct ds_agent_head **msg)
{
	int r = m->broken;

	*msg = NULL;
	if (!r && m->looked < LOOKED_HEAD && m->have >= sizeof(struct ds_agent_head)) {
		r = check_head(m);
		m->looked = LOOKED_HEAD;
	}
	if (!r && m->looked == LOOKED_HEAD && m->have >= struct_bytes(front(m)->kind)) {
		r = check_struct(m);
		m->looked = LOOKED_STRUCT;
	}
	if (!r && m->looked >= LOOKED_HEAD && front(m)->bytes > m->limit_bytes)
		r = refuse(m, -EFBIG, "a message is longer than its process may have it", offsetof(struct ds_agent_head, bytes),
			   front(m)->bytes);
	if (!r && m->looked == LOOKED_STRUCT && m->have >= front(m)->bytes) {
		r = check_ranges(m);
		m->looked = LOOKED_ALL;
	}
	if (r || m->looked < LOOKED_ALL)
		return r;
	*msg = front(m);
	return 1;
}

void agentmsg_done(struct agentmsg *m)
{
	const size_t bytes = front(m)->bytes;

	m->have -= bytes;
	memmove(m->buf, m->buf + bytes, m->have);
	m->looked = LOOKED_NONE;
	if (m->room > LARGE_BYTES) { /* of such a message nothing is left */
		free(m->buf);
		m->buf = NULL;
		m->room = 0;
	}
}

const struct ds_agent_head *agentmsg_peek(const struct agentmsg *m)
{
	return m->looked >= LOOKED_STRUCT && !m->broken ? front(m) : NULL;
}
