/* snapshot.c - one pass over all processes; theory of operation in snapshot.h */
#include "collector/snapshot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/json.h"
#include "rle/cleanup.h"

int snapshot_start(struct snapshot_env *env, struct snapshot *s)
{
	cleanup_free pid_t *all = NULL;
	const pid_t *pids = env->only;
	ssize_t n = env->nonly;
	int err;

	memset(s, 0, sizeof(*s));
	s->start_ns = clock_ns();
	rle_src_snapshot(env->src);
	if (!env->only) {
		n = rle_proc_list(env->src, &all);
		pids = all;
	}
	if (n < 0) {
		s->why = "cannot list the processes";
		return n;
	}
	s->totals.n_seen = n;
	err = pool_begin(env->pool, pids, n);
	if (err)
		s->why = "cannot start the processes that read page tables";
	return err;
}

/* What pool_collect() hands to take_record(). */
struct sink {
	struct snapshot_env *env;
	struct snapshot *s;
	struct db_known known;
	bool store_failed;
};

static bool deserves_complaint(const struct snapshot_env *env, const struct record *r)
{
	return r->status == RECORD_TIMEOUT || r->status == RECORD_ERROR || (r->status == RECORD_VANISHED && env->only);
}

static int take_record(void *ctx, const struct record *r, int map_fd)
{
	struct sink *sink = ctx;
	struct snapshot *s = sink->s;

	/* The only thing that a worker writes is the map that was asked for. */
	if (r->status == RECORD_ERROR && (r->err == -ENOSPC || r->err == -EDQUOT)) {
		s->why = "no space left for the runs (--keep-runs) beside the database; free some, or do without";
		return r->err;
	}
	s->totals.n[r->status]++;
	if (r->status == RECORD_OK) {
		uint64_t present = r->n.present, runs = r->n.runs[RLE_SPLIT_VPN_PFN];

		s->pages += present;
		s->runs += runs;
		s->exclusive += r->n.exclusive;
		if (present)
			s->ratio[(runs * SNAPSHOT_RATIO_STEPS + present / 2) / present]++;
	}
	if (sink->env->complain && deserves_complaint(sink->env, r))
		sink->env->complain(r);
	if (r->status < RECORD_NSTORED && sink->env->json && record_has(r, RECORD_IDENTITY)) {
		json_sample(sink->env->json, !s->any, r, &sink->known);
		s->any = true;
	}
	if (sink->env->db) {
		int err = db_snapshot_add(sink->env->db, r, &sink->known, map_fd);

		sink->store_failed = err;
		return err;
	}
	return 0;
}

static void report_progress(void *ctx, size_t done, size_t total)
{
	struct sink *sink = ctx;

	if (sink->env->progress)
		sink->env->progress(done, total);
}

static void describe(const struct snapshot_env *env, struct snapshot *s, int err)
{
	if (err == -ECHILD)
		s->why = "the processes that read page tables end at once; the system log may say why";
	else if (env->db && !s->why)
		s->why = db_why(env->db);
	else if (!s->why)
		s->why = "the scan failed";
}

/* Return: 0 or -errno; s->why is set where it was not the database. */
static int collect(struct snapshot_env *env, struct snapshot *s)
{
	struct sink sink = {.env = env, .s = s};
	struct pool_calls calls = {.record = take_record, .tick = report_progress, .ctx = &sink};
	const struct rle_frames *frames = &env->src->frames;
	int err = 0;

	sink.known.join = env->src->join != RLE_JOIN_NONE;
	sink.known.zero = sink.known.join || frames->zero.npages;
	sink.known.device = sink.known.join || frames->nram;
	machine_read(&s->machine, env->root);
	if (env->db)
		err = db_snapshot_begin(env->db, &env->id, &s->machine, env->src->join);
	if (err)
		return err;
	if (env->json)
		json_begin(env->json, &env->id, &s->machine, env->src->join);
	err = pool_collect(env->pool, &calls);
	if (err && err != -EINTR && !sink.store_failed && !s->why)
		s->why = "the processes that read page tables cannot be started or watched";
	if (err)
		return err;
	s->totals.duration_ns = clock_ns() - s->start_ns;
	s->totals.distinct_pages = env->distinct ? (int64_t)(rle_src_distinct(env->src) + s->exclusive) : -1;
	return env->db ? db_snapshot_commit(env->db, &s->totals) : 0;
}

int snapshot_finish(struct snapshot_env *env, struct snapshot *s)
{
	int err = collect(env, s);

	if (err && env->db)
		db_snapshot_abort(env->db);
	if (err && err != -EINTR)
		describe(env, s, err);
	if (!err && env->json && json_end(env->json, &s->totals)) {
		s->why = "cannot write to standard output";
		return -EIO;
	}
	return err;
}

double snapshot_median_ratio(const struct snapshot *s)
{
	uint64_t n = 0, below = 0;

	for (int i = 0; i <= SNAPSHOT_RATIO_STEPS; i++)
		n += s->ratio[i];
	for (int i = 0; i <= SNAPSHOT_RATIO_STEPS; i++) {
		below += s->ratio[i];
		if (n && below * 2 >= n)
			return (double)i / SNAPSHOT_RATIO_STEPS;
	}
	return NAN;
}

bool snapshot_partial(const struct snapshot *s)
{
	const uint64_t *n = s->totals.n;

	return n[RECORD_DENIED] || n[RECORD_HIDDEN] || n[RECORD_TIMEOUT] || n[RECORD_ERROR];
}
