/* agent_mem.h - the memory of a shadowed process: pinned, and read while nothing moves
 *
 * Theory of operation
 *
 * To tell the host that page V lies in frame F is right only while F stays where it is, which pins see to (pin.h), and safe only
 * if F is nobody else's until the host has let go, which holds see to (hold.h): pins are in reach of the program's user, holds are
 * not.  Both are about the frame that was behind V when they were made; what the process does to V afterwards (munmap, mremap,
 * MADV_DONTNEED, another mmap) changes what a scan finds there and not what is pinned.  So pinning, holding and scanning are one step
 * during which the process stands still (freeze.h): no thread runs, no other process has the same memory, no worker of an
 * io_uring of its own is about.  What the step finds is told only if all of that held to its end.
 *
 *	take:	freeze - pin what is not pinned yet - hold it - scan - thaw
 *		a page counts if it is held since this step, or if it still has the frame that the host was told earlier: that one is
 *		held, so nobody else can have got it (agent_table.h)
 *		a page that the host was told of and that is gone or lies elsewhere now is stale: the caller takes it from the host
 *		(DROP or UPDATE, answered by DONE) and then lets go of it with agent_mem_release()
 *
 * Everything is read through the helper's /proc files, so it is always the address space that the helper is in: when the
 * process calls exec, its new program is never seen by mistake.  Private pages of files never show up while they are a file's:
 * pinning replaces them (pin.h), and one that still is the page cache's is left out.  Left out are also the helper's own pages
 * and the room kept for the capsule.
 *
 * What is held outlives the process; who keeps the safe (agent_mem_safe()) until the host has closed is the caller's business.
 *
 * Limits: pin.h says what cannot be pinned.  How much may be pinned in all is counted in memory that all agents' children share
 * (struct agent_account): each takes a lease before it pins, and a child that died has its lease struck out by the parent.
 * Pinned memory is beyond what RLIMIT_MEMLOCK and swapping do to a user: one other than root gets three quarters at most, so that
 * nobody can leave others without.
 *
 * A user who means harm: the helper does nothing but what it is told (remote.h), so pins and holds are made as they should be,
 * and what is held stays held.  What such a user can do is to take the pins of an own program away: its own mirror is wrong then.
 * Shared memory can be changed by a process that is not stopped, between holding and scanning.  In the shadows of programs that are not
 * root's, or that somebody else asked for (@apart), it is held by way of its file (hold_take_shared()), and told where the program has
 * the same frames.
 */
#ifndef GUEST_AGENT_MEM_H
#define GUEST_AGENT_MEM_H

#include <stdatomic.h>

#include "rle/src.h"
#include "runtime/guest/agent/agent_account.h"
#include "runtime/guest/agent/agent_ranges.h"
#include "runtime/guest/agent/agent_table.h"
#include "runtime/guest/agent/agent_target.h"
#include "runtime/guest/helper/hold.h"
#include "runtime/guest/helper/inject.h"
#include "runtime/guest/helper/pin.h"

#define AGENT_MEM_ALL UINT64_MAX /* as a number of pages: everything from there on */
#define AGENT_MEM_NO_PAGE UINT64_MAX
#define AGENT_MEM_ANYWHERE 0 /* as the first page of a reservation */

/** struct agent_mem - All of it private to agent_mem.c but what has a comment. */
struct agent_mem {
	struct remote remote;
	struct pin pin;
	struct rle_src src;
	bool src_open;
	struct hold hold;		/* what keeps the frames that the host was told of, and some more */
	bool apart;			/* other processes of the same user may mean harm: PIN_APART */
	struct agent_table told;	/* what the host was told; the caller puts things in and takes them out */
	struct agent_ranges blocked;	/* not to be pinned for now, announced by a DROP; the caller's */
	struct ds_agent_range reserve;	/* room for the capsule; npages 0: none */
	struct agent_ranges own;	/* the helper's pages and the reservation */
	struct agent_account *account;
	uint32_t slot;
	uint64_t swapped_pages; /* when it was opened: they come back when they are pinned */
};

/** struct agent_take - What a step found; give back with agent_take_free(). */
struct agent_take {
	struct agent_table now;	       /* the window's pages that are pinned, and where they are */
	struct agent_ranges stale;     /* pages the host was told of that are no more there, or elsewhere */
	struct agent_ranges altered;   /* pages the host was told of, in the same frame with another protection or attribute */
	struct agent_ranges mappings;  /* of the process; only of a step over everything */
	bool more;		       /* there are pages that the host was not told of */
	uint64_t left_out[PIN_NOUTCOMES]; /* pages that are there and could not be pinned or held, by reason */
};

/** agent_mem_meanwhile_fn - Called while the helper is put in; the safe is there (agent_mem_safe()). */
typedef void (*agent_mem_meanwhile_fn)(void *ctx);

/**
 * agent_mem_open() - Put a helper into a process, make the ring, reserve room
 * @m: filled in; give back with agent_mem_close(), also after a failure
 * @t: the process
 * @flags: enum ds_local_flags
 * @apart: other processes of the same user may mean harm
 * @reserve: room for the capsule, there or (AGENT_MEM_ANYWHERE) wherever there is some; of 0 pages: none.  That it cannot be had is no
 *	failure: @m->reserve tells
 * @account: shared
 * @slot: this child's
 * @meanwhile: what else there is to be done; called at most once; may be NULL
 * @ctx: for @meanwhile
 * @why: filled in on failure
 *
 * The helper is not whole yet (inject_first()): agent_mem_take() waits for that, which begins then, or with agent_mem_complete().
 *
 * Return: 0; -1 and @why.
 */
int agent_mem_open(struct agent_mem *m, const struct agent_target *t, uint32_t flags, bool apart, struct ds_agent_range reserve,
		   struct agent_account *account, uint32_t slot, agent_mem_meanwhile_fn meanwhile, void *ctx, struct agent_refusal *why);

/** agent_mem_complete() - Begin with what agent_mem_open() has left for when there is time; the caller goes on meanwhile. */
void agent_mem_complete(struct agent_mem *m);

/**
 * agent_mem_glance() - The mappings of a process that has no helper yet, and where there is room for a reservation
 * @pid: the process
 * @out: set to the mappings
 * @npages: of the reservation
 * @hole: set to a place in the largest hole, away from what the program maps next; of 0 pages: there is none
 *
 * Nothing is stopped, and whose mappings they are is to be looked at afterwards (agent_target_still(), agent_mem_same()).
 *
 * Return: 0; -errno.
 */
int agent_mem_glance(pid_t pid, struct agent_ranges *out, uint64_t npages, struct ds_agent_range *hole);

/** agent_mem_safe() - The descriptor that keeps everything that is held (hold.h). */
int agent_mem_safe(const struct agent_mem *m);

/** agent_mem_same() - Whether the process still runs in the memory that the helper is in: 1; 0: it has called exec; -ESRCH. */
int agent_mem_same(const struct agent_mem *m);

/** agent_mem_check_fn - Called with all threads stopped, before anything is pinned.  Return: 0 to go on, or -1 and @why. */
typedef int (*agent_mem_check_fn)(void *ctx, struct agent_refusal *why);

/**
 * agent_mem_take() - The step drawn above
 * @m: open
 * @first: the window's first page
 * @npages: its length; AGENT_MEM_ALL: everything
 * @touch: a page in it that is to be made if it is not there, or AGENT_MEM_NO_PAGE.  Pages around it in the same mapping come along
 * @check: asked while everything stands still; may be NULL
 * @ctx: for @check
 * @out: filled in, in any case to be given back with agent_take_free()
 * @why: filled in on failure.  DS_LOCAL_C_EXEC, DS_LOCAL_C_EXIT: the process has another memory, or none.  DS_LOCAL_C_LIMIT:
 *	the account's limit, or RLIMIT_MEMLOCK, was reached by a step over everything
 *
 * Return: 0; -1 and @why.
 */
int agent_mem_take(struct agent_mem *m, uint64_t first, uint64_t npages, uint64_t touch, agent_mem_check_fn check, void *ctx,
		   struct agent_take *out, struct agent_refusal *why);

/** agent_take_free() - Give back what a step found. */
void agent_take_free(struct agent_take *t);

/**
 * agent_mem_compare() - What of the pages the host was told of has changed, and the mappings now; pins nothing, stops nothing
 * @out: stale, altered, mappings
 *
 * Return: 0; -errno.
 */
int agent_mem_compare(struct agent_mem *m, struct agent_take *out);

/** agent_mem_mappings() - The mappings of the process now, without a stop.  Return: 0; -errno. */
int agent_mem_mappings(struct agent_mem *m, struct agent_ranges *out);

/** agent_mem_release() - Let go of pages; the host has none of these pages any more, and @m->told neither. */
void agent_mem_release(struct agent_mem *m, const struct agent_ranges *pages);

/** agent_mem_hide() - Puts memory without access in the place of pages of the process, whatever is there. */
void agent_mem_hide(struct agent_mem *m, uint64_t vpn, uint64_t npages);

/** agent_mem_close() - Take the helper out of the process and give everything back but what the safe keeps, if somebody has it. */
void agent_mem_close(struct agent_mem *m);

#endif
