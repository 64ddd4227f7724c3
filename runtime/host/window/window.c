/* window.c - which pages of a VM's window belong to whom; see window.h */
#include "runtime/host/window/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int window_init(struct window *w, uint64_t first, uint64_t end)
{
	*w = (struct window){.first = first, .end = end, .piece = calloc(WINDOW_PIECES_MAX, sizeof(*w->piece))};
	return w->piece ? 0 : -ENOMEM;
}

void window_free(struct window *w)
{
	free(w->piece);
	*w = (struct window){0};
}

/* Before the first of them that begins behind @page. */
static void insert(struct window *w, struct window_piece piece)
{
	uint32_t low = 0, high = w->npieces;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (w->piece[middle].page > piece.page)
			high = middle;
		else
			low = middle + 1;
	}
	memmove(&w->piece[low + 1], &w->piece[low], (w->npieces - low) * sizeof(piece));
	w->piece[low] = piece;
	w->npieces++;
}

static void remove_piece(struct window *w, uint32_t i)
{
	w->npieces--;
	memmove(&w->piece[i], &w->piece[i + 1], (w->npieces - i) * sizeof(w->piece[0]));
}

static uint64_t end_of(const struct window_piece *p)
{
	return p->page + p->npages;
}

/* The next gap from *@page on, which is moved behind it; *@i: 0 at first.  Return: its length, 0: there is none. */
static uint64_t gap(const struct window *w, uint32_t *i, uint64_t *page, uint64_t *at)
{
	uint64_t length = 0;

	while (!length && *i <= w->npieces) {
		const struct window_piece *p = *i < w->npieces ? &w->piece[*i] : NULL;
		const uint64_t next = p ? p->page : w->end, end = p ? end_of(p) : w->end;

		*at = *page;
		length = next > *page ? next - *page : 0;
		*page = end > *page ? end : *page;
		++*i;
	}
	return length;
}

/* The first gap of at least @npages; if there is none, the largest.  Return: its length. */
static uint64_t find(const struct window *w, uint64_t npages, uint64_t *page)
{
	uint64_t best = 0, length, from = w->first, here;
	uint32_t i = 0;

	while (best < npages && (length = gap(w, &i, &from, &here))) {
		if (length <= best)
			continue;
		best = length;
		*page = here;
	}
	return best;
}

int window_take(struct window *w, uint64_t owner, uint64_t npages, struct ds_window_extent *extent, uint16_t *nextents)
{
	uint64_t left = npages, page = 0;
	uint16_t n = 0;

	*nextents = 0;
	if (!npages)
		return -EINVAL;
	while (left && n < DS_WINDOW_EXTENTS_MAX && w->npieces < WINDOW_PIECES_MAX) {
		const uint64_t length = find(w, left, &page), taken = length < left ? length : left;

		if (!taken)
			break;
		insert(w, (struct window_piece){page, taken, owner});
		extent[n++] = (struct ds_window_extent){page, taken};
		left -= taken;
	}
	if (left) {
		while (n--)
			window_give(w, owner, extent[n].page, extent[n].npages);
		return -ENOMEM;
	}
	*nextents = n;
	return 0;
}

bool window_owns(const struct window *w, uint64_t owner, uint64_t page, uint64_t npages)
{
	const uint64_t end = page + npages;

	if (!npages || page < w->first || page >= w->end || npages > w->end - page)
		return false;
	for (uint32_t i = 0; i < w->npieces && w->piece[i].page <= page && page < end; i++)
		if (w->piece[i].owner == owner && end_of(&w->piece[i]) > page)
			page = end_of(&w->piece[i]);
	return page >= end;
}

uint64_t window_owner(const struct window *w, uint64_t page, uint32_t *at)
{
	while (*at < w->npieces && w->piece[*at].page <= page) {
		const struct window_piece *p = &w->piece[(*at)++];

		if (end_of(p) > page)
			return p->owner;
	}
	return 0;
}

int window_share(struct window *w, uint64_t from, uint64_t owner, uint64_t page, uint64_t npages)
{
	if (!window_owns(w, from, page, npages))
		return -EINVAL;
	for (uint32_t i = 0; i < w->npieces && w->piece[i].page < page + npages; i++)
		if (w->piece[i].owner == owner && end_of(&w->piece[i]) > page)
			return -EEXIST;
	if (w->npieces == WINDOW_PIECES_MAX)
		return -ENOMEM;
	insert(w, (struct window_piece){page, npages, owner});
	return 0;
}

int window_share_all(struct window *w, uint64_t from, uint64_t owner)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->npieces; i++)
		n += w->piece[i].owner == from;
	if (n > WINDOW_PIECES_MAX - w->npieces)
		return -ENOMEM;
	for (uint32_t i = 0; i < w->npieces; i++) {
		const struct window_piece p = w->piece[i];

		if (p.owner != from)
			continue;
		insert(w, (struct window_piece){p.page, p.npages, owner}); /* behind it: it begins at the same page */
	}
	return 0;
}

int window_give(struct window *w, uint64_t owner, uint64_t page, uint64_t npages)
{
	const uint64_t end = page + npages;

	if (!window_owns(w, owner, page, npages))
		return -EINVAL;
	for (uint32_t i = 0; i < w->npieces && w->piece[i].page < end;) { /* what is put back does not lie in the range */
		const struct window_piece p = w->piece[i];

		if (p.owner != owner || end_of(&p) <= page) {
			i++;
			continue;
		}
		if (p.page < page && end_of(&p) > end && w->npieces == WINDOW_PIECES_MAX) /* out of the middle of one: it is the only one */
			return -ENOMEM;
		remove_piece(w, i);
		if (p.page < page)
			insert(w, (struct window_piece){p.page, page - p.page, owner});
		if (end_of(&p) > end)
			insert(w, (struct window_piece){end, end_of(&p) - end, owner});
	}
	return 0;
}

bool window_unowned(const struct window *w, uint64_t page, uint64_t end, struct ds_window_extent *extent)
{
	uint64_t from = w->first, at, length;
	uint32_t i = 0;

	while ((length = gap(w, &i, &from, &at)) && at < end) {
		const uint64_t first = at > page ? at : page, last = at + length < end ? at + length : end;

		if (first >= last)
			continue;
		*extent = (struct ds_window_extent){first, last - first};
		return true;
	}
	return false;
}

bool window_next(const struct window *w, uint64_t owner, struct ds_window_extent *extent)
{
	for (uint32_t i = 0; i < w->npieces; i++)
		if (w->piece[i].owner == owner) {
			*extent = (struct ds_window_extent){w->piece[i].page, w->piece[i].npages};
			return true;
		}
	return false;
}

uint64_t window_room(const struct window *w, uint64_t *largest)
{
	uint64_t all = 0, from = w->first, at, length;
	uint32_t i = 0;

	*largest = 0;
	while ((length = gap(w, &i, &from, &at))) {
		all += length;
		*largest = length > *largest ? length : *largest;
	}
	return all;
}
