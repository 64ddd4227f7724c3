/* remote.c - system calls and memory accesses through the helper; theory of operation in remote.h */
#include "runtime/guest/remote.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct remote_call) == 56 && 8 + REMOTE_CALLS_MAX * sizeof(struct remote_call) <= REMOTE_MESSAGE_BYTES,
	       "helper.S knows the size of a call, and a full batch fits");

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void remote_kill(struct remote *r)
{
	if (r->helper_pidfd >= 0)
		syscall(SYS_pidfd_send_signal, r->helper_pidfd, SIGKILL, NULL, 0);
	close_fd(&r->socket);
}

void remote_close(struct remote *r)
{
	close_fd(&r->socket);
	close_fd(&r->pidfd);
	close_fd(&r->helper_pidfd);
	close_fd(&r->mem_fd);
	close_fd(&r->maps_fd);
	close_fd(&r->pagemap_fd);
	*r = REMOTE_NONE;
}

uint64_t remote_data(const struct remote *r, uint32_t n)
{
	return r->buf + 8 + n * sizeof(struct remote_call);
}

static int fail(struct remote *r, int err)
{
	remote_kill(r);
	return err;
}

int remote_batch(struct remote *r, const struct remote_call *calls, uint32_t n, const void *data, uint32_t data_bytes, int64_t *results)
{
	uint64_t count = n;
	struct iovec iov[3] = {
		{.iov_base = &count, .iov_len = sizeof(count)},
		{.iov_base = (void *)calls, .iov_len = n * sizeof(*calls)},
		{.iov_base = (void *)data, .iov_len = data_bytes},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = data_bytes ? 3 : 2};
	int64_t answer[REMOTE_CALLS_MAX + 1];
	struct pollfd pfd = {.fd = r->socket, .events = POLLIN};
	ssize_t got;
	int ready;

	if (n == 0 || n > REMOTE_CALLS_MAX || data_bytes > REMOTE_MESSAGE_BYTES - 8 - n * sizeof(*calls))
		return -EINVAL;
	if (r->socket < 0)
		return -ESRCH;
	/* The helper reads nothing else, so there is room for one message. */
	do
		got = sendmsg(r->socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return fail(r, errno == EPIPE || errno == ECONNRESET ? -ESRCH : -errno);
	do
		ready = poll(&pfd, 1, REMOTE_TIMEOUT_MS);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return fail(r, ready ? -errno : -ETIMEDOUT);
	got = recv(r->socket, answer, sizeof(answer), MSG_DONTWAIT);
	if (got <= 0) /* killed, or it exited */
		return fail(r, -ESRCH);
	if ((size_t)got != n * sizeof(*answer))
		return fail(r, -EPROTO);
	memcpy(results, answer, got);
	return 0;
}

int64_t remote_syscall(struct remote *r, long nr, const uint64_t args[static 6])
{
	struct remote_call call = {.nr = nr};
	int64_t result;
	int err;

	memcpy(call.args, args, sizeof(call.args));
	err = remote_batch(r, &call, 1, NULL, 0, &result);
	return err ? err : result;
}

static int transfer(const struct remote *r, uint64_t addr, char *buf, size_t bytes, bool write)
{
	while (bytes) {
		ssize_t got = write ? pwrite(r->mem_fd, buf, bytes, addr) : pread(r->mem_fd, buf, bytes, addr);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ESRCH; /* 0: nobody uses the address space any more */
		addr += got;
		buf += got;
		bytes -= got;
	}
	return 0;
}

int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t bytes)
{
	return r->mem_fd < 0 ? -ESRCH : transfer(r, addr, buf, bytes, false);
}

int remote_write(const struct remote *r, uint64_t addr, const void *buf, size_t bytes)
{
	return r->mem_fd < 0 ? -ESRCH : transfer(r, addr, (char *)buf, bytes, true);
}
