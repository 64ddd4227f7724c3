/* warden_change.c - the map changes: a new one from the guest, or the old one without what is about to go
 *
 * Theory of operation
 *
 * A change takes three steps: the capsule is sent the map that is to be; it answers that this map is in force; then
 * it is looked at from outside whether what went is really gone.  Only then the guest is answered, because it gives
 * frames away upon that.  The guard lets the old and the coming map's pages be mapped until the capsule has answered.
 *
 * An UPDATE that is refused leaves the old map in force, and the guest is told so.  A DROP is not the guest's wish but an
 * announcement: pages that the capsule does not let go are taken from it by killing it, which frees them as well.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/mapcut.h"
#include "runtime/host/reasons.h"
#include "runtime/host/warden/warden_parts.h"

static void done(struct warden *w, uint32_t seq)
{
	struct ds_agent_done msg;

	warden_send(w, DS_AGENT_DONE, seq, &msg.head, sizeof(msg));
}

static void forget(struct warden *w)
{
	warden_map_free(&w->change.coming);
	cleanup_close_fn(&w->change.data_fd);
	w->change = (struct warden_change){.data_fd = -1, .deadline_ns = WARDEN_NEVER};
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

/* w->change.coming is filled. */
static void begin(struct warden *w, enum warden_change_kind kind, uint32_t guest_seq)
{
	struct warden_change *c = &w->change;

	c->kind = kind;
	c->guest_seq = guest_seq;
	authority_coming(w->authority, &c->coming.map);
	c->data_fd = warden_map_file(&c->coming, NULL, 0);
	c->deadline_ns = warden_after_ms(w->times.capsule_ms + w->times.stop_ms);
	if (c->data_fd < 0)
		warden_end(w, DS_AGENT_C_HOST, "the map cannot be written for the capsule: %s", strerrordesc_np(-c->data_fd));
	else
		warden_change_send(w);
}

void warden_change_send(struct warden *w)
{
	struct warden_change *c = &w->change;
	struct ds_shadow_update update;

	if (w->ended || c->data_fd < 0)
		return;
	if (!warden_demand_update(w))
		return;
	update = (struct ds_shadow_update){
		.head = warden_capsule_head(w, DS_SHADOW_UPDATE, sizeof(update)),
		.data = {.map_bytes = c->coming.blob_bytes, .nforbidden = c->coming.nforbidden},
	};
	if (warden_capsule_send(w, &update, sizeof(update), &c->data_fd, 1))
		return;
	c->capsule_seq = update.head.seq;
	cleanup_close_fn(&c->data_fd);
	c->data_fd = -1;
}

static void refuse_change(struct warden *w, uint32_t seq, uint32_t code, const char *text)
{
	w->view.refused_changes++;
	warden_log(w, LOG_LEVEL_WARNING, "a change of its map is refused: %s", text);
	warden_refuse(w, DS_AGENT_REFUSED, seq, code, text);
}

void warden_update(struct warden *w, const struct ds_agent_update *msg)
{
	char text[DS_AGENT_TEXT_BYTES];
	const uint32_t code = warden_map_take(w, &msg->head, &w->change.coming, text);

	if (code)
		refuse_change(w, msg->head.seq, code, text);
	else
		begin(w, WARDEN_CHANGE_UPDATE, msg->head.seq);
}

void warden_drop(struct warden *w, const struct ds_agent_drop *msg)
{
	struct warden_change *c = &w->change;
	size_t n, bytes;
	const struct ds_shadow_range *ranges = (const void *)agentmsg_ranges(&msg->head, &n);
	char text[DS_AGENT_TEXT_BYTES];
	void *blob;
	int r;

	w->view.drops++;
	if (w->demand) {
		warden_demand_drop(w, msg);
		return;
	}
	r = mapcut_without(&w->now.map, ranges, n, &blob, &bytes, &c->dropped_pages);
	if (r) {
		warden_end(w, DS_AGENT_C_HOST, "pages cannot be dropped: %s", strerrordesc_np(-r));
		return;
	}
	if (!c->dropped_pages) { /* the shadow never had them, or has them no more */
		free(blob);
		done(w, msg->head.seq);
		return;
	}
	if (warden_map_adopt(w, &c->coming, blob, bytes, text)) { /* a hole can make two mappings of one */
		warden_end(w, DS_AGENT_C_LIMIT, "without the pages that go, %s", text);
		return;
	}
	c->coming.forbidden = malloc((w->now.nforbidden + 1) * sizeof(*c->coming.forbidden));
	if (!c->coming.forbidden) {
		warden_end(w, DS_AGENT_C_HOST, "pages cannot be dropped: no memory");
		return;
	}
	memcpy(c->coming.forbidden, w->now.forbidden, w->now.nforbidden * sizeof(*c->coming.forbidden));
	c->coming.nforbidden = w->now.nforbidden;
	begin(w, WARDEN_CHANGE_DROP, msg->head.seq);
}

/* The coming map becomes the one in force. */
static void adopt(struct warden *w)
{
	warden_map_free(&w->now);
	w->now = w->change.coming;
	w->change.coming = (struct warden_map){0};
	authority_set(w->authority, &w->now.map);
	w->view.pages = w->now.map.npages;
	w->view.runs = w->now.map.nruns;
	w->view.vmas = w->now.segs;
	w->view.dropped_pages += w->change.dropped_pages;
	forget(w);
}

/* --- the answer -------------------------------------------------------------------------------------------------- */

void warden_change_over(struct warden *w, uint32_t guest_seq)
{
	forget(w);
	done(w, guest_seq);
}

/* BOOT is answered twice: when the guard is in force, and when the service has started behind it. */
static void booted(struct warden *w, const struct ds_shadow_status *status)
{
	struct warden_change *c = &w->change;

	if (!c->guarded) {
		c->guarded = true;
		if (w->demand)
			warden_demand_take(w, status);
		if (!w->ended)
			warden_guard_take(w, status);
	} else if (warden_guard_seal(w)) {
		adopt(w);
		warden_started(w, status);
	}
}

void warden_change_done(struct warden *w, const struct ds_shadow_status *status)
{
	const enum warden_change_kind kind = w->change.kind;
	const uint32_t seq = w->change.guest_seq;
	cleanup_free struct ds_shadow_range *ranges = NULL;
	size_t n;
	int r;

	if (kind == WARDEN_CHANGE_BOOT) {
		booted(w, status);
		return;
	}
	r = mapcut_changed(&w->now.map, &w->change.coming.map, &ranges, &n);
	authority_commit(w->authority);
	if (r)
		warden_end(w, DS_AGENT_C_HOST, "the change cannot be looked at: %s", strerrordesc_np(-r));
	if (r || !warden_guard_gone(w, ranges, n, true) || !warden_demand_updated(w, true))
		return;
	if (kind == WARDEN_CHANGE_UPDATE)
		w->view.updates++;
	adopt(w);
	warden_change_over(w, seq);
	warden_stream_work(w);
}

/*
 * While the change was under way its pages could be mapped.  The old map is in force again, and of the new one nothing
 * may be left: the guest does not know that these pages are of any use to anybody.
 */
static bool withdrawn(struct warden *w)
{
	cleanup_free struct ds_shadow_range *ranges = NULL;
	size_t n;
	const int r = mapcut_changed(&w->change.coming.map, &w->now.map, &ranges, &n);

	authority_withdraw(w->authority);
	if (r)
		warden_end(w, DS_AGENT_C_HOST, "the change cannot be looked at: %s", strerrordesc_np(-r));
	return !r && warden_guard_gone(w, ranges, n, true) && warden_demand_updated(w, false);
}

void warden_change_refused(struct warden *w, const struct ds_shadow_refused *refused)
{
	const enum warden_change_kind kind = w->change.kind;
	const uint32_t seq = w->change.guest_seq;
	char text[DS_AGENT_TEXT_BYTES];

	reasons_refused(text, sizeof(text), refused);
	if (kind == WARDEN_CHANGE_BOOT) {
		warden_end(w, reasons_refused_code(refused), "%s", text);
		return;
	}
	if (kind == WARDEN_CHANGE_DROP || refused->reason == DS_SHADOW_R_LOST) {
		warden_end(w, DS_AGENT_C_GONE, "the shadow did not let go of pages: %s", text);
		return;
	}
	if (!withdrawn(w))
		return;
	forget(w);
	refuse_change(w, seq, reasons_refused_code(refused), text);
	warden_stream_work(w);
}
