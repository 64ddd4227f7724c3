/* window.h - a mapping of one of the host's files in a guest program: the device window
 *
 * Theory of operation
 *
 * A guest program maps a file of the host, most often a device (paper, Section VI).  Its shadow has the file open; the guest's
 * kernel knows nothing of it.  The VM's ivshmem device has a second BAR, the window, which is memory of the VMM to the guest.
 * Pages of the window are given out: the VMM is made to map the file there (runtime/host/window/vmmhelper.h), and the program maps
 * those pages of the window at the address that it wants.  What it then loads and stores are the file's pages.
 *
 *   program -- mmap(address, length, prot, flags, fd, offset), intercepted
 *     |  MAP    (local.h)	dsagent, its child for the shadow
 *     |  MAP    (agent.h)	the warden: takes the shadow's descriptor (pidfd_getfd)
 *     |  MAP    (host/windows.h)	the VM process: room in the window, the VMM's mapping
 *     |  MAPPED		and back, with the pages of the window; from dsagent a descriptor of the window comes along
 *     '- mmap(address, .., MAP_SHARED | MAP_FIXED, window, page), each extent
 *
 *   a page that is gone when the guest touches it (the file was cut): the VMM gets the fault, puts an empty page there, and says so;
 *     SPOILT to dsagent's child, a SIGBUS for the program
 *
 *   program -- munmap(), or anything else that takes mapped pages away, when it is done
 *     '- UNMAP the same way: the VMM has the window's own memory there again, the room is free
 *
 * The paper's way.  A VM can have been given memory of a device of the host by its physical address (dshost(8), PHYSICAL MEMORY).  Where a program maps
 * just that, the window has no part in it: MAPPED has frames of the guest (DS_WINDOW_PHYSICAL), and a descriptor of the guest's /dev/mem comes
 * along, for programs of root only.  runtime/host/warden/warden_physical.c tells how the host finds them.
 *
 * In the program's library: forward_window_map() in runtime/guest/forward/window.c, called by mmap() of any descriptor of the host's with
 * MAP_SHARED.  What a driver can map needs nothing more from other code: a descriptor that is the host's (forward_fd_host())
 * and a shadow that may open the device are enough.
 *
 * Who may reach what.  The descriptor of the window that a program gets leads to the whole window, since the guest's kernel can
 * cut it no smaller: it can reach mappings of other programs in the same VM that have a shadow.  dsagent gives it to programs
 * of root, who can open the window anyway, and to others only if it was told that users of this guest need not be kept
 * from each other (--users-window).  Other VMs have another window; nothing of the host's is in it but what was mapped for this VM.
 *
 * Life.  Pages of the window belong to a shadow, and are taken back when it ends, whoever ended it.  When a shadow ends and its program
 * goes on, dsagent puts memory without access in the place of its mappings before the host gives the pages to anybody else: the
 * program gets SIGSEGV there.
 *
 * fork().  A child has its parent's mappings, of the same pages of the window, and no shadow until it needs one.  What keeps the pages is a
 * lease: it lies in the estate of descriptors that the child has from its parent (runtime/wire/estate.h), as number
 * DS_ESTATE_WINDOW, and ends as they do, with the child or its exec.  A child that gets a shadow claims it like the descriptors, says of each
 * mapping that it still has that it is inherited (DS_WINDOW_INHERITED), and then that this was all (DS_WINDOW_SETTLED).  If there
 * is no lease, the child finds nothing mapped.
 *
 * The shadow has the file at the same address, so that system calls of the host can have buffers there: mapped when one touches it first, or when the
 * program wants that (DS_WINDOW_REACH; before msync(), which its shadow does).
 *
 * Errors are the host's, as -errno in MAPPED: what mmap() of the descriptor says there; -ENOMEM: the window has no room, or not in
 * DS_WINDOW_EXTENTS_MAX pieces; -ENODEV: the VM has no window, or the VMM cannot be made to map (dshost's log says why).
 *
 * The first page of the window is not given out: struct ds_window_header is there, by which dsagent knows which of the guest's
 * ivshmem devices it is.
 */
#ifndef WIRE_WINDOW_H
#define WIRE_WINDOW_H

#include <stdint.h>

#define DS_WINDOW_MAGIC UINT64_C(0x776f646e69577344) /* the bytes "DsWindow" */
#define DS_WINDOW_EXTENTS_MAX 8
#define DS_WINDOW_HEADER_PAGES 1
#define DS_WINDOW_BYTES_MAX (UINT64_C(64) << 30)

/** struct ds_window_header - At the beginning of the window; the host writes it, the guest may spoil it to its own harm. */
struct ds_window_header {
	uint64_t magic, bytes; /* bytes: of the window */
};

/** enum ds_window_what - What a MAP is about. */
enum ds_window_what {
	DS_WINDOW_FILE,	     /* a descriptor's file */
	DS_WINDOW_LIKE,	     /* the file that page `like` of the program has mapped; its offset there is added to `offset` (mremap) */
	DS_WINDOW_INHERITED, /* what the parent had at these pages: they are mapped already, MAPPED has no extents */
	DS_WINDOW_SETTLED,   /* whatever else was inherited is not mapped any more; its pages are not looked at; no extents */
	DS_WINDOW_REACH,     /* the shadow is to have it there now; no extents */
	DS_WINDOW_WHATS,
};

/** struct ds_window_map - MAP. */
struct ds_window_map {
	uint64_t vpn, npages; /* in the program */
	uint64_t offset;      /* bytes, of the file; whole pages */
	uint64_t like;	      /* a page of the program */
	uint32_t fd;	      /* of the program and its shadow alike */
	uint16_t prot;	      /* PROT_READ, PROT_WRITE */
	uint16_t what;	      /* enum ds_window_what */
};

#define DS_WINDOW_PHYSICAL 0x8000 /* in prot of MAPPED: the extents are frames of the guest, not pages of the window */

/** struct ds_window_extent - Pages of the window; or, with DS_WINDOW_PHYSICAL, frames of the guest. */
struct ds_window_extent {
	uint64_t page, npages;
};

/** struct ds_window_mapped - MAPPED: the extents are the mapping, one after the other. */
struct ds_window_mapped {
	int32_t err; /* 0, or -errno: then there are no extents */
	uint16_t nextents;
	uint16_t prot; /* what the mapping allows, whatever was asked for: PROT_READ, PROT_WRITE; and DS_WINDOW_PHYSICAL */
	struct ds_window_extent extent[DS_WINDOW_EXTENTS_MAX];
};

/** struct ds_window_unmap - UNMAP: the program has nothing mapped any more at these of its pages, which MAP had named. */
struct ds_window_unmap {
	uint64_t vpn, npages;
};

_Static_assert(sizeof(struct ds_window_map) == 40 && sizeof(struct ds_window_mapped) == 8 + 16 * DS_WINDOW_EXTENTS_MAX &&
		       sizeof(struct ds_window_unmap) == 16 && sizeof(struct ds_window_header) == 16,
	       "no padding");

#endif
