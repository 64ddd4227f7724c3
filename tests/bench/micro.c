/* micro.c - costs that are too small for a whole program: a tiny process, and the join over many processes
 *
 * usage: micro tiny PID     one process, 2000 times in turns: the bare opens and reads against the reader of rle/
 *        micro join         all processes with every page joined: answers remembered over the snapshot against
 *                           forgotten after each process, as joins process by process would
 * Prints "WHAT baseline-us ours-us ratio", medians.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rle/proc.h"
#include "rle/stats.h"
#include "tests/bench/median.h"

#define TURNS 2000

static struct rle_stats stats;
static char buf[65536];
static uint64_t words[8192];

static int count_run(void *ctx, const struct rle_run *run, enum rle_end end)
{
	(void)ctx, (void)end;
	rle_stats_run(&stats, run);
	return 0;
}

static size_t read_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY);
	size_t have = 0;
	ssize_t got;

	while (fd >= 0 && have < sizeof(buf) - 1 && (got = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0)
		have += got;
	buf[have] = 0;
	if (fd >= 0)
		close(fd);
	return have;
}

/* What cannot be done without: who it is (stat, status, cgroup), its mappings, their words. */
static void bare(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	int dir = open(path, O_PATH | O_DIRECTORY), pagemap;

	read_file(dir, "stat");
	read_file(dir, "status");
	read_file(dir, "cgroup");
	pagemap = openat(dir, "pagemap", O_RDONLY);
	read_file(dir, "maps");
	for (char *line = buf; *line; line = strchr(line, '\n') + 1) {
		char *at;
		unsigned long from = strtoul(line, &at, 16), to = strtoul(at + 1, NULL, 16);

		for (unsigned long vpn = from / 4096; !(from >> 47) && vpn < to / 4096; vpn += 8192)
			if (pread(pagemap, words, (to / 4096 - vpn < 8192 ? to / 4096 - vpn : 8192) * 8, vpn * 8) < 8)
				break;
	}
	close(pagemap);
	close(dir);
}

static bool ours(struct rle_src *src, pid_t pid)
{
	struct rle_proc_status st;
	struct rle_proc p;
	struct rle_enc e;
	char cgroup[4096];

	if (rle_proc_open(&p, src, pid))
		return false;
	bool ok = !p.kthread && !rle_proc_status(&p, &st) && !rle_proc_cgroup(&p, cgroup, sizeof(cgroup));

	rle_stats_reset(&stats);
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, count_run, NULL, &src->frames);
	ok = ok && !rle_proc_scan(&p, &e, NULL);
	rle_stats_finish(&stats);
	rle_proc_close(&p);
	return ok;
}

static void tell(const char *what, double *bare_us, double *ours_us, size_t n)
{
	const double a = bench_median(bare_us, n), b = bench_median(ours_us, n);

	printf("%s %.1f %.1f %.2f\n", what, a, b, b / a);
}

static void tiny(struct rle_src *src, pid_t pid)
{
	static double a[TURNS], b[TURNS];

	for (int i = 0; i < TURNS; i++) {
		double t0 = bench_now_us(), t1, t2;

		bare(pid);
		t1 = bench_now_us();
		if (!ours(src, pid))
			exit(2);
		t2 = bench_now_us();
		a[i] = t1 - t0;
		b[i] = t2 - t1;
	}
	tell("tiny", a, b, TURNS);
}

static double join_all(struct rle_src *src, const pid_t *pids, ssize_t n, bool forget)
{
	double t = 0;

	rle_src_snapshot(src);
	for (ssize_t i = 0; i < n; i++) {
		if (forget)
			rle_src_snapshot(src);
		double t0 = bench_now_us();

		ours(src, pids[i]);
		t += bench_now_us() - t0;
	}
	return t;
}

static void join(struct rle_src *src)
{
	double a[5], b[5];
	pid_t *pids;
	ssize_t n = rle_proc_list(src, &pids);

	for (int i = 0; i < 5; i++) {
		a[i] = join_all(src, pids, n, true);
		b[i] = join_all(src, pids, n, false);
	}
	tell("join", a, b, 5);
	free(pids);
}

int main(int argc, char **argv)
{
	bool is_join = argc == 2 && !strcmp(argv[1], "join");
	struct rle_src src;
	const char *why;

	if (!is_join && (argc != 3 || strcmp(argv[1], "tiny")))
		return fprintf(stderr, "usage: micro tiny PID | micro join\n"), 1;
	if (rle_src_open(&src, NULL, is_join ? RLE_JOIN_FULL : RLE_JOIN_NONE, &why))
		return fprintf(stderr, "micro: %s\n", why), 3;
	if (is_join)
		join(&src);
	else
		tiny(&src, atoi(argv[2]));
	rle_src_close(&src);
	return 0;
}
