/* estates.c - keeps the estates of programs whose hosts are tasks of this machine (tests/intercept/forward_host.c)
 *
 * usage: estates NAME   an abstract unix socket that takes streams (DS_FORWARD_ESTATES=@NAME)
 *
 * The keeper and the taking of descriptors are dshost's own; what is played is the VM process and a warden's way to its capsule.  A
 * token holds two numbers of processes: the program's host, and the program.  Says "ready" when it listens; ends with its input.
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/container/task.h"
#include "runtime/host/warden/bells.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/warden/keeper.h"
#include "runtime/host/shadows.h"
#include "runtime/host/warden/warden_parts.h"
#include "tests/intercept/forward_host.h"

static int socket_named(const char *name, struct sockaddr_un *to, socklen_t *bytes)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*to = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(to->sun_path + 1, sizeof(to->sun_path) - 1, "%s", name);
	*bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	if (fd < 0)
		err(2, "socket");
	return fd;
}

static void lay(const struct estate_order *o, const struct forward_host_token *token, int answer)
{
	static const struct warden_params params = {0};
	static const struct policy_rule rule = {.families = POLICY_UNIX};
	struct warden_params p = params;
	struct warden w = {.state = WARDEN_RUN, .pid = token->host, .p = &p, .rule = &rule};
	cleanup_close int ram = memfd_create("ram", MFD_CLOEXEC), pidfd = (int)syscall(SYS_pidfd_open, token->host, 0);

	if (pidfd < 0)
		return;
	p.ram_fd = ram;
	w.pidfd = pidfd;
	warden_estate_lay(&w, o, answer);
}

static void adopt(const struct estate_order *o, const struct forward_host_token *token, int answer, const int *fds, unsigned int nfds)
{
	struct task_adoption a = {.magic = TASK_ADOPTION, .n = o->n};
	struct sockaddr_un to;
	socklen_t bytes;
	char name[64], byte;
	cleanup_close int fd = -1;

	snprintf(name, sizeof(name), "forward-test-%d", token->program);
	fd = socket_named(name, &to, &bytes);
	memcpy(a.number, o->number, o->n * sizeof(a.number[0]));
	if (!connect(fd, (struct sockaddr *)&to, bytes) && !estate_send(fd, &a, sizeof(a), fds, nfds) && read(fd, &byte, 1) == 1 && !byte)
		send(answer, "", 1, MSG_NOSIGNAL);
}

static void obey(int channel)
{
	int fds[SHADOWS_TELL_FDS];
	struct estate_order o;
	struct forward_host_token token;
	unsigned int nfds;

	if (estate_receive(channel, &o, sizeof(o), fds, &nfds) <= 0)
		errx(2, "the keeper has ended");
	memcpy(&token, o.token, sizeof(token));
	if (token.host > 0 && !token.zero[0] && !token.zero[1] && nfds) {
		if (o.what == BELLS_LAY)
			lay(&o, &token, fds[0]);
		else
			adopt(&o, &token, fds[0], fds + 1, nfds - 1);
	}
	for (unsigned int i = 0; i < nfds; i++)
		close(fds[i]);
}

int main(int argc, char **argv)
{
	struct sockaddr_un to;
	socklen_t bytes;
	int channel[2], listener;

	if (argc != 2)
		errx(1, "usage: estates NAME");
	signal(SIGPIPE, SIG_IGN);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel))
		err(2, "socketpair");
	listener = socket_named(argv[1], &to, &bytes);
	if (bind(listener, (struct sockaddr *)&to, bytes) || listen(listener, 128))
		err(2, "%s", argv[1]);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(channel[0]);
		close(listener);
		_exit(keeper_main(channel[1]));
	}
	close(channel[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd p[] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}, {.fd = channel[0], .events = POLLIN}};
		int fd;

		if (poll(p, 3, -1) < 0)
			continue;
		if (p[0].revents)
			return 0;
		if (p[2].revents)
			obey(channel[0]);
		if (!p[1].revents)
			continue;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			estate_send(channel[0], "", 1, &fd, 1);
			close(fd);
		}
	}
}
