/* reach.c - programs that will not load this library are known before they start
 *
 * LD_PRELOAD works if a dynamic linker starts the program and the kernel does not tell that linker to be careful
 * (AT_SECURE: set-user-ID, set-group-ID, file capabilities; ld.so(8)).  So before an exec the file is looked at, as the
 * kernel would: a script's interpreter instead of the script, an ELF file's PT_INTERP, its mode.  Whoever configured the
 * interception is told, and may refuse the exec.
 *
 * What is looked at may be another file when the kernel opens it (a race with rename()); it is advice about honest programs.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/guest/intercept/internal.h"

#define HEAD_BYTES 256	 /* of a script, its first line (Linux, BINPRM_BUF_SIZE) */
#define SCRIPTS_MAX 5	 /* interpreters of interpreters (Linux, fs/exec.c) */
#define PHDRS_MAX 128u
#define EMPTY_PATH 0x1000 /* AT_EMPTY_PATH */
#define XATTR_CAPABILITY "security.capability"

/* "/proc/self/fd/N" */
static void fd_path(char *to, int fd)
{
	char digits[12];
	int n = 0;

	to = stpcpy(to, "/proc/self/fd/");
	do
		digits[n++] = (char)('0' + fd % 10);
	while (fd /= 10);
	while (n)
		*to++ = digits[--n];
	*to = 0;
}

/* A file that O_PATH has opened, for reading: no fifo is waited for, no device woken.  Return: a descriptor or -errno. */
static int reopen(int fd)
{
	char path[32];

	fd_path(path, fd);
	return (int)raw4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

static bool gains_rights(int fd, const struct stat *st)
{
	char path[32];
	bool file_rights;

	fd_path(path, fd);
	file_rights = raw4(__NR_getxattr, path, XATTR_CAPABILITY, 0, 0) > 0 && raw0(__NR_geteuid) != 0;
	if (!file_rights && !(st->st_mode & S_ISUID && st->st_uid != (uid_t)raw0(__NR_getuid)) &&
	    !((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != (gid_t)raw0(__NR_getgid)))
		return false;
	return raw6(__NR_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) != 1;
}

static enum intercept_reach reach_elf(int fd, const char *head, int64_t have)
{
	Elf64_Ehdr header;
	Elf64_Phdr phdr;

	if (have < (int64_t)sizeof(header) || memcmp(head, ELFMAG, SELFMAG))
		return INTERCEPT_REACHED; /* no program at all: the exec fails, or a handler of binfmt_misc runs, which is one */
	if (head[EI_CLASS] != ELFCLASS64)
		return INTERCEPT_FOREIGN;
	memcpy(&header, head, sizeof(header));
	if (header.e_machine != EM_X86_64)
		return INTERCEPT_FOREIGN;
	for (uint32_t i = 0; i < header.e_phnum && i < PHDRS_MAX; i++) {
		if (raw4(__NR_pread64, fd, &phdr, sizeof(phdr), header.e_phoff + i * sizeof(phdr)) != sizeof(phdr))
			return INTERCEPT_REACHED;
		if (phdr.p_type == PT_INTERP)
			return INTERCEPT_REACHED;
	}
	return INTERCEPT_STATIC;
}

/* The interpreter that the first line names, cut out in place.  Return: NULL: it is no script. */
static const char *interpreter(char *head, int64_t have)
{
	char *at = head + 2, *end;

	if (have < 3 || head[0] != '#' || head[1] != '!')
		return NULL;
	head[have < HEAD_BYTES ? have : HEAD_BYTES - 1] = 0;
	while (*at == ' ' || *at == '\t')
		at++;
	for (end = at; *end && *end != ' ' && *end != '\t' && *end != '\n'; end++)
		;
	*end = 0;
	return at;
}

/* @path_fd: from O_PATH; closed. */
static enum intercept_reach reach_file(int path_fd)
{
	for (int depth = 0; path_fd >= 0; depth++) {
		enum intercept_reach reach = INTERCEPT_REACHED;
		char head[HEAD_BYTES];
		const char *next = NULL;
		struct stat st;
		int64_t have;
		int fd;

		if (raw2(__NR_fstat, path_fd, &st) || !S_ISREG(st.st_mode) || (fd = reopen(path_fd)) < 0) {
			raw2(__NR_close, path_fd, 0);
			return INTERCEPT_REACHED; /* the exec fails, or the file may be run and not read, which is as good as any */
		}
		have = raw4(__NR_pread64, fd, head, sizeof(head), 0);
		if (have > 0)
			next = interpreter(head, have);
		if (!next && have > 0)
			reach = gains_rights(path_fd, &st) ? INTERCEPT_SETUID : reach_elf(fd, head, have);
		raw2(__NR_close, fd, 0);
		raw2(__NR_close, path_fd, 0);
		if (!next || depth == SCRIPTS_MAX)
			return reach;
		path_fd = (int)raw4(__NR_openat, AT_FDCWD, next, O_PATH | O_CLOEXEC, 0);
	}
	return INTERCEPT_REACHED;
}

enum intercept_reach reach_exec(const struct intercept_call *call)
{
	const bool at = call->nr == __NR_execveat;
	const uint64_t name = call->arg[at ? 1 : 0];
	char first = 1;
	int64_t fd;

	if (at && call->arg[4] & EMPTY_PATH && !intercept_fetch(&first, name, 1) && !first) {
		char path[32];

		fd_path(path, (int)call->arg[0]);
		fd = raw4(__NR_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	} else {
		fd = raw4(__NR_openat, at ? call->arg[0] : (uint64_t)AT_FDCWD, name, O_PATH | O_CLOEXEC, 0);
	}
	return fd < 0 ? INTERCEPT_REACHED : reach_file((int)fd);
}
