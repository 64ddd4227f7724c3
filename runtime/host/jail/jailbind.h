/* jailbind.h - places of the host's file system that a jail shows to its shadow
 *
 * Theory of operation
 *
 * A jail's root is empty.  A rule of the policy may have a directory, a file or a socket of the host put into it, at a path of the
 * guest's choosing.  That is done in two steps, in two processes:
 *
 *   jailbind_open()   in dshost, with its rights: finds the host's path, following no symbolic link, so that nobody who may
 *		       write on the way to it says where it leads; makes a mount of it that belongs to no namespace yet
 *		       (open_tree(2)), private, without devices, setuid and execution, and read-only where the rule
 *		       says so.  File systems that are mounted below it are not in it.
 *   jailbind_place()  in the jail's child, whose root is still a tmpfs of its own without anything in it: makes the
 *		       directories that lead there, and attaches the mount (move_mount(2)).
 *
 * What keeps the shadow inside afterwards is the kernel's: `..` of a mount's root is the directory that it is mounted on, symbolic
 * links are followed from the jail's root, a directory that somebody moves out of the mount can no longer be left
 * upwards (path_connected() in Linux's fs/namei.c, since 4.2), and landlock grants what is below the same directories
 * and nothing else.  Which files can be opened there is a question of the user that the shadow runs as.
 *
 * Needs CAP_SYS_ADMIN in the host's user namespace, and Linux 5.12 (mount_setattr(2)).
 */
#ifndef HOST_JAILBIND_H
#define HOST_JAILBIND_H

#include <stdbool.h>

#define JAILBIND_MAX 8 /* of a jail */

/** struct jail_bind - One place; strings are borrowed. */
struct jail_bind {
	const char *guest; /* absolute, normalized, not "/"; none of a jail's is within another */
	const char *host;  /* absolute */
	bool writable;
};

/**
 * jailbind_open() - A mount of the host's path, not attached to anything
 *
 * Return: a descriptor (O_PATH), the caller's; -ELOOP (there is a symbolic link in the path), -EINVAL (neither a directory
 * nor a regular file nor a socket), -EROFS (to be written, but it is mounted read-only), -errno of openat2(), open_tree() and mount_setattr().
 */
int jailbind_open(const struct jail_bind *bind);

/**
 * jailbind_place() - Attaches it below the working directory, which is the root to be
 * @fd: from jailbind_open()
 * @guest: where
 *
 * Return: 0, -errno.
 */
int jailbind_place(int fd, const char *guest);

#endif
