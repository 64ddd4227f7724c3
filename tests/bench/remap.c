/* remap.c - a bare loop of mmap() over the mappings that a process has of one file
 *
 * usage: remap PID ADDRESS ROUNDS
 *
 * The file is the one mapped at ADDRESS (hexadecimal).  Every mapping of it is made again in a child, at the same addresses,
 * once a round.  Prints: MAPPINGS PAGES MEDIAN-US.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/median.h"

#define MAPPINGS_MAX 70000
#define ROUNDS_MAX 99

static struct {
	uint64_t from, to, offset;
	int prot;
} map[MAPPINGS_MAX];
static size_t nmaps;

/* Fills map[] with what has the inode that is mapped at @address.  Return: a descriptor of that file. */
static int read_maps(const char *pid, uint64_t address)
{
	char path[128], line[4200], prot[8], dev[16];
	uint64_t from, to, offset, inode, wanted = 0;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	for (int pass = 0; pass < 2; pass++) {
		FILE *f = fopen(path, "r");

		if (!f)
			err(2, "%s", path);
		while (fgets(line, sizeof(line), f)) {
			if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %15s %" SCNu64, &from, &to, prot, &offset, dev, &inode) != 6)
				continue;
			if (!pass && from <= address && address < to) {
				char name[128];

				wanted = inode;
				snprintf(name, sizeof(name), "/proc/%s/map_files/%" PRIx64 "-%" PRIx64, pid, from, to);
				fd = open(name, O_RDWR | O_CLOEXEC);
			}
			if (pass && inode == wanted && nmaps < MAPPINGS_MAX) {
				map[nmaps].prot = (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0);
				map[nmaps].from = from;
				map[nmaps].to = to;
				map[nmaps++].offset = offset;
			}
		}
		fclose(f);
	}
	if (fd < 0)
		err(2, "nothing that can be opened is mapped at %" PRIx64, address);
	return fd;
}

static double once(const void *arg)
{
	const int fd = *(const int *)arg;
	const double start = bench_now_us();

	for (size_t i = 0; i < nmaps; i++)
		if (mmap((void *)map[i].from, map[i].to - map[i].from, map[i].prot, MAP_SHARED | MAP_FIXED_NOREPLACE, fd,
			 (off_t)map[i].offset) == MAP_FAILED)
			map[i].from = 0; /* what this program itself has there is left out: a handful at most */
	return bench_now_us() - start;
}

int main(int argc, char **argv)
{
	const int rounds = argc == 4 ? atoi(argv[3]) : 0;
	double took[ROUNDS_MAX];
	uint64_t pages = 0;
	int fd;

	if (rounds < 1 || rounds > ROUNDS_MAX)
		errx(1, "usage: remap PID ADDRESS ROUNDS");
	fd = read_maps(argv[1], strtoull(argv[2], NULL, 16));
	for (size_t i = 0; i < nmaps; i++)
		pages += (map[i].to - map[i].from) / 4096;
	for (int r = 0; r < rounds; r++)
		took[r] = bench_in_child(once, &fd);
	printf("%zu %" PRIu64 " %.0f\n", nmaps, pages, bench_median(took, (size_t)rounds));
	close(fd);
	return 0;
}
