/* agent_target.h - the process that a request is about: which one it is, whose, and whether it can be shadowed
 *
 * Theory of operation
 *
 * A PID is only a name and may change its meaning.  So a target is first held by a pidfd; what is then read below
 * /proc/PID is about the same process if it is still alive (signal 0 to the pidfd) afterwards.  An exec between this
 * check and the injection changes what was checked: a setuid program could be started meanwhile.  So whoever attaches checks
 * again with all threads stopped (agent_target_still()).
 *
 * Whose it is follows ptrace(2), "Ptrace access mode checking", for the caller's real credentials: real, effective and saved
 * user and group of the target are the caller's, the target is dumpable, and it has no capabilities.  Dumpable is seen by the
 * owner of the files below /proc/PID, which is root for other processes (proc_pid(5)); a process of root is let through by
 * the first rule, as only root asks for those.
 *
 * Reads small files of /proc only, and none that waits for the target's mmap_lock.
 */
#ifndef GUEST_AGENT_TARGET_H
#define GUEST_AGENT_TARGET_H

#include <stdint.h>
#include <sys/types.h>

#include "runtime/guest/local.h"
#include "runtime/wire/agent.h"

/** struct agent_caller - Who asks, as the kernel says. */
struct agent_caller {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/* Before the path of a program that is another file, or none, outside of the process's own mount namespace. */
#define AGENT_TARGET_ELSEWHERE "(elsewhere)"

/** struct agent_target - A process that is held. */
struct agent_target {
	pid_t pid;
	int pidfd; /* -1: none */
	uid_t uid;
	gid_t gid;
	uint64_t start_ticks;
	uint64_t rss_pages, swap_pages; /* when it was looked at, as the next two */
	uint64_t tracer, seccomp;	/* who traces it, 0: nobody; its mode */
	char comm[DS_LOCAL_COMM_BYTES]; /* printable */
	char program[DS_AGENT_PATH_BYTES]; /* its path; behind AGENT_TARGET_ELSEWHERE where it is not everybody's */
};

/** struct agent_refusal - Why not, for a REFUSED. */
struct agent_refusal {
	uint32_t code; /* enum ds_local_code */
	char text[DS_LOCAL_TEXT_BYTES];
};

/** agent_refuse() - Fill in a refusal.  Return: -1, so that `return agent_refuse(...)` ends what was tried. */
__attribute__((format(printf, 3, 4))) int agent_refuse(struct agent_refusal *why, uint32_t code, const char *fmt, ...);

/**
 * agent_target_open() - Take hold of a process and see whether the caller may have it
 * @t: filled in; give back with agent_target_close()
 * @caller: who asks
 * @pid: which; of dsagent's pid namespace
 * @force: DS_LOCAL_FORCE, for root: do not ask whether it is dumpable
 * @why: filled in on failure
 *
 * Return: 0; -1 and @why.
 */
int agent_target_open(struct agent_target *t, const struct agent_caller *caller, pid_t pid, int force, struct agent_refusal *why);

/**
 * agent_target_shadowable() - Whether a process can be shadowed at all
 * @t: opened just now
 * @flags: enum ds_local_flags
 * @why: filled in on failure
 *
 * Refuses: dsagent itself, process 1, 32-bit programs, those that are traced, and those under seccomp (strict always, a filter
 * unless DS_LOCAL_SECCOMP).  What only the injection can see is left to it.
 *
 * Return: 0; -1 and @why.
 */
int agent_target_shadowable(const struct agent_target *t, uint32_t flags, struct agent_refusal *why);

/**
 * agent_target_still() - Whether it still is the same program of the same owner, that is, no exec came between
 * @t: open
 * @caller: who asked
 * @force: as in agent_target_open()
 * @why: filled in on failure
 *
 * Return: 0; -1 and @why.
 */
int agent_target_still(const struct agent_target *t, const struct agent_caller *caller, int force, struct agent_refusal *why);

/** agent_target_close() - Let go of it. */
void agent_target_close(struct agent_target *t);

/** agent_same_pidns() - Whether @pid counts processes as dsagent does: a PID that it names means the same here. */
int agent_same_pidns(pid_t pid);

#endif
