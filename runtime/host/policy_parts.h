/* policy_parts.h - the parts of the policy's parser, for each other: policy.c, and policy_forward.c for what a shadow may
 * have of the host
 *
 * A setter puts a key's value into the rule.  Return: NULL, or what was expected instead, in words: static text.
 */
#ifndef HOST_POLICY_PARTS_H
#define HOST_POLICY_PARTS_H

#include "runtime/host/policy.h"

/** policy_number() - Digits only, at most @max.  Return: 0, -EINVAL. */
int policy_number(const char *text, uint64_t max, uint64_t *out);

/** policy_set_path() - path=GUESTPATH:HOSTPATH:ro|rw, one more of them. */
const char *policy_set_path(struct policy_rule *r, const char *value);
/** policy_set_net() - net=none|host. */
const char *policy_set_net(struct policy_rule *r, const char *value);
/** policy_set_calls() - calls=GROUP,GROUP... */
const char *policy_set_calls(struct policy_rule *r, const char *value);
/** policy_set_user() - user=UID[:GID]|nobody|root. */
const char *policy_set_user(struct policy_rule *r, const char *value);
/** policy_forward_defaults() - A rule has been read: what it does not say follows from the rest. */
void policy_forward_defaults(struct policy_rule *r, bool calls_given);

#endif
