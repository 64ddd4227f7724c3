/* agent_host.c - the stream to the host; see agent_host.h */
#include "runtime/guest/agent/agent_host.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/vm_sockets.h>

#include "rle/cleanup.h"

#define LOWEST_PORT 512 /* ports below are left to others, as bindresvport(3) does */

static int connect_unix(const char *path)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	strcpy(to.sun_path, path);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return -errno;
	return steal_fd(&fd);
}

int agent_host_connect(const char *path)
{
	struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = DS_AGENT_PORT};
	cleanup_close int fd = -1;
	unsigned int port;

	if (path)
		return connect_unix(path);
	fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	for (port = DS_AGENT_GUEST_PORT_MAX; port >= LOWEST_PORT; port--) {
		struct sockaddr_vm from = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};

		if (!bind(fd, (struct sockaddr *)&from, sizeof(from)))
			break;
		if (errno != EADDRINUSE)
			return -errno;
	}
	if (port < LOWEST_PORT)
		return -EADDRINUSE;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		return -errno;
	return steal_fd(&fd);
}

int agent_host_connected(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	socklen_t size = sizeof(int);
	int err = 0, n;

	do {
		n = poll(&p, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size))
		return -errno;
	return -err;
}

int agent_host_send(int fd, struct iovec *iov, int n)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};

	while (msg.msg_iovlen) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		ssize_t sent;

		if (!msg.msg_iov->iov_len) {
			msg.msg_iov++;
			msg.msg_iovlen--;
			continue;
		}
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			int ready = poll(&p, 1, AGENT_HOST_SEND_MS);

			if (!ready)
				return -ETIMEDOUT;
			if (ready < 0 && errno != EINTR)
				return -errno;
			continue;
		}
		if (sent < 0 && errno != EINTR)
			return errno == ECONNRESET ? -EPIPE : -errno;
		while (sent > 0) {
			size_t part = (size_t)sent < msg.msg_iov->iov_len ? (size_t)sent : msg.msg_iov->iov_len;

			msg.msg_iov->iov_base = (char *)msg.msg_iov->iov_base + part;
			msg.msg_iov->iov_len -= part;
			sent -= part;
			if (!msg.msg_iov->iov_len) {
				msg.msg_iov++;
				msg.msg_iovlen--;
			}
		}
	}
	return 0;
}

int agent_host_receive(int fd, struct agent_hostmsg *in)
{
	size_t room;
	uint8_t *to = agent_hostmsg_room(in, &room);
	ssize_t n;

	if (!room)
		return 0;
	n = recv(fd, to, room, 0);
	if (n > 0) {
		agent_hostmsg_got(in, n);
		return 1;
	}
	if (!n || errno == ECONNRESET)
		return -EPIPE;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}
