/* agent_sets.c - the agent's sets of pages and its table of frames, against a model that looks at one page at a time */
#include <errno.h>
#include <string.h>

#include "runtime/guest/agent/agent_ranges.h"
#include "runtime/guest/agent/agent_table.h"
#include "tests/tap.h"

#define NPAGES 64
#define ROUNDS 20000

static uint64_t seed = 1;

static uint64_t pick(uint64_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % n;
}

/* Sorted, with a gap between neighbours, and of just the pages of the model. */
static bool ranges_right(const struct agent_ranges *s, const bool model[NPAGES])
{
	bool seen[NPAGES] = {false};

	for (size_t i = 0; i < s->n; i++) {
		if (!s->r[i].npages || (i && s->r[i - 1].vpn + s->r[i - 1].npages >= s->r[i].vpn))
			return false;
		for (uint64_t v = 0; v < s->r[i].npages; v++)
			seen[s->r[i].vpn + v] = true;
	}
	return !memcmp(seen, model, sizeof(seen));
}

static bool questions_right(const struct agent_ranges *s, const bool model[NPAGES])
{
	uint64_t vpn = pick(NPAGES), n = pick(NPAGES - vpn) + 1, same, want = 0, met = 0;
	bool in = agent_ranges_at(s, vpn, &same);

	while (vpn + want < NPAGES && model[vpn + want] == model[vpn])
		want++;
	for (uint64_t i = 0; i < n; i++)
		met += model[vpn + i];
	/* Beyond the model nothing is in the set. */
	if (vpn + want == NPAGES && !in)
		want = UINT64_MAX;
	return in == model[vpn] && same == want && agent_ranges_meet(s, vpn, n) == !!met;
}

static void test_ranges(void)
{
	struct agent_ranges s = {0}, part = {0};
	bool model[NPAGES] = {false};
	int wrong = 0, wrong_answers = 0, wrong_within = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t vpn = pick(NPAGES), n = pick(NPAGES - vpn < 12 ? NPAGES - vpn : 12) + 1;
		bool add = pick(2), within = true;

		if ((add ? agent_ranges_add(&s, vpn, n) : agent_ranges_cut(&s, vpn, n)) != 0)
			wrong++;
		memset(model + vpn, add, n);
		wrong += !ranges_right(&s, model);
		wrong_answers += !questions_right(&s, model);
		agent_ranges_clear(&part);
		for (int i = 0; i < 3; i++) {
			vpn = pick(NPAGES);
			agent_ranges_add(&part, vpn, 1);
			within &= model[vpn];
		}
		wrong_within += agent_ranges_within(&part, &s) != within;
	}
	tap_eq(wrong, 0, "%d random changes: the set holds the model's pages, as few ranges as possible", ROUNDS);
	tap_eq(wrong_answers, 0, "what it answers about pages is what the model says");
	tap_eq(wrong_within, 0, "a set is within another when each of its pages is");
	agent_ranges_free(&s);
	agent_ranges_free(&part);
}

static bool table_right(const struct agent_table *t, const uint64_t model[NPAGES])
{
	uint64_t seen[NPAGES] = {0};

	for (size_t i = 0; i < t->n; i++) {
		if (!t->run[i].npages || (i && rle_run_end(&t->run[i - 1]).n > t->run[i].vpn.n))
			return false;
		for (uint32_t v = 0; v < t->run[i].npages; v++)
			seen[t->run[i].vpn.n + v] = t->run[i].pfn.n + v;
	}
	return !memcmp(seen, model, sizeof(seen));
}

static void test_table(void)
{
	struct agent_table t = {0};
	uint64_t model[NPAGES] = {0};
	struct rle_run bad = {.vpn = {3}, .pfn = {9}, .npages = 4};
	struct rle_map view, map;
	int wrong = 0;
	size_t bytes, n;
	void *blob;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t vpn = pick(NPAGES - 1), npages = pick(NPAGES - vpn) + 1, at = vpn;
		struct rle_run run[4];

		memset(model + vpn, 0, npages * sizeof(*model));
		for (n = 0; n < pick(5); n++) {
			at += pick(3);
			if (at >= vpn + npages)
				break;
			run[n] = (struct rle_run){{at}, {1000 + pick(100000)}, 1 + pick(vpn + npages - at), RLE_ATTR_READ};
			for (uint32_t i = 0; i < run[n].npages; i++)
				model[at + i] = run[n].pfn.n + i;
			at += run[n].npages;
		}
		wrong += agent_table_put(&t, vpn, npages, run, n) != 0;
		wrong += !table_right(&t, model);
	}
	tap_eq(wrong, 0, "%d windows replaced: the table says of every page what the model does", ROUNDS);
	n = t.n;
	tap_eq(agent_table_put(&t, 4, 10, &bad, 1), -EINVAL, "a run that reaches out of its window is refused");
	bad.npages = 0;
	tap_eq(agent_table_put(&t, 0, 10, &bad, 1), -EINVAL, "and an empty one");
	tap_ok(t.n == n && table_right(&t, model), "the table is as it was then");

	/* Two halves of one run come out of a blob as one, and a lookup finds what went in. */
	t.n = 0;
	bad = (struct rle_run){{10}, {500}, 3, RLE_ATTR_READ};
	agent_table_push(&t, &bad, RLE_END_HOLE);
	bad = rle_run_skip((struct rle_run){{10}, {500}, 6, RLE_ATTR_READ}, 3);
	tap_eq(agent_table_push(&t, &bad, RLE_END_HOLE), 0, "a run that touches the last one is pushed");
	tap_eq(agent_table_push(&t, &bad, RLE_END_HOLE), -EINVAL, "one that overlaps is not");
	blob = agent_table_blob(&t, 42, 1000, &bytes);
	tap_ok(blob && !rle_map_open(&map, blob, bytes, NULL) && map.nruns == 1 && map.npages == 6 && map.runs[0].pfn.n == 500 &&
		       map.meta.pid == 42 && map.meta.start_ticks == 1000,
	       "as a blob they are one run, of the process");
	view = agent_table_view(&t);
	tap_ok(rle_map_lookup(&view, (ds_vpn){14}, &bad) && bad.pfn.n == 504, "the table can be looked up like a map");
	free(blob);
	agent_table_free(&t);
}

int main(void)
{
	test_ranges();
	test_table();
	return tap_done();
}
