/* ruleglob.h - patterns of paths and names in policies, the same for the host's and the guest's
 *
 * ? is any character but /, * any number of these, ** any number of any; everything else is itself.  A match takes at most
 * (length of pattern) x (length of text) steps, whatever they are: the text may be a guest's.
 *
 * Pure; no C library, see ruleline.h.
 */
#ifndef WIRE_RULEGLOB_H
#define WIRE_RULEGLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/**
 * ruleglob_match() - Whether @text matches @pattern
 * @at: n + 1 bytes to work in
 * @n: of the text; no byte of it is 0
 *
 * at[i]: the pattern so far can end before text[i].  One pass over the text for each element of the pattern.
 */
static inline bool ruleglob_match(const char *pattern, const char *text, size_t n, bool *at)
{
	memset(at, 0, n + 1);
	at[0] = true;
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

#endif
