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
	const bool local = forward_settings.bell;
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

/* All of it.  Return: 0 or -errno. */
static int64_t transfer(int32_t stream, bool out, void *at, uint64_t bytes, int64_t until_ns)
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

/* Return: how many numbers came, -errno. */
static int64_t exchange(int32_t stream, struct ds_estate_request *ask, const struct ds_estate_pair *pairs, struct forward_estate_answer *got)
{
	const int64_t until_ns = forward_now_ns() + ANSWER_NS;
	int64_t rc;

	ask->magic = DS_ESTATE_MAGIC;
	ask->version = DS_ESTATE_VERSION;
	rc = transfer(stream, true, ask, sizeof(*ask), until_ns);
	if (!rc)
		rc = transfer(stream, true, (void *)pairs, ask->npairs * sizeof(*pairs), until_ns); /* NOLINT: is read */
	if (!rc)
		rc = transfer(stream, false, &got->head, sizeof(got->head), until_ns);
	if (!rc && (got->head.magic != DS_ESTATE_MAGIC || got->head.version != DS_ESTATE_VERSION || got->head.n > DS_ESTATE_PAIRS_MAX))
		rc = -EPROTO;
	if (!rc)
		rc = transfer(stream, false, got->number, got->head.n * sizeof(got->number[0]), until_ns);
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
