/* warden_demand.c - a mirror that faults: joins demand.h's machine to the guest's stream, the capsule and the guard
 *
 * The machine decides; here its questions become FAULT, its messages go to the capsule, its orders to the authority, and
 * what comes back is handed to it.  A DROP is a change like any other (warden_parts.h), but the capsule hears of it by MAP
 * messages, which the machine makes; so is an UPDATE, whose map is empty: it changes which addresses fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/mapcut.h"
#include "runtime/host/reasons.h"
#include "runtime/host/warden/warden_parts.h"

/* --- what the machine has done for it ---------------------------------------------------------------------------- */

static int ask(void *ctx, uint32_t seq, uint64_t vpn, struct ds_shadow_range window, bool write)
{
	struct warden *w = ctx;
	struct ds_agent_fault msg = {.vpn = vpn, .window = {window.vpn, window.npages}, .write = write};

	w->view.faults++;
	warden_send(w, DS_AGENT_FAULT, seq, &msg.head, sizeof(msg));
	return w->ended ? -ECANCELED : 0;
}

static int order(void *ctx, const struct ds_shadow_seg *seg)
{
	const struct warden *w = ctx;

	return authority_order(w->authority, seg, 1);
}

static void take_back(void *ctx, struct ds_shadow_range range)
{
	const struct warden *w = ctx;

	authority_cancel(w->authority, range.vpn, range.npages);
}

static int send_map(void *ctx, const struct ds_shadow_map *map)
{
	const int r = warden_capsule_send(ctx, map, map->head.bytes, NULL, 0);

	return r == -EPIPE ? 0 : r; /* it has ended, which will be seen */
}

static bool is_foreign(void *ctx, uint64_t vpn)
{
	return warden_reach_touched(ctx, vpn);
}

static const struct demand_ops ops = {.ask = ask, .order = order, .revoke = take_back, .foreign = is_foreign, .send = send_map};

/* Ends the shadow if the machine says that something has failed.  Return: whether it has not. */
static bool went(struct warden *w, int r)
{
	if (r == -EPROTO)
		warden_end(w, DS_AGENT_C_SHADOW, "the shadow broke the protocol of a mirror that faults");
	else if (r == -EBUSY)
		warden_end(w, DS_AGENT_C_GONE, "the shadow refused a change of its mirror");
	else if (r < 0)
		warden_end(w, DS_AGENT_C_HOST, "the mirror cannot be made on demand: %s", strerrordesc_np(-r));
	return r >= 0;
}

/* --- the start --------------------------------------------------------------------------------------------------- */

void warden_demand_prepare(struct warden *w)
{
	const struct demand_params params = {
		.ranges = w->change.coming.forbidden,
		.nranges = w->change.coming.nforbidden,
		.max_vmas = warden_max_segs(w),
		.ops = &ops,
		.ctx = w,
	};
	const int r = demand_new(&w->demand, &params);

	if (r == -EINVAL)
		warden_end(w, DS_AGENT_C_LIMIT, "the process has %" PRIu64 " mappings, too many for the host's vm.max_map_count",
			   params.nranges);
	else
		went(w, r);
}

/* Whether @fd, which the capsule named, is what it has to be. */
static bool is_userfaultfd(int fd)
{
	char path[32], name[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, name, sizeof(name) - 1) > 0 && !strcmp(name, "anon_inode:[userfaultfd]");
}

void warden_demand_take(struct warden *w, const struct ds_shadow_status *status)
{
	cleanup_close int fd = status->fault_fd < 0 ? -1 : pidfd_getfd(w->pidfd, status->fault_fd, 0);

	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) || !is_userfaultfd(fd) || fcntl(fd, F_SETFL, O_NONBLOCK)) {
		warden_end(w, DS_AGENT_C_SHADOW, "the capsule has no userfaultfd to be taken");
		return;
	}
	demand_start(w->demand, steal_fd(&fd));
}

/* --- while it runs ----------------------------------------------------------------------------------------------- */

void warden_demand_run(struct warden *w)
{
	went(w, demand_run(w->demand));
}

void warden_demand_flush(struct warden *w)
{
	if (w->demand && demand_pending(w->demand))
		went(w, demand_flush(w->demand));
}

uint64_t warden_demand_deadline_ns(const struct warden *w)
{
	const uint64_t asked = w->demand ? demand_asked_ns(w->demand) : 0;

	return asked ? asked + w->times.fault_ms * UINT64_C(1000000) : WARDEN_NEVER;
}

void warden_demand_view(struct warden *w)
{
	struct demand_stat stat;

	if (!w->demand)
		return;
	stat = demand_stat(w->demand);
	w->view.pages = stat.mapped_pages;
	w->view.vmas = stat.vmas;
}

void warden_pages(struct warden *w, const struct ds_agent_pages *msg)
{
	size_t nbytes, blob_bytes;
	const void *bytes = agentmsg_map(&msg->head, &nbytes);
	cleanup_free void *blob = NULL;
	char text[DS_AGENT_TEXT_BYTES];
	struct rle_map map = {0};
	uint32_t code;
	int r;

	if (nbytes) {
		code = warden_map_translate(w, bytes, nbytes, &blob, &blob_bytes, text);
		if (code) {
			warden_end(w, code, "the answer to a fault: %s", text);
			return;
		}
		went(w, rle_map_open(&map, blob, blob_bytes, NULL));
	}
	w->view.fault_pages += map.npages;
	r = demand_pages(w->demand, msg->head.seq, &map);
	if (r == -EBADMSG)
		warden_end(w, DS_AGENT_C_MESSAGE,
			   "the agent answered a fault that was not asked about, or with pages of another place");
	else if (went(w, r) && demand_stat(w->demand).known_pages > w->rule->max_pages)
		warden_end(w, DS_AGENT_C_LIMIT,
			   "the shadow has touched more than the %" PRIu64 " pages that the policy allows (line %u)",
			   w->rule->max_pages, w->rule->line);
}

/* --- changes ----------------------------------------------------------------------------------------------------- */

/* The drop is in force, as the capsule says: proves it, tells the guest. */
static void dropped(struct warden *w)
{
	struct warden_change *c = &w->change;
	const uint32_t seq = c->guest_seq;

	for (uint64_t i = 0; i < c->coming.nforbidden; i++)
		authority_cancel(w->authority, c->coming.forbidden[i].vpn, c->coming.forbidden[i].npages);
	if (!warden_guard_gone(w, c->coming.forbidden, c->coming.nforbidden, false))
		return;
	warden_change_over(w, seq);
	went(w, demand_drop_end(w->demand)); /* who waited for these pages asks about them again */
}

void warden_demand_drop(struct warden *w, const struct ds_agent_drop *msg)
{
	struct warden_change *c = &w->change;
	size_t n;
	const struct ds_agent_range *ranges = agentmsg_ranges(&msg->head, &n);
	int r;

	/* Kept as a change's ranges are; it has no map. */
	c->coming.forbidden = malloc((n + 1) * sizeof(*c->coming.forbidden));
	if (!c->coming.forbidden) {
		went(w, -ENOMEM);
		return;
	}
	memcpy(c->coming.forbidden, ranges, n * sizeof(*ranges));
	c->coming.nforbidden = n;
	c->kind = WARDEN_CHANGE_DROP;
	c->guest_seq = msg->head.seq;
	c->deadline_ns = warden_after_ms(w->times.capsule_ms + w->times.stop_ms);
	r = demand_drop(w->demand, c->coming.forbidden, n);
	if (went(w, r) && r == 1)
		dropped(w);
}

bool warden_demand_update(struct warden *w)
{
	struct warden_change *c = &w->change;
	int r;

	if (!w->demand || c->demand_told)
		return true;
	r = demand_update_begin(w->demand, c->coming.forbidden, c->coming.nforbidden);
	if (r == -EAGAIN) /* what goes before has not gone yet: w->ctl_full */
		return false;
	c->demand_told = went(w, r);
	return c->demand_told;
}

bool warden_demand_updated(struct warden *w, bool applied)
{
	cleanup_free struct ds_shadow_range *outside = NULL;
	size_t n;
	int r;

	if (!w->demand)
		return true;
	r = applied ? mapcut_outside(w->change.coming.forbidden, w->change.coming.nforbidden, &outside, &n) : 0;
	if (!went(w, r))
		return false;
	/* What is no mapping of the process any more: nothing may be there, and nothing may come. */
	for (size_t i = 0; applied && i < n; i++)
		authority_cancel(w->authority, outside[i].vpn, outside[i].npages);
	if (applied && !warden_guard_gone(w, outside, n, false))
		return false;
	return went(w, demand_update_end(w->demand, applied));
}

/* --- answers of the capsule -------------------------------------------------------------------------------------- */

void warden_demand_status(struct warden *w, uint32_t seq)
{
	const int r = demand_status(w->demand, seq);

	if (!went(w, r) || r != 1)
		return;
	dropped(w);
	warden_stream_work(w);
}

void warden_demand_refused(struct warden *w, const struct ds_shadow_refused *refused)
{
	char text[DS_AGENT_TEXT_BYTES];
	const int r = demand_refused(w->demand, refused->head.seq);

	if (r == -EBUSY) {
		reasons_refused(text, sizeof(text), refused);
		warden_end(w, DS_AGENT_C_GONE, "the shadow refused a change of its mirror: %s", text);
	}
	went(w, r);
}
