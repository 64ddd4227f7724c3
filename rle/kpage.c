/* kpage.c - the join with kpageflags and kpagecount; theory of operation in kpage.h */
#include "rle/kpage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define BATCH 512

/* kernel-page-flags.h */
#define KPF_ANON 12
#define KPF_HUGE 17
#define KPF_NOPAGE 20
#define KPF_KSM 21
#define KPF_THP 22
#define KPF_ZERO_PAGE 24

#define BYTE(attr) ((uint8_t)((attr) >> RLE_ATTR_KPAGE_SHIFT))
#define KNOWN BYTE(RLE_ATTR_JOINED)

struct rle_kpage {
	int flags_fd, count_fd;
	bool ksm_everywhere; /* the kernel claims KSM for pages that are not */
	uint8_t *cache; /* RLE_KPAGE_CACHE_PAGES bytes, shared with children */
};

int rle_kpage_open(struct rle_kpage **out, int root_fd)
{
	cleanup_close int flags_fd = openat(root_fd, "kpageflags", O_RDONLY | O_CLOEXEC);
	cleanup_close int count_fd = -1;
	struct rle_kpage *k;

	if (flags_fd < 0)
		return -errno;
	count_fd = openat(root_fd, "kpagecount", O_RDONLY | O_CLOEXEC);
	if (count_fd < 0)
		return -errno;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->cache = mmap(NULL, RLE_KPAGE_CACHE_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (k->cache == MAP_FAILED) {
		free(k);
		return -ENOMEM;
	}
	k->flags_fd = steal_fd(&flags_fd);
	k->count_fd = steal_fd(&count_fd);
	*out = k;
	return 0;
}

void rle_kpage_close(struct rle_kpage *k)
{
	if (!k)
		return;
	munmap(k->cache, RLE_KPAGE_CACHE_PAGES);
	close(k->flags_fd);
	close(k->count_fd);
	free(k);
}

int rle_kpage_calibrate(struct rle_kpage *k, ds_pfn pfn)
{
	uint64_t flags;
	ssize_t got = pread(k->flags_fd, &flags, 8, (off_t)(pfn.n * 8));

	if (got != 8)
		return got < 0 ? -errno : -EIO;
	k->ksm_everywhere = flags >> KPF_KSM & 1;
	return 0;
}

bool rle_kpage_knows_ksm(const struct rle_kpage *k)
{
	return !k->ksm_everywhere;
}

void rle_kpage_forget(struct rle_kpage *k)
{
	/* DONTNEED would leave shared pages as they are; REMOVE punches them out (madvise(2)). */
	if (madvise(k->cache, RLE_KPAGE_CACHE_PAGES, MADV_REMOVE))
		memset(k->cache, 0, RLE_KPAGE_CACHE_PAGES);
}

static uint8_t condense(uint64_t flags, uint64_t count)
{
	static const struct {
		uint8_t bit;
		uint32_t attr;
	} table[] = {
		{KPF_ANON, RLE_ATTR_ANON},    {KPF_KSM, RLE_ATTR_KSM},	       {KPF_THP, RLE_ATTR_THP},
		{KPF_HUGE, RLE_ATTR_HUGETLB}, {KPF_ZERO_PAGE, RLE_ATTR_ZERO}, {KPF_NOPAGE, RLE_ATTR_NOPAGE},
	};
	uint32_t attr = RLE_ATTR_JOINED | (count > 1 ? RLE_ATTR_MULTI : 0);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (flags >> table[i].bit & 1)
			attr |= table[i].attr;
	return BYTE(attr);
}

/* Reads @n entries at @pfn; those beyond the end of the file become @missing. */
static int read_entries(int fd, uint64_t pfn, size_t n, uint64_t *entry, uint64_t missing)
{
	ssize_t got = pread(fd, entry, n * 8, (off_t)(pfn * 8));

	if (got < 0)
		return -errno;
	for (size_t i = (size_t)got / 8; i < n; i++)
		entry[i] = missing;
	return 0;
}

static int ask(struct rle_kpage *k, uint64_t pfn, size_t n, bool once, uint8_t *byte)
{
	uint64_t flags[BATCH], count[BATCH];
	int err = read_entries(k->flags_fd, pfn, n, flags, UINT64_C(1) << KPF_NOPAGE);

	if (!err && !once)
		err = read_entries(k->count_fd, pfn, n, count, 0);
	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		if (k->ksm_everywhere)
			flags[i] &= ~(UINT64_C(1) << KPF_KSM);
		byte[i] = condense(flags[i], once ? 1 : count[i]);
	}
	return 0;
}

int rle_kpage_read(struct rle_kpage *k, ds_pfn pfn, size_t n, bool once, uint8_t *byte)
{
	uint8_t *cache = k->cache + pfn.n;

	if (n > BATCH)
		return -EINVAL;
	if (pfn.n >= RLE_KPAGE_CACHE_PAGES || n > RLE_KPAGE_CACHE_PAGES - pfn.n)
		return ask(k, pfn.n, n, once, byte);
	for (size_t i = 0; i < n; i++)
		byte[i] = __atomic_load_n(&cache[i], __ATOMIC_RELAXED);
	for (size_t i = 0, len; i < n; i += len) {
		bool known = byte[i] & KNOWN;

		for (len = 1; i + len < n && !(byte[i + len] & KNOWN) == !known; len++)
			;
		if (known)
			continue;
		int err = ask(k, pfn.n + i, len, once, byte + i);

		if (err)
			return err;
		for (size_t j = i; j < i + len; j++)
			__atomic_store_n(&cache[j], byte[j], __ATOMIC_RELAXED);
	}
	return 0;
}
