/* dsreport.c - main of the study's report: databases in, text, CSV, JSON, figures and page out
 *
 * The order is: read the command line, read the databases into a dataset (and the CSV), compute the summary, write
 * what was asked for.  Every output is a function of the dataset and the version of this program alone: no clock, no
 * random number, no name of a file, so the same databases give the same bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int read_databases(struct options *o, struct dataset *d, struct merge_problems *problems, struct errmsg *e)
{
	struct outfile csv = {0};
	int rc = o->csv ? outfile_open(&csv, o->csv, e) : 0;

	if (rc < 0)
		return rc;
	rc = merge_databases(d, o->db, o->ndb, &o->filter, csv.f, problems);
	for (size_t i = 0; i < problems->n; i++)
		fprintf(stderr, "dsreport: %s\n", problems->e[i].text);
	if (rc == -EIO)
		return outfile_commit(&csv, e); /* which knows why the CSV could not be written */
	if (rc < 0)
		errmsg_set(e, rc, "out of memory; choose fewer samples with --since, --host or --comm");
	else if (d->nsnapshots == 0 && problems->n < o->ndb)
		rc = errmsg_set(e, -ENODATA, "no snapshot is left by --since, --until and --host; see what there is without them");
	else if (d->nsnapshots == 0)
		rc = errmsg_set(e, -ENODATA, "nothing to report: no database could be read");
	else if (o->csv)
		return outfile_commit(&csv, e);
	outfile_abandon(&csv);
	return rc;
}

static int write_text(const struct options *o, const struct summary *s, struct errmsg *e)
{
	struct outfile out;
	int rc = outfile_open(&out, "-", e);

	if (rc == 0)
		rc = text_report(out.f, s, filter_samples_set(&o->filter));
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
	if (json_report(out.f, s) == 0)
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

int main(int argc, char **argv)
{
	struct merge_problems problems = {0};
	struct dataset d = {0};
	struct summary s = {0};
	struct options o;
	struct errmsg e;
	int rc;

	options_parse(&o, argc, argv);
	rc = read_databases(&o, &d, &problems, &e);
	if (rc == 0 && (rc = summary_compute(&s, &d, o.top)) < 0)
		errmsg_set(&e, rc, "out of memory; choose fewer samples with --since, --host or --comm");
	if (rc == 0)
		rc = write_outputs(&o, &s, &e);
	if (rc < 0)
		fprintf(stderr, "dsreport: %s\n", e.text);
	summary_free(&s);
	dataset_free(&d);
	filter_free(&o.filter);
	rc = rc < 0 ? EXIT_SYSTEM : problems.n ? EXIT_PARTIAL : EXIT_OK;
	free(problems.e);
	return rc;
}
