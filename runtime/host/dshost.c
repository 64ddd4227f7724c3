/* dshost - the host's end of dark shadows: a daemon, and the commands that talk to it
 *
 * Theory of operation
 *
 * One program, one command a call.  `serve` is the daemon (serve.h).  `run` and `attach` make a VM known to it and its devices
 * connected (launch.h, attach.h); `run` then *becomes* QEMU by exec, so terminal, signals and exit status are QEMU's.
 * `status`, `end` and `stop` ask the daemon (control.h).  Everything that is printed is printed here or logged by the daemon.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/vm/attach.h"
#include "runtime/host/vm/devmem.h"
#include "runtime/host/vm/launch.h"
#include "runtime/host/log.h"
#include "runtime/host/policy/policy.h"
#include "runtime/host/serve.h"
#include "runtime/host/startrate.h"
#include "runtime/host/status.h"
#include "runtime/host/window/windows.h"

#define POLICY_PATH "/etc/dark-shadows/policy.conf"
#define ANSWER_MS 20000 /* of the daemon; to end a shadow that hangs takes 10 s */

/* Exit codes, as all programs here have them. */
enum dshost_exit { DSHOST_DONE, DSHOST_USAGE, DSHOST_SYSTEM, DSHOST_BUSY = 75 };

static const char help_text[] =
	"Usage: dshost serve [options]\n"
	"       dshost run [options] -- qemu-system-x86_64 ARGS...\n"
	"       dshost attach --qmp SOCKET [options]\n"
	"       dshost status [options]\n"
	"       dshost end VM/PID [options]\n"
	"       dshost stop VM [options]\n"
	"       dshost check-policy FILE\n"
	"Host side of dark shadows: host processes that work on the memory of guest processes, at their addresses.\n"
	"\n"
	"  serve          the daemon: serves VMs until it is told to end (SIGTERM); SIGHUP reads the policy again\n"
	"  run            start a VM that can have shadows from an ordinary QEMU command line\n"
	"  attach         give a VM that runs the devices that shadows need\n"
	"  status         show VMs and shadows\n"
	"  end            end the shadow of a guest's process\n"
	"  stop           end a VM's shadows and let go of its devices; the VM runs on\n"
	"  check-policy   say whether a policy file is right\n"
	"\n"
	"      --run-dir DIR      where the daemon's sockets are (default " CONTROL_RUN_DIR ")\n"
	"      --policy FILE      serve: what is allowed (default " POLICY_PATH ")\n"
	"      --services DIR     serve: where the services are\n"
	"      --max-shadows N    serve: shadows of one VM at a time (default 128)\n"
	"      --start-rate N     serve: shadows that one VM may start a second, tenfold at once (default 100; 0: any number)\n"
	"      --window SIZE      serve: of a VM's window, into which files of the host are mapped (default 256M)\n"
	"      --dev-mem          serve: VMs may have physical memory of this machine, from " DEVMEM_PATH ": see dshost(8)\n"
	"      --kvm-files        serve: regular files are mapped there in VMs with KVM too, which end when one is cut: see dshost(8)\n"
	"      --verbose          serve: log more\n"
	"      --name NAME        run, attach: what to call the VM\n"
	"      --ram-at ADDRESS   run: the VM's memory is physical memory, from ADDRESS on, that the kernel leaves alone\n"
	"      --print            run: print the command line that would be executed, and do nothing\n"
	"      --qmp SOCKET       attach: the VM's monitor (QEMU's -qmp unix:SOCKET,server=on,wait=off)\n"
	"      --json             status: print JSON\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n"
	"\n"
	"Exit status: 0 done, 1 usage or an error in the policy, 2 system error, 4 attached but not ready, 75 busy; run: QEMU's.\n"
	"See dshost(8), ds-policy(5).\n";

enum { OPT_RUN_DIR = 256, OPT_POLICY, OPT_SERVICES, OPT_MAX_SHADOWS, OPT_START_RATE, OPT_WINDOW, OPT_DEV_MEM, OPT_KVM_FILES, OPT_VERBOSE, OPT_NAME, OPT_RAM_AT, OPT_PRINT, OPT_QMP, OPT_JSON, OPT_END };
#define BIT(option) (1u << ((option)-OPT_RUN_DIR))

static const struct option long_options[] = {
	{"run-dir", required_argument, NULL, OPT_RUN_DIR},
	{"policy", required_argument, NULL, OPT_POLICY},
	{"services", required_argument, NULL, OPT_SERVICES},
	{"max-shadows", required_argument, NULL, OPT_MAX_SHADOWS},
	{"start-rate", required_argument, NULL, OPT_START_RATE},
	{"window", required_argument, NULL, OPT_WINDOW},
	{"dev-mem", no_argument, NULL, OPT_DEV_MEM},
	{"kvm-files", no_argument, NULL, OPT_KVM_FILES},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"name", required_argument, NULL, OPT_NAME},
	{"ram-at", required_argument, NULL, OPT_RAM_AT},
	{"print", no_argument, NULL, OPT_PRINT},
	{"qmp", required_argument, NULL, OPT_QMP},
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

struct options {
	const char *run_dir, *policy, *services, *name, *qmp;
	uint32_t max_shadows, start_rate;
	uint64_t window_bytes;
	uint64_t ram_at;
	bool dev_mem, has_ram_at, kvm_files;
	bool print, json, verbose;
	int argc; /* what is left */
	char **argv;
};

__attribute__((format(printf, 1, 2))) static int usage(const char *fmt, ...)
{
	va_list ap;

	fputs("dshost: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\nTry: dshost --help\n", stderr);
	return DSHOST_USAGE;
}

__attribute__((format(printf, 2, 3))) static int complain(int code, const char *fmt, ...)
{
	va_list ap;

	fputs("dshost: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

/* --- talking to the daemon ------------------------------------------------------------------------------------------------ */

/* Return: DSHOST_DONE, or an exit status after a complaint. */
static int ask(const struct options *o, struct control_request *request, struct control_reply *reply, int *file)
{
	const int e = control_ask(o->run_dir, request, reply, file, ANSWER_MS);

	if (e == -ENOENT || e == -ECONNREFUSED)
		return complain(DSHOST_SYSTEM, "no daemon serves %s: start it with `dshost serve` (systemctl start dshost), or say --run-dir", o->run_dir);
	if (e == -EACCES)
		return complain(DSHOST_SYSTEM, "%s/" CONTROL_SOCKET ": %s: only the daemon's own user may use it", o->run_dir, strerror(-e));
	if (e)
		return complain(DSHOST_SYSTEM, "%s/" CONTROL_SOCKET ": %s", o->run_dir, strerror(-e));
	if (reply->kind != CONTROL_REFUSED)
		return DSHOST_DONE;
	return complain(reply->err == -EBUSY || reply->err == -EEXIST ? DSHOST_BUSY : DSHOST_SYSTEM, "%s", reply->text);
}

static int do_status(const struct options *o)
{
	struct control_request request = {.verb = CONTROL_STATUS};
	struct control_reply reply;
	cleanup_close int file = -1;
	int e;

	if (o->argc)
		return usage("status takes no argument: '%s'", o->argv[0]);
	e = ask(o, &request, &reply, &file);
	if (e)
		return e;
	e = status_print(stdout, file, reply.bytes, o->json);
	if (e)
		return complain(DSHOST_SYSTEM, "the daemon's answer cannot be read: %s", strerror(-e));
	return fflush(stdout) || ferror(stdout) ? complain(DSHOST_SYSTEM, "standard output: %s", strerror(errno)) : DSHOST_DONE;
}

static int do_end(const struct options *o)
{
	struct control_request request = {.verb = CONTROL_END};
	const char *slash = o->argc == 1 ? strrchr(o->argv[0], '/') : NULL;
	struct control_reply reply;
	char *end = NULL;

	if (!slash || (size_t)(slash - o->argv[0]) >= sizeof(request.name))
		return usage("end which shadow?  VM/PID, as dshost status shows them");
	memcpy(request.name, o->argv[0], (size_t)(slash - o->argv[0]));
	request.guest_pid = slash[1] >= '0' && slash[1] <= '9' ? strtoull(slash + 1, &end, 10) : 0;
	if (!request.guest_pid || *end)
		return usage("end: not the number of a process: '%s'", slash + 1);
	return ask(o, &request, &reply, NULL);
}

static int do_stop(const struct options *o)
{
	struct control_request request = {.verb = CONTROL_STOP};
	struct control_reply reply;

	if (o->argc != 1 || strlen(o->argv[0]) >= sizeof(request.name))
		return usage("stop which VM?  One, by the name that dshost status shows");
	strcpy(request.name, o->argv[0]);
	return ask(o, &request, &reply, NULL);
}

/* --- VMs ---------------------------------------------------------------------------------------------------------------------- */

/* As a shell would read it back. */
static void print_line(char *const *argv)
{
	for (size_t i = 0; argv[i]; i++) {
		const bool plain = *argv[i] && !argv[i][strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:=/+-@%")];

		printf("%s%s", i ? " " : "", plain ? "" : "'");
		for (const char *c = argv[i]; *c; c++)
			fputs(!plain && *c == '\'' ? "'\\''" : (char[]){*c, 0}, stdout);
		fputs(plain ? "" : "'", stdout);
	}
	putchar('\n');
}

static int run_made(const struct options *o, const struct launch *l, const char *vsock, const char *doorbell)
{
	struct launch_line line;

	if (launch_make(l, vsock, doorbell, &line))
		return complain(DSHOST_SYSTEM, "no memory");
	if (o->print) {
		print_line(line.argv);
	} else {
		execvp(line.argv[0], line.argv);
		complain(DSHOST_SYSTEM, "%s: %s", line.argv[0], strerror(errno));
	}
	launch_free(&line);
	return o->print ? DSHOST_DONE : DSHOST_SYSTEM;
}

/* Physical memory for a VM, if it was asked for: looked at before anything else is done. */
static int give_memory(const struct options *o, struct launch *l)
{
	char why[DEVMEM_WHY_BYTES];
	cleanup_close int fd = -1;

	if (!o->has_ram_at)
		return DSHOST_DONE;
	if (l->own_backend)
		return complain(DSHOST_USAGE, "--ram-at says where the VM's memory is, and so does -machine memory-backend=: leave one of them out");
	l->ram_at = o->ram_at;
	l->has_ram_at = true;
	if (o->print)
		return DSHOST_DONE;
	fd = devmem_open(why);
	if (fd < 0 || devmem_check(fd, l->ram_at, l->ram_bytes, why))
		return complain(DSHOST_SYSTEM, "--ram-at: %s", why);
	return DSHOST_DONE;
}

static int do_run(const struct options *o)
{
	struct control_request request = {.verb = CONTROL_VM};
	char why[LAUNCH_WHY_BYTES], vsock[CONTROL_PATH_BYTES], doorbell[CONTROL_PATH_BYTES];
	struct control_reply reply;
	struct launch l;
	int e = launch_read(&l, o->argc, o->argv, why);

	if (e)
		return complain(e == -EINVAL ? DSHOST_USAGE : DSHOST_SYSTEM, "%s", why);
	e = give_memory(o, &l);
	if (e)
		return e;
	if (o->name || *l.name)
		snprintf(request.name, sizeof(request.name), "%s", o->name ? o->name : l.name);
	else
		snprintf(request.name, sizeof(request.name), "vm-%d", getpid());
	if (o->print) { /* the daemon is not asked: these are the paths that it would answer */
		if (control_path(vsock, o->run_dir, request.name, "vsock") || control_path(doorbell, o->run_dir, request.name, "doorbell"))
			return complain(DSHOST_SYSTEM, "%s: %s", o->run_dir, strerror(ENAMETOOLONG));
		return run_made(o, &l, vsock, doorbell);
	}
	e = ask(o, &request, &reply, NULL);
	return e ? e : run_made(o, &l, reply.vsock, reply.doorbell);
}

static int do_attach(const struct options *o)
{
	const struct attach_params p = {.run_dir = o->run_dir, .qmp = o->qmp, .name = o->name};
	char text[ATTACH_TEXT_BYTES];
	int code;

	if (!o->qmp || o->argc)
		return usage(o->qmp ? "attach takes no argument: '%s'" : "attach to which VM?  --qmp SOCKET%s", o->argc ? o->argv[0] : "");
	code = attach(&p, text);
	if (code)
		return complain(code, "%s", text);
	printf("%s\n", text);
	return DSHOST_DONE;
}

/* --- the daemon ----------------------------------------------------------------------------------------------------------------- */

/* Where the services are: installed in PREFIX/lib beside PREFIX/sbin, or in the build folder beside bin. */
static const char *find_services(char path[static PATH_MAX])
{
	static const char *const places[] = {"/../lib/dark-shadows/services", "/../shadow"};
	char exe[PATH_MAX], beside[PATH_MAX + 64];
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char copy[PATH_MAX];

		memcpy(copy, exe, sizeof(copy));
		snprintf(beside, sizeof(beside), "%s%s", dirname(copy), places[i]);
		if (realpath(beside, path))
			return path;
	}
	return "/usr/lib/dark-shadows/services";
}

static int do_serve(const struct options *o)
{
	char path[PATH_MAX], run_dir[PATH_MAX], services[PATH_MAX];
	struct serve_params p = {.run_dir = o->run_dir, .policy = o->policy, .max_shadows = o->max_shadows, .start_rate = o->start_rate,
				 .window_bytes = o->window_bytes, .dev_mem = o->dev_mem, .kvm_files = o->kvm_files};

	if (o->argc)
		return usage("serve takes no argument: '%s'", o->argv[0]);
	if (o->dev_mem) {
		char why[DEVMEM_WHY_BYTES];
		cleanup_close int mem = devmem_open(why); /* whether it can be: VMMs bring descriptors of their own */

		if (mem < 0)
			return complain(DSHOST_SYSTEM, "--dev-mem: %s", why);
	}
	p.services_dir = o->services ? realpath(o->services, services) : find_services(path);
	if (!p.services_dir || access(p.services_dir, R_OK | X_OK))
		return complain(DSHOST_SYSTEM, "%s: the services' folder: %s", o->services ? o->services : p.services_dir, strerror(errno));
	if (o->run_dir[0] != '/') { /* QEMU may run in another folder */
		if (!getcwd(path, sizeof(path)) || snprintf(run_dir, sizeof(run_dir), "%s/%s", path, o->run_dir) >= (int)sizeof(run_dir))
			return complain(DSHOST_SYSTEM, "%s: %s", o->run_dir, strerror(ENAMETOOLONG));
		p.run_dir = run_dir;
	}
	log_verbose(o->verbose);
	return serve(&p);
}

static int do_check_policy(const struct options *o)
{
	cleanup_free struct policy *policy = NULL;
	struct policy_err err;
	int e;

	if (o->argc != 1)
		return usage("check-policy checks one file");
	e = policy_load(&policy, o->argv[0], &err);
	if (!e) {
		printf("%s: %zu rules\n", o->argv[0], policy->nrules);
		return DSHOST_DONE;
	}
	if (err.line)
		return complain(DSHOST_USAGE, "%s:%u: %s", o->argv[0], err.line, err.why);
	return complain(e == -EINVAL || e == -EFBIG ? DSHOST_USAGE : DSHOST_SYSTEM, "%s: %s", o->argv[0], err.why);
}

/* --- the command line -------------------------------------------------------------------------------------------------------------- */

static const struct command {
	const char *name;
	int (*run)(const struct options *o);
	unsigned int options; /* that it has, --run-dir apart */
} commands[] = {
	{"serve", do_serve, BIT(OPT_POLICY) | BIT(OPT_SERVICES) | BIT(OPT_MAX_SHADOWS) | BIT(OPT_START_RATE) | BIT(OPT_WINDOW) | BIT(OPT_DEV_MEM) |
				   BIT(OPT_KVM_FILES) | BIT(OPT_VERBOSE)},
	{"run", do_run, BIT(OPT_NAME) | BIT(OPT_RAM_AT) | BIT(OPT_PRINT)},
	{"attach", do_attach, BIT(OPT_NAME) | BIT(OPT_QMP)},
	{"status", do_status, BIT(OPT_JSON)},
	{"end", do_end, 0},
	{"stop", do_stop, 0},
	{"check-policy", do_check_policy, 0},
};

/* Return: -1 to go on, or an exit status. */
static int take_option(struct options *o, int c)
{
	char *end;
	long n;

	switch (c) {
	case OPT_RUN_DIR:
		o->run_dir = optarg;
		return -1;
	case OPT_POLICY:
		o->policy = optarg;
		return -1;
	case OPT_SERVICES:
		o->services = optarg;
		return -1;
	case OPT_MAX_SHADOWS:
		n = strtol(optarg, &end, 10);
		if (n < 1 || n > (long)SHADOWS_MAX || *end)
			return usage("--max-shadows: 1 to %u, not '%s'", SHADOWS_MAX, optarg);
		o->max_shadows = (uint32_t)n;
		return -1;
	case OPT_START_RATE:
		n = strtol(optarg, &end, 10);
		if (!*optarg || n < 0 || n > (long)STARTRATE_MAX || *end)
			return usage("--start-rate: 0 to %u, not '%s'", STARTRATE_MAX, optarg);
		o->start_rate = (uint32_t)n;
		return -1;
	case OPT_WINDOW:
		if (launch_size(optarg, 1, &o->window_bytes) || o->window_bytes < WINDOWS_BYTES_MIN || o->window_bytes > DS_WINDOW_BYTES_MAX ||
		    o->window_bytes & (o->window_bytes - 1))
			return usage("--window: a power of two from 1M to 64G, not '%s'", optarg);
		return -1;
	case OPT_DEV_MEM:
		o->dev_mem = true;
		return -1;
	case OPT_RAM_AT:
		errno = 0;
		o->ram_at = strtoull(optarg, &end, 0);
		if (*optarg < '0' || *optarg > '9' || *end || errno || o->ram_at & (DS_PAGE_BYTES - 1))
			return usage("--ram-at: a physical address in whole pages, such as 0x100000000, not '%s'", optarg);
		o->has_ram_at = true;
		return -1;
	case OPT_KVM_FILES:
		o->kvm_files = true;
		return -1;
	case OPT_VERBOSE:
		o->verbose = true;
		return -1;
	case OPT_NAME:
		if (!control_name_ok(optarg))
			return usage("--name: 1 to 31 letters, digits, _ . -, the first a letter or digit, not '%s'", optarg);
		o->name = optarg;
		return -1;
	case OPT_PRINT:
		o->print = true;
		return -1;
	case OPT_QMP:
		o->qmp = optarg;
		return -1;
	case OPT_JSON:
		o->json = true;
		return -1;
	case 'h':
		fputs(help_text, stdout);
		return DSHOST_DONE;
	case 'V':
		puts("dshost " DS_VERSION);
		return DSHOST_DONE;
	default: /* getopt has said what is wrong */
		fputs("Try: dshost --help\n", stderr);
		return DSHOST_USAGE;
	}
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct options o = {.run_dir = CONTROL_RUN_DIR, .policy = POLICY_PATH, .max_shadows = SHADOWS_DEFAULT, .start_rate = STARTRATE_DEFAULT, .window_bytes = WINDOWS_BYTES_DEFAULT};
	const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;
	unsigned int given = 0;
	int c, code;

	if (argc > 1 && !command && argv[1][0] != '-')
		return usage("no command is called '%s'", argv[1]);
	if (command) { /* the command's name takes the program's place for getopt */
		argc--;
		argv++;
		argv[0] = (char[]){"dshost"};
	}
	/* "+": what comes after the first argument is not dshost's: a QEMU command line may come without "--" */
	while ((c = getopt_long(argc, argv, command && command->run != do_run ? "hV" : "+hV", long_options, NULL)) != -1) {
		code = take_option(&o, c);
		if (code >= 0)
			return code;
		given |= BIT(c);
	}
	if (!command)
		return usage("do what?  serve, run, attach, status, end, stop or check-policy");
	for (c = OPT_POLICY; c < OPT_END; c++)
		if (given & ~command->options & BIT(c))
			return usage("%s has no option --%s", command->name, long_options[c - OPT_RUN_DIR].name);
	o.argc = argc - optind;
	o.argv = argv + optind;
	return command->run(&o);
}
