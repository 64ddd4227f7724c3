/* remote.c - system calls and memory accesses through the helper; theory of operation in remote.h */
#include "runtime/guest/helper/remote.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/guest/helper/helper.h"
#include "runtime/guest/helper/tracer.h"

#define PAGE DS_PAGE_BYTES

_Static_assert(sizeof(struct remote_call) == 72 && offsetof(struct remote_call, want) == 56 && offsetof(struct remote_call, any) == 64,
	       "helper.S knows a call");
_Static_assert(REMOTE_CALLS_MAX * sizeof(struct remote_call) <= 2 * DS_PAGE_BYTES &&
		       3 * DS_PAGE_BYTES + REMOTE_DATA_BYTES == REMOTE_DESK_PAGES * DS_PAGE_BYTES, "the desk has room for a batch");

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void remote_kill(struct remote *r)
{
	if (r->helper_pidfd >= 0)
		syscall(SYS_pidfd_send_signal, r->helper_pidfd, SIGKILL, NULL, 0);
	r->gone = true;
}

void remote_close(struct remote *r)
{
	if (r->tracer)
		remote_kill(r);
	tracer_free(r->tracer);
	close_fd(&r->pidfd);
	close_fd(&r->helper_pidfd);
	close_fd(&r->chute_fd);
	close_fd(&r->mem_fd);
	close_fd(&r->maps_fd);
	close_fd(&r->pagemap_fd);
	if (r->desk_here)
		munmap(r->desk_here, REMOTE_DESK_PAGES * PAGE);
	*r = REMOTE_NONE;
}

struct batch {
	struct remote *r;
	const struct remote_call *calls;
	uint32_t n;
	int done;
	int64_t result;
};

static bool as_wanted(const struct remote_call *call, int64_t result)
{
	return call->any || call->want == result;
}

static int one_by_one(void *ctx)
{
	struct batch *b = ctx;
	int err = 0;

	for (b->done = 0; b->done < (int)b->n && !err; b->done++) {
		err = tracee_call(tracer_helper(b->r->tracer), b->r->stub, &b->calls[b->done], &b->result);
		if (!err && !as_wanted(&b->calls[b->done], b->result))
			break;
	}
	return err;
}

/* The helper is where nobody but us can have put it, so its registers are right too. */
static int in_one_go(void *ctx)
{
	struct batch *b = ctx;
	struct tracee *t = tracer_helper(b->r->tracer);
	struct user_regs_struct regs = t->regs;
	int err;

	memcpy(b->r->desk_here + PAGE, b->calls, b->n * sizeof(*b->calls));
	regs.rip = b->r->desk;
	regs.r13 = b->r->desk + PAGE;
	regs.r14 = b->n;
	err = tracee_go(t, &regs, b->r->desk + helper_trap_offset());
	if (err)
		return err;
	if (regs.r14 > b->n)
		return -EPROTO;
	b->done = b->n - regs.r14;
	b->result = regs.rax;
	return 0;
}

int remote_batch(struct remote *r, const struct remote_call *calls, uint32_t n, const void *data, uint32_t data_bytes, int64_t *result)
{
	struct batch b = {.r = r, .calls = calls, .n = n};
	int err;

	if (n == 0 || n > REMOTE_CALLS_MAX || data_bytes > REMOTE_DATA_BYTES)
		return -EINVAL;
	if (!r->tracer || r->gone)
		return -ESRCH;
	if (data_bytes)
		memcpy(r->desk_here + (r->data - r->desk), data, data_bytes);
	err = tracer_do(r->tracer, r->settled && r->runs_desk ? in_one_go : one_by_one, &b, REMOTE_TIMEOUT_MS, r->helper_pidfd);
	if (err) {
		remote_kill(r);
		return err == -EFAULT || err == -EACCES ? -EPROTO : err; /* its code is not what it was */
	}
	*result = b.result;
	return b.done;
}

int remote_together(struct remote *r, int (*fn)(void *ctx), void *ctx, int limit_ms)
{
	return r->tracer ? tracer_do(r->tracer, fn, ctx, limit_ms, r->helper_pidfd) : -ESRCH;
}

/* A line of /proc/PID/maps about the desk: "START-END r-xs OFFSET DEV:DEV INODE ..." */
static bool is_desk(const struct remote *r, const char *line)
{
	unsigned long start, end, offset, ino;
	unsigned int major, minor;
	char perm[5];

	return sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &start, &end, perm, &offset, &major, &minor, &ino) == 7 && start == r->desk &&
	       end == r->desk + REMOTE_DESK_PAGES * PAGE && perm[1] == '-' && perm[3] == 's' && !offset &&
	       makedev(major, minor) == r->desk_dev && ino == r->desk_ino;
}

int remote_settle(struct remote *r)
{
	FILE *maps = r->maps_fd < 0 ? NULL : fdopen(dup(r->maps_fd), "r");
	cleanup_free char *line = NULL;
	int err = -EPROTO;
	size_t room = 0;

	if (!maps)
		return -errno;
	rewind(maps);
	while (err && getline(&line, &room, maps) > 0)
		err = is_desk(r, line) ? 0 : err;
	fclose(maps);
	r->settled = !err && !r->gone;
	return r->gone ? -ESRCH : err;
}

void remote_unsettle(struct remote *r)
{
	r->settled = false;
}

int64_t remote_syscall(struct remote *r, long nr, const uint64_t args[static 6])
{
	struct remote_call call = {.nr = nr, .any = 1};
	int64_t result = 0;
	int err;

	memcpy(call.args, args, sizeof(call.args));
	err = remote_batch(r, &call, 1, NULL, 0, &result);
	return err < 0 ? err : result;
}

static int transfer(const struct remote *r, uint64_t addr, char *buf, size_t bytes, bool write)
{
	while (bytes) {
		ssize_t got = write ? pwrite(r->mem_fd, buf, bytes, addr) : pread(r->mem_fd, buf, bytes, addr);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ESRCH; /* 0: nobody uses the address space any more */
		addr += got;
		buf += got;
		bytes -= got;
	}
	return 0;
}

int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t bytes)
{
	return r->mem_fd < 0 ? -ESRCH : transfer(r, addr, buf, bytes, false);
}

int remote_write(const struct remote *r, uint64_t addr, const void *buf, size_t bytes)
{
	return r->mem_fd < 0 ? -ESRCH : transfer(r, addr, (char *)buf, bytes, true);
}
