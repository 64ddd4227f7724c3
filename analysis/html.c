/* html.c - the report as one page (see html.h) */
#include "analysis/html.h"

#include <errno.h>

#include "analysis/figure.h"
#include "analysis/findings.h"
#include "analysis/fmt.h"
#include "analysis/plots.h"
#include "analysis/tables.h"
#include "rle/cleanup.h"

static void put_hosts(FILE *f, const struct dataset *d)
{
	for (size_t h = 0; h < d->nhosts; h++) {
		fputs(h == 0 ? "" : h + 1 < d->nhosts ? ", " : " and ", f);
		html_text(f, dataset_name(d, d->host[h].name));
	}
}

static void put_head(FILE *f, const struct summary *s)
{
	const struct dataset *d = s->d;

	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
	      "<meta name=\"generator\" content=\"dsreport " DS_VERSION "\">\n<title>Page-table contiguity of ",
	      f);
	put_hosts(f, d);
	fprintf(f, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<p class=\"kind\">Page-table contiguity</p>\n<h1>", plots_page_css);
	put_hosts(f, d);
	fprintf(f, "</h1>\n<p class=\"span\">%s samples of %s processes in %s snapshot%s, %s to %s UTC", fmt_count(s->group[0].t.samples).s,
		fmt_count(s->group[0].processes).s, fmt_count(d->nsnapshots).s, d->nsnapshots == 1 ? "" : "s", fmt_time(s->first_s).s, fmt_time(s->last_s).s);
	if (s->last_s > s->first_s)
		fprintf(f, " (%s)", fmt_duration(s->last_s - s->first_s).s);
	fputs(".</p>\n</header>\n<main>\n", f);
}

static void put_tile(FILE *f, const char *what, const char *value, const char *paper)
{
	fprintf(f, "<div><dt>%s</dt><dd>%s</dd><p>%s</p></div>\n", what, value, paper);
}

static void put_tiles(FILE *f, const struct summary_group *g)
{
	char covered[80];

	fputs("<dl class=\"tiles\">\n", f);
	put_tile(f, "runs, 95th percentile", fmt_number(g->var[VAR_RUNS].q[P95]).s, "paper: 5,430 and 2,389");
	put_tile(f, "ratio, 95th percentile", fmt_ratio(g->var[VAR_RATIO].q[P95]).s, "paper: 0.0844 and 0.0777");
	put_tile(f, "ratio and size, r", fmt_signed(g->corr).s, "paper: -0.097 and -0.097");
	snprintf(covered, sizeof(covered), "64 KiB: %s", fmt_percent((double)g->t.sum[COL_pages_64k], (double)g->t.pages_known[COL_pages_64k]).s);
	put_tile(f, "pages in runs &ge; 2 MiB", fmt_percent((double)g->t.sum[COL_pages_2m], (double)g->t.pages_known[COL_pages_2m]).s, covered);
	fputs("</dl>\n", f);
}

static void put_findings(FILE *f, const struct summary *s)
{
	struct finding finding[FINDINGS_MAX];
	size_t n = findings_compute(s, finding);

	fputs("<section id=\"short\">\n<h2>In short</h2>\n", f);
	if (n == 0)
		fputs("<p>No sample is left by the filters, or no process could be read: there is nothing to draw.</p>\n", f);
	else
		put_tiles(f, &s->group[0]);
	fputs(n ? "<ul class=\"findings\">\n" : "", f);
	for (size_t i = 0; i < n; i++) {
		fputs("<li><strong>", f);
		html_text(f, finding[i].claim);
		fputs("</strong> ", f);
		html_text(f, finding[i].detail);
		fputs("</li>\n", f);
	}
	fputs(n ? "</ul>\n" : "", f);
	if (s->group[0].t.empty)
		fprintf(f, "<p class=\"note\">%s sample%s had no present page and so no ratio; they count in the quantiles of entries and runs only.</p>\n",
			fmt_count(s->group[0].t.empty).s, s->group[0].t.empty == 1 ? "" : "s");
	fputs("</section>\n", f);
}

static void put_table(FILE *f, const struct table *t)
{
	fputs("<section class=\"table\">\n<h3>", f);
	html_text(f, t->title);
	fputs("</h3>\n", f);
	if (*t->note) {
		fputs("<p class=\"note\">", f);
		html_text(f, t->note);
		fputs("</p>\n", f);
	}
	fputs("<div class=\"scroll\"><table>\n", f);
	for (size_t r = 0; r < t->nrows; r++) {
		const char *tag = r ? "td" : "th";

		fputs(r == 0 ? "<thead><tr>" : r == 1 ? "<tbody><tr>" : "<tr>", f);
		for (int c = 0; c < t->ncolumns; c++) {
			fprintf(f, "<%s%s>", tag, t->text_columns >> c & 1 ? " class=\"text\"" : "");
			html_text(f, t->cell[r][c]);
			fprintf(f, "</%s>", tag);
		}
		fputs(r == 0 ? "</tr></thead>\n" : "</tr>\n", f);
	}
	fputs("</tbody></table></div>\n</section>\n", f);
}

static int put_figure(FILE *f, const struct summary *s, enum figure_id id, struct errmsg *e)
{
	cleanup_free char *svg = NULL;
	const struct figure_info *info = &figure_info[id];
	size_t len;
	char prefix[16];
	int rc = figure_draw(s, id, FIGURE_SVG, &svg, &len, e);

	if (rc < 0)
		return rc;
	snprintf(prefix, sizeof(prefix), "f%d", (int)id);
	fprintf(f, "<figure id=\"%s\"%s>\n<h3>%s</h3>\n<div class=\"scroll\">", info->file, id == FIGURE_TIME ? " class=\"wide\"" : "", info->title);
	svg_inline(f, svg, prefix, info->title);
	fprintf(f, "</div>\n<figcaption>%s</figcaption>\n</figure>\n", info->caption);
	return 0;
}

static int put_figures(FILE *f, const struct summary *s, struct errmsg *e)
{
	int rc = 0;

	fputs("<section id=\"figures\">\n<h2>Figures</h2>\n<div class=\"figures\">\n", f);
	for (int id = 0; id < NFIGURES && rc == 0; id++)
		if (figure_drawn(s, (enum figure_id)id))
			rc = put_figure(f, s, (enum figure_id)id, e);
	fputs("</div>\n</section>\n", f);
	return rc;
}

static void put_reading(FILE *f)
{
	fputs("<section id=\"reading\">\n<h2>How to read it</h2>\n<dl class=\"reading\">\n"
	      "<dt>Sample</dt><dd>One process in one snapshot. A process that lives through many snapshots gives many samples, which are much alike; "
	      "so their number says little about how certain a number is.</dd>\n"
	      "<dt>Raw entries</dt><dd>The present 4 KiB pages of a process, as <code>/proc/PID/pagemap</code> shows them whatever the size of the "
	      "mapping behind them.</dd>\n"
	      "<dt>Run</dt><dd>A longest stretch of pages in which virtual and physical page numbers both rise by one: what one <code>mmap()</code> of "
	      "physical memory could map.</dd>\n"
	      "<dt>Ratio</dt><dd>Runs divided by raw entries. Near 0, memory is contiguous; at 1, no two neighbouring pages are neighbours in "
	      "physical memory. The ratio to <em>mapped</em> pages counts the pages of mappings that nobody has touched, too.</dd>\n"
	      "<dt>The paper</dt><dd>measured two servers, Murphy and Hanlon, every 15 minutes for 19 days on kernel 2.6.32 (Section III). Transparent "
	      "huge pages, the state of free memory and the mix of processes move all of these numbers; the settings are at the end.</dd>\n"
	      "</dl>\n</section>\n",
	      f);
}

int html_report(FILE *f, const struct summary *s, bool samples_filtered, struct errmsg *e)
{
	struct tables tables;
	bool any = s->group[0].t.samples > 0;
	int rc = tables_build(&tables, s, samples_filtered);
	size_t first = any ? 1 : 0;

	if (rc < 0) {
		tables_free(&tables);
		return errmsg_set(e, rc, "out of memory");
	}
	put_head(f, s);
	put_findings(f, s);
	if (any) {
		put_table(f, &tables.t[0]); /* beside the paper */
		rc = put_figures(f, s, e);
	}
	put_reading(f);
	fputs("<section id=\"tables\">\n<h2>Tables</h2>\n", f);
	for (size_t i = first; i < tables.n; i++)
		put_table(f, &tables.t[i]);
	fputs("</section>\n</main>\n<footer>\n<p>Made by dsreport " DS_VERSION " from what dscollect recorded. Times are UTC. "
	      "PIDs and command names are those of the machine: mind whom you send this to.</p>\n</footer>\n</body>\n</html>\n",
	      f);
	tables_free(&tables);
	return rc;
}
