/* warden_stream.c - the guest's end: what it says, and what it has not read yet
 *
 * Reading stops where order demands it: while the capsule starts (nothing may be said then), and while a second change
 * waits for the first.  Both end by an answer of the capsule or by its deadline.  What is written goes into a queue that
 * is sent as the guest reads; the queue has a limit, and a guest that reads nothing at all for write_ms has ended its
 * shadow.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/host/warden/warden_parts.h"

#define READS_A_TURN 16 /* then others have theirs */

/* --- writing ----------------------------------------------------------------------------------------------------- */

/* Room for @bytes more.  Return: where; NULL: the shadow has ended. */
static uint8_t *out_room(struct warden *w, size_t bytes)
{
	size_t room = w->out_room;
	uint8_t *out;

	if (w->out_have + bytes > WARDEN_OUT_BYTES_MAX) {
		warden_end(w, DS_AGENT_C_TIMEOUT, "the agent does not read what it is sent");
		return NULL;
	}
	if (w->out_at && w->out_at + w->out_have + bytes > room) {
		memmove(w->out, w->out + w->out_at, w->out_have);
		w->out_at = 0;
	}
	while (w->out_have + bytes > room)
		room = room ? 2 * room : 8192;
	if (room != w->out_room) {
		out = realloc(w->out, room);
		if (!out) {
			warden_end(w, DS_AGENT_C_HOST, "no memory for what the agent is to be sent");
			return NULL;
		}
		w->out = out;
		w->out_room = room;
	}
	return w->out + w->out_at + w->out_have;
}

void warden_send_payload(struct warden *w, uint16_t kind, uint32_t seq, struct ds_agent_head *msg, size_t bytes,
			 const void *payload, size_t payload_bytes)
{
	uint8_t *to = out_room(w, bytes + payload_bytes);

	if (!to)
		return;
	*msg = (struct ds_agent_head){.magic = DS_AGENT_MAGIC,
				      .version = DS_AGENT_VERSION,
				      .kind = kind,
				      .bytes = (uint32_t)(bytes + payload_bytes),
				      .seq = seq};
	memcpy(to, msg, bytes);
	if (payload_bytes)
		memcpy(to + bytes, payload, payload_bytes);
	if (!w->out_have)
		w->out_deadline_ns = warden_after_ms(w->times.write_ms);
	w->out_have += bytes + payload_bytes;
	warden_stream_write(w);
}

void warden_send(struct warden *w, uint16_t kind, uint32_t seq, struct ds_agent_head *msg, size_t bytes)
{
	warden_send_payload(w, kind, seq, msg, bytes, NULL, 0);
}

void warden_refuse(struct warden *w, uint16_t kind, uint32_t seq, uint32_t code, const char *text)
{
	struct ds_agent_refused msg = {.code = code};

	log_escape(msg.text, sizeof(msg.text), text);
	warden_send(w, kind, seq, &msg.head, sizeof(msg));
}

void warden_stream_write(struct warden *w)
{
	while (w->out_have) {
		const ssize_t sent = send(w->stream_fd, w->out + w->out_at, w->out_have, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN)
			warden_end(w, 0, "the guest closed the stream");
		if (sent <= 0)
			return;
		w->out_at += (size_t)sent;
		w->out_have -= (size_t)sent;
		w->out_deadline_ns = warden_after_ms(w->times.write_ms);
	}
	w->out_at = 0;
	w->out_deadline_ns = WARDEN_NEVER;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static void out_of_turn(struct warden *w, const struct ds_agent_head *msg)
{
	warden_end(w, DS_AGENT_C_MESSAGE, "the agent sent a message of kind %u out of turn", msg->kind);
}

static void change(struct warden *w, const struct ds_agent_head *msg)
{
	if (msg->kind == DS_AGENT_UPDATE)
		warden_update(w, (const void *)msg);
	else
		warden_drop(w, (const void *)msg);
}

/* Puts a change aside.  Return: whether there was room. */
static bool put_aside(struct warden *w, const struct ds_agent_head *msg)
{
	struct warden_later *l = w->demand && w->nlater < WARDEN_LATER_MAX ? malloc(sizeof(*l) + msg->bytes) : NULL;

	if (!l)
		return false;
	l->next = NULL;
	memcpy(l->message, msg, msg->bytes);
	*w->later_end = l;
	w->later_end = &l->next;
	w->nlater++;
	return true;
}

/* Those put aside have their turn, one after the other. */
static void work_aside(struct warden *w)
{
	while (w->later && w->change.kind == WARDEN_CHANGE_NONE && !w->ended) {
		struct warden_later *l = w->later;

		w->later = l->next;
		if (!w->later)
			w->later_end = &w->later;
		w->nlater--;
		change(w, (const void *)l->message);
		free(l);
	}
}

void warden_stream_free(struct warden *w)
{
	while (w->later) {
		struct warden_later *next = w->later->next;

		free(w->later);
		w->later = next;
	}
	w->later_end = &w->later;
}

/* Return: whether the message has been dealt with; false: it has to wait where it is. */
static bool handle(struct warden *w, const struct ds_agent_head *msg)
{
	const void *p = msg;

	if (w->state == WARDEN_HELLO) {
		if (msg->kind == DS_AGENT_HELLO)
			warden_hello(w, p);
		else
			out_of_turn(w, msg);
		return true;
	}
	if (w->state == WARDEN_ATTACH) {
		if (msg->kind == DS_AGENT_ATTACH)
			warden_attach(w, p);
		else if (msg->kind == DS_AGENT_DEVICES)
			warden_devices(w, p);
		else
			out_of_turn(w, msg);
		return true;
	}
	switch (msg->kind) {
	case DS_AGENT_UPDATE:
	case DS_AGENT_DROP:
		if (w->change.kind == WARDEN_CHANGE_NONE && !w->later)
			change(w, msg);
		else
			w->held = !put_aside(w, msg);
		return !w->held;
	case DS_AGENT_PAGES:
		if (w->demand)
			warden_pages(w, p);
		else
			out_of_turn(w, msg);
		break;
	case DS_AGENT_CALL: warden_call(w, p); break;
	case DS_AGENT_MAP: warden_window_map(w, p); break;
	case DS_AGENT_UNMAP: warden_window_unmap(w, p); break;
	default: out_of_turn(w, msg);
	}
	return true;
}

/* Whoever begins a message has hello_ms to finish it, and 1 ms more for each page of it; while nobody reads no time passes. */
static void time_part(struct warden *w)
{
	const size_t bytes = agentmsg_under_way(&w->in);

	if (w->held || w->state == WARDEN_START || !bytes) {
		w->part_begun_ns = 0;
		w->part_deadline_ns = WARDEN_NEVER;
		return;
	}
	if (!w->part_begun_ns)
		w->part_begun_ns = warden_now_ns();
	w->part_deadline_ns = w->part_begun_ns + (w->times.hello_ms + bytes / DS_PAGE_BYTES) * UINT64_C(1000000);
}

void warden_stream_work(struct warden *w)
{
	const struct ds_agent_head *msg;
	int r = 0;

	w->held = false;
	work_aside(w);
	while (!w->ended && w->state != WARDEN_START) {
		r = agentmsg_next(&w->in, &msg);
		/* Who may not have a shadow at all need not send its map first. */
		if (!r && w->state == WARDEN_ATTACH && !w->rule) {
			const struct ds_agent_head *begun = agentmsg_peek(&w->in);

			if (begun && begun->kind == DS_AGENT_ATTACH)
				warden_admit(w, (const void *)begun);
		}
		if (r <= 0 || !handle(w, msg))
			break;
		agentmsg_done(&w->in);
		w->part_begun_ns = 0;
	}
	if (r < 0)
		warden_end(w, r == -EFBIG ? DS_AGENT_C_LIMIT : DS_AGENT_C_MESSAGE, "%s (at byte %llu of the message: %llu)",
			   w->in.err.why, (unsigned long long)w->in.err.offset, (unsigned long long)w->in.err.value);
	time_part(w);
}

void warden_stream_read(struct warden *w)
{
	for (int i = 0; i < READS_A_TURN && !w->ended && !w->held && w->state != WARDEN_START; i++) {
		size_t room;
		void *at;
		int r = agentmsg_room(&w->in, &at, &room);
		ssize_t got;

		if (r) {
			warden_end(w, DS_AGENT_C_HOST, "no memory for what the agent sends");
			return;
		}
		got = recv(w->stream_fd, at, room, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			warden_end(w, 0, "the guest closed the stream");
			return;
		}
		agentmsg_got(&w->in, (size_t)got);
		warden_stream_work(w);
	}
}
