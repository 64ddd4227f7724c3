/* figdata.c - the data of the figures, as gnuplot reads them (figdata_write() of figure.h)
 *
 * A datablock holds the blocks of all groups, parted by two blank lines; a group without values gets a line of NaN so
 * that the others keep their index.
 */
#include <math.h>

#include "analysis/figure.h"
#include "analysis/fmt.h"
#include "analysis/paper.h"
#include "analysis/stats.h"
#include "analysis/vec.h"
#include "rle/addr.h"

/* Cells of the scatter plot: columns a decade of size, rows over the ratio's 0 to 1. */
#define CELLS_PER_DECADE 32
#define CELL_ROWS 125
#define DENSITY_CLASSES 5
/* Longest time series of a host drawn point by point. */
#define MAX_MOMENTS 1500
/* Up to so many snapshots the points themselves are drawn, not only the line through them. */
#define MARKED_MOMENTS 60

static void block_begin(FILE *f, const char *name)
{
	fprintf(f, "$%s << EOD\n", name);
}

static void block_end(FILE *f)
{
	fputs("EOD\n", f);
}

/* Host names end up in a script: only harmless characters, in quotes that know no escapes.  The backslash is for the
 * text layout, in which a bare underscore would lower what follows.
 */
static void put_name(FILE *f, const char *name)
{
	for (; *name; name++) {
		if (*name == '_')
			fputs("\\_", f);
		else
			putc((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') || (*name >= '0' && *name <= '9') || *name == '.' || *name == '-' ? *name : '?', f);
	}
}

static void put_names(FILE *f, const struct summary *s)
{
	size_t n = figure_groups(s);

	fprintf(f, "ngroups = %zu\narray NAME[%zu]\n", n, n);
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "NAME[%zu] = '", i + 1);
		put_name(f, figure_group(s, i)->name);
		fputs("'\n", f);
	}
}

static double decade_above(double v)
{
	double edge = 10;

	while (edge < v)
		edge *= 10;
	return edge;
}

static int put_cdf(FILE *f, const struct summary *s, const char *name, enum summary_var var, bool log_x, double max_x)
{
	cleanup_free struct stats_point *point = malloc(STATS_CDF_MAX * sizeof(*point));

	if (!point)
		return -ENOMEM;
	block_begin(f, name);
	for (size_t i = 0; i < figure_groups(s); i++) {
		const struct summary_group *g = figure_group(s, i);
		size_t total = g->nsorted[var], n = stats_cdf(g->sorted[var], total, log_x, max_x, point);

		fputs(i ? "\n\n" : "", f);
		if (n == 0)
			fputs("NaN NaN\n", f);
		else
			fprintf(f, "%s 0\n", fmt_real(point[0].x).s);
		for (size_t k = 0; k < n; k++)
			/* zero has no place on a logarithmic axis; the next point carries its count */
			if (!log_x || point[k].x >= 1)
				fprintf(f, "%s %.4f\n", fmt_real(point[k].x).s, 100 * (double)point[k].count / (double)total);
		if (n)
			fprintf(f, "%s 100\n", fmt_real(max_x).s);
	}
	block_end(f);
	return 0;
}

static void put_paper(FILE *f, bool ratio)
{
	block_begin(f, "paper");
	for (int i = 0; i < PAPER_NMACHINES; i++) {
		const struct paper_machine *p = &paper_machine[i];

		fprintf(f, "%s%g 95\n%g 99\n", i ? "\n\n" : "", ratio ? p->ratio_p95 : p->runs_p95, ratio ? p->ratio_p99 : p->runs_p99);
	}
	block_end(f);
}

/* Right end of the axis of sizes: the decade above the largest, and room for the paper's 88,000. */
static double size_axis(const struct summary *s)
{
	double most = s->group[0].var[VAR_RAW].q[P100];

	return decade_above(most > 100000 ? most : 100000);
}

static unsigned int density_class(uint32_t count)
{
	unsigned int c = 0;

	for (; count >= 10 && c + 2 < DENSITY_CLASSES; count /= 10)
		c++;
	return c + (count > 1 || c > 0);
}

/* The cells of one group, or of one class of density when there is one group only. */
static void put_cells(FILE *f, const uint32_t *cell, size_t columns, int only_class)
{
	bool any = false;

	for (size_t col = 0; col < columns; col++)
		for (size_t r = 0; r < CELL_ROWS; r++) {
			uint32_t count = cell[col * CELL_ROWS + r];

			if (!count || (only_class >= 0 && density_class(count) != (unsigned int)only_class))
				continue;
			fprintf(f, "%.4g %.6g\n", pow(10, (0.5 + (double)col) / CELLS_PER_DECADE), (0.5 + (double)r) / CELL_ROWS);
			any = true;
		}
	if (!any)
		fputs("NaN NaN\n", f);
}

static int put_scatter(FILE *f, const struct summary *s)
{
	const struct dataset *d = s->d;
	size_t groups = figure_groups(s), columns = (size_t)(log10(size_axis(s)) * CELLS_PER_DECADE + 0.5);
	cleanup_free uint32_t *cell = malloc(columns * CELL_ROWS * sizeof(*cell));

	if (!cell)
		return -ENOMEM;
	block_begin(f, "cells");
	for (size_t g = 0; g < groups; g++) {
		memset(cell, 0, columns * CELL_ROWS * sizeof(*cell));
		for (size_t i = 0; i < d->nsamples; i++) {
			const struct dataset_sample *x = &d->sample[i];
			size_t col, r;

			if (!x->pte_present || (groups > 1 && d->snapshot[x->snapshot].host != g))
				continue;
			col = (size_t)(log10((double)x->pte_present) * CELLS_PER_DECADE);
			r = (size_t)(summary_ratio(x) * CELL_ROWS);
			cell[(col < columns ? col : columns - 1) * CELL_ROWS + (r < CELL_ROWS ? r : CELL_ROWS - 1)]++;
		}
		fputs(g ? "\n\n" : "", f);
		for (int c = 0; c < DENSITY_CLASSES && groups == 1; c++) {
			fputs(c ? "\n\n" : "", f);
			put_cells(f, cell, columns, c);
		}
		if (groups > 1)
			put_cells(f, cell, columns, -1);
	}
	block_end(f);
	return 0;
}

static void put_lengths(FILE *f, const struct summary *s, const char *name, bool by_pages, unsigned int bins)
{
	block_begin(f, name);
	for (size_t i = 0; i < figure_groups(s); i++) {
		const struct dataset_totals *t = &figure_group(s, i)->t;
		const struct hist *h = by_pages ? &t->hist_pages : &t->hist_runs;
		uint64_t total = hist_total(h);

		fputs(i ? "\n\n" : "", f);
		if (!total)
			fputs("NaN NaN\n", f);
		for (unsigned int b = 0; b <= bins && total; b++)
			fprintf(f, "%.0f %.4f\n", ldexp(DS_PAGE_BYTES / 1024.0, (int)b), 100 * (double)hist_shorter(h, b) / (double)total);
	}
	block_end(f);
}

/* One host's moments; neighbours in a long series become their mean. */
static void put_moments(FILE *f, const struct summary_moment *m, size_t n)
{
	size_t step = (n + MAX_MOMENTS - 1) / MAX_MOMENTS;

	for (size_t i = 0; i < n; i += step) {
		double time_s = 0, pages = 0, runs = 0, p50 = 0, p95 = 0;
		size_t k = 0, ratios = 0;

		for (; k < step && i + k < n; k++) {
			time_s += m[i + k].time_s - m[i].time_s;
			pages += (double)m[i + k].pages;
			runs += (double)m[i + k].runs;
			if (!isnan(m[i + k].ratio_p50)) {
				p50 += m[i + k].ratio_p50;
				p95 += m[i + k].ratio_p95;
				ratios++;
			}
		}
		fprintf(f, "%.3f %.6g %.6g ", m[i].time_s + time_s / (double)k, pages / (double)k * DS_PAGE_BYTES / (1 << 30), runs / (double)k);
		if (ratios)
			fprintf(f, "%.6g %.6g\n", p50 / (double)ratios, p95 / (double)ratios);
		else
			fputs("NaN NaN\n", f);
	}
}

/* 1, 2 or 5 times a power of ten, so that @most needs about four steps. */
static double nice_step(double most)
{
	double unit = most > 0 ? pow(10, floor(log10(most / 4))) : 1, n = most / 4 / unit;

	return unit * (n <= 1 ? 1 : n <= 2 ? 2 : n <= 5 ? 5 : 10);
}

/* Seconds between tics on a time axis: at most seven, at round times. */
static double time_step(double span)
{
	static const double step[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000};
	size_t last = sizeof(step) / sizeof(step[0]) - 1;

	for (size_t i = 0; i < last; i++)
		if (span / step[i] <= 7)
			return step[i];
	return step[last] * ceil(span / step[last] / 7);
}

static void put_steps(FILE *f, const struct summary *s)
{
	double pages = 0, runs = 0, ratio = 0;

	for (size_t i = 0; i < s->nmoments; i++) {
		pages = fmax(pages, (double)s->moment[i].pages);
		runs = fmax(runs, (double)s->moment[i].runs);
		ratio = fmax(ratio, s->moment[i].ratio_p95);
	}
	fprintf(f, "memory_step = %g\nruns_step = %g\nratio_step = %g\n", nice_step(pages * DS_PAGE_BYTES / (1 << 30)), nice_step(runs), nice_step(ratio));
}

static void put_series(FILE *f, const struct summary *s)
{
	double span = s->last_s - s->first_s, pad = span > 0 ? span * 0.01 : 30;
	const char *format = span < 600 ? "%H:%M:%S" : span < 86400 ? "%H:%M" : span < 5 * 86400 ? "%d %b\\n%H:%M" : span < 200 * 86400.0 ? "%d %b" : "%b %Y";
	size_t lines = 0;

	block_begin(f, "moments");
	for (size_t i = 0, n; i < s->nmoments; i += n, lines++) {
		for (n = 1; i + n < s->nmoments && s->moment[i + n].host == s->moment[i].host; n++)
			;
		fputs(lines ? "\n\n" : "", f);
		put_moments(f, &s->moment[i], n);
	}
	block_end(f);
	fprintf(f, "nlines = %zu\ntmin = %.3f\ntmax = %.3f\ntformat = \"%s\"\npoints_shown = %d\n", lines, s->first_s - pad, s->last_s + pad, format,
		s->nmoments <= MARKED_MOMENTS * lines);
	fprintf(f, "tstep = %g\n", time_step(span + 2 * pad));
	put_steps(f, s);
	/* a clock without its day says the day once, below the axis */
	if (span < 86400)
		fprintf(f, "tlabel = \"time (UTC), %.10s\"\n", fmt_time(s->first_s).s);
	else
		fprintf(f, "tlabel = \"time (UTC), from %.10s\"\n", fmt_time(s->first_s).s);
}

int figdata_write(FILE *f, const struct summary *s, enum figure_id id)
{
	double axis = size_axis(s);
	unsigned int bins = hist_used(&s->group[0].t.hist_runs);
	int rc = 0;

	put_names(f, s);
	switch (id) {
	case FIGURE_ENTRIES:
		fprintf(f, "xmax = %g\n", axis);
		rc = put_cdf(f, s, "raw", VAR_RAW, true, axis);
		if (rc == 0)
			rc = put_cdf(f, s, "runs", VAR_RUNS, true, axis);
		put_paper(f, false);
		return rc;
	case FIGURE_RATIO:
		rc = put_cdf(f, s, "ratio", VAR_RATIO, false, 1);
		put_paper(f, true);
		return rc;
	case FIGURE_SIZE:
		fprintf(f, "xmax = %g\n", axis);
		return put_scatter(f, s);
	case FIGURE_LENGTHS:
		/* at least to 4 MiB, so that the marks at 64 KiB and 2 MiB are always there */
		bins = bins < 10 ? 10 : bins;
		fprintf(f, "xmax = %.0f\n", ldexp(DS_PAGE_BYTES / 1024.0, (int)bins));
		put_lengths(f, s, "byruns", false, bins);
		put_lengths(f, s, "bypages", true, bins);
		return 0;
	default:
		put_series(f, s);
		return 0;
	}
}
