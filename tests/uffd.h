/* uffd.h - a process with memory that faults, and who answers the faults: for tests/kernel/demand_*.c
 *
 * In each child one page range is registered with a userfaultfd made from /dev/userfaultfd; a thread (or the parent process)
 * plays who answers faults: it maps a page of a memfd over the place and wakes.  Page i of the memfd begins with i + 1.
 */
#ifndef TESTS_UFFD_H
#define TESTS_UFFD_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/in_child.h"

#define PAGE 4096ul
#define PAGES 64ul
#define SECONDS 10

static char *area;	  /* PAGES pages that fault */
static int dev_fd, uffd, ram_fd;
static volatile unsigned int faults;

/* --- tools ------------------------------------------------------------------------------------------------------- */

__attribute__((unused)) static int new_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = ioctl(dev_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api))
		return -1;
	return fd;
}

__attribute__((unused)) static int try_register(int fd, void *at, unsigned long npages)
{
	struct uffdio_register reg = {{(uintptr_t)at, npages * PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

__attribute__((unused)) static void wake(void *at, unsigned long npages)
{
	struct uffdio_range range = {(uintptr_t)at, npages * PAGE};

	if (ioctl(uffd, UFFDIO_WAKE, &range))
		err(2, "UFFDIO_WAKE");
}

/* Memory without access, registered, then accessible: as the capsule covers. */
__attribute__((unused)) static void cover(void *at, unsigned long npages)
{
	if (mmap(at, npages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    try_register(uffd, at, npages) || mprotect(at, npages * PAGE, PROT_READ | PROT_WRITE))
		err(2, "cover");
}

__attribute__((unused)) static void map(unsigned long page)
{
	if (mmap(area + page * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram_fd, (off_t)(page * PAGE)) == MAP_FAILED)
		err(2, "mmap");
}

/* Waits for a fault and reads it.  Return: its page in the area. */
__attribute__((unused)) static unsigned long read_fault(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct uffd_msg msg;

	do
		poll(&p, 1, -1);
	while (read(fd, &msg, sizeof(msg)) != sizeof(msg) && errno == EAGAIN);
	faults++;
	return (msg.arg.pagefault.address - (uintptr_t)area) / PAGE;
}

__attribute__((unused)) static bool has_fault(void)
{
	struct pollfd p = {.fd = uffd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* Answers every fault. */
__attribute__((unused)) static void *answer_all(void *unused)
{
	while (!unused) {
		unsigned long page = read_fault(uffd);

		map(page);
		wake(area + page * PAGE, 1);
	}
	return NULL;
}

__attribute__((unused)) static void thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg))
		err(2, "pthread_create");
	pthread_detach(t);
}

__attribute__((unused)) static void prepare(void)
{
	uffd = new_uffd();
	ram_fd = memfd_create("ram", MFD_CLOEXEC);
	if (uffd < 0 || ram_fd < 0 || ftruncate(ram_fd, (off_t)(PAGES * PAGE)))
		err(2, "userfaultfd, memfd");
	for (uint64_t i = 1; i <= PAGES; i++)
		if (pwrite(ram_fd, &i, sizeof(i), (off_t)((i - 1) * PAGE)) != sizeof(i))
			err(2, "pwrite");
	area = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	area += PAGE;
	cover(area, PAGES);
}

__attribute__((unused)) static void prepare_answered(void)
{
	prepare();
	thread(answer_all, NULL);
}

__attribute__((unused)) static uint64_t word(unsigned long page)
{
	return *(volatile uint64_t *)(area + page * PAGE);
}

#endif
