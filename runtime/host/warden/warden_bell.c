/* warden_bell.c - bells: which executor makes the calls of which thread of the guest's process
 *
 * A bell comes from the VM process, which has seen the token of this shadow (bells.h), and goes to the first executor that is
 * free.  What passes on it is between the guest's thread and the executor: nothing is read here, and a ring wakes nobody here.
 * The descriptor is kept all the same, to see its end: an epoll set that waits for EPOLLRDHUP alone.
 *
 * An executor with a bell counts as one with a call under way, which its reports answer; the last of them frees it.  Its guest
 * thread may be gone while it is blocked in a call: then it is interrupted, again and again, as an interrupt that comes just
 * before the call is lost, until it says that it is free.
 *
 * Limits: executors of the rule; one bell more is closed, and the guest sees that.  What is told of calls is the capsule's word.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/bells.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/reasons.h"
#include "runtime/host/shadows.h"
#include "runtime/host/warden/warden_parts.h"

#define READS_A_TURN 64
#define EVENTS_A_TURN 64
#define AGAIN_MS 100

int warden_bell_prepare(struct warden *w)
{
	if (w->p->bells_fd <= 0)
		return 0;
	w->bells_fd = w->p->bells_fd;
	w->bell_ends_fd = epoll_create1(EPOLL_CLOEXEC);
	return w->bell_ends_fd < 0 ? -errno : 0;
}

/* --- to the capsule ---------------------------------------------------------------------------------------------------- */

static uint32_t free_executor(const struct warden *w)
{
	uint32_t i = 0;

	while (i < w->rule->executors && w->call[i].under_way)
		i++;
	return i;
}

/* Return: whether the executor has it. */
static bool give(struct warden *w, uint32_t i, const struct bells_message *m, int fd)
{
	struct ds_shadow_fd msg = {.head = warden_capsule_head(w, DS_SHADOW_FD, sizeof(msg)),
				   .executor = i,
				   .spin_ns = m->spin_ns,
				   .slot = m->slot};
	struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u32 = i};

	if (epoll_ctl(w->bell_ends_fd, EPOLL_CTL_ADD, fd, &ev))
		return false;
	if (warden_capsule_send(w, &msg, sizeof(msg), &fd, 1)) {
		epoll_ctl(w->bell_ends_fd, EPOLL_CTL_DEL, fd, NULL);
		return false;
	}
	w->call[i] = (struct warden_call){.under_way = true, .capsule_seq = msg.head.seq};
	w->bell[i] = (struct warden_bell){.live = true, .fd = fd, .id = m->id};
	w->view.bells++;
	return true;
}

/* It may be lost where the channel is full: who waits for it asks again. */
static void interrupt(struct warden *w, uint32_t i)
{
	struct ds_shadow_interrupt msg = {.head = warden_capsule_head(w, DS_SHADOW_INTERRUPT, sizeof(msg)), .executor = i};

	warden_pace_interrupt(w);
	if (!w->ctl_full)
		warden_capsule_send(w, &msg, sizeof(msg), NULL, 0);
}

/* --- from the VM process ----------------------------------------------------------------------------------------------- */

static void take(struct warden *w, const struct bells_message *m, int *fd)
{
	uint32_t i;

	switch (m->what) {
	case BELLS_NEW:
		i = w->state == WARDEN_RUN && !w->ctl_full && *fd >= 0 ? free_executor(w) : w->rule ? w->rule->executors : 0;
		if (w->rule && i < w->rule->executors && give(w, i, m, *fd))
			*fd = -1;
		else
			w->view.refused_bells++;
		return;
	case BELLS_INTERRUPT:
		for (i = 0; i < DS_SHADOW_EXECUTORS_MAX; i++) {
			if (!w->bell[i].live || w->bell[i].ended || w->bell[i].id != m->id)
				continue;
			w->view.interrupts++;
			interrupt(w, i);
		}
		return;
	default:
		return;
	}
}

void warden_bell_read(struct warden *w)
{
	for (int i = 0; i < READS_A_TURN && !w->ended; i++) {
		union {
			struct bells_message bell;
			struct estate_order order;
		} m;
		int fds[SHADOWS_TELL_FDS];
		unsigned int nfds;
		const int64_t n = estate_receive(w->bells_fd, &m, sizeof(m), fds, &nfds);

		if (n == -EAGAIN)
			return;
		if (n == -EMFILE)
			continue;
		if (n == sizeof(m.bell)) {
			if (!nfds)
				fds[0] = -1;
			take(w, &m.bell, fds);
		} else if (n > (int64_t)offsetof(struct estate_order, number) && nfds) {
			if (m.order.what == BELLS_LAY)
				warden_estate_lay(w, &m.order, fds[0]);
			else
				warden_estate_adopt(w, &m.order, fds, fds + 1, nfds - 1);
		}
		for (unsigned int k = 0; k < nfds; k++)
			cleanup_close_fn(&fds[k]);
		if (n <= 0) { /* its end: no more bells */
			close(w->bells_fd);
			w->bells_fd = -1;
			return;
		}
	}
}

/* --- their end --------------------------------------------------------------------------------------------------------- */

static void forget(struct warden *w, uint32_t i)
{
	epoll_ctl(w->bell_ends_fd, EPOLL_CTL_DEL, w->bell[i].fd, NULL); /* a capsule may keep its copy */
	close(w->bell[i].fd); /* the executor has closed its copy, so the guest sees the end now, if it did not make it */
	w->bell[i] = (struct warden_bell){.fd = -1};
	w->call[i].under_way = false;
	w->view.bells_ended++;
	warden_call_pump(w);
}

void warden_bell_ends(struct warden *w)
{
	struct epoll_event ev[EVENTS_A_TURN];
	const int n = epoll_wait(w->bell_ends_fd, ev, EVENTS_A_TURN, 0);

	for (int k = 0; k < n; k++) {
		const uint32_t i = ev[k].data.u32;

		if (!w->bell[i].live)
			continue;
		epoll_ctl(w->bell_ends_fd, EPOLL_CTL_DEL, w->bell[i].fd, NULL); /* or its hang-up is told for ever */
		w->bell[i].ended = true;
		interrupt(w, i);
		w->bell_again_ns = warden_after_ms(AGAIN_MS);
	}
}

void warden_bell_again(struct warden *w)
{
	w->bell_again_ns = WARDEN_NEVER;
	for (uint32_t i = 0; i < DS_SHADOW_EXECUTORS_MAX; i++) {
		if (!w->bell[i].live || !w->bell[i].ended)
			continue;
		interrupt(w, i);
		w->bell_again_ns = warden_after_ms(AGAIN_MS);
	}
}

/* --- from the capsule -------------------------------------------------------------------------------------------------- */

bool warden_bell_report(struct warden *w, const struct ds_shadow_message *msg)
{
	struct warden_bell *bell = &w->bell[msg->executor];
	struct ds_forward_report report;

	if (!bell->live)
		return false;
	if (msg->payload_bytes != sizeof(report)) {
		warden_end(w, DS_AGENT_C_SHADOW, "the shadow broke the protocol: what it says of a bell is no report");
		return true;
	}
	memcpy(&report, msg->payload, sizeof(report));
	w->view.forwarded += report.calls - bell->calls; /* a capsule that counts backwards spoils its own numbers */
	w->view.forwarded_ns += report.busy_ns - bell->busy_ns;
	bell->calls = report.calls;
	bell->busy_ns = report.busy_ns;
	if (report.over)
		forget(w, msg->executor);
	return true;
}

void warden_bell_refused(struct warden *w, uint32_t i, const struct ds_shadow_refused *refused)
{
	char text[DS_AGENT_TEXT_BYTES];

	reasons_refused(text, sizeof(text), refused);
	warden_log(w, LOG_LEVEL_WARNING, "the shadow does not take a bell: %s", text);
	w->view.refused_bells++;
	forget(w, i);
}

void warden_bell_free(struct warden *w)
{
	for (uint32_t i = 0; i < DS_SHADOW_EXECUTORS_MAX; i++)
		if (w->bell[i].live)
			close(w->bell[i].fd);
	cleanup_close_fn(&w->bells_fd);
	cleanup_close_fn(&w->bell_ends_fd);
}
