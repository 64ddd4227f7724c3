/* remote.c - system calls and memory accesses through the helper; theory of operation in remote.h */
#include "runtime/guest/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/pte.h"
#include "runtime/guest/tracer.h"

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
	tracer_free(r->tracer);
	r->tracer = NULL;
}

void remote_close(struct remote *r)
{
	if (r->tracer)
		remote_kill(r);
	close_fd(&r->pidfd);
	close_fd(&r->helper_pidfd);
	close_fd(&r->chute_fd);
	close_fd(&r->mem_fd);
	close_fd(&r->maps_fd);
	close_fd(&r->pagemap_fd);
	if (r->desk_here)
		munmap(r->desk_here, REMOTE_DESK_BYTES);
	*r = REMOTE_NONE;
}

struct batch {
	struct remote *r;
	const struct remote_call *calls;
	uint32_t n;
	int64_t *results;
};

static int make_calls(void *ctx)
{
	struct batch *b = ctx;
	int err = 0;

	for (uint32_t i = 0; i < b->n && !err; i++)
		err = tracee_call(tracer_helper(b->r->tracer), b->r->stub, &b->calls[i], &b->results[i]);
	return err;
}

int remote_batch(struct remote *r, const struct remote_call *calls, uint32_t n, const void *data, uint32_t data_bytes, int64_t *results)
{
	int64_t got[REMOTE_CALLS_MAX];
	struct batch b = {.r = r, .calls = calls, .n = n, .results = got};
	int err;

	if (n == 0 || n > REMOTE_CALLS_MAX || data_bytes > REMOTE_DESK_BYTES)
		return -EINVAL;
	if (!r->tracer)
		return -ESRCH;
	if (data_bytes)
		memcpy(r->desk_here, data, data_bytes);
	err = tracer_do(r->tracer, make_calls, &b, REMOTE_TIMEOUT_MS, r->helper_pidfd);
	if (err) {
		remote_kill(r);
		return err == -EFAULT || err == -EACCES ? -EPROTO : err; /* its code is not what it was */
	}
	memcpy(results, got, n * sizeof(*got));
	return 0;
}

bool remote_desk_ok(const struct remote *r, size_t bytes)
{
	uint64_t there[REMOTE_DESK_PAGES], here[REMOTE_DESK_PAGES];
	const size_t n = (bytes + 4095) / 4096;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && n <= REMOTE_DESK_PAGES && pread(fd, here, n * 8, (uintptr_t)r->desk_here / 4096 * 8) == (ssize_t)n * 8 &&
		  pread(r->pagemap_fd, there, n * 8, r->desk / 4096 * 8) == (ssize_t)n * 8;

	for (size_t i = 0; i < n && ok; i++)
		ok = there[i] & here[i] & RLE_PTE_PRESENT && here[i] & RLE_PTE_PFN_MASK && !((here[i] ^ there[i]) & RLE_PTE_PFN_MASK);
	close_fd(&fd);
	return ok;
}

int64_t remote_syscall(struct remote *r, long nr, const uint64_t args[static 6])
{
	struct remote_call call = {.nr = nr};
	int64_t result;
	int err;

	memcpy(call.args, args, sizeof(call.args));
	err = remote_batch(r, &call, 1, NULL, 0, &result);
	return err ? err : result;
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
