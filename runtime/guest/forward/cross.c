/* cross.c - descriptors that turn out to be the host's after they were made
 *
 * A unix socket and an inotify descriptor are made without a name, and so in the guest.  The first path that they are given says
 * where they belong: connect() or bind() to a path of the host, a watch on one.  Then one of the same kind is made on the host and
 * takes the place of the guest's, under its number, with its flags; from then on it is a descriptor of the host like any other.
 * Copies that were made before (dup, fork) stay the guest's, and of socket options only SO_PASSCRED is taken along.
 *
 * One inotify descriptor cannot watch both sides: the other side is refused with ENOSPC ("no more watches"), which programs know and
 * poll instead.  Sockets in the abstract name space are the guest's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/guest/forward/sides.h"

#define ADDRESS_MAX 128u
#define NAME_AT offsetof(struct sockaddr_un, sun_path)

static const struct forward_rule plain = {.kind = FORWARD_FD};

/* --- unix sockets ------------------------------------------------------------------------------------------------------------------ */

/* Makes local socket @fd one of the host's.  Return: 0 or -errno. */
static int64_t cross_socket(uint64_t fd)
{
	const int64_t flags = raw2(__NR_fcntl, fd, F_GETFL), close = raw2(__NR_fcntl, fd, F_GETFD);
	int32_t type = 0, credentials = 0;
	uint32_t bytes = sizeof(type);
	struct forward_turn turn;
	int64_t rc = raw6(__NR_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &bytes, 0), raw;

	if (rc || flags < 0 || close < 0)
		return rc ? rc : -EBADF;
	raw6(__NR_getsockopt, fd, SOL_SOCKET, SO_PASSCRED, &credentials, &bytes, 0);
	rc = forward_turn_begin(&turn);
	if (rc)
		return rc;
	raw = forward_turn_quick(&turn, __NR_socket, AF_UNIX, (uint64_t)type | SOCK_CLOEXEC | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0), 0, 0);
	rc = raw < 0 ? raw : forward_fd_cross(&turn, raw, fd, close & FD_CLOEXEC);
	forward_turn_end(&turn);
	if (!rc && credentials) {
		const struct intercept_call pass = {.nr = __NR_setsockopt, .arg = {fd, SOL_SOCKET, SO_PASSCRED, (uint64_t)&credentials, sizeof(credentials)}};

		forward_call(&pass, &plain);
	}
	return rc;
}

bool forward_address_call(const struct intercept_call *call, bool host, int64_t *result)
{
	struct {
		uint16_t family;
		char name[FORWARD_PATH_MAX];
	} a;
	struct forward_where where;
	struct intercept_call other = *call;
	uint64_t bytes = (uint32_t)call->arg[2];

	_Static_assert(offsetof(__typeof__(a), name) == NAME_AT, "as the kernel has it");
	if (bytes <= NAME_AT || bytes > sizeof(struct sockaddr_un) || intercept_fetch(&a, call->arg[1], bytes) || a.family != AF_UNIX || !a.name[0])
		return false;
	a.name[bytes - NAME_AT] = 0;
	if (forward_where(AT_FDCWD, (uint64_t)a.name, &where) || where.side != FORWARD_THERE)
		return false;
	*result = host ? 0 : cross_socket((uint32_t)call->arg[0]);
	if (*result)
		return true;
	if (where.rewrite) {
		*result = forward_absolute(a.name, (uint64_t)a.name);
		bytes = NAME_AT + strlen(a.name) + 1;
		if (*result || bytes > sizeof(struct sockaddr_un)) {
			*result = -ENAMETOOLONG;
			return true;
		}
	}
	other.arg[1] = (uint64_t)&a;
	other.arg[2] = bytes;
	*result = forward_call(&other, forward_rule(call->nr));
	return true;
}

/* --- inotify ----------------------------------------------------------------------------------------------------------------------- */

/* @head, which has room for it, with the number behind it. */
static void put_number(char *head, uint64_t n)
{
	char *at = head + strlen(head);
	uint64_t unit = 1;

	while (n / unit >= 10)
		unit *= 10;
	for (; unit; unit /= 10)
		*at++ = (char)('0' + n / unit % 10);
	*at = 0;
}

/* Whether a local inotify descriptor has watches, as the kernel tells (proc(5), fdinfo).  Return: -1: it is none. */
static int has_watches(uint64_t fd)
{
	char link[32] = "/proc/self/fd/", info[40] = "/proc/self/fdinfo/", text[512];
	int64_t file, n;

	put_number(link, fd);
	put_number(info, fd);
	n = raw3(__NR_readlink, link, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	if (!strstr(text, "inotify"))
		return -1;
	file = raw3(__NR_open, info, O_RDONLY | O_CLOEXEC, 0);
	if (file < 0)
		return -1;
	n = raw3(__NR_read, file, text, sizeof(text) - 1);
	raw1(__NR_close, file);
	text[n > 0 ? n : 0] = 0;
	return strstr(text, "inotify wd:") != NULL;
}

static int64_t cross_inotify(uint64_t fd)
{
	const int64_t flags = raw2(__NR_fcntl, fd, F_GETFL), close = raw2(__NR_fcntl, fd, F_GETFD);
	const int watches = has_watches(fd);
	struct forward_turn turn;
	int64_t rc, raw;

	if (flags < 0 || close < 0)
		return -EBADF;
	if (watches < 0)
		return -EINVAL;
	if (watches) {
		forward_trace_note("inotify_add_watch", "a descriptor that watches files of the guest cannot watch files of the host too");
		return -ENOSPC;
	}
	rc = forward_turn_begin(&turn);
	if (rc)
		return rc;
	raw = forward_turn_quick(&turn, __NR_inotify_init1, O_CLOEXEC | (uint64_t)(flags & O_NONBLOCK), 0, 0, 0);
	rc = raw < 0 ? raw : forward_fd_cross(&turn, raw, fd, close & FD_CLOEXEC);
	forward_turn_end(&turn);
	return rc;
}

int64_t forward_watch_call(const struct intercept_call *call, enum forward_side path, bool rewrite)
{
	const uint64_t fd = (uint32_t)call->arg[0];
	const bool host = forward_fd_host(fd);
	struct intercept_call other = *call;
	char absolute[FORWARD_PATH_MAX];
	int64_t rc = 0;

	if (path == FORWARD_HERE) {
		forward_trace_note("inotify_add_watch", "a descriptor that watches files of the host cannot watch files of the guest too");
		return -ENOSPC;
	}
	if (!host)
		rc = cross_inotify(fd);
	if (!rc && rewrite) {
		rc = forward_absolute(absolute, call->arg[1]);
		other.arg[1] = (uint64_t)absolute;
	}
	return rc ? rc : forward_call(&other, forward_rule(call->nr));
}
