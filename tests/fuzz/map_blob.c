/* map_blob.c - fuzzes the map: whatever opens keeps what rle/map.h promises
 *
 * Checksums keep a fuzzer out, so each input is tried twice: as it is, and with its counts and both checksums made
 * right, which leaves everything else as hostile as it was.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "rle/mapops.h"
#include "rle/mapw.h"
#include "tests/fuzz/target.h"

/* The form is canonical: written again, from single pages where runs are short, the blob is the same. */
static void check_rewrite(const struct rle_map *map, const void *blob, size_t blob_bytes)
{
	struct rle_mapw *w;
	size_t bytes = 0;
	void *again;

	MUST(!rle_mapw_begin_mem(&w, &map->meta, blob_bytes));
	for (uint64_t i = 0; i < map->nruns; i++) {
		struct rle_run run = map->runs[i];

		/* cut off pages one by one; under the weaker policies attributes are the first page's either way */
		for (int k = 0; k < 4 && run.npages > 1; k++) {
			MUST(!rle_mapw_add(w, run.vpn, run.pfn, 1, run.attr));
			run = rle_run_skip(run, 1);
		}
		MUST(!rle_mapw_run(w, &run, RLE_END_HOLE));
	}
	MUST(!rle_mapw_finish(w));
	again = rle_mapw_take(w, &bytes);
	MUST(again && bytes == blob_bytes && !memcmp(again, blob, bytes));
	free(again);
	rle_mapw_free(w);
}

static void check_lookup(const struct rle_map *map)
{
	struct rle_map_iter it = rle_map_all(map);
	uint64_t sum = 0, index = 0;
	struct rle_run run, hit;
	ds_vpn before = {0};

	while (rle_map_next(&it, &run)) {
		const ds_vpn last = ds_vpn_add(run.vpn, run.npages - 1);

		MUST(run.npages && run.vpn.n >= before.n && rle_run_end(&run).n <= rle_space_end(map->meta.key));
		MUST(run.pfn.n + run.npages <= DS_PFN_END && !(run.attr & ~(uint32_t)RLE_ATTR_ALL));
		MUST(rle_map_find(map, run.vpn) == index && rle_map_find(map, last) == index);
		MUST(rle_map_lookup(map, last, &hit) && hit.npages == 1 && hit.pfn.n == run.pfn.n + run.npages - 1);
		MUST(rle_map_covered(map, run.vpn, run.npages) == run.npages);
		if (run.vpn.n > before.n)
			MUST(!rle_map_lookup(map, before, &hit) && !rle_map_covered(map, before, 1));
		before = rle_run_end(&run);
		sum += run.npages;
		index++;
	}
	MUST(sum == map->npages && index == map->nruns);
}

struct composed {
	const struct rle_map *a, *b;
	ds_vpn after;
	uint64_t pages;
};

/* First and last page of every composed run, looked up one map after the other. */
static int check_composed(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct composed *c = ctx;
	struct rle_run hit;

	(void)end;
	MUST(run->npages && run->vpn.n >= c->after.n);
	for (int last = 0; last < 2; last++) {
		const uint64_t at = last ? run->npages - 1 : 0;

		MUST(rle_map_lookup(c->a, ds_vpn_add(run->vpn, at), &hit));
		MUST(rle_map_lookup(c->b, (ds_vpn){hit.pfn.n}, &hit) && hit.pfn.n == run->pfn.n + at);
	}
	c->after = rle_run_end(run);
	c->pages += run->npages;
	return 0;
}

static void check_compose(const struct rle_map *a, const struct rle_map *b)
{
	const struct rle_compose_opt opt = {.skip_uncovered = true, .max_pieces = 10000};
	struct composed c = {.a = a, .b = b};
	struct rle_compose_stat stat;
	int rc = rle_map_compose(a, b, &opt, check_composed, &c, &stat);

	MUST(rc == 0 || (rc == -E2BIG && stat.pieces == opt.max_pieces));
	if (!rc)
		MUST(c.pages == stat.covered_pages && c.pages + stat.uncovered_pages == a->npages);
}

struct differing {
	const struct rle_map *was, *now;
	ds_vpn after;
	uint64_t added, removed, count;
};

static int check_change(void *ctx, const struct rle_change *change)
{
	struct differing *d = ctx;
	struct rle_run was, now;
	const bool in_was = rle_map_lookup(d->was, change->vpn, &was), in_now = rle_map_lookup(d->now, change->vpn, &now);

	MUST(change->npages && change->vpn.n >= d->after.n);
	MUST(in_was == (change->kind != RLE_CHANGE_ADDED) && in_now == (change->kind != RLE_CHANGE_REMOVED));
	MUST(!in_was || (was.pfn.n == change->was_pfn.n && was.npages >= change->npages));
	MUST(!in_now || (now.pfn.n == change->now_pfn.n && now.npages >= change->npages));
	d->after = ds_vpn_add(change->vpn, change->npages);
	d->added += change->kind == RLE_CHANGE_ADDED ? change->npages : 0;
	d->removed += change->kind == RLE_CHANGE_REMOVED ? change->npages : 0;
	d->count++;
	return 0;
}

static void check_diff(const struct rle_map *was, const struct rle_map *now)
{
	struct differing d = {.was = was, .now = now};

	MUST(!rle_map_diff(was, now, check_change, &d));
	MUST(was->npages + d.added == now->npages + d.removed);
	MUST(d.count <= 2 * (was->nruns + now->nruns));
}

/* Two maps out of one: every second run, still a valid list. */
static void check_pair(const struct rle_map *map)
{
	struct rle_run *some = malloc((map->nruns / 2 + 1) * sizeof(*some));
	struct rle_map half = *map, table = *map;

	MUST(some);
	half.runs = some;
	half.nruns = half.npages = 0;
	for (uint64_t i = 0; i < map->nruns; i += 2) {
		some[half.nruns++] = map->runs[i];
		half.npages += map->runs[i].npages;
	}
	check_diff(map, &half);
	check_diff(&half, map);
	/* keyed by frames the same runs are a table of memory, and VPNs beyond all frames are never reached */
	table.meta.key = RLE_SPACE_FRAME;
	table.meta.space = RLE_SPACE_FILE;
	half.meta.key = RLE_SPACE_VIRTUAL;
	half.meta.space = RLE_SPACE_FRAME;
	check_compose(&half, &table);
	free(some);
}

static void try(const void *blob, size_t size)
{
	struct rle_map_err err = {0};
	struct rle_map map;
	int rc = rle_map_open_copy(&map, blob, size, &err);

	if (rc) {
		MUST(err.why && err.offset_bytes <= size && !map.runs);
		return;
	}
	check_rewrite(&map, blob, size);
	check_lookup(&map);
	check_pair(&map);
	rle_map_close(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rle_map_header h;
	uint8_t *blob;

	try(data, size);
	if (size < sizeof(h))
		return 0;
	blob = malloc(size);
	MUST(blob);
	memcpy(blob, data, size);
	memcpy(&h, blob, sizeof(h));
	h.nruns = (size - sizeof(h)) / sizeof(struct rle_run);
	h.npages = 0;
	for (uint64_t i = 0; i < h.nruns; i++) {
		struct rle_run run;

		memcpy(&run, blob + sizeof(h) + i * sizeof(run), sizeof(run));
		h.npages += run.npages;
	}
	h.runs_xxh3 = XXH3_64bits(blob + sizeof(h), size - sizeof(h));
	h.header_xxh3 = XXH3_64bits(&h, offsetof(struct rle_map_header, header_xxh3));
	memcpy(blob, &h, sizeof(h));
	try(blob, size);
	free(blob);
	return 0;
}
