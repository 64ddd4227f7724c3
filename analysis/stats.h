/* stats.h - order statistics, correlation and distribution functions
 *
 * Everything here is exact in this sense: a quantile is one of the values, a point of a distribution function is a
 * count divided by a count, and the correlation is computed in two passes with extended precision, so that it agrees
 * with rational arithmetic to the last digits of a double.  Values are doubles; page counts are below 2^53 and so exact.
 */
#ifndef ANALYSIS_STATS_H
#define ANALYSIS_STATS_H

#include <stdbool.h>
#include <stddef.h>

/** stats_sort() - Sort @n values ascending, in place; no NaN among them. */
void stats_sort(double *v, size_t n);

/**
 * stats_quantile() - Nearest-rank quantile
 * @sorted: values, ascending
 * @n: how many
 * @percent: 1 to 100
 *
 * The smallest value v with at least @percent % of the values <= v: the one of rank ceil(@percent * n / 100),
 * computed in integers.  No interpolation: the answer is a value that occurred.
 *
 * Return: the value; NaN when @n is 0.
 */
double stats_quantile(const double *sorted, size_t n, unsigned int percent);

/** stats_share_upto() - How many of the @n ascending values are <= @limit. */
size_t stats_share_upto(const double *sorted, size_t n, double limit);

/**
 * stats_pearson() - Pearson's coefficient of correlation
 * @x: first variable
 * @y: second variable
 * @n: pairs
 *
 * Return: -1 to 1; NaN for fewer than two pairs or a variable that does not vary.
 */
double stats_pearson(const double *x, const double *y, size_t n);

/** struct stats_point - One point of a distribution function: @count values of the whole are <= @x. */
struct stats_point {
	double x;
	size_t count;
};

/** Columns and rows of the grid that a distribution function is thinned to: finer than a figure's pixels. */
#define STATS_CDF_GRID 800
/** Most points that stats_cdf() delivers. */
#define STATS_CDF_MAX (2 * STATS_CDF_GRID + 4)

/**
 * stats_cdf() - Points of the empirical distribution function
 * @sorted: values, ascending, not negative
 * @n: how many
 * @log_x: the figure's x axis is logarithmic (values below 1 share one column), else linear from 0 to @max_x
 * @max_x: right end of the axis
 * @out: room for STATS_CDF_MAX points
 *
 * Every point delivered is exact.  A value is left out only when it lies in the same grid cell as the one delivered
 * before it; the first and the last value are always there.
 *
 * Return: number of points.
 */
size_t stats_cdf(const double *sorted, size_t n, bool log_x, double max_x, struct stats_point *out);

#endif
