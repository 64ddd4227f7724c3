/* jailgroup.c - cgroups for a jail; theory in jailgroup.h */
#include "runtime/host/jail/jailgroup.h"

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
#define PERIOD_US 100000 /* of a limit of processor time */
#define REMOVE_TRIES 200 /* of a millisecond: a group is busy until the kernel has let go of the last process */

static const struct {
	const char *controller;
	const char *file1, *file2; /* of the limit, by version */
} limits[JAILGROUP_LIMITS] = {
	[JAILGROUP_MEMORY] = {"memory", "memory.limit_in_bytes", "memory.max"},
	[JAILGROUP_CPU] = {"cpu", "cpu.cfs_quota_us", "cpu.max"},
	[JAILGROUP_PIDS] = {"pids", "pids.max", "pids.max"},
};

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

/* Whether a list of words with commas between them has @word; "" has "" only. */
static bool list_has(const char *list, const char *word)
{
	const size_t n = strlen(word);

	if (!n || !*list)
		return !n && !*list;
	for (;; list++) {
		if (!strncmp(list, word, n) && (!list[n] || list[n] == ','))
			return true;
		list = strchr(list, ',');
		if (!list)
			return false;
	}
}

/* The caller's path in the hierarchy that has @controller ("": version 2). */
static int own_path(const char *controller, char *path, size_t bytes)
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
		if (list_has(names + 1, controller))
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

/* Lets children of @dir have a controller; its processes, the caller among them, move into one if they have to. */
static int divide(const char *dir, const char *controller)
{
	char child[JAILGROUP_PATH_BYTES + 8], path[JAILGROUP_PATH_BYTES + 16], line[32], word[32];
	FILE *f;
	int rc;

	snprintf(word, sizeof(word), "+%s", controller);
	rc = write_file(dir, "cgroup.subtree_control", word);
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
	return write_file(dir, "cgroup.subtree_control", word);
}

/* Version 2: the directory under which groups can be made. */
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
			if (is_delegated(base))
				return 0;
		}
		snprintf(base, bytes, "%s%s", mounts[i], own);
		return length == 0 || is_delegated(base) ? 0 : -ENOENT;
	}
	return rc ? rc : -ENOENT;
}

/* Whether children of @base have a controller, or can be made to have it. */
static bool has2(const char *base, const char *controller)
{
	return file_has(base, "cgroup.controllers", controller) &&
	       (file_has(base, "cgroup.subtree_control", controller) || !divide(base, controller));
}

static int base1(const char *controller, char *base, size_t bytes)
{
	char own[128];
	int rc = own_path(controller, own, sizeof(own));

	if (rc)
		return rc;
	snprintf(base, bytes, "/sys/fs/cgroup/%s%s", controller, own);
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

	if (!base2(base, sizeof(base)))
		sweep(base);
	for (int i = 0; i < JAILGROUP_LIMITS; i++)
		if (!base1(limits[i].controller, base, sizeof(base)))
			sweep(base);
}

/* Makes a child of @base called @name, and its path. */
static int make(const char *base, const char *name, char path[static JAILGROUP_PATH_BYTES])
{
	sweep(base);
	snprintf(path, JAILGROUP_PATH_BYTES, "%s/%s", base, name);
	if (!mkdir(path, 0755))
		return 0;
	*path = 0;
	return -errno;
}

static int set_limit(const struct jailgroup *g, enum jailgroup_limit i, const struct jailgroup_want *want)
{
	const char *dir = g->version[i] == 2 ? g->two : g->one[i], *file = g->version[i] == 2 ? limits[i].file2 : limits[i].file1;
	const uint64_t quota_us = want->cpu_percent * (uint64_t)PERIOD_US / 100;
	char text[64];
	int rc;

	if (i == JAILGROUP_MEMORY)
		snprintf(text, sizeof(text), "%" PRIu64, want->memory_bytes);
	else if (i == JAILGROUP_PIDS)
		snprintf(text, sizeof(text), "%u", want->pids);
	else if (g->version[i] == 2)
		snprintf(text, sizeof(text), "%" PRIu64 " %d", quota_us, PERIOD_US);
	else
		snprintf(text, sizeof(text), "%" PRIu64, quota_us);
	rc = write_file(dir, file, text);
	if (!rc && i == JAILGROUP_MEMORY) /* not everywhere there is swap accounting */
		write_file(dir, g->version[i] == 2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", g->version[i] == 2 ? "0" : text);
	return rc;
}

int jailgroup_make(struct jailgroup *g, const struct jailgroup_want *want)
{
	const bool wanted[JAILGROUP_LIMITS] = {want->memory_bytes != 0, want->cpu_percent != 0, want->pids != 0};
	static unsigned int number;
	char base[JAILGROUP_PATH_BYTES - 64], name[64];
	bool two, any = want->bare;
	int rc = 0;

	*g = (struct jailgroup){0};
	snprintf(name, sizeof(name), NAME "%d-%u", getpid(), number++);
	two = !base2(base, sizeof(base));
	for (int i = 0; i < JAILGROUP_LIMITS; i++) {
		g->version[i] = two && wanted[i] && has2(base, limits[i].controller) ? 2 : 0;
		any |= g->version[i] != 0;
	}
	if (two && any && make(base, name, g->two))
		memset(g->version, 0, sizeof(g->version));
	for (int i = 0; i < JAILGROUP_LIMITS && !rc; i++) {
		if (wanted[i] && !g->version[i] && !base1(limits[i].controller, base, sizeof(base)) && !make(base, name, g->one[i]))
			g->version[i] = 1;
		rc = g->version[i] ? set_limit(g, (enum jailgroup_limit)i, want) : 0;
	}
	if (rc)
		jailgroup_remove(g);
	return rc;
}

int jailgroup_join(const struct jailgroup *g, pid_t pid)
{
	char text[32];
	int rc = 0;

	snprintf(text, sizeof(text), "%d", pid);
	if (*g->two)
		rc = write_file(g->two, "cgroup.procs", text);
	for (int i = 0; i < JAILGROUP_LIMITS && !rc; i++)
		if (*g->one[i])
			rc = write_file(g->one[i], "cgroup.procs", text);
	return rc;
}

int jailgroup_open(const struct jailgroup *g, struct jailgroup_doors *doors)
{
	bool good = true;

	doors->two = *g->two ? open(g->two, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	good = !*g->two || doors->two >= 0;
	for (int i = 0; i < JAILGROUP_LIMITS; i++) {
		char path[JAILGROUP_PATH_BYTES + 8];

		snprintf(path, sizeof(path), "%s/tasks", g->one[i]);
		doors->one[i] = *g->one[i] && good ? open(path, O_WRONLY | O_CLOEXEC) : -1;
		good &= !*g->one[i] || doors->one[i] >= 0;
	}
	if (!good) {
		const int rc = errno ? -errno : -EIO;

		jailgroup_close(doors);
		return rc;
	}
	return 0;
}

int jailgroup_enter(const struct jailgroup_doors *doors)
{
	for (int i = 0; i < JAILGROUP_LIMITS; i++)
		if (doors->one[i] >= 0 && write(doors->one[i], "0", 1) != 1)
			return -errno;
	return 0;
}

void jailgroup_close(struct jailgroup_doors *doors)
{
	cleanup_close_fn(&doors->two);
	for (int i = 0; i < JAILGROUP_LIMITS; i++)
		cleanup_close_fn(&doors->one[i]);
	*doors = (struct jailgroup_doors){.two = -1, .one = {-1, -1, -1}};
}

static int remove_dir(const char *path)
{
	const struct timespec step = {.tv_nsec = 1000000};
	int rc = 0;

	for (int i = 0; *path && i < REMOVE_TRIES; i++) {
		rc = rmdir(path) ? -errno : 0;
		if (rc != -EBUSY)
			break;
		nanosleep(&step, NULL);
	}
	return rc;
}

int jailgroup_remove(struct jailgroup *g)
{
	int rc = remove_dir(g->two);

	for (int i = 0; i < JAILGROUP_LIMITS; i++) {
		const int e = remove_dir(g->one[i]);

		rc = rc ? rc : e;
	}
	*g = (struct jailgroup){0};
	return rc;
}
