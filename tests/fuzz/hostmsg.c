/* hostmsg.c - fuzzes the parser of what the host sends to dsagent
 *
 * Input: a byte N, then a stream that arrives in pieces of N + 1 bytes.  However it is cut, the same messages come out: they are
 * compared with those of the stream in one piece.
 */
#include "runtime/guest/agent/agent_hostmsg.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

static void check(const struct ds_agent_head *h)
{
	const struct ds_agent_fault *f = (const void *)h;
	const struct ds_agent_call *c = (const void *)h;
	const struct ds_agent_mapped *m = (const void *)h;
	const struct ds_agent_refused *r = (const void *)h;

	MUST(h->magic == DS_AGENT_MAGIC && h->version == DS_AGENT_VERSION && h->bytes <= AGENT_HOSTMSG_BYTES);
	switch (h->kind) {
	case DS_AGENT_WELCOME:
		MUST(h->bytes == sizeof(struct ds_agent_welcome));
		return;
	case DS_AGENT_STARTED:
		MUST(h->bytes == sizeof(struct ds_agent_started));
		return;
	case DS_AGENT_DONE:
		MUST(h->bytes == sizeof(struct ds_agent_done));
		return;
	case DS_AGENT_UNMAPPED:
		MUST(h->bytes == sizeof(struct ds_agent_unmapped));
		return;
	case DS_AGENT_SPOILT:
		MUST(h->bytes == sizeof(struct ds_agent_spoilt));
		return;
	case DS_AGENT_MAPPED:
		MUST(h->bytes == sizeof(*m) && m->got.nextents <= DS_WINDOW_EXTENTS_MAX && m->got.err <= 0 && (!m->got.err || !m->got.nextents));
		return;
	case DS_AGENT_FAULT:
		MUST(h->bytes == sizeof(*f) && f->vpn >= f->window.vpn && f->vpn - f->window.vpn < f->window.npages &&
		     f->window.vpn + f->window.npages <= UINT64_C(1) << 44);
		return;
	case DS_AGENT_REPLY:
	case DS_AGENT_GRANTED:
		MUST(c->payload_bytes <= DS_AGENT_PAYLOAD_MAX && h->bytes == sizeof(*c) + c->payload_bytes);
		return;
	case DS_AGENT_REFUSED:
	case DS_AGENT_ENDED:
		MUST(h->bytes == sizeof(*r) && strnlen(r->text, sizeof(r->text)) < sizeof(r->text));
		return;
	}
	MUST(!"a message that the host does not send");
}

/* What came out: the messages one after the other, and how it ended. */
static size_t run(const uint8_t *data, size_t size, size_t piece, uint8_t *out, int *end)
{
	static struct agent_hostmsg m;
	const struct ds_agent_head *h;
	const char *why;
	size_t n = 0;

	memset(&m, 0, sizeof(m));
	*end = 0;
	while (size) {
		size_t room, part = size < piece ? size : piece;
		uint8_t *to = agent_hostmsg_room(&m, &room);
		int r;

		MUST(room);
		part = part < room ? part : room;
		memcpy(to, data, part);
		agent_hostmsg_got(&m, part);
		data += part, size -= part;
		while ((r = agent_hostmsg_next(&m, &h, &why)) > 0) {
			check(h);
			memcpy(out + n, h, h->bytes);
			n += h->bytes;
		}
		*end = r;
		if (r)
			break;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *one, *other;
	size_t n, m;
	int end, end2;

	if (!size)
		return 0;
	one = malloc(size);
	other = malloc(size);
	MUST(one && other);
	n = run(data + 1, size - 1, SIZE_MAX, one, &end);
	m = run(data + 1, size - 1, (size_t)data[0] + 1, other, &end2);
	MUST(n == m && end == end2 && !memcmp(one, other, n));
	free(one);
	free(other);
	return 0;
}
