/* client.c - see client.h */
#include "runtime/container/client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/container/server.h"
#include "runtime/guest/agent/agent_local.h"
#include "runtime/host/warden/bells.h"
#include "runtime/host/policy/granted.h"
#include "runtime/host/log.h"
#include "runtime/wire/shadow.h"

#define SERVICE "forward"

int client_open(struct client *c, int fd)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);
	const int on = 1;

	*c = (struct client){.fd = -1, .pidfd = -1, .task_pidfd = -1, .orders = -1, .place = {-1, -1}};
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)))
		return -errno;
	if (who.pid <= 0) /* a namespace that we do not see into */
		return -ESRCH;
	if (getrandom(c->token, sizeof(c->token), 0) != sizeof(c->token))
		return -EIO;
	c->pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0);
	if (c->pidfd < 0)
		return -errno;
	c->fd = fd;
	c->pid = who.pid;
	c->uid = who.uid;
	c->gid = who.gid;
	return 0;
}

static bool lives(int pidfd)
{
	return !syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0);
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

static void head(struct ds_local_head *h, uint16_t kind, size_t bytes, uint32_t seq)
{
	*h = (struct ds_local_head){.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = kind, .bytes = (uint32_t)bytes, .seq = seq};
}

/* Return: whether the connection goes on. */
static bool tell(const struct client *c, const void *packet, size_t bytes)
{
	return send(c->fd, packet, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)bytes;
}

__attribute__((format(printf, 4, 5))) static bool refuse(const struct client *c, uint32_t seq, uint32_t code, const char *fmt, ...)
{
	struct ds_local_refused no = {.code = code};
	char shown[4 * sizeof(no.text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(no.text, sizeof(no.text), fmt, ap);
	va_end(ap);
	log_line(LOG_LEVEL_NOTICE, "process %d of user %u: refused: %s", c->pid, c->uid, log_escape(shown, sizeof(shown), no.text));
	head(&no.head, DS_LOCAL_REFUSED, sizeof(no), seq);
	return tell(c, &no, sizeof(no)) && code != DS_LOCAL_C_MESSAGE;
}

/* --- requests ----------------------------------------------------------------------------------------------------------- */

static bool devices(const struct client *c, const struct ds_local_devices *m, const char *name, const struct policy *policy)
{
	const struct policy_query query = {.vm = name, .program = m->program, .service = m->service, .uid = c->uid, .mode = DS_AGENT_DEMAND};
	struct {
		struct ds_local_call call;
		char text[DS_LOCAL_PAYLOAD_MAX];
	} out = {0};
	struct granted g;

	_Static_assert(sizeof(out.text) >= sizeof(g.text), "room");
	granted_list(policy, &query, &g);
	out.call.executor = g.more;
	out.call.payload_bytes = (uint32_t)g.n;
	memcpy(out.text, g.text, g.n);
	head(&out.call.head, DS_LOCAL_GRANTED, sizeof(out.call) + g.n, m->head.seq);
	return tell(c, &out, out.call.head.bytes);
}

/* The file that a process executes, as the container names it.  Return: 0, -errno. */
static int program_of(pid_t pid, char path[DS_AGENT_PATH_BYTES])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	n = readlink(link, path, DS_AGENT_PATH_BYTES - 1);
	path[n < 0 ? 0 : n] = 0;
	return n < 0 ? -errno : 0;
}

static bool shadow(struct client *c, const struct ds_local_shadow *m, const char *name, const struct policy *policy)
{
	struct ds_local_contained yes = {.zero = 0};
	char program[DS_AGENT_PATH_BYTES];
	const struct policy_query query = {.vm = name, .program = program, .service = m->service, .uid = c->uid, .mode = DS_AGENT_DEMAND};
	const struct policy_rule *rule;
	const char *why = NULL;
	unsigned int line;

	if (c->granted || m->pid || strcmp(m->service, SERVICE))
		return refuse(c, m->head.seq, c->granted ? DS_LOCAL_C_BUSY : DS_LOCAL_C_PROCESS,
			      c->granted ? "the process has a shadow already" : "in a container there is the service \"" SERVICE "\" only, for who asks");
	if (program_of(c->pid, program) || !lives(c->pidfd))
		return refuse(c, m->head.seq, DS_LOCAL_C_PROCESS, "which program that is cannot be seen");
	rule = policy_find(policy, &query, &why, &line);
	if (!rule && line)
		return refuse(c, m->head.seq, DS_LOCAL_C_REFUSED, "line %u of the policy refuses it", line);
	if (!rule)
		return refuse(c, m->head.seq, DS_LOCAL_C_REFUSED, "%s", why ? why : "the policy has no rules");
	why = server_fault(rule);
	if (why)
		return refuse(c, m->head.seq, DS_LOCAL_C_REFUSED, "line %u of the policy: in a container there is no %s", rule->line, why);
	c->rule = *rule;
	c->granted = true;
	yes.executors = rule->executors < TASK_EXECUTORS_MAX ? rule->executors : TASK_EXECUTORS_MAX;
	memcpy(yes.token, c->token, sizeof(yes.token));
	head(&yes.head, DS_LOCAL_CONTAINED, sizeof(yes), m->head.seq);
	return tell(c, &yes, sizeof(yes));
}

/* Whether @pid is a task of the program's memory, and not the program itself.  @pidfd: set, the caller's. */
static bool is_task(const struct client *c, pid_t pid, int *pidfd)
{
	*pidfd = pid > 0 && pid != c->pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	return *pidfd >= 0 && !syscall(SYS_kcmp, c->pid, pid, KCMP_VM, 0, 0) && lives(*pidfd) && lives(c->pidfd);
}

/* Return: NULL, or what could not be made of what the rule says. */
static const char *limit(struct client *c)
{
	const struct jailgroup_want want = {.cpu_percent = c->rule.cpu_percent, .bare = true};
	struct rlimit numbers;

	/* Numbers of descriptors: a container may have fewer than a shadow needs. */
	if (!prlimit(c->task, RLIMIT_NOFILE, NULL, &numbers) && numbers.rlim_max < DS_SHADOW_FDS_MAX) {
		numbers.rlim_cur = numbers.rlim_max = DS_SHADOW_FDS_MAX;
		prlimit(c->task, RLIMIT_NOFILE, &numbers, NULL);
	}
	/* Devices: the container's own group may keep those from it that the rule grants. */
	if (!c->rule.cpu_percent && !c->rule.ndevices)
		return NULL;
	if (jailgroup_make(&c->group, &want) || jailgroup_join(&c->group, c->task) || (c->rule.cpu_percent && !c->group.version[JAILGROUP_CPU]))
		return c->rule.cpu_percent ? "a cgroup that limits its time on the processor (cpu=)" : NULL;
	return NULL;
}

static bool task(struct client *c, const struct ds_local_task *m, pid_t sender)
{
	struct ds_local_task yes;
	cleanup_close int pidfd = -1;
	const char *why;
	int pair[2], rc;

	if (!c->granted || c->task || !is_task(c, sender, &pidfd))
		return refuse(c, m->head.seq, DS_LOCAL_C_PROCESS, "process %d is not the task of a shadow that has been granted", sender);
	c->task = sender;
	c->task_pidfd = steal_fd(&pidfd);
	why = limit(c);
	rc = why ? -ENOTSUP : place_make(&c->rule, c->uid, c->gid, &c->place, &why);
	if (rc)
		return refuse(c, m->head.seq, DS_LOCAL_C_SYSTEM, "line %u of the policy: %s cannot be had: %s", c->rule.line, why, strerror(-rc));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return refuse(c, m->head.seq, DS_LOCAL_C_SYSTEM, "no sockets");
	c->orders = pair[0];
	head(&yes.head, DS_LOCAL_ROOTED, sizeof(yes), m->head.seq);
	rc = estate_send(c->fd, &yes, sizeof(yes), (const int[]){c->place.root_fd, pair[1]}, 2);
	close(pair[1]);
	log_line(LOG_LEVEL_INFO, "process %d of user %u: has a shadow, process %d, by line %u of the policy", c->pid, c->uid, c->task, c->rule.line);
	return !rc;
}

/* One packet, and who sent it.  Return: its length, -errno. */
static ssize_t receive(int fd, void *packet, size_t room, pid_t *sender)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = {packet, room};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const ssize_t n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); /* descriptors have no room here, and are closed */
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	struct ucred who = {0};

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof(who)))
		memcpy(&who, CMSG_DATA(c), sizeof(who));
	*sender = who.pid;
	return n < 0 ? -errno : n;
}

bool client_hear(struct client *c, const char *name, const struct policy *policy)
{
	union {
		struct ds_local_head head;
		struct ds_local_shadow shadow;
		struct ds_local_devices devices;
		struct ds_local_task task;
		char room[sizeof(struct ds_local_devices) + 8];
	} p;
	const char *why;
	pid_t sender;
	const ssize_t n = receive(c->fd, &p, sizeof(p), &sender);

	if (n <= 0)
		return n == -EAGAIN || n == -EINTR;
	if (n == sizeof(p.task) && p.head.magic == DS_LOCAL_MAGIC && p.head.version == DS_LOCAL_VERSION && p.head.kind == DS_LOCAL_TASK &&
	    p.head.bytes == (uint32_t)n)
		return task(c, &p.task, sender);
	if (agent_local_check(&p, (size_t)n, &why))
		return refuse(c, n >= (ssize_t)sizeof(p.head) ? p.head.seq : 0, DS_LOCAL_C_MESSAGE, "%s", why);
	switch (p.head.kind) {
	case DS_LOCAL_DEVICES: return devices(c, &p.devices, name, policy);
	case DS_LOCAL_SHADOW: return shadow(c, &p.shadow, name, policy);
	default: return refuse(c, p.head.seq, DS_LOCAL_C_REFUSED, "in a container there is nothing to be mapped, listed or ended: the shadow has the program's memory, and ends with it");
	}
}

/* --- the task ----------------------------------------------------------------------------------------------------------- */

void client_order(struct client *c, const struct estate_order *o, const int *fds, unsigned int nfds)
{
	struct task_adoption a = {.magic = TASK_ADOPTION, .n = o->n};

	if (c->orders < 0 || !nfds)
		return;
	if (o->what == BELLS_LAY) {
		cleanup_close int hold = (int)syscall(SYS_pidfd_getfd, c->task_pidfd, DS_SHADOW_HOLD_FD, 0);

		estate_lay(c->task_pidfd, hold, -1, o, fds[0]);
		return;
	}
	if (!o->n || o->n > TASK_ADOPTION_MAX || o->n != nfds - 1 || c->nanswers == CLIENT_ANSWERS)
		return;
	memcpy(a.number, o->number, o->n * sizeof(a.number[0]));
	if (estate_send(c->orders, &a, sizeof(a), fds + 1, nfds - 1))
		return;
	c->answer[c->nanswers] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
	c->nanswers++;
}

bool client_answered(struct client *c)
{
	uint8_t byte;
	const ssize_t n = recv(c->orders, &byte, 1, MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	if (!c->nanswers)
		return true;
	if (c->answer[0] >= 0 && !byte)
		send(c->answer[0], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (c->answer[0] >= 0)
		close(c->answer[0]);
	memmove(c->answer, c->answer + 1, --c->nanswers * sizeof(c->answer[0]));
	return true;
}

static void end_task(struct client *c)
{
	if (c->task_pidfd >= 0)
		syscall(SYS_pidfd_send_signal, c->task_pidfd, SIGKILL, NULL, 0);
	while (c->nanswers)
		cleanup_close_fn(&c->answer[--c->nanswers]);
	cleanup_close_fn(&c->task_pidfd);
	cleanup_close_fn(&c->orders);
	place_close(&c->place);
	jailgroup_remove(&c->group); /* one that is still busy is removed by the next sweep */
	c->task_pidfd = c->orders = -1;
}

void client_ended(struct client *c)
{
	struct ds_local_refused over = {.code = DS_LOCAL_C_GONE, .text = "the shadow's task has ended"};

	end_task(c);
	head(&over.head, DS_LOCAL_ENDED, sizeof(over), 0);
	tell(c, &over, sizeof(over));
}

void client_close(struct client *c)
{
	end_task(c);
	cleanup_close_fn(&c->pidfd);
	cleanup_close_fn(&c->fd);
	c->fd = c->pidfd = -1;
}
