/* vmmaps.h - does the VMM itself use the pages of the file that it handed over
 *
 * A memory backend with share=off is a private mapping of its file: QEMU sends the file's descriptor in SET_MEM_TABLE all the
 * same, but what the guest writes goes to copies that nobody else sees.  A mirror of such a file would show zeroes and
 * write into nowhere.  The descriptor does not tell; the VMM's own mappings do, and SET_MEM_TABLE says where they are.
 */
#ifndef HOST_VMMAPS_H
#define HOST_VMMAPS_H

#include "runtime/host/vm/vhostuser.h"

/**
 * vmmaps_check() - Checks that the VMM has the memory it sent mapped shared, and not with hugetlb pages
 * @maps_fd: /proc/PID/maps of the VMM, open, at its start; the caller's.  PID: SO_PEERCRED of the connection, whose
 *	VMM lives as long as the connection; needs the right to look at that process (ptrace(2), PTRACE_MODE_READ)
 * @region: of SET_MEM_TABLE
 * @nregions: at most VHOSTUSER_REGIONS_MAX
 * @err: filled on an error; index is the region, value its GPA; may be NULL
 *
 * One pass over the mappings.
 *
 * Return: 0; -EOPNOTSUPP (a region is mapped privately, or of hugetlb pages); -ENXIO (not mapped where the VMM says);
 * -ENOMEM; -errno of reading @maps_fd.
 */
int vmmaps_check(int maps_fd, const struct vhostuser_region *region, uint32_t nregions, struct ramtable_err *err);

#endif
