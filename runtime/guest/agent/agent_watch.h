/* agent_watch.h - notices that a process executes another program
 *
 * Theory of operation
 *
 * The kernel's proc connector (CN_PROC, drivers/connector/cn_proc.c) multicasts every fork, exec and exit of the machine to
 * netlink sockets that listen.  A classic BPF filter on the socket lets only the execs of one process through, so whoever
 * watches sleeps while others run.  exit is better seen by a pidfd; forks change nothing here: the child has no shadow, and
 * the parent's pinned frames stay its own.
 *
 * It needs CAP_NET_ADMIN (before 6.6), the first network, pid and user namespace, and CONFIG_PROC_EVENTS; the kernel ignores
 * a listener elsewhere without an error, so the answer to the subscription is waited for.  The address space of the program
 * before an exec stays what the helper has: nothing of the new program is ever read or told in its place.
 */
#ifndef GUEST_AGENT_WATCH_H
#define GUEST_AGENT_WATCH_H

#include <sys/types.h>

/**
 * agent_watch_open() - Watch a process
 * @pid: which
 *
 * Return: a descriptor that is readable when there is something for agent_watch_exec(); -EOPNOTSUPP: the kernel does not
 * answer here; -EPERM; -errno.
 */
int agent_watch_open(pid_t pid);

/**
 * agent_watch_exec() - Whether the process has executed another program since
 *
 * Return: 1; 0; -ENOBUFS: events were lost, so nobody knows; -errno.
 */
int agent_watch_exec(int fd);

#endif
