/* hook.c - what becomes of a call; see forward.h and rules.h */
#include <errno.h>
#include <fcntl.h>

#include "runtime/guest/forward/estate.h"
#include "runtime/guest/forward/message.h"
#include "runtime/guest/forward/policy.h"
#include "runtime/guest/forward/sides.h"

#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

static const char at_guest[] = "guest", at_host[] = "host", at_both[] = "both", by_refusal[] = "refused", by_policy[] = "policy";

int64_t forward_local(struct intercept_call *call)
{
	int64_t result;

	if (signals_call(call, &result))
		return result;
	if (call->nr == __NR_munmap)
		return signals_unmap(call);
	return intercept_raw(call->nr, call->arg[0], call->arg[1], call->arg[2], call->arg[3], call->arg[4], call->arg[5]);
}

/* --- calls with descriptors and paths ------------------------------------------------------------------------------------------- */

/* Does the call with paths made absolute in place of the first and second path argument. */
static int64_t rewritten(const struct intercept_call *call, const struct forward_rule *rule, int verdict, const int at[2], const bool rewrite[2])
{
	struct intercept_call other = *call;
	char text[2][FORWARD_PATH_MAX];

	for (int i = 0; i < 2; i++)
		if (rewrite[i]) {
			const int rc = forward_absolute(text[i], call->arg[at[i]]);

			if (rc)
				return rc;
			other.arg[at[i]] = (uint64_t)text[i];
		}
	if (!verdict)
		return forward_local(&other);
	return rule->flags & FORWARD_OPENS ? forward_open_call(&other, rule) : forward_call(&other, rule);
}

/* A path that is /proc/self/fd/N: the shadow, which may have no /proc, is asked by the descriptor where that can be done. */
static int64_t by_link(const struct intercept_call *call, const struct forward_rule *rule, int32_t fd)
{
	static const char nothing[] = "";
	struct intercept_call other = *call;
	int64_t result;

	switch (call->nr) {
	case __NR_chmod:
	case __NR_fchmodat: /* Linux 6.6; fchmod() does not take an O_PATH descriptor, which is why programs come this way */
		other = (struct intercept_call){.nr = __NR_fchmodat2, .arg = {(uint64_t)fd, (uint64_t)nothing, call->arg[rule->a + 1], AT_EMPTY_PATH}};
		if (call->nr == __NR_fchmodat)
			other.arg[2] = call->arg[2];
		result = forward_call(&other, rule);
		return result == -ENOSYS ? -EOPNOTSUPP : result;
	case __NR_stat:
		other = (struct intercept_call){.nr = __NR_fstat, .arg = {(uint64_t)fd, call->arg[1]}};
		break;
	case __NR_newfstatat:
		if (call->arg[3] & AT_SYMLINK_NOFOLLOW)
			break;
		other.arg[0] = (uint64_t)fd;
		other.arg[1] = (uint64_t)nothing;
		other.arg[3] |= AT_EMPTY_PATH;
		break;
	default: break;
	}
	return rule->flags & FORWARD_OPENS ? forward_open_call(&other, rule) : forward_call(&other, rule);
}

/* Calls that have functions of their own when the host is in it (FORWARD_TRANSLATE).  Return: whether it is done. */
static bool translated(const struct intercept_call *call, const struct forward_where *first, const struct forward_where *second, int64_t *result)
{
	const bool host = first->side == FORWARD_THERE;

	switch (call->nr) {
	case __NR_sendmsg:
	case __NR_sendmmsg:
	case __NR_recvmsg:
	case __NR_recvmmsg:
		if (!host)
			return false;
		*result = forward_message_call(call);
		return true;
	case __NR_connect:
	case __NR_bind: return forward_settings.prefixes.n && forward_address_call(call, host, result);
	case __NR_sendfile:
	case __NR_splice: return first->side != second->side && forward_between_call(call, result);
	case __NR_inotify_add_watch:
		if (!host && !forward_fd_host(call->arg[0]))
			return false;
		*result = forward_watch_call(call, first->side, first->rewrite);
		return true;
	default: return false;
	}
}

static bool by_rule(struct intercept_call *call, const struct forward_rule *rule, int64_t *result, const char **where)
{
	struct forward_where first = {0}, second = {0};
	int at[2] = {rule->a, rule->b}, verdict;
	bool unknown[2] = {false, false};

	switch (rule->kind) {
	case FORWARD_FD:
		first.side = second.side = (enum forward_side)forward_fd_host(call->arg[rule->a]);
		break;
	case FORWARD_FDS:
		first.side = (enum forward_side)forward_fd_host(call->arg[rule->a]);
		second.side = (enum forward_side)forward_fd_host(call->arg[rule->b]);
		break;
	case FORWARD_PATH:
	case FORWARD_PATHS:
		unknown[0] = forward_where(AT_FDCWD, call->arg[rule->a], &first) != 0;
		second = first;
		if (rule->kind == FORWARD_PATHS)
			unknown[1] = forward_where(AT_FDCWD, call->arg[rule->b], &second) || second.empty;
		break;
	default:
		unknown[0] = forward_where((int64_t)call->arg[rule->a], call->arg[rule->a + 1], &first) != 0;
		at[0]++;
		second = first;
		if (rule->kind == FORWARD_ATS) {
			unknown[1] = forward_where((int64_t)call->arg[rule->b], call->arg[rule->b + 1], &second) || second.empty;
			at[1]++;
		}
		break;
	}
	if (rule->kind == FORWARD_PATHS || rule->kind == FORWARD_ATS)
		unknown[0] |= first.empty && !(call->nr == __NR_linkat && call->arg[4] & AT_EMPTY_PATH);
	/* A path that leads nowhere: what is wrong first, it or another argument, says the kernel of the side where the other one is. */
	if (unknown[0] && (unknown[1] || (rule->kind != FORWARD_PATHS && rule->kind != FORWARD_ATS)))
		return false;
	if (unknown[0])
		first = (struct forward_where){.side = second.side};
	if (unknown[1])
		second = (struct forward_where){.side = first.side};
	if (rule->kind == FORWARD_FD || rule->kind == FORWARD_PATH || rule->kind == FORWARD_AT)
		second.rewrite = false;
	if (rule->flags & FORWARD_TRANSLATE && translated(call, &first, &second, result)) {
		*where = first.side == FORWARD_THERE && second.side == FORWARD_THERE ? at_host : at_both;
		return true;
	}
	verdict = forward_sides(rule, first.side, second.side);
	if (verdict < 0) {
		*where = by_refusal;
		*result = verdict;
		return true;
	}
	if (verdict)
		*where = at_host;
	if (verdict && first.link && (rule->kind == FORWARD_PATH || rule->kind == FORWARD_AT))
		*result = by_link(call, rule, first.link - 1);
	else if (first.rewrite || second.rewrite)
		*result = rewritten(call, rule, verdict, at, (bool[2]){first.rewrite, second.rewrite});
	else if (!verdict)
		return false;
	else if (rule->flags & FORWARD_OPENS)
		*result = forward_open_call(call, rule);
	else
		*result = forward_call(call, rule);
	return true;
}

static bool special(struct intercept_call *call, const struct forward_rule *rule, int64_t *result, const char **where)
{
	bool done;

	*where = at_both;
	switch (rule->b) {
	case FORWARD_S_CHDIR:
	case FORWARD_S_FCHDIR:
	case FORWARD_S_GETCWD:
	case FORWARD_S_UMASK: done = forward_cwd_call(call, rule, result); break;
	case FORWARD_S_MMAP:
	case FORWARD_S_MEMORY:
		if (call->nr != __NR_mmap || !forward_fd_host(call->arg[4]))
			*where = at_guest;
		done = forward_memory_call(call, rule, result);
		break;
	case FORWARD_S_POLL:
	case FORWARD_S_SELECT: done = forward_poll_call(call, rule, result); break;
	case FORWARD_S_EPOLL_CTL:
	case FORWARD_S_EPOLL_WAIT: done = forward_epoll_call(call, rule, result); break;
	case FORWARD_S_WAIT:
		done = forward_wait_call(call, result);
		*where = at_guest;
		break;
	case FORWARD_S_CLONE:
	case FORWARD_S_FIRST: done = false; break;
	case FORWARD_S_SIGACTION:
		*result = forward_local(call);
		done = true;
		if (call->arg[1])
			forward_actions_changed();
		*where = at_guest;
		break;
	default: done = forward_descriptor_call(call, rule, result); break;
	}
	if (!done)
		*where = at_guest;
	return done;
}

/* Return: whether the call is done. */
static bool decide(struct intercept_call *call, int64_t *result, const char **where)
{
	const struct forward_rule *rule = forward_rule(call->nr);
	enum forward_who who;

	const enum forward_action action = forward_policy(call, result);

	if (action == FORWARD_A_DENY || action == FORWARD_A_EMULATE) {
		*where = by_policy;
		return true;
	}
	if (action == FORWARD_A_LOCAL || (rule->kind == FORWARD_LOCAL && action != FORWARD_A_FORWARD)) {
		forward_child_last_chance(call);
		return false;
	}
	who = forward_who();
	if (rule->kind == FORWARD_SPECIAL && rule->b == FORWARD_S_EXIT) {
		forward_exit(who);
		return false;
	}
	if (action == FORWARD_A_FORWARD) {
		if (who == FORWARD_VCHILD || who == FORWARD_NOBODY || (who == FORWARD_CHILD && !forward_become()))
			return false;
		*where = at_host;
		*result = forward_call(call, rule);
		return true;
	}
	if (forward_carry_call(call, who, result)) {
		*where = at_both;
		return true;
	}
	if (who == FORWARD_CHILD || who == FORWARD_VCHILD) {
		switch (forward_child_call(call, result, who)) {
		case FORWARD_C_LOCAL: return false;
		case FORWARD_C_DONE: return true;
		default: break;
		}
		if (!forward_become()) {
			*where = by_refusal;
			forward_child_refused(call, result);
			return true;
		}
	}
	if (rule->kind == FORWARD_SPECIAL && rule->b == FORWARD_S_EXEC) {
		*result = forward_exec_call(call, forward_who());
		return true;
	}
	if (rule->kind == FORWARD_SPECIAL)
		return special(call, rule, result, where);
	return by_rule(call, rule, result, where);
}

/* Calls that the interception does in a way of its own, and of which a trace does not see the end. */
static bool is_left_to_interception(uint64_t nr)
{
	return nr == __NR_exit || nr == __NR_prctl || nr == __NR_seccomp || nr == __NR_io_uring_setup;
}

bool forward_hook(struct intercept_call *call, int64_t *result)
{
	const struct forward_rule *rule = forward_rule(call->nr);
	const char *where = at_guest;
	int64_t start_ns;
	bool traced;

	if (!forward_tracing) {
		traced = decide(call, result, &where);
		if (traced)
			forward_policy_after(call, *result);
		return traced;
	}
	traced = forward_policy_traced(call);
	if (is_left_to_interception(call->nr) ||
	    (rule->kind == FORWARD_SPECIAL && (rule->b == FORWARD_S_EXEC || rule->b == FORWARD_S_CLONE || rule->b == FORWARD_S_EXIT))) {
		forward_trace_begin(call, where, traced);
		return decide(call, result, &where);
	}
	start_ns = forward_now_ns();
	if (!decide(call, result, &where))
		*result = forward_local(call);
	forward_trace_call(call, *result, where, forward_now_ns() - start_ns, traced);
	forward_policy_after(call, *result);
	return true;
}
