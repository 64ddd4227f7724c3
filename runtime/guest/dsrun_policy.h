/* dsrun_policy.h - the policy file of dsrun: what becomes of a program's system calls, and what it has of the host */
#ifndef RUNTIME_GUEST_DSRUN_POLICY_H
#define RUNTIME_GUEST_DSRUN_POLICY_H

#include <stddef.h>

#define DSRUN_POLICY_BYTES 4096

/** struct dsrun_policy - In the form of the library's settings (runtime/guest/forward/settings.c). */
struct dsrun_policy {
	char calls[DSRUN_POLICY_BYTES];	   /* DS_FORWARD_POLICY */
	char prefixes[DSRUN_POLICY_BYTES]; /* DS_FORWARD */
	int net;			   /* sockets are the host's */
};

/**
 * dsrun_policy_load() - Reads a policy file, adding to what @policy has
 *
 * A line is one of these; "#" begins a comment:
 *   forward DIRECTORY            the directory is the host's
 *   net host|guest               where AF_INET and AF_INET6 sockets are
 *   local CALL...                these system calls are always the guest's
 *   deny ERRNO CALL...           they fail
 *   emulate VALUE CALL...        they return VALUE and do nothing
 *
 * @why: for "FILE:LINE: reason"
 *
 * Return: 0 or -errno (-EINVAL: the file is wrong).
 */
int dsrun_policy_load(struct dsrun_policy *policy, const char *path, char *why, size_t why_bytes);

/** dsrun_policy_forward() - Adds a directory.  Return: NULL or what is wrong with it. */
const char *dsrun_policy_forward(struct dsrun_policy *policy, const char *directory);

#endif
