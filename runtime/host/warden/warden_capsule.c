/* warden_capsule.c - the capsule: its start, what it is told, what it says, its death
 *
 * What comes from the capsule is as hostile as what comes from the guest.  It may only speak when spoken to: STATUS or
 * REFUSED for the change under way, MESSAGE or REFUSED for a call under way, FAULT once.  Anything else ends the shadow, so
 * there is nothing to count and nothing to remember.  Nothing in a STATUS decides anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/reasons.h"
#include "runtime/host/warden/warden_parts.h"

#define READS_A_TURN 64
#define SOCKET_BYTES (1 << 20)
#define DEATH_MS 5000 /* then it is said how long it takes */
#define FDS_MAX DS_SHADOW_ADOPT_MAX /* with one message */
#define CAPSULE_BYTES (UINT64_C(64) << 20) /* what any capsule may take */
#define EXECUTOR_BYTES (UINT64_C(256) << 10)
#define SEG_BYTES (2 * DS_PAGE_BYTES + 1024)

struct ds_shadow_head warden_capsule_head(struct warden *w, uint16_t kind, size_t bytes)
{
	return (struct ds_shadow_head){.magic = DS_SHADOW_MAGIC,
				       .version = DS_SHADOW_VERSION,
				       .kind = kind,
				       .bytes = (uint32_t)bytes,
				       .seq = ++w->seq};
}

int warden_capsule_send(struct warden *w, const void *msg, size_t bytes, const int *fds, unsigned int nfds)
{
	union {
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)msg, bytes};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(nfds * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, nfds * sizeof(int));
	}
	for (;;) {
		if (sendmsg(w->ctl_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN) {
			w->ctl_full = true;
			return -EAGAIN;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return -EPIPE; /* its last words and its death will be read */
		warden_end(w, DS_AGENT_C_HOST, "the capsule cannot be written to: %s", strerrordesc_np(errno));
		return -EIO;
	}
}

/* --- the start --------------------------------------------------------------------------------------------------- */

/*
 * What the capsule may take of the host's memory: what the rule grants it for itself; twice that and its map, as there
 * are two capsules while it moves; and what the kernel keeps about its mirror (page tables, at worst two pages of them for each
 * mapping, which a cgroup counts too).
 */
static uint64_t memory_limit(const struct warden *w)
{
	const uint64_t ram_pages = 2 * (ramtable_bytes(w->p->table) >> DS_PAGE_SHIFT); /* a frame may be there twice */
	const uint64_t max_pages = w->rule->max_pages < ram_pages ? w->rule->max_pages : ram_pages;
	const uint64_t max_segs = warden_max_segs(w), segs = max_pages < max_segs ? max_pages : max_segs;
	const uint64_t map = sizeof(struct rle_map_header) + max_pages * sizeof(struct rle_run);
	const uint64_t own = w->rule->memory_bytes + w->rule->executors * EXECUTOR_BYTES +
			     3 * (map < DS_SHADOW_MAP_BYTES_MAX ? map : DS_SHADOW_MAP_BYTES_MAX);

	return CAPSULE_BYTES + 2 * own + segs * SEG_BYTES + max_pages / 512 * DS_PAGE_BYTES;
}

/* What the rule gives it of the host.  Its files show their owners only where it has files. */
static void grant(const struct policy_rule *rule, struct jail_params *p, struct jail_bind bind[static POLICY_PATHS_MAX],
		  const char *device[static POLICY_DEVICES_MAX])
{
	for (uint32_t i = 0; i < rule->npaths; i++)
		bind[i] = (struct jail_bind){rule->path[i].guest, rule->path[i].host, rule->path[i].writable};
	p->binds = bind;
	p->nbinds = rule->npaths;
	for (uint32_t i = 0; i < rule->ndevices; i++)
		device[i] = rule->device[i];
	p->devices = device;
	p->ndevices = rule->ndevices;
	p->net_host = rule->net_host;
	p->net_own = rule->net_own;
	p->unix_sockets = rule->families & POLICY_UNIX;
	p->all_ids = rule->npaths || rule->ndevices;
	if (rule->uid_host == POLICY_USER_NOBODY)
		return;
	p->uid = rule->uid_host;
	p->gid = rule->gid_host;
	p->as_root = !rule->uid_host;
}

static int spawn(struct warden *w, int exe, struct jail_err *err)
{
	struct jail_bind bind[POLICY_PATHS_MAX];
	const char *device[POLICY_DEVICES_MAX];
	struct jail_params p = {
		.exe_fd = exe,
		.name = w->who.service,
		.memory_bytes = memory_limit(w),
		.threads = w->rule->executors + 1,
		.demand = w->who.mode == DS_AGENT_DEMAND,
		.first = &w->first,
	};
	cleanup_close int theirs = -1;
	const int room = SOCKET_BYTES;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		*err = (struct jail_err){.what = "a socket pair", .err = -errno};
		return -errno;
	}
	w->ctl_fd = pair[0];
	p.ctl_fd = theirs = pair[1];
	grant(w->rule, &p, bind, device);
	warden_pace_grant(w, &p);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	r = jail_spawn(&p, &w->jail, err);
	if (!r) {
		w->pid = w->jail.pid;
		w->pidfd = w->jail.pidfd;
	}
	return r;
}

static int open_service(struct warden *w)
{
	char path[4096];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", w->p->services_dir, w->who.service) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void send_boot(struct warden *w)
{
	struct warden_change *c = &w->change;
	struct ds_shadow_boot boot = {
		.head = warden_capsule_head(w, DS_SHADOW_BOOT, sizeof(boot)),
		.data = {.map_bytes = c->coming.blob_bytes,
			 .nforbidden = c->coming.nforbidden,
			 .filter_bytes = w->second.n * sizeof(struct sock_filter)},
		.ram_bytes = w->p->table->file[0].npages << DS_PAGE_SHIFT,
		.reserve = {w->who.reserve.vpn, w->who.reserve.npages},
		.min_vpn = w->min_vpn,
		.heap_bytes = w->rule->memory_bytes,
		.max_maps = (uint32_t)(w->max_maps < UINT32_MAX ? w->max_maps : UINT32_MAX),
		.nexecutors = w->rule->executors,
		.stop_timeout_ms = w->times.stop_ms,
		.provider = w->p->table->file[0].physical ? DS_SHADOW_RAM_DEVMEM : DS_SHADOW_RAM_FILE,
		.mode = w->who.mode == DS_AGENT_DEMAND ? DS_SHADOW_DEMAND : DS_SHADOW_EAGER,
	};
	int fds[4] = {w->p->ram_fd, w->ram_ro_fd, -1, w->fault_dev_fd};
	cleanup_close int data = warden_map_file(&c->coming, w->second.ins, w->second.n * sizeof(struct sock_filter));

	if (data < 0) {
		warden_end(w, DS_AGENT_C_HOST, "the map cannot be written for the capsule: %s", strerrordesc_np(-data));
		return;
	}
	memcpy(boot.service, w->who.service, sizeof(boot.service));
	memcpy(boot.args, w->who.args, sizeof(boot.args));
	c->kind = WARDEN_CHANGE_BOOT;
	c->capsule_seq = boot.head.seq;
	c->deadline_ns = warden_after_ms(w->times.capsule_ms + w->times.stop_ms);
	fds[2] = data;
	/* The first message of a new socket finds room. */
	if (warden_capsule_send(w, &boot, sizeof(boot), fds, w->demand ? 4 : 3) == -EAGAIN)
		warden_end(w, DS_AGENT_C_HOST, "the capsule cannot be written to");
}

void warden_capsule_start(struct warden *w)
{
	cleanup_close int exe = open_service(w);
	struct jail_err err = {.what = "its guard"};
	int r;

	if (exe < 0) {
		warden_end(w, DS_AGENT_C_SHADOW, "the host has no service %s (%s)", w->who.service, strerrordesc_np(-exe));
		return;
	}
	if (w->who.mode == DS_AGENT_DEMAND) {
		w->fault_dev_fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (w->fault_dev_fd < 0) {
			warden_end(w, DS_AGENT_C_HOST, "demand mode needs /dev/userfaultfd (Linux 6.1) on the host: %s",
				   strerrordesc_np(errno));
			return;
		}
		warden_demand_prepare(w);
		if (w->ended)
			return;
	}
	r = warden_guard_prepare(w);
	if (!r)
		r = spawn(w, exe, &err);
	if (r && err.bind > 0) { /* which place it is, is nothing for a guest to know */
		warden_log(w, LOG_LEVEL_ERR, "line %u of the policy grants %s, which cannot be given: %s", w->rule->line,
			   w->rule->path[err.bind - 1].host,
			   r == -ELOOP ? "there is a symbolic link in the path" :
			   r == -EINVAL ? "neither a directory nor a regular file" :
			   r == -EROFS ? "it is to be written, and read-only for dshost" : strerrordesc_np(-r));
		warden_end(w, DS_AGENT_C_HOST, "the host cannot give it %s", w->rule->path[err.bind - 1].guest);
		return;
	}
	if (r && err.bind < 0) {
		warden_log(w, LOG_LEVEL_ERR, "line %u of the policy grants devices, of which no nodes can be made: %s%s", w->rule->line,
			   strerrordesc_np(-r), r == -EPERM ? " (CAP_MKNOD)" : "");
		warden_end(w, DS_AGENT_C_HOST, "the host cannot give it devices");
		return;
	}
	if (r) {
		warden_end(w, DS_AGENT_C_HOST, "the capsule cannot be jailed: %s: %s", err.what, strerrordesc_np(-r));
		return;
	}
	w->view.capsule_pid = w->pid;
	warden_stat_write(w->p->stat, &w->view);
	send_boot(w);
}

/* --- what it says ------------------------------------------------------------------------------------------------ */

union said {
	struct ds_shadow_head head;
	struct ds_shadow_status status;
	struct ds_shadow_refused refused;
	struct ds_shadow_fault fault;
	struct ds_shadow_message message;
	uint8_t bytes[sizeof(struct ds_shadow_message) + DS_SHADOW_PAYLOAD_MAX];
};

/* Whether it is as long as its kind has to be. */
static bool well_formed(const union said *m, size_t got)
{
	if (got < sizeof(m->head) || got > sizeof(*m) || m->head.magic != DS_SHADOW_MAGIC ||
	    m->head.version != DS_SHADOW_VERSION || m->head.bytes != got)
		return false;
	switch (m->head.kind) {
	case DS_SHADOW_STATUS: return got == sizeof(m->status);
	case DS_SHADOW_REFUSED: return got == sizeof(m->refused);
	case DS_SHADOW_FAULT: return got == sizeof(m->fault);
	case DS_SHADOW_MESSAGE: return got >= sizeof(m->message) && m->message.payload_bytes == got - sizeof(m->message);
	default: return false;
	}
}

/* Whether an answer with @seq is the one that the change under way waits for. */
static bool awaited(const struct warden *w, uint32_t seq)
{
	return w->change.kind != WARDEN_CHANGE_NONE && w->change.data_fd < 0 && seq == w->change.capsule_seq;
}

static void refused(struct warden *w, const struct ds_shadow_refused *r)
{
	if (w->demand && r->head.seq >= DEMAND_SEQ)
		warden_demand_refused(w, r);
	else if (awaited(w, r->head.seq))
		warden_change_refused(w, r);
	else if (!warden_estate_answered(w, r->head.seq, false) && !warden_reach_answered(w, r->head.seq, false) &&
		 !warden_call_refused(w, r))
		warden_end(w, DS_AGENT_C_SHADOW, "the shadow broke the protocol: it refused what nobody asked for");
}

static void hear(struct warden *w, const union said *m)
{
	char text[DS_AGENT_TEXT_BYTES];

	switch (m->head.kind) {
	case DS_SHADOW_STATUS:
		if (w->demand && m->head.seq >= DEMAND_SEQ)
			warden_demand_status(w, m->head.seq);
		else if (awaited(w, m->head.seq))
			warden_change_done(w, &m->status);
		else if (!warden_estate_answered(w, m->head.seq, true) && !warden_reach_answered(w, m->head.seq, true))
			warden_end(w, DS_AGENT_C_SHADOW, "the shadow broke the protocol: it answered what nobody asked for");
		break;
	case DS_SHADOW_REFUSED: refused(w, &m->refused); break;
	case DS_SHADOW_FAULT:
		reasons_fault(text, sizeof(text), &m->fault);
		warden_end(w, DS_AGENT_C_GONE, "%s", text);
		break;
	default: warden_call_answer(w, &m->message);
	}
}

void warden_capsule_read(struct warden *w)
{
	for (int i = 0; i < READS_A_TURN && !w->ended; i++) {
		union said m;
		const ssize_t got = recv(w->ctl_fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) { /* how it ended is said by its process */
			warden_capsule_gone(w);
			return;
		}
		if (!well_formed(&m, (size_t)got)) {
			warden_end(w, DS_AGENT_C_SHADOW, "the shadow broke the protocol: it sent what is no message");
			return;
		}
		hear(w, &m);
	}
}

/* --- its death --------------------------------------------------------------------------------------------------- */

void warden_capsule_gone(struct warden *w)
{
	siginfo_t info = {0};
	char text[DS_AGENT_TEXT_BYTES] = "the capsule closed its control channel";
	const uint32_t code = w->state == WARDEN_RUN ? DS_AGENT_C_GONE : DS_AGENT_C_SHADOW;

	/* It has closed the channel, so it is as good as dead, and given a moment to be so by itself. */
	for (int i = 0; i < 100 && !info.si_pid; i++) {
		if (i)
			usleep(1000);
		if (waitid(P_PIDFD, (id_t)w->pidfd, &info, WEXITED | WNOHANG | WNOWAIT))
			break;
	}
	if (info.si_pid)
		reasons_exit(text, sizeof(text), info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status);
	warden_end(w, code, "%s", text);
}

void warden_capsule_kill(struct warden *w)
{
	struct pollfd at = {.fd = w->pidfd, .events = POLLIN};

	if (!w->pid)
		return;
	syscall(__NR_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0);
	/* The guest's frames are not safe before it is gone, so there is no limit to this. */
	while (poll(&at, 1, DEATH_MS) == 0)
		warden_log(w, LOG_LEVEL_ERR, "capsule %d has been killed and does not go; its guest waits", (int)w->pid);
	jail_kill(&w->jail);
	w->pid = 0;
	cleanup_close_fn(&w->ctl_fd);
	w->pidfd = w->ctl_fd = -1;
}
