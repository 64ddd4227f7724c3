/* map.c - the format: what is valid opens and means what it should, everything else is refused for the right reason */
#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/map_model.h"

static const struct rle_map_meta plain = {.split = RLE_SPLIT_PROT, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = 42, .start_ticks = 1000};

/* A place of which the byte behind @bytes cannot be read: a reader that goes too far dies. */
static char *guarded(const char *data, size_t bytes)
{
	static char *area;
	const size_t page = 4096, room = 16 * page;
	char *place;

	if (!area) {
		area = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (area == MAP_FAILED || mprotect(area + room, page, PROT_NONE))
			abort();
	}
	/* aligned down: up to 7 readable bytes remain behind the data; they are poisoned with what would continue it */
	place = area + ((room - bytes) & ~(size_t)7);
	memset(area, 0xff, room);
	if (bytes)
		memcpy(place, data, bytes);
	return place;
}

static char *sample(size_t *bytes)
{
	static const struct rle_run run[] = {
		{{1}, {5}, 3, 3}, {{4}, {8}, 2, 1}, {{6}, {100}, 7, 1}, {{0x7f0000000}, {1}, 512, 3}, {{0x7f0000200}, {7}, 1, 3},
	};
	return craft(&plain, run, 5, bytes);
}

static void test_truncations(void)
{
	size_t bytes;
	char *blob = sample(&bytes), *longer = malloc(bytes + 64);
	struct rle_map_err err;
	struct rle_map map;
	unsigned int accepted = 0, silent = 0;

	if (!longer)
		abort();
	for (size_t n = 0; n < bytes; n++) {
		err = (struct rle_map_err){0};
		accepted += rle_map_open(&map, guarded(blob, n), n, &err) != -EBADMSG;
		silent += !err.why;
	}
	tap_eq(accepted, 0, "every truncation of a map is refused as malformed");
	tap_eq(silent, 0, "and each refusal says why");
	tap_eq(rle_map_open(&map, guarded(blob, bytes), bytes, NULL), 0, "the whole map opens");
	accepted = 0;
	for (size_t n = 1; n <= 64; n++) {
		memset(longer, 0, bytes + 64);
		memcpy(longer, blob, bytes);
		accepted += rle_map_open(&map, longer, bytes + n, &err) != -EBADMSG;
	}
	tap_eq(accepted, 0, "a map with 1 to 64 bytes behind its end is refused");
	tap_eq(err.offset_bytes, bytes, "the refusal names the offset where the surplus begins");
	tap_ok(!map.runs && !map.nruns && !map.owned, "after a refusal the view is empty");
	free(blob);
	free(longer);
}

static void test_corruptions(void)
{
	size_t bytes;
	char *blob = sample(&bytes);
	unsigned int accepted = 0;
	struct rle_map map;

	for (size_t at = 0; at < bytes; at++) {
		for (unsigned int flip = 1; flip < 256; flip++) {
			blob[at] ^= (char)flip;
			accepted += !rle_map_open(&map, blob, bytes, NULL);
			blob[at] ^= (char)flip;
		}
	}
	tap_eq(accepted, 0, "every other value of every byte, header and runs, is refused");
	tap_eq(rle_map_open(&map, blob, bytes, NULL), 0, "restored, the map opens");
	free(blob);
}

/* Header fields that are wrong although the checksums are right. */
static void test_crafted_headers(void)
{
	static const struct {
		size_t offset, size;
		uint64_t value;
		int rc;
		const char *why;
	} wrong[] = {
		{0, 1, 'd', -EBADMSG, "magic"},
		{8, 4, 0x04030201, -EPROTONOSUPPORT, "other byte order"},
		{8, 4, 0x01020305, -EBADMSG, "endian tag"},
		{12, 2, 2, -EPROTONOSUPPORT, "version"},
		{12, 2, 0, -EPROTONOSUPPORT, "version"},
		{14, 2, 80, -EBADMSG, "length of the header"},
		{16, 1, 14, -EPROTONOSUPPORT, "page size"},
		{17, 1, RLE_NSPLIT, -EBADMSG, "split policy"},
		{18, 1, 0, -EBADMSG, "lead from this space"},
		{18, 1, 4, -EBADMSG, "lead from this space"},
		{19, 1, 1, -EBADMSG, "lead from this space"},
		{19, 1, 2, -EBADMSG, "keyed by"},
		{20, 4, 0x80000000, -EBADMSG, "reserved"},
		{24, 8, 6, -EBADMSG, "shorter than its runs"},
		{24, 8, 4, -EBADMSG, "bytes after the last run"},
		/* times 24 these are 0 and 120 modulo 2^64 */
		{24, 8, UINT64_C(1) << 61, -EBADMSG, "shorter than its runs"},
		{24, 8, (UINT64_C(1) << 61) + 5, -EBADMSG, "shorter than its runs"},
		{32, 8, 524, -EBADMSG, "not the sum"},
		{56, 8, 0, -EBADMSG, "checksum of the runs"},
	};
	struct rle_map_header h;
	struct rle_map_err err;
	struct rle_map map;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		size_t bytes;
		char *blob = sample(&bytes);
		int rc;

		memcpy(blob + wrong[i].offset, &wrong[i].value, wrong[i].size);
		memcpy(&h, blob, sizeof(h));
		h.header_xxh3 = XXH3_64bits(&h, 64);
		memcpy(blob, &h, sizeof(h));
		err = (struct rle_map_err){0};
		rc = rle_map_open(&map, blob, bytes, &err);
		if (!tap_ok(rc == wrong[i].rc && err.why && strstr(err.why, wrong[i].why) && err.run == RLE_MAP_NO_RUN,
			    "header byte %zu = %#llx, right checksum: refused (%s)", wrong[i].offset,
			    (unsigned long long)wrong[i].value, wrong[i].why))
			printf("# got %d, \"%s\"\n", rc, err.why ? err.why : "no reason");
		free(blob);
	}
}

/* Runs that are wrong although the checksums and the header are right.  The fault is in the last run given. */
static void test_crafted_runs(void)
{
	const uint32_t most = RLE_RUN_MAX_PAGES;
	const uint64_t vend = UINT64_C(1) << 44, pend = UINT64_C(1) << 40;
	const struct {
		const char *what, *why;
		enum rle_split split;
		enum rle_space key;
		uint64_t nruns;
		struct rle_run run[2];
	} wrong[] = {
		{"a run of no pages", "no pages", 1, 0, 1, {{{1}, {1}, 0, 1}}},
		{"a run of no pages at the end of a good one", "no pages", 1, 0, 2, {{{1}, {1}, 3, 1}, {{4}, {4}, 0, 1}}},
		{"overlap by one page", "overlaps", 1, 0, 2, {{{1}, {1}, 3, 1}, {{3}, {9}, 3, 1}}},
		{"the same page twice", "rising order", 1, 0, 2, {{{1}, {1}, 1, 1}, {{1}, {1}, 1, 1}}},
		{"falling order", "rising order", 1, 0, 2, {{{9}, {1}, 1, 1}, {{4}, {4}, 1, 1}}},
		{"a run that begins at the end of the address space", "key space", 1, 0, 1, {{{vend}, {1}, 1, 1}}},
		{"a run that ends one page beyond the address space", "key space", 1, 0, 1, {{{vend - 4}, {1}, 5, 1}}},
		{"a VPN whose end wraps around", "key space", 1, 0, 1, {{{UINT64_MAX - 1}, {1}, 5, 1}}},
		{"a GPA key beyond physical memory", "key space", 1, 1, 1, {{{pend - 4}, {1}, 5, 1}}},
		{"a frame beyond physical memory", "frame", 1, 0, 1, {{{1}, {pend}, 1, 1}}},
		{"a run that ends one frame beyond physical memory", "frame", 1, 0, 1, {{{1}, {pend - 4}, 5, 1}}},
		{"a PFN whose end wraps around", "frame", 1, 0, 1, {{{1}, {UINT64_MAX - 1}, 5, 1}}},
		{"attribute bit 6", "attribute", 1, 0, 1, {{{1}, {1}, 1, 1u << 6}}},
		{"attribute bit 16", "attribute", 1, 0, 1, {{{1}, {1}, 1, 1u << 16}}},
		{"attribute bit 31", "attribute", 1, 0, 1, {{{1}, {1}, 1, 1u << 31}}},
		{"a run cut in two, by VPN and PFN", "canonical", 0, 0, 2, {{{1}, {1}, 3, 1}, {{4}, {4}, 3, 3}}},
		{"a run cut in two, by protection", "canonical", 1, 0, 2, {{{1}, {1}, 3, 1}, {{4}, {4}, 3, 1 + RLE_ATTR_FILE}}},
		{"a run cut in two, by attributes", "canonical", 2, 0, 2, {{{1}, {1}, 3, 1}, {{4}, {4}, 3, 1}}},
		{"a long run cut before its longest part", "canonical", 2, 0, 2, {{{1}, {1}, most - 1, 1}, {{most}, {most}, 3, 1}}},
	};
	struct rle_map_meta meta = plain;
	struct rle_map_err err;
	struct rle_map map;
	size_t bytes;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char *blob;
		int rc;

		meta.split = wrong[i].split;
		meta.key = wrong[i].key;
		meta.space = RLE_SPACE_FILE;
		blob = craft(&meta, wrong[i].run, wrong[i].nruns, &bytes);
		err = (struct rle_map_err){0};
		rc = rle_map_open(&map, blob, bytes, &err);
		if (!tap_ok(rc == -EBADMSG && err.why && strstr(err.why, wrong[i].why) && err.run == wrong[i].nruns - 1 &&
				    err.offset_bytes == 72 + 24 * err.run,
			    "%s, right checksums: refused, naming the run", wrong[i].what))
			printf("# got %d, \"%s\", run %lld\n", rc, err.why ? err.why : "no reason", (long long)err.run);
		free(blob);
	}
}

/* The valid neighbours of the faults above. */
static void test_limits(void)
{
	const uint32_t most = RLE_RUN_MAX_PAGES;
	const uint64_t vend = UINT64_C(1) << 44, pend = UINT64_C(1) << 40;
	const struct {
		const char *what;
		enum rle_split split;
		uint64_t nruns;
		struct rle_run run[2];
	} right[] = {
		{"the last page of the address space and the last frame", 1, 1, {{{vend - 1}, {pend - 1}, 1, 1}}},
		{"page 0 and frame 0", 1, 1, {{{0}, {0}, 1, 1}}},
		{"a run of the greatest length and its continuation", 2, 2, {{{1}, {1}, most, 1}, {{1ull + most}, {1ull + most}, 3, 1}}},
		{"contiguous runs that protection separates", 1, 2, {{{1}, {1}, 3, 1}, {{4}, {4}, 3, 3}}},
		{"contiguous runs that another attribute separates", 2, 2, {{{1}, {1}, 3, 1}, {{4}, {4}, 3, 1 + RLE_ATTR_FILE}}},
		{"two pages of one frame", 0, 2, {{{1}, {1}, 1, 1}, {{2}, {1}, 1, 1}}},
		{"every attribute", 2, 1, {{{1}, {1}, 1, RLE_ATTR_ALL}}},
	};
	struct rle_map_meta meta = plain;
	struct rle_map_err err = {0};
	struct rle_map map;
	size_t bytes;

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		char *blob;

		meta.split = right[i].split;
		blob = craft(&meta, right[i].run, right[i].nruns, &bytes);
		if (!tap_ok(!rle_map_open(&map, blob, bytes, &err), "%s: accepted", right[i].what))
			printf("# \"%s\"\n", err.why);
		free(blob);
	}
}

static void test_alignment(void)
{
	size_t bytes, moved_bytes;
	char *blob = sample(&bytes), *area = malloc(bytes + 8);
	unsigned int in_place = 0, copied = 0;
	struct rle_map map;

	if (!area)
		abort();
	for (size_t shift = 1; shift < 8; shift++) {
		memcpy(area + shift, blob, bytes);
		in_place += rle_map_open(&map, area + shift, bytes, NULL) != -EINVAL;
		copied += !rle_map_open_copy(&map, area + shift, bytes, NULL);
		memset(area, 0, bytes + 8);
		copied += map.nruns == 5 && map.runs[4].vpn.n == 0x7f0000200;
		rle_map_close(&map);
	}
	tap_eq(in_place, 0, "a misaligned blob is not used in place");
	tap_eq(copied, 14, "a misaligned blob opens as a copy, which stays when the original goes");
	moved_bytes = bytes - 1;
	tap_eq(rle_map_open_copy(&map, blob, moved_bytes, NULL), -EBADMSG, "a copy is checked as well");
	free(blob);
	free(area);
}

static void test_load(void)
{
	size_t bytes;
	char *blob = sample(&bytes);
	int fd = memfd_create("map", 0), dir = open("/", O_RDONLY | O_DIRECTORY);
	struct rle_map_err err;
	struct rle_map map;

	if (fd < 0 || write(fd, blob, bytes) != (ssize_t)bytes)
		abort();
	for (int copy = 0; copy < 2; copy++) {
		const char *how = copy ? "read" : "mmapped";
		bool good = !rle_map_load(&map, fd, bytes, copy, NULL);

		tap_ok(good && map.nruns == 5 && map.npages == 525 && map.meta.pid == 42 && map.meta.start_ticks == 1000 &&
			       map.meta.split == RLE_SPLIT_PROT && !memcmp(map.runs, blob + 72, bytes - 72),
		       "a file, %s, is the map that was written", how);
		rle_map_close(&map);
		tap_ok(!map.runs && !map.nruns && !map.owned, "closed, the view is empty (%s)", how);
		rle_map_close(&map);
		tap_eq(rle_map_load(&map, fd, bytes - 1, copy, &err), -EFBIG, "a file beyond the limit is refused (%s)", how);
		tap_eq(rle_map_load(&map, dir, 1 << 20, copy, &err), -EINVAL, "a directory is refused (%s)", how);
		tap_eq(rle_map_load(&map, -1, 1 << 20, copy, &err), -EBADF, "a closed descriptor is refused (%s)", how);
	}
	if (ftruncate(fd, 72 + 24))
		abort();
	tap_eq(rle_map_load(&map, fd, 1 << 20, false, &err), -EBADMSG, "a shortened file is refused (mmapped)");
	tap_eq(rle_map_load(&map, fd, 1 << 20, true, &err), -EBADMSG, "a shortened file is refused (read)");
	if (ftruncate(fd, 0))
		abort();
	tap_eq(rle_map_load(&map, fd, 1 << 20, false, &err), -EBADMSG, "an empty file is refused");
	close(fd);
	close(dir);
	free(blob);
}

int main(void)
{
	test_truncations();
	test_corruptions();
	test_crafted_headers();
	test_crafted_runs();
	test_limits();
	test_alignment();
	test_load();
	return tap_done();
}
