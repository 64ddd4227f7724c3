/* summary.c - what a report says, as numbers (see summary.h) */
#include "analysis/summary.h"

#include <math.h>

#include "analysis/stats.h"
#include "analysis/vec.h"

const unsigned int summary_percent[SUMMARY_NPERCENTS] = SUMMARY_PERCENTS;
#define ALL_HOSTS UINT32_MAX

double summary_ratio(const struct dataset_sample *x)
{
	return x->pte_present ? (double)x->runs / (double)x->pte_present : (double)NAN;
}

static double known(int64_t v)
{
	return v == COLUMN_NULL ? (double)NAN : (double)v;
}

static double value_of(const struct dataset_sample *x, enum summary_var var)
{
	switch (var) {
	case VAR_RAW:
		return (double)x->pte_present;
	case VAR_RUNS:
		return (double)x->runs;
	case VAR_RATIO:
		return summary_ratio(x);
	case VAR_RATIO_MAPPED:
		return x->pages_mapped > 0 ? (double)x->runs / (double)x->pages_mapped : (double)NAN;
	case VAR_RUNS_PROT:
		return known(x->runs_prot);
	case VAR_RUNS_ATTR:
		return known(x->runs_attr);
	default:
		return known(x->cover[var - VAR_COVER]);
	}
}

static bool in_group(const struct dataset *d, const struct dataset_sample *x, uint32_t host)
{
	return host == ALL_HOSTS || d->snapshot[x->snapshot].host == host;
}

static int compute_variable(const struct dataset *d, uint32_t host, struct summary_group *g, enum summary_var var)
{
	double *v = malloc((d->nsamples + 1) * sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < d->nsamples; i++) {
		double value = value_of(&d->sample[i], var);

		if (!isnan(value) && in_group(d, &d->sample[i], host))
			v[n++] = value;
	}
	stats_sort(v, n);
	g->var[var].n = n;
	for (int p = 0; p < SUMMARY_NPERCENTS; p++)
		g->var[var].q[p] = stats_quantile(v, n, summary_percent[p]);
	if (var == VAR_RUNS) {
		g->within_paper = stats_share_upto(v, n, SUMMARY_PAPER_MAPS - 1);
		g->beyond_limit = n - stats_share_upto(v, n, SUMMARY_MAX_MAPS);
	}
	if (var < SUMMARY_NKEPT) {
		g->sorted[var] = v;
		g->nsorted[var] = n;
	} else {
		free(v);
	}
	return 0;
}

/* Correlations over the samples of a group that have a ratio. */
static int compute_correlations(const struct dataset *d, uint32_t host, struct summary_group *g)
{
	cleanup_free double *size = malloc((d->nsamples + 1) * sizeof(*size)), *ratio = malloc((d->nsamples + 1) * sizeof(*ratio));
	cleanup_free uint32_t *last = malloc((d->nprocesses + 1) * sizeof(*last));
	size_t n = 0;

	if (!size || !ratio || !last)
		return -ENOMEM;
	memset(last, 0xff, (d->nprocesses + 1) * sizeof(*last));
	for (size_t i = 0; i < d->nsamples; i++)
		if (d->sample[i].pte_present && in_group(d, &d->sample[i], host)) {
			size[n] = (double)d->sample[i].pte_present;
			ratio[n++] = summary_ratio(&d->sample[i]);
		}
	g->corr = stats_pearson(ratio, size, n);
	for (size_t i = 0; i < n; i++)
		size[i] = log10(size[i]);
	g->corr_log = stats_pearson(ratio, size, n);

	/* pairs of a ratio and the same process's one before; snapshots rise in time */
	n = 0;
	for (size_t i = 0; i < d->nsamples; i++) {
		const struct dataset_sample *x = &d->sample[i];

		if (!x->pte_present || !in_group(d, x, host))
			continue;
		if (last[x->process] != UINT32_MAX) {
			size[n] = summary_ratio(&d->sample[last[x->process]]);
			ratio[n++] = summary_ratio(x);
		}
		last[x->process] = (uint32_t)i;
	}
	g->lag = stats_pearson(ratio, size, n);
	g->nlag = n;

	n = 0;
	for (size_t p = 0; p < d->nprocesses; p++)
		if (last[p] != UINT32_MAX) {
			size[n] = (double)d->sample[last[p]].pte_present;
			ratio[n++] = summary_ratio(&d->sample[last[p]]);
		}
	g->corr_latest = stats_pearson(ratio, size, n);
	g->nlatest = n;
	return 0;
}

static int count_processes(const struct dataset *d, uint32_t host, size_t *count)
{
	cleanup_free bool *seen = calloc(d->nprocesses + 1, sizeof(*seen));

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < d->nsamples; i++)
		if (in_group(d, &d->sample[i], host) && !seen[d->sample[i].process]) {
			seen[d->sample[i].process] = true;
			(*count)++;
		}
	return 0;
}

static int compute_group(const struct dataset *d, uint32_t host, struct summary_group *g)
{
	int nvars = host == ALL_HOSTS ? (int)NVARS : (int)VAR_COVER;
	int rc = count_processes(d, host, &g->processes);

	for (int var = 0; var < nvars && rc == 0; var++)
		rc = compute_variable(d, host, g, (enum summary_var)var);
	return rc < 0 ? rc : compute_correlations(d, host, g);
}

static int compare_moment(const void *pa, const void *pb)
{
	const struct summary_moment *a = pa, *b = pb;

	if (a->host != b->host)
		return a->host < b->host ? -1 : 1;
	return (a->time_s > b->time_s) - (a->time_s < b->time_s);
}

static int compute_moments(struct summary *s)
{
	const struct dataset *d = s->d;
	cleanup_free double *ratio = malloc((d->nsamples + 1) * sizeof(*ratio));

	s->moment = calloc(d->nsnapshots + 1, sizeof(*s->moment));
	if (!ratio || !s->moment)
		return -ENOMEM;
	for (size_t i = 0; i < d->nsnapshots; i++) {
		const struct dataset_snapshot *snap = &d->snapshot[i];
		struct summary_moment *m = &s->moment[s->nmoments++];
		size_t n = 0;

		*m = (struct summary_moment){.host = snap->host, .time_s = snap->time_s, .samples = snap->n};
		for (size_t k = 0; k < snap->n; k++) {
			const struct dataset_sample *x = &d->sample[snap->first + k];

			m->pages += x->pte_present;
			m->runs += x->runs;
			if (x->pte_present)
				ratio[n++] = summary_ratio(x);
		}
		stats_sort(ratio, n);
		m->ratio_p50 = stats_quantile(ratio, n, 50);
		m->ratio_p95 = stats_quantile(ratio, n, 95);
	}
	qsort(s->moment, s->nmoments, sizeof(*s->moment), compare_moment);
	return 0;
}

int summary_compute(struct summary *s, const struct dataset *d, size_t top)
{
	int rc = 0;

	*s = (struct summary){.d = d, .first_s = d->snapshot[0].time_s, .last_s = d->snapshot[d->nsnapshots - 1].time_s};
	s->group = calloc(d->nhosts + 1, sizeof(*s->group));
	if (!s->group)
		return -ENOMEM;
	s->ngroups = d->nhosts > 1 ? d->nhosts + 1 : 1;
	s->group[0].name = "all";
	for (size_t h = 0; h < d->nhosts; h++) {
		s->boots += d->host[h].boots;
		s->seen += d->host[h].seen;
		for (int k = 0; k < NSKIPS; k++)
			s->skipped[k] += d->host[h].skipped[k];
		dataset_totals_add(&s->group[0].t, &d->host[h].t);
		if (d->nhosts > 1) {
			s->group[h + 1].name = dataset_name(d, d->host[h].name);
			s->group[h + 1].t = d->host[h].t;
		}
	}
	for (size_t g = 0; g < s->ngroups && rc == 0; g++)
		rc = compute_group(d, g ? (uint32_t)g - 1 : ALL_HOSTS, &s->group[g]);
	if (rc == 0)
		rc = compute_moments(s);
	return rc < 0 ? rc : summary_lists(s, top);
}

void summary_free(struct summary *s)
{
	for (size_t g = 0; g < s->ngroups; g++)
		for (int k = 0; k < SUMMARY_NKEPT; k++)
			free(s->group[g].sorted[k]);
	free(s->group);
	free(s->by_runs.p);
	free(s->by_ratio.p);
	free(s->beyond.p);
	free(s->moment);
	*s = (struct summary){0};
}
