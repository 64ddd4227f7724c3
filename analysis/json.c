/* json.c - the whole report as one JSON object (see json.h) */
#include "analysis/json.h"

#include <json-c/json.h>
#include <math.h>

#include "analysis/churnstat.h"
#include "analysis/findings.h"
#include "analysis/fmt.h"
#include "analysis/paper.h"
#include "analysis/stats.h"
#include "analysis/vec.h"

typedef struct json_object json;

static void add(json *o, const char *key, json *value)
{
	json_object_object_add(o, key, value);
}

static json *count(uint64_t v)
{
	return json_object_new_uint64(v);
}

static json *text(const char *v)
{
	return *v ? json_object_new_string(v) : NULL;
}

/* A double that reads back as itself; null for NaN. */
static json *real(double v)
{
	return isnan(v) ? NULL : json_object_new_double_s(v, fmt_real(v).s);
}

static json *known(int64_t v)
{
	return v == COLUMN_NULL ? NULL : json_object_new_int64(v);
}

static json *skips(const uint64_t skipped[NSKIPS])
{
	static const char *const name[NSKIPS] = {"kernel", "zombie", "vanished", "denied", "timeout", "error"};
	json *o = json_object_new_object();

	for (int k = 0; k < NSKIPS; k++)
		add(o, name[k], count(skipped[k]));
	return o;
}

static json *quantiles(const struct summary_quantiles *q)
{
	json *o = json_object_new_object();

	add(o, "n", count(q->n));
	for (int p = 0; p < SUMMARY_NPERCENTS; p++) {
		char key[8];

		snprintf(key, sizeof(key), "%u", summary_percent[p]);
		add(o, key, real(q->q[p]));
	}
	return o;
}

static json *all_quantiles(const struct summary_group *g, int nvars)
{
	static const char *const name[NVARS] = {"pte_present", "runs", "ratio", "ratio_mapped", "runs_prot", "runs_attr",
						"cover50", "cover90", "cover95", "cover99", "cover100"};
	json *o = json_object_new_object();

	for (int v = 0; v < nvars; v++)
		add(o, name[v], quantiles(&g->var[v]));
	return o;
}

static json *histogram(const struct hist *h, unsigned int bins)
{
	json *a = json_object_new_array();

	for (unsigned int i = 0; i < bins; i++)
		json_object_array_add(a, count(h->bin[i]));
	return a;
}

static json *totals(const struct dataset_totals *t)
{
	static const char *const name[NCOLUMNS] = {
#define X(column) #column,
		COLUMNS(X)
#undef X
	};
	json *o = json_object_new_object();

	for (int c = 0; c < NCOLUMNS; c++) {
		json *x = json_object_new_object();

		add(x, "sum", count(t->sum[c]));
		add(x, "samples", count(t->known[c]));
		add(x, "pte_present", count(t->pages_known[c]));
		add(o, name[c], x);
	}
	return o;
}

static json *cdf_points(const double *sorted, size_t nsorted, bool log_x, double max_x)
{
	cleanup_free struct stats_point *point = malloc(STATS_CDF_MAX * sizeof(*point));
	json *o = json_object_new_object(), *a = json_object_new_array();
	size_t n = point ? stats_cdf(sorted, nsorted, log_x, max_x, point) : 0;

	for (size_t i = 0; i < n; i++) {
		json *pair = json_object_new_array();

		json_object_array_add(pair, real(point[i].x));
		json_object_array_add(pair, count(point[i].count));
		json_object_array_add(a, pair);
	}
	add(o, "n", count(nsorted));
	add(o, "points", a);
	return o;
}

static json *cdf(const struct summary_group *g, enum summary_var var, double max_x)
{
	return cdf_points(g->sorted[var], g->nsorted[var], var != VAR_RATIO, max_x);
}

static json *churn(const struct churn_stat *c)
{
	json *o = json_object_new_object(), *q = json_object_new_object(), *kinds = json_object_new_object(), *d = json_object_new_object();
	double changes = c->var[CHURN_VAR_CHANGES].q[P100], runs = c->var[CHURN_VAR_RUNS].q[P100];

	add(o, "pairs", count(c->pairs));
	add(o, "processes", count(c->processes));
	add(o, "maps_refused", count(c->bad));
	add(o, "seconds_median", real(c->var[CHURN_VAR_SECONDS].q[P50]));
	add(o, "pairs_without_change", count(c->same));
	add(o, "changes", count(c->changes));
	for (int k = 0; k < CHURN_NKINDS; k++) {
		json *x = json_object_new_object();

		add(x, "pages", count(c->pages[k]));
		add(x, "pairs_without", count(c->without[k]));
		add(kinds, churn_kind_name[k], x);
	}
	add(o, "kinds", kinds);
	for (int v = 0; v < CHURN_NVARS; v++)
		add(q, churn_var_name[v], quantiles(&c->var[v]));
	add(o, "quantiles", q);
	add(d, "changes", cdf_points(c->sorted[CHURN_VAR_CHANGES], c->pairs, true, fmax(changes, runs)));
	add(d, "runs", cdf_points(c->sorted[CHURN_VAR_RUNS], c->pairs, true, fmax(changes, runs)));
	add(o, "cdf", d);
	return o;
}

static json *group(const struct summary_group *g, bool whole)
{
	json *o = json_object_new_object(), *r = json_object_new_object(), *c = json_object_new_object();
	unsigned int bins = hist_used(&g->t.hist_runs);

	add(o, "name", text(g->name));
	add(o, "samples", count(g->t.samples));
	add(o, "samples_without_pages", count(g->t.empty));
	add(o, "processes", count(g->processes));
	add(o, "samples_below_6000_runs", count(g->within_paper));
	add(o, "samples_beyond_65530_runs", count(g->beyond_limit));
	add(o, "quantiles", all_quantiles(g, whole ? (int)NVARS : (int)VAR_COVER));
	add(r, "all_samples", real(g->corr));
	add(r, "log10_size", real(g->corr_log));
	add(r, "latest_of_each_process", real(g->corr_latest));
	add(r, "processes", count(g->nlatest));
	add(r, "ratio_with_its_previous", real(g->lag));
	add(r, "pairs", count(g->nlag));
	add(o, "correlation", r);
	add(o, "totals", totals(&g->t));
	add(o, "hist_runs", histogram(&g->t.hist_runs, bins));
	add(o, "hist_pages", histogram(&g->t.hist_pages, bins));
	add(c, "pte_present", cdf(g, VAR_RAW, g->var[VAR_RAW].q[P100]));
	add(c, "runs", cdf(g, VAR_RUNS, g->var[VAR_RAW].q[P100]));
	add(c, "ratio", cdf(g, VAR_RATIO, 1));
	add(o, "cdf", c);
	return o;
}

static json *process_list(const struct summary *s, const struct summary_list *l)
{
	const struct dataset *d = s->d;
	json *a = json_object_new_array();

	for (size_t i = 0; i < l->n; i++) {
		const struct dataset_sample *x = l->p[i].sample;
		const struct dataset_process *p = &d->process[x->process];
		json *o = json_object_new_object();

		add(o, "host", text(dataset_name(d, d->host[p->host].name)));
		add(o, "pid", json_object_new_int64(p->pid));
		add(o, "start_ticks", json_object_new_int64(p->start_ticks));
		add(o, "comm", text(dataset_name(d, x->comm)));
		add(o, "uid", x->uid == INTERN_NONE ? NULL : count(x->uid));
		add(o, "cgroup", text(dataset_name(d, x->cgroup)));
		add(o, "runs", count(x->runs));
		add(o, "pte_present", count(x->pte_present));
		add(o, "pages_mapped", known(x->pages_mapped));
		add(o, "ratio", real(summary_ratio(x)));
		add(o, "samples", count(l->p[i].samples));
		add(o, "time", real(d->snapshot[x->snapshot].time_s));
		json_object_array_add(a, o);
	}
	return a;
}

static json *paper(void)
{
	json *a = json_object_new_array();

	for (int i = 0; i < PAPER_NMACHINES; i++) {
		const struct paper_machine *p = &paper_machine[i];
		json *o = json_object_new_object();

		add(o, "name", text(p->name));
		add(o, "machine", text(p->what));
		add(o, "samples_over", real(p->samples_over));
		add(o, "runs_p95", real(p->runs_p95));
		add(o, "runs_p99", real(p->runs_p99));
		add(o, "ratio_p95", real(p->ratio_p95));
		add(o, "ratio_p99", real(p->ratio_p99));
		add(o, "correlation", real(p->corr));
		json_object_array_add(a, o);
	}
	return a;
}

static json *hosts(const struct dataset *d)
{
	json *a = json_object_new_array();

	for (size_t i = 0; i < d->nhosts; i++) {
		const struct dataset_host *h = &d->host[i];
		json *o = json_object_new_object();

		add(o, "host", text(dataset_name(d, h->name)));
		add(o, "boots", count(h->boots));
		add(o, "snapshots", count(h->snapshots));
		add(o, "first", real(h->first_s));
		add(o, "last", real(h->last_s));
		add(o, "seen", count(h->seen));
		add(o, "sampled", count(h->sampled));
		add(o, "skipped", skips(h->skipped));
		add(o, "mean_distinct_pages", h->distinct_known ? real(h->distinct_pages_sum / (double)h->distinct_known) : NULL);
		json_object_array_add(a, o);
	}
	return a;
}

static json *settings(const struct dataset *d)
{
	json *a = json_object_new_array();

	for (size_t i = 0; i < d->nsettings; i++) {
		const struct dataset_settings_use *u = &d->settings[i];
		const char *mthp = dataset_name(d, u->s.mthp);
		json *o = json_object_new_object(), *parsed = *mthp ? json_tokener_parse(mthp) : NULL;

		add(o, "host", text(dataset_name(d, d->host[u->s.host].name)));
		add(o, "snapshots", count(u->snapshots));
		add(o, "first", real(u->first_s));
		add(o, "last", real(u->last_s));
		add(o, "kernel", text(dataset_name(d, u->s.kernel)));
		add(o, "tool", text(dataset_name(d, u->s.tool)));
		add(o, "join_mode", text(dataset_name(d, u->s.join_mode)));
		add(o, "thp_enabled", text(dataset_name(d, u->s.thp_enabled)));
		add(o, "thp_defrag", text(dataset_name(d, u->s.thp_defrag)));
		add(o, "thp_shmem", text(dataset_name(d, u->s.thp_shmem)));
		add(o, "mthp", parsed);
		add(o, "page_size", known(u->s.page_bytes));
		add(o, "mem_total_bytes", known(u->s.mem_total_bytes));
		add(o, "ksm_run", known(u->s.ksm_run));
		add(o, "hugetlb_total", known(u->s.hugetlb_total));
		add(o, "max_map_count", known(u->s.max_map_count));
		json_object_array_add(a, o);
	}
	return a;
}

static json *time_series(const struct summary *s)
{
	json *a = json_object_new_array();

	for (size_t i = 0; i < s->nmoments; i++) {
		const struct summary_moment *m = &s->moment[i];
		json *o = json_object_new_object();

		add(o, "host", text(dataset_name(s->d, s->d->host[m->host].name)));
		add(o, "time", real(m->time_s));
		add(o, "samples", count(m->samples));
		add(o, "pte_present", count(m->pages));
		add(o, "runs", count(m->runs));
		add(o, "ratio_p50", real(m->ratio_p50));
		add(o, "ratio_p95", real(m->ratio_p95));
		json_object_array_add(a, o);
	}
	return a;
}

static json *statuses(const struct dataset *d)
{
	json *o = json_object_new_object();

	for (size_t i = 0; i < d->statuses.n; i++)
		if (d->status_count[i])
			add(o, intern_text(&d->statuses, (uint32_t)i), count(d->status_count[i]));
	return o;
}

static json *findings(const struct summary *s)
{
	struct finding f[FINDINGS_MAX];
	size_t n = findings_compute(s, f);
	json *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		json *o = json_object_new_object();

		add(o, "claim", text(f[i].claim));
		add(o, "detail", text(f[i].detail));
		json_object_array_add(a, o);
	}
	return a;
}

static int write_object(FILE *f, json *o)
{
	const char *written = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (written)
		fprintf(f, "%s\n", written);
	json_object_put(o);
	return written ? 0 : -ENOMEM;
}

int json_churn_report(FILE *f, const struct churn_stat *c)
{
	json *o = json_object_new_object();

	if (!o)
		return -ENOMEM;
	add(o, "tool", text("dsreport " DS_VERSION));
	add(o, "churn", churn(c));
	return write_object(f, o);
}

int json_report(FILE *f, const struct summary *s)
{
	const struct dataset *d = s->d;
	json *o = json_object_new_object(), *groups = json_object_new_array();

	if (!o || !groups)
		return -ENOMEM;
	add(o, "tool", text("dsreport " DS_VERSION));
	add(o, "first", real(s->first_s));
	add(o, "last", real(s->last_s));
	add(o, "first_iso", text(fmt_iso(s->first_s).s));
	add(o, "last_iso", text(fmt_iso(s->last_s).s));
	add(o, "snapshots", count(d->nsnapshots));
	add(o, "duplicate_snapshots", count(d->duplicates));
	add(o, "samples", count(s->group[0].t.samples));
	add(o, "boots", count(s->boots));
	add(o, "processes_seen", count(s->seen));
	add(o, "skipped", skips(s->skipped));
	add(o, "samples_by_other_status", statuses(d));
	add(o, "findings", findings(s));
	add(o, "paper", paper());
	add(o, "hosts", hosts(d));
	for (size_t g = 0; g < s->ngroups; g++)
		json_object_array_add(groups, group(&s->group[g], g == 0));
	add(o, "groups", groups);
	add(o, "beyond_65530_runs", process_list(s, &s->beyond));
	add(o, "top_runs", process_list(s, &s->by_runs));
	add(o, "top_ratio", process_list(s, &s->by_ratio));
	add(o, "settings", settings(d));
	add(o, "time_series", time_series(s));
	if (s->churn)
		add(o, "churn", churn(s->churn));
	return write_object(f, o);
}
