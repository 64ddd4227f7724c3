/* warden_call.c - calls of the guest for the service's executors, and their answers
 *
 * An executor has one call at a time: its mailbox in the capsule holds one message, and the answer to it is known by
 * that.  Others for it wait here, in order, up to a limit; beyond that they are refused, not held back, because
 * what the guest sends behind them may be what a working executor waits for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/host/reasons.h"
#include "runtime/host/warden/warden_parts.h"

static void refuse(struct warden *w, uint32_t seq, uint32_t code, const char *text)
{
	w->view.refused_calls++;
	warden_refuse(w, DS_AGENT_REFUSED, seq, code, text);
}

/* Whether it has been sent, so that the entry is of no use any more. */
static bool send_call(struct warden *w, const struct warden_queued *q)
{
	struct {
		struct ds_shadow_message message;
		uint8_t payload[DS_SHADOW_PAYLOAD_MAX];
	} m;
	const size_t bytes = sizeof(m.message) + q->payload_bytes;

	m.message = (struct ds_shadow_message){.head = warden_capsule_head(w, DS_SHADOW_MESSAGE, bytes),
					       .executor = q->executor,
					       .payload_bytes = q->payload_bytes};
	memcpy(m.payload, q->payload, q->payload_bytes);
	if (warden_capsule_send(w, &m, bytes, NULL, 0))
		return false;
	w->call[q->executor] = (struct warden_call){true, q->guest_seq, m.message.head.seq};
	return true;
}

void warden_call_pump(struct warden *w)
{
	struct warden_queued **at = &w->queue;

	while (*at && !w->ended && !w->ctl_full) {
		struct warden_queued *q = *at;

		if (w->call[q->executor].under_way || !send_call(w, q)) {
			at = &q->next;
			continue;
		}
		*at = q->next;
		if (!*at)
			w->queue_end = at;
		w->nqueued--;
		free(q);
	}
}

void warden_call(struct warden *w, const struct ds_agent_call *msg)
{
	char text[DS_AGENT_TEXT_BYTES];
	struct warden_queued *q;

	if (msg->executor >= w->rule->executors) {
		snprintf(text, sizeof(text), "the service has executors 0 to %u, not %u", w->rule->executors - 1,
			 msg->executor);
		refuse(w, msg->head.seq, DS_AGENT_C_LIMIT, text);
		return;
	}
	if (w->nqueued >= WARDEN_QUEUED_CALLS) {
		refuse(w, msg->head.seq, DS_AGENT_C_LIMIT, "too many calls wait for their executors already");
		return;
	}
	q = malloc(sizeof(*q) + msg->payload_bytes);
	if (!q) {
		refuse(w, msg->head.seq, DS_AGENT_C_HOST, "no memory for the call");
		return;
	}
	*q = (struct warden_queued){.executor = msg->executor, .guest_seq = msg->head.seq, .payload_bytes = msg->payload_bytes};
	memcpy(q->payload, msg + 1, msg->payload_bytes);
	*w->queue_end = q;
	w->queue_end = &q->next;
	w->nqueued++;
	w->view.calls++;
	warden_call_pump(w);
}

void warden_call_answer(struct warden *w, const struct ds_shadow_message *msg)
{
	struct warden_call *call = msg->executor < DS_SHADOW_EXECUTORS_MAX ? &w->call[msg->executor] : NULL;
	struct ds_agent_call reply = {.executor = msg->executor, .payload_bytes = msg->payload_bytes};

	if (!call || !call->under_way || call->capsule_seq != msg->head.seq) {
		warden_end(w, DS_AGENT_C_SHADOW, "the shadow broke the protocol: it answered a call that nobody made");
		return;
	}
	if (warden_bell_report(w, msg))
		return;
	call->under_way = false;
	w->view.replies++;
	warden_send_payload(w, DS_AGENT_REPLY, call->guest_seq, &reply.head, sizeof(reply), msg->payload, msg->payload_bytes);
	warden_call_pump(w);
}

bool warden_call_refused(struct warden *w, const struct ds_shadow_refused *refused)
{
	char text[DS_AGENT_TEXT_BYTES];

	for (uint32_t i = 0; i < w->rule->executors; i++) {
		struct warden_call *call = &w->call[i];

		if (!call->under_way || call->capsule_seq != refused->head.seq)
			continue;
		if (w->bell[i].live) {
			warden_bell_refused(w, i, refused);
			return true;
		}
		call->under_way = false;
		reasons_refused(text, sizeof(text), refused);
		refuse(w, call->guest_seq, DS_AGENT_C_SHADOW, text);
		warden_call_pump(w);
		return true;
	}
	return false;
}

void warden_call_free(struct warden *w)
{
	while (w->queue) {
		struct warden_queued *next = w->queue->next;

		free(w->queue);
		w->queue = next;
	}
	w->queue_end = &w->queue;
}
