/* warden_reach.c - the capsule has a file of the host where the guest's program has it mapped
 *
 * Theory of operation
 *
 * A system call of the program's may have its buffer in such a mapping.  Few ever do, so the capsule maps nothing before it is touched: the
 * fault comes as any other (demand.h), the page is found to be a file's, and the whole piece is mapped (DS_SHADOW_WINDOW), upon which the
 * capsule wakes who sleeps there.  The guard lets just this call pass (authority_file()), so there is one at a time.  If it does not work,
 * since a driver allows one mapping, say, the touch is EFAULT, and that is all.
 *
 * Pages that are wanted and not asked for yet have somebody who sleeps on them and whom the demand machine has forgotten.  So when they
 * go, he is woken, and tries again.
 */
#include <errno.h>
#include <sys/mman.h>

#include "rle/addr.h"
#include "runtime/host/warden/warden_parts.h"

static bool went(struct warden *w, int r)
{
	if (r)
		warden_end(w, DS_AGENT_C_LIMIT, "the process maps more of the host's files than can be remembered");
	return !r;
}

bool warden_reach_touched(struct warden *w, uint64_t vpn)
{
	return warden_reach_want(w, vpn, 1);
}

bool warden_reach_want(struct warden *w, uint64_t vpn, uint64_t npages)
{
	const struct warden_pieces *have = &w->window.have;
	bool any = false;

	for (uint32_t i = 0; i < have->n; i++) {
		struct warden_piece *p = &have->at[i];

		if (!p->file || p->vpn >= vpn + npages || p->vpn + p->npages <= vpn)
			continue;
		p->wanted = any = true;
	}
	return any;
}

void warden_reach_gone(struct warden *w, uint64_t vpn, uint64_t npages)
{
	struct warden_piece p;

	for (uint32_t i = 0; warden_pieces_common(&w->window.have, vpn, npages, &i, &p);)
		if (p.wanted && !went(w, demand_not_foreign(w->demand, (struct ds_shadow_range){p.vpn, p.npages}, false)))
			return;
}

void warden_reach_send(struct warden *w)
{
	struct warden_window *win = &w->window;
	struct warden_piece *p = NULL;
	struct ds_shadow_window msg;
	struct authority_call call;

	if (!w->demand || win->capsule_seq || demand_pending(w->demand))
		return;
	for (uint32_t i = 0; i < win->have.n && !p; i++)
		if (win->have.at[i].wanted)
			p = &win->have.at[i];
	if (!p) {
		warden_window_reached(w);
		return;
	}
	msg = (struct ds_shadow_window){.head = warden_capsule_head(w, DS_SHADOW_WINDOW, sizeof(msg)),
					.range = {p->vpn, p->npages},
					.offset = p->offset,
					.prot = p->prot};
	if (warden_capsule_send(w, &msg, sizeof(msg), &p->file->fd, 1))
		return; /* again when there is room; or it has ended */
	call = (struct authority_call){.address = p->vpn << DS_PAGE_SHIFT, .bytes = p->npages << DS_PAGE_SHIFT, .prot = p->prot,
				       .flags = MAP_SHARED | MAP_FIXED, .offset = p->offset};
	authority_file(w->authority, &call);
	p->wanted = false;
	p->reached = true;
	win->capsule_seq = msg.head.seq;
	win->capsule_range = msg.range;
	went(w, demand_foreign(w->demand, msg.range));
}

bool warden_reach_answered(struct warden *w, uint32_t seq, bool mapped)
{
	struct warden_window *win = &w->window;

	if (!win->capsule_seq || seq != win->capsule_seq)
		return false;
	win->capsule_seq = 0;
	authority_file(w->authority, NULL);
	if (mapped || went(w, demand_not_foreign(w->demand, win->capsule_range, true)))
		warden_reach_send(w);
	return true;
}
