/* cases.h - what the cases share; see cases.c */
#ifndef INTERCEPT_CASES_H
#define INTERCEPT_CASES_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

extern char **environ;
extern volatile sig_atomic_t cases_hits, cases_signal, cases_code;
extern sigjmp_buf cases_jump;
extern void *volatile cases_bad; /* an address where nothing is */

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
/* What a call returned, and the errno that it left. */
#define tell(what, call)                                             \
	do {                                                         \
		errno = 0;                                           \
		const long told = (long)(call);                      \
		say("%s %ld %s\n", (what), told, strerror(errno)); \
	} while (0)

/** struct cases_case - One of them. */
struct cases_case {
	const char *name;
	void (*run)(void);
};
#define CASE(name) {#name, c_##name}

extern const struct cases_case cases_signals[], cases_threads[], cases_processes[], cases_machine[], cases_odd[];

/** count_signal(), count_info(), leave() - Handlers: count and keep the number, and the code; siglongjmp(cases_jump). */
void count_signal(int sig);
void count_info(int sig, siginfo_t *info, void *context);
void leave(int sig);

/** on(), on_info() - Sets a handler with these flags. */
void on(int sig, void (*handler)(int), int flags);
void on_info(int sig, void (*handler)(int, siginfo_t *, void *), int flags);

/** timer_ms() - SIGALRM after @ms, then every @every_ms (0: once). */
void timer_ms(int ms, int every_ms);

/** report_child() - Waits for it and prints how it ended. */
void report_child(const char *what, pid_t pid);

#endif
