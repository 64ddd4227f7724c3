/* trace.c - what --trace and --summary print
 *
 * A line for each call, as strace(1) writes them, with where it was executed and how long that took:
 *
 *   [412] openat(AT_FDCWD, "/host/data/x", O_RDONLY) = 3 <0.000031> host
 *   [412] inotify_add_watch(4, "/host/data", 0x2) = -1 ENOSYS <0.000002> refused
 *   [412] mmap: a file of the host cannot be mapped shared and writable
 *
 * A line is put together on the stack and written by one write(2), so lines of several processes do not mix.  The table
 * counts in static memory, of this process alone; a child counts anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/guest/forward/forward.h"

#define LINE_BYTES 512u
#define STRING_SHOWN 96u
#define DATA_SHOWN 32u

bool forward_tracing;
static int32_t trace_fd = -1, summary_fd = -1; /* opened at the start: programs close standard error before they end */
static struct {
	uint64_t calls, errors, host, ns;
} counts[FORWARD_NR_MAX];
static int32_t counts_pid;

struct line {
	uint32_t n;
	char text[LINE_BYTES];
};

static void put_char(struct line *l, char c)
{
	if (l->n < LINE_BYTES - 1)
		l->text[l->n++] = c;
}

static void put(struct line *l, const char *text)
{
	while (*text)
		put_char(l, *text++);
}

static void put_number(struct line *l, uint64_t n, unsigned int base, unsigned int width)
{
	char digits[24];
	unsigned int i = 0;

	do
		digits[i++] = "0123456789abcdef"[n % base];
	while ((n /= base) && i < sizeof(digits));
	while (i < width && i < sizeof(digits))
		digits[i++] = '0';
	while (i)
		put_char(l, digits[--i]);
}

static void put_signed(struct line *l, int64_t n)
{
	if (n < 0)
		put_char(l, '-');
	put_number(l, n < 0 ? -(uint64_t)n : (uint64_t)n, 10, 1);
}

static void put_quoted(struct line *l, const char *text, uint64_t bytes, bool more)
{
	put_char(l, '"');
	for (uint64_t i = 0; i < bytes; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (c == '\n' || c == '\t' || c == '"' || c == '\\') {
			put_char(l, '\\');
			put_char(l, c == '\n' ? 'n' : c == '\t' ? 't' : (char)c);
		} else if (c >= ' ' && c < 0x7f) {
			put_char(l, (char)c);
		} else {
			put_char(l, '\\');
			put_number(l, c, 8, 3);
		}
	}
	put(l, more ? "\"..." : "\"");
}

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

static void put_open_flags(struct line *l, uint64_t flags)
{
	static const struct {
		uint64_t bits;
		const char *name;
	} known[] = {{O_CREAT, "|O_CREAT"}, {O_EXCL, "|O_EXCL"}, {O_TRUNC, "|O_TRUNC"}, {O_APPEND, "|O_APPEND"}, {O_NONBLOCK, "|O_NONBLOCK"},
		     {O_DIRECTORY, "|O_DIRECTORY"}, {O_NOFOLLOW, "|O_NOFOLLOW"}, {O_CLOEXEC, "|O_CLOEXEC"}, {O_PATH, "|O_PATH"},
		     {O_NOCTTY, "|O_NOCTTY"}};

	put(l, (flags & O_ACCMODE) == O_RDONLY ? "O_RDONLY" : (flags & O_ACCMODE) == O_WRONLY ? "O_WRONLY" : "O_RDWR");
	flags &= ~(uint64_t)O_ACCMODE;
	for (unsigned int i = 0; i < sizeof(known) / sizeof(*known); i++)
		if ((flags & known[i].bits) == known[i].bits) {
			put(l, known[i].name);
			flags &= ~known[i].bits;
		}
	if (flags) {
		put(l, "|0x");
		put_number(l, flags, 16, 1);
	}
}

static void put_memory(struct line *l, uint64_t at, uint64_t bytes, bool string)
{
	char text[STRING_SHOWN + 1];
	const uint64_t shown = string ? STRING_SHOWN : bytes < DATA_SHOWN ? bytes : DATA_SHOWN;
	int64_t n = !at ? -EFAULT : string ? forward_string(text, at, sizeof(text)) : intercept_fetch(text, at, shown) ? -EFAULT : (int64_t)shown;

	if (n < 0) {
		put(l, at ? "0x" : "NULL");
		if (at)
			put_number(l, at, 16, 1);
		return;
	}
	put_quoted(l, text, (uint64_t)n, string ? n == STRING_SHOWN : bytes > shown);
}

static void put_argument(struct line *l, char how, const uint64_t *arg)
{
	switch (how) {
	case 'd':
		if ((int32_t)*arg == AT_FDCWD)
			put(l, "AT_FDCWD");
		else
			put_signed(l, (int32_t)*arg);
		break;
	case 'i': put_signed(l, (int64_t)*arg == (int64_t)(uint32_t)*arg ? (int32_t)*arg : (int64_t)*arg); break;
	case 's': put_memory(l, *arg, 0, true); break;
	case 'b': put_memory(l, *arg, arg[1], false); break;
	case 'o': put_open_flags(l, *arg); break;
	case 'm':
		put_char(l, '0');
		put_number(l, *arg & 07777, 8, 3);
		break;
	case 'u': put_number(l, *arg, 10, 1); break;
	default:
		if (*arg)
			put(l, "0x");
		put_number(l, *arg, 16, 1);
		break;
	}
}

static void put_call(struct line *l, const struct intercept_call *call)
{
	const char *name = forward_name(call->nr), *format = call->nr < FORWARD_NR_MAX && formats[call->nr] ? formats[call->nr] : "xxx";

	l->n = 0;
	put_char(l, '[');
	put_number(l, (uint64_t)raw0(__NR_gettid), 10, 1);
	put(l, "] ");
	if (name) {
		put(l, name);
	} else {
		put(l, "syscall_");
		put_number(l, call->nr, 10, 1);
	}
	put_char(l, '(');
	for (int i = 0; format[i]; i++) {
		if (format[i] == 'm' && i > 0 && format[i - 1] == 'o' && !(call->arg[i - 1] & O_CREAT))
			break;
		if (i)
			put(l, ", ");
		put_argument(l, format[i], &call->arg[i]);
	}
	put_char(l, ')');
}

static void write_line(struct line *l)
{
	l->text[l->n++] = '\n';
	raw3(__NR_write, trace_fd, l->text, l->n);
}

/* --- lines -------------------------------------------------------------------------------------------------------------------------- */

static void count(const struct intercept_call *call, int64_t result, const char *where, int64_t ns)
{
	const uint64_t nr = call->nr < FORWARD_NR_MAX ? call->nr : FORWARD_NR_MAX - 1;

	__atomic_fetch_add(&counts[nr].calls, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&counts[nr].errors, result < 0 && result >= -4095, __ATOMIC_RELAXED);
	__atomic_fetch_add(&counts[nr].host, where[0] == 'h', __ATOMIC_RELAXED);
	__atomic_fetch_add(&counts[nr].ns, (uint64_t)ns, __ATOMIC_RELAXED);
}

void forward_trace_call(const struct intercept_call *call, int64_t result, const char *where, int64_t ns)
{
	struct line l;

	count(call, result, where, ns);
	if (!forward_settings.trace)
		return;
	put_call(&l, call);
	put(&l, " = ");
	if (result < 0 && result >= -4095) {
		put(&l, "-1 ");
		if (forward_errno_name((uint64_t)-result))
			put(&l, forward_errno_name((uint64_t)-result));
		else
			put_signed(&l, -result);
	} else if (result > UINT32_MAX || result < 0) {
		put(&l, "0x");
		put_number(&l, (uint64_t)result, 16, 1);
	} else {
		put_signed(&l, result);
	}
	put(&l, " <");
	put_number(&l, (uint64_t)ns / NS_PER_SEC, 10, 1);
	put_char(&l, '.');
	put_number(&l, (uint64_t)ns / 1000 % 1000000, 10, 6);
	put(&l, "> ");
	put(&l, where);
	write_line(&l);
}

void forward_trace_begin(const struct intercept_call *call, const char *where)
{
	struct line l;

	count(call, 0, where, 0);
	if (!forward_settings.trace)
		return;
	put_call(&l, call);
	put(&l, " = ? ");
	put(&l, where);
	write_line(&l);
}

void forward_trace_note(const char *what, const char *text)
{
	struct line l = {.n = 0};

	if (!forward_settings.trace)
		return;
	put_char(&l, '[');
	put_number(&l, (uint64_t)raw0(__NR_gettid), 10, 1);
	put(&l, "] ");
	if (what) {
		put(&l, what);
		put(&l, ": ");
	}
	put(&l, text);
	write_line(&l);
}

void forward_say(const char *text, const char *more)
{
	struct line l = {.n = 0};

	put(&l, "dsrun: ");
	put(&l, text);
	put(&l, more);
	l.text[l.n++] = '\n';
	raw3(__NR_write, 2, l.text, l.n);
}

/* --- table -------------------------------------------------------------------------------------------------------------------------- */

static int64_t open_for(const char *name)
{
	if (name[0] == '-' && !name[1])
		return raw3(__NR_fcntl, 2, F_DUPFD_CLOEXEC, FORWARD_FD_FLOOR);
	return raw4(__NR_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put_column(struct line *l, uint64_t n, unsigned int width)
{
	char digits[24];
	unsigned int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	for (unsigned int pad = i; pad < width; pad++)
		put_char(l, ' ');
	while (i)
		put_char(l, digits[--i]);
	put(l, "  ");
}

void forward_trace_summary(void)
{
	uint64_t done[FORWARD_NR_MAX / 64] = {0};
	const int64_t fd = summary_fd;
	struct line l;
	int32_t pid;

	if (fd < 0) /* first of all: a program that has confined itself may not ask for more */
		return;
	pid = (int32_t)raw0(__NR_getpid);
	if (counts_pid != pid)
		return;
	l.n = 0;
	put(&l, "      usecs      calls     errors    on host  syscall of process ");
	put_signed(&l, pid);
	put_char(&l, '\n');
	raw3(__NR_write, fd, l.text, l.n);
	for (;;) {
		uint64_t best = FORWARD_NR_MAX;

		for (uint64_t i = 0; i < FORWARD_NR_MAX; i++)
			if (counts[i].calls && !(done[i / 64] >> (i % 64) & 1) && (best == FORWARD_NR_MAX || counts[i].ns > counts[best].ns))
				best = i;
		if (best == FORWARD_NR_MAX)
			break;
		done[best / 64] |= UINT64_C(1) << (best % 64);
		l.n = 0;
		put_column(&l, counts[best].ns / 1000, 11);
		put_column(&l, counts[best].calls, 9);
		put_column(&l, counts[best].errors, 9);
		put_column(&l, counts[best].host, 9);
		put(&l, forward_name(best) ? forward_name(best) : "(others)");
		put_char(&l, '\n');
		raw3(__NR_write, fd, l.text, l.n);
	}
}

bool forward_trace_holds(const int32_t *holder)
{
	return holder == &trace_fd || holder == &summary_fd;
}

void forward_trace_child(void)
{
	memset(counts, 0, sizeof(counts));
	counts_pid = (int32_t)raw0(__NR_getpid);
}

void forward_trace_start(void)
{
	forward_tracing = forward_settings.trace || forward_settings.summary;
	counts_pid = (int32_t)raw0(__NR_getpid);
	if (forward_settings.summary && forward_own_add(open_for(forward_settings.summary), &summary_fd) < 0)
		forward_say("the summary cannot be written: ", forward_settings.summary);
	if (!forward_settings.trace)
		return;
	if (forward_own_add(open_for(forward_settings.trace), &trace_fd) < 0)
		forward_say("the trace cannot be written: ", forward_settings.trace);
}
