/* devmem.h - physical memory of the host as a VM's memory: what the kernel lets be mapped through /dev/mem
 *
 * Theory of operation
 *
 * The paper's shadows map guest memory through /dev/mem, at the addresses that it has in the host.  That asks for memory which lies
 * where one knows and which nobody moves: memory that the host's kernel was told to leave alone when it booted
 * (memmap=SIZE$ADDRESS; of a test VM: a DIMM that its kernel ignores).  The VMM maps it from /dev/mem, so a VM's table names /dev/mem as
 * its RAM file (ramtable.h), with physical addresses as offsets, and what the shadow maps are the same frames by the same way.
 *
 * The kernel's own RAM is refused: by the kernel, where it was built with CONFIG_STRICT_DEVMEM, as all of Debian's are, with EPERM; and
 * by this, for the others, because a guest that ran in it would write over the kernel.  What /proc/iomem says to be a device's is refused by
 * this alone: not every kernel does (CONFIG_IO_STRICT_DEVMEM minds drivers' own regions only).
 *
 * A VMM can also give its VM memory of a device of the host in that way, and then dshost has to know which is which: a shadow mirrors RAM, and
 * what a driver maps is looked for in the rest (runtime/host/warden/warden_physical.c).
 *
 * No state, nothing is kept mapped.
 */
#ifndef HOST_DEVMEM_H
#define HOST_DEVMEM_H

#include <stdbool.h>
#include <stdint.h>

#define DEVMEM_PATH "/dev/mem"
#define DEVMEM_WHY_BYTES 320

/**
 * devmem_open() - Opens /dev/mem for reading and writing
 * @why: filled on an error: what happened and what to do
 *
 * Return: a descriptor, the caller's; -ENOENT (built without CONFIG_DEVMEM, or no node), -EPERM (no CAP_SYS_RAWIO, or the kernel is locked
 * down: kernel_lockdown(7)), -errno of open().
 */
int devmem_open(char why[static DEVMEM_WHY_BYTES]);

/**
 * devmem_check() - Whether physical memory can be a VM's
 * @fd: of /dev/mem
 * @address, @bytes: in whole pages
 * @why: filled on an error
 *
 * Maps it once and gives it back, without touching it (drivers/char/mem.c: the whole range is looked at by mmap()).
 *
 * Return: 0; -EINVAL (no such addresses); -EPERM (the kernel's own RAM, or a driver's); -EACCES (the kernel does not tell which
 * memory is its own); -errno of mmap().
 */
int devmem_check(int fd, uint64_t address, uint64_t bytes, char why[static DEVMEM_WHY_BYTES]);

/** devmem_is_device() - Whether any of it is a device's, by /proc/iomem; false also where that cannot be read. */
bool devmem_is_device(uint64_t address, uint64_t bytes);

#endif
