/* median.h - the clock of a measurement, the middle of its rounds, and a round in a process of its own */
#ifndef TESTS_BENCH_MEDIAN_H
#define TESTS_BENCH_MEDIAN_H

#include <err.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* bench_now_ns() - Nanoseconds of a clock that is never set. */
static inline double bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* bench_now_us() - The same in microseconds. */
static inline double bench_now_us(void)
{
	return bench_now_ns() / 1e3;
}

static inline int bench_by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* bench_median() - The middle of @n values, of an even number the mean of both; @n is 1 or more.  @v is sorted by it. */
static inline double bench_median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), bench_by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* bench_in_child() - What @work returns, run in a child, whose address space is @work's to ruin; the program ends if it fails. */
static inline double bench_in_child(double (*work)(const void *arg), const void *arg)
{
	double took;
	int pair[2];
	pid_t child;

	if (pipe(pair))
		err(2, "pipe");
	child = fork();
	if (!child) {
		took = work(arg);
		_exit(write(pair[1], &took, sizeof(took)) != sizeof(took));
	}
	close(pair[1]);
	if (child < 0 || read(pair[0], &took, sizeof(took)) != sizeof(took))
		errx(2, "a child that measures failed");
	close(pair[0]);
	waitpid(child, NULL, 0);
	return took;
}

#endif
