/* tables.c - the tables of a report (see tables.h) */
#include "analysis/tables.h"

#include <math.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>

#include "analysis/churnstat.h"
#include "analysis/fmt.h"
#include "analysis/paper.h"
#include "analysis/vec.h"

/* Building goes on after an allocation failed and reports it at the end: rows then have nowhere to go. */
struct build {
	struct tables *out;
	const struct summary *s;
	int rc;
};

static void begin(struct build *b, const char *title, const char *note, unsigned int text_columns)
{
	struct tables *o = b->out;

	if (b->rc == 0)
		b->rc = vec_reserve(&o->t, &o->cap, o->n + 1, sizeof(*o->t));
	if (b->rc == 0)
		o->t[o->n++] = (struct table){.title = title, .note = note, .text_columns = text_columns};
}

/* One row of the table begun last; cells up to a NULL. */
__attribute__((sentinel)) static void row(struct build *b, ...)
{
	struct table *t;
	const char *text;
	va_list ap;
	int i = 0;

	if (b->rc < 0)
		return;
	t = &b->out->t[b->out->n - 1];
	b->rc = vec_reserve(&t->cell, &t->cap, t->nrows + 1, sizeof(*t->cell));
	if (b->rc < 0)
		return;
	memset(t->cell[t->nrows], 0, sizeof(*t->cell));
	va_start(ap, b);
	while ((text = va_arg(ap, const char *)) && i < TABLE_COLUMNS && b->rc == 0)
		if (!(t->cell[t->nrows][i++] = strdup(text)))
			b->rc = -ENOMEM;
	va_end(ap);
	if (t->nrows++ == 0)
		t->ncolumns = i;
}

static void quantile_row(struct build *b, const char *name, const struct summary_quantiles *q, struct fmt (*form)(double))
{
	row(b, name, fmt_count(q->n).s, form(q->q[P50]).s, form(q->q[P75]).s, form(q->q[P90]).s, form(q->q[P95]).s, form(q->q[P99]).s,
	    form(q->q[P100]).s, NULL);
}

#define QUANTILE_HEADER "samples", QUANTILE_PERCENTS
#define QUANTILE_PERCENTS "50 %", "75 %", "90 %", "95 %", "99 %", "100 %", NULL

static void paper_table(struct build *b)
{
	const struct summary *s = b->s;

	begin(b, "Beside the paper", "Percentiles of runs and of the ratio; r is Pearson's correlation of ratio and size (present pages). Paper: Section III.", 1);
	row(b, "", "samples", "runs 95 %", "runs 99 %", "ratio 95 %", "ratio 99 %", "r", NULL);
	for (size_t g = 0; g < s->ngroups; g++) {
		const struct summary_group *x = &s->group[g];
		const double *runs = x->var[VAR_RUNS].q, *ratio = x->var[VAR_RATIO].q;
		const char *name = g ? x->name : s->ngroups > 1 ? "all hosts" : dataset_name(s->d, s->d->host[0].name);

		row(b, name, fmt_count(x->t.samples).s, fmt_number(runs[P95]).s, fmt_number(runs[P99]).s, fmt_ratio(ratio[P95]).s,
		    fmt_ratio(ratio[P99]).s, fmt_signed(x->corr).s, NULL);
	}
	for (int i = 0; i < PAPER_NMACHINES; i++) {
		const struct paper_machine *p = &paper_machine[i];
		char name[40], samples[64], p99[64];

		snprintf(name, sizeof(name), "paper: %s", p->name);
		snprintf(samples, sizeof(samples), ">%s", fmt_number(p->samples_over).s);
		snprintf(p99, sizeof(p99), "%s%s", i == 0 ? "~" : "", fmt_number(p->runs_p99).s);
		row(b, name, samples, fmt_number(p->runs_p95).s, p99, fmt_ratio(p->ratio_p95).s, fmt_ratio(p->ratio_p99).s, fmt_signed(p->corr).s, NULL);
	}
}

static void quantile_tables(struct build *b)
{
	const struct summary_quantiles *v = b->s->group[0].var;

	begin(b, "Quantiles", "Nearest rank: the smallest value that at least so many percent of the samples do not exceed. Entries are present 4 KiB pages; a sample without any has no ratio.", 1);
	row(b, "", QUANTILE_HEADER);
	quantile_row(b, "raw entries", &v[VAR_RAW], fmt_number);
	quantile_row(b, "runs", &v[VAR_RUNS], fmt_number);
	quantile_row(b, "ratio: runs / entries", &v[VAR_RATIO], fmt_ratio);
	quantile_row(b, "runs / mapped pages", &v[VAR_RATIO_MAPPED], fmt_ratio);

	begin(b, "What splits a run", "Runs by VPN and PFN alone (the paper's), split by protection too (what mmap() needs), and by every page attribute.", 1);
	row(b, "", QUANTILE_HEADER);
	quantile_row(b, "VPN and PFN", &v[VAR_RUNS], fmt_number);
	quantile_row(b, "and protection", &v[VAR_RUNS_PROT], fmt_number);
	quantile_row(b, "and attributes", &v[VAR_RUNS_ATTR], fmt_number);

	begin(b, "Runs to cover a share of a process's pages", "Longest runs first.", 1);
	row(b, "", QUANTILE_HEADER);
	quantile_row(b, "50 % of pages", &v[VAR_COVER + COVER_50], fmt_number);
	quantile_row(b, "90 % of pages", &v[VAR_COVER + COVER_90], fmt_number);
	quantile_row(b, "95 % of pages", &v[VAR_COVER + COVER_95], fmt_number);
	quantile_row(b, "99 % of pages", &v[VAR_COVER + COVER_99], fmt_number);
	quantile_row(b, "all pages", &v[VAR_COVER + COVER_100], fmt_number);
}

static void correlation_table(struct build *b)
{
	const struct summary *s = b->s;

	begin(b, "Correlation of ratio and size",
	      "Pearson's r. Samples of one process are alike, as its ratio and its previous one show; the latest sample of each process counts every process once.", 1);
	row(b, "", "all samples", "with log10 size", "latest of each process", "processes", "ratio with its previous", NULL);
	for (size_t g = 0; g < s->ngroups; g++) {
		const struct summary_group *x = &s->group[g];

		row(b, g ? x->name : s->ngroups > 1 ? "all hosts" : dataset_name(s->d, s->d->host[0].name), fmt_signed(x->corr).s, fmt_signed(x->corr_log).s,
		    fmt_signed(x->corr_latest).s, fmt_count(x->nlatest).s, fmt_signed(x->lag).s, NULL);
	}
}

static void churn_tables(struct build *b, const struct churn_stat *c)
{
	static const struct {
		const char *what;
		enum churn_var var;
		struct fmt (*form)(double);
	} line[] = {
		{"changes: calls to follow", CHURN_VAR_CHANGES, fmt_number}, {"runs: calls to rebuild", CHURN_VAR_RUNS, fmt_number},
		{"changes / runs", CHURN_VAR_PER_RUN, fmt_ratio}, {"pages changed", CHURN_VAR_PAGES, fmt_number},
		{"pages removed", CHURN_VAR_REMOVED, fmt_number}, {"pages added", CHURN_VAR_ADDED, fmt_number}, {"pages moved", CHURN_VAR_MOVED, fmt_number},
		{"share of pages changed", CHURN_VAR_SHARE, fmt_ratio}, {"interval, seconds", CHURN_VAR_SECONDS, fmt_seconds},
	};
	static const char *const kind[CHURN_NKINDS] = {"removed", "added", "moved to another frame"};
	uint64_t all = c->pages[CHURN_REMOVED] + c->pages[CHURN_ADDED] + c->pages[CHURN_MOVED];

	begin(b, "Churn: what a mirror has to follow",
	      "Over pairs of maps of a process in consecutive snapshots. Each changed stretch takes about one mmap() or munmap() on a mirror; rebuilding takes "
	      "one for each run. The share is of the pages in either map; where both are empty there is none.", 1);
	row(b, "", "pairs", QUANTILE_PERCENTS);
	for (size_t i = 0; i < sizeof(line) / sizeof(line[0]); i++)
		quantile_row(b, line[i].what, &c->var[line[i].var], line[i].form);

	begin(b, "Churn by kind", "Pages summed over the pairs; and in how many of the pairs there was no change of this kind.", 1);
	row(b, "", "pages", "share of changed", "pairs without", "share of pairs", NULL);
	row(b, "any", fmt_count(all).s, fmt_percent((double)all, (double)all).s, fmt_count(c->same).s, fmt_percent((double)c->same, (double)c->pairs).s, NULL);
	for (int k = 0; k < CHURN_NKINDS; k++)
		row(b, kind[k], fmt_count(c->pages[k]).s, fmt_percent((double)c->pages[k], (double)all).s, fmt_count(c->without[k]).s,
		    fmt_percent((double)c->without[k], (double)c->pairs).s, NULL);
}

int tables_churn(struct tables *out, const struct churn_stat *c)
{
	struct build b = {.out = out};

	*out = (struct tables){0};
	churn_tables(&b, c);
	return b.rc;
}

static void share_row(struct build *b, const char *name, enum column pages, enum column aligned)
{
	const struct dataset_totals *t = &b->s->group[0].t;

	row(b, name, fmt_percent((double)t->sum[pages], (double)t->pages_known[pages]).s,
	    fmt_percent((double)t->sum[aligned], (double)t->pages_known[aligned]).s, NULL);
}

static void length_tables(struct build *b)
{
	const struct dataset_totals *t = &b->s->group[0].t;
	double ends = (double)t->sum[COL_end_vma] + (double)t->sum[COL_end_hole] + (double)t->sum[COL_end_phys];
	static const struct {
		const char *what;
		enum column column;
	} end[] = {{"the mapping ended", COL_end_vma}, {"the next page was not present", COL_end_hole}, {"the next frame was elsewhere", COL_end_phys}};

	begin(b, "Pages in long runs", "Share of all present pages in runs at least so long, and in whole blocks aligned in both VPN and PFN.", 1);
	row(b, "", "in runs", "aligned", NULL);
	share_row(b, ">= 64 KiB", COL_pages_64k, COL_aligned_64k);
	share_row(b, ">= 2 MiB", COL_pages_2m, COL_aligned_2m);
	share_row(b, ">= 1 GiB", COL_pages_1g, COL_aligned_1g);

	begin(b, "Why runs ended", "", 1);
	row(b, "", "runs", "share", NULL);
	for (size_t i = 0; i < sizeof(end) / sizeof(end[0]); i++)
		row(b, end[i].what, fmt_count(t->sum[end[i].column]).s, fmt_percent((double)t->sum[end[i].column], ends).s, NULL);
}

static void kind_table(struct build *b)
{
	static const struct {
		const char *what;
		enum column column;
		bool present;
	} kind[] = {
		{"zero page", COL_zero, true}, {"KSM (merged)", COL_ksm, true}, {"transparent huge", COL_thp, true}, {"hugetlb", COL_hugetlb, true},
		{"device, no struct page", COL_device, true}, {"file or shared", COL_file, true}, {"mapped exactly once", COL_exclusive, true},
		{"swapped out", COL_swapped, false}, {"migrating", COL_migrating, false}, {"guard", COL_guard, false}, {"other marker", COL_marker, false},
	};
	const struct dataset_totals *t = &b->s->group[0].t;
	double snapshots = (double)b->s->d->nsnapshots;

	begin(b, "Kinds of pages", "Summed over processes, so a shared page counts once for each. Share of the present pages where the kind is known; the last four are not present.", 1);
	row(b, "", "mean per snapshot", "share of present", "samples that know", NULL);
	row(b, "present", fmt_pages((double)t->sum[COL_pte_present] / snapshots).s, "100 %", fmt_count(t->known[COL_pte_present]).s, NULL);
	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
		enum column c = kind[i].column;

		if (t->known[c] == 0)
			row(b, kind[i].what, "not recorded", "", "0", NULL);
		else
			row(b, kind[i].what, fmt_pages((double)t->sum[c] / snapshots).s,
			    kind[i].present ? fmt_percent((double)t->sum[c], (double)t->pages_known[c]).s : "", fmt_count(t->known[c]).s, NULL);
	}
}

static void process_row(struct build *b, const struct summary_process *p)
{
	const struct dataset *d = b->s->d;
	const struct dataset_sample *x = p->sample;
	const struct dataset_process *proc = &d->process[x->process];
	char pid[24], uid[24] = "-";

	snprintf(pid, sizeof(pid), "%lld", (long long)proc->pid);
	if (x->uid != INTERN_NONE)
		snprintf(uid, sizeof(uid), "%u", x->uid);
	row(b, dataset_name(d, x->comm), pid, uid, fmt_count(x->runs).s, fmt_count(x->pte_present).s, fmt_ratio(summary_ratio(x)).s,
	    fmt_count(p->samples).s, fmt_time(d->snapshot[x->snapshot].time_s).s, dataset_name(d, d->host[proc->host].name), NULL);
}

static void process_table(struct build *b, const char *title, const char *note, const struct summary_list *l, size_t most)
{
	if (l->n == 0 || most == 0)
		return;
	begin(b, title, note, 1u << 0 | 1u << 7 | 1u << 8);
	row(b, "process", "PID", "UID", "runs", "entries", "ratio", "samples", "at (UTC)", "host", NULL);
	for (size_t i = 0; i < l->n && i < most; i++)
		process_row(b, &l->p[i]);
}

/* The list may be long: as many rows as the others have, but at least ten; the JSON has all. */
static void beyond_table(struct build *b)
{
	size_t most = b->s->by_runs.n > 10 ? b->s->by_runs.n : 10;

	process_table(b, "Beyond 65,530 runs",
		      b->s->beyond.n > most ? "The default of vm.max_map_count is the most maps that a process may have. The list goes on; --json has all of it." :
					      "The default of vm.max_map_count is the most maps that a process may have.",
		      &b->s->beyond, most);
}

static void skip_table(struct build *b, bool samples_filtered)
{
	static const char *const what[NSKIPS] = {"kernel threads", "zombies", "ended in mid-scan", "access denied", "hung their reader", "other errors"};
	const struct summary *s = b->s;

	begin(b, "Processes seen and skipped",
	      samples_filtered ? "Counts of whole snapshots, before --comm, --uid and --cgroup. Skipped processes are in no other number." :
				 "Skipped processes are in no other number.", 1);
	row(b, "", "processes", "share", NULL);
	row(b, "seen", fmt_count(s->seen).s, "", NULL);
	for (int k = 0; k < NSKIPS; k++)
		row(b, what[k], fmt_count(s->skipped[k]).s, fmt_percent((double)s->skipped[k], (double)s->seen).s, NULL);
	for (size_t i = 0; i < s->d->statuses.n; i++) {
		char name[90];

		if (s->d->status_count[i] == 0)
			continue;
		snprintf(name, sizeof(name), "rows recorded as %.60s", intern_text(&s->d->statuses, (uint32_t)i));
		row(b, name, fmt_count(s->d->status_count[i]).s, fmt_percent((double)s->d->status_count[i], (double)s->seen).s, NULL);
	}
}

static const char *or_dash(const char *text)
{
	return *text ? text : "-";
}

static void number_or_dash(char out[24], int64_t v)
{
	snprintf(out, 24, v == COLUMN_NULL ? "-" : "%lld", (long long)v);
}

/* {"64kB":"never","2048kB":"inherit"} as 64kB never, 2048kB inherit */
static void plain_json(char *out, size_t size, const char *json)
{
	size_t n = 0;

	for (; *json && n + 3 < size; json++) {
		if (strchr("{}\"", *json))
			continue;
		out[n++] = *json == ':' ? ' ' : *json;
		if (*json == ',')
			out[n++] = ' ';
	}
	out[n] = '\0';
}

/* Hosts are few: one column of text for each value would be wide, so each setting is a row of (host, what, value). */
static void settings_table(struct build *b)
{
	const struct dataset *d = b->s->d;

	begin(b, "Settings of the machines", "Every combination that occurred, with the snapshots taken under it.", 7);
	row(b, "host", "setting", "value", NULL);
	for (size_t i = 0; i < d->nsettings; i++) {
		const struct dataset_settings_use *u = &d->settings[i];
		const char *host = dataset_name(d, d->host[u->s.host].name);
		char text[400], ksm[24], maps[24];

		if (u->snapshots == 0)
			continue;
		snprintf(text, sizeof(text), "%s, %s to %s", fmt_count(u->snapshots).s, fmt_time(u->first_s).s, fmt_time(u->last_s).s);
		row(b, host, "snapshots", text, NULL);
		row(b, "", "kernel", dataset_name(d, u->s.kernel), NULL);
		row(b, "", "memory", u->s.mem_total_bytes == COLUMN_NULL ? "-" : fmt_bytes((double)u->s.mem_total_bytes).s, NULL);
		snprintf(text, sizeof(text), "%.20s, defrag %.20s, shmem %.20s", or_dash(dataset_name(d, u->s.thp_enabled)),
			 or_dash(dataset_name(d, u->s.thp_defrag)), or_dash(dataset_name(d, u->s.thp_shmem)));
		row(b, "", "transparent huge pages", text, NULL);
		plain_json(text, sizeof(text), or_dash(dataset_name(d, u->s.mthp)));
		row(b, "", "multi-size THP", text, NULL);
		number_or_dash(ksm, u->s.ksm_run);
		number_or_dash(maps, u->s.max_map_count);
		snprintf(text, sizeof(text), "hugetlb pools %s, KSM run %s, vm.max_map_count %s",
			 u->s.hugetlb_total == COLUMN_NULL ? "-" : fmt_pages((double)u->s.hugetlb_total).s, ksm, maps);
		row(b, "", "other", text, NULL);
		snprintf(text, sizeof(text), "dscollect %.20s, join %.20s", or_dash(dataset_name(d, u->s.tool)), or_dash(dataset_name(d, u->s.join_mode)));
		row(b, "", "collector", text, NULL);
	}
}

int tables_build(struct tables *out, const struct summary *s, bool samples_filtered)
{
	struct build b = {.out = out, .s = s};

	*out = (struct tables){0};
	if (s->group[0].t.samples) {
		paper_table(&b);
		quantile_tables(&b);
		correlation_table(&b);
		length_tables(&b);
		kind_table(&b);
		if (s->churn)
			churn_tables(&b, s->churn);
		beyond_table(&b);
		process_table(&b, "Most runs", "Each process once, by its sample with most runs.", &s->by_runs, s->by_runs.n);
		process_table(&b, "Highest ratio", "Each process once, by its sample with the highest ratio; the larger one of equals first.", &s->by_ratio,
			      s->by_ratio.n);
	}
	skip_table(&b, samples_filtered);
	settings_table(&b);
	return b.rc;
}

void tables_free(struct tables *out)
{
	for (size_t i = 0; i < out->n; i++) {
		for (size_t r = 0; r < out->t[i].nrows; r++)
			for (int c = 0; c < TABLE_COLUMNS; c++)
				free(out->t[i].cell[r][c]);
		free(out->t[i].cell);
	}
	free(out->t);
	*out = (struct tables){0};
}
