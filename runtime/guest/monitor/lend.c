/* lend.c - dsagent's side of a loan; see lend.h */
#include "runtime/guest/monitor/lend.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/guest/helper/tracee.h"

#define AGAIN_US 2000
#define BACK_MS 2000

static const char somebody[] = "it is being traced by another process, such as a debugger";

/* Return: the thread that traces it, 0: none, -ESRCH.  @inside: what the process calls itself. */
static pid_t tracer_of(pid_t pid, pid_t *inside)
{
	FILE *f;
	char path[64], line[256];
	pid_t tracer = -ESRCH;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	*inside = pid;
	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "TracerPid:", 10))
			tracer = atoi(line + 10);
		else if (!strncmp(line, "NSpid:", 6) && strrchr(line, '\t'))
			*inside = atoi(strrchr(line, '\t') + 1);
	}
	if (f)
		fclose(f);
	return tracer;
}

static bool ours(pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d", tid);
	return !access(path, F_OK);
}

/* Its end for requests, if it is a monitor that has one: a socket pair that it made itself.  Return: -errno. */
static int end_of(pid_t tracer)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, tracer, 0);
	cleanup_close int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, LEND_FD, 0);
	struct ucred cred;
	socklen_t cred_bytes = sizeof(cred), type_bytes = sizeof(int);
	int type;

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) || type != SOCK_SEQPACKET ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_bytes) || cred.pid != tracer)
		return -EPERM;
	return steal_fd(&fd);
}

bool lend_can(pid_t pid)
{
	pid_t inside, tracer = tracer_of(pid, &inside);
	cleanup_close int fd = tracer > 0 ? end_of(tracer) : -1;

	return fd >= 0;
}

static int ask(int end, pid_t inside, int answers)
{
	struct lend_request request = {LEND_MAGIC, inside};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {&request, sizeof(request)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.head), &answers, sizeof(answers));
	return sendmsg(end, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(request) ? 0 : -errno;
}

/* One request.  Return: the loan's socket, -EAGAIN: another time, perhaps; -errno. */
static int borrow(int end, pid_t inside, int64_t deadline_ms)
{
	int pair[2], err, ret;
	int32_t answer = -EPERM;
	struct pollfd pfd;
	int64_t left;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	err = ask(end, inside, pair[1]);
	close(pair[1]);
	pfd = (struct pollfd){.fd = pair[0], .events = POLLIN};
	do {
		left = deadline_ms - tracee_now_ms();
		ret = err ? 0 : poll(&pfd, 1, left > 0 ? (int)left : 0);
	} while (ret < 0 && errno == EINTR);
	if (!err && ret == 0)
		err = -EAGAIN;
	if (!err) /* closed without a word: there is no monitor any more */
		err = recv(pair[0], &answer, sizeof(answer), MSG_DONTWAIT) == (ssize_t)sizeof(answer) ? answer : -ESRCH;
	if (!err)
		return pair[0];
	close(pair[0]);
	return err < 0 ? err : -EPROTO;
}

int lend_take(pid_t pid, int64_t deadline_ms, struct lend *lend, struct inject_err *why)
{
	*lend = LEND_NONE;
	for (;; usleep(AGAIN_US)) {
		pid_t inside, tracer = tracer_of(pid, &inside);
		cleanup_close int end = -1;

		if (tracer < 0)
			return tracee_refuse(why, -ESRCH, 0, "it has exited");
		if (tracer == 0 || ours(tracer))
			return 0;
		end = end_of(tracer);
		if (end < 0)
			return tracer_of(pid, &inside) == tracer ? tracee_refuse(why, -EPERM, 0, somebody) : 0;
		lend->fd = borrow(end, inside, deadline_ms);
		if (lend->fd >= 0)
			break;
		if (lend->fd != -EAGAIN)
			return tracee_refuse(why, lend->fd == -ESRCH ? -ESRCH : -EPERM, 0,
					     lend->fd == -ESRCH ? "it has exited" : "its monitor may not trace it again once it has let go of it");
		lend->fd = -1;
		if (tracee_now_ms() >= deadline_ms)
			return tracee_refuse(why, -EAGAIN, 0, "its monitor could not stop it in time; try again");
	}
	lend->pid = pid;
	lend->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return 0;
}

/* The monitor takes its threads back, and closes its end then: who comes next finds the process traced again. */
void lend_give(struct lend *lend)
{
	struct pollfd pfd = {.fd = lend->fd}, process = {.fd = lend->pidfd, .events = POLLIN};
	pid_t inside;
	bool left = false;

	if (lend->fd >= 0) {
		shutdown(lend->fd, SHUT_WR);
		/* Closed before that, or without having done it, the monitor is dead. */
		left = poll(&pfd, 1, BACK_MS) > 0 && tracer_of(lend->pid, &inside) == 0 && tracee_mood(lend->pid, lend->pid) != TRACEE_DEAD;
		close(lend->fd);
	}
	if (left && lend->pidfd >= 0 && poll(&process, 1, 0) == 0)
		syscall(SYS_pidfd_send_signal, lend->pidfd, SIGKILL, NULL, 0);
	if (lend->pidfd >= 0)
		close(lend->pidfd);
	*lend = LEND_NONE;
}
