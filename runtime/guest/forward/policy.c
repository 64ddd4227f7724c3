/* policy.c - which rule of the guest's policy is about a call, and what it wants; see policy.h
 *
 * What can be known beforehand is: for each number whether any rule can be about it, so that others cost a look at a bit.
 *
 * A path is compared as where.c compares it: as text, absolute, "." and ".." resolved.  A path that starts from a directory's
 * descriptor is put behind that directory's name: the kernel knows it for a directory of the guest; for one of the host it is
 * kept when it is opened (`names`), as a shadow has no /proc to ask.  Paths of more than FORWARD_PATH_LOOK bytes match nothing.
 */
#include "runtime/guest/forward/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/wire/fdargs.h"
#include "runtime/wire/ruleglob.h"

#define NAME_BYTES 256u /* of a directory of the host; longer ones have none */

static struct policy_text rules;
static bool matters[FORWARD_NR_MAX]; /* a rule other than a trace can be about it */
static bool any_path, any_trace, any_local_path;
static char names[FORWARD_FDS_MAX][NAME_BYTES];

/* --- what a rule is about -------------------------------------------------------------------------------------------------- */

static bool has_address(uint64_t nr)
{
	return nr == __NR_connect || nr == __NR_bind || nr == __NR_sendto;
}

static bool has_family(uint64_t nr)
{
	return nr == __NR_socket || nr == __NR_socketpair;
}

/* Where a call has paths: arguments; -1: none.  @from: of the directory that it starts from, -1: the working directory. */
static void path_arguments(uint64_t nr, int at[2], int from[2])
{
	const struct forward_rule *rule = forward_rule(nr);

	at[0] = at[1] = from[0] = from[1] = -1;
	switch (rule->kind) {
	case FORWARD_PATHS:
		at[1] = rule->b; /* fall through */
	case FORWARD_PATH: at[0] = rule->a; break;
	case FORWARD_ATS:
		from[1] = rule->b;
		at[1] = rule->b + 1; /* fall through */
	case FORWARD_AT:
		from[0] = rule->a;
		at[0] = rule->a + 1;
		break;
	default:
		if (nr == __NR_chdir || nr == __NR_execve)
			at[0] = 0;
		if (nr == __NR_execveat) {
			from[0] = 0;
			at[0] = 1;
		}
		break;
	}
}

static bool has_path(uint64_t nr)
{
	int at[2], from[2];

	path_arguments(nr, at, from);
	return at[0] >= 0;
}

/* Whether @r can be about calls with this number. */
static bool is_about(const struct policy_text_rule *r, uint64_t nr)
{
	if (r->verb == POLICY_TEXT_EMULATE)
		return forward_emulate_about(r, nr);
	if (r->verb == POLICY_TEXT_FORWARD && r->what != POLICY_TEXT_CALLS && r->what != POLICY_TEXT_ADDRESS)
		return false;
	return (!r->has_calls || policy_text_has(r, nr)) && (!r->path || has_path(nr)) && (!r->nspecs || has_address(nr)) &&
	       (!r->families || has_family(nr)) && (r->fd < 0 || fdargs_of(nr));
}

const char *forward_policy_read(const char *text)
{
	static const char say[] = "DS_FORWARD_POLICY: a rule in it is wrong; dsrun --check-policy FILE says where";
	struct policy_text_fault fault;

	if (policy_text_read(&rules, text, &fault))
		return say;
	for (uint32_t i = 0; i < rules.n; i++) {
		const struct policy_text_rule *r = &rules.rule[i];

		if (r->what == POLICY_TEXT_PATH && r->verb == POLICY_TEXT_FORWARD && forward_prefixes_add(&forward_settings.prefixes, r->path, r->to))
			return "DS_FORWARD_POLICY: more than 64 directories of the host";
		if (r->what == POLICY_TEXT_NET) {
			forward_settings.net = true;
			forward_settings.families |= r->families;
		}
		forward_settings.calls |= r->what == POLICY_TEXT_CALLS || r->what == POLICY_TEXT_ADDRESS;
		if (r->what == POLICY_TEXT_CLOCK)
			forward_clock_start(r->value, r->clock_set);
		any_trace |= r->verb == POLICY_TEXT_TRACE;
		any_path |= r->verb != POLICY_TEXT_FORWARD && (r->path || forward_emulate_names(r));
		any_local_path |= r->verb == POLICY_TEXT_LOCAL && r->path && !r->has_calls;
		for (uint64_t nr = 0; nr < FORWARD_NR_MAX; nr++)
			matters[nr] |= r->verb != POLICY_TEXT_TRACE && is_about(r, nr);
	}
	if (matters[__NR_clock_gettime] || matters[__NR_gettimeofday] || matters[__NR_time] || matters[__NR_clock_getres] || matters[__NR_getcpu])
		forward_vdso_off();
	return NULL;
}

/* --- what a call is about ---------------------------------------------------------------------------------------------------- */

/* The name of a directory's descriptor.  Return: its length, or -1. */
static int64_t directory_name(uint64_t fd, char out[FORWARD_PATH_LOOK])
{
	char path[32] = "/proc/self/fd/";
	char digits[8];
	int n = 0, at = (int)strlen(path);
	int64_t bytes;

	if (forward_fd_host(fd)) {
		memcpy(out, names[(uint32_t)fd], NAME_BYTES);
		return *out ? (int64_t)strlen(out) : -1;
	}
	if ((int32_t)fd < 0 || (uint32_t)fd > 9999999)
		return -1;
	for (uint32_t left = (uint32_t)fd; n == 0 || left; left /= 10)
		digits[n++] = (char)('0' + left % 10);
	while (n)
		path[at++] = digits[--n];
	path[at] = 0;
	bytes = raw4(__NR_readlinkat, AT_FDCWD, path, out, FORWARD_PATH_LOOK - 1);
	if (bytes <= 0 || *out != '/')
		return -1;
	out[bytes] = 0;
	return bytes;
}

/* The path of an argument, absolute.  Return: whether there is one that can be told. */
static bool name_of(const struct intercept_call *call, int at, int from, char out[FORWARD_PATH_LOOK])
{
	char text[FORWARD_PATH_LOOK], base[FORWARD_PATH_LOOK];
	const char *start = NULL;

	if (at < 0 || !call->arg[at] || forward_string(text, call->arg[at], sizeof(text)) <= 0)
		return false;
	if (text[0] != '/') {
		if (from >= 0 && (int32_t)call->arg[from] != AT_FDCWD)
			start = directory_name(call->arg[from], base) > 0 ? base : NULL;
		else
			start = forward_cwd_text();
		if (!start)
			return false;
	}
	return forward_path_join(out, FORWARD_PATH_LOOK, start, text) > 0;
}

static bool match_path(const char *pattern, const char *path)
{
	size_t n = strlen(path);
	bool at[FORWARD_PATH_LOOK + 1];

	if (n > 1 && path[n - 1] == '/') /* which only says that it is a directory */
		n--;
	return n <= FORWARD_PATH_LOOK && ruleglob_match(pattern, path, n, at);
}

static bool match_fd(const struct policy_text_rule *r, const struct intercept_call *call)
{
	const unsigned int fds = fdargs_of(call->nr);

	for (int i = 0; i < 6; i++)
		if (fds & 1u << i && (int32_t)call->arg[i] == r->fd)
			return true;
	return false;
}

static bool match_address(const struct policy_text_rule *r, const struct intercept_call *call)
{
	const int at = call->nr == __NR_sendto ? 4 : 1;
	uint8_t name[28] = {0}, family;
	const uint64_t bytes = call->arg[at + 1] < sizeof(name) ? call->arg[at + 1] : sizeof(name);
	uint16_t word, port;

	if (bytes < 8 || intercept_fetch(name, call->arg[at], bytes))
		return false;
	memcpy(&word, name, 2);
	port = (uint16_t)(name[2] << 8 | name[3]);
	if (word != AF_INET && (word != AF_INET6 || bytes < 24))
		return false;
	family = word == AF_INET ? 4 : addrspec_mapped(name + 8);
	for (uint32_t i = 0; i < r->nspecs; i++)
		if (addrspec_match(&r->spec[i], family, word == AF_INET ? name + 4 : name + 8, port, 0))
			return true;
	return false;
}

static bool match_family(const struct policy_text_rule *r, const struct intercept_call *call)
{
	static const uint8_t numbers[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK};

	for (unsigned int i = 0; i < sizeof(numbers); i++)
		if (r->families & 1u << i && (uint32_t)call->arg[0] == numbers[i])
			return true;
	return false;
}

/** struct named - The paths of a call, looked up when a rule asks for them. */
struct named {
	bool looked;
	bool has[2];
	char path[2][FORWARD_PATH_LOOK];
};

static void look(const struct intercept_call *call, struct named *n)
{
	int at[2], from[2];

	if (n->looked)
		return;
	path_arguments(call->nr, at, from);
	for (int i = 0; i < 2; i++)
		n->has[i] = name_of(call, at[i], from[i], n->path[i]);
	n->looked = true;
}

/* Return: -1 no; 0, 1: which of its paths, or 0. */
static int matches(const struct policy_text_rule *r, const struct intercept_call *call, struct named *n)
{
	if (!is_about(r, call->nr) || (r->fd >= 0 && !match_fd(r, call)) || (r->nspecs && !match_address(r, call)) ||
	    (r->families && r->what != POLICY_TEXT_NET && !match_family(r, call)))
		return -1;
	if (!r->path)
		return 0;
	look(call, n);
	for (int i = 0; i < 2; i++)
		if (n->has[i] && match_path(r->path, n->path[i]))
			return i;
	return -1;
}

/* --- what becomes of it -------------------------------------------------------------------------------------------------------- */

/* Of who can have no shadow, sockets are the guest's. */
static int64_t swap(uint64_t fd, bool host)
{
	const enum forward_who who = forward_who();
	int64_t rc;

	if (who != FORWARD_ME && !(who == FORWARD_CHILD && (host || forward_fd_host(fd)) && forward_become()))
		return 0;
	rc = forward_swap(fd, host);
	return rc == -EAFNOSUPPORT ? 0 : rc;
}

/* Out of line: the paths are on the stack only of calls that a rule can be about. */
__attribute__((noinline)) static enum forward_action decide(struct intercept_call *call, int64_t *result)
{
	struct named named = {.looked = false};

	for (uint32_t i = 0; i < rules.n; i++) {
		const struct policy_text_rule *r = &rules.rule[i];

		if (r->verb == POLICY_TEXT_TRACE || matches(r, call, &named) < 0)
			continue;
		switch (r->verb) {
		case POLICY_TEXT_LOCAL:
			/* Of a path alone: where.c asks, as the path may have to be made absolute. */
			if (r->path && !r->has_calls)
				break;
			*result = r->nspecs ? swap(call->arg[0], false) : 0;
			return *result ? FORWARD_A_DENY : FORWARD_A_LOCAL;
		case POLICY_TEXT_FORWARD:
			if (r->what != POLICY_TEXT_ADDRESS)
				return FORWARD_A_FORWARD;
			*result = swap(call->arg[0], true);
			return *result ? FORWARD_A_DENY : FORWARD_A_NONE;
		case POLICY_TEXT_DENY: *result = -(int64_t)r->error; return FORWARD_A_DENY;
		default:
			if (forward_emulate_names(r))
				look(call, &named);
			if (forward_emulate(r, call, named.has[0] ? named.path[0] : "", result))
				return FORWARD_A_EMULATE;
			break;
		}
	}
	return FORWARD_A_NONE;
}

bool forward_net(uint64_t family)
{
	const uint32_t bit = (uint32_t)family == AF_INET ? POLICY_TEXT_INET : (uint32_t)family == AF_INET6 ? POLICY_TEXT_INET6 : 0;

	return forward_settings.net && bit && (!forward_settings.families || forward_settings.families & bit);
}

enum forward_action forward_policy(struct intercept_call *call, int64_t *result)
{
	return call->nr < FORWARD_NR_MAX && matters[call->nr] ? decide(call, result) : FORWARD_A_NONE;
}

bool forward_policy_keeps(const char *path)
{
	for (uint32_t i = 0; any_local_path && i < rules.n; i++) {
		const struct policy_text_rule *r = &rules.rule[i];

		if (r->verb == POLICY_TEXT_LOCAL && r->path && !r->has_calls && match_path(r->path, path))
			return true;
	}
	return false;
}

__attribute__((noinline)) static bool is_traced(const struct intercept_call *call)
{
	struct named named = {.looked = false};

	for (uint32_t i = 0; i < rules.n; i++)
		if (rules.rule[i].verb == POLICY_TEXT_TRACE && matches(&rules.rule[i], call, &named) >= 0)
			return true;
	return false;
}

bool forward_policy_traced(const struct intercept_call *call)
{
	return !any_trace || is_traced(call);
}

/* --- names of the host's directories ---------------------------------------------------------------------------------------------- */

__attribute__((noinline)) static void keep_name(const struct intercept_call *call, uint32_t fd)
{
	struct named named = {.looked = false};

	names[fd][0] = 0;
	look(call, &named);
	if (named.has[0] && strlen(named.path[0]) < NAME_BYTES)
		memcpy(names[fd], named.path[0], strlen(named.path[0]) + 1);
}

void forward_policy_after(const struct intercept_call *call, int64_t result)
{
	const uint32_t fd = (uint32_t)result;

	if (!any_path || result < 0 || !forward_fd_host((uint64_t)result))
		return;
	switch (call->nr) {
	case __NR_open:
	case __NR_openat:
	case __NR_openat2: keep_name(call, fd); break;
	case __NR_fcntl:
		if (call->arg[1] != F_DUPFD && call->arg[1] != F_DUPFD_CLOEXEC)
			break; /* fall through */
	case __NR_dup:
	case __NR_dup2:
	case __NR_dup3:
		if (forward_fd_host(call->arg[0]) && (uint32_t)call->arg[0] != fd)
			memcpy(names[fd], names[(uint32_t)call->arg[0]], NAME_BYTES);
		break;
	default: break;
	}
}
