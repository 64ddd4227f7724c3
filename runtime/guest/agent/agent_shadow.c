/* agent_shadow.c - a shadow's child: attaching, then serving; theory of operation in agent_shadow.h */
#include "runtime/guest/agent/agent_shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <syslog.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_host.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_sha256.h"
#include "runtime/guest/agent/agent_shadow_impl.h"
#include "runtime/guest/agent/agent_watch.h"

#define CONNECT_MS 5000
#define WELCOME_MS 15000
#define START_MS 120000 /* an eager mirror of many gigabytes takes the host a while */
#define HELD_MS 10000

/* The kernel's number for this boot, by which the host tells a guest from the same one after a reboot. */
static void read_boot_id(uint8_t id[static 16])
{
	cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64] = {0}, *at = text;
	unsigned int byte;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 36)
		return;
	for (int i = 0; i < 16; i++) {
		at += *at == '-';
		if (sscanf(at, "%2x", &byte) != 1)
			return;
		id[i] = byte;
		at += 2;
	}
}

/* HELLO; its answer will be in @w: welcome(). */
static int hello(struct agent_shadow *s, struct agent_wait *w)
{
	struct ds_agent_hello m = {0};
	struct utsname u;
	uint32_t seq;
	int err = agent_host_connected(s->p->host_fd, CONNECT_MS);

	if (err)
		return agent_end(s, DS_LOCAL_C_HOST, "the host does not answer on port %d: %s; is dshost there, and does it serve this VM?",
				 DS_AGENT_PORT, strerror(-err));
	read_boot_id(m.boot_id);
	if (!uname(&u))
		snprintf(m.release, sizeof(m.release), "%.63s", u.release);
	seq = agent_wait_begin(s, w, DS_AGENT_WELCOME);
	if (!agent_send(s, &m, sizeof(m), DS_AGENT_HELLO, seq, NULL, 0, NULL, 0))
		return 0;
	agent_wait_drop(s, w);
	return -1;
}

static int welcome(struct agent_shadow *s, struct agent_wait *w, bool *want_hash)
{
	struct agent_refusal why;
	const int err = agent_await(s, w, WELCOME_MS, &why);

	if (err > 0)
		return agent_end(s, why.code, "%s", why.text);
	*want_hash = !err && ((const struct ds_agent_welcome *)w->msg)->want_hash;
	return err;
}

static void hash_program(const struct agent_shadow *s, struct ds_agent_attach *m)
{
	cleanup_close int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", s->p->target->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	m->has_sha256 = fd >= 0 && !agent_sha256_fd(fd, m->sha256);
}

/* The parent has the safe too, before any frame is named to the host. */
static int await_held(struct agent_shadow *s)
{
	int64_t until = agent_now_ms() + HELD_MS;

	while (!s->held && !s->ending) {
		if (agent_now_ms() >= until)
			return agent_end(s, DS_LOCAL_C_SYSTEM, "dsagent did not take hold of the frames' safe");
		agent_serve(s, HELD_MS);
	}
	return s->ending ? -1 : 0;
}

static int still_the_same(void *ctx, struct agent_refusal *why)
{
	const struct agent_shadow *s = ctx;

	return agent_target_still(s->p->target, s->p->caller, s->p->want->flags & DS_LOCAL_FORCE, why);
}

/* An exec before this is seen by who looks, after it, whether the process is still the same; one that comes later, by it. */
static void watch(struct agent_shadow *s)
{
	s->watch_fd = agent_watch_open(s->p->target->pid);
	if (s->watch_fd < 0)
		agent_log(LOG_WARNING,
			  "shadow %u: the kernel does not tell when process %d calls exec (proc connector: %s); it is looked for once a second, and "
			  "before each change",
			  s->p->id, s->p->target->pid, strerror(-s->watch_fd));
}

/* While the helper is put in: agent_mem_meanwhile_fn.  The parent is asked to take the safe. */
static void prepare(void *ctx)
{
	struct agent_shadow *s = ctx;
	struct ds_local_about m = {.pid = agent_mem_safe(&s->mem)};

	agent_tell(s, &m, sizeof(m), AGENT_CHAN_HOLD, 0);
	watch(s);
}

/* A helper in the process, and a safe for its frames: await_held(). */
static int open_memory(struct agent_shadow *s, struct ds_agent_range reserve)
{
	const struct agent_target *t = s->p->target;
	struct agent_refusal why = {0};

	if (agent_mem_open(&s->mem, t, s->p->want->flags, t->uid || s->p->caller->uid, reserve, s->p->account, s->p->slot, prepare, s, &why))
		return agent_end(s, why.code, "%s", why.text);
	return 0;
}

/* ATTACH with what is in @s; its answer will be in @w. */
static int send_attach(struct agent_shadow *s, struct ds_agent_attach *m, struct agent_wait *w, const void *blob, size_t bytes)
{
	const struct ds_local_shadow *want = s->p->want;
	uint32_t seq;

	if (s->mappings.n > DS_AGENT_RANGES_MAX)
		return agent_end(s, DS_LOCAL_C_LIMIT, "process %d has more mappings than can be told (%u)", s->p->target->pid, DS_AGENT_RANGES_MAX);
	m->nranges = s->mappings.n;
	m->map_bytes = bytes;
	memcpy(m->service, want->service, sizeof(m->service));
	memcpy(m->args, want->args, sizeof(m->args));
	memcpy(m->program, s->p->target->program, sizeof(m->program));
	seq = agent_wait_begin(s, w, DS_AGENT_STARTED);
	if (!agent_send(s, m, sizeof(*m), DS_AGENT_ATTACH, seq, s->mappings.r, s->mappings.n * sizeof(*s->mappings.r), blob, bytes))
		return 0;
	agent_wait_drop(s, w);
	return -1;
}

/* Eager: everything that can be pinned is told. */
static int tell_map(struct agent_shadow *s, struct ds_agent_attach *m, struct agent_take *take, struct agent_wait *w)
{
	const struct agent_target *t = s->p->target;
	struct agent_refusal why = {0};
	cleanup_free void *blob = NULL;
	size_t bytes = 0;

	if (open_memory(s, (struct ds_agent_range){AGENT_MEM_ANYWHERE, s->p->want->reserve_pages}))
		return -1;
	if (m->has_sha256) /* before it is looked whether it is still the same program */
		hash_program(s, m);
	if (agent_mem_take(&s->mem, 0, AGENT_MEM_ALL, AGENT_MEM_NO_PAGE, still_the_same, s, take, &why))
		return agent_end(s, why.code, "%s", why.text);
	blob = agent_table_blob(&take->now, t->pid, t->start_ticks, &bytes);
	if (!blob)
		return agent_end(s, DS_LOCAL_C_LIMIT, "the map of process %d cannot be sent: it is too long, or memory is short", t->pid);
	s->mappings = take->mappings;
	take->mappings = (struct agent_ranges){0};
	s->mem.told = take->now;
	take->now = (struct agent_table){0};
	m->reserve = s->mem.reserve;
	return await_held(s) ? -1 : send_attach(s, m, w, blob, bytes);
}

/* Where the mappings are, and a place for the reservation; it is still the same process afterwards. */
static int glance(struct agent_shadow *s, struct ds_agent_range *reserve)
{
	const pid_t pid = s->p->target->pid;
	struct agent_refusal why = {0};
	int err = agent_mem_glance(pid, &s->mappings, s->p->want->reserve_pages, reserve);

	if (err)
		return agent_end(s, err == -ESRCH ? DS_LOCAL_C_EXIT : DS_LOCAL_C_SYSTEM, "the mappings of process %d cannot be read: %s", pid, strerror(-err));
	return still_the_same(s, &why) ? agent_end(s, why.code, "%s", why.text) : 0;
}

/* On demand: only what glance() has seen, without a helper.  So the host makes its mirror while the helper is
 * put into the process, which takes as long.  No frame is named before the first FAULT. */
static int tell_mappings(struct agent_shadow *s, struct ds_agent_attach *m, struct agent_wait *w)
{
	struct agent_refusal why = {0};
	int err;

	if (m->has_sha256) {
		hash_program(s, m);
		if (still_the_same(s, &why))
			return agent_end(s, why.code, "%s", why.text);
	}
	if (send_attach(s, m, w, NULL, 0))
		return -1;
	err = open_memory(s, m->reserve);
	/* First who it is, then that it is still in this memory: an exec before the first is seen by it, one after it by the second. */
	if (!err && still_the_same(s, &why))
		err = agent_end(s, why.code, "%s", why.text);
	if (!err && agent_mem_same(&s->mem) != 1)
		err = agent_end(s, DS_LOCAL_C_EXEC, "process %d has executed another program, or exited", s->p->target->pid);
	err = err ? err : await_held(s);
	if (err)
		agent_wait_drop(s, w);
	return err;
}

static uint64_t left_out(const struct agent_take *t)
{
	uint64_t sum = 0;

	for (int i = 0; i < PIN_NOUTCOMES; i++)
		sum += t->left_out[i];
	return sum;
}

/* "; 12 pages not mirrored: reason 10, reason 2" */
static void left_out_text(const struct agent_take *t, char *text, size_t size)
{
	int n = 0;

	text[0] = '\0';
	if (!left_out(t))
		return;
	n = snprintf(text, size, "; not mirrored:");
	for (int i = 0; i < PIN_NOUTCOMES && n > 0 && (size_t)n < size; i++)
		if (t->left_out[i])
			n += snprintf(text + n, size - n, " %" PRIu64 " pages (%s)", t->left_out[i], pin_why(i));
}

/* @hello: HELLO was sent. */
static int attach(struct agent_shadow *s, struct agent_wait *hello)
{
	const struct ds_local_shadow *want = s->p->want;
	const struct agent_target *t = s->p->target;
	struct ds_agent_attach m = {.pid = t->pid, .start_ticks = t->start_ticks, .uid = t->uid, .gid = t->gid, .mode = want->mode};
	__attribute__((cleanup(agent_take_free))) struct agent_take take = {0};
	const struct ds_agent_started *started;
	struct ds_local_started answer = {.pid = t->pid, .id = s->p->id};
	struct agent_refusal why = {0};
	bool want_hash = false;
	char text[512];
	struct agent_wait w;
	int err;

	if (want->mode == DS_LOCAL_DEMAND && glance(s, &m.reserve)) { /* while the host makes a process for it */
		agent_wait_drop(s, hello);
		return -1;
	}
	if (welcome(s, hello, &want_hash))
		return -1;
	m.has_sha256 = want_hash;
	if (want->mode == DS_LOCAL_EAGER ? tell_map(s, &m, &take, &w) : tell_mappings(s, &m, &w))
		return -1;
	err = agent_await(s, &w, START_MS, &why);
	if (err > 0)
		return agent_end(s, why.code, "%s", why.text);
	if (err)
		return -1;
	started = (const struct ds_agent_started *)w.msg;
	s->standing = true;
	atomic_store(&s->p->view->runs, s->mem.told.n);
	atomic_store(&s->p->view->mirror_pages, started->mirror_pages);
	atomic_store(&s->p->view->running, 1);
	err = want->mode == DS_LOCAL_DEMAND ? agent_renew(s, &why) : 0; /* the program went on meanwhile */
	if (err)
		return err < 0 ? -1 : agent_end(s, why.code, "%s", why.text);
	answer.pinned_pages = s->mem.pin.pages;
	answer.runs = s->mem.told.n;
	answer.left_out_pages = left_out(&take);
	answer.mirror_pages = started->mirror_pages;
	answer.host_pid = started->host_pid;
	answer.reserve = (struct ds_local_range){s->mem.reserve.vpn, s->mem.reserve.npages};
	answer.capsule = (struct ds_local_range){started->capsule.vpn, started->capsule.npages};
	memcpy(answer.token, started->token, sizeof(answer.token));
	agent_tell(s, &answer, sizeof(answer), DS_LOCAL_STARTED, 0);
	agent_mem_complete(&s->mem); /* while the program begins to use it */
	left_out_text(&take, text, sizeof(text));
	agent_log(LOG_INFO, "shadow %u stands: process %d (%s), uid %u, service %s, %s: %" PRIu64 " pages in %" PRIu64 " runs pinned and told%s",
		  s->p->id, t->pid, t->comm, t->uid, want->service, want->mode == DS_LOCAL_EAGER ? "eager" : "on demand",
		  agent_table_pages(&s->mem.told), (uint64_t)s->mem.told.n, text);
	return 0;
}

static void give_up(struct agent_later *l)
{
	while (l) {
		struct agent_later *next = l->next;

		free(l);
		l = next;
	}
}

int agent_shadow_main(const struct agent_shadow_params *p)
{
	struct agent_shadow s = {.p = p, .watch_fd = -1, .mem = {.remote = REMOTE_NONE, .hold = HOLD_NONE}};
	struct agent_wait w;

	if (!hello(&s, &w) && !attach(&s, &w))
		while (!agent_serve(&s, -1))
			;
	agent_window_end(&s);
	/* The parent hears of it first: it closes the stream, so that the host begins to let go while the helper is taken out. */
	agent_tell_refused(&s, s.standing ? DS_LOCAL_ENDED : DS_LOCAL_REFUSED, 0, &s.end);
	agent_mem_close(&s.mem);
	agent_ranges_free(&s.mappings);
	agent_ranges_free(&s.holes);
	agent_ranges_free(&s.windowed);
	give_up(s.queue);
	give_up(s.faults);
	if (s.watch_fd >= 0)
		close(s.watch_fd);
	return 0;
}
