/* pin.c - pinning; theory of operation in pin.h */
#include "runtime/guest/helper/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rle/pagemap.h"
#include "rle/pte.h"
#include "rle/vma.h"
#include "runtime/guest/helper/freeze.h"
#include "runtime/guest/helper/remote.h"

#define PAGE DS_PAGE_BYTES
#define USER_END (UINT64_C(1) << 56)
#define WORDS 4096 /* of pagemap, read at a time: under emulation a read costs as much as some hundred of them */
#define STRETCH_BYTES (UINT64_C(64) << 20) /* one buffer: what of it stays when a page is dropped is registered anew */
#define LARGE_BYTES (UINT64_C(4) << 20) /* from here on it pays to ask the kernel where the next page is */
#define TABLE_BYTES (PIN_SLOTS * sizeof(struct pin_slot))
#define COPY_BYTES (256ul << 10) /* copied at a time, from outside */
#define COPY_OFFSET (TABLE_BYTES + RLE_VMA_BUF_BYTES)
#define WORDS_OFFSET (COPY_OFFSET + COPY_BYTES)
#define WORK_BYTES (WORDS_OFFSET + WORDS * 8)
#define STEP_MS 500 /* what replacing a stretch takes at most */
#define RW (PROT_READ | PROT_WRITE)

/* libc's wrappers set errno, which belongs to the program; these return -errno instead. */
static long call6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

static long call4(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return call6(nr, a, b, c, d, 0, 0);
}

static void close_raw(int fd)
{
	call4(SYS_close, fd, 0, 0, 0);
}

/* In the address space that is pinned. */
static int64_t there(const struct pin *p, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	return p->via ? remote_syscall(p->via, nr, (const uint64_t[6]){a, b, c, d, e, 0}) : call6(nr, a, b, c, d, e, 0);
}

/* --- the ring --------------------------------------------------------------------------------------------------- */

/* Pages that this user may pin.  What other rings of the user hold is not known: the kernel refuses, and that is reported. */
static uint64_t budget(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {0};
	struct rlimit limit;
	uint64_t pages;

	if (!call4(SYS_capget, (uint64_t)&head, (uint64_t)caps, 0, 0) && caps[0].effective & 1u << CAP_IPC_LOCK)
		return UINT64_MAX;
	if (call4(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, (uint64_t)&limit) || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	pages = limit.rlim_cur / PAGE;
	return pages > PIN_SLACK_PAGES ? pages - PIN_SLACK_PAGES : 0;
}

static int open_work(struct pin *p)
{
	long work = call6(SYS_mmap, 0, WORK_BYTES, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*p = (struct pin){.ring_fd = -1};
	if (work < 0 && work > -4096)
		return work;
	p->slots = (struct pin_slot *)work;
	return 0;
}

static void close_work(struct pin *p)
{
	call4(SYS_munmap, (uint64_t)p->slots, WORK_BYTES, 0, 0);
	*p = (struct pin){.ring_fd = -1};
}

int pin_open(struct pin *p)
{
	struct io_uring_rsrc_register table = {.nr = PIN_SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE};
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	long fd, err = open_work(p);

	if (err)
		return err;
	fd = call4(SYS_io_uring_setup, 1, (uint64_t)&params, 0, 0);
	err = fd < 0 ? fd : call4(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS2, (uint64_t)&table, sizeof(table));
	if (err) {
		if (fd >= 0)
			close_raw(fd);
		close_work(p);
		return err;
	}
	p->ring_fd = fd;
	p->budget_pages = budget();
	return 0;
}

int pin_open_remote(struct pin *p, struct remote *via)
{
	int err = via->ring_fd < 0 ? via->ring_fd : open_work(p);

	if (via->ring_fd < 0)
		*p = (struct pin){.ring_fd = -1};
	if (err)
		return err;
	p->ring_fd = via->ring_fd;
	p->via = via;
	p->budget_pages = UINT64_MAX; /* the kernel knows; it says -ENOMEM */
	return 0;
}

void pin_frozen(struct pin *p, struct freeze *f)
{
	p->frozen = f;
}

void pin_close(struct pin *p)
{
	if (!p->slots)
		return;
	if (p->via) {
		there(p, SYS_close, p->ring_fd, 0, 0, 0, 0);
		p->via->ring_fd = -EBADF;
	} else {
		close_raw(p->ring_fd);
	}
	close_work(p);
}

/* A stretch is made writable while it is registered. */
struct around {
	int before, after; /* protections; -1: leave it */
};
static const struct around as_it_is = {-1, -1};

/* Puts a buffer into a slot, or (@bytes 0) empties it.  For another process all of it is one batch.
 * Return: 0 or the first error. */
static int update(const struct pin *p, uint32_t slot, uint64_t addr, uint64_t bytes, struct around around)
{
	struct {
		struct iovec iov;
		struct io_uring_rsrc_update2 up;
	} data = {.iov = {.iov_base = bytes ? (void *)addr : NULL, .iov_len = bytes}, .up = {.offset = slot, .nr = 1}};
	const uint64_t at = p->via ? p->via->data : (uint64_t)&data;
	const struct remote_call after = {.nr = SYS_mprotect, .args = {addr, bytes, around.after}, .any = 1};
	struct remote_call calls[3];
	int64_t result = 0;
	uint32_t n = around.before >= 0, reg = n++;
	int done = 0;

	data.up.data = at + offsetof(__typeof__(data), iov);
	if (around.before >= 0)
		calls[0] = (struct remote_call){.nr = SYS_mprotect, .args = {addr, bytes, around.before}};
	calls[reg] = (struct remote_call){
		.nr = SYS_io_uring_register,
		.args = {p->ring_fd, IORING_REGISTER_BUFFERS_UPDATE, at + offsetof(__typeof__(data), up), sizeof(data.up)},
		.want = 1,
	};
	if (around.after >= 0)
		calls[n++] = after;
	if (p->via) {
		done = remote_batch(p->via, calls, n, &data, sizeof(data), &result);
		if (done < 0)
			return done;
	}
	for (; !p->via && done < (int)n; done++) {
		result = call4(calls[done].nr, calls[done].args[0], calls[done].args[1], calls[done].args[2], calls[done].args[3]);
		if (!calls[done].any && result != calls[done].want)
			break;
	}
	/* That the protection could not be put back, for want of memory, changes nothing about the pin. */
	if (done > (int)reg)
		return 0;
	if (done == (int)reg && around.after >= 0)
		there(p, SYS_mprotect, addr, bytes, around.after, 0, 0);
	return result < 0 ? result : -EIO;
}

/* Registers at most PIN_BUFFER_MAX_BYTES, in @slot_out if that is given.  Return: 0; -ENOSPC no slot; -EDQUOT the limit; -errno. */
static int hold(struct pin *p, uint64_t addr, uint64_t bytes, struct around around, uint32_t *slot_out)
{
	uint32_t slot = p->full;
	int err;

	if (p->budget_pages != UINT64_MAX && p->pages + bytes / PAGE > p->budget_pages)
		return -EDQUOT;
	while (slot < p->end && p->slots[slot].bytes)
		slot++;
	p->full = slot;
	if (slot == PIN_SLOTS)
		return -ENOSPC;
	err = update(p, slot, addr, bytes, around);
	if (err)
		return err == -ENOMEM ? -EDQUOT : err;
	p->slots[slot] = (struct pin_slot){addr, bytes};
	p->pages += bytes / PAGE;
	if (slot == p->end)
		p->end++;
	if (slot_out)
		*slot_out = slot;
	return 0;
}

static void let_go(struct pin *p, uint32_t slot)
{
	update(p, slot, 0, 0, as_it_is); /* fails for a slot in use only if there is no ring any more */
	p->pages -= p->slots[slot].bytes / PAGE;
	p->slots[slot].bytes = 0;
	p->full = slot < p->full ? slot : p->full;
}

static bool gone(const struct pin *p)
{
	return p->via && p->via->gone;
}

static bool range_ok(uint64_t addr, uint64_t bytes)
{
	return !(addr % PAGE) && !(bytes % PAGE) && addr < USER_END && bytes <= USER_END - addr;
}

int pin_drop(struct pin *p, uint64_t addr, uint64_t bytes)
{
	uint64_t end = addr + bytes;
	uint32_t last = p->end;
	int err = 0, e;

	if (!p->slots || !range_ok(addr, bytes))
		return -EINVAL;
	for (uint32_t i = 0; i < last; i++) {
		struct pin_slot s = p->slots[i];
		uint64_t s_end = s.addr + s.bytes;

		if (!s.bytes || s.addr >= end || s_end <= addr)
			continue;
		/* Rests first: the pages in them are never without a pin. */
		if (s.addr < addr) {
			e = hold(p, s.addr, addr - s.addr, as_it_is, NULL);
			err = e ? e : err;
		}
		if (s_end > end) {
			e = hold(p, end, s_end - end, as_it_is, NULL);
			err = e ? e : err;
		}
		let_go(p, i);
	}
	return gone(p) ? -ESRCH : err;
}

/* --- ranges ----------------------------------------------------------------------------------------------------- */

struct job {
	struct pin *p;
	unsigned int flags;
	pin_report_fn fn;
	void *ctx;
	int pagemap_fd;
	bool of_file; /* the mapping that is worked on */
};

static void report(const struct job *job, uint64_t addr, uint64_t end, enum pin_outcome outcome, int err)
{
	if (job->fn && end > addr)
		job->fn(job->ctx, &(struct pin_stretch){.addr = addr, .bytes = end - addr, .outcome = outcome, .err = err});
}

static int prot_of(uint32_t attr)
{
	return (attr & RLE_ATTR_READ ? PROT_READ : 0) | (attr & RLE_ATTR_WRITE ? PROT_WRITE : 0) | (attr & RLE_ATTR_EXEC ? PROT_EXEC : 0);
}

static int copy_there(const struct pin *p, uint64_t to, uint64_t from, uint64_t bytes)
{
	char *buf = (char *)p->slots + COPY_OFFSET;

	if (!p->via) {
		memcpy((void *)to, (const void *)from, bytes);
		return 0;
	}
	for (uint64_t at = 0; at < bytes; at += COPY_BYTES) {
		uint64_t n = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
		int err = remote_read(p->via, from + at, buf, n);

		if (!err)
			err = remote_write(p->via, to + at, buf, n);
		if (err)
			return err;
	}
	return 0;
}

/* Puts anonymous pages of the same content where private file pages are, pinned and protected before they get there: a
 * pin is on the frames, which mremap() takes along.  Other threads see the old page or the new one, as mremap() does both
 * halves under mmap_lock, and never one that they can write to though they should not.  After a failure the old pages
 * are as they were; but when the kernel fails between the halves, which takes running out of memory for a few hundred bytes,
 * the old ones are gone (mremap(2) unmaps its target first). */
static int replace(struct pin *p, uint64_t addr, uint64_t bytes, int prot)
{
	int64_t copy = there(p, SYS_mmap, 0, bytes, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1), err;
	uint32_t slot;

	if (copy < 0)
		return copy;
	err = copy_there(p, copy, addr, bytes);
	if (!err)
		err = hold(p, copy, bytes, prot == RW ? as_it_is : (struct around){-1, prot}, &slot);
	if (!err) {
		err = there(p, SYS_mremap, copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, addr);
		if (err == (int64_t)addr) {
			p->slots[slot].addr = addr;
			return 0;
		}
		let_go(p, slot);
		err = err < 0 ? err : -EIO;
	}
	there(p, SYS_munmap, copy, bytes, 0, 0, 0);
	return err;
}

/* Does nobody else run, and will nobody before alone_end()?  In the caller's own process that is a promise. */
static bool alone_begin(const struct job *job)
{
	return job->flags & PIN_ALONE && (!job->p->via || (job->p->frozen && freeze_keep(job->p->frozen, STEP_MS)));
}

static void alone_end(const struct job *job, bool alone)
{
	if (alone && job->p->via)
		freeze_unkeep(job->p->frozen);
}

/* Pages of a file that nobody has written to. */
static bool of_file(const struct job *job, uint64_t addr, uint64_t bytes)
{
	uint64_t word[WORDS / 8];

	for (uint64_t at = 0; at < bytes;) {
		uint64_t n = (bytes - at) / PAGE < WORDS / 8 ? (bytes - at) / PAGE : WORDS / 8;

		if (call4(SYS_pread64, job->pagemap_fd, (uint64_t)word, n * 8, (addr + at) / PAGE * 8) != (long)n * 8)
			return false;
		for (uint64_t i = 0; i < n; i++)
			if (!(word[i] & RLE_PTE_FILE) && word[i] & (RLE_PTE_PRESENT | RLE_PTE_SWAP))
				return false;
		at += n * PAGE;
	}
	return true;
}

static enum pin_outcome outcome_of(int err, enum pin_outcome good)
{
	return err == 0 ? good : err == -EDQUOT ? PIN_LIMIT : err == -ENOSPC ? PIN_FULL : PIN_REFUSED;
}

static enum pin_outcome hold_private_pages(const struct job *job, uint64_t addr, uint64_t bytes, uint32_t attr, bool alone, int *err)
{
	bool writable = attr & RLE_ATTR_WRITE, must_replace = job->flags & PIN_APART && job->of_file;
	int prot = prot_of(attr);

	/* Under running threads a protection is not lifted for a moment: garbage collectors rely on the fault.  Nor is
	 * anything taken for unwritten that a thread may unprotect and write to meanwhile, unless it is plainly a file's. */
	if (!writable && job->p->via && !alone) {
		bool file = of_file(job, addr, bytes);

		*err = file ? replace(job->p, addr, bytes, prot) : -EAGAIN;
		return file ? outcome_of(*err, PIN_REPLACED) : PIN_WRITERS;
	}
	*err = must_replace ? -EOPNOTSUPP : hold(job->p, addr, bytes, writable ? as_it_is : (struct around){prot | RW, prot}, NULL);
	if (*err != -EOPNOTSUPP)
		return outcome_of(*err, PIN_DONE);
	if (writable && !alone) {
		*err = job->flags & PIN_ALONE ? -ETIME : *err;
		return PIN_WRITERS;
	}
	*err = replace(job->p, addr, bytes, prot);
	return outcome_of(*err, PIN_REPLACED);
}

/* Private pages, at most STRETCH_BYTES. */
static enum pin_outcome hold_private(const struct job *job, uint64_t addr, uint64_t bytes, uint32_t attr, int *err)
{
	const bool alone = alone_begin(job);
	enum pin_outcome outcome = hold_private_pages(job, addr, bytes, attr, alone, err);

	alone_end(job, alone);
	return outcome;
}

static enum pin_outcome hold_shared(const struct job *job, uint64_t addr, uint64_t bytes, uint32_t attr, int *err)
{
	*err = attr & RLE_ATTR_WRITE ? hold(job->p, addr, bytes, as_it_is, NULL) : -EFAULT;
	switch (-*err) {
	case 0:
		return job->flags & PIN_APART ? PIN_OPEN : PIN_DONE;
	case EOPNOTSUPP:
	case EFAULT:
		return PIN_SHARED;
	case EDQUOT:
		return PIN_LIMIT;
	case ENOSPC:
		return PIN_FULL;
	default:
		return PIN_REFUSED;
	}
}

/* Populated pages of one mapping, none of them pinned yet. */
static void hold_pages(const struct job *job, uint64_t addr, uint64_t end, uint32_t attr)
{
	while (addr < end && !gone(job->p)) {
		uint64_t bytes = end - addr < STRETCH_BYTES ? end - addr : STRETCH_BYTES;
		enum pin_outcome outcome;
		int err;

		outcome = attr & RLE_ATTR_MAY_SHARE ? hold_shared(job, addr, bytes, attr, &err) : hold_private(job, addr, bytes, attr, &err);
		report(job, addr, addr + bytes, outcome, err);
		addr += bytes;
	}
}

/* Leaves out what is pinned already: the nearest buffer at or after @addr decides how far the next step goes. */
static void hold_unpinned(const struct job *job, uint64_t addr, uint64_t end, uint32_t attr)
{
	while (addr < end && !gone(job->p)) {
		uint64_t from = end, to = end;

		for (uint32_t i = 0; i < job->p->end; i++) {
			const struct pin_slot *s = &job->p->slots[i];

			if (s->bytes && s->addr < from && s->addr + s->bytes > addr) {
				from = s->addr > addr ? s->addr : addr;
				to = s->addr + s->bytes < end ? s->addr + s->bytes : end;
			}
		}
		hold_pages(job, addr, from, attr);
		if (from < end)
			report(job, from, to, PIN_ALREADY, 0);
		addr = from < end ? to : end;
	}
}

/* A page that was swapped out or is under way has content and comes back when it is pinned; a marker has none. */
static bool populated(uint64_t word)
{
	if (word & RLE_PTE_PRESENT)
		return true;
	return word & RLE_PTE_SWAP && !(word & RLE_PTE_GUARD) && (word & 31) < RLE_SWAP_TYPE_MARKER;
}

static bool eight_present(const uint64_t w[static 8])
{
	return w[0] & w[1] & w[2] & w[3] & w[4] & w[5] & w[6] & w[7] & RLE_PTE_PRESENT;
}

/* One mapping, cut to the range: stretches of populated pages are pinned, the rest is reported. */
static int pin_mapping(const struct job *job, uint64_t addr, uint64_t end, uint32_t attr)
{
	uint64_t *word = (uint64_t *)((char *)job->p->slots + WORDS_OFFSET), start = addr;
	bool in = false, ask = true;

	if (job->flags & PIN_POPULATE) {
		hold_unpinned(job, addr, end, attr);
		return 0;
	}
	for (uint64_t at = addr; at < end;) {
		ds_vpn next = {end / PAGE};
		uint64_t n;
		long got;

		/* Some programs map terabytes and use little of them. */
		if (!in && ask && end - at >= LARGE_BYTES) {
			ask = rle_pagemap_next(job->pagemap_fd, (ds_vpn){at / PAGE}, next, &next) >= 0;
			if (ask)
				at = next.n * PAGE;
			if (at == end)
				break;
		}
		n = (end - at) / PAGE < WORDS ? (end - at) / PAGE : WORDS;
		got = call4(SYS_pread64, job->pagemap_fd, (uint64_t)word, n * 8, at / PAGE * 8);

		if (got < 8)
			return got < 0 ? got : -ESRCH;
		for (uint64_t i = 0; i < (uint64_t)got / 8; i++, at += PAGE) {
			if (in && i + 8 <= (uint64_t)got / 8 && eight_present(&word[i])) {
				i += 7;
				at += 7 * PAGE;
				continue;
			}
			if (populated(word[i]) == in)
				continue;
			if (in)
				hold_unpinned(job, start, at, attr);
			else
				report(job, start, at, PIN_ABSENT, 0);
			start = at;
			in = !in;
		}
	}
	if (in)
		hold_unpinned(job, start, end, attr);
	else
		report(job, start, end, PIN_ABSENT, 0);
	return 0;
}

static int pin_mappings(struct job *job, int maps_fd, char *buf, uint64_t addr, uint64_t end)
{
	struct rle_vma_iter it;
	struct rle_vma vma;
	bool query = true;
	int got, err;

	rle_vma_start(&it, maps_fd, buf, &query);
	it.next_vpn = addr / PAGE;
	while (addr < end && (got = rle_vma_next(&it, &vma)) > 0) {
		uint64_t from = vma.start.n * PAGE, to = vma.end.n * PAGE;

		if (from >= end)
			break;
		from = from > addr ? from : addr;
		to = to < end ? to : end;
		if (to <= from)
			continue;
		report(job, addr, from, PIN_HOLE, 0);
		job->of_file = vma.file;
		if (vma.kernel_page)
			report(job, from, to, PIN_KERNEL, 0);
		else if (!(vma.prot & (RLE_ATTR_READ | RLE_ATTR_WRITE | RLE_ATTR_EXEC)))
			report(job, from, to, PIN_NOACCESS, 0);
		else if (job->flags & PIN_APART && vma.hugetlb)
			report(job, from, to, PIN_SHARED, 0);
		else if ((err = pin_mapping(job, from, to, vma.prot)) != 0)
			return err;
		addr = to;
	}
	if (addr < end && got < 0 && got != -ESRCH)
		return got;
	report(job, addr, end, PIN_HOLE, 0);
	return 0;
}

/* The caller's own; errno stays as it is: rle/vma.c reads through libc. */
static int pin_own(struct job *job, uint64_t addr, uint64_t end)
{
	int maps_fd, saved = errno, err;

	maps_fd = call4(SYS_openat, AT_FDCWD, (uint64_t)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (maps_fd < 0)
		return maps_fd;
	job->pagemap_fd = call4(SYS_openat, AT_FDCWD, (uint64_t)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	err = job->pagemap_fd;
	if (err >= 0) {
		err = pin_mappings(job, maps_fd, (char *)job->p->slots + TABLE_BYTES, addr, end);
		close_raw(job->pagemap_fd);
	}
	close_raw(maps_fd);
	errno = saved;
	return err;
}

int pin_range(struct pin *p, uint64_t addr, uint64_t bytes, unsigned int flags, pin_report_fn fn, void *ctx)
{
	struct job job = {.p = p, .flags = flags, .fn = fn, .ctx = ctx};
	int err;

	if (!p->slots || !range_ok(addr, bytes))
		return -EINVAL;
	if (!p->via)
		return pin_own(&job, addr, addr + bytes);
	if (lseek(p->via->maps_fd, 0, SEEK_SET))
		return -EBADF;
	job.pagemap_fd = p->via->pagemap_fd;
	err = pin_mappings(&job, p->via->maps_fd, (char *)p->slots + TABLE_BYTES, addr, addr + bytes);
	return gone(p) ? -ESRCH : err;
}
