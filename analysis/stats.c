/* stats.c - order statistics, correlation and distribution functions (see stats.h) */
#include "analysis/stats.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void stats_sort(double *v, size_t n)
{
	if (n)
		qsort(v, n, sizeof(*v), compare_double);
}

double stats_quantile(const double *sorted, size_t n, unsigned int percent)
{
	size_t rank;

	if (n == 0)
		return NAN;
	/* ceil(percent * n / 100) without a product that could overflow */
	rank = n / 100 * percent + (n % 100 * percent + 99) / 100;
	return sorted[rank ? rank - 1 : 0];
}

size_t stats_share_upto(const double *sorted, size_t n, double limit)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (sorted[mid] <= limit)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* A sum that carries what each addition rounds away (Neumaier): a million terms keep the precision of one. */
struct sum {
	long double s, rest;
};

static void sum_add(struct sum *a, long double v)
{
	long double t = a->s + v;

	a->rest += fabsl(a->s) >= fabsl(v) ? (a->s - t) + v : (v - t) + a->s;
	a->s = t;
}

static long double sum_value(const struct sum *a)
{
	return a->s + a->rest;
}

double stats_pearson(const double *x, const double *y, size_t n)
{
	struct sum sx = {0}, sy = {0}, sxx = {0}, syy = {0}, sxy = {0};
	long double mx, my, dxx, dyy, r;

	if (n < 2)
		return NAN;
	for (size_t i = 0; i < n; i++) {
		sum_add(&sx, x[i]);
		sum_add(&sy, y[i]);
	}
	mx = sum_value(&sx) / n;
	my = sum_value(&sy) / n;
	/* Deviations first, products after: with n*sum(xy) - sum(x)*sum(y) large sizes would cancel all digits. */
	for (size_t i = 0; i < n; i++) {
		sum_add(&sxx, (x[i] - mx) * (x[i] - mx));
		sum_add(&syy, (y[i] - my) * (y[i] - my));
		sum_add(&sxy, (x[i] - mx) * (y[i] - my));
	}
	dxx = sum_value(&sxx);
	dyy = sum_value(&syy);
	/* Equal values whose mean was rounded leave a crumb of variance: that is no variance. */
	if (dxx <= 1e-30L * mx * mx * n || dyy <= 1e-30L * my * my * n)
		return NAN;
	r = sum_value(&sxy) / (sqrtl(dxx) * sqrtl(dyy));
	return r > 1 ? 1 : r < -1 ? -1 : (double)r;
}

size_t stats_cdf(const double *sorted, size_t n, bool log_x, double max_x, struct stats_point *out)
{
	double span = log_x ? log10(max_x > 1 ? max_x : 10) : max_x > 0 ? max_x : 1;
	long last_col = -1, last_row = -1;
	size_t npoints = 0;

	for (size_t i = 0; i < n; i++) {
		double place = log_x ? (sorted[i] > 1 ? log10(sorted[i]) : 0) : sorted[i];
		long col, row;

		if (i + 1 < n && sorted[i + 1] == sorted[i])
			continue;
		if (place > span)
			place = span;
		col = (long)(place / span * (STATS_CDF_GRID - 1));
		row = (long)((long double)(i + 1) / n * (STATS_CDF_GRID - 1));
		if (col == last_col && row == last_row && i + 1 < n)
			continue;
		if (npoints < STATS_CDF_MAX)
			out[npoints++] = (struct stats_point){sorted[i], i + 1};
		last_col = col;
		last_row = row;
	}
	return npoints;
}
