/* qmp.h - a small client of QEMU's machine protocol, for one VM
 *
 * Theory of operation
 *
 * QMP is one JSON object a line, over a unix socket (QEMU's docs/interop/qmp-spec).  QEMU greets, the client answers
 * with qmp_capabilities, and from then on a command is followed by one answer ("return" or "error"); events may come at
 * any time between.  One command is under way at a time, so an answer belongs to the last command, and it carries its
 * id.  Events are not kept, except for the two that end a guest's life, which are counted.
 *
 * Not from within the handling of a vhost-user message: QEMU's main thread waits for those answers, and it is the one
 * that would answer here.
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

/** qmp_monitor() - Has the human monitor execute @line; @result is a string.  Return: as qmp_command(). */
int qmp_monitor(struct qmp *q, const char *line, struct json_object **result);

/** qmp_close() - Closes the connection; a 0-filled one with fd -1, and a closed one, may be closed. */
void qmp_close(struct qmp *q);

/** qmp_json_cleanup() - For __attribute__((cleanup(qmp_json_cleanup))) on a struct json_object pointer. */
void qmp_json_cleanup(struct json_object **object);

#endif
