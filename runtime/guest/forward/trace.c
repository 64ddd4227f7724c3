/* trace.c - what --trace prints
 *
 * A line for each call, as strace(1) writes them, with where it was executed and how long that took:
 *
 *   [412] openat(AT_FDCWD, "/host/data/x", O_RDONLY) = 3 <0.000031> host
 *   [412] inotify_add_watch(4, "/host/data", 0x2) = -1 ENOSYS <0.000002> refused
 *   [412] mmap: a file of the host cannot be mapped shared and writable
 *
 * A line is put together on the stack and written by one write(2), so lines of several processes do not mix.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/guest/forward/line.h"

#define STRING_SHOWN 96u
#define DATA_SHOWN 32u

bool forward_tracing;
static int32_t trace_fd = -1; /* opened at the start: programs close standard error */

/* --- arguments -------------------------------------------------------------------------------------------------------------------- */

/* A letter an argument: d a directory's descriptor, i a number, s a string, b data whose length comes next, o flags of open(),
 * m a mode, x hexadecimal, u unsigned. */
static const char *const formats[FORWARD_NR_MAX] = {
	[__NR_read] = "ixu", [__NR_write] = "ibu", [__NR_open] = "som", [__NR_close] = "i", [__NR_stat] = "sx", [__NR_fstat] = "ix",
	[__NR_lstat] = "sx", [__NR_poll] = "xui", [__NR_lseek] = "iii", [__NR_mmap] = "xuxxix", [__NR_mprotect] = "xux", [__NR_munmap] = "xu",
	[__NR_brk] = "x", [__NR_rt_sigaction] = "ixxu", [__NR_rt_sigprocmask] = "ixxu", [__NR_ioctl] = "ixx", [__NR_pread64] = "ixui",
	[__NR_pwrite64] = "ibui", [__NR_readv] = "ixu", [__NR_writev] = "ixu", [__NR_access] = "sx", [__NR_dup] = "i", [__NR_dup2] = "ii",
	[__NR_dup3] = "iix", [__NR_sendfile] = "iixu", [__NR_socket] = "ixi", [__NR_connect] = "ixu", [__NR_accept] = "ixx",
	[__NR_accept4] = "ixxx", [__NR_sendto] = "ibuxxu", [__NR_recvfrom] = "ixuxxx", [__NR_sendmsg] = "ixx", [__NR_recvmsg] = "ixx",
	[__NR_bind] = "ixu", [__NR_listen] = "ii", [__NR_execve] = "sxx", [__NR_execveat] = "dsxxx", [__NR_exit_group] = "i", [__NR_exit] = "i",
	[__NR_fcntl] = "iix", [__NR_fsync] = "i", [__NR_truncate] = "su", [__NR_ftruncate] = "iu", [__NR_getdents64] = "ixu", [__NR_getcwd] = "xu",
	[__NR_chdir] = "s", [__NR_fchdir] = "i", [__NR_rename] = "ss", [__NR_mkdir] = "sm", [__NR_rmdir] = "s", [__NR_creat] = "sm",
	[__NR_link] = "ss", [__NR_unlink] = "s", [__NR_symlink] = "ss", [__NR_readlink] = "sxu", [__NR_chmod] = "sm", [__NR_fchmod] = "im",
	[__NR_chown] = "sii", [__NR_fchown] = "iii", [__NR_lchown] = "sii", [__NR_umask] = "m", [__NR_statfs] = "sx", [__NR_fstatfs] = "ix",
	[__NR_utimensat] = "dsxx", [__NR_openat] = "dsom", [__NR_mkdirat] = "dsm", [__NR_newfstatat] = "dsxx", [__NR_unlinkat] = "dsx",
	[__NR_renameat] = "dsds", [__NR_renameat2] = "dsdsx", [__NR_linkat] = "dsdsx", [__NR_symlinkat] = "sds", [__NR_readlinkat] = "dsxu",
	[__NR_fchmodat] = "dsm", [__NR_fchownat] = "dsiix", [__NR_faccessat] = "dsx", [__NR_faccessat2] = "dsxx", [__NR_statx] = "dsxxx",
	[__NR_openat2] = "dsxu", [__NR_inotify_add_watch] = "isx", [__NR_getxattr] = "ssxu", [__NR_lgetxattr] = "ssxu", [__NR_listxattr] = "sxu",
	[__NR_llistxattr] = "sxu", [__NR_setxattr] = "ssxux", [__NR_copy_file_range] = "ixixux", [__NR_epoll_ctl] = "iiix",
	[__NR_epoll_wait] = "ixii", [__NR_epoll_pwait] = "ixiixu", [__NR_close_range] = "uux", [__NR_fadvise64] = "iuui",
};

static void put_open_flags(struct forward_line *l, uint64_t flags)
{
	static const struct {
		uint64_t bits;
		const char *name;
	} known[] = {{O_CREAT, "|O_CREAT"}, {O_EXCL, "|O_EXCL"}, {O_TRUNC, "|O_TRUNC"}, {O_APPEND, "|O_APPEND"}, {O_NONBLOCK, "|O_NONBLOCK"},
		     {O_DIRECTORY, "|O_DIRECTORY"}, {O_NOFOLLOW, "|O_NOFOLLOW"}, {O_CLOEXEC, "|O_CLOEXEC"}, {O_PATH, "|O_PATH"},
		     {O_NOCTTY, "|O_NOCTTY"}};

	line_text(l, (flags & O_ACCMODE) == O_RDONLY ? "O_RDONLY" : (flags & O_ACCMODE) == O_WRONLY ? "O_WRONLY" : "O_RDWR");
	flags &= ~(uint64_t)O_ACCMODE;
	for (unsigned int i = 0; i < sizeof(known) / sizeof(*known); i++)
		if ((flags & known[i].bits) == known[i].bits) {
			line_text(l, known[i].name);
			flags &= ~known[i].bits;
		}
	if (flags) {
		line_text(l, "|0x");
		line_number(l, flags, 16, 1);
	}
}

static void put_memory(struct forward_line *l, uint64_t at, uint64_t bytes, bool string)
{
	char text[STRING_SHOWN + 1];
	const uint64_t shown = string ? STRING_SHOWN : bytes < DATA_SHOWN ? bytes : DATA_SHOWN;
	int64_t n = !at ? -EFAULT : string ? forward_string(text, at, sizeof(text)) : intercept_fetch(text, at, shown) ? -EFAULT : (int64_t)shown;

	if (n < 0) {
		line_text(l, at ? "0x" : "NULL");
		if (at)
			line_number(l, at, 16, 1);
		return;
	}
	line_quoted(l, text, (uint64_t)n, string ? n == STRING_SHOWN : bytes > shown);
}

static void put_argument(struct forward_line *l, char how, const uint64_t *arg)
{
	switch (how) {
	case 'd':
		if ((int32_t)*arg == AT_FDCWD)
			line_text(l, "AT_FDCWD");
		else
			line_signed(l, (int32_t)*arg);
		break;
	case 'i': line_signed(l, (int64_t)*arg == (int64_t)(uint32_t)*arg ? (int32_t)*arg : (int64_t)*arg); break;
	case 's': put_memory(l, *arg, 0, true); break;
	case 'b': put_memory(l, *arg, arg[1], false); break;
	case 'o': put_open_flags(l, *arg); break;
	case 'm':
		line_char(l, '0');
		line_number(l, *arg & 07777, 8, 3);
		break;
	case 'u': line_number(l, *arg, 10, 1); break;
	default:
		if (*arg)
			line_text(l, "0x");
		line_number(l, *arg, 16, 1);
		break;
	}
}

static void put_call(struct forward_line *l, const struct intercept_call *call)
{
	const char *name = forward_name(call->nr), *format = call->nr < FORWARD_NR_MAX && formats[call->nr] ? formats[call->nr] : "xxx";

	l->n = 0;
	line_char(l, '[');
	line_number(l, (uint64_t)raw0(__NR_gettid), 10, 1);
	line_text(l, "] ");
	if (name) {
		line_text(l, name);
	} else {
		line_text(l, "syscall_");
		line_number(l, call->nr, 10, 1);
	}
	line_char(l, '(');
	for (int i = 0; format[i]; i++) {
		if (format[i] == 'm' && i > 0 && format[i - 1] == 'o' && !(call->arg[i - 1] & O_CREAT))
			break;
		if (i)
			line_text(l, ", ");
		put_argument(l, format[i], &call->arg[i]);
	}
	line_char(l, ')');
}

static void write_line(struct forward_line *l)
{
	l->text[l->n++] = '\n';
	raw3(__NR_write, trace_fd, l->text, l->n);
}

/* --- lines -------------------------------------------------------------------------------------------------------------------------- */

void forward_trace_call(const struct intercept_call *call, int64_t result, const char *where, int64_t ns, bool line)
{
	struct forward_line l;

	forward_summary_count(call->nr, result, where, ns);
	if (!forward_settings.trace || !line)
		return;
	put_call(&l, call);
	line_text(&l, " = ");
	if (result < 0 && result >= -4095) {
		line_text(&l, "-1 ");
		if (forward_errno_name((uint64_t)-result))
			line_text(&l, forward_errno_name((uint64_t)-result));
		else
			line_signed(&l, -result);
	} else if (result > UINT32_MAX || result < 0) {
		line_text(&l, "0x");
		line_number(&l, (uint64_t)result, 16, 1);
	} else {
		line_signed(&l, result);
	}
	line_text(&l, " <");
	line_number(&l, (uint64_t)ns / NS_PER_SEC, 10, 1);
	line_char(&l, '.');
	line_number(&l, (uint64_t)ns / 1000 % 1000000, 10, 6);
	line_text(&l, "> ");
	line_text(&l, where);
	write_line(&l);
}

void forward_trace_begin(const struct intercept_call *call, const char *where, bool line)
{
	struct forward_line l;

	forward_summary_count(call->nr, 0, where, 0);
	if (!forward_settings.trace || !line)
		return;
	put_call(&l, call);
	line_text(&l, " = ? ");
	line_text(&l, where);
	write_line(&l);
}

void forward_trace_note(const char *what, const char *text)
{
	struct forward_line l = {.n = 0};

	if (!forward_settings.trace)
		return;
	line_char(&l, '[');
	line_number(&l, (uint64_t)raw0(__NR_gettid), 10, 1);
	line_text(&l, "] ");
	if (what) {
		line_text(&l, what);
		line_text(&l, ": ");
	}
	line_text(&l, text);
	write_line(&l);
}

void forward_say(const char *text, const char *more)
{
	struct forward_line l = {.n = 0};

	line_text(&l, "dsrun: ");
	line_text(&l, text);
	line_text(&l, more);
	l.text[l.n++] = '\n';
	raw3(__NR_write, 2, l.text, l.n);
}

/* --- start ------------------------------------------------------------------------------------------------------------------------ */

int64_t forward_trace_open(const char *name)
{
	if (name[0] == '-' && !name[1])
		return raw3(__NR_fcntl, 2, F_DUPFD_CLOEXEC, FORWARD_FD_FLOOR);
	return raw4(__NR_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void forward_trace_unwritten(const char *what, const char *name, int64_t error)
{
	const char *why = forward_errno_name((uint64_t)-error);
	struct forward_line l = {.n = 0};

	line_text(&l, name);
	line_text(&l, why ? ": " : "");
	line_text(&l, why ? why : "");
	l.text[l.n] = 0;
	forward_say(what, l.text);
}

bool forward_trace_holds(const int32_t *holder)
{
	return holder == &trace_fd || forward_summary_holds(holder);
}

void forward_trace_start(void)
{
	int32_t fd;

	forward_tracing = forward_settings.trace || forward_settings.summary;
	if (forward_settings.summary)
		forward_summary_start();
	if (!forward_settings.trace)
		return;
	fd = forward_own_add(forward_trace_open(forward_settings.trace), &trace_fd);
	if (fd < 0)
		forward_trace_unwritten("the trace cannot be written: ", forward_settings.trace, fd);
}
