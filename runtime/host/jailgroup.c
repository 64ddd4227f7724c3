/* jailgroup.c - a memory cgroup for a jail; theory in jailgroup.h */
#include "runtime/host/jailgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <time.h>

#include "rle/cleanup.h"

#define CGROUP2_MAGIC 0x63677270 /* CGROUP2_SUPER_MAGIC, linux/magic.h */
#define NAME "dshost-shadow-"
#define REMOVE_TRIES 200 /* of a millisecond: a group is busy until the kernel has let go of the last process */

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[JAILGROUP_PATH_BYTES + 64];
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

/* Whether a file of words has @word.  */
static bool file_has(const char *dir, const char *name, const char *word)
{
	char path[JAILGROUP_PATH_BYTES + 64], have[64];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fscanf(f, "%63s", have) == 1)
		found = !strcmp(have, word);
	fclose(f);
	return found;
}

/* The caller's path in the hierarchy whose line in /proc/self/cgroup has @controllers ("": version 2). */
static int own_path(const char *controllers, char *path, size_t bytes)
{
	char line[512];
	int rc = -ENOENT;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return -errno;
	while (rc && fgets(line, sizeof(line), f)) {
		char *names = strchr(line, ':'), *own = names ? strchr(names + 1, ':') : NULL;

		if (!own)
			continue;
		*own++ = 0;
		own[strcspn(own, "\n")] = 0;
		if (!strcmp(names + 1, controllers))
			rc = (size_t)snprintf(path, bytes, "%s", strcmp(own, "/") ? own : "") < bytes ? 0 : -ENAMETOOLONG;
	}
	fclose(f);
	return rc;
}

static bool is_delegated(const char *dir)
{
	char value[8];

	return (getxattr(dir, "user.delegate", value, sizeof(value)) == 1 && value[0] == '1') ||
	       (getxattr(dir, "trusted.delegate", value, sizeof(value)) == 1 && value[0] == '1');
}

/* Lets children of @dir have a memory limit; its processes, the caller among them, move into one if they have to. */
static int divide(const char *dir)
{
	char child[JAILGROUP_PATH_BYTES + 8], path[JAILGROUP_PATH_BYTES + 16], line[32];
	FILE *f;
	int rc = write_file(dir, "cgroup.subtree_control", "+memory");

	if (rc != -EBUSY)
		return rc;
	snprintf(child, sizeof(child), "%s/main", dir);
	if (mkdir(child, 0755) && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		write_file(child, "cgroup.procs", line); /* one that has ended meanwhile is no harm */
	fclose(f);
	return write_file(dir, "cgroup.subtree_control", "+memory");
}

/* Version 2: the directory under which to make one. */
static int base2(char *base, size_t bytes)
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char own[128];
	int rc = own_path("", own, sizeof(own));
	const size_t length = strlen(own);

	for (size_t i = 0; !rc && i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		struct statfs fs;

		if (statfs(mounts[i], &fs) || fs.f_type != CGROUP2_MAGIC)
			continue;
		/* divided before: the caller is in the child */
		if (length >= 5 && !strcmp(own + length - 5, "/main")) {
			snprintf(base, bytes, "%s%.*s", mounts[i], (int)length - 5, own);
			if (is_delegated(base) && file_has(base, "cgroup.subtree_control", "memory"))
				return 0;
		}
		snprintf(base, bytes, "%s%s", mounts[i], own);
		if (!file_has(base, "cgroup.controllers", "memory") || !(length == 0 || is_delegated(base)))
			return -ENOENT;
		return file_has(base, "cgroup.subtree_control", "memory") ? 0 : divide(base);
	}
	return rc ? rc : -ENOENT;
}

static int base1(char *base, size_t bytes)
{
	char own[128];
	int rc = own_path("memory", own, sizeof(own));

	if (rc)
		return rc;
	snprintf(base, bytes, "/sys/fs/cgroup/memory%s", own);
	return access(base, W_OK) ? -errno : 0;
}

/* Removes groups of makers that are gone. */
static void sweep(const char *base)
{
	DIR *d = opendir(base);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		int pid;

		if (sscanf(e->d_name, NAME "%d", &pid) == 1 && kill(pid, 0) && errno == ESRCH)
			unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
}

void jailgroup_sweep(void)
{
	char base[JAILGROUP_PATH_BYTES - 64];

	if (!base2(base, sizeof(base)) || !base1(base, sizeof(base)))
		sweep(base);
}

static int set_limit(const struct jailgroup *g, uint64_t memory_bytes)
{
	char text[32];
	int rc;

	snprintf(text, sizeof(text), "%" PRIu64, memory_bytes);
	rc = write_file(g->path, g->version == 2 ? "memory.max" : "memory.limit_in_bytes", text);
	if (!rc) /* not everywhere there is swap accounting */
		write_file(g->path, g->version == 2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", g->version == 2 ? "0" : text);
	return rc;
}

int jailgroup_make(struct jailgroup *g, uint64_t memory_bytes)
{
	static unsigned int number;
	char base[JAILGROUP_PATH_BYTES - 64];
	int rc;

	*g = (struct jailgroup){0};
	rc = base2(base, sizeof(base));
	g->version = rc ? 1 : 2;
	if (rc)
		rc = base1(base, sizeof(base));
	if (rc) {
		g->version = 0;
		return rc;
	}
	sweep(base);
	snprintf(g->path, sizeof(g->path), "%s/" NAME "%d-%u", base, getpid(), number++);
	if (mkdir(g->path, 0755)) {
		rc = -errno;
		*g = (struct jailgroup){0};
		return rc;
	}
	rc = set_limit(g, memory_bytes);
	if (rc)
		jailgroup_remove(g);
	return rc;
}

int jailgroup_join(const struct jailgroup *g, pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", pid);
	return write_file(g->path, "cgroup.procs", text);
}

int jailgroup_remove(struct jailgroup *g)
{
	const struct timespec step = {.tv_nsec = 1000000};
	int rc = 0;

	for (int i = 0; g->version && i < REMOVE_TRIES; i++) {
		rc = rmdir(g->path) ? -errno : 0;
		if (rc != -EBUSY)
			break;
		nanosleep(&step, NULL);
	}
	*g = (struct jailgroup){0};
	return rc;
}
