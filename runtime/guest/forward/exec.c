/* exec.c - programs that lie on the host
 *
 * The guest's kernel executes files of the guest, so the program is copied into a file in memory first, and that is executed.
 * A script is not copied: its interpreter is started with the script's path, as the kernel would do it, and opens it through
 * the shadow of its own.  What the program sees of it: /proc/self/exe is a file in memory.
 *
 * The shadow ends with the exec and the next program asks for one; descriptors of the host are not handed on yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/guest/forward/forward.h"

#define HEAD_BYTES 256u
#define ARGS_MAX 65536u
#define CHUNK (FORWARD_PAGE * 3)

static const char *base_name(const char *path)
{
	const char *at = path;

	for (; *path; path++)
		if (*path == '/' && path[1])
			at = path + 1;
	return at;
}

/* Copies the file into @memfd; @head gets its beginning.  Return: 0 or -errno. */
static int64_t fetch_file(const char *path, int64_t memfd, char head[HEAD_BYTES])
{
	struct forward_turn turn;
	int64_t rc = forward_turn_begin(&turn), fd, got;
	uint64_t at = 0;
	char *scratch;

	if (rc)
		return rc;
	scratch = turn.entry->scratch;
	memcpy(scratch, path, strlen(path) + 1);
	fd = forward_turn_quick(&turn, __NR_openat, (uint64_t)AT_FDCWD, (uint64_t)scratch, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0) {
		forward_turn_end(&turn);
		return fd;
	}
	/* Not access(X_OK): a shadow's places are mounted noexec, and it says no there whatever the mode. */
	rc = forward_turn_quick(&turn, __NR_fstat, (uint64_t)fd, (uint64_t)scratch, 0, 0);
	if (!rc && (!S_ISREG(((struct stat *)scratch)->st_mode) || !(((struct stat *)scratch)->st_mode & 0111)))
		rc = -EACCES;
	if (rc) {
		forward_turn_quick(&turn, __NR_close, (uint64_t)fd, 0, 0, 0);
		forward_turn_end(&turn);
		return rc;
	}
	memset(head, 0, HEAD_BYTES);
	for (;;) {
		got = forward_turn_quick(&turn, __NR_pread64, (uint64_t)fd, (uint64_t)scratch, CHUNK, at);
		if (got <= 0)
			break;
		if (!at)
			memcpy(head, scratch, (uint64_t)got < HEAD_BYTES - 1 ? (uint64_t)got : HEAD_BYTES - 1);
		if (head[0] == '#' && head[1] == '!')
			break;
		rc = raw3(__NR_write, memfd, scratch, got);
		if (rc != got) {
			got = rc < 0 ? rc : -ENOSPC;
			break;
		}
		at += (uint64_t)got;
	}
	forward_turn_quick(&turn, __NR_close, (uint64_t)fd, 0, 0, 0);
	forward_turn_end(&turn);
	return got < 0 ? (got == -EISDIR ? -EACCES : got) : 0;
}

/* "#!INTERPRETER [ARGUMENT]" (execve(2)).  Return: the interpreter, or NULL. */
static char *parse_script(char *head, char **argument)
{
	char *name = head + 2, *end = head;

	while (*end && *end != '\n')
		end++;
	while (end > head && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = 0;
	while (*name == ' ' || *name == '\t')
		name++;
	for (end = name; *end && *end != ' ' && *end != '\t'; end++)
		;
	*argument = NULL;
	if (*end) {
		*end++ = 0;
		while (*end == ' ' || *end == '\t')
			end++;
		*argument = *end ? end : NULL;
	}
	return *name ? name : NULL;
}

/* The interpreter with the script's path in place of the first argument. */
static int64_t run_script(struct intercept_call *call, char *head, const char *path, uint64_t argv)
{
	char *argument, *interpreter = parse_script(head, &argument);
	uint64_t n = 0, word = 0, bytes, at = 0;
	uint64_t *list;
	int64_t mem, result;

	if (!interpreter)
		return -ENOEXEC;
	while (argv && n < ARGS_MAX) {
		if (intercept_fetch(&word, argv + n * 8, 8))
			return -EFAULT;
		if (!word)
			break;
		n++;
	}
	bytes = (n + 4) * 8;
	mem = raw6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem < 0)
		return mem;
	list = (uint64_t *)mem;
	list[at++] = (uint64_t)interpreter;
	if (argument)
		list[at++] = (uint64_t)argument;
	list[at++] = (uint64_t)path;
	result = n > 1 && intercept_fetch(list + at, argv + 8, (n - 1) * 8) ? -EFAULT : 0;
	if (!result) {
		struct intercept_call other = *call;

		other.nr = __NR_execve;
		other.arg[2] = call->arg[call->nr == __NR_execve ? 2 : 3];
		other.arg[0] = (uint64_t)interpreter;
		other.arg[1] = (uint64_t)mem;
		if (!forward_exec_call(&other, &result) && !execenv_call(&other, &result))
			result = intercept_raw(other.nr, other.arg[0], other.arg[1], other.arg[2], 0, 0, 0);
	}
	raw2(__NR_munmap, mem, bytes);
	return result;
}

static int64_t exec_host(struct intercept_call *call, uint64_t path_at, uint64_t argv, uint64_t envp)
{
	char path[FORWARD_PATH_MAX], head[HEAD_BYTES];
	int64_t rc = forward_absolute(path, path_at), memfd;
	struct intercept_call other = {.nr = __NR_execveat, .pc = call->pc};

	if (rc)
		return rc;
	memfd = raw2(__NR_memfd_create, base_name(path), MFD_CLOEXEC);
	if (memfd < 0)
		return memfd;
	rc = fetch_file(path, memfd, head);
	if (!rc && head[0] == '#' && head[1] == '!') {
		raw1(__NR_close, memfd);
		forward_path_back(&forward_settings.prefixes, path, sizeof(path)); /* which the interpreter is to open */
		return run_script(call, head, path, argv);
	}
	if (!rc) {
		other.arg[0] = (uint64_t)memfd;
		other.arg[1] = (uint64_t)"";
		other.arg[2] = argv;
		other.arg[3] = envp;
		other.arg[4] = AT_EMPTY_PATH;
		if (!execenv_call(&other, &rc))
			rc = intercept_raw(other.nr, other.arg[0], other.arg[1], argv, envp, AT_EMPTY_PATH, 0);
	}
	raw1(__NR_close, memfd);
	return rc;
}

void forward_exec_losses(void)
{
	for (uint64_t fd = 0; fd < FORWARD_FDS_MAX && forward_fds_any(); fd++)
		if (forward_fd_host(fd) && !(forward_fd_state[fd] & FORWARD_FD_CLOEXEC)) {
			forward_trace_note("execve", "descriptors of the host are not handed on to the next program");
			return;
		}
}

bool forward_exec_call(struct intercept_call *call, int64_t *result)
{
	const bool at = call->nr == __NR_execveat;
	const uint64_t path = call->arg[at], argv = call->arg[1 + at], envp = call->arg[2 + at];
	struct forward_where where;
	int rc = forward_where(at ? (int64_t)call->arg[0] : AT_FDCWD, path, &where);

	if (rc) {
		*result = rc;
		return true;
	}
	forward_exec_losses();
	if (where.side == FORWARD_HERE && where.rewrite) {
		char absolute[FORWARD_PATH_MAX];
		struct intercept_call other = *call;

		*result = forward_absolute(absolute, path);
		if (*result)
			return true;
		other.arg[at] = (uint64_t)absolute;
		if (!execenv_call(&other, result))
			*result = intercept_raw(other.nr, other.arg[0], other.arg[1], other.arg[2], other.arg[3], other.arg[4], 0);
		return true;
	}
	if (where.side == FORWARD_HERE || (where.empty && !at))
		return false;
	if (at && (where.empty || forward_fd_host(call->arg[0]))) {
		forward_trace_note("execveat", "a program of the host cannot be executed by descriptor");
		*result = -EACCES;
		return true;
	}
	*result = exec_host(call, path, argv, envp);
	return true;
}
