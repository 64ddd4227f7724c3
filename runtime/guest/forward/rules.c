/* rules.c - the table of rules; what they mean is in rules.h
 *
 * In the order of what a call is about.  A call that is missing is local: it names nothing that can be the host's, or (quota,
 * mounts, modules, swap, key rings, BPF) manages the guest's own kernel.
 */
#include "runtime/guest/forward/rules.h"

#include <asm/unistd.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

#define FD(n) {FORWARD_FD, n, 0, 0, 0}
#define FDN(n) {FORWARD_FD, n, 0, FORWARD_NESTED, 0}
#define FDT(n) {FORWARD_FD, n, 0, FORWARD_TRANSLATE, 0}
#define PATH(n) {FORWARD_PATH, n, 0, 0, 0}
#define AT(n) {FORWARD_AT, n, 0, 0, 0}
#define ATN(n) {FORWARD_AT, n, 0, FORWARD_NULL_PATH, 0}
#define DO(what) {FORWARD_SPECIAL, 0, FORWARD_S_##what, 0, 0}

static const struct forward_rule rules[FORWARD_NR_MAX] = {
	/* opening */
	[__NR_open] = {FORWARD_PATH, 0, 0, FORWARD_OPENS, 0},
	[__NR_creat] = {FORWARD_PATH, 0, 0, FORWARD_OPENS, 0},
	[__NR_openat] = {FORWARD_AT, 0, 0, FORWARD_OPENS, 0},
	[__NR_openat2] = {FORWARD_AT, 0, 0, FORWARD_OPENS, 0},
	[__NR_socket] = DO(SOCKET),
	[__NR_accept] = {FORWARD_FD, 0, 0, FORWARD_OPENS, 0},
	[__NR_accept4] = {FORWARD_FD, 0, 0, FORWARD_OPENS, 0},

	/* reading and writing */
	[__NR_read] = FD(0), [__NR_write] = FD(0), [__NR_pread64] = FD(0), [__NR_pwrite64] = FD(0), [__NR_lseek] = FD(0),
	[__NR_readv] = FDN(0), [__NR_writev] = FDN(0), [__NR_preadv] = FDN(0), [__NR_pwritev] = FDN(0),
	[__NR_preadv2] = FDN(0), [__NR_pwritev2] = FDN(0),
	[__NR_ioctl] = DO(IOCTL),
	[__NR_getdents] = FD(0), [__NR_getdents64] = FD(0),
	[__NR_fsync] = FD(0), [__NR_fdatasync] = FD(0), [__NR_syncfs] = FD(0), [__NR_sync_file_range] = FD(0),
	[__NR_ftruncate] = FD(0), [__NR_fallocate] = FD(0), [__NR_fadvise64] = FD(0), [__NR_readahead] = FD(0), [__NR_flock] = FD(0),
	[__NR_sendfile] = {FORWARD_FDS, 0, 1, FORWARD_TRANSLATE, EINVAL},
	[__NR_copy_file_range] = {FORWARD_FDS, 0, 2, 0, EXDEV},
	[__NR_splice] = {FORWARD_FDS, 0, 2, FORWARD_TRANSLATE, EINVAL},
	[__NR_tee] = {FORWARD_FDS, 0, 1, 0, EINVAL},
	[__NR_vmsplice] = FDN(0),

	/* sockets */
	[__NR_connect] = FDT(0), [__NR_bind] = FDT(0), [__NR_listen] = FD(0), [__NR_shutdown] = FD(0),
	[__NR_getsockname] = FD(0), [__NR_getpeername] = FD(0), [__NR_getsockopt] = FD(0), [__NR_setsockopt] = FDN(0),
	[__NR_sendto] = FD(0), [__NR_recvfrom] = FD(0),
	[__NR_sendmsg] = FDT(0), [__NR_recvmsg] = FDT(0), [__NR_sendmmsg] = FDT(0), [__NR_recvmmsg] = FDT(0),

	/* descriptors, the same on both sides */
	[__NR_close] = DO(CLOSE), [__NR_close_range] = DO(CLOSE_RANGE),
	[__NR_dup] = DO(DUP), [__NR_dup2] = DO(DUP2), [__NR_dup3] = DO(DUP2), [__NR_fcntl] = DO(FCNTL),

	[__NR_eventfd] = DO(EVENTFD), [__NR_eventfd2] = DO(EVENTFD),

	/* waiting for several */
	[__NR_poll] = DO(POLL), [__NR_ppoll] = DO(POLL), [__NR_select] = DO(SELECT), [__NR_pselect6] = DO(SELECT),
	[__NR_epoll_ctl] = DO(EPOLL_CTL), [__NR_epoll_wait] = DO(EPOLL_WAIT), [__NR_epoll_pwait] = DO(EPOLL_WAIT),
	[__NR_epoll_pwait2] = DO(EPOLL_WAIT),

	/* what a path or a descriptor names */
	[__NR_stat] = PATH(0), [__NR_lstat] = PATH(0), [__NR_fstat] = FD(0), [__NR_newfstatat] = ATN(0), [__NR_statx] = ATN(0),
	[__NR_access] = PATH(0), [__NR_faccessat] = AT(0), [__NR_faccessat2] = ATN(0),
	[__NR_readlink] = PATH(0), [__NR_readlinkat] = ATN(0),
	[__NR_statfs] = PATH(0), [__NR_fstatfs] = FD(0),
	[__NR_truncate] = PATH(0),
	[__NR_chmod] = PATH(0), [__NR_fchmod] = FD(0), [__NR_fchmodat] = AT(0), [__NR_fchmodat2] = ATN(0),
	[__NR_chown] = PATH(0), [__NR_lchown] = PATH(0), [__NR_fchown] = FD(0), [__NR_fchownat] = ATN(0),
	[__NR_utime] = PATH(0), [__NR_utimes] = PATH(0), [__NR_futimesat] = ATN(0), [__NR_utimensat] = ATN(0),
	[__NR_mkdir] = PATH(0), [__NR_mkdirat] = AT(0), [__NR_rmdir] = PATH(0), [__NR_mknod] = PATH(0), [__NR_mknodat] = AT(0),
	[__NR_unlink] = PATH(0), [__NR_unlinkat] = AT(0),
	[__NR_symlink] = PATH(1), [__NR_symlinkat] = AT(1),
	[__NR_link] = {FORWARD_PATHS, 0, 1, 0, EXDEV}, [__NR_rename] = {FORWARD_PATHS, 0, 1, 0, EXDEV},
	[__NR_linkat] = {FORWARD_ATS, 0, 2, FORWARD_NULL_PATH, EXDEV},
	[__NR_renameat] = {FORWARD_ATS, 0, 2, 0, EXDEV}, [__NR_renameat2] = {FORWARD_ATS, 0, 2, 0, EXDEV},
	[__NR_setxattr] = PATH(0), [__NR_lsetxattr] = PATH(0), [__NR_fsetxattr] = FD(0),
	[__NR_getxattr] = PATH(0), [__NR_lgetxattr] = PATH(0), [__NR_fgetxattr] = FD(0),
	[__NR_listxattr] = PATH(0), [__NR_llistxattr] = PATH(0), [__NR_flistxattr] = FD(0),
	[__NR_removexattr] = PATH(0), [__NR_lremovexattr] = PATH(0), [__NR_fremovexattr] = FD(0),
	[__NR_name_to_handle_at] = {FORWARD_AT, 0, 0, FORWARD_REFUSE | FORWARD_NULL_PATH, EOPNOTSUPP},

	/* watching and mounting there from here */
	[__NR_inotify_add_watch] = {FORWARD_PATH, 1, 0, FORWARD_TRANSLATE, 0}, [__NR_inotify_rm_watch] = FD(0),
	[__NR_fanotify_mark] = {FORWARD_AT, 3, 0, FORWARD_REFUSE | FORWARD_NULL_PATH, ENOSYS},
	[__NR_chroot] = {FORWARD_PATH, 0, 0, FORWARD_REFUSE, EPERM},
	[__NR_mount] = {FORWARD_PATHS, 0, 1, FORWARD_REFUSE | FORWARD_NULL_PATH, EPERM},
	[__NR_umount2] = {FORWARD_PATH, 0, 0, FORWARD_REFUSE, EPERM},
	[__NR_swapon] = {FORWARD_PATH, 0, 0, FORWARD_REFUSE, EPERM},
	[__NR_acct] = {FORWARD_PATH, 0, 0, FORWARD_REFUSE | FORWARD_NULL_PATH, EPERM},

	/* where the process is */
	[__NR_chdir] = DO(CHDIR), [__NR_fchdir] = DO(FCHDIR), [__NR_getcwd] = DO(GETCWD), [__NR_umask] = DO(UMASK),

	/* memory, programs, signals */
	[__NR_mmap] = DO(MMAP), [__NR_munmap] = DO(MEMORY), [__NR_mremap] = DO(MEMORY), [__NR_madvise] = DO(MEMORY), [__NR_brk] = DO(MEMORY),
	[__NR_mprotect] = DO(MEMORY), [__NR_msync] = DO(MEMORY),
	[__NR_execve] = DO(EXEC), [__NR_execveat] = DO(EXEC),
	[__NR_clone] = DO(CLONE), [__NR_clone3] = DO(CLONE), [__NR_fork] = DO(CLONE), [__NR_vfork] = DO(CLONE),
	[__NR_rt_sigaction] = DO(SIGACTION),
	[__NR_wait4] = DO(WAIT), [__NR_waitid] = DO(WAIT),
	[__NR_exit_group] = DO(EXIT), [__NR_set_robust_list] = DO(FIRST),
};

static const char *const names[FORWARD_NR_MAX] = {
#include "syscall_names.h"
};

static const char *const errors[256] = {
#include "errno_names.h"
};

const struct forward_rule *forward_rule(uint64_t nr)
{
	static const struct forward_rule local;

	return nr < FORWARD_NR_MAX ? &rules[nr] : &local;
}

int forward_sides(const struct forward_rule *rule, enum forward_side first, enum forward_side second)
{
	if (first == FORWARD_HERE && second == FORWARD_HERE)
		return 0;
	if (rule->flags & FORWARD_REFUSE || first != second)
		return -(int)rule->error;
	return 1;
}

const char *forward_name(uint64_t nr)
{
	return nr < FORWARD_NR_MAX ? names[nr] : NULL;
}

static int find(const char *const *table, int n, const char *name, uint64_t bytes)
{
	for (int i = 0; i < n; i++)
		if (table[i] && strlen(table[i]) == bytes && !memcmp(table[i], name, bytes))
			return i;
	return -1;
}

int forward_number(const char *name, uint64_t bytes)
{
	return find(names, FORWARD_NR_MAX, name, bytes);
}

const char *forward_errno_name(uint64_t error)
{
	return error < sizeof(errors) / sizeof(*errors) ? errors[error] : NULL;
}

int forward_errno_number(const char *name, uint64_t bytes)
{
	return find(errors, sizeof(errors) / sizeof(*errors), name, bytes);
}
