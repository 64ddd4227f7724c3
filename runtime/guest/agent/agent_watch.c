/* agent_watch.c - execs of one process, by the proc connector; see agent_watch.h */
#include "runtime/guest/agent/agent_watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define ANSWER_MS 500

/* What comes and goes; cn_msg ends in a flexible array, so its payload is found by offset. */
#define EVENT_AT (NLMSG_HDRLEN + sizeof(struct cn_msg))
#define WHAT_AT (EVENT_AT + offsetof(struct proc_event, what))
#define TGID_AT (EVENT_AT + offsetof(struct proc_event, event_data.exec.process_tgid))

/* The connector's answer to a subscription, and execs of @pid.  BPF loads words as if they came from the network. */
static int filter(int fd, pid_t pid)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, WHAT_AT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_NONE), 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_EXEC), 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, TGID_AT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl((uint32_t)pid), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog prog = {.len = sizeof(code) / sizeof(*code), .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) ? -errno : 0;
}

static int subscribe(int fd)
{
	const enum proc_cn_mcast_op op = PROC_CN_MCAST_LISTEN;
	_Alignas(8) char msg[EVENT_AT + sizeof(op)] = {0};
	struct nlmsghdr *nl = (struct nlmsghdr *)msg;
	struct cn_msg cn = {.id = {CN_IDX_PROC, CN_VAL_PROC}, .len = sizeof(op)};

	nl->nlmsg_len = sizeof(msg);
	nl->nlmsg_type = NLMSG_DONE;
	memcpy(msg + NLMSG_HDRLEN, &cn, sizeof(cn));
	memcpy(msg + EVENT_AT, &op, sizeof(op));
	return send(fd, msg, sizeof(msg), 0) < 0 ? -errno : 0;
}

int agent_watch_open(pid_t pid)
{
	struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
	cleanup_close int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_CONNECTOR);
	struct pollfd p = {.events = POLLIN};
	int err;

	if (fd < 0)
		return errno == EPROTONOSUPPORT ? -EOPNOTSUPP : -errno;
	err = filter(fd, pid);
	if (err)
		return err;
	if (bind(fd, (struct sockaddr *)&group, sizeof(group)))
		return -errno;
	err = subscribe(fd);
	if (err)
		return err;
	p.fd = fd;
	if (poll(&p, 1, ANSWER_MS) <= 0)
		return -EOPNOTSUPP;
	return steal_fd(&fd);
}

int agent_watch_exec(int fd)
{
	_Alignas(8) char msg[512];
	uint32_t what;
	ssize_t n;
	int seen = 0;

	while ((n = recv(fd, msg, sizeof(msg), 0)) > 0) {
		if ((size_t)n < WHAT_AT + sizeof(what))
			continue;
		memcpy(&what, msg + WHAT_AT, sizeof(what));
		seen |= what == PROC_EVENT_EXEC;
	}
	return seen ? 1 : n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}
