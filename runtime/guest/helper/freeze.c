/* freeze.c - all threads of a process stopped for a moment; theory of operation in freeze.h */
#include "runtime/guest/helper/freeze.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "runtime/guest/monitor/lend.h"
#include "runtime/guest/helper/tracer.h"

enum state { STARTING, FROZEN, FAILED, ENDED };

/* Made by the caller; the tracees are the thread's, everything else is under the lock. */
struct freeze {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum state state;
	bool release;
	unsigned int kept; /* freeze_keep() without freeze_unkeep() */
	int64_t until_ms;
	pid_t pid, helper;
	struct sharers *sharers; /* the remote's, until freeze_start() is over */
	struct inject_err why;
	struct tracee *tracees;
	size_t count, room;
	struct lend lend;
};

static bool known(const struct freeze *f, pid_t tid)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->tracees[i].tid == tid)
			return true;
	return false;
}

static int add(struct freeze *f, pid_t tid)
{
	struct tracee *t;
	int err;

	if (f->count == f->room) {
		size_t room = f->room ? 2 * f->room : 64;

		t = realloc(f->tracees, room * sizeof(*t));
		if (!t)
			return tracee_refuse(&f->why, -ENOMEM, 0, "no memory");
		f->tracees = t;
		f->room = room;
	}
	t = &f->tracees[f->count];
	err = tracee_seize(t, f->pid, tid, 0);
	if (err == -ESRCH || (err && tracee_mood(f->pid, tid) == TRACEE_DEAD))
		return 0;
	if (err)
		return tracee_refuse(&f->why, err, tid, "no right to trace it, or somebody else does");
	tracee_interrupt(t);
	f->count++;
	return 1;
}

/* Calls @fn for every thread there is.  Return: the sum of what it returned, or its first error. */
static int each_thread(struct freeze *f, int (*fn)(struct freeze *f, pid_t tid))
{
	char path[64];
	struct dirent *entry;
	int sum = 0, ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", f->pid);
	dir = opendir(path);
	if (!dir)
		return tracee_refuse(&f->why, -ESRCH, 0, "it has exited");
	while (ret >= 0 && (entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);

		ret = tid > 0 && !known(f, tid) ? fn(f, tid) : 0;
		sum += ret;
	}
	closedir(dir);
	return ret < 0 ? ret : sum;
}

static int must_wait(struct freeze *f, pid_t tid)
{
	enum tracee_mood mood = tracee_mood(f->pid, tid);

	if (mood != TRACEE_BUSY && mood != TRACEE_ASLEEP)
		return 0;
	tracee_refuse(&f->why, -EAGAIN, tid, mood == TRACEE_BUSY ? "a thread is blocked in a write that would be cut short; try again" :
								   "a thread is in an uninterruptible sleep; try again");
	return 1;
}

/* Return: 0; -EAGAIN a thread did not stop; -errno. */
static int stop_known(struct freeze *f, int64_t deadline_ms)
{
	for (size_t i = 0; i < f->count;) {
		struct tracee *t = &f->tracees[i];
		int err = t->stopped ? 0 : tracee_wait(t, deadline_ms);

		if (err == -ETIMEDOUT)
			return tracee_refuse(&f->why, -EAGAIN, t->tid, "a thread does not stop; try again");
		if (err == -ESRCH)
			*t = f->tracees[--f->count];
		else
			i++;
	}
	return 0;
}

/* Only a thread that is not stopped makes new ones: when none is found any more, there are none.  Return: 0; -errno. */
static int stop_each(struct freeze *f, int64_t deadline_ms)
{
	int err;

	while ((err = each_thread(f, must_wait)) > 0) {
		if (tracee_now_ms() >= deadline_ms)
			return -EAGAIN;
		usleep(2000);
	}
	while (!err) {
		int added = each_thread(f, add);

		if (added == 0)
			break;
		err = added < 0 ? added : stop_known(f, deadline_ms);
	}
	return err;
}

static int stop_all(struct freeze *f)
{
	const int64_t deadline_ms = tracee_now_ms() + INJECT_STOP_MS;
	int err = stop_each(f, deadline_ms);

	if (err == -EPERM && !f->count) { /* its monitor has it, perhaps; most have none, so that is not asked first */
		err = lend_take(f->pid, deadline_ms, &f->lend, &f->why);
		err = err ? err : stop_each(f, deadline_ms);
	}
	if (err)
		return err;
	if (f->count == 0)
		return tracee_refuse(&f->why, -ESRCH, 0, "it has exited");
	for (size_t i = 0; i < f->count; i++) {
		err = tracee_patch(&f->tracees[i]);
		if (err)
			return tracee_refuse(&f->why, err, f->tracees[i].tid, "a thread runs 32-bit code, or was killed");
	}
	if (sharers_find(f->sharers, f->pid, f->helper))
		return tracee_refuse(&f->why, -EBUSY, 0, "another process shares its memory, such as a child in vfork");
	return 0;
}

static void let_go(struct freeze *f)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->tracees[i].stopped)
			tracee_detach(&f->tracees[i]);
	f->count = 0;
	lend_give(&f->lend);
}

static void *keep(void *arg)
{
	struct freeze *f = arg;
	int err = stop_all(f);
	struct timespec until;

	if (err) /* the rest is let go of by the end of this thread */
		let_go(f);
	pthread_mutex_lock(&f->lock);
	f->state = err ? FAILED : FROZEN;
	f->until_ms += tracee_now_ms();
	until = (struct timespec){.tv_sec = f->until_ms / 1000, .tv_nsec = f->until_ms % 1000 * 1000000};
	pthread_cond_signal(&f->changed);
	while (!err && !f->release)
		err = pthread_cond_timedwait(&f->changed, &f->lock, &until);
	while (f->kept)
		pthread_cond_wait(&f->changed, &f->lock);
	if (f->state == FROZEN)
		f->state = ENDED;
	let_go(f);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void destroy(struct freeze *f)
{
	pthread_join(f->thread, NULL);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f->tracees);
	free(f);
}

int freeze_start(struct remote *r, unsigned int limit_ms, struct freeze **out, struct inject_err *why)
{
	pthread_condattr_t attr;
	struct freeze *f = calloc(1, sizeof(*f));
	int err;

	*out = NULL;
	if (!f || limit_ms == 0 || limit_ms > 60000) {
		free(f);
		return tracee_refuse(why, f ? -EINVAL : -ENOMEM, 0, f ? "no such limit" : "no memory");
	}
	f->pid = r->pid;
	f->helper = r->helper;
	f->sharers = &r->sharers;
	f->lend = LEND_NONE;
	f->until_ms = limit_ms;
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->changed, &attr);
	pthread_condattr_destroy(&attr);
	err = tracer_thread(&f->thread, keep, f);
	if (err) {
		pthread_cond_destroy(&f->changed);
		pthread_mutex_destroy(&f->lock);
		free(f);
		return tracee_refuse(why, err, 0, "no thread for it could be started");
	}
	pthread_mutex_lock(&f->lock);
	while (f->state == STARTING)
		pthread_cond_wait(&f->changed, &f->lock);
	err = f->state == FAILED ? f->why.err : 0;
	pthread_mutex_unlock(&f->lock);
	*why = f->why;
	if (err) {
		destroy(f);
		return err;
	}
	*why = (struct inject_err){0};
	*out = f;
	return 0;
}

bool freeze_holds(const struct freeze *f, unsigned int need_ms)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&f->lock;
	bool holds;

	pthread_mutex_lock(lock);
	holds = f->state == FROZEN && (f->kept || tracee_now_ms() + need_ms <= f->until_ms);
	pthread_mutex_unlock(lock);
	return holds;
}

bool freeze_keep(struct freeze *f, unsigned int need_ms)
{
	bool holds;

	pthread_mutex_lock(&f->lock);
	holds = f->state == FROZEN && (f->kept || tracee_now_ms() + need_ms <= f->until_ms);
	f->kept += holds;
	pthread_mutex_unlock(&f->lock);
	return holds;
}

void freeze_unkeep(struct freeze *f)
{
	pthread_mutex_lock(&f->lock);
	f->kept--;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

int freeze_end(struct freeze *f)
{
	bool early;

	if (!f)
		return 0;
	pthread_mutex_lock(&f->lock);
	f->release = true;
	early = f->state == FROZEN;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	destroy(f);
	return early ? 0 : -ETIME;
}
