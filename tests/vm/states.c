/* states.c - a process that has page table entries of every kind, each a known number of times
 *
 * usage: states
 * It makes one area a kind, with system calls and stores only, and prints "ready PID" and then KIND=COUNT words
 * (pages of 4 KiB), 0 where this kernel refuses.  Then it waits for the end of its standard input.
 * For a guest: it needs swap, vm.nr_hugepages of 3 and more, root, and it takes pages out of service for good.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul
#define SWAPPED 200
#define MERGED 60
#define HUGE 3
#define ZERO 32
#define MARKED 25
#define POISONED 2

static char *area(size_t npages, int flags)
{
	char *p = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, npages * PAGE, MADV_NOHUGEPAGE);
	return p;
}

/* Pages of different content, so that none of them can be merged, all paged out. */
static int swapped(void)
{
	unsigned char resident[SWAPPED];
	char *p = area(SWAPPED, MAP_PRIVATE);
	int left = SWAPPED;

	for (size_t i = 0; i < SWAPPED; i++)
		*(volatile size_t *)(p + i * PAGE) = i + 1;
	for (int try = 0; try < 100 && left; try++) {
		if (madvise(p, SWAPPED * PAGE, MADV_PAGEOUT))
			return 0;
		usleep(20000);
		if (mincore(p, SWAPPED * PAGE, resident))
			return 0;
		left = 0;
		for (size_t i = 0; i < SWAPPED; i++)
			left += resident[i] & 1;
	}
	return SWAPPED; /* mincore() also says resident of what is still in the swap cache: the entry is a swap entry */
}

static int merged(void)
{
	char *p = area(MERGED, MAP_PRIVATE);

	memset(p, 0x5a, MERGED * PAGE);
	return madvise(p, MERGED * PAGE, MADV_MERGEABLE) ? 0 : MERGED;
}

static int huge(void)
{
	char *p = area(HUGE * 512, MAP_PRIVATE | MAP_HUGETLB);

	if (!p)
		return 0;
	for (size_t i = 0; i < HUGE; i++)
		p[i * 512 * PAGE] = 1;
	return HUGE * 512;
}

static int zero(void)
{
	volatile char *p = area(ZERO, MAP_PRIVATE);

	for (size_t i = 0; i < ZERO; i++)
		(void)p[i * PAGE];
	return ZERO;
}

/* Write protection by userfaultfd of shared memory that was never touched has to be remembered somewhere: in markers. */
static int marked(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
	char *p = area(MARKED, MAP_SHARED);
	struct uffdio_register reg = {.range = {(uintptr_t)p, MARKED * PAGE}, .mode = UFFDIO_REGISTER_MODE_WP};
	struct uffdio_writeprotect wp = {.range = reg.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) || ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		return 0;
	return MARKED; /* fd stays open: closing it would take the markers away */
}

static void on_sigbus(int sig)
{
	(void)sig;
}

static int poisoned(void)
{
	char *p = area(POISONED, MAP_PRIVATE);

	memset(p, 1, POISONED * PAGE);
	signal(SIGBUS, on_sigbus); /* newer kernels tell the process at once, and kill it if it ignores that */
	return madvise(p, POISONED * PAGE, MADV_HWPOISON) ? 0 : POISONED;
}

int main(void)
{
	char c;

	printf("ready %d swapped=%d ksm=%d hugetlb=%d zero=%d marker=%d poisoned=%d\n", getpid(), swapped(), merged(), huge(), zero(), marked(),
	       poisoned());
	fflush(stdout);
	return read(STDIN_FILENO, &c, 1) < 0;
}
