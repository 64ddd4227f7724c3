/* warden_physical.c - a device's pages by their physical addresses: the paper's way of mapping a device
 *
 * Theory of operation
 *
 * A VM can be given memory of a device of the host by /dev/mem (dshost(8), PHYSICAL MEMORY), so that the guest has it at some physical address
 * of its own.  When a program of the guest maps that device, nothing has to be mapped into the VM's window: the driver's mapping leads to
 * frames of the host, the VM's table (ramtable.h) tells which frames of the guest these are, and the program maps them by the guest's own
 * /dev/mem.  That is what the paper does (Section VI, "mmap()ing the device"), but that its VMM puts the frames into the guest when they are asked
 * for, at the same address, and a stock VMM has them from its start, anywhere.
 *
 * Where the frames are is looked for as in the paper: the device is mapped, here by the descriptor that the shadow has, and the kernel
 * says in /proc/self/maps where it lies.  It does so for drivers that make the physical address the mapping's offset, which then is another one than was
 * asked for: VFIO's, and the files of PCI devices in sysfs.  (/proc/PID/pagemap passes over such mappings: walk_page_test() in mm/pagewalk.c.)
 * UIO's devices say it in sysfs (Documentation/driver-api/uio-howto.rst).  Nothing is touched, as to read a register can mean something.  Whatever
 * is not found, or is no memory that the VM was given, comes by the window.
 *
 * The guest learns nothing but where in its own memory something is; what it can reach there was given to it before.
 */
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "rle/addr.h"
#include "runtime/host/warden/warden_parts.h"
#include "runtime/host/window/windows.h"

static uint64_t device_pages(const struct ramtable *t)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < t->nranges; i++)
		n += t->file[t->range[i].file].device ? t->range[i].npages : 0;
	return n;
}

/* The offset of our mapping at @at.  Return: whether it is known. */
static bool offset_of(const void *at, uint64_t *offset)
{
	FILE *f = fopen("/proc/self/maps", "re");
	bool found = false;
	char line[512];
	uint64_t from;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%" SCNx64 "-%*x %*s %" SCNx64, &from, offset) == 2 && from == (uintptr_t)at;
	if (f)
		fclose(f);
	return found;
}

/* Where a UIO device says that its map is; the offset that one maps is the map's number, in pages.  Return: whether it is one. */
static bool ask_uio(dev_t device, uint64_t offset, uint64_t *address)
{
	char path[128];
	bool found;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/maps/map%" PRIu64 "/addr", major(device), minor(device), offset >> DS_PAGE_SHIFT);
	f = fopen(path, "re");
	found = f && fscanf(f, "%" SCNx64, address) == 1;
	if (f)
		fclose(f);
	return found;
}

/* Where the host's memory has what is mapped.  Return: whether that can be told. */
static bool address_of(const struct stat *st, const void *at, uint64_t offset, uint64_t *address)
{
	return (S_ISCHR(st->st_mode) && ask_uio(st->st_rdev, offset, address)) || (offset_of(at, address) && *address != offset);
}

/* As frames of the guest.  Return: whether it has all of them, in few enough pieces. */
static bool translate(const struct ramtable *t, uint64_t page, uint64_t npages, struct ds_window_mapped *got)
{
	for (uint64_t done = 0, n; done < npages; done += n) {
		ds_vpn frame;

		if (got->nextents == DS_WINDOW_EXTENTS_MAX || !ramtable_device_frame(t, (ds_pfn){page + done}, &frame, &n))
			return false;
		n = n < npages - done ? n : npages - done;
		got->extent[got->nextents++] = (struct ds_window_extent){frame.n, n};
	}
	return true;
}

bool warden_physical_find(const struct ramtable *t, int fd, const struct windows_ask *a, struct ds_window_mapped *got)
{
	uint64_t address = 0;
	struct statfs fs;
	struct stat st;
	bool found;
	void *at;

	*got = (struct ds_window_mapped){0};
	if (a->npages > device_pages(t) || fstat(fd, &st) || fstatfs(fd, &fs) || !(S_ISCHR(st.st_mode) || fs.f_type == SYSFS_MAGIC))
		return false;
	at = mmap(NULL, a->npages << DS_PAGE_SHIFT, (int)a->prot, MAP_SHARED, fd, (off_t)a->offset);
	if (at == MAP_FAILED)
		return false;
	found = address_of(&st, at, a->offset, &address);
	munmap(at, a->npages << DS_PAGE_SHIFT);
	if (found && !(address % DS_PAGE_BYTES) && translate(t, address >> DS_PAGE_SHIFT, a->npages, got))
		return true;
	*got = (struct ds_window_mapped){0};
	return false;
}
