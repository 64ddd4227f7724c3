/* warden_attach.c - who speaks, what it wants, whether it may, and the answer when the shadow stands */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/host/warden/warden_parts.h"

/* A driver that starts its hardware can be seconds in a call that nothing interrupts, and a change of the mirror waits for that. */
#define DEVICE_STOP_MS 40000u

void warden_hello(struct warden *w, const struct ds_agent_hello *msg)
{
	struct ds_agent_welcome welcome = {.want_hash = policy_wants_hash(w->p->policy, w->p->vm)};

	snprintf(welcome.vm, sizeof(welcome.vm), "%s", w->p->vm);
	w->state = WARDEN_ATTACH;
	w->hello_deadline_ns = warden_after_ms(w->times.hello_ms);
	warden_send(w, DS_AGENT_WELCOME, msg->head.seq, &welcome.head, sizeof(welcome));
}

/* A service is an executable of this name: nothing that could be a path to another place. */
static bool is_name(const char *s)
{
	static const char fit[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";

	return *s && s[strspn(s, fit)] == 0;
}

void warden_admit(struct warden *w, const struct ds_agent_attach *msg)
{
	struct policy_query query = {.vm = w->p->vm, .program = w->who.program, .service = w->who.service};
	const char *why = "no rule grants it";
	unsigned int line = 0;
	uint64_t pages;

	w->who = *msg;
	w->hello_deadline_ns = WARDEN_NEVER;
	query.sha256 = w->who.has_sha256 ? w->who.sha256 : NULL;
	query.uid = w->who.uid;
	query.mode = w->who.mode;
	w->view.mode = w->who.mode;
	w->view.guest_pid = w->who.pid;
	w->view.guest_uid = w->who.uid;
	w->view.guest_gid = w->who.gid;
	log_escape(w->view.service, sizeof(w->view.service), w->who.service);
	log_escape(w->view.program, sizeof(w->view.program), w->who.program);
	if (!is_name(w->who.service)) {
		warden_end(w, DS_AGENT_C_POLICY, "\"%s\" is no name of a service", w->who.service);
		return;
	}
	w->rule = policy_find(w->p->policy, &query, &why, &line);
	if (!w->rule) {
		warden_end(w, DS_AGENT_C_POLICY, "the host's policy does not give it service %s%s: %s", w->who.service,
			   w->who.mode == DS_AGENT_DEMAND ? " on demand" : "", why);
		if (line)
			warden_log(w, LOG_LEVEL_INFO, "the rule that decides is in line %u of the policy", line);
		return;
	}
	if (w->rule->ndevices && !w->p->times.stop_ms)
		w->times.stop_ms = DEVICE_STOP_MS;
	/*
	 * No map of so many pages is longer; a DROP may be long whatever the rule says.  On demand the only maps are answers to
	 * faults, and none is larger than a window: messages that are put aside are bounded by this too.
	 */
	pages = w->who.mode == DS_AGENT_DEMAND ? DEMAND_WINDOW_MAX : w->rule->max_pages;
	agentmsg_limit(&w->in, sizeof(*msg) + sizeof(struct rle_map_header) + pages * sizeof(struct rle_run) +
				       (uint64_t)DS_AGENT_RANGES_MAX * sizeof(struct ds_agent_range));
}

void warden_attach(struct warden *w, const struct ds_agent_attach *msg)
{
	char text[DS_AGENT_TEXT_BYTES];
	uint32_t code;

	if (!w->rule)
		warden_admit(w, msg);
	if (w->ended)
		return;
	w->attach_ns = warden_now_ns();
	code = warden_map_take(w, &msg->head, &w->change.coming, text);
	if (code) {
		warden_end(w, code, "%s", text);
		return;
	}
	w->state = WARDEN_START;
	w->change.guest_seq = msg->head.seq;
	warden_capsule_start(w);
}

void warden_started(struct warden *w, const struct ds_shadow_status *status)
{
	struct ds_agent_started started = {
		.capsule = {status->capsule.vpn, status->capsule.npages},
		.mirror_pages = w->now.map.npages,
		.host_pid = (uint64_t)w->pid,
	};

	if (w->p->token)
		memcpy(started.token, w->p->token, sizeof(started.token));
	w->state = WARDEN_RUN;
	w->view.since_ns = warden_now_ns();
	w->view.start_us = (w->view.since_ns - w->attach_ns) / 1000;
	warden_log(w, LOG_LEVEL_INFO,
		   "shadow %d stands: service %s, %s, %" PRIu64 " pages in %" PRIu64 " runs, %" PRIu64
		   " mappings, after %" PRIu64 " us",
		   (int)w->pid, w->who.service, w->who.mode == DS_AGENT_DEMAND ? "on demand" : "eager", w->view.pages,
		   w->view.runs, w->view.vmas, w->view.start_us);
	warden_pace_start(w);
	if (w->ended)
		return;
	w->view.state = w->state; /* who hears of it and asks for the status finds it there */
	warden_stat_write(w->p->stat, &w->view);
	warden_send(w, DS_AGENT_STARTED, w->who.head.seq, &started.head, sizeof(started));
	warden_stream_work(w);
}
