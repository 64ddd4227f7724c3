/* mapped.c - maps files shared and says what it sees: the same on the host as in a guest whose mmap() is forwarded
 *
 * usage: mapped CASE FILE [ARGUMENT]     FILE: 64 pages, each filled with its number
 *
 * Prints lines that are the same wherever it runs, and exits 0 if what it did worked.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGES 64u
#define RW (PROT_READ | PROT_WRITE)

static sigjmp_buf back;

static void on_signal(int n)
{
	siglongjmp(back, n);
}

/* Return: the byte, or the negative number of the signal that reading it got. */
static int look(const volatile uint8_t *at)
{
	int n = sigsetjmp(back, 1);

	return n ? -n : *at;
}

static int store(volatile uint8_t *at, uint8_t value)
{
	int n = sigsetjmp(back, 1);

	if (!n)
		*at = value;
	return -n;
}

static int must(int rc, const char *what)
{
	if (rc < 0) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
	return rc;
}

static uint8_t *map(void *at, size_t pages, int prot, int flags, int fd, size_t page)
{
	uint8_t *m = mmap(at, pages * PAGE, prot, flags, fd, (off_t)(page * PAGE));

	if (m == MAP_FAILED)
		printf("mmap: %s\n", strerror(errno));
	return m == MAP_FAILED ? NULL : m;
}

static int read_byte(int fd, size_t page, size_t offset)
{
	uint8_t b;

	return pread(fd, &b, 1, (off_t)(page * PAGE + offset)) == 1 ? b : -1;
}

static void case_shared(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 3, RW, MAP_SHARED, fd, 2), *n;

	if (!m)
		return;
	printf("sees %d %d %d\n", look(m), look(m + PAGE + 5), look(m + 3 * PAGE - 1));
	store(m + 100, 200);
	printf("a store is read: %d\n", read_byte(fd, 2, 100));
	must((int)pwrite(fd, "z", 1, 3 * PAGE + 7), "pwrite");
	printf("a write is seen: %c\n", look(m + PAGE + 7));
	n = map(NULL, 1, PROT_READ, MAP_SHARED, fd, 2);
	store(m + 101, 201);
	printf("a second mapping sees it: %d\n", n ? look(n + 101) : -1);
	printf("and may not be written: %d\n", n ? store(n, 1) : -1);
	close(fd);
	store(m + 102, 202);
	printf("without the descriptor: %d\n", look(n + 102));
	printf("msync: %d %d\n", msync(m, 3 * PAGE, MS_SYNC), msync(m, PAGE, MS_ASYNC));
	printf("munmap: %d %d\n", munmap(n, PAGE), munmap(m, 3 * PAGE));
	printf("then: %d %d\n", look(m), look(n));
}

static void case_parts(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *room = map(NULL, 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *m = map(room + 2 * PAGE, 8, RW, MAP_SHARED | MAP_FIXED, fd, 10);

	if (!m)
		return;
	printf("at the address that was asked for: %d\n", m == room + 2 * PAGE);
	printf("munmap of the middle: %d\n", munmap(m + 3 * PAGE, 2 * PAGE));
	for (int i = -1; i < 9; i++)
		printf(" %d", look(m + i * (int)PAGE));
	printf("\n");
	printf("mprotect: %d\n", mprotect(m, 2 * PAGE, PROT_READ));
	printf("stores: %d", store(m, 1));
	printf(" %d", store(m + PAGE, 1));
	printf(" %d\n", store(m + 2 * PAGE, 77));
	printf("read: %d %d\n", read_byte(fd, 10, 0), read_byte(fd, 12, 0));
	printf("back: %d", mprotect(m, 2 * PAGE, RW));
	printf(" %d", store(m, 78));
	printf(" %d\n", read_byte(fd, 10, 0));
	printf("shorter: %d", mremap(m + 5 * PAGE, 3 * PAGE, PAGE, 0) == m + 5 * PAGE);
	printf(" %d %d\n", look(m + 5 * PAGE), look(m + 6 * PAGE));
	printf("anonymous memory over it: %d\n", map(m, 3, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == m);
	printf("sees %d %d; file %d\n", look(m), look(m + 2 * PAGE), read_byte(fd, 12, 0));
	printf("a file over that: %d\n", map(m, 2, RW, MAP_SHARED | MAP_FIXED, fd, 30) == m);
	printf("sees %d %d %d\n", look(m), look(m + PAGE), look(m + 2 * PAGE));
	munmap(room, 16 * PAGE);
}

static void case_refused(const char *file)
{
	const int reads = must(open(file, O_RDONLY), "open"), writes = must(open(file, O_WRONLY), "open");
	uint8_t *m = map(NULL, 2, PROT_READ, MAP_SHARED, reads, 5);
	int pair[2];

	printf("read-only: %d\n", m ? look(m) : -1);
	if (m && mprotect(m, PAGE, RW))
		printf("mprotect: %s\n", strerror(errno));
	map(NULL, 1, RW, MAP_SHARED, reads, 0);
	map(NULL, 1, PROT_READ, MAP_SHARED, writes, 0);
	map(NULL, 0, PROT_READ, MAP_SHARED, reads, 0);
	if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reads, 100) == MAP_FAILED)
		printf("an odd offset: %s\n", strerror(errno));
	must(pipe(pair), "pipe");
	map(NULL, 1, PROT_READ, MAP_SHARED, pair[0], 0);
	map(NULL, 1, PROT_READ, MAP_SHARED, 999, 0);
}

static void case_private(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 2, RW, MAP_PRIVATE, fd, 6);

	if (!m)
		return;
	printf("sees %d %d\n", look(m), look(m + PAGE));
	store(m, 99);
	printf("keeps %d, file %d\n", look(m), read_byte(fd, 6, 0));
}

/* A file that becomes shorter: the signal is this program's, nobody else's. */
static void case_cut(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 4, RW, MAP_SHARED, fd, 60);

	if (!m)
		return;
	printf("sees %d\n", look(m + 3 * PAGE));
	must(ftruncate(fd, 62 * PAGE), "ftruncate");
	for (int i = 0; i < 3000; i++) { /* in a guest the signal comes a moment later */
		if (look(m + 3 * PAGE) == -SIGBUS) {
			printf("a page that is gone: SIGBUS\n");
			break;
		}
		if (!sigsetjmp(back, 1))
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		else {
			printf("a page that is gone: SIGBUS\n");
			break;
		}
	}
	printf("what is left: %d\n", look(m + PAGE));
}

/* Two processes: one waits for what the other stores, and answers. */
static void case_ping(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	volatile uint8_t *m = map(NULL, 1, RW, MAP_SHARED, fd, 20);

	for (unsigned int i = 1; m && i <= 50; i++) {
		m[0] = (uint8_t)i;
		while (m[1] != (uint8_t)i)
			usleep(100);
	}
	printf("50 times there and back\n");
}

static void case_pong(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	volatile uint8_t *m = map(NULL, 1, RW, MAP_SHARED, fd, 20);

	for (unsigned int i = 1; m && i <= 50; i++) {
		while (m[0] != (uint8_t)i)
			usleep(100);
		m[1] = (uint8_t)i;
	}
}

/* Buffers of system calls in a mapping. */
static void case_buffers(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open"), other = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 4, RW, MAP_SHARED, fd, 40);

	if (!m)
		return;
	memset(m, 'm', 10);
	printf("pwrite from it: %d", (int)pwrite(other, m, 10, 50 * PAGE));
	printf(" %d\n", read_byte(fd, 50, 9));
	printf("pread into it: %d", (int)pread(other, m + PAGE, PAGE, 51 * PAGE));
	printf(" %d %d\n", look(m + PAGE), read_byte(fd, 41, 100));
	printf("across its end: %d\n", (int)pwrite(other, m + 3 * PAGE, PAGE, 52 * PAGE));
	munmap(m, 4 * PAGE);
	if (pwrite(other, m, 10, 50 * PAGE) < 0)
		printf("afterwards: %s\n", strerror(errno));
	m = map(m, 4, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(m, 'n', PAGE);
	printf("memory there: %d", (int)pwrite(other, m, 10, 50 * PAGE));
	printf(" %d\n", read_byte(fd, 50, 9));
}

/* Mapped, seen and unmapped, many times; how long one takes goes to standard error. */
static void case_many(const char *file, const char *times)
{
	const int fd = must(open(file, O_RDWR), "open"), n = times ? atoi(times) : 200;
	struct timespec from, to;
	int good = 0;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < n; i++) {
		const size_t page = (size_t)i % 60;
		uint8_t *m = map(NULL, 1 + page % 4, RW, MAP_SHARED, fd, page);

		good += m && look(m + 50) == (int)page && !munmap(m, (1 + page % 4) * PAGE);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("many: %d\n", good == n);
	fprintf(stderr, "%.0f us each\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / n / 1e3);
}

/* More than there is room for, then less; a file without content is as good. */
static void case_much(const char *file)
{
	const int fd = must(open(file, O_RDWR | O_CREAT | O_TRUNC, 0644), "open");
	const size_t pages = 48 * 256, half = 24 * 256, small = 4 * 256;
	uint8_t *m[4] = {NULL};

	must(ftruncate(fd, (off_t)(pages * 2 * PAGE)), "ftruncate");
	map(NULL, pages * 2, RW, MAP_SHARED, fd, 0);
	m[0] = map(NULL, half, RW, MAP_SHARED, fd, 0);
	m[1] = map(NULL, half, RW, MAP_SHARED, fd, half);
	map(NULL, pages, RW, MAP_SHARED, fd, 0);
	if (m[0] && m[1])
		printf("munmap: %d\n", munmap(m[0] + 1 * 256 * PAGE, small * PAGE) + munmap(m[0] + 8 * 256 * PAGE, small * PAGE) + munmap(m[1], small * PAGE));
	m[2] = map(NULL, 22 * 256, RW, MAP_SHARED, fd, 0); /* in pieces */
	for (size_t i = 0; m[2] && i < 22 * 256; i++)
		store(m[2] + i * PAGE, (uint8_t)i);
	for (size_t i = 0; m[2] && i < 22 * 256; i++)
		if (read_byte(fd, i, 0) != (uint8_t)i) {
			printf("page %zu of a mapping in pieces is another one\n", i);
			break;
		}
	printf("mapped in pieces: %d\n", m[2] != NULL);
}

/* Runs a child, and says how it ended. */
static void in_child(void (*run)(uint8_t *m, int fd), uint8_t *m, int fd)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		run(m, fd);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	printf("child: %d\n", status);
}

static void child_looks(uint8_t *m, int fd)
{
	(void)fd;
	printf("a child sees %d %d %d\n", look(m), look(m + PAGE), look(m + 3 * PAGE));
	store(m + 7, 70);
	printf("gives a page back: %d", munmap(m + PAGE, PAGE));
	printf(" %d %d\n", look(m + PAGE), look(m + 2 * PAGE));
	printf("protects one: %d", mprotect(m + 2 * PAGE, PAGE, PROT_READ));
	printf(" %d\n", store(m + 2 * PAGE, 1));
}

/* From here on it needs a shadow of its own. */
static void child_calls(uint8_t *m, int fd)
{
	uint8_t *n;

	m[4] = 40;
	printf("a child's pwrite from it: %d", (int)pwrite(fd, m, 10, 50 * PAGE));
	printf(" %d\n", read_byte(fd, 50, 4));
	printf("its pread into it: %d %d\n", (int)pread(fd, m + 2 * PAGE, PAGE, 51 * PAGE), look(m + 2 * PAGE));
	printf("its msync: %d\n", msync(m, PAGE, MS_SYNC));
	n = map(NULL, 1, RW, MAP_SHARED, fd, 30);
	printf("its own mapping: %d, and that: %d\n", n ? look(n) : -1, look(m + 3 * PAGE));
	printf("gives one back: %d", munmap(m + 3 * PAGE, PAGE));
	printf(" %d\n", look(m + 3 * PAGE));
	in_child(child_looks, m - PAGE, fd); /* a page before it was there already */
	printf("and sees what that one stored: %d\n", look(m - PAGE + 7));
}

/* Children have the mappings, and nobody takes them away from another. */
static void case_fork(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 8, RW, MAP_SHARED, fd, 8), *other;

	if (!m)
		return;
	in_child(child_looks, m, fd);
	printf("the parent sees what it stored: %d, and all pages: %d %d\n", look(m + 7), look(m + PAGE), look(m + 7 * PAGE));
	munmap(m + 5 * PAGE, 2 * PAGE);
	other = map(NULL, 2, RW, MAP_SHARED, fd, 60);
	printf("then %d %d %d %d\n", look(m), look(m + 5 * PAGE), look(m + 7 * PAGE), other ? look(other) : -1);
}

/* A child that makes calls of its own has them, and its child. */
static void case_heir(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 8, RW, MAP_SHARED, fd, 8);

	if (!m)
		return;
	in_child(child_calls, m + PAGE, fd);
	printf("the parent sees %d %d\n", look(m + PAGE + 4), look(m + 4 * PAGE));
}

/* A parent gives its mapping back and ends; its child goes on, and nobody else gets the pages. */
static void parent_of_orphan(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 4, RW, MAP_SHARED, fd, 12), *other;
	int pair[2];
	pid_t pid;
	char c;

	must(pipe(pair), "pipe");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(pair[1]);
		printf("the child waits: %d\n", (int)read(pair[0], &c, 1)); /* until the parent has ended */
		printf("sees %d %d\n", look(m), look(m + 3 * PAGE));
		store(m + 9, 99);
		printf("its store is read: %d\n", read_byte(fd, 12, 9));
		return;
	}
	munmap(m, 4 * PAGE);
	for (size_t i = 0; i < 20; i++) {
		other = map(NULL, 4, RW, MAP_SHARED, fd, 40);
		if (other)
			memset(other, 'o', PAGE);
	}
	printf("the parent ends: %d\n", look(m));
}

static void case_orphan(const char *file)
{
	int pair[2];
	pid_t pid;
	char c;

	must(pipe(pair), "pipe");
	pid = fork();
	if (!pid) {
		close(pair[0]);
		parent_of_orphan(file);
		exit(0);
	}
	close(pair[1]);
	waitpid(pid, NULL, 0);
	printf("both have ended: %d\n", (int)read(pair[0], &c, 1));
}

/* A child keeps what its parent has given back; then, when a line has come, it looks. */
static void case_lent(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 4, RW, MAP_SHARED, fd, 12);
	pid_t pid;

	if (!m)
		return;
	pid = fork();
	if (!pid) {
		printf("held: %d\n", look(m));
		fflush(stdout);
		getchar();
		printf("then %d\n", look(m));
		return;
	}
	munmap(m, 4 * PAGE);
	waitpid(pid, NULL, 0);
}

/* A mapping that becomes longer, moves, and is there twice. */
static void case_grow(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *room = map(NULL, 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *m, *n;

	m = map(room, 2, RW, MAP_SHARED | MAP_FIXED, fd, 20);
	if (!m)
		return;
	munmap(room + 2 * PAGE, 6 * PAGE);
	close(fd);
	printf("in place: %d", mremap(m, 2 * PAGE, 5 * PAGE, 0) == m);
	for (int i = 0; i < 6; i++)
		printf(" %d", look(m + i * (int)PAGE));
	printf("\nno room: %d", mremap(m, 5 * PAGE, 20 * PAGE, 0) == MAP_FAILED ? errno : 0);
	n = mremap(m, 5 * PAGE, 20 * PAGE, MREMAP_MAYMOVE);
	printf("\nmoved: %d", n != MAP_FAILED && n != m);
	if (n == MAP_FAILED)
		return;
	printf(" %d %d %d; before: %d\n", look(n), look(n + 4 * PAGE), look(n + 19 * PAGE), look(m));
	store(n + 6 * PAGE, 66);
	m = mremap(n + 5 * PAGE, 4 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 10 * PAGE);
	printf("a part of it to an address: %d", m == room + 10 * PAGE);
	printf(" %d %d %d, behind: %d; before: %d %d %d\n", look(m), look(m + PAGE), look(m + 2 * PAGE), look(m + 3 * PAGE), look(n + 4 * PAGE),
	       look(n + 5 * PAGE), look(n + 9 * PAGE));
	m = mremap(n, 0, 3 * PAGE, MREMAP_MAYMOVE);
	printf("twice: %d", m != MAP_FAILED && m != n);
	printf(" %d %d", look(m), look(n));
	store(m + 3, 33);
	printf(" %d\n", look(n + 3));
	printf("beyond: %d", mremap(n, 30 * PAGE, 31 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0);
	printf(" nothing: %d", mremap(n, PAGE, 0, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0);
	printf(" odd: %d\n", mremap(n + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0);
}

/* Calls with whatever arguments, the same ones everywhere; addresses in results are told by where they are in the room. */
static void case_odd(const char *file)
{
	static const int prots[] = {0, PROT_READ, PROT_WRITE, RW};
	const int both = must(open(file, O_RDWR), "open"), reads = must(open(file, O_RDONLY), "open");
	uint8_t *room = map(NULL, 64, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t seed = 7, sum = 0;

	for (int step = 0; room && step < 400; step++) {
		const uint32_t r = (seed = seed * 1664525u + 1013904223u) >> 8;
		uint8_t *at = room + (r % 48) * PAGE + (r % 31 ? 0 : r % 4095);
		const size_t bytes = r % 29 ? (1 + (r >> 6) % 12) * PAGE - (r >> 4) % 3 * 1000 : 0, page = (r >> 10) % 50;
		const int prot = prots[(r >> 3) % 4], fd = (r >> 5) % 3 ? both : reads;
		long rc;

		errno = 0;
		switch ((r >> 14) % 8) {
		case 0:
		case 1:
		case 2: rc = (long)(mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)(page * PAGE + (r % 37 ? 0 : 512))) == at); break;
		case 3: rc = munmap(at, bytes); break;
		case 4: rc = mprotect(at, bytes, prot); break;
		case 5: rc = (long)(mmap(at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at); break;
		case 6: rc = msync(at, PAGE, r % 2 ? MS_SYNC : MS_ASYNC); break;
		default: rc = madvise(at, PAGE, MADV_NORMAL); break;
		}
		printf("%d: %ld %d", step, rc, rc == 1 ? 0 : errno);
		for (int i = 0; i < 4; i++) {
			const uint32_t k = (r + (uint32_t)i * 7) % 60;
			const int was = look(room + k * PAGE + 11);

			printf(" %d", was);
			if (r & 1u << i)
				sum += (uint32_t)store(room + k * PAGE + 11, (uint8_t)(was < 0 ? 0 : was + 1));
		}
		printf(" %u\n", sum);
	}
}

/* Mapped; then, when a line has come, looked at again. */
static void case_waits(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");
	uint8_t *m = map(NULL, 2, RW, MAP_SHARED, fd, 33);

	if (!m)
		return;
	printf("sees %d\n", look(m));
	fflush(stdout);
	getchar();
	printf("then %d\n", look(m));
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* First touch, loads and stores of 16 MiB, beside anonymous memory; the best of five. */
static void case_speed(const char *file)
{
	const int fd = must(open(file, O_RDWR | O_CREAT | O_TRUNC, 0644), "open");
	const size_t bytes = 16u << 20;
	double best[2][3] = {{1e9, 1e9, 1e9}, {1e9, 1e9, 1e9}};
	uint64_t sum = 0;

	must(ftruncate(fd, (off_t)bytes), "ftruncate");
	for (int round = 0; round < 10; round++) {
		const int which = round % 2;
		uint64_t *m = (uint64_t *)(void *)map(NULL, bytes / PAGE, RW, which ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, which ? fd : -1, 0);
		const double t0 = seconds();
		double t[3];

		if (!m)
			return;
		for (size_t i = 0; i < bytes / 8; i += PAGE / 8)
			((volatile uint64_t *)m)[i] = 1;
		t[0] = seconds();
		for (size_t i = 0; i < bytes / 8; i++)
			sum += ((volatile uint64_t *)m)[i];
		t[1] = seconds();
		for (size_t i = 0; i < bytes / 8; i++)
			((volatile uint64_t *)m)[i] = i;
		t[2] = seconds();
		for (int k = 0; k < 3; k++) {
			const double took = t[k] - (k ? t[k - 1] : t0);

			best[which][k] = took < best[which][k] ? took : best[which][k];
		}
		munmap(m, bytes);
	}
	for (int k = 0; k < 3; k++)
		fprintf(stderr, "%s: anonymous %.2f ms, file of the host %.2f ms, %.2fx\n", k ? k > 1 ? "stores" : "loads" : "first touch", best[0][k] * 1e3,
			best[1][k] * 1e3, best[1][k] / best[0][k]);
	printf("speed: %d\n", sum > 0);
}

/* Mapped, and not given back. */
static void case_held(const char *file)
{
	const int fd = must(open(file, O_RDWR), "open");

	if (!map(NULL, PAGES, RW, MAP_SHARED, fd, 0))
		return;
	printf("held\n");
	fflush(stdout);
	pause();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const char *file);
	} cases[] = {{"shared", case_shared}, {"parts", case_parts},   {"refused", case_refused}, {"private", case_private}, {"cut", case_cut},
		     {"ping", case_ping},     {"pong", case_pong},     {"buffers", case_buffers}, {"held", case_held},
		     {"much", case_much},     {"fork", case_fork},     {"waits", case_waits},     {"orphan", case_orphan},   {"heir", case_heir},   {"grow", case_grow},
		     {"odd", case_odd},         {"lent", case_lent},
		     {"speed", case_speed}};
	struct sigaction act = {.sa_handler = on_signal};

	if (argc < 3)
		return 2;
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	if (!strcmp(argv[1], "many")) {
		case_many(argv[2], argv[3]);
		return 0;
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (!strcmp(argv[1], cases[i].name)) {
			cases[i].run(argv[2]);
			return 0;
		}
	return 2;
}
