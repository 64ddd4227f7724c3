/* devmem.c - what the kernel lets be mapped through /dev/mem; theory in devmem.h */
#include "runtime/host/devmem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "rle/src.h"

__attribute__((format(printf, 3, 4))) static int refuse(char *why, int number, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, DEVMEM_WHY_BYTES, fmt, ap);
	va_end(ap);
	return number;
}

int devmem_open(char why[static DEVMEM_WHY_BYTES])
{
	const int fd = open(DEVMEM_PATH, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENXIO)
		return refuse(why, -ENOENT, DEVMEM_PATH " is not there: the kernel was built without it (CONFIG_DEVMEM), or /dev is a container's");
	if (errno == EPERM || errno == EACCES)
		return refuse(why, -EPERM, DEVMEM_PATH ": %s: it takes root with CAP_SYS_RAWIO, and a kernel that is not locked down (kernel_lockdown(7))",
			      strerror(errno));
	return refuse(why, -errno, DEVMEM_PATH ": %s", strerror(errno));
}

/* Whether a page of [address, address + bytes) is System RAM by /proc/iomem. */
static int check_ram(uint64_t address, uint64_t bytes, char *why)
{
	const uint64_t first = address >> DS_PAGE_SHIFT, end = (address + bytes) >> DS_PAGE_SHIFT;
	struct rle_src src;
	const char *reason = "";
	int r = rle_src_open(&src, "/proc", RLE_JOIN_NONE, &reason);

	if (r)
		return refuse(why, r, "%s: %s", reason, strerror(-r));
	if (!src.frames.nram)
		r = refuse(why, -EACCES, "/proc/iomem does not tell which memory is the kernel's own: CAP_SYS_ADMIN is missing");
	for (size_t i = 0; !r && i < src.frames.nram; i++) {
		const struct rle_extent *ram = &src.frames.ram[i];

		if (ram->first.n < end && first < ram->first.n + ram->npages)
			r = refuse(why, -EPERM,
				   "physical address 0x%" PRIx64 " is the kernel's own RAM: tell it to leave that memory alone when it boots "
				   "(memmap=SIZE$ADDRESS), and say where that is",
				   (ram->first.n > first ? ram->first.n : first) << DS_PAGE_SHIFT);
	}
	rle_src_close(&src);
	return r;
}

int devmem_check(int fd, uint64_t address, uint64_t bytes, char why[static DEVMEM_WHY_BYTES])
{
	const uint64_t end = DS_PFN_END << DS_PAGE_SHIFT;
	void *at;
	int r;

	if (!bytes || (address | bytes) & (DS_PAGE_BYTES - 1) || bytes > end || address > end - bytes)
		return refuse(why, -EINVAL, "0x%" PRIx64 " bytes at 0x%" PRIx64 " are no physical memory in whole pages", bytes, address);
	r = check_ram(address, bytes, why);
	if (r)
		return r;
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)address);
	if (at != MAP_FAILED)
		return munmap(at, bytes) ? -errno : 0;
	if (errno == EPERM)
		return refuse(why, -EPERM,
			      "the kernel keeps " DEVMEM_PATH " away from the %" PRIu64 " MiB at 0x%" PRIx64 " (CONFIG_STRICT_DEVMEM, CONFIG_IO_STRICT_DEVMEM): they "
			      "belong to it or to a driver",
			      bytes >> 20, address);
	return refuse(why, -errno, DEVMEM_PATH ": the %" PRIu64 " MiB at 0x%" PRIx64 " cannot be mapped: %s", bytes >> 20, address, strerror(errno));
}
