/* agent_guest.h - plays a guest's agent on a stream, for tests
 *
 * The guest's process is described page by page (struct guest_page), and the map is made of that here; what a shadow should
 * see is told by that list, not by the code under test.  A real process's memory can be behind it or not.
 */
#ifndef TESTS_AGENT_GUEST_H
#define TESTS_AGENT_GUEST_H

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rle/mapw.h"
#include "runtime/wire/agent.h"

#define AGENT_TIMEOUT_MS 15000
#define AGENT_UNUSED __attribute__((unused))

/* A page of the guest's process: its number, its frame in the guest, its attributes. */
struct guest_page {
	uint64_t vpn, frame;
	uint32_t attr;
};

struct agent {
	int fd;
	uint32_t seq;
	struct ds_agent_welcome welcome;  /* the last ones */
	struct ds_agent_started started;
	struct ds_agent_refused refused; /* or ENDED */
};

union agent_message {
	struct ds_agent_head head;
	struct ds_agent_welcome welcome;
	struct ds_agent_started started;
	struct ds_agent_fault fault;
	struct ds_agent_call reply;
	struct ds_agent_refused refused;
	uint8_t bytes[sizeof(struct ds_agent_call) + DS_AGENT_PAYLOAD_MAX];
};

/* --- what is said ------------------------------------------------------------------------------------------------ */

AGENT_UNUSED static bool agent_write(struct agent *a, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(a->fd, (const char *)data + done, bytes - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static inline struct ds_agent_head agent_head(struct agent *a, uint16_t kind, size_t bytes)
{
	return (struct ds_agent_head){DS_AGENT_MAGIC, DS_AGENT_VERSION, kind, (uint32_t)bytes, ++a->seq};
}

/* A map as the guest sends it: the pages have to rise.  The caller frees it. */
AGENT_UNUSED static void *agent_map(const struct guest_page *list, size_t n, size_t *bytes)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = 1};
	struct rle_mapw *w;
	void *blob;

	if (rle_mapw_begin_mem(&w, &meta, DS_AGENT_MAP_BYTES_MAX))
		errx(2, "rle_mapw_begin_mem");
	for (size_t i = 0; i < n; i++)
		if (rle_mapw_add(w, (ds_vpn){list[i].vpn}, (ds_pfn){list[i].frame}, 1, list[i].attr))
			errx(2, "page %zu: %s", i, rle_mapw_fault(w));
	if (rle_mapw_finish(w))
		errx(2, "rle_mapw_finish");
	blob = rle_mapw_take(w, bytes);
	rle_mapw_free(w);
	return blob;
}

/* A message of a struct, ranges and a map.  The caller frees it. */
AGENT_UNUSED static void *agent_join(const void *head, size_t head_bytes, const struct ds_agent_range *ranges, size_t nranges,
				     const void *map, size_t map_bytes, size_t *bytes)
{
	uint8_t *all = malloc(head_bytes + nranges * sizeof(*ranges) + map_bytes);

	*bytes = head_bytes + nranges * sizeof(*ranges) + map_bytes;
	memcpy(all, head, head_bytes);
	if (nranges)
		memcpy(all + head_bytes, ranges, nranges * sizeof(*ranges));
	if (map_bytes)
		memcpy(all + head_bytes + nranges * sizeof(*ranges), map, map_bytes);
	((struct ds_agent_head *)(void *)all)->bytes = (uint32_t)*bytes;
	return all;
}

AGENT_UNUSED static struct ds_agent_hello agent_hello(struct agent *a)
{
	return (struct ds_agent_hello){.head = agent_head(a, DS_AGENT_HELLO, sizeof(struct ds_agent_hello)), .release = "6.1.0"};
}

AGENT_UNUSED static struct ds_agent_attach agent_attach(struct agent *a, const char *program, const char *service, uint32_t mode)
{
	struct ds_agent_attach msg = {
		.head = agent_head(a, DS_AGENT_ATTACH, sizeof(msg)), .pid = 4711, .start_ticks = 12, .uid = 1000, .gid = 1000, .mode = mode};

	snprintf(msg.program, sizeof(msg.program), "%s", program);
	snprintf(msg.service, sizeof(msg.service), "%s", service);
	return msg;
}

/* The whole ATTACH of a process that consists of @list; the caller frees it. */
AGENT_UNUSED static void *agent_attach_message(struct ds_agent_attach *msg, const struct guest_page *list, size_t n,
					       const struct ds_agent_range *ranges, size_t nranges, size_t *bytes)
{
	size_t map_bytes = 0;
	void *map = msg->mode == DS_AGENT_EAGER ? agent_map(list, n, &map_bytes) : NULL, *all;

	msg->nranges = nranges;
	msg->map_bytes = map_bytes;
	all = agent_join(msg, sizeof(*msg), ranges, nranges, map, map_bytes, bytes);
	free(map);
	return all;
}

AGENT_UNUSED static void *agent_update_message(struct agent *a, const struct guest_page *list, size_t n, bool with_map,
					       const struct ds_agent_range *ranges, size_t nranges, size_t *bytes)
{
	struct ds_agent_update msg = {.head = agent_head(a, DS_AGENT_UPDATE, sizeof(msg)), .nranges = nranges};
	size_t map_bytes = 0;
	void *map = with_map ? agent_map(list, n, &map_bytes) : NULL, *all;

	msg.map_bytes = map_bytes;
	all = agent_join(&msg, sizeof(msg), ranges, nranges, map, map_bytes, bytes);
	free(map);
	return all;
}

AGENT_UNUSED static void *agent_drop_message(struct agent *a, const struct ds_agent_range *ranges, size_t n, size_t *bytes)
{
	struct ds_agent_drop msg = {.head = agent_head(a, DS_AGENT_DROP, sizeof(msg)), .nranges = n};

	return agent_join(&msg, sizeof(msg), ranges, n, NULL, 0, bytes);
}

AGENT_UNUSED static void *agent_pages_message(struct agent *a, uint32_t seq, const struct guest_page *list, size_t n, size_t *bytes)
{
	struct ds_agent_pages msg = {.head = agent_head(a, DS_AGENT_PAGES, sizeof(msg))};
	size_t map_bytes;
	void *map = agent_map(list, n, &map_bytes), *all;

	msg.head.seq = seq;
	msg.map_bytes = map_bytes;
	all = agent_join(&msg, sizeof(msg), NULL, 0, map, map_bytes, bytes);
	free(map);
	return all;
}

/* Return: its seq. */
AGENT_UNUSED static uint32_t agent_call(struct agent *a, uint32_t executor, const void *payload, uint32_t bytes)
{
	union agent_message m = {0};

	m.reply = (struct ds_agent_call){agent_head(a, DS_AGENT_CALL, sizeof(m.reply) + bytes), executor, bytes};
	memcpy(m.bytes + sizeof(m.reply), payload, bytes);
	agent_write(a, &m, m.head.bytes);
	return m.head.seq;
}

/* --- what is heard ----------------------------------------------------------------------------------------------- */

/* Return: 1 all is there; 0 the stream ended; -1 it did not come in time. */
static int agent_read(struct agent *a, void *to, size_t bytes, int timeout_ms)
{
	for (size_t done = 0; done < bytes;) {
		struct pollfd at = {.fd = a->fd, .events = POLLIN};
		ssize_t n;

		if (poll(&at, 1, timeout_ms) <= 0)
			return -1;
		n = recv(a->fd, (char *)to + done, bytes - done, 0);
		if (n <= 0)
			return 0;
		done += (size_t)n;
	}
	return 1;
}

/* Return: the kind of message; 0 at the end of the stream; -1 when none came in time. */
AGENT_UNUSED static int agent_receive(struct agent *a, union agent_message *m, int timeout_ms)
{
	int r = agent_read(a, &m->head, sizeof(m->head), timeout_ms);

	if (r <= 0)
		return r;
	if (m->head.magic != DS_AGENT_MAGIC || m->head.version != DS_AGENT_VERSION || m->head.bytes < sizeof(m->head) ||
	    m->head.bytes > sizeof(*m))
		errx(2, "the host sent what is no message");
	r = agent_read(a, m->bytes + sizeof(m->head), m->head.bytes - sizeof(m->head), timeout_ms);
	if (r <= 0)
		return r;
	switch (m->head.kind) {
	case DS_AGENT_WELCOME: a->welcome = m->welcome; break;
	case DS_AGENT_STARTED: a->started = m->started; break;
	case DS_AGENT_REFUSED:
	case DS_AGENT_ENDED: a->refused = m->refused; break;
	default: break;
	}
	return m->head.kind;
}

/* Sends @msg (freed if @owned) and takes the next message.  Return: as agent_receive(). */
AGENT_UNUSED static int agent_ask(struct agent *a, void *msg, size_t bytes, bool owned)
{
	union agent_message m;

	agent_write(a, msg, bytes);
	if (owned)
		free(msg);
	return agent_receive(a, &m, AGENT_TIMEOUT_MS);
}

/* Return: bytes of the payload answered; -1: another message came, or none (the last REFUSED or ENDED is in @a). */
AGENT_UNUSED static int agent_answer(struct agent *a, void *answer, size_t bytes)
{
	union agent_message m;

	if (agent_receive(a, &m, AGENT_TIMEOUT_MS) != DS_AGENT_REPLY || m.reply.payload_bytes > bytes)
		return -1;
	memcpy(answer, m.bytes + sizeof(m.reply), m.reply.payload_bytes);
	return (int)m.reply.payload_bytes;
}

#endif
