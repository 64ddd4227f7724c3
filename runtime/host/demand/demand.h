/* demand.h - the host's side of a mirror that faults: from touched pages to questions to the guest, and back
 *
 * Theory of operation
 *
 * In demand mode a shadow starts with an empty mirror.  The guest's mappings are covered in the capsule by memory that is
 * registered with a userfaultfd; whoever touches a page there sleeps, also inside a system call, and the descriptor that
 * the warden has taken from the capsule says which page it was.  This is the machine in between:
 *
 *   fault (uffd) -> [frame known?] -- yes --------------------------------> MAP to the capsule: maps, wakes
 *                        no -> ask: FAULT to the guest, PAGES from it -> frames known -^
 *
 * It decides, and remembers; what it decides leaves by three functions of its owner: ask (the guest), order (tells the
 * guard what the capsule is about to map), send (the capsule).  Its only system calls are read() of the userfaultfd and
 * clock_gettime().  One thread.
 *
 * Pages.  Of each page in the guest's mappings it is known or not which frame it has (pinned in the guest, named in an
 * answer), and whether the capsule has it mapped.  A page that the guest says it has not is a hole: whoever waits gets
 * SIGSEGV or EFAULT, and so does everybody later, until a drop or an update covers the page.  Frames stay known
 * when a page is evicted, so that it comes back without a question.
 *
 * Windows.  A fault that continues an earlier one (it lies where the last window of some stream ended, or a few pages
 * behind) doubles the window, up to DEMAND_WINDOW_MAX, and everything known of the window is mapped.  Any other
 * fault asks for the DEMAND_WINDOW_MIN pages around it and maps the run of frames that holds the page, which costs one
 * mmap() whatever its length.  Windows are cut to the mapping.
 *
 * What arrives in an unlucky order
 * - Several threads on one page, or in one window: one question.  A fault on a page that is mapped already was sent before
 *   the mapping was made and is woken by it; it is dropped.
 * - Covering.  Drops and evictions are MAP messages with DS_SHADOW_COVER, one at a time, each answered by STATUS.
 *   The capsule waits for its executors first, and they may be waiting for faults.  Who waits for a page need not be waited
 *   for and is named to the capsule (DS_SHADOW_WAITS), since the guest may hold its answer back until the drop is done;
 *   whatever it does answer meanwhile is served, also in a range that is being covered.  A MAP sent before the STATUS was read may arrive behind the covering, and would undo it:
 *   each MAP carries the number of coverings its sender knows of, the capsule leaves out what is behind the times and
 *   only wakes; the fault comes again.  When STATUS is read, nothing in the range is mapped, whatever was sent, and what
 *   was ordered there and not used is revoked.
 * - An answer of the guest to a question from before a drop may name frames that are given up now.  It is used
 *   until the drop is in force in the capsule (the frames are pinned until DONE), not afterwards: the page is asked
 *   for again after demand_drop_end().
 * - While an update is under way, pages of the old and the new mappings alike can be mapped, no others: who touches what is
 *   about to go finds a hole, who touches what has just come waits until the update's end is known here too.
 *
 * Mappings of the host.  vm.max_map_count bounds a process; a mirror of scattered pages takes two mappings a page.  They
 * are counted, rather too many than too few, and before there are too many the chunks (64 pages) that were mapped
 * first are covered again.  So a mirror can be of any size.
 */
#ifndef HOST_DEMAND_H
#define HOST_DEMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "rle/map.h"
#include "runtime/wire/shadow.h"

#define DEMAND_WINDOW_MIN 16u	/* pages; a power of two */
#define DEMAND_WINDOW_MAX 1024u /* pages */
#define DEMAND_WAITS_MAX 1024u	/* pages that somebody waits for, at one time */
#define DEMAND_ASKS_MAX 256u	/* questions without an answer, at one time */
#define DEMAND_CHUNKS_MAX 262144u /* of 64 pages, about which something is remembered: 16 million pages, 160 MB */
#define DEMAND_QUEUE_MAX 4096u	/* messages that the capsule does not take */
#define DEMAND_VMAS_MIN 512u	/* the least that @max_vmas may be, beyond one a range */
#define DEMAND_SEQ UINT32_C(0x80000000) /* requests to the capsule from here on are this machine's, those below its owner's */

struct demand;

/** struct demand_ops - What a machine has done for it.  Each returns 0 or -errno; an error ends the call that led to it. */
struct demand_ops {
	/**
	 * ask - Sends DS_AGENT_FAULT; must take it (queue it), never -EAGAIN
	 * @seq: for demand_pages(); counts from 1
	 * @window: holds @vpn
	 */
	int (*ask)(void *ctx, uint32_t seq, uint64_t vpn, struct ds_shadow_range window, bool write);
	/**
	 * order - Just before the message with this segment is sent: the capsule is going to map it, once
	 *
	 * -ENOSPC: too much is ordered and not mapped yet; tried again by demand_flush().
	 */
	int (*order)(void *ctx, const struct ds_shadow_seg *seg);
	/** revoke - What was ordered of these pages and has not been mapped may not be mapped any more. */
	void (*revoke)(void *ctx, struct ds_shadow_range range);
	/** send - Sends a message to the capsule; -EAGAIN: not now, call demand_flush() when it can be sent. */
	int (*send)(void *ctx, const struct ds_shadow_map *map);
	/**
	 * foreign - A page has been touched of which nothing is known: whether it is something else than a page of the guest's
	 *
	 * Then the owner has it mapped, by a message of its own that wakes whoever sleeps there (DS_SHADOW_WINDOW), and says so:
	 * demand_foreign() when that is sent, demand_not_foreign() when it did not come to pass.  NULL: there are no such pages.
	 */
	bool (*foreign)(void *ctx, uint64_t vpn);
};

/** struct demand_params - What demand_new() wants. */
struct demand_params {
	const struct ds_shadow_range *ranges; /* the guest's mappings, as in BOOT; copied */
	uint64_t nranges;
	uint64_t max_vmas; /* mappings that the mirror may take: the plan's max_segs (runtime/shadow/plan.h) */
	const struct demand_ops *ops; /* kept */
	void *ctx;
};

/** struct demand_stat - Counters; those of pages and mappings are of now, the others since the start. */
struct demand_stat {
	uint64_t known_pages, mapped_pages, hole_pages, vmas;
	uint64_t faults, stale_faults; /* read; of these, on pages that were mapped by then */
	uint64_t asks, segs, covers, evicted_pages;
	uint32_t waiting; /* pages that somebody waits for */
};

/**
 * demand_new() - Makes a machine
 *
 * Return: 0; -EINVAL (ranges out of order or beyond the user half, too few mappings), -ENOMEM.
 */
int demand_new(struct demand **d, const struct demand_params *params);

/** demand_free() - Ends it, closes the userfaultfd; NULL is nothing. */
void demand_free(struct demand *d);

/**
 * demand_start() - Gives it the capsule's userfaultfd
 * @uffd: its own from now on: STATUS.fault_fd, taken with pidfd_getfd(2); nonblocking as the capsule made it
 */
void demand_start(struct demand *d, int uffd);

/** demand_fd() - The userfaultfd, to be polled for POLLIN; -1 before demand_start(). */
int demand_fd(const struct demand *d);

/**
 * demand_run() - Reads faults and answers what it can
 *
 * Return: 0; -EPROTO: the shadow does what no capsule does (events that are no faults, more than DEMAND_WAITS_MAX pages waited
 * for, more than DEMAND_QUEUE_MAX messages not taken) and has to end; -errno of read(), of an op.
 */
int demand_run(struct demand *d);

/**
 * demand_fault() - What demand_run() does with each fault it reads, for owners that read themselves
 * @vpn: the page; outside of the mappings it becomes a hole
 * @tid: the thread that waits, as the capsule counts threads (UFFD_FEATURE_THREAD_ID); 0: not known
 *
 * Return: as demand_run().
 */
int demand_fault(struct demand *d, uint64_t vpn, bool write, uint32_t tid);

/**
 * demand_pages() - The guest's answer
 * @seq: of the question
 * @map: translated (RLE_SPACE_FILE or RLE_SPACE_HOST), split by RLE_SPLIT_ATTR, checked against the RAM; may be empty
 *
 * Return: 0; -EBADMSG: no such question, or pages outside of its window: the guest lies; -ENOMEM; -errno of an op.
 */
int demand_pages(struct demand *d, uint32_t seq, const struct rle_map *map);

/**
 * demand_known() - Frames known beforehand, as if answered; of the map of an ATTACH, say
 *
 * Nothing is mapped before it is touched.  Return: as demand_pages(); pages outside of the mappings are left out.
 */
int demand_known(struct demand *d, const struct rle_map *map);

/**
 * demand_flush() - Sends what op send() has not taken
 *
 * Return: 0; -errno of an op (-EAGAIN is none).
 */
int demand_flush(struct demand *d);

/** demand_pending() - Whether something waits for demand_flush(). */
bool demand_pending(const struct demand *d);

/**
 * demand_drop() - Pages are about to go in the guest: the capsule is to have them no more
 * @ranges: rising, not overlapping; copied
 *
 * One at a time, demand_drop_end() included.
 *
 * Return: 0: under way, demand_status() or demand_refused() will tell; 1: in force already, nothing of it was mapped;
 * -EBUSY, -EINVAL (ranges out of order), -ENOMEM, -errno of an op.
 */
int demand_drop(struct demand *d, const struct ds_shadow_range *ranges, uint64_t n);

/**
 * demand_status() - The capsule answered STATUS with @seq from DEMAND_SEQ on
 *
 * Return: 1: the drop under way is in force, it can be proved and DONE be sent; 0; -EPROTO: not asked for; -errno of an op.
 */
int demand_status(struct demand *d, uint32_t seq);

/**
 * demand_refused() - The capsule answered REFUSED with @seq from DEMAND_SEQ on
 *
 * Return: 0: an eviction, which is tried again; -EBUSY: a drop, a mapping, or an eviction without which nothing can be
 * mapped any more: the shadow has to end; -errno of an op.
 */
int demand_refused(struct demand *d, uint32_t seq);

/**
 * demand_drop_end() - DONE has been sent: who waits for dropped pages is asked about now
 *
 * Return: 0; -errno of an op.
 */
int demand_drop_end(struct demand *d);

/**
 * demand_update_begin() - An UPDATE with these mappings is about to be sent to the capsule
 * @ranges: as in the UPDATE; copied
 *
 * Return: 0; -EAGAIN (demand_pending(): flush first, an UPDATE must not overtake), -EBUSY (one is under way), -EINVAL,
 * -ENOMEM.
 */
int demand_update_begin(struct demand *d, const struct ds_shadow_range *ranges, uint64_t n);

/**
 * demand_update_end() - The capsule answered it
 * @applied: by STATUS; false: by REFUSED, the mappings stay what they were
 *
 * Return: 0; -errno of an op.
 */
int demand_update_end(struct demand *d, bool applied);

/**
 * demand_foreign() - The capsule is about to be told to have something else than the guest's frames at these pages: a file
 *
 * Before the message is sent, so that whatever covers them comes after it.  They are as holes to the machine: a drop covers them, and
 * so may an eviction, after which op foreign() is asked again.  Pages outside of the mappings are left out.
 *
 * Return: 0, -ENOMEM (a part of them may be).
 */
int demand_foreign(struct demand *d, struct ds_shadow_range range);

/**
 * demand_not_foreign() - It did not come to pass, and who sleeps there is to know
 * @hole: the pages are holes until they are covered; false: as if nothing had been said, who sleeps tries again
 *
 * Return: 0; -errno of an op.
 */
int demand_not_foreign(struct demand *d, struct ds_shadow_range range, bool hole);

/** demand_asked_ns() - CLOCK_MONOTONIC time of the oldest question without an answer; 0: there is none. */
uint64_t demand_asked_ns(const struct demand *d);

/** demand_stat() - Counters. */
struct demand_stat demand_stat(const struct demand *d);

#endif
