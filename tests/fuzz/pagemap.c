/* pagemap.c - fuzz target: arbitrary pagemap words through the encoder and the statistics
 *
 * The first byte chooses the policy; the rest are words, the address space being one mapping for each 32 of them.
 * Properties: runs rise, hold as many pages as were counted present, and are as many as were counted.
 */
#include <stdlib.h>
#include <string.h>

#include "rle/enc.h"
#include "rle/stats.h"
#include "tests/fuzz/target.h"

struct seen {
	uint64_t end, pages, runs;
	struct rle_stats stats;
};

static int check(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct seen *s = ctx;

	if (run->vpn.n < s->end || !run->npages || run->attr & ~RLE_ATTR_ALL || end >= RLE_NEND)
		abort();
	s->end = run->vpn.n + run->npages;
	s->pages += run->npages;
	s->runs++;
	rle_stats_run(&s->stats, run);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen s;
	static const struct rle_extent ram[2] = {{{0}, 0x1000}, {{0x2000}, UINT64_C(1) << 39}};
	struct rle_frames frames = {.ram = ram, .nram = 2, .zero = {{0x30}, 1}, .huge_zero = {{0x400}, 512}};
	enum rle_split split = size ? data[0] % RLE_NSPLIT : 0;
	uint64_t word[32], at = 5;
	struct rle_enc e;
	int err = 0;

	memset(&s, 0, sizeof(s));
	rle_enc_init(&e, split, check, &s, &frames);
	for (size_t pos = 1; pos + 8 <= size && !err; pos += 32 * 8) {
		size_t n = (size - pos) / 8 < 32 ? (size - pos) / 8 : 32;

		memcpy(word, data + pos, n * 8);
		err = rle_enc_vma(&e, (ds_vpn){at}, (ds_vpn){at + n}, word[0] & RLE_ATTR_PROT);
		if (!err)
			err = rle_enc_words(&e, (ds_vpn){at}, word, n);
		at += n + (word[0] >> 60 & 1);
	}
	if (!err)
		err = rle_enc_finish(&e);
	if (err)
		return 0;
	rle_stats_finish(&s.stats);
	if (s.pages != e.n.present || s.runs != e.n.runs[split] || s.stats.pages != s.pages || s.stats.runs != s.runs ||
	    rle_stats_cover(&s.stats, 1000) != s.runs || e.n.runs[0] > e.n.runs[1] || e.n.runs[1] > e.n.runs[2])
		abort();
	return 0;
}
