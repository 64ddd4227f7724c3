/* random_calls.h - system calls with random numbers and arguments that are not quite random (the idea of trinity)
 *
 * Arguments are drawn from what calls stumble over: descriptors of all kinds, addresses of all kinds, flags, lengths.  Buffers that
 * addresses lead to are filled with the same, so that what is in them (vectors, messages, times) is as odd.
 */
#ifndef TESTS_RANDOM_CALLS_H
#define TESTS_RANDOM_CALLS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/host/jail/filter_group.h"

#define RANDOM_PATHS 64u
#define RANDOM_PATH_BYTES 64u
#define RANDOM_NR_MAX 470u
#define RANDOM_CAPSULE 16u

/** struct random_calls - Where the guest has what. */
struct random_calls {
	uint64_t state;
	uint64_t buffers, buffer_bytes; /* memory that may be written */
	uint64_t paths;			/* RANDOM_PATHS of RANDOM_PATH_BYTES, inside */
	uint64_t read_only;		/* an address that may only be read */
	uint64_t capsule[RANDOM_CAPSULE]; /* pages of the shadow's own; @ncapsule 0: none are used */
	uint32_t ncapsule;
};

static uint64_t random_below(struct random_calls *r, uint64_t below)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

static uint64_t random_argument(struct random_calls *r)
{
	static const uint64_t wild[] = {0, 8, 4096, UINT64_MAX, UINT64_MAX - 4095, UINT64_C(0x7ffffffff000), UINT64_C(0x800000000000),
					UINT64_C(0xffff888000000000), UINT64_C(0xffffffff81000000), UINT64_C(0xffffffffff600000), INT32_MAX,
					(uint64_t)INT64_MIN, UINT32_MAX};

	switch (random_below(r, 16)) {
	case 0: return 0;
	case 1: return random_below(r, 8);
	case 2:
	case 3: return random_below(r, 40);			     /* the guest's descriptors */
	case 4: return random_below(r, 2) ? 4097 + random_below(r, 2) : 4090 + random_below(r, 110); /* the capsule's, and bells */
	case 5: return 4176 + random_below(r, 64);		     /* what was opened */
	case 6: return (uint64_t)-100;				     /* AT_FDCWD */
	case 7:
	case 8: return r->buffers + random_below(r, r->buffer_bytes / 8) * 8;
	case 9:
	case 10: return r->paths + random_below(r, RANDOM_PATHS) * RANDOM_PATH_BYTES;
	case 11: return random_below(r, 2) ? r->read_only : r->buffers + r->buffer_bytes - 1;
	case 12: return r->ncapsule ? r->capsule[random_below(r, r->ncapsule)] + random_below(r, 4096) : random_below(r, 4096);
	case 13: return wild[random_below(r, sizeof(wild) / sizeof(wild[0]))];
	case 14: return UINT64_C(1) << random_below(r, 64);
	default: return random_below(r, UINT64_C(1) << (8 + 8 * random_below(r, 3)));
	}
}

static uint64_t random_number(struct random_calls *r)
{
	const struct filter_grant *grants;
	size_t n;

	if (random_below(r, 3))
		return random_below(r, 50) ? random_below(r, RANDOM_NR_MAX) : random_argument(r);
	grants = filter_grants(&n);
	return grants[random_below(r, n)].nr;
}

/* Fills @here, which is r->buffers as we see it, and the paths in it. */
static void random_fill(struct random_calls *r, uint8_t *here)
{
	static const char *const names[] = {"/data",	  "/data/own",	  "/data/a",	"/data/b",	 "/data/b/c",	     "/data/../..",  "/ro/read",
					    "/ro",	  "own",	  "..",		"../../../..",	 "/proc/self/fd/4097", "/dev/mem", ".",
					    "/data/link", "/data/fifo",	  "/",		"",		 "/proc/self/mem",   "/etc/passwd"};

	for (uint64_t i = 0; i < r->buffer_bytes / 8; i++) {
		const uint64_t word = random_argument(r);

		memcpy(here + 8 * i, &word, 8);
	}
	for (uint32_t i = 0; i < RANDOM_PATHS; i++) {
		char *at = (char *)here + (r->paths - r->buffers) + i * RANDOM_PATH_BYTES;

		strncpy(at, names[random_below(r, sizeof(names) / sizeof(names[0]))], RANDOM_PATH_BYTES - 1);
	}
}

#endif
