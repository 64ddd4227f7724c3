/* agent_ask.h - asking dsagent, for programs that do one thing at a time */
#ifndef GUEST_AGENT_ASK_H
#define GUEST_AGENT_ASK_H

#include <sys/types.h>

#include "runtime/guest/local.h"

/**
 * agent_ask_connect() - Connect to dsagent
 * @path: its socket; NULL: where it usually is
 *
 * Return: a descriptor; -ENOENT, -ECONNREFUSED: no dsagent is there; -errno.
 */
int agent_ask_connect(const char *path);

/**
 * agent_ask_map() - Ask for the map of a process
 * @fd: connection
 * @pid: which
 * @split: enum rle_split
 * @timeout_ms: for the answer
 * @out: filled in when it was given
 * @refused: filled in when it was refused
 *
 * Return: a descriptor with what @out says, at least as long as it says and sealed; -EACCES: refused; -ETIMEDOUT; -EPROTO: an
 * answer that is not as local.h says; -errno.
 */
int agent_ask_map(int fd, pid_t pid, uint32_t split, int timeout_ms, struct ds_local_mapped *out, struct ds_local_refused *refused);

/**
 * agent_ask_devices() - Ask which devices of the host a program could have
 * @fd: connection
 * @service: of the shadow it would have
 * @program: its path; "": any
 * @timeout_ms: for the answer
 * @text: lines as struct ds_agent_devices of runtime/wire/agent.h says; terminated
 * @more: whether there was no room for all of them
 * @refused: filled in when it was refused
 *
 * Return: 0; -ENAMETOOLONG; the rest as agent_ask_map().
 */
int agent_ask_devices(int fd, const char *service, const char *program, int timeout_ms, char text[DS_LOCAL_PAYLOAD_MAX + 1], int *more,
		      struct ds_local_refused *refused);

#endif
