/* qmp.c - a small QMP client; theory in qmp.h */
#include "runtime/host/vm/qmp.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void qmp_json_cleanup(struct json_object **object)
{
	json_object_put(*object);
}
#define cleanup_json __attribute__((cleanup(qmp_json_cleanup)))

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int wait_for(struct qmp *q, short events)
{
	const int64_t end = now_ms() + q->timeout_ms;

	for (;;) {
		struct pollfd p[2] = {{.fd = q->fd, .events = events}, {.fd = q->serve_fd, .events = POLLIN}};
		const int64_t left = end - now_ms();
		const int n = left > 0 ? poll(p, 2, (int)left) : 0; /* a descriptor of -1 is left out by poll() */

		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && p[1].revents && q->serve(q->serve_ctx))
			q->serve_fd = -1;
		if (n > 0 && p[0].revents)
			return 0;
	}
}

void qmp_serve(struct qmp *q, int fd, int (*serve)(void *ctx), void *ctx)
{
	q->serve_fd = fd;
	q->serve = serve;
	q->serve_ctx = ctx;
}

static int send_all(struct qmp *q, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		int r = wait_for(q, POLLOUT);
		ssize_t n = r ? r : send(q->fd, text, left, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (r)
			return r;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

/* More bytes behind those that are there. */
static int receive(struct qmp *q)
{
	ssize_t n;
	int r;

	if (q->at) {
		memmove(q->buf, q->buf + q->at, q->have - q->at);
		q->have -= q->at;
		q->at = 0;
	}
	if (q->have == q->room) {
		const size_t room = q->room ? q->room * 2 : 16384;
		char *larger = room > QMP_LINE_BYTES_MAX ? NULL : realloc(q->buf, room);

		if (!larger)
			return room > QMP_LINE_BYTES_MAX ? -EMSGSIZE : -ENOMEM;
		q->buf = larger;
		q->room = room;
	}
	r = wait_for(q, POLLIN);
	if (r)
		return r;
	n = recv(q->fd, q->buf + q->have, q->room - q->have, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	q->have += (size_t)n;
	return 0;
}

/* The next line as an object. */
static int next_object(struct qmp *q, struct json_object **object)
{
	size_t seen = 0;
	char *newline;

	for (;;) {
		int r;

		newline = q->have > q->at + seen ? memchr(q->buf + q->at + seen, '\n', q->have - q->at - seen) : NULL;
		if (newline)
			break;
		seen = q->have - q->at;
		r = receive(q);
		if (r)
			return r;
	}
	*newline = 0;
	*object = json_tokener_parse(q->buf + q->at);
	q->at = (size_t)(newline - q->buf) + 1;
	if (!json_object_is_type(*object, json_type_object)) {
		json_object_put(*object);
		*object = NULL;
		return -EBADMSG;
	}
	return 0;
}

static void count_event(struct qmp *q, struct json_object *event)
{
	const char *name = json_object_get_string(event);

	if (name && !strcmp(name, "RESET"))
		q->resets++;
	else if (name && !strcmp(name, "SHUTDOWN"))
		q->shutdowns++;
}

/* The answer to the last command; events before it are counted. */
static int answer(struct qmp *q, struct json_object **result)
{
	for (;;) {
		cleanup_json struct json_object *o = NULL;
		struct json_object *member, *text;
		int r = next_object(q, &o);

		if (r)
			return r;
		if (json_object_object_get_ex(o, "event", &member)) {
			count_event(q, member);
			continue;
		}
		if (!json_object_object_get_ex(o, "id", &member) || json_object_get_uint64(member) != q->id)
			return -EBADMSG;
		if (json_object_object_get_ex(o, "error", &member)) {
			if (json_object_object_get_ex(member, "desc", &text))
				snprintf(q->fault, sizeof(q->fault), "%s", json_object_get_string(text));
			return -EREMOTEIO;
		}
		if (!json_object_object_get_ex(o, "return", &member))
			return -EBADMSG;
		if (result)
			*result = json_object_get(member);
		return 0;
	}
}

int qmp_command(struct qmp *q, const char *name, struct json_object *arguments, struct json_object **result)
{
	cleanup_json struct json_object *o = json_object_new_object();
	int r;

	q->fault[0] = 0;
	if (!o) {
		json_object_put(arguments);
		return -ENOMEM;
	}
	json_object_object_add(o, "execute", json_object_new_string(name));
	if (arguments)
		json_object_object_add(o, "arguments", arguments);
	json_object_object_add(o, "id", json_object_new_uint64(++q->id));
	r = send_all(q, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	if (!r)
		r = send_all(q, "\n");
	return r ? r : answer(q, result);
}

int qmp_monitor(struct qmp *q, const char *line, struct json_object **result)
{
	struct json_object *arguments = json_object_new_object();
	int r;

	if (!arguments)
		return -ENOMEM;
	json_object_object_add(arguments, "command-line", json_object_new_string(line));
	r = qmp_command(q, "human-monitor-command", arguments, result);
	if (!r && !json_object_is_type(*result, json_type_string))
		return -EBADMSG;
	return r;
}

int qmp_connect(struct qmp *q, const char *path, int timeout_ms)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_json struct json_object *greeting = NULL;
	struct json_object *member;
	int r;

	*q = (struct qmp){.fd = -1, .serve_fd = -1, .timeout_ms = timeout_ms};
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (q->fd < 0 || connect(q->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	r = next_object(q, &greeting);
	if (r)
		return r;
	if (!json_object_object_get_ex(greeting, "QMP", &member))
		return -EBADMSG;
	return qmp_command(q, "qmp_capabilities", NULL, NULL);
}

void qmp_close(struct qmp *q)
{
	if (q->fd >= 0)
		close(q->fd);
	free(q->buf);
	*q = (struct qmp){.fd = -1, .serve_fd = -1};
}
