/* devmem.c - what the kernel lets be mapped through /dev/mem; theory in devmem.h */
#include "runtime/host/vm/devmem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rle/addr.h"
#include "rle/cleanup.h"

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

/* Whether memory that /proc/iomem calls so is nobody's. */
static bool is_free(const char *name)
{
	static const char *const names[] = {"Reserved", "reserved", "Soft Reserved", "Persistent Memory", "Persistent Memory (legacy)"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/** struct owner - Somebody whom physical memory belongs to, and from which address on. */
struct owner {
	uint64_t from;
	char name[64];
};

static bool is_kernel(const struct owner *o)
{
	return !strncmp(o->name, "System RAM", 10);
}

/*
 * The first whom a byte of [address, address + bytes) belongs to by /proc/iomem: the kernel or a device.  Memory that was set aside is
 * Reserved there, or not mentioned.  Entries within others are looked at, too: the local APIC is in something Reserved.
 *
 * Return: 1; 0: nobody; -EACCES: the kernel does not tell; -errno.
 */
static int find_owner(uint64_t address, uint64_t bytes, struct owner *o)
{
	cleanup_free char *line = NULL;
	bool told = false;
	size_t size = 0;
	int r = 0;
	FILE *f = fopen("/proc/iomem", "re");

	if (!f)
		return -errno;
	while (!r && getline(&line, &size, f) > 0) {
		unsigned long long from, to;

		if (sscanf(line, " %llx-%llx : %63[^\n]", &from, &to, o->name) != 3)
			continue;
		told = told || to; /* who may not see addresses sees zeros */
		if (!to || from >= address + bytes || to < address || is_free(o->name))
			continue;
		o->from = from > address ? from : address;
		r = 1;
	}
	fclose(f);
	return r || told ? r : -EACCES;
}

bool devmem_is_device(uint64_t address, uint64_t bytes)
{
	struct owner o;

	return find_owner(address, bytes, &o) > 0 && !is_kernel(&o);
}

static int check_owner(uint64_t address, uint64_t bytes, char *why)
{
	struct owner o;
	const int r = find_owner(address, bytes, &o);

	if (r == -EACCES)
		return refuse(why, r, "/proc/iomem does not tell which memory is the kernel's own: CAP_SYS_ADMIN is missing");
	if (r < 0)
		return refuse(why, r, "/proc/iomem: %s", strerror(-r));
	if (r && is_kernel(&o))
		return refuse(why, -EPERM,
			      "physical address 0x%" PRIx64 " is the kernel's own RAM: tell it to leave that memory alone when it boots "
			      "(memmap=SIZE$ADDRESS), and say where that is",
			      o.from);
	if (r)
		return refuse(why, -EPERM, "physical address 0x%" PRIx64 " belongs to \"%s\" (/proc/iomem), and is no memory that was set aside", o.from,
			      o.name);
	return 0;
}

int devmem_check(int fd, uint64_t address, uint64_t bytes, char why[static DEVMEM_WHY_BYTES])
{
	const uint64_t end = DS_PFN_END << DS_PAGE_SHIFT;
	void *at;
	int r;

	if (!bytes || (address | bytes) & (DS_PAGE_BYTES - 1) || bytes > end || address > end - bytes)
		return refuse(why, -EINVAL, "0x%" PRIx64 " bytes at 0x%" PRIx64 " are no physical memory in whole pages", bytes, address);
	r = check_owner(address, bytes, why);
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
