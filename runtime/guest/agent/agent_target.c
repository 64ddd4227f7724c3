/* agent_target.c - the process that a request is about; rules in agent_target.h */
#include "runtime/guest/agent/agent_target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/monitor/lend.h"

#define PF_KTHREAD 0x00200000

int agent_refuse(struct agent_refusal *why, uint32_t code, const char *fmt, ...)
{
	va_list ap;

	why->code = code;
	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return -1;
}

/* A small file of /proc/PID, terminated.  Return: bytes; -ESRCH gone; -errno. */
static ssize_t slurp(pid_t pid, const char *name, char *buf, size_t size)
{
	cleanup_close int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n ? n : -ESRCH;
}

/* What status says; uid and gid: real, effective, saved, of the file system. */
struct status {
	uint64_t uid[4], gid[4], cap_prm, swap_kb, tracer, seccomp, rss_kb;
};

static int read_status(pid_t pid, struct status *s)
{
	static const char *const one[] = {"\nTracerPid:", "\nSeccomp:", "\nVmRSS:", "\nVmSwap:"};
	char text[8192];
	uint64_t *to[] = {&s->tracer, &s->seccomp, &s->rss_kb, &s->swap_kb};
	ssize_t n = slurp(pid, "status", text, sizeof(text));
	char *at;

	*s = (struct status){0};
	if (n < 0)
		return n;
	at = strstr(text, "\nUid:");
	if (!at || sscanf(at + 5, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &s->uid[0], &s->uid[1], &s->uid[2], &s->uid[3]) != 4)
		return -EBADMSG;
	at = strstr(text, "\nGid:");
	if (!at || sscanf(at + 5, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &s->gid[0], &s->gid[1], &s->gid[2], &s->gid[3]) != 4)
		return -EBADMSG;
	at = strstr(text, "\nCapPrm:");
	if (!at || sscanf(at + 8, "%" SCNx64, &s->cap_prm) != 1)
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(one) / sizeof(*one); i++) {
		at = strstr(text, one[i]); /* VmRSS and VmSwap are missing where there is no memory */
		if (at)
			sscanf(at + strlen(one[i]), "%" SCNu64, to[i]);
	}
	return 0;
}

/* stat: the fields behind the name, which may hold anything and ends at the last parenthesis (proc_pid_stat(5)). */
static int read_stat(pid_t pid, uint64_t *flags, uint64_t *start_ticks, char *comm, size_t comm_size)
{
	char text[2048], *open, *shut, *at;
	ssize_t n = slurp(pid, "stat", text, sizeof(text));

	if (n < 0)
		return n;
	open = strchr(text, '(');
	shut = strrchr(text, ')');
	if (!open || !shut || strlen(shut) < 4)
		return -EBADMSG;
	*shut = '\0';
	agent_log_name(comm, comm_size, open + 1);
	if (shut[2] == 'Z' || shut[2] == 'X')
		return -ESRCH;
	at = shut + 3;
	for (int field = 4; field <= 22; field++) {
		uint64_t value = strtoull(at, &at, 10);

		if (field == 9)
			*flags = value;
		if (field == 22)
			*start_ticks = value;
	}
	return 0;
}

static int alive(const struct agent_target *t)
{
	return !syscall(SYS_pidfd_send_signal, t->pidfd, 0, NULL, 0);
}

static int gone(struct agent_refusal *why, pid_t pid)
{
	return agent_refuse(why, DS_LOCAL_C_PROCESS, "there is no process %d (any more)", pid);
}

static bool same_file(const char *a, const char *b)
{
	struct stat one, other;

	return !stat(a, &one) && !stat(b, &other) && one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

/*
 * The path of a process's program, by which the host decides what its shadow may have.  The link shows the path that it has in
 * the process's own mount namespace, and any user can make one and mount anything over anything there.  So it counts only
 * where that path is the same file in our namespace or in the first process's (ours may be without /home and /tmp), which are
 * root's.  Of any other the path begins with a word in place of a slash.
 */
static void read_program(pid_t pid, char out[static DS_AGENT_PATH_BYTES])
{
	char exe[64], there[DS_AGENT_PATH_BYTES + 16], program[DS_AGENT_PATH_BYTES - sizeof(AGENT_TARGET_ELSEWHERE)];
	ssize_t n;

	out[0] = '\0';
	snprintf(exe, sizeof(exe), "/proc/%d/exe", pid);
	n = readlink(exe, program, sizeof(program) - 1);
	if (n <= 0)
		return;
	program[n] = '\0';
	snprintf(there, sizeof(there), "/proc/1/root%s", program);
	snprintf(out, DS_AGENT_PATH_BYTES, "%s%s", same_file(exe, program) || same_file(exe, there) ? "" : AGENT_TARGET_ELSEWHERE, program);
}

/* Whose process it is; @s was read from it. */
static int check_owner(const struct agent_target *t, const struct agent_caller *caller, const struct status *s, int force,
		       struct agent_refusal *why)
{
	char path[64];
	struct stat st;

	for (int i = 0; caller->uid && i < 3; i++)
		if (s->uid[i] != caller->uid || s->gid[i] != caller->gid)
			return agent_refuse(why, DS_LOCAL_C_ACCESS, "process %d is not yours (its user or group is another one than %u:%u)", t->pid,
					    caller->uid, caller->gid);
	if (caller->uid && s->cap_prm)
		return agent_refuse(why, DS_LOCAL_C_ACCESS, "process %d has capabilities: only root may have it", t->pid);
	if (force && !caller->uid)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/environ", t->pid);
	if (stat(path, &st))
		return gone(why, t->pid);
	if (st.st_uid != s->uid[1])
		return agent_refuse(why, DS_LOCAL_C_ACCESS, "process %d is not dumpable (it was setuid, or hides itself)%s", t->pid,
				    caller->uid ? ": only root may have it" : ": root may insist (FORCE)");
	return 0;
}

int agent_target_open(struct agent_target *t, const struct agent_caller *caller, pid_t pid, int force, struct agent_refusal *why)
{
	struct status s;
	uint64_t flags = 0;
	int err;

	*t = (struct agent_target){.pid = pid, .pidfd = syscall(SYS_pidfd_open, pid, 0)};
	if (t->pidfd < 0 && errno != ESRCH && errno != EINVAL && errno != ENOENT)
		return agent_refuse(why, DS_LOCAL_C_SYSTEM, "process %d: pidfd_open: %s", pid, strerror(errno));
	if (t->pidfd < 0)
		return gone(why, pid);
	err = read_stat(pid, &flags, &t->start_ticks, t->comm, sizeof(t->comm));
	if (!err && flags & PF_KTHREAD) {
		agent_target_close(t);
		return agent_refuse(why, DS_LOCAL_C_PROCESS, "process %d (%s) is a kernel thread: it has no memory of its own", pid, t->comm);
	}
	err = err ? err : read_status(pid, &s);
	if (err) {
		agent_target_close(t);
		return gone(why, pid);
	}
	t->uid = s.uid[0];
	t->gid = s.gid[0];
	t->tracer = s.tracer;
	t->seccomp = s.seccomp;
	t->rss_pages = s.rss_kb / 4;
	t->swap_pages = s.swap_kb / 4;
	read_program(pid, t->program);
	err = check_owner(t, caller, &s, force, why);
	if (!err && !alive(t))
		err = gone(why, pid);
	if (err)
		agent_target_close(t);
	return err;
}

/* Of another class or machine than ours: ELFCLASS32, or x32.  A program that cannot be read (a network file that is gone) is
 * left to the injection, which looks at registers. */
static int foreign(pid_t pid)
{
	cleanup_close int fd = -1;
	char path[64];
	Elf64_Ehdr h;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, &h, sizeof(h)) == sizeof(h) && !memcmp(h.e_ident, ELFMAG, SELFMAG) &&
	       (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64);
}

int agent_target_shadowable(const struct agent_target *t, uint32_t flags, struct agent_refusal *why)
{
	if (t->pid == getpid() || t->pid == getppid() || t->pid == 1)
		return agent_refuse(why, DS_LOCAL_C_PROCESS, "process %d is %s", t->pid, t->pid == 1 ? "the one that starts all others" : "dsagent");
	if (t->tracer && !lend_can(t->pid))
		return agent_refuse(why, DS_LOCAL_C_PROCESS, "process %d (%s) is traced by process %" PRIu64 " (a debugger, strace?)", t->pid, t->comm,
				    t->tracer);
	if (t->seccomp == 1)
		return agent_refuse(why, DS_LOCAL_C_PROCESS, "process %d (%s) is under strict seccomp", t->pid, t->comm);
	if (t->seccomp && !(flags & DS_LOCAL_SECCOMP))
		return agent_refuse(why, DS_LOCAL_C_PROCESS,
				    "process %d (%s) has a seccomp filter, which may kill it for calls that it does not know; ask with SECCOMP if it does not",
				    t->pid, t->comm);
	if (foreign(t->pid))
		return agent_refuse(why, DS_LOCAL_C_PROCESS, "process %d (%s) is not a 64-bit x86 program", t->pid, t->comm);
	return 0;
}

int agent_target_still(const struct agent_target *t, const struct agent_caller *caller, int force, struct agent_refusal *why)
{
	char program[DS_AGENT_PATH_BYTES];
	struct status s;

	read_program(t->pid, program);
	if (read_status(t->pid, &s) || !alive(t))
		return gone(why, t->pid);
	if (strcmp(program, t->program))
		return agent_refuse(why, DS_LOCAL_C_EXEC, "process %d has executed another program meanwhile", t->pid);
	return check_owner(t, caller, &s, force, why);
}

void agent_target_close(struct agent_target *t)
{
	if (t->pidfd >= 0)
		close(t->pidfd);
	t->pidfd = -1;
}

int agent_same_pidns(pid_t pid)
{
	struct stat ours, its;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	return !stat("/proc/self/ns/pid", &ours) && !stat(path, &its) && ours.st_ino == its.st_ino && ours.st_dev == its.st_dev;
}
