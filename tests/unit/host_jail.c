/* host_jail.c - a capsule in its jail, looked at from outside; how a jail fails; that nothing of it stays
 *
 * What is said of the inside is read from /proc of the outside: /proc/PID/status, ns, fd, limits, mountinfo.
 */
#include <dirent.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/count_fds.h"
#include "tests/guarded.h"
#include "tests/services/calls.h"
#include "tests/tap.h"

static const struct rle_run runs[] = {{{0x555555000}, {3}, 4, RW}, {{0x7ffff0000}, {10}, 2, RLE_ATTR_READ}};
static struct guarded g;
static const struct filter_want want;

/* What follows @name in /proc/PID/FILE, without blanks at its ends. */
static const char *say(const char *file, const char *name)
{
	static char line[512];
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", g.jail.pid, file);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, strlen(name)))
			continue;
		fclose(f);
		line[strcspn(line, "\n")] = 0;
		return line + strlen(name) + strspn(line + strlen(name), ": \t");
	}
	if (f)
		fclose(f);
	return "(nothing)";
}

static void said(const char *file, const char *name, const char *wanted, const char *what)
{
	const char *got = say(file, name);

	if (!tap_ok(!strncmp(got, wanted, strlen(wanted)), "%s", what))
		printf("# /proc/PID/%s says %s%s\n", file, name, got);
}

static unsigned int count_dir(const char *what)
{
	char path[64];
	unsigned int n = 0;
	const struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/%s", g.jail.pid, what);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static bool same_ns(const char *ns)
{
	char ours[64], theirs[64], path[64];
	ssize_t a, b;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", ns);
	a = readlink(path, ours, sizeof(ours));
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", g.jail.pid, ns);
	b = readlink(path, theirs, sizeof(theirs));
	return a < 0 || b < 0 || (a == b && !memcmp(ours, theirs, (size_t)a));
}

static unsigned int mounts(char *line, size_t bytes)
{
	char path[64];
	unsigned int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", g.jail.pid);
	f = fopen(path, "r");
	while (f && fgets(line, (int)bytes, f))
		n++;
	if (f)
		fclose(f);
	return n;
}

/* How many of its groups its process is in: their directories list it. */
static unsigned int inside_groups(void)
{
	const struct jailgroup *group = &g.jail.group;
	const char *const dir[] = {group->two, group->one[0], group->one[1], group->one[2]};
	unsigned int n = 0;

	for (size_t i = 0; i < sizeof(dir) / sizeof(dir[0]); i++) {
		char path[JAILGROUP_PATH_BYTES + 16];
		int pid;
		FILE *f;

		snprintf(path, sizeof(path), "%s/cgroup.procs", dir[i]);
		f = *dir[i] ? fopen(path, "r") : NULL;
		while (f && fscanf(f, "%d", &pid) == 1)
			n += pid == g.jail.pid;
		if (f)
			fclose(f);
	}
	return n;
}

static void look(bool guarded)
{
	static const char *const ns[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
	static const char *const caps[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
	char line[512] = "", path[64];
	unsigned int shared = 0, held = 0;
	struct stat st;

	for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++)
		shared += same_ns(ns[i]);
	tap_eq(shared, 0, "it shares none of 7 namespaces with us");
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
		held += strcmp(say("status", caps[i]), "0000000000000000") != 0;
	tap_eq(held, 0, "it has no capability of any kind");
	said("status", "NoNewPrivs", "1", "it cannot get new privileges");
	said("status", "Uid", "65534\t65534\t65534\t65534", "its user is an unprivileged one of the host");
	said("status", "Gid", "65534\t65534\t65534\t65534", "its group is");
	tap_ok(!*say("status", "Groups"), "it has no other groups");
	tap_ok(strstr(say("status", "NSpid"), "\t1") != NULL, "inside it is process 1");
	said("status", "Seccomp", "2", "it is under a filter");
	said("status", "Seccomp_filters", guarded ? "2" : "1", guarded ? "two of them" : "one of them, before it has read a byte");
	tap_eq(mounts(line, sizeof(line)), 1, "one thing is mounted there");
	tap_ok(strstr(line, " / / ro,nosuid,nodev,noexec") && strstr(line, "tmpfs"), "an empty root, read-only");
	snprintf(path, sizeof(path), "/proc/%d/root", g.jail.pid);
	tap_ok(!stat(path, &st) && (st.st_mode & 07777) == 0 && st.st_nlink == 2, "that nobody may list or enter");
	tap_ok(strstr(say("limits", "Max core file size"), "0                    0") != NULL, "no core file");
	said("limits", "Max processes", "3", "processes: its threads");
	said("limits", "Max open files", "8192", "descriptors: their numbers are below 8192");
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", g.jail.pid);
	{
		FILE *f = fopen(path, "r");
		int score = 0;

		tap_ok(f && fscanf(f, "%d", &score) == 1 && score == 1000, "the first to go when memory is short");
		if (f)
			fclose(f);
	}
}

static unsigned int groups_left(void);

static void test_inside(void)
{
	struct jail_params p = {.threads = 3, .memory_bytes = 64 << 20, .cpu_percent = 90, .file_size_bytes = 12345};
	int kind, spare = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */
	unsigned int groups = 0;
	char path[64], target[64];
	ssize_t n;

	signal(SIGPIPE, SIG_IGN); /* neither is inherited */
	if (setgroups(1, (gid_t[]){12345}))
		err(2, "setgroups");
	guarded_init(&g, 64);
	if (guarded_spawn(&g, "calls", &want, &p))
		errx(2, "jail: %s: %s", g.jail_err.what, strerror(-g.jail_err.err));
	close(spare);
	printf("# memory: %s; landlock: version %d\n", jail_memory_name(g.jail.memory), g.jail.landlock);
	look(false);
	tap_eq(count_dir("fd"), 1, "it has one descriptor");
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", g.jail.pid, DS_SHADOW_CTL_FD);
	n = readlink(path, target, sizeof(target) - 1);
	tap_ok(n > 0 && !strncmp(target, "socket:", 7), "of the number that it knows, a socket");
	said("status", "SigIgn", "0000000001000000", "no signal is ignored as we ignore it, but that of files that are too large (SIGXFSZ)");
	said("limits", "Max file size", "12345 ", "which the kernel limits");
	printf("# processor time: cgroup version %d, threads: %d\n", g.jail.group.version[JAILGROUP_CPU], g.jail.group.version[JAILGROUP_PIDS]);
	for (int i = 0; i < JAILGROUP_LIMITS; i++)
		groups += g.jail.group.version[i] != 0;
	tap_ok((groups_left() != 0) == (groups != 0), "%u limits are kept by cgroups", groups);
	tap_eq(inside_groups(), groups_left(), "it is in each of its groups");
	kind = guarded_boot(&g, "calls", 2, runs, 2);
	tap_eq(kind, DS_SHADOW_STATUS, "it starts, its guard is armed");
	if (kind != DS_SHADOW_STATUS)
		printf("# reason %u, err %d; %s %d\n", g.h.refused.reason, g.h.refused.err, g.guard_err.why ? g.guard_err.why : "", g.guard_err.err);
	look(true);
	tap_eq(count_dir("fd"), 3, "it has the channel and the RAM, twice");
	tap_eq(count_dir("task"), 3, "and its threads");
	tap_eq(g.h.status.pid, 1, "it knows itself as process 1");
	snprintf(path, sizeof(path), "/proc/%d/maps", g.jail.pid);
	tap_ok(!stat(path, &(struct stat){0}), "its mappings can be looked at by us");
	{
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/mem", g.jail.pid);
		tap_ok(!stat(path, &st) && st.st_uid == 0, "and by nobody who is not root: it is not dumpable");
	}
	tap_eq(guarded_update(&g, runs, 1), DS_SHADOW_STATUS, "it takes an update");
	guarded_end(&g);
	host_free(&g.h);
}

/* Of any hierarchy. */
static unsigned int groups_left(void)
{
	char command[128], line[512];
	unsigned int n = 0;
	FILE *f;

	snprintf(command, sizeof(command), "find /sys/fs/cgroup -type d -name 'dshost-shadow-%d-*' 2>/dev/null", getpid());
	f = popen(command, "r");
	while (f && fgets(line, sizeof(line), f))
		n++;
	if (f)
		pclose(f);
	return n;
}

static int spawn_bad(struct jail_params *p, const char *service)
{
	int rc = guarded_spawn(&g, service, &want, p);

	if (rc)
		printf("# %s: %s\n", g.jail_err.what, strerror(-g.jail_err.err));
	close(g.h.ctl);
	return rc;
}

static void test_failures(void)
{
	struct jail_params p = {.threads = 3, .memory_bytes = 64 << 20};
	static const struct filter broken = {.n = 1, .ins = {{0xffff, 0, 0, 0}}};
	const int fds = count_fds();
	struct jail jail;
	struct jail_err jerr;
	char path[] = "/tmp/host_jail.XXXXXX";
	int fd = mkstemp(path);

	guarded_init(&g, 64);
	unlink(path);
	p.exe_fd = fd; /* mode 0600 */
	tap_ok(spawn_bad(&p, "calls") == -EACCES && strstr(g.jail_err.what, "executing"), "a file that is not executable is said to be");
	p.exe_fd = open("/etc/passwd", O_RDONLY);
	tap_ok(spawn_bad(&p, "calls") < 0 && strstr(g.jail_err.what, "executing"), "so is one that is no program");
	p.exe_fd = open("/", O_RDONLY);
	tap_ok(spawn_bad(&p, "calls") < 0, "so is a directory");
	p = (struct jail_params){.exe_fd = open("/proc/self/exe", O_RDONLY), .ctl_fd = 1, .name = "x", .threads = 1, .first = &broken};
	tap_ok(jail_spawn(&p, &jail, &jerr) == -EINVAL && strstr(jerr.what, "filter"), "so is a filter that the kernel does not take");
	close(p.exe_fd);
	host_free(&g.h);
	tap_eq(count_fds(), fds, "no descriptor is left behind");
	tap_eq(waitpid(-1, NULL, WNOHANG), -1, "and no process");
}

/* Many at once, of the same user of the host. */
static void test_many(void)
{
	static struct guarded many[20];
	unsigned int up = 0, left;

	for (size_t i = 0; i < 20; i++) {
		struct jail_params p = {.threads = 2, .memory_bytes = 64 << 20};

		guarded_init(&many[i], 64);
		if (!guarded_spawn(&many[i], "calls", &want, &p) && guarded_boot(&many[i], "calls", 1, runs, 2) == DS_SHADOW_STATUS)
			up++;
		else
			printf("# %zu: %s %d; reason %u err %d; %s\n", i, many[i].jail_err.what ? many[i].jail_err.what : "",
			       many[i].jail_err.err, many[i].h.refused.reason, many[i].h.refused.err,
			       many[i].guard_err.why ? many[i].guard_err.why : "");
	}
	tap_eq(up, 20, "twenty of them start side by side");
	g.jail.group = many[0].jail.group;
	for (size_t i = 0; i < 20; i++) {
		guarded_end(&many[i]);
		host_free(&many[i].h);
	}
	left = groups_left();
	tap_eq(left, 0, "their cgroups are gone");
	tap_eq(waitpid(-1, NULL, WNOHANG), -1, "and their processes");
}

/* A host without user namespaces says so. */
static void test_forbidden(void)
{
	static const char knob[] = "/proc/sys/user/max_user_namespaces";
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		/* in a namespace of our own the limit is ours to set */
		struct jail_params p = {.threads = 2};
		FILE *f;

		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			_exit(77);
		f = fopen(knob, "w");
		if (!f || fputs("0", f) < 0 || fclose(f))
			_exit(77);
		guarded_init(&g, 64);
		_exit(guarded_spawn(&g, "calls", &want, &p) && strstr(g.jail_err.what, "user namespace") ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		tap_skip("a host that forbids user namespaces is told of", "the limit cannot be set here");
	else
		tap_eq(status, 0, "a host that forbids user namespaces is told of");
}

/* By somebody who is not root. */
static void test_user(void)
{
	static const char what[] = "without root there is a jail, too";
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct jail_params p = {.threads = 2, .memory_bytes = 64 << 20};

		guarded_init(&g, 64);
		if (setgroups(0, NULL) || setresgid(4321, 4321, 4321) || setresuid(4321, 4321, 4321) || prctl(PR_SET_DUMPABLE, 1))
			_exit(77);
		if (guarded_spawn(&g, "calls", &want, &p)) {
			printf("# %s: %s\n", g.jail_err.what, strerror(-g.jail_err.err));
			fflush(stdout);
			_exit(strstr(g.jail_err.what, "user namespace") ? 77 : 1);
		}
		_exit(g.jail.memory == JAIL_MEMORY_RLIMIT && !strncmp(say("status", "NoNewPrivs"), "1", 1) &&
				      !strncmp(say("status", "Uid"), "4321", 4) ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		tap_skip(what, "this host does not let users make user namespaces");
	else
		tap_eq(status, 0, "%s", what);
}

int main(void)
{
	test_inside();
	test_failures();
	test_many();
	test_forbidden();
	test_user();
	return tap_done();
}
