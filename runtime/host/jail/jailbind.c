/* jailbind.c - places of the host's file system in a jail; theory in jailbind.h */
#include "runtime/host/jail/jailbind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define GUEST_BYTES_MAX 1024

/*
 * A path without a symbolic link in it, one name after the other.  openat2(2) would do it in one call, if a service with systemd's RestrictSUIDSGID=,
 * such as dshost's, had it: there it is ENOSYS, as a filter cannot look at its flags.
 */
static int find(const char *host)
{
	cleanup_close int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_free char *path = strdup(host);
	struct stat st;
	char *rest;

	if (fd < 0 || !path)
		return -errno;
	for (const char *name = strtok_r(path, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
		const int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (next < 0)
			return -errno;
		close(fd);
		fd = next;
		if (fstat(fd, &st))
			return -errno;
		if (S_ISLNK(st.st_mode))
			return -ELOOP;
	}
	if (fstat(fd, &st))
		return -errno;
	return S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode) ? steal_fd(&fd) : -EINVAL;
}

int jailbind_open(const struct jail_bind *bind)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | (bind->writable ? 0 : MOUNT_ATTR_RDONLY),
		.propagation = MS_PRIVATE,
	};
	cleanup_close int at = find(bind->host), fd = -1;
	struct statfs fs;

	if (at < 0)
		return at;
	fd = (int)syscall(__NR_open_tree, at, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0 || syscall(__NR_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)))
		return -errno;
	/* What is read-only for dshost itself, as under ProtectSystem= of systemd, is not granted for writing and then denied. */
	if (bind->writable && (fstatfs(fd, &fs) || fs.f_flags & ST_RDONLY))
		return -EROFS;
	return steal_fd(&fd);
}

/* What it is mounted on: made by us, in a file system where nobody else is. */
static int make_place(char *path, bool directory)
{
	for (char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
		int rc;

		*at = 0;
		rc = mkdir(path, 0555) && errno != EEXIST ? -errno : 0;
		*at = '/';
		if (rc)
			return rc;
	}
	return (directory ? mkdir(path, 0555) : mknod(path, S_IFREG | 0444, 0)) ? -errno : 0;
}

int jailbind_place(int fd, const char *guest)
{
	char path[GUEST_BYTES_MAX];
	struct stat st;
	int rc;

	if (*guest != '/' || !guest[1] || strlen(guest) > sizeof(path) || fstat(fd, &st))
		return -EINVAL;
	strcpy(path, guest + 1);
	rc = make_place(path, S_ISDIR(st.st_mode));
	if (!rc && syscall(__NR_move_mount, fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH))
		rc = -errno;
	return rc;
}
