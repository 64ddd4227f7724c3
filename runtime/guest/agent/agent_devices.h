/* agent_devices.h - which devices of the host a program could have: the host is asked for a local client
 *
 * A child of dsagent's does this, as the host may be long in answering: a stream of its own, HELLO, DEVICES, and the answer
 * goes to the client as it came.
 */
#ifndef GUEST_AGENT_DEVICES_H
#define GUEST_AGENT_DEVICES_H

#include "runtime/guest/agent/agent_target.h"

/**
 * agent_devices_answer() - Ask the host and send GRANTED or REFUSED
 * @client_fd: the client's socket
 * @host: a unix socket in the host's place, or NULL
 * @m: the request, checked
 * @caller: who asks: rules are about users
 *
 * Return: exit status: 0, an answer was sent.
 */
int agent_devices_answer(int client_fd, const char *host, const struct ds_local_devices *m, const struct agent_caller *caller);

#endif
