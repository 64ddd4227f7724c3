/* filter_group.c - see filter_group.h.  Numbers that may be newer than the headers: asm/unistd_64.h of Linux 6.12 */
#include "runtime/host/jail/filter_group.h"

#include <asm/unistd.h>

#define BASE FILTER_BASE
#define FILE CALLGROUP_FILE
#define DIR CALLGROUP_DIR
#define SOCKET CALLGROUP_SOCKET
#define POLL CALLGROUP_POLL
#define INFO CALLGROUP_INFO
#define DEVICE CALLGROUP_DEVICE
#define NR_openat2 437
#define NR_faccessat2 439
#define NR_epoll_pwait2 441
#define NR_fchmodat2 452

static const struct filter_grant grants[] = {
	/* descriptors of any kind */
	{__NR_read, BASE, 0}, {__NR_write, BASE, 0}, {__NR_sendto, BASE, FILTER_SENDTO}, {__NR_dup3, BASE, 0},
	{__NR_readv, BASE, 0}, {__NR_writev, BASE, 0}, {__NR_dup, BASE, 0}, {__NR_dup2, BASE, 0}, {__NR_fstat, BASE, 0},
	{__NR_fcntl, BASE, FILTER_FCNTL}, {__NR_ioctl, BASE, FILTER_IOCTL},
	/* files */
	{__NR_openat, FILE, FILTER_OPENAT}, {__NR_open, FILE, FILTER_OPEN}, {__NR_creat, FILE, 0}, {NR_openat2, FILE, FILTER_ABSENT},
	{__NR_newfstatat, FILE, 0}, {__NR_statx, FILE, 0}, {__NR_stat, FILE, 0}, {__NR_lstat, FILE, 0},
	{__NR_pwrite64, FILE, 0}, {__NR_preadv, FILE, 0}, {__NR_pwritev, FILE, 0}, {__NR_preadv2, FILE, 0}, {__NR_pwritev2, FILE, 0},
	{__NR_access, FILE, 0}, {__NR_faccessat, FILE, 0}, {NR_faccessat2, FILE, 0}, {__NR_readlink, FILE, 0},
	{__NR_readlinkat, FILE, 0}, {__NR_statfs, FILE, 0}, {__NR_fstatfs, FILE, 0}, {__NR_truncate, FILE, 0},
	{__NR_ftruncate, FILE, 0}, {__NR_fallocate, FILE, 0}, {__NR_fsync, FILE, 0}, {__NR_fdatasync, FILE, 0}, {__NR_msync, FILE, 0},
	{__NR_sync_file_range, FILE, 0}, {__NR_syncfs, FILE, 0}, {__NR_fadvise64, FILE, 0}, {__NR_readahead, FILE, 0},
	{__NR_flock, FILE, 0}, {__NR_copy_file_range, FILE, 0}, {__NR_sendfile, FILE, 0}, {__NR_umask, FILE, 0},
	{__NR_getxattr, FILE, 0}, {__NR_lgetxattr, FILE, 0}, {__NR_fgetxattr, FILE, 0}, {__NR_listxattr, FILE, 0},
	{__NR_llistxattr, FILE, 0}, {__NR_flistxattr, FILE, 0}, {__NR_chdir, FILE, 0}, {__NR_fchdir, FILE, 0}, {__NR_getcwd, FILE, 0},
	{__NR_inotify_init, FILE, 0}, {__NR_inotify_init1, FILE, 0}, {__NR_inotify_add_watch, FILE, 0}, {__NR_inotify_rm_watch, FILE, 0},
	/* directories, and what belongs to a name */
	{__NR_getdents64, DIR, 0}, {__NR_getdents, DIR, 0}, {__NR_mkdir, DIR, 0}, {__NR_mkdirat, DIR, 0}, {__NR_rmdir, DIR, 0},
	{__NR_unlink, DIR, 0}, {__NR_unlinkat, DIR, 0}, {__NR_rename, DIR, 0}, {__NR_renameat, DIR, 0}, {__NR_renameat2, DIR, 0},
	{__NR_link, DIR, 0}, {__NR_linkat, DIR, 0}, {__NR_symlink, DIR, 0}, {__NR_symlinkat, DIR, 0}, {__NR_mknod, DIR, 0},
	{__NR_mknodat, DIR, 0}, {__NR_chmod, DIR, 0}, {__NR_fchmod, DIR, 0}, {__NR_fchmodat, DIR, 0}, {NR_fchmodat2, DIR, 0},
	{__NR_chown, DIR, 0}, {__NR_lchown, DIR, 0}, {__NR_fchown, DIR, 0}, {__NR_fchownat, DIR, 0}, {__NR_utime, DIR, 0},
	{__NR_utimes, DIR, 0}, {__NR_futimesat, DIR, 0}, {__NR_utimensat, DIR, 0}, {__NR_setxattr, DIR, 0}, {__NR_lsetxattr, DIR, 0},
	{__NR_fsetxattr, DIR, 0}, {__NR_removexattr, DIR, 0}, {__NR_lremovexattr, DIR, 0}, {__NR_fremovexattr, DIR, 0},
	/* sockets */
	{__NR_recvfrom, SOCKET, 0}, {__NR_recvmsg, SOCKET, FILTER_RECVMSG}, {__NR_recvmmsg, SOCKET, FILTER_RECVMSG}, {__NR_accept, SOCKET, 0},
	{__NR_accept4, SOCKET, 0}, {__NR_socket, SOCKET, FILTER_FAMILY}, {__NR_connect, SOCKET, 0}, {__NR_bind, SOCKET, 0},
	{__NR_listen, SOCKET, 0}, {__NR_shutdown, SOCKET, 0}, {__NR_getsockname, SOCKET, 0}, {__NR_getpeername, SOCKET, 0},
	{__NR_getsockopt, SOCKET, FILTER_GETSOCKOPT}, {__NR_setsockopt, SOCKET, FILTER_SETSOCKOPT},
	/* waiting */
	{__NR_poll, POLL, 0}, {__NR_ppoll, POLL, 0}, {__NR_select, POLL, 0}, {__NR_pselect6, POLL, 0}, {__NR_epoll_wait, POLL, 0},
	{__NR_epoll_pwait, POLL, 0}, {NR_epoll_pwait2, POLL, 0}, {__NR_epoll_ctl, POLL, 0}, {__NR_epoll_create, POLL, 0},
	{__NR_epoll_create1, POLL, 0}, {__NR_eventfd, POLL, 0}, {__NR_eventfd2, POLL, 0}, {__NR_timerfd_create, POLL, 0},
	{__NR_timerfd_settime, POLL, 0}, {__NR_timerfd_gettime, POLL, 0}, {__NR_pipe, POLL, 0}, {__NR_pipe2, POLL, 0},
	{__NR_splice, POLL, 0}, {__NR_tee, POLL, 0}, {__NR_nanosleep, POLL, 0}, {__NR_clock_nanosleep, POLL, 0},
	/* questions */
	{__NR_getppid, INFO, 0}, {__NR_getuid, INFO, 0}, {__NR_geteuid, INFO, 0}, {__NR_getgid, INFO, 0}, {__NR_getegid, INFO, 0},
	{__NR_getgroups, INFO, 0}, {__NR_getresuid, INFO, 0}, {__NR_getresgid, INFO, 0}, {__NR_getpgrp, INFO, 0},
	{__NR_uname, INFO, 0}, {__NR_sysinfo, INFO, 0}, {__NR_gettimeofday, INFO, 0}, {__NR_time, INFO, 0},
	{__NR_clock_getres, INFO, 0}, {__NR_times, INFO, 0}, {__NR_getrusage, INFO, 0}, {__NR_getrlimit, INFO, 0}, {__NR_getcpu, INFO, 0},
	/* before a command, for drivers that pin */
	{__NR_madvise, DEVICE, FILTER_POPULATE},
};

const struct filter_grant *filter_grants(size_t *n)
{
	*n = sizeof(grants) / sizeof(grants[0]);
	return grants;
}
