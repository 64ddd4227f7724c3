/* container.c - see container.h */
#include "runtime/guest/forward/container.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/container/task.h"
#include "runtime/guest/forward/forward.h"

/* A wake-up on one kernel takes a tenth of one through a VM's device: whoever looks for longer than that has chosen the dearer way. */
#define SPIN_NS 2000u

enum { BELLS, ORDERS };
enum { ROOT_FD, ORDERS_FD, ROOTED_FDS };

static bool contained;
static int32_t channel = -1, agent;

bool forward_container(void)
{
	return contained;
}

bool forward_alike(void)
{
	return contained || forward_settings.bell;
}

/* --- in the task -------------------------------------------------------------------------------------------------------- */

static void write_proc(const char *path, const char *text)
{
	const int64_t fd = raw3(__NR_open, path, O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	raw3(__NR_write, fd, text, strlen(text));
	raw1(__NR_close, fd);
}

static char *decimal(char *at, uint32_t number)
{
	uint32_t unit = 1;

	while (number / unit >= 10)
		unit *= 10;
	for (; unit; unit /= 10)
		*at++ = (char)('0' + number / unit % 10);
	return at;
}

/* "N N 1": who it is keeps its number. */
static void write_map(const char *path, uint32_t id)
{
	char text[40], *at = decimal(text, id);

	*at++ = ' ';
	at = decimal(at, id);
	memcpy(at, " 1", 3);
	write_proc(path, text);
}

/* A user namespace of the task's own.  Files show nobody as their owner there if it cannot say who it is: no harm. */
static int64_t become_own_root(void)
{
	const uint32_t uid = (uint32_t)raw0(__NR_geteuid), gid = (uint32_t)raw0(__NR_getegid);
	const int64_t rc = raw1(__NR_unshare, CLONE_NEWUSER);

	if (rc)
		return rc;
	write_proc("/proc/self/setgroups", "deny");
	write_map("/proc/self/uid_map", uid);
	write_map("/proc/self/gid_map", gid);
	return 0;
}

static int64_t enter_root(int32_t fd)
{
	int64_t rc = raw1(__NR_fchdir, fd);

	if (rc)
		return rc;
	rc = raw1(__NR_chroot, ".");
	if (rc == -EPERM) {
		rc = become_own_root();
		rc = rc ? rc : raw1(__NR_chroot, ".");
	}
	return rc ? rc : raw1(__NR_chdir, "/");
}

static int64_t prepare(struct task_want *want)
{
	const struct ds_local_task ask = {
		.head = {.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = DS_LOCAL_TASK, .bytes = sizeof(ask)}};
	union {
		struct ds_local_head head;
		struct ds_local_refused refused;
	} got;
	int32_t fds[ROOTED_FDS];
	uint32_t n = ROOTED_FDS;
	int64_t rc = raw6(__NR_sendto, agent, &ask, sizeof(ask), MSG_NOSIGNAL, 0, 0);

	rc = rc < 0 ? rc : task_receive(agent, &got, sizeof(got), fds, &n);
	if (rc < (int64_t)sizeof(got.head))
		return rc < 0 ? rc : -ECONNRESET;
	if (got.head.kind != DS_LOCAL_ROOTED || n != ROOTED_FDS)
		return -EACCES;
	want->keep[ORDERS] = fds[ORDERS_FD];
	return enter_root(fds[ROOT_FD]);
}

static int hear(struct task_want *want, uint32_t i)
{
	int32_t fd = -1;
	uint32_t n = 1;
	uint8_t byte;
	int64_t got;

	if (i == ORDERS)
		return !task_adopt(want->keep[i]);
	got = task_receive(want->keep[i], &byte, 1, &fd, &n);
	if (n)
		task_bell(fd);
	return got > 0 || got == -EINTR;
}

/* --- in the program ----------------------------------------------------------------------------------------------------- */

int64_t forward_container_start(int32_t connection, const struct ds_local_contained *said)
{
	struct task_want want = {.nexecutors = said->executors, .keep = {-1, -1}, .prepare = prepare, .hear = hear};
	int32_t pair[2];
	int64_t rc = raw4(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);

	if (rc)
		return rc;
	contained = true;
	agent = connection;
	if (forward_settings.spin_ns == DS_FORWARD_SPIN_NS) /* nobody has said otherwise */
		forward_settings.spin_ns = SPIN_NS;
	want.keep[BELLS] = pair[1];
	rc = task_start(&want);
	raw1(__NR_close, pair[1]);
	if (rc < 0) {
		raw1(__NR_close, pair[0]);
		return rc;
	}
	forward_own_add(pair[0], &channel);
	forward_settings_estates();
	forward_pool_token(said->token);
	return 0;
}

int64_t forward_container_bell(void)
{
	struct {
		uint64_t bytes;
		int32_t level, type, fd, pad;
	} rights = {.bytes = 20, .level = SOL_SOCKET, .type = SCM_RIGHTS};
	uint8_t byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof(rights)};
	int32_t pair[2];
	int64_t rc = raw4(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);

	if (rc)
		return rc;
	rights.fd = pair[1];
	rc = raw3(__NR_sendmsg, channel, &m, MSG_NOSIGNAL);
	raw1(__NR_close, pair[1]);
	if (rc >= 0)
		return pair[0];
	raw1(__NR_close, pair[0]);
	return rc;
}
