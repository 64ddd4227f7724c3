/* worker.c - the side that reads processes; theory of operation in worker.h */
#include "collector/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/poolshm.h"
#include "collector/text.h"
#include "rle/kpage.h"
#include "rle/mapw.h"

struct run_sink {
	struct rle_stats *stats;
	struct rle_mapw *map;
};

static int count_and_keep_run(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct run_sink *sink = ctx;

	rle_stats_run(sink->stats, run);
	return rle_mapw_run(sink->map, run, end);
}

static enum record_status status_of(int err)
{
	switch (-err) {
	case 0:
		return RECORD_OK;
	case ESRCH:
	case ENOENT: /* its directory went away before it was opened */
		return RECORD_VANISHED;
	case EACCES:
	case EPERM:
		return RECORD_DENIED;
	default:
		return RECORD_ERROR;
	}
}

/* Who it is.  Return: 0, -errno, or 1 for what has no address space, with r->status set. */
static int identify(const struct worker_job *job, const struct rle_proc *p, struct record *r)
{
	struct rle_proc_status st;
	char cgroup[RECORD_CGROUP_BYTES];
	int err;

	text_clean(r->comm, sizeof(r->comm), p->comm);
	r->start_ticks = p->start_ticks;
	r->vsz_bytes = p->vsz_bytes;
	if (p->kthread || p->state == 'Z' || p->state == 'X') {
		r->status = p->kthread ? RECORD_KERNEL : RECORD_ZOMBIE;
		return 1;
	}
	atomic_store_explicit(&r->phase, RECORD_IDENTITY, memory_order_release);
	atomic_fetch_add_explicit(job->progress, 1, memory_order_relaxed);
	err = rle_proc_status(p, &st);
	if (err)
		return err;
	r->uid = st.uid;
	r->hugetlb_pages = st.hugetlb_pages;
	/* Kernels without cgroups, and recorded trees, have no such file. */
	err = rle_proc_cgroup(p, cgroup, sizeof(cgroup));
	if (err == -ESRCH)
		return err;
	text_clean(r->cgroup, sizeof(r->cgroup), err ? "" : cgroup);
	atomic_store_explicit(&r->phase, RECORD_OWNER, memory_order_release);
	atomic_fetch_add_explicit(job->progress, 1, memory_order_relaxed);
	return 0;
}

/* Looking at every page says which are KSM's, if this kernel's flags can be believed; else its own count does, if it keeps one. */
static int64_t ksm_pages(const struct rle_proc *p, const struct rle_counts *n)
{
	const struct rle_kpage *kpage = p->src->frames.kpage;
	bool flags_tell = kpage && rle_kpage_knows_ksm(kpage);
	uint64_t pages;

	if (flags_tell && p->src->join == RLE_JOIN_FULL)
		return (int64_t)n->ksm;
	if (!rle_proc_ksm(p, &pages))
		return (int64_t)pages;
	return flags_tell ? (int64_t)n->ksm : -1;
}

/* Its page table.  Return: 0, -errno. */
static int scan(const struct worker_job *job, const struct rle_proc *p, struct record *r)
{
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *map = NULL;
	struct run_sink sink = {.stats = job->stats};
	struct rle_enc e;
	struct stat st;
	int err;

	rle_stats_reset(job->stats);
	if (job->map_fd >= 0) {
		struct rle_map_meta meta = {
			.split = RLE_SPLIT_VPN_PFN, /* the policy of `runs`, so that a map has as many */
			.key = RLE_SPACE_VIRTUAL,
			.space = RLE_SPACE_FRAME,
			.pid = p->pid,
			.start_ticks = p->start_ticks,
		};

		err = rle_mapw_begin_fd(&map, &meta, job->map_fd);
		if (err)
			return err;
		sink.map = map;
	}
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, map ? count_and_keep_run : rle_stats_take, map ? (void *)&sink : job->stats, &job->src->frames);
	err = rle_proc_scan(p, &e, job->progress);
	if (err)
		return err;
	r->n = e.n;
	r->ksm_pages = ksm_pages(p, &e.n);
	/* status leaves out what lies behind page tables that processes share, as those of large shared buffers do */
	if (p->src->join == RLE_JOIN_FULL)
		r->hugetlb_pages = e.n.hugetlb;
	else if (e.n.hugetlb_mapped > r->hugetlb_pages)
		r->hugetlb_pages = e.n.hugetlb_mapped;
	if (e.n.hidden)
		return 0;
	if (map) {
		err = rle_mapw_finish(map);
		if (!err && fstat(job->map_fd, &st))
			err = -errno;
		if (err)
			return err;
		r->map_bytes = st.st_size;
	}
	return 0;
}

static void summarize(struct rle_stats *s, struct record *r)
{
	static const unsigned int permille[] = {500, 900, 950, 990, 1000};

	rle_stats_finish(s);
	for (size_t i = 0; i < 5; i++)
		r->cover[i] = rle_stats_cover(s, permille[i]);
	memcpy(r->in_size, s->in_size, sizeof(r->in_size));
	memcpy(r->aligned, s->aligned, sizeof(r->aligned));
	memcpy(r->log2_runs, s->log2_runs, sizeof(r->log2_runs));
	memcpy(r->log2_pages, s->log2_pages, sizeof(r->log2_pages));
}

/* One attempt.  Return: whether the process lost its address space under it, so that another one may succeed. */
static bool attempt(const struct worker_job *job, pid_t pid, bool leave_alone, struct record *r)
{
	struct rle_proc p;
	int err = rle_proc_open(&p, job->src, pid);

	if (err) {
		r->err = err;
		r->status = status_of(err);
		return false;
	}
	err = identify(job, &p, r);
	if (err == 0 && leave_alone)
		r->status = RECORD_TIMEOUT;
	else if (err == 0)
		r->status = status_of(err = scan(job, &p, r));
	else if (err < 0)
		r->status = status_of(err);
	if (err < 0)
		r->err = err;
	if (r->status == RECORD_OK && r->n.hidden)
		r->status = RECORD_HIDDEN;
	if (r->status == RECORD_OK)
		summarize(job->stats, r);
	rle_proc_close(&p);
	return err == -ESRCH;
}

void worker_visit(const struct worker_job *job, pid_t pid, bool leave_alone, struct record *r)
{
	uint64_t start_ns = clock_ns(), start_ticks;

	atomic_store_explicit(&r->phase, RECORD_EMPTY, memory_order_relaxed);
	r->pid = pid;
	r->err = 0;
	r->start_ticks = 0;
	r->map_bytes = 0;
	r->comm[0] = r->cgroup[0] = '\0';
	if (attempt(job, pid, leave_alone, r) && record_has(r, RECORD_IDENTITY)) {
		/* Exec, or the end?  After exec the same process is there again, after the end it is a zombie or gone. */
		struct record first = *r;

		start_ticks = r->start_ticks;
		r->err = 0;
		attempt(job, pid, leave_alone, r);
		if (r->status != RECORD_OK || r->start_ticks != start_ticks) {
			*r = first;
			atomic_store_explicit(&r->phase, first.phase, memory_order_relaxed);
		}
	}
	r->scan_ns = clock_ns() - start_ns;
	if (record_has(r, RECORD_OWNER) || r->status == RECORD_OK)
		atomic_store_explicit(&r->phase, RECORD_WHOLE, memory_order_release);
}

/* The parent sleeps when it has nothing to consume; it is woken when that is worth the system call. */
static void wake_parent(struct pool_shm *shm)
{
	uint64_t one = 1;

	if (atomic_exchange(&shm->parent_waits, 0))
		(void)!write(shm->wake_fd, &one, sizeof(one));
}

static void wait_for_room(struct pool_shm *shm, struct pool_slot *slot)
{
	for (;;) {
		uint32_t tail = atomic_load(&slot->tail);

		if (atomic_load_explicit(&slot->head, memory_order_relaxed) - tail < shm->room)
			return;
		atomic_store(&slot->worker_waits, 1);
		wake_parent(shm);
		pool_futex_wait(&slot->tail, tail);
		atomic_store(&slot->worker_waits, 0);
	}
}

/* Takes tasks until there are none. */
static void serve_round(struct pool_shm *shm, struct pool_slot *slot, const struct worker_job *job)
{
	for (;;) {
		uint32_t task, head = atomic_load_explicit(&slot->head, memory_order_relaxed);
		struct record *r = &slot->ring[head % POOL_RING];
		pid_t pid;

		wait_for_room(shm, slot);
		task = atomic_fetch_add_explicit(&shm->next, 1, memory_order_relaxed);
		if (task >= shm->ntasks)
			return;
		pid = shm->pid[task];
		r->task = task;
		r->pid = pid < 0 ? -pid : pid;
		atomic_store_explicit(&r->phase, RECORD_EMPTY, memory_order_relaxed);
		atomic_fetch_add_explicit(&slot->progress, 1, memory_order_relaxed);
		atomic_store_explicit(&slot->state, task + 1, memory_order_release);
		worker_visit(job, r->pid, pid < 0, r);
		if (!atomic_compare_exchange_strong(&slot->state, &(uint32_t){task + 1}, 0))
			_exit(0); /* condemned: the parent has recorded this process already */
		atomic_store(&slot->head, head + 1);
		if (head + 1 - atomic_load_explicit(&slot->tail, memory_order_relaxed) >= (shm->room + 1) / 2)
			wake_parent(shm);
	}
}

void worker_main(struct pool_shm *shm, struct pool_slot *slot, struct rle_src *src, int map_fd, pid_t parent,
		 uint32_t seen_round)
{
	static struct rle_stats stats;
	struct worker_job job = {.src = src, .progress = &slot->progress, .map_fd = map_fd, .stats = &stats};
	sigset_t none;

	/* A signal to the whole group (^C, a service that is stopped) is the parent's to handle. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0); /* it died before the line above */
	for (;;) {
		uint32_t round = atomic_load(&shm->round);

		if (round == seen_round) {
			pool_futex_wait(&shm->round, round);
			continue;
		}
		seen_round = round;
		serve_round(shm, slot, &job);
		atomic_store(&slot->done_round, round);
		wake_parent(shm);
	}
}
