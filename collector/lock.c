/* lock.c - one dscollect a database; theory of operation in lock.h */
#include "collector/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"

static void read_holder(int fd, struct lock_holder *holder)
{
	char text[64];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	int pid;

	*holder = (struct lock_holder){0};
	if (n <= 0)
		return;
	text[n] = '\0';
	if (sscanf(text, "%d %lld", &pid, &holder->since) == 2 && pid > 0)
		holder->pid = pid;
}

int lock_take(const char *db, int *out, struct lock_holder *holder)
{
	char path[PATH_MAX], text[64];
	cleanup_close int fd = -1;
	int n = snprintf(path, sizeof(path), "%s.lock", db);

	if (n >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return -errno;
		read_holder(fd, holder);
		return -EBUSY;
	}
	/* A full disk must not keep a lock from being taken: the text is for people. */
	n = snprintf(text, sizeof(text), "%d %lld\n", (int)getpid(), (long long)time(NULL));
	if (ftruncate(fd, 0) || pwrite(fd, text, n, 0) != n)
		(void)!ftruncate(fd, 0);
	*out = steal_fd(&fd);
	return 0;
}
