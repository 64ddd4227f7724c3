/* agent.c - what the library and dsagent say to each other (runtime/guest/local.h)
 *
 * One connection, one exchange at a time, with signals blocked: an exchange is a question to a daemon of this machine and is
 * bounded in time, and nobody waits for it who could be needed to end it.  When it fails, the shadow is taken to be gone.
 *
 * One answer is not waited for at once: to UNWINDOW.  munmap() has done its work when dsagent is told, and its result is known; what is still
 * to happen is in the VMM.  A program may rely on it to have happened at its next call to the host, when the file that it has unmapped and
 * closed can be removed, opened by one only, and the like.  So that one waits for the answer (forward_agent_settle()), and so does the next UNWINDOW;
 * another question goes out at once, behind the UNWINDOW, as dsagent works in turn.
 */
#include <errno.h>
#include <linux/time_types.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/guest/forward/container.h"
#include "runtime/guest/forward/window.h"
#include "runtime/guest/local.h"

#define START_NS (60 * NS_PER_SEC)
#define MEMORY_NS (20 * NS_PER_SEC)
#define BUSY_NS (10 * NS_PER_SEC)

static int32_t connection = -1;
static uint32_t seq, lock;
uint32_t forward_agent_unsettled; /* under the lock: number of an UNWINDOW whose answer has not been looked at; 0: none */

bool forward_agent_active(void)
{
	return connection >= 0 && !forward_container() && forward_alive();
}

void forward_agent_close(void)
{
	connection = -1;
	lock = 0; /* a thread that is not here may have had it */
	forward_agent_unsettled = 0;
}

static struct ds_local_head head_of(uint16_t kind, uint64_t bytes)
{
	return (struct ds_local_head){.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = kind, .bytes = (uint32_t)bytes, .seq = ++seq};
}

static int64_t open_connection(void)
{
	const char *path = forward_settings.agent ? forward_settings.agent : DS_LOCAL_SOCKET;
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	const size_t n = strlen(path);
	int64_t fd, rc;

	if (n >= sizeof(name.sun_path))
		return -ENAMETOOLONG;
	memcpy(name.sun_path, path, n);
	fd = raw3(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	rc = raw3(__NR_connect, fd, &name, sizeof(name));
	if (rc) {
		raw1(__NR_close, fd);
		return rc;
	}
	return forward_own_add(fd, &connection);
}

/* The kernel's struct user_msghdr, and a cmsghdr with a descriptor. */
struct message {
	uint64_t name, name_bytes, iov, niov, control, control_bytes, flags;
};
struct rights {
	uint64_t bytes;
	uint32_t level, type;
	int32_t fd;
	uint32_t pad;
};

/* @fd: set to a descriptor that came along, or -1; may be NULL. */
static int64_t receive(void *buf, uint64_t room, int32_t *fd)
{
	struct rights rights = {0};
	uint64_t iov[2] = {(uint64_t)buf, room};
	struct message m = {.iov = (uint64_t)iov, .niov = 1, .control = (uint64_t)&rights, .control_bytes = sizeof(rights)};
	const int64_t got = raw3(__NR_recvmsg, connection, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const bool came = got > 0 && m.control_bytes >= offsetof(struct rights, pad) && rights.level == SOL_SOCKET && rights.type == SCM_RIGHTS;

	if (fd)
		*fd = came ? rights.fd : -1;
	else if (came)
		raw1(__NR_close, rights.fd);
	return got;
}

/* The answer to question @to, into @buf.  Return: its length, -errno; a refusal is -EPERM with @buf as it came. */
static int64_t answer_fd(void *buf, uint64_t room, int64_t within_ns, int32_t *fd, uint32_t to)
{
	const int64_t until = forward_now_ns() + within_ns;
	const struct ds_local_head *head = buf;

	for (;;) {
		struct pollfd pfd = {.fd = connection, .events = POLLIN};
		const int64_t left = until - forward_now_ns();
		struct __kernel_timespec ts = {left / NS_PER_SEC, left % NS_PER_SEC};
		int64_t got;

		if (left <= 0)
			return -ETIMEDOUT;
		if (raw6(__NR_ppoll, &pfd, 1, &ts, 0, 0, 0) <= 0)
			continue;
		got = receive(buf, room, fd);
		if (got == -EAGAIN || got == -EINTR)
			continue;
		if (got < (int64_t)sizeof(*head) || head->magic != DS_LOCAL_MAGIC || head->version != DS_LOCAL_VERSION)
			return got < 0 ? got : -ECONNRESET;
		if (head->kind == DS_LOCAL_ENDED)
			return -EPERM;
		if (head->seq == forward_agent_unsettled)
			__atomic_store_n(&forward_agent_unsettled, 0, __ATOMIC_RELAXED);
		if (head->seq != to)
			continue;
		return head->kind == DS_LOCAL_REFUSED ? -EPERM : got;
	}
}

static int64_t answer(void *buf, uint64_t room, int64_t within_ns)
{
	return answer_fd(buf, room, within_ns, NULL, seq);
}

static void copy_text(char *to, const char *from, uint64_t room)
{
	uint64_t i = 0;

	for (; i < room - 1 && from[i]; i++)
		to[i] = from[i];
	to[i] = 0;
}

int forward_agent_start(char *why)
{
	struct ds_local_shadow ask = {.mode = DS_LOCAL_DEMAND};
	union {
		struct ds_local_started started;
		struct ds_local_contained contained;
		struct ds_local_refused refused;
	} got;
	const struct __kernel_timespec pause = {0, 10000000};
	const int64_t until = forward_now_ns() + BUSY_NS;
	int64_t rc = open_connection();

	if (rc < 0) {
		copy_text(why, "dsagent does not answer; is it running?", 256);
		return (int)rc;
	}
	ask.head = head_of(DS_LOCAL_SHADOW, sizeof(ask));
	copy_text(ask.service, forward_settings.service, sizeof(ask.service));
	copy_text(ask.args, forward_settings.args, sizeof(ask.args));
	/* After exec the shadow of the program before may still be on its way out. */
	do {
		rc = raw6(__NR_sendto, connection, &ask, sizeof(ask), MSG_NOSIGNAL, 0, 0);
		if (rc >= 0)
			rc = answer(&got, sizeof(got), START_NS);
	} while (rc == -EPERM && got.refused.head.kind == DS_LOCAL_REFUSED && got.refused.code == DS_LOCAL_C_BUSY &&
		 forward_now_ns() < until && !raw2(__NR_nanosleep, &pause, 0));
	if (rc >= (int64_t)sizeof(got.started) && got.started.head.kind == DS_LOCAL_STARTED) {
		forward_pool_token(got.started.token);
		return 0;
	}
	if (rc == (int64_t)sizeof(got.contained) && got.contained.head.kind == DS_LOCAL_CONTAINED) {
		rc = forward_container_start(connection, &got.contained);
		if (!rc)
			return 0;
		copy_text(why, rc == -EACCES ? "the host does not take its task" : "the container lets it make no task, or none with a root of its own", 256);
	} else if (rc == -EPERM)
		copy_text(why, got.refused.text, sizeof(got.refused.text));
	else
		copy_text(why, rc == -ETIMEDOUT ? "dsagent did not answer in time" : "dsagent went away, or is of another version", 256);
	forward_own_close(connection);
	connection = -1;
	return rc < 0 ? (int)rc : -EPROTO;
}

/* Makes the two ranges rising and disjoint.  Return: how many there are. */
static uint32_t order(struct ds_local_range out[2], const uint64_t r[4])
{
	uint64_t low = r[0], low_end = r[1], high = r[2], high_end = r[3];
	uint32_t n = 0;

	if (high < high_end && (low >= low_end || high < low)) {
		low = r[2], low_end = r[3];
		high = r[0], high_end = r[1];
	}
	if (low < low_end && high < high_end && high <= low_end) {
		low_end = high_end > low_end ? high_end : low_end;
		high_end = high;
	}
	if (low < low_end)
		out[n++] = (struct ds_local_range){low / FORWARD_PAGE, (low_end - low) / FORWARD_PAGE};
	if (high < high_end)
		out[n++] = (struct ds_local_range){high / FORWARD_PAGE, (high_end - high) / FORWARD_PAGE};
	return n;
}

/* Under the lock: an exchange has ended with @rc.  If that was no answer, there is no shadow any more.  Return: @rc. */
static int64_t judge(int64_t rc, struct ds_local_refused *no)
{
	if (rc < 0 && !(rc == -EPERM && no->code == DS_LOCAL_C_BUSY)) {
		forward_own_close(connection);
		connection = -1;
		forward_agent_unsettled = 0;
		no->text[sizeof(no->text) - 1] = 0;
		forward_dead(rc == -EPERM ? no->text : rc == -ETIMEDOUT ? "dsagent did not answer in time" : "dsagent went away");
	}
	return rc;
}

/* Under the lock: sends a question.  Return: as sendto(2). */
static int64_t send_question(void *ask, uint16_t kind, uint64_t bytes)
{
	*(struct ds_local_head *)ask = head_of(kind, bytes);
	return raw6(__NR_sendto, connection, ask, bytes, MSG_NOSIGNAL, 0, 0);
}

/* A question and its answer, with signals blocked.  Return: 0 or -errno. */
static int exchange(void *ask, uint16_t kind, uint64_t bytes, void *got, uint64_t room, int32_t *fd)
{
	uint64_t mask;
	int64_t rc = -ESRCH;

	forward_lock(&lock, &mask);
	if (forward_agent_active()) { /* of a shadow that has ended nothing is asked: the answer might be long in coming */
		rc = send_question(ask, kind, bytes);
		rc = judge(rc >= 0 ? answer_fd(got, room, MEMORY_NS, fd, seq) : rc, got);
	}
	forward_unlock(&lock, &mask);
	return rc < 0 ? (int)rc : 0;
}

/* Under the lock. */
static void settle(void)
{
	union {
		struct ds_local_refused refused;
		uint64_t room[40];
	} got;

	if (forward_agent_unsettled && forward_agent_active())
		judge(answer_fd(&got, sizeof(got), MEMORY_NS, NULL, forward_agent_unsettled), &got.refused);
}

void forward_agent_settle_now(void)
{
	uint64_t mask;

	forward_lock(&lock, &mask);
	settle();
	forward_unlock(&lock, &mask);
}

int forward_agent_change(bool drop, const uint64_t range[4])
{
	struct {
		struct ds_local_ranges head;
		struct ds_local_range r[2];
	} ask = {0};
	union {
		struct ds_local_refused refused;
		uint64_t room[40];
	} got;

	ask.head.nranges = range ? order(ask.r, range) : 0;
	return exchange(&ask, drop ? DS_LOCAL_DROP : DS_LOCAL_REFRESH, sizeof(ask.head) + ask.head.nranges * sizeof(ask.r[0]), &got, sizeof(got), NULL);
}

int forward_agent_map(const struct ds_window_map *want, int32_t *fd, struct ds_window_mapped *out)
{
	struct ds_local_window ask = {.flags = *fd < 0 ? DS_LOCAL_WINDOW_FD : 0, .want = *want};
	union {
		struct ds_local_refused refused;
		struct ds_local_windowed windowed;
	} got;
	int32_t came = -1;
	int rc = exchange(&ask, DS_LOCAL_WINDOW, sizeof(ask), &got, sizeof(got), &came);

	if (!rc && (got.windowed.head.kind != DS_LOCAL_WINDOWED || got.windowed.head.bytes != sizeof(got.windowed)))
		rc = -EPROTO;
	if (rc) {
		if (came >= 0)
			raw1(__NR_close, came);
		return rc;
	}
	*out = got.windowed.got;
	*fd = came;
	return 0;
}

void forward_agent_unmap(const struct ds_window_unmap *what)
{
	struct ds_local_unwindow ask = {.what = *what};
	struct ds_local_refused none = {0};
	uint64_t mask;

	forward_lock(&lock, &mask);
	settle();
	if (forward_agent_active() && judge(send_question(&ask, DS_LOCAL_UNWINDOW, sizeof(ask)), &none) >= 0)
		__atomic_store_n(&forward_agent_unsettled, seq, __ATOMIC_RELAXED);
	forward_unlock(&lock, &mask);
}
