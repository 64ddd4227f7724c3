/* tracer.c - a thread that traces a helper for as long as it lives; see tracer.h */
#include "runtime/guest/helper/tracer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (512 << 10)

struct tracer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked, done;
	int (*fn)(void *ctx); /* NULL: nothing is asked */
	void *ctx;
	int ret;
	bool end;
	struct tracee helper; /* the thread's */
};

static void *serve(void *arg)
{
	struct tracer *t = arg;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		int ret;

		while (!t->fn && !t->end)
			pthread_cond_wait(&t->asked, &t->lock);
		if (!t->fn)
			break;
		pthread_mutex_unlock(&t->lock);
		ret = t->fn(t->ctx);
		pthread_mutex_lock(&t->lock);
		t->ret = ret;
		t->fn = NULL;
		pthread_cond_signal(&t->done);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int tracer_thread(pthread_t *out, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err;

	sigfillset(&all); /* signals are for the caller's own threads */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(out, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

int tracer_new(struct tracer **out)
{
	struct tracer *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	int err;

	*out = NULL;
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->asked, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->done, &attr);
	pthread_condattr_destroy(&attr);
	err = tracer_thread(&t->thread, serve, t);
	if (err) {
		free(t);
		return err;
	}
	*out = t;
	return 0;
}

struct tracee *tracer_helper(struct tracer *t)
{
	return &t->helper;
}

void tracer_ask(struct tracer *t, int (*fn)(void *ctx), void *ctx)
{
	pthread_mutex_lock(&t->lock);
	t->fn = fn;
	t->ctx = ctx;
	pthread_cond_signal(&t->asked);
	pthread_mutex_unlock(&t->lock);
}

/* @limit_ms, @helper_pidfd: as for tracer_do(). */
static int await(struct tracer *t, int limit_ms, int helper_pidfd)
{
	struct timespec until;
	bool late = false;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += limit_ms / 1000;
	until.tv_nsec += limit_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&t->lock);
	while (t->fn) {
		if (!limit_ms || late) {
			pthread_cond_wait(&t->done, &t->lock);
		} else if (pthread_cond_timedwait(&t->done, &t->lock, &until) == ETIMEDOUT && t->fn) {
			late = true;
			syscall(SYS_pidfd_send_signal, helper_pidfd, SIGKILL, NULL, 0);
		}
	}
	ret = late ? -ETIMEDOUT : t->ret;
	pthread_mutex_unlock(&t->lock);
	return ret;
}

int tracer_wait(struct tracer *t)
{
	return await(t, 0, -1);
}

int tracer_do(struct tracer *t, int (*fn)(void *ctx), void *ctx, int limit_ms, int helper_pidfd)
{
	if (pthread_equal(pthread_self(), t->thread))
		return fn(ctx);
	await(t, limit_ms, helper_pidfd);
	tracer_ask(t, fn, ctx);
	return await(t, limit_ms, helper_pidfd);
}

void tracer_free(struct tracer *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->end = true;
	pthread_cond_signal(&t->asked);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->asked);
	pthread_cond_destroy(&t->done);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
