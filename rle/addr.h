/* addr.h - page numbers that cannot be mixed up
 *
 * Each kind of page number is a struct of one integer, so that the compiler refuses a VPN where a PFN
 * is wanted.  A struct this small travels in a register: the types cost nothing.
 *
 * All numbers count pages of DS_PAGE_BYTES.  /proc/PID/pagemap speaks in 4 KiB pages on x86-64
 * whatever the size of the mapping behind them (Documentation/admin-guide/mm/pagemap.rst).
 */
#ifndef RLE_ADDR_H
#define RLE_ADDR_H

#include <stdint.h>

#define DS_PAGE_SHIFT 12
#define DS_PAGE_BYTES (UINT64_C(1) << DS_PAGE_SHIFT)

/* First VPN above the user half: 47 bits of address with 4-level page tables, 56 with 5-level ones. */
#define DS_USER_VPN_END (UINT64_C(1) << (56 - DS_PAGE_SHIFT))
/* First frame number that no x86-64 machine can have: physical addresses have 52 bits. */
#define DS_PFN_END (UINT64_C(1) << (52 - DS_PAGE_SHIFT))

/** ds_vpn - Virtual page number: a virtual address (GVA or HVA) >> DS_PAGE_SHIFT. */
typedef struct {
	uint64_t n;
} ds_vpn;

/** ds_pfn - Page frame number in the space that its map names: a GPA, an HPA or a file offset >> DS_PAGE_SHIFT. */
typedef struct {
	uint64_t n;
} ds_pfn;

/** ds_vpn_add() - The page @npages pages further up; the caller bounds it. */
static inline ds_vpn ds_vpn_add(ds_vpn v, uint64_t npages)
{
	return (ds_vpn){v.n + npages};
}

/** ds_pfn_add() - The frame @npages frames further up; the caller bounds it. */
static inline ds_pfn ds_pfn_add(ds_pfn p, uint64_t npages)
{
	return (ds_pfn){p.n + npages};
}

#endif
