/* granted.h - which devices of the host a program could have: lines of text (struct ds_agent_devices of runtime/wire/agent.h)
 *
 * Made from the policy and the host's /dev.  Who asks is told what the rules about its VM, or container, and its user say, and no more.
 */
#ifndef HOST_GRANTED_H
#define HOST_GRANTED_H

#include "runtime/host/policy/policy.h"

/** struct granted - The answer; not terminated. */
struct granted {
	char text[DS_AGENT_PAYLOAD_MAX];
	size_t n;
	bool more; /* there was no room for all of it */
};

/** granted_list() - @query->program "": what any program of that user could have.  @g: filled. */
void granted_list(const struct policy *policy, const struct policy_query *query, struct granted *g);

#endif
