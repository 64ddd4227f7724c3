/* dsrun_devices.h - devices of the host: which are granted, and what a program that uses them needs to have forwarded
 *
 * Theory of operation
 *
 * The host's policy says which devices a program may have (ds-policy(5), DEVICES).  dsrun asks it through dsagent, for two reasons: a
 * pattern such as /dev/nvidia* can be resolved by nobody else, as the guest has no such nodes; and the rule says which places
 * below /sys and /proc belong to the devices.  The answer only says what becomes the host's in the program's view; what is granted
 * is decided again when the shadow starts.
 *
 * A pattern that matches a folder stands for what is in it, too: /dev/nvidia* for /dev/nvidia-caps.
 * A device becomes the host's by its path; in a folder below /dev, such as /dev/dri, the folder does, so that it can be listed.
 */
#ifndef RUNTIME_GUEST_DSRUN_DEVICES_H
#define RUNTIME_GUEST_DSRUN_DEVICES_H

#include <stddef.h>

#include "runtime/guest/run/dsrun_policy.h"

#define DSRUN_DEVICES_MAX 16

/** struct dsrun_devices - What was asked for on the command line. */
struct dsrun_devices {
	size_t n;
	const char *pattern[DSRUN_DEVICES_MAX];
};

/** dsrun_devices_add() - One more; @pattern is kept.  Return: NULL, or what is wrong with it. */
const char *dsrun_devices_add(struct dsrun_devices *d, const char *pattern);

/**
 * dsrun_devices_take() - Finds what the host grants, and adds it to what is forwarded
 * @d: what is asked for
 * @policy: prefixes are added to it
 * @socket: dsagent's; NULL: the usual
 * @service: of the shadow
 * @program: path of the program
 *
 * A device that is named without a wildcard is forwarded in any case: the program then sees what the host says about it.
 *
 * Return: 0; -1 after saying what there is instead.
 */
int dsrun_devices_take(const struct dsrun_devices *d, struct dsrun_policy *policy, const char *socket, const char *service, const char *program);

/** dsrun_devices_list() - Prints what is granted.  @program: its path, or "" for any.  Return: 0; -1 after saying why not. */
int dsrun_devices_list(const char *socket, const char *service, const char *program);

#endif
