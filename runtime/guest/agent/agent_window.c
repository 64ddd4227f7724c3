/* agent_window.c - files of the host that the process maps: a shadow's part of it; runtime/wire/window.h tells the whole
 *
 * The child passes the question on and waits for the answer as for that of any change.  It remembers which pages of the process are the
 * window's, for the one moment in which that matters: the shadow ends and the process does not.  The host gives the pages of the
 * window to others when it has closed the stream, so before we close ours, memory without access is put in their place, by the
 * helper.  A process that keeps a descriptor of the window, or a copy of the mapping elsewhere, reaches them all the same: it is root's, or
 * dsagent was told that users need not be kept from each other (dsagent(8), --users-window).
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_shadow_impl.h"

#define HOST_MS 60000

/* Sends a MAP or UNMAP whose wait has begun.  Return: 0; -1: the shadow ends. */
static int send_it(struct agent_shadow *s, struct agent_wait *w, void *msg, size_t bytes, uint16_t kind)
{
	const int r = agent_send(s, msg, bytes, kind, w->seq, NULL, 0, NULL, 0);

	if (r)
		agent_wait_drop(s, w);
	return r;
}

void agent_window(struct agent_shadow *s, const struct ds_local_window *m)
{
	struct ds_local_windowed answer = {.pid = s->p->target->pid, .flags = m->flags};
	struct ds_agent_map ask = {.want = m->want};
	const struct ds_agent_range range = {m->want.vpn, m->want.npages};
	const uint32_t seq = m->head.seq; /* the message may be gone after the wait */
	const bool has_pages = ask.want.what != DS_WINDOW_SETTLED, is_new = has_pages && ask.want.what != DS_WINDOW_REACH;
	struct agent_refusal why = {0};
	struct agent_wait w;
	int r = 0;

	if (s->p->want->mode == DS_LOCAL_DEMAND && has_pages) /* the shadow may map it, too, in a mapping of the process */
		r = agent_ready(s, &range, &why);
	if (!r) {
		agent_wait_begin(s, &w, DS_AGENT_MAPPED);
		r = send_it(s, &w, &ask, sizeof(ask), DS_AGENT_MAP);
		r = r ? r : agent_await(s, &w, HOST_MS, &why);
	}
	if (r > 0)
		agent_tell_refused(s, DS_LOCAL_REFUSED, seq, &why);
	if (r)
		return;
	answer.got = ((const struct ds_agent_mapped *)w.msg)->got;
	if (!answer.got.err && is_new && agent_ranges_add(&s->windowed, ask.want.vpn, ask.want.npages)) {
		agent_end(s, DS_LOCAL_C_SYSTEM, "no memory");
		return;
	}
	agent_tell(s, &answer, sizeof(answer), DS_LOCAL_WINDOWED, seq);
}

/* The VMM's mapping goes; the shadow has one of its own only if it has touched these pages, which the host tells. */
void agent_unwindow(struct agent_shadow *s, const struct ds_local_unwindow *m)
{
	struct ds_agent_unmap ask = {.what = m->what};
	const struct ds_agent_range range = {m->what.vpn, m->what.npages};
	const uint32_t seq = m->head.seq;
	struct agent_refusal why;
	struct agent_wait w;
	int r;

	agent_wait_begin(s, &w, DS_AGENT_UNMAPPED);
	if (send_it(s, &w, &ask, sizeof(ask), DS_AGENT_UNMAP))
		return;
	r = agent_await(s, &w, HOST_MS, &why);
	if (r < 0 || (!r && ((const struct ds_agent_unmapped *)w.msg)->reached && agent_take_back(s, &range, 1)))
		return;
	if (agent_ranges_cut(&s->windowed, ask.what.vpn, ask.what.npages))
		agent_end(s, DS_LOCAL_C_SYSTEM, "no memory");
	else if (r > 0)
		agent_tell_refused(s, DS_LOCAL_REFUSED, seq, &why);
	else
		agent_tell_done(s, seq);
}

void agent_spoilt(const struct agent_shadow *s, const struct ds_agent_spoilt *m)
{
	uint64_t same;

	if (!agent_ranges_at(&s->windowed, m->vpn, &same))
		return; /* it is mapped no more */
	agent_log(LOG_DEBUG, "shadow %u of process %d: page %#llx of a file of the host is not there any more", s->p->id, s->p->target->pid,
		  (unsigned long long)m->vpn);
	syscall(SYS_pidfd_send_signal, s->p->target->pidfd, m->signal == SIGSEGV ? SIGSEGV : SIGBUS, NULL, 0);
}

void agent_window_end(struct agent_shadow *s)
{
	for (size_t i = 0; i < s->windowed.n; i++)
		agent_mem_hide(&s->mem, s->windowed.r[i].vpn, s->windowed.r[i].npages);
}
