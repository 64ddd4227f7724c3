/* hostile.h - has a shadow in its jail make system calls (tests/services/hostile.c), while its guard is answered */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include "tests/guarded.h"
#include "tests/services/hostile.h"
#include "tests/tap.h"

static struct guarded shadow;
static struct hostile_answer answered;

#define A_VPN UINT64_C(0x555555000) /* four pages that may be written: RAM pages 3 to 6 */
#define B_VPN UINT64_C(0x7ffff0000) /* two that may not: 10 and 11 */
#define C_VPN UINT64_C(0x600000000) /* two that may be written, 20 and 21, and directly behind, 22, which may not */
#define RAM_PAGES 64u

static const struct rle_run hostile_runs[] = {
	{{A_VPN}, {3}, 4, RW},
	{{C_VPN}, {20}, 2, RW},
	{{C_VPN + 2}, {22}, 1, RLE_ATTR_READ},
	{{B_VPN}, {10}, 2, RLE_ATTR_READ},
};
#define NRUNS 4

/* Starts a shadow over hostile_runs. */
__attribute__((unused)) static void hostile_start(const struct filter_want *want, uint64_t memory_bytes)
{
	struct jail_params p = {.threads = 3, .memory_bytes = memory_bytes};
	int kind;

	guarded_init(&shadow, RAM_PAGES);
	if (guarded_spawn(&shadow, "hostile", want, &p))
		errx(2, "jail: %s: %s", shadow.jail_err.what, strerror(-shadow.jail_err.err));
	kind = guarded_boot(&shadow, "hostile", 2, hostile_runs, NRUNS);
	if (kind != DS_SHADOW_STATUS)
		errx(2, "boot: %d, reason %u, err %d, %s %d", kind, shadow.h.refused.reason, shadow.h.refused.err,
		     shadow.guard_err.why ? shadow.guard_err.why : "", shadow.guard_err.err);
}

__attribute__((unused)) static int hostile_end(void)
{
	int status = guarded_end(&shadow);

	host_free(&shadow.h);
	return status;
}

static void hostile_send(const struct hostile_request *r)
{
	host_message(&shadow.h, 0, r, sizeof(*r));
}

/* Return: kind of the answer; `answered` is filled if it is a message. */
static int hostile_ask(const struct hostile_request *r)
{
	union host_message m;
	int kind;

	hostile_send(r);
	kind = guarded_receive(&shadow, &m, HOST_TIMEOUT_MS);
	if (kind == DS_SHADOW_MESSAGE)
		memcpy(&answered, m.message.payload, sizeof(answered));
	return kind;
}

/* One call.  Return: what the kernel said; INT64_MIN when no answer came. */
__attribute__((unused)) static int64_t hostile_call(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
						    uint64_t f)
{
	const struct hostile_request r = {.op = HOSTILE_CALLS, .ncalls = 1, .call = {{nr, {a, b, c, d, e, f}}}};

	return hostile_ask(&r) == DS_SHADOW_MESSAGE ? answered.result[0] : INT64_MIN;
}

/* The word at @address as the shadow reads it; 0 with *ok false if it cannot. */
__attribute__((unused)) static uint64_t hostile_peek(uint64_t address, bool *ok)
{
	const struct hostile_request r = {.op = HOSTILE_PEEK, .call = {{0, {address}}}};
	uint64_t word;

	*ok = hostile_ask(&r) == DS_SHADOW_MESSAGE && !answered.result[0];
	memcpy(&word, answered.bytes, 8);
	return *ok ? word : 0;
}

/* Whether the shadow could store @word at @address. */
__attribute__((unused)) static bool hostile_poke(uint64_t address, uint64_t word)
{
	const struct hostile_request r = {.op = HOSTILE_POKE, .call = {{0, {address, word}}}};

	return hostile_ask(&r) == DS_SHADOW_MESSAGE && !answered.result[0];
}

#endif
