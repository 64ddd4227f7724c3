/* child.c - whose a call is, and what a process does that has no shadow (yet)
 *
 * Theory of operation
 *
 * A forked child has its parent's memory and descriptors in copy, but the shadow is the parent's.  It knows that it is a child by a
 * page that the kernel wipes in it.  So does a program that was executed: most processes of a shell or of make never need a
 * shadow.  Both get one with the first call that has to do with the host (forward_become()), and before a call after which it
 * might not be had any more (another user, another root, a filter for system calls).  What is about numbers alone (close, dup) is
 * done without, in the table of heir.c.
 *
 * A child that shares the memory (vfork) lives on its parent's state and must leave it as it is; it is told apart by its number,
 * which is looked at only while there is one.  It gets no shadow: it closes and copies descriptors and executes a program.  A
 * directory of the host that it changes to is taken on trust and handed to that program.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/guest/forward/estate.h"
#include "runtime/guest/forward/window.h"

#define FIOCLEX_ 0x5451
#define FIONCLEX_ 0x5450

struct forward_live *forward_live;

void forward_newborn(const struct forward_estate *estate, bool leased)
{
	struct forward_estate kept = {.stream = -1};

	if (forward_live->pid)
		return;
	if (estate) {
		kept = *estate;
		forward_own_forget(estate->stream);
	}
	forward_birth_reset();
	forward_pool_close();
	forward_agent_close();
	forward_window_born(leased);
	forward_heir_begin(&kept);
	forward_trace_child();
	forward_settings.estate = NULL;
	forward_live->state = forward_life_of_child();
	forward_live->pid = (int32_t)raw0(__NR_getpid);
}

enum forward_who forward_who(void)
{
	if (!__atomic_load_n(&forward_live->pid, __ATOMIC_RELAXED))
		forward_newborn(NULL, false);
	if (forward_birth_any() && raw0(__NR_getpid) != forward_live->pid)
		return FORWARD_VCHILD;
	switch (__atomic_load_n(&forward_live->state, __ATOMIC_ACQUIRE)) {
	case FORWARD_L_ALIVE: return FORWARD_ME;
	case FORWARD_L_GONE: return FORWARD_NOBODY;
	default: return FORWARD_CHILD;
	}
}

/* Whether a path is below a prefix, as far as a child can tell. */
static bool names_host(int64_t dirfd, uint64_t path)
{
	struct forward_where where;

	return path && !forward_where(dirfd, path, &where) && !where.empty && where.side == FORWARD_THERE;
}

static bool names_fd(enum forward_who who, uint64_t fd)
{
	return who == FORWARD_CHILD && forward_fd_host(fd); /* of vfork the guest's kernel says EBADF by itself */
}

/* Whether the address of a connect() or bind() is a unix socket's of the host. */
static bool names_socket(const struct intercept_call *call)
{
	struct sockaddr_un a = {0};
	char name[sizeof(a.sun_path) + 1] = "";
	const uint64_t bytes = (uint32_t)call->arg[2];

	if (bytes <= offsetof(struct sockaddr_un, sun_path) || bytes > sizeof(a) || intercept_fetch(&a, call->arg[1], bytes) ||
	    a.sun_family != AF_UNIX || !a.sun_path[0])
		return false;
	for (uint32_t i = 0; i < sizeof(a.sun_path); i++)
		name[i] = a.sun_path[i];
	return names_host(AT_FDCWD, (uint64_t)name);
}

/* --- calls about numbers ----------------------------------------------------------------------------------------------- */

static enum forward_child closed(const struct intercept_call *call, int64_t *result, struct forward_birth *birth)
{
	*result = forward_own_fd((int32_t)call->arg[0]) ? -EBADF : raw1(__NR_close, call->arg[0]);
	if (!*result)
		forward_heir_closed(birth, call->arg[0]);
	return FORWARD_C_DONE;
}

static enum forward_child closed_range(const struct intercept_call *call, int64_t *result, struct forward_birth *birth)
{
	const uint64_t first = (uint32_t)call->arg[0], last = (uint32_t)call->arg[1];

	*result = forward_close_range(first, last, call->arg[2]);
	for (uint64_t fd = first; !*result && fd <= last && fd < FORWARD_FDS_MAX; fd++) {
		if (call->arg[2])
			forward_heir_copied(birth, fd, fd, true);
		else if (birth || forward_fd_state[fd])
			forward_heir_closed(birth, fd);
	}
	return FORWARD_C_DONE;
}

static enum forward_child copied(const struct intercept_call *call, int64_t *result, struct forward_birth *birth)
{
	bool cloexec = false;

	*result = -EBADF;
	if (forward_own_fd((int32_t)call->arg[0]))
		return FORWARD_C_DONE;
	if (call->nr == __NR_dup2 || call->nr == __NR_dup3) {
		if (forward_own_fd((int32_t)call->arg[1])) {
			if (birth)
				return FORWARD_C_DONE; /* the parent's to move */
			forward_own_move((int32_t)call->arg[1]);
		}
		cloexec = call->nr == __NR_dup3 && call->arg[2] & O_CLOEXEC;
	} else if (call->nr == __NR_fcntl) {
		cloexec = call->arg[1] == F_DUPFD_CLOEXEC;
	}
	*result = raw3(call->nr, call->arg[0], call->arg[1], call->arg[2]);
	if (*result >= 0 && (uint32_t)*result != (uint32_t)call->arg[0])
		forward_heir_copied(birth, call->arg[0], (uint64_t)*result, cloexec);
	return FORWARD_C_DONE;
}

static enum forward_child flagged(const struct intercept_call *call, int64_t *result, struct forward_birth *birth, bool cloexec)
{
	*result = raw3(__NR_fcntl, call->arg[0], F_SETFD, cloexec ? FD_CLOEXEC : 0);
	if (!*result && (birth || forward_fd_host(call->arg[0])))
		forward_heir_copied(birth, call->arg[0], call->arg[0], cloexec);
	return FORWARD_C_DONE;
}

static enum forward_child numbers(const struct intercept_call *call, const struct forward_rule *rule, int64_t *result, enum forward_who who)
{
	static struct forward_birth unknown = {.shared = true}; /* shares the memory, and inherits nothing */
	struct forward_birth *mine = who == FORWARD_VCHILD ? forward_birth_mine() : NULL;
	struct forward_birth *birth = who == FORWARD_VCHILD && !mine ? &unknown : mine;
	const bool host = names_fd(who, call->arg[0]);

	switch (rule->b) {
	case FORWARD_S_CLOSE: return closed(call, result, birth);
	case FORWARD_S_CLOSE_RANGE: return closed_range(call, result, birth);
	case FORWARD_S_DUP:
	case FORWARD_S_DUP2: return copied(call, result, birth);
	case FORWARD_S_FCNTL:
		if (call->arg[1] == F_DUPFD || call->arg[1] == F_DUPFD_CLOEXEC)
			return copied(call, result, birth);
		if (call->arg[1] == F_SETFD)
			return flagged(call, result, birth, call->arg[2] & FD_CLOEXEC);
		return host && call->arg[1] != F_GETFD ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	default: /* ioctl */
		if (host && ((uint32_t)call->arg[1] == FIOCLEX_ || (uint32_t)call->arg[1] == FIONCLEX_))
			return flagged(call, result, birth, (uint32_t)call->arg[1] == FIOCLEX_);
		return host ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	}
}

/* --- all the others ---------------------------------------------------------------------------------------------------- */

static enum forward_child refuse(const struct intercept_call *call, int64_t *result, int error, const char *text)
{
	forward_trace_note(forward_name(call->nr), text);
	*result = -error;
	return FORWARD_C_DONE;
}

static enum forward_child directory(struct intercept_call *call, const struct forward_rule *rule, int64_t *result, enum forward_who who)
{
	char absolute[FORWARD_PATH_MAX];

	if (rule->b == FORWARD_S_FCHDIR ? names_fd(who, call->arg[0]) : names_host(AT_FDCWD, call->arg[0])) {
		if (who == FORWARD_CHILD)
			return FORWARD_C_NEEDS;
		*result = forward_absolute(absolute, call->arg[0]);
		if (!*result)
			forward_settings_cwd(absolute);
		return FORWARD_C_DONE;
	}
	if (who == FORWARD_CHILD)
		return forward_cwd_call(call, rule, result) ? FORWARD_C_DONE : FORWARD_C_LOCAL;
	*result = raw1(call->nr, call->arg[0]);
	if (!*result)
		forward_settings_cwd("");
	return FORWARD_C_DONE;
}

static enum forward_child special(struct intercept_call *call, const struct forward_rule *rule, int64_t *result, enum forward_who who)
{
	switch (rule->b) {
	case FORWARD_S_CLOSE:
	case FORWARD_S_CLOSE_RANGE:
	case FORWARD_S_DUP:
	case FORWARD_S_DUP2:
	case FORWARD_S_FCNTL:
	case FORWARD_S_IOCTL: return numbers(call, rule, result, who);
	case FORWARD_S_CHDIR:
	case FORWARD_S_FCHDIR: return directory(call, rule, result, who);
	case FORWARD_S_GETCWD: return who == FORWARD_CHILD && forward_cwd_call(call, rule, result) ? FORWARD_C_DONE : FORWARD_C_LOCAL;
	case FORWARD_S_EXEC:
		if (who == FORWARD_CHILD && forward_exec_needs(call))
			return FORWARD_C_NEEDS;
		*result = forward_exec_call(call, who);
		return FORWARD_C_DONE;
	case FORWARD_S_MMAP:
		if (names_fd(who, call->arg[4]))
			return FORWARD_C_NEEDS;
		return who == FORWARD_CHILD ? forward_window_child_call(call, result) : FORWARD_C_LOCAL;
	case FORWARD_S_MEMORY: return who == FORWARD_CHILD ? forward_window_child_call(call, result) : FORWARD_C_LOCAL;
	case FORWARD_S_POLL:
	case FORWARD_S_SELECT: return who == FORWARD_CHILD && forward_fds_any() ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	case FORWARD_S_EPOLL_CTL: return names_fd(who, call->arg[2]) ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	case FORWARD_S_EPOLL_WAIT: return who == FORWARD_CHILD && forward_epoll_paired(call->arg[0]) ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	case FORWARD_S_SOCKET:
		return who == FORWARD_CHILD && forward_net(call->arg[0]) ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	case FORWARD_S_CLONE:
		/* A child of vfork can get none, and is likely to execute something there. */
		if (who == FORWARD_CHILD && forward_cwd_host())
			forward_become();
		return FORWARD_C_LOCAL;
	case FORWARD_S_EVENTFD: return who == FORWARD_CHILD && forward_settings.device ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	default: return FORWARD_C_LOCAL;
	}
}

void forward_child_last_chance(const struct intercept_call *call)
{
	switch (call->nr) {
	case __NR_setuid:
	case __NR_setreuid:
	case __NR_setresuid:
	case __NR_setgid:
	case __NR_setregid:
	case __NR_setresgid:
	case __NR_chroot:
	case __NR_pivot_root:
	case __NR_unshare:
	case __NR_setns:
	case __NR_seccomp: break;
	case __NR_prctl:
		if (call->arg[0] == PR_SET_SECCOMP || call->arg[0] == PR_SET_DUMPABLE)
			break;
		return;
	default: return;
	}
	/* A forked child that is about to confine itself has its own filter in mind, and no use for the host in most cases. */
	if (forward_who() == FORWARD_CHILD &&
	    (forward_fds_any() || forward_cwd_host() || (forward_settings.estate && call->nr != __NR_seccomp && call->nr != __NR_prctl)))
		forward_become();
}

enum forward_child forward_child_call(struct intercept_call *call, int64_t *result, enum forward_who who)
{
	const struct forward_rule *rule = forward_rule(call->nr);
	bool host = false;

	switch (rule->kind) {
	case FORWARD_SPECIAL: return special(call, rule, result, who);
	case FORWARD_FD:
		if (who == FORWARD_CHILD && (call->nr == __NR_connect || call->nr == __NR_bind) && names_socket(call))
			return FORWARD_C_NEEDS;
		return names_fd(who, call->arg[rule->a]) ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	case FORWARD_FDS: return names_fd(who, call->arg[rule->a]) || names_fd(who, call->arg[rule->b]) ? FORWARD_C_NEEDS : FORWARD_C_LOCAL;
	case FORWARD_PATH: host = names_host(AT_FDCWD, call->arg[rule->a]); break;
	case FORWARD_PATHS: host = names_host(AT_FDCWD, call->arg[rule->a]) || names_host(AT_FDCWD, call->arg[rule->b]); break;
	case FORWARD_AT:
		host = names_host((int64_t)call->arg[rule->a], call->arg[rule->a + 1]) || names_fd(who, call->arg[rule->a]);
		break;
	case FORWARD_ATS:
		host = names_host((int64_t)call->arg[rule->a], call->arg[rule->a + 1]) || names_fd(who, call->arg[rule->a]) ||
		       names_host((int64_t)call->arg[rule->b], call->arg[rule->b + 1]) || names_fd(who, call->arg[rule->b]);
		break;
	default: break;
	}
	if (!host)
		return FORWARD_C_LOCAL;
	if (who == FORWARD_CHILD)
		return FORWARD_C_NEEDS;
	return refuse(call, result, EACCES, "the path is the host's, and a child of vfork has no shadow before it executes a program");
}

void forward_child_refused(const struct intercept_call *call, int64_t *result)
{
	const struct forward_rule *rule = forward_rule(call->nr);
	const bool by_fd = rule->kind == FORWARD_FD || rule->kind == FORWARD_FDS || (rule->kind == FORWARD_SPECIAL && rule->b != FORWARD_S_CHDIR &&
										     rule->b != FORWARD_S_EXEC && rule->b != FORWARD_S_SOCKET);

	refuse(call, result, by_fd ? EBADF : EACCES, "it is about the host, and this process could not have a shadow");
}
