/* jailland.h - landlock for a jail: everything that this kernel's landlock knows is denied
 *
 * The one exception is executing (and so reading) the capsule itself, by its descriptor: without it the exec would be
 * denied as well (landlock(7)).  The filter denies a second one.
 */
#ifndef HOST_JAILLAND_H
#define HOST_JAILLAND_H

/** jailland_abi() - The ABI version that this kernel has and we use; 0: none. */
int jailland_abi(void);

/** jailland_prepare() - Makes a ruleset that lets @exe_fd be executed and nothing else.  Return: its descriptor, -errno. */
int jailland_prepare(int exe_fd);

/** jailland_enforce() - Puts the caller under it, which has no_new_privs; closes it.  Return: 0, -errno. */
int jailland_enforce(int ruleset_fd);

#endif
