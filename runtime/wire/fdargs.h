/* fdargs.h - which arguments of a system call are descriptors
 *
 * For who has to keep calls off certain descriptors: the guard's filter (runtime/host/jail/filter.h), and the service that makes a
 * guest's calls, as a courtesy.  A descriptor that is passed in memory (pollfd, msghdr, ioctl arguments) is not in here.
 * Source: the manual pages of section 2; linux/syscalls.h of Linux 6.12.
 */
#ifndef WIRE_FDARGS_H
#define WIRE_FDARGS_H

#include <asm/unistd.h>
#include <stdint.h>

#define FDARGS_MAX 512 /* numbers of calls are below */

/* Bit i of the entry of a call: its argument i is a descriptor.  By number: the service looks at it for each call that it makes. */
static const uint8_t fdargs_known[FDARGS_MAX] = {
	[__NR_read] = 1, [__NR_write] = 1, [__NR_pread64] = 1, [__NR_pwrite64] = 1, [__NR_readv] = 1,
	[__NR_writev] = 1, [__NR_preadv] = 1, [__NR_pwritev] = 1, [__NR_preadv2] = 1, [__NR_pwritev2] = 1,
	[__NR_close] = 1, [__NR_lseek] = 1, [__NR_ioctl] = 1, [__NR_fcntl] = 1, [__NR_dup] = 1, [__NR_dup2] = 3,
	[__NR_dup3] = 3, [__NR_fstat] = 1, [__NR_newfstatat] = 1, [__NR_statx] = 1, [__NR_fsync] = 1,
	[__NR_fdatasync] = 1, [__NR_sync_file_range] = 1, [__NR_ftruncate] = 1, [__NR_fallocate] = 1,
	[__NR_fadvise64] = 1, [__NR_readahead] = 1, [__NR_flock] = 1, [__NR_fchmod] = 1, [__NR_fchown] = 1,
	[__NR_fchdir] = 1, [__NR_getdents] = 1, [__NR_getdents64] = 1, [__NR_sendfile] = 3, [__NR_splice] = 5,
	[__NR_tee] = 3, [__NR_vmsplice] = 1, [__NR_copy_file_range] = 5, [__NR_openat] = 1, [437 /* openat2 */] = 1,
	[__NR_mkdirat] = 1, [__NR_mknodat] = 1, [__NR_unlinkat] = 1, [__NR_renameat] = 5, [__NR_renameat2] = 5,
	[__NR_linkat] = 5, [__NR_symlinkat] = 2, [__NR_readlinkat] = 1, [__NR_fchmodat] = 1,
	[452 /* fchmodat2 */] = 1, [__NR_fchownat] = 1, [__NR_faccessat] = 1, [439 /* faccessat2 */] = 1,
	[__NR_futimesat] = 1, [__NR_utimensat] = 1, [__NR_name_to_handle_at] = 1, [__NR_open_by_handle_at] = 1,
	[__NR_execveat] = 1, [__NR_fstatfs] = 1, [__NR_syncfs] = 1, [__NR_fsetxattr] = 1, [__NR_fgetxattr] = 1,
	[__NR_flistxattr] = 1, [__NR_fremovexattr] = 1, [__NR_epoll_ctl] = 5, [__NR_epoll_wait] = 1,
	[__NR_epoll_pwait] = 1, [441 /* epoll_pwait2 */] = 1, [__NR_inotify_add_watch] = 1,
	[__NR_inotify_rm_watch] = 1, [__NR_sendto] = 1, [__NR_recvfrom] = 1, [__NR_sendmsg] = 1, [__NR_recvmsg] = 1,
	[__NR_sendmmsg] = 1, [__NR_recvmmsg] = 1, [__NR_accept] = 1, [__NR_accept4] = 1, [__NR_connect] = 1,
	[__NR_bind] = 1, [__NR_listen] = 1, [__NR_shutdown] = 1, [__NR_getsockname] = 1, [__NR_getpeername] = 1,
	[__NR_getsockopt] = 1, [__NR_setsockopt] = 1, [__NR_timerfd_settime] = 1, [__NR_timerfd_gettime] = 1,
	[__NR_signalfd4] = 1,
};

/** fdargs_of() - The descriptors of call @nr, as a mask of its arguments; 0: none, or not known. */
static inline unsigned int fdargs_of(uint64_t nr)
{
	return nr < FDARGS_MAX ? fdargs_known[nr] : 0;
}

#endif
