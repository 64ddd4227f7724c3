/* demand_impl.h - the parts of the machine behind a mirror that faults, for each other; demand.h tells what it does
 *
 * demand_pages.c keeps what is known of pages, in chunks of 64 that a hash table holds; demand.c decides.
 *
 * A page is at any time one of
 *   covered   it faults.  `known` says whether its frame is known already
 *   mapped    it leads to its frame (known), or a message that makes it so is in the queue or under way
 *   a hole    whoever touches it gets SIGSEGV
 */
#ifndef HOST_DEMAND_IMPL_H
#define HOST_DEMAND_IMPL_H

#include "runtime/host/demand.h"

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

#endif
