/* filter.c - programs for seccomp(2); theory in filter.h
 *
 * A program is a list of blocks, one a call: "is it this number? if not, skip the block", then checks of arguments, each of
 * which ends the program with EPERM if it does not hold, then what the call gets.  Every block ends the program, so no
 * state passes from one to the next but the number in the accumulator.
 */
#include "runtime/host/jail/filter.h"

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/ioctl.h>
#include <linux/loop.h>
#include <linux/sockios.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "runtime/host/jail/filter_group.h"
#include "runtime/wire/fdargs.h"
#include "runtime/wire/shadow.h"

/* Newer than the kernel headers this is built with may be; asm/unistd_64.h of Linux 6.10. */
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436
#define NR_openat2 437
#define NR_pidfd_getfd 438
#define NR_process_madvise 440
#define NR_mount_setattr 442
#define NR_memfd_secret 447
#define NR_process_mrelease 448
#define NR_map_shadow_stack 453
#define NR_mseal 462

#define MADV_POPULATE_READ_ 22 /* asm-generic/mman-common.h of Linux 5.14 */
#define MADV_POPULATE_WRITE_ 23
#define SO_PEERPIDFD_ 77 /* asm-generic/socket.h of Linux 6.5 */
#define CAPSULE_CLONE (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define EPERM_RET (SECCOMP_RET_ERRNO | EPERM)

/* --- an assembler -------------------------------------------------------------------------------------------------- */

struct assembler {
	struct filter *f;
	unsigned int block; /* index of the jump that begins the block */
	bool full;
};

static void put(struct assembler *a, struct sock_filter ins)
{
	if (a->f->n == FILTER_MAX)
		a->full = true;
	else
		a->f->ins[a->f->n++] = ins;
}

static void put_ret(struct assembler *a, uint32_t result)
{
	put(a, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, result));
}

static void put_load(struct assembler *a, size_t offset)
{
	put(a, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* x86-64 is little-endian: the lower half of an argument comes first. */
static void put_load_arg(struct assembler *a, int arg, int half)
{
	put_load(a, offsetof(struct seccomp_data, args) + 8 * (size_t)arg + 4 * (size_t)half);
}

static void begin(struct assembler *a, uint32_t nr)
{
	a->block = a->f->n;
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 0));
}

static void end(struct assembler *a, uint32_t result)
{
	unsigned int length;

	put_ret(a, result);
	length = a->f->n - a->block - 1;
	if (length > UINT8_MAX)
		a->full = true;
	else
		a->f->ins[a->block].jf = (uint8_t)length;
}

/* What is loaded must be @value, else EPERM. */
static void must_equal(struct assembler *a, uint32_t value)
{
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0));
	put_ret(a, EPERM_RET);
}

static void arg_is(struct assembler *a, int arg, uint32_t value, bool whole)
{
	put_load_arg(a, arg, 0);
	must_equal(a, value);
	if (!whole)
		return;
	put_load_arg(a, arg, 1);
	must_equal(a, 0);
}

/* No other bits than those of @mask. */
static void arg_within(struct assembler *a, int arg, uint32_t mask)
{
	put_load_arg(a, arg, 0);
	put(a, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~mask));
	must_equal(a, 0);
	put_load_arg(a, arg, 1);
	must_equal(a, 0);
}

/* A descriptor other than the capsule's own. */
static void arg_not_own(struct assembler *a, int arg)
{
	put_load_arg(a, arg, 0);
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, DS_SHADOW_GUEST_FDS, 0, 2));
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, DS_SHADOW_OWN_FDS_END, 1, 0));
	put_ret(a, EPERM_RET);
}

/* None of the bits of @mask, else @error; the argument is an int. */
static void arg_without(struct assembler *a, int arg, uint32_t mask, uint32_t error)
{
	put_load_arg(a, arg, 0);
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1));
	put_ret(a, SECCOMP_RET_ERRNO | error);
}

/* One of @list, else @error; the argument is an int. */
static void arg_one_of(struct assembler *a, int arg, const uint32_t *list, size_t n, uint32_t error)
{
	put_load_arg(a, arg, 0);
	for (size_t i = 0; i < n; i++)
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, list[i], (uint8_t)(n - i), 0));
	put_ret(a, SECCOMP_RET_ERRNO | error);
}

static void allow(struct assembler *a, uint32_t nr)
{
	begin(a, nr);
	end(a, SECCOMP_RET_ALLOW);
}

/* @fds: bit i: argument i is a descriptor. */
static void allow_fds(struct assembler *a, uint32_t nr, unsigned int fds)
{
	begin(a, nr);
	for (int i = 0; i < 6; i++)
		if (fds & 1u << i)
			arg_not_own(a, i);
	end(a, SECCOMP_RET_ALLOW);
}

static void begin_program(struct assembler *a)
{
	put_load(a, offsetof(struct seccomp_data, arch));
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	put_ret(a, SECCOMP_RET_KILL_PROCESS);
	/* x32 calls have bit 30 set: none of the numbers below */
	put_load(a, offsetof(struct seccomp_data, nr));
}

/* --- calls by number ------------------------------------------------------------------------------------------------ */

/* Those that a service cannot have.  The theory says why, for each. */
static const uint16_t never[] = {
	/* another number for the RAM's descriptors, or files and processes that are not there */
	__NR_sendmsg, __NR_sendmmsg, __NR_io_uring_setup, __NR_io_uring_enter, __NR_io_uring_register, NR_pidfd_getfd,
	NR_pidfd_open, __NR_open_by_handle_at, __NR_kcmp, NR_close_range,
	/* references to the guest's pages that outlive the call */
	__NR_io_setup, __NR_io_submit, __NR_vmsplice,
	/* memory mapped or moved without mmap() */
	__NR_mmap, __NR_mremap, __NR_remap_file_pages, __NR_shmat, __NR_uselib, NR_map_shadow_stack, __NR_userfaultfd,
	NR_memfd_secret, NR_mseal, __NR_pkey_mprotect, __NR_mprotect, __NR_brk, __NR_munmap, __NR_modify_ldt, __NR_arch_prctl,
	/* other programs, other processes */
	__NR_execve, __NR_execveat, __NR_fork, __NR_vfork, __NR_clone, NR_clone3, __NR_ptrace, __NR_process_vm_readv,
	__NR_process_vm_writev, NR_process_madvise, NR_process_mrelease,
	/* the walls of the jail */
	__NR_seccomp, __NR_prctl, __NR_prlimit64, __NR_setrlimit, __NR_unshare, __NR_setns, __NR_mount, __NR_umount2,
	__NR_pivot_root, __NR_chroot, __NR_fsopen, __NR_fsmount, __NR_open_tree, __NR_move_mount, NR_mount_setattr,
	__NR_keyctl, __NR_add_key, __NR_request_key, __NR_bpf, __NR_perf_event_open, __NR_setuid, __NR_setgid,
	__NR_setresuid, __NR_setresgid, __NR_setreuid, __NR_setregid, __NR_setgroups, __NR_capset,
	/* the capsule's own signals */
	__NR_rt_sigaction, __NR_rt_sigprocmask, __NR_sigaltstack,
};

bool filter_refuses(uint32_t nr)
{
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (never[i] == nr)
			return true;
	return false;
}

/* --- the programs --------------------------------------------------------------------------------------------------- */

/* What every capsule does all its life, where no argument matters, or only that it is not the RAM. */
static const uint16_t always[] = {
	__NR_munmap, __NR_rt_sigaction, __NR_rt_sigreturn, __NR_restart_syscall, __NR_tgkill, __NR_gettid,
	__NR_getpid, __NR_clock_gettime, __NR_getrandom, __NR_sched_yield, __NR_exit, __NR_exit_group, __NR_close, __NR_lseek,
	__NR_pread64,
};

/* What it does beside until it is armed.  Only our own code has run by then. */
static const uint16_t boot[] = {
	__NR_execveat, __NR_futex, __NR_recvmsg, __NR_sendto, __NR_mmap, __NR_mprotect, __NR_prctl, __NR_clone, __NR_fcntl, __NR_dup3,
	__NR_set_robust_list, __NR_set_tid_address, __NR_rseq, __NR_prlimit64, __NR_seccomp,
};

/* The calls of a mirror that faults; the descriptor itself is made before the capsule is armed. */
static const uint32_t demand_cmds[] = {UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WAKE};

/* Commands of fcntl(): no signals (F_SETOWN, F_SETSIG, F_NOTIFY, F_SETLEASE), no seals. */
static const uint32_t fcntl_cmds[] = {F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_DUPFD, F_GETLK, F_SETLK, F_SETLKW,
				      F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_SETPIPE_SZ, F_GETPIPE_SZ};
static const uint32_t populating[] = {MADV_POPULATE_READ_, MADV_POPULATE_WRITE_};
static const uint32_t ioctl_cmds[] = {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TIOCOUTQ, SIOCATMARK};
/* Of the group "device": letters (bits 8 to 15) that are file systems', and commands that are refused whatever the letter. */
static const uint8_t fs_letters[] = {'f', 'X', 0x94, 0xf5};
static const uint32_t refused_cmds[] = {FIOASYNC, FIOSETOWN, SIOCSPGRP, 0x4c0a /* LOOP_CONFIGURE */, 0x40187542 /* UDMABUF_CREATE */,
					0x40087543 /* UDMABUF_CREATE_LIST */};
static const uint32_t fd_cmds[] = {LOOP_SET_FD, LOOP_CHANGE_FD}; /* the argument is a descriptor */
#define ONE_OF(a, arg, list, error) arg_one_of(a, arg, list, sizeof(list) / sizeof((list)[0]), error)

static uint32_t refused_error(uint32_t cmd)
{
	return SECCOMP_RET_ERRNO | (cmd == FIOASYNC || cmd == FIOSETOWN || cmd == SIOCSPGRP ? ENOTTY : EINVAL);
}

/* Any ioctl() but some. */
static void put_device_ioctl(struct assembler *a)
{
	put_load_arg(a, 1, 0);
	for (size_t i = 0; i < sizeof(refused_cmds) / sizeof(refused_cmds[0]); i++) {
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused_cmds[i], 0, 1));
		put_ret(a, refused_error(refused_cmds[i]));
	}
	for (size_t i = 0; i < sizeof(fd_cmds) / sizeof(fd_cmds[0]); i++) {
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, fd_cmds[i], 0, 5));
		arg_not_own(a, 2);
		put_ret(a, SECCOMP_RET_ALLOW);
	}
	put(a, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 8));
	put(a, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff));
	for (size_t i = 0; i < sizeof(fs_letters) / sizeof(fs_letters[0]); i++) {
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, fs_letters[i], 0, 1));
		put_ret(a, SECCOMP_RET_ERRNO | ENOTTY);
	}
}

/* Sockets of the families that the rule has. */
static void put_families(struct assembler *a, const struct filter_want *want)
{
	uint32_t list[3];
	size_t n = 0;

	if (!want->no_inet)
		list[n++] = AF_INET;
	if (!want->no_inet6)
		list[n++] = AF_INET6;
	if (want->unix_sockets)
		list[n++] = AF_UNIX;
	arg_one_of(a, 0, list, n, EAFNOSUPPORT);
}

static void put_check(struct assembler *a, const struct filter_want *want, enum filter_check check)
{
	switch (check) {
	case FILTER_NONE: break;
	case FILTER_OPEN: arg_without(a, 1, O_DIRECT, EINVAL); break;
	case FILTER_OPENAT: arg_without(a, 2, O_DIRECT, EINVAL); break;
	case FILTER_ABSENT: put_ret(a, SECCOMP_RET_ERRNO | ENOSYS); break;
	case FILTER_FCNTL:
		ONE_OF(a, 1, fcntl_cmds, EINVAL);
		put_load_arg(a, 1, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETFL, 0, 3));
		arg_without(a, 2, O_DIRECT | O_ASYNC, EINVAL);
		break;
	case FILTER_IOCTL:
		if (want->groups & CALLGROUP_DEVICE)
			put_device_ioctl(a);
		else
			ONE_OF(a, 1, ioctl_cmds, ENOTTY);
		break;
	case FILTER_FAMILY: put_families(a, want); break;
	case FILTER_RECVMSG:
		if (want->unix_sockets)
			put_ret(a, SECCOMP_RET_ERRNO | ENOSYS);
		break;
	case FILTER_GETSOCKOPT: /* a descriptor of a process */
		put_load_arg(a, 1, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 3));
		put_load_arg(a, 2, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_PEERPIDFD_, 0, 1));
		put_ret(a, SECCOMP_RET_ERRNO | ENOPROTOOPT);
		break;
	case FILTER_SETSOCKOPT:
		put_load_arg(a, 1, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 3));
		put_load_arg(a, 2, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_ZEROCOPY, 0, 1));
		put_ret(a, SECCOMP_RET_ERRNO | ENOPROTOOPT);
		break;
	case FILTER_SENDTO: arg_without(a, 3, MSG_ZEROCOPY, EINVAL); break;
	case FILTER_POPULATE: ONE_OF(a, 2, populating, EINVAL); break;
	}
}

/* Calls that the capsule makes on a descriptor of its own, where a service may have them for others. */
static void put_own(struct assembler *a, const struct filter_want *want, uint32_t nr)
{
	const size_t n = sizeof(demand_cmds) / sizeof(demand_cmds[0]);

	if (nr == __NR_recvmsg || nr == __NR_sendto) {
		put_load_arg(a, 0, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DS_SHADOW_CTL_FD, 0, 1));
		put_ret(a, SECCOMP_RET_ALLOW);
	}
	if (nr == __NR_ioctl && want->demand) {
		put_load_arg(a, 0, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DS_SHADOW_FAULT_FD, 0, (uint8_t)(n + 3)));
		ONE_OF(a, 1, demand_cmds, EPERM);
		put_ret(a, SECCOMP_RET_ALLOW);
	}
}

/* What a rule limits; what is said instead is what an ordinary kernel could say. */
static void put_limits(struct assembler *a, const struct filter_want *want, uint32_t nr)
{
	static const uint32_t protocols[] = {0, IPPROTO_TCP, IPPROTO_UDP};

	switch (nr) {
	case __NR_dup2:
	case __NR_dup3: /* what holds a number is no descriptor of the program */
		if (!want->descriptors)
			break;
		put_load_arg(a, 0, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DS_SHADOW_HOLD_FD, 4, 0));
		put_load_arg(a, 1, 0);
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, DS_SHADOW_GUEST_FDS, 2, 0));
		put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, want->descriptors, 0, 1));
		put_ret(a, SECCOMP_RET_ERRNO | EMFILE);
		break;
	case __NR_socket:
		if (want->net_limited)
			ONE_OF(a, 2, protocols, EPROTONOSUPPORT);
		break;
	case __NR_listen:
		if (want->no_listen)
			put_ret(a, SECCOMP_RET_ERRNO | EPERM);
		break;
	case __NR_splice:
	case __NR_tee:
		if (want->no_splice)
			put_ret(a, SECCOMP_RET_ERRNO | EINVAL);
		break;
	default: break;
	}
}

/* A call of the service. */
static void put_extra(struct assembler *a, const struct filter_want *want, uint32_t nr, unsigned int fds, enum filter_check check)
{
	fds |= fdargs_of(nr);
	begin(a, nr);
	put_own(a, want, nr);
	for (int i = 0; i < 6; i++)
		if (fds & 1u << i)
			arg_not_own(a, i);
	put_check(a, want, check);
	put_limits(a, want, nr);
	end(a, SECCOMP_RET_ALLOW);
}

static bool granted(const struct filter_want *want, const struct filter_grant *g)
{
	return g->group == FILTER_BASE ? want->bells : (want->groups & g->group) != 0;
}

/* The calls of the service; @checked: with their arguments.  The first block of a number counts. */
static int put_extras(struct assembler *a, const struct filter_want *want, bool checked)
{
	const struct filter_grant *g;
	size_t n;

	if (want->ncalls > FILTER_CALLS_MAX)
		return -E2BIG;
	g = filter_grants(&n);
	for (size_t i = 0; i < n; i++) {
		if (!granted(want, &g[i]))
			continue;
		if (checked)
			put_extra(a, want, g[i].nr, 0, g[i].check);
		else
			allow(a, g[i].nr);
	}
	for (size_t i = 0; i < want->ncalls; i++) {
		if (filter_refuses(want->calls[i].nr))
			return -EINVAL;
		put_extra(a, want, want->calls[i].nr, want->calls[i].fds, FILTER_NONE);
	}
	return 0;
}

static int finish(struct assembler *a)
{
	begin(a, NR_clone3);
	end(a, SECCOMP_RET_ERRNO | ENOSYS);
	put_ret(a, EPERM_RET);
	return a->full ? -E2BIG : 0;
}

int filter_first(const struct filter_want *want, struct filter *f)
{
	struct assembler a = {.f = f};
	int rc;

	f->n = 0;
	begin_program(&a);
	for (size_t i = 0; i < sizeof(boot) / sizeof(boot[0]); i++)
		allow(&a, boot[i]);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		allow(&a, always[i]);
	if (want->bells)
		allow(&a, __NR_openat);
	if (want->demand)
		allow(&a, __NR_ioctl);
	rc = put_extras(&a, want, false);
	return rc ? rc : finish(&a);
}

/* Memory of its own passes; whatever has a file is dshost's to judge. */
static void put_mmap(struct assembler *a)
{
	unsigned int to_notify;

	begin(a, __NR_mmap);
	put_load_arg(a, 3, 0);
	to_notify = a->f->n;
	put(a, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 0));
	/* neither shared nor private is EINVAL, by the kernel */
	arg_within(a, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED | MAP_FIXED_NOREPLACE);
	arg_within(a, 2, PROT_READ | PROT_WRITE);
	put_ret(a, SECCOMP_RET_ALLOW);
	if (!a->full)
		a->f->ins[to_notify].jf = (uint8_t)(a->f->n - to_notify - 1);
	end(a, SECCOMP_RET_USER_NOTIF);
}

/* What the capsule does on its own descriptors, where the service has not got the call for others. */
static void put_only_own(struct assembler *a, const struct filter_want *want, uint32_t nr)
{
	begin(a, nr);
	put_own(a, want, nr);
	end(a, EPERM_RET);
}

int filter_second(const struct filter_want *want, struct filter *f)
{
	struct assembler a = {.f = f};
	int rc;

	f->n = 0;
	begin_program(&a);
	put_mmap(&a);
	rc = put_extras(&a, want, true);
	if (rc)
		return rc;
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		allow_fds(&a, always[i], fdargs_of(always[i]));
	put_only_own(&a, want, __NR_recvmsg);
	put_only_own(&a, want, __NR_sendto);
	begin(&a, __NR_futex);
	arg_within(&a, 1, FUTEX_WAKE | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME); /* and FUTEX_WAIT, which is 0 */
	end(&a, SECCOMP_RET_ALLOW);
	begin(&a, __NR_mprotect);
	arg_within(&a, 2, PROT_READ | PROT_WRITE | PROT_EXEC);
	end(&a, SECCOMP_RET_ALLOW);
	begin(&a, __NR_prctl);
	arg_is(&a, 0, PR_SET_MM, false);
	arg_is(&a, 1, PR_SET_MM_MAP, true);
	end(&a, SECCOMP_RET_ALLOW);
	begin(&a, __NR_clone);
	arg_is(&a, 0, CAPSULE_CLONE, true);
	end(&a, SECCOMP_RET_ALLOW);
	if (want->demand)
		put_only_own(&a, want, __NR_ioctl);
	return finish(&a);
}
