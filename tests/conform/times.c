/* times.c - what each call does to the times of a file and of its directory, to set-id bits and to open files whose name is gone */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tests/conform/conform.h"

static int fd, dfd;
static char buf[100];

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){0, ms * 1000000L}, NULL);
}

static int later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec > b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec > b->tv_nsec);
}

/* @call is made on a file "f" in directory "d", which is open as fd, the directory as dfd; all times are long ago before. */
#define TIMES(call)                                                                                                              \
	do {                                                                                                                     \
		struct stat f0, d0, f1, d1;                                                                                      \
		begin(&f0, &d0);                                                                                                 \
		errno = 0;                                                                                                       \
		const long r_ = (long)(call);                                                                                    \
		end(#call, r_, &f0, &d0, &f1, &d1);                                                                              \
	} while (0)

static void begin(struct stat *f, struct stat *d)
{
	static const struct timespec old[2] = {{1000000000, 5}, {1000000001, 7}};

	unlink(in("d/g"));
	unlink(in("d/f"));
	rmdir(in("d/sub"));
	mkdir(in("d"), 0755);
	fd = open(in("d/f"), O_RDWR | O_CREAT | O_TRUNC, 0644);
	dfd = open(in("d"), O_RDONLY | O_DIRECTORY);
	if (write(fd, "0123456789", 10) != 10)
		printf("write: %s\n", strerror(errno));
	lseek(fd, 0, SEEK_SET);
	futimens(fd, old);
	futimens(dfd, old);
	fstat(fd, f);
	fstat(dfd, d);
	pause_ms(12); /* a tick of every usual kernel: times of change differ */
}

static void end(const char *what, long r, const struct stat *f0, const struct stat *d0, struct stat *f1, struct stat *d1)
{
	printf("%s = %ld %s:", what, r, error(r));
	if (fstat(fd, f1) || fstat(dfd, d1))
		printf(" fstat %s", strerror(errno));
	/* not atime: whether it moves is the mount's business */
	printf(" file%s%s, directory%s%s", later(&f1->st_mtim, &f0->st_mtim) ? " mtime" : "", later(&f1->st_ctim, &f0->st_ctim) ? " ctime" : "",
	       later(&d1->st_mtim, &d0->st_mtim) ? " mtime" : "", later(&d1->st_ctim, &d0->st_ctim) ? " ctime" : "");
	printf("; %o %ld %ld\n", f1->st_mode, (long)f1->st_size, (long)f1->st_nlink);
	close(fd);
	close(dfd);
}

static void set_times(void)
{
	struct timespec t[2] = {{-5, 999999999}, {INT64_C(4000000000), 1}};
	struct stat st;

	fd = open(in("t"), O_RDWR | O_CREAT, 0644);
	printf("futimens = %d\n", futimens(fd, t));
	printf("stat = %d\n", stat(in("t"), &st));
	printf("%lld.%09ld %lld.%09ld\n", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	t[0].tv_nsec = UTIME_OMIT;
	t[1].tv_nsec = UTIME_NOW;
	printf("futimens = %d\n", futimens(fd, t));
	fstat(fd, &st);
	printf("%lld %d\n", (long long)st.st_atim.tv_sec, st.st_mtim.tv_sec > 1700000000 && st.st_mtim.tv_sec < 4000000000);
	close(fd);
	unlink(in("t"));
}

/* A file that has lost its name lives on. */
static void nameless(void)
{
	struct stat st;
	char c[8] = "";

	fd = open(in("gone"), O_RDWR | O_CREAT, 0644);
	printf("%zd\n", write(fd, "still", 5));
	printf("%d\n", unlink(in("gone")));
	printf("%d\n", fstat(fd, &st));
	printf("%ld\n", (long)st.st_nlink);
	printf("%zd\n", pread(fd, c, 7, 0));
	printf("%s\n", c);
	printf("%d\n", open(in("gone"), O_RDONLY));
	close(fd);
	mkdir(in("gone"), 0755);
	fd = open(in("gone"), O_RDONLY | O_DIRECTORY);
	printf("%d\n", rmdir(in("gone")));
	printf("%d\n", openat(fd, "x", O_CREAT | O_WRONLY, 0600));
	printf("%s\n", strerrorname_np(errno));
	close(fd);
}

void times_run(void)
{
	struct iovec iov = {buf, 3};

	TIMES(read(fd, buf, 5));
	TIMES(write(fd, "x", 1));
	TIMES(write(fd, "x", 0));
	TIMES(pwrite(fd, "x", 1, 50));
	TIMES(writev(fd, &iov, 1));
	TIMES(ftruncate(fd, 3));
	TIMES(ftruncate(fd, 10));
	TIMES(ftruncate(fd, 30));
	TIMES(truncate(in("d/f"), 10));
	TIMES(fchmod(fd, 0600));
	TIMES(fchmod(fd, 0644));
	TIMES(chmod(in("d"), 0700));
	TIMES(fchown(fd, (uid_t)-1, (gid_t)-1));
	TIMES(fchown(fd, getuid(), getgid()));
	TIMES(link(in("d/f"), in("d/g")));
	TIMES(rename(in("d/f"), in("d/g")));
	TIMES(symlink("f", in("d/g")));
	TIMES(unlink(in("d/f")));
	TIMES(mkdir(in("d/sub"), 0755));
	TIMES(open(in("d/f"), O_RDWR | O_TRUNC) < 0);
	TIMES(open(in("d/g"), O_RDWR | O_CREAT, 0600) < 0);
	TIMES(open(in("d/f"), O_RDWR | O_CREAT, 0600) < 0);
	TIMES(mkfifo(in("d/g"), 0600));
	TIMES(fallocate(fd, 0, 0, 100));
	TIMES(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100));
	TIMES(fsync(fd));
	TIMES(lseek(fd, 3, SEEK_END));
	/* bits that a write takes away from who is not root */
	TIMES(fchmod(fd, 06755) || write(fd, "y", 1) != 1);
	TIMES(fchmod(fd, 06755) || ftruncate(fd, 2));
	TIMES(fchmod(fd, 06755) || fchown(fd, getuid(), getgid()));
	TIMES(fchmod(fd, 06644) || write(fd, "y", 1) != 1);
	set_times();
	nameless();
	unlink(in("d/g"));
	unlink(in("d/f"));
	rmdir(in("d"));
}
