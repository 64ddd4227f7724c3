/* vmminject.c - makes the helper's thread in a running VMM; theory in vmminject.h */
#include "runtime/host/window/vmminject.h"

#include <asm/unistd.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/host/window/vmmhelper.h"

#define STOP_MS 2000
#define BOOT_MS 2000
#define ALL_MS 5000
#define STEP_NS 100000
#define USER_CS 0x33
#define GETSIGMASK 0x420a /* linux/ptrace.h, which does not go with sys/ptrace.h */
#define SETSIGMASK 0x420b
#define VDSO_BYTES_MAX (8u << 12)
/* The kernel's own, include/linux/errno.h */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

/** struct job - In memory that parent and child share. */
struct job {
	pid_t pid;
	int err;
	char why[VMMINJECT_WHY_BYTES];
};

__attribute__((format(printf, 3, 4))) static int fail(struct job *j, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->why, sizeof(j->why), fmt, ap);
	va_end(ap);
	j->err = err;
	return err;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void pause_ns(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* --- stopping ------------------------------------------------------------------------------------------------------ */

/* Waits for a stop of @tid.  Return: 0 and @status; -ESRCH, -ETIMEDOUT. */
static int await_stop(pid_t tid, int *status)
{
	const int64_t until = now_ms() + STOP_MS;

	for (;;) {
		const pid_t got = waitpid(tid, status, __WALL | WNOHANG);

		if (got == tid)
			return WIFSTOPPED(*status) ? 0 : -ESRCH;
		if (got < 0 && errno != EINTR)
			return -ESRCH;
		if (now_ms() >= until)
			return -ETIMEDOUT;
		pause_ns(STEP_NS);
	}
}

/* Stops a thread where nothing is under way with it.  Signals that come before are delivered.  Return: 0 or -errno. */
static int stop(pid_t tid)
{
	int status, r;

	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		return -errno;
	for (;;) {
		r = await_stop(tid, &status);
		if (r)
			return r;
		if (status >> 16 != PTRACE_EVENT_STOP) {
			ptrace(PTRACE_CONT, tid, NULL, (void *)(long)WSTOPSIG(status));
			continue;
		}
		if (WSTOPSIG(status) == SIGTRAP)
			return 0;
		ptrace(PTRACE_DETACH, tid, NULL, NULL); /* somebody has stopped the whole process (SIGSTOP) */
		return -EBUSY;
	}
}

/* --- the main thread --------------------------------------------------------------------------------------------------- */

static int get_regs(pid_t tid, struct user_regs_struct *regs)
{
	struct iovec iov = {regs, sizeof(*regs)};

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov))
		return -errno;
	return iov.iov_len == sizeof(*regs) && regs->cs == USER_CS ? 0 : -EOPNOTSUPP;
}

static int set_regs(pid_t tid, const struct user_regs_struct *regs)
{
	struct iovec iov = {(void *)(uintptr_t)regs, sizeof(*regs)};

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &iov) ? -errno : 0;
}

/* A syscall instruction of the vdso.  Return: its address; 0: none. */
static uint64_t find_syscall(pid_t pid)
{
	static uint8_t code[VDSO_BYTES_MAX];
	char path[64], line[512];
	uint64_t from = 0, end = 0;
	struct iovec here, there;
	ssize_t got;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]") && sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &end) == 2)
			break;
	if (f)
		fclose(f);
	if (end <= from)
		return 0;
	here = (struct iovec){code, end - from < sizeof(code) ? end - from : sizeof(code)};
	there = (struct iovec){(void *)(uintptr_t)from, here.iov_len};
	got = process_vm_readv(pid, &here, 1, &there, 1, 0);
	for (ssize_t i = 0; i + 1 < got; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x05)
			return from + (uint64_t)i;
	return 0;
}

/* One mmap() in the stopped thread, whose registers are @before.  @late: a signal that came meanwhile, or 0. */
static int64_t remote_mmap(pid_t tid, const struct user_regs_struct *before, uint64_t insn, int *late)
{
	struct user_regs_struct regs = *before;
	int status, r;

	regs.rip = insn;
	regs.orig_rax = (unsigned long long)-1;
	regs.rax = __NR_mmap;
	regs.rdi = 0;
	regs.rsi = VMM_BYTES;
	regs.rdx = PROT_READ | PROT_EXEC;
	regs.r10 = MAP_PRIVATE | MAP_ANONYMOUS;
	regs.r8 = (unsigned long long)-1;
	regs.r9 = 0;
	r = set_regs(tid, &regs);
	for (;;) {
		if (r || ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL))
			return r ? r : -errno;
		r = await_stop(tid, &status);
		if (r)
			return r;
		if (status >> 8 == SIGTRAP)
			break;
		if (!(status >> 16))
			*late = WSTOPSIG(status);
	}
	r = get_regs(tid, &regs);
	return r ? r : (int64_t)regs.rax;
}

static int poke(pid_t tid, uint64_t to, const void *from, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += sizeof(long)) {
		long word = 0;

		memcpy(&word, (const char *)from + at, bytes - at < sizeof(word) ? bytes - at : sizeof(word));
		if (ptrace(PTRACE_POKEDATA, tid, (void *)(uintptr_t)(to + at), (void *)word))
			return -errno;
	}
	return 0;
}

/* What the thread goes on with: a system call that was interrupted is issued again (arch/x86/kernel/signal.c). */
static struct vmm_regs resume_with(const struct user_regs_struct *r)
{
	struct vmm_regs v = {r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->r8, r->r9, r->r10,
			     r->r11, r->r12, r->r13, r->r14, r->r15, r->rsp, r->rip, r->eflags};

	if ((int64_t)r->orig_rax < 0)
		return v;
	switch (-(int64_t)r->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
		v.rax = r->orig_rax;
		v.rip -= 2;
		break;
	case ERESTART_RESTARTBLOCK:
		v.rax = __NR_restart_syscall;
		v.rip -= 2;
		break;
	}
	return v;
}

static int make_state(struct job *j, const char *path, const struct user_regs_struct *regs, struct vmm_state *s)
{
	const size_t n = strlen(path);

	*s = (struct vmm_state){.regs = resume_with(regs), .all_signals = ~UINT64_C(0), .address.family = AF_UNIX};
	if (n >= VMM_PATH_BYTES)
		return fail(j, -ENAMETOOLONG, "%.80s: too long for a socket", path);
	memcpy(s->address.path, path, n);
	s->path_bytes = (uint32_t)n + 1;
	if (*path == '@') {
		s->address.path[0] = 0;
		s->path_bytes = (uint32_t)n;
	}
	return 0;
}

/* The main thread is stopped; it is let go in any case.  @base: where the code is now. */
static int plant(struct job *j, const char *path, uint64_t *base)
{
	struct user_regs_struct before, boot;
	const uint64_t insn = find_syscall(j->pid);
	struct vmm_state s;
	int late = 0, r = get_regs(j->pid, &before);
	int64_t at;

	if (!r)
		r = make_state(j, path, &before, &s);
	if (r || !insn) {
		ptrace(PTRACE_DETACH, j->pid, NULL, NULL);
		return r == -ENAMETOOLONG ? r : fail(j, -EOPNOTSUPP, "process %d is none that a thread can be put into", j->pid);
	}
	at = remote_mmap(j->pid, &before, insn, &late);
	boot = before;
	if (at > 0) {
		*base = (uint64_t)at;
		boot.rip = *base + vmm_boot_offset();
		boot.orig_rax = (unsigned long long)-1;
		r = poke(j->pid, *base, vmm_code, vmm_code_bytes());
		r = r ? r : poke(j->pid, *base + VMM_CODE_BYTES, &s, sizeof(s));
	} else {
		r = at ? (int)at : -ENOMEM;
	}
	set_regs(j->pid, r ? &before : &boot);
	ptrace(PTRACE_DETACH, j->pid, NULL, (void *)(long)late);
	return r ? fail(j, r, "process %d cannot have pages with code of ours: %s", j->pid, strerror(-r)) : 0;
}

/* Until vmm_boot has done its work.  @tid: the helper's. */
static int await_boot(struct job *j, uint64_t base, pid_t *tid)
{
	const int64_t until = now_ms() + BOOT_MS;
	struct vmm_state s = {0};

	do {
		struct iovec here = {&s, sizeof(s)}, there = {(void *)(uintptr_t)(base + VMM_CODE_BYTES), sizeof(s)};

		if (process_vm_readv(j->pid, &here, 1, &there, 1, 0) != sizeof(s))
			return fail(j, -ESRCH, "process %d has ended", j->pid);
		if (s.done)
			break;
		pause_ns(STEP_NS);
	} while (now_ms() < until);
	if (!s.done)
		return fail(j, -ETIMEDOUT, "process %d does not run", j->pid);
	if (s.cloned < 0)
		return fail(j, (int)s.cloned, "process %d cannot have another thread: %s", j->pid, strerror((int)-s.cloned));
	*tid = (pid_t)s.cloned;
	return 0;
}

/* --- all threads ---------------------------------------------------------------------------------------------------------- */

static void unblock(pid_t tid)
{
	const uint64_t want = UINT64_C(1) << (SIGBUS - 1) | UINT64_C(1) << (SIGSEGV - 1);
	uint64_t mask;

	if (stop(tid))
		return; /* it has ended, or hangs: in the latter case it touches no page either */
	if (!ptrace(GETSIGMASK, tid, (void *)sizeof(mask), &mask) && mask & want) {
		mask &= ~want;
		ptrace(SETSIGMASK, tid, (void *)sizeof(mask), &mask);
	}
	ptrace(PTRACE_DETACH, tid, NULL, NULL);
}

static void unblock_all(pid_t pid, pid_t helper)
{
	char path[64];
	const struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		const pid_t tid = (pid_t)atoi(e->d_name);

		if (tid > 0 && tid != helper)
			unblock(tid);
	}
	if (d)
		closedir(d);
}

static void work(struct job *j, const char *path)
{
	uint64_t base = 0;
	pid_t helper = 0;
	int r = stop(j->pid);

	if (r == -EPERM || r == -EACCES)
		fail(j, -EPERM, "process %d may not be traced", j->pid);
	else if (r)
		fail(j, r, "process %d cannot be stopped for a moment: %s", j->pid, strerror(-r));
	else if (!plant(j, path, &base) && !await_boot(j, base, &helper))
		unblock_all(j->pid, helper);
}

int vmminject(pid_t pid, const char *path, char why[static VMMINJECT_WHY_BYTES])
{
	const int64_t until = now_ms() + ALL_MS;
	struct job *j = mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child = -1;
	int r, status = 0;

	why[0] = 0;
	if (j != MAP_FAILED) {
		j->pid = pid;
		child = fork();
		if (!child) {
			work(j, path);
			_exit(0);
		}
	}
	if (child < 0) {
		r = -errno;
		snprintf(why, VMMINJECT_WHY_BYTES, "%s", strerror(errno));
		if (j != MAP_FAILED)
			munmap(j, sizeof(*j));
		return r;
	}
	while ((r = waitpid(child, &status, WNOHANG)) == 0 && now_ms() < until)
		pause_ns(STEP_NS);
	if (!r) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		fail(j, -ETIMEDOUT, "process %d does not stop: it hangs in the kernel", pid);
	}
	r = j->err;
	memcpy(why, j->why, VMMINJECT_WHY_BYTES);
	munmap(j, sizeof(*j));
	return r;
}
