/* warden_pieces.c - which pages of the guest's process are which of a file; see warden_parts.h
 *
 * Lists without an order: a process has few mappings of files of the host.  Pieces do not overlap.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "rle/addr.h"
#include "runtime/host/warden/warden_parts.h"
#include "runtime/host/window/window.h"

#define PIECES_FIRST 16u

struct warden_file *warden_file_new(int fd)
{
	struct warden_file *f = calloc(1, sizeof(*f));

	if (f)
		f->fd = fd;
	else
		close(fd);
	return f;
}

void warden_file_drop(struct warden_file *f)
{
	if (!f || (f->users && --f->users))
		return;
	close(f->fd);
	free(f);
}

int warden_pieces_room(struct warden_pieces *p, uint32_t n)
{
	uint32_t room = p->room ? p->room : PIECES_FIRST;
	struct warden_piece *at;

	while (room < p->n + n)
		room *= 2;
	if (room == p->room)
		return 0;
	at = room > 2 * WINDOW_PIECES_MAX ? NULL : realloc(p->at, room * sizeof(*at));
	if (!at)
		return -ENOMEM;
	p->at = at;
	p->room = room;
	return 0;
}

void warden_pieces_add(struct warden_pieces *p, struct warden_piece piece)
{
	if (piece.file)
		piece.file->users++;
	p->at[p->n++] = piece;
}

/* The part of a piece from page @from up to @to. */
static struct warden_piece part(const struct warden_piece *p, uint64_t from, uint64_t to)
{
	struct warden_piece out = *p;

	out.vpn = from;
	out.npages = to - from;
	out.page += from - p->vpn;
	out.offset += (from - p->vpn) << DS_PAGE_SHIFT;
	return out;
}

bool warden_pieces_common(const struct warden_pieces *p, uint64_t vpn, uint64_t npages, uint32_t *at, struct warden_piece *out)
{
	while (*at < p->n) {
		const struct warden_piece *q = &p->at[(*at)++];
		const uint64_t q_end = q->vpn + q->npages, end = vpn + npages, from = q->vpn > vpn ? q->vpn : vpn, to = q_end < end ? q_end : end;

		if (from >= to)
			continue;
		*out = part(q, from, to);
		return true;
	}
	return false;
}

void warden_pieces_cut(struct warden_pieces *p, uint64_t vpn, uint64_t npages)
{
	const uint64_t end = vpn + npages;

	for (uint32_t i = 0; i < p->n;) {
		const struct warden_piece q = p->at[i];
		const uint64_t q_end = q.vpn + q.npages;

		if (q.vpn >= end || q_end <= vpn) {
			i++;
			continue;
		}
		if (q.vpn < vpn && q_end > end) /* out of the middle: it is the only one */
			warden_pieces_add(p, part(&q, end, q_end));
		if (q.vpn < vpn) {
			p->at[i] = part(&q, q.vpn, vpn);
			i++;
		} else if (q_end > end) {
			p->at[i] = part(&q, end, q_end);
			i++;
		} else {
			p->at[i] = p->at[--p->n];
			warden_file_drop(q.file);
		}
	}
}

void warden_pieces_free(struct warden_pieces *p)
{
	while (p->n)
		warden_file_drop(p->at[--p->n].file);
	free(p->at);
	*p = (struct warden_pieces){0};
}
