/* jail.c - starts a capsule where it can reach nothing; theory in jail.h */
#include "runtime/host/jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rle/cleanup.h"
#include "runtime/host/jail/jailland.h"
#include "runtime/host/jail/jailroot.h"
#include "runtime/wire/shadow.h"

#define SYNC_FD (DS_SHADOW_CTL_FD + 1) /* in the child, until it executes */
#define EXE_FD (DS_SHADOW_CTL_FD + 2)
#define ASIDE_FD (DS_SHADOW_CTL_FD + 3) /* above all of these */
#define DRIVER_THREADS 16 /* threads that drivers make in who uses them: KVM one for each machine, vhost one for each device */
#define PASSING_FDS 64 /* that have been opened and have not got their numbers */
#define SIGNALS_QUEUED 256 /* a stop signal for each executor, and again */
#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/** enum step - What a child was doing when it failed; the text for each is below. */
enum step {
	STEP_READY, /* not a failure: it waits for the word to go */
	STEP_GROUP,
	STEP_SESSION,
	STEP_USER,
	STEP_ROOT,
	STEP_PLACES,
	STEP_DEVICES,
	STEP_CAPS,
	STEP_LANDLOCK,
	STEP_LIMITS,
	STEP_FDS,
	STEP_DEATH,
	STEP_FILTER,
	STEP_EXEC,
	STEP_END
};
static const char *const step_text[STEP_END] = {
	[STEP_READY] = "it ended before it was executed",
	[STEP_GROUP] = "joining its cgroup",
	[STEP_SESSION] = "a session of its own",
	[STEP_ROOT] = "an empty root directory",
	[STEP_PLACES] = "putting places of the host into its root directory",
	[STEP_DEVICES] = "putting devices of the host into its root directory",
	[STEP_CAPS] = "giving up capabilities",
	[STEP_USER] = "becoming an unprivileged user",
	[STEP_LIMITS] = "setting limits",
	[STEP_LANDLOCK] = "denying the file system (landlock)",
	[STEP_FDS] = "arranging descriptors (their numbers need RLIMIT_NOFILE of 8192)",
	[STEP_DEATH] = "tying its life to its parent's",
	[STEP_FILTER] = "the first seccomp filter",
	[STEP_EXEC] = "executing the capsule (is it executable for everybody, on a file system without noexec?)",
};

/** struct report - From the child to its parent. */
struct report {
	uint32_t step;
	int32_t err;
};

static int fail(struct jail_err *err, int number, const char *what)
{
	*err = (struct jail_err){.what = what, .err = number};
	return number;
}

/** struct inside - What the child is made of: numbers inside its namespaces, and mounts to attach. */
struct inside {
	uid_t uid;
	gid_t gid;
	bool was_root;
	int bind_fd[JAILBIND_MAX]; /* -1: none */
	int dev_fd;
	struct jailgroup_doors doors;
};

/* --- the child ------------------------------------------------------------------------------------------------------ */

static int make_root(const struct jail_params *p, const struct inside *in, enum step *step)
{
	static const enum step steps[] = {[JAILROOT_ROOT] = STEP_ROOT, [JAILROOT_PLACES] = STEP_PLACES, [JAILROOT_DEVICES] = STEP_DEVICES};
	enum jailroot_part part;
	const int rc = jailroot_make(p->binds, in->bind_fd, p->nbinds, in->dev_fd, &part);

	*step = steps[part];
	return rc;
}

/* Capabilities of the new namespace stay: they are given up when the root is made. */
static int become(const struct inside *in)
{
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)) /* whatever the numbers are */
		return -errno;
	/* without root outside, other groups cannot be given up (user_namespaces(7)) */
	if ((in->was_root && syscall(__NR_setgroups, 0, NULL)) || syscall(__NR_setresgid, in->gid, in->gid, in->gid) ||
	    syscall(__NR_setresuid, in->uid, in->uid, in->uid))
		return -errno;
	return 0;
}

/* Keeps over the exec what it is to keep: by the ambient set, as it is not root. */
static int keep_cap(unsigned long cap)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct now[2];

	if (syscall(__NR_capget, &head, now))
		return -errno;
	now[CAP_TO_INDEX(cap)].inheritable |= CAP_TO_MASK(cap);
	if (syscall(__NR_capset, &head, now) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0))
		return -errno;
	return 0;
}

/* @keep: a capability, or none (negative). */
static int drop_caps(int keep)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct left[2] = {{0}, {0}};
	int rc = keep < 0 ? prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) ? -errno : 0 : keep_cap((unsigned long)keep);
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
				   SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	if (keep >= 0)
		left[CAP_TO_INDEX(keep)] = (struct __user_cap_data_struct){CAP_TO_MASK(keep), CAP_TO_MASK(keep), CAP_TO_MASK(keep)};
	if (rc || prctl(PR_SET_SECUREBITS, bits, 0, 0, 0))
		return rc ? rc : -errno;
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if ((int)cap != keep && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -errno;
	if (syscall(__NR_capset, &head, left) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return 0;
}

/* Its own, and those that drivers make in it. */
static uint32_t threads_of(const struct jail_params *p)
{
	return p->threads + (p->ndevices ? DRIVER_THREADS : 0);
}

static int limit(int resource, uint64_t value)
{
	const struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

	return setrlimit((__rlimit_resource_t)resource, &limit) ? -errno : 0;
}

static int set_limits(const struct jail_params *p, enum jail_memory memory)
{
	const uint64_t few = DS_SHADOW_HOLD_FD + 1 + p->descriptors + PASSING_FDS;
	const uint64_t nofile = p->descriptors && few < DS_SHADOW_FDS_MAX ? few : DS_SHADOW_FDS_MAX;
	const struct {
		int resource;
		uint64_t value;
	} limits[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_NOFILE, nofile},
		{RLIMIT_NPROC, threads_of(p)},
		{RLIMIT_MEMLOCK, 0},
		{RLIMIT_MSGQUEUE, 0},
		{RLIMIT_SIGPENDING, SIGNALS_QUEUED},
		{RLIMIT_RTPRIO, 0},
		{RLIMIT_NICE, 0},
		{RLIMIT_DATA, memory == JAIL_MEMORY_RLIMIT ? p->memory_bytes : RLIM_INFINITY},
		{RLIMIT_FSIZE, p->file_size_bytes ? p->file_size_bytes : RLIM_INFINITY},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit now;
		uint64_t value = limits[i].value;
		int rc;

		if (getrlimit((__rlimit_resource_t)limits[i].resource, &now))
			return -errno;
		if (value > now.rlim_max) /* what is lower already stays so */
			value = now.rlim_max;
		rc = limit(limits[i].resource, value);
		if (rc)
			return rc;
	}
	return 0;
}

/* By the kernel's own call: the C library's leaves out two signals of its own, which whoever started us may ignore. */
static void reset_signals(const struct jail_params *p)
{
	const uint64_t plain[4] = {(uint64_t)SIG_DFL}, ignored[4] = {(uint64_t)SIG_IGN}; /* the kernel's struct sigaction */
	sigset_t none;

	for (long i = 1; i < _NSIG; i++)
		syscall(SYS_rt_sigaction, i, plain, NULL, (long)sizeof(uint64_t)); /* SIGKILL and SIGSTOP cannot, and are */
	if (p->file_size_bytes) /* a file that gets too large is an error of the call, not the shadow's death */
		syscall(SYS_rt_sigaction, (long)SIGXFSZ, ignored, NULL, (long)sizeof(uint64_t));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Exactly three descriptors are left, two of which the exec closes. */
static int arrange_fds(int sync_fd, int ctl_fd, int exe_fd)
{
	const int sync = fcntl(sync_fd, F_DUPFD, ASIDE_FD), ctl = fcntl(ctl_fd, F_DUPFD, ASIDE_FD),
		  exe = fcntl(exe_fd, F_DUPFD, ASIDE_FD);

	if (sync < 0 || ctl < 0 || exe < 0 || dup3(sync, SYNC_FD, O_CLOEXEC) < 0 || dup2(ctl, DS_SHADOW_CTL_FD) < 0 ||
	    dup3(exe, EXE_FD, O_CLOEXEC) < 0 || syscall(__NR_close_range, EXE_FD + 1, ~0u, 0) ||
	    syscall(__NR_close_range, 0, DS_SHADOW_CTL_FD - 1, 0))
		return -errno;
	return 0;
}

/* Return: whether the parent says to go on; else it is dead. */
static bool go_on(int sync_fd)
{
	char word;

	return recv(sync_fd, &word, 1, 0) == 1;
}

static int set_filter(const struct filter *f)
{
	const struct sock_fprog prog = {.len = f->n, .filter = (struct sock_filter *)f->ins};

	return syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) ? -errno : 0;
}

/*
 * What each step needs the ones before have left: the root belongs to the new user, mounts need capabilities, a death
 * signal is forgotten when credentials change (prctl(2), PR_SET_PDEATHSIG), the numbers of descriptors are within
 * RLIMIT_NOFILE, the filter lets nothing through of all this.
 */
static int confine(const struct jail_params *p, const struct jail *j, const struct inside *in, int sync_fd, enum step *step)
{
	const struct jailland_want want = {
		.exe_fd = p->exe_fd, .bind = p->binds, .bind_fd = in->bind_fd, .nbinds = p->nbinds,
		.dev_fd = in->dev_fd, .net = p->net_host || p->net_own};
	const struct report ready = {.step = STEP_READY};
	int landlock, rc;

	*step = STEP_GROUP;
	rc = jailgroup_enter(&in->doors);
	if (!rc && (*step = STEP_SESSION))
		rc = setsid() < 0 ? -errno : 0;
	landlock = rc ? 0 : jailland_prepare(&want);
	if (!rc && (*step = STEP_USER))
		rc = become(in);
	if (!rc && (*step = STEP_ROOT))
		rc = make_root(p, in, step);
	if (!rc && (*step = STEP_CAPS))
		rc = drop_caps(p->net_own ? CAP_NET_ADMIN : -1);
	if (!rc && (*step = STEP_LANDLOCK))
		rc = j->landlock ? (landlock < 0 ? landlock : jailland_enforce(landlock)) : 0;
	if (rc)
		return rc;
	reset_signals(p);
	*step = STEP_LIMITS;
	rc = set_limits(p, j->memory);
	if (rc)
		return rc;
	*step = STEP_FDS;
	rc = arrange_fds(sync_fd, p->ctl_fd, p->exe_fd);
	if (rc)
		return rc;
	*step = STEP_DEATH;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return -errno;
	/* A parent that died before that line cannot say go any more. */
	if (send(SYNC_FD, &ready, sizeof(ready), MSG_NOSIGNAL) < 0 || !go_on(SYNC_FD))
		return -EPIPE;
	*step = STEP_FILTER;
	return set_filter(p->first);
}

__attribute__((noreturn)) static void child(const struct jail_params *p, const struct jail *j, const struct inside *in, int sync_fd)
{
	char *argv[] = {(char *)p->name, NULL}, *envp[] = {NULL};
	struct report report;
	enum step step;
	int rc;

	if (!go_on(sync_fd))
		_exit(1);
	rc = confine(p, j, in, sync_fd, &step);
	if (!rc) {
		step = STEP_EXEC;
		syscall(__NR_execveat, EXE_FD, "", argv, envp, AT_EMPTY_PATH);
		rc = -errno;
	}
	if (step > STEP_FDS)
		sync_fd = SYNC_FD;
	report = (struct report){.step = step, .err = rc};
	send(sync_fd, &report, sizeof(report), MSG_NOSIGNAL);
	_exit(1);
}

/* --- the parent ----------------------------------------------------------------------------------------------------- */

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Who it is outside, and inside. */
static void choose_ids(const struct jail_params *p, bool was_root, struct inside *in, uid_t *uid, gid_t *gid)
{
	*uid = !was_root ? geteuid() : p->uid || p->as_root ? p->uid : JAIL_NOBODY;
	*gid = !was_root ? getegid() : p->gid || p->as_root ? p->gid : JAIL_NOBODY;
	*in = (struct inside){.uid = p->all_ids ? *uid : JAIL_NOBODY, .gid = p->all_ids ? *gid : JAIL_NOBODY, .was_root = was_root};
	for (size_t i = 0; i < JAILBIND_MAX; i++)
		in->bind_fd[i] = -1;
	in->dev_fd = -1;
	in->doors = (struct jailgroup_doors){.two = -1, .one = {-1, -1, -1}};
}

static int map_ids(const struct jail_params *p, const struct jail *j, const struct inside *in, uid_t uid, gid_t gid)
{
	char text[64] = "0 0 4294967295";
	int rc = in->was_root ? 0 : write_proc(j->pid, "setgroups", "deny");

	if (!p->all_ids)
		snprintf(text, sizeof(text), "%u %u 1", in->gid, gid);
	if (!rc)
		rc = write_proc(j->pid, "gid_map", text);
	if (!p->all_ids)
		snprintf(text, sizeof(text), "%u %u 1", in->uid, uid);
	return rc ? rc : write_proc(j->pid, "uid_map", text);
}

/* What the child cannot do for itself. */
static int prepare(const struct jail_params *p, const struct jail *j, const struct inside *in, uid_t uid, gid_t gid, struct jail_err *err)
{
	int rc = map_ids(p, j, in, uid, gid);

	if (rc)
		return fail(err, rc, "mapping a user into the new user namespace");
	rc = write_proc(j->pid, "oom_score_adj", "1000");
	return rc ? fail(err, rc, "making it the first to be killed when memory is short") : 0;
}

/* Return: 0 and the next report, @report->step STEP_END at the end of the stream; -errno. */
static int await(int sync_fd, struct report *report)
{
	ssize_t got;

	do
		got = recv(sync_fd, report, sizeof(*report), 0);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		report->step = STEP_END;
	else if (got != sizeof(*report) || report->step >= STEP_END)
		return got < 0 ? -errno : -EPROTO;
	return 0;
}

/* Leads the child through its steps until it has executed. */
static int lead(const struct jail *j, int sync_fd, struct jail_err *err)
{
	struct report r = {0};
	siginfo_t info = {0};
	int rc;

	if (send(sync_fd, "g", 1, MSG_NOSIGNAL) != 1)
		return fail(err, -errno, step_text[STEP_READY]);
	rc = await(sync_fd, &r);
	if (!rc && r.step == STEP_READY) {
		if (send(sync_fd, "g", 1, MSG_NOSIGNAL) != 1)
			return fail(err, -errno, step_text[STEP_READY]);
		rc = await(sync_fd, &r);
	} else if (!rc && r.step == STEP_END) {
		rc = -ECHILD;
	}
	if (rc)
		return fail(err, rc, step_text[STEP_READY]);
	if (r.step != STEP_END)
		return fail(err, r.err, step_text[r.step]);
	/* The end of the stream is the exec, or a death. */
	if (!waitid(P_PID, (id_t)j->pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
		return fail(err, -ECHILD, step_text[STEP_READY]);
	return 0;
}

static int spawn_failed(struct jail_err *err, int number)
{
	if (number == -EPERM || number == -ENOSPC || number == -EUSERS || number == -EINVAL)
		return fail(err, number, "a new user namespace: this host forbids them (see user.max_user_namespaces, "
					 "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; in a chroot the kernel allows none)");
	return fail(err, number, "a new process");
}

/* Its cgroups, as far as they can be made.  Return: who limits its memory. */
static enum jail_memory make_groups(const struct jail_params *p, bool was_root, struct jailgroup *group)
{
	const struct jailgroup_want want = {.memory_bytes = p->memory_bytes,
					    .cpu_percent = p->cpu_percent,
					    .pids = threads_of(p),
					    .bare = p->net.limited || p->net.counted};

	*group = (struct jailgroup){0};
	if (was_root && !jailgroup_make(group, &want) && group->version[JAILGROUP_MEMORY])
		return group->version[JAILGROUP_MEMORY] == 2 ? JAIL_MEMORY_CGROUP2 : JAIL_MEMORY_CGROUP1;
	return p->demand || !p->memory_bytes ? JAIL_MEMORY_NONE : JAIL_MEMORY_RLIMIT;
}

static void close_places(struct inside *in)
{
	for (size_t i = 0; i < JAILBIND_MAX; i++)
		cleanup_close_fn(&in->bind_fd[i]);
	cleanup_close_fn(&in->dev_fd);
	jailgroup_close(&in->doors);
}

static int open_places(const struct jail_params *p, struct inside *in, uid_t uid, gid_t gid, struct jail_err *err)
{
	const bool many = p->nbinds > JAILBIND_MAX || p->ndevices > JAILDEV_PATTERNS_MAX;

	if (many || ((p->nbinds || p->all_ids || p->ndevices) && !in->was_root))
		return fail(err, many ? -E2BIG : -EPERM, "giving it places of the host (dshost has to be root for that)");
	for (size_t i = 0; i < p->nbinds; i++) {
		in->bind_fd[i] = jailbind_open(&p->binds[i]);
		if (in->bind_fd[i] < 0) {
			const int rc = in->bind_fd[i];

			fail(err, rc, "a place of the host");
			err->bind = (int)i + 1;
			return rc;
		}
	}
	if (!p->ndevices)
		return 0;
	in->dev_fd = jaildev_open(p->devices, p->ndevices, uid, gid);
	if (in->dev_fd < 0) {
		fail(err, in->dev_fd, "devices of the host");
		err->bind = -1;
		return err->err;
	}
	return 0;
}

/* A child in its namespaces, which waits for the word to go.  Return: its number, or -errno. */
static long make_child(const struct jail_params *p, struct jail *j, const struct inside *in, int sync_fd)
{
	struct clone_args args = {.flags = NAMESPACES | CLONE_PIDFD | (p->net_host ? 0 : CLONE_NEWNET) |
					   (in->doors.two < 0 ? 0 : CLONE_INTO_CGROUP),
				  .pidfd = (uintptr_t)&j->pidfd,
				  .exit_signal = SIGCHLD,
				  .cgroup = in->doors.two < 0 ? 0 : (uint64_t)in->doors.two};
	const long pid = syscall(__NR_clone3, &args, sizeof(args));

	if (pid == 0)
		child(p, j, in, sync_fd);
	return pid < 0 ? -errno : pid;
}

int jail_spawn(const struct jail_params *p, struct jail *j, struct jail_err *err)
{
	__attribute__((cleanup(close_places))) struct inside in;
	cleanup_close int ours = -1, theirs = -1;
	int pair[2], rc;
	uid_t uid;
	gid_t gid;
	long pid;

	*err = (struct jail_err){0};
	*j = (struct jail){.pidfd = -1, .landlock = jailland_abi(), .net = {.counts_fd = -1}};
	if (p->unix_sockets && p->net_host && j->landlock < JAILLAND_ABI_SCOPES)
		return fail(err, -EOPNOTSUPP, "unix sockets beside the host's network, whose abstract names are everybody's (it takes landlock of Linux 6.12)");
	choose_ids(p, geteuid() == 0, &in, &uid, &gid);
	rc = open_places(p, &in, uid, gid, err);
	if (rc)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return fail(err, -errno, "a socket pair");
	ours = pair[0], theirs = pair[1];
	j->memory = make_groups(p, in.was_root, &j->group);
	rc = jailgroup_open(&j->group, &in.doors);
	if (rc) {
		jailgroup_remove(&j->group);
		return fail(err, rc, step_text[STEP_GROUP]);
	}
	rc = jailnet_attach(j->group.two, &p->net, &j->net);
	if (rc) {
		jailgroup_remove(&j->group);
		return fail(err, rc, "having the kernel look at its connections (it takes root, a cgroup of version 2, and BPF)");
	}
	pid = make_child(p, j, &in, theirs);
	if (pid < 0) {
		jailnet_close(&j->net);
		jailgroup_remove(&j->group);
		return spawn_failed(err, (int)pid);
	}
	j->pid = (pid_t)pid;
	close(steal_fd(&theirs));
	rc = prepare(p, j, &in, uid, gid, err);
	if (!rc)
		rc = lead(j, ours, err);
	if (rc)
		jail_kill(j);
	return rc;
}

int jail_kill(struct jail *j)
{
	int status = 0, rc = 0;

	if (j->pid > 0) {
		syscall(__NR_pidfd_send_signal, j->pidfd, SIGKILL, NULL, 0);
		while (waitpid(j->pid, &status, 0) < 0 && !rc)
			rc = errno == EINTR ? 0 : -errno;
	}
	jailnet_close(&j->net);
	jailgroup_remove(&j->group);
	if (j->pidfd >= 0)
		close(j->pidfd);
	j->pid = 0;
	j->pidfd = -1;
	return rc ? rc : status;
}

const char *jail_memory_name(enum jail_memory memory)
{
	switch (memory) {
	case JAIL_MEMORY_RLIMIT: return "RLIMIT_DATA";
	case JAIL_MEMORY_CGROUP1: return "cgroup v1";
	case JAIL_MEMORY_CGROUP2: return "cgroup v2";
	default: return "not limited";
	}
}
