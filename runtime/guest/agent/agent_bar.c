/* agent_bar.c - the VM's window as the guest has it; see agent_bar.h */
#include "runtime/guest/agent/agent_bar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/wire/window.h"

#define DEVICES "/sys/bus/pci/devices"
#define VENDOR 0x1af4 /* Red Hat */
#define DEVICE 0x1110 /* ivshmem; QEMU's docs/specs/ivshmem-spec */

static long number_in(int dir, const char *device, const char *name)
{
	char path[300], text[32] = "";
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "%.255s/%s", device, name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 ? -1 : strtol(text, NULL, 0);
}

/* Whether it begins with the header that dshost writes. */
static bool is_ours(int fd)
{
	struct ds_window_header h = {0};
	struct stat st;
	void *at;

	if (fstat(fd, &st) || st.st_size < (off_t)DS_PAGE_BYTES)
		return false;
	at = mmap(NULL, DS_PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return false;
	h.magic = ((const volatile struct ds_window_header *)at)->magic;
	h.bytes = ((const volatile struct ds_window_header *)at)->bytes;
	munmap(at, DS_PAGE_BYTES);
	return h.magic == DS_WINDOW_MAGIC && h.bytes == (uint64_t)st.st_size;
}

/* Without a driver nobody has switched its memory on. */
static void enable(int dir, const char *device)
{
	char path[300];
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "%.255s/enable", device);
	fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) != 1)
		return; /* then its memory reads as all ones, and has no header */
}

int agent_bar_open(void)
{
	const struct dirent *e;
	DIR *d = opendir(DEVICES);
	int found = -ENODEV;

	if (!d)
		return -ENODEV;
	while (found < 0 && (e = readdir(d))) {
		char path[300];
		cleanup_close int fd = -1;

		if (e->d_name[0] == '.' || number_in(dirfd(d), e->d_name, "vendor") != VENDOR || number_in(dirfd(d), e->d_name, "device") != DEVICE)
			continue;
		if (number_in(dirfd(d), e->d_name, "enable") == 0)
			enable(dirfd(d), e->d_name);
		snprintf(path, sizeof(path), "%.255s/resource2", e->d_name);
		fd = openat(dirfd(d), path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && is_ours(fd))
			found = steal_fd(&fd);
	}
	closedir(d);
	return found;
}
