/* checksum.c - example service: the checksum of a stretch of a guest process's memory, by the guest's own addresses
 *
 * A message holds an address and a length in bytes (two words of 64 bits), of the guest's heap for instance.  The answer
 * holds three words: FNV-1a (64 bits) of the bytes, how many bytes it covers, and the number of the update after which
 * it was begun.  A length that ends short of what was asked tells where the map has a hole.
 *
 * The sum is made in slices, so that an update of the map never waits long.  What a step has to remember is in
 * shadow_state(): plain numbers and a guest address, no pointer into the capsule.
 */
#include "runtime/shadow/service.h"

#define SLICE_BYTES (256u << 10)
#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

struct request {
	uint64_t address, bytes;
};

struct answer {
	uint64_t sum, bytes, update;
};

struct state {
	struct request left;
	struct answer answer;
};

static uint64_t updates;

static void on_update(const struct shadow_change *change)
{
	updates = change->updates;
}

/* Adds up to a slice.  Return: whether there is more. */
static bool slice(struct state *s)
{
	uint64_t want = s->left.bytes < SLICE_BYTES ? s->left.bytes : SLICE_BYTES;
	uint64_t bytes = shadow_covered(s->left.address, want);
	const volatile uint8_t *at = (const volatile uint8_t *)s->left.address; /* the guest's pointer, as it is */
	uint64_t sum = s->answer.sum;

	for (uint64_t i = 0; i < bytes; i++)
		sum = (sum ^ at[i]) * FNV_PRIME;
	s->answer.sum = sum;
	s->answer.bytes += bytes;
	s->left.address += bytes;
	s->left.bytes -= bytes;
	return bytes == want && s->left.bytes;
}

static enum shadow_next step(struct shadow_exec *x, const struct shadow_event *ev)
{
	struct state *s = shadow_state(x);

	if (ev->kind == SHADOW_EV_MESSAGE) {
		*s = (struct state){.answer = {.sum = FNV_BASIS, .update = updates}};
		if (ev->payload_bytes == sizeof(s->left))
			memcpy(&s->left, ev->payload, sizeof(s->left));
	}
	if (slice(s))
		return SHADOW_AGAIN;
	shadow_reply(x, &s->answer, sizeof(s->answer));
	return SHADOW_WAIT;
}

const struct shadow_service shadow_service = {
	.name = "checksum",
	.state_bytes = sizeof(struct state),
	.step = step,
	.update = on_update,
};
