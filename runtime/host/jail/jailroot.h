/* jailroot.h - the root directory of a jail: what leads to the places and devices that are granted, and nothing else
 *
 * A tmpfs of the process's own that nobody can fill: one directory that nobody may read, or, with places of the host, the directories that
 * lead there, which can be read.  Pivoted to, so that `..` leads nowhere, and read-only.
 */
#ifndef HOST_JAILROOT_H
#define HOST_JAILROOT_H

#include <stddef.h>

#include "runtime/host/jail/jailbind.h"

/** enum jailroot_part - What failed. */
enum jailroot_part { JAILROOT_ROOT, JAILROOT_PLACES, JAILROOT_DEVICES };

/**
 * jailroot_make() - Makes it the root of the calling process, in a mount namespace of its own; /proc is where it is put together
 * @binds: @n of them
 * @bind_fd: of each, from jailbind_open()
 * @dev_fd: from jaildev_open(); -1: none
 * @part: set to what was done last
 *
 * Return: 0, -errno.
 */
int jailroot_make(const struct jail_bind *binds, const int *bind_fd, size_t n, int dev_fd, enum jailroot_part *part);

#endif
