/* policy.c - the policy file, its lines, and the rule that decides; theory in policy.h */
#include "runtime/host/policy/policy_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/log.h"

#define VALUE_BYTES DS_AGENT_PATH_BYTES /* the longest value, terminated */

__attribute__((format(printf, 3, 4))) static int wrong(struct policy_err *err, unsigned int line, const char *fmt, ...)
{
	char text[POLICY_WHY_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err->line = line;
	log_escape(err->why, sizeof(err->why), text); /* it quotes the file, which may hold anything */
	return -EINVAL;
}

/* --- lines --------------------------------------------------------------------------------------------------------- */

/* What is at the place that is wrong, for a message. */
static int shown(const struct ruleline *l, size_t n)
{
	n = n ? n : (size_t)(l->end - l->at);
	return n < 40 ? (int)n : 40;
}

static int read_key(struct ruleline *l, unsigned int line, struct policy_rule *r, uint64_t *seen, struct policy_err *err)
{
	const size_t n = ruleline_name(l);
	const char *fault, *wants;
	char value[VALUE_BYTES];
	int key;

	if (!n || l->at + n == l->end || l->at[n] != '=')
		return wrong(err, line, "expected key=value at '%.*s'", shown(l, 0), l->at);
	key = policy_key(l, n);
	if (key < 0)
		return wrong(err, line, "no key is called '%.*s'", shown(l, n), l->at);
	switch (policy_key_may(r->verb, key, *seen)) {
	case POLICY_KEY_FINE: break;
	case POLICY_KEY_OF_ANOTHER_VERB: return wrong(err, line, "'%s' has no key '%s'", policy_verb_name(r->verb), policy_key_name(key));
	case POLICY_KEY_TWICE: return wrong(err, line, "'%s' is given twice", policy_key_name(key));
	}
	l->at += n + 1;
	fault = ruleline_value(l, value, sizeof(value));
	if (fault)
		return wrong(err, line, "%s", fault);
	wants = policy_key_set(r, key, value, seen);
	return wants ? wrong(err, line, "%s: expected %s, not '%.60s'", policy_key_name(key), wants, value) : 0;
}

/* Return: 1 (a rule), 0 (an empty line), -EINVAL. */
static int read_line(struct ruleline *l, unsigned int line, struct policy_rule *r, struct policy_err *err)
{
	const char *fault, *key;
	uint64_t seen = 0;
	int verb;
	size_t n;

	if (!ruleline_next(l))
		return 0;
	n = ruleline_name(l);
	verb = ruleline_verb_ends(l, n) ? policy_verb(l, n) : -1;
	if (verb < 0)
		return wrong(err, line, "a rule of the host begins with allow or deny, not '%.*s'", shown(l, 0), l->at);
	*r = (struct policy_rule){
		.verb = (enum policy_verb)verb,
		.line = line,
		.any_uid = true,
		.mode = POLICY_MODE_ANY,
		.executors = POLICY_EXECUTORS,
		.max_pages = POLICY_MAX_PAGES,
		.memory_bytes = POLICY_MEMORY_BYTES,
		.uid_host = POLICY_USER_NOBODY,
		.gid_host = POLICY_USER_NOBODY,
	};
	l->at += n;
	while (ruleline_next(l)) {
		int e = read_key(l, line, r, &seen, err);

		if (e)
			return e;
	}
	fault = policy_rule_finish(r, seen, &key);
	return fault ? wrong(err, line, "'%s' %s %s=", policy_verb_name(r->verb), fault, key) : 1;
}

int policy_parse(struct policy **policy, const char *text, size_t bytes, struct policy_err *err)
{
	cleanup_free struct policy *p = NULL;
	unsigned int line = 0;
	struct ruleline l;
	size_t room = 0;

	*policy = NULL;
	*err = (struct policy_err){0};
	if (bytes > POLICY_FILE_BYTES_MAX) {
		wrong(err, 0, "longer than %u bytes", POLICY_FILE_BYTES_MAX);
		return -EFBIG;
	}
	for (const char *next = text, *end = text + bytes; !p || next < end;) {
		struct policy_rule r;
		int e;

		if (!p || p->nrules == room) {
			const size_t n = p ? p->nrules : 0;
			struct policy *larger = realloc(p, sizeof(*p) + (room + 64) * sizeof(p->rule[0]));

			if (!larger) {
				wrong(err, 0, "no memory");
				return -ENOMEM;
			}
			p = larger;
			p->nrules = n;
			room += 64;
		}
		if (next >= end)
			break; /* an empty file is a policy: nothing is allowed */
		line++;
		l.at = next;
		l.end = memchr(next, '\n', (size_t)(end - next));
		l.end = l.end ? l.end : end;
		next = l.end + 1;
		e = read_line(&l, line, &r, err);
		if (e < 0)
			return e;
		if (e && p->nrules == POLICY_RULES_MAX) {
			wrong(err, line, "more than %u rules", POLICY_RULES_MAX);
			return -EFBIG;
		}
		if (e)
			p->rule[p->nrules++] = r;
	}
	*policy = p;
	p = NULL;
	return 0;
}

int policy_load(struct policy **policy, const char *path, struct policy_err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	cleanup_free char *text = malloc(POLICY_FILE_BYTES_MAX + 1);
	size_t have = 0;
	struct stat st;
	int e = 0;

	*policy = NULL;
	*err = (struct policy_err){0};
	if (fd < 0 || fstat(fd, &st)) {
		e = -errno;
	} else if (!S_ISREG(st.st_mode)) {
		return wrong(err, 0, "not a regular file");
	} else if (st.st_mode & S_IWOTH) {
		return wrong(err, 0, "everybody can write to it, so it says what anybody wants: chmod o-w");
	} else if (!text) {
		e = -ENOMEM;
	}
	while (!e && have <= POLICY_FILE_BYTES_MAX) {
		ssize_t n = read(fd, text + have, POLICY_FILE_BYTES_MAX + 1 - have);

		if (n < 0 && errno != EINTR)
			e = -errno;
		if (n == 0)
			break;
		have += n > 0 ? (size_t)n : 0;
	}
	if (e) {
		wrong(err, 0, "%s", strerror(-e));
		return e;
	}
	return policy_parse(policy, text, have, err);
}

/* --- deciding ------------------------------------------------------------------------------------------------------ */

static bool rule_matches(const struct policy_rule *r, const struct policy_query *q)
{
	if (r->mode != POLICY_MODE_ANY && r->mode != q->mode)
		return false;
	if (!r->any_uid && r->uid != q->uid)
		return false;
	if (*r->service && strcmp(r->service, q->service))
		return false;
	if (*r->vm && !policy_glob(r->vm, q->vm))
		return false;
	if (*r->program && !policy_glob(r->program, q->program))
		return false;
	if (!r->has_sha256)
		return true;
	return q->sha256 ? !memcmp(r->sha256, q->sha256, sizeof(r->sha256)) : r->verb == POLICY_DENY;
}

const struct policy_rule *policy_find(const struct policy *policy, const struct policy_query *query, const char **why,
				      unsigned int *line)
{
	if (line)
		*line = 0;
	for (size_t i = 0; policy && i < policy->nrules; i++) {
		const struct policy_rule *r = &policy->rule[i];

		if (!rule_matches(r, query))
			continue;
		if (line)
			*line = r->line;
		if (r->verb == POLICY_ALLOW)
			return r;
		if (why)
			*why = "a rule of the policy denies it";
		return NULL;
	}
	if (why)
		*why = "no rule of the policy allows it";
	return NULL;
}

bool policy_wants_hash(const struct policy *policy, const char *vm)
{
	for (size_t i = 0; policy && i < policy->nrules; i++) {
		const struct policy_rule *r = &policy->rule[i];

		if (r->has_sha256 && (!*r->vm || policy_glob(r->vm, vm)))
			return true;
	}
	return false;
}
