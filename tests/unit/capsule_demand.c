/* capsule_demand.c - a mirror that faults, with the real capsule, the host's machine and a guest that is played
 *
 * What a touch should find is told by the guest's page table as the test keeps it (struct dh_page) and by the words that
 * the RAM's pages begin with.
 */
#include <linux/futex.h>

#include "tests/demand_tests.h"

static void test_pages(void)
{
	unsigned int wrong = 0, holes = 0, bad_holes = 0;
	struct dh_region *r;

	begin(1, 1000, 10);
	r = &dh.regions[0];
	for (int i = 0; i < 3000; i++) {
		const uint64_t k = host_random(1000);
		const int64_t got = call(CALLS_FETCH, address(REGION + k), 0, 0);
		uint64_t word;

		memcpy(&word, dh_calls_answer.bytes, sizeof(word));
		if (r->pages[k].attr)
			wrong += got != 0 || word != host_word(r->pages[k].pfn);
		else
			holes++, bad_holes += got != -EFAULT;
	}
	tap_eq(wrong, 0, "every page that is touched, in any order, is the guest's");
	tap_ok(holes && !bad_holes, "a page that the guest does not have is EFAULT for shadow_fetch() (%u times)", holes);
	tap_eq(call(CALLS_FETCH, address(REGION + 1000), 0, 0), -EFAULT, "and so is what is in no mapping of the guest");
	tap_eq(call(CALLS_COVERED, address(REGION), PAGE, 0), r->pages[0].attr ? (int64_t)PAGE : 0, "shadow_covered() says what can be touched");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

/* One thing wrong with a MAP, or with a BOOT in demand mode. */
static void test_refusals(void)
{
	static const struct {
		const char *what;
		struct ds_shadow_seg seg[2];
		uint32_t nsegs, reason;
	} bad[] = {
		{"no segment", {{0}}, 0, DS_SHADOW_R_LIMIT},
		{"an empty segment", {{REGION, 1, 0, 3}}, 1, DS_SHADOW_R_MAP},
		{"an unknown protection", {{REGION, 1, 1, 4}}, 1, DS_SHADOW_R_MAP},
		{"covering and mapping at once", {{REGION, 0, 1, DS_SHADOW_COVER}, {REGION + 1, 1, 1, 3}}, 2, DS_SHADOW_R_MAP},
		{"mapping and covering at once", {{REGION + 1, 1, 1, 3}, {REGION, 0, 1, DS_SHADOW_COVER}}, 2, DS_SHADOW_R_MAP},
		{"a thread that waits for two pages", {{REGION, 2, 2, DS_SHADOW_WAITS}}, 1, DS_SHADOW_R_MAP},
		{"no thread that waits", {{REGION, 0, 1, DS_SHADOW_WAITS}}, 1, DS_SHADOW_R_MAP},
		{"a wake-up with a frame", {{REGION, 1, 1, DS_SHADOW_WAKE}}, 1, DS_SHADOW_R_RUN_RAM},
		{"a page beyond the RAM", {{REGION, RAM_PAGES, 1, 3}}, 1, DS_SHADOW_R_RUN_RAM},
		{"a segment that ends beyond the RAM", {{REGION, RAM_PAGES - 1, 2, 3}}, 1, DS_SHADOW_R_RUN_RAM},
		{"a hole with a frame", {{REGION, 1, 1, 0}}, 1, DS_SHADOW_R_RUN_RAM},
		{"a segment beyond the user half", {{0x7fffffffe, 1, 4, 3}}, 1, DS_SHADOW_R_RUN_HIGH},
		{"a segment below vm.mmap_min_addr", {{0, 1, 1, 3}}, 1, DS_SHADOW_R_RUN_LOW},
	};
	struct {
		struct ds_shadow_map map;
		struct ds_shadow_seg seg[2];
	} m;
	union host_message answer;
	struct ds_shadow_boot boot;
	int fds[4], kind;

	begin(1, 100, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (bad[i].reason == DS_SHADOW_R_RUN_LOW && !host_sysctl("/proc/sys/vm/mmap_min_addr"))
			continue;
		m.map = (struct ds_shadow_map){.head = host_head(&dh.h, DS_SHADOW_MAP, sizeof(m.map) + bad[i].nsegs * sizeof(m.seg[0])),
					       .nsegs = bad[i].nsegs};
		memcpy(m.seg, bad[i].seg, sizeof(m.seg));
		host_send(&dh.h, &m, m.map.head.bytes, NULL, 0);
		kind = host_receive(&dh.h, &answer, HOST_TIMEOUT_MS);
		if (!tap_ok(kind == DS_SHADOW_REFUSED && dh.h.refused.reason == bad[i].reason, "refused: %s", bad[i].what))
			printf("# kind %d, reason %u\n", kind, dh.h.refused.reason);
	}
	/* not in the guest's mappings: neither mapped nor refused */
	m.map = (struct ds_shadow_map){.head = host_head(&dh.h, DS_SHADOW_MAP, sizeof(m.map) + sizeof(m.seg[0])), .nsegs = 1};
	m.seg[0] = (struct ds_shadow_seg){dh.h.status.capsule.vpn, 1, 1, 3};
	host_send(&dh.h, &m, m.map.head.bytes, NULL, 0);
	tap_eq(call(CALLS_FETCH, address(REGION), 0, 0), 0, "a MAP over the capsule itself maps nothing, and all goes on");
	mirror_is_right("after them");
	dh_end();

	host_exec(&dh.h, "calls");
	boot = host_boot(&dh.h, "calls", 1);
	boot.mode = DS_SHADOW_DEMAND;
	fds[0] = dh.h.ram_fd, fds[1] = dh.h.ram_ro_fd, fds[2] = host_data(NULL, 0, NULL, 0, &boot.data), fds[3] = open("/dev/null", O_RDWR);
	host_send(&dh.h, &boot, sizeof(boot), fds, 4);
	kind = host_receive(&dh.h, &answer, HOST_TIMEOUT_MS);
	tap_ok(kind == DS_SHADOW_REFUSED && dh.h.refused.reason == DS_SHADOW_R_KERNEL && dh.h.refused.err == -ENOTTY,
	       "a descriptor that is not /dev/userfaultfd's is refused, with the kernel's reason");
	host_end(&dh.h);
	host_exec(&dh.h, "calls");
	boot.head.seq = ++dh.h.seq;
	host_send(&dh.h, &boot, sizeof(boot), fds, 3);
	kind = host_receive(&dh.h, &answer, HOST_TIMEOUT_MS);
	tap_ok(kind == DS_SHADOW_REFUSED && dh.h.refused.reason == DS_SHADOW_R_FDS && dh.h.refused.value == 4, "and so is its absence");
	host_end(&dh.h);
	close(fds[2]);
	close(fds[3]);
	host_free(&dh.h);
}

/* --- system calls on addresses that fault ------------------------------------------------------------------------- */

static int64_t syscall_at(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return dh_call(0, (struct calls_request){.op = CALLS_SYSCALL, .nr = nr, .args = {a, b, c, d}});
}

static void test_syscalls(void)
{
	static char data[3 * PAGE], back[3 * PAGE];
	const struct timespec soon = {0, 1000000};
	uint32_t word;
	bool good;

	make_pipe();
	begin(1, 1000, 0);
	for (unsigned int i = 0; i < 1000; i++) /* so that what a call wrote is told from what was there */
		dh.regions[0].pages[i].pfn = i;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 4096);
	if (write(pipe_fds[1], data, sizeof(data)) != (ssize_t)sizeof(data))
		err(2, "write");
	tap_eq(syscall_at(SYS_read, (uint64_t)pipe_fds[0], address(REGION + 100) + 2000, sizeof(data), 0), (int64_t)sizeof(data),
	       "read() into four pages that are not there yet");
	good = true;
	for (size_t i = 0; i < sizeof(data); i++)
		good &= ram_of(100 + (2000 + i) / PAGE)[(2000 + i) % PAGE] == (uint8_t)data[i];
	tap_ok(good, "the bytes are in the guest's memory");
	for (size_t i = 0; i < sizeof(data); i++)
		ram_of(200 + (100 + i) / PAGE)[(100 + i) % PAGE] = (uint8_t)data[i];
	tap_eq(syscall_at(SYS_write, (uint64_t)pipe_fds[1], address(REGION + 200) + 100, sizeof(data), 0), (int64_t)sizeof(data),
	       "write() from pages that are not there yet");
	tap_ok(read(pipe_fds[0], back, sizeof(back)) == (ssize_t)sizeof(back) && !memcmp(back, data, sizeof(back)), "the bytes are right");
	word = (uint32_t)host_word(300);
	tap_eq(syscall_at(SYS_futex, address(REGION + 300), FUTEX_WAIT, word + 1, 0), -EAGAIN, "a shared futex word is read there");
	tap_eq(syscall_at(SYS_futex, address(REGION + 330), FUTEX_WAIT_PRIVATE, 1, 0), -EAGAIN, "and a private one");
	memcpy(ram_of(400) + 8, &soon, sizeof(soon));
	tap_eq(syscall_at(SYS_nanosleep, address(REGION + 400) + 8, 0, 0, 0), 0, "nanosleep() finds its time there");
	dh.regions[0].pages[501].attr = 0;
	tap_eq(syscall_at(SYS_write, (uint64_t)pipe_fds[1], address(REGION + 501), 100, 0), -EFAULT, "a page that the guest has not is EFAULT");
	tap_eq(syscall_at(SYS_write, (uint64_t)pipe_fds[1], address(REGION + 1000), 100, 0), -EFAULT, "so is memory of nobody");
	dh.regions[0].pages[600].attr = RLE_ATTR_READ;
	tap_eq(call(CALLS_FETCH, address(REGION + 600), 0, 0), 0, "a page that may only be read is read");
	tap_eq(call(CALLS_PUT, address(REGION + 600), 1, 0), -EFAULT, "and not written");
	tap_eq(call(CALLS_PUT, address(REGION + 700), 77, 0), 0, "one that may be is");
	tap_eq(*(uint64_t *)ram_of(700), 77, "in the guest");
	host_message(&dh.h, 0, &(struct calls_request){.op = CALLS_LOAD, .args = {address(REGION + 501)}}, sizeof(struct calls_request));
	while (!dh.ended)
		dh_round(100);
	tap_ok(dh.ended == DS_SHADOW_FAULT && dh.fault.address == address(REGION + 501) && dh.fault.signal == SIGSEGV,
	       "a plain access to a page that the guest has not ends the shadow");
	dh_end();
	host_free(&dh.h);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* --- updates ----------------------------------------------------------------------------------------------------- */

static void test_update_waits(void)
{
	struct calls_request fetch = {.op = CALLS_FETCH, .args = {address(REGION + 5)}};
	const struct ds_shadow_range mapped = {REGION + 50, 1};
	struct ds_shadow_update update;
	struct ds_shadow_range ranges[DH_REGIONS];
	uint64_t n;
	uint32_t before, answered;
	int fd;

	begin(2, 100, 0);
	call(CALLS_FETCH, address(REGION + 50), 0, 0);
	dh.held = 1;
	answered = dh_calls_seq;
	host_message(&dh.h, 0, &fetch, sizeof(fetch));
	while (!dh.nasks)
		dh_round(10);
	populate(dh_region(REGION + 100, 100), 0); /* adjacent: one mapping to the kernel */
	n = dh_ranges(ranges);
	update = (struct ds_shadow_update){.head = host_head(&dh.h, DS_SHADOW_UPDATE, sizeof(update))};
	fd = host_data(NULL, 0, ranges, n, &update.data);
	demand_update_begin(dh.d, ranges, n);
	before = dh.done;
	host_send(&dh.h, &update, sizeof(update), &fd, 1);
	close(fd);
	dh.drop_done = demand_drop(dh.d, &mapped, 1) == 1;
	for (int i = 0; i < 20; i++)
		dh_round(5);
	tap_ok(!dh.drop_done, "a drop that comes meanwhile waits for the update");
	tap_ok(dh.done == before && dh_calls_seq == answered, "an update waits for an executor that waits for a page");
	dh.held = 0;
	tap_ok(dh_until(&dh.done, before), "and is made when the page has come");
	demand_update_end(dh.d, true);
	for (int i = 0; i < 100 && !dh.drop_done; i++)
		dh_round(10);
	tap_ok(dh.drop_done, "then the drop");
	demand_drop_end(dh.d);
	dh_until(&dh_calls_seq, answered);
	tap_eq(dh_calls_answer.result, 0, "which the executor has got");
	tap_eq(call(CALLS_FETCH, address(REGION + 199), 0, 0), 0, "pages of the new mapping are there");
	dh.regions[0].unmapped = true;
	tap_ok(dh_update(), "a mapping goes");
	tap_eq(call(CALLS_FETCH, address(REGION + 5), 0, 0), -EFAULT, "its pages are gone");
	dh.regions[0].unmapped = false;
	tap_ok(dh_update(), "and comes again");
	dh.regions[0].pages[5].pfn ^= 1;
	tap_eq(call(CALLS_FETCH, address(REGION + 5), 0, 0), 0, "with pages that are asked for anew");
	tap_ok(*(uint64_t *)dh_calls_answer.bytes == host_word(dh.regions[0].pages[5].pfn), "and are those of now");
	mirror_is_right("after updates");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

/* --- more pages than mappings ------------------------------------------------------------------------------------ */

/* Touches @npages pages of region 0, @stride apart, @step with one request.  Return: how many requests were wrong. */
static unsigned int touch_all(uint64_t npages, uint64_t stride, uint64_t step, uint64_t *most)
{
	unsigned int wrong = 0;

	for (uint64_t k = 0; k < npages && !dh.ended; k += step) {
		uint64_t want = 0, n = k + step < npages ? step : npages - k;

		for (uint64_t i = 0; i < n; i++)
			want ^= host_word(dh.regions[0].pages[(k + i) * stride].pfn);
		wrong += call(CALLS_TOUCH, address(REGION + k * stride), n, stride) != (int64_t)want;
		if (demand_stat(dh.d).vmas > *most)
			*most = demand_stat(dh.d).vmas;
	}
	return wrong;
}

static void test_few_mappings(void)
{
	uint64_t most = 0, limit = 1000, asks;

	host_ram(&dh.h, RAM_PAGES);
	populate(dh_region(REGION, 20000), 0);
	if (dh_start("calls", 1, limit) != DS_SHADOW_STATUS)
		errx(2, "no capsule");
	tap_eq(touch_all(5000, 4, 10, &most), 0, "5000 scattered pages through %" PRIu64 " mappings: each is right", limit);
	tap_ok(most <= limit && most > limit / 2, "there are never more (%" PRIu64 ")", most);
	tap_ok(demand_stat(dh.d).evicted_pages > 3000, "pages are evicted (%" PRIu64 ")", demand_stat(dh.d).evicted_pages);
	asks = demand_stat(dh.d).asks;
	tap_eq(touch_all(5000, 4, 10, &most), 0, "a second time");
	tap_eq(demand_stat(dh.d).asks, asks, "without a question to the guest");
	tap_eq(touch_all(20000, 1, 100, &most), 0, "20000 pages in sequence");
	tap_ok(most <= limit, "never more mappings (%" PRIu64 ")", most);
	mirror_is_right("after evictions");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

static void test_many_pages(void)
{
	const uint64_t limit = host_sysctl("/proc/sys/vm/max_map_count"), npages = 40000;
	uint64_t most = 0;

	if (limit > 70000) {
		tap_skip("more pages than vm.max_map_count allows mappings", "the limit is raised here");
		return;
	}
	begin(1, 2 * npages, 0);
	tap_eq(touch_all(npages, 2, 16, &most), 0, "%" PRIu64 " scattered pages, %" PRIu64 " mappings, beyond vm.max_map_count (%" PRIu64 ")",
	       npages, 2 * npages, limit);
	tap_ok(most < limit && demand_stat(dh.d).evicted_pages, "by eviction (%" PRIu64 " pages, %" PRIu64 " mappings at most)",
	       demand_stat(dh.d).evicted_pages, most);
	mirror_is_right("near the kernel's limit");
	tap_eq(dh_end(), 0, "the shadow ends");
	host_free(&dh.h);
}

int main(void)
{
	host_random_state = 4711;
	if (access("/dev/userfaultfd", R_OK | W_OK)) {
		tap_skip("a mirror that faults", "no access to /dev/userfaultfd (Linux 6.1, root)");
		return tap_done();
	}
	test_pages();
	test_refusals();
	test_syscalls();
	test_update_waits();
	test_few_mappings();
	test_many_pages();
	return tap_done();
}
