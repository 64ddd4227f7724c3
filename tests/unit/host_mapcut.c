/* host_mapcut.c - maps without some of their pages, and where nothing may be left, held against a model that goes page by page */
#include "runtime/host/warden/mapcut.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rle/mapw.h"
#include "tests/tap.h"

#define PAGES 64u
#define BASE 1000u

/* A page table of PAGES entries: 0 is none, else the frame; the attributes follow from the frame, mostly. */
struct table {
	uint64_t frame[PAGES];
	uint32_t attr[PAGES];
};

static struct table random_table(void)
{
	struct table t = {0};
	uint64_t next = 1;

	for (uint32_t i = 0; i < PAGES; i++) {
		if (rand() % 4 == 0)
			next = 1 + (uint64_t)rand() % 500;
		if (rand() % 5)
			t.frame[i] = next;
		t.attr[i] = rand() % 8 ? 3 : 1;
		next++;
	}
	return t;
}

/* The caller frees the blob. */
static void *map_of(const struct table *t, struct rle_map *map, size_t *bytes)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FILE, .pid = 5};
	struct rle_mapw *w = NULL;
	void *blob;

	rle_mapw_begin_mem(&w, &meta, 1u << 20);
	for (uint32_t i = 0; i < PAGES; i++)
		if (t->frame[i])
			rle_mapw_add(w, (ds_vpn){BASE + i}, (ds_pfn){t->frame[i]}, 1, t->attr[i]);
	rle_mapw_finish(w);
	blob = rle_mapw_take(w, bytes);
	rle_mapw_free(w);
	if (!blob || rle_map_open(map, blob, *bytes, NULL))
		exit(2);
	return blob;
}

static bool in(const struct ds_shadow_range *r, size_t n, uint64_t vpn)
{
	for (size_t i = 0; i < n; i++)
		if (vpn >= r[i].vpn && vpn - r[i].vpn < r[i].npages)
			return true;
	return false;
}

/* Rising, not empty, and with room between them. */
static bool apart(const struct ds_shadow_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!r[i].npages || (i && r[i].vpn <= r[i - 1].vpn + r[i - 1].npages))
			return false;
	return true;
}

static size_t random_ranges(struct ds_shadow_range *r)
{
	uint64_t at = BASE - 10;
	size_t n = 0;

	while (at < BASE + PAGES + 10 && n < 20) {
		r[n] = (struct ds_shadow_range){at + (uint64_t)rand() % 9, (uint64_t)rand() % 7}; /* touching and empty ones too */
		at = r[n].vpn + r[n].npages;
		n++;
	}
	return n;
}

static void test_without(void)
{
	unsigned int wrong = 0;

	for (int round = 0; round < 3000; round++) {
		struct table t = random_table(), left = t;
		struct ds_shadow_range r[20];
		const size_t n = random_ranges(r);
		uint64_t cut = 0, told;
		size_t bytes, want_bytes;
		struct rle_map map, want;
		void *blob = map_of(&t, &map, &bytes), *want_blob, *got;

		for (uint32_t i = 0; i < PAGES; i++)
			if (t.frame[i] && in(r, n, BASE + i)) {
				left.frame[i] = 0;
				cut++;
			}
		want_blob = map_of(&left, &want, &want_bytes);
		/* the form is canonical, so equal maps are equal bytes */
		wrong += mapcut_without(&map, r, n, &got, &bytes, &told) || told != cut || bytes != want_bytes || memcmp(got, want_blob, bytes);
		free(got);
		free(blob);
		free(want_blob);
	}
	tap_eq(wrong, 0, "3000 maps without some pages");
}

static void test_changed(void)
{
	unsigned int wrong = 0;

	for (int round = 0; round < 3000; round++) {
		const struct table was = random_table();
		struct table now = was, other = random_table();
		struct rle_map a, b;
		struct ds_shadow_range *r;
		size_t n, bytes;
		void *blob_a, *blob_b;

		for (uint32_t i = 0; i < PAGES; i++)
			if (rand() % 3 == 0) {
				now.frame[i] = other.frame[i];
				now.attr[i] = other.attr[i];
			}
		blob_a = map_of(&was, &a, &bytes);
		blob_b = map_of(&now, &b, &bytes);
		wrong += mapcut_changed(&a, &b, &r, &n) || !apart(r, n);
		for (uint32_t i = 0; i < PAGES; i++) {
			const bool same = was.frame[i] == now.frame[i] && was.attr[i] == now.attr[i];

			wrong += in(r, n, BASE + i) != (was.frame[i] && !same);
		}
		free(r);
		free(blob_a);
		free(blob_b);
	}
	tap_eq(wrong, 0, "3000 changes: pages that went, moved or changed, and no others");
}

static void test_outside(void)
{
	const uint64_t end = UINT64_C(0x7ffffffff000) >> 12;
	unsigned int wrong = 0;
	struct ds_shadow_range *out;
	size_t nout;

	for (int round = 0; round < 3000; round++) {
		struct ds_shadow_range r[20];
		const size_t n = random_ranges(r);

		wrong += mapcut_outside(r, n, &out, &nout) || nout > n + 1;
		for (uint64_t vpn = BASE - 20; vpn < BASE + PAGES + 100; vpn++)
			wrong += in(out, nout, vpn) == in(r, n, vpn);
		wrong += !in(out, nout, 0) || !in(out, nout, end - 1) || in(out, nout, end);
		free(out);
	}
	tap_eq(wrong, 0, "3000 complements, to both ends of the user half");
	mapcut_outside(NULL, 0, &out, &nout);
	tap_ok(nout == 1 && !out[0].vpn && out[0].npages == end, "of nothing it is everything");
	free(out);
	mapcut_outside(&(struct ds_shadow_range){0, end}, 1, &out, &nout);
	tap_eq(nout, 0, "of everything it is nothing");
	free(out);
}

static void test_refused(void)
{
	const struct ds_shadow_range falls[2] = {{BASE + 5, 2}, {BASE + 1, 2}}, wraps = {BASE, UINT64_MAX};
	const struct table t = random_table();
	struct rle_map map;
	uint64_t cut;
	size_t bytes;
	void *blob = map_of(&t, &map, &bytes), *got = blob;

	tap_ok(mapcut_without(&map, falls, 2, &got, &bytes, &cut) == -EINVAL && !got, "ranges that do not rise are refused");
	tap_ok(mapcut_without(&map, &wraps, 1, &got, &bytes, &cut) == -EINVAL, "so is one that wraps");
	free(blob);
}

int main(void)
{
	srand(3);
	test_without();
	test_changed();
	test_outside();
	test_refused();
	return tap_done();
}
