/* jailroot.c - see jailroot.h */
#include "runtime/host/jail/jailroot.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/host/jail/jaildev.h"

int jailroot_make(const struct jail_bind *binds, const int *bind_fd, size_t n, int dev_fd, enum jailroot_part *part)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	int rc = 0;

	*part = JAILROOT_ROOT;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("shadow", "/proc", "tmpfs", flags, n || dev_fd >= 0 ? "mode=0555,size=64k,nr_inodes=1024" : "mode=0,size=4k,nr_inodes=1") ||
	    chdir("/proc"))
		return -errno;
	*part = JAILROOT_PLACES;
	for (size_t i = 0; i < n && !rc; i++)
		rc = jailbind_place(bind_fd[i], binds[i].guest);
	if (!rc && dev_fd >= 0) {
		*part = JAILROOT_DEVICES;
		rc = jaildev_place(dev_fd);
	}
	if (rc)
		return rc;
	*part = JAILROOT_ROOT;
	if (syscall(__NR_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/") ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL))
		return -errno;
	return 0;
}
