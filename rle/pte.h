/* pte.h - the 64-bit word of /proc/PID/pagemap
 *
 * Source: Documentation/admin-guide/mm/pagemap.rst and fs/proc/task_mmu.c, kernels 4.2 to 6.18.
 *
 *   63 present | 62 swap | 61 file or shared-anon | 60..59 zero | 58 guard region (6.15+)
 *   57 uffd write-protected (5.14+) | 56 mapped exactly once | 55 soft-dirty
 *   present: 54..0 PFN, zero for readers without CAP_SYS_ADMIN (4.2+)
 *   swap:    54..5 swap offset, 4..0 swap type
 *
 * Types of entry that are not swap share the swap form.  The kernel hands real swap files the lowest
 * types (MAX_SWAPFILES is 23 to 27 by configuration) and gives the top ones to migration, hwpoison,
 * device-private pages and to markers (include/linux/swap.h).  Markers are number 31, but were 30 from 5.19 to 6.2,
 * which is a kind of migration entry before and after.  The offset tells: a marker's is a few flags, a migration
 * entry's is a PFN, and the first pages of memory belong to the firmware and do not migrate.
 */
#ifndef RLE_PTE_H
#define RLE_PTE_H

#include <stdbool.h>
#include <stdint.h>

#include "rle/run.h"

#define RLE_PTE_PRESENT (UINT64_C(1) << 63)
#define RLE_PTE_SWAP (UINT64_C(1) << 62)
#define RLE_PTE_FILE (UINT64_C(1) << 61)
#define RLE_PTE_GUARD (UINT64_C(1) << 58)
#define RLE_PTE_UFFD_WP (UINT64_C(1) << 57)
#define RLE_PTE_EXCLUSIVE (UINT64_C(1) << 56)
#define RLE_PTE_SOFT_DIRTY (UINT64_C(1) << 55)
#define RLE_PTE_PFN_MASK ((UINT64_C(1) << 55) - 1)

#define RLE_SWAP_TYPE_SPECIAL 23 /* this and above: no swap file */
#define RLE_SWAP_TYPE_MARKER 31

/** rle_pte_pfn() - Frame of a present word; zero where the kernel hides it. */
static inline ds_pfn rle_pte_pfn(uint64_t pte)
{
	return (ds_pfn){pte & RLE_PTE_PFN_MASK};
}

/** rle_pte_swap_type() - Type of a word in swap form: RLE_SWAP_TYPE_SPECIAL and above are no swap file. */
static inline unsigned int rle_pte_swap_type(uint64_t pte)
{
	return pte & 0x1f;
}

/** rle_pte_is_marker() - Whether a word in swap form is a marker, which remembers something about no page. */
static inline bool rle_pte_is_marker(uint64_t pte)
{
	unsigned int type = rle_pte_swap_type(pte);

	return type == RLE_SWAP_TYPE_MARKER || (type == RLE_SWAP_TYPE_MARKER - 1 && (pte & RLE_PTE_PFN_MASK) >> 5 < 8);
}

/** rle_pte_attr() - The attributes that the word itself carries: RLE_ATTR_FILE, RLE_ATTR_UFFD_WP. */
static inline uint32_t rle_pte_attr(uint64_t pte)
{
	return (pte & RLE_PTE_FILE ? RLE_ATTR_FILE : 0u) | (pte & RLE_PTE_UFFD_WP ? RLE_ATTR_UFFD_WP : 0u);
}

#endif
