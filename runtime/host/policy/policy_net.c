/* policy_net.c - the keys of a rule that say which addresses a shadow may reach; see policy_parts.h and ds-policy(5) */
#include <string.h>

#include "runtime/host/policy/policy_parts.h"

static const char *add_specs(struct policy_addrs *list, const char *value)
{
	for (const char *at = value;; at++) {
		const char *wrong;

		if (list->n == POLICY_ADDRS_MAX)
			return "at most 32 addresses";
		wrong = addrspec_take(&at, &list->spec[list->n]);
		if (wrong)
			return wrong;
		list->n++;
		if (!*at)
			return NULL;
	}
}

const char *policy_set_connect(struct policy_rule *r, const char *value)
{
	return add_specs(&r->connect, value);
}

const char *policy_set_bind(struct policy_rule *r, const char *value)
{
	return add_specs(&r->bind, value);
}

const char *policy_set_family(struct policy_rule *r, const char *value)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} names[] = {{"inet", POLICY_INET}, {"inet6", POLICY_INET6}, {"unix", POLICY_UNIX}};

	r->families = 0;
	for (const char *at = value;; at++) {
		const size_t n = strcspn(at, ",");
		uint32_t bit = 0;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strlen(names[i].name) == n && !memcmp(at, names[i].name, n))
				bit = names[i].bit;
		if (!bit || r->families & bit)
			return "some of inet,inet6,unix, each once";
		r->families |= bit;
		at += n;
		if (!*at)
			return NULL;
	}
}

const char *policy_net_defaults(struct policy_rule *r, bool families_given)
{
	if (!families_given)
		r->families = POLICY_INET | POLICY_INET6;
	r->net_limited = r->connect.n || r->bind.n;
	return (r->net_limited || (families_given && r->families & (POLICY_INET | POLICY_INET6))) && !r->net_host ? "needs net=host for" : NULL;
}
