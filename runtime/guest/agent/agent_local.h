/* agent_local.h - whether a packet from a local program is a request as local.h says
 *
 * Pure: no system call, no state.  Everything that dsagent reads from a packet afterwards may rely on what is checked
 * here; whether the request is granted is decided elsewhere.
 */
#ifndef GUEST_AGENT_LOCAL_H
#define GUEST_AGENT_LOCAL_H

#include <stddef.h>

#include "runtime/guest/local.h"

/**
 * agent_local_check() - Check a request
 * @packet: aligned to 8 bytes
 * @bytes: the packet's length
 * @why: set on error; static text
 *
 * After success: magic and version are ours, bytes is the packet's length, the kind is one of the requests, texts are
 * terminated, ranges rise, are not empty, do not overlap and lie below DS_USER_VPN_END, enums have one of their values.
 *
 * Return: 0 or -EBADMSG.
 */
int agent_local_check(const void *packet, size_t bytes, const char **why);

#endif
