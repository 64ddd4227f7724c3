/* references.c - what the kernel takes to give references to a process's pages, and to show where they are, without anything of ours
 *
 * usage: references MEGABYTES ROUNDS
 *
 * Anonymous memory of small pages.  Prints, in microseconds, medians of ROUNDS in turn: PIN HOLD READ
 *
 *   PIN	one buffer of an io_uring: what keeps pages where they are (runtime/guest/helper/pin.h)
 *   HOLD	vmsplice() into a pipe: what keeps them from becoming anybody else's (runtime/guest/helper/hold.h)
 *   READ	/proc/self/pagemap, in one read for each 64 MiB
 */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/bench/median.h"

#define PAGE 4096u
#define PIECE_BYTES ((size_t)64 << 20)
#define ANYBODYS_BYTES (1 << 20) /* /proc/sys/fs/pipe-max-size */
#define ROUNDS_MAX 99

/* Once it is closed the kernel lets go of the pages in its own time, 6.1 after a second. */
static double pin(char *area, size_t bytes)
{
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	const int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	struct iovec iov = {area, bytes};
	double took = bench_now_us();

	if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1))
		err(2, "io_uring");
	took = bench_now_us() - took;
	close(ring);
	return took;
}

static double hold(char *area, size_t bytes)
{
	const int sink = open("/dev/null", O_WRONLY);
	double took = 0;
	size_t room;
	int pair[2];

	if (sink < 0 || pipe2(pair, O_NONBLOCK))
		err(2, "a pipe");
	if (fcntl(pair[1], F_SETPIPE_SZ, PIECE_BYTES) < 0) /* which takes CAP_SYS_RESOURCE */
		fcntl(pair[1], F_SETPIPE_SZ, ANYBODYS_BYTES);
	room = (size_t)fcntl(pair[1], F_GETPIPE_SZ);
	for (size_t at = 0; at < bytes; at += room) {
		struct iovec iov = {area + at, bytes - at < room ? bytes - at : room};

		took -= bench_now_us();
		if (vmsplice(pair[1], &iov, 1, SPLICE_F_NONBLOCK) != (ssize_t)iov.iov_len)
			err(2, "vmsplice");
		took += bench_now_us();
		for (size_t left = iov.iov_len; left;) {
			const ssize_t n = splice(pair[0], NULL, sink, NULL, left, 0);

			if (n <= 0)
				err(2, "splice");
			left -= (size_t)n;
		}
	}
	close(pair[0]);
	close(pair[1]);
	close(sink);
	return took;
}

static double look(const char *area, size_t bytes)
{
	static uint64_t word[PIECE_BYTES / PAGE];
	const int fd = open("/proc/self/pagemap", O_RDONLY);
	double took = bench_now_us();

	for (size_t at = 0; at < bytes; at += PIECE_BYTES) {
		const size_t n = (bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES) / PAGE * 8;

		if (pread(fd, word, n, (off_t)(((uintptr_t)area + at) / PAGE * 8)) != (ssize_t)n)
			err(2, "pagemap");
	}
	took = bench_now_us() - took;
	close(fd);
	return took;
}

int main(int argc, char **argv)
{
	const size_t bytes = argc == 3 ? strtoul(argv[1], NULL, 10) << 20 : 0, rounds = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	static double v[3][ROUNDS_MAX];
	char *area;

	if (!bytes || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: references MEGABYTES ROUNDS\n");
		return 1;
	}
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || madvise(area, bytes, MADV_NOHUGEPAGE))
		err(2, "%zu bytes", bytes);
	for (size_t at = 0; at < bytes; at += PAGE)
		area[at] = 1;
	for (size_t i = 0; i < rounds; i++) {
		v[0][i] = pin(area, bytes);
		v[1][i] = hold(area, bytes);
		v[2][i] = look(area, bytes);
	}
	printf("%.0f %.0f %.0f\n", bench_median(v[0], rounds), bench_median(v[1], rounds), bench_median(v[2], rounds));
	return 0;
}
