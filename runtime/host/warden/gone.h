/* gone.h - proves from outside that a shadow has let go of pages
 *
 * Theory of operation
 *
 * A guest's frame may be used for something else as soon as the host says that no shadow has it.  The shadow says so
 * itself, and is not believed: its mappings are looked at in /proc/PID/maps.  What makes one look enough:
 *
 *   - RAM is mapped by mmap() only, which the guard lets pass only if the authority says so; mappings do not move
 *     (no mremap).  So what may not be mapped any more and is not mapped now will not be mapped later.
 *   - Except by a call that was let pass before and is still on its way: guard_settle() (guard.h) comes first.
 *   - System calls that use pages without a mapping (direct I/O in progress, io_uring) are none of a capsule's.  A service
 *     that is given more calls must be asked whether any is running: maps do not tell.
 *
 * A mapping is the RAM's if its file is: device and inode, whichever descriptor it was made with.
 *
 * With PROCMAP_QUERY (Linux 6.11) the kernel is asked for the first mapping of a file at or behind an address: the cost is
 * that of the ranges, not of the mirror.  Without it the text of maps is read, which formats every mapping: about half a
 * microsecond each.  A mapping that is there all the time is seen by both even while the process changes others:
 * both continue by address (fs/proc/task_mmu.c).
 */
#ifndef HOST_GONE_H
#define HOST_GONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/host/warden/authority.h"
#include "runtime/wire/shadow.h"

/** struct gone_file - A file as /proc/PID/maps names it. */
struct gone_file {
	uint32_t major, minor;
	uint64_t inode;
};

/** struct gone_found - A mapping that should not be there. */
struct gone_found {
	uint64_t vpn, npages, pfn; /* pfn: page of the file at vpn */
	bool write;
};

/** struct gone - Looks at one process. */
struct gone {
	pid_t pid;
	int maps_fd;
	struct gone_file file;
	bool query; /* PROCMAP_QUERY works */
};

/**
 * gone_open() - Begins to look at process @pid
 * @g: filled; given back by gone_close()
 * @pid: that cannot have been reaped: a child, or one whose pidfd says so afterwards
 * @ram_fd: the RAM, by any descriptor
 *
 * Return: 0; -ESRCH, -EACCES (ptrace(2), PTRACE_MODE_READ), -errno.
 */
int gone_open(struct gone *g, pid_t pid, int ram_fd);

/** gone_close() - Ends it. */
void gone_close(struct gone *g);

/**
 * gone_check() - Whether no page of the RAM is mapped in ranges
 * @range: rising, not overlapping (as place_check_ranges() wants them)
 * @n: how many
 * @except: what may be there all the same: pages that are by its map in force where they are, and cannot be written
 *	unless it says so; NULL: nothing may
 * @found: filled with the first mapping that may not; may be NULL
 *
 * With one range over everything and the authority it says whether the whole mirror is as it should be.
 *
 * Return: 0: it is so; -EEXIST: @found is there; -ESRCH: the process has no memory any more (it is dead: that is as good);
 * -errno.
 */
int gone_check(struct gone *g, const struct ds_shadow_range *range, size_t n, const struct authority *except,
	       struct gone_found *found);

#endif
