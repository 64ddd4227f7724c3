/* epoll.c - epoll descriptors with descriptors of both sides in them
 *
 * Theory of operation
 *
 * An epoll descriptor of the program is the guest's.  When one of the host's descriptors is put into it, it gets a companion on
 * the host, which holds those.  epoll_wait() waits for both: the companion's events by a posted epoll_wait(), the guest's by
 * polling the epoll descriptor itself beside the bell.  Events that either side has reported are always delivered,
 * since asking again would not report an edge twice.
 *
 * While the program has one thread, changes are noted (interest.h), and a wait for levels is a posted poll() of what is noted: the companion
 * need not hear of changes at all.  A wait for edges settles them first, and so does one with room for fewer events than are waited for:
 * some drivers tell once (proc(5), mounts; NVIDIA's events), and what poll() has been told and there is no room for would be lost.  With a second thread, which may wait while another one
 * changes something, all is settled once, and from then on each change is made on the host at once.
 *
 * A forked child has no companion of its parent's.  What was noted is added to one of its own when that is needed; of what was not
 * (direct) nothing is left.
 *
 * A copy (dup) of such a descriptor has no companion, and neither has one that is put into another epoll descriptor or polled.
 * A descriptor of the host that is closed is no longer polled, even if there is a copy of it; a companion would go on reporting it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "runtime/guest/forward/forward.h"
#include "runtime/guest/forward/interest.h"
#include "runtime/guest/forward/spin.h"

#define EVICTED (-1000) /* no errno: to be begun again */
#define PAIRS 64u
#define EVENTS_MAX ((FORWARD_SCRATCH - 64) / sizeof(struct epoll_event))
_Static_assert(INTERESTS_MAX * sizeof(struct pollfd) <= FORWARD_SCRATCH - 64, "all can be polled");

static struct pair {
	uint32_t epfd; /* plus one; 0: free */
	int32_t host;  /* the companion; negative: none (yet) */
	int32_t pid;   /* whose that is */
	uint32_t settling;
	struct interests want;
} pairs[PAIRS];

bool forward_epoll_paired(uint64_t epfd)
{
	return (uint32_t)epfd < FORWARD_FDS_MAX && forward_fd_state[(uint32_t)epfd] & FORWARD_FD_EPOLL;
}

static void inherit(struct pair *p)
{
	p->pid = forward_live->pid;
	p->host = -1;
	p->settling = 0;
	interest_nowhere(&p->want);
	for (uint32_t i = 0; i < p->want.n;) /* what has been closed without a shadow */
		if (forward_fd_host(p->want.of[i].fd))
			i++;
		else
			interest_gone(&p->want, p->want.of[i].fd);
}

static struct pair *pair_of(uint64_t epfd)
{
	for (uint32_t i = 0; i < PAIRS; i++) {
		struct pair *p = &pairs[i];

		if (__atomic_load_n(&p->epfd, __ATOMIC_ACQUIRE) != (uint32_t)epfd + 1)
			continue;
		if (!forward_epoll_paired(epfd)) { /* closed by a child that had no shadow yet */
			__atomic_store_n(&p->epfd, 0, __ATOMIC_RELEASE);
			continue;
		}
		if (p->pid != forward_live->pid && !p->want.direct)
			inherit(p);
		return p;
	}
	return NULL;
}

static struct pair *make_pair(uint64_t epfd)
{
	for (uint32_t i = 0; i < PAIRS; i++) {
		struct pair *p = &pairs[i];

		if (p->epfd)
			continue;
		p->host = -1;
		p->pid = forward_live->pid;
		p->settling = 0;
		p->want.n = p->want.first = 0;
		p->want.direct = false;
		__atomic_store_n(&p->epfd, (uint32_t)epfd + 1, __ATOMIC_RELEASE);
		forward_fd_set(epfd, FORWARD_FD_EPOLL);
		return p;
	}
	return NULL;
}

/* The companion: a number above all of the program's (fds.c), or -errno. */
static int64_t companion(struct forward_turn *turn, struct pair *p)
{
	if (p->host < 0) {
		const int64_t fd = forward_turn_quick(turn, __NR_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0);

		if (fd < 0)
			return fd;
		p->host = (int32_t)fd;
	}
	return p->host;
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
	struct pair *p;

	while ((p = pair_of(fd))) {
		const int32_t host = p->host;

		__atomic_store_n(&p->epfd, 0, __ATOMIC_RELEASE);
		if (host >= 0)
			forward_quick(__NR_close, (uint64_t)host, 0, 0, 0);
	}
	forward_fd_set(fd, 0);
}

/* @event: NULL for none. */
static int64_t tell(struct forward_turn *turn, struct pair *p, uint64_t op, uint32_t fd, const struct epoll_event *event)
{
	const int64_t host = companion(turn, p);

	if (host < 0)
		return host;
	if (event)
		memcpy(turn->entry->scratch, event, sizeof(*event));
	return forward_turn_quick(turn, __NR_epoll_ctl, (uint64_t)host, op, fd, event ? (uint64_t)turn->entry->scratch : 0);
}

static void settle(struct forward_turn *turn, struct pair *p)
{
	struct interest *one;
	uint32_t at = 0;
	uint64_t op;

	while ((one = interest_unsettled(&p->want, &at, &op))) {
		const struct epoll_event event = {.events = one->events, .data.u64 = one->data};

		/* What it refuses now (a limit) has been taken already, and cannot be told: it is never ready. */
		tell(turn, p, op, one->fd, op == EPOLL_CTL_DEL ? NULL : &event);
		interest_settled(&p->want, one, &at);
	}
}

/* From now on each change is made at once.  Of several threads that come here one settles, and the others wait for that. */
static void go_direct(struct forward_turn *turn, struct pair *p)
{
	uint32_t turns = 0;

	if (__atomic_load_n(&p->want.direct, __ATOMIC_ACQUIRE))
		return;
	if (!__atomic_exchange_n(&p->settling, 1, __ATOMIC_ACQUIRE)) {
		settle(turn, p);
		__atomic_store_n(&p->want.direct, true, __ATOMIC_RELEASE);
	}
	while (!__atomic_load_n(&p->want.direct, __ATOMIC_ACQUIRE))
		forward_yield(&turns);
}

void forward_epoll_left(uint64_t fd)
{
	for (uint32_t i = 0; i < PAIRS; i++) {
		struct pair *p = pairs[i].epfd ? pair_of(pairs[i].epfd - 1) : NULL;

		if (p && !p->want.direct && interest_gone(&p->want, (uint32_t)fd))
			forward_quick(__NR_epoll_ctl, (uint64_t)p->host, EPOLL_CTL_DEL, fd, 0);
	}
}

static int64_t control(const struct intercept_call *call)
{
	const uint64_t op = (uint32_t)call->arg[1];
	const uint32_t fd = (uint32_t)call->arg[2];
	struct pair *p = pair_of(call->arg[0]);
	struct epoll_event event = {0};
	struct forward_turn turn;
	int64_t rc;

	if (op != EPOLL_CTL_DEL && intercept_fetch(&event, call->arg[3], sizeof(event)))
		return -EFAULT;
	if (p && !forward_threads()) {
		rc = interest_change(&p->want, op, fd, &event);
		if (rc != INTEREST_ASK)
			return rc;
	}
	if (!p && raw2(__NR_fcntl, call->arg[0], F_GETFD) < 0)
		return -EBADF;
	if (!p && op != EPOLL_CTL_ADD)
		return -ENOENT;
	rc = forward_turn_begin(&turn);
	if (rc)
		return rc;
	if (!p)
		p = make_pair(call->arg[0]);
	if (p && (forward_threads() || op != EPOLL_CTL_ADD)) /* something that is not noted: all is the host's then */
		go_direct(&turn, p);
	rc = !p ? -ENOMEM : tell(&turn, p, op, fd, op == EPOLL_CTL_DEL ? NULL : &event);
	if (!rc && op == EPOLL_CTL_ADD && !p->want.direct && !interest_added(&p->want, fd, &event))
		go_direct(&turn, p);
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

/* What is posted, and where its result lies. */
struct posted {
	uint64_t nr, arg[6];
	struct pollfd *fds; /* NULL: it is epoll_wait() */
};

/* Return: how many of the host's; 0; -errno. */
static int64_t post(struct forward_turn *turn, struct pair *p, uint64_t max, uint64_t ms, struct posted *posted)
{
	char *scratch = turn->entry->scratch;
	int64_t host;
	int n = -1;

	if (forward_threads())
		go_direct(turn, p);
	if (!p->want.direct)
		n = interest_poll(&p->want, (struct pollfd *)scratch);
	if (n > (int64_t)max)
		n = -1;
	if (n >= 0) {
		*posted = (struct posted){.nr = __NR_poll, .arg = {(uint64_t)scratch, (uint64_t)n, ms}, .fds = (struct pollfd *)scratch};
	} else {
		if (!p->want.direct)
			settle(turn, p);
		host = companion(turn, p);
		if (host < 0)
			return host;
		*posted = (struct posted){.nr = __NR_epoll_wait, .arg = {(uint64_t)host, (uint64_t)scratch, max < EVENTS_MAX ? max : EVENTS_MAX, ms}};
	}
	forward_turn_post(turn, posted->nr, posted->arg);
	return 0;
}

/* Gives the program what the host has reported.  Return: how many. */
static int64_t deliver(struct forward_turn *turn, struct pair *p, const struct posted *posted, int64_t host, const struct intercept_call *call)
{
	struct epoll_event found[INTERESTS_MAX];
	const void *from = turn->entry->scratch;
	uint64_t n = (uint64_t)host;

	if (posted->fds) {
		n = interest_events(&p->want, posted->fds, (uint32_t)posted->arg[1], found, call->arg[2] < INTERESTS_MAX ? (uint32_t)call->arg[2] : INTERESTS_MAX);
		from = found;
	}
	return n && intercept_store(call->arg[1], from, n * sizeof(*found)) ? -EFAULT : (int64_t)n;
}

/* Return: events of both sides, 0: time is over; -errno. */
static int64_t wait_both(struct forward_turn *turn, const struct intercept_call *call, struct pair *p, int64_t deadline_ns)
{
	struct pollfd *fds = (struct pollfd *)(turn->entry->scratch + (FORWARD_SCRATCH - 64));

	for (;;) {
		const int64_t left_ns = deadline_ns < 0 ? -1 : deadline_ns - forward_now_ns();
		const uint64_t ms = deadline_ns < 0 ? (uint64_t)-1 : left_ns <= 0 ? 0 : (uint64_t)(left_ns + 999999) / 1000000;
		enum forward_event event = FORWARD_E_DONE;
		struct posted posted;
		bool evicted;
		int64_t host, here = 0;

		turn->told = false;
		host = post(turn, p, call->arg[2], ms, &posted);
		if (host)
			return host;
		fds[2] = (struct pollfd){.fd = (int32_t)call->arg[0], .events = POLLIN};
		if (!forward_spin(turn->entry->slot, forward_settings.spin_ns))
			event = forward_turn_wait(turn, fds, 3, ms ? deadline_ns : -1);
		if (event == FORWARD_E_DEAD)
			return forward_dead("the connection to its host has ended");
		host = forward_turn_finish(turn);
		forward_spin_learn(turn->entry->slot, forward_settings.spin_ns);
		turn->told = event != FORWARD_E_DONE;
		if (host < 0 && host != -EINTR)
			return host;
		evicted = forward_turn_evicted(turn, host);
		turn->told = event == FORWARD_E_SIGNAL;
		host = host < 0 ? 0 : host;
		if (host)
			host = deliver(turn, p, &posted, host, call);
		if (host < 0)
			return host;
		if ((uint64_t)host < call->arg[2])
			here = raw4(__NR_epoll_wait, call->arg[0], call->arg[1] + (uint64_t)host * sizeof(struct epoll_event), call->arg[2] - (uint64_t)host, 0);
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

static int64_t wait_once(const struct intercept_call *call, struct pair *p, int64_t deadline_ns)
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
	rc = wait_both(&turn, call, p, deadline_ns);
	if (mask_at && !turn.told)
		turn.mask = own;
	forward_turn_end(&turn);
	if (mask_at && turn.told) /* handlers have run under the mask of the call */
		raw4(__NR_rt_sigprocmask, SIG_SETMASK, &own, 0, 8);
	return rc;
}

static int64_t wait(const struct intercept_call *call, struct pair *p)
{
	int64_t rc, timeout_ns, deadline_ns;
	uint32_t evictions = 0;

	if ((int32_t)call->arg[2] <= 0)
		return -EINVAL;
	rc = timeout_of(call, &timeout_ns);
	if (rc)
		return rc;
	deadline_ns = timeout_ns < 0 ? -1 : forward_now_ns() + timeout_ns;
	while ((rc = wait_once(call, p, deadline_ns)) == EVICTED)
		forward_turn_pause(&evictions);
	return rc;
}

/* Whether any descriptor of the host may be waited for. */
static bool waits_for_host(struct pair *p)
{
	struct pollfd fds[INTERESTS_MAX];

	return p && (p->want.direct || interest_poll(&p->want, fds) != 0);
}

bool forward_epoll_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	struct pair *p;

	if (rule->b == FORWARD_S_EPOLL_CTL) {
		if (!forward_fd_host(call->arg[2]))
			return false;
		*result = control(call);
		return true;
	}
	p = forward_epoll_paired(call->arg[0]) ? pair_of(call->arg[0]) : NULL;
	if (!waits_for_host(p))
		return false;
	*result = wait(call, p);
	return true;
}
