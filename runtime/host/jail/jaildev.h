/* jaildev.h - device nodes of the host that a jail shows to its shadow
 *
 * Theory of operation
 *
 * A rule of the policy may grant devices, by path or by pattern: /dev/kvm, /dev/nvidia*.  The jail's /dev is then a file system of
 * its own, made by dshost with its rights, that holds nodes of the same names and numbers as the host's, and nothing else.  So
 * what is there is what was granted, whatever appears in the host's /dev meanwhile, and a path leads to a device whatever
 * links lie on the host's way to it.  In the jail:
 *
 *   owner	  as on the host where everybody may read and write the device; else the shadow's user, who then may: that it may
 *		  open the device is the rule's word, not the host's modes'.  Numbers and types are the host's
 *   links	  symbolic links that match (/dev/dri/by-path/...) are copied as they are: they lead nowhere but within the jail
 *   read-only   nothing can be added; opening a device for writing is not writing to the file system
 *
 * Patterns are looked up once, when the shadow starts.  A device that comes later is seen by the next shadow.
 *
 * What a driver does for whoever has its device open is the driver's matter, and what is granted: see ds-policy(5), DEVICES.  Nodes
 * that give all memory of the host away (/dev/mem and its like, told by their numbers) are not given, whatever a rule says.
 *
 * Needs CAP_SYS_ADMIN and CAP_MKNOD in the host's user namespace, and Linux 5.12.
 */
#ifndef HOST_JAILDEV_H
#define HOST_JAILDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JAILDEV_PATTERNS_MAX 16 /* of a jail */
#define JAILDEV_NODES_MAX 256
#define JAILDEV_PATH_BYTES 256 /* below /dev; terminated */

/** struct jaildev_node - One node of the host's. */
struct jaildev_node {
	char path[JAILDEV_PATH_BYTES]; /* absolute */
	dev_t number;
	mode_t mode; /* type and permissions */
	uid_t uid;
	gid_t gid;
};

/**
 * jaildev_pattern_fault() - Whether a pattern can be granted
 *
 * Below /dev, absolute, as the kernel would write it; *, ? and [] as in glob(7), of which none matches a slash.
 *
 * Return: NULL; or what is expected instead: static text.
 */
const char *jaildev_pattern_fault(const char *pattern);

/**
 * jaildev_each() - Calls for every device of the host that matches, in the order of the patterns
 * @pattern: @n of them
 * @each: gets a node (a symbolic link too: S_IFLNK, its number is 0); what it returns other than 0 ends it
 *
 * Return: how many there were; -errno; what @each returned.
 */
int jaildev_each(const char *const *pattern, size_t n, int (*each)(void *ctx, const struct jaildev_node *node), void *ctx);

/**
 * jaildev_open() - A file system with the devices that match, not attached to anything
 * @pattern: @n of them
 * @uid: who may read and write them, on the host
 * @gid: likewise
 *
 * Return: a descriptor of its root, the caller's; -EPERM (no CAP_MKNOD), -E2BIG (more than JAILDEV_NODES_MAX), -errno.
 */
int jaildev_open(const char *const *pattern, size_t n, uid_t uid, gid_t gid);

/**
 * jaildev_place() - Attaches it as /dev, below the working directory, which is the root to be
 * @fd: from jaildev_open()
 *
 * Return: 0, -errno.
 */
int jaildev_place(int fd);

#endif
