/* vma.h - the mappings of a process, one after the other, in constant memory
 *
 * From PROCMAP_QUERY where the kernel has it (6.11), which formats no text and looks up no path; else from the text
 * of /proc/PID/maps.  Both can show overlapping or repeated mappings while the process changes them: what is
 * delivered here is clipped to rise.  [vsyscall], in the kernel half, is never delivered.
 */
#ifndef RLE_VMA_H
#define RLE_VMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rle/addr.h"

#define RLE_VMA_BUF_BYTES 32768 /* a line of maps is longer only with a hostile path; the rest of such a line is skipped */

struct rle_vma {
	ds_vpn start, end;
	uint32_t prot;	  /* RLE_ATTR_PROT bits */
	bool hugetlb;	  /* memory of the huge page pool; from text only if it has no name of its own */
	bool kernel_page; /* [vdso], [vvar] and the like: pages that belong to the kernel */
	bool file;	  /* of a file, memory files and the like included */
};

struct rle_vma_iter {
	int fd;
	bool query;	   /* PROCMAP_QUERY works on fd */
	uint64_t next_vpn; /* nothing below is delivered any more */
	bool any;	   /* something was delivered */
	/* text only */
	char *buf; /* RLE_VMA_BUF_BYTES, the caller's */
	size_t have, pos;
	bool eof, skip_line;
};

/**
 * rle_vma_start() - Begin at the lowest mapping
 * @it: filled in
 * @maps_fd: open /proc/PID/maps, at its start; stays the caller's
 * @buf: RLE_VMA_BUF_BYTES of scratch memory
 * @query: try PROCMAP_QUERY; cleared if the kernel lacks it, so that it is not tried again
 */
void rle_vma_start(struct rle_vma_iter *it, int maps_fd, char *buf, bool *query);

/**
 * rle_vma_next() - The next mapping
 * @it: iterator
 * @vma: filled in
 *
 * Return: 1; 0 at the end (also when there was none: the process is gone, or a kernel thread); -ESRCH gone;
 * -EBADMSG text that is not of maps; -errno.
 */
int rle_vma_next(struct rle_vma_iter *it, struct rle_vma *vma);

/**
 * rle_vma_parse() - Parse one line of maps
 * @line: the line, without its newline; need not be terminated
 * @len: its length in bytes; it may be cut anywhere in the path name
 * @vma: filled in, not clipped
 *
 * Format: proc_pid_maps(5).  Return: 0; -ERANGE a mapping of the kernel half; -EBADMSG.
 */
int rle_vma_parse(const char *line, size_t len, struct rle_vma *vma);

#endif
