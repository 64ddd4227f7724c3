/* src.c - where processes are read from; see src.h */
#include "rle/src.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "rle/kpage.h"
#include "rle/pagemap.h"
#include "rle/vma.h"

#define SEEN_PAGES_MAX (UINT64_C(256) << (30 - DS_PAGE_SHIFT)) /* 256 GiB: a bitmap of 8 MiB */
#define RAM_EXTENTS_MAX 4096
#define BLOCK_PAGES 512 /* of a PMD */

/* The pagemap word of one of our own pages. */
static int own_word(int pagemap_fd, const volatile void *page, uint64_t *word)
{
	ssize_t got = pread(pagemap_fd, word, 8, (off_t)((uintptr_t)page / DS_PAGE_BYTES * 8));

	return got == 8 ? 0 : got < 0 ? -errno : -EIO;
}

/*
 * Finds the zero page and the huge zero page by reading memory of our own that was never written, in two places each:
 * only a page that stands for zeros is in both.  The mapping is kept, because the kernel frees the huge zero page
 * with its last user.  Unknown, not an error, where the kernel gives none.
 */
static void find_zero_pages(struct rle_src *src, int pagemap_fd)
{
	const size_t block = BLOCK_PAGES * DS_PAGE_BYTES;
	char *area = mmap(NULL, 4 * block, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	volatile char *huge;
	uint64_t a, b;

	if (area == MAP_FAILED)
		return;
	src->zero_probe = area;
	huge = area + (block - (uintptr_t)area % block) % block;
	madvise(area, 4 * block, MADV_NOHUGEPAGE);
	(void)huge[0];
	(void)huge[DS_PAGE_BYTES];
	if (!own_word(pagemap_fd, huge, &a) && !own_word(pagemap_fd, huge + DS_PAGE_BYTES, &b) && a == b && a & RLE_PTE_PRESENT)
		src->frames.zero = (struct rle_extent){rle_pte_pfn(a), 1};
	if (madvise(area, 4 * block, MADV_HUGEPAGE))
		return;
	(void)huge[block];
	(void)huge[2 * block];
	if (!own_word(pagemap_fd, huge + block, &a) && !own_word(pagemap_fd, huge + 2 * block, &b) && a == b &&
	    a & RLE_PTE_PRESENT && !(rle_pte_pfn(a).n % BLOCK_PAGES) && !own_word(pagemap_fd, huge + block + DS_PAGE_BYTES, &b) &&
	    b == a + 1)
		src->frames.huge_zero = (struct rle_extent){rle_pte_pfn(a), BLOCK_PAGES};
}

/* Refuses unless the kernel shows us the frame of a page that we have just written. */
static int probe_live(struct rle_src *src, const char **why)
{
	cleanup_close int fd = openat(src->root_fd, "self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char page_holder[2 * DS_PAGE_BYTES];
	volatile char *page = page_holder + DS_PAGE_BYTES - (uintptr_t)page_holder % DS_PAGE_BYTES;
	uint64_t word = 0;

	if (fd < 0) {
		*why = "cannot open /proc/self/pagemap";
		return errno == EACCES ? -EPERM : -errno;
	}
	*page = 1;
	int err = own_word(fd, page, &word);

	if (err || !(word & RLE_PTE_PRESENT)) {
		*why = "cannot read an own page's entry in /proc/self/pagemap";
		return err ? err : -EIO;
	}
	if (!rle_pte_pfn(word).n) {
		*why = "the kernel hides frame numbers (PFN 0 for an own page): CAP_SYS_ADMIN in the initial user namespace is missing";
		return -EPERM;
	}
	src->own_page = rle_pte_pfn(word);
	find_zero_pages(src, fd);
	return 0;
}

/* System RAM from iomem, at any depth: memory given to the kernel by a driver is listed below its device. */
static int read_ram(struct rle_src *src)
{
	cleanup_close int fd = openat(src->root_fd, "iomem", O_RDONLY | O_CLOEXEC);
	cleanup_free char *line = NULL;
	size_t size = 0, n = 0;
	FILE *f;

	if (fd < 0)
		return 0;
	f = fdopen(fd, "r");
	if (!f)
		return -ENOMEM;
	steal_fd(&fd);
	while (getline(&line, &size, f) > 0 && n < RAM_EXTENTS_MAX) {
		unsigned long long from, to;
		struct rle_extent *more;

		if (!strstr(line, ": System RAM") || sscanf(line, " %llx-%llx :", &from, &to) != 2 || from >= to)
			continue; /* readers without CAP_SYS_ADMIN see zeros: then nothing is known */
		more = reallocarray(src->ram, n + 1, sizeof(*more));
		if (!more) {
			fclose(f);
			return -ENOMEM;
		}
		src->ram = more;
		src->ram[n].first.n = from >> DS_PAGE_SHIFT;
		src->ram[n].npages = (to >> DS_PAGE_SHIFT) - (from >> DS_PAGE_SHIFT) + 1;
		n++;
	}
	fclose(f);
	src->frames.ram = src->ram;
	src->frames.nram = n;
	return 0;
}

static int open_all(struct rle_src *src, const char *root, enum rle_join join, const char **why)
{
	int err;

	*why = root ? "cannot open the recorded tree" : "cannot open /proc";
	src->root_fd = open(root ? root : "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (src->root_fd < 0)
		return -errno;
	*why = "out of memory";
	src->maps_buf = malloc(RLE_VMA_BUF_BYTES);
	src->pagemap_buf = malloc(RLE_PAGEMAP_BUF_PAGES * sizeof(uint64_t));
	if (!src->maps_buf || !src->pagemap_buf)
		return -ENOMEM;
	if (src->live) {
		err = probe_live(src, why);
		if (err)
			return err;
	}
	*why = "cannot read iomem";
	err = read_ram(src);
	if (err)
		return err;
	if (join != RLE_JOIN_NONE) {
		err = rle_kpage_open(&src->frames.kpage, src->root_fd);
		*why = "cannot open kpageflags and kpagecount, which the join needs";
		if (err)
			return err == -EACCES ? -EPERM : err;
		*why = "cannot read kpageflags, which the join needs";
		if (src->live)
			err = rle_kpage_calibrate(src->frames.kpage, src->own_page);
		if (err)
			return err;
		src->frames.join_every_page = join == RLE_JOIN_FULL;
	}
	return 0;
}

int rle_src_open(struct rle_src *src, const char *root, enum rle_join join, const char **why)
{
	const char *reason;
	int err;

	*src = (struct rle_src){
		.root_fd = -1,
		.live = !root,
		.procmap_query = true,
		.pagemap_scan = true,
		.ksm_merging_pages = true,
		.join = join,
	};
	err = open_all(src, root, join, &reason);
	if (err) {
		rle_src_close(src);
		if (why)
			*why = reason;
	}
	return err;
}

/* The bitmap, and behind it the bytes that say which of its pages are worth looking at: a look would allocate them. */
static size_t seen_bytes(uint64_t npages)
{
	return npages / 8 + npages / RLE_SEEN_BLOCK;
}

void rle_src_close(struct rle_src *src)
{
	rle_kpage_close(src->frames.kpage);
	if (src->seen)
		munmap(src->seen, seen_bytes(src->frames.seen_pages));
	if (src->zero_probe)
		munmap(src->zero_probe, 4 * BLOCK_PAGES * DS_PAGE_BYTES);
	free(src->ram);
	free(src->maps_buf);
	free(src->pagemap_buf);
	if (src->root_fd >= 0)
		close(src->root_fd);
	*src = (struct rle_src){.root_fd = -1};
}

int rle_src_count_distinct(struct rle_src *src)
{
	const struct rle_frames *f = &src->frames;
	uint64_t end = 0;

	for (size_t i = 0; i < f->nram; i++)
		if (f->ram[i].first.n + f->ram[i].npages > end)
			end = f->ram[i].first.n + f->ram[i].npages;
	if (!end || end > SEEN_PAGES_MAX)
		return -E2BIG;
	end = (end + RLE_SEEN_BLOCK - 1) / RLE_SEEN_BLOCK * RLE_SEEN_BLOCK;
	src->seen = mmap(NULL, seen_bytes(end), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (src->seen == MAP_FAILED) {
		src->seen = NULL;
		return -ENOMEM;
	}
	src->frames.seen = src->seen;
	src->frames.seen_pages = end;
	src->frames.seen_touched = (uint8_t *)src->seen + end / 8;
	return 0;
}

void rle_src_snapshot(struct rle_src *src)
{
	if (src->frames.kpage)
		rle_kpage_forget(src->frames.kpage);
	if (src->seen && madvise(src->seen, seen_bytes(src->frames.seen_pages), MADV_REMOVE))
		memset(src->seen, 0, seen_bytes(src->frames.seen_pages));
}

uint64_t rle_src_distinct(const struct rle_src *src)
{
	const struct rle_frames *f = &src->frames;
	uint64_t sum = 0;

	for (uint64_t block = 0; src->seen && block < f->seen_pages / RLE_SEEN_BLOCK; block++)
		for (uint64_t i = 0; f->seen_touched[block] && i < RLE_SEEN_BLOCK / 64; i++)
			sum += (unsigned int)__builtin_popcountll(f->seen[block * (RLE_SEEN_BLOCK / 64) + i]);
	return sum;
}
