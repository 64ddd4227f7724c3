/* jaildev.c - a jail's /dev; theory in jaildev.h */
#include "runtime/host/jail/jaildev.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define LINK_BYTES 256
#define DEV_BYTES (sizeof("/dev/") - 1)

const char *jaildev_pattern_fault(const char *pattern)
{
	static const char wants[] = "the path of a device below /dev, or a pattern of such paths, without . and .. and doubled slashes";

	if (strncmp(pattern, "/dev/", DEV_BYTES) || strlen(pattern) >= JAILDEV_PATH_BYTES)
		return wants;
	for (const char *at = pattern + DEV_BYTES - 1; *at; at += strcspn(at + 1, "/") + 1) {
		const size_t n = strcspn(at + 1, "/");

		if (!n || (n == 1 && at[1] == '.') || (n == 2 && at[1] == '.' && at[2] == '.'))
			return wants;
	}
	return strchr(pattern, '\\') ? wants : NULL;
}

/* Devices that are all of the machine's memory, or its ports: with one of them no jail would be one.  Documentation/admin-guide/devices.txt */
static bool is_memory(dev_t number)
{
	return major(number) == 1 && (minor(number) == 1 || minor(number) == 2 || minor(number) == 4);
}

static void close_glob(glob_t *g)
{
	globfree(g);
}

int jaildev_each(const char *const *pattern, size_t n, int (*each)(void *ctx, const struct jaildev_node *node), void *ctx)
{
	int found = 0;

	for (size_t i = 0; i < n; i++) {
		__attribute__((cleanup(close_glob))) glob_t g = {0};
		const int rc = glob(pattern[i], GLOB_NOESCAPE, NULL, &g);

		if (rc == GLOB_NOMATCH)
			continue;
		if (rc)
			return rc == GLOB_NOSPACE ? -ENOMEM : -EIO;
		for (size_t k = 0; k < g.gl_pathc; k++) {
			struct jaildev_node node;
			struct stat st;
			int r;

			if (strlen(g.gl_pathv[k]) >= sizeof(node.path) || lstat(g.gl_pathv[k], &st))
				continue;
			if (!S_ISLNK(st.st_mode) && ((!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) || is_memory(st.st_rdev)))
				continue;
			strcpy(node.path, g.gl_pathv[k]);
			node.number = S_ISLNK(st.st_mode) ? 0 : st.st_rdev;
			node.mode = st.st_mode;
			node.uid = st.st_uid;
			node.gid = st.st_gid;
			r = each(ctx, &node);
			if (r)
				return r;
			found++;
		}
	}
	return found;
}

/* --- the file system -------------------------------------------------------------------------------------------------- */

struct tree {
	int fd;
	uid_t uid;
	gid_t gid;
	unsigned int n;
};

static int make_folders(int fd, char *path)
{
	for (char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
		int rc;

		*at = 0;
		rc = mkdirat(fd, path, 0755) && errno != EEXIST ? -errno : 0;
		*at = '/';
		if (rc)
			return rc;
	}
	return 0;
}

static int add(void *ctx, const struct jaildev_node *node)
{
	struct tree *t = ctx;
	const bool everybodys = (node->mode & 0006) == 0006;
	char path[JAILDEV_PATH_BYTES], target[LINK_BYTES];
	ssize_t bytes;
	int rc;

	if (t->n++ == JAILDEV_NODES_MAX)
		return -E2BIG;
	strcpy(path, node->path + DEV_BYTES);
	rc = make_folders(t->fd, path);
	if (rc)
		return rc;
	if (S_ISLNK(node->mode)) {
		bytes = readlink(node->path, target, sizeof(target) - 1);
		if (bytes < 0)
			return 0; /* it went meanwhile */
		target[bytes] = 0;
		return symlinkat(target, t->fd, path) && errno != EEXIST ? -errno : 0;
	}
	if (mknodat(t->fd, path, (node->mode & S_IFMT) | 0600, node->number))
		return errno == EEXIST ? 0 : -errno; /* two patterns match it */
	/* In this order: the mode of what is another's can be changed with CAP_FOWNER only, which dshost.service does not have. */
	if (fchmodat(t->fd, path, (node->mode & 0666) | (everybodys ? 0 : 0600), 0))
		return -errno;
	return fchownat(t->fd, path, everybodys ? node->uid : t->uid, everybodys ? node->gid : t->gid, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

static int configure(int fs, unsigned int command, const char *key, const char *value)
{
	return syscall(__NR_fsconfig, fs, command, key, value, 0) ? -errno : 0;
}

int jaildev_open(const char *const *pattern, size_t n, uid_t uid, gid_t gid)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY, .propagation = MS_PRIVATE};
	cleanup_close int fs = (int)syscall(__NR_fsopen, "tmpfs", FSOPEN_CLOEXEC), root = -1;
	struct tree tree = {.uid = uid, .gid = gid};
	const mode_t mask = umask(0);
	int rc;

	umask(mask & 022); /* folders can be entered */
	rc = fs < 0 ? -errno : configure(fs, FSCONFIG_SET_STRING, "mode", "0755");
	rc = rc ? rc : configure(fs, FSCONFIG_SET_STRING, "size", "64k");
	rc = rc ? rc : configure(fs, FSCONFIG_SET_STRING, "nr_inodes", "1024");
	rc = rc ? rc : configure(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	root = rc ? -1 : (int)syscall(__NR_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	rc = !rc && root < 0 ? -errno : rc;
	tree.fd = root;
	if (!rc)
		rc = jaildev_each(pattern, n, add, &tree);
	umask(mask);
	if (rc >= 0 && syscall(__NR_mount_setattr, root, "", AT_EMPTY_PATH, &attr, sizeof(attr)))
		rc = -errno;
	return rc < 0 ? rc : steal_fd(&root);
}

int jaildev_place(int fd)
{
	if (mkdir("dev", 0555) && errno != EEXIST)
		return -errno;
	return syscall(__NR_move_mount, fd, "", AT_FDCWD, "dev", MOVE_MOUNT_F_EMPTY_PATH) ? -errno : 0;
}
