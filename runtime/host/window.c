/* window.c - which pages of a VM's window belong to whom; see window.h */
#include "runtime/host/window.h"

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

/* The gap before piece @i. */
static uint64_t gap(const struct window *w, uint32_t i, uint64_t *page)
{
	*page = i ? w->piece[i - 1].page + w->piece[i - 1].npages : w->first;
	return (i < w->npieces ? w->piece[i].page : w->end) - *page;
}

static void insert(struct window *w, uint32_t i, struct window_piece piece)
{
	memmove(&w->piece[i + 1], &w->piece[i], (w->npieces - i) * sizeof(piece));
	w->piece[i] = piece;
	w->npieces++;
}

static void remove_piece(struct window *w, uint32_t i)
{
	w->npieces--;
	memmove(&w->piece[i], &w->piece[i + 1], (w->npieces - i) * sizeof(w->piece[0]));
}

/* The first gap of at least @npages; if there is none, the largest.  Return: its length. */
static uint64_t find(const struct window *w, uint64_t npages, uint32_t *at, uint64_t *page)
{
	uint64_t best = 0, here;

	for (uint32_t i = 0; i <= w->npieces; i++) {
		const uint64_t length = gap(w, i, &here);

		if (length <= best)
			continue;
		best = length;
		*at = i;
		*page = here;
		if (length >= npages)
			break;
	}
	return best;
}

int window_take(struct window *w, uint64_t owner, uint64_t npages, struct ds_window_extent *extent, uint16_t *nextents)
{
	uint64_t left = npages, page = 0;
	uint16_t n = 0;
	uint32_t at = 0;

	*nextents = 0;
	if (!npages)
		return -EINVAL;
	while (left && n < DS_WINDOW_EXTENTS_MAX && w->npieces < WINDOW_PIECES_MAX) {
		const uint64_t length = find(w, left, &at, &page), taken = length < left ? length : left;

		if (!taken)
			break;
		insert(w, at, (struct window_piece){page, taken, owner});
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

/* The first piece that ends behind @page. */
static uint32_t look(const struct window *w, uint64_t page)
{
	uint32_t low = 0, high = w->npieces;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (w->piece[middle].page + w->piece[middle].npages > page)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

bool window_owns(const struct window *w, uint64_t owner, uint64_t page, uint64_t npages)
{
	if (!npages || page < w->first || page >= w->end || npages > w->end - page)
		return false;
	for (uint32_t i = look(w, page); i < w->npieces && w->piece[i].owner == owner && w->piece[i].page <= page; i++) {
		const uint64_t end = w->piece[i].page + w->piece[i].npages;

		if (end >= page + npages)
			return true;
		npages -= end - page;
		page = end;
	}
	return false;
}

uint64_t window_owner(const struct window *w, uint64_t page)
{
	const uint32_t i = look(w, page);

	return i < w->npieces && w->piece[i].page <= page ? w->piece[i].owner : 0;
}

int window_give(struct window *w, uint64_t owner, uint64_t page, uint64_t npages)
{
	const uint64_t end = page + npages;
	uint32_t i = look(w, page);

	if (!window_owns(w, owner, page, npages))
		return -EINVAL;
	if (w->piece[i].page < page && w->piece[i].page + w->piece[i].npages > end) { /* out of the middle of one */
		const struct window_piece behind = {end, w->piece[i].page + w->piece[i].npages - end, owner};

		if (w->npieces == WINDOW_PIECES_MAX)
			return -ENOMEM;
		w->piece[i].npages = page - w->piece[i].page;
		insert(w, i + 1, behind);
		return 0;
	}
	if (w->piece[i].page < page) {
		w->piece[i].npages = page - w->piece[i].page;
		i++;
	}
	while (i < w->npieces && w->piece[i].page < end) {
		const uint64_t piece_end = w->piece[i].page + w->piece[i].npages;

		if (piece_end <= end) {
			remove_piece(w, i);
			continue;
		}
		w->piece[i] = (struct window_piece){end, piece_end - end, owner};
	}
	return 0;
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
	uint64_t all = 0, page;

	*largest = 0;
	for (uint32_t i = 0; i <= w->npieces; i++) {
		const uint64_t length = gap(w, i, &page);

		all += length;
		*largest = length > *largest ? length : *largest;
	}
	return all;
}
