/* data.c - operations on a file drawn by lot, beside a model in memory of what should be in it (the idea of fsx)
 *
 * A wrong byte is found here and said, whether or not calls are forwarded; sums and results are printed now and then, so that two runs
 * with the same seed can be compared in what no model tells: offsets, errors, sizes on other file systems.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/conform/conform.h"

#define ROOM (192u << 10)
#define PIECES 5

static uint8_t model[ROOM], got[ROOM], out[ROOM];
static uint32_t size;	   /* of the file, as it should be */
static int64_t offset;	   /* of fd and its copy */
static int fd, copy, append, reader;
static uint32_t bad, at_op;

static void wrong(const char *what, long r)
{
	if (bad++ < 20)
		printf("operation %u, %s: %ld %s; size %u, offset %lld\n", at_op, what, r, error(r), size, (long long)offset);
}

static void fill(uint32_t n)
{
	const uint8_t from = (uint8_t)draw(256);

	for (uint32_t i = 0; i < n; i++)
		out[i] = (uint8_t)(from + i * 7 + (i >> 8));
}

static void put(uint32_t at, uint32_t n)
{
	if (at > size)
		memset(model + size, 0, at - size);
	memcpy(model + at, out, n);
	if (at + n > size)
		size = at + n;
}

static uint32_t expected(uint64_t at, uint32_t n)
{
	return at >= size ? 0 : n < size - at ? n : size - (uint32_t)at;
}

static void same(const char *what, long r, uint64_t at, uint32_t n)
{
	if (r != (long)expected(at, n) || memcmp(got, model + at, (size_t)r))
		wrong(what, r);
}

/* Cuts @n bytes at @base into pieces, an empty one among them now and then. */
static int cut(struct iovec *iov, uint8_t *base, uint32_t n)
{
	int pieces = 0;

	while (pieces < PIECES - 1) {
		const uint32_t part = (uint32_t)draw(n + 1);

		iov[pieces++] = (struct iovec){base, part};
		base += part;
		n -= part;
	}
	iov[pieces++] = (struct iovec){base, n};
	return pieces;
}

static uint32_t length(void)
{
	return (uint32_t)draw(draw(4) ? 5000 : 70000);
}

static void op_read(void)
{
	struct iovec iov[PIECES];
	const uint32_t n = length(), at = (uint32_t)draw(ROOM);
	const int which = draw(2) ? fd : copy;
	long r;

	switch (draw(4)) {
	case 0:
		r = read(which, got, n);
		same("read", r, (uint64_t)offset, n);
		offset += r > 0 ? r : 0;
		break;
	case 1:
		r = readv(which, iov, cut(iov, got, n));
		same("readv", r, (uint64_t)offset, n);
		offset += r > 0 ? r : 0;
		break;
	case 2: same("pread", pread(reader, got, n, at), at, n); break;
	default: same("preadv", preadv(which, iov, cut(iov, got, n), at), at, n); break;
	}
}

static void op_write(void)
{
	struct iovec iov[PIECES];
	const bool here = draw(2) && offset + 70000 < ROOM;
	const uint32_t n = length(), at = here ? (uint32_t)offset : (uint32_t)draw(ROOM - 70000);
	const int which = draw(2) ? fd : copy;
	long r;

	fill(n);
	if (here)
		r = draw(2) ? write(which, out, n) : writev(which, iov, cut(iov, out, n));
	else
		r = draw(2) ? pwrite(which, out, n, at) : pwritev(which, iov, cut(iov, out, n), at);
	if (r != (long)n) {
		wrong("write", r);
		return;
	}
	if (n)
		put(at, n);
	offset += here ? r : 0;
}

static void op_append(void)
{
	const uint32_t n = (uint32_t)draw(3000);

	if (size + n > ROOM)
		return;
	fill(n);
	if (write(append, out, n) != (long)n)
		wrong("append", -1);
	else
		put(size, n);
}

static void op_seek(void)
{
	static const int from[] = {SEEK_SET, SEEK_CUR, SEEK_END};
	const int which = (int)draw(3);
	const int64_t by = (int64_t)draw(ROOM) - (which ? (int64_t)ROOM / 2 : 1000);
	const int64_t want = by + (which == 1 ? offset : which == 2 ? (int64_t)size : 0), r = lseek(draw(2) ? fd : copy, by, from[which]);

	if (want < 0 ? r != -1 || errno != EINVAL : r != want)
		wrong("lseek", r);
	if (r >= 0)
		offset = r;
}

static void op_truncate(void)
{
	const uint32_t to = (uint32_t)draw(ROOM);

	if (draw(2) ? ftruncate(fd, to) : truncate(in("data"), to)) {
		wrong("truncate", -1);
		return;
	}
	if (to > size)
		memset(model + size, 0, to - size);
	size = to;
}

static void op_allocate(void)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, 0x7000};
	const uint32_t at = (uint32_t)draw(ROOM / 2), n = 1 + (uint32_t)draw(ROOM / 2);
	const int mode = modes[draw(5)];
	const long r = fallocate(fd, mode, at, n);

	if (r) { /* what a file system does not know it says on both sides */
		printf("fallocate %d: %s\n", mode, error(r));
		return;
	}
	if (!mode && at + n > size) {
		memset(model + size, 0, at + n - size);
		size = at + n;
	}
	for (uint32_t i = at; mode & FALLOC_FL_PUNCH_HOLE && i < at + n && i < size; i++)
		model[i] = 0;
}

static void op_map(void)
{
	const uint32_t page = (uint32_t)draw(ROOM >> 12) << 12, n = 1 + (uint32_t)draw(30000);
	uint8_t *p;

	if (!size)
		return;
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE, draw(2) ? fd : reader, page);
	if (p == MAP_FAILED) {
		wrong("mmap", -1);
		return;
	}
	if (memcmp(p, model + page, expected(page, n)))
		wrong("what is mapped", 0);
	if (expected(page, 1)) {
		p[0] ^= 1; /* nobody else's */
		if (pread(fd, got, 1, page) != 1 || got[0] != model[page])
			wrong("a private mapping", 0);
	}
	munmap(p, n);
}

static void op_copy(void)
{
	off_t from = (off_t)draw(ROOM / 2), to = (off_t)(ROOM / 2 + draw(ROOM / 4));
	const uint32_t n = (uint32_t)draw(ROOM / 8), can = expected((uint64_t)from, n);
	const long r = copy_file_range(reader, &from, fd, &to, n, 0);

	if (r < 0) {
		printf("copy_file_range: %s\n", error(r));
		return;
	}
	if (r != (long)can)
		wrong("copy_file_range", r);
	memcpy(out, model + from - r, (size_t)r);
	if (r)
		put((uint32_t)(to - r), (uint32_t)r);
}

static void open_all(void)
{
	fd = open(in("data"), O_RDWR | O_CREAT, 0644);
	copy = dup(fd);
	append = open(in("data"), O_WRONLY | O_APPEND);
	reader = open(in("data"), O_RDONLY);
	offset = 0;
}

static void op_reopen(void)
{
	close(fd);
	close(copy);
	close(append);
	close(reader);
	open_all();
}

static void check(void)
{
	struct stat st;
	uint64_t sum = 1;
	long r;

	if (fstat(fd, &st) || st.st_size != size)
		wrong("size", (long)st.st_size);
	r = pread(reader, got, ROOM, 0);
	same("all of it", r, 0, ROOM);
	for (long i = 0; i < r; i++)
		sum = (sum ^ got[i]) * UINT64_C(0x100000001b3);
	printf("%u: size %u, offset %lld, sum %016llx\n", at_op, size, (long long)offset, (unsigned long long)sum);
}

void data_run(uint32_t n)
{
	static void (*const all[])(void) = {op_read, op_read, op_read, op_write, op_write, op_append, op_seek, op_truncate, op_allocate, op_map, op_copy};

	open_all();
	for (at_op = 0; at_op < n; at_op++) {
		all[draw(sizeof(all) / sizeof(all[0]))]();
		if (at_op % 50 == 49)
			check();
		if (draw(100) == 0)
			op_reopen();
	}
	check();
	printf("%u wrong\n", bad);
	unlink(in("data"));
}
