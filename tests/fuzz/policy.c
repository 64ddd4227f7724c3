/* policy.c - fuzz target: the text of the policy file, and a guest's words against what it says
 *
 * Input: the file, then (behind the first byte 0, if there is one) the program's path of a query.
 * Properties: what passes is within its limits; a fault names a line that exists and is printable; an answer is the same
 * each time, comes from a rule that could give it, and a refusal has a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/host/policy/policy.h"
#include "runtime/wire/shadow.h"
#include "tests/fuzz/target.h"

static void check_rule(const struct policy_rule *r, const struct policy_rule *before, size_t lines)
{
	MUST(r->line >= 1 && r->line <= lines && (!before || before->line < r->line));
	MUST(memchr(r->vm, 0, sizeof(r->vm)) && memchr(r->program, 0, sizeof(r->program)) && memchr(r->service, 0, sizeof(r->service)));
	MUST(!strchr(r->service, '/') && r->service[0] != '.');
	MUST(r->verb == POLICY_DENY || (*r->program && *r->service));
	MUST(r->executors >= 1 && r->executors <= DS_SHADOW_EXECUTORS_MAX && r->max_pages >= 1 && r->max_pages <= POLICY_MAX_PAGES);
	MUST(r->memory_bytes && r->memory_bytes <= DS_SHADOW_HEAP_BYTES_MAX && r->memory_bytes % 4096 == 0);
	MUST(r->npaths <= POLICY_PATHS_MAX && (r->verb == POLICY_ALLOW || (!r->npaths && !r->net_host && !r->calls)));
	for (uint32_t i = 0; i < r->npaths; i++) {
		const struct policy_path *p = &r->path[i];

		MUST(memchr(p->guest, 0, sizeof(p->guest)) && memchr(p->host, 0, sizeof(p->host)));
		MUST(p->guest[0] == '/' && p->guest[1] && p->host[0] == '/' && p->host[1]);
		MUST(!strstr(p->guest, "//") && !strstr(p->guest, "/../") && !strstr(p->host, "/../") && !strchr(p->host, ':'));
	}
	MUST(r->connect.n <= POLICY_ADDRS_MAX && r->bind.n <= POLICY_ADDRS_MAX && r->net_limited == (r->connect.n || r->bind.n));
	MUST(!r->net_limited || r->net_host);
	for (uint32_t i = 0; i < r->connect.n + r->bind.n; i++) {
		const struct addrspec *s = i < r->connect.n ? &r->connect.spec[i] : &r->bind.spec[i - r->connect.n];
		const uint8_t far[16] = {0xff};

		MUST(s->first <= s->last && (s->family == 0 || s->family == 4 || s->family == 6) && s->bits <= (s->family == 6 ? 128 : s->family ? 32 : 0));
		MUST(addrspec_match(s, s->family ? s->family : 4, s->address, s->first, s->protocol ? s->protocol : ADDRSPEC_TCP));
		MUST(!s->bits || s->address[0] == 0xff || s->bits < 8 || !addrspec_match(s, s->family, far, s->first, s->protocol));
	}
	MUST(r->cpu_percent <= 6400 && r->descriptors <= 4096);
	for (int i = 0; i < POLICY_RATES; i++)
		MUST(!r->rate[i] || r->rate[i] >= POLICY_RATE_MIN);
	MUST((r->uid_host == 0) == (r->gid_host == 0));
	MUST(r->mode == DS_AGENT_EAGER || r->mode == DS_AGENT_DEMAND || r->mode == POLICY_MODE_ANY);
}

static void ask(const struct policy *p, const char *program)
{
	static const uint8_t hash[DS_AGENT_SHA256_BYTES];

	for (int i = 0; i < 4; i++) {
		struct policy_query q = {.vm = program, .program = program, .service = "checksum", .uid = (uint32_t)i, .mode = i & 1};
		const char *why = NULL;
		unsigned int line, again;
		const struct policy_rule *r;

		q.sha256 = i & 2 ? hash : NULL;
		r = policy_find(p, &q, &why, &line);
		MUST(r ? r->verb == POLICY_ALLOW && r->line == line && !strcmp(r->service, "checksum") : why != NULL);
		MUST(!r || !r->has_sha256 || (q.sha256 && policy_wants_hash(p, program)));
		MUST(r == policy_find(p, &q, NULL, &again) && again == line);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
	const size_t bytes = zero ? (size_t)(zero - data) : size;
	struct policy_err err = {0};
	struct policy *p;
	char program[2048];
	size_t lines = 1, n = zero ? size - bytes - 1 : 0;

	for (size_t i = 0; i < bytes; i++)
		lines += data[i] == '\n';
	if (policy_parse(&p, (const char *)data, bytes, &err)) {
		MUST(!p && *err.why && memchr(err.why, 0, sizeof(err.why)) && err.line <= lines);
		for (const char *c = err.why; *c; c++)
			MUST(*c >= 0x20 && *c < 0x7f);
		return 0;
	}
	for (size_t i = 0; i < p->nrules; i++)
		check_rule(&p->rule[i], i ? &p->rule[i - 1] : NULL, lines);
	n = n < sizeof(program) - 1 ? n : sizeof(program) - 1;
	memcpy(program, zero ? zero + 1 : data, n);
	program[n] = 0;
	ask(p, program);
	free(p);
	return 0;
}
