/* figure.h - the figures of a report
 *
 * Two to four hosts get a curve (or a colour) each, as the paper shows its two machines; one host or more than four are
 * drawn as one.  The time series draws every host for itself, since their snapshots are at different times.
 *
 * Curves are thinned to finer than a pixel (stats_cdf()), a scatter plot to the cells of a grid, a long time series to
 * means of neighbouring snapshots: a figure stays small whatever the number of samples, and what is left out cannot be
 * seen.  All of it depends on the data alone.
 */
#ifndef ANALYSIS_FIGURE_H
#define ANALYSIS_FIGURE_H

#include "analysis/errmsg.h"
#include "analysis/summary.h"

enum figure_id {
	FIGURE_ENTRIES, /* the paper's Figure 2 */
	FIGURE_RATIO,	/* Figure 3 */
	FIGURE_SIZE,	/* Figure 4 */
	FIGURE_LENGTHS,
	FIGURE_TIME,
	FIGURE_CHURN,	/* only where there are pairs of maps; all hosts as one */
	NFIGURES
};

enum figure_format {
	FIGURE_SVG,
	FIGURE_PNG
};

struct figure_info {
	const char *file;    /* name without ending */
	const char *title;
	const char *caption; /* what is drawn and how to read it */
};
extern const struct figure_info figure_info[NFIGURES];

/** Most hosts that get a colour each. */
#define FIGURE_MAX_HOSTS 4

/** figure_drawn() - Whether there is anything to draw.  A summary of churn alone, without a dataset, has one figure. */
bool figure_drawn(const struct summary *s, enum figure_id id);

/** figure_groups() - How many curves of a kind a figure has: hosts told apart, or 1. */
size_t figure_groups(const struct summary *s);

/** figure_group() - The group that curve @i (from 0) shows. */
const struct summary_group *figure_group(const struct summary *s, size_t i);

/**
 * figure_draw() - Draw a figure
 * @s: summary
 * @id: which
 * @format: SVG or PNG
 * @bytes: result, ended by a NUL that is not counted; the caller frees it
 * @len: its bytes
 * @e: on error
 *
 * Return: 0 or -errno (gnuplot_run()).
 */
int figure_draw(const struct summary *s, enum figure_id id, enum figure_format format, char **bytes, size_t *len, struct errmsg *e);

/** figure_write_all() - Draw every figure that has anything in it into a directory, made if it is not there.  Return: 0 or -errno. */
int figure_write_all(const struct summary *s, enum figure_format format, const char *dir, struct errmsg *e);

/** figdata_write() - The variables and datablocks of a figure.  Return: 0 or -ENOMEM; errors of @f stay in it. */
int figdata_write(FILE *f, const struct summary *s, enum figure_id id);

/** churnfig_write() - The same of FIGURE_CHURN, from the pairs alone. */
int churnfig_write(FILE *f, const struct churn_stat *c);

#endif
