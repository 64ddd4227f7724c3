/* options.c - the command line of dscollect */
#include "collector/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONFIG "/etc/default/dscollect"
#define INTERVAL_MAX_S 31557600.0 /* a year */

static const char help_text[] =
	"Usage: dscollect [options] [interval [count]]\n"
	"Record the page-table contiguity of every process; once, or every INTERVAL seconds, COUNT times.\n"
	"\n"
	"      --db FILE          the database (default /var/lib/dscollect/dscollect.db)\n"
	"      --config FILE      settings (default " DEFAULT_CONFIG "); options win over it\n"
	"  -p, --pid PID          only this process; may be given more than once\n"
	"  -j, --jobs N           processes read at a time (default 2, or 1 on a machine with one CPU)\n"
	"      --join WHAT        what to look up in kpageflags and kpagecount: none (the default), head (of each run), full\n"
	"      --root DIR         replay a recorded tree laid out like /proc\n"
	"      --keep-runs        store the runs themselves too\n"
	"      --timeout SECONDS  give a process up after so long without progress (default 5)\n"
	"      --prune            remove snapshots older than HISTORY days, and nothing else\n"
	"      --json             print each snapshot as a line of JSON; stored as well only if --db is given\n"
	"  -q, --quiet            say nothing unless something went wrong\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n"
	"\n"
	"Exit status: 0 done, 1 usage, 2 system error, 3 frame numbers cannot be seen, 4 some processes could not be read,\n"
	"75 another dscollect is at work on the database.  See dscollect(8).\n";

enum { OPT_DB = 256, OPT_CONFIG, OPT_JOIN, OPT_ROOT, OPT_KEEP_RUNS, OPT_TIMEOUT, OPT_PRUNE, OPT_JSON };

static const struct option long_options[] = {
	{"db", required_argument, NULL, OPT_DB},
	{"config", required_argument, NULL, OPT_CONFIG},
	{"pid", required_argument, NULL, 'p'},
	{"jobs", required_argument, NULL, 'j'},
	{"join", required_argument, NULL, OPT_JOIN},
	{"root", required_argument, NULL, OPT_ROOT},
	{"keep-runs", no_argument, NULL, OPT_KEEP_RUNS},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"prune", no_argument, NULL, OPT_PRUNE},
	{"json", no_argument, NULL, OPT_JSON},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list ap;

	fputs("dscollect: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\nTry: dscollect --help\n", stderr);
	return EXIT_USAGE;
}

/* A setting that the configuration file knows too. */
static int setting(struct options *o, enum config_key key, const char *option, const char *value)
{
	char why[CONFIG_WHY_BYTES];

	return config_set(&o->config, key, value, why) ? usage("--%s: %s", option, why) : -1;
}

static int add_pid(struct options *o, const char *text)
{
	char *end;
	long pid = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
	pid_t *more;

	if (pid < 1 || *end || pid > 1 << 22)
		return usage("--pid: not the number of a process: '%s'", text);
	for (size_t i = 0; i < o->npids; i++)
		if (o->pids[i] == pid)
			return -1;
	more = reallocarray(o->pids, o->npids + 1, sizeof(*more));
	if (!more)
		return usage("out of memory");
	o->pids = more;
	o->pids[o->npids++] = pid;
	return -1;
}

static int positional(struct options *o, int n, char **arg)
{
	char *end;
	double interval_s;

	if (n > 2)
		return usage("too many arguments: '%s'", arg[2]);
	if (n == 0) {
		o->count = 1;
		return -1;
	}
	interval_s = strtod(arg[0], &end);
	if (end == arg[0] || *end || !(interval_s >= 0.001) || interval_s > INTERVAL_MAX_S)
		return usage("the interval must be seconds, 0.001 or more, not '%s'", arg[0]);
	o->interval_ns = interval_s * 1e9 + 0.5;
	if (n == 2) {
		o->count = strtoul(arg[1], &end, 10);
		if (*arg[1] < '0' || *arg[1] > '9' || *end || o->count == 0)
			return usage("the count must be a number from 1, not '%s'", arg[1]);
	}
	return -1;
}

/* What the file says is taken where the command line says nothing. */
static int merge_file(struct options *o, const char *path)
{
	struct config file = {0};
	struct config_error e;
	int err = config_load(&file, path ? path : DEFAULT_CONFIG, &e);

	if (!path && err == -ENOENT)
		return -1;
	if (err && e.line)
		fprintf(stderr, "dscollect: %s:%u: %s\n", path ? path : DEFAULT_CONFIG, e.line, e.why);
	else if (err)
		fprintf(stderr, "dscollect: %s: %s\n", path ? path : DEFAULT_CONFIG, e.why);
	if (err)
		return EXIT_USAGE;
	config_merge(&o->config, &file);
	return -1;
}

static int option(struct options *o, int c, const char **config_path)
{
	switch (c) {
	case OPT_DB:
		return setting(o, CONFIG_DB, "db", optarg);
	case OPT_CONFIG:
		*config_path = optarg;
		return -1;
	case 'p':
		return add_pid(o, optarg);
	case 'j':
		return setting(o, CONFIG_JOBS, "jobs", optarg);
	case OPT_JOIN:
		return setting(o, CONFIG_JOIN, "join", optarg);
	case OPT_ROOT:
		o->root = optarg;
		return -1;
	case OPT_KEEP_RUNS:
		return setting(o, CONFIG_KEEP_RUNS, "keep-runs", "1");
	case OPT_TIMEOUT:
		return setting(o, CONFIG_TIMEOUT_S, "timeout", optarg);
	case OPT_PRUNE:
		o->prune = true;
		return -1;
	case OPT_JSON:
		o->json = true;
		return -1;
	case 'q':
		o->quiet = true;
		return -1;
	case 'h':
		fputs(help_text, stdout);
		return EXIT_DONE;
	case 'V':
		puts("dscollect " DS_VERSION);
		return EXIT_DONE;
	default: /* getopt has said what is wrong */
		fputs("Try: dscollect --help\n", stderr);
		return EXIT_USAGE;
	}
}

int options_read(struct options *o, int argc, char **argv)
{
	const char *config_path = NULL;
	int c, code;

	*o = (struct options){0};
	config_default(&o->config);
	while ((c = getopt_long(argc, argv, "p:j:qhV", long_options, NULL)) != -1) {
		code = option(o, c, &config_path);
		if (code >= 0)
			return code;
	}
	code = positional(o, argc - optind, argv + optind);
	if (code >= 0)
		return code;
	o->store = !o->json || o->config.set & 1u << CONFIG_DB;
	if (!o->store && o->config.set & 1u << CONFIG_KEEP_RUNS)
		return usage("--keep-runs with --json needs --db: runs are not printed, only stored");
	if (o->prune && (o->json || o->npids || o->root || argc > optind))
		return usage("--prune takes no snapshot, so nothing can be said about one");
	return merge_file(o, config_path);
}

void options_free(struct options *o)
{
	free(o->pids);
}
