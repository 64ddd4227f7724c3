/* demand.c - what a mirror that faults costs on the host, beside a bare userfaultfd and beside an eager mirror
 *
 * usage: demand fault ROUNDS | sequential ROUNDS PAGES-A-RUN | first ROUNDS PAGES-A-RUN
 *
 * The guest is played in this process and answers at once, so that the host alone is measured.
 *
 *   fault       touches pages far apart, a mapping each, whose frames are known.  Prints: GUARDED_US UNGUARDED_US BARE_US, a touch.  "guarded" is the
 *		 shadow as it runs, in its jail, each mmap() reported to this process.  "bare" is a process whose second
 *		 thread reads its userfaultfd, maps the page from the same file and wakes.
 *   sequential  64 MB, page after page, once.  Prints: GUARDED_US UNGUARDED_US EAGER_US, a page, from BOOT to the last
 *		 page's touch; eager is guarded too, which costs it nothing, as its mirror stands before the guard.
 *   first       600 MB, of which one page is touched.  Prints: GUARDED_MS UNGUARDED_MS EAGER_MS, from BOOT to the touch.
 *
 * Medians; all take turns.  PAGES-A-RUN: so many pages in a row have frames in a row.
 */
#include <pthread.h>

#include "tests/bench/median.h"
#include "tests/demand_host.h"

#define FAULTS 2000u
#define STRIDE 64u /* further than any window reaches */
#define BASE UINT64_C(0x7f0000000)
#define ROUNDS_MAX 99
#define SEQUENTIAL_PAGES 16384u
#define FIRST_PAGES 153600u

/* --- bare -------------------------------------------------------------------------------------------------------- */

static int bare_uffd, bare_ram;

static void *bare_handler(void *area)
{
	for (;;) {
		struct pollfd p = {.fd = bare_uffd, .events = POLLIN};
		struct uffdio_range range;
		struct uffd_msg msg;

		poll(&p, 1, -1);
		if (read(bare_uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		range = (struct uffdio_range){msg.arg.pagefault.address & ~(PAGE - 1), PAGE};
		if (mmap((void *)range.start, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, bare_ram,
			 (off_t)((range.start - (uint64_t)area) / STRIDE)) == MAP_FAILED)
			err(2, "mmap");
		ioctl(bare_uffd, UFFDIO_WAKE, &range);
	}
	return NULL;
}

static double bare_fault(const void *arg)
{
	const struct host *h = arg;
	const size_t bytes = (size_t)FAULTS * STRIDE * PAGE;
	const int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	char *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct uffdio_register reg = {.range = {(uint64_t)area, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_api api = {.api = UFFD_API};
	uint64_t sum = 0;
	pthread_t t;
	double took;

	bare_ram = h->ram_fd;
	bare_uffd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (bare_uffd < 0 || ioctl(bare_uffd, UFFDIO_API, &api) || ioctl(bare_uffd, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&t, NULL, bare_handler, area))
		err(2, "userfaultfd");
	took = bench_now_us();
	for (uint64_t i = 0; i < FAULTS; i++)
		sum ^= *(volatile uint64_t *)(area + i * STRIDE * PAGE);
	took = (bench_now_us() - took) / FAULTS;
	if (!sum)
		err(2, "nothing was there");
	return took;
}

/* --- ours -------------------------------------------------------------------------------------------------------- */

static struct dh_region *pages_of(uint64_t npages, uint64_t a_run, uint64_t ram_pages)
{
	struct dh_region *r = dh_region(BASE, npages);

	/* runs from the end of the RAM backwards: no two of them join */
	for (uint64_t i = 0; i < npages; i++)
		r->pages[i] = (struct dh_page){(uint32_t)(ram_pages - (i / a_run + 1) * a_run + i % a_run), RW};
	return r;
}

/* One request to touch; it was sent when this returns the time that it took by the service's own clock. */
static double touch_us(uint64_t npages, uint64_t stride)
{
	uint64_t took_ns;

	if (dh_call(0, (struct calls_request){.op = CALLS_TOUCH, .args = {BASE * PAGE, npages, stride}}) == INT64_MIN)
		errx(2, "no answer: ended by %d", dh.ended);
	memcpy(&took_ns, dh_calls_answer.bytes, sizeof(took_ns));
	return (double)took_ns / 1e3;
}

static double fault(bool guarded)
{
	static struct rle_run runs[FAULTS];
	struct rle_map map;
	double took;
	void *blob;

	dh_region(BASE, (uint64_t)FAULTS * STRIDE);
	for (uint64_t i = 0; i < FAULTS; i++)
		runs[i] = (struct rle_run){{BASE + i * STRIDE}, {i}, 1, RW};
	dh.guarded = guarded;
	if (dh_start("calls", 1, 0) != DS_SHADOW_STATUS)
		errx(2, "no capsule: reason %u err %d index %" PRIu64, dh.h.refused.reason, dh.h.refused.err, dh.h.refused.index);
	blob = guarded_map(runs, FAULTS, &map);
	if (demand_known(dh.d, &map))
		errx(2, "demand_known");
	free(blob);
	took = touch_us(FAULTS, STRIDE) / FAULTS;
	dh_end();
	return took;
}

/* From BOOT to the last of @touched pages. */
static double demand_us(uint64_t npages, uint64_t a_run, uint64_t touched, bool guarded)
{
	double took;

	pages_of(npages, a_run, dh.h.ram_pages);
	dh.guarded = guarded;
	took = bench_now_us();
	if (dh_start("calls", 1, 0) != DS_SHADOW_STATUS)
		errx(2, "no capsule: reason %u err %d index %" PRIu64, dh.h.refused.reason, dh.h.refused.err, dh.h.refused.index);
	touch_us(touched, 1);
	took = bench_now_us() - took;
	dh_end();
	return took;
}

static double eager_us(uint64_t npages, uint64_t a_run, uint64_t touched)
{
	struct rle_run *runs = calloc(npages / a_run, sizeof(*runs));
	const struct filter_want want = {0};
	struct calls_request r = {.op = CALLS_TOUCH, .args = {BASE * PAGE, touched, 1}};
	struct jail_params p = {.threads = 2};
	union host_message m;
	double took;
	size_t n;

	for (n = 0; n < npages / a_run; n++)
		runs[n] = (struct rle_run){{BASE + n * a_run}, {dh.h.ram_pages - (n + 1) * a_run}, (uint32_t)a_run, RW};
	memset(&dh.g, 0, sizeof(dh.g));
	dh.g.h = dh.h;
	took = bench_now_us();
	if (guarded_spawn(&dh.g, "calls", &want, &p) || guarded_boot(&dh.g, "calls", 1, runs, n) != DS_SHADOW_STATUS)
		errx(2, "no eager capsule: reason %u", dh.g.h.refused.reason);
	host_message(&dh.g.h, 0, &r, sizeof(r));
	if (guarded_receive(&dh.g, &m, HOST_TIMEOUT_MS) != DS_SHADOW_MESSAGE)
		errx(2, "no answer of the eager capsule");
	took = bench_now_us() - took;
	guarded_end(&dh.g);
	free(runs);
	return took;
}

int main(int argc, char **argv)
{
	static double v[3][ROUNDS_MAX];
	const char *what = argc > 1 ? argv[1] : "";
	const uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 0, a_run = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
	const bool is_fault = !strcmp(what, "fault"), is_first = !strcmp(what, "first");
	const uint64_t npages = is_fault ? (uint64_t)FAULTS * STRIDE : is_first ? FIRST_PAGES : SEQUENTIAL_PAGES;
	const uint64_t touched = is_first ? 1 : npages;
	const double unit = is_first ? 1000 : is_fault ? 1 : (double)npages;

	if ((!is_fault && !is_first && strcmp(what, "sequential") != 0) || !rounds || rounds > ROUNDS_MAX || !a_run || npages % a_run) {
		fprintf(stderr, "usage: demand fault ROUNDS | sequential ROUNDS PAGES-A-RUN | first ROUNDS PAGES-A-RUN\n");
		return 1;
	}
	host_ram(&dh.h, npages);
	for (uint64_t i = 0; i < rounds; i++) {
		v[0][i] = is_fault ? fault(true) : demand_us(npages, a_run, touched, true);
		v[1][i] = is_fault ? fault(false) : demand_us(npages, a_run, touched, false);
		v[2][i] = is_fault ? bench_in_child(bare_fault, &dh.h) : eager_us(npages, a_run, touched);
	}
	printf("%.2f %.2f %.2f\n", bench_median(v[0], rounds) / unit, bench_median(v[1], rounds) / unit, bench_median(v[2], rounds) / unit);
	return 0;
}
