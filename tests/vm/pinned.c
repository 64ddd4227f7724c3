/* pinned.c - what moves the frames of pages moves those that are not pinned, and leaves pinned ones where they are
 *
 * For a guest with swap, KSM and two NUMA nodes (tests/vm/pin.sh).  Each event is let loose on a pair of equal areas, one of
 * them pinned.  The other one is the control: it must move, or the event would prove nothing.
 */
#include <errno.h>
#include <sys/wait.h>

#include "tests/vm/frames.h"

#define NPAGES 512ul /* one huge page */
#define AREA (NPAGES * PAGE)
#define MADV_PAGEOUT_ 21  /* linux/mman.h of 5.4 */
#define MADV_COLLAPSE_ 25 /* of 6.1 */

static struct pin pin;

struct half {
	char *area;
	uint64_t before[NPAGES], after[NPAGES];
};

static struct pair {
	struct half loose, pinned;
} pair;

/* Aligned, in 4 KiB pages, each page with content of its own unless @same. */
static char *fill(bool same)
{
	char *p = mmap(NULL, 2 * AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *area;

	if (p == MAP_FAILED)
		frames_die("mmap");
	area = (char *)(((uintptr_t)p + AREA - 1) & ~(AREA - 1));
	madvise(p, 2 * AREA, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < NPAGES; i++) {
		memset(area + i * PAGE, 0x5a, PAGE);
		if (!same)
			*(uint64_t *)(area + i * PAGE) = (uintptr_t)area + i;
	}
	return area;
}

static void make(bool same)
{
	struct tally t;

	pair.loose.area = fill(same);
	pair.pinned.area = fill(same);
	t = frames_pin(&pin, pair.pinned.area, NPAGES, 0);
	if (t.pages[PIN_DONE] != NPAGES)
		tap_ok(false, "an anonymous area is pinned: %lu of %lu pages, %s", t.pages[PIN_DONE], NPAGES, strerror(-t.err));
	frames_of(pair.loose.area, NPAGES, pair.loose.before);
	frames_of(pair.pinned.area, NPAGES, pair.pinned.before);
}

static size_t wrong(const char *area, bool same)
{
	size_t n = 0;

	for (size_t i = 0; i < NPAGES; i++)
		n += *(const volatile uint64_t *)(area + i * PAGE) != (same ? 0x5a5a5a5a5a5a5a5a : (uintptr_t)area + i);
	return n;
}

/* After the event: at least @least pages of the control have other frames, no pinned page has, and the content is as it was. */
static void check(const char *event, size_t least, bool same)
{
	size_t bad = wrong(pair.loose.area, same) + wrong(pair.pinned.area, same); /* which brings paged-out ones back */
	size_t moved;

	frames_of(pair.loose.area, NPAGES, pair.loose.after);
	frames_of(pair.pinned.area, NPAGES, pair.pinned.after);
	moved = frames_differ(pair.loose.before, pair.loose.after, NPAGES);
	tap_ok(moved >= least, "%s moves pages that are not pinned (%zu of %lu)", event, moved, NPAGES);
	tap_eq(frames_differ(pair.pinned.before, pair.pinned.after, NPAGES), 0, "%s leaves pinned pages where they are", event);
	tap_eq(bad, 0, "%s leaves the content as it was", event);
	pin_drop(&pin, (uintptr_t)pair.pinned.area, AREA);
	munmap(pair.loose.area, AREA);
	munmap(pair.pinned.area, AREA);
}

/* Pages of both halves lie scattered between pages of a filler, which then goes away: what compaction is for. */
#define SPREAD 96
static void compaction(void)
{
	char *filler = mmap(NULL, NPAGES * SPREAD * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(filler, NPAGES * SPREAD * PAGE, MADV_NOHUGEPAGE);
	pair.loose.area = fill(false);
	pair.pinned.area = fill(false);
	madvise(pair.loose.area, AREA, MADV_DONTNEED);
	madvise(pair.pinned.area, AREA, MADV_DONTNEED);
	for (size_t i = 0; i < NPAGES; i++) {
		*(uint64_t *)(pair.loose.area + i * PAGE) = (uintptr_t)pair.loose.area + i;
		*(uint64_t *)(pair.pinned.area + i * PAGE) = (uintptr_t)pair.pinned.area + i;
		for (size_t j = 0; j < SPREAD; j++)
			filler[(i * SPREAD + j) * PAGE] = 1;
	}
	frames_pin(&pin, pair.pinned.area, NPAGES, 0);
	frames_of(pair.loose.area, NPAGES, pair.loose.before);
	frames_of(pair.pinned.area, NPAGES, pair.pinned.before);
	munmap(filler, NPAGES * SPREAD * PAGE);
	frames_set("/proc/sys/vm/compact_memory", "1");
	check("compaction", NPAGES / 10, false);
}

static void collapse(void)
{
	int err;

	make(false);
	madvise(pair.loose.area, AREA, MADV_HUGEPAGE);
	madvise(pair.pinned.area, AREA, MADV_HUGEPAGE);
	tap_eq(madvise(pair.loose.area, AREA, MADV_COLLAPSE_), 0, "pages that are not pinned can be collapsed into a huge page");
	err = madvise(pair.pinned.area, AREA, MADV_COLLAPSE_) ? errno : 0;
	tap_ok(err != 0, "pinned ones cannot (%s)", strerror(err));
	check("collapse into a huge page", NPAGES - 1, false);
}

static void ksm(void)
{
	uint64_t scans;

	make(true);
	madvise(pair.loose.area, AREA, MADV_MERGEABLE);
	madvise(pair.pinned.area, AREA, MADV_MERGEABLE);
	frames_set("/sys/kernel/mm/ksm/pages_to_scan", "20000");
	frames_set("/sys/kernel/mm/ksm/sleep_millisecs", "10");
	frames_set("/sys/kernel/mm/ksm/run", "1");
	scans = frames_number("/sys/kernel/mm/ksm/full_scans");
	for (int i = 0; i < 200 && frames_number("/sys/kernel/mm/ksm/full_scans") < scans + 4; i++)
		usleep(100000);
	frames_set("/sys/kernel/mm/ksm/run", "0");
	check("KSM", NPAGES - 2, true);
}

/* Both processes have the pages; the one that writes first gets a copy, unless its page is pinned: then the child got one. */
static void fork_write(void)
{
	int go[2], status;
	pid_t child;
	char c;

	make(false);
	if (pipe(go))
		frames_die("pipe");
	child = fork();
	if (child == 0) {
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0 || wrong(pair.pinned.area, false) || wrong(pair.loose.area, false));
	}
	for (size_t i = 0; i < NPAGES; i++)
		pair.loose.area[i * PAGE + 100] = pair.pinned.area[i * PAGE + 100] = 1;
	close(go[1]);
	waitpid(child, &status, 0);
	close(go[0]);
	tap_eq(status, 0, "after fork the child sees what the pages held, pinned or not");
	check("fork, then a write", NPAGES, false);
}

static void pageout(void)
{
	uint64_t now[NPAGES], none[NPAGES] = {0};
	size_t out;

	make(false);
	madvise(pair.loose.area, AREA, MADV_PAGEOUT_);
	madvise(pair.pinned.area, AREA, MADV_PAGEOUT_);
	frames_of(pair.loose.area, NPAGES, now);
	out = NPAGES - frames_differ(now, none, NPAGES);
	tap_ok(out > NPAGES / 2, "pages that are not pinned are swapped out (%zu of %lu)", out, NPAGES);
	check("swapping out and in", NPAGES / 4, false);
}

static void numa(void)
{
	make(false);
	tap_eq(frames_to_node(pair.loose.area, NPAGES, 1), NPAGES, "pages that are not pinned can be moved to another NUMA node");
	tap_eq(frames_to_node(pair.pinned.area, NPAGES, 1), 0, "pinned ones cannot");
	check("a move to another NUMA node", NPAGES, false);
}

/* What no pin survives, because the program asks for other pages: the old frames stay taken, so the new ones differ. */
static void unmapping(void)
{
	uint64_t now[NPAGES];

	make(false);
	madvise(pair.pinned.area, AREA, MADV_DONTNEED);
	memset(pair.pinned.area, 1, AREA);
	frames_of(pair.pinned.area, NPAGES, now);
	tap_eq(frames_differ(pair.pinned.before, now, NPAGES), NPAGES, "MADV_DONTNEED does give pinned addresses other frames");
	munmap(pair.pinned.area, AREA);
	mmap(pair.pinned.area, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(pair.pinned.area, 1, AREA);
	frames_of(pair.pinned.area, NPAGES, now);
	tap_eq(frames_differ(pair.pinned.before, now, NPAGES), NPAGES, "so does munmap()");
	pin_drop(&pin, (uintptr_t)pair.pinned.area, AREA);
}

/* The kernel lets go of a dropped buffer about a second later. */
static void drop(void)
{
	const size_t half = NPAGES / 2;
	size_t moved = 0;

	make(false);
	tap_eq(frames_pin(&pin, pair.pinned.area, NPAGES, 0).pages[PIN_ALREADY], NPAGES, "what is pinned is not pinned twice");
	tap_eq(pin_drop(&pin, (uintptr_t)pair.pinned.area + 10 * PAGE, (half - 10) * PAGE), 0, "a part in the middle can be dropped");
	for (int i = 0; i < 50 && moved < half - 10; i++) {
		usleep(100000);
		moved = frames_to_node(pair.pinned.area + 10 * PAGE, half - 10, 1);
	}
	tap_eq(moved, half - 10, "dropped pages can move");
	tap_eq(frames_to_node(pair.pinned.area, 10, 1) + frames_to_node(pair.pinned.area + half * PAGE, half, 1), 0, "those before and behind it cannot");
	pin_drop(&pin, (uintptr_t)pair.pinned.area, AREA);
	tap_eq(pin.pages, 0, "nothing is counted as pinned after everything was dropped");
}

int main(void)
{
	bool nodes = !access("/sys/devices/system/node/node1", F_OK);
	int err = pin_open(&pin);

	tap_eq(err, 0, "a ring with an empty table can be made");
	if (err)
		return tap_done();
	compaction();
	collapse();
	ksm();
	fork_write();
	pageout();
	unmapping();
	if (nodes) {
		numa();
		drop();
	} else {
		tap_skip("NUMA moves", "there is one node only");
	}
	pin_close(&pin);
	return tap_done();
}
