/* window.h - files of the host that the program maps shared: what the files that see to it share; theory in window.c
 *
 *   window.c   mmap(), munmap(), mprotect(), msync()      remap.c   mremap()      inherit.c   what a forked child has of it
 */
#ifndef GUEST_FORWARD_WINDOW_H
#define GUEST_FORWARD_WINDOW_H

#include "runtime/guest/forward/forward.h"

#define FORWARD_WINDOW_PIECES 1000u

/** struct forward_piece - Pages of the program that are a file's of the host. */
struct forward_piece {
	uint64_t start, end; /* start 0: free; written last */
	uint32_t prot;	     /* that it can have */
	uint32_t now;	     /* that it has, if all of it has the same */
};

/** struct forward_window - All of them. */
struct forward_window {
	uint32_t n;	  /* pieces up to the last that is used */
	uint32_t lock;	  /* of what is here; never held across an exchange with dsagent */
	uint32_t changes; /* who maps more, or makes a child that is to have it: before `lock`, and across exchanges */
	uint32_t has_fd;
	int32_t fd; /* of the window */
	struct forward_piece piece[FORWARD_WINDOW_PIECES];
};
extern struct forward_window forward_window;

/** forward_window_any() - Whether there is any piece. */
bool forward_window_any(void);

/**
 * forward_window_into() - Maps pages of a file over room that is there
 * @want: with its pages; @prot: of the mapping
 *
 * With `changes` held.  Return: 0, then they are a piece; -errno: the room is as it was.
 */
int64_t forward_window_into(const struct ds_window_map *want, uint64_t prot);

/** forward_window_whole() - The piece that has all of a range, copied.  Return: whether there is one. */
bool forward_window_whole(uint64_t start, uint64_t end, struct forward_piece *out);

/** forward_window_join() - The pieces that meet at @at are one. */
void forward_window_join(uint64_t at);

/** forward_window_forget() - Takes the pieces of a range out of the table; nobody is told. */
void forward_window_forget(uint64_t start, uint64_t end);

/** forward_window_remap() - mremap() of a range that forward_window_touches().  Return: as mremap(2). */
int64_t forward_window_remap(const struct intercept_call *call);

/* --- dsagent (agent.c) ----------------------------------------------------------------------------------------------- */

/** forward_agent_unmap() - These pages of the program are the window's no more: dsagent is told, and the answer waited for later. */
void forward_agent_unmap(const struct ds_window_unmap *what);

/** forward_agent_settle() - Before the host does anything else for this process: what was unmapped is unmapped in the VMM as well. */
void forward_agent_settle_now(void);
extern uint32_t forward_agent_unsettled;
static inline void forward_agent_settle(void)
{
	if (__atomic_load_n(&forward_agent_unsettled, __ATOMIC_RELAXED))
		forward_agent_settle_now();
}

/* --- inherit.c ------------------------------------------------------------------------------------------------------- */

/** forward_window_fork() - Before a child is made that is to have all of it, until forward_window_forked(), in parent and child. */
void forward_window_fork(void);
void forward_window_forked(void);

/** forward_window_born() - In a forked child; @leased: it has a lease, else it loses what it has mapped. */
void forward_window_born(bool leased);

/** forward_window_claimed() - The child has a shadow now; @came: and that has the lease.  Before the estate's stream is closed. */
void forward_window_claimed(bool came);

/**
 * forward_window_child_call() - A call of a child without a shadow that may be about its mappings
 *
 * Return: FORWARD_C_DONE: it has been made; FORWARD_C_NEEDS: it takes a shadow; FORWARD_C_LOCAL: it is not about them.
 */
enum forward_child forward_window_child_call(struct intercept_call *call, int64_t *result);

#endif
