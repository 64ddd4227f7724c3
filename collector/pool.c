/* pool.c - the workers of a scan, and the watch over them; theory of operation in pool.h */
#include "collector/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/poolshm.h"
#include "collector/text.h"
#include "collector/worker.h"
#include "rle/cleanup.h"

#define TICK_MAX_NS UINT64_C(100000000)
#define KILL_PATIENCE_US 200000 /* how long a killed worker is waited for */
#define KEPT_FDS 256
#define MAX_ABANDONED 64
#define MAX_IDLE_DEATHS 8 /* workers that died one after the other without a task in hand or a record delivered */

/* The parent's view of a slot. */
struct hand {
	pid_t worker; /* 0: none */
	int map_fd;
	uint64_t progress; /* as last seen, and in which task */
	uint32_t state;
	uint64_t still_ns; /* for how long they have not changed */
};

struct abandoned {
	pid_t worker, victim;
};

struct pool {
	struct pool_opts opts;
	struct pool_shm *shm;
	struct hand hand[POOL_MAX_JOBS];
	unsigned char *done; /* a bit a task: a record has been delivered */
	size_t ndone;
	unsigned int idle_deaths;
	struct abandoned abandoned[MAX_ABANDONED];
	unsigned int nabandoned;
	unsigned char kept_fds[KEPT_FDS / 8];
	int null_fd; /* what workers have as standard input, output and error */
};

/* An unlinked file in @dir; O_TMPFILE where the file system has it. */
static int open_nameless(const char *dir)
{
	char path[PATH_MAX];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd < 0 ? -errno : fd;
	if (snprintf(path, sizeof(path), "%s/.dscollect.XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

int pool_create(struct pool **out, const struct pool_opts *opts)
{
	struct pool *pool;
	void *shm;

	*out = NULL;
	if (opts->jobs < 1 || opts->jobs > POOL_MAX_JOBS)
		return -EINVAL;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->opts = *opts;
	for (int i = 0; i < POOL_MAX_JOBS; i++)
		pool->hand[i].map_fd = -1;
	shm = mmap(NULL, sizeof(*pool->shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shm == MAP_FAILED) {
		free(pool);
		return -ENOMEM;
	}
	pool->shm = shm;
	pool->shm->room = opts->map_dir ? 1 : POOL_RING; /* there is one file for the map in hand */
	pool->shm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pool->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (pool->shm->wake_fd < 0 || pool->null_fd < 0) {
		int err = -errno;

		pool_destroy(pool);
		return err;
	}
	for (int i = 0; opts->map_dir && i < opts->jobs; i++) {
		int fd = open_nameless(opts->map_dir);

		if (fd < 0) {
			pool_destroy(pool);
			return fd;
		}
		pool->hand[i].map_fd = fd;
	}
	for (int fd = 0; fd < KEPT_FDS; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			pool->kept_fds[fd / 8] |= 1u << fd % 8;
	*out = pool;
	return 0;
}

static void close_range_of_fds(unsigned int first, unsigned int last)
{
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return;
	for (unsigned int fd = first; fd <= last && fd < 1024; fd++) /* kernels before 5.9 */
		close(fd);
}

/*
 * In the child: close all but the descriptors of pool_create(), and let go of the terminal or the pipe: whoever waits for
 * the end of our output must not wait for a worker that the kernel does not let go of.
 */
static void drop_private_fds(const struct pool *pool)
{
	unsigned int gap = 0;

	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		dup2(pool->null_fd, fd);
	for (unsigned int fd = 0; fd < KEPT_FDS; fd++) {
		if (!(pool->kept_fds[fd / 8] & 1u << fd % 8))
			continue;
		if (fd > gap)
			close_range_of_fds(gap, fd - 1);
		gap = fd + 1;
	}
	close_range_of_fds(gap, UINT_MAX);
}

/* @catching_up: take part in the round that is under way. */
static int start_worker(struct pool *pool, int i, bool catching_up)
{
	struct pool_shm *shm = pool->shm;
	struct pool_slot *slot = &shm->slot[i];
	uint32_t round = atomic_load(&shm->round);
	pid_t parent = getpid(), pid;

	atomic_store(&slot->state, 0);
	atomic_store(&slot->worker_waits, 0);
	atomic_store(&slot->done_round, round - catching_up);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		drop_private_fds(pool);
		worker_main(shm, slot, pool->opts.src, pool->hand[i].map_fd, parent, round - catching_up);
	}
	pool->hand[i].worker = pid;
	pool->hand[i].still_ns = 0;
	return 0;
}

/* Return: whether @worker is gone, or was within @patience_us of microseconds. */
static bool reap(pid_t worker, unsigned int patience_us)
{
	for (unsigned int waited_us = 0, step_us = 20;; waited_us += step_us, step_us = step_us < 2000 ? step_us * 2 : 2000) {
		pid_t got = waitpid(worker, NULL, WNOHANG);

		if (got == worker || (got < 0 && errno == ECHILD))
			return true;
		if (waited_us >= patience_us)
			return false;
		usleep(step_us);
	}
}

void pool_destroy(struct pool *pool)
{
	unsigned int patience_us = KILL_PATIENCE_US;

	if (!pool)
		return;
	for (int i = 0; i < pool->opts.jobs; i++)
		if (pool->hand[i].worker)
			kill(pool->hand[i].worker, SIGKILL);
	for (int i = 0; i < pool->opts.jobs; i++) {
		/* One that the kernel does not let go of is waited for once, not once each. */
		if (pool->hand[i].worker && !reap(pool->hand[i].worker, patience_us))
			patience_us = 0;
		if (pool->hand[i].map_fd >= 0)
			close(pool->hand[i].map_fd);
	}
	if (pool->shm->wake_fd >= 0)
		close(pool->shm->wake_fd);
	if (pool->null_fd >= 0)
		close(pool->null_fd);
	munmap(pool->shm, sizeof(*pool->shm));
	free(pool->done);
	free(pool);
}

unsigned int pool_abandoned(const struct pool *pool)
{
	return pool->nabandoned;
}

/* Forgets abandoned workers that have ended after all. */
static void review_abandoned(struct pool *pool)
{
	for (unsigned int i = 0; i < pool->nabandoned;)
		if (reap(pool->abandoned[i].worker, 0))
			pool->abandoned[i] = pool->abandoned[--pool->nabandoned];
		else
			i++;
}

static bool still_hangs(const struct pool *pool, pid_t pid)
{
	for (unsigned int i = 0; i < pool->nabandoned; i++)
		if (pool->abandoned[i].victim == pid)
			return true;
	return false;
}

int pool_begin(struct pool *pool, const pid_t *pids, size_t n)
{
	struct pool_shm *shm = pool->shm;
	int err;

	if (n > POOL_MAX_TASKS)
		return -E2BIG;
	free(pool->done);
	pool->done = calloc(n / 8 + 1, 1);
	if (!pool->done)
		return -ENOMEM;
	pool->ndone = 0;
	pool->idle_deaths = 0;
	review_abandoned(pool);
	for (size_t i = 0; i < n; i++)
		shm->pid[i] = still_hangs(pool, pids[i]) ? -pids[i] : pids[i];
	shm->ntasks = n;
	atomic_store(&shm->next, 0);
	atomic_fetch_add(&shm->round, 1);
	pool_futex_wake(&shm->round);
	/* No more workers than tasks: a fork costs as much as several small processes do. */
	for (int i = 0; i < pool->opts.jobs && (size_t)i < n; i++) {
		if (pool->hand[i].worker && reap(pool->hand[i].worker, 0))
			pool->hand[i].worker = 0; /* killed by somebody while it had nothing to do */
		if (pool->hand[i].worker)
			continue;
		err = start_worker(pool, i, true);
		if (err)
			return err;
	}
	return 0;
}

static int deliver(struct pool *pool, const struct pool_calls *calls, const struct record *r, int map_fd)
{
	if (r->task >= pool->shm->ntasks || pool->done[r->task / 8] & 1u << r->task % 8)
		return 0;
	pool->done[r->task / 8] |= 1u << r->task % 8;
	pool->ndone++;
	pool->idle_deaths = 0;
	return calls->record(calls->ctx, r, map_fd);
}

/* Return: records consumed, or -errno. */
static int drain(struct pool *pool, const struct pool_calls *calls, int i)
{
	struct pool_slot *slot = &pool->shm->slot[i];
	uint32_t tail = atomic_load_explicit(&slot->tail, memory_order_relaxed);
	uint32_t head = atomic_load(&slot->head);
	int n = 0;

	for (; tail != head; n++) {
		int err = deliver(pool, calls, &slot->ring[tail % POOL_RING], pool->hand[i].map_fd);

		if (err)
			return err;
		atomic_store(&slot->tail, ++tail);
		if (atomic_load(&slot->worker_waits) && (head - tail) * 2 <= pool->shm->room)
			pool_futex_wake(&slot->tail);
	}
	return n;
}

/* Delivers a record for a task whose worker left none.  @seen: what it had found out until then, or NULL. */
static int make_up(struct pool *pool, const struct pool_calls *calls, uint32_t task, const struct record *seen,
		   enum record_status status)
{
	static struct record r; /* 2 KiB, kept off the stack */
	pid_t pid = abs(pool->shm->pid[task]);
	uint32_t phase = RECORD_EMPTY;
	struct rle_proc p;

	memset(&r, 0, sizeof(r));
	if (seen && seen->pid == pid && record_has(seen, RECORD_IDENTITY)) {
		r = *seen;
		phase = seen->phase < RECORD_OWNER ? seen->phase : RECORD_OWNER;
	} else if (rle_proc_open(&p, pool->opts.src, pid) == 0) {
		text_clean(r.comm, sizeof(r.comm), p.comm);
		r.start_ticks = p.start_ticks;
		r.vsz_bytes = p.vsz_bytes;
		phase = RECORD_IDENTITY;
		rle_proc_close(&p);
	}
	r.task = task;
	r.pid = pid;
	r.status = status;
	r.scan_ns = status == RECORD_TIMEOUT ? pool->opts.timeout_ns : 0;
	r.map_bytes = 0;
	atomic_store(&r.phase, phase);
	return deliver(pool, calls, &r, -1);
}

/* A worker is out of the way; its task, if it had one, is accounted for and a fresh worker goes on. */
static int replace(struct pool *pool, const struct pool_calls *calls, int i, uint32_t state, enum record_status status)
{
	struct pool_slot *slot = &pool->shm->slot[i];
	uint32_t task = state - 1;
	int err = drain(pool, calls, i);

	pool->hand[i].worker = 0;
	if (err < 0)
		return err;
	if (state == 0)
		pool->idle_deaths++;
	else if (task < pool->shm->ntasks) {
		err = make_up(pool, calls, task, &slot->ring[atomic_load(&slot->head) % POOL_RING], status);
		if (err)
			return err;
	}
	if (atomic_load(&pool->shm->next) >= pool->shm->ntasks)
		return 0;
	if (pool->idle_deaths > MAX_IDLE_DEATHS)
		return -ECHILD;
	return start_worker(pool, i, true);
}

/* Looks after worker @i, @passed_ns after the last look. */
static int watch(struct pool *pool, const struct pool_calls *calls, int i, uint64_t passed_ns)
{
	struct pool_slot *slot = &pool->shm->slot[i];
	struct hand *hand = &pool->hand[i];
	uint32_t state = atomic_load(&slot->state);
	uint64_t progress = atomic_load(&slot->progress);
	pid_t worker = hand->worker;
	/* Without a task it is idle if it has nothing to do or no room; else it should be taking one this very moment. */
	bool idle = state == 0 && (atomic_load(&slot->done_round) == atomic_load(&pool->shm->round) ||
				   atomic_load(&slot->head) - atomic_load(&slot->tail) >= pool->shm->room);

	if (reap(worker, 0))
		return replace(pool, calls, i, atomic_exchange(&slot->state, 0), RECORD_ERROR);
	if (idle || state != hand->state || progress != hand->progress) {
		hand->state = state;
		hand->progress = progress;
		hand->still_ns = 0;
		return 0;
	}
	hand->still_ns += passed_ns;
	if (hand->still_ns < pool->opts.timeout_ns)
		return 0;
	if (!atomic_compare_exchange_strong(&slot->state, &(uint32_t){state}, POOL_CONDEMNED))
		return 0; /* just done */
	kill(worker, SIGKILL);
	if (!reap(worker, KILL_PATIENCE_US) && state && pool->nabandoned < MAX_ABANDONED)
		pool->abandoned[pool->nabandoned++] = (struct abandoned){worker, abs(pool->shm->pid[state - 1])};
	return replace(pool, calls, i, state, RECORD_TIMEOUT);
}

static bool round_over(const struct pool *pool)
{
	uint32_t round = atomic_load(&pool->shm->round);

	for (int i = 0; i < pool->opts.jobs; i++)
		if (pool->hand[i].worker && atomic_load(&pool->shm->slot[i].done_round) != round)
			return false;
	return true;
}

static bool anything_ready(const struct pool *pool)
{
	for (int i = 0; i < pool->opts.jobs; i++)
		if (atomic_load(&pool->shm->slot[i].head) != atomic_load(&pool->shm->slot[i].tail))
			return true;
	return false;
}

static void wait_for_records(struct pool *pool, uint64_t tick_ns)
{
	struct timespec timeout = {.tv_nsec = tick_ns};
	struct pollfd poll_fd = {.fd = pool->shm->wake_fd, .events = POLLIN};
	uint64_t count;

	atomic_store(&pool->shm->parent_waits, 1);
	if (!anything_ready(pool) && !round_over(pool))
		ppoll(&poll_fd, 1, &timeout, NULL);
	atomic_store(&pool->shm->parent_waits, 0);
	(void)!read(pool->shm->wake_fd, &count, sizeof(count));
}

/* Tasks that a worker took with it before it could say so. */
static int make_up_missing(struct pool *pool, const struct pool_calls *calls)
{
	int err = 0;

	for (uint32_t task = 0; !err && pool->ndone < pool->shm->ntasks && task < pool->shm->ntasks; task++)
		if (!(pool->done[task / 8] & 1u << task % 8))
			err = make_up(pool, calls, task, NULL, RECORD_ERROR);
	return err;
}

int pool_collect(struct pool *pool, const struct pool_calls *calls)
{
	uint64_t tick_ns = pool->opts.timeout_ns / 4 < TICK_MAX_NS ? pool->opts.timeout_ns / 4 : TICK_MAX_NS;
	uint64_t last_ns = clock_ns();

	for (;;) {
		bool over = round_over(pool); /* before the rings are looked at: nothing comes after it */
		int consumed = 0;
		uint64_t at_ns;

		for (int i = 0; i < pool->opts.jobs; i++) {
			int n = drain(pool, calls, i);

			if (n < 0)
				return n;
			consumed += n;
		}
		if (pool->opts.stop && *pool->opts.stop)
			return -EINTR;
		if (over)
			return make_up_missing(pool, calls);
		if (!consumed)
			wait_for_records(pool, tick_ns);
		at_ns = clock_ns();
		if (at_ns - last_ns < tick_ns)
			continue;
		for (int i = 0; i < pool->opts.jobs; i++) {
			uint64_t passed_ns = at_ns - last_ns < 2 * tick_ns ? at_ns - last_ns : 2 * tick_ns;
			int err = pool->hand[i].worker ? watch(pool, calls, i, passed_ns) : 0;

			if (err)
				return err;
		}
		if (calls->tick)
			calls->tick(calls->ctx, pool->ndone, pool->shm->ntasks);
		last_ns = at_ns;
	}
}
