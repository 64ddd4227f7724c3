/* dsrun_policy.h - the policy of a program that dsrun starts: files of rules, and directories of the command line */
#ifndef RUNTIME_GUEST_DSRUN_POLICY_H
#define RUNTIME_GUEST_DSRUN_POLICY_H

#include <stddef.h>

#include "runtime/guest/forward/policy_text.h"

#define DSRUN_POLICY_BYTES 4096

/** struct dsrun_policy - In the form of the library's settings (runtime/guest/forward/settings.c); zeroed at first. */
struct dsrun_policy {
	char rules[POLICY_TEXT_BYTES];	   /* DS_FORWARD_POLICY: lines */
	char prefixes[DSRUN_POLICY_BYTES]; /* DS_FORWARD */
	int net;			   /* sockets are the host's */
	struct policy_text text;	   /* what is in rules */
};

/**
 * dsrun_policy_load() - Reads a policy file (ds-policy(5), the guest's rules), adding to what @policy has
 * @why: for "FILE:LINE: reason"
 *
 * Return: 0 or -errno (-EINVAL: the file is wrong).
 */
int dsrun_policy_load(struct dsrun_policy *policy, const char *path, char *why, size_t why_bytes);

/** dsrun_policy_forward() - Adds a directory.  Return: NULL or what is wrong with it. */
const char *dsrun_policy_forward(struct dsrun_policy *policy, const char *directory);

#endif
