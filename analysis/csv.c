/* csv.c - samples as comma-separated rows (see csv.h) */
#include "analysis/csv.h"

#include <inttypes.h>
#include <string.h>

#include "analysis/fmt.h"

void csv_header(FILE *f)
{
	fputs("host,boot_id,time,time_iso,pid,start_ticks,comm,uid,cgroup,status,"
#define X(name) #name ","
	      COLUMNS(X)
#undef X
	      "ratio,ratio_mapped,hist_runs,hist_pages\n",
	      f);
}

void csv_text(FILE *f, const char *text)
{
	if (text && strpbrk(text, ",\"\r\n")) {
		putc('"', f);
		for (; *text; text++) {
			if (*text == '"')
				putc('"', f);
			putc(*text, f);
		}
		putc('"', f);
	} else if (text) {
		fputs(text, f);
	}
}

static void write_count(FILE *f, int64_t v)
{
	if (v != COLUMN_NULL)
		fprintf(f, "%" PRId64, v);
	putc(',', f);
}

/* runs for each page of @column; empty where there is none */
static void write_ratio(FILE *f, const struct dbread_sample *s, enum column column)
{
	if (s->v[COL_runs] != COLUMN_NULL && s->v[column] > 0)
		fputs(fmt_real((double)s->v[COL_runs] / (double)s->v[column]).s, f);
	putc(',', f);
}

void csv_row(FILE *f, const struct dbread_sample *s)
{
	csv_text(f, s->host);
	putc(',', f);
	csv_text(f, s->boot_id);
	fprintf(f, ",%s,%s,%" PRId64 ",%" PRId64 ",", fmt_real(s->time_s).s, fmt_iso(s->time_s).s, s->pid, s->start_ticks);
	csv_text(f, s->comm);
	putc(',', f);
	write_count(f, s->uid);
	csv_text(f, s->cgroup);
	putc(',', f);
	csv_text(f, s->status);
	putc(',', f);
	for (int c = 0; c < NCOLUMNS; c++)
		write_count(f, s->v[c]);
	write_ratio(f, s, COL_pte_present);
	write_ratio(f, s, COL_pages_mapped);
	csv_text(f, s->hist_runs);
	putc(',', f);
	csv_text(f, s->hist_pages);
	putc('\n', f);
}
