/* text.c - the report for a terminal (see text.h) */
#include "analysis/text.h"

#include <ctype.h>
#include <string.h>

#include "analysis/churnstat.h"
#include "analysis/findings.h"
#include "analysis/fmt.h"
#include "analysis/tables.h"

#define WIDTH 100

/* Columns that a UTF-8 text takes on the terminal: its code points. */
static int width_of(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* Names come from other people's processes: a control character would reach the terminal. */
static void put_text(FILE *f, const char *text)
{
	for (; *text; text++)
		putc(iscntrl((unsigned char)*text) ? '?' : *text, f);
}

static void put_wrapped(FILE *f, const char *indent, const char *text)
{
	int column = (int)strlen(indent);

	fputs(indent, f);
	while (*text) {
		size_t len = strcspn(text, " ");
		char word[300];

		snprintf(word, sizeof(word), "%.*s", (int)(len < sizeof(word) ? len : sizeof(word) - 1), text);
		if (column + 1 + width_of(word) > WIDTH && column > (int)strlen(indent)) {
			fprintf(f, "\n%s", indent);
			column = (int)strlen(indent);
		}
		if (column > (int)strlen(indent)) {
			putc(' ', f);
			column++;
		}
		put_text(f, word);
		column += width_of(word);
		text += len;
		text += strspn(text, " ");
	}
	putc('\n', f);
}

static void put_cell(FILE *f, const char *text, int width, bool left, bool last)
{
	int pad = width - width_of(text);

	if (!left)
		fprintf(f, "%*s", pad, "");
	put_text(f, text);
	if (left && !last)
		fprintf(f, "%*s", pad, "");
}

static void put_table(FILE *f, const struct table *t)
{
	int width[TABLE_COLUMNS] = {0};

	for (size_t r = 0; r < t->nrows; r++)
		for (int c = 0; c < t->ncolumns; c++) {
			int w = width_of(t->cell[r][c]);

			width[c] = w > width[c] ? w : width[c];
		}
	fprintf(f, "\n%s\n", t->title);
	if (*t->note)
		put_wrapped(f, "  ", t->note);
	for (size_t r = 0; r < t->nrows; r++) {
		for (int c = 0; c < t->ncolumns; c++) {
			fputs("  ", f);
			put_cell(f, t->cell[r][c], width[c], t->text_columns >> c & 1, c + 1 == t->ncolumns);
		}
		putc('\n', f);
	}
}

static void put_head(FILE *f, const struct summary *s)
{
	const struct dataset *d = s->d;
	const struct summary_group *g = &s->group[0];

	fputs("Page-table contiguity of ", f);
	for (size_t h = 0; h < d->nhosts; h++) {
		fputs(h ? ", " : "", f);
		put_text(f, dataset_name(d, d->host[h].name));
	}
	fprintf(f, "\n\n  %s samples of %s processes in %s snapshots of %s host%s (%s boot%s)\n", fmt_count(g->t.samples).s, fmt_count(g->processes).s,
		fmt_count(d->nsnapshots).s, fmt_count(d->nhosts).s, d->nhosts == 1 ? "" : "s", fmt_count(s->boots).s, s->boots == 1 ? "" : "s");
	fprintf(f, "  %s to %s UTC (%s)\n", fmt_time(s->first_s).s, fmt_time(s->last_s).s, fmt_duration(s->last_s - s->first_s).s);
	if (d->duplicates)
		fprintf(f, "  %s snapshot%s in more than one database counted once\n", fmt_count(d->duplicates).s, d->duplicates == 1 ? "" : "s");
	if (g->t.empty)
		fprintf(f, "  %s sample%s without a present page: no ratio, in no quantile of it\n", fmt_count(g->t.empty).s, g->t.empty == 1 ? "" : "s");
	putc('\n', f);
}

int text_report(FILE *f, const struct summary *s, bool samples_filtered)
{
	struct finding finding[FINDINGS_MAX];
	size_t n = findings_compute(s, finding);
	struct tables tables;
	int rc = tables_build(&tables, s, samples_filtered);

	if (rc == 0) {
		put_head(f, s);
		for (size_t i = 0; i < n; i++) {
			put_wrapped(f, "  * ", finding[i].claim);
			put_wrapped(f, "    ", finding[i].detail);
		}
		for (size_t i = 0; i < tables.n; i++)
			put_table(f, &tables.t[i]);
	}
	tables_free(&tables);
	return rc;
}

int text_churn(FILE *f, const struct churn_stat *c)
{
	struct tables tables;
	int rc = tables_churn(&tables, c);

	if (rc == 0)
		fprintf(f, "Churn of %s processes over %s pairs of consecutive snapshots\n", fmt_count(c->processes).s, fmt_count(c->pairs).s);
	for (size_t i = 0; i < tables.n && rc == 0; i++)
		put_table(f, &tables.t[i]);
	tables_free(&tables);
	return rc;
}
