/* collect_pool.c - the workers: one record a process whatever happens to them, none left behind, nothing held on to
 *
 * The processes are those of a recorded tree made here.  A FIFO in place of `maps` hangs whoever opens it.
 *
 * flavours: tsan
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/pool.h"
#include "collector/worker.h"
#include "tests/tap.h"

#define FIRST_PID 100
#define NPROC 400
#define PAGES 4
#define SECOND_NS UINT64_C(1000000000)
#define TIMEOUT_NS (3 * SECOND_NS / 10)

static char dir[] = "/tmp/collect_pool.XXXXXX";
static struct rle_src src;
static volatile sig_atomic_t stop;
static pid_t pids[NPROC];

static void put(int pid, const char *name, const void *content, size_t bytes, off_t at)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%d/%s", dir, pid, name);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	if (fd < 0 || pwrite(fd, content, bytes, at) != (ssize_t)bytes)
		perror(path);
	close(fd);
}

/* Process @pid has 4 pages at 0x10000, in frames pid * 10 and up with a break in the middle: two runs. */
static void make_process(int pid, bool hangs)
{
	uint64_t word[PAGES];
	char path[PATH_MAX], text[512];

	snprintf(path, sizeof(path), "%s/%d", dir, pid);
	mkdir(path, 0700);
	snprintf(text, sizeof(text), "%d (p%d) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 %d 16384 4 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		 pid, pid, pid + 5000);
	put(pid, "stat", text, strlen(text), 0);
	snprintf(text, sizeof(text), "Name:\tp%d\nUid:\t7\t8\t9\t10\n", pid);
	put(pid, "status", text, strlen(text), 0);
	put(pid, "cgroup", "0::/some/group\n", 15, 0);
	for (uint64_t i = 0; i < PAGES; i++)
		word[i] = UINT64_C(1) << 63 | (pid * 10 + i + (i >= 2));
	put(pid, "pagemap", word, sizeof(word), 0x10 * 8);
	if (hangs) {
		snprintf(path, sizeof(path), "%s/%d/maps", dir, pid);
		unlink(path);
		mkfifo(path, 0600);
	} else {
		put(pid, "maps", "00010000-00014000 rw-p 00000000 00:00 0 \n", 41, 0);
	}
}

static void unhang(int pid)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%d/maps", dir, pid);
	unlink(path);
	make_process(pid, false);
}

/* What came out of a round. */
struct outcome {
	int n[RECORD_NSTATUS];
	int times[NPROC];
	int wrong; /* records that are not what make_process() made */
	struct record bad; /* the last that was not RECORD_OK */
	void (*on_tick)(size_t left);
};

static int take(void *ctx, const struct record *r, int map_fd)
{
	struct outcome *o = ctx;

	(void)map_fd;
	o->n[r->status]++;
	if (r->pid < FIRST_PID || r->pid >= FIRST_PID + NPROC)
		return -EINVAL;
	o->times[r->pid - FIRST_PID]++;
	if (r->status != RECORD_OK)
		o->bad = *r;
	else if (r->n.present != PAGES || r->n.runs[RLE_SPLIT_VPN_PFN] != 2 || r->start_ticks != (uint64_t)r->pid + 5000 || r->uid != 7 ||
		 strcmp(r->cgroup, "/some/group") || atoi(r->comm + 1) != r->pid)
		o->wrong++;
	return 0;
}

static void tick(void *ctx, size_t done, size_t total)
{
	struct outcome *o = ctx;

	if (o->on_tick)
		o->on_tick(total - done);
}

static int round_of(struct pool *pool, struct outcome *o, void (*on_tick)(size_t left))
{
	struct pool_calls calls = {.record = take, .tick = tick, .ctx = o};
	int err;

	memset(o, 0, sizeof(*o));
	o->on_tick = on_tick;
	err = pool_begin(pool, pids, NPROC);
	return err ? err : pool_collect(pool, &calls);
}

static bool each_once(const struct outcome *o)
{
	for (int i = 0; i < NPROC; i++)
		if (o->times[i] != 1) {
			printf("# process %d: %d records\n", FIRST_PID + i, o->times[i]);
			return false;
		}
	return true;
}

static struct pool *make_pool(int jobs, uint64_t timeout_ns)
{
	struct pool_opts opts = {.src = &src, .jobs = jobs, .timeout_ns = timeout_ns, .stop = &stop};
	struct pool *pool;

	return pool_create(&pool, &opts) ? NULL : pool;
}

/* Our children now; only the pool's workers are. */
static int children(pid_t *child, int max)
{
	FILE *f = fopen("/proc/thread-self/children", "r");
	int n = 0;

	while (f && n < max && fscanf(f, "%d", &child[n]) == 1)
		n++;
	if (f)
		fclose(f);
	return n;
}

static bool no_children(void)
{
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static void kill_all_workers(void)
{
	pid_t child[64];
	int n = children(child, 64);

	for (int i = 0; i < n; i++)
		kill(child[i], SIGKILL);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void check_plain(int jobs)
{
	struct pool *pool = make_pool(jobs, TIMEOUT_NS);
	struct outcome o;

	for (int round = 1; round <= 3; round++) {
		tap_eq(round_of(pool, &o, NULL), 0, "%d workers, round %d", jobs, round);
		tap_ok(each_once(&o) && o.n[RECORD_OK] == NPROC && o.wrong == 0, "one true record a process");
	}
	pool_destroy(pool);
	tap_ok(no_children(), "no worker is left");
}

static void check_hang(void)
{
	struct pool *pool = make_pool(2, TIMEOUT_NS);
	struct outcome o;
	double start = now_s(), took;

	make_process(FIRST_PID + 50, true);
	tap_eq(round_of(pool, &o, NULL), 0, "with one process that hangs its reader");
	took = now_s() - start;
	tap_ok(each_once(&o) && o.n[RECORD_OK] == NPROC - 1 && o.n[RECORD_TIMEOUT] == 1 && o.wrong == 0, "it costs itself and nobody else");
	tap_ok(o.bad.pid == FIRST_PID + 50 && strcmp(o.bad.comm, "p150") == 0 && o.bad.start_ticks == 5150 && o.bad.uid == 7,
	       "it is recorded as who it is");
	tap_ok(took > TIMEOUT_NS / 1e9 * 0.9 && took < TIMEOUT_NS / 1e9 + 2, "after the timeout and not much later: %.2f s", took);
	tap_eq(pool_abandoned(pool), 0, "its reader could be killed");
	unhang(FIRST_PID + 50);
	tap_eq(round_of(pool, &o, NULL), 0, "the next round");
	tap_ok(each_once(&o) && o.n[RECORD_OK] == NPROC, "is as if nothing had been");
	pool_destroy(pool);
	tap_ok(no_children(), "no worker is left");
}

static void kill_when_one_is_left(size_t left)
{
	if (left == 1)
		kill_all_workers();
}

static void check_killed_worker(void)
{
	struct pool *pool = make_pool(2, 60 * SECOND_NS);
	struct outcome o;

	make_process(FIRST_PID + 60, true);
	tap_eq(round_of(pool, &o, kill_when_one_is_left), 0, "workers killed from outside while one process hangs");
	tap_ok(each_once(&o), "one record a process");
	tap_ok(o.n[RECORD_ERROR] == 1 && o.bad.pid == FIRST_PID + 60 && o.wrong == 0, "the process at hand is an error, the rest is well");
	unhang(FIRST_PID + 60);
	kill_all_workers();
	tap_ok(round_of(pool, &o, NULL) == 0 && each_once(&o) && o.n[RECORD_OK] == NPROC, "killed between rounds, they are replaced");
	pool_destroy(pool);
	tap_ok(no_children(), "no worker is left");
}

/* Kills a worker each time that a record arrives, now this one, now that. */
static int take_and_kill(void *ctx, const struct record *r, int map_fd)
{
	pid_t child[8];
	int n;

	if (r->task % 37 == 5) {
		n = children(child, 8);
		if (n)
			kill(child[r->task % n], SIGKILL);
	}
	return take(ctx, r, map_fd);
}

static void check_massacre(void)
{
	struct pool *pool = make_pool(3, TIMEOUT_NS);
	struct outcome o = {0};
	struct pool_calls calls = {.record = take_and_kill, .ctx = &o};

	tap_ok(pool_begin(pool, pids, NPROC) == 0 && pool_collect(pool, &calls) == 0, "a worker killed every 37 processes");
	tap_ok(each_once(&o) && o.wrong == 0 && o.n[RECORD_OK] + o.n[RECORD_ERROR] == NPROC, "still one record a process, and none is wrong");
	pool_destroy(pool);
	tap_ok(no_children(), "no worker is left");
}

static void check_stopped_worker(void)
{
	struct pool *pool = make_pool(1, TIMEOUT_NS);
	struct outcome o;
	pid_t child[8];

	tap_eq(round_of(pool, &o, NULL), 0, "a worker");
	if (children(child, 8) == 1)
		kill(child[0], SIGSTOP);
	tap_ok(round_of(pool, &o, NULL) == 0 && each_once(&o) && o.n[RECORD_OK] == NPROC, "that is stopped while it has no task is replaced");
	pool_destroy(pool);
	tap_ok(no_children(), "no worker is left");
}

static void set_stop(size_t left)
{
	(void)left;
	stop = 1;
}

static void check_stop(void)
{
	struct pool *pool = make_pool(2, TIMEOUT_NS);
	struct outcome o;

	make_process(FIRST_PID + 70, true);
	tap_eq(round_of(pool, &o, set_stop), -EINTR, "told to stop, it stops");
	stop = 0;
	pool_destroy(pool);
	tap_ok(no_children(), "and no worker is left, nor the one that hangs");
	unhang(FIRST_PID + 70);
}

static void check_error_of_caller(void)
{
	struct pool *pool = make_pool(2, TIMEOUT_NS);
	struct outcome o = {0};
	struct pool_calls calls = {.record = take, .ctx = &o};
	pid_t stranger[] = {FIRST_PID, FIRST_PID + NPROC};

	pool_begin(pool, stranger, 2);
	tap_eq(pool_collect(pool, &calls), -EINVAL, "an error of the caller ends the round and is handed back");
	pool_destroy(pool);
}

static void check_descriptors(void)
{
	struct pool *pool = make_pool(1, TIMEOUT_NS);
	int secret = open("/etc/passwd", O_RDONLY), low;
	char path[64], target[256];
	struct outcome o;
	pid_t child[8];
	bool found = false;
	ssize_t n;

	/* A second one far above those that the workers need. */
	low = dup2(secret, 200);
	round_of(pool, &o, NULL);
	tap_eq(children(child, 8), 1, "a worker");
	for (int fd = 0; fd < 1024; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", child[0], fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		found |= strstr(target, "passwd") != NULL;
	}
	tap_ok(!found, "does not hold what was opened after the pool was made");
	tap_ok(o.n[RECORD_OK] == NPROC, "and can still do its work");
	close(low);
	close(secret);
	pool_destroy(pool);
}

/* The workers of a parent that is killed end with it. */
static void check_orphans(void)
{
	int fds[2];
	pid_t parent, worker = 0;
	bool gone = false;

	if (pipe(fds))
		return;
	make_process(FIRST_PID, true);
	parent = fork();
	if (parent == 0) {
		struct pool *pool = make_pool(1, TIMEOUT_NS);
		pid_t child[8];

		pool_begin(pool, pids, NPROC);
		children(child, 8);
		if (write(fds[1], child, sizeof(pid_t)) > 0)
			pause();
		_exit(1);
	}
	if (read(fds[0], &worker, sizeof(worker)) != sizeof(worker))
		worker = 0;
	usleep(100000);
	tap_ok(worker > 0 && kill(worker, 0) == 0, "a worker that hangs");
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	for (int i = 0; i < 100 && !gone; i++) {
		char path[64], state[512] = "";
		FILE *f;

		usleep(20000);
		snprintf(path, sizeof(path), "/proc/%d/stat", worker);
		f = fopen(path, "r");
		if (f) {
			state[fread(state, 1, sizeof(state) - 1, f)] = '\0';
			fclose(f);
		}
		gone = !f || strstr(state, ") Z "); /* whoever adopts it may be slow to reap it */
	}
	tap_ok(gone, "ends when its parent is killed");
	unhang(FIRST_PID);
}

/*
 * An exec while maps is read leaves an empty file.  Here a FIFO stands for maps: the first @empty readers find it
 * empty, the next one finds a mapping.
 */
static pid_t feed_maps(int pid, int empty)
{
	static const char mapping[] = "00010000-00014000 rw-p 00000000 00:00 0 \n";
	char path[PATH_MAX];
	pid_t feeder = fork();

	if (feeder)
		return feeder;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/%d/maps", dir, pid);
	for (int i = 0; i <= empty; i++) {
		int fd = open(path, O_WRONLY);

		if (i == empty && write(fd, mapping, sizeof(mapping) - 1) < 0)
			_exit(1);
		close(fd);
		usleep(50000); /* until that reader has gone, so that the next one is another */
	}
	_exit(0);
}

static void check_exec(const struct worker_job *job)
{
	static struct record r;
	pid_t feeder;

	make_process(FIRST_PID, true);
	feeder = feed_maps(FIRST_PID, 1);
	worker_visit(job, FIRST_PID, false, &r);
	kill(feeder, SIGKILL);
	waitpid(feeder, NULL, 0);
	tap_ok(r.status == RECORD_OK && r.n.present == PAGES && r.err == 0, "a process that execs while it is read is read once more");
	feeder = feed_maps(FIRST_PID, 2);
	worker_visit(job, FIRST_PID, false, &r);
	tap_ok(r.status == RECORD_VANISHED && record_has(&r, RECORD_OWNER) && r.start_ticks == 5100, "but not for ever");
	kill(feeder, SIGKILL);
	waitpid(feeder, NULL, 0);
	unhang(FIRST_PID);
}

static void check_visit(void)
{
	static struct rle_stats stats;
	atomic_uint_least64_t progress = 0;
	struct worker_job job = {.src = &src, .progress = &progress, .map_fd = -1, .stats = &stats};
	static struct record r;

	check_exec(&job);
	worker_visit(&job, FIRST_PID, false, &r);
	tap_ok(r.status == RECORD_OK && record_has(&r, RECORD_WHOLE) && r.n.present == PAGES && r.log2_runs[1] == 2 && r.cover[4] == 2 &&
		       r.cover[0] == 1 && r.scan_ns > 0,
	       "a visit fills the record");
	tap_ok(progress > 0, "and shows progress");
	worker_visit(&job, FIRST_PID, true, &r);
	tap_ok(r.status == RECORD_TIMEOUT && strcmp(r.comm, "p100") == 0, "one to be left alone is only identified");
	worker_visit(&job, 99999, false, &r);
	tap_ok(r.status == RECORD_VANISHED && !record_has(&r, RECORD_IDENTITY) && r.pid == 99999, "one that is not there has vanished");
}

int main(void)
{
	struct sigaction child = {.sa_handler = SIG_DFL};
	char command[PATH_MAX];
	const char *why;

	sigaction(SIGCHLD, &child, NULL);
	if (!mkdtemp(dir))
		return 1;
	for (int i = 0; i < NPROC; i++) {
		pids[i] = FIRST_PID + i;
		make_process(pids[i], false);
	}
	if (rle_src_open(&src, dir, RLE_JOIN_NONE, &why)) {
		tap_ok(false, "the recorded tree opens: %s", why);
		return tap_done();
	}
	check_plain(1);
	check_plain(3);
	check_hang();
	check_killed_worker();
	check_massacre();
	check_stopped_worker();
	check_stop();
	check_error_of_caller();
	check_descriptors();
	check_orphans();
	check_visit();
	rle_src_close(&src);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command) ? 1 : tap_done();
}
