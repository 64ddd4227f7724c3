/* inject_prepare.c - what a new helper does before it serves: a socket, a ring, no authority; see inject.h and remote.h
 *
 * It is driven by ptrace, as a process of its own that nobody waits for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/guest/inject_impl.h"
#include "runtime/guest/pin.h"

#define PAGE DS_PAGE_BYTES

int64_t inject_of_helper(struct inject_plan *p, const struct remote_call *call)
{
	int64_t ret;
	int err = tracee_call(&p->helper, p->out->stub, call, &ret);

	return err ? err : ret;
}

/* What the program could make the helper do, if it changed its code: what it can do anyway. */
static int confine(struct inject_plan *p)
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
	err = inject_of_helper(p, INJECT_CALL(SYS_capset, at, at + sizeof(data.head)));
	if (!err)
		err = inject_of_helper(p, INJECT_CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1));
	return err ? err : inject_of_helper(p, INJECT_CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, at + ((char *)&data.prog - (char *)&data)));
}

/* A socketpair of the helper's: it keeps descriptor 0 and its other end is fetched from it.  Return: that end there, or -errno. */
static int connect_to(struct inject_plan *p)
{
	struct remote *r = p->out;
	int32_t pair[2];
	int err = inject_of_helper(p, INJECT_CALL(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->buf));

	if (err)
		return err;
	if (pread(r->mem_fd, pair, sizeof(pair), r->buf) != sizeof(pair) || pair[0] != 0 || pair[1] <= 0)
		return -EIO;
	r->socket = syscall(SYS_pidfd_getfd, r->helper_pidfd, pair[1], 0);
	return r->socket < 0 ? -errno : pair[1];
}

/*
 * Several calls by the traced helper, with @data at remote_data(@n).  By ptrace each takes two stops.  So it runs its loop for them,
 * traced still, and is stopped again.  Like what it does later their results are claims: nothing that confines it is among them.
 * With the program's filter suspended it is not let run: what the program made of its code would not be under that filter.
 */
static int several(struct inject_plan *p, const struct remote_call *calls, uint32_t n, const void *data, uint32_t bytes, int64_t *results)
{
	struct user_regs_struct regs = p->helper.regs;
	struct remote *r = p->out;
	int err;

	if (p->flags & INJECT_SECCOMP) {
		if (pwrite(r->mem_fd, data, bytes, remote_data(r, n)) != (ssize_t)bytes)
			return -EIO;
		for (uint32_t i = 0; i < n; i++)
			results[i] = inject_of_helper(p, &calls[i]);
		return 0;
	}
	regs.rip = r->stub + helper_loop_offset();
	regs.r12 = r->buf;
	regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, p->helper.tid, NULL, &regs) || ptrace(PTRACE_CONT, p->helper.tid, NULL, NULL))
		return -ESRCH;
	err = remote_batch(r, calls, n, data, bytes, results);
	if (err)
		return err;
	tracee_interrupt(&p->helper);
	return tracee_wait(&p->helper, tracee_now_ms() + INJECT_STOP_MS);
}

/*
 * The ring, which must be made before the filter is in force, and comforts: without any of it the helper works too.
 * @other: the socketpair's other end there, closed first, so that its number is the ring's: the lowest that is free.
 */
static int furnish(struct inject_plan *p, int other)
{
	enum { DONTFORK, NAME, VMA_NAME, CHDIR, SCHEDULER, SESSION, CLOSE, RING, TABLE, NCALLS };
	struct {
		struct io_uring_params params;
		struct io_uring_rsrc_register table;
		char name[16], vma_name[16], root[4];
		int32_t priority;
	} data = {
		.params.flags = IORING_SETUP_R_DISABLED,
		.table = {.nr = PIN_SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE},
		.name = "ds-helper",
		.vma_name = "dark shadow",
		.root = "/",
	};
	struct remote *r = p->out;
	const uint64_t at = remote_data(r, NCALLS);
#define AT(member) (at + offsetof(__typeof__(data), member))
	const struct remote_call calls[NCALLS] = {
		[DONTFORK] = {SYS_madvise, {r->stub, INJECT_AREA, MADV_DONTFORK}},
		[NAME] = {SYS_prctl, {PR_SET_NAME, AT(name)}},
		[VMA_NAME] = {SYS_prctl, {PR_SET_VMA, PR_SET_VMA_ANON_NAME, r->stub, INJECT_AREA, AT(vma_name)}},
		[CHDIR] = {SYS_chdir, {AT(root)}}, /* keeps no folder busy */
		[SCHEDULER] = {SYS_sched_setscheduler, {0, SCHED_OTHER, AT(priority)}},
		[SESSION] = {SYS_setsid},
		[CLOSE] = {SYS_close, {other}},
		[RING] = {SYS_io_uring_setup, {1, AT(params)}},
		[TABLE] = {SYS_io_uring_register, {other, IORING_REGISTER_BUFFERS2, AT(table), sizeof(data.table)}},
	};
#undef AT
	int64_t result[NCALLS];
	int err = several(p, calls, NCALLS, &data, sizeof(data), result);

	if (err || result[CLOSE])
		return err ? err : -EIO;
	if (result[RING] < 0)
		r->ring_fd = result[RING];
	else
		r->ring_fd = result[RING] != other ? -EIO : result[TABLE] ? result[TABLE] : other;
	return 0;
}

int inject_open_proc(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

int inject_prepare(struct inject_plan *p)
{
	struct rlimit none = {0, 0}, all = {RLIM_INFINITY, RLIM_INFINITY};
	struct remote *r = p->out;
	struct tracee *t = &p->helper;
	int err, other;

	r->helper_pidfd = syscall(SYS_pidfd_open, r->helper, 0);
	r->mem_fd = inject_open_proc(r->helper, "mem", O_RDWR);
	r->maps_fd = inject_open_proc(r->helper, "maps", O_RDONLY);
	r->pagemap_fd = inject_open_proc(r->helper, "pagemap", O_RDONLY);
	if (r->helper_pidfd < 0 || r->mem_fd < 0 || r->maps_fd < 0 || r->pagemap_fd < 0)
		return -errno;
	err = inject_of_helper(p, INJECT_CALL(SYS_mprotect, r->buf, HELPER_BUF_PAGES * PAGE, PROT_READ | PROT_WRITE));
	if (err)
		return err;
	prlimit(r->helper, RLIMIT_CORE, &none, NULL);
	prlimit(r->helper, RLIMIT_MEMLOCK, &all, NULL);
	other = connect_to(p);
	err = other < 0 ? other : furnish(p, other);
	if (err)
		return err;
	if (p->thread.tid == p->pid) /* else the death of one thread among many would count as the program's */
		inject_of_helper(p, INJECT_CALL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL));
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
