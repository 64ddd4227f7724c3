/* monitor_impl.h - what monitor.c and monitor_lend.c share */
#ifndef GUEST_MONITOR_IMPL_H
#define GUEST_MONITOR_IMPL_H

#include <signal.h>

#include "runtime/guest/monitor/lend.h"
#include "runtime/guest/monitor/monitor.h"

#define SYSCALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */
#define MONITOR_LOANS 16

/** enum lend_state - Of a thread. */
enum lend_state {
	LEND_NOT,
	LEND_WANTED, /* it is to stop, and be let go of */
	LEND_UNDOES, /* it was about to make a call, and makes another that does nothing */
	LEND_GONE,   /* let go of */
	LEND_BACK,   /* seized again, it is to stop and go on where it was */
};

struct thread {
	pid_t tid; /* 0: no entry */
	bool inside, answered, changed;
	bool jumps;
	struct monitor_jump to;
	struct intercept_call asked; /* as the program made it */
	int64_t result;		     /* answered: what it gets */
	uint64_t again;		     /* the place of the last call that the kernel might make again; 0: none */
	bool surely_again;
	enum lend_state lend;
	pid_t loan;	     /* the process that is lent */
	struct tracee *kept; /* what it was doing; from LEND_UNDOES on */
};

/** struct monitor_loan - A request, at any stage. */
struct monitor_loan {
	pid_t pid; /* 0: no entry */
	int fd;
	int pidfd; /* of the process, once it begins */
	bool again; /* a thread could not be seized */
	enum { LOAN_WAITS, LOAN_STOPS, LOAN_STANDS, LOAN_RETURNS } state;
};

struct monitor {
	const struct monitor_config *config;
	struct thread *threads;
	size_t nthreads, room;
	pid_t program;
	bool started; /* the program, not yet what execs it */
	int status;
	struct {
		pid_t tid;
		int status;
		bool over;
	} *round; /* of whom wait4() has told */
	size_t nround, round_room;
	bool lends;
	struct monitor_loan loans[MONITOR_LOANS];
};

/** monitor_thread() - The entry of @tid, a new one if there is none.  Return: NULL: no memory. */
struct thread *monitor_thread(struct monitor *m, pid_t tid);

/** monitor_event() - Tells who configured the monitor. */
void monitor_event(struct monitor *m, pid_t tid, enum monitor_event what, int64_t other);

/** monitor_stopped() - Thread @t has stopped, as @status tells, and is to go on. */
void monitor_stopped(struct monitor *m, struct thread *t, int status);

/** monitor_call_stop() - That stop is the begin or the end of a call: all that there is to do about it, but letting it go on. */
void monitor_call_stop(struct monitor *m, struct thread *t);

/* --- monitor_lend.c --------------------------------------------------------------------------------------------------- */

/** monitor_lend_open() - Processes may be lent from now on; if that cannot be, none are. */
void monitor_lend_open(struct monitor *m);

/** monitor_lend_close() - No more. */
void monitor_lend_close(struct monitor *m);

/** monitor_lend_out() - Whether threads are lent, which wait4() does not know of. */
bool monitor_lend_out(const struct monitor *m);

/** monitor_lend_serve() - Those who borrow.  @wait: until there is something to ask wait4() about, or somebody borrows. */
void monitor_lend_serve(struct monitor *m, bool wait);

/** monitor_lend_stopped() - A thread that is LEND_NOT no longer has stopped.  Return: whether that is all; else monitor_stopped(). */
bool monitor_lend_stopped(struct monitor *m, struct thread *t, int status);

#endif
