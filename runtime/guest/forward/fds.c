/* fds.c - descriptors of the host have the same number on both sides
 *
 * Theory of operation
 *
 * A descriptor of the host is, in the guest, a *placeholder*: an O_PATH descriptor of an empty file in memory, which holds
 * its number and can do nothing.  The program so gets the lowest free number, as POSIX wants it, counts its limit, and copies
 * and closes it; what it does with it is done by the shadow with a descriptor of that number.  It is closed by exec if the program
 * wants the descriptor to be; otherwise the next program finds it in its place (heir.c).
 *
 * On the host all numbers below FORWARD_FDS_MAX are taken from the beginning, by a file that is good for nothing, and stay so:
 * close() there puts that file back (runtime/services/forward.c).  What the shadow opens therefore has a number above
 * (raw), which no thread of the guest can give out meanwhile, and is moved from there: dup3(raw, number), close(raw).
 */
#include <errno.h>
#include <fcntl.h>

#include "runtime/guest/forward/forward.h"

uint8_t forward_fd_state[FORWARD_FDS_MAX];
static uint32_t nhost;
static int32_t placeholder = -1;

void forward_fds_start(void)
{
	char path[] = "/proc/self/fd/????";
	const int64_t memfd = raw2(__NR_memfd_create, "placeholder", 1 /* MFD_CLOEXEC */);
	int64_t fd = -1;

	if (memfd >= 0 && memfd < 1000) {
		char *at = path + sizeof(path) - 5;

		if (memfd >= 100)
			*at++ = (char)('0' + memfd / 100);
		if (memfd >= 10)
			*at++ = (char)('0' + memfd / 10 % 10);
		*at++ = (char)('0' + memfd % 10);
		*at = 0;
		fd = raw3(__NR_open, path, O_PATH | O_CLOEXEC, 0);
	}
	if (fd < 0) /* no /proc */
		fd = raw3(__NR_open, "/", O_PATH | O_CLOEXEC, 0);
	if (memfd >= 0)
		raw1(__NR_close, memfd);
	forward_own_add(fd, &placeholder);
}

bool forward_fds_any(void)
{
	return __atomic_load_n(&nhost, __ATOMIC_RELAXED) != 0;
}

void forward_fd_set(uint64_t fd, uint8_t state)
{
	uint8_t was;

	if ((uint32_t)fd >= FORWARD_FDS_MAX)
		return;
	was = __atomic_exchange_n(&forward_fd_state[(uint32_t)fd], state, __ATOMIC_RELAXED);
	if ((was ^ state) & FORWARD_FD_HOST)
		__atomic_fetch_add(&nhost, state & FORWARD_FD_HOST ? 1 : -1, __ATOMIC_RELAXED);
}

int64_t forward_fd_reserve(bool cloexec)
{
	const int64_t fd = raw3(__NR_fcntl, placeholder, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);

	if (fd < FORWARD_FDS_MAX)
		return fd;
	raw1(__NR_close, fd);
	return -EMFILE;
}

int64_t forward_fd_hold(uint64_t fd, bool cloexec)
{
	const int64_t rc = raw3(__NR_dup3, placeholder, fd, cloexec ? O_CLOEXEC : 0);

	if (rc < 0)
		return rc;
	forward_fd_set(fd, (uint8_t)(FORWARD_FD_HOST | (cloexec ? FORWARD_FD_CLOEXEC : 0)));
	return 0;
}

int64_t forward_fd_cross(struct forward_turn *turn, int64_t raw, uint64_t fd, bool cloexec)
{
	int64_t rc = fd >= FORWARD_FDS_MAX ? -EMFILE : forward_turn_quick(turn, __NR_dup3, (uint64_t)raw, fd, 0, 0);

	forward_turn_quick(turn, __NR_close, (uint64_t)raw, 0, 0, 0);
	if (rc < 0)
		return rc;
	rc = forward_fd_hold(fd, cloexec);
	if (rc)
		forward_turn_quick(turn, __NR_close, fd, 0, 0, 0);
	return rc;
}

int64_t forward_fd_adopt(struct forward_turn *turn, int64_t raw, bool cloexec)
{
	const int64_t here = raw3(__NR_fcntl, placeholder, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	int64_t rc = here >= FORWARD_FDS_MAX ? -EMFILE : here;

	if (rc >= 0 && raw != here)
		rc = forward_turn_quick(turn, __NR_dup3, (uint64_t)raw, (uint64_t)here, 0, 0);
	if (raw != here)
		forward_turn_quick(turn, __NR_close, (uint64_t)raw, 0, 0, 0);
	if (here < 0)
		return here;
	if (rc < 0) {
		raw1(__NR_close, here);
		forward_trace_note(NULL, "the shadow may not have a descriptor of that number: its limit is lower than the guest's");
		return rc == -EBADF ? -EMFILE : rc;
	}
	forward_fd_set((uint64_t)here, (uint8_t)(FORWARD_FD_HOST | (cloexec ? FORWARD_FD_CLOEXEC : 0)));
	return here;
}
