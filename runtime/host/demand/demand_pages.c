/* demand_pages.c - see demand_impl.h
 *
 * Mappings are counted as boundaries: two neighbouring pages lie in one mapping if both are covered, both are holes, or
 * both lead to frames that follow each other with equal protection.  A chunk with mapped pages or holes counts the
 * boundaries inside and at its left edge, and at its right edge when the next chunk has none of its own.  The
 * kernel may find less to merge: who uses the count leaves room.
 */
#include "runtime/host/demand/demand_impl.h"

#include <errno.h>
#include <stdlib.h>

#define HASH_FIRST 1024u

int pages_init(struct pages *p)
{
	*p = (struct pages){.hash_size = HASH_FIRST};
	p->hash = calloc(HASH_FIRST, sizeof(struct chunk *));
	return p->hash ? 0 : -ENOMEM;
}

void pages_free(struct pages *p)
{
	for (uint64_t i = 0; p->hash && i < p->hash_size; i++) {
		for (struct chunk *c = p->hash[i], *next; c; c = next) {
			next = c->hash_next;
			free(c);
		}
	}
	free(p->hash);
	p->hash = NULL;
}

static struct chunk **slot(const struct pages *p, uint64_t key)
{
	return &p->hash[key * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (p->hash_size - 1)];
}

static struct chunk *find_key(const struct pages *p, uint64_t key)
{
	struct chunk *c = *slot(p, key);

	while (c && c->key != key)
		c = c->hash_next;
	return c;
}

struct chunk *pages_find(const struct pages *p, uint64_t vpn)
{
	return find_key(p, vpn >> CHUNK_SHIFT);
}

/* --- lists ------------------------------------------------------------------------------------------------------- */

static void list_take(struct chunk_list *l, struct chunk *c)
{
	*(c->older ? &c->older->newer : &l->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &l->newest) = c->older;
	c->older = c->newer = NULL;
}

static void list_add(struct chunk_list *l, struct chunk *c)
{
	c->older = l->newest;
	c->newer = NULL;
	*(l->newest ? &l->newest->newer : &l->oldest) = c;
	l->newest = c;
}

/* --- table ------------------------------------------------------------------------------------------------------- */

static void rehash(struct pages *p)
{
	const uint64_t size = p->hash_size * 2;
	struct chunk **hash = calloc(size, sizeof(struct chunk *)), **old = p->hash;

	if (!hash) /* longer chains, then */
		return;
	p->hash = hash;
	p->hash_size = size;
	for (uint64_t i = 0; i < size / 2; i++) {
		for (struct chunk *c = old[i], *next; c; c = next) {
			struct chunk **s = slot(p, c->key);

			next = c->hash_next;
			c->hash_next = *s;
			*s = c;
		}
	}
	free(old);
}

static void forget_chunk(struct pages *p, struct chunk *c)
{
	struct chunk **s = slot(p, c->key);

	while (*s != c)
		s = &(*s)->hash_next;
	*s = c->hash_next;
	list_take(&p->idle, c);
	p->known -= (uint64_t)__builtin_popcountll(c->known);
	p->nchunks--;
	free(c);
}

struct chunk *pages_get(struct pages *p, uint64_t vpn)
{
	struct chunk *c = pages_find(p, vpn), **s;

	if (c)
		return c;
	if (p->nchunks >= DEMAND_CHUNKS_MAX) {
		if (!p->idle.oldest)
			return NULL;
		forget_chunk(p, p->idle.oldest);
	}
	if (p->nchunks >= p->hash_size)
		rehash(p);
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->key = vpn >> CHUNK_SHIFT;
	s = slot(p, c->key);
	c->hash_next = *s;
	*s = c;
	list_add(&p->idle, c);
	p->nchunks++;
	return c;
}

/* --- counting ---------------------------------------------------------------------------------------------------- */

static bool is_full(const struct chunk *c)
{
	return c && (c->mapped | c->hole);
}

/* Whether page @i of @c and the one behind it, page @k of @d, lie in one mapping.  NULL: nothing but covered pages. */
static bool joined(const struct chunk *c, unsigned int i, const struct chunk *d, unsigned int k)
{
	const bool c_mapped = c && c->mapped >> i & 1, d_mapped = d && d->mapped >> k & 1;
	const bool c_hole = c && c->hole >> i & 1, d_hole = d && d->hole >> k & 1;

	if (c_mapped != d_mapped || c_hole != d_hole)
		return false;
	return !c_mapped || c->frame[i] + frame_make(1, 0) == d->frame[k];
}

static uint32_t count(const struct pages *p, const struct chunk *c)
{
	const struct chunk *next = find_key(p, c->key + 1);
	uint32_t n;

	if (!is_full(c))
		return 0;
	n = !joined(find_key(p, c->key - 1), CHUNK_PAGES - 1, c, 0);
	for (unsigned int i = 0; i + 1 < CHUNK_PAGES; i++)
		n += !joined(c, i, c, i + 1);
	return n + (!is_full(next) && !joined(c, CHUNK_PAGES - 1, next, 0));
}

static void recount_one(struct pages *p, struct chunk *c)
{
	const uint32_t vmas = count(p, c);

	p->vmas += vmas;
	p->vmas -= c->vmas;
	c->vmas = vmas;
}

void pages_recount(struct pages *p, struct chunk *c)
{
	struct chunk *beside[2] = {find_key(p, c->key - 1), find_key(p, c->key + 1)};
	const uint32_t bits = (uint32_t)__builtin_popcountll(c->mapped | c->hole);

	list_take(c->bits ? &p->full : &p->idle, c);
	list_add(bits ? &p->full : &p->idle, c);
	c->bits = bits;
	recount_one(p, c);
	for (int i = 0; i < 2; i++)
		if (beside[i])
			recount_one(p, beside[i]);
}

/* --- ranges ------------------------------------------------------------------------------------------------------ */

uint64_t pages_mask(uint64_t key, struct ds_shadow_range r)
{
	const uint64_t first = key << CHUNK_SHIFT, end = r.vpn + r.npages;
	const uint64_t lo = r.vpn > first ? r.vpn - first : 0, hi = end < first + CHUNK_PAGES ? end - first : CHUNK_PAGES;
	uint64_t mask;

	if (end <= first || lo >= hi)
		return 0;
	mask = hi == CHUNK_PAGES ? UINT64_MAX : (UINT64_C(1) << hi) - 1;
	return mask & ~((UINT64_C(1) << lo) - 1);
}

void pages_each(struct pages *p, struct ds_shadow_range r, void (*fn)(struct pages *, struct chunk *, uint64_t mask))
{
	const uint64_t first = r.vpn >> CHUNK_SHIFT, last = (r.vpn + r.npages - 1) >> CHUNK_SHIFT;

	if (!r.npages)
		return;
	if (last - first < p->hash_size) {
		for (uint64_t key = first; key <= last; key++) {
			struct chunk *c = find_key(p, key);

			if (c)
				fn(p, c, pages_mask(key, r));
		}
		return;
	}
	for (uint64_t i = 0; i < p->hash_size; i++) {
		for (struct chunk *c = p->hash[i]; c; c = c->hash_next) {
			const uint64_t mask = pages_mask(c->key, r);

			if (mask)
				fn(p, c, mask);
		}
	}
}

void pages_cover(struct pages *p, struct chunk *c, uint64_t mask)
{
	if (!((c->mapped | c->hole) & mask))
		return;
	p->mapped -= (uint64_t)__builtin_popcountll(c->mapped & mask);
	p->holes -= (uint64_t)__builtin_popcountll(c->hole & mask);
	c->mapped &= ~mask;
	c->hole &= ~mask;
	pages_recount(p, c);
}

void pages_forget(struct pages *p, struct chunk *c, uint64_t mask)
{
	pages_cover(p, c, mask);
	p->known -= (uint64_t)__builtin_popcountll(c->known & mask);
	c->known &= ~mask;
}

void pages_look(struct pages *p, struct chunk *c, uint64_t mask)
{
	p->found += (uint64_t)__builtin_popcountll((c->mapped | c->hole) & mask);
}
