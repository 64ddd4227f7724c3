/* cases_threads.c - threads: many, small stacks, cancellation, credentials; see cases.c */
#include "tests/intercept/cases.h"

static void *adder(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		getppid();
		__atomic_fetch_add((int *)arg, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void c_threads(void)
{
	pthread_t t[16];
	int n = 0;

	for (int i = 0; i < 16; i++)
		pthread_create(&t[i], NULL, adder, &n);
	for (int i = 0; i < 16; i++)
		pthread_join(t[i], NULL);
	say("sum %d\n", n);
}

static void *nothing(void *arg)
{
	return arg;
}

static void c_thread_churn(void)
{
	for (int i = 0; i < 1000; i++) {
		pthread_t t[2];

		pthread_create(&t[0], NULL, nothing, NULL);
		pthread_create(&t[1], NULL, nothing, NULL);
		pthread_join(t[0], NULL);
		pthread_join(t[1], NULL);
	}
	say("made\n");
}

static void c_small_stacks(void)
{
	pthread_attr_t attr;
	pthread_t t;
	int n = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, (size_t)sysconf(_SC_THREAD_STACK_MIN));
	say("create %d\n", pthread_create(&t, &attr, adder, &n));
	pthread_join(t, NULL);
	say("sum %d\n", n);
}

static volatile int cleaned;
static void cleanup(void *arg)
{
	(void)arg;
	cleaned++;
	getppid();
}

static void *blocked_reader(void *arg)
{
	char c;

	pthread_cleanup_push(cleanup, NULL);
	if (read(*(int *)arg, &c, 1) != 1)
		getppid();
	pthread_cleanup_pop(0);
	return NULL;
}

static void c_cancel(void)
{
	pthread_t t;
	int p[2];
	void *ret;

	if (pipe(p))
		return;
	for (int i = 0; i < 20; i++) {
		pthread_create(&t, NULL, blocked_reader, &p[0]);
		usleep(2000);
		pthread_cancel(t);
		pthread_join(t, &ret);
		if (ret != PTHREAD_CANCELED)
			say("not cancelled\n");
	}
	say("cleaned %d\n", cleaned);
}

static void *spinner(void *arg)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	pthread_cleanup_push(cleanup, NULL);
	for (;;) {
		syscall(SYS_getppid);
		__atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
	}
	pthread_cleanup_pop(0);
	return NULL;
}

static void c_cancel_async(void)
{
	pthread_t t;
	void *ret;

	for (int i = 0; i < 10; i++) {
		int spinning = 0;

		pthread_create(&t, NULL, spinner, &spinning);
		while (!__atomic_load_n(&spinning, __ATOMIC_ACQUIRE))
			sched_yield();
		usleep(1000);
		pthread_cancel(t);
		pthread_join(t, &ret);
	}
	say("cleaned %d\n", cleaned);
}

static void *killer(void *arg)
{
	usleep(20000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void c_pthread_kill(void)
{
	pthread_t me = pthread_self(), t;
	int rc;

	on(SIGUSR1, count_signal, 0);
	pthread_create(&t, NULL, killer, &me);
	rc = poll(NULL, 0, 5000);
	say("poll %d %s hits %d\n", rc, strerror(errno), (int)cases_hits);
	pthread_join(t, NULL);
}

static void *setter(void *arg)
{
	say("setgid %d\n", setgid(getgid())); /* makes every thread do it, by a signal of the C library */
	return arg;
}

static void c_setxid(void)
{
	pthread_t t;

	pthread_create(&t, NULL, setter, NULL);
	pthread_join(t, NULL);
}

static void *exec_thread(void *arg)
{
	execl("/bin/echo", "echo", "from a thread", (char *)NULL);
	return arg;
}

static void c_exec_from_thread(void)
{
	pthread_t t;
	pid_t pid = fork();

	if (!pid) {
		pthread_create(&t, NULL, exec_thread, NULL);
		pthread_join(t, NULL);
		_exit(1);
	}
	report_child("exec", pid);
}

static void *exec_at_once(void *arg)
{
	execl("/bin/true", "true", (char *)NULL);
	return arg;
}

/* The exec meets its thread's creation, which may not have come to an end in the thread that made it. */
static void c_exec_races(void)
{
	int wrong = 0;

	for (int i = 0; i < 60; i++) {
		pthread_t t;
		pid_t pid = fork();
		int status;

		if (!pid) {
			pthread_create(&t, NULL, exec_at_once, NULL);
			pthread_join(t, NULL);
			_exit(1);
		}
		waitpid(pid, &status, 0);
		wrong += status != 0;
	}
	say("wrong %d\n", wrong);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;

static void *pingpong(void *arg)
{
	const int me = *(int *)arg;

	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&lock);
		while (turn != me)
			pthread_cond_wait(&cond, &lock);
		turn = !me;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void c_cond(void)
{
	pthread_t a, b;
	int zero = 0, one = 1;

	pthread_create(&a, NULL, pingpong, &zero);
	pthread_create(&b, NULL, pingpong, &one);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	say("turn %d\n", turn);
}

static void *raw_thread_signals(void *arg)
{
	sigset_t set;

	(void)arg;
	sigprocmask(SIG_BLOCK, NULL, &set);
	say("new thread: SIGUSR1 blocked %d SIGSYS blocked %d\n", sigismember(&set, SIGUSR1), sigismember(&set, SIGSYS));
	return NULL;
}

static void c_thread_mask(void)
{
	pthread_t t;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_create(&t, NULL, raw_thread_signals, NULL);
	pthread_join(t, NULL);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	say("this thread: SIGUSR1 blocked %d SIGSYS blocked %d\n", sigismember(&set, SIGUSR1), sigismember(&set, SIGSYS));
}

const struct cases_case cases_threads[] = {
	CASE(threads), CASE(thread_churn), CASE(small_stacks), CASE(cancel), CASE(cancel_async), CASE(pthread_kill),
	CASE(setxid), CASE(exec_from_thread), CASE(exec_races), CASE(cond), CASE(thread_mask), {0},
};
