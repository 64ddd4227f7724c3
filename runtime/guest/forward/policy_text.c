/* policy_text.c - reads the guest's policy; see policy_text.h */
#include "runtime/guest/forward/policy_text.h"

#include <asm/unistd.h>
#include <string.h>

#include "runtime/wire/ruleline.h"

#define NS_PER_S INT64_C(1000000000)

/** struct reading - A line under way. */
struct reading {
	struct policy_text *p;
	struct policy_text_rule *r;
	uint32_t seen; /* keys */
};

/* --- values --------------------------------------------------------------------------------------------------------------- */

/* Keeps a value.  There is room: it is shorter than what it was read from, key and all, and there is room for that. */
static const char *keep(struct policy_text *p, const char *value)
{
	const size_t bytes = strlen(value) + 1;
	char *at = p->strings + p->used;

	memcpy(at, value, bytes);
	p->used += (uint32_t)bytes;
	return at;
}

/* Decimal, as a whole; a sign if @signs. */
static bool number(const char *text, bool signs, int64_t *out)
{
	const bool minus = signs && *text == '-';
	int64_t n = 0;
	int digits = 0;

	text += minus || (signs && *text == '+');
	for (; *text >= '0' && *text <= '9' && digits < 18; digits++)
		n = 10 * n + (*text++ - '0');
	*out = minus ? -n : n;
	return digits && !*text;
}

/* Absolute, simplified, no pattern needed of it. */
static bool is_path(const char *path)
{
	if (*path != '/')
		return false;
	while (*path) {
		size_t n = 0;

		while (path[1 + n] && path[1 + n] != '/')
			n++;
		if ((n == 0 && path[1]) || (n == 1 && path[1] == '.') || (n == 2 && path[1] == '.' && path[2] == '.'))
			return false;
		path += n + 1;
	}
	return true;
}

static const char *set_call(struct reading *l, const char *value)
{
	for (const char *at = value;; at++) {
		size_t n = 0;
		int nr;

		while (at[n] && at[n] != ',')
			n++;
		nr = forward_number(at, n);
		if (nr < 0)
			return "names of system calls, with commas between them";
		l->r->calls[nr / 64] |= UINT64_C(1) << (nr % 64);
		at += n;
		if (!*at)
			break;
	}
	l->r->has_calls = true;
	return NULL;
}

static const char *set_path(struct reading *l, const char *value)
{
	if (!is_path(value))
		return "a whole path, or a pattern of whole paths, without . and .. and doubled slashes";
	l->r->path = keep(l->p, value);
	return NULL;
}

static const char *set_to(struct reading *l, const char *value)
{
	if (!is_path(value) || !value[1])
		return "a whole path other than /, without . and .. and doubled slashes";
	l->r->to = keep(l->p, value);
	return NULL;
}

static const char *set_text(struct reading *l, const char *value)
{
	l->r->text = keep(l->p, value);
	return NULL;
}

static const char *set_fd(struct reading *l, const char *value)
{
	int64_t n;

	if (!number(value, false, &n) || n > 65535)
		return "the number of a descriptor";
	l->r->fd = (int32_t)n;
	return NULL;
}

static const char *set_address(struct reading *l, const char *value)
{
	for (const char *at = value;; at++) {
		struct addrspec *s = &l->r->spec[l->r->nspecs];
		const char *wrong;

		if (l->r->nspecs == POLICY_TEXT_SPECS)
			return "at most 8 addresses";
		wrong = addrspec_take(&at, s);
		if (wrong)
			return wrong;
		if (s->protocol)
			return "addresses without tcp: and udp:, which only the host can tell apart";
		l->r->nspecs++;
		if (!*at)
			return NULL;
	}
}

static const char *set_family(struct reading *l, const char *value)
{
	static const char *const names[] = {"unix", "inet", "inet6", "netlink", "packet", "vsock"};

	for (const char *at = value;; at++) {
		size_t n = 0;
		uint16_t bit = 0;

		while (at[n] && at[n] != ',')
			n++;
		for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
			if (strlen(names[i]) == n && !memcmp(at, names[i], n))
				bit = (uint16_t)(1u << i);
		if (!bit)
			return "some of unix,inet,inet6,netlink,packet,vsock";
		l->r->families |= bit;
		at += n;
		if (!*at)
			return NULL;
	}
}

static const char *set_net(struct reading *l, const char *value)
{
	const char *wrong = set_family(l, value);

	return wrong || l->r->families & ~(POLICY_TEXT_INET | POLICY_TEXT_INET6) ? "inet, inet6 or inet,inet6" : NULL;
}

static const char *set_error(struct reading *l, const char *value)
{
	const int n = forward_errno_number(value, strlen(value));

	if (n <= 0)
		return "the name of an errno, such as EPERM";
	l->r->error = (uint16_t)n;
	return NULL;
}

static const char *set_value(struct reading *l, const char *value)
{
	return number(value, true, &l->r->value) ? NULL : "a number";
}

static const char *set_cpus(struct reading *l, const char *value)
{
	return number(value, false, &l->r->value) && l->r->value >= 1 && l->r->value <= 1024 ? NULL : "a number of processors, 1 to 1024";
}

/* "+SECONDS", "-SECONDS", or "@SECONDS" since 1970. */
static const char *set_clock(struct reading *l, const char *value)
{
	l->r->clock_set = *value == '@';
	if ((*value != '+' && *value != '-' && *value != '@') || !number(value + l->r->clock_set, !l->r->clock_set, &l->r->value) ||
	    l->r->value > 9000000000 || l->r->value < -9000000000)
		return "+SECONDS, -SECONDS, or @SECONDS since 1970";
	l->r->value *= NS_PER_S;
	return NULL;
}

#define NAME_SETTER(what, index)                                                   \
	static const char *set_##what(struct reading *l, const char *value)        \
	{                                                                          \
		if (!*value || strlen(value) > 64)                                 \
			return "1 to 64 characters";                               \
		l->r->names[index] = keep(l->p, value);                            \
		return NULL;                                                       \
	}
NAME_SETTER(sysname, POLICY_TEXT_SYSNAME)
NAME_SETTER(nodename, POLICY_TEXT_NODENAME)
NAME_SETTER(release, POLICY_TEXT_RELEASE)
NAME_SETTER(version, POLICY_TEXT_VERSION)
NAME_SETTER(machine, POLICY_TEXT_MACHINE)

/* --- keys and verbs ----------------------------------------------------------------------------------------------------------- */

enum {
	K_CALL, K_PATH, K_FD, K_ADDRESS, K_FAMILY, K_TO, K_NET, K_ERROR, K_VALUE, K_CPUS, K_CLOCK, K_FILE, K_FROM, K_TEXT,
	K_SYSNAME, K_NODENAME, K_RELEASE, K_VERSION, K_MACHINE, NKEYS
};
#define BIT(k) (1u << (k))
#define WHICH (BIT(K_CALL) | BIT(K_PATH) | BIT(K_FD) | BIT(K_ADDRESS) | BIT(K_FAMILY))
#define UNAME (BIT(K_SYSNAME) | BIT(K_NODENAME) | BIT(K_RELEASE) | BIT(K_VERSION) | BIT(K_MACHINE))

static const struct {
	const char *name;
	const char *(*set)(struct reading *l, const char *value);
} keys[NKEYS] = {
	[K_CALL] = {"call", set_call}, [K_PATH] = {"path", set_path}, [K_FD] = {"fd", set_fd}, [K_ADDRESS] = {"address", set_address},
	[K_FAMILY] = {"family", set_family}, [K_TO] = {"to", set_to}, [K_NET] = {"net", set_net}, [K_ERROR] = {"error", set_error},
	[K_VALUE] = {"value", set_value}, [K_CPUS] = {"cpus", set_cpus}, [K_CLOCK] = {"clock", set_clock}, [K_FILE] = {"file", set_path},
	[K_FROM] = {"from", set_to}, [K_TEXT] = {"text", set_text}, [K_SYSNAME] = {"sysname", set_sysname},
	[K_NODENAME] = {"nodename", set_nodename}, [K_RELEASE] = {"release", set_release}, [K_VERSION] = {"version", set_version},
	[K_MACHINE] = {"machine", set_machine},
};

static const struct {
	const char *name;
	uint32_t has;
} verbs[] = {
	[POLICY_TEXT_FORWARD] = {"forward", BIT(K_PATH) | BIT(K_TO) | BIT(K_NET) | BIT(K_CALL) | BIT(K_ADDRESS)},
	[POLICY_TEXT_LOCAL] = {"local", WHICH},
	[POLICY_TEXT_DENY] = {"deny", WHICH | BIT(K_ERROR)},
	[POLICY_TEXT_EMULATE] = {"emulate", BIT(K_VALUE) | BIT(K_CALL) | UNAME | BIT(K_CPUS) | BIT(K_CLOCK) | BIT(K_FILE) | BIT(K_FROM) | BIT(K_TEXT)},
	[POLICY_TEXT_TRACE] = {"trace", WHICH},
};

bool policy_text_may_forward(uint64_t nr)
{
	static const uint16_t may[] = {__NR_uname, __NR_sysinfo, __NR_getppid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid, __NR_getgroups,
				       __NR_getresuid, __NR_getresgid, __NR_getpgrp, __NR_gettimeofday, __NR_time, __NR_clock_getres, __NR_clock_gettime,
				       __NR_times, __NR_getrusage, __NR_getrlimit, __NR_getcpu, __NR_nanosleep, __NR_clock_nanosleep};

	for (unsigned int i = 0; i < sizeof(may) / sizeof(*may); i++)
		if (may[i] == nr)
			return true;
	return false;
}

/* Exactly one of the kinds of a verb that has several.  Return: NULL or what is wrong. */
static const char *what_forward(struct policy_text_rule *r, uint32_t seen)
{
	static const char wants[] = "forward wants path=, net=, address= or call=, one of them; to= belongs to path=";

	if (seen == BIT(K_PATH) || seen == (BIT(K_PATH) | BIT(K_TO))) {
		r->what = POLICY_TEXT_PATH;
		if (strchr(r->path, '*') || strchr(r->path, '?') || strchr(r->path, ':') || !r->path[1] || strlen(r->path) > 255)
			return "forward path= is a directory below /, not a pattern, without colons, of at most 255 characters";
		if (r->to && strlen(r->to) > 255)
			return "forward to= is a directory of at most 255 characters";
	} else if (seen == BIT(K_NET)) {
		r->what = POLICY_TEXT_NET;
	} else if (seen == BIT(K_ADDRESS)) {
		r->what = POLICY_TEXT_ADDRESS;
	} else if (seen == BIT(K_CALL)) {
		r->what = POLICY_TEXT_CALLS;
		for (uint64_t nr = 0; nr < FORWARD_NR_MAX; nr++)
			if (policy_text_has(r, nr) && !policy_text_may_forward(nr))
				return "only calls that ask something (uname, sysinfo, getuid, clock_gettime and their like) can be forwarded by name; others are by "
				       "what they are about";
	} else {
		return wants;
	}
	return NULL;
}

static const char *what_emulate(struct policy_text_rule *r, uint32_t seen)
{
	if (seen == (BIT(K_VALUE) | BIT(K_CALL)))
		r->what = POLICY_TEXT_VALUE_OF;
	else if (seen && !(seen & ~UNAME))
		r->what = POLICY_TEXT_UNAME;
	else if (seen == BIT(K_CPUS))
		r->what = POLICY_TEXT_CPUS;
	else if (seen == BIT(K_CLOCK))
		r->what = POLICY_TEXT_CLOCK;
	else if (seen == (BIT(K_FILE) | BIT(K_FROM)) || seen == (BIT(K_FILE) | BIT(K_TEXT)))
		r->what = POLICY_TEXT_FILE;
	else
		return "emulate wants value= and call=; names of uname; cpus=; clock=; or file= and from= or text=";
	if (r->what == POLICY_TEXT_FILE && (strchr(r->path, '*') || strchr(r->path, '?')))
		return "emulate file= is one file, not a pattern";
	return NULL;
}

static const char *finish(struct reading *l)
{
	struct policy_text_rule *r = l->r;

	if (l->seen & BIT(K_FD) && l->seen & (BIT(K_PATH) | BIT(K_FAMILY)))
		return "fd= does not go with path= and family=";
	switch (r->verb) {
	case POLICY_TEXT_FORWARD: return what_forward(r, l->seen);
	case POLICY_TEXT_EMULATE: return what_emulate(r, l->seen);
	case POLICY_TEXT_DENY:
		if (!(l->seen & BIT(K_ERROR)))
			return "deny needs error=";
		break;
	default: break;
	}
	return l->seen & WHICH ? NULL : "which calls? call=, path=, fd=, address= or family=";
}

/* --- lines ------------------------------------------------------------------------------------------------------------------------ */

static int wrong(struct policy_text_fault *fault, const char *why, const char *at, size_t bytes)
{
	fault->why = why;
	fault->at = at;
	fault->bytes = bytes > 40 ? 40 : (uint32_t)bytes;
	return -1;
}

static int read_key(struct reading *l, struct ruleline *line, struct policy_text_fault *fault)
{
	const size_t n = ruleline_name(line);
	const char *at = line->at, *why;
	char value[POLICY_TEXT_VALUE];
	unsigned int k = 0;

	if (!n || at + n == line->end || at[n] != '=')
		return wrong(fault, "expected key=value", at, (size_t)(line->end - at));
	while (k < NKEYS && !ruleline_is(line, n, keys[k].name))
		k++;
	if (k == NKEYS)
		return wrong(fault, "there is no such key", at, n);
	if (!(verbs[l->r->verb].has & BIT(k)))
		return wrong(fault, "this kind of rule has no such key", at, n);
	if (l->seen & BIT(k))
		return wrong(fault, "the key is given twice", at, n);
	l->seen |= BIT(k);
	line->at += n + 1;
	why = ruleline_value(line, value, sizeof(value));
	if (why)
		return wrong(fault, why, at, n);
	why = keys[k].set(l, value);
	return why ? wrong(fault, why, at, (size_t)(line->at - at)) : 0;
}

static int read_line(struct policy_text *p, struct ruleline *line, struct policy_text_fault *fault)
{
	struct reading l = {.p = p, .r = &p->rule[p->n]};
	const char *begin, *why;
	unsigned int verb = 0;
	size_t n;

	if (!ruleline_next(line))
		return 0;
	begin = line->at;
	n = ruleline_name(line);
	while (verb < sizeof(verbs) / sizeof(*verbs) && !ruleline_is(line, n, verbs[verb].name))
		verb++;
	if (verb == sizeof(verbs) / sizeof(*verbs) || !ruleline_verb_ends(line, n))
		return wrong(fault, "a rule of the guest begins with forward, local, deny, emulate or trace", begin, (size_t)(line->end - begin));
	if (p->n == POLICY_TEXT_RULES)
		return wrong(fault, "more than 64 rules", begin, n);
	memset(l.r, 0, sizeof(*l.r));
	l.r->verb = (uint8_t)verb;
	l.r->fd = -1;
	line->at += n;
	while (ruleline_next(line))
		if (read_key(&l, line, fault))
			return -1;
	why = finish(&l);
	if (why)
		return wrong(fault, why, begin, (size_t)(line->end - begin));
	p->n++;
	return 0;
}

int policy_text_read(struct policy_text *p, const char *text, struct policy_text_fault *fault)
{
	const size_t bytes = strlen(text);

	memset(fault, 0, sizeof(*fault));
	if (bytes >= sizeof(p->strings) - p->used) 
		return wrong(fault, "there is too much in it: at most 8191 characters", NULL, 0);
	for (const char *end = text + bytes; text < end;) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		struct ruleline line = {text, newline ? newline : end};

		fault->line++;
		if (read_line(p, &line, fault))
			return -1;
		text = line.end + 1;
	}
	return 0;
}
