/* options.c - the command line of dsreport (see options.h) */
#include "analysis/options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_SINCE = 256,
	OPT_UNTIL,
	OPT_HOST,
	OPT_COMM,
	OPT_UID,
	OPT_CGROUP,
	OPT_TOP,
	OPT_CSV,
	OPT_JSON,
	OPT_HTML,
	OPT_SVG,
	OPT_PNG,
	OPT_CHURN,
	OPT_CHURN_FROM,
};

static const struct argp_option option_table[] = {
	{NULL, 0, NULL, 0, "Which samples:", 1},
	{"since", OPT_SINCE, "TIME", 0, "from this time on: 2026-01-31, 2026-01-31T14:05 (UTC), or 6h, 2d before the newest snapshot", 0},
	{"until", OPT_UNTIL, "TIME", 0, "up to this time; a day or a minute includes its end", 0},
	{"host", OPT_HOST, "PATTERN", 0, "of these hosts (shell pattern; may be repeated)", 0},
	{"comm", OPT_COMM, "PATTERN", 0, "of processes of this name (shell pattern; may be repeated)", 0},
	{"uid", OPT_UID, "USER", 0, "of this user, by number or name (may be repeated)", 0},
	{"cgroup", OPT_CGROUP, "PATH", 0, "in this cgroup or below it; with *?[ a shell pattern (may be repeated)", 0},
	{NULL, 0, NULL, 0, "What to write (FILE - is standard output, instead of the text):", 2},
	{"top", OPT_TOP, "N", 0, "length of the lists of processes (10)", 0},
	{"quiet", 'q', NULL, 0, "no text report", 0},
	{"csv", OPT_CSV, "FILE", 0, "the samples, one row each", 0},
	{"json", OPT_JSON, "FILE", 0, "the whole report, with full precision", 0},
	{"html", OPT_HTML, "FILE", 0, "the report with its figures as one page", 0},
	{"svg", OPT_SVG, "DIR", 0, "the figures as SVG", 0},
	{"png", OPT_PNG, "DIR", 0, "the figures as PNG", 0},
	{"churn", OPT_CHURN, "FILE", 0, "what changed in each process's map from snapshot to snapshot (databases of dscollect --keep-runs)", 0},
	{"churn-from", OPT_CHURN_FROM, "FILE", 0, "report on such a file alone, instead of databases", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

/* Where dscollect writes unless told otherwise (dscollect(8)). */
static char *const default_db[] = {(char[]){"/var/lib/dscollect/dscollect.db"}};

static void take_time(struct argp_state *st, const char *name, const char *arg, struct when *w)
{
	if (when_parse(arg, w) < 0)
		argp_error(st, "--%s %s: not a time; write 2026-01-31, 2026-01-31T14:05:09Z, or a distance back from the newest snapshot: 90s 30min 6h 2d 3w", name, arg);
}

static void take_alternative(struct argp_state *st, struct filter_list *l, const char *arg)
{
	if (filter_add(l, arg) < 0)
		argp_failure(st, 2, 0, "out of memory");
}

static void take_top(struct argp_state *st, const char *arg, size_t *top)
{
	char *end;
	unsigned long v = strtoul(arg, &end, 10);

	if (*arg < '0' || *arg > '9' || *end || v > 10000)
		argp_error(st, "--top %s: not a number from 0 to 10000", arg);
	*top = v;
}

static error_t parse_one(int key, char *arg, struct argp_state *st)
{
	struct options *o = st->input;
	struct errmsg e;

	switch (key) {
	case OPT_SINCE:
		take_time(st, "since", arg, &o->filter.since);
		return 0;
	case OPT_UNTIL:
		take_time(st, "until", arg, &o->filter.until);
		return 0;
	case OPT_HOST:
		take_alternative(st, &o->filter.host, arg);
		return 0;
	case OPT_COMM:
		take_alternative(st, &o->filter.comm, arg);
		return 0;
	case OPT_UID:
		if (filter_add_uid(&o->filter, arg, &e) < 0)
			argp_error(st, "%s", e.text);
		return 0;
	case OPT_CGROUP:
		take_alternative(st, &o->filter.cgroup, arg);
		return 0;
	case OPT_TOP:
		take_top(st, arg, &o->top);
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case OPT_CSV:
		o->csv = arg;
		return 0;
	case OPT_JSON:
		o->json = arg;
		return 0;
	case OPT_HTML:
		o->html = arg;
		return 0;
	case OPT_SVG:
		o->svg = arg;
		return 0;
	case OPT_PNG:
		o->png = arg;
		return 0;
	case OPT_CHURN:
		o->churn = arg;
		return 0;
	case OPT_CHURN_FROM:
		o->churn_from = arg;
		return 0;
	case ARGP_KEY_ARGS:
		o->db = st->argv + st->next;
		o->ndb = (size_t)(st->argc - st->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		o->db = default_db;
		o->ndb = 1;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static bool is_stdout(const char *file)
{
	return file && strcmp(file, "-") == 0;
}

/* The file of pairs has no samples: nothing to filter, and neither rows nor a page to write. */
static bool needs_databases(const struct options *o)
{
	const struct filter *f = &o->filter;

	return o->db != default_db || o->csv || o->html || o->churn || f->since.set || f->until.set || f->host.n || filter_samples_set(f);
}

static void check_outputs(struct options *o)
{
	int n = is_stdout(o->csv) + is_stdout(o->json) + is_stdout(o->html) + is_stdout(o->churn);

	if (n > 1) {
		fprintf(stderr, "dsreport: only one of --csv, --json, --html and --churn can go to standard output; give the others a file\n");
		exit(1);
	}
	if (o->churn_from && needs_databases(o)) {
		fprintf(stderr, "dsreport: --churn-from reports on that file alone: leave out databases, filters, --csv, --html and --churn\n");
		exit(1);
	}
	o->quiet = o->quiet || n;
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct argp argp = {
		.options = option_table,
		.parser = parse_one,
		.args_doc = "[DB...]",
		.doc = "Report on the page-table contiguity that dscollect recorded.\vOne or many databases, /var/lib/dscollect/dscollect.db if none is named; snapshots that several of them hold are counted once.  "
		       "Exit status: 0 done, 1 wrong command line, 2 error, 4 some databases could not be read and the rest were reported.  See dsreport(1).",
	};

	argp_program_version = "dsreport " DS_VERSION;
	argp_err_exit_status = 1;
	*o = (struct options){.top = 10};
	argp_parse(&argp, argc, argv, 0, NULL, o);
	check_outputs(o);
}
