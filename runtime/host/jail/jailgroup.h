/* jailgroup.h - cgroups for a jail, where they can be made
 *
 * Theory of operation
 *
 * Each limit is put into force by the hierarchy that has its controller on this host, and by none where there is none:
 *
 *   version 2   the caller's own group must be its own to divide: it is the root of the hierarchy, or marked as delegated
 *		 (systemd.resource-control(5), Delegate=; the mark is the extended attribute user.delegate or
 *		 trusted.delegate).  As a group with processes cannot have divided children (cgroups(7), "no internal
 *		 processes"), the caller's processes are moved into a child "main" first.
 *   version 1   knows no such rule: root makes a child of its group in the controller's hierarchy.
 *
 * A group of version 2 is made wherever that is mounted, also if it has no controllers there (both versions in use): what
 * belongs to a group, and not to a controller, are programs that look at connections (jailnet.h).
 *
 * A process enters without being moved there: moving another one into a group waits for the kernel to be sure that no process
 * is just forking or ending (cgroup_threadgroup_rwsem: 6 to 13 ms for each hierarchy, whatever else goes on).  It is cloned into its
 * group of version 2 (CLONE_INTO_CGROUP, Linux 5.7), and moves itself into those of version 1, as a single thread, by descriptors
 * that its maker has opened: neither waits (Linux 5.5, "cgroup: Optimize single thread migration").
 *
 * Groups carry the maker's pid in their name; those whose maker is gone are removed by the next, and by
 * jailgroup_sweep().
 */
#ifndef HOST_JAILGROUP_H
#define HOST_JAILGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define JAILGROUP_PATH_BYTES 256

/** enum jailgroup_limit - What a group can limit. */
enum jailgroup_limit { JAILGROUP_MEMORY, JAILGROUP_CPU, JAILGROUP_PIDS, JAILGROUP_LIMITS };

/** struct jailgroup_want - The limits; 0: none. */
struct jailgroup_want {
	uint64_t memory_bytes; /* kernel memory and page tables included; swap is not allowed beside where it can be limited */
	uint32_t cpu_percent;  /* of one processor */
	uint32_t pids;	       /* threads */
	bool bare;	       /* a group of version 2, whether or not it limits anything */
};

/** struct jailgroup - Directories of cgroup file systems. */
struct jailgroup {
	char two[JAILGROUP_PATH_BYTES];			     /* of version 2; "": none */
	char one[JAILGROUP_LIMITS][JAILGROUP_PATH_BYTES];    /* of version 1, by controller */
	uint8_t version[JAILGROUP_LIMITS];		     /* who keeps the limit: 0 nobody, 1, 2 */
};

/**
 * jailgroup_make() - Makes what groups are needed and can be made
 * @g: filled; version[] tells which limits are in force
 *
 * Return: 0, also if nothing could be made; -errno: a limit was refused by the kernel, nothing is left.
 */
int jailgroup_make(struct jailgroup *g, const struct jailgroup_want *want);

/** jailgroup_join() - Moves a process that runs into it, which waits for a grace period of RCU (some ms).  Return: 0, -errno. */
int jailgroup_join(const struct jailgroup *g, pid_t pid);

/** struct jailgroup_doors - How a process gets in; descriptors, -1: none. */
struct jailgroup_doors {
	int two; /* for clone3(2) */
	int one[JAILGROUP_LIMITS]; /* for jailgroup_enter() */
};

/** jailgroup_open() - Opens the doors; give back with jailgroup_close().  Return: 0, -errno: all are closed. */
int jailgroup_open(const struct jailgroup *g, struct jailgroup_doors *doors);

/**
 * jailgroup_enter() - The caller, which has one thread, goes into the groups of version 1
 *
 * By the rights of who opened the doors (cgroups of version 1: the opener's credentials count).  Return: 0, -errno.
 */
int jailgroup_enter(const struct jailgroup_doors *doors);

/** jailgroup_close() - Closes the doors. */
void jailgroup_close(struct jailgroup_doors *doors);

/** jailgroup_remove() - Removes it; its processes have been waited for.  Return: 0, -errno. */
int jailgroup_remove(struct jailgroup *g);

/** jailgroup_sweep() - Removes groups of makers that were killed and of whose processes none is left. */
void jailgroup_sweep(void);

#endif
