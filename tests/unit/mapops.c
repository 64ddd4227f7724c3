/* mapops.c - lookup, iteration, composition and difference against the page-by-page model */
#include "rle/mapops.h"
#include "tests/unit/map_model.h"

#define ROUNDS 200

static const struct rle_map_meta guest = {.split = RLE_SPLIT_PROT, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME};
static const struct rle_map_meta ram = {.split = RLE_SPLIT_VPN_PFN, .key = RLE_SPACE_FRAME, .space = RLE_SPACE_FILE};

static uint32_t mask_of(enum rle_split split)
{
	return split == RLE_SPLIT_ATTR ? 0xffffffff : split == RLE_SPLIT_PROT ? 0xf : 0;
}

/* The page at @vpn, or an absent one outside the model. */
static struct page page_at(const struct model *m, uint64_t vpn)
{
	return vpn >= m->base && vpn - m->base < MODEL_PAGES ? m->page[vpn - m->base] : (struct page){0};
}

static bool same_page(struct page a, struct page b, uint32_t mask)
{
	return a.present == b.present && (!a.present || (a.pfn == b.pfn && !((a.attr ^ b.attr) & mask)));
}

static void test_lookup(void)
{
	unsigned int wrong_lookup = 0, wrong_rest = 0, wrong_find = 0, wrong_covered = 0;
	static struct model m;
	static struct runs runs;

	for (model_state = 1; model_state <= ROUNDS; model_state++) {
		const uint64_t seed = model_state;
		struct rle_map map;

		model_fill(&m, 1000, 300);
		model_encode(&m, guest.split, &runs);
		model_decode(&runs, m.base, &m);
		model_open(&map, &guest, &runs);
		for (uint64_t vpn = 990; vpn < 1010 + MODEL_PAGES; vpn++) {
			const struct page p = page_at(&m, vpn);
			uint64_t rest = 0, index = 0, length = model_random(40), covered = 0;
			struct rle_run hit = {0};
			bool found = rle_map_lookup(&map, (ds_vpn){vpn}, &hit);

			while (index < runs.n && runs.run[index].vpn.n + runs.run[index].npages <= vpn)
				index++;
			if (p.present)
				rest = runs.run[index].vpn.n + runs.run[index].npages - vpn;
			while (covered < length && page_at(&m, vpn + covered).present)
				covered++;
			wrong_lookup += found != p.present || (found && (hit.vpn.n != vpn || hit.pfn.n != p.pfn || hit.attr != p.attr));
			wrong_rest += hit.npages != rest;
			wrong_find += rle_map_find(&map, (ds_vpn){vpn}) != index;
			wrong_covered += rle_map_covered(&map, (ds_vpn){vpn}, length) != covered;
		}
		rle_map_close(&map);
		model_state = seed;
	}
	tap_eq(wrong_lookup, 0, "each page, present or not, translates as in the model");
	tap_eq(wrong_rest, 0, "a lookup tells how many pages remain in the run");
	tap_eq(wrong_find, 0, "the search finds the run that a walk from the start finds");
	tap_eq(wrong_covered, 0, "a range is covered as far as a walk over its pages gets");
}

static void test_iteration(void)
{
	unsigned int wrong_pages = 0, wrong_count = 0, wrong_all = 0;
	static struct model m, got;
	static struct runs runs;

	for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
		struct rle_map_iter it;
		struct rle_run run;
		struct rle_map map;

		model_state = seed;
		model_fill(&m, 1000, 300);
		model_encode(&m, guest.split, &runs);
		model_decode(&runs, m.base, &m);
		model_open(&map, &guest, &runs);
		for (int i = 0; i < 50; i++) {
			/* also empty, reversed and outside ranges */
			const uint64_t first = 980 + model_random(MODEL_PAGES + 40), end = first - 5 + model_random(80);
			uint64_t after = first, want = 0, count = 0;

			got = (struct model){.base = m.base};
			it = rle_map_range(&map, (ds_vpn){first}, (ds_vpn){end});
			while (rle_map_next(&it, &run)) {
				if (run.vpn.n < after || !run.npages || run.vpn.n + run.npages > end) {
					wrong_pages++;
					break;
				}
				after = run.vpn.n + run.npages;
				for (uint64_t k = 0; k < run.npages; k++)
					got.page[run.vpn.n + k - got.base] = (struct page){true, run.pfn.n + k, run.attr};
				count++;
			}
			for (uint64_t vpn = 1000; vpn < 1000 + MODEL_PAGES; vpn++) {
				const struct page none = {0}, p = vpn >= first && vpn < end ? page_at(&m, vpn) : none;

				wrong_pages += !same_page(page_at(&got, vpn), p, ~0u);
			}
			for (uint64_t k = 0; k < runs.n; k++)
				want += first < end && runs.run[k].vpn.n < end && runs.run[k].vpn.n + runs.run[k].npages > first;
			wrong_count += count != want;
		}
		it = rle_map_all(&map);
		for (uint64_t k = 0; k < runs.n; k++)
			wrong_all += !rle_map_next(&it, &run) || memcmp(&run, &runs.run[k], sizeof(run));
		wrong_all += rle_map_next(&it, &run);
		rle_map_close(&map);
	}
	tap_eq(wrong_pages, 0, "a range delivers exactly its pages, rising");
	tap_eq(wrong_count, 0, "in as many pieces as runs meet the range");
	tap_eq(wrong_all, 0, "going through all delivers every run");
}

struct sink {
	struct runs runs;
	enum rle_end end[MODEL_PAGES];
	uint64_t limit;	 /* stop with -ECANCELED at this many */
	uint64_t beyond; /* calls that met the limit */
};

static int collect(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct sink *s = ctx;

	if (s->runs.n == s->limit) {
		s->beyond++;
		return -ECANCELED;
	}
	s->end[s->runs.n] = end;
	s->runs.run[s->runs.n++] = *run;
	return 0;
}

/* Rounds come in three kinds: memory with holes; memory whole but in pieces; pieces that mostly touch in the target too. */
static void fill_ram(struct model *m, uint64_t seed)
{
	model_fill(m, 0, 5000);
	for (uint64_t i = 0; i < MODEL_PAGES; i++) {
		if (seed % 3 && !m->page[i].present)
			m->page[i] = (struct page){true, 9000 + i, 0};
		if (seed % 3 == 2)
			m->page[i].pfn = 70 + i + i / 150;
		m->page[i].attr = 0;
	}
}

static void test_compose(void)
{
	unsigned int wrong_runs = 0, wrong_stat = 0, wrong_rc = 0, refused = 0, composed = 0, wrong_meta = 0, merged = 0;
	static struct model a, b, want;
	static struct runs a_runs, b_runs, want_runs;
	static struct sink got;

	for (uint64_t seed = 1; seed <= 3 * ROUNDS; seed++) {
		struct rle_compose_opt opt = {.max_pieces = 4 * MODEL_PAGES};
		struct rle_compose_stat stat;
		struct rle_map_meta meta = guest;
		struct rle_run first = {0};
		struct rle_map map_a, map_b;
		uint64_t covered = 0, uncovered = 0;
		int rc;

		model_state = seed;
		meta.split = seed / 3 % RLE_NSPLIT;
		fill_ram(&b, seed);
		model_fill(&a, 1000, MODEL_PAGES + (seed % 2 ? 0 : 30));
		model_encode(&a, meta.split, &a_runs);
		model_decode(&a_runs, a.base, &a);
		model_encode(&b, ram.split, &b_runs);
		model_open(&map_a, &meta, &a_runs);
		model_open(&map_b, &ram, &b_runs);

		want = (struct model){.base = a.base};
		for (uint64_t i = 0; i < MODEL_PAGES; i++) {
			const struct page *p = &a.page[i];
			const struct page q = page_at(&b, p->pfn);

			if (!p->present)
				continue;
			covered += q.present;
			uncovered += !q.present;
			if (q.present)
				want.page[i] = (struct page){true, q.pfn, p->attr};
			else if (uncovered == 1)
				first = (struct rle_run){{a.base + i}, {p->pfn}, 1, p->attr};
		}
		model_encode(&want, meta.split, &want_runs);

		got = (struct sink){.limit = MODEL_PAGES};
		opt.skip_uncovered = true;
		rc = rle_map_compose(&map_a, &map_b, &opt, collect, &got, &stat);
		wrong_rc += rc != 0;
		wrong_runs += got.runs.n != want_runs.n || memcmp(got.runs.run, want_runs.run, 24 * want_runs.n);
		wrong_stat += stat.covered_pages != covered || stat.uncovered_pages != uncovered || stat.uncovered.vpn.n != first.vpn.n ||
			      stat.uncovered.pfn.n != first.pfn.n || (stat.uncovered.npages > 0) != (uncovered > 0);
		/* the stretch reported is the longest within its run of A */
		for (uint64_t k = 0; k < stat.uncovered.npages; k++)
			wrong_stat += page_at(&b, first.pfn.n + k).present;
		merged += stat.pieces > got.runs.n;

		got = (struct sink){.limit = MODEL_PAGES};
		opt.skip_uncovered = false;
		rc = rle_map_compose(&map_a, &map_b, &opt, collect, &got, &stat);
		wrong_rc += rc != (uncovered ? -ENXIO : 0);
		if (!uncovered)
			wrong_runs += got.runs.n != want_runs.n || memcmp(got.runs.run, want_runs.run, 24 * want_runs.n);
		else
			wrong_stat += stat.uncovered.vpn.n != first.vpn.n || stat.uncovered.pfn.n != first.pfn.n;
		refused += rc == -ENXIO;
		composed += rc == 0;

		wrong_meta += rle_map_compose(&map_a, &map_a, &opt, collect, &got, NULL) != -EINVAL;
		rle_map_close(&map_a);
		rle_map_close(&map_b);
	}
	tap_ok(refused > ROUNDS / 2 && composed > ROUNDS / 2 && merged > ROUNDS / 2, "the rounds met all cases (%u refused, %u composed, %u merged)",
	       refused, composed, merged);
	tap_eq(wrong_runs, 0, "composed maps are the canonical runs of the pages composed one by one");
	tap_eq(wrong_rc, 0, "a page outside the second map is skipped or refused, as asked");
	tap_eq(wrong_stat, 0, "covered and uncovered pages are counted and the first one named");
	tap_eq(wrong_meta, 0, "a map that does not lead to the other's keys is refused");
}

/* By hand: one run over a table of memory with the hole of a PC below 4 GiB, each reason for an end, limits. */
static void test_compose_by_hand(void)
{
	static const struct runs table = {3, {{{0}, {0}, 100, 0}, {{100}, {500}, 100, 0}, {{300}, {200}, 100, 0}}};
	static const struct runs process = {
		4, {{{10}, {90}, 20, 3}, {{30}, {300}, 5, 1}, {{35}, {305}, 5, 3}, {{50}, {150}, 100, 3}}};
	static const struct rle_run want[] = {
		{{10}, {90}, 10, 3}, {{20}, {500}, 10, 3}, {{30}, {200}, 5, 1}, {{35}, {205}, 5, 3}, {{50}, {550}, 50, 3}};
	static const enum rle_end want_end[] = {RLE_END_PHYS, RLE_END_PHYS, RLE_END_PROT, RLE_END_HOLE, RLE_END_HOLE};
	static struct sink got;
	struct rle_compose_opt opt = {.skip_uncovered = true, .max_pieces = 6};
	struct rle_compose_stat stat;
	struct rle_map a, b;

	model_open(&a, &guest, &process);
	model_open(&b, &ram, &table);
	got = (struct sink){.limit = MODEL_PAGES};
	tap_eq(rle_map_compose(&a, &b, &opt, collect, &got, &stat), 0, "a process over a VM's table of memory");
	tap_ok(got.runs.n == 5 && !memcmp(got.runs.run, want, sizeof(want)), "gives the runs worked out by hand");
	tap_ok(!memcmp(got.end, want_end, sizeof(want_end)), "with the reasons why they end");
	tap_ok(stat.pieces == 6 && stat.covered_pages == 80 && stat.uncovered_pages == 50 && stat.uncovered.vpn.n == 100 &&
		       stat.uncovered.pfn.n == 200 && stat.uncovered.npages == 50,
	       "and the stretch that lies in no memory");
	opt.max_pieces = 5;
	tap_eq(rle_map_compose(&a, &b, &opt, collect, &got, &stat), -E2BIG, "the limit of the work holds");
	opt.max_pieces = 6;
	got = (struct sink){.limit = 2};
	tap_eq(rle_map_compose(&a, &b, &opt, collect, &got, &stat), -ECANCELED, "an error of the receiver ends it");
	tap_eq(got.beyond, 1, "at once");
	got = (struct sink){.limit = 4};
	tap_eq(rle_map_compose(&a, &b, &opt, collect, &got, &stat), -ECANCELED, "also when it is about the last run");
	rle_map_close(&a);
	rle_map_close(&b);
}

/* Two runs apart in guest memory meet in the file: what the policy of the first map lets merge, merges. */
static void test_compose_meets(void)
{
	static const struct runs table = {2, {{{0}, {500}, 10, 0}, {{20}, {510}, 10, 0}}};
	static const struct {
		enum rle_split split;
		uint32_t attr;
		uint64_t nruns;
		enum rle_end end;
	} cases[] = {
		{RLE_SPLIT_VPN_PFN, RLE_ATTR_WRITE, 1, RLE_END_HOLE},
		{RLE_SPLIT_PROT, RLE_ATTR_WRITE, 2, RLE_END_PROT},
		{RLE_SPLIT_PROT, RLE_ATTR_READ | RLE_ATTR_FILE, 1, RLE_END_HOLE},
		{RLE_SPLIT_ATTR, RLE_ATTR_READ | RLE_ATTR_FILE, 2, RLE_END_ATTR},
		{RLE_SPLIT_ATTR, RLE_ATTR_READ, 1, RLE_END_HOLE},
	};
	const struct rle_compose_opt opt = {.max_pieces = 2};
	static struct sink got;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct runs process = {2, {{{10}, {5}, 5, RLE_ATTR_READ}, {{15}, {20}, 5, cases[i].attr}}};
		struct rle_map_meta meta = guest;
		struct rle_map a, b;
		bool right;

		meta.split = cases[i].split;
		model_open(&a, &meta, &process);
		model_open(&b, &ram, &table);
		got = (struct sink){.limit = MODEL_PAGES};
		right = !rle_map_compose(&a, &b, &opt, collect, &got, NULL) && got.runs.n == cases[i].nruns && got.end[0] == cases[i].end &&
			got.runs.run[0].vpn.n == 10 && got.runs.run[0].pfn.n == 505 && got.runs.run[0].attr == RLE_ATTR_READ &&
			got.runs.run[0].npages == 10 / cases[i].nruns;
		tap_ok(right, "policy %d, attributes 1 and %#x: runs that meet in the file are %llu", cases[i].split, cases[i].attr,
		       (unsigned long long)cases[i].nruns);
		rle_map_close(&a);
		rle_map_close(&b);
	}
}

/* Applies changes to @m, which begins as the old map, and watches that they are what they claim. */
struct applier {
	struct model m;
	uint64_t after;
	struct rle_change last;
	uint32_t mask;
	unsigned int wrong, wrong_order, mergeable, kind[4];
};

static int apply(void *ctx, const struct rle_change *c)
{
	struct applier *a = ctx;
	const struct rle_change *l = &a->last;
	const bool was = c->kind != RLE_CHANGE_ADDED, now = c->kind != RLE_CHANGE_REMOVED;

	a->wrong_order += c->vpn.n < a->after || !c->npages;
	a->kind[c->kind]++;
	for (uint64_t k = 0; k < c->npages; k++) {
		struct page *p = &a->m.page[c->vpn.n + k - a->m.base];
		const struct page before = {was, c->was_pfn.n + k, c->was_attr};

		a->wrong += !same_page(*p, before, ~0u);
		*p = (struct page){now, c->now_pfn.n + k, c->now_attr};
	}
	a->wrong += c->kind == RLE_CHANGE_MOVED && c->was_pfn.n == c->now_pfn.n;
	a->wrong += c->kind == RLE_CHANGE_ATTR && (c->was_pfn.n != c->now_pfn.n || !((c->was_attr ^ c->now_attr) & a->mask));
	a->mergeable += l->npages && l->kind == c->kind && a->after == c->vpn.n &&
			(!was || (l->was_pfn.n + l->npages == c->was_pfn.n && !((l->was_attr ^ c->was_attr) & a->mask))) &&
			(!now || (l->now_pfn.n + l->npages == c->now_pfn.n && !((l->now_attr ^ c->now_attr) & a->mask)));
	a->after = c->vpn.n + c->npages;
	a->last = *c;
	return 0;
}

/* From the old page table to the new one: some stretches unmapped, moved, protected otherwise; or another one altogether. */
static void change_model(struct model *m, uint64_t seed)
{
	if (seed % 5 == 0) {
		model_fill(m, m->base, 300);
		return;
	}
	for (uint64_t k = model_random(8); k; k--) {
		const uint64_t first = model_random(MODEL_PAGES), end = first + model_random(30), what = model_random(4);
		const uint64_t pfn = model_random(300);
		const uint32_t attr = model_attr();

		for (uint64_t i = first; i < end && i < MODEL_PAGES; i++) {
			struct page *p = &m->page[i];

			if (what == 0)
				p->present = false;
			else if (what == 1)
				p->attr = attr;
			else
				*p = (struct page){true, pfn + i - first, what == 2 ? attr : p->attr};
		}
	}
}

static void test_diff(void)
{
	unsigned int wrong = 0, wrong_pages = 0, wrong_rc = 0, mergeable = 0, kind[4] = {0}, identical = 0;
	static struct model old, new;
	static struct runs old_runs, new_runs;
	static struct applier a;

	for (uint64_t seed = 1; seed <= 3 * ROUNDS; seed++) {
		struct rle_map_meta meta = guest, other;
		struct rle_map was, now;

		model_state = seed;
		meta.split = seed % RLE_NSPLIT;
		model_fill(&old, 1000, 300);
		new = old;
		change_model(&new, seed);
		model_encode(&old, meta.split, &old_runs);
		model_encode(&new, meta.split, &new_runs);
		model_decode(&old_runs, old.base, &old);
		model_decode(&new_runs, new.base, &new);
		model_open(&was, &meta, &old_runs);
		model_open(&now, &meta, &new_runs);

		a = (struct applier){.m = old, .mask = mask_of(meta.split)};
		wrong_rc += rle_map_diff(&was, &now, apply, &a) != 0;
		wrong += a.wrong + a.wrong_order;
		mergeable += a.mergeable;
		for (int k = 0; k < 4; k++)
			kind[k] += a.kind[k];
		for (uint64_t i = 0; i < MODEL_PAGES; i++)
			wrong_pages += !same_page(a.m.page[i], new.page[i], a.mask);

		a = (struct applier){.m = new, .mask = a.mask};
		wrong_rc += rle_map_diff(&now, &now, apply, &a) != 0;
		identical += a.after != 0;

		other = now.meta;
		now.meta.split = (other.split + 1) % RLE_NSPLIT;
		wrong_rc += rle_map_diff(&was, &now, apply, &a) != -EINVAL;
		now.meta = other;
		now.meta.space = RLE_SPACE_HOST;
		wrong_rc += rle_map_diff(&was, &now, apply, &a) != -EINVAL;
		rle_map_close(&was);
		rle_map_close(&now);
	}
	tap_ok(kind[0] > ROUNDS && kind[1] > ROUNDS && kind[2] > ROUNDS && kind[3] > ROUNDS / 2,
	       "the rounds met all kinds (%u removed, %u added, %u moved, %u attributes)", kind[0], kind[1], kind[2], kind[3]);
	tap_eq(wrong_pages, 0, "the old page table with all changes applied is the new one");
	tap_eq(wrong, 0, "changes rise, and say truly what was there before");
	tap_eq(mergeable, 0, "no two changes could have been one");
	tap_eq(identical, 0, "a map does not differ from itself");
	tap_eq(wrong_rc, 0, "maps of different policies or spaces are not compared");
}

struct changes {
	struct rle_change change[8];
	unsigned int n, limit; /* stop with -ECANCELED at this many */
};

static int keep(void *ctx, const struct rle_change *c)
{
	struct changes *all = ctx;

	if (all->n == all->limit)
		return -ECANCELED;
	all->change[all->n++] = *c;
	return 0;
}

/* By hand: the four kinds, and an error of the receiver. */
static void test_diff_by_hand(void)
{
	static const struct runs old = {2, {{{10}, {100}, 20, 1}, {{40}, {200}, 5, 3}}};
	static const struct runs new = {4, {{{8}, {50}, 2, 1}, {{10}, {100}, 10, 1}, {{20}, {400}, 5, 1}, {{40}, {200}, 5, 1}}};
	static const struct rle_change want[] = {
		{RLE_CHANGE_ADDED, 2, {8}, {0}, {50}, 0, 1},
		{RLE_CHANGE_MOVED, 5, {20}, {110}, {400}, 1, 1},
		{RLE_CHANGE_REMOVED, 5, {25}, {115}, {0}, 1, 0},
		{RLE_CHANGE_ATTR, 5, {40}, {200}, {200}, 3, 1},
	};
	struct changes got = {.limit = 8};
	struct rle_map was, now;

	model_open(&was, &guest, &old);
	model_open(&now, &guest, &new);
	tap_eq(rle_map_diff(&was, &now, keep, &got), 0, "a page table that won, moved, lost and changed pages");
	tap_ok(got.n == 4 && !memcmp(got.change, want, sizeof(want)), "gives the changes worked out by hand");
	got = (struct changes){.limit = 1};
	tap_eq(rle_map_diff(&was, &now, keep, &got), -ECANCELED, "an error of the receiver ends it");
	rle_map_close(&was);
	rle_map_close(&now);
}

int main(void)
{
	test_lookup();
	test_iteration();
	test_compose();
	test_compose_by_hand();
	test_compose_meets();
	test_diff();
	test_diff_by_hand();
	return tap_done();
}
