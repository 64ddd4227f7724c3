/* libdsguest_wrap.c - libc's functions that take pages away, which tell the mirror first
 *
 * Each one makes the same system call as libc's, with the same result and errno.  With a shadow, the pages that go are dropped from
 * the mirror before it, and whatever is there afterwards is mirrored after it, also when the call failed.  Calls that
 * take nothing away pass through at once.
 *
 * Only calls that are bound to these symbols come here: those of the program and its libraries, not those that libc makes for
 * itself (malloc's heaps, threads' stacks).
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/guest/lib/libdsguest.h"

#define EXPORT __attribute__((visibility("default")))
#define MADV_DONTNEED_LOCKED_ 24 /* linux/mman.h of 5.18 */

/* The symbols are declared here and not by libc's headers, whose attributes differ between versions. */
static long result(long ret)
{
	if ((unsigned long)ret > -4096ul) {
		errno = -ret;
		return -1;
	}
	return ret;
}

/* Pages of [addr, addr + bytes); false: none, or a call that must fail: where @addr is no page's. */
static bool pages(struct ds_local_range *range, uintptr_t addr, size_t bytes)
{
	uint64_t start = addr / GUEST_PAGE, end;

	if (bytes > (UINT64_C(1) << 47) || addr % GUEST_PAGE)
		return false;
	end = (addr + bytes + GUEST_PAGE - 1) / GUEST_PAGE;
	if (addr >= UINT64_C(1) << 47 || end <= start || end > (UINT64_C(1) << 35))
		return false;
	*range = (struct ds_local_range){.vpn = start, .npages = end - start};
	return true;
}

static size_t whole(size_t bytes)
{
	return (bytes + GUEST_PAGE - 1) & ~(GUEST_PAGE - 1);
}

/* Two ranges, made rising and disjoint.  Return: how many are left. */
static uint32_t join(struct ds_local_range r[2], uint32_t n)
{
	struct ds_local_range low, high;
	uint64_t end;

	if (n < 2)
		return n;
	low = r[0].vpn <= r[1].vpn ? r[0] : r[1];
	high = r[0].vpn <= r[1].vpn ? r[1] : r[0];
	r[0] = low;
	r[1] = high;
	if (low.vpn + low.npages < high.vpn)
		return 2;
	end = high.vpn + high.npages;
	if (end > low.vpn + low.npages)
		r[0].npages = end - low.vpn;
	return 1;
}

static long around(const struct ds_local_range *r, uint32_t n, long nr, long a, long b, long c, long d, long e, long f)
{
	bool told = n && guest_change(DS_LOCAL_DROP, r, n) == 0;
	long ret = guest_syscall(nr, a, b, c, d, e, f);

	if (told)
		guest_change(DS_LOCAL_REFRESH, r, n);
	return ret;
}

EXPORT int munmap(void *addr, size_t bytes)
{
	struct ds_local_range r;
	uint32_t n = guest_active() && pages(&r, (uintptr_t)addr, bytes);

	return result(around(&r, n, SYS_munmap, (long)addr, bytes, 0, 0, 0, 0));
}

/* Over what is there: only MAP_FIXED takes anything away. */
EXPORT void *mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	struct ds_local_range r;
	uint32_t n = guest_active() && flags & MAP_FIXED && pages(&r, (uintptr_t)addr, bytes);

	return (void *)result(around(&r, n, SYS_mmap, (long)addr, bytes, prot, flags, fd, offset));
}
EXPORT void *mmap64(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset) __attribute__((alias("mmap")));

EXPORT void *mremap(void *old, size_t old_bytes, size_t new_bytes, int flags, ...)
{
	struct ds_local_range r[2];
	void *to = NULL;
	uint32_t n = 0;
	va_list ap;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	if (guest_active()) {
		if (flags & MREMAP_MAYMOVE)
			n += pages(&r[n], (uintptr_t)old, old_bytes > new_bytes ? old_bytes : new_bytes);
		else if (whole(new_bytes) < whole(old_bytes))
			n += pages(&r[n], (uintptr_t)old + whole(new_bytes), whole(old_bytes) - whole(new_bytes));
		if (flags & MREMAP_FIXED)
			n += pages(&r[n], (uintptr_t)to, new_bytes);
		n = join(r, n);
	}
	return (void *)result(around(r, n, SYS_mremap, (long)old, old_bytes, new_bytes, flags, (long)to, 0));
}

EXPORT int madvise(void *addr, size_t bytes, int advice)
{
	bool takes = advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE || advice == MADV_DONTNEED_LOCKED_;
	struct ds_local_range r;
	uint32_t n = takes && guest_active() && pages(&r, (uintptr_t)addr, bytes);

	return result(around(&r, n, SYS_madvise, (long)addr, bytes, advice, 0, 0, 0));
}

/* libc keeps the end of the heap in a variable of its own, so it must move it itself. */
static uint32_t shrinks(struct ds_local_range *r, uintptr_t to)
{
	uintptr_t now = guest_syscall(SYS_brk, 0, 0, 0, 0, 0, 0);

	to = whole(to);
	now = whole(now);
	return to && to < now && pages(r, to, now - to);
}

EXPORT int brk(void *end)
{
	static int (*next)(void *);
	struct ds_local_range r;
	uint32_t n = guest_active() ? shrinks(&r, (uintptr_t)end) : 0;
	int ret;

	if (!next)
		next = (int (*)(void *))(uintptr_t)dlsym(RTLD_NEXT, "brk");
	n = n && guest_change(DS_LOCAL_DROP, &r, n) == 0;
	ret = next(end);
	if (n)
		guest_change(DS_LOCAL_REFRESH, &r, n);
	return ret;
}

EXPORT void *sbrk(intptr_t by)
{
	static void *(*next)(intptr_t);
	struct ds_local_range r;
	uint32_t n = 0;
	void *ret;

	if (!next)
		next = (void *(*)(intptr_t))(uintptr_t)dlsym(RTLD_NEXT, "sbrk");
	if (by < 0 && guest_active())
		n = shrinks(&r, guest_syscall(SYS_brk, 0, 0, 0, 0, 0, 0) + by);
	n = n && guest_change(DS_LOCAL_DROP, &r, n) == 0;
	ret = next(by);
	if (n)
		guest_change(DS_LOCAL_REFRESH, &r, n);
	return ret;
}
