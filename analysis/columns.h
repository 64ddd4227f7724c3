/* columns.h - the counts of the view process_sample, in one place
 *
 * The names are those of the view (dscollect(5)).  The SELECT, the CSV header and the totals are made from this list,
 * so that a column cannot be in one of them and not in another.
 */
#ifndef ANALYSIS_COLUMNS_H
#define ANALYSIS_COLUMNS_H

#include <stdint.h>

#define COLUMNS(X)                                                                                                               \
	X(scan_ns) X(vsz_bytes) X(vmas) X(pages_mapped) X(pte_present) X(runs) X(runs_prot) X(runs_attr)                         \
	X(swapped) X(migrating) X(guard) X(marker)                                                                               \
	X(zero) X(ksm) X(thp) X(hugetlb) X(device) X(file) X(exclusive)                                                          \
	X(cover50) X(cover90) X(cover95) X(cover99) X(cover100)                                                                  \
	X(pages_64k) X(pages_2m) X(pages_1g) X(aligned_64k) X(aligned_2m) X(aligned_1g)                                          \
	X(end_vma) X(end_hole) X(end_phys)

enum column {
#define X(name) COL_##name,
	COLUMNS(X)
#undef X
	NCOLUMNS
};

/** NULL in the database: not known.  All other values are 0 to 2^53 - 1 (checked by dbread), exact as doubles. */
#define COLUMN_NULL (-1)

#endif
