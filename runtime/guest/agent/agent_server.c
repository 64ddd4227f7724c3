/* agent_server.c - the main loop and the local clients; theory of operation in agent_server.h */
#include "runtime/guest/agent/agent_server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_devices.h"
#include "runtime/guest/agent/agent_local.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_map.h"

#define MAP_MS 60000 /* that reading a page table may take */
#define END_MS 15000 /* that hosts may take to let go when dsagent ends */
#define SEND_BUFFER_BYTES (1 << 20)
#define KEEP_MAX 8

/* --- clients ---------------------------------------------------------------------------------------------------- */

struct agent_client *agent_client_of(struct agent_server *s, uint64_t id)
{
	for (size_t i = 0; id && i < AGENT_CLIENTS_MAX; i++)
		if (s->client[i].fd >= 0 && s->client[i].id == id)
			return &s->client[i];
	return NULL;
}

static void disconnect(struct agent_server *s, struct agent_client *c)
{
	uint64_t id = c->id;

	close(c->fd);
	if (c->pidfd >= 0)
		close(c->pidfd);
	*c = (struct agent_client){.fd = -1, .pidfd = -1};
	agent_slot_client_gone(s, id);
}

void agent_client_send_fd(struct agent_server *s, uint64_t client, void *msg, size_t bytes, uint16_t kind, uint32_t seq, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct agent_client *c = agent_client_of(s, client);
	struct iovec iov = {msg, bytes};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	*(struct ds_local_head *)msg = (struct ds_local_head){
		.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = kind, .bytes = bytes, .seq = seq};
	if (!c)
		return;
	if (kind != DS_LOCAL_ENDED && c->pending)
		c->pending--;
	if (fd >= 0) {
		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(fd));
	}
	if (sendmsg(c->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		shutdown(c->fd, SHUT_RDWR); /* the loop sees its end */
}

void agent_client_send(struct agent_server *s, uint64_t client, void *msg, size_t bytes, uint16_t kind, uint32_t seq)
{
	agent_client_send_fd(s, client, msg, bytes, kind, seq, -1);
}

void agent_client_refuse(struct agent_server *s, uint64_t client, uint16_t kind, uint32_t seq, uint32_t pid, const struct agent_refusal *why)
{
	struct ds_local_refused m = {.code = why->code, .pid = pid};

	snprintf(m.text, sizeof(m.text), "%s", why->text);
	agent_client_send(s, client, &m, sizeof(m), kind, seq);
}

void agent_client_done(struct agent_server *s, uint64_t client, uint32_t seq)
{
	struct ds_local_done m;

	agent_client_send(s, client, &m, sizeof(m), DS_LOCAL_DONE, seq);
}

/* A pidfd of who connected: by the kernel's own hand (6.5), else by number, which is right unless the number has been used again
 * since connect(); what is granted for it is decided anew from the process that has it. */
static int peer_pidfd(int fd, pid_t pid)
{
	int pidfd;
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
	socklen_t size = sizeof(pidfd);

	if (!getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size))
		return pidfd;
	return syscall(SYS_pidfd_open, pid, 0);
}

static void on_connect(struct agent_server *s)
{
	cleanup_close int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct agent_client *free_one = NULL;
	struct ucred cred;
	socklen_t size = sizeof(cred);
	const int buffer = SEND_BUFFER_BYTES;
	uint32_t of_user = 0, nfree = 0;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
			usleep(10000); /* until somebody closes; the connection stays in the queue */
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size))
		return;
	for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++) {
		if (s->client[i].fd < 0) {
			free_one = free_one ? free_one : &s->client[i];
			nfree++;
		} else {
			of_user += s->client[i].who.uid == cred.uid;
		}
	}
	if (!free_one || (cred.uid && (of_user >= AGENT_CLIENTS_USER_MAX || nfree <= AGENT_CLIENTS_ROOT)) || s->ending) {
		if (agent_log_may(cred.uid))
			agent_log(LOG_WARNING, "a connection of process %d, uid %u, was closed: too many clients", cred.pid, cred.uid);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	*free_one = (struct agent_client){
		.id = ++s->next_client, .who = {cred.pid, cred.uid, cred.gid}, .pidfd = peer_pidfd(fd, cred.pid)};
	free_one->fd = steal_fd(&fd);
}

/* --- children --------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

pid_t agent_fork(const int *keep, size_t nkeep)
{
	pid_t parent = getpid(), pid = fork();
	int kept[KEEP_MAX], from = 3;
	sigset_t none;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	/* Asked to end, the parent ends its children in order; a terminal's or a cgroup's signal must not end them first. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	nkeep = nkeep < KEEP_MAX ? nkeep : KEEP_MAX;
	memcpy(kept, keep, nkeep * sizeof(*kept));
	qsort(kept, nkeep, sizeof(*kept), by_number);
	for (size_t i = 0; i < nkeep; i++) {
		if (kept[i] < from)
			continue;
		if (kept[i] > from)
			syscall(SYS_close_range, from, kept[i] - 1, 0);
		from = kept[i] + 1;
	}
	syscall(SYS_close_range, from, ~0u, 0);
	return 0;
}

/* A worker that may begin.  Return: NULL: there are too many. */
static struct agent_worker *free_worker(struct agent_server *s, const struct agent_client *c)
{
	struct agent_worker *w = NULL;
	uint32_t of_user = 0;

	for (size_t i = 0; i < AGENT_WORKERS_MAX; i++) {
		struct agent_client *other = s->worker[i].pid ? agent_client_of(s, s->worker[i].client) : NULL;

		of_user += other && other->who.uid == c->who.uid;
		w = s->worker[i].pid ? w : &s->worker[i];
	}
	return c->who.uid && of_user >= AGENT_WORKERS_MAX / 2 ? NULL : w;
}

static void on_map(struct agent_server *s, struct agent_client *c, const struct ds_local_map *m, pid_t pid)
{
	const struct agent_refusal busy = {DS_LOCAL_C_BUSY, "too many maps are being read; try again"};
	struct agent_worker *w = free_worker(s, c);
	struct agent_refusal why;
	struct agent_target t;

	if (!w) {
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->head.seq, pid, &busy);
		return;
	}
	if (agent_target_open(&t, &c->who, pid, 1, &why)) {
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->head.seq, pid, &why);
		return;
	}
	w->pid = agent_fork((int[]){c->fd, t.pidfd}, 2);
	if (!w->pid)
		_exit(agent_map_answer(c->fd, m, &t, &c->who));
	agent_target_close(&t);
	if (w->pid < 0) {
		w->pid = 0;
		agent_refuse(&why, DS_LOCAL_C_SYSTEM, "fork: %s", strerror(errno));
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->head.seq, pid, &why);
		return;
	}
	w->client = c->id;
	w->seq = m->head.seq;
	w->until_ms = agent_now_ms() + MAP_MS;
}

static void on_devices(struct agent_server *s, struct agent_client *c, const struct ds_local_devices *m)
{
	const struct agent_refusal busy = {DS_LOCAL_C_BUSY, "too many questions are under way; try again"};
	struct agent_worker *w = free_worker(s, c);
	struct agent_refusal why;

	if (!w) {
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->head.seq, 0, &busy);
		return;
	}
	w->pid = agent_fork((int[]){c->fd}, 1);
	if (!w->pid)
		_exit(agent_devices_answer(c->fd, s->o->host, m, &c->who));
	if (w->pid < 0) {
		w->pid = 0;
		agent_refuse(&why, DS_LOCAL_C_SYSTEM, "fork: %s", strerror(errno));
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->head.seq, 0, &why);
		return;
	}
	w->client = c->id;
	w->seq = m->head.seq;
	w->until_ms = agent_now_ms() + MAP_MS;
}

static void worker_exited(struct agent_server *s, pid_t pid, int status)
{
	const struct agent_refusal why = {DS_LOCAL_C_SYSTEM, "the process could not be read: its reader did not come back"};
	struct agent_client *c;

	for (size_t i = 0; i < AGENT_WORKERS_MAX; i++) {
		struct agent_worker *w = &s->worker[i];

		if (w->pid != pid)
			continue;
		c = agent_client_of(s, w->client);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			agent_client_refuse(s, w->client, DS_LOCAL_REFUSED, w->seq, 0, &why);
		else if (c && c->pending)
			c->pending--;
		*w = (struct agent_worker){0};
	}
}

static void on_child(struct agent_server *s)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD || s->ending)
			continue;
		agent_log(LOG_NOTICE, "signal %u: ending", info.ssi_signo);
		s->ending = true;
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!agent_slot_exited(s, pid, status))
			worker_exited(s, pid, status);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

/* The process that a request means; 0: none, and @why. */
static pid_t meant(const struct agent_client *c, uint32_t pid, struct agent_refusal *why)
{
	if (!pid || pid == (uint32_t)c->who.pid) {
		if (c->pidfd >= 0 && !syscall(SYS_pidfd_send_signal, c->pidfd, 0, NULL, 0))
			return c->who.pid;
		agent_refuse(why, DS_LOCAL_C_PROCESS, "who connected is gone");
		return 0;
	}
	if (!agent_same_pidns(c->who.pid)) {
		agent_refuse(why, DS_LOCAL_C_ACCESS, "from a container only the own process can be named");
		return 0;
	}
	if (pid > INT32_MAX) {
		agent_refuse(why, DS_LOCAL_C_PROCESS, "there is no process %u", pid);
		return 0;
	}
	return pid;
}

static void on_request(struct agent_server *s, struct agent_client *c, const struct ds_local_head *m)
{
	const struct agent_refusal busy = {DS_LOCAL_C_BUSY, "too many requests are under way on this connection"};
	struct agent_refusal why;
	pid_t pid;

	if (c->pending++ >= DS_LOCAL_PENDING_MAX) {
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->seq, 0, &busy);
		return;
	}
	if (m->kind == DS_LOCAL_LIST) {
		agent_slot_list(s, c, (const struct ds_local_about *)m);
		return;
	}
	if (m->kind == DS_LOCAL_DEVICES) {
		on_devices(s, c, (const struct ds_local_devices *)m);
		return;
	}
	/* Every other request has the process right behind its head. */
	_Static_assert(offsetof(struct ds_local_map, pid) == 16 && offsetof(struct ds_local_shadow, pid) == 16 &&
			       offsetof(struct ds_local_about, pid) == 16 && offsetof(struct ds_local_ranges, pid) == 16 &&
			       offsetof(struct ds_local_call, pid) == 16 && offsetof(struct ds_local_window, pid) == 16 &&
			       offsetof(struct ds_local_unwindow, pid) == 16,
		       "pid follows the head");
	pid = meant(c, ((const struct ds_local_about *)m)->pid, &why);
	if (!pid)
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->seq, ((const struct ds_local_about *)m)->pid, &why);
	else if (m->kind == DS_LOCAL_MAP)
		on_map(s, c, (const struct ds_local_map *)m, pid);
	else if (m->kind == DS_LOCAL_SHADOW)
		agent_slot_shadow(s, c, (const struct ds_local_shadow *)m, pid);
	else
		agent_slot_request(s, c, m, pid);
}

static void on_packet(struct agent_server *s, struct agent_client *c)
{
	static _Alignas(8) uint8_t packet[DS_LOCAL_BYTES_MAX + 8];
	struct agent_refusal why = {.code = DS_LOCAL_C_MESSAGE};
	ssize_t n = recv(c->fd, packet, sizeof(packet), MSG_DONTWAIT);
	const char *fault;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		disconnect(s, c);
		return;
	}
	if (!agent_local_check(packet, n, &fault)) {
		on_request(s, c, (const struct ds_local_head *)packet);
		return;
	}
	snprintf(why.text, sizeof(why.text), "%s", fault);
	if (agent_log_may(c->who.uid))
		agent_log(LOG_WARNING, "process %d, uid %u, sent a message that is no request: %s", c->who.pid, c->who.uid, fault);
	agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, n >= 16 ? ((const struct ds_local_head *)packet)->seq : 0, 0, &why);
	disconnect(s, c);
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

static int worker_tick(struct agent_server *s)
{
	int64_t now = agent_now_ms(), least = -1;

	for (size_t i = 0; i < AGENT_WORKERS_MAX; i++) {
		const struct agent_worker *w = &s->worker[i];

		if (!w->pid)
			continue;
		if (w->until_ms <= now)
			kill(w->pid, SIGKILL);
		else if (least < 0 || w->until_ms - now < least)
			least = w->until_ms - now;
	}
	return least;
}

/* What is waited for, in the order in which on_ready() takes it: signals, listener, clients, then slots. */
static size_t collect(const struct agent_server *s, struct pollfd *p)
{
	size_t n = 0;

	p[n++] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
	p[n++] = (struct pollfd){.fd = s->ending ? -1 : s->listen_fd, .events = POLLIN};
	for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++)
		if (s->client[i].fd >= 0)
			p[n++] = (struct pollfd){.fd = s->client[i].fd, .events = POLLIN};
	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		const struct agent_slot *slot = &s->slot[i];

		if (slot->state == AGENT_SLOT_FREE)
			continue;
		p[n++] = (struct pollfd){.fd = slot->chan_fd, .events = POLLIN};
		p[n++] = (struct pollfd){.fd = slot->state == AGENT_SLOT_DRAIN ? slot->host_fd : -1, .events = POLLIN};
		p[n++] = (struct pollfd){.fd = slot->state == AGENT_SLOT_WAIT ? slot->target.pidfd : -1, .events = POLLIN};
	}
	return n;
}

static void on_ready(struct agent_server *s, const struct pollfd *p, size_t n)
{
	for (size_t i = 2; i < n; i++) {
		if (!p[i].revents || p[i].fd < 0)
			continue;
		/* Earlier ones of this round may have closed it: it is looked for by what it is now. */
		for (size_t k = 0; k < AGENT_CLIENTS_MAX; k++)
			if (s->client[k].fd == p[i].fd)
				on_packet(s, &s->client[k]);
		for (uint32_t k = 0; k < s->o->max_shadows; k++) {
			struct agent_slot *slot = &s->slot[k];

			if (slot->state == AGENT_SLOT_FREE)
				continue;
			if (slot->chan_fd == p[i].fd)
				agent_slot_chan(s, slot);
			else if (slot->state == AGENT_SLOT_DRAIN && slot->host_fd == p[i].fd)
				agent_slot_host(s, slot);
			else if (slot->state == AGENT_SLOT_WAIT && slot->target.pidfd == p[i].fd)
				agent_slot_gone(s, slot);
		}
	}
	if (p[0].revents)
		on_child(s);
	if (p[1].revents)
		on_connect(s);
}

static int loop(struct agent_server *s)
{
	struct pollfd *p = calloc(2 + AGENT_CLIENTS_MAX + 3 * (size_t)s->o->max_shadows, sizeof(*p));
	cleanup_free void *own = p;
	int64_t end_ms = 0;

	if (!p)
		return -ENOMEM;
	for (;;) {
		int a = agent_slot_tick(s), b = worker_tick(s), timeout = a < 0 || (b >= 0 && b < a) ? b : a;
		size_t n;

		if (s->ending) {
			end_ms = end_ms ? end_ms : agent_now_ms() + END_MS;
			if (!agent_slot_stop_all(s) || agent_now_ms() >= end_ms)
				return 0;
			timeout = timeout < 0 || timeout > 500 ? 500 : timeout;
		}
		n = collect(s, p);
		if (poll(p, n, timeout) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		on_ready(s, p, n);
	}
}

static void *shared(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

int agent_server_run(const struct agent_options *o, int listen_fd)
{
	static struct agent_server s; /* large */
	sigset_t signals;
	int err;

	s = (struct agent_server){.o = o, .listen_fd = listen_fd, .signal_fd = -1};
	for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++)
		s.client[i].fd = s.client[i].pidfd = -1;
	s.slot = calloc(o->max_shadows, sizeof(*s.slot));
	s.view = shared(o->max_shadows * sizeof(*s.view));
	s.account = shared(sizeof(*s.account) + o->max_shadows * sizeof(s.account->pinned[0]));
	if (!s.slot || !s.view || !s.account)
		return -ENOMEM;
	s.account->limit_pages = o->limit_pages;
	s.account->nslots = o->max_shadows;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	s.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	err = s.signal_fd < 0 ? -errno : loop(&s);
	free(s.slot);
	return err;
}
