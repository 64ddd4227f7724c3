/* policy_glob.c - patterns of paths and names; what they mean is in runtime/wire/ruleglob.h */
#include <string.h>

#include "runtime/host/policy/policy.h"
#include "runtime/wire/ruleglob.h"

bool policy_glob(const char *pattern, const char *text)
{
	bool at[DS_AGENT_PATH_BYTES + 1];

	return ruleglob_match(pattern, text, strnlen(text, DS_AGENT_PATH_BYTES), at);
}
