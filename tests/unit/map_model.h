/* map_model.h - the oracle of the map tests: page tables as plain arrays, one element a page
 *
 * Whatever the map does with runs and searches, this does page by page with loops that can be seen to be right.
 */
#ifndef TESTS_UNIT_MAP_MODEL_H
#define TESTS_UNIT_MAP_MODEL_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "rle/map.h"
#include "rle/mapw.h"
#include "tests/tap.h"

#define MODEL_PAGES 400

struct page {
	bool present;
	uint64_t pfn;
	uint32_t attr;
};

struct model {
	uint64_t base; /* VPN of page[0] */
	struct page page[MODEL_PAGES];
};

struct runs {
	uint64_t n;
	struct rle_run run[MODEL_PAGES];
};

/* splitmix64: the same numbers on every machine, any seed is as good */
static uint64_t model_state;

__attribute__((unused)) static uint64_t model_random(uint64_t below)
{
	uint64_t z = model_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % below;
}

/* Few values, so that neighbours are often alike; two differ in protection, two outside it. */
__attribute__((unused)) static uint32_t model_attr(void)
{
	static const uint32_t some[] = {RLE_ATTR_READ, RLE_ATTR_READ | RLE_ATTR_WRITE, RLE_ATTR_READ | RLE_ATTR_FILE,
					RLE_ATTR_READ | RLE_ATTR_ANON | RLE_ATTR_JOINED};

	return some[model_random(4)];
}

/* Stretches of 1 to 24 pages: a hole, the next frames, or others below pfn_end; attributes change on their own. */
__attribute__((unused)) static void model_fill(struct model *m, uint64_t base, uint64_t pfn_end)
{
	uint64_t pfn = model_random(pfn_end), i = 0;
	uint32_t attr = model_attr();

	*m = (struct model){.base = base};
	while (i < MODEL_PAGES) {
		uint64_t end = i + 1 + model_random(24);
		const uint64_t what = model_random(4);

		if (what == 1)
			pfn = model_random(pfn_end);
		if (model_random(3) == 0)
			attr = model_attr();
		for (; i < end && i < MODEL_PAGES; i++, pfn++) {
			if (pfn >= pfn_end)
				pfn = 0;
			if (what)
				m->page[i] = (struct page){.present = true, .pfn = pfn, .attr = attr};
		}
	}
}

/* The canonical runs, page by page. */
__attribute__((unused)) static void model_encode(const struct model *m, enum rle_split split, struct runs *out)
{
	const uint32_t mask = split == RLE_SPLIT_ATTR ? 0xffffffff : split == RLE_SPLIT_PROT ? 0xf : 0;

	out->n = 0;
	for (uint64_t i = 0; i < MODEL_PAGES; i++) {
		const struct page *p = &m->page[i], *b = i ? &m->page[i - 1] : NULL;

		if (!p->present)
			continue;
		if (b && b->present && p->pfn == b->pfn + 1 && (p->attr & mask) == (b->attr & mask))
			out->run[out->n - 1].npages++;
		else
			out->run[out->n++] = (struct rle_run){{m->base + i}, {p->pfn}, 1, p->attr};
	}
}

/* Runs back to pages: like the model they came from, but a run's attributes are on all of its pages. */
__attribute__((unused)) static void model_decode(const struct runs *runs, uint64_t base, struct model *m)
{
	*m = (struct model){.base = base};
	for (uint64_t i = 0; i < runs->n; i++) {
		const struct rle_run *r = &runs->run[i];

		for (uint64_t k = 0; k < r->npages; k++)
			m->page[r->vpn.n + k - base] = (struct page){true, r->pfn.n + k, r->attr};
	}
}

/* Header and checksums around runs as they are, valid or not; the test's own, not the writer's.  To be freed. */
__attribute__((unused)) static char *craft(const struct rle_map_meta *meta, const struct rle_run *run, uint64_t nruns, size_t *bytes)
{
	struct rle_map_header h = {.magic = "DSRUNMAP", .endian_tag = 0x01020304, .version = 1, .header_bytes = 72, .page_shift = 12};
	char *blob;

	h.split = (uint8_t)meta->split;
	h.key = (uint8_t)meta->key;
	h.space = (uint8_t)meta->space;
	h.pid = meta->pid;
	h.start_ticks = meta->start_ticks;
	h.nruns = nruns;
	for (uint64_t i = 0; i < nruns; i++)
		h.npages += run[i].npages;
	*bytes = 72 + 24 * nruns;
	blob = malloc(*bytes);
	if (!blob)
		abort();
	if (nruns)
		memcpy(blob + 72, run, 24 * nruns);
	h.runs_xxh3 = XXH3_64bits(blob + 72, 24 * nruns);
	h.header_xxh3 = XXH3_64bits(&h, 64);
	memcpy(blob, &h, 72);
	return blob;
}

/* A map of runs that must be right. */
__attribute__((unused)) static void model_open(struct rle_map *map, const struct rle_map_meta *meta, const struct runs *runs)
{
	size_t bytes;
	char *blob = craft(meta, runs->run, runs->n, &bytes);
	struct rle_map_err err = {0};

	if (rle_map_open_copy(map, blob, bytes, &err)) {
		printf("# test bug: a map of right runs refused: %s, run %llu\n", err.why, (unsigned long long)err.run);
		abort();
	}
	free(blob);
}

#endif
