/* enc.c - the encoder against a model that looks at one page at a time
 *
 * Random page tables (several VMAs, gaps between some, protections, holes, frames that continue, jump or repeat) go
 * through the encoder in random portions and, in parallel, into an array of pages.  The model derives every count
 * and every run from the array by the definition of a run, page by page.
 */
#include "rle/enc.h"

#include <errno.h>
#include <string.h>

#include "tests/tap.h"

#define PAGES 3000

static uint64_t seed = 1;
static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed % n;
}

static struct {
	bool mapped;
	uint32_t prot;
	uint64_t pte;
} page[PAGES];

static struct {
	uint64_t from, to;
} vma[64];
static int nvmas;

static const struct rle_extent ram[] = {{{0}, 5000}, {{8000}, 100000}};
static const struct rle_frames frames = {.ram = ram, .nram = 2, .zero = {{777}, 1}, .huge_zero = {{1024}, 512}};

static void generate(void)
{
	static const uint64_t flags[] = {0, 0, 0, RLE_PTE_FILE, RLE_PTE_EXCLUSIVE, RLE_PTE_UFFD_WP, RLE_PTE_SOFT_DIRTY};
	uint64_t pfn = 1 + rnd(9000), flag = 0;

	memset(page, 0, sizeof(page));
	nvmas = 0;
	for (uint64_t at = rnd(5); at < PAGES - 1 && nvmas < 64;) {
		uint64_t end = at + 1 + rnd(rnd(2) ? 400 : 8);
		uint32_t prot = rnd(16);

		if (end > PAGES)
			end = PAGES;
		vma[nvmas].from = at;
		vma[nvmas++].to = end;
		unsigned int holes = rnd(4) ? rnd(10) : 90, jumps = rnd(30);

		for (; at < end; at++) {
			page[at].mapped = true;
			page[at].prot = prot;
			if (rnd(100) < holes) {
				static const uint64_t absent[] = {
					0, 0, 0, RLE_PTE_SOFT_DIRTY, RLE_PTE_SWAP | 3 | 77 << 5, RLE_PTE_SWAP | 30 | 4711 << 5, RLE_PTE_SWAP | 31,
					RLE_PTE_SWAP | 30 | 1 << 5 /* a marker of 6.1 */, RLE_PTE_SWAP | RLE_PTE_GUARD | 31};
				page[at].pte = absent[rnd(9)];
				continue;
			}
			if (rnd(100) < jumps)
				pfn = rnd(8) ? 1 + rnd(12000) : 777;
			if (!rnd(20))
				flag = flags[rnd(7)];
			page[at].pte = RLE_PTE_PRESENT | flag | pfn;
			if (rnd(30))
				pfn++;
		}
		at += rnd(3) ? 0 : rnd(20);
	}
}

/* What the model finds. */
static struct rle_counts want;
static struct rle_run run[PAGES];
static enum rle_end run_end[PAGES];
static int nruns;

static uint32_t attr_of(int i)
{
	return page[i].prot | rle_pte_attr(page[i].pte);
}

static bool present(int i)
{
	return i >= 0 && i < PAGES && page[i].pte & RLE_PTE_PRESENT;
}

/* Whether page i + 1 belongs to the run of page i, and if not why. */
static bool continues(int i, enum rle_split split, enum rle_end *why)
{
	if (i + 1 >= PAGES || !page[i + 1].mapped)
		return *why = RLE_END_VMA, false;
	if (!present(i + 1))
		return *why = RLE_END_HOLE, false;
	if (rle_pte_pfn(page[i + 1].pte).n != rle_pte_pfn(page[i].pte).n + 1)
		return *why = RLE_END_PHYS, false;
	if (split >= RLE_SPLIT_PROT && page[i].prot != page[i + 1].prot)
		return *why = RLE_END_PROT, false;
	if (split >= RLE_SPLIT_ATTR && attr_of(i) != attr_of(i + 1))
		return *why = RLE_END_ATTR, false;
	return true;
}

static bool within(uint64_t pfn, const struct rle_extent *x)
{
	return pfn >= x->first.n && pfn < x->first.n + x->npages;
}

static void model(enum rle_split emit)
{
	memset(&want, 0, sizeof(want));
	want.vmas = nvmas;
	nruns = 0;
	for (int i = 0; i < PAGES; i++) {
		uint64_t pte = page[i].pte, pfn = rle_pte_pfn(pte).n;
		enum rle_end why;

		want.mapped += page[i].mapped;
		if (!present(i)) {
			if (pte & RLE_PTE_GUARD)
				want.guard++;
			else if (pte & RLE_PTE_SWAP)
				*((pte & 31) == 31 || (pte & 0xffff) == 62 ? &want.marker : (pte & 31) >= 23 ? &want.migrating : &want.swapped) += 1;
			continue;
		}
		want.present++;
		want.file += !!(pte & RLE_PTE_FILE);
		want.exclusive += !!(pte & RLE_PTE_EXCLUSIVE);
		want.zero += !(pte & RLE_PTE_EXCLUSIVE) && (within(pfn, &frames.zero) || within(pfn, &frames.huge_zero));
		want.device += !within(pfn, &ram[0]) && !within(pfn, &ram[1]);
		for (enum rle_split s = 0; s < RLE_NSPLIT; s++)
			want.runs[s] += !(present(i - 1) && continues(i - 1, s, &why));
		if (present(i - 1) && continues(i - 1, emit, &why)) {
			run[nruns - 1].npages++;
		} else {
			run[nruns++] = (struct rle_run){{i}, {pfn}, 1, attr_of(i)};
		}
		if (!continues(i, emit, &why)) {
			run_end[nruns - 1] = why;
			want.ends[why]++;
		}
	}
}

static int got_runs, bad_runs;
static int check_run(void *ctx, const struct rle_run *r, enum rle_end end)
{
	(void)ctx;
	if (got_runs >= nruns || memcmp(r, &run[got_runs], sizeof(*r)) || end != run_end[got_runs])
		bad_runs++;
	got_runs++;
	return 0;
}

static uint64_t words[PAGES];

static int encode(struct rle_enc *e)
{
	for (int v = 0; v < nvmas; v++) {
		int err = rle_enc_vma(e, (ds_vpn){vma[v].from}, (ds_vpn){vma[v].to}, page[vma[v].from].prot);

		for (uint64_t at = vma[v].from; !err && at < vma[v].to;) {
			uint64_t n = 1 + rnd(vma[v].to - at);

			if (!rnd(3) && !page[at].pte) { /* a hole that the reader skipped */
				at++;
				continue;
			}
			for (uint64_t i = 0; i < n; i++)
				words[i] = page[at + i].pte;
			uint64_t len = 1;

			while (len < n && words[len] == words[0] + len)
				len++;
			if (!rnd(4) && words[0] & RLE_PTE_PRESENT)
				err = rle_enc_block(e, (ds_vpn){at}, words[0], n = len);
			else
				err = rle_enc_words(e, (ds_vpn){at}, words, n);
			at += n;
		}
		if (err)
			return err;
	}
	return rle_enc_finish(e);
}

static void properties(void)
{
	int tables = 0, wrong_counts = 0, wrong_runs = 0, errors = 0;

	for (int i = 0; i < 600; i++) {
		enum rle_split emit = i % RLE_NSPLIT;
		struct rle_enc e;

		generate();
		model(emit);
		got_runs = bad_runs = 0;
		rle_enc_init(&e, emit, check_run, NULL, &frames);
		errors += encode(&e) != 0;
		wrong_counts += memcmp(&e.n, &want, sizeof(want)) != 0;
		wrong_runs += bad_runs || got_runs != nruns;
		tables++;
	}
	tap_eq(errors, 0, "%d random page tables encode", tables);
	tap_eq(wrong_counts, 0, "every count of each is the model's");
	tap_eq(wrong_runs, 0, "every run, its attributes and why it ended are the model's");
}

/* Frames met, over many processes, each once; those mapped exactly once are counted by `exclusive` instead. */
static void distinct_frames(void)
{
	static uint64_t seen[2 * RLE_SEEN_BLOCK / 64];
	static uint8_t touched[2];
	static bool met[2 * RLE_SEEN_BLOCK];
	struct rle_frames f = {.seen = seen, .seen_pages = 2 * RLE_SEEN_BLOCK, .seen_touched = touched};
	int wrong = 0, untouched = 0;

	for (int i = 0; i < 20; i++) {
		struct rle_enc e;

		generate();
		for (int k = 0; k < PAGES; k++) {
			uint64_t pfn = rle_pte_pfn(page[k].pte += page[k].pte & RLE_PTE_PRESENT && i % 2 ? 30000 : 0).n;

			if (present(k) && !(page[k].pte & RLE_PTE_EXCLUSIVE) && pfn < f.seen_pages)
				met[pfn] = true;
		}
		rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, &f);
		encode(&e);
	}
	for (uint64_t pfn = 0; pfn < f.seen_pages; pfn++) {
		wrong += (seen[pfn / 64] >> pfn % 64 & 1) != met[pfn];
		untouched += met[pfn] && !touched[pfn / RLE_SEEN_BLOCK];
	}
	tap_ok(!wrong && !untouched, "frames met by several processes are marked, all and only these");
}

static int stop_at_third(void *ctx, const struct rle_run *r, enum rle_end end)
{
	(void)r, (void)end;
	return ++*(int *)ctx == 3 ? -ENOSPC : 0;
}

static void errors(void)
{
	uint64_t two[2] = {RLE_PTE_PRESENT | 5, RLE_PTE_PRESENT | 9};
	struct rle_enc e;
	int calls = 0;

	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, NULL);
	tap_eq(rle_enc_words(&e, (ds_vpn){0}, two, 2), -EINVAL, "words before the first VMA are refused");
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, NULL);
	rle_enc_vma(&e, (ds_vpn){10}, (ds_vpn){12}, 1);
	tap_eq(rle_enc_words(&e, (ds_vpn){11}, two, 2), -EINVAL, "words that stick out of the VMA are refused");
	tap_eq(rle_enc_finish(&e), -EINVAL, "and the error stays");
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, NULL);
	rle_enc_vma(&e, (ds_vpn){10}, (ds_vpn){12}, 1);
	tap_eq(rle_enc_vma(&e, (ds_vpn){11}, (ds_vpn){13}, 1), -EINVAL, "a VMA that overlaps the one before is refused");
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, NULL);
	rle_enc_vma(&e, (ds_vpn){10}, (ds_vpn){12}, 1);
	two[1] = RLE_PTE_PRESENT | (DS_PFN_END + 4);
	tap_eq(rle_enc_words(&e, (ds_vpn){10}, two, 2), -EBADMSG, "a frame number that no machine has is refused");
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, stop_at_third, &calls, NULL);
	generate();
	tap_eq(encode(&e), -ENOSPC, "an error of the receiver stops the encoder and is returned");
	tap_eq(calls, 3, "and it is not called again");
}

static int count_long(void *ctx, const struct rle_run *r, enum rle_end end)
{
	uint64_t *sum = ctx;

	sum[0] += r->npages;
	sum[1]++;
	sum[2] += end == RLE_END_LONG;
	return 0;
}

static void long_run(void)
{
	uint64_t sum[3] = {0}, npages = 3 * (uint64_t)RLE_RUN_MAX_PAGES + 5;
	struct rle_enc e;

	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, count_long, sum, NULL);
	rle_enc_vma(&e, (ds_vpn){7}, (ds_vpn){7 + npages}, 3);
	rle_enc_block(&e, (ds_vpn){7}, RLE_PTE_PRESENT | 99, npages);
	tap_ok(!rle_enc_finish(&e) && sum[0] == npages && sum[1] == 4 && sum[2] == 3,
	       "a run beyond 2^32 - 1 pages is handed on in parts that add up");
	tap_eq(e.n.runs[RLE_SPLIT_VPN_PFN], 1, "and still counts as one");
}

/* Frame numbers are hidden from a reader without privilege: every present word is the same. */
static void hidden(void)
{
	uint64_t w[100];
	struct rle_enc e;

	for (int i = 0; i < 100; i++)
		w[i] = RLE_PTE_PRESENT;
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, NULL);
	rle_enc_vma(&e, (ds_vpn){0}, (ds_vpn){100}, 3);
	rle_enc_words(&e, (ds_vpn){0}, w, 100);
	rle_enc_finish(&e);
	tap_eq(e.n.hidden, 100, "hidden frame numbers are noticed on every page");
}

int main(void)
{
	properties();
	distinct_frames();
	errors();
	long_run();
	hidden();
	return tap_done();
}
