/* policy.c - the policy file and the rule that decides; theory in policy.h */
#include "runtime/host/policy_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/host/log.h"
#include "runtime/wire/shadow.h"

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

/* --- globs ------------------------------------------------------------------------------------------------------ */

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

/* --- values ------------------------------------------------------------------------------------------------------- */

int policy_number(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		const uint64_t digit = (uint64_t)(*text - '0');

		if (*text < '0' || *text > '9' || digit > max || n > (max - digit) / 10)
			return -EINVAL;
		n = n * 10 + digit;
	}
	*out = n;
	return 0;
}

/* A number of bytes with K, M or G behind it. */
static int size_bytes(const char *text, uint64_t max, uint64_t *out)
{
	char digits[24];
	size_t n = strlen(text);
	unsigned int shift = 0;

	if (n && n < sizeof(digits)) {
		switch (text[n - 1]) {
		case 'G':
			shift += 10; /* fall through */
		case 'M':
			shift += 10; /* fall through */
		case 'K':
			shift += 10;
			n--;
		}
	}
	if (!n || n >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, n);
	digits[n] = 0;
	if (policy_number(digits, max >> shift, out))
		return -EINVAL;
	*out <<= shift;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int set_sha256(struct policy_rule *r, const char *value)
{
	if (strlen(value) != 2 * DS_AGENT_SHA256_BYTES)
		return -EINVAL;
	for (size_t i = 0; i < DS_AGENT_SHA256_BYTES; i++) {
		const int high = hex_digit(value[2 * i]), low = hex_digit(value[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		r->sha256[i] = (uint8_t)(high << 4 | low);
	}
	r->has_sha256 = true;
	return 0;
}

static int set_vm(struct policy_rule *r, const char *value)
{
	if (!*value || strlen(value) >= sizeof(r->vm))
		return -EINVAL;
	strcpy(r->vm, value);
	return 0;
}

static int set_program(struct policy_rule *r, const char *value)
{
	if (*value != '/' && *value != '*')
		return -EINVAL; /* the guest tells whole paths: another pattern would never match */
	strcpy(r->program, value);
	return 0;
}

static int set_uid(struct policy_rule *r, const char *value)
{
	uint64_t n = 0;

	r->any_uid = !strcmp(value, "any");
	if (!r->any_uid && policy_number(value, UINT32_MAX - 1, &n))
		return -EINVAL;
	r->uid = (uint32_t)n;
	return 0;
}

/* A service is a file of the services' folder: its name is never a path. */
static int set_service(struct policy_rule *r, const char *value)
{
	if (!*value || strlen(value) >= sizeof(r->service) || *value == '.' || *value == '-')
		return -EINVAL;
	for (const char *c = value; *c; c++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", *c))
			return -EINVAL;
	strcpy(r->service, value);
	return 0;
}

static int set_mode(struct policy_rule *r, const char *value)
{
	if (!strcmp(value, "eager"))
		r->mode = DS_AGENT_EAGER;
	else if (!strcmp(value, "demand"))
		r->mode = DS_AGENT_DEMAND;
	else if (!strcmp(value, "any"))
		r->mode = POLICY_MODE_ANY;
	else
		return -EINVAL;
	return 0;
}

static int set_executors(struct policy_rule *r, const char *value)
{
	uint64_t n;

	if (policy_number(value, DS_SHADOW_EXECUTORS_MAX, &n) || !n)
		return -EINVAL;
	r->executors = (uint32_t)n;
	return 0;
}

static int set_max_pages(struct policy_rule *r, const char *value)
{
	return policy_number(value, POLICY_MAX_PAGES, &r->max_pages) || !r->max_pages ? -EINVAL : 0;
}

static int set_memory(struct policy_rule *r, const char *value)
{
	uint64_t n;

	if (size_bytes(value, DS_SHADOW_HEAP_BYTES_MAX, &n) || !n || n % DS_PAGE_BYTES)
		return -EINVAL;
	r->memory_bytes = n;
	return 0;
}

/* --- verbs and keys ------------------------------------------------------------------------------------------------ */

enum { KEY_VM, KEY_PROGRAM, KEY_SHA256, KEY_UID, KEY_SERVICE, KEY_MODE, KEY_EXECUTORS, KEY_MAX_PAGES, KEY_MEMORY,
	KEY_PATH, KEY_NET, KEY_CALLS, KEY_USER, NKEYS };

static const struct {
	const char *name;
	int (*set)(struct policy_rule *r, const char *value);
	const char *wants;
	const char *(*say)(struct policy_rule *r, const char *value); /* instead of the two before */
	bool again; /* more than once */
} keys[NKEYS] = {
	[KEY_VM] = {"vm", set_vm, "a pattern of VM names, up to 63 characters"},
	[KEY_PROGRAM] = {"program", set_program, "a pattern of whole paths, which begins with / or *"},
	[KEY_SHA256] = {"sha256", set_sha256, "64 hexadecimal digits"},
	[KEY_UID] = {"uid", set_uid, "a user's number in the guest, or any"},
	[KEY_SERVICE] = {"service", set_service, "a service's name: letters, digits, _ . -, up to 31"},
	[KEY_MODE] = {"mode", set_mode, "eager, demand or any"},
	[KEY_EXECUTORS] = {"executors", set_executors, "1 to 64"},
	[KEY_MAX_PAGES] = {"max-pages", set_max_pages, "a number of pages, 1 to 268435456"},
	[KEY_MEMORY] = {"memory", set_memory, "bytes in whole pages, as in 512K, 16M, up to 1G"},
	[KEY_PATH] = {"path", .say = policy_set_path, .again = true},
	[KEY_NET] = {"net", .say = policy_set_net},
	[KEY_CALLS] = {"calls", .say = policy_set_calls},
	[KEY_USER] = {"user", .say = policy_set_user},
};

#define BIT(k) (1u << (k))
#define WHO (BIT(KEY_VM) | BIT(KEY_PROGRAM) | BIT(KEY_SHA256) | BIT(KEY_UID) | BIT(KEY_SERVICE) | BIT(KEY_MODE))
#define GETS (BIT(KEY_EXECUTORS) | BIT(KEY_MAX_PAGES) | BIT(KEY_MEMORY))
#define HOST (BIT(KEY_PATH) | BIT(KEY_NET) | BIT(KEY_CALLS) | BIT(KEY_USER))

static const struct {
	const char *name;
	unsigned int has, needs; /* bits of keys */
} verbs[] = {
	[POLICY_ALLOW] = {"allow", WHO | GETS | HOST, BIT(KEY_PROGRAM) | BIT(KEY_SERVICE)},
	[POLICY_DENY] = {"deny", WHO, 0},
};

/* --- lines --------------------------------------------------------------------------------------------------------- */

struct line {
	const char *at, *end;
	unsigned int number;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Leaves @l at the next word.  Return: whether there is one. */
static bool next_word(struct line *l)
{
	while (l->at < l->end && is_blank(*l->at))
		l->at++;
	return l->at < l->end && *l->at != '#';
}

static bool word_is(const struct line *l, size_t n, const char *name)
{
	return strlen(name) == n && !memcmp(l->at, name, n);
}

/* The letters of a verb or key. */
static size_t name_length(const struct line *l)
{
	size_t n = 0;

	while (l->at + n < l->end && ((l->at[n] >= 'a' && l->at[n] <= 'z') || (l->at[n] >= '0' && l->at[n] <= '9') || l->at[n] == '-'))
		n++;
	return n;
}

/* The value behind "key=". */
static int read_value(struct line *l, char value[static VALUE_BYTES], struct policy_err *err)
{
	const bool quoted = l->at < l->end && *l->at == '"';
	size_t n = 0;

	l->at += quoted;
	for (; l->at < l->end; l->at++) {
		if (quoted ? *l->at == '"' : is_blank(*l->at) || *l->at == '#')
			break;
		if (!*l->at)
			return wrong(err, l->number, "there is a byte 0 in a value");
		if (!quoted && (*l->at == '"' || *l->at == '\\'))
			return wrong(err, l->number, "a quote or backslash within a value: put the whole value in double quotes");
		if (quoted && *l->at == '\\' && (++l->at == l->end || (*l->at != '"' && *l->at != '\\')))
			return wrong(err, l->number, "in double quotes a backslash comes before \" or another backslash only");
		if (n == VALUE_BYTES - 1)
			return wrong(err, l->number, "a value is longer than %d bytes", VALUE_BYTES - 1);
		value[n++] = *l->at;
	}
	value[n] = 0;
	if (!quoted)
		return 0;
	if (l->at == l->end)
		return wrong(err, l->number, "a double quote is not closed");
	l->at++;
	if (l->at < l->end && !is_blank(*l->at) && *l->at != '#')
		return wrong(err, l->number, "something follows a closing quote directly");
	return 0;
}

static int read_key(struct line *l, struct policy_rule *r, unsigned int *seen, struct policy_err *err)
{
	const size_t n = name_length(l);
	const int shown = n < 40 ? (int)n : 40;
	char value[VALUE_BYTES];
	const char *wants;
	unsigned int k = 0;
	int e;

	if (!n || l->at + n == l->end || l->at[n] != '=')
		return wrong(err, l->number, "expected key=value at '%.*s'", (int)(l->end - l->at < 40 ? l->end - l->at : 40), l->at);
	while (k < NKEYS && !word_is(l, n, keys[k].name))
		k++;
	if (k == NKEYS)
		return wrong(err, l->number, "no key is called '%.*s'", shown, l->at);
	if (!(verbs[r->verb].has & BIT(k)))
		return wrong(err, l->number, "'%s' has no key '%s'", verbs[r->verb].name, keys[k].name);
	if (*seen & BIT(k) && !keys[k].again)
		return wrong(err, l->number, "'%s' is given twice", keys[k].name);
	*seen |= BIT(k);
	l->at += n + 1;
	e = read_value(l, value, err);
	if (e)
		return e;
	wants = keys[k].say ? keys[k].say(r, value) : keys[k].set(r, value) ? keys[k].wants : NULL;
	return wants ? wrong(err, l->number, "%s: expected %s, not '%.60s'", keys[k].name, wants, value) : 0;
}

/* Return: 1 (a rule), 0 (an empty line), -EINVAL. */
static int read_line(struct line *l, struct policy_rule *r, struct policy_err *err)
{
	const unsigned int nverbs = sizeof(verbs) / sizeof(verbs[0]);
	unsigned int verb = 0, seen = 0;
	size_t n;

	if (!next_word(l))
		return 0;
	n = name_length(l);
	while (verb < nverbs && !word_is(l, n, verbs[verb].name))
		verb++;
	if (verb == nverbs || (l->at + n < l->end && !is_blank(l->at[n]) && l->at[n] != '#'))
		return wrong(err, l->number, "a rule begins with allow or deny, not '%.*s'",
			     (int)(l->end - l->at < 40 ? l->end - l->at : 40), l->at);
	*r = (struct policy_rule){
		.verb = (enum policy_verb)verb,
		.line = l->number,
		.any_uid = true,
		.mode = POLICY_MODE_ANY,
		.executors = POLICY_EXECUTORS,
		.max_pages = POLICY_MAX_PAGES,
		.memory_bytes = POLICY_MEMORY_BYTES,
		.uid_host = POLICY_USER_NOBODY,
		.gid_host = POLICY_USER_NOBODY,
	};
	l->at += n;
	while (next_word(l)) {
		int e = read_key(l, r, &seen, err);

		if (e)
			return e;
	}
	for (unsigned int k = 0; k < NKEYS; k++) {
		if (verbs[verb].needs & ~seen & BIT(k))
			return wrong(err, l->number, "'%s' needs %s=", verbs[verb].name, keys[k].name);
	}
	policy_forward_defaults(r, seen & BIT(KEY_CALLS));
	return 1;
}

int policy_parse(struct policy **policy, const char *text, size_t bytes, struct policy_err *err)
{
	struct line l = {.at = text};
	cleanup_free struct policy *p = NULL;
	size_t room = 0;

	*policy = NULL;
	*err = (struct policy_err){0};
	if (bytes > POLICY_FILE_BYTES_MAX) {
		wrong(err, 0, "longer than %u bytes", POLICY_FILE_BYTES_MAX);
		return -EFBIG;
	}
	for (const char *next = text, *end = text + bytes; !p || next < end; next = l.end + 1) {
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
		l.number++;
		l.at = next;
		l.end = memchr(next, '\n', (size_t)(end - next));
		l.end = l.end ? l.end : end;
		e = read_line(&l, &r, err);
		if (e < 0)
			return e;
		if (e && p->nrules == POLICY_RULES_MAX) {
			wrong(err, l.number, "more than %u rules", POLICY_RULES_MAX);
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
