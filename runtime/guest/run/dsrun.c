/* dsrun - gives programs of the guest a shadow
 *
 * Theory of operation
 *
 * A program is executed in dsrun's own place, so that its process, its exit status, signals and job control are as without
 * dsrun.  What gives it the shadow is libdsguest.so, which LD_PRELOAD loads into it: its constructor asks dsagent, before
 * main() and before any other thread.  Or libdsforward.so, if the shadow is to make system calls for it (runtime/guest/forward).  The environment says what to ask for, and for which process, since children inherit
 * it too.  Programs that LD_PRELOAD does not reach (statically linked, setuid, another architecture) are recognised before, by
 * their file.
 *
 * The other verbs are one question to dsagent each (local.h).
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_ask.h"
#include "runtime/guest/monitor/attend.h"
#include "runtime/guest/run/dsrun_options.h"

#define TIMEOUT_MS 120000

/* --- questions to dsagent ------------------------------------------------------------------------------------------ */

union packet {
	struct ds_local_head head;
	struct ds_local_started started;
	struct ds_local_refused refused;
	struct ds_local_listed listed;
	uint64_t room[DS_LOCAL_BYTES_MAX / 8 + 1];
};

static struct ds_local_head head_of(uint16_t kind, uint32_t bytes)
{
	return (struct ds_local_head){.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = kind, .bytes = bytes, .seq = 1};
}

/* Asks, and prints why not if it is refused.  Return: -1, and @p holds the answer, of @kind; or the exit status. */
static int ask(const struct dsrun_options *o, const void *message, union packet *p, uint16_t kind, size_t least)
{
	const struct ds_local_head *head = message;
	cleanup_close int fd = agent_ask_connect(o->socket);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	ssize_t got;

	if (fd < 0) {
		fprintf(stderr, "dsrun: dsagent does not answer at %s: %s; is it running?\n", o->socket ? o->socket : DS_LOCAL_SOCKET, strerror(-fd));
		return DSRUN_SYSTEM;
	}
	if (send(fd, message, head->bytes, MSG_NOSIGNAL) < 0 || poll(&pfd, 1, TIMEOUT_MS) <= 0)
		got = -1;
	else
		got = recv(fd, p, sizeof(*p), 0);
	if (got < (ssize_t)sizeof(p->head) || p->head.magic != DS_LOCAL_MAGIC || p->head.version != DS_LOCAL_VERSION || p->head.bytes != got) {
		fputs("dsrun: dsagent gave no answer, or one of another version\n", stderr);
		return DSRUN_SYSTEM;
	}
	if (p->head.kind == DS_LOCAL_REFUSED && got >= (ssize_t)sizeof(p->refused)) {
		fprintf(stderr, "dsrun: %.*s\n", (int)strnlen(p->refused.text, sizeof(p->refused.text)), p->refused.text);
		return p->refused.code == DS_LOCAL_C_BUSY ? DSRUN_BUSY : DSRUN_SYSTEM;
	}
	if (p->head.kind != kind || got < (ssize_t)least) {
		fputs("dsrun: dsagent's answer makes no sense\n", stderr);
		return DSRUN_SYSTEM;
	}
	return -1;
}

static int shadow(const struct dsrun_options *o)
{
	struct ds_local_shadow msg = {.head = head_of(DS_LOCAL_SHADOW, sizeof(msg)), .pid = o->pid, .mode = o->demand ? DS_LOCAL_DEMAND : DS_LOCAL_EAGER};
	union packet p;
	int status;

	strcpy(msg.service, o->service);
	strcpy(msg.args, o->args);
	status = ask(o, &msg, &p, DS_LOCAL_STARTED, sizeof(p.started));
	if (status >= 0)
		return status;
	printf("process %d has a shadow, process %" PRIu64 " on the host: %" PRIu64 " pages mirrored, %" PRIu64 " pinned in %" PRIu64
	       " runs, %" PRIu64 " left out\n",
	       o->pid, p.started.host_pid, p.started.mirror_pages, p.started.pinned_pages, p.started.runs, p.started.left_out_pages);
	return DSRUN_OK;
}

static int stop(const struct dsrun_options *o)
{
	struct ds_local_about msg = {.head = head_of(DS_LOCAL_STOP, sizeof(msg)), .pid = o->pid};
	union packet p;
	int status = ask(o, &msg, &p, DS_LOCAL_DONE, sizeof(struct ds_local_done));

	return status >= 0 ? status : DSRUN_OK;
}

static void print_entry(const struct ds_local_entry *e)
{
	static const char *const states[] = {"?", "starting", "running", "ending", "waiting"};

	printf("%7" PRIu32 "  %-15.*s  %7" PRIu32 "  %-8s  %-6s  %-15.*s  %10" PRIu64 "  %8" PRIu64 "  %8" PRIu64 "  %8" PRIu64 "\n", e->pid,
	       (int)strnlen(e->comm, sizeof(e->comm)), e->comm, e->uid, states[e->state < 5 ? e->state : 0],
	       e->mode == DS_LOCAL_DEMAND ? "demand" : "eager", (int)strnlen(e->service, sizeof(e->service)), e->service, e->pinned_pages, e->runs,
	       e->faults, e->calls);
}

static int list(const struct dsrun_options *o)
{
	struct ds_local_about msg = {.head = head_of(DS_LOCAL_LIST, sizeof(msg))};
	bool first = true;
	union packet p;
	int status;

	do {
		const struct ds_local_entry *e = (const void *)(&p.listed + 1);

		status = ask(o, &msg, &p, DS_LOCAL_LISTED, sizeof(p.listed));
		if (status >= 0)
			return status;
		if (p.listed.nentries > DS_LOCAL_LIST_MAX || p.head.bytes != sizeof(p.listed) + p.listed.nentries * sizeof(*e)) {
			fputs("dsrun: dsagent's answer makes no sense\n", stderr);
			return DSRUN_SYSTEM;
		}
		if (first)
			printf("%7s  %-15s  %7s  %-8s  %-6s  %-15s  %10s  %8s  %8s  %8s\n", "PID", "PROGRAM", "UID", "STATE", "MODE", "SERVICE",
			       "PINNED", "RUNS", "FAULTS", "CALLS");
		first = false;
		for (uint32_t i = 0; i < p.listed.nentries; i++) {
			print_entry(&e[i]);
			msg.pid = e[i].id;
		}
	} while (p.listed.more && p.listed.nentries);
	return DSRUN_OK;
}

/* --- running a program ---------------------------------------------------------------------------------------------- */

/* Whether a file is executable by its mode; @path gets its name as execvp() would find it. */
static bool find_program(const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH") ? getenv("PATH") : "/usr/local/bin:/usr/bin:/bin";

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return !access(path, X_OK);
	}
	while (*dirs) {
		size_t len = strcspn(dirs, ":");
		struct stat st;

		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)len, dirs, len ? "/" : "", name) < PATH_MAX && !access(path, X_OK) &&
		    !stat(path, &st) && S_ISREG(st.st_mode))
			return true;
		dirs += len + (dirs[len] == ':');
	}
	return false;
}

static const char is_static[] = "it is statically linked, so no library can be loaded into it: start it, then dsrun --pid";

/* Why LD_PRELOAD would not reach the program; NULL: it does, or its interpreter decides. */
static const char *out_of_reach(const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr elf;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || pread(fd, &elf, sizeof(elf), 0) != sizeof(elf) || memcmp(elf.e_ident, ELFMAG, SELFMAG))
		return NULL;
	if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != EM_X86_64)
		return "it is not an x86-64 program";
	if (st.st_mode & (S_ISUID | S_ISGID) && (st.st_uid != geteuid() || geteuid() != getuid()))
		return "it changes its user, so the system loads no library into it";
	for (int i = 0; i < elf.e_phnum; i++) {
		Elf64_Phdr ph;

		if (pread(fd, &ph, sizeof(ph), elf.e_phoff + (uint64_t)i * elf.e_phentsize) != sizeof(ph))
			break;
		if (ph.p_type == PT_INTERP)
			return NULL;
	}
	return is_static;
}

/* A library, beside dsrun: PREFIX/bin/dsrun and PREFIX/lib/libdsguest.so. */
static bool find_library(char path[PATH_MAX], const char *name)
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 32);
	char *slash;

	path[n < 0 ? 0 : n] = 0;
	for (int i = 0; i < 2; i++) {
		slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = 0;
	}
	strcat(path, "/lib/");
	strcat(path, name);
	return !access(path, R_OK);
}

static void put(const char *name, const char *value)
{
	if (setenv(name, value, 1)) {
		fputs("dsrun: no memory for the environment\n", stderr);
		exit(DSRUN_SYSTEM);
	}
}

static void put_or_not(const char *name, const char *value)
{
	if (value && *value)
		put(name, value);
	else
		unsetenv(name);
}

/* runtime/guest/forward/settings.c says what these mean. */
static void forward_environment(const struct dsrun_options *o, const char *library)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n < 0 ? 0 : n] = 0;
	put("DS_FORWARD_LIB", library);
	put_or_not("DS_FORWARD_RUN", self);
	put("DS_FORWARD", o->policy.prefixes);
	put_or_not("DS_FORWARD_NET", o->policy.net ? "forward" : NULL);
	put_or_not("DS_FORWARD_DEVICE", o->devices.n ? "1" : NULL);
	put_or_not("DS_FORWARD_POLICY", o->policy.rules);
	put_or_not("DS_FORWARD_TRACE", o->trace);
	put_or_not("DS_FORWARD_SUMMARY", o->summary);
	put_or_not("DS_FORWARD_SERVICE", o->service);
	put_or_not("DS_FORWARD_ARGS", o->args);
	put_or_not("DS_FORWARD_AGENT", o->socket);
	put_or_not("DS_FORWARD_REQUIRED", o->required ? "1" : NULL);
}

/* @preload: the dynamic linker is to load it. */
static void environment(const struct dsrun_options *o, const char *library, bool preload)
{
	const char *before = getenv("LD_PRELOAD");
	char text[2 * PATH_MAX];

	snprintf(text, sizeof(text), "%s%s%s", library, before && *before ? ":" : "", before ? before : "");
	if (preload)
		put("LD_PRELOAD", text);
	if (o->forward) {
		forward_environment(o, library);
		return;
	}
	put("DSGUEST_SERVICE", o->service);
	put("DSGUEST_MODE", o->demand ? "demand" : "eager");
	put("DSGUEST_ARGS", o->args);
	if (o->required)
		put("DSGUEST_REQUIRED", "1");
	else
		unsetenv("DSGUEST_REQUIRED");
	if (o->socket)
		put("DSGUEST_SOCKET", o->socket);
	snprintf(text, sizeof(text), "%d", getpid());
	put("DSGUEST_PID", text);
}

/* A program that is only on the host: something of the guest has to be started first, which then executes it with the library. */
static void exec_host(char **program)
{
	size_t n = 0;
	char **args;

	while (program[n])
		n++;
	args = calloc(n + 2, sizeof(*args));
	if (!args)
		return;
	args[0] = (char *)"env";
	memcpy(args + 1, program, n * sizeof(*args));
	execv("/usr/bin/env", args);
	free(args);
}

static int run(const struct dsrun_options *o)
{
	char path[PATH_MAX], library[PATH_MAX];
	const char *why = NULL;
	int err, attendant = -1;
	bool attended = o->monitor;

	if (find_program(o->program[0], path))
		why = out_of_reach(path);
	if (why && o->forward && (o->monitor || why == is_static)) {
		attended = true;
		why = NULL;
	}
	if (!why && !find_library(library, o->forward ? "libdsforward.so" : "libdsguest.so"))
		why = "its library is not where it belongs, in lib/ beside dsrun's folder";
	if (!why && attended) {
		attendant = attend_start(o->monitor ? ATTEND_MONITOR : ATTEND_LOAD, library);
		if (attendant < 0)
			why = attendant == -EPERM ? "tracing it is not allowed, or it is traced already" : strerror(-attendant);
	}
	if (why) {
		fprintf(stderr, "dsrun: no shadow for %s: %s; %s\n", o->program[0], why, o->required ? "it is not started (--required)" : "it runs without");
		if (o->required)
			return DSRUN_REQUIRED;
	} else {
		environment(o, library, !attended);
	}
	execvp(o->program[0], o->program);
	err = errno;
	if (attendant >= 0)
		attend_failed(attendant);
	if (err == ENOENT && (o->policy.prefixes[0] || o->policy.rules[0]) && o->program[0][0] == '/' && !strchr(o->program[0], '='))
		exec_host(o->program);
	fprintf(stderr, "dsrun: %s: %s\n", o->program[0], strerror(err));
	return err == ENOENT ? DSRUN_NOT_FOUND : DSRUN_CANNOT;
}

/* What is asked for by name becomes what is forwarded. */
static int take_devices(struct dsrun_options *o)
{
	char path[PATH_MAX] = "", whole[PATH_MAX] = "";

	if (!find_program(*o->program, path) || !realpath(path, whole)) /* exec will say so */
		snprintf(whole, sizeof(whole), "%s", *o->program);
	return dsrun_devices_take(&o->devices, &o->policy, o->socket, o->service, whole);
}

static int list_devices(const struct dsrun_options *o)
{
	char path[PATH_MAX] = "", whole[PATH_MAX] = "";

	if (*o->program && (!find_program(*o->program, path) || !realpath(path, whole))) {
		fprintf(stderr, "dsrun: %s: %s\n", *o->program, strerror(ENOENT));
		return DSRUN_NOT_FOUND;
	}
	return dsrun_devices_list(o->socket, o->service, whole) ? DSRUN_SYSTEM : DSRUN_OK;
}

int main(int argc, char **argv)
{
	struct dsrun_options o;
	int status = dsrun_parse(&o, argc, argv);

	if (status >= 0)
		return status;
	switch (o.verb) {
	case DSRUN_RUN:
		return o.devices.n && take_devices(&o) ? DSRUN_SYSTEM : run(&o);
	case DSRUN_PID:
		return shadow(&o);
	case DSRUN_STOP:
		return stop(&o);
	case DSRUN_ATTEND:
		return attend_other(o.fd, o.pid, ATTEND_LOAD, o.library) ? DSRUN_SYSTEM : DSRUN_OK;
	case DSRUN_DEVICES:
		return list_devices(&o);
	default:
		return list(&o);
	}
}
