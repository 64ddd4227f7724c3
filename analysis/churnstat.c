/* churnstat.c - the numbers of the report's section on churn (see churnstat.h) */
#include "analysis/churnstat.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "analysis/stats.h"

const char *const churn_kind_name[CHURN_NKINDS] = {"removed", "added", "moved"};
const char *const churn_var_name[CHURN_NVARS] = {"changes", "runs", "changes_per_run", "changed_pages", "removed_pages", "added_pages",
						 "moved_pages", "changed_share", "seconds"};

static double value(const struct churn_pair *p, enum churn_var var)
{
	switch (var) {
	case CHURN_VAR_CHANGES:
		return (double)p->changes;
	case CHURN_VAR_RUNS:
		return (double)p->runs_after;
	case CHURN_VAR_PER_RUN:
		return p->runs_after ? (double)p->changes / (double)p->runs_after : (double)NAN;
	case CHURN_VAR_PAGES:
		return (double)churn_changed(p);
	case CHURN_VAR_REMOVED:
	case CHURN_VAR_ADDED:
	case CHURN_VAR_MOVED:
		return (double)p->pages[var - CHURN_VAR_REMOVED];
	case CHURN_VAR_SHARE:
		return churn_share(p);
	default:
		return p->seconds;
	}
}

/* Return: the values of a variable, ascending, *n of them; NULL without memory. */
static double *sorted_values(const struct churn *c, enum churn_var var, size_t *n)
{
	double *v = malloc((c->n + 1) * sizeof(*v));

	*n = 0;
	if (!v)
		return NULL;
	for (size_t i = 0; i < c->n; i++) {
		double x = value(&c->pair[i], var);

		if (!isnan(x))
			v[(*n)++] = x;
	}
	stats_sort(v, *n);
	return v;
}

static void count_pairs(struct churn_stat *s, const struct churn *c)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct churn_pair *p = &c->pair[i];

		s->same += p->changes == 0;
		s->changes += p->changes;
		for (int k = 0; k < CHURN_NKINDS; k++) {
			s->without[k] += p->pages[k] == 0;
			s->pages[k] += p->pages[k];
		}
	}
}

int churn_stat_compute(struct churn_stat *s, const struct churn *c)
{
	*s = (struct churn_stat){.pairs = c->n, .processes = c->processes, .bad = c->bad};
	count_pairs(s, c);
	for (int var = 0; var < CHURN_NVARS; var++) {
		double *v = sorted_values(c, (enum churn_var)var, &s->var[var].n);

		if (!v)
			return -ENOMEM;
		for (int p = 0; p < SUMMARY_NPERCENTS; p++)
			s->var[var].q[p] = stats_quantile(v, s->var[var].n, summary_percent[p]);
		if (var < CHURN_NKEPT)
			s->sorted[var] = v;
		else
			free(v);
	}
	return 0;
}

void churn_stat_free(struct churn_stat *s)
{
	for (int i = 0; i < CHURN_NKEPT; i++)
		free(s->sorted[i]);
	*s = (struct churn_stat){0};
}
