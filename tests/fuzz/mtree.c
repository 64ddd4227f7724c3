/* mtree.c - fuzzes the parser of `info mtree -f`; corpus: what QEMU 7.2 printed for pc and q35 before the firmware ran
 *
 * Whatever passes must be a table that translation can rely on: canonical, within its files, beginning at 0.
 */
#include "runtime/host/vm/mtree.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mtree_memdev dev[] = {{.id = "mem0", .bytes = UINT64_C(6) << 30, .share = true},
					   {.id = "pc.ram", .bytes = UINT64_C(5) << 30, .share = false},
					   {.id = "dimm", .bytes = UINT64_C(1) << 30, .share = true}};
	struct ramtable_err err = {0};
	struct rle_map map;
	struct ramtable t;
	uint64_t end = 0;

	if (mtree_parse((const char *)data, size, dev, 3, &t, &err)) {
		MUST(err.why);
		return 0;
	}
	MUST(t.finished && t.nranges && t.nranges <= RAMTABLE_RANGES_MAX && t.nfiles <= 2 && !t.range[0].frame.n && !t.range[0].file);
	for (uint32_t i = 0; i < t.nranges; i++) {
		const struct ramtable_range *r = &t.range[i];

		MUST(r->npages && r->frame.n >= end && r->file < t.nfiles && r->page.n + r->npages <= t.file[r->file].npages);
		end = r->frame.n + r->npages;
	}
	MUST(end <= DS_PFN_END && !ramtable_map(&t, &map));
	rle_map_close(&map);
	MUST(ramtable_compare(&t, &t, NULL));
	return 0;
}
