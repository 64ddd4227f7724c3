/* dscollect - records the page-table contiguity of every process
 *
 * Order matters in here: what workers may have (the source, files for maps) is opened first, then pool_create() takes
 * note of it, then comes what they must not have (the lock, the database).  The first snapshot's scan begins before the
 * database is opened, which takes about as long as reading a hundred small processes.
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/db.h"
#include "collector/lock.h"
#include "collector/options.h"
#include "collector/pool.h"
#include "collector/report.h"
#include "collector/snapshot.h"

#define SECOND_NS UINT64_C(1000000000)
#define DAY_S 86400.0

static volatile sig_atomic_t stop_signal;

static void on_stop(int sig)
{
	stop_signal = sig;
}

static void on_child(int sig)
{
	(void)sig; /* wakes the parent from its wait; pool.c reaps */
}

static void catch_signals(void)
{
	struct sigaction stop = {.sa_handler = on_stop}, child = {.sa_handler = on_child, .sa_flags = SA_RESTART | SA_NOCLDSTOP};

	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGHUP, &stop, NULL);
	sigaction(SIGCHLD, &child, NULL);
}

/* Sleeps until @at_ns of CLOCK_MONOTONIC or a signal to stop, which cannot get lost between the look and the sleep. */
static void sleep_until(uint64_t at_ns)
{
	sigset_t stops, before;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	sigprocmask(SIG_BLOCK, &stops, &before);
	for (uint64_t now = clock_ns(); now < at_ns && !stop_signal; now = clock_ns()) {
		struct timespec left = {.tv_sec = (at_ns - now) / SECOND_NS, .tv_nsec = (at_ns - now) % SECOND_NS};

		ppoll(NULL, 0, &left, &before);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* All that a run has open. */
struct run {
	struct options o;
	struct rle_src src;
	bool src_open;
	int lock_fd;
	struct snapshot_env env;
	struct snapshot snapshot;
};

static void close_run(struct run *run)
{
	pool_destroy(run->env.pool);
	db_close(run->env.db);
	if (run->lock_fd >= 0)
		close(run->lock_fd);
	if (run->src_open)
		rle_src_close(&run->src);
	options_free(&run->o);
}

static int lock_database(struct run *run)
{
	const char *path = run->o.config.db;
	struct lock_holder holder;
	char since[32] = "";
	struct tm tm;
	time_t at;
	int err = db_make_folder(path);

	if (err) {
		report_error("%s: cannot make its folder: %s; make it yourself, or choose another place with --db", path, strerror(-err));
		return EXIT_SYSTEM;
	}
	err = lock_take(path, &run->lock_fd, &holder);
	if (err == -EBUSY) {
		at = holder.since;
		if (holder.pid && localtime_r(&at, &tm))
			strftime(since, sizeof(since), " since %F %T", &tm);
		if (holder.pid)
			report_error("%s: process %d has the lock%s; wait for it, or choose another file with --db", path, holder.pid, since);
		else
			report_error("%s: another dscollect has the lock; wait for it, or choose another file with --db", path);
		return EXIT_BUSY;
	}
	if (err) {
		report_error("%s.lock: cannot lock the database: %s; its folder must be writable, or choose another place with --db", path,
			     strerror(-err));
		return EXIT_SYSTEM;
	}
	return -1;
}

static int open_database(struct run *run)
{
	if (db_open(&run->env.db, run->o.config.db) == 0)
		return -1;
	report_error("%s", db_why(run->env.db));
	return EXIT_SYSTEM;
}

static bool holds_processes(struct rle_src *src)
{
	pid_t *pids = NULL;
	const ssize_t n = rle_proc_list(src, &pids);

	free(pids);
	return n != 0; /* an error is met again, and told, by who scans */
}

static int open_source(struct run *run)
{
	const char *why = "";
	int err = rle_src_open(&run->src, run->o.root, run->o.config.join, &why);

	if (err == -EPERM || err == -EACCES) {
		report_error("%s.  Nothing was recorded.  Run it as root on the host itself (not in a container or user namespace), or with "
			     "CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
			     why);
		return EXIT_NO_PFN;
	}
	if (err) {
		report_error("%s: %s: %s", run->o.root ? run->o.root : "/proc", *why ? why : "cannot read it", strerror(-err));
		return EXIT_SYSTEM;
	}
	run->src_open = true;
	if (run->o.root && !holds_processes(&run->src)) {
		report_error("%s: there is no process in it; a recorded tree is laid out like /proc", run->o.root);
		return EXIT_SYSTEM;
	}
	run->env.distinct = rle_src_count_distinct(&run->src) == 0;
	if (!run->o.root && machine_hides_processes())
		report_error("/proc is mounted with hidepid= and CAP_SYS_PTRACE is missing: other users' processes are not seen");
	return -1;
}

/* The folder of the database, which is where the runs are held until they are stored. */
static void folder_of(const char *path, char folder[static PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(folder, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (slash == path)
		strcpy(folder, "/");
}

static int open_pool(struct run *run)
{
	const struct config *c = &run->o.config;
	char folder[PATH_MAX];
	struct pool_opts opts = {.src = &run->src, .jobs = c->jobs, .timeout_ns = c->timeout_ns, .stop = &stop_signal};
	int err;

	folder_of(c->db, folder);
	if (c->keep_runs && run->o.store)
		opts.map_dir = folder;
	err = pool_create(&run->env.pool, &opts);
	if (!err)
		return -1;
	report_error("cannot prepare the scan%s%s: %s", opts.map_dir ? " with files in " : "", opts.map_dir ? folder : "", strerror(-err));
	return EXIT_SYSTEM;
}

static int prune(struct run *run, bool always_say)
{
	unsigned int removed;
	double before = time(NULL) - run->o.config.history_days * DAY_S;

	if (db_prune(run->env.db, before, &removed)) {
		report_error("%s", db_why(run->env.db));
		return EXIT_SYSTEM;
	}
	if ((removed || always_say) && !run->o.quiet && !run->o.json)
		printf("removed %u snapshots older than %u days\n", removed, run->o.config.history_days);
	return -1;
}

static int prune_only(struct run *run)
{
	int code;

	if (access(run->o.config.db, F_OK)) { /* what is not there is not made in order to be emptied */
		report_error("%s: %s; nothing was removed: name a database with --db", run->o.config.db, strerror(errno));
		return EXIT_SYSTEM;
	}
	code = lock_database(run);
	if (code < 0)
		code = open_database(run);
	if (code >= 0)
		return code;
	if (!run->o.config.history_days) {
		if (!run->o.quiet)
			puts("HISTORY is 0: snapshots are kept for ever, nothing was removed");
		return EXIT_DONE;
	}
	code = prune(run, true);
	return code < 0 ? EXIT_DONE : code;
}

/* Return: -1 taken, or the code to exit with; EXIT_DONE when told to stop. */
static int take_snapshot(struct run *run)
{
	struct snapshot *s = &run->snapshot;
	int code, err = snapshot_start(&run->env, s);

	if (!err && run->o.store && !run->env.db) {
		code = open_database(run);
		if (code >= 0)
			return code;
	}
	if (!err)
		err = snapshot_finish(&run->env, s);
	report_clear();
	if (err == -EINTR)
		return EXIT_DONE;
	if (err) {
		report_error("%s", s->why);
		return EXIT_SYSTEM;
	}
	if (!run->o.quiet && !run->o.json)
		report_snapshot(s);
	/* A recording may be old: replaying one is no reason to remove it again. */
	if (run->env.db && run->o.config.history_days && !run->o.root)
		return prune(run, false);
	return -1;
}

/* Snapshots at start + n * interval; times that have gone by while a snapshot took too long are left out. */
static int take_snapshots(struct run *run)
{
	uint64_t interval = run->o.interval_ns, start = clock_ns(), turn = 0;
	bool partial = false;

	for (unsigned long taken = 0;;) {
		int code = take_snapshot(run);
		uint64_t next;

		if (code >= 0)
			return code;
		partial |= snapshot_partial(&run->snapshot) || (run->o.npids && run->snapshot.totals.n[RECORD_VANISHED]);
		if (++taken == run->o.count)
			break;
		next = (clock_ns() - start) / interval + 1;
		if (next > turn + 1)
			report_error("the snapshot took longer than the interval; left out %llu", (unsigned long long)(next - turn - 1));
		turn = next;
		sleep_until(start + turn * interval);
		if (stop_signal)
			break;
	}
	return partial ? EXIT_PARTIAL : EXIT_DONE;
}

static int run_all(struct run *run)
{
	int code = open_source(run);

	if (code < 0)
		code = open_pool(run);
	if (code < 0 && run->o.store)
		code = lock_database(run);
	if (code >= 0)
		return code;
	run->env.src = &run->src;
	run->env.root = run->o.root;
	run->env.only = run->o.pids;
	run->env.nonly = run->o.npids;
	run->env.json = run->o.json ? stdout : NULL;
	run->env.complain = report_process;
	run->env.progress = run->o.quiet ? NULL : report_progress;
	machine_identify(&run->env.id, run->o.root);
	return take_snapshots(run);
}

int main(int argc, char **argv)
{
	static struct run run = {.lock_fd = -1};
	int code;

	umask(027);
	/* What a careless caller left open is not ours to keep, least of all in a worker that may outlive us. */
	syscall(SYS_close_range, STDERR_FILENO + 1, UINT_MAX, 0);
	catch_signals();
	code = options_read(&run.o, argc, argv);
	if (code < 0)
		code = run.o.prune ? prune_only(&run) : run_all(&run);
	close_run(&run);
	/* Asked to stop before all was done: end by that signal, so that the caller can tell; an endless run was just ended. */
	if (stop_signal && run.o.count) {
		signal(stop_signal, SIG_DFL);
		raise(stop_signal);
	}
	return code;
}
