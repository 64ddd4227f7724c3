/* instantiate.c - what an eager mirror costs to make, beside a bare loop of mmap() over the same runs
 *
 * usage: instantiate ROUNDS RUNS...
 *
 * Runs of one page each, scattered over a RAM file: the worst case, one mapping a page.  "ours" is from the moment BOOT
 * is sent to a capsule until its STATUS is here: reading and checking the map, moving out of the way, mapping.  "bare" is a
 * process that calls mmap() in a loop.  Both take turns.  Prints for each number of runs: RUNS OURS_US BARE_US, medians.
 */
#include "tests/bench/median.h"
#include "tests/capsule_host.h"

#define ROUNDS_MAX 99
#define FIRST_VPN 0x500000000u

static struct rle_run *runs;

/* The first so many runs, mapped as a mirror of its own. */
struct bare {
	int ram_fd;
	size_t n;
};

static double bare(const void *arg)
{
	const struct bare *b = arg;
	const double start = bench_now_us();

	for (size_t i = 0; i < b->n; i++)
		if (mmap((void *)(runs[i].vpn.n * PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, b->ram_fd,
			 (off_t)(runs[i].pfn.n * PAGE)) == MAP_FAILED)
			err(2, "mmap of run %zu", i);
	return bench_now_us() - start;
}

static double ours(struct host *h, size_t n)
{
	struct ds_shadow_boot boot;
	double start;
	int fd;

	host_exec(h, "checksum");
	boot = host_boot(h, "checksum", 1);
	fd = host_data(runs, n, NULL, 0, &boot.data);
	start = bench_now_us();
	if (host_boot_send(h, &boot, fd) != DS_SHADOW_STATUS)
		errx(2, "refused: reason %u, err %d", h->refused.reason, h->refused.err);
	start = bench_now_us() - start;
	host_end(h);
	return start;
}

int main(int argc, char **argv)
{
	double a[ROUNDS_MAX], b[ROUNDS_MAX];
	const int rounds = argc > 2 ? atoi(argv[1]) : 0;
	struct host h;

	if (rounds < 1 || rounds > ROUNDS_MAX)
		errx(1, "usage: instantiate ROUNDS RUNS...");
	host_ram(&h, 1 << 18);
	for (int k = 2; k < argc; k++) {
		const size_t n = strtoul(argv[k], NULL, 0);

		runs = calloc(n, sizeof(*runs));
		if (!runs)
			err(2, "no memory");
		for (size_t i = 0; i < n; i++)
			runs[i] = (struct rle_run){{FIRST_VPN + i}, {i * 7919 % h.ram_pages}, 1, RW};
		for (int r = 0; r < rounds; r++) {
			a[r] = ours(&h, n);
			b[r] = bench_in_child(bare, &(struct bare){h.ram_fd, n});
		}
		printf("%zu %.0f %.0f\n", n, bench_median(a, (size_t)rounds), bench_median(b, (size_t)rounds));
		free(runs);
	}
	host_free(&h);
	return 0;
}
