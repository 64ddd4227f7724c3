/* server.c - see server.h */
#include "runtime/container/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/container/client.h"
#include "runtime/host/log.h"

#define CLIENTS_MAX 512
#define POLLED 4 /* descriptors of a client */
#define BACKLOG 64

enum { LISTENER, ESTATES, KEEPER, FIRST };

struct server {
	const struct server_params *p;
	struct policy *policy;
	struct estates *estates;
	int listener, estate_listener;
	struct client client[CLIENTS_MAX];
	struct pollfd poll[FIRST + POLLED * CLIENTS_MAX];
};

const char *server_fault(const struct policy_rule *r)
{
	if (r->uid_host != POLICY_USER_NOBODY)
		return "user= of the host: files are used as the container's own user";
	if (r->net_host || r->net_limited)
		return "network but the container's own: net=host, connect=, bind=";
	for (int i = 0; i < POLICY_RATES; i++)
		if (r->rate[i])
			return "limit of bytes a second: its descriptors are the container's";
	if (r->descriptors || r->file_size_bytes)
		return "limit of descriptors or of files' sizes: they are the container's";
	return r->npaths || r->ndevices ? NULL : "shadow without a path= or device=: it would have nothing";
}

/* --- sockets ------------------------------------------------------------------------------------------------------------ */

/* What a server that was killed has left, and nothing else: no file, and no socket where somebody listens. */
static bool left_behind(const struct sockaddr_un *addr, int kind)
{
	cleanup_close int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	return fd >= 0 && !lstat(addr->sun_path, &st) && S_ISSOCK(st.st_mode) &&
	       connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) && errno == ECONNREFUSED;
}

/*
 * A socket that everybody who sees it may connect to.  Bound by the last part of its name, in its directory, since a container's name for
 * that differs: who has connected sees the last part (forward/estate.c).
 */
static int listen_at(const char *path, int kind)
{
	cleanup_close int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *last = strrchr(path, '/');
	char folder[sizeof(addr.sun_path)];
	mode_t mask;
	int rc = 0;

	if (fd < 0 || back < 0)
		return -errno;
	if (!last || !last[1] || strlen(path) >= sizeof(folder))
		return -EINVAL;
	snprintf(folder, sizeof(folder), "%.*s", (int)(last == path ? 1 : last - path), path);
	strcpy(addr.sun_path, last + 1);
	if (chdir(folder))
		return -errno;
	mask = umask(0);
	if ((left_behind(&addr, kind) && unlink(addr.sun_path)) || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    chmod(addr.sun_path, 0666) || listen(fd, BACKLOG))
		rc = -errno;
	umask(mask);
	if (fchdir(back))
		rc = -errno;
	return rc ? rc : steal_fd(&fd);
}

static void estates_path(const struct server *s, char path[static sizeof(((struct sockaddr_un *)0)->sun_path) + 32])
{
	snprintf(path, sizeof(((struct sockaddr_un *)0)->sun_path) + 32, "%s%s", s->p->socket, DS_LOCAL_ESTATES);
}

/* --- clients ------------------------------------------------------------------------------------------------------------ */

static void accept_client(struct server *s)
{
	cleanup_close int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	uint32_t i = 0;

	if (fd < 0)
		return;
	while (i < CLIENTS_MAX && s->client[i].fd >= 0)
		i++;
	if (i == CLIENTS_MAX)
		log_line(LOG_LEVEL_WARNING, "container %s: more than %d programs at a time; one is not served", s->p->name, CLIENTS_MAX);
	else if (!client_open(&s->client[i], fd))
		steal_fd(&fd);
}

static void accept_estate(struct server *s)
{
	const int fd = accept4(s->estate_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && estates_accept(s->estates, fd))
		close(fd);
}

static void tell_client(void *ctx, const uint8_t *token, struct estate_order *o, const int *fds, unsigned int nfds)
{
	struct server *s = ctx;

	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		uint8_t differs = s->client[i].fd < 0;

		for (uint32_t k = 0; k < DS_LOCAL_TOKEN_BYTES; k++)
			differs |= s->client[i].token[k] ^ token[k];
		if (!differs)
			client_order(&s->client[i], o, fds, nfds);
	}
}

/* In the keeper, where all descriptors are closed. */
static void forget_clients(void *ctx)
{
	struct server *s = ctx;

	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		explicit_bzero(s->client[i].token, sizeof(s->client[i].token));
}

static void client_polled(struct server *s, struct client *c, const struct pollfd p[static POLLED])
{
	bool on = true;

	if (p[3].revents && !client_answered(c)) {
		close(c->orders);
		c->orders = -1;
	}
	if (p[2].revents)
		client_ended(c);
	if (p[0].revents)
		on = client_hear(c, s->p->name, s->policy);
	if (!on || p[1].revents)
		client_close(c);
}

static void poll_all(struct server *s, const sigset_t *signals)
{
	s->poll[LISTENER] = (struct pollfd){.fd = s->listener, .events = POLLIN};
	s->poll[ESTATES] = (struct pollfd){.fd = s->estate_listener, .events = POLLIN};
	s->poll[KEEPER] = (struct pollfd){.fd = estates_fd(s->estates), .events = POLLIN};
	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		const struct client *c = &s->client[i];
		const int fd[POLLED] = {c->fd, c->fd < 0 ? -1 : c->pidfd, c->fd < 0 ? -1 : c->task_pidfd, c->fd < 0 ? -1 : c->orders};

		for (int k = 0; k < POLLED; k++)
			s->poll[FIRST + POLLED * i + (uint32_t)k] = (struct pollfd){.fd = fd[k], .events = POLLIN};
	}
	if (ppoll(s->poll, sizeof(s->poll) / sizeof(s->poll[0]), NULL, signals) <= 0)
		return;
	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		if (s->client[i].fd >= 0)
			client_polled(s, &s->client[i], &s->poll[FIRST + POLLED * i]);
	if (s->poll[LISTENER].revents)
		accept_client(s);
	if (s->poll[ESTATES].revents)
		accept_estate(s);
	if (s->poll[KEEPER].revents)
		estates_run(s->estates);
}

static void read_policy(struct server *s)
{
	struct policy_err err;
	struct policy *policy;

	if (policy_load(&policy, s->p->policy, &err)) {
		log_line(LOG_LEVEL_ERR, "%s:%u: %s; the policy stays as it was", s->p->policy, err.line, err.why);
		return;
	}
	free(s->policy);
	s->policy = policy;
	log_line(LOG_LEVEL_INFO, "%s: %zu rules, for programs that come from now on", s->p->policy, policy->nrules);
}

static int start(struct server *s, const char **why)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 32];
	int rc;

	*why = "its socket";
	s->listener = listen_at(s->p->socket, SOCK_SEQPACKET);
	if (s->listener < 0)
		return s->listener;
	estates_path(s, path);
	s->estate_listener = listen_at(path, SOCK_STREAM);
	if (s->estate_listener < 0)
		return s->estate_listener;
	rc = estates_new_of(&s->estates, &(struct estates_of){.ctx = s, .tell = tell_client, .forget = forget_clients});
	*why = "memory";
	return rc;
}

static void stop_serving(struct server *s)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 32];

	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		if (s->client[i].fd >= 0)
			client_close(&s->client[i]);
	estates_free(s->estates);
	estates_path(s, path);
	if (s->estate_listener >= 0)
		unlink(path);
	if (s->listener >= 0)
		unlink(s->p->socket);
	cleanup_close_fn(&s->listener);
	cleanup_close_fn(&s->estate_listener);
	free(s->policy);
	free(s);
}

int server_run(const struct server_params *p, struct policy *policy, volatile sig_atomic_t *stop, volatile sig_atomic_t *again,
	       const sigset_t *signals, void (*ready)(void), const char **why)
{
	struct server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s) {
		*why = "memory";
		free(policy);
		return -ENOMEM;
	}
	s->p = p;
	s->policy = policy;
	s->listener = s->estate_listener = -1;
	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		s->client[i].fd = -1;
	jailgroup_sweep();
	rc = start(s, why);
	if (!rc)
		ready();
	while (!rc && !*stop) {
		poll_all(s, signals);
		if (*again)
			read_policy(s);
		*again = 0;
	}
	stop_serving(s);
	return rc;
}
