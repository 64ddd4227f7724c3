/* policy_limits.c - the keys of a rule that limit what a shadow uses; see policy_parts.h and ds-policy(5) */
#include <string.h>

#include "runtime/host/policy/policy_parts.h"
#include "runtime/wire/shadow.h"

const char *policy_set_cpu(struct policy_rule *r, const char *value)
{
	static const char wants[] = "percent of a processor, as in 50% or 200%, up to 6400%";
	const size_t n = strlen(value);
	char digits[8];
	uint64_t percent;

	if (n < 2 || n > sizeof(digits) || value[n - 1] != '%')
		return wants;
	memcpy(digits, value, n - 1);
	digits[n - 1] = 0;
	if (policy_number(digits, 100 * DS_SHADOW_EXECUTORS_MAX, &percent) || !percent)
		return wants;
	r->cpu_percent = (uint32_t)percent;
	return NULL;
}

const char *policy_set_descriptors(struct policy_rule *r, const char *value)
{
	uint64_t n;

	if (policy_number(value, DS_SHADOW_GUEST_FDS, &n) || !n)
		return "1 to 4096";
	r->descriptors = (uint32_t)n;
	return NULL;
}

const char *policy_set_file_size(struct policy_rule *r, const char *value)
{
	return policy_size(value, INT64_MAX, &r->file_size_bytes) || !r->file_size_bytes ? "bytes, as in 512K, 16M, 2G" : NULL;
}

static const char *set_rate(struct policy_rule *r, enum policy_rate which, const char *value)
{
	uint64_t n;

	if (policy_size(value, UINT64_C(1) << 40, &n) || n < POLICY_RATE_MIN)
		return "bytes a second, as in 512K, 10M, 1G, at least 1K";
	r->rate[which] = n;
	return NULL;
}

const char *policy_set_read_rate(struct policy_rule *r, const char *value)
{
	return set_rate(r, POLICY_READ, value);
}

const char *policy_set_write_rate(struct policy_rule *r, const char *value)
{
	return set_rate(r, POLICY_WRITE, value);
}

const char *policy_set_receive_rate(struct policy_rule *r, const char *value)
{
	return set_rate(r, POLICY_RECEIVE, value);
}

const char *policy_set_send_rate(struct policy_rule *r, const char *value)
{
	return set_rate(r, POLICY_SEND, value);
}
