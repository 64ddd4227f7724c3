/* agent_ask.c - asking dsagent; see agent_ask.h */
#include "runtime/guest/agent/agent_ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "rle/cleanup.h"

int agent_ask_connect(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	path = path ? path : DS_LOCAL_SOCKET;
	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	strcpy(at.sun_path, path);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	return steal_fd(&fd);
}

/* A packet and the descriptor that comes with it.  Return: bytes; -errno; @came: -1 if none did. */
static ssize_t receive(int fd, void *buf, size_t size, int timeout_ms, int *came)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {buf, size};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	const struct cmsghdr *c;
	ssize_t n;

	*came = -1;
	n = poll(&p, 1, timeout_ms);
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&h);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(came, CMSG_DATA(c), sizeof(int));
	return h.msg_flags & MSG_TRUNC ? -EPROTO : n;
}

/* What came with the answer is what the answer says, and nobody can change or shorten it. */
static int fits(int fd, const struct ds_local_mapped *m)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_WRITE;
	struct stat st;

	return fd >= 0 && memchr(m->comm, 0, sizeof(m->comm)) && !fstat(fd, &st) && (uint64_t)st.st_size == m->bytes &&
	       (fcntl(fd, F_GET_SEALS) & seals) == seals &&
	       (m->form == DS_LOCAL_FORM_MAP || (m->form == DS_LOCAL_FORM_RUNS && m->nruns <= m->bytes / sizeof(struct ds_local_run) &&
						  m->bytes == m->nruns * sizeof(struct ds_local_run)));
}

int agent_ask_map(int fd, pid_t pid, uint32_t split, int timeout_ms, struct ds_local_mapped *out, struct ds_local_refused *refused)
{
	struct ds_local_map m = {{DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_MAP, sizeof(m), 1}, pid, split};
	_Alignas(8) uint8_t packet[512];
	const struct ds_local_head *head = (const struct ds_local_head *)packet;
	cleanup_close int came = -1;
	ssize_t n;

	_Static_assert(sizeof(packet) >= sizeof(*out) && sizeof(packet) >= sizeof(*refused), "answers fit");
	if (send(fd, &m, sizeof(m), MSG_NOSIGNAL) < 0)
		return -errno;
	n = receive(fd, packet, sizeof(packet), timeout_ms, &came);
	if (n < 0)
		return n;
	if (n < (ssize_t)sizeof(*head) || head->magic != DS_LOCAL_MAGIC || head->bytes != (uint32_t)n)
		return -EPROTO;
	if (head->kind == DS_LOCAL_REFUSED && n == sizeof(*refused)) {
		memcpy(refused, packet, sizeof(*refused));
		refused->text[sizeof(refused->text) - 1] = '\0';
		return -EACCES;
	}
	if (head->kind != DS_LOCAL_MAPPED || n != sizeof(*out))
		return -EPROTO;
	memcpy(out, packet, sizeof(*out));
	return fits(came, out) ? steal_fd(&came) : -EPROTO;
}

int agent_ask_devices(int fd, const char *service, const char *program, int timeout_ms, char text[DS_LOCAL_PAYLOAD_MAX + 1], int *more,
		      struct ds_local_refused *refused)
{
	struct ds_local_devices m = {.head = {DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_DEVICES, sizeof(m), 1}};
	union {
		struct ds_local_head head;
		struct ds_local_call call;
		struct ds_local_refused refused;
		uint8_t bytes[sizeof(struct ds_local_call) + DS_LOCAL_PAYLOAD_MAX];
	} got;
	cleanup_close int came = -1;
	ssize_t n;

	if (strlen(service) >= sizeof(m.service) || strlen(program) >= sizeof(m.program))
		return -ENAMETOOLONG;
	strcpy(m.service, service);
	strcpy(m.program, program);
	if (send(fd, &m, sizeof(m), MSG_NOSIGNAL) < 0)
		return -errno;
	n = receive(fd, &got, sizeof(got), timeout_ms, &came);
	if (n < 0)
		return (int)n;
	if (n < (ssize_t)sizeof(got.head) || got.head.magic != DS_LOCAL_MAGIC || got.head.bytes != (uint32_t)n)
		return -EPROTO;
	if (got.head.kind == DS_LOCAL_REFUSED && n == sizeof(got.refused)) {
		*refused = got.refused;
		refused->text[sizeof(refused->text) - 1] = '\0';
		return -EACCES;
	}
	if (got.head.kind != DS_LOCAL_GRANTED || n < (ssize_t)sizeof(got.call) || (size_t)n != sizeof(got.call) + got.call.payload_bytes)
		return -EPROTO;
	memcpy(text, got.bytes + sizeof(got.call), got.call.payload_bytes);
	text[got.call.payload_bytes] = '\0';
	*more = got.call.executor != 0;
	return 0;
}
