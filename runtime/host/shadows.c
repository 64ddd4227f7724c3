/* shadows.c - the wardens of one VM; theory in shadows.h */
#include "runtime/host/shadows.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/jail/jailgroup.h"
#include "runtime/host/log.h"
#include "runtime/host/window/windows.h"

#define TERM_MS 200
#define GONE_MS 10000

struct place {
	pid_t warden;  /* 0: none, or it has ended */
	pid_t capsule; /* left behind by its warden, a child of ours now; 0: none */
	int stream;    /* our copy; -1: the place is free */
	int channel;   /* to the warden: shadows_tell() */
	uint64_t shadow; /* a number of its own */
	uint8_t token[DS_AGENT_TOKEN_BYTES];
	int client;    /* waits for the end; -1 */
	bool asked;    /* it was told to end */
	bool killed;   /* the warden was, and cannot have removed its cgroup */
};

struct shadows {
	struct shadows_board *board;
	const char *vm, *services_dir;
	struct policy *policy;
	struct windows *windows; /* NULL: there is no window */
	uint32_t nplaces, count;
	uint64_t last_shadow;
	struct place place[];
};

size_t shadows_board_bytes(uint32_t nplaces)
{
	return sizeof(struct shadows_board) + nplaces * sizeof(struct shadows_place);
}

int shadows_new(struct shadows **out, struct shadows_board *board, const char *vm, const char *services_dir)
{
	struct shadows *s = calloc(1, sizeof(*s) + board->nplaces * sizeof(s->place[0]));

	*out = NULL;
	if (!s)
		return -ENOMEM;
	*s = (struct shadows){.board = board, .vm = vm, .services_dir = services_dir, .nplaces = board->nplaces};
	for (uint32_t i = 0; i < s->nplaces; i++)
		s->place[i] = (struct place){.stream = -1, .client = -1, .channel = -1};
	if (prctl(PR_SET_CHILD_SUBREAPER, 1)) {
		free(s);
		return -errno;
	}
	*out = s;
	return 0;
}

void shadows_free(struct shadows *s)
{
	if (!s)
		return;
	shadows_end_all(s, "the VM process ends");
	free(s->policy);
	free(s);
}

void shadows_policy(struct shadows *s, struct policy *policy)
{
	free(s->policy);
	s->policy = policy;
}

void shadows_windows(struct shadows *s, struct windows *windows)
{
	s->windows = windows;
}

uint32_t shadows_count(const struct shadows *s)
{
	return s->count;
}

/* --- start --------------------------------------------------------------------------------------------------------- */

static void be_warden(struct shadows *s, uint32_t i, uint32_t guest_port, int ram_fd, const struct ramtable *table, pid_t parent,
		      int bells_fd, int window_fd)
{
	const struct warden_params p = {
		.stream_fd = s->place[i].stream,
		.bells_fd = bells_fd,
		.window_fd = window_fd,
		.token = s->place[i].token,
		.ram_fd = ram_fd,
		.parent = parent,
		.table = table,
		.vm = s->vm,
		.policy = s->policy,
		.services_dir = s->services_dir,
		.guest_port = guest_port,
		.stat = &s->board->place[i].stat,
	};
	sigset_t none;

	for (uint32_t k = 0; k < s->nplaces; k++)
		if (k != i) /* tokens of others are nothing for who talks to this one */
			explicit_bzero(s->place[k].token, sizeof(s->place[k].token));
	prctl(PR_SET_NAME, "dshost-shadow");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(warden_main(&p));
}

int shadows_start(struct shadows *s, int fd, uint32_t guest_port, int ram_fd, const struct ramtable *table)
{
	const pid_t self = getpid();
	uint8_t token[DS_AGENT_TOKEN_BYTES];
	cleanup_close int theirs = -1, window = -1;
	uint32_t i = 0;
	int pair[2];
	pid_t pid;

	while (i < s->nplaces && s->place[i].stream >= 0)
		i++;
	if (i == s->nplaces)
		return -EBUSY;
	if (getrandom(token, sizeof(token), 0) != sizeof(token) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	theirs = pair[1];
	memset(&s->board->place[i].stat, 0, sizeof(s->board->place[i].stat));
	s->place[i] = (struct place){.stream = fd, .client = -1, .channel = pair[0], .shadow = ++s->last_shadow};
	memcpy(s->place[i].token, token, sizeof(token));
	if (s->windows)
		window = windows_join(s->windows, s->place[i].shadow); /* without it nothing can be mapped, that is all */
	pid = fork();
	if (pid == 0)
		be_warden(s, i, guest_port, ram_fd, table, self, theirs, window);
	if (pid < 0) {
		const int e = -errno;

		if (s->windows)
			windows_leave(s->windows, s->place[i].shadow);
		close(pair[0]);
		s->place[i] = (struct place){.stream = -1, .client = -1, .channel = -1};
		return e;
	}
	s->place[i].warden = pid;
	__atomic_store_n(&s->board->place[i].used, 1, __ATOMIC_RELEASE);
	s->count++;
	s->board->vm.started++;
	return 0;
}

/* --- bells ------------------------------------------------------------------------------------------------------------ */

int shadows_by_token(const struct shadows *s, const uint8_t *token, uint32_t *place, uint64_t *shadow)
{
	int r = -ENOENT;

	for (uint32_t i = 0; i < s->nplaces; i++) {
		uint8_t differs = s->place[i].channel < 0; /* a free place has no token */

		for (size_t k = 0; k < DS_AGENT_TOKEN_BYTES; k++)
			differs |= s->place[i].token[k] ^ token[k];
		if (!differs) {
			*place = i;
			*shadow = s->place[i].shadow;
			r = 0;
		}
	}
	return r;
}

int shadows_tell(const struct shadows *s, uint32_t place, uint64_t shadow, const void *packet, size_t bytes, const int *fds,
		 unsigned int nfds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(SHADOWS_TELL_FDS * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)packet, bytes};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (place >= s->nplaces || s->place[place].channel < 0 || s->place[place].shadow != shadow || nfds > SHADOWS_TELL_FDS)
		return -ESRCH;
	if (nfds) {
		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(nfds * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), fds, nfds * sizeof(int));
	}
	return sendmsg(s->place[place].channel, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void shadows_forget(struct shadows *s)
{
	for (uint32_t i = 0; i < s->nplaces; i++)
		explicit_bzero(s->place[i].token, sizeof(s->place[i].token));
}

/* --- end ------------------------------------------------------------------------------------------------------------ */

static void free_place(struct shadows *s, uint32_t i)
{
	struct place *p = &s->place[i];
	struct control_reply done = {.kind = CONTROL_DONE};

	__atomic_store_n(&s->board->place[i].used, 0, __ATOMIC_RELEASE);
	close(p->stream);
	if (s->windows)
		windows_leave(s->windows, p->shadow);
	if (p->killed)
		jailgroup_sweep();
	if (p->client >= 0) {
		control_answer(p->client, &done, -1);
		close(p->client);
	}
	close(p->channel);
	*p = (struct place){.stream = -1, .client = -1, .channel = -1};
	s->count--;
	s->board->vm.ended++;
}

/* A warden that did not end by itself has logged nothing: this says whose it was. */
static void log_death(const struct shadows *s, uint32_t i, int status)
{
	struct warden_view v;

	if (WIFEXITED(status))
		return;
	warden_stat_read(&s->board->place[i].stat, &v);
	v.program[sizeof(v.program) - 1] = 0;
	log_line(s->place[i].asked ? LOG_LEVEL_INFO : LOG_LEVEL_ERR, "vm %s: guest process %llu (%s): its shadow's warden was ended by signal %d%s", s->vm,
		 (unsigned long long)v.guest_pid, *v.program ? v.program : "program not known", WTERMSIG(status),
		 s->place[i].asked ? ", as it was told to end" : "");
}

/* The warden of place @i is gone: what of its capsule? */
static void warden_gone(struct shadows *s, uint32_t i, int status)
{
	struct place *p = &s->place[i];
	struct warden_view v;
	siginfo_t info = {0};

	log_death(s, i, status);
	p->warden = 0;
	/* The number is right even where the rest of the copy was torn by the warden's death. */
	warden_stat_read(&s->board->place[i].stat, &v);
	if (v.capsule_pid <= 0 || waitid(P_PID, (id_t)v.capsule_pid, &info, WEXITED | WNOHANG | WNOWAIT)) {
		free_place(s, i); /* no child of ours: the warden has waited for it */
		return;
	}
	p->capsule = v.capsule_pid; /* our child, so the number is its own until it is waited for */
	kill(p->capsule, SIGKILL);
}

void shadows_reap(struct shadows *s)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			return;
		for (uint32_t i = 0; i < s->nplaces; i++) {
			if (s->place[i].warden == pid) {
				warden_gone(s, i, status);
			} else if (s->place[i].capsule == pid) {
				s->place[i].capsule = 0;
				jailgroup_sweep(); /* its warden could not */
				free_place(s, i);
			}
		}
	}
}

int shadows_end(struct shadows *s, uint64_t guest_pid, int client)
{
	int r = -ESRCH;

	for (uint32_t i = 0; i < s->nplaces; i++) {
		struct place *p = &s->place[i];
		struct warden_view v;

		if (!p->warden || warden_stat_read(&s->board->place[i].stat, &v) || v.guest_pid != guest_pid)
			continue;
		p->asked = true;
		kill(p->warden, SIGTERM);
		if (r && client >= 0) {
			if (p->client >= 0)
				close(p->client);
			p->client = client;
		}
		r = 0;
	}
	return r;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void signal_all(struct shadows *s, int number)
{
	for (uint32_t i = 0; i < s->nplaces; i++) {
		s->place[i].asked = true;
		if (s->place[i].warden)
			kill(s->place[i].warden, number);
	}
}

int shadows_end_all(struct shadows *s, const char *why)
{
	const int64_t start = now_ms();
	bool killed = false;

	if (!s->count)
		return 0;
	log_line(LOG_LEVEL_INFO, "vm %s: %u shadows end: %s", s->vm, s->count, why);
	signal_all(s, SIGTERM);
	for (;;) {
		const struct timespec pause = {.tv_nsec = 1000000};

		shadows_reap(s);
		if (!s->count)
			return 0;
		if (!killed && now_ms() - start >= TERM_MS) {
			signal_all(s, SIGKILL);
			killed = true;
		}
		if (now_ms() - start >= GONE_MS) {
			log_line(LOG_LEVEL_ERR, "vm %s: %u shadows do not end although they were killed: a process hangs in the kernel", s->vm,
				 s->count);
			return -ETIMEDOUT;
		}
		nanosleep(&pause, NULL);
	}
}
