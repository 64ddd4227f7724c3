/* dsreport.c - main of the study's report: databases in, text, CSV, JSON, figures and page out
 *
 * The order is: read the command line, read the databases into a dataset (and the CSV), compute the summary, write
 * what was asked for.  With --churn-from a file of pairs takes the place of the databases.  Every output is a function of the dataset and the version of this program alone: no clock, no
 * random number, no name of a file, so the same databases give the same bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/churncsv.h"
#include "analysis/churnstat.h"
#include "analysis/figure.h"
#include "analysis/html.h"
#include "analysis/json.h"
#include "analysis/merge.h"
#include "analysis/options.h"
#include "analysis/outfile.h"
#include "analysis/summary.h"
#include "analysis/text.h"

enum {
	EXIT_OK = 0,
	EXIT_SYSTEM = 2,
	EXIT_PARTIAL = 4,
};

/* Both files of rows, or neither: they say the same thing about the same databases. */
static int commit_rows(struct outfile *csv, struct outfile *pairs, struct errmsg *e)
{
	int rc = csv->f ? outfile_commit(csv, e) : 0;

	if (rc == 0 && pairs->f)
		return outfile_commit(pairs, e);
	outfile_abandon(pairs);
	return rc;
}

static int read_databases(struct options *o, struct dataset *d, struct churn *churn, struct merge_problems *problems, struct errmsg *e)
{
	struct outfile csv = {0}, pairs = {0};
	int rc = o->csv ? outfile_open(&csv, o->csv, e) : 0;

	if (rc == 0 && o->churn && (rc = outfile_open(&pairs, o->churn, e)) < 0)
		outfile_abandon(&csv);
	if (rc < 0)
		return rc;
	rc = merge_databases(d, o->db, o->ndb, &o->filter, csv.f, churn, pairs.f, problems);
	for (size_t i = 0; i < problems->n; i++)
		fprintf(stderr, "dsreport: %s\n", problems->e[i].text);
	if (rc == -EIO)
		return commit_rows(&csv, &pairs, e); /* which knows why the CSV could not be written */
	if (rc < 0)
		errmsg_set(e, rc, "out of memory; choose fewer samples with --since, --host or --comm");
	else if (d->nsnapshots == 0 && problems->n < o->ndb)
		rc = errmsg_set(e, -ENODATA, "no snapshot is left by --since, --until and --host; see what there is without them");
	else if (d->nsnapshots == 0)
		rc = errmsg_set(e, -ENODATA, "nothing to report: no database could be read");
	else {
		if (!d->nsamples && (o->filter.comm.n || o->filter.cgroup.n || o->filter.nuid))
			fputs("dsreport: note: no sample is left by --comm, --uid and --cgroup\n", stderr);
		return commit_rows(&csv, &pairs, e);
	}
	outfile_abandon(&csv);
	outfile_abandon(&pairs);
	return rc;
}

static int write_text(const struct options *o, const struct summary *s, struct errmsg *e)
{
	struct outfile out;
	int rc = outfile_open(&out, "-", e);

	if (rc == 0)
		rc = s->d ? text_report(out.f, s, filter_samples_set(&o->filter)) : text_churn(out.f, s->churn);
	if (rc < 0)
		return errmsg_set(e, rc, "out of memory");
	return outfile_commit(&out, e);
}

static int write_json(const struct options *o, const struct summary *s, struct errmsg *e)
{
	struct outfile out;
	int rc = outfile_open(&out, o->json, e);

	if (rc < 0)
		return rc;
	if ((s->d ? json_report(out.f, s) : json_churn_report(out.f, s->churn)) == 0)
		return outfile_commit(&out, e);
	outfile_abandon(&out);
	return errmsg_set(e, -ENOMEM, "out of memory");
}

static int write_html(const struct options *o, const struct summary *s, struct errmsg *e)
{
	struct outfile out;
	int rc = outfile_open(&out, o->html, e);

	if (rc < 0)
		return rc;
	rc = html_report(out.f, s, filter_samples_set(&o->filter), e);
	if (rc == 0)
		return outfile_commit(&out, e);
	outfile_abandon(&out);
	return rc;
}

static int write_outputs(const struct options *o, const struct summary *s, struct errmsg *e)
{
	int rc = 0;

	if (!o->quiet)
		rc = write_text(o, s, e);
	if (rc == 0 && o->json)
		rc = write_json(o, s, e);
	if (rc == 0 && o->html)
		rc = write_html(o, s, e);
	if (rc == 0 && o->svg)
		rc = figure_write_all(s, FIGURE_SVG, o->svg, e);
	if (rc == 0 && o->png)
		rc = figure_write_all(s, FIGURE_PNG, o->png, e);
	return rc;
}

/* The summary of what was read; of the churn alone when that is all there is. */
static int summarize(struct summary *s, struct churn_stat *stat, const struct options *o, const struct dataset *d, const struct churn *churn,
		     struct errmsg *e)
{
	int rc = o->churn_from ? 0 : summary_compute(s, d, o->top);

	if (rc == 0 && churn->n) {
		rc = churn_stat_compute(stat, churn);
		s->churn = stat;
	}
	return rc < 0 ? errmsg_set(e, rc, "out of memory; choose fewer samples with --since, --host or --comm") : 0;
}

int main(int argc, char **argv)
{
	struct merge_problems problems = {0};
	struct churn_stat stat = {0};
	struct churn churn = {0};
	struct dataset d = {0};
	struct summary s = {0};
	struct options o;
	struct errmsg e;
	int rc;

	options_parse(&o, argc, argv);
	rc = o.churn_from ? churn_csv_read(&churn, o.churn_from, &e) : read_databases(&o, &d, &churn, &problems, &e);
	if (rc == 0)
		rc = summarize(&s, &stat, &o, &d, &churn, &e);
	if (rc == 0)
		rc = write_outputs(&o, &s, &e);
	if (rc < 0)
		fprintf(stderr, "dsreport: %s\n", e.text);
	summary_free(&s);
	churn_stat_free(&stat);
	churn_free(&churn);
	dataset_free(&d);
	filter_free(&o.filter);
	rc = rc < 0 ? EXIT_SYSTEM : problems.n ? EXIT_PARTIAL : EXIT_OK;
	free(problems.e);
	return rc;
}
