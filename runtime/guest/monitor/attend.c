/* attend.c - see attend.h */
#include "runtime/guest/monitor/attend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/guest/monitor/load.h"
#include "runtime/guest/monitor/monitor.h"

#define SYSCALL_SIGRETURN 15
#define THREADS_MAX 65536

/* --- the monitor's side of the library ------------------------------------------------------------------------------------------ */

/* Where the library is in a process.  Threads and forked children have it where their maker has it. */
struct place {
	uint64_t handle_at, entry, exempt, exempt_end, park;
	uint64_t monitor; /* enum intercept_monitor */
};

struct attendant {
	struct load_file file;
	uint64_t cookie;
	struct place *places; /* different ones */
	size_t nplaces, places_room;
	struct {
		pid_t tid;	 /* 0: no entry */
		uint32_t place; /* index plus one; 0: the library is not there */
	} * threads;
	size_t nthreads, threads_room;
};

static int more(void *list, size_t *room, size_t bytes)
{
	void **at = list, *larger = realloc(*at, (*room ? 2 * *room : 64) * bytes);

	if (!larger)
		return -ENOMEM;
	*at = larger;
	*room = *room ? 2 * *room : 64;
	return 0;
}

static bool has(const struct attendant *a, pid_t tid, const struct place *p)
{
	uint64_t head[2] = {0};
	struct iovec local = {head, sizeof(head)};
	struct iovec there = {(void *)(p->handle_at + offsetof(struct intercept_handle, traced)), sizeof(head)}; /* NOLINT: an address there */

	_Static_assert(offsetof(struct intercept_handle, cookie) == offsetof(struct intercept_handle, traced) + 8, "read at once");
	return process_vm_readv(tid, &local, 1, &there, 1, 0) == (ssize_t)sizeof(head) && head[0] == p->monitor &&
	       head[1] == a->cookie;
}

static int remember(struct attendant *a, pid_t tid, uint32_t place)
{
	size_t at = a->nthreads;

	for (size_t i = 0; i < a->nthreads; i++) {
		if (a->threads[i].tid == tid) {
			at = i;
			break;
		}
		if (!a->threads[i].tid)
			at = i;
	}
	if (at == a->threads_room && (a->nthreads == THREADS_MAX || more(&a->threads, &a->threads_room, sizeof(*a->threads))))
		return -ENOMEM;
	if (at == a->nthreads)
		a->nthreads++;
	a->threads[at].tid = tid;
	a->threads[at].place = place;
	return 0;
}

/* Of a thread that is not known it is found out, by its memory: it may be seen before its maker is. */
static const struct place *place_of(struct attendant *a, pid_t tid)
{
	for (size_t i = 0; i < a->nthreads; i++)
		if (a->threads[i].tid == tid)
			return a->threads[i].place ? &a->places[a->threads[i].place - 1] : NULL;
	for (size_t i = a->nplaces; i > 0; i--)
		if (has(a, tid, &a->places[i - 1]))
			return remember(a, tid, (uint32_t)i) ? NULL : &a->places[i - 1];
	remember(a, tid, 0);
	return NULL;
}

static int note_place(struct attendant *a, pid_t tid, const struct intercept_handle *h, uint64_t handle_at)
{
	const struct place p = {handle_at, h->entry, h->exempt, h->exempt_end, h->park, h->traced};

	for (size_t i = 0; i < a->nplaces; i++)
		if (a->places[i].handle_at == handle_at && a->places[i].monitor == h->traced)
			return remember(a, tid, (uint32_t)i + 1);
	if (a->nplaces == a->places_room && more(&a->places, &a->places_room, sizeof(*a->places)))
		return -ENOMEM;
	a->places[a->nplaces++] = p;
	return remember(a, tid, (uint32_t)a->nplaces);
}

static int load(struct attendant *a, pid_t tid, enum intercept_monitor monitor)
{
	const bool followed = monitor != INTERCEPT_ALONE;
	struct intercept_handle handle;
	uint64_t handle_at = 0;
	int rc;

	if (followed && load_is_go(tid))
		monitor = INTERCEPT_FOLLOWED;
	rc = load_into(&a->file, tid, monitor, a->cookie, &handle, &handle_at);

	if (rc && rc != -ESRCH)
		fprintf(stderr, "dsrun: process %d runs without its calls being seen: %s\n", tid, strerror(-rc));
	if (followed)
		remember(a, tid, 0);
	return rc || !followed ? rc : note_place(a, tid, &handle, handle_at);
}

static bool jump(void *context, pid_t tid, const struct intercept_call *call, struct monitor_jump *to)
{
	const struct place *p = place_of(context, tid);

	/* The end of a handler is no call but a state of the thread. */
	if (!p || p->monitor != INTERCEPT_TRACED || call->nr == SYSCALL_SIGRETURN || (call->pc >= p->exempt && call->pc < p->exempt_end))
		return false;
	to->pc = p->entry;
	return true;
}

static uint64_t park(void *context, pid_t tid)
{
	const struct place *p = place_of(context, tid);

	return p ? p->park : 0;
}

static void event(void *context, pid_t tid, enum monitor_event what, int64_t other)
{
	struct attendant *a = context;

	if (what == MONITOR_EXIT || (what == MONITOR_EXEC && other != tid)) {
		const pid_t gone = what == MONITOR_EXIT ? tid : (pid_t)other;

		for (size_t i = 0; i < a->nthreads; i++)
			if (a->threads[i].tid == gone)
				a->threads[i].tid = 0;
	}
	if (what == MONITOR_EXEC)
		load(a, tid, INTERCEPT_TRACED);
}

/* --- the attendant ---------------------------------------------------------------------------------------------------------------- */

/* Waits for the exec.  Return: its thread, stopped; 0: it failed, or the process has ended. */
static pid_t await_exec(int fd, pid_t tid)
{
	sigset_t children;
	cleanup_close int sigfd = -1;
	bool failed = false, open = true;

	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	sigfd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	for (;;) {
		struct pollfd fds[2] = {{open ? fd : -1, POLLIN, 0}, {sigfd, POLLIN, 0}};
		struct signalfd_siginfo info;
		int status;
		pid_t got;
		char c;

		while ((got = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
			if (!WIFSTOPPED(status))
				continue;
			if (status >> 16 == PTRACE_EVENT_EXEC && !failed)
				return got;
			if (failed) {
				ptrace(PTRACE_DETACH, got, NULL, status >> 16 ? 0L : (long)WSTOPSIG(status));
				return 0;
			}
			ptrace(status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP ? PTRACE_LISTEN : PTRACE_CONT, got, NULL,
			       status >> 16 ? 0L : (long)WSTOPSIG(status));
		}
		if (got < 0 && errno == ECHILD)
			return 0;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return 0;
		while (read(sigfd, &info, sizeof(info)) > 0)
			;
		if (open && fds[0].revents) {
			failed = recv(fd, &c, 1, MSG_DONTWAIT) == 1;
			open = false;
			if (failed && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
				return 0;
		}
	}
}

static _Noreturn void serve(int fd, pid_t tid, enum attend_how how, const char *library)
{
	static struct attendant a;
	const struct monitor_config config = {.context = &a, .jump = jump, .event = event, .park = park};
	int32_t word = (int32_t)getpid();
	int status;
	pid_t got;
	char c;

	setsid();
	if (send(fd, &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word) || recv(fd, &c, 1, 0) != 1)
		_exit(1);
	word = load_open(&a.file, library);
	if (!word && getrandom(&a.cookie, sizeof(a.cookie), 0) != sizeof(a.cookie))
		word = -EIO;
	if (!word && ptrace(PTRACE_SEIZE, tid, NULL, (long)(how == ATTEND_LOAD ? PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC : MONITOR_OPTIONS)))
		word = -errno;
	if (send(fd, &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word) || word)
		_exit(1);
	if (how == ATTEND_LOAD) {
		got = await_exec(fd, tid);
		if (got) {
			load(&a, got, INTERCEPT_ALONE);
			ptrace(PTRACE_DETACH, got, NULL, NULL);
		}
		_exit(0);
	}
	close(fd);
	monitor_follow(&config, tid, &status);
	_exit(0);
}

/* Nobody's child, without the terminal, and with no descriptors but standard error and @fd. */
int attend_other(int fd, pid_t tid, enum attend_how how, const char *library)
{
	int null;

	switch (fork()) {
	case -1: return -errno;
	case 0: break;
	default: return 0;
	}
	if (fd != 3 && dup2(fd, 3) != 3)
		_exit(1);
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	syscall(SYS_close_range, 4, ~0u, 0);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	if (chdir("/"))
		_exit(1);
	serve(3, tid, how, library);
}

static int agree(int fd, pid_t child)
{
	int32_t word = 0;
	int status;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (recv(fd, &word, sizeof(word), 0) != sizeof(word))
		return -ECHILD;
	prctl(PR_SET_PTRACER, (unsigned long)word, 0, 0, 0);
	if (send(fd, "", 1, MSG_NOSIGNAL) != 1 || recv(fd, &word, sizeof(word), 0) != sizeof(word))
		return -ECHILD;
	return word;
}

int attend_start(enum attend_how how, const char *library)
{
	const pid_t self = getpid();
	int pair[2], rc;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	child = fork();
	if (child < 0) {
		rc = -errno;
	} else if (!child) {
		close(pair[0]);
		_exit(attend_other(pair[1], self, how, library) ? 1 : 0);
	} else {
		close(pair[1]);
		pair[1] = -1;
		rc = agree(pair[0], child);
	}
	if (!rc)
		return pair[0];
	close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	return rc;
}

void attend_failed(int fd)
{
	send(fd, "x", 1, MSG_NOSIGNAL);
	close(fd);
}
