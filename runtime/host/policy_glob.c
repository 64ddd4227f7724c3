/* policy_glob.c - patterns of paths and names; what they mean is in policy.h */
#include <string.h>

#include "runtime/host/policy.h"

/*
 * at[i]: the pattern so far can end before text[i].  One pass over the text for each element of the pattern, so the time
 * does not depend on how cunning either is.
 */
bool policy_glob(const char *pattern, const char *text)
{
	const size_t n = strnlen(text, DS_AGENT_PATH_BYTES);
	bool at[DS_AGENT_PATH_BYTES + 1] = {true};

	while (*pattern) {
		const bool star = *pattern == '*', any = star && pattern[1] == '*';
		bool before = at[0]; /* at[i - 1] of the pass before */

		at[0] = star && at[0];
		for (size_t i = 1; i <= n; i++) {
			const bool was = at[i];

			if (any)
				at[i] = was || at[i - 1];
			else if (star)
				at[i] = was || (at[i - 1] && text[i - 1] != '/');
			else if (*pattern == '?')
				at[i] = before && text[i - 1] != '/';
			else
				at[i] = before && text[i - 1] == *pattern;
			before = was;
		}
		pattern += any ? 2 : 1;
	}
	return at[n];
}
