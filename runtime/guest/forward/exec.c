/* exec.c - programs that lie on the host
 *
 * The guest's kernel executes files of the guest, so the program is copied into a file in memory first, and that is executed.
 * A script is not copied: its interpreter is started with the script's path, as the kernel would do it, and opens it through
 * the shadow of its own.  What the program sees of it: /proc/self/exe is a file in memory.
 *
 * The shadow ends with the exec, and the next program asks for one when it needs it.  Descriptors of the host that stay open are
 * laid aside for it (estate.h), unless there is no such file: shells and execvp() try every directory of PATH.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/guest/forward/estate.h"

#define HEAD_BYTES 256u
#define ARGS_MAX 65536u
#define CHUNK (FORWARD_PAGE * 3)

static int64_t execute(struct intercept_call *call)
{
	int64_t result;

	if (!execenv_call(call, &result))
		result = intercept_raw(call->nr, call->arg[0], call->arg[1], call->arg[2], call->arg[3], call->arg[4], 0);
	return result;
}

/* A program of the guest's; @instead: a path of the host that it is to execute at once, or 0.  Return: -errno. */
static int64_t pass_and_execute(struct intercept_call *call, enum forward_who who, uint64_t instead)
{
	struct forward_birth *birth = who == FORWARD_VCHILD ? forward_birth_mine() : NULL;
	const int64_t there = call->nr == __NR_execve ? raw2(__NR_access, call->arg[0], 0) : 0;
	int32_t stream;
	int64_t rc = 0;

	if (there == -ENOENT || there == -ENOTDIR || (who == FORWARD_VCHILD && !birth && !instead))
		return execute(call);
	if (who == FORWARD_VCHILD && !birth)
		return -EACCES;
	if (!forward_heir_pass(birth, who, &stream))
		return -EAGAIN;
	if (instead)
		rc = forward_absolute(forward_settings.exec_text, instead);
	if (!rc)
		rc = execute(call);
	forward_heir_failed(stream);
	return rc;
}

static const char *base_name(const char *path)
{
	const char *at = path;

	for (; *path; path++)
		if (*path == '/' && path[1])
			at = path + 1;
	return at;
}

/* Copies the file into @memfd; @head gets its beginning.  Return: 0 or -errno. */
static int64_t fetch_file(const char *path, int64_t memfd, char head[HEAD_BYTES], enum forward_who who)
{
	const uint64_t chunk = who == FORWARD_ME ? CHUNK : FORWARD_SCRATCH_LENT;
	struct forward_turn turn;
	int64_t rc = strlen(path) >= FORWARD_SCRATCH_LENT ? -ENAMETOOLONG : who == FORWARD_ME ? forward_turn_begin(&turn) : forward_turn_begin_lent(&turn);
	int64_t fd, got;
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
		got = forward_turn_quick(&turn, __NR_pread64, (uint64_t)fd, (uint64_t)scratch, chunk, at);
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
static int64_t run_script(struct intercept_call *call, char *head, uint64_t path, uint64_t argv, enum forward_who who)
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
	list[at++] = path;
	result = n > 1 && intercept_fetch(list + at, argv + 8, (n - 1) * 8) ? -EFAULT : 0;
	if (!result) {
		struct intercept_call other = *call;

		other.nr = __NR_execve;
		other.arg[2] = call->arg[call->nr == __NR_execve ? 2 : 3];
		other.arg[0] = (uint64_t)interpreter;
		other.arg[1] = (uint64_t)mem;
		result = forward_exec_call(&other, who);
	}
	raw2(__NR_munmap, mem, bytes);
	return result;
}

static int64_t exec_host(struct intercept_call *call, uint64_t path_at, uint64_t argv, uint64_t envp, enum forward_who who)
{
	char path[FORWARD_PATH_MAX], head[HEAD_BYTES];
	int64_t rc = forward_absolute(path, path_at), memfd;
	struct intercept_call other = {.nr = __NR_execveat, .pc = call->pc};

	if (rc)
		return rc;
	memfd = raw2(__NR_memfd_create, base_name(path), MFD_CLOEXEC);
	if (memfd < 0)
		return memfd;
	rc = fetch_file(path, memfd, head, who);
	if (!rc && head[0] == '#' && head[1] == '!') {
		raw1(__NR_close, memfd);
		return run_script(call, head, path_at, argv, who); /* which the interpreter finds as the program does */
	}
	if (!rc) {
		other.arg[0] = (uint64_t)memfd;
		other.arg[1] = (uint64_t)"";
		other.arg[2] = argv;
		other.arg[3] = envp;
		other.arg[4] = AT_EMPTY_PATH;
		rc = pass_and_execute(&other, who, 0);
	}
	raw1(__NR_close, memfd);
	return rc;
}

/* By a child of vfork whose parent has no shadow either: the parent's own program is started, and executes that in our place. */
static int64_t carry(const struct intercept_call *call, uint64_t path, uint64_t argv, uint64_t envp, enum forward_who who)
{
	static const char self[] = "/proc/self/exe";
	struct intercept_call other = {.nr = __NR_execve, .arg = {(uint64_t)self, argv, envp}, .pc = call->pc};

	return pass_and_execute(&other, who, path);
}

void forward_exec_carried(const char *path, char **argv, char **envp)
{
	struct intercept_call call = {.nr = __NR_execve, .arg = {(uint64_t)path, (uint64_t)argv, (uint64_t)envp}};
	const int64_t rc = forward_become() ? forward_exec_call(&call, FORWARD_ME) : -EACCES;
	const char *error = forward_errno_name((uint64_t)-rc);

	forward_say(path, error ? error : ": cannot be executed");
	raw1(__NR_exit_group, rc == -ENOENT ? 127 : 126);
}

bool forward_exec_needs(const struct intercept_call *call)
{
	const bool at = call->nr == __NR_execveat;
	struct forward_where where;

	return !forward_where(at ? (int64_t)call->arg[0] : AT_FDCWD, call->arg[at], &where) && where.side == FORWARD_THERE && !where.empty;
}

int64_t forward_exec_call(struct intercept_call *call, enum forward_who who)
{
	const bool at = call->nr == __NR_execveat;
	const uint64_t path = call->arg[at], argv = call->arg[1 + at], envp = call->arg[2 + at];
	struct intercept_call other = *call;
	char absolute[FORWARD_PATH_MAX];
	struct forward_where where;
	int64_t rc;

	if (who == FORWARD_NOBODY)
		return execute(call);
	rc = forward_where(at ? (int64_t)call->arg[0] : AT_FDCWD, path, &where);
	if (rc)
		return rc;
	if (where.side == FORWARD_HERE && where.rewrite) {
		rc = forward_absolute(absolute, path);
		other.arg[at] = (uint64_t)absolute;
		return rc ? rc : pass_and_execute(&other, who, 0);
	}
	if (where.side == FORWARD_HERE || (where.empty && !at))
		return pass_and_execute(call, who, 0);
	if (who != FORWARD_ME && !forward_alive())
		return carry(call, path, argv, envp, who);
	if (at && (where.empty || forward_fd_host(call->arg[0]))) {
		forward_trace_note("execveat", "a program of the host cannot be executed by descriptor");
		return -EACCES;
	}
	return exec_host(call, path, argv, envp, who);
}
