/* unreached.c - programs that will not load the library by themselves
 *
 * A statically linked program gets it from outside: an attendant (runtime/guest/monitor/attend.h) is started here, before the exec, which
 * puts the library into the new program by ptrace and is gone before its first instruction.  That takes dsrun, which told where it
 * is (DS_FORWARD_RUN), and the right to trace.  Under a monitor nothing is to be done: it does so with every program.
 *
 * A program that changes its user, and one for another machine, run without: their calls are their own, and a line in the trace
 * says so.  Under a monitor whose user is not root the kernel does not let a program change its user (ptrace(2)).
 *
 * The process that becomes the attendant is a child without exit signal: the program's own wait() does not see it, and it is
 * waited for here; what goes on is its child, which has no parent then.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/wait.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/guest/forward/forward.h"

#define ANSWER_MS 10000

static char *put_number(char *to, uint32_t n)
{
	char digits[12];
	int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		*to++ = digits[--i];
	return to;
}

/* Becomes dsrun.  Without the dispatch, which the kernel has taken from the child, and with all signals blocked. */
static _Noreturn void become(int32_t fd, int32_t tid)
{
	char what[FORWARD_PATH_MAX + 32], *at = put_number(what, (uint32_t)tid);
	const char *const argv[] = {"dsrun", "--attend", what, NULL}, *const envp[] = {NULL};

	*at++ = ':';
	at = put_number(at, (uint32_t)fd);
	*at++ = ':';
	if (strlen(forward_settings.library) < FORWARD_PATH_MAX) {
		stpcpy(at, forward_settings.library);
		raw3(__NR_fcntl, fd, F_SETFD, 0);
		raw3(__NR_execve, forward_settings.run, argv, envp);
	}
	for (;;)
		raw1(__NR_exit_group, 127);
}

static bool receive(int32_t fd, int32_t *word)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return raw3(__NR_poll, &pfd, 1, ANSWER_MS) == 1 && raw6(__NR_recvfrom, fd, word, sizeof(*word), 0, 0, 0) == sizeof(*word);
}

/* Return: the socket, while the exec may still fail; or -errno. */
static int64_t attend(void)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	const int32_t tid = (int32_t)raw0(__NR_gettid);
	uint64_t mask = 0;
	int32_t pair[2], word = 0, status;
	int64_t child, rc = raw4(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);

	if (rc)
		return rc;
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &all, &mask, 8);
	child = raw6(__NR_clone, 0, 0, 0, 0, 0, 0);
	if (!child)
		become(pair[1], tid);
	raw1(__NR_close, pair[1]);
	rc = child < 0 ? child : 0;
	if (!rc) {
		while (raw4(__NR_wait4, child, &status, __WALL, 0) == -EINTR)
			;
		rc = receive(pair[0], &word) ? 0 : -ECHILD;
	}
	if (!rc) {
		raw6(__NR_prctl, PR_SET_PTRACER, word, 0, 0, 0, 0);
		raw6(__NR_sendto, pair[0], "", 1, MSG_NOSIGNAL, 0, 0);
		rc = !receive(pair[0], &word) ? -ECHILD : word;
	}
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &mask, 0, 8);
	if (!rc)
		return pair[0];
	raw1(__NR_close, pair[0]);
	return rc;
}

int64_t forward_unreached(const struct intercept_call *call, enum intercept_reach why)
{
	static const char *const texts[] = {
		[INTERCEPT_STATIC] = "the program is statically linked: it runs without a shadow, and its calls are its own",
		[INTERCEPT_SETUID] = "the program changes its user: it runs without a shadow, and its calls are its own",
		[INTERCEPT_FOREIGN] = "the program is for another machine: it runs without a shadow, and its calls are its own",
	};
	int64_t fd = -ENOENT;

	(void)call;
	if (why == INTERCEPT_STATIC) {
		if (intercept_followed())
			return 0;
		if (forward_settings.run && forward_settings.library)
			fd = attend();
		if (fd >= 0)
			return fd + 1;
	}
	if (why > INTERCEPT_REACHED && why <= INTERCEPT_FOREIGN)
		forward_trace_note("execve", texts[why]);
	return 0;
}

void forward_unstarted(int64_t given)
{
	const int64_t fd = given - 1;

	raw6(__NR_sendto, fd, "x", 1, MSG_NOSIGNAL, 0, 0);
	raw1(__NR_close, fd);
}
