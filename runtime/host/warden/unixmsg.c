/* unixmsg.c - messages with descriptors, in a shadow's place; theory in unixmsg.h */
#include "runtime/host/warden/unixmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOLD (MSG_TRUNC | MSG_CTRUNC | MSG_EOR | MSG_OOB)

static int domain_of(int fd)
{
	socklen_t bytes = sizeof(int);
	int domain;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) ? -errno : domain;
}

static int check_socket(int fd)
{
	const int domain = domain_of(fd);

	return domain < 0 ? domain : domain == AF_UNIX ? 0 : -EINVAL;
}

int64_t unixmsg_send(int fd, const void *data, size_t bytes, uint32_t flags, const int *fds, uint32_t nfds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(DS_ESTATE_RIGHTS_MAX * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)data, bytes};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	const int rc = check_socket(fd);
	ssize_t n;

	if (rc || nfds > DS_ESTATE_RIGHTS_MAX)
		return rc ? rc : -EINVAL;
	if (nfds) {
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){.cmsg_len = CMSG_LEN(nfds * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, nfds * sizeof(int));
	}
	n = sendmsg(fd, &m, (int)(flags & (MSG_EOR | MSG_OOB)) | MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static bool may_come(int fd)
{
	const int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || flags & O_PATH || fstat(fd, &st))
		return false;
	return S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) || (S_ISSOCK(st.st_mode) && domain_of(fd) == AF_UNIX);
}

/* The first that may not come ends it, as in the kernel: what is left out is not between two others. */
static void take(const struct cmsghdr *c, int *fds, uint32_t *nfds, uint32_t *got)
{
	const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		if (!(*got & MSG_CTRUNC) && *nfds < DS_ESTATE_RIGHTS_MAX && may_come(fd)) {
			fds[(*nfds)++] = fd;
			continue;
		}
		close(fd);
		*got |= MSG_CTRUNC;
	}
}

int64_t unixmsg_receive(int fd, void *data, size_t room, uint32_t flags, int *fds, uint32_t *nfds, uint32_t *got)
{
	/* Beside descriptors only what SO_PASSCRED and its like add, if the shadow has set it; what has no room is left out. */
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(DS_ESTATE_RIGHTS_MAX * sizeof(int)) + 512];
	struct iovec iov = {data, room};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const int rc = check_socket(fd);
	uint32_t held;
	ssize_t n;

	*nfds = *got = 0;
	if (rc)
		return rc;
	n = recvmsg(fd, &m, (int)(flags & (MSG_PEEK | MSG_TRUNC | MSG_OOB)) | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	held = (uint32_t)m.msg_flags & MSG_CTRUNC; /* those that did come are kept */
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			take(c, fds, nfds, got);
	*got |= ((uint32_t)m.msg_flags & TOLD) | held;
	return n;
}
