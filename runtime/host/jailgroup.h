/* jailgroup.h - a memory cgroup for a jail, where one can be made
 *
 * Version 2: the caller's own group must be its own to divide: it is the root of the hierarchy, or marked as delegated
 * (systemd.resource-control(5), Delegate=; the mark is the extended attribute user.delegate or trusted.delegate).  As a group
 * with processes cannot have divided children (cgroups(7), "no internal processes"), the caller's processes are moved
 * into a child "main" first.  Version 1 knows no such rule: root makes a child of its group in the memory hierarchy.
 *
 * Groups carry the maker's pid in their name; those whose maker is gone are removed by the next, and by
 * jailgroup_sweep().
 */
#ifndef HOST_JAILGROUP_H
#define HOST_JAILGROUP_H

#include <stdint.h>
#include <sys/types.h>

#define JAILGROUP_PATH_BYTES 256

/** struct jailgroup - A directory of a cgroup file system. */
struct jailgroup {
	char path[JAILGROUP_PATH_BYTES]; /* "": none */
	int version;			 /* 0: none, 1, 2 */
};

/**
 * jailgroup_make() - Makes a group
 * @g: filled
 * @memory_bytes: its limit of memory, kernel memory and page tables included; swap is not allowed beside where it can be
 *	limited
 *
 * Return: 0; -ENOENT there is nowhere to make one; -errno.
 */
int jailgroup_make(struct jailgroup *g, uint64_t memory_bytes);

/** jailgroup_join() - Moves process @pid into it.  Return: 0, -errno. */
int jailgroup_join(const struct jailgroup *g, pid_t pid);

/** jailgroup_remove() - Removes it; its processes have been waited for.  Return: 0, -errno. */
int jailgroup_remove(struct jailgroup *g);

/** jailgroup_sweep() - Removes groups of makers that were killed and of whose processes none is left. */
void jailgroup_sweep(void);

#endif
