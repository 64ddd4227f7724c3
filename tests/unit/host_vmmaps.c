/* host_vmmaps.c - RAM that its VMM maps privately is found out; this process plays the VMM */
#include "runtime/host/window/vmmaps.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/tap.h"

#define PAGES 64u

static void check(const char *base, size_t first, size_t npages, int want, const char *what)
{
	const struct vhostuser_region region[2] = {
		{.gpa_bytes = 0, .bytes = 4096, .uaddr = (uintptr_t)base},
		{.gpa_bytes = 0x100000, .bytes = npages * 4096, .uaddr = (uintptr_t)base + first * 4096},
	};
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct ramtable_err err = {.why = "accepted", .index = 1};

	tap_eq(vmmaps_check(fd, region, 2, &err), want, "%s: %s", what, err.why);
	tap_eq(err.index, 1, "and it is that region");
	close(fd);
}

int main(void)
{
	const int fd = memfd_create("ram", MFD_CLOEXEC), huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	char *base = NULL, *at = MAP_FAILED;

	if (fd < 0 || ftruncate(fd, PAGES * 4096))
		return 2;
	base = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return 2;
	check(base, 1, 30, 0, "shared");
	/* Of other protection, so that it is a mapping of its own. */
	if (mprotect(base + 10 * 4096, 4096, PROT_READ))
		return 2;
	check(base, 1, 30, 0, "shared, in three mappings");
	if (mmap(base + 20 * 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 20 * 4096) == MAP_FAILED)
		return 2;
	check(base, 1, 19, 0, "shared, up to a page that is not");
	check(base, 1, 20, -EOPNOTSUPP, "one page of twenty is private");
	munmap(base + 30 * 4096, 4096);
	check(base, 21, 9, 0, "shared, up to a hole");
	check(base, 21, 10, -ENXIO, "a hole at the end");
	check(base, 30, 5, -ENXIO, "a hole at the beginning");
	check(base, UINT64_C(1) << 50, 1, -ENXIO, "an address that cannot be");
	if (huge >= 0 && !ftruncate(huge, 2 << 20))
		at = mmap(NULL, 2 << 20, PROT_READ, MAP_SHARED | MAP_NORESERVE, huge, 0);
	if (at == MAP_FAILED)
		tap_skip("hugetlb is refused", "this kernel maps no hugetlb memory");
	else
		check(base, (size_t)(at - base) / 4096, 512, -EOPNOTSUPP, "hugetlb");
	return tap_done();
}
