/* poll.c - waiting for descriptors of both sides at once
 *
 * Theory of operation
 *
 * The host's part of the set is posted as a poll() of its own, in memory of ours, with the program's timeout; the guest's part is
 * polled here together with the bell.  Whichever is ready first ends the other: the host's poll is interrupted, and both
 * results are put together.  Readiness is a state and not an event, so nothing is lost by asking again.
 *
 * A signal mask for the time of the call (ppoll, pselect6) is applied here: signals are blocked while the host waits, and the
 * mask decides which of them end the waiting; their handlers then run under it, as the kernel has it.
 */
#include <errno.h>
#include <linux/time_types.h>
#include <signal.h>
#include <string.h>

#include "runtime/guest/forward/forward.h"
#include "runtime/guest/forward/spin.h"

#define TOGETHER_MAX (FORWARD_SCRATCH / sizeof(struct pollfd) - 2)
#define PART 32u
#define SELECT_MAX 1024u
#define EVICTED (-1000) /* no errno */
#define IN_SET (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define OUT_SET (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)

/* What is waited for.  The arrays are in the turn's scratch: the host's, then two entries for the turn, then the guest's. */
struct together {
	struct forward_turn turn;
	struct pollfd *host, *here;
	uint32_t nhost, nhere;
	int64_t deadline_ns; /* negative: none */
	uint64_t mask;	     /* the program's own, while turn.mask is that of the call */
	bool masked;
};

static void finish(struct together *t)
{
	if (t->masked && t->turn.told) { /* handlers run under the mask of the call */
		const uint64_t mask = t->mask;

		forward_turn_end(&t->turn);
		raw4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
	} else {
		if (t->masked)
			t->turn.mask = t->mask;
		forward_turn_end(&t->turn);
	}
}

/* @mask: the address of the call's, or 0. */
static int64_t begin(struct together *t, uint64_t mask, int64_t timeout_ns)
{
	uint64_t set = 0;
	int64_t rc;

	if (mask && intercept_fetch(&set, mask, sizeof(set)))
		return -EFAULT;
	rc = forward_turn_begin(&t->turn);
	if (rc)
		return rc;
	t->mask = t->turn.mask;
	t->masked = mask != 0;
	if (mask)
		t->turn.mask = set & ~SIGSYS_BIT;
	t->deadline_ns = timeout_ns < 0 ? -1 : forward_now_ns() + timeout_ns;
	t->nhost = t->nhere = 0;
	t->host = (struct pollfd *)t->turn.entry->scratch;
	t->here = NULL;
	return 0;
}

/* Return: EVICTED: to be begun again; how many are ready; 0: time is over; -EINTR; another error of the host. */
static int64_t wait_together(struct together *t)
{
	for (;;) {
		const int64_t left_ns = t->deadline_ns < 0 ? -1 : t->deadline_ns - forward_now_ns();
		const uint64_t ms = left_ns < 0 ? (t->deadline_ns < 0 ? (uint64_t)-1 : 0) : (uint64_t)(left_ns + 999999) / 1000000;
		const uint64_t arg[6] = {(uint64_t)t->host, t->nhost, ms};
		enum forward_event event = FORWARD_E_DONE;
		bool evicted;
		int64_t host, here = 0, ready = 0;

		t->turn.told = false;
		forward_turn_post(&t->turn, __NR_poll, arg);
		if (!forward_spin(t->turn.entry->slot, forward_settings.spin_ns))
			event = forward_turn_wait(&t->turn, t->here - 2, t->nhere + 2, t->nhere && ms ? t->deadline_ns : -1);
		if (event == FORWARD_E_DEAD)
			return forward_dead("the connection to its host has ended");
		host = forward_turn_finish(&t->turn);
		forward_spin_learn(t->turn.entry->slot, forward_settings.spin_ns);
		t->turn.told = event == FORWARD_E_SIGNAL || event == FORWARD_E_READY || event == FORWARD_E_TIME;
		if (host < 0 && host != -EINTR)
			return host;
		evicted = forward_turn_evicted(&t->turn, host);
		if (t->nhere)
			here = raw3(__NR_poll, t->here, t->nhere, 0);
		for (uint32_t i = 0; i < t->nhost; i++) {
			if (host <= 0)
				t->host[i].revents = 0;
			ready += t->host[i].revents != 0;
		}
		ready += here > 0 ? here : 0;
		t->turn.told = event == FORWARD_E_SIGNAL;
		if (ready)
			return ready;
		if (event == FORWARD_E_SIGNAL)
			return -EINTR;
		if (t->deadline_ns >= 0 && forward_now_ns() >= t->deadline_ns)
			return 0;
		if (evicted)
			return EVICTED;
	}
}

/* --- timeouts: a timespec, a timeval or milliseconds --------------------------------------------------------------------------- */

static int64_t timeout_of(uint64_t at, int64_t unit_ns, int64_t *ns)
{
	struct __kernel_timespec ts;

	*ns = -1;
	if (!at)
		return 0;
	if (intercept_fetch(&ts, at, sizeof(ts)))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec * unit_ns >= NS_PER_SEC)
		return -EINVAL;
	*ns = ts.tv_sec > INT64_MAX / NS_PER_SEC / 4 ? -1 : ts.tv_sec * NS_PER_SEC + ts.tv_nsec * unit_ns;
	return 0;
}

/* The kernel leaves what is left of it there. */
static void leave_rest(uint64_t at, int64_t unit_ns, int64_t deadline_ns)
{
	const int64_t now = forward_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
	const struct __kernel_timespec ts = {left / NS_PER_SEC, left % NS_PER_SEC / unit_ns};

	if (at && deadline_ns >= 0)
		intercept_store(at, &ts, sizeof(ts));
}

/* What is left of a timeout. */
static int64_t left_of(int64_t timeout_ns, int64_t deadline_ns)
{
	const int64_t left = deadline_ns - forward_now_ns();

	return timeout_ns < 0 ? -1 : left > 0 ? left : 0;
}

/* --- poll -------------------------------------------------------------------------------------------------------------------------- */

/* Whether any of them is the host's.  Return: -EFAULT too. */
static int any_host(uint64_t fds, uint64_t n)
{
	struct pollfd part[PART];

	for (uint64_t at = 0; at < n; at += PART) {
		const uint64_t count = n - at < PART ? n - at : PART;

		if (intercept_fetch(part, fds + at * sizeof(*part), count * sizeof(*part)))
			return -EFAULT;
		for (uint64_t i = 0; i < count; i++)
			if (part[i].fd >= 0 && forward_fd_host((uint64_t)part[i].fd))
				return 1;
	}
	return 0;
}

/* Puts the program's entries into the two arrays, or the results back into its own (@back). */
static int64_t sort(struct together *t, uint64_t fds, uint64_t n, bool back)
{
	uint32_t host = 0, here = 0;
	struct pollfd part[PART];

	for (uint64_t at = 0; at < n; at += PART) {
		const uint64_t count = n - at < PART ? n - at : PART, where = fds + at * sizeof(*part);

		if (intercept_fetch(part, where, count * sizeof(*part)))
			return -EFAULT;
		for (uint64_t i = 0; i < count; i++) {
			part[i].revents = 0;
			if (back) {
				if (host < t->nhost && t->host[host].fd == part[i].fd)
					part[i].revents = t->host[host++].revents;
				else if (here < t->nhere && t->here[here].fd == part[i].fd)
					part[i].revents = t->here[here++].revents;
			} else if (part[i].fd >= 0 && forward_fd_host((uint64_t)part[i].fd)) {
				t->host[t->nhost++] = part[i];
			} else if (t->here && part[i].fd >= 0) {
				t->here[t->nhere++] = part[i];
			}
		}
		if (back && intercept_store(where, part, count * sizeof(*part)))
			return -EFAULT;
	}
	return 0;
}

static int64_t do_poll(uint64_t fds, uint64_t n, int64_t timeout_ns, uint64_t mask, int64_t *deadline_ns)
{
	struct together t;
	int64_t rc;

	if (n > TOGETHER_MAX)
		return -ENOMEM;
	rc = begin(&t, mask, timeout_ns);
	if (rc)
		return rc;
	rc = sort(&t, fds, n, false); /* to know where the guest's begin */
	if (!rc) {
		t.here = t.host + t.nhost + 2;
		t.nhost = 0;
		rc = sort(&t, fds, n, false);
	}
	if (!rc)
		rc = wait_together(&t);
	*deadline_ns = t.deadline_ns;
	if (rc >= 0 && sort(&t, fds, n, true))
		rc = -EFAULT;
	finish(&t);
	return rc;
}

static int64_t poll_again(const struct intercept_call *call, int64_t timeout_ns, uint64_t mask, int64_t *deadline_ns)
{
	uint32_t evictions = 0;
	int64_t rc;

	while ((rc = do_poll(call->arg[0], call->arg[1], timeout_ns, mask, deadline_ns)) == EVICTED) {
		forward_turn_pause(&evictions);
		timeout_ns = left_of(timeout_ns, *deadline_ns);
	}
	return rc;
}

/* --- select ------------------------------------------------------------------------------------------------------------------------ */

struct sets {
	uint64_t set[3][SELECT_MAX / 64]; /* in, out, exceptional */
};

static bool has(const struct sets *s, int which, uint32_t fd)
{
	return s->set[which][fd / 64] >> (fd % 64) & 1;
}

static int64_t fetch_sets(struct sets *s, const struct intercept_call *call, uint32_t n, bool *host)
{
	memset(s, 0, sizeof(*s));
	*host = false;
	for (int i = 0; i < 3; i++)
		if (call->arg[1 + i] && intercept_fetch(s->set[i], call->arg[1 + i], (n + 63) / 64 * 8))
			return -EFAULT;
	for (uint32_t fd = 0; fd < n && !*host; fd++)
		*host = forward_fd_host(fd) && (has(s, 0, fd) || has(s, 1, fd) || has(s, 2, fd));
	return 0;
}

static void fill_from_sets(struct together *t, const struct sets *s, uint32_t n, bool host)
{
	for (uint32_t fd = 0; fd < n; fd++) {
		const short events = (short)((has(s, 0, fd) ? POLLIN : 0) | (has(s, 1, fd) ? POLLOUT : 0) | (has(s, 2, fd) ? POLLPRI : 0));

		if (!events || forward_fd_host(fd) != host)
			continue;
		if (host)
			t->host[t->nhost++] = (struct pollfd){.fd = (int)fd, .events = events};
		else
			t->here[t->nhere++] = (struct pollfd){.fd = (int)fd, .events = events};
	}
}

/* Return: how many bits, or -EBADF. */
static int64_t to_sets(struct sets *out, const struct sets *in, const struct pollfd *fds, uint32_t n)
{
	static const short means[3] = {IN_SET, OUT_SET, POLLPRI};
	int64_t bits = 0;

	for (uint32_t k = 0; k < n; k++) {
		const uint32_t fd = (uint32_t)fds[k].fd;

		if (fds[k].revents & POLLNVAL)
			return -EBADF;
		for (int i = 0; i < 3; i++)
			if (has(in, i, fd) && fds[k].revents & means[i]) {
				out->set[i][fd / 64] |= UINT64_C(1) << (fd % 64);
				bits++;
			}
	}
	return bits;
}

static int64_t do_select(const struct intercept_call *call, uint32_t n, const struct sets *in, int64_t timeout_ns, uint64_t mask,
			 int64_t *deadline_ns)
{
	struct sets out = {0};
	struct together t;
	int64_t rc = begin(&t, mask, timeout_ns), here = 0;

	if (rc)
		return rc;
	fill_from_sets(&t, in, n, true);
	t.here = t.host + t.nhost + 2;
	fill_from_sets(&t, in, n, false);
	rc = wait_together(&t);
	*deadline_ns = t.deadline_ns;
	if (rc >= 0) {
		rc = to_sets(&out, in, t.host, t.nhost);
		here = to_sets(&out, in, t.here, t.nhere);
		rc = rc < 0 ? rc : here < 0 ? here : rc + here;
	}
	for (int i = 0; i < 3 && rc >= 0; i++)
		if (call->arg[1 + i] && intercept_store(call->arg[1 + i], out.set[i], (n + 63) / 64 * 8))
			rc = -EFAULT;
	finish(&t);
	return rc;
}

static bool select_call(struct intercept_call *call, int64_t *result)
{
	const bool fine = call->nr == __NR_pselect6;
	const uint32_t n = (uint32_t)call->arg[0];
	int64_t timeout_ns, deadline_ns = -1;
	uint32_t evictions = 0;
	uint64_t pack[2] = {0, 0};
	struct sets in;
	bool host;

	if ((int32_t)n < 0 || n > SELECT_MAX)
		return false;
	*result = fetch_sets(&in, call, n, &host);
	if (*result || !host)
		return *result != 0;
	*result = timeout_of(call->arg[4], fine ? 1 : 1000, &timeout_ns);
	if (!*result && fine && call->arg[5] && intercept_fetch(pack, call->arg[5], sizeof(pack)))
		*result = -EFAULT;
	if (*result)
		return true;
	while ((*result = do_select(call, n, &in, timeout_ns, pack[0], &deadline_ns)) == EVICTED) {
		forward_turn_pause(&evictions);
		timeout_ns = left_of(timeout_ns, deadline_ns);
	}
	leave_rest(call->arg[4], fine ? 1 : 1000, deadline_ns);
	return true;
}

bool forward_poll_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	int64_t timeout_ns, deadline_ns = -1;
	int any;

	if (!forward_fds_any())
		return false;
	if (rule->b == FORWARD_S_SELECT)
		return select_call(call, result);
	any = any_host(call->arg[0], call->arg[1]);
	if (any <= 0) {
		*result = any;
		return any < 0;
	}
	if (call->nr == __NR_poll) {
		timeout_ns = (int32_t)call->arg[2] < 0 ? -1 : (int64_t)(int32_t)call->arg[2] * 1000000;
		*result = poll_again(call, timeout_ns, 0, &deadline_ns);
		return true;
	}
	*result = timeout_of(call->arg[2], 1, &timeout_ns);
	if (!*result) {
		*result = poll_again(call, timeout_ns, call->arg[3], &deadline_ns);
		leave_rest(call->arg[2], 1, deadline_ns);
	}
	return true;
}
