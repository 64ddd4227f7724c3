/* epoll.c - epoll descriptors with descriptors of both sides in them
 *
 * An epoll descriptor of the program is the guest's.  When one of the host's descriptors is put into it, it gets a companion on
 * the host, which holds those.  epoll_wait() waits for both: the companion's events by a posted epoll_wait(), the guest's by
 * polling the epoll descriptor itself beside the bell.  Events that either side has reported are always delivered,
 * since asking again would not report an edge twice.
 *
 * A copy (dup) of such a descriptor has no companion, and neither has one that is put into another epoll descriptor or polled.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "runtime/guest/forward/forward.h"

#define EVICTED (-1000) /* no errno: to be begun again */
#define PAIRS 64u
#define EVENTS_MAX ((FORWARD_SCRATCH - 64) / sizeof(struct epoll_event))

static struct {
	uint32_t epfd; /* plus one; 0: free */
	int32_t host;
} pairs[PAIRS];

static int32_t companion(uint64_t epfd)
{
	for (uint32_t i = 0; i < PAIRS; i++)
		if (__atomic_load_n(&pairs[i].epfd, __ATOMIC_ACQUIRE) == (uint32_t)epfd + 1)
			return pairs[i].host;
	return -1;
}

static int64_t make_companion(struct forward_turn *turn, uint64_t epfd)
{
	int64_t fd;

	for (uint32_t i = 0; i < PAIRS; i++) {
		if (pairs[i].epfd)
			continue;
		fd = forward_turn_quick(turn, __NR_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0);
		if (fd < 0)
			return fd;
		pairs[i].host = (int32_t)fd; /* above all numbers of the program's (fds.c) */
		__atomic_store_n(&pairs[i].epfd, (uint32_t)epfd + 1, __ATOMIC_RELEASE);
		forward_fd_set(epfd, FORWARD_FD_EPOLL);
		return pairs[i].host;
	}
	return -ENOMEM;
}

bool forward_epoll_holds(uint32_t raw)
{
	for (uint32_t i = 0; i < PAIRS; i++)
		if (__atomic_load_n(&pairs[i].epfd, __ATOMIC_ACQUIRE) && pairs[i].host == (int32_t)raw)
			return true;
	return false;
}

void forward_epoll_closed(uint64_t fd)
{
	for (uint32_t i = 0; i < PAIRS; i++)
		if (pairs[i].epfd == (uint32_t)fd + 1) {
			__atomic_store_n(&pairs[i].epfd, 0, __ATOMIC_RELEASE);
			forward_quick(__NR_close, (uint64_t)pairs[i].host, 0, 0, 0);
		}
	forward_fd_set(fd, 0);
}

static int64_t control(const struct intercept_call *call)
{
	struct forward_turn turn;
	int64_t rc, host;

	if (raw2(__NR_fcntl, call->arg[0], F_GETFD) < 0)
		return -EBADF;
	forward_memory_ready(call->nr, call->arg, false);
	rc = forward_turn_begin(&turn);
	if (rc)
		return rc;
	host = companion(call->arg[0]);
	if (host < 0)
		host = call->arg[1] == EPOLL_CTL_ADD ? make_companion(&turn, call->arg[0]) : -ENOENT;
	rc = host < 0 ? host : forward_turn_quick(&turn, __NR_epoll_ctl, (uint64_t)host, call->arg[1], call->arg[2], call->arg[3]);
	forward_turn_end(&turn);
	return rc;
}

static int64_t timeout_of(const struct intercept_call *call, int64_t *ns)
{
	struct __kernel_timespec ts;

	if (call->nr != __NR_epoll_pwait2) {
		*ns = (int32_t)call->arg[3] < 0 ? -1 : (int64_t)(int32_t)call->arg[3] * 1000000;
		return 0;
	}
	*ns = -1;
	if (!call->arg[3])
		return 0;
	if (intercept_fetch(&ts, call->arg[3], sizeof(ts)))
		return -EFAULT;
	*ns = ts.tv_sec > INT64_MAX / NS_PER_SEC / 4 ? -1 : ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
	return 0;
}

/* Return: events of both sides, 0: time is over; -errno. */
static int64_t wait_both(struct forward_turn *turn, const struct intercept_call *call, uint64_t host_epfd, int64_t deadline_ns)
{
	struct epoll_event *events = (struct epoll_event *)turn->entry->scratch;
	struct pollfd *fds = (struct pollfd *)(turn->entry->scratch + (FORWARD_SCRATCH - 64));
	const uint64_t max = call->arg[2] < EVENTS_MAX ? call->arg[2] : EVENTS_MAX;

	for (;;) {
		const int64_t left_ns = deadline_ns < 0 ? -1 : deadline_ns - forward_now_ns();
		const uint64_t ms = deadline_ns < 0 ? (uint64_t)-1 : left_ns <= 0 ? 0 : (uint64_t)(left_ns + 999999) / 1000000;
		const uint64_t arg[6] = {host_epfd, (uint64_t)events, max, ms};
		enum forward_event event;
		bool evicted;
		int64_t host, here = 0;

		turn->told = false;
		forward_turn_post(turn, __NR_epoll_wait, arg);
		fds[2] = (struct pollfd){.fd = (int32_t)call->arg[0], .events = POLLIN};
		event = forward_turn_wait(turn, fds, 3, ms ? deadline_ns : -1);
		if (event == FORWARD_E_DEAD)
			return forward_dead("the connection to its host has ended");
		host = forward_turn_finish(turn);
		turn->told = event != FORWARD_E_DONE;
		if (host < 0 && host != -EINTR)
			return host;
		evicted = forward_turn_evicted(turn, host);
		turn->told = event == FORWARD_E_SIGNAL;
		host = host < 0 ? 0 : host;
		if (host && intercept_store(call->arg[1], events, (uint64_t)host * sizeof(*events)))
			return -EFAULT;
		if ((uint64_t)host < call->arg[2])
			here = raw4(__NR_epoll_wait, call->arg[0], call->arg[1] + (uint64_t)host * sizeof(*events), call->arg[2] - (uint64_t)host, 0);
		if (host || here > 0)
			return host + (here > 0 ? here : 0);
		if (here < 0)
			return here;
		if (event == FORWARD_E_SIGNAL)
			return -EINTR;
		if (deadline_ns >= 0 && forward_now_ns() >= deadline_ns)
			return 0;
		if (evicted)
			return EVICTED;
	}
}

static int64_t wait_once(const struct intercept_call *call, uint64_t host_epfd, int64_t deadline_ns)
{
	const uint64_t mask_at = call->nr == __NR_epoll_wait ? 0 : call->arg[4];
	struct forward_turn turn;
	uint64_t mask = 0, own;
	int64_t rc = 0;

	if (mask_at && intercept_fetch(&mask, mask_at, sizeof(mask)))
		rc = -EFAULT;
	if (!rc)
		rc = forward_turn_begin(&turn);
	if (rc)
		return rc;
	own = turn.mask;
	if (mask_at)
		turn.mask = mask & ~SIGSYS_BIT;
	rc = wait_both(&turn, call, host_epfd, deadline_ns);
	if (mask_at && !turn.told)
		turn.mask = own;
	forward_turn_end(&turn);
	if (mask_at && turn.told) /* handlers have run under the mask of the call */
		raw4(__NR_rt_sigprocmask, SIG_SETMASK, &own, 0, 8);
	return rc;
}

static int64_t wait(const struct intercept_call *call, uint64_t host_epfd)
{
	int64_t rc, timeout_ns, deadline_ns;
	uint32_t evictions = 0;

	if ((int32_t)call->arg[2] <= 0)
		return -EINVAL;
	rc = timeout_of(call, &timeout_ns);
	if (rc)
		return rc;
	deadline_ns = timeout_ns < 0 ? -1 : forward_now_ns() + timeout_ns;
	while ((rc = wait_once(call, host_epfd, deadline_ns)) == EVICTED)
		forward_turn_pause(&evictions);
	return rc;
}

bool forward_epoll_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	const bool paired = (uint32_t)call->arg[0] < FORWARD_FDS_MAX && forward_fd_state[(uint32_t)call->arg[0]] & FORWARD_FD_EPOLL;

	if (rule->b == FORWARD_S_EPOLL_CTL) {
		if (!forward_fd_host(call->arg[2]))
			return false;
		*result = control(call);
		return true;
	}
	if (!paired)
		return false;
	*result = wait(call, (uint64_t)companion(call->arg[0]));
	return true;
}
