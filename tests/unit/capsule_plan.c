/* capsule_plan.c - where the capsule goes and which calls make a mirror, against models that look at every page */
#include "runtime/shadow/place.h"

#include "tests/capsule_host.h"
#include "tests/tap.h"

#define WINDOW 512u /* pages of the little world; everything above is forbidden */
#define ROUNDS 20000

static uint8_t taken[WINDOW];

/* Random rising ranges in the window; marked in the model. */
static uint64_t random_ranges(struct ds_shadow_range *ranges, uint64_t max, unsigned int gap, unsigned int length)
{
	uint64_t n = 0, at = host_random(gap);

	while (n < max && at < WINDOW) {
		uint64_t npages = 1 + host_random(length);

		if (npages > WINDOW - at)
			npages = WINDOW - at;
		ranges[n++] = (struct ds_shadow_range){at, npages};
		memset(taken + at, 1, npages);
		at += npages + host_random(gap);
	}
	return n;
}

static unsigned int longest_gap(uint64_t first)
{
	unsigned int best = 0, length = 0;

	for (uint64_t i = first; i < WINDOW; i++) {
		length = taken[i] ? 0 : length + 1;
		best = length > best ? length : best;
	}
	return best;
}

static bool is_free(uint64_t vpn, uint64_t npages)
{
	for (uint64_t i = vpn; i < vpn + npages; i++)
		if (i >= WINDOW || taken[i])
			return false;
	return true;
}

/* Where a model would put it into the reserved range; UINT64_MAX: it does not fit. */
static uint64_t model_reserved(const struct place_want *w)
{
	for (uint64_t at = w->reserve.vpn > w->first_vpn ? w->reserve.vpn : w->first_vpn;
	     at + w->npages <= w->reserve.vpn + w->reserve.npages; at++)
		if (is_free(at, w->npages))
			return at;
	return UINT64_MAX;
}

static void test_place(void)
{
	static struct ds_shadow_range a[WINDOW], b[WINDOW], above = {WINDOW, PLACE_VPN_END - WINDOW};
	static struct rle_run c[WINDOW];
	unsigned int wrong = 0, none = 0, reserved = 0, in_small = 0, free_wrong = 0;

	for (int round = 0; round < ROUNDS; round++) {
		const unsigned int gap = 2 + (unsigned int)host_random(200), length = 1 + (unsigned int)host_random(100);
		struct place_want w = {
			.npages = 1 + host_random(80), .first_vpn = host_random(3) ? host_random(40) : 0, .random = host_random(UINT64_MAX)};
		uint64_t n, vpn = UINT64_MAX, wanted;
		int rc;

		memset(taken, 0, sizeof(taken));
		w.src[0] = place_of_ranges(a, random_ranges(a, WINDOW, gap, length));
		w.src[3] = place_of_ranges(b, host_random(2) ? random_ranges(b, 3, gap, length) : 0);
		w.src[1] = place_of_ranges(&above, 1);
		n = 0;
		if (host_random(2)) {
			static struct ds_shadow_range r[WINDOW];

			for (n = random_ranges(r, WINDOW, 2 * gap, length), rc = 0; rc < (int)n; rc++)
				c[rc] = (struct rle_run){{r[rc].vpn}, {7}, (uint32_t)r[rc].npages, 0};
		}
		w.src[2] = (struct place_src){.runs = c, .n = n};
		if (host_random(3) == 0)
			w.reserve = (struct ds_shadow_range){host_random(WINDOW), host_random(200)};
		rc = place_find(&w, &vpn);
		wanted = model_reserved(&w);
		if (wanted != UINT64_MAX) {
			reserved++;
			wrong += rc != 0 || vpn != wanted;
		} else if (longest_gap(w.first_vpn) < w.npages) {
			none++;
			wrong += rc != -ENOSPC;
		} else {
			uint64_t from = vpn, to = vpn;

			wrong += rc != 0 || vpn < w.first_vpn || !is_free(vpn, w.npages);
			while (from > w.first_vpn && is_free(from - 1, 1))
				from--;
			while (is_free(to, 1))
				to++;
			in_small += to - from != longest_gap(w.first_vpn);
		}
		vpn = host_random(WINDOW - 100);
		wanted = 1 + host_random(60);
		free_wrong += place_free(&w, (struct ds_shadow_range){vpn, wanted}) != is_free(vpn, wanted);
	}
	tap_eq(wrong, 0, "place_find() finds a free place exactly when there is one, the reserved one first");
	tap_eq(in_small, 0, "in the largest gap");
	tap_ok(none > 100 && reserved > 100, "with and without room (%u), reserved or not (%u)", none, reserved);
	tap_eq(free_wrong, 0, "place_free() agrees with the model");
}

static uint8_t pieced[WINDOW];
static uint64_t piece_end;
static unsigned int bad_pieces;

/* A place_piece_fn: rising, not touching each other unless their ranges do. */
static int take_piece(void *ctx, struct ds_shadow_range piece)
{
	(void)ctx;
	bad_pieces += !piece.npages || piece.vpn < piece_end || piece.vpn + piece.npages > WINDOW;
	piece_end = piece.vpn + piece.npages;
	memset(pieced + piece.vpn, 1, piece.npages);
	return 0;
}

static void test_pieces(void)
{
	static struct ds_shadow_range a[WINDOW], b[WINDOW];
	static uint8_t in_a[WINDOW], in_b[WINDOW];
	unsigned int wrong_within = 0, wrong_without = 0;

	bad_pieces = 0;
	for (int round = 0; round < ROUNDS; round++) {
		const unsigned int gap = 1 + (unsigned int)host_random(60), length = 1 + (unsigned int)host_random(60);
		struct ds_shadow_range r = {host_random(WINDOW), 0};
		uint64_t na, nb;

		memset(taken, 0, sizeof(taken));
		na = random_ranges(a, WINDOW, gap, length);
		memcpy(in_a, taken, sizeof(taken));
		memset(taken, 0, sizeof(taken));
		nb = random_ranges(b, WINDOW, 1 + (unsigned int)host_random(60), length);
		memcpy(in_b, taken, sizeof(taken));
		r.npages = 1 + host_random(WINDOW - r.vpn);
		memset(pieced, 0, sizeof(pieced));
		piece_end = 0;
		wrong_within += place_within(a, na, r, take_piece, NULL) != 0;
		for (uint64_t i = 0; i < WINDOW; i++)
			wrong_within += pieced[i] != (in_a[i] && i >= r.vpn && i < r.vpn + r.npages);
		memset(pieced, 0, sizeof(pieced));
		piece_end = 0;
		wrong_without += place_without(a, na, b, nb, take_piece, NULL) != 0;
		for (uint64_t i = 0; i < WINDOW; i++)
			wrong_without += pieced[i] != (in_a[i] && !in_b[i]);
	}
	tap_eq(wrong_within, 0, "place_within() finds the part of a range that lies in ranges");
	tap_eq(wrong_without, 0, "place_without() finds what of ranges lies in no other");
	tap_eq(bad_pieces, 0, "in pieces that rise");
}

static void test_spread(void)
{
	const struct ds_shadow_range stack = {0x7ffffff00, 0xff};
	struct place_want w = {.src = {place_of_ranges(&stack, 1)}, .npages = 100, .first_vpn = 16};
	uint64_t vpn, low = UINT64_MAX, high = 0;

	for (int i = 0; i < 1000; i++) {
		w.random = host_random(UINT64_MAX);
		if (place_find(&w, &vpn))
			break;
		low = vpn < low ? vpn : low;
		high = vpn > high ? vpn : high;
	}
	tap_ok(low > PLACE_VPN_END / 5 && high < PLACE_VPN_END * 4 / 5 && high - low > PLACE_VPN_END / 3,
	       "places are spread over the middle of a large gap");
}

/* --- plans ------------------------------------------------------------------------------------------------------- */

struct page {
	uint64_t pfn;
	int64_t prot; /* PLAN_UNMAP: not mapped */
};
static struct page space[WINDOW];
static unsigned int calls, bad_calls;

/* A mirror as the kernel would keep it. */
static int model_apply(void *ctx, const struct plan_seg *seg)
{
	const struct plan_seg *last = ctx;

	calls++;
	bad_calls += !seg->npages || seg->vpn.n + seg->npages > WINDOW;
	/* rising, and nothing that could have been part of the call before */
	if (calls > 1)
		bad_calls += seg->vpn.n < last->vpn.n + last->npages ||
			     (seg->vpn.n == last->vpn.n + last->npages && seg->prot == last->prot &&
			      (seg->prot == PLAN_UNMAP || seg->pfn.n == last->pfn.n + last->npages));
	for (uint64_t i = 0; i < seg->npages; i++)
		space[seg->vpn.n + i] = (struct page){seg->prot == PLAN_UNMAP ? 0 : seg->pfn.n + i, seg->prot};
	*(struct plan_seg *)ctx = *seg;
	return 0;
}

static uint32_t random_attr(void)
{
	return (uint32_t)host_random(16) | (host_random(3) ? 0 : RLE_ATTR_FILE) |
	       (host_random(4) ? 0 : RLE_ATTR_JOINED | (host_random(2) ? RLE_ATTR_ZERO : RLE_ATTR_THP));
}

static struct rle_map random_map(void **blob)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FILE};
	uint64_t vpn = host_random(20), pfn = 0;
	struct rle_mapw *w;
	struct rle_map map;
	size_t bytes;

	rle_mapw_begin_mem(&w, &meta, 1 << 20);
	while (vpn < WINDOW - 20) {
		uint32_t npages = 1 + (uint32_t)host_random(9);

		if (host_random(3) == 0)
			pfn = host_random(4) * 100;
		if (rle_mapw_add(w, (ds_vpn){vpn}, (ds_pfn){pfn}, npages, random_attr()))
			errx(2, "%s", rle_mapw_fault(w));
		vpn += npages + (host_random(2) ? 0 : host_random(12));
		pfn += npages;
	}
	rle_mapw_finish(w);
	*blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	if (rle_map_open(&map, *blob, bytes, NULL))
		errx(2, "rle_map_open");
	return map;
}

/* Whether `space` is what the map says, page by page. */
static bool space_is(const struct rle_map *map)
{
	static struct page want[WINDOW];

	for (unsigned int i = 0; i < WINDOW; i++)
		want[i] = (struct page){0, PLAN_UNMAP};
	for (uint64_t i = 0; i < map->nruns; i++)
		for (uint32_t k = 0; k < map->runs[i].npages; k++) {
			const char *prot = model_prot(map->runs[i].attr);

			want[map->runs[i].vpn.n + k] = (struct page){
				map->runs[i].pfn.n + k, (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0)};
		}
	return !memcmp(want, space, sizeof(want));
}

static void test_plans(void)
{
	unsigned int wrong_map = 0, wrong_diff = 0, wrong_count = 0, diff_calls = 0, map_calls = 0, touched = 0;

	for (int round = 0; round < 2000; round++) {
		const struct plan_limits limits = {.ram_pages = 1000, .max_segs = 10000, .space = RLE_SPACE_FILE};
		struct ds_shadow_refused fault;
		struct plan_seg last;
		struct plan_sum sum;
		void *blob[2];
		const struct rle_map was = random_map(&blob[0]), now = random_map(&blob[1]);

		memset(space, 0, sizeof(space));
		for (unsigned int i = 0; i < WINDOW; i++)
			space[i].prot = PLAN_UNMAP;
		calls = 0;
		plan_map(&was, model_apply, &last);
		wrong_map += !space_is(&was);
		map_calls += calls;
		wrong_count += plan_check(&was, &limits, &sum, &fault) != 0 || sum.segs != calls || sum.pages != was.npages;
		calls = 0;
		plan_diff(&was, &now, model_apply, &last);
		wrong_diff += !space_is(&now);
		diff_calls += calls;
		calls = 0;
		plan_diff(&now, &now, model_apply, &last);
		touched += calls;
		free(blob[0]);
		free(blob[1]);
	}
	tap_eq(wrong_map, 0, "plan_map() makes the mirror of a map");
	tap_eq(wrong_count, 0, "plan_check() counts its calls");
	tap_eq(wrong_diff, 0, "plan_diff() makes one mirror of another");
	tap_eq(touched, 0, "and does nothing where nothing changed");
	tap_eq(bad_calls, 0, "calls rise, and neighbours that could be one are one (%u, %u)", map_calls, diff_calls);
}

int main(void)
{
	host_random_state = 99;
	test_place();
	test_pieces();
	test_spread();
	test_plans();
	return tap_done();
}
