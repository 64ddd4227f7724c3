/* upper.c - example service: follows a guest process's list of strings and turns them into capitals where they are
 *
 * A message holds the address of the first node (0: none).  A node is three words: the address of the next node, the address of
 * a string that ends with NUL, and one that the service fills in: how many letters it changed.  The answer holds three words:
 * nodes visited, letters changed, and 0 or the -errno that ended it: -EFAULT, memory that is not there or cannot be written;
 * -ELOOP, more than LIMIT nodes.
 *
 * It writes into memory of a program that runs at that moment: whoever calls it waits for the answer before looking.
 */
#include <asm/errno.h>

#include "runtime/shadow/service.h"

#define LIMIT 100000u
#define NODES_A_STEP 64
#define STRING_BYTES 4096u

struct node {
	uint64_t next, text, changed;
};

struct answer {
	uint64_t nodes, letters;
	int64_t error;
};

struct state {
	uint64_t at;
	struct answer answer;
};

/* Return: 0 and the letters changed, or -EFAULT. */
static int64_t capitals(uint64_t text, uint64_t *letters)
{
	for (uint64_t i = 0; i < STRING_BYTES; i++) {
		char c;

		if (shadow_fetch(&c, text + i, 1))
			return -EFAULT;
		if (!c)
			break;
		if (c < 'a' || c > 'z')
			continue;
		c = (char)(c - 'a' + 'A');
		if (shadow_store(text + i, &c, 1))
			return -EFAULT;
		++*letters;
	}
	return 0;
}

static enum shadow_next step(struct shadow_exec *x, const struct shadow_event *ev)
{
	struct state *s = shadow_state(x);
	struct answer *a = &s->answer;

	if (ev->kind == SHADOW_EV_MESSAGE) {
		*s = (struct state){0};
		if (ev->payload_bytes == sizeof(s->at))
			memcpy(&s->at, ev->payload, sizeof(s->at));
	}
	for (int i = 0; i < NODES_A_STEP && s->at && !a->error; i++) {
		struct node node;

		if (a->nodes == LIMIT)
			a->error = -ELOOP;
		else if (shadow_fetch(&node, s->at, sizeof(node)))
			a->error = -EFAULT;
		else {
			node.changed = 0;
			a->error = capitals(node.text, &node.changed);
			if (!a->error && shadow_store(s->at + offsetof(struct node, changed), &node.changed, sizeof(node.changed)))
				a->error = -EFAULT;
			a->nodes++;
			a->letters += node.changed;
			s->at = node.next;
		}
	}
	if (s->at && !a->error)
		return SHADOW_AGAIN;
	shadow_reply(x, a, sizeof(*a));
	return SHADOW_WAIT;
}

const struct shadow_service shadow_service = {
	.name = "upper",
	.state_bytes = sizeof(struct state),
	.step = step,
};
