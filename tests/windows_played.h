/* windows_played.h - a VM's windows for tests: what a warden asks, and files to map; the VMM is vmm_played.h's */
#ifndef TESTS_WINDOWS_PLAYED_H
#define TESTS_WINDOWS_PLAYED_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/host/window/windows.h"
#include "tests/vmm_played.h"

#define PAGES VMM_PAGES
#define BYTES VMM_WINDOW
#define WAIT_MS 60000

static char path[108];
static struct windows *w;

/* Whether its main thread comes to sleep, as it does when nobody has stopped it. */
__attribute__((unused)) static bool goes_on(const struct vmm *v)
{
	for (int waited = 0; waited < WAIT_MS; waited += 5) {
		if (state_of(v) == 'S')
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	return false;
}

/* --- a warden ---------------------------------------------------------------------------------------------------------- */

static void work(void)
{
	struct pollfd p = {.fd = windows_fd(w), .events = POLLIN};

	while (poll(&p, 1, 0) > 0)
		windows_run(w);
}

static struct windows_answer ask(int sock, const struct windows_ask *a, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)a, sizeof(*a)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	struct windows_answer answer = {.err = -EIO};

	if (fd >= 0) {
		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(fd));
	}
	if (sendmsg(sock, &mh, 0) < 0)
		return answer;
	work();
	if (recv(sock, &answer, sizeof(answer), MSG_DONTWAIT) != sizeof(answer))
		answer.err = -EIO;
	return answer;
}

static struct windows_answer map(int sock, int fd, uint64_t npages, uint64_t offset_pages, uint32_t prot)
{
	return ask(sock, &(struct windows_ask){.what = WINDOWS_MAP, .prot = prot, .npages = npages, .offset = offset_pages * DS_PAGE_BYTES}, fd);
}

static int unmap(int sock, uint64_t page, uint64_t npages)
{
	return ask(sock, &(struct windows_ask){.what = WINDOWS_UNMAP, .extent = {page, npages}}, -1).err;
}

/* A file of pages, each of which begins with its number plus @first. */
static int make_file(uint32_t npages, uint8_t first)
{
	const int fd = memfd_create("file", MFD_CLOEXEC);

	for (uint32_t i = 0; i < npages; i++) {
		uint8_t page[DS_PAGE_BYTES];

		memset(page, (uint8_t)(first + i), sizeof(page));
		if (pwrite(fd, page, sizeof(page), (off_t)i * (off_t)sizeof(page)) != sizeof(page))
			exit(2);
	}
	return fd;
}

__attribute__((unused)) static int byte_of(int fd, uint64_t page, uint64_t offset)
{
	uint8_t byte;

	return pread(fd, &byte, 1, (off_t)(page * DS_PAGE_BYTES + offset)) == 1 ? byte : -1;
}

/* Waits until a page reads as @want. */
__attribute__((unused)) static bool becomes(const struct vmm *v, uint64_t page, int want)
{
	for (int waited = 0; waited < WAIT_MS; waited += 5) {
		if (load(v, page) == want)
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	return false;
}

static void begin(struct vmm *v, int *a, int *b)
{
	const struct windows_params p = {.vm = "one", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES};

	*v = start_vmm();
	if (load(v, 1) < 0 || windows_new(&w, &p)) /* the VMM answers, so it has the window mapped */
		exit(2);
	windows_vmm(w, 0, false);
	windows_vmm(w, v->pid, true);
	*a = windows_join(w, 11);
	*b = windows_join(w, 12);
}

#endif
