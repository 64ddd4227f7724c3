/* forwardtree - how long opens and stats of many files take, on average
 *
 * usage: forwardtree DIR N       makes nothing: DIR has files named 0 to N - 1
 *
 * Prints "stat NANOSECONDS", each file asked for once, in an order in which neighbours are not neighbours, and "opens NANOSECONDS": open() and
 * close().  tests/bench/forward_peers has it run on directories that come in different ways.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STRIDE 7919u /* a prime: every file comes once */

static const char *dir;

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static int one_stat(const char *path)
{
	struct stat st;

	return stat(path, &st);
}

static int one_open(const char *path)
{
	const int fd = open(path, O_RDONLY);

	return fd < 0 || close(fd);
}

static int each(const char *name, int (*call)(const char *), uint32_t n)
{
	const int64_t start = now_ns();

	for (uint32_t i = 0; i < n; i++) {
		char path[512];

		snprintf(path, sizeof(path), "%s/%u", dir, (uint32_t)((uint64_t)i * STRIDE % n));
		if (call(path)) {
			perror(path);
			return 2;
		}
	}
	printf("%s %lld\n", name, (long long)((now_ns() - start) / n));
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	const uint32_t n = argc == 3 ? (uint32_t)atoi(argv[2]) : 0;

	if (!n || n % STRIDE == 0) {
		fputs("usage: forwardtree DIR N\n", stderr);
		return 1;
	}
	dir = argv[1];
	return each("stat", one_stat, n) | each("opens", one_open, n);
}
