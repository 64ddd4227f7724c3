/* findings.c - the report in a few sentences (see findings.h) */
#include "analysis/findings.h"

#include <math.h>

#include "analysis/churnstat.h"
#include "analysis/fmt.h"

static void say_runs(const struct summary_group *g, struct finding *f)
{
	const double *runs = g->var[VAR_RUNS].q;

	snprintf(f->claim, sizeof(f->claim), "Half of the process samples need at most %s runs, 95 %% at most %s.", fmt_number(runs[P50]).s,
		 fmt_number(runs[P95]).s);
	snprintf(f->detail, sizeof(f->detail),
		 "%s of %s samples stay below 6,000 runs, where the paper had 95 %% at worst; its 95th percentiles were 5,430 (Murphy) and 2,389 (Hanlon).",
		 fmt_percent((double)g->within_paper, (double)g->t.samples).s, fmt_count(g->t.samples).s);
}

static void say_ratio(const struct summary_group *g, struct finding *f)
{
	const double *ratio = g->var[VAR_RATIO].q;
	double times = 1 / ratio[P50];
	const char *compared = times < 50 ? "less than" : times > 200 ? "more than" : "about";

	snprintf(f->claim, sizeof(f->claim), "The median sample has one run for every %.*f present pages.", times < 2 ? 2 : times < 10 ? 1 : 0, times);
	snprintf(f->detail, sizeof(f->detail),
		 "That is %s the two orders of magnitude that the paper saw. The ratio is %s at the median, %s at the 95th and %s at the 99th "
		 "percentile (Murphy .0844 and .2315, Hanlon .0777 and .1274 at the last two).",
		 compared, fmt_ratio(ratio[P50]).s, fmt_ratio(ratio[P95]).s, fmt_ratio(ratio[P99]).s);
}

static void say_correlation(const struct summary_group *g, struct finding *f)
{
	double r = g->corr;

	if (isnan(r))
		snprintf(f->claim, sizeof(f->claim), "Too little varies here to relate the ratio to the size.");
	else if (fabs(r) < 0.1)
		snprintf(f->claim, sizeof(f->claim), "Ratio and size are hardly related: r = %s.", fmt_signed(r).s);
	else
		snprintf(f->claim, sizeof(f->claim), "Larger processes compress %s%s: r = %s.", fabs(r) < 0.3 ? "slightly " : "",
			 r < 0 ? "better" : "worse", fmt_signed(r).s);
	snprintf(f->detail, sizeof(f->detail),
		 "The paper had -0.097 on both machines. Over the latest sample of each of %s processes r is %s. Samples of one process are alike "
		 "(its ratio and its previous one: r = %s), so the number of samples says little about how certain r is.",
		 fmt_count(g->nlatest).s, fmt_signed(g->corr_latest).s, fmt_signed(g->lag).s);
}

static void say_limit(const struct summary *s, struct finding *f)
{
	const struct summary_list *l = &s->beyond;
	const struct dataset *d = s->d;

	if (l->total == 0) {
		snprintf(f->claim, sizeof(f->claim), "Every process fits into the %s maps that a process may have.", fmt_count(SUMMARY_MAX_MAPS).s);
		snprintf(f->detail, sizeof(f->detail), "The most runs in any sample are %s; vm.max_map_count is 65,530 by default.",
			 fmt_number(s->group[0].var[VAR_RUNS].q[P100]).s);
		return;
	}
	snprintf(f->claim, sizeof(f->claim), "%s of %s processes need%s more than the %s maps that a process may have.",
		 fmt_count(l->total).s, fmt_count(s->group[0].processes).s, l->total == 1 ? "s" : "", fmt_count(SUMMARY_MAX_MAPS).s);
	snprintf(f->detail, sizeof(f->detail),
		 "Largest: %s (PID %lld) with %s runs. vm.max_map_count is 65,530 by default; beyond that an address space cannot be rebuilt run by run.",
		 dataset_name(d, l->p[0].sample->comm), (long long)d->process[l->p[0].sample->process].pid, fmt_count(l->p[0].sample->runs).s);
}

static void say_lengths(const struct summary_group *g, struct finding *f)
{
	const struct dataset_totals *t = &g->t;

	snprintf(f->claim, sizeof(f->claim), "%s of all present pages lie in runs of 2 MiB or more, %s in runs of 64 KiB or more.",
		 fmt_percent((double)t->sum[COL_pages_2m], (double)t->pages_known[COL_pages_2m]).s,
		 fmt_percent((double)t->sum[COL_pages_64k], (double)t->pages_known[COL_pages_64k]).s);
	snprintf(f->detail, sizeof(f->detail), "At the median, %s runs hold half of a process's pages and %s hold 95 %% of them.",
		 fmt_number(g->var[VAR_COVER + COVER_50].q[P50]).s, fmt_number(g->var[VAR_COVER + COVER_95].q[P50]).s);
}

static void say_churn(const struct churn_stat *c, struct finding *f)
{
	const double *changes = c->var[CHURN_VAR_CHANGES].q, *runs = c->var[CHURN_VAR_RUNS].q;

	/* where most maps stay as they are, the median says nothing new */
	if (changes[P50] > 0)
		snprintf(f->claim, sizeof(f->claim), "Between snapshots %s of the maps stay as they are; half need at most %s calls to follow, 95 %% at most %s.",
			 fmt_percent((double)c->same, (double)c->pairs).s, fmt_number(changes[P50]).s, fmt_number(changes[P95]).s);
	else
		snprintf(f->claim, sizeof(f->claim), "Between snapshots %s of the maps stay as they are; 95 %% need at most %s calls to follow.",
			 fmt_percent((double)c->same, (double)c->pairs).s, fmt_number(changes[P95]).s);
	snprintf(f->detail, sizeof(f->detail),
		 "%s pairs of maps of %s processes, at the median %s s apart. Rebuilding the map instead would take %s calls at the median, %s at the 95th percentile. "
		 "The paper leaves open what keeping a map current costs (Section II, Map maintenance).",
		 fmt_count(c->pairs).s, fmt_count(c->processes).s, fmt_seconds(c->var[CHURN_VAR_SECONDS].q[P50]).s, fmt_number(runs[P50]).s, fmt_number(runs[P95]).s);
}

size_t findings_compute(const struct summary *s, struct finding *out)
{
	const struct summary_group *g = &s->group[0];
	size_t n = 0;

	if (g->t.samples == 0)
		return 0;
	say_runs(g, &out[n++]);
	if (g->var[VAR_RATIO].n) {
		say_ratio(g, &out[n++]);
		say_correlation(g, &out[n++]);
	}
	if (g->t.known[COL_pages_2m] && g->var[VAR_COVER].n)
		say_lengths(g, &out[n++]);
	say_limit(s, &out[n++]);
	if (s->churn)
		say_churn(s->churn, &out[n++]);
	return n;
}
