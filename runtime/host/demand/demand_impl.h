/* demand_impl.h - the parts of the machine behind a mirror that faults, for each other; demand.h tells what it does
 *
 *   demand.c         faults, questions, answers: who waits for what
 *   demand_pages.c   what is known of pages, in chunks of 64 that a hash table holds
 *   demand_ranges.c  the guest's mappings, and which pages a change is about
 *   demand_map.c     which pages are mapped together; mappings of the host
 *   demand_send.c    messages to the capsule
 *   demand_change.c  coverings: evictions and drops; updates
 *
 * A page is at any time one of
 *   covered   it faults.  `known` says whether its frame is known already
 *   mapped    it leads to its frame (known), or a message that makes it so is in the queue or under way
 *   a hole    whoever touches it gets SIGSEGV
 */
#ifndef HOST_DEMAND_IMPL_H
#define HOST_DEMAND_IMPL_H

#include "runtime/host/demand/demand.h"

#define CHUNK_SHIFT 6
#define CHUNK_PAGES (1u << CHUNK_SHIFT)

/** struct chunk - 64 pages; a bit a page. */
struct chunk {
	uint64_t key; /* VPN of its first page, shifted by CHUNK_SHIFT */
	uint64_t known, mapped, hole;
	uint32_t vmas; /* what pages_recount() last found, a part of pages.vmas */
	uint32_t bits; /* of mapped and hole, last found */
	struct chunk *hash_next;
	struct chunk *older, *newer; /* in one of the two lists */
	uint64_t frame[CHUNK_PAGES]; /* pfn << 2 | prot, where known */
};

/** struct chunk_list - From the one that was changed first to the one that was changed last. */
struct chunk_list {
	struct chunk *oldest, *newest;
};

/** struct pages - All that is known of pages. */
struct pages {
	struct chunk **hash;
	uint64_t hash_size, nchunks; /* size: a power of two */
	struct chunk_list full;	     /* chunks with mapped pages or holes */
	struct chunk_list idle;	     /* the others: can be forgotten at any time */
	uint64_t vmas;		     /* boundaries between different pages: mappings beyond one a range */
	uint64_t known, mapped, holes;
	uint64_t found; /* by pages_look() */
};

static inline uint64_t frame_make(uint64_t pfn, uint32_t prot)
{
	return pfn << 2 | prot;
}

/** pages_init() - Return: 0, -ENOMEM. */
int pages_init(struct pages *p);
/** pages_free() - Gives everything back. */
void pages_free(struct pages *p);
/** pages_find() - The chunk of a page, NULL if nothing is known of it. */
struct chunk *pages_find(const struct pages *p, uint64_t vpn);
/** pages_get() - The same, made if there is none.  Return: NULL when there is no memory, or too many are full. */
struct chunk *pages_get(struct pages *p, uint64_t vpn);
/** pages_bit() - The bit of a page in its chunk. */
static inline uint64_t pages_bit(uint64_t vpn)
{
	return UINT64_C(1) << (vpn & (CHUNK_PAGES - 1));
}
/** pages_mask() - The bits that pages [vpn, vpn + npages) have in the chunk with @key. */
uint64_t pages_mask(uint64_t key, struct ds_shadow_range r);
/** pages_recount() - After a change of @c's bits: counters, mappings, lists. */
void pages_recount(struct pages *p, struct chunk *c);

/**
 * pages_each() - Calls @fn for each chunk that has pages of a range
 *
 * Takes the chunks one by one or the range chunk by chunk, whichever is shorter.  @fn may change the chunk, not
 * make or forget others.
 */
void pages_each(struct pages *p, struct ds_shadow_range r, void (*fn)(struct pages *, struct chunk *, uint64_t mask));
/** pages_cover() - For pages_each(): what the capsule covered; frames stay known. */
void pages_cover(struct pages *p, struct chunk *c, uint64_t mask);
/** pages_look() - For pages_each(): adds to `found` the pages that are mapped or holes. */
void pages_look(struct pages *p, struct chunk *c, uint64_t mask);
/** pages_forget() - For pages_each(): frames are not known any more either. */
void pages_forget(struct pages *p, struct chunk *c, uint64_t mask);

/* --- the machine ------------------------------------------------------------------------------------------------- */

#define DEMAND_STREAMS 8

struct ranges {
	struct ds_shadow_range *at;
	uint64_t n;
};

struct wait {
	uint64_t vpn;
	struct ds_shadow_range window;
	bool write;
	bool all; /* map everything that is known of the window */
	bool unsure; /* the page was mapped, and is being covered: the touch may have been before or after */
};

/* A thread of the capsule that sleeps, for sure, until a message has its page. */
struct sleeper {
	uint32_t tid;
	bool told; /* to the capsule, during the covering under way */
	uint64_t vpn;
};
#define SLEEPERS_MAX DS_SHADOW_EXECUTORS_MAX

struct ask {
	uint32_t seq;
	uint64_t vpn, at_ns;
	struct ds_shadow_range window;
	uint64_t void_lo, void_hi; /* of the answer, these pages count no more */
};

/* An access pattern: what the last fault of it brought. */
struct stream {
	uint64_t first, end;
	uint32_t npages; /* of its window */
	uint64_t used;
};

struct outgoing {
	struct outgoing *next;
	uint32_t nordered; /* segments */
	bool late[DS_SHADOW_SEGS_MAX]; /* segments that the capsule will leave out: covered since the message was made */
	struct ds_shadow_map map;
	struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
};

enum cover_kind { COVER_NONE, COVER_EVICT, COVER_DROP };
enum drop_state { DROP_NONE, DROP_QUEUED, DROP_SENT, DROP_IN_FORCE };

struct demand {
	const struct demand_ops *ops;
	void *ctx;
	int uffd;
	struct pages pages;
	struct ranges ranges, coming; /* coming: of the update under way */
	bool updating;
	uint64_t max_vmas;
	bool evicting; /* until there is room again */
	struct wait waits[DEMAND_WAITS_MAX];
	uint32_t nwaits;
	struct sleeper sleepers[SLEEPERS_MAX];
	uint32_t nsleepers;
	struct ask asks[DEMAND_ASKS_MAX];
	uint32_t nasks, ask_seq;
	struct stream streams[DEMAND_STREAMS];
	uint64_t clock;
	struct outgoing *first, *last;
	uint32_t nqueued, seq;
	uint32_t covers; /* in force */
	struct {
		enum cover_kind kind; /* under way; the rest is of the last one */
		uint32_t seq, n;
		struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
	} cover;
	struct {
		enum drop_state state;
		struct ranges ranges;
	} drop;
	struct demand_stat stat;
};

/* --- demand_ranges.c --- */
static inline uint64_t demand_end_of(struct ds_shadow_range r)
{
	return r.vpn + r.npages;
}
/** demand_cut() - What of @r lies in @to; npages 0: nothing. */
struct ds_shadow_range demand_cut(struct ds_shadow_range r, struct ds_shadow_range to);
/** demand_ranges_copy() - Checks and copies.  Return: 0, -EINVAL, -ENOMEM. */
int demand_ranges_copy(struct ranges *to, const struct ds_shadow_range *at, uint64_t n);
/** demand_ranges_free() - Gives them back. */
void demand_ranges_free(struct ranges *r);
/** demand_ranges_find() - The range that holds @vpn, NULL if none does. */
const struct ds_shadow_range *demand_ranges_find(const struct ranges *r, uint64_t vpn);
/** demand_within() - Where pages around @vpn may be mapped at this moment.  Return: whether @vpn may. */
bool demand_within(const struct demand *d, uint64_t vpn, struct ds_shadow_range *r);
/** demand_dropped() - Whether the guest has given @vpn up, and may not have done with it yet. */
bool demand_dropped(const struct demand *d, uint64_t vpn);
/** demand_last_covered() - Whether the last covering, or the one under way, has @vpn. */
bool demand_last_covered(const struct demand *d, uint64_t vpn);
/** demand_being_covered() - Whether one is under way that has @vpn. */
bool demand_being_covered(const struct demand *d, uint64_t vpn);

/* --- demand_send.c --- */
/** demand_add() - Adds a segment to *@o, or to a new message if that is full or NULL.  Return: 0, -ENOMEM, -EPROTO. */
int demand_add(struct demand *d, struct outgoing **o, struct ds_shadow_seg seg);

/** demand_awake() - A message has been made that wakes who waits for these pages. */
void demand_awake(struct demand *d, struct ds_shadow_range r);
/** demand_tell_sleepers() - While something is being covered: tells the capsule who sleeps.  Return: 0, -errno. */
int demand_tell_sleepers(struct demand *d, struct outgoing **o);

/* --- demand_map.c --- */
/** demand_vmas() - Mappings that the mirror takes, rather too many than too few. */
uint64_t demand_vmas(const struct demand *d);
/** demand_many_vmas() - Above it pages are evicted. */
uint64_t demand_many_vmas(const struct demand *d);
/** demand_map_wait() - Maps what @w waits for, and more, in @in.  Return: 0; -ENOSPC: not now; -errno. */
int demand_map_wait(struct demand *d, const struct wait *w, struct ds_shadow_range in);
/** demand_wake() - Has who waits for @vpn try again.  Return: 0, -errno. */
int demand_wake(struct demand *d, uint64_t vpn);
/** demand_make_hole() - Tells the capsule that a page is not there.  @remember: it is in the guest's mappings. */
int demand_make_hole(struct demand *d, uint64_t vpn, bool remember);

/* --- demand_change.c --- */
/** demand_evict() - Evicts from the chunks that were changed first, if there are too many mappings.  Return: 0, -errno. */
int demand_evict(struct demand *d);

/* --- demand.c --- */
/** demand_settle() - Does for everybody who waits what can be done, evicts, sends.  Return: 0, -errno. */
int demand_settle(struct demand *d);

#endif
