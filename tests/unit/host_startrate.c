/* host_startrate.c - starts of shadows against an own count: what any span of time lets through, a bucket that fills, no limit */
#include "runtime/host/startrate.h"

#include <stdlib.h>

#include "tests/tap.h"

#define S UINT64_C(1000000000)
#define TRIES 20000u

/* As many as go through now. */
static uint32_t all(struct startrate *r, uint64_t now)
{
	uint32_t n = 0;

	while (n < 10 * STARTRATE_MAX && startrate_take(r, now))
		n++;
	return n;
}

/*
 * Tries at random times; by definition no span of time of any length T has more than burst + rate * T of them, and who tries all the time
 * gets that many.  Spans between any two starts are looked at.
 */
static void test_spans(void)
{
	static uint64_t at[TRIES];
	struct startrate r;
	uint64_t now = 7 * S;
	uint32_t n = 0, over = 0;

	startrate_init(&r, 7, now);
	for (uint32_t i = 0; i < TRIES; i++) {
		now += (uint64_t)rand() % (i % 1000 < 900 ? S / 100 : 3 * S);
		if (startrate_take(&r, now))
			at[n++] = now;
	}
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = i; k < n; k++)
			over += k - i + 1 > 7 * STARTRATE_BURST_S + 7 * (double)(at[k] - at[i]) / (double)S + 1e-6;
	tap_ok(n > 500 && n < TRIES && !over, "no span of time has more starts than it may: %u of %u tries, %u spans too full", n, TRIES, over);
}

int main(void)
{
	struct startrate r;

	startrate_init(&r, 100, 5 * S);
	tap_eq(all(&r, 5 * S), 100 * STARTRATE_BURST_S, "a burst is as large as the bucket");
	tap_eq(all(&r, 5 * S + S / 100 - 1), 0, "a moment later there is none");
	tap_eq(all(&r, 5 * S + S / 100), 1, "after a hundredth of a second one, as the rate says");
	tap_eq(all(&r, 7 * S + S / 100), 200, "after two seconds more two hundred");
	tap_eq(all(&r, 500 * S), 100 * STARTRATE_BURST_S, "and after a long time no more than the bucket holds");
	startrate_init(&r, STARTRATE_MAX, 0);
	all(&r, 0);
	tap_eq(all(&r, UINT64_MAX), STARTRATE_MAX * STARTRATE_BURST_S, "nor after the longest, at the highest rate");
	startrate_init(&r, 0, 0);
	tap_eq(all(&r, 0), 10 * STARTRATE_MAX, "without a limit there is none");
	test_spans();
	return tap_done();
}
