/* kpage.h - the join: kpageflags and kpagecount of frames, condensed to a byte each
 *
 * Theory of operation
 *
 * An entry of these two files costs the kernel 70 to 115 ns, three times a pagemap entry and more, so no frame is
 * asked about twice in a snapshot: a byte a frame remembers the answer, in memory shared by the workers of a
 * snapshot.  The byte's own RLE_ATTR_JOINED bit says whether it is known; two workers that race write the same
 * answer.  Frames beyond RLE_KPAGE_CACHE_PAGES (64 GiB) are asked about each time, which bounds the memory.
 * Answers age: rle_kpage_forget() before each snapshot.
 *
 * Source: Documentation/admin-guide/mm/pagemap.rst; bits from include/uapi/linux/kernel-page-flags.h.
 */
#ifndef RLE_KPAGE_H
#define RLE_KPAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rle/run.h"

#define RLE_KPAGE_CACHE_PAGES (UINT64_C(16) << 20)

struct rle_kpage;

/**
 * rle_kpage_open() - Open kpageflags and kpagecount
 * @k: set to the new object; give back with rle_kpage_close()
 * @root_fd: of /proc or a recorded tree
 *
 * Return: 0, -EACCES or -EPERM without CAP_SYS_ADMIN, -ENOENT on a kernel or tree without them, -ENOMEM.
 */
int rle_kpage_open(struct rle_kpage **k, int root_fd);
void rle_kpage_close(struct rle_kpage *k);

/**
 * rle_kpage_calibrate() - Learn from a frame known to be ordinary which flags not to believe
 * @k: open join
 * @pfn: frame of an anonymous page that KSM cannot have touched
 *
 * Linux 6.12 sets the KSM bit for every anonymous page (seen on Debian's 6.12.117, not on 6.1 and 6.18).  Where that is so, the bit
 * is left out of all answers from here on.
 *
 * Return: 0 or -errno.
 */
int rle_kpage_calibrate(struct rle_kpage *k, ds_pfn pfn);
/** rle_kpage_knows_ksm() - Whether RLE_ATTR_KSM in the answers means something. */
bool rle_kpage_knows_ksm(const struct rle_kpage *k);

/** rle_kpage_forget() - Forget all answers; no other worker may be reading. */
void rle_kpage_forget(struct rle_kpage *k);

/**
 * rle_kpage_read() - Attributes of consecutive frames
 * @k: open join
 * @pfn: the first
 * @n: how many, at most 512
 * @once: they are known to be mapped once (bit 56 of pagemap), so kpagecount need not be asked
 * @byte: filled: RLE_ATTR_KPAGE bits shifted down by RLE_ATTR_KPAGE_SHIFT; a frame beyond the end of the file, which
 *        has no struct page, is RLE_ATTR_NOPAGE
 *
 * Return: 0 or -errno.
 */
int rle_kpage_read(struct rle_kpage *k, ds_pfn pfn, size_t n, bool once, uint8_t *byte);

#endif
