/* calls.c - a service for tests: makes the system calls it is told, and looks at what a move must keep */
#include "runtime/shadow/service.h"

#include "runtime/shadow/sys.h"
#include "tests/services/calls.h"

#define BLOCK_BYTES 4096u

struct state {
	struct calls_request request;
	struct shadow_handle block, kept;
	uint64_t kept_bytes;
};

static uint64_t updates;
static const char text[] = "a constant";
/* Words that the linker makes pointers: they have to be right after every move, one of them has been changed. */
static const char *const fixed = text;
static const char *changed = "something else";
static uint64_t *counter = &updates;
static uint64_t (*volatile function)(uint64_t);
static uint64_t guest_pointer = 0x1000;

static uint64_t twice(uint64_t n)
{
	return 2 * n;
}
static uint64_t (*const table[])(uint64_t) = {twice, NULL};

static int start(const char *args)
{
	changed = text + 2;
	if (!memcmp(args, "refuse", 7))
		return -1;
	return 0;
}

static void on_update(const struct shadow_change *change)
{
	updates = change->updates;
	function = table[0]; /* set anew with each update, as the rules say */
}

static int64_t check(struct state *s)
{
	const uint8_t *kept = shadow_at(s->kept);

	if (fixed != text || memcmp(fixed, "a constant", 11))
		return 1;
	if (changed != text + 2 || memcmp(changed, "constant", 9))
		return 2;
	if (counter != &updates || table[0] != twice || table[1] || table[0](21) != 42)
		return 3;
	if (guest_pointer != 0x1000 || function(4) != 8)
		return 4;
	for (uint64_t i = 0; i < s->kept_bytes; i++)
		if (kept[i] != (uint8_t)(i * 31 >> 3))
			return 5;
	return 0;
}

static int64_t touch(const struct calls_request *r, uint64_t *took_ns)
{
	const uint64_t began_ns = sys_now_ns();
	uint64_t sum = 0;

	for (uint64_t i = 0; i < r->args[1]; i++)
		sum ^= *(volatile uint64_t *)(r->args[0] + i * r->args[2] * 4096);
	*took_ns = sys_now_ns() - began_ns;
	return (int64_t)sum;
}

static int64_t allocate(struct state *s, uint64_t bytes)
{
	uint8_t *p;

	shadow_free(s->kept);
	s->kept_bytes = 0;
	s->kept = shadow_alloc(bytes);
	p = shadow_at(s->kept);
	if (!p)
		return -1;
	for (uint64_t i = 0; i < bytes; i++) {
		if (p[i])
			return -2;
		p[i] = (uint8_t)(i * 31 >> 3);
	}
	s->kept_bytes = bytes;
	return 0;
}

static enum shadow_next answer(struct shadow_exec *x, int64_t result, const void *bytes)
{
	struct calls_answer a = {.result = result, .updates = updates};

	if (bytes)
		memcpy(a.bytes, bytes, sizeof(a.bytes));
	shadow_reply(x, &a, sizeof(a));
	return SHADOW_WAIT;
}

static enum shadow_next begin(struct shadow_exec *x, struct state *s)
{
	struct calls_request *r = &s->request;
	uint64_t words[8] = {0};
	int64_t result;

	switch (r->op) {
	case CALLS_BUFFER:
		if (!s->block.offset)
			s->block = shadow_alloc(BLOCK_BYTES);
		memset(shadow_at(s->block), (int)r->pattern, BLOCK_BYTES);
		r->args[r->which % 6] = (uint64_t)s->block.offset;
		shadow_call(x, r->nr, r->args, 1u << r->which % 6);
		return SHADOW_CALL;
	case CALLS_SYSCALL: shadow_call(x, r->nr, r->args, 0); return SHADOW_CALL;
	case CALLS_LOAD: return answer(x, *(volatile int64_t *)r->args[0], NULL);
	case CALLS_STORE: *(volatile uint64_t *)r->args[0] = r->args[1]; return answer(x, 0, NULL);
	case CALLS_CHECK: return answer(x, check(s), NULL);
	case CALLS_ALLOC: return answer(x, allocate(s, r->args[0]), NULL);
	case CALLS_SPIN: return SHADOW_AGAIN;
	case CALLS_FETCH: result = shadow_fetch(words, r->args[0], sizeof(words[0])); return answer(x, result, words);
	case CALLS_PUT: return answer(x, shadow_store(r->args[0], &r->args[1], sizeof(r->args[1])), NULL);
	case CALLS_TOUCH: result = touch(r, words); return answer(x, result, words);
	case CALLS_COVERED: return answer(x, (int64_t)shadow_covered(r->args[0], r->args[1]), NULL);
	default:
		for (;;)
			__builtin_ia32_pause();
	}
}

static enum shadow_next step(struct shadow_exec *x, const struct shadow_event *ev)
{
	struct state *s = shadow_state(x);

	switch (ev->kind) {
	case SHADOW_EV_MESSAGE:
		if (ev->payload_bytes != sizeof(s->request))
			return answer(x, -22, NULL);
		memcpy(&s->request, ev->payload, sizeof(s->request));
		return begin(x, s);
	case SHADOW_EV_RESULT: return answer(x, ev->result, s->request.op == CALLS_BUFFER ? shadow_at(s->block) : NULL);
	default: /* spinning: args[0] steps */
		if (check(s))
			return answer(x, -1, NULL);
		return s->request.args[0]-- ? SHADOW_AGAIN : answer(x, 0, NULL);
	}
}

const struct shadow_service shadow_service = {
	.name = "calls",
	.state_bytes = sizeof(struct state),
	.start = start,
	.step = step,
	.update = on_update,
};
