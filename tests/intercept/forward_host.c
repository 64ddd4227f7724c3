/* forward_host.c - a host for tests: a task that shares the program's memory (runtime/container/task.h)
 *
 * Linked into forward_native.so beside the library under test.  When a process is to have a shadow, the task is made; it changes its root
 * to the one in DS_FORWARD_ARGS, and takes bells on the abstract socket that DS_FORWARD_BELL names ("%": the process's number).
 *
 *   DS_FORWARD_ARGS=DIRECTORY[:EXECUTORS]   "/" of the host (not set: no host is made), and how many bells it takes at most; 16
 *   DS_FORWARD_USER=UID                     user and group of the host, which has no other groups then
 *
 * It ends with the program: by exit, and by exec (a socket that exec closes).  Descriptors that the program hands on are kept by
 * tests/intercept/estates, which the token tells whose they are (forward_host.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/container/task.h"
#include "runtime/guest/forward/forward.h"
#include "tests/intercept/forward_host.h"

enum { LISTENING, LIFELINE };
static int32_t program_end;
static char root[512], name[108];
static uint32_t user, nexecutors = 16;

static int64_t prepare(struct task_want *want)
{
	(void)want;
	if (raw1(__NR_chroot, root) || raw1(__NR_chdir, "/"))
		return -ENOENT;
	if (user && (raw2(__NR_setgroups, 0, 0) || raw3(__NR_setresgid, user, user, user) || raw3(__NR_setresuid, user, user, user)))
		return -EPERM;
	return 0;
}

static int hear(struct task_want *want, uint32_t i)
{
	const int64_t fd = i == LISTENING ? raw4(__NR_accept4, want->keep[i], 0, 0, SOCK_CLOEXEC) : -1;
	uint32_t magic = 0;

	if (i != LISTENING)
		return 0;
	if (fd < 0)
		return 1;
	if (raw6(__NR_recvfrom, fd, &magic, sizeof(magic), MSG_WAITALL | MSG_PEEK, 0, 0) == 4 && magic == TASK_ADOPTION) {
		task_adopt((int32_t)fd);
		raw1(__NR_close, fd);
	} else {
		task_bell((int32_t)fd);
	}
	return 1;
}

__attribute__((constructor(101))) static void read_user(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (envp = intercept_environment(envp); *envp; envp++)
		if (!strncmp(*envp, "DS_FORWARD_USER=", 16))
			for (const char *at = *envp + 16; *at; at++)
				user = 10 * user + (uint32_t)(*at - '0');
}

static void read_args(void)
{
	char *at;

	if (*forward_settings.bell == '@' && strlen(forward_settings.bell) < sizeof(name))
		memcpy(name, forward_settings.bell + 1, strlen(forward_settings.bell));
	if (*forward_settings.args != '/' || strlen(forward_settings.args) >= sizeof(root))
		return;
	memcpy(root, forward_settings.args, strlen(forward_settings.args) + 1);
	at = strchr(root, ':');
	if (at)
		*at++ = 0;
	for (nexecutors = at ? 0 : 16; at && *at; at++)
		nexecutors = 10 * nexecutors + (uint32_t)(*at - '0');
}

static int32_t listen_for_bells(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct __kernel_timespec ms = {0, 1000000};
	uint32_t n = 1, pid = (uint32_t)raw0(__NR_getpid), unit = 1;
	const int32_t fd = (int32_t)raw3(__NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	for (const char *at = name; *at && n < 90; at++) {
		if (*at != '%') {
			address.sun_path[n++] = *at;
			continue;
		}
		while (pid / unit >= 10)
			unit *= 10;
		for (; unit; unit /= 10)
			address.sun_path[n++] = (char)('0' + pid / unit % 10);
	}
	/* The host of the program that was executed in this process before may not have gone yet. */
	for (uint32_t tries = 0; tries < 1000 && raw3(__NR_bind, fd, &address, offsetof(struct sockaddr_un, sun_path) + n) == -EADDRINUSE; tries++)
		raw2(__NR_nanosleep, &ms, 0);
	return raw2(__NR_listen, fd, 64) ? -1 : fd;
}

static void make_host(void)
{
	struct task_want want = {.prepare = prepare, .hear = hear};
	struct forward_host_token token = {.program = (int32_t)raw0(__NR_getpid)};
	int32_t life[2];
	int64_t task;

	read_args();
	if (!root[0] || !name[0])
		return;
	want.nexecutors = nexecutors;
	want.keep[LISTENING] = listen_for_bells();
	if (want.keep[LISTENING] < 0 || raw4(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life))
		return;
	want.keep[LIFELINE] = life[1];
	task = task_start(&want);
	token.host = task < 0 ? 0 : (int32_t)task;
	forward_pool_token((const uint8_t *)&token);
	raw1(__NR_close, want.keep[LISTENING]);
	raw1(__NR_close, life[1]);
	forward_own_add(life[0], &program_end);
}

int __real_forward_pool_start(void);
int __wrap_forward_pool_start(void);

/* The library is about to get a shadow (-Wl,--wrap). */
int __wrap_forward_pool_start(void)
{
	if (forward_settings.bell)
		make_host();
	return __real_forward_pool_start();
}
