/* estate.c - what is said about descriptors that are handed on (runtime/wire/estate.h)
 *
 * An exchange is a question to the host and its answer, with signals blocked and bounded in time.  A stream is one process's, and of
 * its threads one speaks at a time: whoever calls sees to that.  A stream that does not answer is closed: what it had is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/guest/forward/estate.h"

#define ANSWER_NS (20 * NS_PER_SEC)
#define HOST_CID 2
#define AF_VSOCK_FAMILY 40

struct vsock_address {
	uint16_t family, reserved;
	uint32_t port, cid;
	uint8_t flags, zero[3];
};

static int64_t open_stream(void)
{
	const char *path = forward_settings.estates;
	const bool local = path || forward_settings.bell; /* a container, or a test */
	int64_t fd, high, rc;

	if (local && !path)
		return -EOPNOTSUPP;
	fd = raw3(__NR_socket, local ? AF_UNIX : AF_VSOCK_FAMILY, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	if (local) {
		struct sockaddr_un name = {.sun_family = AF_UNIX};
		const size_t n = strlen(path);

		if (n < sizeof(name.sun_path))
			memcpy(name.sun_path, path, n);
		if (*path == '@')
			name.sun_path[0] = 0;
		rc = raw3(__NR_connect, fd, &name, offsetof(struct sockaddr_un, sun_path) + n);
	} else {
		const struct vsock_address address = {.family = AF_VSOCK_FAMILY, .port = DS_ESTATE_PORT, .cid = HOST_CID};

		rc = raw3(__NR_connect, fd, &address, sizeof(address));
	}
	high = rc ? rc : raw3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, FORWARD_FD_FLOOR);
	if (high == -EINVAL || high == -EMFILE) /* a low limit */
		return fd;
	raw1(__NR_close, fd);
	return high;
}

int64_t forward_estate_transfer(int32_t stream, bool out, void *at, uint64_t bytes, int64_t until_ns)
{
	for (uint64_t done = 0; done < bytes;) {
		struct pollfd pfd = {.fd = stream, .events = out ? POLLOUT : POLLIN};
		const int64_t left = until_ns - forward_now_ns();
		struct __kernel_timespec ts = {left / NS_PER_SEC, left % NS_PER_SEC};
		int64_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (raw6(__NR_ppoll, &pfd, 1, &ts, 0, 0, 0) <= 0)
			continue;
		n = raw6(out ? __NR_sendto : __NR_recvfrom, stream, (char *)at + done, bytes - done, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n <= 0)
			return n ? n : -ECONNRESET;
		done += (uint64_t)n;
	}
	return 0;
}

/* What is there to be read stays there.  Return: 0 or -errno: it has not come by then. */
static int64_t peek(int32_t stream, void *at, uint64_t bytes, int64_t until_ns)
{
	uint32_t turns = 0;

	for (;;) {
		const int64_t n = raw6(__NR_recvfrom, stream, at, bytes, MSG_PEEK | MSG_DONTWAIT, 0, 0);

		if (n == (int64_t)bytes)
			return 0;
		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
			return n ? n : -ECONNRESET;
		if (forward_now_ns() >= until_ns)
			return -ETIMEDOUT;
		forward_yield(&turns);
	}
}

static bool is_reply(const struct ds_estate_reply *r)
{
	return r->magic == DS_ESTATE_MAGIC && r->version == DS_ESTATE_VERSION && r->n <= DS_ESTATE_PAIRS_MAX;
}

int64_t forward_estate_ask(int32_t stream, struct ds_estate_request *ask, const struct ds_estate_pair *pairs, int64_t *until_ns)
{
	int64_t rc;

	*until_ns = forward_now_ns() + ANSWER_NS;
	ask->magic = DS_ESTATE_MAGIC;
	ask->version = DS_ESTATE_VERSION;
	rc = forward_estate_transfer(stream, true, ask, sizeof(*ask), *until_ns);
	return rc ? rc : forward_estate_transfer(stream, true, (void *)pairs, ask->npairs * sizeof(*pairs), *until_ns); /* NOLINT: is read */
}

int64_t forward_estate_hear(int32_t stream, struct forward_estate_answer *got, int64_t until_ns)
{
	const int64_t rc = forward_estate_transfer(stream, false, &got->head, sizeof(got->head), until_ns);

	if (rc)
		return rc;
	return is_reply(&got->head) ? forward_estate_transfer(stream, false, got->number, got->head.n * sizeof(got->number[0]), until_ns) : -EPROTO;
}

/* Return: how many numbers came, -errno. */
static int64_t exchange(int32_t stream, struct ds_estate_request *ask, const struct ds_estate_pair *pairs, struct forward_estate_answer *got)
{
	int64_t until_ns, rc = forward_estate_ask(stream, ask, pairs, &until_ns);

	if (!rc)
		rc = forward_estate_hear(stream, got, until_ns);
	return rc ? rc : got->head.error ? got->head.error : (int64_t)got->head.n;
}

int64_t forward_estate_open(struct forward_estate *e, const uint8_t *source, const struct ds_estate_pair *pairs, uint32_t n,
			    struct forward_estate_answer *got)
{
	struct ds_estate_request ask = {.what = DS_ESTATE_HELLO, .npairs = n};
	int64_t fd = open_stream(), rc;

	e->stream = (int32_t)fd;
	if (fd < 0)
		return fd;
	memcpy(ask.token, source, sizeof(ask.token));
	rc = exchange((int32_t)fd, &ask, pairs, got);
	if (rc < 0) {
		raw1(__NR_close, fd);
		e->stream = -1;
		return rc;
	}
	memcpy(e->token, got->head.token, sizeof(e->token));
	return rc;
}

int64_t forward_estate_claim(const struct forward_estate *e, const uint8_t *shadow, const struct ds_estate_pair *pairs, uint32_t n,
			     struct forward_estate_answer *got)
{
	struct ds_estate_request ask = {.what = DS_ESTATE_CLAIM, .npairs = n};

	memcpy(ask.token, shadow, sizeof(ask.token));
	return exchange(e->stream, &ask, pairs, got);
}

int64_t forward_estate_drop(const struct forward_estate *e, const struct ds_estate_pair *pairs, uint32_t n, struct forward_estate_answer *got)
{
	struct ds_estate_request ask = {.what = DS_ESTATE_DROP, .npairs = n};

	return exchange(e->stream, &ask, pairs, got);
}

/* --- an estate that is on its way (carry.c) --------------------------------------------------------------------------- */

/* An estate of one descriptor, as its reply says. */
static int64_t peek_one(int32_t stream, struct forward_carried *c, int64_t until_ns)
{
	int64_t rc = peek(stream, &c->head, sizeof(c->head), until_ns);

	if (!rc && (!is_reply(&c->head) || c->head.what != DS_ESTATE_HELLO))
		rc = -EPROTO;
	if (!rc && (c->head.error || !c->head.n))
		rc = c->head.error ? c->head.error : -EBADF;
	return rc ? rc : peek(stream, c, offsetof(struct forward_carried, end), until_ns);
}

int64_t forward_estate_carry(const uint8_t *source, const struct ds_estate_pair *pair)
{
	struct {
		struct ds_estate_request head;
		struct ds_estate_pair pair;
	} ask = {.head = {.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = DS_ESTATE_HELLO, .npairs = 1}, .pair = *pair};
	const int64_t until_ns = forward_now_ns() + ANSWER_NS, fd = open_stream();
	struct forward_carried c;
	int64_t rc;

	if (fd < 0)
		return fd;
	memcpy(ask.head.token, source, sizeof(ask.head.token));
	rc = forward_estate_transfer((int32_t)fd, true, &ask, sizeof(ask), until_ns);
	if (!rc)
		rc = peek_one((int32_t)fd, &c, until_ns);
	if (!rc)
		return fd;
	raw1(__NR_close, fd);
	return rc;
}

static const char *last_part(const char *path)
{
	const char *last = path;

	for (; *path; path++)
		if (*path == '/')
			last = path + 1;
	return last;
}

/* Whether the other end is who keeps estates. */
static bool leads_to_estates(int32_t fd)
{
	const char *path = forward_settings.estates;
	union {
		struct vsock_address vsock;
		struct sockaddr_un local;
	} a;
	uint32_t bytes = sizeof(a);

	memset(&a, 0, sizeof(a));
	if (raw3(__NR_getpeername, fd, &a, &bytes))
		return false;
	if (!path && !forward_settings.bell)
		return a.vsock.family == AF_VSOCK_FAMILY && a.vsock.cid == HOST_CID && a.vsock.port == DS_ESTATE_PORT;
	if (a.local.sun_family != AF_UNIX || !path || bytes <= offsetof(struct sockaddr_un, sun_path) || bytes >= sizeof(a))
		return false;
	if (!a.local.sun_path[0])
		a.local.sun_path[0] = '@';
	return !strncmp(last_part(a.local.sun_path), last_part(path), sizeof(a)); /* who listens calls its folder otherwise */
}

bool forward_estate_carried(int32_t fd, uint8_t token[DS_ESTATE_TOKEN_BYTES], uint16_t *number)
{
	struct forward_carried c;

	if (!leads_to_estates(fd) || peek_one(fd, &c, 0))
		return false;
	memcpy(token, c.head.token, sizeof(c.head.token));
	*number = c.number;
	return true;
}
