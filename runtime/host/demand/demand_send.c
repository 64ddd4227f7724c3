/* demand_send.c - messages to the capsule, in order; see demand_impl.h
 *
 * A segment is ordered just before its message is sent, so that little is ordered at any time.  What was covered between
 * the making of a message and its sending will be left out by the capsule and is not ordered.
 */
#include "runtime/host/demand/demand_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Appends a message without segments.  Return: NULL when there is no memory. */
static struct outgoing *message(struct demand *d)
{
	struct outgoing *o = malloc(sizeof(*o));

	if (!o)
		return NULL;
	o->next = NULL;
	o->nordered = 0;
	memset(o->late, 0, sizeof(o->late));
	o->map = (struct ds_shadow_map){
		.head = {.magic = DS_SHADOW_MAGIC, .version = DS_SHADOW_VERSION, .kind = DS_SHADOW_MAP, .seq = DEMAND_SEQ | ++d->seq},
		.covers = d->covers,
	};
	*(d->last ? &d->last->next : &d->first) = o;
	d->last = o;
	d->nqueued++;
	return o;
}

int demand_add(struct demand *d, struct outgoing **o, struct ds_shadow_seg seg)
{
	if (!*o || (*o)->map.nsegs == DS_SHADOW_SEGS_MAX) {
		if (d->nqueued >= DEMAND_QUEUE_MAX)
			return -EPROTO;
		*o = message(d);
		if (!*o)
			return -ENOMEM;
	}
	(*o)->seg[(*o)->map.nsegs++] = seg;
	(*o)->map.head.bytes = (uint32_t)(sizeof((*o)->map) + (*o)->map.nsegs * sizeof(seg));
	return 0;
}

void demand_awake(struct demand *d, struct ds_shadow_range r)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < d->nsleepers; i++)
		if (d->sleepers[i].vpn - r.vpn >= r.npages)
			d->sleepers[kept++] = d->sleepers[i];
	d->nsleepers = kept;
}

int demand_tell_sleepers(struct demand *d, struct outgoing **o)
{
	int rc = 0;

	for (uint32_t i = 0; i < d->nsleepers && !rc; i++) {
		struct sleeper *s = &d->sleepers[i];

		if (s->told)
			continue;
		s->told = true;
		rc = demand_add(d, o, (struct ds_shadow_seg){.vpn = s->vpn, .pfn = s->tid, .npages = 1, .prot = DS_SHADOW_WAITS});
	}
	return rc;
}

static int order(struct demand *d, struct outgoing *o)
{
	for (; o->nordered < o->map.nsegs; o->nordered++) {
		const struct ds_shadow_seg *seg = &o->seg[o->nordered];
		int rc = 0;

		if (seg->prot & 3 && !o->late[o->nordered])
			rc = d->ops->order(d->ctx, seg);
		if (rc)
			return rc == -ENOSPC ? -EAGAIN : rc;
	}
	return 0;
}

int demand_flush(struct demand *d)
{
	while (d->first) {
		struct outgoing *o = d->first;
		int rc = order(d, o);

		if (!rc)
			rc = d->ops->send(d->ctx, &o->map);
		if (rc)
			return rc == -EAGAIN ? 0 : rc;
		d->stat.segs += o->map.nsegs;
		d->first = o->next;
		if (!d->first)
			d->last = NULL;
		d->nqueued--;
		free(o);
	}
	return 0;
}

bool demand_pending(const struct demand *d)
{
	return d->first;
}
