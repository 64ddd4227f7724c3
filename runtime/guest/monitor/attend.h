/* attend.h - a process that stands beside a program while it is executed: for one moment, or for all its life
 *
 * Theory of operation
 *
 * Who is about to execute a program asks for an attendant first.  The attendant seizes it (ptrace(2)), says so, and the exec is
 * made.  When the kernel reports that, the attendant puts the library into the new program (load.h) and
 *
 *   ATTEND_LOAD	lets go of it and ends: the library makes its own traps (intercept.h);
 *   ATTEND_MONITOR	goes on as its monitor (monitor.h): every call is a stop, from the program's first instruction on, and sends its
 *			thread to the library.  Whatever the program starts is treated likewise, static programs and those with an
 *			empty environment too.  The program dies with its monitor,
 *			which lets go of it only to lend it to dsagent (lend.h).  (Only programs built by Go make their own traps,
 *			see intercept/stacks.c.)
 *
 * The attendant is nobody's child (its parent is init), so the program's own children are as they would be, and is of no
 * terminal.  What is said on the socket between the two, a SOCK_SEQPACKET: the attendant its process number, int32; the program a
 * byte, when it has allowed that process to trace it (PR_SET_PTRACER); the attendant 0 or -errno, int32; the program a byte if the exec has failed.
 * A program that is executed closes its end.
 */
#ifndef RUNTIME_GUEST_ATTEND_H
#define RUNTIME_GUEST_ATTEND_H

#include <sys/types.h>

enum attend_how { ATTEND_LOAD, ATTEND_MONITOR };

/**
 * attend_start() - The caller will execute a program
 * @library: path
 *
 * Return: the socket, close-on-exec, to be given to attend_failed() if there is no exec after all; -errno.
 */
int attend_start(enum attend_how how, const char *library);

/** attend_failed() - There was no exec.  @fd: is closed. */
void attend_failed(int fd);

/**
 * attend_other() - Makes an attendant for somebody else, and returns
 * @fd: the attendant's end
 * @tid: the thread that will make the exec
 *
 * Return: 0 or -errno.
 */
int attend_other(int fd, pid_t tid, enum attend_how how, const char *library);

#endif
