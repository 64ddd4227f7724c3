/* place.h - a root directory for a container's task: the places and devices that a rule grants, as the host's mounts
 *
 * Theory of operation
 *
 * A process of the host's, root there, makes a mount namespace and in it the same root as in a shadow's jail (runtime/host/jail/jailroot.h):
 * read-only where the rule says so, with the nodes that it names, and with `..` leading nowhere.  A descriptor of that directory is
 * all that goes to the container.  It can be made a root there although nothing of the container's own namespaces is in it: names are
 * looked up along mounts, whichever namespace these are in.  What a mount allows is the host's: the container cannot make it writable,
 * mount over it, or make nodes; and it has no other way to the host than this one.
 *
 * The mounts are there as long as somebody has the namespace's descriptor.
 */
#ifndef CONTAINER_PLACE_H
#define CONTAINER_PLACE_H

#include <sys/types.h>

#include "runtime/host/policy/policy.h"

/** struct place - A root directory. */
struct place {
	int root_fd; /* -1: none */
	int ns_fd;   /* of its mount namespace */
};

/**
 * place_make() - Makes one
 * @rule: that grants it
 * @uid: who devices belong to that are not everybody's; of the host
 * @gid: likewise
 * @place: filled; given back by place_close()
 * @why: set to static text on an error
 *
 * Forks, and waits for the child.  Return: 0, -errno.
 */
int place_make(const struct policy_rule *rule, uid_t uid, gid_t gid, struct place *place, const char **why);

/** place_close() - Lets go of it: nothing can be found there any more by whoever has it. */
void place_close(struct place *place);

#endif
