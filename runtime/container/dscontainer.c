/* dscontainer - the host's end for programs in one container: server.h */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/container/server.h"
#include "runtime/host/control.h"
#include "runtime/host/log.h"
#include "runtime/host/notify.h"

#define POLICY_PATH "/etc/dark-shadows/policy.conf"

enum dscontainer_exit { DSCONTAINER_DONE, DSCONTAINER_USAGE, DSCONTAINER_SYSTEM };

static const char help_text[] =
	"Usage: dscontainer --name NAME --socket PATH [options]\n"
	"Give programs in a container shadows: tasks with their memory, and with files and devices of the host.\n"
	"\n"
	"      --name NAME    what rules of the policy call the container (vm=)\n"
	"      --socket PATH  where it listens; the container is to have it as /run/dsagent/socket, with PATH.estates beside it\n"
	"      --policy FILE  what is allowed (default " POLICY_PATH ")\n"
	"      --verbose      log more\n"
	"  -h, --help         this text\n"
	"  -V, --version      the version\n"
	"\n"
	"It runs until it is told to end (SIGTERM); SIGHUP reads the policy again.\n"
	"Exit status: 0 done, 1 usage or an error in the policy, 2 system error.  See dscontainer(8), ds-policy(5).\n";

enum { OPT_NAME = 256, OPT_SOCKET, OPT_POLICY, OPT_VERBOSE };
static const struct option long_options[] = {
	{"name", required_argument, NULL, OPT_NAME},	 {"socket", required_argument, NULL, OPT_SOCKET},
	{"policy", required_argument, NULL, OPT_POLICY}, {"verbose", no_argument, NULL, OPT_VERBOSE},
	{"help", no_argument, NULL, 'h'},		 {"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0}};

static volatile sig_atomic_t stop, again;
static const char *name;

static void on_signal(int n)
{
	if (n == SIGHUP)
		again = 1;
	else
		stop = 1;
}

static void ready(void)
{
	log_line(LOG_LEVEL_INFO, "container %s: programs are served", name);
	notify_systemd("READY=1");
}

static int usage(const char *what, const char *about)
{
	fprintf(stderr, "dscontainer: %s%s\nTry: dscontainer --help\n", what, about);
	return DSCONTAINER_USAGE;
}

/* Return: -1 to go on, else the exit status. */
static int parse(struct server_params *p, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "hV", long_options, NULL)) != -1)
		switch (c) {
		case OPT_NAME: p->name = optarg; break;
		case OPT_SOCKET: p->socket = optarg; break;
		case OPT_POLICY: p->policy = optarg; break;
		case OPT_VERBOSE: log_verbose(1); break;
		case 'h': fputs(help_text, stdout); return DSCONTAINER_DONE;
		case 'V': puts("dscontainer " DS_VERSION); return DSCONTAINER_DONE;
		default: /* getopt has said what is wrong */
			fputs("Try: dscontainer --help\n", stderr);
			return DSCONTAINER_USAGE;
		}
	if (optind < argc)
		return usage("too much: ", argv[optind]);
	if (!p->name || !control_name_ok(p->name))
		return usage("which container? --name with 1 to 31 letters, digits, _ . -, the first a letter or digit", "");
	if (!p->socket || *p->socket != '/')
		return usage("where is it to listen? --socket with an absolute path, in a folder that the container gets", "");
	return -1;
}

static void catch_signals(sigset_t *waiting)
{
	const struct sigaction act = {.sa_handler = on_signal};
	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGHUP);
	sigprocmask(SIG_BLOCK, &block, waiting); /* they come while it waits, and at no other time */
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	struct server_params p = {.policy = POLICY_PATH};
	const char *why = "";
	struct policy *policy;
	struct policy_err err;
	sigset_t waiting;
	int rc = parse(&p, argc, argv);

	if (rc >= 0)
		return rc;
	if (geteuid()) {
		fputs("dscontainer: it gives places and devices of the host, which takes root: start it as root\n", stderr);
		return DSCONTAINER_SYSTEM;
	}
	if (policy_load(&policy, p.policy, &err)) {
		if (err.line)
			fprintf(stderr, "dscontainer: %s:%u: %s\n", p.policy, err.line, err.why);
		else
			fprintf(stderr, "dscontainer: %s: %s\n", p.policy, err.why);
		return DSCONTAINER_USAGE;
	}
	name = p.name;
	catch_signals(&waiting);
	rc = server_run(&p, policy, &stop, &again, &waiting, ready, &why);
	if (rc)
		fprintf(stderr, "dscontainer: %s: %s: %s\n", p.socket, why, strerror(-rc));
	return rc ? DSCONTAINER_SYSTEM : DSCONTAINER_DONE;
}
