/* dsrun_options.c - the command line of dsrun */
#include "runtime/guest/run/dsrun_options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/guest/local.h"

static const char help_text[] =
	"Usage: dsrun [--service NAME] [options] [--] PROGRAM [ARGUMENT...]\n"
	"       dsrun [--forward DIR]... [--device PATH]... [--net WHERE] [--policy FILE] [--trace[=FILE]] [--summary[=FILE]] [--intercept HOW]\n"
	"             [--] PROGRAM [ARGUMENT...]\n"
	"       dsrun --pid PID --service NAME [options]\n"
	"       dsrun --stop PID\n"
	"       dsrun --list\n"
	"       dsrun --list-devices [PROGRAM]\n"
	"Give a program of this virtual machine a shadow: a process on the host that has the program's memory.\n"
	"\n"
	"      --service NAME   what runs in the shadow; DSGUEST_SERVICE if it is not said\n"
	"      --mode MODE      eager: mirror all memory first (the default); demand: pages as they are touched\n"
	"      --args TEXT      for the service\n"
	"      --forward DIR    a directory of the host, at the same path: system calls about it are made by the shadow\n"
	"      --net WHERE      host: internet sockets are the host's; guest (the default)\n"
	"      --device PATH    a device of the host, or all that match a pattern, and what belongs to it below /sys and /proc\n"
	"      --policy FILE    rules about the program's system calls, ds-policy(5)\n"
	"      --check-policy FILE  say whether such a file is right, and run nothing\n"
	"      --trace[=FILE]   a line for each system call, on standard error or in FILE\n"
	"      --summary[=FILE] a table of them at the end\n"
	"      --intercept HOW  dispatch: by the kernel's dispatch, in the program (the default); ptrace: by a monitor\n"
	"      --required       do not run the program without a shadow: exit 125 instead\n"
	"      --pid PID        shadow a process that runs already\n"
	"      --stop PID       end its shadow\n"
	"      --list-devices   print the devices that the host grants to PROGRAM, or to any program of this user\n"
	"      --list           print the shadows there are (root: everybody's)\n"
	"      --socket PATH    dsagent's socket, " DS_LOCAL_SOCKET "\n"
	"  -h, --help           this text\n"
	"  -V, --version        the version\n"
	"\n"
	"Exit status: the program's.  Else 0 done, 1 usage, 2 refused or a system error, 75 it has a shadow already, 125 no shadow\n"
	"(--required), 126 the program cannot be executed, 127 it is not there.  See dsrun(1).\n";

enum { OPT_SERVICE = 256, OPT_MODE, OPT_ARGS, OPT_REQUIRED, OPT_PID, OPT_STOP, OPT_LIST, OPT_SOCKET, OPT_FORWARD, OPT_NET, OPT_POLICY, OPT_TRACE, OPT_SUMMARY, OPT_INTERCEPT, OPT_ATTEND };

enum { OPT_CHECK_POLICY = 300 };

enum { OPT_DEVICE = 400, OPT_LIST_DEVICES };

static const struct option long_options[] = {
	{"device", required_argument, NULL, OPT_DEVICE},
	{"list-devices", no_argument, NULL, OPT_LIST_DEVICES},
	{"service", required_argument, NULL, OPT_SERVICE},
	{"mode", required_argument, NULL, OPT_MODE},
	{"args", required_argument, NULL, OPT_ARGS},
	{"required", no_argument, NULL, OPT_REQUIRED},
	{"pid", required_argument, NULL, OPT_PID},
	{"stop", required_argument, NULL, OPT_STOP},
	{"list", no_argument, NULL, OPT_LIST},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"forward", required_argument, NULL, OPT_FORWARD},
	{"net", required_argument, NULL, OPT_NET},
	{"policy", required_argument, NULL, OPT_POLICY},
	{"check-policy", required_argument, NULL, OPT_CHECK_POLICY},
	{"trace", optional_argument, NULL, OPT_TRACE},
	{"summary", optional_argument, NULL, OPT_SUMMARY},
	{"intercept", required_argument, NULL, OPT_INTERCEPT},
	{"attend", required_argument, NULL, OPT_ATTEND},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list ap;

	fputs("dsrun: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\nTry: dsrun --help\n", stderr);
	return DSRUN_USAGE;
}

static int verb(struct dsrun_options *o, enum dsrun_verb v, const char *pid)
{
	char *end;

	if (o->verb != DSRUN_RUN)
		return usage("one of --pid, --stop, --list and --list-devices at a time");
	o->verb = v;
	if (!pid)
		return -1;
	o->pid = strtol(pid, &end, 10);
	return *end || end == pid || o->pid <= 0 ? usage("'%s' is not the number of a process", pid) : -1;
}

/* "PID:FD:LIBRARY", from the library (attend.h). */
static int attend(struct dsrun_options *o, const char *text)
{
	int end = 0;

	o->verb = DSRUN_ATTEND;
	if (sscanf(text, "%d:%d:%n", &o->pid, &o->fd, &end) < 2 || !end || o->pid <= 0 || o->fd < 0)
		return usage("--attend is not for people");
	o->library = text + end;
	return -1;
}

/* Return: -1, or what to exit with. */
static int load_policy(struct dsrun_policy *policy, const char *path)
{
	char why[1400];
	const int rc = dsrun_policy_load(policy, path, why, sizeof(why));

	if (!rc)
		return -1;
	fprintf(stderr, "dsrun: %s\n", why);
	return rc == -EINVAL ? DSRUN_USAGE : DSRUN_SYSTEM;
}

static int check_policy(const char *path)
{
	static struct dsrun_policy policy;
	const int code = load_policy(&policy, path);

	if (code >= 0)
		return code;
	printf("%s: %u rules\n", path, policy.text.n);
	return DSRUN_OK;
}

/* What has to do with system calls. */
static int calls_option(struct dsrun_options *o, int c)
{
	const char *wrong;

	o->forward = true;
	switch (c) {
	case OPT_FORWARD:
		wrong = dsrun_policy_forward(&o->policy, optarg);
		return wrong ? usage("--forward %s: %s", optarg, wrong) : -1;
	case OPT_DEVICE:
		wrong = dsrun_devices_add(&o->devices, optarg);
		return wrong ? usage("--device %s: %s", optarg, wrong) : -1;
	case OPT_NET:
		o->policy.net = !strcmp(optarg, "host");
		return o->policy.net || !strcmp(optarg, "guest") ? -1 : usage("--net: host or guest, not '%s'", optarg);
	case OPT_CHECK_POLICY: return check_policy(optarg);
	case OPT_POLICY: return load_policy(&o->policy, optarg);
	case OPT_INTERCEPT:
		o->monitor = !strcmp(optarg, "ptrace");
		return o->monitor || !strcmp(optarg, "dispatch") ? -1 : usage("--intercept: dispatch or ptrace, not '%s'", optarg);
	case OPT_TRACE: o->trace = optarg ? optarg : "-"; return -1;
	default: o->summary = optarg ? optarg : "-"; return -1;
	}
}

static int option(struct dsrun_options *o, int c)
{
	switch (c) {
	case OPT_SERVICE:
		o->service = optarg;
		return strlen(optarg) < DS_LOCAL_SERVICE_BYTES && *optarg ? -1 :
								 usage("the name of a service has 1 to %d characters", DS_LOCAL_SERVICE_BYTES - 1);
	case OPT_MODE:
		o->demand = !strcmp(optarg, "demand");
		return o->demand || !strcmp(optarg, "eager") ? -1 : usage("--mode: eager or demand, not '%s'", optarg);
	case OPT_ARGS:
		o->args = optarg;
		return strlen(optarg) < DS_LOCAL_ARGS_BYTES ? -1 : usage("--args: %d characters at most", DS_LOCAL_ARGS_BYTES - 1);
	case OPT_REQUIRED:
		o->required = true;
		return -1;
	case OPT_PID:
		return verb(o, DSRUN_PID, optarg);
	case OPT_STOP:
		return verb(o, DSRUN_STOP, optarg);
	case OPT_LIST:
		return verb(o, DSRUN_LIST, NULL);
	case OPT_LIST_DEVICES:
		return verb(o, DSRUN_DEVICES, NULL);
	case OPT_SOCKET:
		o->socket = optarg;
		return -1;
	case OPT_DEVICE:
	case OPT_FORWARD:
	case OPT_NET:
	case OPT_POLICY:
	case OPT_CHECK_POLICY:
	case OPT_TRACE:
	case OPT_SUMMARY:
	case OPT_INTERCEPT:
		return calls_option(o, c);
	case OPT_ATTEND:
		return attend(o, optarg);
	case 'h':
		fputs(help_text, stdout);
		return DSRUN_OK;
	case 'V':
		puts("dsrun " DS_VERSION);
		return DSRUN_OK;
	default: /* getopt has said what is wrong */
		fputs("Try: dsrun --help\n", stderr);
		return DSRUN_USAGE;
	}
}

/*
 * A file that all the programs are to write to, whatever their directories are by then: becomes an absolute path.  Return: -1, or what to
 * exit with, as it cannot be written.  What exists and is no file (a pipe's reader would see the end of it) is not opened.
 */
static int output(const char **name, const char *option)
{
	const bool relative = *name && **name != '/' && strcmp(*name, "-");
	char *whole = NULL, cwd[PATH_MAX];
	struct stat st;
	int fd;

	if (!*name || !strcmp(*name, "-"))
		return -1;
	if (!stat(*name, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		fd = access(*name, W_OK);
	} else {
		fd = open(*name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (fd >= 0)
			close(fd);
	}
	if (fd < 0 || (relative && (!getcwd(cwd, sizeof(cwd)) || asprintf(&whole, "%s/%s", cwd, *name) < 0))) {
		fprintf(stderr, "dsrun: %s=%s: %s\n", option, *name, strerror(errno));
		return DSRUN_SYSTEM;
	}
	if (whole)
		*name = whole; /* until dsrun becomes the program */
	return -1;
}

int dsrun_parse(struct dsrun_options *o, int argc, char **argv)
{
	int c, status;

	*o = (struct dsrun_options){.args = "", .service = getenv("DSGUEST_SERVICE"), .socket = getenv("DSGUEST_SOCKET")};
	while ((c = getopt_long(argc, argv, "+hV", long_options, NULL)) != -1) {
		status = option(o, c);
		if (status >= 0)
			return status;
	}
	o->program = argv + optind;
	if (o->verb == DSRUN_ATTEND)
		return -1;
	if (o->verb == DSRUN_RUN && !*o->program)
		return usage("which program?");
	if (o->verb == DSRUN_DEVICES && *o->program && o->program[1])
		return usage("'%s' is too much", o->program[1]);
	if (o->verb != DSRUN_RUN && o->verb != DSRUN_DEVICES && *o->program)
		return usage("'%s' is too much", *o->program);
	if (o->verb != DSRUN_RUN && o->required)
		return usage("--required is for a program that is to be run");
	if (o->verb != DSRUN_RUN && o->forward)
		return usage("--forward, --net, --device, --policy, --trace, --summary and --intercept are for a program that is to be run");
	if ((o->forward || o->verb == DSRUN_DEVICES) && (!o->service || !*o->service))
		o->service = "forward";
	if (o->verb <= DSRUN_PID && (!o->service || !*o->service || strlen(o->service) >= DS_LOCAL_SERVICE_BYTES))
		return usage("which service? --service NAME");
	status = output(&o->trace, "--trace");
	return status >= 0 ? status : output(&o->summary, "--summary");
}
