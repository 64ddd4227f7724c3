/* where.c - on which side the thing is that a call of the program names by a path
 *
 * The path is read from the program's memory: at most FORWARD_PATH_LOOK bytes of it, which is enough to tell, since prefixes
 * are shorter.  A path that starts from a directory's descriptor is where the descriptor is.  One that starts from the
 * working directory may cross over: then it has to be made absolute, as the directory is not the other side's.  So has one below
 * a directory that the host calls by another name (forward_path_there()).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/guest/forward/forward.h"

#define FIRST_BYTES 128u /* most paths are shorter */

int64_t forward_string(char *out, uint64_t from, uint64_t room)
{
	uint64_t done = 0, part = FIRST_BYTES;

	while (done < room - 1) {
		const uint64_t page = FORWARD_PAGE - ((from + done) & (FORWARD_PAGE - 1)); /* the next page may not be there */

		part = part < page ? part : page;
		part = part < room - 1 - done ? part : room - 1 - done;
		if (intercept_fetch(out + done, from + done, part))
			return -EFAULT;
		for (uint64_t i = 0; i < part; i++)
			if (!out[done + i])
				return (int64_t)(done + i);
		done += part;
		part = FORWARD_PAGE;
	}
	out[done] = 0;
	return (int64_t)done;
}

static enum forward_side side_of(const char *base, const char *path)
{
	char simple[FORWARD_PATH_LOOK];

	forward_path_join(simple, sizeof(simple), base, path);
	return forward_path_inside(&forward_settings.prefixes, simple) && !forward_policy_keeps(simple) ? FORWARD_THERE : FORWARD_HERE;
}

/* The descriptor that "/proc/self/fd/N" and its like name, or -1. */
static int32_t linked(const char *path)
{
	static const char *const heads[] = {"/proc/self/fd/", "/dev/fd/", "/proc/thread-self/fd/"};
	uint32_t n = 0;

	for (unsigned int i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		const size_t bytes = strlen(heads[i]);

		if (strncmp(path, heads[i], bytes))
			continue;
		for (path += bytes; *path >= '0' && *path <= '9' && n < FORWARD_FDS_MAX; path++)
			n = 10 * n + (uint32_t)(*path - '0');
		return *path == 0 && path[-1] != '/' ? (int32_t)n : -1;
	}
	return -1;
}

int forward_where(int64_t dirfd, uint64_t path, struct forward_where *where)
{
	char text[FORWARD_PATH_LOOK];
	const bool from_cwd = (int32_t)dirfd == AT_FDCWD;
	const enum forward_side base = from_cwd ? (enum forward_side)forward_cwd_host() : (enum forward_side)forward_fd_host((uint64_t)dirfd);
	const int64_t n = path ? forward_string(text, path, sizeof(text)) : 0;

	*where = (struct forward_where){.side = base};
	if (n < 0)
		return (int)n;
	if (n == 0) {
		where->empty = true;
		return 0;
	}
	if (text[0] == '/') {
		const int32_t fd = linked(text);

		if (fd >= 0 && forward_fd_host((uint64_t)fd)) {
			where->side = FORWARD_THERE;
			where->link = fd + 1;
			return 0;
		}
		where->side = side_of(NULL, text);
		where->rewrite = where->side == FORWARD_THERE && forward_settings.prefixes.renames;
		return 0;
	}
	if (!from_cwd)
		return 0;
	if (base == FORWARD_HERE && !forward_path_climbs(text)) {
		const char *cwd = forward_cwd_text();

		if (!cwd || !forward_path_leads(&forward_settings.prefixes, cwd))
			return 0;
	}
	where->side = side_of(forward_cwd_text(), text);
	where->rewrite = where->side != base || (base == FORWARD_THERE && forward_settings.prefixes.renames && forward_path_climbs(text));
	return 0;
}

int forward_absolute(char out[FORWARD_PATH_MAX], uint64_t path)
{
	char text[FORWARD_PATH_MAX];
	const int64_t n = forward_string(text, path, sizeof(text));
	int rc;

	if (n < 0)
		return (int)n;
	if (n == FORWARD_PATH_MAX - 1)
		return -ENAMETOOLONG;
	rc = forward_path_join(out, FORWARD_PATH_MAX, forward_cwd_text(), text);
	if (rc >= 0 && forward_settings.prefixes.renames && !forward_policy_keeps(out))
		rc = forward_path_there(&forward_settings.prefixes, out, FORWARD_PATH_MAX);
	return rc < 0 ? rc : 0;
}
