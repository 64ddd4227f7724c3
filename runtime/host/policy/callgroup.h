/* callgroup.h - groups of system calls that a rule of the policy may grant to a shadow
 *
 * The names are the policy's (calls=, ds-policy(5)); which calls a group has is the filter's matter.
 */
#ifndef HOST_CALLGROUP_H
#define HOST_CALLGROUP_H

#include <stdint.h>

/** enum callgroup - Bits. */
enum callgroup {
	CALLGROUP_FILE = 1,   /* open, read and write files, and everything about open files */
	CALLGROUP_DIR = 2,    /* list, make, remove, rename, change owners, modes and times */
	CALLGROUP_SOCKET = 4, /* sockets of the internet's families */
	CALLGROUP_POLL = 8,   /* wait for descriptors; pipes, timers, eventfds */
	CALLGROUP_DEVICE = 32, /* ioctl() as drivers want it */
	CALLGROUP_INFO = 16,  /* who and where one is: identity, names, times, limits; changes nothing */
};

/** callgroup_find() - The bit of the group called @name; 0: there is none. */
uint32_t callgroup_find(const char *name);

#endif
