/* churnfig.c - the data of the figure of churn, as gnuplot reads them (churnfig_write() of figure.h) */
#include <errno.h>

#include "analysis/churnstat.h"
#include "analysis/figure.h"
#include "analysis/fmt.h"
#include "analysis/stats.h"
#include "rle/cleanup.h"

/* Where plots/churn.gp draws what has no logarithm. */
#define ZERO_AT 0.4

static double decade_from(double v)
{
	double edge = 100;

	while (edge < v)
		edge *= 10;
	return edge;
}

/* Unlike the other curves this one has points at zero: so many intervals changed nothing. */
static void put_curve(FILE *f, const char *name, const double *sorted, size_t n, double xmax, struct stats_point *point)
{
	size_t points = stats_cdf(sorted, n, true, xmax, point);

	fprintf(f, "$%s << EOD\n%s 0\n", name, point[0].x < 1 ? fmt_real(ZERO_AT).s : fmt_real(point[0].x).s);
	for (size_t i = 0; i < points; i++)
		fprintf(f, "%s %.4f\n", fmt_real(point[i].x < 1 ? ZERO_AT : point[i].x).s, 100 * (double)point[i].count / (double)n);
	fprintf(f, "%s 100\nEOD\n", fmt_real(xmax).s);
}

int churnfig_write(FILE *f, const struct churn_stat *c)
{
	cleanup_free struct stats_point *point = malloc(STATS_CDF_MAX * sizeof(*point));
	double changes = c->var[CHURN_VAR_CHANGES].q[P100], runs = c->var[CHURN_VAR_RUNS].q[P100];
	double xmax = decade_from(changes > runs ? changes : runs);

	if (!point)
		return -ENOMEM;
	fprintf(f, "ngroups = 1\nxmax = %.0f\nZERO = %g\n", xmax, ZERO_AT);
	put_curve(f, "changes", c->sorted[CHURN_VAR_CHANGES], c->pairs, xmax, point);
	put_curve(f, "runs", c->sorted[CHURN_VAR_RUNS], c->pairs, xmax, point);
	return 0;
}
