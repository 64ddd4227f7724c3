/* sharers.h - who else uses a process's memory
 *
 * Theory of operation
 *
 * What is done while all threads of a program stand still relies on nobody else running in its memory: a child of vfork(2), a process made
 * by clone(CLONE_VM).  kcmp(2) tells of one process whether it does; nothing tells of all of them.  So the first look is at every
 * process that there is.  That takes a millisecond in a small guest under emulation, and more where there are many.
 *
 * A process comes to use another one's memory only by being born with it.  So a later look need only be at those that were born
 * since the one before, and found nobody.  Numbers are given out in rising order, and /proc/loadavg tells the last one that was:
 * who was born since has a number in between, and these numbers are looked at one by one.
 *   wrapped around	Numbers start anew at pid_max.  That is seen when the last one is lower than before; but it could have come
 *		all the way around and be a little higher.  A kernel makes no million tasks a second, as each takes a lock that all
 *		of them take (tasklist_lock): so after as many microseconds as there are numbers the look is at everybody again.
 *   numbers by choice	clone3(2)'s set_tid and ns_last_pid take CAP_CHECKPOINT_RESTORE where dsagent runs: who has that needs no such way.
 *   born meanwhile	Who is looked at may have made another and be gone.  So it goes on until no number has been given out
 *		since it began.
 */
#ifndef RUNTIME_GUEST_SHARERS_H
#define RUNTIME_GUEST_SHARERS_H

#include <stdint.h>
#include <sys/types.h>

/** struct sharers - What is known since the last look; zero-filled: nothing. */
struct sharers {
	pid_t last;    /* the highest number that was looked at; 0: all have to be */
	int64_t at_us; /* when that was, CLOCK_MONOTONIC */
};

/**
 * sharers_find() - Whether another process uses a process's memory
 * @s: what is known from earlier looks for the same process, in the same memory; NULL: nothing
 * @pid: the process
 * @except: a process that may; 0: none
 *
 * Return: the number of one that does; 0: there is none.
 */
pid_t sharers_find(struct sharers *s, pid_t pid, pid_t except);

#endif
