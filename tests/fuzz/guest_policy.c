/* guest_policy.c - fuzz target: the text of the guest's policy, as dsrun and the library in a program read it
 *
 * Properties: what passes is within its limits, its strings are terminated and in the buffer; a fault has a reason, a line that
 * exists, and points into the text; a line that is read alone is read as it was among others.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/guest/forward/policy_text.h"
#include "tests/fuzz/target.h"

static struct policy_text p, one;

static void check_string(const char *s)
{
	MUST(!s || (s >= p.strings && s < p.strings + p.used && memchr(s, 0, (size_t)(p.strings + p.used - s))));
}

static void check_rule(const struct policy_text_rule *r)
{
	MUST(r->verb <= POLICY_TEXT_TRACE && r->nspecs <= POLICY_TEXT_SPECS && r->fd >= -1 && r->fd <= 65535);
	check_string(r->path);
	check_string(r->to);
	check_string(r->text);
	for (int i = 0; i < POLICY_TEXT_NAMES; i++) {
		check_string(r->names[i]);
		MUST(!r->names[i] || (r->names[i][0] && strlen(r->names[i]) <= 64));
	}
	MUST(!r->path || (r->path[0] == '/' && !strstr(r->path, "//") && !strstr(r->path, "/../")));
	MUST((r->verb == POLICY_TEXT_DENY) == (r->error != 0) && (r->verb == POLICY_TEXT_FORWARD || r->verb == POLICY_TEXT_EMULATE) == (r->what != 0));
	for (uint64_t nr = 0; nr < FORWARD_NR_MAX; nr++)
		MUST(!policy_text_has(r, nr) || (r->has_calls && forward_name(nr)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_text_fault fault, again;
	char *text = malloc(size + 1);
	uint32_t lines = 1;

	memcpy(text, data, size);
	text[size] = 0;
	memset(&p, 0, sizeof(p));
	for (size_t i = 0; i < strlen(text); i++)
		lines += text[i] == '\n';
	if (policy_text_read(&p, text, &fault)) {
		MUST(fault.why && *fault.why && fault.line <= lines && fault.bytes <= 40);
		MUST(!fault.bytes || (fault.at >= text && fault.at + fault.bytes <= text + strlen(text)));
	} else {
		MUST(p.n <= POLICY_TEXT_RULES);
		memset(&one, 0, sizeof(one));
		for (char *at = text, *end; at; at = end ? end + 1 : NULL) {
			end = strchr(at, '\n');
			if (end)
				*end = 0;
			MUST(!policy_text_read(&one, at, &again));
		}
		MUST(one.n == p.n && one.used == p.used && !memcmp(one.strings, p.strings, p.used));
	}
	for (uint32_t i = 0; i < p.n; i++)
		check_rule(&p.rule[i]);
	free(text);
	return 0;
}
