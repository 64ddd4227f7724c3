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

#endif
