/* hold.h - frames of a process kept allocated, out of the reach of its user
 *
 * Theory of operation
 *
 * What a mirror on the host leads to must not become anybody else's memory while it does.  The pins (pin.h) keep frames where they
 * are, but the ring that has them is the helper's, and whoever has the rights of the program's user can take a copy of it and
 * empty it.  So each frame is held a second time, in a way that only its holder can end:
 *
 *	vmsplice(2) by the helper puts a reference to each page, and not its content, into a pipe of ours, the chute (remote.h).
 *	From there splice(2) moves the references into other pipes, the boxes, which nobody else has any end of.  A frame that is
 *	referenced is not given to anybody, whatever becomes of the process; read out of its box and thrown away, it is free to go.
 *
 * That the frames in a box are those behind the addresses they are filed under is safe because
 *   - the call's number, arguments and result are facts, and what it reads as addresses is from the desk (remote.h);
 *   - others may have the chute's end for writing and put pages of their own in, but cannot take any out: so if it was empty before and
 *     holds exactly as many bytes afterwards as the call says it has put there, they are that call's;
 *   - all threads of the program stand still meanwhile and no other process has its memory; a page that is referenced is not
 *     moved by the kernel (migration, collapse and same-page merging look at the count of references, reclaim keeps it).
 * So a page table that is read after hold_take(), with everything still standing, shows frames that are held; but only in
 * memory that nobody else can change from outside: private, of no file (PIN_APART).  Of a file, shared memory among them, somebody who has it
 * too can take pages away (truncation, holes) and have others put there in between.  Shared memory is therefore held by way of a mapping
 * of our own, of the same file (hold_take_shared()): no page gets into that one but by our touching it.
 *
 * Letting go of some pages of a box, whose order is fixed, takes moving the others into another one: microseconds.
 *
 * The boxes outlive the process that uses them: all are under way in a socket, sent and never received (unix(7), SCM_RIGHTS), and
 * whoever has the receiving end keeps what is in them (hold_safe()).
 *
 * Limits: a descriptor for each HOLD_BOX_PAGES pages, less when there are holes in between; 40 bytes a page of kernel memory.
 */
#ifndef RUNTIME_GUEST_HOLD_H
#define RUNTIME_GUEST_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOLD_BOX_PAGES 4096u
#define HOLD_SHARED_PAGES 256u

struct remote;
struct hold_box;

/** struct hold - What is held of one process; private to hold.c.  hold_close() accepts HOLD_NONE. */
struct hold {
	int safe[2];	/* a socketpair; what was sent into the first and not received keeps the boxes */
	int sink;	/* where references go that are given up */
	int mouth[2];	/* a pipe: references of our own on their way into a box */
	int pagemap_fd;	/* our own */
	struct hold_box *box;
	size_t n;
	size_t spare;	/* an empty one, for moving */
	uint64_t pages; /* held now */
	bool broken;	/* boxes and what is known of them do not agree any more: nothing is let go of, nothing taken */
};

/** HOLD_NONE - What it is before hold_open(), and hold_close() leaves. */
#define HOLD_NONE                             \
	(struct hold)                         \
	{                                     \
		.safe = {-1, -1}, .sink = -1, .mouth = {-1, -1}, .pagemap_fd = -1, \
	}

/** struct hold_range - Pages. */
struct hold_range {
	uint64_t vpn, npages;
};

/** hold_missed_fn - Told of pages that could not be held: the kernel refuses references to them. */
typedef void (*hold_missed_fn)(void *ctx, uint64_t vpn, uint64_t npages);

/** hold_open() - Return: 0; -errno. */
int hold_open(struct hold *h);

/** hold_safe() - The descriptor that keeps everything; for another process to take (pidfd_getfd(2)). */
int hold_safe(const struct hold *h);

/**
 * hold_take() - Hold pages that are there now
 * @h: open
 * @r: the process; all its threads stand still: remote_settle()
 * @pages: populated; none held before
 * @n: how many of them
 * @missed: told of those that are not held; may be NULL if that is to be an error (-EFAULT)
 * @ctx: for it
 *
 * Return: 0; -ESRCH: the helper is gone; -EPROTO: something else came into the chute, or it is not settled; -EMFILE,
 * -ETOOMANYREFS: no more boxes can be had; -ENOMEM; -EIO: broken.  After an error what was taken already is held: hold_release().
 */
int hold_take(struct hold *h, struct remote *r, const struct hold_range *pages, size_t n, hold_missed_fn missed, void *ctx);

/**
 * hold_take_shared() - Hold pages of shared memory, and tell which frames that are
 * @h: open
 * @fd: the file in memory, open for reading and writing
 * @page: the first of its pages
 * @vpn: the address to file them under
 * @npages: how many, HOLD_SHARED_PAGES at most
 * @frame: filled in, for each page: the frame that is held; 0: none, it was taken away meanwhile
 *
 * Pages that the file does not have are made.  The program's own page table may show other frames: only the same ones are held.
 *
 * Return: 0; -errno: none is held.
 */
int hold_take_shared(struct hold *h, int fd, uint64_t page, uint64_t vpn, uint32_t npages, uint64_t *frame);

/** hold_release() - Let go of what is held of these pages.  Return: 0; -errno: it stays held, to the end. */
int hold_release(struct hold *h, uint64_t vpn, uint64_t npages);

/** hold_close() - Let go of everything, unless another process has taken the safe. */
void hold_close(struct hold *h);

#endif
