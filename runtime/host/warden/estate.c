/* estate.c - the VM process's side of estates; theory in estate.h */
#include "runtime/host/warden/estate.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/bells.h"
#include "runtime/host/warden/keeper.h"
#include "runtime/host/log.h"
#include "runtime/host/shadows.h"

#define ORDERS_A_RUN 64
#define NOBODY 65534

struct estates {
	struct estates_of of;
	int channel; /* to the keeper; -1: there is none */
	pid_t keeper;
};

int estate_send(int socket, const void *packet, size_t bytes, const int *fds, unsigned int nfds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(SHADOWS_TELL_FDS * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)packet, bytes};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds > SHADOWS_TELL_FDS)
		return -E2BIG;
	if (nfds) {
		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(nfds * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), fds, nfds * sizeof(int));
	}
	return sendmsg(socket, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int64_t estate_receive(int socket, void *packet, size_t room, int *fds, unsigned int *nfds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(SHADOWS_TELL_FDS * sizeof(int))];
	struct iovec iov = {packet, room};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const ssize_t n = recvmsg(socket, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;

	*nfds = 0;
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
	}
	if (!(mh.msg_flags & MSG_CTRUNC))
		return n;
	for (unsigned int i = 0; i < *nfds; i++)
		close(fds[i]);
	*nfds = 0;
	return -EMFILE;
}

/* --- the keeper ------------------------------------------------------------------------------------------------------ */

static _Noreturn void be_keeper(struct estates *e, int channel, pid_t parent)
{
	sigset_t none;

	e->of.forget(e->of.ctx);
	close_range(3, (unsigned int)channel - 1, 0); /* does nothing when that is 2: first > last is EINVAL */
	close_range((unsigned int)channel + 1, ~0u, 0);
	prctl(PR_SET_NAME, "dshost-estates");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_IGN); /* of a terminal: the VM process decides */
	if (!geteuid() && (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)))
		_exit(2);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of the user would have cleared it */
	if (getppid() != parent)
		_exit(2);
	_exit(keeper_main(channel));
}

static void forget_keeper(struct estates *e)
{
	if (e->channel >= 0)
		close(e->channel);
	e->channel = -1;
	if (e->keeper > 0)
		kill(e->keeper, SIGKILL); /* ours, or waited for by shadows_reap(), which comes later in the same loop */
	e->keeper = 0;
}

static int start_keeper(struct estates *e)
{
	const pid_t self = getpid();
	cleanup_close int theirs = -1;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	theirs = pair[1];
	pid = fork();
	if (pid == 0)
		be_keeper(e, theirs, self);
	if (pid < 0) {
		const int error = -errno;

		close(pair[0]);
		return error;
	}
	e->channel = pair[0];
	e->keeper = pid;
	return 0;
}

int estates_new_of(struct estates **out, const struct estates_of *of)
{
	struct estates *e = calloc(1, sizeof(*e));

	*out = e;
	if (!e)
		return -ENOMEM;
	e->of = *of;
	e->channel = -1;
	return 0;
}

static void tell_shadow(void *ctx, const uint8_t *token, struct estate_order *o, const int *fds, unsigned int nfds)
{
	uint64_t shadow;
	uint32_t place;

	if (!shadows_by_token(ctx, token, &place, &shadow))
		shadows_tell(ctx, place, shadow, o, estate_order_bytes(o), fds, nfds);
}

static void forget_shadows(void *ctx)
{
	shadows_forget(ctx);
}

int estates_new(struct estates **out, struct shadows *shadows)
{
	return estates_new_of(out, &(struct estates_of){.ctx = shadows, .tell = tell_shadow, .forget = forget_shadows});
}

void estates_free(struct estates *e)
{
	if (!e)
		return;
	forget_keeper(e);
	free(e);
}

int estates_accept(struct estates *e, int fd)
{
	int error = e->channel < 0 ? start_keeper(e) : 0;

	if (!error)
		error = estate_send(e->channel, "", 1, &fd, 1);
	if (error == -EPIPE || error == -ECONNRESET) { /* it was killed */
		forget_keeper(e);
		error = start_keeper(e);
		if (!error)
			error = estate_send(e->channel, "", 1, &fd, 1);
	}
	if (!error)
		close(fd);
	return error;
}

int estates_fd(const struct estates *e)
{
	return e->channel;
}

/* What does not reach a warden is closed here, which the keeper sees. */
static void pass_on(struct estates *e, struct estate_order *o, const int *fds, unsigned int nfds)
{
	uint8_t token[DS_ESTATE_TOKEN_BYTES];

	memcpy(token, o->token, sizeof(token));
	explicit_bzero(o->token, sizeof(o->token));
	e->of.tell(e->of.ctx, token, o, fds, nfds);
}

void estates_run(struct estates *e)
{
	for (int i = 0; i < ORDERS_A_RUN && e->channel >= 0; i++) {
		int fds[SHADOWS_TELL_FDS];
		struct estate_order o;
		unsigned int nfds;
		const int64_t n = estate_receive(e->channel, &o, sizeof(o), fds, &nfds);

		if (n == -EAGAIN)
			return;
		if (n == 0 || n == -ECONNRESET) {
			log_line(LOG_LEVEL_WARNING, "the process that keeps descriptors between a guest's processes has ended; what it had is lost");
			forget_keeper(e);
			return;
		}
		if (n >= (int64_t)offsetof(struct estate_order, number) && o.n <= DS_ESTATE_PAIRS_MAX && n == (int64_t)estate_order_bytes(&o) &&
		    (o.what == BELLS_LAY || o.what == BELLS_ADOPT))
			pass_on(e, &o, fds, nfds);
		for (unsigned int k = 0; k < nfds; k++)
			close(fds[k]);
	}
}
