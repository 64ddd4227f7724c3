/* procmap.h - the question PROCMAP_QUERY of Linux 6.11: a mapping of /proc/PID/maps, by ioctl(), as numbers
 *
 * include/uapi/linux/fs.h of 6.11; Debian 12's headers are older.  A kernel that does not know it answers ENOTTY.
 */
#ifndef RLE_PROCMAP_H
#define RLE_PROCMAP_H

#include <stdint.h>
#include <sys/ioctl.h>

struct procmap_query {
	uint64_t size, query_flags, query_addr;
	uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
	uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
	uint64_t vma_name_addr, build_id_addr;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
#define QUERY_COVERING_OR_NEXT 0x10 /* query_flags */
#define QUERY_FILE_BACKED 0x20
#define QUERY_WRITABLE 2

#endif
