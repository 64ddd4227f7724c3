/* pin.c - pinning; theory of operation in pin.h */
#include "runtime/guest/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "rle/pte.h"
#include "rle/vma.h"

#define PAGE DS_PAGE_BYTES
#define USER_END (UINT64_C(1) << 56)
#define WORDS 512 /* of pagemap, read at a time */
#define TABLE_BYTES (PIN_SLOTS * sizeof(struct pin_slot))
#define WORK_BYTES (TABLE_BYTES + RLE_VMA_BUF_BYTES)

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

int pin_open(struct pin *p)
{
	struct io_uring_rsrc_register table = {.nr = PIN_SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE};
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	long work, fd, err;

	*p = (struct pin){.ring_fd = -1};
	work = call6(SYS_mmap, 0, WORK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (work < 0 && work > -4096)
		return work;
	fd = call4(SYS_io_uring_setup, 1, (uint64_t)&params, 0, 0);
	if (fd < 0) {
		call4(SYS_munmap, work, WORK_BYTES, 0, 0);
		return fd;
	}
	err = call4(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS2, (uint64_t)&table, sizeof(table));
	if (err) {
		close_raw(fd);
		call4(SYS_munmap, work, WORK_BYTES, 0, 0);
		return err;
	}
	p->ring_fd = fd;
	p->slots = (struct pin_slot *)work;
	p->budget_pages = budget();
	return 0;
}

void pin_close(struct pin *p)
{
	if (!p->slots)
		return;
	close_raw(p->ring_fd);
	call4(SYS_munmap, (uint64_t)p->slots, WORK_BYTES, 0, 0);
	*p = (struct pin){.ring_fd = -1};
}

/* Puts a buffer into a slot, or (@bytes 0) empties it.  Return: 0 or -errno. */
static int update(const struct pin *p, uint32_t slot, uint64_t addr, uint64_t bytes)
{
	struct iovec iov = {.iov_base = bytes ? (void *)addr : NULL, .iov_len = bytes};
	struct io_uring_rsrc_update2 up = {.offset = slot, .data = (uint64_t)&iov, .nr = 1};
	long done = call4(SYS_io_uring_register, p->ring_fd, IORING_REGISTER_BUFFERS_UPDATE, (uint64_t)&up, sizeof(up));

	return done == 1 ? 0 : done < 0 ? done : -EIO;
}

/* Registers at most PIN_BUFFER_MAX_BYTES.  Return: 0; -ENOSPC no slot; -EDQUOT the limit; -errno. */
static int hold(struct pin *p, uint64_t addr, uint64_t bytes)
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
	err = update(p, slot, addr, bytes);
	if (err)
		return err == -ENOMEM ? -EDQUOT : err;
	p->slots[slot] = (struct pin_slot){addr, bytes};
	p->pages += bytes / PAGE;
	if (slot == p->end)
		p->end++;
	return 0;
}

static void let_go(struct pin *p, uint32_t slot)
{
	update(p, slot, 0, 0); /* cannot fail for a slot in use */
	p->pages -= p->slots[slot].bytes / PAGE;
	p->slots[slot].bytes = 0;
	p->full = slot < p->full ? slot : p->full;
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
			e = hold(p, s.addr, addr - s.addr);
			err = e ? e : err;
		}
		if (s_end > end) {
			e = hold(p, end, s_end - end);
			err = e ? e : err;
		}
		let_go(p, i);
	}
	return err;
}

/* --- ranges ----------------------------------------------------------------------------------------------------- */

struct job {
	struct pin *p;
	unsigned int flags;
	pin_report_fn fn;
	void *ctx;
	int pagemap_fd;
};

static void report(const struct job *job, uint64_t addr, uint64_t end, enum pin_outcome outcome, int err)
{
	struct pin_stretch s = {.addr = addr, .bytes = end - addr, .outcome = outcome, .err = err};

	if (job->fn && end > addr)
		job->fn(job->ctx, &s);
}

static int prot_of(uint32_t attr)
{
	return (attr & RLE_ATTR_READ ? PROT_READ : 0) | (attr & RLE_ATTR_WRITE ? PROT_WRITE : 0) | (attr & RLE_ATTR_EXEC ? PROT_EXEC : 0);
}

/* Puts anonymous pages of the same content where private file pages are, readable and writable, and executable if those
 * were.  Other threads see the old page or the new one: mremap() does both halves under mmap_lock.  After a failure the old
 * pages are as they were; but when the kernel fails between the halves, which takes running out of memory for a few
 * hundred bytes, the old ones are gone (mremap(2) unmaps its target first). */
static int replace(uint64_t addr, uint64_t bytes, int prot)
{
	long copy = call6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), err;

	if (copy < 0 && copy > -4096)
		return copy;
	/* Exec goes in before the step: another thread may be running there. */
	memcpy((void *)copy, (const void *)addr, bytes);
	err = prot & PROT_EXEC ? call4(SYS_mprotect, copy, bytes, prot | PROT_WRITE, 0) : 0;
	if (!err) {
		err = call6(SYS_mremap, copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, addr, 0);
		if (err == (long)addr)
			return 0;
	}
	call4(SYS_munmap, copy, bytes, 0, 0);
	return err;
}

/* Private pages, all populated, at most PIN_BUFFER_MAX_BYTES. */
static enum pin_outcome hold_private(const struct job *job, uint64_t addr, uint64_t bytes, uint32_t attr, int *err)
{
	enum pin_outcome outcome = PIN_DONE;
	bool writable = attr & RLE_ATTR_WRITE;
	int prot = prot_of(attr), e = 0;

	if (!writable)
		e = call4(SYS_mprotect, addr, bytes, prot | PROT_READ | PROT_WRITE, 0);
	if (!e)
		e = hold(job->p, addr, bytes);
	if (e == -EOPNOTSUPP && writable && !(job->flags & PIN_ALONE)) {
		*err = e;
		return PIN_WRITERS;
	}
	if (e == -EOPNOTSUPP) {
		e = replace(addr, bytes, prot);
		if (!e) {
			outcome = PIN_REPLACED;
			e = hold(job->p, addr, bytes);
		}
	}
	/* Also after a failure: the protection is the program's. */
	if (!writable || (outcome == PIN_REPLACED && prot & PROT_EXEC))
		call4(SYS_mprotect, addr, bytes, prot, 0);
	*err = e;
	return e == 0 ? outcome : e == -EDQUOT ? PIN_LIMIT : e == -ENOSPC ? PIN_FULL : PIN_REFUSED;
}

static enum pin_outcome hold_shared(const struct job *job, uint64_t addr, uint64_t bytes, uint32_t attr, int *err)
{
	*err = attr & RLE_ATTR_WRITE ? hold(job->p, addr, bytes) : -EFAULT;
	switch (-*err) {
	case 0:
		return PIN_DONE;
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
	while (addr < end) {
		uint64_t bytes = end - addr < PIN_BUFFER_MAX_BYTES ? end - addr : PIN_BUFFER_MAX_BYTES;
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
	while (addr < end) {
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

/* One mapping, cut to the range: stretches of populated pages are pinned, the rest is reported. */
static int pin_mapping(const struct job *job, uint64_t addr, uint64_t end, uint32_t attr)
{
	uint64_t word[WORDS], start = addr;
	bool in = false;

	if (job->flags & PIN_POPULATE) {
		hold_unpinned(job, addr, end, attr);
		return 0;
	}
	for (uint64_t at = addr; at < end;) {
		uint64_t n = (end - at) / PAGE < WORDS ? (end - at) / PAGE : WORDS;
		long got = call4(SYS_pread64, job->pagemap_fd, (uint64_t)word, n * 8, at / PAGE * 8);

		if (got < 8)
			return got < 0 ? got : -ESRCH;
		for (uint64_t i = 0; i < (uint64_t)got / 8; i++, at += PAGE) {
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

static int pin_mappings(const struct job *job, int maps_fd, char *buf, uint64_t addr, uint64_t end)
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
		if (vma.kernel_page)
			report(job, from, to, PIN_KERNEL, 0);
		else if (!(vma.prot & (RLE_ATTR_READ | RLE_ATTR_WRITE | RLE_ATTR_EXEC)))
			report(job, from, to, PIN_NOACCESS, 0);
		else if ((err = pin_mapping(job, from, to, vma.prot)) != 0)
			return err;
		addr = to;
	}
	if (addr < end && got < 0 && got != -ESRCH)
		return got;
	report(job, addr, end, PIN_HOLE, 0);
	return 0;
}

int pin_range(struct pin *p, uint64_t addr, uint64_t bytes, unsigned int flags, pin_report_fn fn, void *ctx)
{
	struct job job = {.p = p, .flags = flags, .fn = fn, .ctx = ctx};
	int maps_fd, saved = errno, err;

	if (!p->slots || !range_ok(addr, bytes))
		return -EINVAL;
	maps_fd = call4(SYS_openat, AT_FDCWD, (uint64_t)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (maps_fd < 0)
		return maps_fd;
	job.pagemap_fd = call4(SYS_openat, AT_FDCWD, (uint64_t)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	err = job.pagemap_fd;
	if (err >= 0) {
		err = pin_mappings(&job, maps_fd, (char *)p->slots + TABLE_BYTES, addr, addr + bytes);
		close_raw(job.pagemap_fd);
	}
	close_raw(maps_fd);
	errno = saved; /* rle/vma.c reads through libc */
	return err;
}

const char *pin_why(enum pin_outcome outcome)
{
	static const char *const why[PIN_NOUTCOMES] = {
		[PIN_DONE] = "pinned",
		[PIN_REPLACED] = "pinned, replaced by anonymous pages",
		[PIN_ALREADY] = "pinned before",
		[PIN_ABSENT] = "no page there yet",
		[PIN_HOLE] = "nothing is mapped there",
		[PIN_KERNEL] = "the kernel's own pages",
		[PIN_SHARED] = "a shared mapping of a file or device, or one that is not writable",
		[PIN_NOACCESS] = "a mapping without access",
		[PIN_WRITERS] = "writable private file pages, while other threads may write",
		[PIN_LIMIT] = "RLIMIT_MEMLOCK",
		[PIN_FULL] = "too many stretches for one ring",
		[PIN_REFUSED] = "refused by the kernel",
	};

	return (unsigned int)outcome < PIN_NOUTCOMES ? why[outcome] : "?";
}

int pin_adopt(int pidfd, int ring_fd)
{
	return call4(SYS_pidfd_getfd, pidfd, ring_fd, 0, 0);
}
