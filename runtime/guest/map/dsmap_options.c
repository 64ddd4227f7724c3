/* dsmap_options.c - the command line of dsmap */
#include "runtime/guest/map/dsmap_options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/guest/local.h"

static const char help_text[] =
	"Usage: dsmap [options] PID\n"
	"       dsmap [options] --from FILE\n"
	"Print how a process's virtual pages lie in physical memory, as runs: stretches in which both rise together.\n"
	"\n"
	"      --stats        print statistics of the runs instead of the runs\n"
	"      --diff FILE    print what changed since the map in FILE was saved\n"
	"      --out FILE     save the map in FILE; prints nothing unless --stats, --diff or --json asks for it\n"
	"      --from FILE    take the map from FILE instead of a process\n"
	"      --json         print JSON\n"
	"      --split WHAT   what else separates runs: none, prot (protection, the default), attr (every attribute)\n"
	"      --join WHAT    what to look up in kpageflags and kpagecount: none (the default), head (of each run), full\n"
	"      --root DIR     read a recorded tree laid out like /proc\n"
	"      --agent        ask dsagent, as is done anyway for those who cannot see frame numbers\n"
	"      --socket PATH  where dsagent listens (" DS_LOCAL_SOCKET "); asks it\n"
	"  -h, --help         this text\n"
	"  -V, --version      the version\n"
	"\n"
	"Exit status: 0 done, 1 usage, 2 system error (also: no such process), 3 frame numbers cannot be seen.  See dsmap(1).\n";

enum { OPT_STATS = 256, OPT_DIFF, OPT_OUT, OPT_FROM, OPT_JSON, OPT_SPLIT, OPT_JOIN, OPT_ROOT, OPT_AGENT, OPT_SOCKET };

static const struct option long_options[] = {
	{"stats", no_argument, NULL, OPT_STATS},
	{"diff", required_argument, NULL, OPT_DIFF},
	{"out", required_argument, NULL, OPT_OUT},
	{"from", required_argument, NULL, OPT_FROM},
	{"json", no_argument, NULL, OPT_JSON},
	{"split", required_argument, NULL, OPT_SPLIT},
	{"join", required_argument, NULL, OPT_JOIN},
	{"root", required_argument, NULL, OPT_ROOT},
	{"agent", no_argument, NULL, OPT_AGENT},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

static const char *const split_names[RLE_NSPLIT] = {"none", "prot", "attr"};
static const char *const join_names[] = {"none", "head", "full"};

const char *dsmap_split_name(enum rle_split split)
{
	return split < RLE_NSPLIT ? split_names[split] : "?";
}

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list ap;

	fputs("dsmap: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\nTry: dsmap --help\n", stderr);
	return DSMAP_USAGE;
}

/* Both --split and --join have three values.  Return: index of @value, or -1. */
static int choice(const char *const names[3], const char *value)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(names[i], value))
			return i;
	return -1;
}

static int option(struct dsmap_options *o, int c)
{
	int i;

	switch (c) {
	case OPT_STATS:
		o->stats = true;
		return -1;
	case OPT_DIFF:
		o->diff = optarg;
		return -1;
	case OPT_OUT:
		o->out = optarg;
		return -1;
	case OPT_FROM:
		o->from = optarg;
		return -1;
	case OPT_JSON:
		o->json = true;
		return -1;
	case OPT_SPLIT:
		i = choice(split_names, optarg);
		if (i < 0)
			return usage("--split: none, prot or attr, not '%s'", optarg);
		o->split = i;
		o->split_said = true;
		return -1;
	case OPT_JOIN:
		i = choice(join_names, optarg);
		if (i < 0)
			return usage("--join: none, head or full, not '%s'", optarg);
		o->join = i;
		return -1;
	case OPT_ROOT:
		o->root = optarg;
		return -1;
	case OPT_SOCKET:
		o->socket = optarg;
		o->agent = true;
		return -1;
	case OPT_AGENT:
		o->agent = true;
		return -1;
	case 'h':
		fputs(help_text, stdout);
		return DSMAP_DONE;
	case 'V':
		puts("dsmap " DS_VERSION);
		return DSMAP_DONE;
	default: /* getopt has said what is wrong */
		fputs("Try: dsmap --help\n", stderr);
		return DSMAP_USAGE;
	}
}

int dsmap_options_read(struct dsmap_options *o, int argc, char **argv)
{
	char *end;
	long pid;
	int c, code;

	*o = (struct dsmap_options){.split = RLE_SPLIT_PROT};
	while ((c = getopt_long(argc, argv, "hV", long_options, NULL)) != -1) {
		code = option(o, c);
		if (code >= 0)
			return code;
	}
	if (o->stats && o->diff)
		return usage("--stats and --diff each print something else: choose one");
	if (o->from) {
		if (optind < argc)
			return usage("a process or --from, not both: '%s'", argv[optind]);
		if (o->root || o->join || o->agent)
			return usage("--root, --join and --agent say how a process is read; a saved map is as it was saved");
		return -1;
	}
	if (o->agent && (o->root || o->join))
		return usage("dsagent reads this machine's /proc, without a join: not with --root or --join");
	if (optind == argc)
		return usage("which process?  A PID, or --from FILE");
	if (optind + 1 < argc)
		return usage("one process at a time: '%s'", argv[optind + 1]);
	pid = *argv[optind] >= '0' && *argv[optind] <= '9' ? strtol(argv[optind], &end, 10) : 0;
	if (pid < 1 || *end || pid > 1 << 22)
		return usage("not the number of a process: '%s'", argv[optind]);
	o->pid = pid;
	return -1;
}
