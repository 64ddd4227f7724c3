/* inject.c - putting a helper into a program and taking it out again; theory of operation in inject.h */
#include "runtime/guest/helper/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/run.h"
#include "rle/vma.h"
#include "runtime/guest/helper/inject_impl.h"
#include "runtime/guest/monitor/lend.h"

#define PAGE DS_PAGE_BYTES
#define USER_END UINT64_C(0x7ffffffff000)
#define PF_KTHREAD 0x200000 /* include/linux/sched.h: in the flags of /proc/PID/stat */
#define SEIZE_OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)

/* --- who it is --------------------------------------------------------------------------------------------------- */

struct about {
	bool zombie, kernel, traced, memory;
	int seccomp, threads;
};

static bool is_kernel_thread(pid_t pid)
{
	char path[64], buf[512] = "", *p;
	unsigned int flags = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	p = fgets(buf, sizeof(buf), f) ? strrchr(buf, ')') : NULL;
	fclose(f);
	return p && sscanf(p, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & PF_KTHREAD;
}

static int look(pid_t pid, struct about *about)
{
	char path[64], line[256];
	FILE *f;

	*about = (struct about){0};
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return -ESRCH;
	while (fgets(line, sizeof(line), f)) {
		int n;

		if (!strncmp(line, "VmSize:", 7))
			about->memory = true;
		else if (sscanf(line, "TracerPid: %d", &n) == 1)
			about->traced = n != 0;
		else if (sscanf(line, "Seccomp: %d", &n) == 1)
			about->seccomp = n;
		else if (sscanf(line, "Threads: %d", &n) == 1)
			about->threads = n;
		else if (!strncmp(line, "State:", 6))
			about->zombie = strpbrk(line + 6, "ZX") != NULL;
	}
	fclose(f);
	if (!about->memory)
		about->kernel = is_kernel_thread(pid);
	return 0;
}

static int acceptable(pid_t pid, unsigned int flags, struct inject_err *why)
{
	struct about about;

	if (pid == getpid())
		return tracee_refuse(why, -EPERM, 0, "a process cannot do this to itself");
	if (look(pid, &about))
		return tracee_refuse(why, -ESRCH, 0, "there is no such process");
	if (about.zombie && about.threads > 1)
		return tracee_refuse(why, -EOPNOTSUPP, 0, "its main thread has ended");
	if (about.zombie)
		return tracee_refuse(why, -ESRCH, 0, "it has exited");
	if (about.kernel)
		return tracee_refuse(why, -EPERM, 0, "it is a kernel thread");
	if (!about.memory)
		return tracee_refuse(why, -ESRCH, 0, "it has exited");
	if (about.traced && !lend_can(pid))
		return tracee_refuse(why, -EPERM, 0, "it is being traced by another process, such as a debugger");
	if (about.seccomp == SECCOMP_MODE_STRICT)
		return tracee_refuse(why, -EACCES, 0, "it is in strict seccomp mode");
	if (about.seccomp && !(flags & INJECT_SECCOMP))
		return tracee_refuse(why, -EACCES, 0, "it has a seccomp filter, which the helper would inherit");
	return 0;
}

int inject_choose(pid_t pid, int64_t deadline_ms, pid_t *tid, struct inject_err *why)
{
	char path[64];
	bool busy, alive;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	for (;;) {
		struct dirent *entry;
		DIR *dir;

		*tid = pid;
		if (tracee_mood(pid, pid) == TRACEE_FINE)
			return 0;
		busy = alive = false;
		dir = opendir(path);
		if (!dir)
			return tracee_refuse(why, -ESRCH, 0, "it has exited");
		while ((entry = readdir(dir))) {
			enum tracee_mood mood;

			*tid = atoi(entry->d_name);
			mood = *tid > 0 ? tracee_mood(pid, *tid) : TRACEE_DEAD;
			if (mood == TRACEE_FINE)
				break;
			busy |= mood == TRACEE_BUSY;
			alive |= mood != TRACEE_DEAD;
		}
		closedir(dir);
		if (entry)
			return 0;
		if (!alive)
			return tracee_refuse(why, -ESRCH, 0, "it has exited");
		if (tracee_now_ms() >= deadline_ms)
			return tracee_refuse(why, -EAGAIN, 0,
					     busy ? "it is blocked in a write that would be cut short; try again" :
						    "it is in an uninterruptible sleep; try again");
		usleep(2000);
	}
}

/* --- where to ----------------------------------------------------------------------------------------------------- */

/* The first syscall instruction of the first mapping above @above that has one, or 0. */
static uint64_t find_syscall(int maps_fd, int mem_fd, uint64_t above)
{
	char vma_buf[RLE_VMA_BUF_BYTES];
	struct rle_vma_iter it;
	struct rle_vma vma;
	uint8_t code[8192];
	bool query = true;

	lseek(maps_fd, 0, SEEK_SET);
	rle_vma_start(&it, maps_fd, vma_buf, &query);
	while (rle_vma_next(&it, &vma) > 0) {
		uint64_t at = vma.start.n * PAGE, end = vma.end.n * PAGE;

		if (at <= above || !(vma.prot & RLE_ATTR_EXEC) || vma.kernel_page)
			continue;
		while (at + 1 < end) {
			ssize_t got = pread(mem_fd, code, end - at < sizeof(code) ? end - at : sizeof(code), at);
			const uint8_t *hit = got > 1 ? memmem(code, got, "\x0f\x05", 2) : NULL;

			if (hit)
				return at + (hit - code);
			if (got < 2)
				break;
			at += got - 1;
		}
	}
	return 0;
}

int inject_first_call(struct tracee *t, int maps_fd, int mem_fd, const struct remote_call *call, uint64_t *ip, int64_t *ret)
{
	uint8_t code[2];
	int err = -ENOEXEC;

	*ip = t->regs.rip - 2;
	if (pread(mem_fd, code, 2, *ip) == 2 && code[0] == 0x0f && code[1] == 0x05)
		err = tracee_call(t, *ip, call, ret);
	for (*ip = err ? 0 : *ip; err == -ENOEXEC || err == -EACCES || err == -EFAULT; err = tracee_call(t, *ip, call, ret)) {
		*ip = find_syscall(maps_fd, mem_fd, *ip);
		if (!*ip)
			return err;
	}
	return err;
}

/* The largest hole of the address space.  Its middle is where nothing grows soon. */
static void find_hole(int maps_fd, uint64_t *start, uint64_t *end)
{
	char vma_buf[RLE_VMA_BUF_BYTES];
	struct rle_vma_iter it;
	struct rle_vma vma;
	uint64_t at = 16 << 20;
	bool query = true;

	*start = *end = at;
	lseek(maps_fd, 0, SEEK_SET);
	rle_vma_start(&it, maps_fd, vma_buf, &query);
	while (rle_vma_next(&it, &vma) > 0) {
		uint64_t from = vma.start.n * PAGE;

		if (from > at && from - at > *end - *start) {
			*start = at;
			*end = from;
		}
		at = vma.end.n * PAGE > at ? vma.end.n * PAGE : at;
	}
	if (at < USER_END && USER_END - at > *end - *start) {
		*start = at;
		*end = USER_END;
	}
}

/* --- in the program ------------------------------------------------------------------------------------------------ */

static int map_area(struct inject_plan *p, uint64_t *ip, uint64_t *stub)
{
	uint64_t start, end, at;
	int64_t ret = -EEXIST;
	int err;

	find_hole(p->maps_fd, &start, &end);
	/* Another thread may map something there in the meantime. */
	for (int i = 1; i < 8 && ret == -EEXIST; i++) {
		at = (start + (end - start) / 8 * (i % 2 ? 4 + i / 2 : 4 - i / 2)) & ~(uint64_t)(PAGE - 1);
		err = inject_first_call(&p->thread, p->maps_fd, p->mem_fd,
					INJECT_CALL(SYS_mmap, at, INJECT_AREA, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
					ip, &ret);
		if (err)
			return tracee_refuse(p->why, err, p->thread.tid,
					     err == -ENOEXEC ? "its code has no system call instruction" :
					     err == -ESRCH   ? "it was killed" :
							       "its system calls are intercepted, wherever they are made");
	}
	if (ret < 0)
		return tracee_refuse(p->why, ret, p->thread.tid, "no memory for code could be mapped in it");
	*stub = ret;
	return 0;
}

/* The helper begins with the program's table of descriptors and leaves it for an empty one before the thread that
 * made it goes on: otherwise a pipe could have a writer more for a moment. */
static int leave_descriptors(struct inject_plan *p)
{
	const uint64_t mask = UINT64_MAX;
	struct tracee *t = p->helper;
	unsigned long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | (p->flags & INJECT_SECCOMP ? PTRACE_O_SUSPEND_SECCOMP : 0);
	int err = tracee_wait(t, tracee_now_ms() + INJECT_STOP_MS);

	if (err)
		return err;
	if (ptrace(PTRACE_SETOPTIONS, t->tid, NULL, options) || ptrace(PTRACE_GETREGS, t->tid, NULL, &t->regs) ||
	    ptrace(PTRACE_SETSIGMASK, t->tid, sizeof(mask), &mask))
		return -ESRCH;
	return inject_of_helper(p, INJECT_CALL(SYS_close_range, 0, UINT32_MAX, CLOSE_RANGE_UNSHARE));
}

/* Makes the stopped thread map the area and clone the helper, which is seized from its first instruction on. */
static int make_helper(struct inject_plan *p)
{
	struct remote *r = p->out;
	struct tracee *t = &p->thread;
	const uint64_t flags = CLONE_VM | CLONE_FILES; /* descriptors are never copied: leave_descriptors() */
	uint64_t ip, stub = 0;
	int64_t ret = 0, ignore;
	int err = map_area(p, &ip, &stub);

	if (err)
		return err;
	if (pwrite(p->mem_fd, INJECT_CODE, INJECT_CODE_BYTES, stub) != INJECT_CODE_BYTES)
		err = tracee_refuse(p->why, -EIO, t->tid, "the helper's code could not be written");
	if (!err)
		err = tracee_call(t, ip, INJECT_CALL(SYS_clone, flags, stub + INJECT_AREA, 0, 0, 0, 0), &ret);
	if (!err && ret > 0 && t->events) {
		r->stub = stub;
		r->scratch = stub + PAGE;
		r->desk = stub + 2 * PAGE;
		r->data = r->desk + 3 * PAGE;
		r->helper_inside = ret;
		r->helper = t->events;
		*p->helper = (struct tracee){.pid = t->events, .tid = t->events};
		err = leave_descriptors(p);
		return err ? tracee_refuse(p->why, err, r->helper, "the helper could not be prepared") : 0;
	}
	tracee_call(t, ip, INJECT_CALL(SYS_munmap, stub, INJECT_AREA), &ignore);
	if (!err)
		err = ret < 0 ? ret : -EIO;
	return tracee_refuse(p->why, err, t->tid, "it could not make the helper: its limit on processes, or its cgroup's");
}

void inject_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static int in_program(struct inject_plan *p, int64_t deadline_ms)
{
	__attribute__((cleanup(inject_close_fd))) int mem_fd = -1;
	__attribute__((cleanup(inject_close_fd))) int maps_fd = -1;
	unsigned long options = SEIZE_OPTIONS | (p->flags & INJECT_SECCOMP ? PTRACE_O_SUSPEND_SECCOMP : 0);
	struct tracee *t = &p->thread;
	char path[64];
	pid_t tid;
	int err;

	do {
		err = inject_choose(p->pid, deadline_ms, &tid, p->why);
		if (err)
			return err;
		err = tracee_seize(t, p->pid, tid, options);
		if (err && tracee_mood(p->pid, tid) == TRACEE_DEAD)
			err = -ESRCH;
	} while (err == -ESRCH && tracee_now_ms() < deadline_ms);
	if (err)
		return tracee_refuse(p->why, err, tid, err == -EPERM ? "no right to trace it, or somebody else does" : "it cannot be traced");
	tracee_interrupt(t);
	err = tracee_wait(t, deadline_ms);
	if (err == -ETIMEDOUT)
		return tracee_refuse(p->why, -EAGAIN, tid, "a thread does not stop; try again");
	if (err)
		return tracee_refuse(p->why, err, tid, "it has exited");
	err = tracee_save(t, p->why);
	if (err) {
		tracee_detach(t);
		return err;
	}
	/* Opened now, so that they are of the memory that this thread uses. */
	snprintf(path, sizeof(path), "/proc/%d/mem", p->pid);
	p->mem_fd = mem_fd = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", p->pid);
	p->maps_fd = maps_fd = open(path, O_RDONLY | O_CLOEXEC);
	err = mem_fd < 0 || maps_fd < 0 ? tracee_refuse(p->why, -errno, tid, "its memory cannot be opened") : make_helper(p);
	tracee_restore(t);
	return err;
}

static int in_helper(struct inject_plan *p)
{
	int err = inject_prepare(p);

	return err ? tracee_refuse(p->why, err, p->helper->tid, "the helper could not be prepared") : 0;
}

static int job_inject(void *ctx)
{
	struct inject_plan *p = ctx;
	int64_t deadline_ms = tracee_now_ms() + INJECT_STOP_MS;
	struct lend lend;
	int err;

	err = lend_take(p->pid, deadline_ms, &lend, p->why);
	if (!err)
		err = in_program(p, deadline_ms);
	lend_give(&lend);
	return err ? err : in_helper(p);
}

/* Somebody was seen who uses the memory, perhaps the new helper.  @err: how it went.  Return: that; -EBUSY: it is somebody else. */
static int without_sharers(struct inject_plan *p, int64_t deadline_ms, int err)
{
	while (sharers_find(&p->out->sharers, p->pid, p->out->helper)) {
		if (tracee_now_ms() >= deadline_ms)
			return tracee_refuse(p->why, -EBUSY, 0, "another process shares its memory, such as a child in vfork");
		usleep(5000);
	}
	return err;
}

int inject_first(pid_t pid, unsigned int flags, inject_meanwhile_fn meanwhile, void *ctx, struct remote *out, struct inject_err *why)
{
	const int64_t deadline_ms = tracee_now_ms() + INJECT_STOP_MS;
	struct inject_plan p = {.pid = pid, .flags = flags, .out = out, .why = why, .mem_fd = -1, .maps_fd = -1};
	struct sharers sharers = {0};
	struct inject_err ignored;
	pid_t others;
	int err;

	*why = (struct inject_err){0};
	*out = REMOTE_NONE;
	err = acceptable(pid, flags, why);
	if (err)
		return err;
	out->pid = pid;
	out->pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (out->pidfd < 0)
		return tracee_refuse(why, -errno, 0, "it has exited, or is a thread of a process");
	err = tracer_new(&out->tracer);
	if (!err) {
		p.helper = tracer_helper(out->tracer);
		tracer_ask(out->tracer, job_inject, &p);
		if (meanwhile)
			meanwhile(ctx);
		others = sharers_find(&sharers, pid, 0);
		err = tracer_wait(out->tracer);
		out->sharers = sharers;
		err = others ? without_sharers(&p, deadline_ms, err) : err;
		if (!err)
			return 0;
	}
	if (!why->why)
		tracee_refuse(why, err, 0, "no thread for it could be started");
	if (out->helper)
		inject_remove(out, &ignored);
	else
		remote_close(out);
	return err;
}

int inject_helper(pid_t pid, unsigned int flags, struct remote *out, struct inject_err *why)
{
	struct inject_err ignored;
	int err = inject_first(pid, flags, NULL, NULL, out, why);

	if (!err && inject_whole(out)) {
		err = tracee_refuse(why, -ESRCH, out->helper, "its helper was killed");
		inject_remove(out, &ignored);
	}
	return err;
}
