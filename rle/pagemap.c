/* pagemap.c - reads the pagemap of one mapping the cheapest way; strategy in proc.h */
#include "rle/pagemap.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* include/uapi/linux/fs.h of 6.7; Debian 12's headers are older. */
struct page_region {
	uint64_t start, end, categories;
};
struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_PRESENT (1u << 3)
#define PAGE_IS_SWAPPED (1u << 4)
#define PAGE_IS_HUGE (1u << 6)

#define BLOCK_PAGES 512	 /* mapped by one PMD entry */
#define CHUNK_PAGES 64	 /* first read at an island among holes; doubles from there */
#define HOLE_PAGES 32	 /* absent words at the end of a read that make it worth asking where the next page is */
#define LARGE_PAGES 1024 /* mappings from 4 MiB on are asked about before the first read; below, reading is cheaper */
#define SPAN_PAGES (UINT64_C(1) << 22) /* at most 16 GiB a question, so that progress shows */

static void advance(struct rle_pagemap *pm)
{
	if (pm->progress)
		atomic_fetch_add_explicit(pm->progress, 1, memory_order_relaxed);
}

/*
 * The first stretch of [from, end) that is not a hole, and what it is.  With @max_pages 1 the kernel stops at its
 * first page; with 0 it goes on to where the kind of page changes.
 * Return: 1 found, 0 only holes, -ENOTTY the kernel cannot, -errno.
 */
static int ask(struct rle_pagemap *pm, uint64_t from, uint64_t end, uint64_t max_pages, struct page_region *found)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = from << DS_PAGE_SHIFT,
		.end = end << DS_PAGE_SHIFT,
		.vec = (uintptr_t)found,
		.vec_len = 1,
		.max_pages = max_pages,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_HUGE,
	};
	int n = ioctl(pm->fd, PAGEMAP_SCAN, &arg);

	if (n < 0) {
		if (errno != ENOTTY && errno != EINVAL)
			return -errno;
		*pm->scan = false;
		return -ENOTTY;
	}
	pm->scanned = true;
	found->start >>= DS_PAGE_SHIFT;
	found->end >>= DS_PAGE_SHIFT;
	if (n > 0 && (found->start < from || found->end > end || found->start >= found->end))
		return -EBADMSG;
	return n > 0;
}

int rle_pagemap_next(int fd, ds_vpn from, ds_vpn end, ds_vpn *found)
{
	struct rle_pagemap pm = {.fd = fd, .scan = &(bool){true}};
	struct page_region region;
	int r = ask(&pm, from.n, end.n, 1, &region);

	if (r > 0)
		found->n = region.start;
	return r;
}

/* Return: words read, at least 1; -ESRCH the mm is gone; -errno. */
static ssize_t read_words(struct rle_pagemap *pm, uint64_t vpn, uint64_t n)
{
	ssize_t got = pread(pm->fd, pm->buf, n * 8, (off_t)(vpn * 8));

	if (got < 0)
		return -errno;
	advance(pm);
	return got >= 8 ? got / 8 : -ESRCH;
}

static bool is_block_head(uint64_t pte)
{
	return pte & RLE_PTE_PRESENT && !(rle_pte_pfn(pte).n % BLOCK_PAGES);
}

/* Reads and feeds words up to @end, as they are. */
static int feed_words(struct rle_pagemap *pm, struct rle_enc *e, uint64_t *pos, uint64_t end)
{
	while (*pos < end) {
		uint64_t want = end - *pos < RLE_PAGEMAP_BUF_PAGES ? end - *pos : RLE_PAGEMAP_BUF_PAGES;
		ssize_t n = read_words(pm, *pos, want);
		int err = n < 0 ? (int)n : rle_enc_words(e, (ds_vpn){*pos}, pm->buf, n);

		if (err)
			return err;
		*pos += n;
	}
	return 0;
}

/*
 * [*pos, end) is mapped by PMDs: one word a block tells the rest.  A block that is not whole, or that no longer looks
 * like one because it was split meanwhile, is read word by word.
 */
static int feed_blocks(struct rle_pagemap *pm, struct rle_enc *e, uint64_t *pos, uint64_t end)
{
	while (*pos < end) {
		uint64_t next = *pos / BLOCK_PAGES * BLOCK_PAGES + BLOCK_PAGES;
		int err;

		if (*pos % BLOCK_PAGES || next > end) {
			err = feed_words(pm, e, pos, next < end ? next : end);
			if (err)
				return err;
			continue;
		}
		ssize_t n = read_words(pm, *pos, 1);

		if (n < 0)
			return (int)n;
		if (is_block_head(pm->buf[0])) {
			err = rle_enc_block(e, (ds_vpn){*pos}, pm->buf[0], BLOCK_PAGES);
			*pos = next;
		} else {
			err = feed_words(pm, e, pos, next);
		}
		if (err)
			return err;
	}
	return 0;
}

/*
 * Skips the hole at *pos and, if what follows is mapped by PMDs, feeds that.  Leaves *pos at the first page that is
 * to be read word by word.  Return: 1 *pos is such a page; 0 *pos is to be asked about again, or the end; -errno.
 */
static int skip(struct rle_pagemap *pm, struct rle_enc *e, uint64_t *pos, uint64_t end)
{
	struct page_region found;
	uint64_t limit = end - *pos < SPAN_PAGES ? end : *pos + SPAN_PAGES;
	int r = ask(pm, *pos, limit, 1, &found);

	advance(pm);
	if (r == -ENOTTY)
		return 1;
	if (r < 0)
		return r;
	*pos = r ? found.start : limit;
	if (!r)
		return 0;
	if (found.categories != (PAGE_IS_PRESENT | PAGE_IS_HUGE))
		return 1;
	r = ask(pm, *pos, limit, 0, &found);
	if (r < 0)
		return r;
	if (!r || found.start != *pos || found.categories != (PAGE_IS_PRESENT | PAGE_IS_HUGE))
		return 1; /* changed under us */
	return feed_blocks(pm, e, pos, found.end);
}

/* Whether what was read last suggests to ask the kernel what comes next: a hole, or blocks that may be PMD-mapped. */
static bool worth_asking(const uint64_t *word, size_t n, uint64_t end_vpn)
{
	size_t hole = 0, block = end_vpn % BLOCK_PAGES + BLOCK_PAGES;

	while (hole < n && hole < HOLE_PAGES && !word[n - 1 - hole])
		hole++;
	if (hole == HOLE_PAGES || hole == n)
		return true;
	if (block > n)
		return false;
	const uint64_t *head = &word[n - block];

	return is_block_head(head[0]) && head[BLOCK_PAGES - 1] == head[0] + BLOCK_PAGES - 1;
}

int rle_pagemap_vma(struct rle_pagemap *pm, const struct rle_vma *vma, struct rle_enc *e)
{
	uint64_t pos = vma->start.n, end = vma->end.n, chunk = LARGE_PAGES;
	int err = rle_enc_vma(e, vma->start, vma->end, vma->prot);
	bool asking = end - pos >= LARGE_PAGES;

	while (!err && pos < end) {
		if (asking && *pm->scan) {
			err = skip(pm, e, &pos, end);
			if (err <= 0)
				continue;
			err = 0;
			chunk = CHUNK_PAGES;
		}
		uint64_t want = end - pos < chunk ? end - pos : chunk;
		ssize_t n = read_words(pm, pos, want);

		if (n < 0)
			return (int)n;
		err = rle_enc_words(e, (ds_vpn){pos}, pm->buf, n);
		pos += n;
		asking = end - pos > CHUNK_PAGES && worth_asking(pm->buf, n, pos);
		chunk = chunk * 2 < RLE_PAGEMAP_BUF_PAGES ? chunk * 2 : RLE_PAGEMAP_BUF_PAGES;
	}
	return err;
}

int rle_pagemap_alive(struct rle_pagemap *pm, ds_vpn vpn)
{
	ssize_t n = read_words(pm, vpn.n, 1);

	return n < 0 ? (int)n : 0;
}
