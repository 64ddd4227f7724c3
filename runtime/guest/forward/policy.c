/* policy.c - system calls that the user wants refused, answered or kept in the guest
 *
 * One table by number, filled once.  It is a convenience of the guest for its own program: what a shadow may do on the host is
 * the host's to say, and it does not ask here.
 */
#include <string.h>

#include "runtime/guest/forward/forward.h"

static struct {
	uint8_t action;
	int64_t value;
} table[FORWARD_NR_MAX];
static bool any;

static const char *end_of(const char *at, char a, char b)
{
	while (*at && *at != a && *at != b)
		at++;
	return at;
}

/* Return: whether it is a number as a whole. */
static bool number(const char *at, const char *end, int64_t *n)
{
	const bool minus = at < end && *at == '-';

	*n = 0;
	at += minus;
	if (at == end || end - at > 18)
		return false;
	for (; at < end; at++) {
		if (*at < '0' || *at > '9')
			return false;
		*n = 10 * *n + (*at - '0');
	}
	*n = minus ? -*n : *n;
	return true;
}

const char *forward_policy_read(const char *text)
{
	while (*text) {
		const char *name_end = end_of(text, '=', ';'), *value = name_end + 1, *end;
		const int nr = forward_number(text, (uint64_t)(name_end - text));
		enum forward_action action = FORWARD_A_DENY;
		int64_t n = 0;

		if (*name_end != '=')
			return "DS_FORWARD_POLICY: CALL=ACTION is wanted";
		if (nr < 0)
			return "DS_FORWARD_POLICY: there is no system call of that name";
		end = end_of(value, ';', ';');
		if (end - value == 5 && !memcmp(value, "local", 5))
			action = FORWARD_A_LOCAL;
		else if (end - value > 8 && !memcmp(value, "emulate:", 8)) {
			action = FORWARD_A_EMULATE;
			if (!number(value + 8, end, &n))
				return "DS_FORWARD_POLICY: emulate:VALUE wants a number";
		} else {
			n = forward_errno_number(value, (uint64_t)(end - value));
			if (n <= 0)
				return "DS_FORWARD_POLICY: an action is local, the name of an errno, or emulate:VALUE";
		}
		table[nr].action = (uint8_t)action;
		table[nr].value = n;
		any = true;
		text = *end ? end + 1 : end;
	}
	return NULL;
}

enum forward_action forward_policy(uint64_t nr, int64_t *value)
{
	if (!any || nr >= FORWARD_NR_MAX)
		return FORWARD_A_NONE;
	*value = table[nr].value;
	return table[nr].action;
}
