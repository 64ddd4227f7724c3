/* agent_glance.c - a first look at a process's mappings, before anything is done to it; agent_mem.h */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "rle/cleanup.h"
#include "rle/vma.h"
#include "runtime/guest/agent/agent_mem.h"

#define USER_PAGES (UINT64_C(1) << (47 - DS_PAGE_SHIFT))
#define LOWEST_PAGE (UINT64_C(1) << (32 - DS_PAGE_SHIFT)) /* below it are places that some programs ask for by name (MAP_32BIT) */

int agent_mem_glance(pid_t pid, struct agent_ranges *out, uint64_t npages, struct ds_agent_range *hole)
{
	uint64_t from = LOWEST_PAGE, best = 0, best_pages = 0;
	char buf[RLE_VMA_BUF_BYTES], path[64];
	cleanup_close int fd = -1;
	struct rle_vma_iter it;
	struct rle_vma vma;
	bool query = true;
	int r, err = 0;

	agent_ranges_clear(out);
	*hole = (struct ds_agent_range){0};
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	rle_vma_start(&it, fd, buf, &query);
	while (!err && (r = rle_vma_next(&it, &vma)) > 0 && vma.start.n < USER_PAGES) {
		const uint64_t end = vma.end.n < USER_PAGES ? vma.end.n : USER_PAGES;

		if (vma.start.n > from && vma.start.n - from > best_pages) {
			best = from;
			best_pages = vma.start.n - from;
		}
		from = end > from ? end : from;
		err = agent_ranges_add(out, vma.start.n, end - vma.start.n);
	}
	/* The helper goes to the middle of that hole (inject.h), and what the program maps next to one of its ends. */
	if (npages && best_pages / 8 > npages)
		*hole = (struct ds_agent_range){best + best_pages / 16 * 9, npages};
	return err ? err : r < 0 ? r : 0;
}
