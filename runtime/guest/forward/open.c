/* open.c - calls that make, copy and close descriptors: done on both sides
 *
 * fds.c says how the numbers are kept the same.  Descriptors of our own (bells and the like) are not there for the program:
 * closing one is EBADF, and dup2() onto one gets it moved away first.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/socket.h>

#include "runtime/guest/forward/forward.h"

#define FIOCLEX_ 0x5451
#define FIONCLEX_ 0x5450
#define FIOASYNC_ 0x5452
#define FICLONE_ 0x40049409
#define FICLONERANGE_ 0x4020940d
#define F_SETOWN_EX_ 15

static bool cloexec_of(const struct intercept_call *call)
{
	uint64_t flags = 0;

	switch (call->nr) {
	case __NR_open: flags = call->arg[1]; break;
	case __NR_openat: flags = call->arg[2]; break;
	case __NR_openat2: return !intercept_fetch(&flags, call->arg[2], sizeof(flags)) && flags & O_CLOEXEC;
	case __NR_eventfd2: return call->arg[1] & O_CLOEXEC;
	case __NR_accept4: return call->arg[3] & SOCK_CLOEXEC;
	case __NR_socket: return call->arg[1] & SOCK_CLOEXEC;
	default: break;
	}
	return flags & O_CLOEXEC;
}

/*
 * openat2() without conditions on how the path is resolved is openat() with stricter checks; with conditions it goes as it is (a shadow
 * that may not make it, as its arguments are in memory, says ENOSYS, and programs do without).  Return: 0; -errno.
 */
static int64_t plain_openat2(struct intercept_call *call)
{
	struct {
		uint64_t flags, mode, resolve;
	} how;
	const uint64_t creates = O_CREAT | (O_TMPFILE & ~O_DIRECTORY), known = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
									      O_NONBLOCK | O_SYNC | O_DIRECT | 0100000 | O_DIRECTORY | O_NOFOLLOW |
									      O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE | FASYNC;

	if (call->arg[3] < sizeof(how))
		return -EINVAL;
	if (intercept_fetch(&how, call->arg[2], sizeof(how)))
		return -EFAULT;
	if (how.resolve || call->arg[3] > sizeof(how))
		return 0;
	if (how.flags & ~known || how.mode & ~UINT64_C(07777) || (how.mode && !(how.flags & creates)))
		return -EINVAL;
	call->nr = __NR_openat;
	call->arg[2] = how.flags;
	call->arg[3] = how.mode;
	return 0;
}

/*
 * O_DIRECT asks the file's device to fetch and store the program's pages by itself, and a shadow may not, since pages may go while
 * it does.  It is left out: what is read and written is the same, by way of the host's page cache, and F_GETFL does not show it.
 */
int64_t forward_open_call(const struct intercept_call *call, const struct forward_rule *rule)
{
	struct intercept_call other = *call;
	int64_t rc = other.nr == __NR_openat2 ? plain_openat2(&other) : 0;

	if (rc)
		return rc;
	if (other.nr == __NR_open || other.nr == __NR_openat)
		other.arg[other.nr == __NR_open ? 1 : 2] &= ~(uint64_t)O_DIRECT;
	return forward_call_fd(&other, rule, cloexec_of(&other) ? FORWARD_R_FD_CLOEXEC : FORWARD_R_FD);
}

/* --- close ---------------------------------------------------------------------------------------------------------------- */

/* The number is free in the guest only when the host has closed it. */
static int64_t close_host(uint64_t fd)
{
	int64_t result;

	forward_epoll_left(fd);
	result = forward_quick(__NR_close, fd, 0, 0, 0);
	forward_fd_set(fd, 0);
	raw1(__NR_close, fd);
	return result == -EIO && !forward_alive() ? 0 : result;
}

static bool do_close(const struct intercept_call *call, int64_t *result)
{
	const uint64_t fd = call->arg[0];

	if (forward_own_fd((int32_t)fd)) {
		*result = -EBADF;
		return true;
	}
	if (forward_fd_host(fd)) {
		*result = close_host((uint32_t)fd);
		return true;
	}
	if ((uint32_t)fd < FORWARD_FDS_MAX && forward_fd_state[(uint32_t)fd] & FORWARD_FD_EPOLL)
		forward_epoll_closed(fd);
	return false;
}

int64_t forward_close_range(uint64_t first, uint64_t last, uint64_t flags)
{
	int64_t rc = 0;

	/* The parts between our own descriptors. */
	for (uint64_t at = first; at <= last && !rc;) {
		uint64_t end = at;

		if (forward_own_fd((int32_t)at)) {
			at++;
			continue;
		}
		if (at > FORWARD_FD_FLOOR + FORWARD_FDS_MAX)
			end = last;
		else
			while (end < last && !forward_own_fd((int32_t)(end + 1)) && end < FORWARD_FD_FLOOR + FORWARD_FDS_MAX)
				end++;
		rc = raw3(__NR_close_range, at, end, flags);
		at = end + 1;
	}
	return rc;
}

static int64_t do_close_range(const struct intercept_call *call)
{
	const uint64_t first = (uint32_t)call->arg[0], last = (uint32_t)call->arg[1], flags = call->arg[2];

	if (first > last || flags & ~(uint64_t)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
		return -EINVAL;
	for (uint64_t fd = first; fd <= last && fd < FORWARD_FDS_MAX && forward_fds_any(); fd++) {
		if (forward_fd_state[fd] & FORWARD_FD_EPOLL && !(flags & CLOSE_RANGE_CLOEXEC))
			forward_epoll_closed(fd);
		if (!forward_fd_host(fd))
			continue;
		if (flags & CLOSE_RANGE_CLOEXEC)
			forward_fd_set(fd, FORWARD_FD_HOST | FORWARD_FD_CLOEXEC);
		else
			close_host(fd);
	}
	return forward_close_range(first, last, flags);
}

/* --- copies ---------------------------------------------------------------------------------------------------------------- */

/* @here: the copy of the placeholder, or -errno. */
static int64_t copy_host(uint64_t old, int64_t here, bool cloexec)
{
	int64_t rc;

	if (here < 0)
		return here;
	rc = here < FORWARD_FDS_MAX ? forward_quick(__NR_dup3, old, (uint64_t)here, 0, 0) : -EMFILE;
	if (rc < 0) {
		raw1(__NR_close, here);
		forward_fd_set((uint64_t)here, 0);
		return rc;
	}
	forward_fd_set((uint64_t)here, (uint8_t)(FORWARD_FD_HOST | (cloexec ? FORWARD_FD_CLOEXEC : 0)));
	return here;
}

static bool do_dup2(const struct intercept_call *call, int64_t *result)
{
	const uint64_t old = (uint32_t)call->arg[0], new = (uint32_t)call->arg[1];
	const uint64_t flags = call->nr == __NR_dup3 ? call->arg[2] : 0;

	if (forward_own_fd((int64_t)old)) {
		*result = -EBADF;
		return true;
	}
	if (old == new || flags & ~(uint64_t)O_CLOEXEC) {
		*result = call->nr == __NR_dup3 ? -EINVAL : raw2(__NR_fcntl, old, F_GETFD) < 0 ? -EBADF : (int64_t)old;
		return true;
	}
	if (forward_own_fd((int64_t)new))
		forward_own_move((int64_t)new);
	if (new < FORWARD_FDS_MAX && forward_fd_state[new] & FORWARD_FD_EPOLL)
		forward_epoll_closed(new);
	if (forward_fd_host(new))
		forward_epoll_left(new);
	if (forward_fd_host(old)) {
		*result = copy_host(old, raw3(__NR_dup3, old, new, flags), flags & O_CLOEXEC);
		return true;
	}
	if (!forward_fd_host(new))
		return false;
	*result = raw3(__NR_dup3, old, new, flags);
	if (*result < 0)
		return true;
	forward_fd_set(new, 0);
	forward_quick(__NR_close, new, 0, 0, 0);
	return true;
}

static bool refuse(int64_t *result, int error, const char *what, const char *text)
{
	forward_trace_note(what, text);
	*result = -error;
	return true;
}

static void set_cloexec(uint64_t fd, bool cloexec)
{
	raw3(__NR_fcntl, fd, F_SETFD, cloexec ? FD_CLOEXEC : 0);
	forward_fd_set(fd, cloexec ? FORWARD_FD_HOST | FORWARD_FD_CLOEXEC : FORWARD_FD_HOST);
}

static bool do_fcntl(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	const uint64_t fd = (uint32_t)call->arg[0], command = call->arg[1];

	if (!forward_fd_host(fd)) {
		if (!forward_own_fd((int64_t)fd))
			return false;
		*result = -EBADF;
		return true;
	}
	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		*result = copy_host(fd, raw3(__NR_fcntl, fd, command, call->arg[2]), command == F_DUPFD_CLOEXEC);
		return true;
	case F_GETFD: *result = forward_fd_state[fd] & FORWARD_FD_CLOEXEC ? FD_CLOEXEC : 0; return true;
	case F_SETFD:
		set_cloexec(fd, call->arg[2] & FD_CLOEXEC);
		*result = 0;
		return true;
	case F_SETOWN:
	case F_SETOWN_EX_:
	case F_SETSIG:
	case F_NOTIFY:
	case F_SETLEASE: return refuse(result, EINVAL, "fcntl", "signals for events on the host are not brought here");
	case F_SETFL:
		if (call->arg[2] & O_ASYNC)
			return refuse(result, EINVAL, "fcntl", "signals for events on the host (O_ASYNC) are not brought here");
		if (call->arg[2] & O_DIRECT) { /* as when opening */
			struct intercept_call other = *call;

			other.arg[2] &= ~(uint64_t)O_DIRECT;
			*result = forward_call(&other, rule);
			return true;
		}
		break;
	default: break;
	}
	*result = forward_call(call, rule);
	if (!*result && (command == F_SETLK || command == F_SETLKW))
		forward_heir_locked(call->arg[2]);
	return true;
}

static bool do_ioctl(struct intercept_call *call, int64_t *result)
{
	const uint64_t fd = (uint32_t)call->arg[0], request = (uint32_t)call->arg[1];
	const bool host = forward_fd_host(fd);
	uint64_t other;

	if (request == FICLONE_ || request == FICLONERANGE_) {
		other = call->arg[2];
		if (request == FICLONERANGE_ && intercept_fetch(&other, call->arg[2], sizeof(other)))
			other = fd;
		if (forward_fd_host(other) != host) {
			*result = -EXDEV;
			return true;
		}
	}
	if (!host)
		return false;
	switch (request) {
	case FIOCLEX_: set_cloexec(fd, true); *result = 0; return true;
	case FIONCLEX_: set_cloexec(fd, false); *result = 0; return true;
	case FIOASYNC_: return refuse(result, EINVAL, "ioctl", "signals for events on the host (FIOASYNC) are not brought here");
	default: *result = forward_ioctl(call); return true;
	}
}

bool forward_descriptor_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	switch (rule->b) {
	case FORWARD_S_CLOSE: return do_close(call, result);
	case FORWARD_S_CLOSE_RANGE: *result = do_close_range(call); return true;
	case FORWARD_S_DUP:
		if (!forward_fd_host(call->arg[0]))
			return false;
		*result = copy_host((uint32_t)call->arg[0], raw3(__NR_fcntl, call->arg[0], F_DUPFD, 0), false);
		return true;
	case FORWARD_S_DUP2: return do_dup2(call, result);
	case FORWARD_S_FCNTL: return do_fcntl(call, rule, result);
	case FORWARD_S_IOCTL: return do_ioctl(call, result);
	case FORWARD_S_SOCKET:
		if (!forward_net(call->arg[0]))
			return false;
		*result = forward_open_call(call, rule);
		return true;
	case FORWARD_S_EVENTFD: /* drivers take them in their commands, and the guest's are none for them */
		if (!forward_settings.device)
			return false;
		*result = forward_open_call(call, rule);
		return true;
	default: return false;
	}
}
