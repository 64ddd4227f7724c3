/* qmp.h - a small client of QEMU's machine protocol, for one VM
 *
 * Theory of operation
 *
 * QMP is one JSON object a line, over a unix socket (QEMU's docs/interop/qmp-spec).  QEMU greets, the client answers
 * with qmp_capabilities, and from then on a command is followed by one answer ("return" or "error"); events may come at
 * any time between.  One command is under way at a time, so an answer belongs to the last command, and it carries its
 * id.  Events are not kept, except for the two that end a guest's life, which are counted.
 *
 * QEMU's main thread, which answers here, is the one that waits for answers of a vhost-user back end: whoever is that
 * back end too must go on answering there while it waits here, or both wait for ever (system_reset is such a command:
 * the reset stops vhost-user devices before its own answer is sent).  qmp_serve() makes this client do so.
 *
 * QEMU is trusted; a line is limited all the same.  After an error other than a refused command the connection is of no
 * further use.  One thread at a time.
 */
#ifndef HOST_QMP_H
#define HOST_QMP_H

#include <stddef.h>
#include <stdint.h>

#define QMP_LINE_BYTES_MAX (4u << 20)

struct json_object;

/** struct qmp - A connection. */
struct qmp {
	int fd;
	int timeout_ms;	      /* how long QEMU may be silent */
	char *buf;	      /* what was received */
	size_t at, have, room; /* of @buf: first byte not used yet, bytes received, allocated */
	uint64_t id;	      /* of the last command */
	uint64_t resets;      /* RESET events seen */
	uint64_t shutdowns;   /* SHUTDOWN events seen */
	int serve_fd;	      /* another descriptor to look at while waiting; -1: none */
	int (*serve)(void *ctx);
	void *serve_ctx;
	char fault[160];      /* what QEMU said of the last command that it refused; terminated */
};

/**
 * qmp_connect() - Connects to a VM and negotiates
 * @q: filled; to be given to qmp_close() whatever comes of it
 * @path: of the socket (-qmp unix:PATH,server=on,wait=off)
 * @timeout_ms: how long QEMU may be silent, here and in every command
 *
 * Return: 0; -ENAMETOOLONG; -errno of socket() or connect(); otherwise as qmp_command().
 */
int qmp_connect(struct qmp *q, const char *path, int timeout_ms);

/**
 * qmp_command() - Has a command executed and waits for its answer
 * @name: of the command
 * @arguments: an object, which this takes over; or NULL
 * @result: set to what was returned, the caller's to json_object_put(); may be NULL
 *
 * Return: 0; -EREMOTEIO (QEMU refused: q->fault); -ETIMEDOUT; -ECONNRESET (the VM is gone); -EBADMSG (no QMP);
 * -EMSGSIZE (an answer beyond QMP_LINE_BYTES_MAX); -ENOMEM; -errno.
 */
int qmp_command(struct qmp *q, const char *name, struct json_object *arguments, struct json_object **result);

/**
 * qmp_serve() - Goes on serving another descriptor while a command waits for QEMU
 * @fd: not owned; -1: none any more
 * @serve: called when @fd can be read or has ended; anything but 0 ends the serving, not the command
 * @ctx: for @serve
 */
void qmp_serve(struct qmp *q, int fd, int (*serve)(void *ctx), void *ctx);

/** qmp_monitor() - Has the human monitor execute @line; @result is a string.  Return: as qmp_command(). */
int qmp_monitor(struct qmp *q, const char *line, struct json_object **result);

/** qmp_close() - Closes the connection; a 0-filled one with fd -1, and a closed one, may be closed. */
void qmp_close(struct qmp *q);

/** qmp_json_cleanup() - For __attribute__((cleanup(qmp_json_cleanup))) on a struct json_object pointer. */
void qmp_json_cleanup(struct json_object **object);

#endif
