/* jailland.h - landlock for a jail: everything that this kernel's landlock knows is denied
 *
 * Places of the host that a rule of the policy grants (jailbind.h) are allowed with what is below them: to be read, and
 * changed if the rule says so; never executed, never given device nodes.  Moving a file between directories needs version 2.
 * Network: with the host's network namespace TCP is not denied here.
 *
 * The one exception besides is executing (and so reading) the capsule itself, by its descriptor: without it the exec would be
 * denied as well (landlock(7)).  The filter denies a second one.
 */
#ifndef HOST_JAILLAND_H
#define HOST_JAILLAND_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/host/jail/jailbind.h"

#define JAILLAND_ABI_SCOPES 6 /* from this on abstract sockets of others are out of reach: Linux 6.12 */

/** jailland_abi() - The ABI version that this kernel has and we use; 0: none. */
int jailland_abi(void);

/** struct jailland_want - What is not denied. */
struct jailland_want {
	int exe_fd;
	const struct jail_bind *bind;
	const int *bind_fd; /* of each, as opened */
	size_t nbinds;
	int dev_fd; /* devices; -1: none */
	bool net; /* connections by TCP */
};

/** jailland_prepare() - Makes a ruleset that lets the capsule be executed and what is wanted be used.  Return: its descriptor, -errno. */
int jailland_prepare(const struct jailland_want *want);

/** jailland_enforce() - Puts the caller under it, which has no_new_privs; closes it.  Return: 0, -errno. */
int jailland_enforce(int ruleset_fd);

#endif
