/* capsule_demand.c - a mirror that faults, with the real capsule, the host's machine and a guest that is played
 *
 * What a touch should find is told by the guest's page table as the test keeps it (struct dh_page) and by the words that
 * the RAM's pages begin with.
 */
#include <linux/futex.h>

#include "tests/demand_host.h"
#include "tests/tap.h"

#define RAM_PAGES 16384u
#define REGION UINT64_C(0x7f0000000)

static uint64_t address(uint64_t vpn)
{
	return vpn * PAGE;
}

/* Pages of a region with scattered frames, some of them without. */
static void populate(struct dh_region *r, unsigned int holes)
{
	for (uint64_t i = 0; i < r->npages; i++)
		r->pages[i] = (struct dh_page){(uint32_t)host_random(RAM_PAGES), holes && host_random(holes) == 0 ? 0 : RW};
}

static void begin(uint32_t nexecutors, uint64_t npages, unsigned int holes)
{
	host_ram(&dh.h, RAM_PAGES);
	populate(dh_region(REGION, npages), holes);
	if (dh_start("calls", nexecutors, 0) != DS_SHADOW_STATUS)
		errx(2, "no capsule: reason %u err %d", dh.h.refused.reason, dh.h.refused.err);
}

static int64_t call(uint32_t op, uint64_t a, uint64_t b, uint64_t c)
{
	return dh_call(0, (struct calls_request){.op = op, .args = {a, b, c}});
}

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

int main(void)
{
	host_random_state = 4711;
	if (access("/dev/userfaultfd", R_OK | W_OK)) {
		tap_skip("a mirror that faults", "no access to /dev/userfaultfd (Linux 6.1, root)");
		return tap_done();
	}
	test_pages();
	return tap_done();
}
