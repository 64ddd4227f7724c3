/* names.c - every call that takes a path, on every kind of path
 *
 * For each pair of a call and a path the same small tree is made anew where the last call has changed it; the call's result is printed,
 * and what it has changed: the lines of a listing that are gone and that are new.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/conform/conform.h"

#define LINES_MAX 64
#define LINE_BYTES 160

/* --- the tree ---------------------------------------------------------------------------------------------------------------- */

static void make_file(const char *name, const char *text, mode_t mode)
{
	const int fd = open(in(name), O_WRONLY | O_CREAT | O_EXCL, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode))
		printf("cannot make %s: %s\n", name, strerror(errno));
	close(fd);
}

static void make_tree(void)
{
	make_file("file", "some text\n", 0644);
	make_file("locked", "nobody's\n", 0);
	mkdir(in("full"), 0755);
	make_file("full/below", "below\n", 0640);
	mkdir(in("empty"), 0755);
	mkdir(in("shut"), 0700);
	make_file("shut/below", "x\n", 0600);
	chmod(in("shut"), 0);
	mkdir(in("still"), 0700);
	make_file("still/below", "x\n", 0600);
	chmod(in("still"), 0500);
	mkfifo(in("fifo"), 0600);
	symlink("file", in("to-file"));
	symlink("full", in("to-full"));
	symlink("nowhere", in("dangling"));
	symlink("loop", in("loop"));
	link(in("file"), in("second"));
}

static void remove_tree(const char *path)
{
	struct dirent *entry;
	struct stat st;
	DIR *d;

	if (lstat(path, &st))
		return;
	if (!S_ISDIR(st.st_mode)) {
		unlink(path);
		return;
	}
	chmod(path, 0700);
	d = opendir(path);
	while (d && (entry = readdir(d))) {
		char below[PATH_BYTES];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		remove_tree(below);
	}
	if (d)
		closedir(d);
	if (strcmp(path, dir))
		rmdir(path);
}

struct listing {
	uint32_t n;
	char line[LINES_MAX][LINE_BYTES];
};

static void list_below(struct listing *l, const char *name)
{
	char below[PATH_BYTES], target[64] = "";
	struct dirent *entry;
	struct stat st;
	DIR *d;

	if (lstat(*name ? in(name) : dir, &st) || l->n == LINES_MAX)
		return;
	if (S_ISLNK(st.st_mode))
		target[readlink(in(name), target, sizeof(target) - 1)] = 0;
	snprintf(l->line[l->n++], LINE_BYTES, "%.60s %o %u:%u %u %lld %s", *name ? name : ".", st.st_mode, st.st_uid, st.st_gid,
		 S_ISDIR(st.st_mode) ? 0 : (unsigned int)st.st_nlink, S_ISREG(st.st_mode) ? (long long)st.st_size : 0, target);
	if (!S_ISDIR(st.st_mode))
		return;
	d = opendir(*name ? in(name) : dir);
	while (d && (entry = readdir(d))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof(below), "%s%s%s", name, *name ? "/" : "", entry->d_name);
		list_below(l, below);
	}
	if (d)
		closedir(d);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void list(struct listing *l)
{
	l->n = 0;
	list_below(l, "");
	qsort(l->line, l->n, LINE_BYTES, by_text);
}

static struct listing fresh, now;

/* Says what is different from the fresh tree.  Return: whether anything is. */
static bool differs(void)
{
	uint32_t i = 0, k = 0;
	bool any = false;

	list(&now);
	while (i < fresh.n || k < now.n) {
		const int c = i == fresh.n ? 1 : k == now.n ? -1 : strcmp(fresh.line[i], now.line[k]);

		if (c < 0)
			printf("    - %s\n", fresh.line[i]);
		if (c > 0)
			printf("    + %s\n", now.line[k]);
		i += c <= 0;
		k += c >= 0;
		any |= c != 0;
	}
	return any;
}

static void renew(void)
{
	remove_tree(dir);
	make_tree();
}

/* After a call: looks, and makes the tree anew if need be.  What has failed should have left nothing, so there it is looked now and then. */
static void look(bool failed)
{
	static uint32_t failures;
	static const uint32_t often = 8;

	if ((!failed || ++failures % often == 0) && differs())
		renew();
}

/* --- kinds of paths ------------------------------------------------------------------------------------------------------------ */

static char long_name[300], longest_name[300], long_path[4200];

struct kind {
	const char *say, *name; /* relative to dir; NULL: @whole */
	const char *whole;
};

static const struct kind kinds[] = {
	{"file", "file", NULL}, {"locked", "locked", NULL}, {"full", "full", NULL}, {"empty", "empty", NULL}, {"fifo", "fifo", NULL},
	{"to-file", "to-file", NULL}, {"to-full", "to-full", NULL}, {"dangling", "dangling", NULL}, {"loop", "loop", NULL},
	{"none", "none", NULL}, {"second", "second", NULL}, {"shut", "shut", NULL}, {"still", "still", NULL},
	{"full/below", "full/below", NULL}, {"shut/below", "shut/below", NULL}, {"still/below", "still/below", NULL}, {"still/new", "still/new", NULL},
	{"to-full/below", "to-full/below", NULL}, {"file/below", "file/below", NULL}, {"none/below", "none/below", NULL}, {"loop/below", "loop/below", NULL},
	{"file/", "file/", NULL}, {"empty/", "empty/", NULL}, {"to-file/", "to-file/", NULL}, {"to-full/", "to-full/", NULL}, {"none/", "none/", NULL},
	{"dangling/", "dangling/", NULL}, {"empty/.", "empty/.", NULL}, {"empty/..", "empty/..", NULL}, {"full/../file", "full/../file", NULL},
	{".//file", ".//file", NULL}, {"name of 255", longest_name, NULL}, {"name of 256", long_name, NULL}, {"path too long", long_path, NULL}, {"nothing", NULL, ""},
	{"nowhere", NULL, (const char *)8},
};
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static const char *path_of(const struct kind *k)
{
	return k->name ? in(k->name) : k->whole;
}

static void make_long(void)
{
	memset(longest_name, 'n', 255);
	memset(long_name, 'n', 256);
	for (size_t i = 0; i + 2 < 4150; i += 2)
		memcpy(long_path + i, "./", 2);
}

/* --- calls with one path ----------------------------------------------------------------------------------------------------------- */

static struct stat st;
static struct statvfs vfs;
static struct statx stx;
static char text[PATH_BYTES];

/* Opens and says what it is; @bytes to write. */
static long opened(const char *path, int flags, mode_t mode, const char *bytes)
{
	const int fd = open(path, flags, mode);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) || (bytes && write(fd, bytes, strlen(bytes)) != (ssize_t)strlen(bytes)))
		printf("    %s\n", strerror(errno));
	printf("    %o %d\n", st.st_mode, fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
	close(fd);
	return 0;
}

static long op_stat(const char *p) { return stat(p, &st); }
static long op_lstat(const char *p) { return lstat(p, &st); }
static long op_statx(const char *p) { return statx(AT_FDCWD, p, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx); }
static long op_statx_mask(const char *p) { return statx(AT_FDCWD, p, 0x80000000, STATX_ALL, &stx); }
static long op_statvfs(const char *p) { return statvfs(p, &vfs); }
static long op_access(const char *p) { return access(p, F_OK); }
static long op_access_rw(const char *p) { return access(p, R_OK | W_OK); }
static long op_access_x(const char *p) { return faccessat(AT_FDCWD, p, X_OK, AT_EACCESS); }
static long op_access_bad(const char *p) { return access(p, 64); }
static long op_read(const char *p) { return opened(p, O_RDONLY | O_NONBLOCK, 0, NULL); }
static long op_write(const char *p) { return opened(p, O_WRONLY | O_NONBLOCK, 0, "W"); }
static long op_rdwr(const char *p) { return opened(p, O_RDWR, 0, NULL); }
static long op_append(const char *p) { return opened(p, O_WRONLY | O_APPEND | O_NONBLOCK, 0, "end"); }
static long op_trunc(const char *p) { return opened(p, O_RDWR | O_TRUNC | O_NONBLOCK, 0, NULL); }
static long op_create(const char *p) { return opened(p, O_RDWR | O_CREAT, 0666, "new"); }
static long op_excl(const char *p) { return opened(p, O_RDWR | O_CREAT | O_EXCL, 0777, "new"); }
static long op_directory(const char *p) { return opened(p, O_RDONLY | O_DIRECTORY, 0, NULL); }
static long op_directory_create(const char *p) { return opened(p, O_RDONLY | O_DIRECTORY | O_CREAT, 0600, NULL); }
static long op_nofollow(const char *p) { return opened(p, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, NULL); }
static long op_path(const char *p) { return opened(p, O_PATH | O_NOFOLLOW, 0, NULL); }
static long op_tmpfile(const char *p) { return opened(p, O_RDWR | O_TMPFILE, 0600, "x"); }
static long op_creat(const char *p) { const int fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0640); return fd < 0 ? fd : close(fd); }
static long op_mkdir(const char *p) { return mkdir(p, 0777); }
static long op_mkdir_mode(const char *p) { return mkdir(p, 01700); }
static long op_rmdir(const char *p) { return rmdir(p); }
static long op_unlink(const char *p) { return unlink(p); }
static long op_unlinkat(const char *p) { return unlinkat(AT_FDCWD, p, AT_REMOVEDIR); }
static long op_unlinkat_bad(const char *p) { return unlinkat(AT_FDCWD, p, 1 << 20); }
static long op_mkfifo(const char *p) { return mkfifo(p, 0666); }
static long op_mknod(const char *p) { return mknod(p, S_IFREG | 0640, 0); }
static long op_mknod_socket(const char *p) { return mknod(p, S_IFSOCK | 0600, 0); }
static long op_mknod_dir(const char *p) { return mknod(p, S_IFDIR | 0600, 0); }
static long op_symlink(const char *p) { return symlink("the target", p); }
static long op_symlink_empty(const char *p) { return symlink("", p); }
static long op_chmod(const char *p) { return chmod(p, 0604); }
static long op_chmod_bits(const char *p) { return chmod(p, 07711); }
static long op_chown(const char *p) { return chown(p, (uid_t)-1, getgid()); }
static long op_chown_other(const char *p) { return chown(p, 12345, 12346); }
static long op_lchown(const char *p) { return lchown(p, getuid(), (gid_t)-1); }
static long op_truncate(const char *p) { return truncate(p, 4); }
static long op_truncate_up(const char *p) { return truncate(p, 5000); }
static long op_truncate_bad(const char *p) { return truncate(p, -1); }
static long op_readlink(const char *p) { return readlink(p, text, sizeof(text)); }
static long op_readlink_short(const char *p) { return readlink(p, text, 2); }
static long op_readlink_zero(const char *p) { return readlink(p, text, 0); }
static long op_utimens(const char *p) { return utimensat(AT_FDCWD, p, (struct timespec[2]){{5, 6}, {7, 8}}, 0); }
static long op_utimens_link(const char *p) { return utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW); }
static long op_utimens_omit(const char *p) { return utimensat(AT_FDCWD, p, (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}, 0); }
static long op_utimens_bad(const char *p) { return utimensat(AT_FDCWD, p, (struct timespec[2]){{0, -5}, {0, 2000000000}}, 0); }
static long op_getxattr(const char *p) { return getxattr(p, "user.none", text, 10); }
static long op_setxattr(const char *p) { return setxattr(p, "nothing.x", "1", 1, 0); }
static long op_listxattr(const char *p) { return listxattr(p, text, 0) < 0 ? -1 : 0; }
static long op_chdir(const char *p)
{
	const long r = chdir(p);

	if (!r) {
		printf("    here %ld\n", (long)access("below", F_OK));
		if (!getcwd(text, sizeof(text)))
			printf("    %s\n", strerror(errno));
		else
			printf("    %s\n", strncmp(text, dir, strlen(dir)) ? "elsewhere" : text + strlen(dir));
	}
	if (chdir("/"))
		printf("    no way back\n");
	return r;
}
static long op_opendir(const char *p)
{
	const int fd = open(p, O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd); /* opendir() looks at the name itself */
	struct dirent *entry;
	uint32_t sum = 0, n = 0;

	if (!d)
		return -1;
	while ((entry = readdir(d))) {
		n++;
		for (const char *at = entry->d_name; *at; at++)
			sum += (uint32_t)*at * (uint32_t)*at;
		sum += entry->d_type;
	}
	rewinddir(d);
	printf("    %u names, %u, %s\n", n, sum, readdir(d) ? "again" : "no more");
	closedir(d);
	return 0;
}

static const struct {
	const char *name;
	long (*call)(const char *path);
} ops[] = {
	{"stat", op_stat}, {"lstat", op_lstat}, {"statx", op_statx}, {"statx, bad flags", op_statx_mask}, {"statvfs", op_statvfs}, {"access", op_access},
	{"access rw", op_access_rw}, {"access x", op_access_x}, {"access, bad mode", op_access_bad}, {"open", op_read}, {"open to write", op_write},
	{"open rw", op_rdwr}, {"append", op_append}, {"O_TRUNC", op_trunc}, {"O_CREAT", op_create}, {"O_EXCL", op_excl}, {"O_DIRECTORY", op_directory},
	{"O_DIRECTORY|O_CREAT", op_directory_create}, {"O_NOFOLLOW", op_nofollow}, {"O_PATH", op_path}, {"O_TMPFILE", op_tmpfile}, {"O_CREAT|O_TRUNC", op_creat},
	{"mkdir", op_mkdir}, {"mkdir 1700", op_mkdir_mode}, {"rmdir", op_rmdir}, {"unlink", op_unlink}, {"AT_REMOVEDIR", op_unlinkat},
	{"unlinkat, bad flags", op_unlinkat_bad}, {"mkfifo", op_mkfifo}, {"mknod", op_mknod}, {"mknod socket", op_mknod_socket}, {"mknod directory", op_mknod_dir},
	{"symlink", op_symlink}, {"symlink to nothing", op_symlink_empty}, {"chmod", op_chmod}, {"chmod 7711", op_chmod_bits}, {"chown", op_chown},
	{"chown to another", op_chown_other}, {"lchown", op_lchown}, {"truncate", op_truncate}, {"truncate up", op_truncate_up}, {"truncate below 0", op_truncate_bad},
	{"readlink", op_readlink}, {"readlink, 2 bytes", op_readlink_short}, {"readlink, none", op_readlink_zero}, {"utimensat", op_utimens},
	{"utimensat, the link", op_utimens_link}, {"utimensat, nothing", op_utimens_omit}, {"utimensat, bad", op_utimens_bad}, {"getxattr", op_getxattr},
	{"setxattr", op_setxattr}, {"listxattr", op_listxattr}, {"chdir", op_chdir}, {"opendir", op_opendir},
};

static void one(size_t o, const struct kind *k)
{
	long r;

	errno = 0;
	r = ops[o].call(path_of(k));
	printf("%s %s = %ld %s\n", ops[o].name, k->say, r, error(r));
	look(r < 0);
}

void names_run(uint32_t n)
{
	const size_t nops = sizeof(ops) / sizeof(ops[0]);

	make_long();
	renew();
	list(&fresh);
	for (uint32_t i = 0; i < n; i++)
		one(draw(nops), &kinds[draw(NKINDS)]);
	for (size_t i = 0; !n && i < nops * NKINDS; i++)
		one(i / NKINDS, &kinds[i % NKINDS]);
	remove_tree(dir);
}

/* --- calls with two ------------------------------------------------------------------------------------------------------------------ */

static long pair_rename(const char *a, const char *b) { return rename(a, b); }
static long pair_noreplace(const char *a, const char *b) { return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 1); }
static long pair_exchange(const char *a, const char *b) { return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2); }
static long pair_bad(const char *a, const char *b) { return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 99); }
static long pair_link(const char *a, const char *b) { return link(a, b); }
static long pair_follow(const char *a, const char *b) { return linkat(AT_FDCWD, a, AT_FDCWD, b, AT_SYMLINK_FOLLOW); }

static const struct {
	const char *name;
	long (*call)(const char *, const char *);
} pair_ops[] = {
	{"rename", pair_rename}, {"rename, not over", pair_noreplace}, {"exchange", pair_exchange}, {"rename, bad flags", pair_bad},
	{"link", pair_link}, {"link, followed", pair_follow},
};

static void pair(size_t o, const struct kind *a, const struct kind *b)
{
	long r;

	errno = 0;
	r = pair_ops[o].call(path_of(a), path_of(b));
	printf("%s %s, %s = %ld %s\n", pair_ops[o].name, a->say, b->say, r, error(r));
	look(r < 0);
}

void pairs_run(uint32_t n)
{
	const size_t nops = sizeof(pair_ops) / sizeof(pair_ops[0]);

	make_long();
	renew();
	list(&fresh);
	for (uint32_t i = 0; i < n; i++)
		pair(draw(nops), &kinds[draw(NKINDS)], &kinds[draw(NKINDS)]);
	/* All pairs are thousands: each kind meets itself, and some that are drawn. */
	for (size_t i = 0; !n && i < nops * NKINDS * 9; i++) {
		const struct kind *a = &kinds[i / 9 % NKINDS];

		pair(i / 9 / NKINDS, a, i % 9 ? &kinds[draw(NKINDS)] : a);
	}
	remove_tree(dir);
}
