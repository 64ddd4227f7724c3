/* guard.c - answers a shadow's mmap() calls from outside; theory in guard.h */
#include "runtime/host/warden/guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "rle/cleanup.h"

#define PIDFD_GETFD 438			     /* asm/unistd_64.h, Linux 5.6 */
#define NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64) /* linux/seccomp.h, Linux 6.6 */
#define NOTIF_SYNC_WAKE_UP 1u		     /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */
#define SETTLE_STEP_NS 200000

static int fail(struct guard_err *err, int number, const char *why)
{
	*err = (struct guard_err){.why = why, .err = number};
	return number;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void guard_init(struct guard *g, pid_t pid, int pidfd, struct authority *authority)
{
	*g = (struct guard){.listener = -1, .pid = pid, .pidfd = pidfd, .authority = authority};
}

void guard_close(struct guard *g)
{
	if (g->listener >= 0)
		close(g->listener);
	g->listener = -1;
}

/* --- is it in force ------------------------------------------------------------------------------------------------- */

static DIR *open_dir(pid_t pid, const char *what)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	return opendir(path);
}

/* The number behind @name in the status of a thread; -1: there is none. */
static long status_of(pid_t pid, const char *tid, const char *name)
{
	char path[64], line[256];
	const size_t length = strlen(name);
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, length) && line[length] == ':')
			value = strtol(line + length + 1, NULL, 10);
	fclose(f);
	return value;
}

/* Filters that this process has itself, as a service manager may have given it, and that the shadow has inherited: the oldest ones. */
static unsigned long inherited(void)
{
	char tid[16];
	long n;

	snprintf(tid, sizeof(tid), "%d", (int)getpid());
	n = status_of(getpid(), tid, "Seccomp_filters");
	return n > 0 ? (unsigned long)n : 0;
}

static int check_status(const struct guard *g, long filters, struct guard_err *err)
{
	const long all = (long)inherited() + filters;
	DIR *d = open_dir(g->pid, "task");
	const struct dirent *e;
	int rc = d ? 0 : fail(err, -ESRCH, "it has ended");

	while (!rc && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (status_of(g->pid, e->d_name, "Seccomp") != SECCOMP_MODE_FILTER)
			rc = fail(err, -EPERM, "a thread has no seccomp filter");
		else if (status_of(g->pid, e->d_name, "Seccomp_filters") != all)
			rc = fail(err, -EPERM, "a thread has another number of seccomp filters than were made");
		else if (filters > 1 && status_of(g->pid, e->d_name, "NoNewPrivs") != 1)
			rc = fail(err, -EPERM, "a thread may get new privileges");
	}
	if (d)
		closedir(d);
	return rc;
}

/*
 * Filter @index of a stopped process.  The oldest is 0: kernel/seccomp.c, get_nth_filter(); ptrace(2) says the contrary.
 * Return: 0, -EPERM another, -errno.
 */
static int compare_filter(pid_t pid, unsigned long index, const struct filter *want)
{
	struct sock_filter ins[FILTER_MAX];
	long n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, index, NULL);

	if (n < 0)
		return -errno;
	if (n != want->n)
		return -EPERM;
	n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, index, ins);
	if (n < 0)
		return -errno;
	return memcmp(ins, want->ins, (size_t)n * sizeof(ins[0])) ? -EPERM : 0;
}

/*
 * Stops the process for a moment and asks the kernel for its filters.  A call that waits for its notification to be
 * received is interrupted by that and made again.
 */
static int read_back(struct guard *g, const struct filter *first, const struct filter *second, struct guard_err *err)
{
	const unsigned long before = inherited();
	int rc, status;

	if (ptrace(PTRACE_SEIZE, g->pid, NULL, NULL))
		return errno == EPERM || errno == EACCES ? 0 : fail(err, -errno, "it cannot be stopped to read its filters");
	if (ptrace(PTRACE_INTERRUPT, g->pid, NULL, NULL) || waitpid(g->pid, &status, __WALL) != g->pid || !WIFSTOPPED(status))
		return fail(err, -ESRCH, "it ended when it was stopped to read its filters");
	rc = compare_filter(g->pid, before + (first ? 1 : 0), second);
	if (!rc && first)
		rc = compare_filter(g->pid, before, first);
	ptrace(PTRACE_DETACH, g->pid, NULL, NULL);
	if (!rc)
		g->read_back = true;
	/* not ours to read: without CAP_SYS_ADMIN, under a filter of our own, or without CONFIG_CHECKPOINT_RESTORE */
	if (rc == -EACCES || rc == -EIO || rc == -EINVAL)
		return 0;
	return rc ? fail(err, rc, "the filter in force is not the one that was sent") : 0;
}

/* --- notifications ------------------------------------------------------------------------------------------------- */

static int respond(const struct guard *g, uint64_t id, int64_t value, int error, uint32_t flags)
{
	struct seccomp_notif_resp resp = {.id = id, .val = value, .error = error, .flags = flags};

	/* ENOENT: the caller is gone meanwhile */
	return ioctl(g->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) && errno != ENOENT ? -errno : 0;
}

/* Return: 1 received; 0 it was withdrawn; -errno. */
static int receive(const struct guard *g, struct seccomp_notif *n)
{
	memset(n, 0, sizeof(*n));
	if (!ioctl(g->listener, SECCOMP_IOCTL_NOTIF_RECV, n))
		return 1;
	return errno == ENOENT || errno == EINTR ? 0 : -errno;
}

static bool is_knock(const struct seccomp_notif *n)
{
	const __u64 *a = n->data.args;

	return n->data.nr == __NR_mmap && a[0] == 0 && a[1] == DS_PAGE_BYTES && a[2] == PROT_NONE && a[3] == MAP_SHARED &&
	       a[4] == DS_SHADOW_RAM_RO_FD && a[5] == 0;
}

static int answer_knock(const struct guard *g, int timeout_ms, struct guard_err *err)
{
	const uint64_t until_ms = now_ms() + (uint64_t)timeout_ms;
	struct pollfd p = {.fd = g->listener, .events = POLLIN};
	struct seccomp_notif n;

	for (;;) {
		const uint64_t now = now_ms();
		int rc = now < until_ms ? poll(&p, 1, (int)(until_ms - now)) : 0;

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return fail(err, rc ? -errno : -ETIMEDOUT, "no call came from it through the filter");
		if (!(p.revents & POLLIN))
			return fail(err, -ESRCH, "it has ended");
		rc = receive(g, &n);
		if (!rc)
			continue;
		if (rc < 0)
			return fail(err, rc, "its call cannot be received");
		if (!is_knock(&n)) {
			respond(g, n.id, 0, -EPERM, 0);
			return fail(err, -EPERM, "its first call through the filter is another than it should be");
		}
		rc = respond(g, n.id, DS_SHADOW_KNOCK, 0, 0);
		return rc ? fail(err, rc, "its call cannot be answered") : 0;
	}
}

int guard_take(struct guard *g, int listener_fd, const struct filter *first, const struct filter *second, int timeout_ms,
	       struct guard_err *err)
{
	uint64_t none = 0;
	int rc;

	*err = (struct guard_err){0};
	g->listener = (int)syscall(PIDFD_GETFD, g->pidfd, listener_fd, 0);
	if (g->listener < 0)
		return fail(err, -errno, "its listener cannot be taken");
	fcntl(g->listener, F_SETFD, FD_CLOEXEC);
	/* A listener says ENOENT to a number that is no call's; another file ENOTTY or such. */
	if (!ioctl(g->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) || errno != ENOENT)
		return fail(err, -EPERM, "what it says to be its listener is none");
	g->sync_wake = !ioctl(g->listener, NOTIF_SET_FLAGS, (unsigned long)NOTIF_SYNC_WAKE_UP);
	rc = check_status(g, first ? 2 : 1, err);
	if (!rc)
		rc = read_back(g, first, second, err);
	return rc ? rc : answer_knock(g, timeout_ms, err);
}

int guard_sealed(const struct guard *g, struct guard_err *err)
{
	DIR *d = open_dir(g->pid, "fd");
	const struct dirent *e;
	int rc = d ? 0 : fail(err, -errno, "its descriptors cannot be looked at");

	*err = rc ? *err : (struct guard_err){0};
	while (!rc && (e = readdir(d))) {
		char name[64];
		ssize_t n = readlinkat(dirfd(d), e->d_name, name, sizeof(name) - 1);

		if (n < 0)
			continue;
		name[n] = 0;
		if (!strncmp(name, "anon_inode:", 11) && strstr(name, "seccomp"))
			rc = fail(err, -EPERM, "it holds its own listener");
	}
	if (d)
		closedir(d);
	return rc;
}

static void remember(struct guard *g, pid_t tid)
{
	for (uint32_t i = 0; i < g->ntids; i++)
		if (g->tid[i] == tid)
			return;
	if (g->ntids < GUARD_SETTLE_MAX)
		g->tid[g->ntids++] = tid;
	else
		g->overflow = true;
}

int guard_answer(struct guard *g)
{
	struct seccomp_notif n;
	struct authority_call call;
	const char *why;
	int rc = receive(g, &n);

	if (rc <= 0)
		return rc;
	call = (struct authority_call){.address = n.data.args[0],
				       .bytes = n.data.args[1],
				       .prot = n.data.args[2],
				       .flags = n.data.args[3],
				       .fd = n.data.args[4],
				       .offset = n.data.args[5]};
	why = n.data.nr == __NR_mmap ? authority_check(g->authority, &call) : "it is not mmap()";
	if (why) {
		g->refused++;
		g->last = (struct guard_refusal){.why = why, .tid = (pid_t)n.pid, .call = call};
		rc = respond(g, n.id, 0, -EPERM, 0);
	} else {
		g->passed++;
		remember(g, (pid_t)n.pid);
		rc = respond(g, n.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
	}
	return rc ? rc : 1;
}

/* --- calls on their way -------------------------------------------------------------------------------------------- */

/* Whether thread @tid waits in another call than mmap(), or is gone. */
static bool at_rest(pid_t pid, pid_t tid)
{
	char path[64], text[32];
	cleanup_close int fd = -1;
	ssize_t n;
	char *end;
	long nr;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ESRCH;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return n == 0 || errno == ESRCH;
	text[n] = 0;
	nr = strtol(text, &end, 10);
	if (end == text) /* "running": on a CPU, in the kernel or not */
		return false;
	return nr != __NR_mmap; /* -1: stopped outside of any call */
}

int guard_settle(struct guard *g, int timeout_ms)
{
	const struct timespec step = {.tv_nsec = SETTLE_STEP_NS};
	const uint64_t until_ms = now_ms() + (uint64_t)timeout_ms;
	struct pollfd p = {.fd = g->listener, .events = POLLIN};

	if (g->overflow)
		return -ETIMEDOUT;
	for (;;) {
		uint32_t left = 0;

		for (uint32_t i = 0; i < g->ntids; i++)
			if (!at_rest(g->pid, g->tid[i]))
				g->tid[left++] = g->tid[i];
		g->ntids = left;
		if (!left)
			return 0;
		if (now_ms() >= until_ms)
			return -ETIMEDOUT;
		/* one that waits for an answer is in mmap() too; it gets one by what may be mapped now */
		if (poll(&p, 1, 0) > 0 && p.revents & POLLIN) {
			int rc = guard_answer(g);

			if (rc < 0)
				return rc;
		} else {
			nanosleep(&step, NULL);
		}
	}
}
