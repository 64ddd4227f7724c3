/* estate_lay.c - descriptors taken from a process, from outside (estate.h) */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/estate.h"

static bool same_file(int fd, int other)
{
	struct stat a, b;

	return fstat(fd, &a) || fstat(other, &b) || (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/* Return: a descriptor, the caller's; -1: there is none that may go. */
static int take(int pidfd, uint32_t number, int hold, int ram_fd)
{
	cleanup_close int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (fd < 0 || (ram_fd >= 0 && same_file(fd, ram_fd)))
		return -1;
	/* What holds a number that nobody has opened (shadow.h). */
	if (hold >= 0 && same_file(fd, hold) && fcntl(fd, F_GETFL) & O_PATH)
		return -1;
	return steal_fd(&fd);
}

static int send_batch(int answer, const struct estate_batch *b, const int *fds)
{
	return estate_send(answer, b, offsetof(struct estate_batch, number) + b->n * sizeof(b->number[0]), fds, b->n);
}

void estate_lay(int pidfd, int hold, int ram_fd, const struct estate_order *o, int answer)
{
	const int room = 1 << 20; /* for descriptors of DS_ESTATE_PAIRS_MAX numbers */
	struct estate_batch b = {0};
	int fds[DS_SHADOW_ADOPT_MAX], error = 0;

	setsockopt(answer, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	for (uint32_t i = 0; i <= o->n && !error; i++) {
		if (i < o->n && o->number[i] < DS_SHADOW_GUEST_FDS) {
			fds[b.n] = take(pidfd, o->number[i], hold, ram_fd);
			if (fds[b.n] >= 0)
				b.number[b.n++] = o->number[i];
		}
		if (b.n < DS_SHADOW_ADOPT_MAX && i < o->n)
			continue;
		error = b.n ? send_batch(answer, &b, fds) : 0;
		while (b.n)
			close(fds[--b.n]);
	}
	if (!error)
		send_batch(answer, &b, NULL); /* with n = 0: that was all */
}
