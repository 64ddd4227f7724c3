/* host_guard.c - what a shadow that has been taken over can map: its own process's pages where they belong, nothing else
 *
 * Each attempt is refused by a rule of its own, and says so: by the kernel's answer to the shadow, and by whether dshost was
 * asked.  Beside them the same call without what is wrong in it, which must pass.
 */
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <time.h>

#include "tests/hostile.h"

#define NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64) /* Linux 6.6 */
#define FLOOD 3000

#define S MAP_SHARED
#define SF (MAP_SHARED | MAP_FIXED)
#define R PROT_READ
#define W PROT_WRITE
#define RWFD DS_SHADOW_RAM_FD
#define ROFD DS_SHADOW_RAM_RO_FD
#define AT(vpn) ((vpn) * PAGE)

static const struct {
	const char *what;
	uint64_t args[6];
	int64_t want;	/* 0: the mapping; else -errno */
	bool asked;	/* dshost was */
	const char *why; /* a part of its reason */
} attempts[] = {
	{"its own page once more", {AT(A_VPN), PAGE, R | W, SF, RWFD, 3 * PAGE}, 0, true, NULL},
	{"its own page, to be read only", {AT(A_VPN), PAGE, R, SF, ROFD, 3 * PAGE}, 0, true, NULL},
	{"pages of two runs that continue each other", {AT(C_VPN), 3 * PAGE, R, SF, ROFD, 20 * PAGE}, 0, true, NULL},
	{"a page of another process, at an address of its own", {AT(A_VPN), PAGE, R | W, SF, RWFD, 7 * PAGE}, -EPERM, true, "not pages"},
	{"its page, at the address of another of its pages", {AT(A_VPN), PAGE, R | W, SF, RWFD, 4 * PAGE}, -EPERM, true, "not pages"},
	{"its page, where the process has nothing", {AT(A_VPN + 4), PAGE, R | W, SF, RWFD, 6 * PAGE}, -EPERM, true, "not pages"},
	{"its pages and one more behind", {AT(A_VPN), 5 * PAGE, R | W, SF, RWFD, 3 * PAGE}, -EPERM, true, "not pages"},
	{"one more before its pages", {AT(A_VPN - 1), 5 * PAGE, R | W, SF, RWFD, 2 * PAGE}, -EPERM, true, "not pages"},
	{"all of the RAM", {AT(A_VPN), RAM_PAGES * PAGE, R | W, SF, RWFD, 0}, -EPERM, true, "not pages"},
	{"all of the RAM, to be read", {AT(A_VPN), RAM_PAGES * PAGE, R, SF, ROFD, 0}, -EPERM, true, "not pages"},
	{"a page that is not to be written, for writing", {AT(B_VPN), PAGE, R | W, SF, RWFD, 10 * PAGE}, -EPERM, true, "more than"},
	{"the same by the descriptor for reading", {AT(B_VPN), PAGE, R | W, SF, ROFD, 10 * PAGE}, -EPERM, true, "read-only descriptor"},
	{"the same, to be made writable later", {AT(B_VPN), PAGE, R, SF, RWFD, 10 * PAGE}, -EPERM, true, "writable descriptor"},
	{"the same without any protection", {AT(B_VPN), PAGE, 0, SF, RWFD, 10 * PAGE}, -EPERM, true, "writable descriptor"},
	{"pages of which the last is not to be written, for writing", {AT(C_VPN), 3 * PAGE, R | W, SF, RWFD, 20 * PAGE}, -EPERM, true, "more than"},
	{"guest memory to be executed", {AT(A_VPN), PAGE, R | PROT_EXEC, SF, ROFD, 3 * PAGE}, -EPERM, true, "another protection"},
	{"an unknown protection", {AT(A_VPN), PAGE, R | 0x10, SF, ROFD, 3 * PAGE}, -EPERM, true, "another protection"},
	{"protections above 32 bits", {AT(A_VPN), PAGE, R | 1ull << 32, SF, ROFD, 3 * PAGE}, -EPERM, true, "another protection"},
	{"a private copy", {AT(A_VPN), PAGE, R | W, MAP_PRIVATE | MAP_FIXED, RWFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"an address for the kernel to choose", {AT(A_VPN), PAGE, R, S, ROFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"MAP_SHARED_VALIDATE", {AT(A_VPN), PAGE, R, 3 | MAP_FIXED, ROFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"MAP_FIXED_NOREPLACE", {AT(A_VPN), PAGE, R, S | MAP_FIXED_NOREPLACE, ROFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"MAP_GROWSDOWN", {AT(A_VPN), PAGE, R, SF | MAP_GROWSDOWN, ROFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"MAP_LOCKED", {AT(A_VPN), PAGE, R, SF | MAP_LOCKED, ROFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"flags above 32 bits", {AT(A_VPN), PAGE, R, SF | 1ull << 40, ROFD, 3 * PAGE}, -EPERM, true, "flags"},
	{"no length", {AT(A_VPN), 0, R, SF, ROFD, 3 * PAGE}, -EPERM, true, "empty"},
	{"a length that wraps round", {AT(A_VPN), -PAGE, R, SF, ROFD, 3 * PAGE}, -EPERM, true, "user half"},
	{"an odd length", {AT(A_VPN), PAGE + 1, R, SF, ROFD, 3 * PAGE}, -EPERM, true, "whole pages"},
	{"an odd address", {AT(A_VPN) + 8, PAGE, R, SF, ROFD, 3 * PAGE}, -EPERM, true, "whole pages"},
	{"an odd offset", {AT(A_VPN), PAGE, R, SF, ROFD, 3 * PAGE + 8}, -EPERM, true, "whole pages"},
	{"an offset that wraps round", {AT(A_VPN), PAGE, R, SF, ROFD, -PAGE}, -EPERM, true, "not pages"},
	{"an address in the kernel half", {0xffff800000000000, PAGE, R, SF, ROFD, 3 * PAGE}, -EPERM, true, "user half"},
	{"a descriptor above 32 bits", {AT(A_VPN), PAGE, R, SF, ROFD | 1ull << 32, 3 * PAGE}, -EPERM, true, "descriptor"},
	{"the control channel", {AT(A_VPN), PAGE, R, SF, DS_SHADOW_CTL_FD, 0}, -EPERM, true, "descriptor"},
	{"a descriptor that is none", {AT(A_VPN), PAGE, R, SF, -1, 0}, -EPERM, true, "descriptor"},
	{"memory of its own", {0, PAGE, R | W, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, 0, false, NULL},
	{"the same with a descriptor beside, which the kernel does not look at", {0, PAGE, R | W, MAP_PRIVATE | MAP_ANONYMOUS, RWFD, 0}, 0, false, NULL},
	{"shared memory of its own", {0, PAGE, R | W, MAP_SHARED | MAP_ANONYMOUS, -1, 0}, -EPERM, false, NULL},
	{"memory of both kinds", {0, PAGE, R | W, 3 | MAP_ANONYMOUS, -1, 0}, -EPERM, false, NULL},
	{"huge pages", {0, 2 << 20, R | W, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, RWFD, 0}, -EPERM, false, NULL},
	{"locked memory", {0, PAGE, R | W, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0}, -EPERM, false, NULL},
	{"a growing stack", {0, PAGE, R | W, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0}, -EPERM, false, NULL},
	{"executable memory", {0, PAGE, R | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, -EPERM, false, NULL},
	{"flags above 32 bits, anonymous", {0, PAGE, R, MAP_PRIVATE | MAP_ANONYMOUS | 1ull << 32, -1, 0}, -EPERM, false, NULL},
};

/* Everything of the RAM that is mapped there, page by page, against the runs. */
static const char *whole(void)
{
	uint64_t vmas;

	return model_compare(&shadow.h, hostile_runs, NRUNS, &vmas);
}

static void test_mmap(void)
{
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		const uint64_t *a = attempts[i].args, passed = shadow.guard.passed, refused = shadow.guard.refused;
		int64_t got = hostile_call(__NR_mmap, a[0], a[1], a[2], a[3], a[4], a[5]);
		bool right = attempts[i].want ? got == attempts[i].want : a[0] ? got == (int64_t)a[0] : got > 0;

		right &= shadow.guard.passed - passed == (attempts[i].asked && !attempts[i].want);
		right &= shadow.guard.refused - refused == (attempts[i].asked && attempts[i].want);
		if (attempts[i].why && (!shadow.guard.last.why || !strstr(shadow.guard.last.why, attempts[i].why)))
			right = false;
		if (!tap_ok(right, "%s: %s", attempts[i].want ? "refused" : "passes", attempts[i].what))
			printf("# got %" PRId64 ", passed %" PRIu64 ", refused %" PRIu64 ", %s\n", got, shadow.guard.passed - passed,
			       shadow.guard.refused - refused, shadow.guard.last.why ? shadow.guard.last.why : "");
		if (!attempts[i].want && !a[0])
			hostile_call(__NR_munmap, (uint64_t)got, PAGE, 0, 0, 0, 0);
		/* what passed is mapped as before */
		if (!attempts[i].want && a[0])
			hostile_call(__NR_mmap, AT(A_VPN), 4 * PAGE, R | W, SF, RWFD, 3 * PAGE),
				hostile_call(__NR_mmap, AT(C_VPN), 2 * PAGE, R | W, SF, RWFD, 20 * PAGE);
	}
}

/* What is mapped stays what and where it is. */
static void test_kept(void)
{
	bool ok;

	tap_ok(hostile_peek(AT(B_VPN), &ok) == host_word(10) && ok, "a page that is not to be written is read");
	tap_eq(hostile_call(__NR_mprotect, AT(B_VPN), PAGE, R | W, 0, 0, 0), -EACCES, "mprotect() does not make it writable");
	tap_eq(hostile_call(__NR_mprotect, AT(C_VPN + 2), PAGE, W, 0, 0, 0), -EACCES, "nor one behind pages that are");
	tap_ok(!hostile_poke(AT(B_VPN), 1), "and a store faults");
	tap_eq(hostile_call(__NR_mprotect, AT(A_VPN), PAGE, R, 0, 0, 0), 0, "one that may be written is made read-only");
	tap_ok(!hostile_poke(AT(A_VPN), 1), "a store faults then");
	tap_eq(hostile_call(__NR_mprotect, AT(A_VPN), PAGE, R | W, 0, 0, 0), 0, "and writable again");
	tap_ok(hostile_poke(AT(A_VPN), 77) && *(uint64_t *)(shadow.h.ram + 3 * PAGE) == 77, "a store reaches the RAM");
	tap_eq(hostile_call(__NR_mremap, AT(A_VPN), PAGE, 2 * PAGE, 0, 0, 0), -EPERM, "a mapping is not made longer");
	tap_eq(hostile_call(__NR_mremap, AT(A_VPN), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(A_VPN + 100), 0), -EPERM,
	       "nor moved");
	tap_eq(hostile_call(__NR_remap_file_pages, AT(A_VPN), PAGE, 0, 30, 0, 0), -EPERM, "nor made to show other pages");
	tap_ok(!whole(), "after all that every page of the RAM in it is where it belongs, with its protection");
	if (whole())
		printf("# %s\n", whole());
}

/* Updates of the map, with a capsule that is guarded. */
static void test_update(void)
{
	struct rle_run other[NRUNS];
	struct gone_found found = {0};
	const struct ds_shadow_range all = {0, PLACE_VPN_END};
	struct gone gone;
	uint64_t vmas;
	bool ok;

	if (gone_open(&gone, shadow.jail.pid, shadow.h.ram_fd))
		err(2, "gone_open");
	memcpy(other, hostile_runs, sizeof(other));
	other[0].pfn.n = 40; /* other frames */
	other[0].npages = 2; /* and less */
	tap_eq(guarded_update(&shadow, other, NRUNS), DS_SHADOW_STATUS, "an update passes");
	tap_ok(!model_compare(&shadow.h, other, NRUNS, &vmas), "the mirror is the new one");
	tap_ok(hostile_peek(AT(A_VPN), &ok) == host_word(40) && ok, "and shows the new frames");
	tap_eq(hostile_call(__NR_mmap, AT(A_VPN), PAGE, R | W, SF, RWFD, 3 * PAGE), -EPERM, "the old frame is refused now");
	tap_eq(hostile_call(__NR_mmap, AT(A_VPN + 2), PAGE, R | W, SF, RWFD, 5 * PAGE), -EPERM, "so is one that is gone from the map");
	tap_eq(guard_settle(&shadow.guard, 1000), 0, "no call is on its way");
	tap_eq(gone_check(&gone, &all, 1, shadow.authority, &found), 0, "seen from outside the mirror is what the map says");
	/* leave is taken back without the shadow letting go, as one that is hostile does not */
	other[0].npages = 1;
	free(shadow.now_blob);
	shadow.now_blob = guarded_map(other, NRUNS, &shadow.now);
	authority_set(shadow.authority, &shadow.now);
	tap_eq(gone_check(&gone, &all, 1, shadow.authority, &found), -EEXIST, "a page that it does not let go of is found");
	tap_ok(found.vpn == A_VPN + 1 && found.npages == 1 && found.pfn == 41, "the right one");
	tap_eq(hostile_call(__NR_munmap, AT(A_VPN + 1), PAGE, 0, 0, 0, 0), 0, "it lets go");
	tap_eq(gone_check(&gone, &all, 1, shadow.authority, &found), 0, "and nothing is found any more");
	tap_eq(hostile_call(__NR_mmap, AT(A_VPN + 1), PAGE, R, SF, ROFD, 41 * PAGE), -EPERM, "it does not get it back");
	/* a page that may no longer be written keeps a mapping that may, shown read-only for the moment */
	other[0].attr = RLE_ATTR_READ;
	free(shadow.now_blob);
	shadow.now_blob = guarded_map(other, NRUNS, &shadow.now);
	authority_set(shadow.authority, &shadow.now);
	tap_eq(hostile_call(__NR_mprotect, AT(A_VPN), PAGE, R, 0, 0, 0), 0, "a page is made read-only by the shadow");
	tap_eq(gone_check(&gone, &all, 1, shadow.authority, &found), -EEXIST, "that it could be made writable again is found");
	tap_ok(found.vpn == A_VPN && !found.write, "the right one");
	tap_eq(guarded_update(&shadow, hostile_runs, NRUNS), DS_SHADOW_STATUS, "an update back");
	tap_eq(gone_check(&gone, &all, 1, shadow.authority, &found), 0, "makes all right");
	gone_close(&gone);
}

/* Single segments, each good once. */
static void test_orders(void)
{
	const struct ds_shadow_seg seg[2] = {{A_VPN + 50, 50, 2, R | W}, {A_VPN + 60, 60, 1, R}};
	const uint64_t at = AT(A_VPN + 50);

	tap_eq(hostile_call(__NR_mmap, at, 2 * PAGE, R | W, SF, RWFD, 50 * PAGE), -EPERM, "pages of no map are refused");
	authority_order(shadow.authority, seg, 2);
	tap_eq(hostile_call(__NR_mmap, at, PAGE, R | W, SF, RWFD, 50 * PAGE), -EPERM, "ordered, a part of them is");
	tap_eq(hostile_call(__NR_mmap, at, 2 * PAGE, R | W, SF, RWFD, 50 * PAGE), (int64_t)at, "the whole passes");
	tap_eq(hostile_call(__NR_mmap, at, 2 * PAGE, R | W, SF, RWFD, 50 * PAGE), -EPERM, "once");
	tap_eq(authority_cancel(shadow.authority, A_VPN + 60, 1), 1, "an order is taken back");
	tap_eq(hostile_call(__NR_mmap, AT(A_VPN + 60), PAGE, R, SF, ROFD, 60 * PAGE), -EPERM, "and refused");
	hostile_call(__NR_munmap, at, 2 * PAGE, 0, 0, 0, 0);
}

/* A thread that was let pass and does not come to rest. */
static void test_settle(void)
{
	struct hostile_request r = {.op = HOSTILE_SPIN, .call = {{__NR_mmap, {AT(A_VPN), PAGE, R, SF, ROFD, 3 * PAGE}}}};
	union host_message m;

	hostile_send(&r);
	guarded_receive(&shadow, &m, 100);
	tap_eq(guard_settle(&shadow.guard, 50), -ETIMEDOUT, "one that was let pass and runs on is not settled");
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* What it costs; only told, since it depends on where the two run. */
static void measure(void)
{
	const struct hostile_request r = {
		.op = HOSTILE_FLOOD, .ncalls = FLOOD, .call = {{__NR_mmap, {AT(A_VPN), PAGE, R | W, SF, RWFD, 3 * PAGE}}}};
	uint8_t *at = mmap(NULL, PAGE, R | W, MAP_SHARED, shadow.h.ram_fd, 0);
	double start = seconds(), bare, guarded, slow;

	for (int i = 0; i < FLOOD; i++)
		if (mmap(at, PAGE, R | W, SF, shadow.h.ram_fd, (off_t)(3 * PAGE)) == MAP_FAILED)
			err(2, "mmap");
	bare = (seconds() - start) / FLOOD;
	munmap(at, PAGE);
	start = seconds();
	hostile_ask(&r);
	guarded = (seconds() - start) / FLOOD;
	tap_eq(answered.result[0], FLOOD, "%d calls in a row all pass", FLOOD);
	if (shadow.guard.sync_wake && !ioctl(shadow.guard.listener, NOTIF_SET_FLAGS, 0ul)) {
		start = seconds();
		hostile_ask(&r);
		slow = (seconds() - start) / FLOOD;
		printf("# mmap() of a page: bare %.2f us, guarded %.1f us, without SYNC_WAKE_UP %.1f us\n", bare * 1e6, guarded * 1e6, slow * 1e6);
		ioctl(shadow.guard.listener, NOTIF_SET_FLAGS, 1ul);
	} else {
		printf("# mmap() of a page: bare %.2f us, guarded %.1f us; this kernel has no SYNC_WAKE_UP\n", bare * 1e6, guarded * 1e6);
	}
}

int main(void)
{
	static const struct filter_want want;

	hostile_start(&want, 64 << 20);
	tap_ok(shadow.guard.read_back, "the kernel shows both filters as they were made");
	test_mmap();
	test_kept();
	test_update();
	test_orders();
	measure();
	test_settle();
	hostile_end();
	return tap_done();
}
