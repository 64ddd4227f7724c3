/* target.c - a process whose page table is known, for measurements
 *
 * usage: target KIND SIZE_MIB [COUNT]
 *   dense    anonymous memory in 4 KiB pages          thp     the same in transparent huge pages
 *   shm      shared anonymous memory, 4 KiB           random  4 KiB pages touched in random order
 *   hugetlb  2 MiB pages of the pool; COUNT children share them
 *   sparse   SIZE_MIB reserved, one page touched in each of COUNT places spread over it
 *   vmas     COUNT mappings of one page
 * Prints "ready PID..." with all PIDs once everything is touched, then waits for the end of its standard input.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define PAGE 4096ul

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static char *map(size_t bytes, int flags)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("target: mmap");
	return p;
}

static void touch(char *p, size_t bytes, size_t step)
{
	for (size_t i = 0; i < bytes; i += step)
		((volatile char *)p)[i] = 1;
}

static void touch_random(char *p, size_t npages)
{
	uint64_t x = 88172645463325252u;
	uint32_t *order = malloc(npages * sizeof(*order));

	if (!order)
		die("target: malloc");
	for (size_t i = 0; i < npages; i++)
		order[i] = i;
	for (size_t i = npages; i-- > 1;) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		size_t j = x % (i + 1);
		uint32_t t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (size_t i = 0; i < npages; i++)
		((volatile char *)p)[order[i] * PAGE] = 1;
	free(order);
}

static void children(char *p, size_t bytes, long count)
{
	for (long i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("target: fork");
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			touch(p, bytes, 512 * PAGE);
			if (write(STDERR_FILENO, "", 1) < 0)
				_exit(1);
			pause();
			_exit(0);
		}
		printf("%d ", pid);
	}
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 2 ? strtoull(argv[2], NULL, 0) << 20 : 0;
	long count = argc > 3 ? atol(argv[3]) : 0;
	const char *kind = argc > 1 ? argv[1] : "";
	char *p, c;

	if (!bytes && strcmp(kind, "vmas"))
		return fprintf(stderr, "usage: target dense|thp|shm|random|hugetlb|sparse|vmas SIZE_MIB [COUNT]\n"), 1;
	printf("ready %d ", getpid());
	if (!strcmp(kind, "dense") || !strcmp(kind, "random")) {
		p = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS);
		madvise(p, bytes, MADV_NOHUGEPAGE);
		if (*kind == 'd')
			touch(p, bytes, PAGE);
		else
			touch_random(p, bytes / PAGE);
	} else if (!strcmp(kind, "thp")) {
		p = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS);
		madvise(p, bytes, MADV_HUGEPAGE);
		touch(p, bytes, PAGE);
	} else if (!strcmp(kind, "shm")) {
		touch(map(bytes, MAP_SHARED | MAP_ANONYMOUS), bytes, PAGE);
	} else if (!strcmp(kind, "hugetlb")) {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (p == MAP_FAILED)
			die("target: mmap of huge pages (is vm.nr_hugepages large enough?)");
		touch(p, bytes, 512 * PAGE);
		children(p, bytes, count);
	} else if (!strcmp(kind, "sparse")) {
		p = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS);
		madvise(p, bytes, MADV_NOHUGEPAGE);
		touch(p, bytes, bytes / (count > 0 ? count : 1) / PAGE * PAGE);
	} else if (!strcmp(kind, "vmas")) {
		for (long i = 0; i < count; i++)
			mprotect(map(2 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS), PAGE, PROT_READ);
	} else {
		return fprintf(stderr, "target: unknown kind %s\n", kind), 1;
	}
	putchar('\n');
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}
