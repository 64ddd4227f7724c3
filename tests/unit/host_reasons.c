/* host_reasons.c - every reason has words of its own, with its numbers in them, and whatever a capsule says becomes one line */
#include "runtime/host/reasons.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/tap.h"

static char text[DS_AGENT_TEXT_BYTES];

static bool is_line(void)
{
	const size_t n = strnlen(text, sizeof(text));

	for (size_t i = 0; i < n; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	return n > 10 && n < sizeof(text) - 1; /* and not cut */
}

/* "reason 7, which is not known" and the like. */
static bool is_unknown(void)
{
	return strstr(text, "not known") != NULL;
}

static void test_refused(void)
{
	static char seen[DS_SHADOW_R_END][DS_AGENT_TEXT_BYTES];
	unsigned int same = 0, odd = 0, unknown = 0;

	for (uint32_t i = 1; i < DS_SHADOW_R_END; i++) {
		/* the longest numbers there are: the line must not be cut in the middle of one */
		const struct ds_shadow_refused r = {
			.reason = i, .err = -ENOMEM, .index = UINT64_MAX - 1, .value = UINT64_MAX >> 12};

		reasons_refused(text, sizeof(text), &r);
		odd += !is_line();
		unknown += is_unknown();
		for (uint32_t k = 1; k < i; k++)
			same += !strcmp(text, seen[k]);
		strcpy(seen[i], text);
	}
	tap_eq(odd, 0, "every reason is one line, with numbers of any size");
	tap_eq(unknown, 0, "none is unknown");
	tap_eq(same, 0, "no two are the same");
	reasons_refused(text, sizeof(text), &(struct ds_shadow_refused){.reason = DS_SHADOW_R_END, .index = 12, .value = 34});
	tap_ok(is_line() && is_unknown() && strstr(text, "12") && strstr(text, "34"),
	       "the first number behind them is said to be unknown");
	reasons_refused(text, sizeof(text), &(struct ds_shadow_refused){.reason = UINT32_MAX, .err = INT32_MIN});
	tap_ok(is_line() && is_unknown(), "so is any other");
	reasons_refused(text, sizeof(text),
			&(struct ds_shadow_refused){.reason = DS_SHADOW_R_MAX_MAPS, .index = 65482, .value = 70001});
	tap_ok(strstr(text, "takes 70001 ") && strstr(text, "leaves 65482:") && strstr(text, "vm.max_map_count"),
	       "too many mappings: how many, how many there may be, and which limit that is");
	reasons_refused(text, sizeof(text), &(struct ds_shadow_refused){.reason = DS_SHADOW_R_RUN_LOW, .index = 3, .value = 8});
	tap_ok(strstr(text, "run 3 ") && strstr(text, "0x8000,"), "a page is named by its address");
	reasons_refused(text, sizeof(text), &(struct ds_shadow_refused){.reason = DS_SHADOW_R_MMAP, .err = -ENOMEM});
	tap_ok(strstr(text, strerror(ENOMEM)) != NULL, "an error number comes with its meaning");
	reasons_refused(text, sizeof(text), &(struct ds_shadow_refused){.reason = DS_SHADOW_R_MMAP, .err = INT32_MIN});
	tap_ok(is_line() && strstr(text, "error -2147483648"), "one that is none comes as a number");
}

static void test_codes(void)
{
	unsigned int wrong = 0;

	for (uint32_t i = DS_AGENT_C_POLICY; i <= DS_AGENT_C_TIMEOUT; i++)
		for (uint32_t k = 0; k < i; k++)
			wrong += !strcmp(reasons_code(i), reasons_code(k));
	tap_eq(wrong, 0, "codes have words of their own");
	tap_ok(!strcmp(reasons_code(DS_AGENT_C_TIMEOUT + 1), reasons_code(12345)), "what is no code has the same ones always");
	tap_ok(reasons_refused_code(&(struct ds_shadow_refused){.reason = DS_SHADOW_R_RUN_HIGH}) == DS_AGENT_C_MAP &&
		       reasons_refused_code(&(struct ds_shadow_refused){.reason = DS_SHADOW_R_MAX_MAPS}) == DS_AGENT_C_LIMIT &&
		       reasons_refused_code(&(struct ds_shadow_refused){.reason = DS_SHADOW_R_LOST}) == DS_AGENT_C_GONE &&
		       reasons_refused_code(&(struct ds_shadow_refused){.reason = DS_SHADOW_R_BUSY}) == DS_AGENT_C_SHADOW &&
		       reasons_refused_code(&(struct ds_shadow_refused){.reason = 4000}) == DS_AGENT_C_SHADOW,
	       "a guest learns whether its map, a limit or the shadow is to blame");
}

static void test_ends(void)
{
	reasons_fault(text, sizeof(text),
		      &(struct ds_shadow_fault){.address = 0xdeadbeef000, .code = 0x1234, .signal = SIGSEGV});
	tap_ok(is_line() && strstr(text, "0xdeadbeef000") && strstr(text, "0x1234") && strstr(text, "not there"),
	       "a fault: what and where");
	reasons_fault(text, sizeof(text),
		      &(struct ds_shadow_fault){.address = UINT64_MAX, .code = UINT64_MAX, .signal = SIGBUS});
	tap_ok(is_line() && strstr(text, "beyond its file") && strstr(text, "outside its executable"),
	       "by code that is not the capsule's");
	reasons_fault(text, sizeof(text), &(struct ds_shadow_fault){.signal = 99});
	tap_ok(is_line() && is_unknown(), "by no signal that faults have");
	reasons_exit(text, sizeof(text), SIGSYS);
	tap_ok(is_line() && strstr(text, "signal 31 (Bad system call)"), "killed by a signal");
	reasons_exit(text, sizeof(text), 126); /* of no name */
	tap_ok(is_line() && strstr(text, "signal 126"), "even by one without a name");
	reasons_exit(text, sizeof(text), 42 << 8);
	tap_ok(is_line() && strstr(text, "status 42"), "ended with a status");
	reasons_exit(text, sizeof(text), 3 << 8);
	tap_ok(strstr(text, "control channel") != NULL, "of which some have meanings");
}

int main(void)
{
	test_refused();
	test_codes();
	test_ends();
	return tap_done();
}
