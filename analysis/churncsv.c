/* churncsv.c - the pairs of maps as comma-separated rows, and back (see churncsv.h) */
#include "analysis/churncsv.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/csv.h"
#include "analysis/fmt.h"

/* The columns in order; the counts begin at FIELD_COUNTS. */
static const char *const column[] = {"host",	    "pid",	  "start_ticks", "comm",    "time",  "seconds", "pages_before",
				     "pages_after", "runs_before", "runs_after",  "removed", "added", "moved",   "changes"};
#define NFIELDS (sizeof(column) / sizeof(column[0]))
#define FIELD_SECONDS 5
#define FIELD_COUNTS 6
#define NCOUNTS (NFIELDS - FIELD_COUNTS)
/* Longest field: a host name has at most 64 characters, a comm 15 that may become three bytes each. */
#define MAX_FIELD_BYTES 400

void churn_csv_header(FILE *f)
{
	for (size_t i = 0; i < NFIELDS; i++)
		fprintf(f, "%s%c", column[i], i + 1 < NFIELDS ? ',' : '\n');
}

void churn_csv_row(FILE *f, const struct dataset *d, const struct churn_ref *ref, const struct churn_pair *p)
{
	const struct dataset_process *proc = &d->process[ref->process];

	csv_text(f, dataset_name(d, d->host[proc->host].name));
	fprintf(f, ",%" PRId64 ",%" PRId64 ",", proc->pid, proc->start_ticks);
	csv_text(f, dataset_name(d, ref->comm));
	fprintf(f, ",%s,%s", fmt_real(d->snapshot[ref->snapshot].time_s).s, fmt_real(p->seconds).s);
	fprintf(f, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, p->pages_before, p->pages_after, p->runs_before, p->runs_after);
	fprintf(f, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", p->pages[CHURN_REMOVED], p->pages[CHURN_ADDED],
		p->pages[CHURN_MOVED], p->changes);
}

/* Read up to the end of a field.  *end: the character after it, ',' '\n' or EOF.  Return: false for a malformed one. */
static bool read_field(FILE *f, char field[MAX_FIELD_BYTES], int *end)
{
	bool quoted = false;
	size_t n = 0;
	int c = getc(f);

	if (c == '"') {
		quoted = true;
		c = getc(f);
	}
	for (;; c = getc(f)) {
		if (quoted && c == '"') {
			c = getc(f);
			if (c != '"')
				break;
		} else if (c == EOF || (!quoted && (c == ',' || c == '\n'))) {
			break;
		}
		if (n + 1 >= MAX_FIELD_BYTES || c == '\0')
			return false;
		field[n++] = (char)c;
	}
	if (!quoted && n && field[n - 1] == '\r')
		n--; /* a line ended as on other systems */
	if (quoted && c == '\r')
		c = getc(f);
	field[n] = '\0';
	*end = c;
	return c == ',' || c == '\n' || c == EOF;
}

/* A row of exactly NFIELDS fields.  Return: 1, 0 at the end of the file, -EINVAL. */
static int read_row(FILE *f, char field[NFIELDS][MAX_FIELD_BYTES])
{
	for (size_t i = 0; i < NFIELDS; i++) {
		int end;

		if (!read_field(f, field[i], &end))
			return -EINVAL;
		if (i == 0 && end == EOF && field[0][0] == '\0')
			return 0;
		if ((end == ',') != (i + 1 < NFIELDS))
			return -EINVAL;
	}
	return 1;
}

static bool read_count(const char *text, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *v >> 53 == 0;
}

/* What any two maps and their difference obey. */
static bool possible(const struct churn_pair *p)
{
	const uint64_t *k = p->pages;

	return isfinite(p->seconds) && p->seconds > 0 && p->runs_before <= p->pages_before && p->runs_after <= p->pages_after &&
	       !p->runs_before == !p->pages_before && !p->runs_after == !p->pages_after &&
	       k[CHURN_REMOVED] + k[CHURN_MOVED] <= p->pages_before &&
	       p->pages_before - k[CHURN_REMOVED] + k[CHURN_ADDED] == p->pages_after && p->changes <= churn_changed(p) &&
	       !p->changes == !churn_changed(p);
}

static bool parse_pair(char field[NFIELDS][MAX_FIELD_BYTES], struct churn_pair *p)
{
	uint64_t *const count[] = {&p->pages_before, &p->pages_after, &p->runs_before, &p->runs_after,
				   &p->pages[CHURN_REMOVED], &p->pages[CHURN_ADDED], &p->pages[CHURN_MOVED], &p->changes};
	char *end;

	_Static_assert(sizeof(count) / sizeof(count[0]) == NCOUNTS, "every count has its column");
	*p = (struct churn_pair){.seconds = strtod(field[FIELD_SECONDS], &end)};
	if (!field[FIELD_SECONDS][0] || *end)
		return false;
	for (size_t i = 0; i < NCOUNTS; i++)
		if (!read_count(field[FIELD_COUNTS + i], count[i]))
			return false;
	return possible(p);
}

static int read_rows(struct churn *c, FILE *f, const char *path, struct errmsg *e)
{
	char field[NFIELDS][MAX_FIELD_BYTES], before[3][MAX_FIELD_BYTES];
	int rc = read_row(f, field);

	for (size_t i = 0; i < NFIELDS && rc == 1; i++)
		if (strcmp(field[i], column[i]) != 0)
			rc = -EINVAL;
	if (rc != 1)
		return errmsg_set(e, -EINVAL, "%s: not a file of pairs: its first line must name the columns host,pid,...,changes; write one with: dsreport --churn FILE DB", path);
	while ((rc = read_row(f, field)) == 1) {
		struct churn_pair p;
		bool same = c->n > 0;

		if (!parse_pair(field, &p)) {
			rc = -EINVAL;
			break;
		}
		for (int i = 0; i < 3; i++) { /* host, PID, start */
			same = same && strcmp(field[i], before[i]) == 0;
			memcpy(before[i], field[i], sizeof(before[i]));
		}
		c->processes += !same;
		if (churn_add(c, &p) < 0)
			return errmsg_set(e, -ENOMEM, "out of memory");
	}
	if (rc < 0)
		return errmsg_set(e, rc, "%s: row %zu is no pair of maps: a field is missing, no number, or contradicts another; the file was altered", path, c->n + 1);
	return 0;
}

int churn_csv_read(struct churn *c, const char *path, struct errmsg *e)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	int rc;

	if (!f)
		return errmsg_set(e, -errno, "%s: cannot read: %s; name a file that dsreport --churn has written", path, strerror(errno));
	rc = read_rows(c, f, path, e);
	if (ferror(f))
		rc = errmsg_set(e, -EIO, "%s: cannot read; check the disk", path);
	else if (rc == 0 && c->n == 0)
		rc = errmsg_set(e, -ENODATA, "%s: holds no pair; they come from databases collected with: dscollect --keep-runs", path);
	if (f != stdin)
		fclose(f);
	return rc;
}
