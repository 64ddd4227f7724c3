/* cwd.c - the working directory may be the host's
 *
 * Then the shadow's is that directory, and the guest's own stays where it was before: nothing that starts from the working
 * directory goes there, except paths that lead out of the host's prefixes, which are made absolute.  When the program
 * goes back to a directory of the guest, the shadow's stays behind in turn.
 *
 * The text of it is kept twice, so that a thread that reads one is not in the way of another one that changes directory:
 * `now` says which is good.  For a directory of the guest it is asked from the kernel when it is first needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/guest/forward/forward.h"

static struct {
	bool host, known;
	char text[FORWARD_PATH_MAX];
} places[2];
static uint32_t now;

static bool is_host(void)
{
	return places[__atomic_load_n(&now, __ATOMIC_ACQUIRE) & 1].host;
}

bool forward_cwd_host(void)
{
	return is_host();
}

const char *forward_cwd_text(void)
{
	const uint32_t at = __atomic_load_n(&now, __ATOMIC_ACQUIRE) & 1;

	if (!places[at].known) {
		const int64_t n = raw2(__NR_getcwd, places[at].text, sizeof(places[at].text));

		if (n <= 0 || places[at].text[0] != '/') /* removed, or out of the root's reach */
			return NULL;
		places[at].known = true;
	}
	return places[at].text;
}

static void gone_local(void)
{
	const uint32_t at = __atomic_load_n(&now, __ATOMIC_RELAXED) + 1;

	places[at & 1].host = places[at & 1].known = false;
	__atomic_store_n(&now, at, __ATOMIC_RELEASE);
	forward_settings_cwd("");
}

static void gone_host(struct forward_turn *turn, const char *asked)
{
	const uint32_t at = __atomic_load_n(&now, __ATOMIC_RELAXED) + 1;
	const int64_t n = forward_turn_quick(turn, __NR_getcwd, (uint64_t)turn->entry->scratch, FORWARD_PATH_MAX, 0, 0);
	const char *text = n > 1 && n < FORWARD_PATH_MAX && turn->entry->scratch[0] == '/' ? turn->entry->scratch : asked;
	const size_t bytes = strlen(text);

	memcpy(places[at & 1].text, text, bytes + 1);
	forward_path_back(&forward_settings.prefixes, places[at & 1].text, FORWARD_PATH_MAX); /* too long: it keeps the host's name */
	places[at & 1].host = places[at & 1].known = true;
	__atomic_store_n(&now, at, __ATOMIC_RELEASE);
	forward_settings_cwd(places[at & 1].text);
}

/* @path: the shadow's, of ours; or NULL: @fd. */
static int64_t change_host(const char *path, uint64_t fd)
{
	struct forward_turn turn;
	int64_t result;

	result = forward_turn_begin(&turn);
	if (result)
		return result;
	if (path) {
		const size_t bytes = strlen(path) + 1;

		memcpy(turn.entry->scratch, path, bytes);
		result = forward_turn_quick(&turn, __NR_chdir, (uint64_t)turn.entry->scratch, 0, 0, 0);
	} else {
		result = forward_turn_quick(&turn, __NR_fchdir, fd, 0, 0, 0);
	}
	if (!result)
		gone_host(&turn, path ? path : "/");
	forward_turn_end(&turn);
	return result;
}

static int64_t change(uint64_t path)
{
	struct forward_where where;
	char absolute[FORWARD_PATH_MAX];
	int64_t result = forward_where(AT_FDCWD, path, &where);

	if (result)
		return result;
	if (where.side == FORWARD_HERE && !where.rewrite) {
		result = raw1(__NR_chdir, path);
		if (!result)
			gone_local();
		return result;
	}
	result = forward_absolute(absolute, path);
	if (result)
		return result;
	if (where.side == FORWARD_THERE)
		return change_host(absolute, 0);
	result = raw1(__NR_chdir, absolute);
	if (!result)
		gone_local();
	return result;
}

static int64_t get(uint64_t to, uint64_t room)
{
	const char *text = forward_cwd_text();
	const uint64_t bytes = strlen(text) + 1;

	if (bytes > room)
		return -ERANGE;
	return intercept_store(to, text, bytes) ? -EFAULT : (int64_t)bytes;
}

void forward_cwd_inherit(const char *path)
{
	const size_t bytes = strlen(path) + 1;

	if (bytes > FORWARD_PATH_MAX)
		return;
	memcpy(places[now & 1].text, path, bytes);
	places[now & 1].host = places[now & 1].known = true;
	forward_settings_cwd(path);
}

void forward_cwd_start(void)
{
	char path[FORWARD_PATH_MAX];

	if (!is_host())
		return;
	memcpy(path, forward_cwd_text(), strlen(forward_cwd_text()) + 1);
	forward_path_there(&forward_settings.prefixes, path, sizeof(path));
	if (change_host(path, 0))
		forward_say("the directory it was started in is not there for its shadow: ", path);
}

bool forward_cwd_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	switch (rule->b) {
	case FORWARD_S_CHDIR: *result = change(call->arg[0]); return true;
	case FORWARD_S_FCHDIR:
		if (forward_fd_host(call->arg[0])) {
			*result = change_host(NULL, call->arg[0]);
			return true;
		}
		*result = raw1(__NR_fchdir, call->arg[0]);
		if (!*result)
			gone_local();
		return true;
	case FORWARD_S_GETCWD:
		if (!is_host())
			return false;
		*result = get(call->arg[0], call->arg[1]);
		return true;
	default: /* umask: what is made on the host has it too */
		*result = raw1(__NR_umask, call->arg[0]);
		forward_quick(__NR_umask, call->arg[0], 0, 0, 0);
		return true;
	}
}
