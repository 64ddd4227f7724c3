/* fds.c - descriptors of the host have the same number on both sides
 *
 * Theory of operation
 *
 * A descriptor of the host is, in the guest, a *placeholder*: an O_PATH descriptor of an empty file in memory, which holds
 * its number and can do nothing.  The program so gets the lowest free number, as POSIX wants it, counts its limit, and copies and closes it; what it
 * does with it is done by the shadow with a descriptor of that number.  Placeholders are closed by exec whatever the
 * program wants, as the next program has another shadow.
 *
 * What the shadow opens has a number of its own choice first (raw), and is then moved: dup3(raw, number), close(raw).  Two
 * things must not happen: that a raw number is one that another thread of the guest is moving something to; and, for speed, that
 * each opening needs the move.  So numbers that the guest has in use for itself are filled on the host, with copies of one
 * descriptor (the filler):
 *
 *   one thread    wherever a raw number turned out lower than the guest's, the filler is put there.  After a few openings the
 *                 lowest free number is the same on both sides, and nothing has to be moved.
 *   more threads  all numbers below `filled` are, and stay, in use: closing puts the filler back.  Raw numbers lie above, those
 *                 the guest gives out below.  So it is before the first thread that is not alone opens anything.
 */
#include <errno.h>
#include <fcntl.h>

#include "runtime/guest/forward/forward.h"

#define FILL_FIRST 64u
#define FILL_MARGIN 16u
#define FILLER_NR 1000u /* where the filler is put, if the limit allows */

uint8_t forward_fd_state[FORWARD_FDS_MAX];
static uint32_t nhost;
static int32_t placeholder = -1;
static int32_t filler = -1; /* of the host */
static bool filler_tried;
static uint32_t filled, filling;

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

/* In one of the ways that a policy may leave open. */
static void make_filler(struct forward_turn *turn)
{
	int64_t fd, high;

	filler_tried = true;
	turn->entry->scratch[0] = '/';
	turn->entry->scratch[1] = 0;
	fd = forward_turn_quick(turn, __NR_openat, (uint64_t)AT_FDCWD, (uint64_t)turn->entry->scratch, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		fd = forward_turn_quick(turn, __NR_eventfd2, 0, 0, 0, 0);
	if (fd < 0)
		fd = forward_turn_quick(turn, __NR_socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0, 0);
	if (fd < 0)
		return;
	for (uint64_t at = FILLER_NR; at >= 64; at /= 2) {
		high = forward_turn_quick(turn, __NR_fcntl, (uint64_t)fd, F_DUPFD_CLOEXEC, at, 0);
		if (high >= 0) {
			forward_turn_quick(turn, __NR_close, (uint64_t)fd, 0, 0, 0);
			fd = high;
			break;
		}
	}
	__atomic_store_n(&filler, (int32_t)fd, __ATOMIC_RELEASE);
}

/* All numbers of the host below @to are in use from now on. */
static void fill(struct forward_turn *turn, uint32_t to)
{
	for (uint32_t at = filled; filler >= 0 && at < to; at++) {
		const int64_t got = forward_turn_quick(turn, __NR_fcntl, (uint64_t)filler, F_DUPFD, at, 0);

		if (got < 0)
			break;
		if (got >= to) {
			forward_turn_quick(turn, __NR_close, (uint64_t)got, 0, 0, 0);
			break;
		}
		at = (uint32_t)got;
	}
	__atomic_store_n(&filled, to, __ATOMIC_RELEASE);
}

void forward_fd_release(struct forward_turn *turn, uint64_t number, bool used_here)
{
	if (filler >= 0 && (used_here || (forward_threads() && number < __atomic_load_n(&filled, __ATOMIC_ACQUIRE))))
		forward_turn_quick(turn, __NR_dup3, (uint64_t)filler, number, 0, 0);
	else
		forward_turn_quick(turn, __NR_close, number, 0, 0, 0);
}

void forward_fd_room(struct forward_turn *turn, uint64_t number)
{
	const uint32_t least = (uint32_t)number + FILL_MARGIN, to = !forward_threads() ? 0 : least < FILL_FIRST ? FILL_FIRST : 2 * least;

	if (__atomic_load_n(&filler_tried, __ATOMIC_RELAXED) && __atomic_load_n(&filled, __ATOMIC_ACQUIRE) >= (to ? least : 0))
		return;
	while (__atomic_exchange_n(&filling, 1, __ATOMIC_ACQUIRE)) /* its holder has signals blocked and is on its way */
		raw0(__NR_sched_yield);
	if (!filler_tried)
		make_filler(turn);
	if (filled < to)
		fill(turn, to);
	__atomic_store_n(&filling, 0, __ATOMIC_RELEASE);
}

int64_t forward_fd_adopt(struct forward_turn *turn, int64_t raw, bool cloexec)
{
	const int64_t here = raw3(__NR_fcntl, placeholder, F_DUPFD_CLOEXEC, 0);
	int64_t rc = here;

	if (here >= FORWARD_FDS_MAX)
		rc = -EMFILE;
	if (rc >= 0)
		forward_fd_room(turn, (uint64_t)here);
	if (rc >= 0 && raw != here) {
		rc = forward_turn_quick(turn, __NR_dup3, (uint64_t)raw, (uint64_t)here, 0, 0);
		forward_fd_release(turn, (uint64_t)raw, rc >= 0 && raw < here && !forward_threads());
	} else if (rc < 0) {
		forward_turn_quick(turn, __NR_close, (uint64_t)raw, 0, 0, 0);
	}
	if (rc < 0) {
		if (here < 0)
			return here;
		raw1(__NR_close, here);
		forward_trace_note(NULL, "the shadow may not have a descriptor of that number: its limit is lower than the guest's");
		return rc == -EBADF ? -EMFILE : rc;
	}
	forward_fd_set((uint64_t)here, (uint8_t)(FORWARD_FD_HOST | (cloexec ? FORWARD_FD_CLOEXEC : 0)));
	return here;
}
