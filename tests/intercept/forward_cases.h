/* forward_cases.h - what the cases of forwarding share */
#ifndef TESTS_INTERCEPT_FORWARD_CASES_H
#define TESTS_INTERCEPT_FORWARD_CASES_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct forward_case {
	const char *name;
	void (*run)(void);
};
extern const struct forward_case forward_cases_wait[], forward_cases_breadth[], forward_cases_carry[], forward_cases_epoll[]; /* a name that is NULL ends them */
extern const struct forward_case forward_cases_parts[]; /* programs that a case executes: by name only */
extern const struct forward_case forward_cases_epoll_heirs[]; /* by name only: takes descriptors of the host that are inherited */

extern const char *dir; /* of the host when calls are forwarded */
extern volatile sig_atomic_t hits;
extern int late_fd;
extern void *volatile bad_pointer;
#define bad ((void *)bad_pointer)

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define is(call)                                                                                                                 \
	do {                                                                                                                     \
		errno = 0;                                                                                                       \
		long got_ = (long)(call);                                                                                        \
		say("%s = %ld %s\n", #call, got_, got_ < 0 ? strerror(errno) : "");                                              \
	} while (0)

const char *in(const char *name);		     /* its path in the directory */
void hit(int n);				     /* a handler that counts */
void on(int n, void (*handler)(int), int flags);
void alarm_ms(int ms, int every_ms);
void pause_ms(int ms);				     /* whatever signals come */
int file(const char *name, const char *text);	     /* open for reading and writing, at its beginning */
void fifo(int ends[2]);				     /* a pipe of the directory's side: both ends are forwarded */
void *write_late(void *ms);			     /* a thread: a byte to late_fd */
void *blocked_read(void *fd);			     /* a thread: reads a byte */

#endif
