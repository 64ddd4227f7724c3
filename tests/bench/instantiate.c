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

/* In a child, as a mirror of its own. */
static double bare(const struct host *h, size_t n)
{
	int pair[2];
	double took;
	pid_t child;

	if (pipe(pair))
		err(2, "pipe");
	child = fork();
	if (!child) {
		const double start = bench_now_us();

		for (size_t i = 0; i < n; i++)
			if (mmap((void *)(runs[i].vpn.n * PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, h->ram_fd,
				 (off_t)(runs[i].pfn.n * PAGE)) == MAP_FAILED)
				err(2, "mmap of run %zu", i);
		took = bench_now_us() - start;
		_exit(write(pair[1], &took, sizeof(took)) != sizeof(took));
	}
	close(pair[1]);
	if (read(pair[0], &took, sizeof(took)) != sizeof(took))
		errx(2, "the bare loop failed");
	close(pair[0]);
	waitpid(child, NULL, 0);
	return took;
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
			b[r] = bare(&h, n);
		}
		printf("%zu %.0f %.0f\n", n, bench_median(a, (size_t)rounds), bench_median(b, (size_t)rounds));
		free(runs);
	}
	host_free(&h);
	return 0;
}
