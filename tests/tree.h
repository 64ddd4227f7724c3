/* tree.h - builds a recorded /proc tree in a temporary folder, for tests of the reader
 *
 * A recorded tree has the files of /proc under the same names; pagemap, kpageflags and kpagecount are sparse files of
 * 8-byte entries at the offsets that the kernel uses.  No ioctl works on them, so they stand for kernels before 6.7.
 */
#ifndef TESTS_TREE_H
#define TESTS_TREE_H

#include <err.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char tree_root[64];

static void tree_remove(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", tree_root);
	if (system(cmd))
		warnx("cannot remove %s", tree_root);
}

__attribute__((unused)) static void tree_start(void)
{
	snprintf(tree_root, sizeof(tree_root), "/tmp/tree.XXXXXX");
	if (!mkdtemp(tree_root))
		err(2, "mkdtemp");
	atexit(tree_remove);
}

static const char *tree_path(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", tree_root, name);
	for (char *slash = path + strlen(tree_root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdir(path, 0700);
	}
	return path;
}

__attribute__((unused, format(printf, 2, 3))) static void tree_file(const char *name, const char *fmt, ...)
{
	FILE *f = fopen(tree_path(name), "w");
	va_list ap;

	if (!f)
		err(2, "%s", name);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

/* tree_words("7/pagemap", 0x100, 3, first, 1): n words at entry `at`, the first as given, each `step` more */
__attribute__((unused)) static void tree_words(const char *name, uint64_t at, uint64_t n, uint64_t first, uint64_t step)
{
	int fd = open(tree_path(name), O_WRONLY | O_CREAT, 0600);

	if (fd < 0)
		err(2, "%s", name);
	for (uint64_t i = 0; i < n; i++, first += step)
		if (pwrite(fd, &first, 8, (off_t)((at + i) * 8)) != 8)
			err(2, "%s", name);
	close(fd);
}

/* tree_process(7, "bash", 0): stat, status, cgroup and an empty maps and pagemap */
__attribute__((unused)) static void tree_process(int pid, const char *comm, unsigned long flags)
{
	char name[32];

	snprintf(name, sizeof(name), "%d/stat", pid);
	tree_file(name, "%d (%s) S 1 %d %d 0 -1 %lu 0 0 0 0 0 0 0 0 20 0 1 0 4711 8192000 300 18446744073709551615 0 0 0 0 0 0 0 0\n", pid, comm,
		  pid, pid, flags);
	snprintf(name, sizeof(name), "%d/status", pid);
	tree_file(name, "Name:\tx\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\nHugetlbPages:\t    4096 kB\nThreads:\t1\n");
	snprintf(name, sizeof(name), "%d/cgroup", pid);
	tree_file(name, "12:memory:/a\n1:name=systemd:/b\n0::/user.slice/x y\n");
}

#endif
