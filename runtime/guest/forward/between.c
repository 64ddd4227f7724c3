/* between.c - sendfile() and splice() from one side to the other
 *
 * Bytes go through memory of ours, read on one side and written on the other, a part at a time; offsets and results are as the kernel would
 * leave them.  From a file no more is taken than was written: it is read at a position, and its offset moved afterwards.  What
 * was read from a pipe or a socket cannot be put back, so before each part it is waited until the other side takes something, and
 * then all of the part is written, however long that takes.
 *
 * copy_file_range() between the sides is EXDEV and tee() is EINVAL, by rule: programs know both and do without.
 *
 * The memory is one of a few buffers that stay; when all are in use, there is a small one on the stack.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/stat.h>

#include "runtime/guest/forward/sides.h"

#define BUFFERS 4u
#define BUFFER_BYTES (UINT64_C(64) << 10)
#define SMALL_BYTES 2048u
#define AT_ONCE_MAX UINT64_C(0x7ffff000)
#define SPLICE_NONBLOCK 2

static struct {
	uint64_t memory; /* 0: not there yet */
	uint32_t busy;
} buffers[BUFFERS];

/* One end: a descriptor, and where in it if it has positions. */
struct end {
	uint64_t fd;
	bool host, file, pipe, waits; /* waits: a call that cannot go on blocks */
	bool appends;
	bool given;		      /* the position is the caller's variable, at @at, and not the file's */
	uint64_t at;
	int64_t position;
};

static const struct forward_rule plain = {.kind = FORWARD_FD};

static int64_t ask(bool host, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const struct intercept_call call = {.nr = nr, .arg = {a, b, c, d}};

	return host ? forward_call(&call, &plain) : intercept_raw(nr, a, b, c, d, 0, 0);
}

/* @mode: what it must not be open for alone, O_RDONLY or O_WRONLY. */
static int64_t look_at(struct end *e, uint64_t offset_at, int mode)
{
	struct stat st;
	int64_t rc = ask(e->host, __NR_fstat, e->fd, (uint64_t)&st, 0, 0);

	if (rc)
		return rc;
	e->file = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
	e->pipe = S_ISFIFO(st.st_mode);
	rc = ask(e->host, __NR_fcntl, e->fd, F_GETFL, 0, 0);
	if (rc < 0 || (rc & O_ACCMODE) == mode)
		return rc < 0 ? rc : -EBADF;
	e->waits = !(rc & O_NONBLOCK);
	e->appends = rc & O_APPEND;
	e->at = offset_at;
	e->given = offset_at != 0;
	if (e->given && !e->file)
		return -ESPIPE;
	if (e->given)
		return intercept_fetch(&e->position, offset_at, 8) ? -EFAULT : e->position < 0 ? -EINVAL : 0;
	if (!e->file)
		return 0;
	e->position = ask(e->host, __NR_lseek, e->fd, 0, SEEK_CUR, 0);
	return e->position < 0 ? e->position : 0;
}

/* Where it is now, for the caller. */
static void leave(const struct end *e)
{
	if (e->given)
		intercept_store(e->at, &e->position, 8);
	else if (e->file)
		ask(e->host, __NR_lseek, e->fd, (uint64_t)e->position, SEEK_SET, 0);
}

static int64_t is_ready(const struct end *e, short events, int64_t ms)
{
	struct pollfd pfd = {.fd = (int32_t)e->fd, .events = events};

	return ask(e->host, __NR_poll, (uint64_t)&pfd, 1, (uint64_t)ms, 0);
}

static int64_t take(struct end *from, uint64_t to, uint64_t bytes)
{
	return from->file ? ask(from->host, __NR_pread64, from->fd, to, bytes, (uint64_t)from->position) :
			    ask(from->host, __NR_read, from->fd, to, bytes, 0);
}

static int64_t put(struct end *to, uint64_t from, uint64_t bytes)
{
	const int64_t n = to->given ? ask(to->host, __NR_pwrite64, to->fd, from, bytes, (uint64_t)to->position) :
				      ask(to->host, __NR_write, to->fd, from, bytes, 0);

	if (n > 0)
		to->position += n;
	return n;
}

/* All of it, if @whole: it cannot be taken again.  Return: how much; -errno. */
static int64_t put_all(struct end *to, uint64_t from, uint64_t bytes, bool whole)
{
	uint64_t done = 0;

	while (done < bytes) {
		const int64_t n = put(to, from + done, bytes - done);

		if (n > 0) {
			done += (uint64_t)n;
			continue;
		}
		if (whole && (n == -EINTR || n == -EAGAIN)) {
			if (n == -EAGAIN)
				is_ready(to, POLLOUT, -1);
			continue;
		}
		return done ? (int64_t)done : n;
	}
	return (int64_t)done;
}

static int64_t move(struct end *from, struct end *to, uint64_t count, uint64_t memory, uint64_t room)
{
	uint64_t done = 0;
	int64_t n = 0;

	while (done < count) {
		const uint64_t part = count - done < room ? count - done : room;

		if (!from->file) {
			n = is_ready(to, POLLOUT, to->waits && !done ? -1 : 0);
			if (n == 0)
				n = -EAGAIN;
			if (n > 0 && (done || !from->waits)) {
				n = is_ready(from, POLLIN, 0);
				n = n == 0 ? -EAGAIN : n;
			}
			if (n < 0)
				break;
		}
		n = take(from, memory, part);
		if (n <= 0)
			break;
		n = put_all(to, memory, (uint64_t)n, !from->file);
		if (n <= 0)
			break;
		from->position += n;
		done += (uint64_t)n;
		if ((uint64_t)n < part)
			break;
	}
	return done ? (int64_t)done : n;
}

/* Claims a buffer.  Return: its address; 0: none is free. */
static uint64_t claim(uint32_t *which)
{
	for (uint32_t i = 0; i < BUFFERS; i++) {
		struct intercept_call call = {.nr = __NR_mmap, .arg = {0, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0}};
		uint32_t none = 0;
		int64_t at;

		if (!__atomic_compare_exchange_n(&buffers[i].busy, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		*which = i;
		if (buffers[i].memory)
			return buffers[i].memory;
		if (!forward_memory_call(&call, forward_rule(__NR_mmap), &at)) /* the mirror hears of it */
			at = forward_local(&call);
		if (at > 0) {
			buffers[i].memory = (uint64_t)at;
			return (uint64_t)at;
		}
		__atomic_store_n(&buffers[i].busy, 0, __ATOMIC_RELEASE);
		return 0;
	}
	return 0;
}

static int64_t move_all(struct end *from, struct end *to, uint64_t count)
{
	char small[SMALL_BYTES];
	uint32_t which = 0;
	const uint64_t memory = claim(&which);
	int64_t result;

	count = count < AT_ONCE_MAX ? count : AT_ONCE_MAX;
	result = move(from, to, count, memory ? memory : (uint64_t)small, memory ? BUFFER_BYTES : sizeof(small));
	if (memory)
		__atomic_store_n(&buffers[which].busy, 0, __ATOMIC_RELEASE);
	if (result > 0) {
		leave(from);
		if (to->given)
			leave(to);
	}
	return result;
}

static int64_t do_sendfile(const struct intercept_call *call)
{
	struct end to = {.fd = (uint32_t)call->arg[0]}, from = {.fd = (uint32_t)call->arg[1]};
	int64_t rc;

	to.host = forward_fd_host(to.fd);
	from.host = forward_fd_host(from.fd);
	rc = look_at(&from, call->arg[2], O_WRONLY);
	if (!rc)
		rc = look_at(&to, 0, O_RDONLY);
	if (!rc && (!from.file || to.appends))
		rc = -EINVAL;
	return rc ? rc : move_all(&from, &to, call->arg[3]);
}

static int64_t do_splice(const struct intercept_call *call)
{
	struct end from = {.fd = (uint32_t)call->arg[0]}, to = {.fd = (uint32_t)call->arg[2]};
	int64_t rc;

	from.host = forward_fd_host(from.fd);
	to.host = forward_fd_host(to.fd);
	rc = look_at(&from, call->arg[1], O_WRONLY);
	if (!rc)
		rc = look_at(&to, call->arg[3], O_RDONLY);
	if (!rc && ((!from.pipe && !to.pipe) || to.appends))
		rc = -EINVAL;
	if (rc)
		return rc;
	if (call->arg[5] & SPLICE_NONBLOCK) {
		from.waits = from.waits && !from.pipe;
		to.waits = to.waits && !to.pipe;
	}
	return move_all(&from, &to, call->arg[4]);
}

bool forward_between_call(const struct intercept_call *call, int64_t *result)
{
	if (call->nr != __NR_sendfile && call->nr != __NR_splice)
		return false;
	*result = call->nr == __NR_sendfile ? do_sendfile(call) : do_splice(call);
	return true;
}
