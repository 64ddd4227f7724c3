/* child.c - processes that the program makes: they have no shadow
 *
 * Theory of operation
 *
 * A forked child has its parent's memory and descriptors in copy, but the shadow is the parent's.  What it had of the host is gone
 * for it: descriptors are EBADF, paths EACCES, each with a line in the trace, until it executes a program, which has a shadow
 * of its own.  It knows that it is a child by a page that the kernel wipes in it.
 *
 * A child that shares the memory (vfork) lives on its parent's state and must leave it as it is; it is told apart by its
 * number, which is looked at only while there is one: the parent sleeps in vfork() and takes it off the list with its next call.
 * Its descriptors are copies, placeholders among them, at which the guest's kernel says EBADF by itself.
 *
 * A directory of the host that a child changes to is taken on trust and handed to the program that it executes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/sched.h>

#include "runtime/guest/forward/forward.h"

#define VFORKS 32u

struct forward_live *forward_live;
static int32_t vforking[VFORKS]; /* threads that are in vfork() */
static uint32_t nvforking;
static bool sharing; /* there may be a child that shares the memory for as long as it likes */
static bool cleaned;

static enum forward_who look_closer(void)
{
	const int32_t tid = (int32_t)raw0(__NR_gettid);

	for (uint32_t i = 0; i < VFORKS; i++)
		if (__atomic_load_n(&vforking[i], __ATOMIC_RELAXED) == tid) {
			__atomic_store_n(&vforking[i], 0, __ATOMIC_RELAXED);
			__atomic_fetch_sub(&nvforking, 1, __ATOMIC_RELAXED);
			forward_settings_cwd(forward_cwd_host() ? forward_cwd_text() : "");
			return FORWARD_ME;
		}
	return raw0(__NR_getpid) == forward_live->pid ? FORWARD_ME : FORWARD_VCHILD;
}

enum forward_who forward_who(void)
{
	if (__atomic_load_n(&forward_live->alive, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&nvforking, __ATOMIC_RELAXED) || sharing)
			return look_closer();
		return FORWARD_ME;
	}
	if (forward_live->pid) /* not wiped: there was a shadow */
		return FORWARD_NOBODY;
	if (!cleaned) {
		cleaned = true;
		forward_pool_close();
		forward_agent_close();
		forward_trace_child();
	}
	return FORWARD_CHILD;
}

void forward_clone(const struct intercept_call *call)
{
	uint64_t flags = call->arg[0];

	if (call->nr == __NR_fork)
		return;
	if (call->nr == __NR_vfork)
		flags = CLONE_VM | CLONE_VFORK;
	else if (call->nr == __NR_clone3 && intercept_fetch(&flags, call->arg[0], sizeof(flags)))
		return;
	if (flags & CLONE_THREAD || !(flags & CLONE_VM))
		return;
	if (flags & CLONE_VFORK)
		for (uint32_t i = 0; i < VFORKS; i++) {
			int32_t none = 0;

			if (__atomic_compare_exchange_n(&vforking[i], &none, (int32_t)raw0(__NR_gettid), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
				__atomic_fetch_add(&nvforking, 1, __ATOMIC_RELAXED);
				return;
			}
		}
	sharing = true;
}

/* Whether a path is below a prefix, as far as a child can tell. */
static bool names_host(int64_t dirfd, uint64_t path)
{
	struct forward_where where;

	return path && !forward_where(dirfd, path, &where) && !where.empty && where.side == FORWARD_THERE;
}

static bool refuse(const struct intercept_call *call, int64_t *result, int error, const char *text)
{
	forward_trace_note(forward_name(call->nr), text);
	*result = -error;
	return true;
}

/* Keeps the table of a forked child right. */
static void follow_descriptors(const struct intercept_call *call, const struct forward_rule *rule)
{
	if (rule->b == FORWARD_S_CLOSE)
		forward_fd_set(call->arg[0], 0);
	else if (rule->b == FORWARD_S_DUP2 && (uint32_t)call->arg[0] != (uint32_t)call->arg[1])
		forward_fd_set(call->arg[1], forward_fd_host(call->arg[0]) ? FORWARD_FD_HOST : 0);
	else if (rule->b == FORWARD_S_CLOSE_RANGE && !call->arg[2])
		for (uint64_t fd = (uint32_t)call->arg[0]; fd <= (uint32_t)call->arg[1] && fd < FORWARD_FDS_MAX; fd++)
			forward_fd_set(fd, 0);
}

static bool special(struct intercept_call *call, const struct forward_rule *rule, int64_t *result, enum forward_who who)
{
	char absolute[FORWARD_PATH_MAX];

	switch (rule->b) {
	case FORWARD_S_CLOSE:
	case FORWARD_S_CLOSE_RANGE:
	case FORWARD_S_DUP2:
		if (who != FORWARD_VCHILD)
			follow_descriptors(call, rule);
		return false;
	case FORWARD_S_CHDIR:
		if (!names_host(AT_FDCWD, call->arg[0])) {
			*result = raw1(__NR_chdir, call->arg[0]);
			if (!*result)
				forward_settings_cwd("");
			return true;
		}
		*result = forward_absolute(absolute, call->arg[0]);
		if (!*result)
			forward_settings_cwd(absolute);
		return true;
	case FORWARD_S_EXEC:
		if (who != FORWARD_VCHILD)
			forward_exec_losses();
		if (!names_host(call->nr == __NR_execve ? AT_FDCWD : (int64_t)call->arg[0], call->arg[call->nr == __NR_execve ? 0 : 1]))
			return false;
		return refuse(call, result, EACCES, "the program lies on the host, and a child that has no shadow cannot fetch it");
	case FORWARD_S_FCNTL:
	case FORWARD_S_IOCTL:
	case FORWARD_S_FCHDIR:
		if (who == FORWARD_VCHILD || !forward_fd_host(call->arg[0]) ||
		    (rule->b == FORWARD_S_FCNTL && (call->arg[1] == F_GETFD || call->arg[1] == F_SETFD)))
			return false;
		return refuse(call, result, EBADF, "the descriptor is the host's, and a child has no shadow");
	default: return false;
	}
}

bool forward_child_call(struct intercept_call *call, int64_t *result, enum forward_who who)
{
	const struct forward_rule *rule = forward_rule(call->nr);
	static const char no_path[] = "the path is the host's, and a child has no shadow";

	switch (rule->kind) {
	case FORWARD_SPECIAL: return special(call, rule, result, who);
	case FORWARD_FD:
	case FORWARD_FDS:
		if (who == FORWARD_VCHILD || !(forward_fd_host(call->arg[rule->a]) || (rule->kind == FORWARD_FDS && forward_fd_host(call->arg[rule->b]))))
			return false;
		return refuse(call, result, EBADF, "the descriptor is the host's, and a child has no shadow");
	case FORWARD_PATH: return names_host(AT_FDCWD, call->arg[rule->a]) && refuse(call, result, EACCES, no_path);
	case FORWARD_PATHS:
		return (names_host(AT_FDCWD, call->arg[rule->a]) || names_host(AT_FDCWD, call->arg[rule->b])) && refuse(call, result, EACCES, no_path);
	case FORWARD_AT: return names_host((int64_t)call->arg[rule->a], call->arg[rule->a + 1]) && refuse(call, result, EACCES, no_path);
	case FORWARD_ATS:
		return (names_host((int64_t)call->arg[rule->a], call->arg[rule->a + 1]) ||
			names_host((int64_t)call->arg[rule->b], call->arg[rule->b + 1])) &&
		       refuse(call, result, EACCES, no_path);
	default: return false;
	}
}
