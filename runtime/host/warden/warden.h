/* warden.h - one shadow: a process that stands between a guest's agent and a capsule and trusts neither
 *
 * Theory of operation
 *
 * The VM process forks a warden for every stream that a guest's agent opens (runtime/wire/agent.h).  The warden takes the
 * guest's process and map from it, asks the policy, checks and translates the map, starts a capsule in a jail, gives it
 * the mirror it may have, and then serves until one side ends: changes of the map, calls for the service and their
 * answers, faults of a mirror that is made on demand.
 *
 *      guest's agent <-- stream --> warden <-- control socket, seccomp listener, userfaultfd --> capsule
 *           hostile                                                                              hostile
 *
 * It relies on: the policy and the table of the RAM, which come from the host; ramtable_translate() for what the guest
 * names; the kernel for what the capsule has mapped (the guard, and what /proc says of the capsule from outside).  What
 * the capsule says of itself is shown to people and believed nowhere.
 *
 * One thread, one poll loop.  No descriptor is ever waited on alone: what the guest does not read is kept up to a limit
 * and for a time, then the shadow ends; what the capsule does not answer in time ends it too.  While nothing happens the
 * warden sleeps in poll() without a timeout.
 *
 * States: hello (nothing said yet) -> attach (who speaks is known) -> start (the capsule makes its mirror) -> run -> end.
 *
 * The order at the end is what keeps the guest's memory safe: the capsule is killed, its death is awaited (its address space
 * is gone then), and only then is the guest told and the stream closed, upon which the guest gives its frames back.
 * Should the warden itself die, the capsule is killed by the kernel (PR_SET_PDEATHSIG), but a moment after the warden's
 * descriptors are closed.  Whoever forks wardens therefore keeps its own copy of the stream until neither the
 * warden nor the capsule named in its struct warden_stat is there any more.
 *
 * Memory is bounded: for what has not been sent yet none is taken; a map may be as long as the rule's pages allow.
 *
 * A warden owns its descriptors and memory and gives nothing back but its exit.  Everything of a shadow is behind the
 * process: when it is gone, so are capsule, mirror, jail and descriptors.
 */
#ifndef HOST_WARDEN_H
#define HOST_WARDEN_H

#include <stdint.h>
#include <sys/types.h>

#include "runtime/host/vm/ramtable.h"
#include "runtime/wire/agent.h"

#define WARDEN_LIMITS_BYTES 256

struct policy;

/** enum warden_state - How far a shadow is. */
enum warden_state {
	WARDEN_HELLO = 0, /* waits for HELLO */
	WARDEN_ATTACH,	  /* waits for ATTACH */
	WARDEN_START,	  /* waits for the capsule */
	WARDEN_RUN,
	WARDEN_END,	  /* has ended: code and text say why */
};

/** struct warden_view - What there is to know of a shadow; strings are terminated and hold printable ASCII only. */
struct warden_view {
	uint32_t state; /* enum warden_state */
	uint32_t mode;	/* enum ds_agent_mode */
	int32_t warden_pid, capsule_pid; /* as the host sees them; 0: none (yet) */
	uint64_t guest_pid;
	uint32_t guest_uid, guest_gid;
	uint64_t pages, runs, vmas; /* of the map in force; mappings that its mirror takes */
	uint64_t updates, drops, dropped_pages, refused_changes;
	uint64_t calls, replies, refused_calls;
	uint64_t forwarded, forwarded_ns;    /* system calls that were made for the process, as the capsule says; time in them */
	uint64_t bells, bells_ended, refused_bells, interrupts; /* threads that have such calls made: of all time */
	uint64_t faults, fault_pages;	     /* demand: asked of the guest; pages that came */
	uint64_t guarded_calls, denied_calls; /* of the capsule: seen by the guard; of these, refused */
	uint64_t start_us;		     /* from ATTACH to STARTED */
	uint64_t since_ns;		     /* CLOCK_MONOTONIC when the shadow stood */
	uint32_t code;			     /* enum ds_agent_code, why it ended; 0 */
	uint32_t zero;
	uint64_t paced_ns;		     /* that it was stopped because it had used what a limit allows */
	char limits[WARDEN_LIMITS_BYTES];    /* who keeps them */
	char service[DS_AGENT_SERVICE_BYTES];
	char program[DS_AGENT_PATH_BYTES];
	char text[DS_AGENT_TEXT_BYTES]; /* why it ended */
};

/**
 * struct warden_stat - A view in shared memory (MAP_SHARED | MAP_ANONYMOUS, zeroed before the fork)
 *
 * One writer, the warden; any number of readers, that never wait for it: @seq is odd while it writes, and a reader
 * whose copy was overlapped by a write takes another one (warden_stat_read()).
 */
struct warden_stat {
	uint32_t seq;
	int32_t capsule_pid; /* as in the view, but right even where the writer died in the middle of that */
	struct warden_view view;
};

/** struct warden_times - How long is waited, in milliseconds; 0: the usual. */
struct warden_times {
	uint32_t hello_ms;	/* for HELLO, then for ATTACH: 10000 each; 1 ms more for each page of a message that has begun */
	uint32_t capsule_ms;	/* for an answer of the capsule, on top of what its executors are given to stop: 10000 */
	uint32_t stop_ms;	/* that executors are given to stop for a change: 5000; 40000 where the rule has devices */
	uint32_t fault_ms;	/* for the guest to answer a FAULT: 30000 */
	uint32_t write_ms;	/* for the guest to read anything of what waits for it: 30000 */
};

/** struct warden_params - What a warden is given; all of it stays the caller's and as it is while the warden runs. */
struct warden_params {
	int stream_fd;		/* host end of the agent's stream: a stream socket */
	int ram_fd;		/* the VM's RAM, for reading and writing: file number 0 of @table */
	int bells_fd;		/* where bells come from (struct bells_message): SOCK_SEQPACKET; 0 or -1: there are none */
	int window_fd;		/* where the VM's window is asked for (struct windows_ask): SOCK_SEQPACKET; 0 or -1: there is none */
	const uint8_t *token;	/* DS_AGENT_TOKEN_BYTES, for STARTED; NULL: zeroes */
	pid_t parent;		/* who dies with it: the caller of fork(); 0: nobody */
	const struct ramtable *table; /* finished */
	const char *vm;		/* its name */
	const struct policy *policy;
	const char *services_dir; /* where the capsules are: an executable for each service, by its name */
	uint32_t guest_port;	/* for the log */
	struct warden_stat *stat;
	struct warden_times times;
};

/**
 * warden_main() - The life of a shadow; called in a child forked for it
 *
 * Closes every descriptor but the four in @p and 0, 1 and 2.  Logs with log_line() (log.h).  Single-threaded; ignores
 * SIGPIPE and changes no other signal.
 *
 * Return: exit status: 0, the guest ended it (it closed the stream, or its process is gone); 1, it was refused or
 * ended by a party's fault, as logged; 2, a system error of the host.
 */
int warden_main(const struct warden_params *p);

/**
 * warden_stat_read() - Takes a consistent copy
 * @view: filled; if the writer died while it wrote, zeroed but for capsule_pid
 *
 * Return: 0; -EAGAIN: no consistent copy within a bounded number of tries.
 */
int warden_stat_read(const struct warden_stat *stat, struct warden_view *view);

#endif
