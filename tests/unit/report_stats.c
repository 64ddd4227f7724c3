/* report_stats - quantiles, distribution functions and correlation against values worked out by hand or the slow way */
#include <math.h>

#include "analysis/stats.h"
#include "tests/tap.h"

/* The definition, word for word: the smallest value with at least percent % of all values <= it. */
static double slow_quantile(const double *v, size_t n, unsigned int percent)
{
	double best = INFINITY;

	for (size_t i = 0; i < n; i++) {
		size_t below = 0;

		for (size_t k = 0; k < n; k++)
			below += v[k] <= v[i];
		if (below * 100 >= percent * n && v[i] < best)
			best = v[i];
	}
	return best;
}

static void test_quantile(void)
{
	static const unsigned int percent[] = {1, 50, 75, 90, 95, 99, 100};
	const double four[] = {1, 2, 3, 4};
	unsigned int state = 12345, wrong = 0;
	double v[260];

	tap_ok(isnan(stats_quantile(four, 0, 50)), "no values, no quantile");
	tap_ok(stats_quantile(four, 1, 1) == 1 && stats_quantile(four, 1, 100) == 1, "one value is every quantile");
	tap_ok(stats_quantile(four, 4, 50) == 2, "the median of 1 2 3 4 is 2: nearest rank, no interpolation");
	tap_ok(stats_quantile(four, 4, 51) == 3 && stats_quantile(four, 4, 75) == 3 && stats_quantile(four, 4, 76) == 4, "just above a rank is the next value");
	for (size_t n = 1; n <= 260; n++) {
		for (size_t i = 0; i < n; i++) {
			state = state * 1664525 + 1013904223;
			v[i] = (state >> 16) % 50; /* many ties */
		}
		stats_sort(v, n);
		for (size_t p = 0; p < sizeof(percent) / sizeof(percent[0]); p++)
			wrong += stats_quantile(v, n, percent[p]) != slow_quantile(v, n, percent[p]);
	}
	tap_eq(wrong, 0, "1820 quantiles of 1 to 260 values with ties agree with the definition");
}

static void test_pearson(void)
{
	const double x[] = {1, 2, 3}, up[] = {10, 20, 30}, down[] = {3, 2, 1}, flat[] = {0.1, 0.1, 0.1}, mixed[] = {1, 3, 2};
	double big[1000], y[1000];

	tap_ok(isnan(stats_pearson(x, up, 1)), "one pair has no correlation");
	tap_ok(isnan(stats_pearson(x, flat, 3)), "a variable that does not vary has none, although the mean of 0.1s is rounded");
	tap_ok(stats_pearson(x, up, 3) == 1 && stats_pearson(x, down, 3) == -1, "a line is 1 or -1, and not a rounding error beyond");
	/* deviations -1 0 1 and -1 1 0: 1 / sqrt(2 * 2) */
	tap_ok(stats_pearson(x, mixed, 3) == 0.5, "1 2 3 with 1 3 2 is 0.5");
	/* a large offset leaves the coefficient alone; sums of raw products would lose it */
	for (int i = 0; i < 1000; i++) {
		big[i] = 4503599627370496.0 + i;
		y[i] = i % 2 ? i : -i;
	}
	double with_offset = stats_pearson(big, y, 1000);
	for (int i = 0; i < 1000; i++)
		big[i] = i;
	tap_ok(fabs(with_offset - stats_pearson(big, y, 1000)) < 1e-15, "2^52 added to one variable changes nothing");
}

static void test_cdf(void)
{
	enum { N = 200000 };
	static double v[N];
	static struct stats_point p[STATS_CDF_MAX];
	unsigned int state = 99;
	size_t n, wrong = 0, gaps = 0;

	const double three[] = {2, 2, 5};
	n = stats_cdf(three, 3, false, 10, p);
	tap_ok(n == 2 && p[0].x == 2 && p[0].count == 2 && p[1].x == 5 && p[1].count == 3, "2 2 5: two of three up to 2, all up to 5");
	tap_eq(stats_cdf(three, 0, true, 10, p), 0, "no values, no points");
	for (size_t i = 0; i < N; i++) {
		state = state * 1664525 + 1013904223;
		v[i] = exp((state >> 8) * (14.0 / (1 << 24)));
	}
	stats_sort(v, N);
	n = stats_cdf(v, N, true, exp(14), p);
	tap_ok(n <= STATS_CDF_MAX && n > STATS_CDF_GRID / 2, "200,000 values become %zu points", n);
	for (size_t i = 0; i < n; i++)
		wrong += stats_share_upto(v, N, p[i].x) != p[i].count;
	tap_eq(wrong, 0, "each point that is left is exact");
	for (size_t i = 1; i < n; i++)
		gaps += (double)(p[i].count - p[i - 1].count) / N > 2.5 / STATS_CDF_GRID;
	tap_eq(gaps, 0, "no step between neighbours is wider than a pixel");
	tap_ok(p[0].x == v[0] && p[n - 1].x == v[N - 1] && p[n - 1].count == N, "first and last value are there");
}

int main(void)
{
	test_quantile();
	test_pearson();
	test_cdf();
	return tap_done();
}
