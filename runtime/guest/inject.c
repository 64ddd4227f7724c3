/* inject.c - putting a helper into a program and taking it out again; theory of operation in inject.h */
#include "runtime/guest/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/run.h"
#include "rle/vma.h"
#include "runtime/guest/helper.h"
#include "runtime/guest/pin.h"
#include "runtime/guest/tracee.h"

#define PAGE DS_PAGE_BYTES
#define AREA ((1 + HELPER_BUF_PAGES) * PAGE)
#define USER_END UINT64_C(0x7ffffffff000)
#define PF_KTHREAD 0x200000 /* include/linux/sched.h: in the flags of /proc/PID/stat */
#define SEIZE_OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)

#define CALL(nr_, ...)                                                                                                           \
	(&(struct remote_call){.nr = (nr_), .args = {__VA_ARGS__}})

/* --- who it is --------------------------------------------------------------------------------------------------- */

struct about {
	bool zombie, kernel, traced, memory;
	int seccomp;
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
	if (about.zombie)
		return tracee_refuse(why, -ESRCH, 0, "it has exited");
	if (about.kernel)
		return tracee_refuse(why, -EPERM, 0, "it is a kernel thread");
	if (!about.memory)
		return tracee_refuse(why, -ESRCH, 0, "it has exited");
	if (about.traced)
		return tracee_refuse(why, -EPERM, 0, "it is being traced by another process, such as a debugger");
	if (about.seccomp == SECCOMP_MODE_STRICT)
		return tracee_refuse(why, -EACCES, 0, "it is in strict seccomp mode");
	if (about.seccomp && !(flags & INJECT_SECCOMP))
		return tracee_refuse(why, -EACCES, 0, "it has a seccomp filter, which the helper would inherit");
	return 0;
}

/* A thread that can be stopped now, the main thread if that is one; waits for it. */
static int choose(pid_t pid, int64_t deadline_ms, pid_t *tid, struct inject_err *why)
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

/* The address of a syscall instruction in the program's own code, or 0. */
static uint64_t find_syscall(int maps_fd, int mem_fd, const struct user_regs_struct *regs)
{
	char vma_buf[RLE_VMA_BUF_BYTES];
	struct rle_vma_iter it;
	struct rle_vma vma;
	uint8_t code[8192];
	bool query = true;

	if (pread(mem_fd, code, 2, regs->rip - 2) == 2 && code[0] == 0x0f && code[1] == 0x05)
		return regs->rip - 2;
	lseek(maps_fd, 0, SEEK_SET);
	rle_vma_start(&it, maps_fd, vma_buf, &query);
	while (rle_vma_next(&it, &vma) > 0) {
		uint64_t at = vma.start.n * PAGE, end = vma.end.n * PAGE;

		if (!(vma.prot & RLE_ATTR_EXEC) || vma.kernel_page)
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

struct plan {
	pid_t pid;
	unsigned int flags;
	struct remote *out;
	struct inject_err *why;
	struct tracee thread, helper;
	int mem_fd, maps_fd; /* by way of the program */
};

static int map_area(struct plan *p, uint64_t ip, uint64_t *stub)
{
	uint64_t start, end, at;
	int64_t ret = -EEXIST;
	int err;

	find_hole(p->maps_fd, &start, &end);
	/* Another thread may map something there in the meantime. */
	for (int i = 1; i < 8 && ret == -EEXIST; i++) {
		at = (start + (end - start) / 8 * (i % 2 ? 4 + i / 2 : 4 - i / 2)) & ~(uint64_t)(PAGE - 1);
		err = tracee_call(&p->thread, ip,
				  CALL(SYS_mmap, at, AREA, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), &ret);
		if (err)
			return err;
	}
	if (ret < 0)
		return ret;
	*stub = ret;
	return 0;
}

/* One call by the helper.  Return: what it returned, or -errno of ptrace. */
static int64_t of_helper(struct plan *p, const struct remote_call *call)
{
	int64_t ret;
	int err = tracee_call(&p->helper, p->out->stub, call, &ret);

	return err ? err : ret;
}

/* The helper begins with the program's table of descriptors and leaves it for an empty one before the thread that
 * made it goes on: otherwise a pipe could have a writer more for a moment. */
static int leave_descriptors(struct plan *p)
{
	const uint64_t mask = UINT64_MAX;
	struct tracee *t = &p->helper;
	unsigned long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | (p->flags & INJECT_SECCOMP ? PTRACE_O_SUSPEND_SECCOMP : 0);
	int err = tracee_wait(t, tracee_now_ms() + INJECT_STOP_MS);

	if (err)
		return err;
	if (ptrace(PTRACE_SETOPTIONS, t->tid, NULL, options) || ptrace(PTRACE_GETREGS, t->tid, NULL, &t->regs) ||
	    ptrace(PTRACE_SETSIGMASK, t->tid, sizeof(mask), &mask))
		return -ESRCH;
	return of_helper(p, CALL(SYS_close_range, 0, UINT32_MAX, CLOSE_RANGE_UNSHARE));
}

/* Makes the stopped thread map the area and clone the helper, which is seized from its first instruction on. */
static int make_helper(struct plan *p)
{
	struct remote *r = p->out;
	struct tracee *t = &p->thread;
	const uint64_t flags = CLONE_VM | CLONE_FILES; /* descriptors are never copied: leave_descriptors() */
	uint64_t ip = find_syscall(p->maps_fd, p->mem_fd, &t->regs), stub = 0;
	int64_t ret = 0, ignore;
	int err;

	if (!ip)
		return tracee_refuse(p->why, -ENOEXEC, t->tid, "its code has no system call instruction");
	err = map_area(p, ip, &stub);
	if (err == -EACCES)
		return tracee_refuse(p->why, err, t->tid, "its system calls are intercepted, or memory for code is denied to it");
	if (err)
		return tracee_refuse(p->why, err, t->tid, "no memory could be mapped in it");
	if (pwrite(p->mem_fd, helper_code, helper_code_bytes(), stub) != (ssize_t)helper_code_bytes())
		err = tracee_refuse(p->why, -EIO, t->tid, "the helper's code could not be written");
	if (!err)
		err = tracee_call(t, stub, CALL(SYS_clone, flags, stub + AREA, 0, 0, 0, 0), &ret);
	if (!err && ret > 0 && t->events) {
		r->stub = stub;
		r->buf = stub + PAGE;
		r->helper_inside = ret;
		r->helper = t->events;
		p->helper = (struct tracee){.pid = t->events, .tid = t->events};
		err = leave_descriptors(p);
		return err ? tracee_refuse(p->why, err, r->helper, "the helper could not be prepared") : 0;
	}
	tracee_call(t, ip, CALL(SYS_munmap, stub, AREA), &ignore);
	if (!err)
		err = ret < 0 ? ret : -EIO;
	return tracee_refuse(p->why, err, t->tid, "it could not make the helper: its limit on processes, or its cgroup's");
}

static void close_ignored(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static int in_program(struct plan *p, int64_t deadline_ms)
{
	__attribute__((cleanup(close_ignored))) int mem_fd = -1;
	__attribute__((cleanup(close_ignored))) int maps_fd = -1;
	unsigned long options = SEIZE_OPTIONS | (p->flags & INJECT_SECCOMP ? PTRACE_O_SUSPEND_SECCOMP : 0);
	struct tracee *t = &p->thread;
	char path[64];
	pid_t tid;
	int err;

	do {
		err = choose(p->pid, deadline_ms, &tid, p->why);
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

/* --- in the helper ------------------------------------------------------------------------------------------------- */

/* What the program could make the helper do, if it changed its code: what it can do anyway. */
static int confine(struct plan *p)
{
#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	static const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_recvfrom),
		ALLOW(SYS_sendto),
		ALLOW(SYS_mmap),
		ALLOW(SYS_munmap),
		ALLOW(SYS_mremap),
		ALLOW(SYS_mprotect),
		ALLOW(SYS_madvise),
		ALLOW(SYS_close),
		ALLOW(SYS_exit_group),
		/* Enabling the ring, restricting it, or anything else but buffers is not for the helper. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_REGISTER_BUFFERS_UPDATE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct {
		struct __user_cap_header_struct head;
		struct __user_cap_data_struct none[2];
		struct {
			uint64_t len, filter;
		} prog;
		struct sock_filter filter[sizeof(filter) / sizeof(filter[0])];
	} data = {
		.head.version = _LINUX_CAPABILITY_VERSION_3,
		.prog.len = sizeof(filter) / sizeof(filter[0]),
	};
	uint64_t at = p->out->buf;
	int64_t err;

	memcpy(data.filter, filter, sizeof(filter));
	data.prog.filter = at + ((char *)data.filter - (char *)&data);
	if (pwrite(p->out->mem_fd, &data, sizeof(data), at) != (ssize_t)sizeof(data))
		return -EIO;
	err = of_helper(p, CALL(SYS_capset, at, at + sizeof(data.head)));
	if (!err)
		err = of_helper(p, CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1));
	return err ? err : of_helper(p, CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, at + ((char *)&data.prog - (char *)&data)));
}

/* A socketpair of the helper's: it keeps descriptor 0 and its other end is fetched from it. */
static int connect_to(struct plan *p)
{
	struct remote *r = p->out;
	int32_t pair[2];
	int err = of_helper(p, CALL(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->buf));

	if (err)
		return err;
	if (pread(r->mem_fd, pair, sizeof(pair), r->buf) != sizeof(pair) || pair[0] != 0)
		return -EIO;
	r->socket = syscall(SYS_pidfd_getfd, r->helper_pidfd, pair[1], 0);
	if (r->socket < 0)
		return -errno;
	return of_helper(p, CALL(SYS_close, pair[1]));
}

/* The ring must be made before the filter is in force; that there is none is not fatal here. */
static void make_ring(struct plan *p)
{
	struct {
		struct io_uring_params params;
		struct io_uring_rsrc_register table;
	} data = {
		.params.flags = IORING_SETUP_R_DISABLED,
		.table = {.nr = PIN_SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE},
	};
	uint64_t at = p->out->buf;
	int64_t fd, err;

	if (pwrite(p->out->mem_fd, &data, sizeof(data), at) != (ssize_t)sizeof(data))
		return;
	fd = of_helper(p, CALL(SYS_io_uring_setup, 1, at));
	err = fd < 0 ? fd :
		       of_helper(p, CALL(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS2, at + sizeof(data.params), sizeof(data.table)));
	p->out->ring_fd = err ? err : fd;
}

static int open_proc(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

static int prepare(struct plan *p)
{
	static const char name[] = "ds-helper\0dark shadow";
	struct rlimit none = {0, 0}, all = {RLIM_INFINITY, RLIM_INFINITY};
	struct remote *r = p->out;
	struct tracee *t = &p->helper;
	int err;

	r->helper_pidfd = syscall(SYS_pidfd_open, r->helper, 0);
	r->mem_fd = open_proc(r->helper, "mem", O_RDWR);
	r->maps_fd = open_proc(r->helper, "maps", O_RDONLY);
	r->pagemap_fd = open_proc(r->helper, "pagemap", O_RDONLY);
	if (r->helper_pidfd < 0 || r->mem_fd < 0 || r->maps_fd < 0 || r->pagemap_fd < 0)
		return -errno;
	err = of_helper(p, CALL(SYS_mprotect, r->buf, HELPER_BUF_PAGES * PAGE, PROT_READ | PROT_WRITE));
	if (err)
		return err;
	/* Comforts: without them it works too. */
	of_helper(p, CALL(SYS_madvise, r->stub, AREA, MADV_DONTFORK));
	if (pwrite(r->mem_fd, name, sizeof(name), r->buf) > 0) {
		of_helper(p, CALL(SYS_prctl, PR_SET_NAME, r->buf));
		of_helper(p, CALL(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, r->stub, AREA, r->buf + strlen(name) + 1));
	}
	if (pwrite(r->mem_fd, "/\0\0\0", 4, r->buf) > 0) {
		of_helper(p, CALL(SYS_chdir, r->buf)); /* keeps no folder busy */
		if (pwrite(r->mem_fd, &(int32_t){0}, 4, r->buf) > 0)
			of_helper(p, CALL(SYS_sched_setscheduler, 0, SCHED_OTHER, r->buf));
	}
	of_helper(p, CALL(SYS_setsid));
	prlimit(r->helper, RLIMIT_CORE, &none, NULL);
	prlimit(r->helper, RLIMIT_MEMLOCK, &all, NULL);
	err = connect_to(p);
	if (err)
		return err;
	make_ring(p);
	if (p->thread.tid == p->pid) /* else the death of one thread among many would count as the program's */
		of_helper(p, CALL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL));
	err = confine(p);
	if (err)
		return err;
	t->regs.rip = r->stub + helper_loop_offset();
	t->regs.r12 = r->buf;
	t->regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, t->tid, NULL, &t->regs))
		return -ESRCH;
	return ptrace(PTRACE_DETACH, t->tid, NULL, NULL) ? -errno : 0;
}

static int in_helper(struct plan *p)
{
	int err = prepare(p);

	return err ? tracee_refuse(p->why, err, p->helper.tid, "the helper could not be prepared") : 0;
}

static int job_inject(void *ctx)
{
	struct plan *p = ctx;
	int64_t deadline_ms = tracee_now_ms() + INJECT_STOP_MS;
	int err;

	while (tracee_shared(p->pid, 0)) {
		if (tracee_now_ms() >= deadline_ms)
			return tracee_refuse(p->why, -EBUSY, 0, "another process shares its memory, such as a child in vfork");
		usleep(5000);
	}
	err = in_program(p, deadline_ms);
	return err ? err : in_helper(p);
}

int inject_helper(pid_t pid, unsigned int flags, struct remote *out, struct inject_err *why)
{
	struct plan p = {.pid = pid, .flags = flags, .out = out, .why = why, .mem_fd = -1, .maps_fd = -1};
	struct inject_err ignored;
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
	err = tracee_run(job_inject, &p);
	if (!err)
		return 0;
	if (!why->why)
		tracee_refuse(why, err, 0, "no thread for it could be started");
	if (out->helper) { /* alive, and killed by the end of the thread that traced it */
		remote_kill(out);
		inject_remove(out, &ignored);
	} else {
		remote_close(out);
	}
	return err;
}

/* --- out again ------------------------------------------------------------------------------------------------------ */

struct removal {
	struct remote *r;
	struct inject_err *why;
	bool same; /* the program still used this memory when the helper ended */
};

static int remove_from(struct removal *m, struct tracee *t)
{
	uint8_t code[256];
	struct remote *r = m->r;
	__attribute__((cleanup(close_ignored))) int mem_fd = open_proc(r->pid, "mem", O_RDWR);
	__attribute__((cleanup(close_ignored))) int maps_fd = open_proc(r->pid, "maps", O_RDONLY);
	uint64_t ip = find_syscall(maps_fd, mem_fd, &t->regs);
	bool ours = pread(mem_fd, code, helper_code_bytes(), r->stub) == (ssize_t)helper_code_bytes() &&
		    !memcmp(code, helper_code, helper_code_bytes());
	int64_t ret = 0;
	int err;

	if (!ip)
		return tracee_refuse(m->why, -ENOEXEC, t->tid, "its code has no system call instruction");
	err = tracee_call(t, ip, CALL(SYS_wait4, r->helper_inside, 0, WNOHANG | __WCLONE, 0), &ret);
	/* Not if it executed another program meanwhile, which has its own mappings there. */
	if (!err && m->same && ours)
		err = tracee_call(t, ip, CALL(SYS_munmap, r->stub, AREA), &ret);
	if (!err)
		err = ret < 0 ? ret : 0;
	return err ? tracee_refuse(m->why, err, t->tid, "the helper's pages could not be unmapped") : 0;
}

static int job_remove(void *ctx)
{
	struct removal *m = ctx;
	int64_t deadline_ms = tracee_now_ms() + INJECT_STOP_MS;
	struct tracee t;
	pid_t tid;
	int err = choose(m->r->pid, deadline_ms, &tid, m->why);

	if (err)
		return err;
	err = tracee_seize(&t, m->r->pid, tid, PTRACE_O_TRACESYSGOOD);
	if (err)
		return tracee_refuse(m->why, err, tid, "it cannot be traced");
	tracee_interrupt(&t);
	err = tracee_wait(&t, deadline_ms);
	if (err)
		return tracee_refuse(m->why, err == -ETIMEDOUT ? -EAGAIN : err, tid, "a thread does not stop");
	err = tracee_save(&t, m->why);
	if (err) {
		tracee_detach(&t);
		return err;
	}
	err = remove_from(m, &t);
	tracee_restore(&t);
	return err;
}

static bool ended(int pidfd, int timeout_ms)
{
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};

	return poll(&pfd, 1, timeout_ms) > 0;
}

int inject_remove(struct remote *r, struct inject_err *why)
{
	struct removal m = {.r = r, .why = why};
	int err = 0;

	*why = (struct inject_err){0};
	if (r->pid <= 0) {
		remote_close(r);
		return 0;
	}
	m.same = syscall(SYS_kcmp, r->pid, r->helper, KCMP_VM, 0, 0) == 0;
	if (r->socket >= 0)
		close(r->socket);
	r->socket = -1;
	if (r->helper_pidfd >= 0 && !ended(r->helper_pidfd, 1000)) {
		remote_kill(r);
		ended(r->helper_pidfd, 1000);
	}
	if (!ended(r->pidfd, 0)) {
		err = tracee_run(job_remove, &m);
		if (ended(r->pidfd, 0)) /* then nothing is left */
			err = 0;
	}
	remote_close(r);
	return err;
}
