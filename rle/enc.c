/* enc.c - the encoder; theory of operation in enc.h */
#include "rle/enc.h"

#include <errno.h>
#include <string.h>

#include "rle/kpage.h"

#define NOWHERE UINT64_MAX /* a VPN that no stretch starts at */
#define KPAGE_BATCH 512

void rle_enc_init(struct rle_enc *e, enum rle_split emit, rle_run_fn fn, void *ctx, const struct rle_frames *frames)
{
	*e = (struct rle_enc){
		.emit = emit,
		.fn = fn,
		.ctx = ctx,
		.frames = frames,
		.next_vpn = NOWHERE,
	};
}

/* Hands on the open run, if any, and closes it. */
static int flush(struct rle_enc *e, enum rle_end end)
{
	if (!e->open.npages)
		return 0;
	e->n.ends[end]++;
	if (e->fn) {
		int err = e->fn(e->ctx, &e->open, end);

		if (err)
			return e->err = err;
	}
	e->open.npages = 0;
	return 0;
}

int rle_enc_vma(struct rle_enc *e, ds_vpn start, ds_vpn end, uint32_t prot)
{
	int err;

	if (e->err)
		return e->err;
	if (start.n >= end.n || end.n > DS_USER_VPN_END || (e->n.vmas && start.n < e->vma_end) || prot & ~RLE_ATTR_PROT)
		return e->err = -EINVAL;
	/* A run may go on across the border of two adjacent VMAs, so only a gap or a hole before it ends one here. */
	if (e->open.npages) {
		err = 0;
		if (e->next_vpn < e->vma_end)
			err = flush(e, RLE_END_HOLE);
		else if (start.n != e->vma_end)
			err = flush(e, RLE_END_VMA);
		if (err)
			return err;
	}
	e->at = start.n;
	e->vma_end = end.n;
	e->vma_attr = prot;
	e->n.vmas++;
	e->n.mapped += end.n - start.n;
	return 0;
}

/* Why the stretch at @vpn with attributes @diff away from the last one's does not continue the open run. */
static bool splits(const struct rle_enc *e, bool touches, uint64_t vpn, uint32_t diff, enum rle_end *why)
{
	if (!touches)
		*why = vpn == e->next_vpn ? RLE_END_PHYS : RLE_END_HOLE;
	else if (e->emit >= RLE_SPLIT_PROT && diff & RLE_ATTR_PROT)
		*why = RLE_END_PROT;
	else if (e->emit >= RLE_SPLIT_ATTR && diff)
		*why = RLE_END_ATTR;
	else
		return false;
	return true;
}

/* A piece is a stretch with one set of attributes: here runs are counted, under every policy, and built. */
static inline int piece(struct rle_enc *e, uint64_t vpn, uint64_t pfn, uint64_t npages, uint32_t attr)
{
	bool touches = vpn == e->next_vpn && pfn == e->next_pfn;
	uint32_t diff = attr ^ e->last_attr;
	enum rle_end why;

	if (!touches) {
		e->n.runs[RLE_SPLIT_VPN_PFN]++;
		e->n.runs[RLE_SPLIT_PROT]++;
		e->n.runs[RLE_SPLIT_ATTR]++;
	} else if (diff) {
		e->n.runs[RLE_SPLIT_ATTR]++;
		if (diff & RLE_ATTR_PROT)
			e->n.runs[RLE_SPLIT_PROT]++;
	}
	e->last_attr = attr;
	if (splits(e, touches, vpn, diff, &why) && flush(e, why))
		return e->err;
	e->next_vpn = vpn + npages;
	e->next_pfn = pfn + npages;
	while (e->open.npages + npages > RLE_RUN_MAX_PAGES) {
		uint64_t part = RLE_RUN_MAX_PAGES - e->open.npages;

		if (!e->open.npages)
			e->open = (struct rle_run){{vpn}, {pfn}, 0, attr};
		e->open.npages = RLE_RUN_MAX_PAGES;
		if (flush(e, RLE_END_LONG))
			return e->err;
		vpn += part;
		pfn += part;
		npages -= part;
	}
	if (e->open.npages)
		e->open.npages += npages;
	else
		e->open = (struct rle_run){{vpn}, {pfn}, npages, attr};
	return 0;
}

static uint64_t overlap(const struct rle_extent *x, uint64_t pfn, uint64_t npages)
{
	uint64_t lo = pfn > x->first.n ? pfn : x->first.n;
	uint64_t end = pfn + npages, xend = x->first.n + x->npages;
	uint64_t hi = end < xend ? end : xend;

	return hi > lo ? hi - lo : 0;
}

/* Pages of [pfn, pfn + npages) in System RAM.  Mostly the extent found last holds all of them. */
static uint64_t in_ram(struct rle_enc *e, uint64_t pfn, uint64_t npages)
{
	const struct rle_frames *f = e->frames;
	uint64_t sum = 0;

	if (overlap(&f->ram[e->ram_hint], pfn, npages) == npages)
		return npages;
	for (size_t i = 0; i < f->nram && sum < npages; i++) {
		uint64_t part = overlap(&f->ram[i], pfn, npages);

		if (part)
			e->ram_hint = i;
		sum += part;
	}
	return sum;
}

/* Frames that only this process maps cannot be met again: they are counted by rle_counts.exclusive instead. */
static void mark_seen(const struct rle_frames *f, uint64_t pfn, uint64_t npages)
{
	uint64_t end = pfn + npages < f->seen_pages ? pfn + npages : f->seen_pages;

	while (pfn < end) {
		uint64_t bit = pfn % 64, n = 64 - bit < end - pfn ? 64 - bit : end - pfn;
		uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << bit;
		uint64_t *word = &f->seen[pfn / 64];

		if (!__atomic_load_n(&f->seen_touched[pfn / RLE_SEEN_BLOCK], __ATOMIC_RELAXED))
			__atomic_store_n(&f->seen_touched[pfn / RLE_SEEN_BLOCK], 1, __ATOMIC_RELAXED);
		if ((__atomic_load_n(word, __ATOMIC_RELAXED) & mask) != mask)
			__atomic_fetch_or(word, mask, __ATOMIC_RELAXED);
		pfn += n;
	}
}

static void count_kpage(struct rle_counts *n, uint32_t attr, uint64_t npages)
{
	n->ksm += attr & RLE_ATTR_KSM ? npages : 0;
	n->thp += attr & RLE_ATTR_THP ? npages : 0;
	n->hugetlb += attr & RLE_ATTR_HUGETLB ? npages : 0;
	n->multi += attr & RLE_ATTR_MULTI ? npages : 0;
}

/* The join: cuts a stretch into pieces of equal kpageflags and kpagecount. */
static int joined(struct rle_enc *e, uint64_t vpn, uint64_t pfn, uint64_t npages, uint32_t attr, bool once)
{
	uint8_t byte[KPAGE_BATCH];

	if (!e->frames->join_every_page) {
		uint32_t k = e->last_attr & RLE_ATTR_KPAGE;

		if (vpn != e->next_vpn || pfn != e->next_pfn) {
			int err = rle_kpage_read(e->frames->kpage, (ds_pfn){pfn}, 1, once, byte);

			if (err)
				return e->err = err;
			k = (uint32_t)byte[0] << RLE_ATTR_KPAGE_SHIFT;
		}
		count_kpage(&e->n, k, npages);
		return piece(e, vpn, pfn, npages, attr | k);
	}
	while (npages) {
		size_t batch = npages < KPAGE_BATCH ? npages : KPAGE_BATCH;
		int err = rle_kpage_read(e->frames->kpage, (ds_pfn){pfn}, batch, once, byte);

		if (err)
			return e->err = err;
		for (size_t i = 0, n; i < batch; i += n) {
			uint32_t k = (uint32_t)byte[i] << RLE_ATTR_KPAGE_SHIFT;

			for (n = 1; i + n < batch && byte[i + n] == byte[i]; n++)
				;
			count_kpage(&e->n, k, n);
			if (piece(e, vpn + i, pfn + i, n, attr | k))
				return e->err;
		}
		vpn += batch;
		pfn += batch;
		npages -= batch;
	}
	return 0;
}

/* A stretch: @npages words that rise by one, of which @pte is the first. */
static inline int stretch(struct rle_enc *e, uint64_t vpn, uint64_t pte, uint64_t npages)
{
	const struct rle_frames *f = e->frames;
	uint64_t pfn = rle_pte_pfn(pte).n;
	uint32_t attr = e->vma_attr;

	if (pfn + npages > DS_PFN_END)
		return e->err = -EBADMSG;
	e->n.present += npages;
	if (pte & (RLE_PTE_FILE | RLE_PTE_UFFD_WP)) {
		attr |= rle_pte_attr(pte);
		e->n.file += pte & RLE_PTE_FILE ? npages : 0;
	}
	if (pte & RLE_PTE_EXCLUSIVE)
		e->n.exclusive += npages;
	if (!pfn)
		e->n.hidden++;
	if (f) {
		if (f->ram)
			e->n.device += npages - in_ram(e, pfn, npages);
		if (!(pte & RLE_PTE_EXCLUSIVE)) {
			e->n.zero += overlap(&f->zero, pfn, npages) + overlap(&f->huge_zero, pfn, npages);
			if (f->seen)
				mark_seen(f, pfn, npages);
		}
		if (f->kpage)
			return joined(e, vpn, pfn, npages, attr, pte & RLE_PTE_EXCLUSIVE);
	}
	return piece(e, vpn, pfn, npages, attr);
}

/* Length of the stretch at p[0]: eight words a step once the second word has shown that there is one. */
static inline size_t stretch_len(const uint64_t *p, size_t n)
{
	uint64_t w = p[0];
	size_t i = 1;

	if (n < 2 || p[1] != w + 1)
		return 1;
	for (; i + 8 <= n; i += 8) {
		uint64_t differs = 0;

		for (size_t k = 0; k < 8; k++)
			differs |= p[i + k] ^ (w + i + k);
		if (differs)
			break;
	}
	while (i < n && p[i] == w + i)
		i++;
	return i;
}

static void absent(struct rle_counts *n, uint64_t pte)
{
	if (!(pte & RLE_PTE_SWAP)) {
		n->guard += !!(pte & RLE_PTE_GUARD); /* soft-dirty alone says nothing about the page */
		return;
	}
	if (pte & RLE_PTE_GUARD)
		n->guard++;
	else if (rle_pte_is_marker(pte))
		n->marker++;
	else if (rle_pte_swap_type(pte) >= RLE_SWAP_TYPE_SPECIAL)
		n->migrating++;
	else
		n->swapped++;
}

int rle_enc_words(struct rle_enc *e, ds_vpn at, const uint64_t *pte, size_t n)
{
	if (e->err)
		return e->err;
	if (!e->n.vmas || at.n < e->at || at.n > e->vma_end || n > e->vma_end - at.n)
		return e->err = -EINVAL;
	for (size_t i = 0; i < n;) {
		if (pte[i] & RLE_PTE_PRESENT) {
			size_t len = stretch_len(pte + i, n - i);

			if (stretch(e, at.n + i, pte[i], len))
				return e->err;
			i += len;
		} else {
			if (pte[i])
				absent(&e->n, pte[i]);
			i++;
		}
	}
	e->at = at.n + n;
	return 0;
}

int rle_enc_block(struct rle_enc *e, ds_vpn at, uint64_t pte, uint64_t npages)
{
	if (e->err)
		return e->err;
	if (!e->n.vmas || at.n < e->at || at.n > e->vma_end || npages > e->vma_end - at.n || !(pte & RLE_PTE_PRESENT))
		return e->err = -EINVAL;
	if (npages && stretch(e, at.n, pte, npages))
		return e->err;
	e->at = at.n + npages;
	return 0;
}

int rle_enc_finish(struct rle_enc *e)
{
	if (e->err)
		return e->err;
	return flush(e, e->next_vpn < e->vma_end ? RLE_END_HOLE : RLE_END_VMA);
}
