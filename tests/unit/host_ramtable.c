/* host_ramtable.c - tables of a VM's memory and the check of guest maps, against a model that looks at every page */
#include "runtime/host/vm/ramtable.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rle/mapw.h"
#include "tests/tap.h"

#define FRAMES 300u /* of the little VM */
#define FILE_PAGES 256u
#define PAGE UINT64_C(4096)
#define ROUNDS 3000

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % below;
}

static uint32_t add_file(struct ramtable *t, const char *name, uint64_t npages)
{
	struct ramtable_file file = {.npages = npages};
	uint32_t index = 99;

	strcpy(file.name, name);
	ramtable_add_file(t, &file, &index, NULL);
	return index;
}

/* pc with 5 GiB: the layout of QEMU's pc machine, 3 GiB below 4 GiB and the rest above. */
static void make_pc(struct ramtable *t, bool backwards)
{
	const uint64_t range[][3] = {{0, 0xc0000000, 0}, {UINT64_C(1) << 32, UINT64_C(2) << 30, 0xc0000000}};
	uint32_t file;

	ramtable_init(t);
	file = add_file(t, "mem0", (UINT64_C(5) << 30) / PAGE);
	for (int i = 0; i < 2; i++) {
		const uint64_t *r = range[backwards ? 1 - i : i];

		ramtable_add(t, r[0], r[1], r[2], file, NULL);
	}
}

/* --- the table ------------------------------------------------------------------------------------------------- */

static void test_canonical(void)
{
	struct ramtable a, b;
	struct ramtable_diff diff;
	struct ramtable_err err;
	uint32_t dimm, ram;

	make_pc(&a, false);
	make_pc(&b, true);
	tap_ok(!ramtable_finish(&a, NULL) && !ramtable_finish(&b, NULL) && ramtable_compare(&a, &b, &diff) && !diff.why,
	       "the order in which ranges are added does not matter");

	ramtable_init(&b);
	dimm = add_file(&b, "dimm", 512);
	ram = add_file(&b, "mem0", (UINT64_C(5) << 30) / PAGE);
	ramtable_add(&b, UINT64_C(7) << 32, 512 * PAGE, 0, dimm, NULL);
	ramtable_add(&b, 0xa0000, 0xc0000000 - 0xa0000, 0xa0000, ram, NULL);
	ramtable_add(&b, 0, 0xa0000, 0, ram, NULL);
	ramtable_add(&b, UINT64_C(1) << 32, UINT64_C(2) << 30, 0xc0000000, ram, NULL);
	tap_ok(!ramtable_finish(&b, NULL) && b.nranges == 3 && b.nfiles == 2 && !strcmp(b.file[0].name, "mem0"),
	       "ranges that continue each other become one, the file at guest address 0 comes first");
	tap_ok(ramtable_compare(&a, &b, &diff), "a DIMM beside does not make the RAM file's table another one");

	make_pc(&b, false);
	b.range[1].page.n++;
	ramtable_finish(&b, NULL);
	ramtable_compare(&a, &b, &diff); /* first, as the line printed says why */
	tap_ok(diff.why && diff.gpa_bytes == UINT64_C(1) << 32, "another offset: %s", diff.why);
	make_pc(&b, false);
	b.range[0].npages--;
	ramtable_finish(&b, NULL);
	ramtable_compare(&a, &b, &diff);
	tap_ok(diff.why && diff.gpa_bytes == 0, "another length: %s", diff.why);
	make_pc(&b, false);
	b.nranges = 1;
	ramtable_finish(&b, NULL);
	ramtable_compare(&a, &b, &diff);
	tap_ok(diff.why && diff.gpa_bytes == UINT64_C(1) << 32 && !ramtable_compare(&b, &a, NULL),
	       "one range less, seen from both sides: %s", diff.why);
	make_pc(&b, false);
	b.file[0].npages++;
	ramtable_finish(&b, NULL);
	ramtable_compare(&a, &b, &diff);
	tap_ok(diff.why, "another length of the file: %s", diff.why);

	make_pc(&b, false);
	ramtable_add(&b, 0xbffff000, PAGE, 0, 0, NULL);
	tap_eq(ramtable_finish(&b, &err), -EINVAL, "refused: %s", err.why);
	tap_ok(err.index == 2 && err.value == 0xbffff000, "and which range it is");
	ramtable_init(&b);
	tap_eq(ramtable_finish(&b, &err), -ENOENT, "refused: %s", err.why);
	ram = add_file(&b, "mem0", 100);
	ramtable_add(&b, PAGE, PAGE, 0, ram, NULL);
	tap_eq(ramtable_finish(&b, &err), -ENOENT, "refused: %s", err.why);
}

static void test_bounds(void)
{
	const struct {
		uint64_t gpa, bytes, offset;
		int want;
	} bad[] = {
		{0, 0, 0, -EINVAL},
		{1, PAGE, 0, -EINVAL},
		{0, PAGE + 8, 0, -EINVAL},
		{0, PAGE, 512, -EINVAL},
		{0, 101 * PAGE, 0, -ERANGE},
		{0, PAGE, 100 * PAGE, -ERANGE},
		{UINT64_MAX - PAGE + 1, PAGE, 0, -ERANGE},
		{UINT64_MAX - PAGE + 1, 2 * PAGE, 0, -ERANGE},
		{0, 2 * PAGE, UINT64_MAX - PAGE + 1, -ERANGE},
		{(UINT64_C(1) << 52) - PAGE, 2 * PAGE, 0, -ERANGE},
		{0, UINT64_MAX - PAGE + 1, PAGE, -ERANGE},
	};
	struct ramtable_file nobody = {.npages = 1};
	struct ramtable_err err;
	struct ramtable t;
	uint32_t file, index;
	int r = 0;

	ramtable_init(&t);
	file = add_file(&t, "mem0", 100);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		tap_eq(ramtable_add(&t, bad[i].gpa, bad[i].bytes, bad[i].offset, file, &err), bad[i].want, "range %zu: %s", i, err.why);
	tap_eq(ramtable_add(&t, 0, PAGE, 0, 1, &err), -EINVAL, "%s", err.why);
	tap_ok(!ramtable_add(&t, (UINT64_C(1) << 52) - PAGE, PAGE, 99 * PAGE, file, NULL), "the last page of all is accepted");
	for (uint32_t i = t.nranges; i <= RAMTABLE_RANGES_MAX; i++)
		r = ramtable_add(&t, 2 * i * PAGE, PAGE, 0, file, &err);
	tap_ok(r == -E2BIG && t.nranges == RAMTABLE_RANGES_MAX, "%s", err.why);
	tap_eq(ramtable_add_file(&t, &nobody, &index, &err), -EINVAL, "%s", err.why);
	for (uint32_t i = 0; i <= RAMTABLE_FILES_MAX; i++) {
		nobody.ino = i + 1;
		r = ramtable_add_file(&t, &nobody, &index, &err);
	}
	tap_eq(r, -E2BIG, "%s", err.why);
}

static void test_fd(void)
{
	struct ramtable_file file, again;
	struct ramtable_err err;
	int fd = memfd_create("ram", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC), path, ro, huge;
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	path = open(name, O_PATH | O_CLOEXEC);
	ro = open(name, O_RDONLY | O_CLOEXEC);
	tap_ok(!ftruncate(fd, 7 * 4096) && !ramtable_check_fd(fd, &file, &err) && file.npages == 7 && file.ino, "a memfd is RAM");
	tap_ok(!ramtable_check_fd(dup(fd), &again, &err) && again.dev == file.dev && again.ino == file.ino,
	       "another descriptor of it is the same file");
	tap_eq(ramtable_check_fd(null, &file, &err), -EINVAL, "/dev/null: %s", err.why);
	tap_eq(ramtable_check_fd(ro, &file, &err), -EACCES, "a read-only descriptor: %s", err.why);
	tap_eq(ramtable_check_fd(path, &file, &err), -EACCES, "an O_PATH descriptor: %s", err.why);
	tap_eq(ramtable_check_fd(-1, &file, &err), -EBADF, "none: %s", err.why);
	huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	if (huge < 0)
		tap_skip("hugetlb RAM is refused", "this kernel has no hugetlb memfd");
	else
		tap_eq(ramtable_check_fd(huge, &file, &err), -EOPNOTSUPP, "hugetlb: %s", err.why);
}

/* Physical memory of the host: 3 GiB of a VM from 8 GiB on, 1 GiB behind them; the monitor counts from the backend's beginning. */
static void test_physical(void)
{
	const uint64_t gib = UINT64_C(1) << 30;
	struct ramtable_file mem = {.dev = 5, .ino = 4, .npages = DS_PFN_END, .physical = true};
	__attribute__((cleanup(rle_map_close))) struct rle_map map = {0};
	struct ramtable t, moved, monitor;
	struct ramtable_diff diff;
	uint32_t file;

	ramtable_init(&t);
	ramtable_add_file(&t, &mem, &file, NULL);
	ramtable_add(&t, 0, 3 * gib, 8 * gib, file, NULL);
	ramtable_add(&t, 4 * gib, gib, 11 * gib, file, NULL);
	moved = t;
	for (uint32_t i = 0; i < 2; i++)
		moved.range[i].page.n += 1;
	tap_ok(!ramtable_finish(&t, NULL) && t.file[0].npages == 12 * gib / PAGE && ramtable_bytes(&t) == 4 * gib,
	       "physical memory ends with the last range, and is as much as the ranges have of it");
	ramtable_init(&monitor);
	file = add_file(&monitor, "mem0", 4 * gib / PAGE);
	ramtable_add(&monitor, 0, 3 * gib, 0, file, NULL);
	ramtable_add(&monitor, 4 * gib, gib, 3 * gib, file, NULL);
	tap_ok(!ramtable_finish(&monitor, NULL) && ramtable_compare(&t, &monitor, &diff) && ramtable_compare(&monitor, &t, NULL),
	       "it is the table that the monitor tells without knowing where: %s", diff.why ? diff.why : "");
	monitor.range[1].page.n += 1;
	tap_ok(!ramtable_compare(&t, &monitor, &diff) && diff.gpa_bytes == 4 * gib, "but not with a range elsewhere: %s", diff.why);
	ramtable_finish(&moved, NULL);
	tap_ok(!ramtable_compare(&t, &moved, &diff), "the same ranges at other physical addresses are another table: %s", diff.why);
	tap_ok(!ramtable_map(&t, &map) && map.meta.space == RLE_SPACE_HOST && map.nruns == 2 && map.runs[0].pfn.n == 8 * gib / PAGE,
	       "its map leads to frames of the host");
}

/* Beside that, memory of a device of the host: two pieces, which are neighbours in the guest only. */
static void test_device(void)
{
	const uint64_t gib = UINT64_C(1) << 30;
	struct ramtable_file mem = {.dev = 5, .ino = 4, .npages = DS_PFN_END, .physical = true}, card = mem;
	__attribute__((cleanup(rle_map_close))) struct rle_map map = {0};
	struct ramtable t, without;
	uint32_t ram, dev;
	ds_vpn frame;
	uint64_t n;

	card.device = true;
	ramtable_init(&t);
	ramtable_add_file(&t, &mem, &ram, NULL);
	ramtable_add(&t, 0, gib, 8 * gib, ram, NULL);
	without = t;
	ramtable_add_file(&t, &card, &dev, NULL);
	ramtable_add(&t, 3 * gib, 16 * PAGE, 4 * gib - 32 * PAGE, dev, NULL);
	ramtable_add(&t, 3 * gib + 16 * PAGE, 4 * PAGE, 2 * gib, dev, NULL);
	tap_ok(!ramtable_finish(&t, NULL) && !ramtable_finish(&without, NULL) && t.nfiles == 2 && !t.file[0].device && t.file[1].device &&
		       ramtable_bytes(&t) == gib && ramtable_compare(&t, &without, NULL),
	       "memory of a device of the host is no RAM, though both are /dev/mem");
	tap_ok(!ramtable_map(&t, &map) && map.npages == gib / PAGE, "and guest maps cannot lead there");
	tap_ok(ramtable_device_frame(&t, (ds_pfn){4 * gib / PAGE - 32 + 5}, &frame, &n) && frame.n == 3 * gib / PAGE + 5 && n == 11,
	       "where the guest has a page of the device, and how many follow");
	tap_ok(ramtable_device_frame(&t, (ds_pfn){2 * gib / PAGE + 3}, &frame, &n) && frame.n == 3 * gib / PAGE + 19 && n == 1, "the last one of it");
	tap_ok(!ramtable_device_frame(&t, (ds_pfn){2 * gib / PAGE + 4}, &frame, &n) &&
		       !ramtable_device_frame(&t, (ds_pfn){4 * gib / PAGE - 33}, &frame, &n),
	       "nothing behind it or before");
	tap_ok(!ramtable_device_frame(&t, (ds_pfn){8 * gib / PAGE + 7}, &frame, &n), "nor the RAM");
}

/* --- guest maps -------------------------------------------------------------------------------------------------- */

static struct ramtable table;
static int64_t model[FRAMES]; /* page of the RAM file, -1: no memory, -2: of another file */

/* A VM of 300 frames in random ranges over two files. */
static void random_table(void)
{
	uint32_t file[2], frame = 0;

	ramtable_init(&table);
	file[0] = add_file(&table, "mem0", FILE_PAGES);
	file[1] = add_file(&table, "other", FILE_PAGES);
	for (uint32_t i = 0; i < FRAMES; i++)
		model[i] = -1;
	while (frame < FRAMES && table.nranges < 20) {
		const bool main_file = !frame || draw(3);
		uint32_t npages = 1 + draw(40), page = draw(FILE_PAGES - 40);

		npages = npages > FRAMES - frame ? FRAMES - frame : npages;
		ramtable_add(&table, frame * PAGE, npages * PAGE, page * PAGE, file[main_file ? 0 : 1], NULL);
		for (uint32_t i = 0; i < npages; i++)
			model[frame + i] = main_file ? (int64_t)(page + i) : -2;
		frame += npages + (draw(2) ? draw(20) : 0);
	}
	if (ramtable_finish(&table, NULL))
		exit(2);
}

/* A guest's map of random runs; mostly of frames that are RAM when @tame. */
static void random_map(struct rle_map *map, void **blob, bool tame)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = 7};
	uint64_t vpn = 0x400 + draw(10);
	struct rle_mapw *w;
	size_t bytes;

	rle_mapw_begin_mem(&w, &meta, 1 << 20);
	for (uint32_t i = draw(12); i; i--) {
		uint32_t pfn = draw(FRAMES + 10), npages = 1 + draw(50), n = 0;

		while (tame && n < npages && pfn + n < FRAMES && model[pfn + n] >= 0)
			n++;
		npages = tame ? n : npages;
		if (npages)
			rle_mapw_add(w, (ds_vpn){vpn}, (ds_pfn){pfn}, npages, draw(4));
		vpn += npages + draw(3);
	}
	rle_mapw_finish(w);
	*blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	if (rle_map_open(map, *blob, bytes, NULL))
		exit(2);
}

/* Every page of the guest's map, in order; returns false at the first that the model knows nothing of. */
static bool model_accepts(const struct rle_map *guest, uint64_t *run, uint64_t *frame)
{
	for (*run = 0; *run < guest->nruns; ++*run) {
		for (uint32_t i = 0; i < guest->runs[*run].npages; i++) {
			*frame = guest->runs[*run].pfn.n + i;
			if (*frame >= FRAMES || model[*frame] < 0)
				return false;
		}
	}
	return true;
}

static bool pages_agree(const struct rle_map *guest, const struct rle_map *out)
{
	if (guest->npages != out->npages || out->meta.space != RLE_SPACE_FILE || out->meta.split != RLE_SPLIT_ATTR ||
	    out->meta.pid != guest->meta.pid)
		return false;
	for (uint64_t i = 0; i < guest->nruns; i++) {
		for (uint32_t k = 0; k < guest->runs[i].npages; k++) {
			struct rle_run hit;

			if (!rle_map_lookup(out, ds_vpn_add(guest->runs[i].vpn, k), &hit) || hit.attr != guest->runs[i].attr ||
			    (int64_t)hit.pfn.n != model[guest->runs[i].pfn.n + k])
				return false;
		}
	}
	return true;
}

static void test_model(void)
{
	uint32_t accepted = 0, refused = 0, wrong = 0, other = 0;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct rle_map guest, out;
		struct ramtable_err err = {0};
		uint64_t run, frame = 0;
		void *blob, *in;
		size_t bytes;
		int r;

		random_table();
		random_map(&guest, &in, draw(2));
		r = ramtable_translate(&table, &guest, 1 << 20, &blob, &bytes, &err);
		if (model_accepts(&guest, &run, &frame)) {
			accepted++;
			if (r || rle_map_open(&out, blob, bytes, NULL) || !pages_agree(&guest, &out))
				wrong++;
		} else {
			const bool elsewhere = frame < FRAMES && model[frame] == -2;

			refused++;
			other += elsewhere;
			if (r != -ENXIO || blob || err.index != run || err.value != frame * PAGE ||
			    (strstr(err.why, "another file") != NULL) != elsewhere)
				wrong++;
		}
		free(blob);
		free(in);
	}
	tap_eq(wrong, 0, "%u maps translated, %u refused with run and GPA, as the model has it", accepted, refused);
	tap_ok(accepted > ROUNDS / 4 && refused > ROUNDS / 4 && other > ROUNDS / 40, "both happened often, another file %u times", other);
}

static void translate_as(enum rle_split split, enum rle_space key, enum rle_space space, size_t max, int want, const char *what)
{
	const struct rle_map_meta meta = {.split = split, .key = key, .space = space};
	struct ramtable_err err = {.why = "accepted"};
	struct rle_mapw *w;
	struct rle_map map;
	void *in, *blob;
	size_t bytes;

	rle_mapw_begin_mem(&w, &meta, 1 << 20);
	for (uint64_t i = 0; i < 100; i++)
		rle_mapw_add(w, (ds_vpn){0x400 + 2 * i}, (ds_pfn){1}, 1, 1);
	rle_mapw_finish(w);
	in = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	rle_map_open(&map, in, bytes, NULL);
	tap_eq(ramtable_translate(&table, &map, max, &blob, &bytes, &err), want, "%s: %s", what, err.why);
	free(in);
	free(blob);
}

int main(void)
{
	test_canonical();
	test_bounds();
	test_fd();
	test_physical();
	test_device();
	test_model();
	make_pc(&table, false);
	translate_as(RLE_SPLIT_ATTR, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 1 << 20, -EINVAL, "a table that is not finished");
	ramtable_finish(&table, NULL);
	translate_as(RLE_SPLIT_ATTR, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 1 << 20, 0, "virtual to frame, split by attributes");
	translate_as(RLE_SPLIT_PROT, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 1 << 20, -EINVAL, "split by protection");
	translate_as(RLE_SPLIT_ATTR, RLE_SPACE_VIRTUAL, RLE_SPACE_FILE, 1 << 20, -EINVAL, "already translated");
	translate_as(RLE_SPLIT_ATTR, RLE_SPACE_FRAME, RLE_SPACE_FILE, 1 << 20, -EINVAL, "keyed by frames");
	translate_as(RLE_SPLIT_ATTR, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 72 + 99 * 24, -E2BIG, "100 runs where 99 are allowed");
	translate_as(RLE_SPLIT_ATTR, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 10, -E2BIG, "no room for a header");
	return tap_done();
}
