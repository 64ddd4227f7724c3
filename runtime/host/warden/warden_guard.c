/* warden_guard.c - what the capsule may map, and the look from outside whether it has let go
 *
 * guard.h answers the capsule's mmap() calls by what authority.h says, gone.h looks at its mappings.  Here it is decided
 * when: the authority holds the map in force, and while a change is under way the coming one too.  The capsule of ours
 * never asks for anything else, so whoever does has taken it over, and the shadow ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "runtime/host/warden/warden_parts.h"

#define ANSWERS_A_TURN 64
#define KNOCK_MS 5000
#define SETTLE_MS 2000

int warden_guard_prepare(struct warden *w)
{
	const struct filter_want want = {.demand = w->who.mode == DS_AGENT_DEMAND,
					 .bells = !strcmp(w->who.service, "forward"),
					 .groups = w->rule->calls,
					 .descriptors = w->rule->descriptors,
					 .no_inet = !(w->rule->families & POLICY_INET),
					 .no_inet6 = !(w->rule->families & POLICY_INET6),
					 .unix_sockets = w->rule->families & POLICY_UNIX,
					 .net_limited = w->rule->net_limited,
					 .no_listen = w->rule->net_limited && !w->rule->bind.n,
					 .no_splice = w->rule->rate[POLICY_READ] || w->rule->rate[POLICY_WRITE]};
	int r = filter_first(&want, &w->first);

	if (!r)
		r = filter_second(&want, &w->second);
	return r ? r : authority_new(&w->authority);
}

void warden_guard_take(struct warden *w, const struct ds_shadow_status *status)
{
	struct guard_err err;
	int r;

	/* Since its exec it has the address space that it keeps; this is the first word it has said. */
	guard_init(&w->guard, w->pid, w->pidfd, w->authority);
	authority_set(w->authority, &w->change.coming.map);
	r = gone_open(&w->gone, w->pid, w->p->ram_fd);
	if (r)
		warden_end(w, DS_AGENT_C_HOST, "the capsule's mappings cannot be looked at: %s", strerrordesc_np(-r));
	else if (guard_take(&w->guard, status->guard_fd, &w->first, &w->second, KNOCK_MS, &err))
		warden_end(w, DS_AGENT_C_SHADOW, "the capsule cannot be guarded: %s%s%s", err.why, err.err ? ": " : "",
			   err.err ? strerrordesc_np(-err.err) : "");
}

bool warden_guard_seal(struct warden *w)
{
	struct guard_err err;

	if (!guard_sealed(&w->guard, &err))
		return true;
	warden_end(w, DS_AGENT_C_SHADOW, "the capsule cannot be guarded: %s", err.why);
	return false;
}

/* Whether a call has been refused: that ends the shadow. */
static bool refused(struct warden *w)
{
	w->view.guarded_calls = w->guard.passed + w->guard.refused;
	w->view.denied_calls = w->guard.refused;
	if (!w->guard.refused)
		return false;
	warden_end(w, DS_AGENT_C_GONE, "the shadow wanted to map what it may not have (0x%" PRIx64 ", %" PRIu64 " bytes): %s",
		   w->guard.last.call.address, w->guard.last.call.bytes, w->guard.last.why);
	return true;
}

void warden_guard_answer(struct warden *w)
{
	struct pollfd at = {.fd = w->guard.listener, .events = POLLIN};

	/* Nothing is received but what poll() has announced: to receive where there is nothing is to wait. */
	for (int i = 0; i < ANSWERS_A_TURN && !w->ended && poll(&at, 1, 0) == 1 && at.revents & POLLIN; i++) {
		const int r = guard_answer(&w->guard);

		if (r < 0)
			warden_end(w, DS_AGENT_C_HOST, "a call of the shadow cannot be answered: %s", strerrordesc_np(-r));
		refused(w);
	}
}

bool warden_guard_gone(struct warden *w, const struct ds_shadow_range *ranges, size_t n, bool except)
{
	struct gone_found found;
	int r;

	if (!n)
		return true;
	r = guard_settle(&w->guard, SETTLE_MS);
	if (!r && refused(w)) /* meanwhile it has answered calls */
		return false;
	if (r) {
		warden_end(w, DS_AGENT_C_GONE, "the shadow does not come to rest: %s", strerrordesc_np(-r));
		return false;
	}
	r = gone_check(&w->gone, ranges, n, except ? w->authority : NULL, &found);
	if (!r || r == -ESRCH)
		return true;
	if (r == -EEXIST)
		warden_end(w, DS_AGENT_C_GONE, "the shadow has not let go of page 0x%" PRIx64 " (RAM page %" PRIu64 ")",
			   found.vpn << DS_PAGE_SHIFT, found.pfn);
	else
		warden_end(w, DS_AGENT_C_HOST, "the shadow's mappings cannot be looked at: %s", strerrordesc_np(-r));
	return false;
}

void warden_guard_free(struct warden *w)
{
	if (!w->authority)
		return;
	guard_close(&w->guard);
	gone_close(&w->gone);
	authority_free(w->authority);
	w->authority = NULL;
}
