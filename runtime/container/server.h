/* server.h - the host's end for one container: who listens there at dsagent's socket
 *
 * Theory of operation
 *
 *	container (own mounts, processes, users)		host
 *	program -- libdsforward.so -- /run/dsagent/socket --->	dscontainer: policy, root directories, groups
 *	   `-- task: the same memory, another root              keeper: descriptors that children inherit (runtime/host/warden/estate.h)
 *
 * runtime/guest/forward/container.h tells what is said; this is the other side of it.  A connection is a program, and at most one
 * shadow.  Single-threaded; waits for nobody in the container.
 *
 * What is known about a program is what the kernel says: who connected (SO_PEERCRED), which file it executes (/proc/PID/exe, as the
 * container names it), who sent TASK (SCM_CREDENTIALS), and that both have the same memory (kcmp(2)).
 *
 * What is kept from outside, and what is not.  A shadow of a virtual machine's program is a process that only dshost could make; it is
 * jailed, and filtered, against its own guest.  Here the task is the container's own process, and its memory, which is the program's,
 * can be written by whoever can write the program's.  So nothing that it does to itself counts, and a filter would not: its
 * descriptors can be taken by its user.  What counts is what it is *given*: a directory with the granted places and devices, in which
 * mounts and owners of files decide (place.h), for the container's user and with no rights besides; a cgroup for its time on the
 * processor; an end when the program's connection ends, or the server does.  What a rule says that could not be kept so
 * is refused, with its name: users of the host, the host's network, rates, descriptors, sizes of files.  What it says of calls is
 * without meaning: a container's program makes any call of this kernel by itself.
 */
#ifndef CONTAINER_SERVER_H
#define CONTAINER_SERVER_H

#include <signal.h>

#include "runtime/host/policy/policy.h"

/** struct server_params - What a server is for; stays the caller's. */
struct server_params {
	const char *name;   /* of the container, where rules say vm= */
	const char *socket; /* dsagent's, as the host names it */
	const char *policy; /* file */
};

/**
 * server_run() - Serves until @stop is set
 * @p: what for
 * @policy: to begin with; taken over
 * @stop: set by a signal's handler
 * @again: likewise: the policy's file is to be read again
 * @ready: called once, when who connects is heard
 * @signals: the mask while it waits
 *
 * Return: 0, -errno and @why.
 */
int server_run(const struct server_params *p, struct policy *policy, volatile sig_atomic_t *stop, volatile sig_atomic_t *again,
	       const sigset_t *signals, void (*ready)(void), const char **why);

/** server_fault() - What of a rule cannot be kept in a container; NULL: all of it can. */
const char *server_fault(const struct policy_rule *rule);

#endif
