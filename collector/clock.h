/* clock.h - the clock of everything that is timed or waited for here */
#ifndef COLLECTOR_CLOCK_H
#define COLLECTOR_CLOCK_H

#include <stdint.h>
#include <time.h>

/** clock_ns() - CLOCK_MONOTONIC in nanoseconds: intervals, and points in time of this boot (clock_gettime(2)). */
static inline uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

#endif
