/* forwardcall - how long system calls on a file take: medians
 *
 * usage: forwardcall FILE COUNT     FILE has 1 MiB
 *
 * Prints "NAME NANOSECONDS" for: seek, an lseek() that changes nothing, one after the other; rested, the same after 3 ms without
 * calls, so that whoever serves it sleeps; pread4k and pread1m, reads of what is in the page cache; open, an open() and close().  Run it
 * with and without dsrun, on files of both sides (tests/bench/forward_vm).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/median.h"

#define MB (1 << 20)

static int fd;
static const char *path;
static char *buffer;

static int seek(void)
{
	return lseek(fd, 0, SEEK_CUR) != 0;
}

static int pread4k(void)
{
	return pread(fd, buffer, 4096, 8192) != 4096;
}

static int pread1m(void)
{
	return pread(fd, buffer, MB, 0) != MB;
}

static int open_close(void)
{
	const int other = open(path, O_RDONLY);

	return other < 0 || close(other);
}

static int measure(const char *name, int (*call)(void), int count, int rest_us)
{
	double *took = calloc((size_t)count, sizeof(*took));

	if (!took)
		return 2;
	for (int i = -count / 10 - 1; i < count; i++) { /* the first ones do not count */
		double start;

		if (rest_us)
			usleep((useconds_t)rest_us);
		start = bench_now_ns();
		if (call()) {
			perror(name);
			free(took);
			return 2;
		}
		if (i >= 0)
			took[i] = bench_now_ns() - start;
	}
	printf("%s %.0f\n", name, bench_median(took, (size_t)count));
	free(took);
	return 0;
}

int main(int argc, char **argv)
{
	const int count = argc == 3 ? atoi(argv[2]) : 0;

	if (count < 10) {
		fputs("usage: forwardcall FILE COUNT\n", stderr);
		return 1;
	}
	path = argv[1];
	fd = open(path, O_RDONLY);
	buffer = aligned_alloc(4096, MB);
	if (fd < 0 || !buffer) {
		perror(path);
		return 2;
	}
	for (int i = 0; i < MB; i += 4096)
		buffer[i] = 1;
	return measure("seek", seek, count, 0) | measure("rested", seek, count / 10, 3000) | measure("pread4k", pread4k, count, 0) |
	       measure("pread1m", pread1m, count / 10, 0) | measure("open", open_close, count / 2, 0);
}
