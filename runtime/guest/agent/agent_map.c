/* agent_map.c - MAP: see agent_map.h */
#include "runtime/guest/agent/agent_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "rle/cleanup.h"
#include "rle/mapw.h"
#include "rle/proc.h"

#define TRIES 3 /* a process may call exec while it is read, but hardly all the time */
#define BUFFER_RUNS 2048

/* Runs without frames, on their way into a memfd. */
struct sink {
	int fd;
	uint64_t nruns, npages;
	size_t n;
	struct ds_local_run run[BUFFER_RUNS];
};

static int flush(struct sink *s)
{
	const char *at = (const char *)s->run;
	size_t left = s->n * sizeof(*s->run);

	while (left) {
		ssize_t k = write(s->fd, at, left);

		if (k < 0 && errno != EINTR)
			return -errno;
		if (k > 0) {
			at += k;
			left -= k;
		}
	}
	s->n = 0;
	return 0;
}

static int add_run(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct sink *s = ctx;

	(void)end;
	s->run[s->n++] = (struct ds_local_run){.vpn = run->vpn.n, .npages = run->npages, .attr = run->attr};
	s->nruns++;
	s->npages += run->npages;
	return s->n == BUFFER_RUNS ? flush(s) : 0;
}

static void fill(struct ds_local_mapped *out, const struct rle_proc *p, const struct rle_counts *n)
{
	out->start_ticks = p->start_ticks;
	out->vmas = n->vmas;
	out->mapped = n->mapped;
	out->swapped = n->swapped;
	out->migrating = n->migrating;
	out->zero = n->zero;
	out->device = n->device;
	out->file = n->file;
	out->exclusive = n->exclusive;
	memcpy(out->runs, n->runs, sizeof(out->runs));
}

/* Who asks for what. */
struct asked {
	const struct agent_target *t;
	const struct agent_caller *caller;
	struct agent_refusal *why;
};

/* The memory is open: whether it is still the caller's to see.  Root may see any. */
static int may_see(void *ctx)
{
	const struct asked *a = ctx;

	return a->caller->uid && agent_target_still(a->t, a->caller, 0, a->why) ? -EACCES : 0;
}

/* One attempt.  Return: 0; -ESRCH: it exited or called exec; -ENOKEY: frames are hidden from dsagent itself;
 * -EACCES: refused, asked->why says it; -errno. */
static int scan_once(struct rle_src *src, struct asked *asked, const struct ds_local_map *m, int fd, struct ds_local_mapped *out)
{
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;
	__attribute__((cleanup(rle_proc_close))) struct rle_proc p = {.dir_fd = -1};
	const struct agent_target *t = asked->t;
	const bool frames = !asked->caller->uid;
	const struct rle_map_meta meta = {
		.split = m->split, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = t->pid, .start_ticks = t->start_ticks};
	static struct sink sink; /* large; one scan at a time */
	struct rle_enc e;
	int err = rle_proc_open(&p, src, t->pid);

	if (err)
		return err;
	if (p.start_ticks != t->start_ticks)
		return -ESRCH;
	p.may_see = may_see;
	p.may_see_ctx = asked;
	if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET))
		return -errno;
	sink = (struct sink){.fd = fd};
	err = frames ? rle_mapw_begin_fd(&w, &meta, fd) : 0;
	if (err)
		return err;
	rle_enc_init(&e, m->split, frames ? rle_mapw_run : add_run, frames ? (void *)w : &sink, &src->frames);
	err = rle_proc_scan(&p, &e, NULL);
	if (err)
		return err;
	if (e.n.hidden)
		return -ENOKEY;
	err = frames ? rle_mapw_finish(w) : flush(&sink);
	if (err)
		return err;
	fill(out, &p, &e.n);
	out->form = frames ? DS_LOCAL_FORM_MAP : DS_LOCAL_FORM_RUNS;
	out->nruns = frames ? e.n.runs[m->split] : sink.nruns;
	out->npages = frames ? e.n.present : sink.npages;
	return 0;
}

static int scan(const struct agent_target *t, const struct ds_local_map *m, const struct agent_caller *caller, int fd,
		struct ds_local_mapped *out, struct agent_refusal *why)
{
	struct asked asked = {t, caller, why};
	struct rle_src src;
	const char *text = "";
	int err = rle_src_open(&src, NULL, RLE_JOIN_NONE, &text);

	if (err)
		return agent_refuse(why, DS_LOCAL_C_SYSTEM, "dsagent cannot see frame numbers: %s", text);
	err = -ESRCH;
	for (int i = 0; err == -ESRCH && i < TRIES; i++)
		err = scan_once(&src, &asked, m, fd, out);
	rle_src_close(&src);
	if (!err)
		return 0;
	if (err == -EACCES && why->code)
		return -1;
	if (err == -ENOKEY)
		return agent_refuse(why, DS_LOCAL_C_SYSTEM, "dsagent cannot see frame numbers: present pages show frame 0");
	return agent_refuse(why, err == -ESRCH ? DS_LOCAL_C_PROCESS : DS_LOCAL_C_SYSTEM, "process %d: %s", t->pid,
			    err == -ESRCH ? "it ended while it was read" : strerror(-err));
}

static int send_with(int client_fd, const void *msg, size_t bytes, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(void *)msg, bytes};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (fd >= 0) {
		h.msg_control = control;
		h.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&h);
		*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(client_fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int agent_map_answer(int client_fd, const struct ds_local_map *m, const struct agent_target *t, const struct agent_caller *caller)
{
	struct ds_local_mapped out = {.pid = t->pid};
	struct ds_local_refused no = {.pid = t->pid};
	struct agent_refusal why = {0};
	cleanup_close int fd = memfd_create("dsagent-map", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err = fd < 0 ? agent_refuse(&why, DS_LOCAL_C_SYSTEM, "memfd: %s", strerror(errno)) : scan(t, m, caller, fd, &out, &why);

	if (!err) {
		out.bytes = lseek(fd, 0, SEEK_END);
		if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL))
			err = agent_refuse(&why, DS_LOCAL_C_SYSTEM, "memfd: %s", strerror(errno));
	}
	if (err) {
		no.head = (struct ds_local_head){DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_REFUSED, sizeof(no), m->head.seq};
		no.code = why.code;
		snprintf(no.text, sizeof(no.text), "%s", why.text);
		return send_with(client_fd, &no, sizeof(no), -1) ? 2 : 0;
	}
	snprintf(out.comm, sizeof(out.comm), "%s", t->comm);
	out.head = (struct ds_local_head){DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_MAPPED, sizeof(out), m->head.seq};
	return send_with(client_fd, &out, sizeof(out), fd) ? 2 : 0;
}
