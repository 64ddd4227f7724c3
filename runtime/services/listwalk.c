/* listwalk.c - example service: follows a linked list of a guest process
 *
 * A message holds the address of the first node (0: none), the offset of `next` in a node and the offset of a 64-bit
 * value in it (three words).  The answer holds: nodes visited, the sum of their values, the address it ended at, and
 * 0 or the -errno that ended it: -EFAULT, a node that is not there; -ELOOP, more than LIMIT nodes.
 *
 * The guest is not trusted: a pointer of its list may lead anywhere, and the list may change while it is walked.  Each
 * word is fetched once with shadow_fetch(), which reports memory that is not there instead of ending the shadow, and
 * the walk is bounded.
 */
#include <asm/errno.h>

#include "runtime/shadow/service.h"

#define LIMIT 10000000u
#define NODES_A_STEP 2048

struct request {
	uint64_t node, next_offset, value_offset;
};

struct answer {
	uint64_t nodes, sum, at;
	int64_t error;
};

struct state {
	struct request request;
	struct answer answer;
};

static enum shadow_next step(struct shadow_exec *x, const struct shadow_event *ev)
{
	struct state *s = shadow_state(x);
	struct answer *a = &s->answer;

	if (ev->kind == SHADOW_EV_MESSAGE) {
		*s = (struct state){0};
		if (ev->payload_bytes == sizeof(s->request))
			memcpy(&s->request, ev->payload, sizeof(s->request));
		a->at = s->request.node;
	}
	for (int i = 0; i < NODES_A_STEP && a->at && !a->error; i++) {
		uint64_t next, value;

		if (a->nodes == LIMIT)
			a->error = -ELOOP;
		else if (shadow_fetch(&next, a->at + s->request.next_offset, sizeof(next)) ||
			 shadow_fetch(&value, a->at + s->request.value_offset, sizeof(value)))
			a->error = -EFAULT;
		else {
			a->nodes++;
			a->sum += value;
			a->at = next;
		}
	}
	if (a->at && !a->error)
		return SHADOW_AGAIN;
	shadow_reply(x, a, sizeof(*a));
	return SHADOW_WAIT;
}

const struct shadow_service shadow_service = {
	.name = "listwalk",
	.state_bytes = sizeof(struct state),
	.step = step,
};
