/* window.h - which pages of a VM's window belong to whom
 *
 * First fit over a sorted array of pieces.  Pages are given out in one piece where there is room for that, else in the largest gaps
 * that there are, up to DS_WINDOW_EXTENTS_MAX of them: a program maps pieces as well as one, and what was given out cannot be moved, as
 * it is in use.  Fragmentation beyond that is -ENOMEM, as is a full window.  Pure: no system call but for memory.
 *
 * Pages can have several owners: a forked child has its parent's mappings.  Each has pieces of its own, which overlap those of others
 * and not each other.  A page is free when its last owner has given it back.
 */
#ifndef HOST_WINDOW_H
#define HOST_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire/window.h"

#define WINDOW_PIECES_MAX 8192u

/** struct window_piece - Pages [page, page + npages) are @owner's. */
struct window_piece {
	uint64_t page, npages, owner;
};

/** struct window - The pieces, by rising first page; all of it private to window.c. */
struct window {
	uint64_t first, end; /* pages that may be given out */
	struct window_piece *piece;
	uint32_t npieces;
};

/** window_init() - Pages [first, end) are free.  Return: 0, -ENOMEM. */
int window_init(struct window *w, uint64_t first, uint64_t end);

/** window_free() - Gives back memory. */
void window_free(struct window *w);

/**
 * window_take() - Gives out pages
 * @owner: not 0
 * @npages: how many
 * @extent: filled; DS_WINDOW_EXTENTS_MAX
 * @nextents: set
 *
 * Return: 0; -EINVAL (none are wanted); -ENOMEM.
 */
int window_take(struct window *w, uint64_t owner, uint64_t npages, struct ds_window_extent *extent, uint16_t *nextents);

/** window_owns() - Whether all of [page, page + npages) is @owner's. */
bool window_owns(const struct window *w, uint64_t owner, uint64_t page, uint64_t npages);

/**
 * window_owner() - Whose a page is
 * @at: 0 at first; where to go on for the next of them
 *
 * Return: 0: nobody's, or no further one's.
 */
uint64_t window_owner(const struct window *w, uint64_t page, uint32_t *at);

/**
 * window_share() - Pages that somebody has are @owner's, too
 *
 * Return: 0; -EINVAL (not all of them are @from's); -EEXIST (@owner has one of them); -ENOMEM (too many pieces).
 */
int window_share(struct window *w, uint64_t from, uint64_t owner, uint64_t page, uint64_t npages);

/** window_share_all() - Everything that @from has; @owner has nothing yet.  Return: 0; -ENOMEM: @owner has nothing. */
int window_share_all(struct window *w, uint64_t from, uint64_t owner);

/**
 * window_give() - Takes pages back
 *
 * Return: 0; -EINVAL (not all of them are @owner's); -ENOMEM (that would leave more than WINDOW_PIECES_MAX pieces): nothing has changed.
 */
int window_give(struct window *w, uint64_t owner, uint64_t page, uint64_t npages);

/** window_unowned() - The first stretch of [page, end) that is nobody's.  Return: whether there is one. */
bool window_unowned(const struct window *w, uint64_t page, uint64_t end, struct ds_window_extent *extent);

/** window_next() - A piece of @owner's.  Return: whether there is one. */
bool window_next(const struct window *w, uint64_t owner, struct ds_window_extent *extent);

/** window_room() - Pages that are free, and in the largest gap. */
uint64_t window_room(const struct window *w, uint64_t *largest);

#endif
