/* hostile_places.h - places of the host for tests of a hostile guest: some that it is granted, some that must not change
 *
 * They are in a file system of the test's own, in a mount namespace of its own: nothing stays, nothing fills up.  Modes and owners
 * would let the shadow's user change everything, so that nothing but the jail keeps it out.
 */
#ifndef TESTS_HOSTILE_PLACES_H
#define TESTS_HOSTILE_PLACES_H

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534

/* Granted for writing; for reading; not at all; to somebody else. */
static struct {
	char base[32], grant[64], ro[64], outside[64], other[64];
} places;

/* --- sums -------------------------------------------------------------------------------------------------------------------- */

static uint64_t places_mix(uint64_t sum, const void *data, size_t bytes)
{
	const uint8_t *at = data;

	for (size_t i = 0; i < bytes; i++)
		sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* Of a tree: names, modes, owners, sizes, times of change, links, what is in them.  The order of names does not matter. */
static uint64_t places_tree(const char *path)
{
	static char bytes[65536];
	struct dirent *entry;
	uint64_t sum = UINT64_C(0xcbf29ce484222325), all = 0;
	struct stat st;
	ssize_t n;
	DIR *dir;
	int fd;

	if (lstat(path, &st))
		return 1;
	sum = places_mix(sum, path, strlen(path));
	for (size_t i = 0; i < 9; i++) {
		const uint64_t words[9] = {st.st_mode, st.st_uid, st.st_gid, (uint64_t)st.st_size, st.st_nlink, (uint64_t)st.st_mtim.tv_sec,
					   (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec};

		sum = places_mix(sum, &words[i], 8);
	}
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, bytes, sizeof(bytes));
		return places_mix(sum, bytes, n > 0 ? (size_t)n : 0);
	}
	if (S_ISREG(st.st_mode)) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		while (fd >= 0 && (n = read(fd, bytes, sizeof(bytes))) > 0)
			sum = places_mix(sum, bytes, (size_t)n);
		close(fd);
		return sum;
	}
	dir = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
	while (dir && (entry = readdir(dir))) {
		char below[600];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		all += places_tree(below);
	}
	if (dir)
		closedir(dir);
	return sum + all;
}

/* Of all that must not change. */
static uint64_t places_sum(void)
{
	return places_tree(places.outside) + 3 * places_tree(places.ro);
}

/* --- made -------------------------------------------------------------------------------------------------------------------- */

static void places_put(const char *dir, const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 || fchmod(fd, 0666) || fchown(fd, NOBODY, NOBODY) || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(2, "%s", path);
	close(fd);
}

static void places_dir(char path[64], const char *name)
{
	snprintf(path, 64, "%s/%s", places.base, name);
	if (mkdir(path, 0777) || chmod(path, 0777) || chown(path, NOBODY, NOBODY))
		err(2, "%s", path);
}

/* Return: NULL, or why it cannot be had here. */
static const char *places_make(void)
{
	if (geteuid())
		return "places of the host can be given as root only";
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "no mount namespace can be made here";
	strcpy(places.base, "/tmp/hostile-XXXXXX");
	if (!mkdtemp(places.base))
		err(2, "mkdtemp");
	if (mount("hostile", places.base, "tmpfs", 0, "size=64m,mode=755,nr_inodes=20000"))
		return "no file system can be mounted here";
	places_dir(places.grant, "grant");
	places_dir(places.ro, "ro");
	places_dir(places.outside, "outside");
	places_dir(places.other, "other");
	places_put(places.grant, "own", "its own file\n");
	places_put(places.ro, "read", "to be read\n");
	places_put(places.outside, "secret", "SECRET\n");
	places_put(places.other, "file", "of the witness\n");
	return NULL;
}

__attribute__((unused)) static void places_free(void)
{
	umount2(places.base, MNT_DETACH);
	rmdir(places.base);
}

#endif
