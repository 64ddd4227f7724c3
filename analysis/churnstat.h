/* churnstat.h - the numbers of the report's section on churn
 *
 * Computed from the pairs alone (churn.h), so the same from databases and from the CSV of the pairs.
 */
#ifndef ANALYSIS_CHURNSTAT_H
#define ANALYSIS_CHURNSTAT_H

#include "analysis/churn.h"
#include "analysis/summary.h"

enum churn_var {
	CHURN_VAR_CHANGES, /* stretches that changed: calls to follow them */
	CHURN_VAR_RUNS,	   /* of the later map: calls to rebuild all of it */
	CHURN_VAR_PER_RUN, /* changes / runs of the later map, where it has any */
	CHURN_VAR_PAGES,   /* that changed in any way */
	CHURN_VAR_REMOVED,
	CHURN_VAR_ADDED,
	CHURN_VAR_MOVED,
	CHURN_VAR_SHARE,   /* churn_share() */
	CHURN_VAR_SECONDS, /* between the snapshots */
	CHURN_NVARS
};
#define CHURN_NKEPT 2 /* the first so many keep their values, sorted, for the figure */

struct churn_stat {
	size_t pairs, processes, bad;
	size_t same;			/* pairs without any change */
	size_t without[CHURN_NKINDS];	/* pairs without a change of this kind */
	uint64_t pages[CHURN_NKINDS];	/* summed over the pairs */
	uint64_t changes;
	struct summary_quantiles var[CHURN_NVARS];
	double *sorted[CHURN_NKEPT]; /* of @pairs values each */
};

/** churn_kind_name[], churn_var_name[] - As the JSON calls them. */
extern const char *const churn_kind_name[CHURN_NKINDS], *const churn_var_name[CHURN_NVARS];

/**
 * churn_stat_compute() - Compute everything
 * @s: result, to be given to churn_stat_free()
 * @c: with at least one pair; not needed afterwards
 *
 * Return: 0 or -ENOMEM.
 */
int churn_stat_compute(struct churn_stat *s, const struct churn *c);

/** churn_stat_free() - Free what @s holds, and empty it. */
void churn_stat_free(struct churn_stat *s);

#endif
