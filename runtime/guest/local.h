/* local.h - what programs of the guest and dsagent say to each other
 *
 * Theory of operation
 *
 * dsagent listens on a SOCK_SEQPACKET unix socket that everybody may connect to.  One packet is one message: a head, a
 * struct that its kind says, and what is of variable length behind it.  The kernel says who connected (SO_PEERCRED);
 * nothing in a message is believed about that.  A descriptor of the connection that is handed on, or kept over fork(),
 * goes on speaking for the process that connected: a child connects anew.
 *
 *   who asks -> dsagent  MAP      the map of a process: answered by MAPPED, with a descriptor
 *                        SHADOW   mirror a process: answered by STARTED (again after each RETRY that worked), later ENDED
 *                        STOP     end a shadow: DONE when the host has closed and nothing is pinned any more
 *                        REFRESH  pin and report what is new, forget what DROP announced: DONE
 *                        DROP     pages about to go: DONE when the mirror provably has them no more
 *                        CALL     a message for the service: REPLY
 *                        WINDOW   a file of the host's into the VM's window (runtime/wire/window.h): WINDOWED
 *                        UNWINDOW it is not mapped any more: DONE
 *                        LIST     LISTED
 *                        DEVICES  which devices of the host a program could have: GRANTED
 *   dsagent -> who asked MAPPED, STARTED, DONE, REPLY, LISTED, WINDOWED; REFUSED with a reason in place of any of them
 *                        ENDED    (seq of the SHADOW) the shadow is no more, and why
 *
 * In a container who listens there is the host's dscontainer (runtime/container).  It knows DEVICES and SHADOW; the latter's answer is
 * CONTAINED, on which the program makes the shadow itself, a task with its memory, which says TASK and gets ROOTED.
 *
 * Requests may overtake each other: seq, chosen by who asks, repeated in the answer, tells them apart.  At most
 * DS_LOCAL_PENDING_MAX may be under way on a connection, and who does not read its answers loses the connection.
 *
 * A process changes its own memory behind a mirror like this: DROP of what goes, wait for DONE, munmap/mremap/madvise/brk,
 * then REFRESH with the same ranges (in any case, also when the call failed: until then nothing there is mirrored, and a
 * service that touches it waits).  Other threads that change the same range meanwhile do so at the mirror's
 * expense: it is stale there until the next REFRESH, though never unsafe, because dropped or not, frames stay allocated while
 * the host has them.
 *
 * Who may what: root everything.  Anybody else: own processes only, that is those whose real, effective and saved user and group
 * are the caller's, that are dumpable and have no capabilities (the rule of ptrace(2)).  Frame numbers are for root only: a
 * MAPPED for anybody else carries no map blob but a table of runs that has no column for frames.
 *
 * A shadow belongs to one process, and a process has at most one.  It ends with the process, with its exec, by STOP, when the
 * host ends it, and (DS_LOCAL_TIED) with the connection that asked for it.
 *
 * Who reads this sits on the same machine: byte order is its own, structs have no padding.
 */
#ifndef GUEST_LOCAL_H
#define GUEST_LOCAL_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/window.h"

#define DS_LOCAL_SOCKET "/run/dsagent/socket"
#define DS_LOCAL_MAGIC UINT32_C(0x434c5344) /* the bytes "DSLC" */
#define DS_LOCAL_VERSION 1

#define DS_LOCAL_RANGES_MAX 4096      /* of a DROP or REFRESH */
#define DS_LOCAL_PAYLOAD_MAX 4096     /* bytes of a CALL or REPLY */
#define DS_LOCAL_LIST_MAX 128	      /* entries of a LISTED */
#define DS_LOCAL_PENDING_MAX 64	      /* requests under way on a connection */
#define DS_LOCAL_BYTES_MAX (24 + 16 * DS_LOCAL_RANGES_MAX) /* of any message */
#define DS_LOCAL_TEXT_BYTES 232	      /* terminated */
#define DS_LOCAL_SERVICE_BYTES 32     /* terminated */
#define DS_LOCAL_ARGS_BYTES 256	      /* terminated */
#define DS_LOCAL_COMM_BYTES 64	      /* terminated */
#define DS_LOCAL_TOKEN_BYTES 16
#define DS_LOCAL_PROGRAM_BYTES 1024   /* terminated */

enum ds_local_kind {
	DS_LOCAL_MAP = 1,
	DS_LOCAL_SHADOW = 2,
	DS_LOCAL_STOP = 3,
	DS_LOCAL_REFRESH = 4,
	DS_LOCAL_DROP = 5,
	DS_LOCAL_CALL = 6,
	DS_LOCAL_LIST = 7,
	DS_LOCAL_DEVICES = 14,
	DS_LOCAL_TASK = 15,
	DS_LOCAL_WINDOW = 8,
	DS_LOCAL_UNWINDOW = 9,
	DS_LOCAL_MAPPED = 16,
	DS_LOCAL_STARTED = 17,
	DS_LOCAL_DONE = 18,
	DS_LOCAL_REPLY = 19,
	DS_LOCAL_LISTED = 20,
	DS_LOCAL_REFUSED = 21,
	DS_LOCAL_ENDED = 22,
	DS_LOCAL_GRANTED = 30,
	DS_LOCAL_CONTAINED = 31,
	DS_LOCAL_ROOTED = 32,
	DS_LOCAL_WINDOWED = 23,
};

/** struct ds_local_head - Every message begins with it. */
struct ds_local_head {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint32_t bytes; /* of the whole message, the length of the packet */
	uint32_t seq;	/* chosen by who asks, repeated by who answers */
};

/** struct ds_local_range - Pages [vpn, vpn + npages) of 4 KiB. */
struct ds_local_range {
	uint64_t vpn, npages;
};

/* --- maps ------------------------------------------------------------------------------------------------------- */

/** struct ds_local_map - DS_LOCAL_MAP. */
struct ds_local_map {
	struct ds_local_head head;
	uint32_t pid;	/* 0: who asks */
	uint32_t split; /* enum rle_split */
};

/** enum ds_local_mapped_form - What the descriptor that comes with MAPPED holds. */
enum ds_local_mapped_form {
	DS_LOCAL_FORM_MAP = 1,	/* a map blob (rle/map.h) */
	DS_LOCAL_FORM_RUNS = 2, /* nruns of struct ds_local_run: who asked may not see frames */
};

/** struct ds_local_run - A run whose frames are withheld: neighbours that touch in vpn lie apart in memory, or differ in attr. */
struct ds_local_run {
	uint64_t vpn;
	uint32_t npages;
	uint32_t attr; /* enum rle_attr */
};

/**
 * struct ds_local_mapped - DS_LOCAL_MAPPED, with one descriptor: a memfd of @bytes, sealed against every change.
 * Counts as in struct rle_counts.
 */
struct ds_local_mapped {
	struct ds_local_head head;
	uint32_t pid, form;
	uint64_t start_ticks;
	uint64_t bytes, nruns, npages;
	uint64_t vmas, mapped, swapped, migrating, zero, device, file, exclusive;
	uint64_t runs[3]; /* under each enum rle_split */
	char comm[DS_LOCAL_COMM_BYTES];
};

/* --- shadows ---------------------------------------------------------------------------------------------------- */

/** enum ds_local_mode - As enum ds_agent_mode of runtime/wire/agent.h. */
enum ds_local_mode {
	DS_LOCAL_EAGER = 0,
	DS_LOCAL_DEMAND = 1,
};

/** enum ds_local_flags - Of a SHADOW. */
enum ds_local_flags {
	DS_LOCAL_TIED = 1,    /* end it when this connection ends */
	DS_LOCAL_RETRY = 2,   /* try again, until the process or the connection ends, when the host is not there or goes away */
	DS_LOCAL_SECCOMP = 4, /* also if the process has a seccomp filter: one that kills on what it does not know kills it */
	DS_LOCAL_FORCE = 8,   /* root only: also processes that are not dumpable */
};

/** struct ds_local_shadow - DS_LOCAL_SHADOW. */
struct ds_local_shadow {
	struct ds_local_head head;
	uint32_t pid; /* 0: who asks */
	uint32_t mode;
	uint32_t flags;
	uint32_t zero;
	uint64_t reserve_pages; /* room to keep free for the capsule in the process; 0: none */
	char service[DS_LOCAL_SERVICE_BYTES];
	char args[DS_LOCAL_ARGS_BYTES];
};

/** struct ds_local_started - DS_LOCAL_STARTED: the shadow stands. */
struct ds_local_started {
	struct ds_local_head head;
	uint32_t pid, id; /* id: of the shadow, never used again while dsagent lives */
	uint64_t pinned_pages, runs;
	uint64_t left_out_pages; /* populated, but not mirrored: shared mappings of files, and what the kernel does not pin */
	uint64_t mirror_pages;	 /* as the host says */
	uint64_t host_pid;	 /* the shadow's, on the host */
	struct ds_local_range reserve, capsule;
	/* What a bell of the process has to show the host (runtime/wire/forward.h); zero for who is neither the process
	 * itself nor root. */
	uint8_t token[DS_LOCAL_TOKEN_BYTES];
};

/** struct ds_local_about - DS_LOCAL_STOP, and DS_LOCAL_LIST (@pid: the id after which to go on, 0 at first). */
struct ds_local_about {
	struct ds_local_head head;
	uint32_t pid; /* of the shadowed process; 0: who asks */
	uint32_t zero;
};

/** struct ds_local_ranges - DS_LOCAL_DROP, DS_LOCAL_REFRESH; nranges of struct ds_local_range follow, rising, not
 * overlapping, not empty.  A DROP has at least one; a REFRESH without any is of everything. */
struct ds_local_ranges {
	struct ds_local_head head;
	uint32_t pid; /* 0: who asks */
	uint32_t nranges;
};

/** struct ds_local_call - DS_LOCAL_CALL, DS_LOCAL_REPLY; the payload follows. */
struct ds_local_call {
	struct ds_local_head head;
	uint32_t pid; /* 0: who asks */
	uint32_t executor;
	uint32_t payload_bytes;
	uint32_t zero;
};

/**
 * struct ds_local_devices - DS_LOCAL_DEVICES; answered by GRANTED, a struct ds_local_call whose payload is as struct
 * ds_agent_devices of runtime/wire/agent.h says
 */
struct ds_local_devices {
	struct ds_local_head head;
	uint32_t pid; /* 0 */
	uint32_t zero;
	char service[DS_LOCAL_SERVICE_BYTES];
	char program[DS_LOCAL_PROGRAM_BYTES]; /* its path, as others see it; empty: any */
};

#define DS_LOCAL_WINDOW_FD 1 /* of a WINDOW: who asks has no descriptor of the window yet */

/**
 * struct ds_local_window - DS_LOCAL_WINDOW
 *
 * Who asks keeps the pages free of anything else, and maps the window there when the answer has come.
 */
struct ds_local_window {
	struct ds_local_head head;
	uint32_t pid; /* 0: who asks */
	uint32_t flags;
	struct ds_window_map want;
};

/**
 * struct ds_local_windowed - DS_LOCAL_WINDOWED, with a descriptor of the window if it was asked for and there is no error; with
 * DS_WINDOW_PHYSICAL, of /dev/mem, for processes of root.  Without one that is needed, nothing can be mapped.
 */
struct ds_local_windowed {
	struct ds_local_head head;
	uint32_t pid;
	uint32_t flags; /* as asked */
	struct ds_window_mapped got;
};

/** struct ds_local_unwindow - DS_LOCAL_UNWINDOW: these pages are no pages of the window any more. */
struct ds_local_unwindow {
	struct ds_local_head head;
	uint32_t pid; /* 0: who asks */
	uint32_t zero;
	struct ds_window_unmap what;
};

/** struct ds_local_done - DS_LOCAL_DONE. */
struct ds_local_done {
	struct ds_local_head head;
};

/** struct ds_local_contained - DS_LOCAL_CONTAINED: this is a container, the program is to make the shadow's task itself. */
struct ds_local_contained {
	struct ds_local_head head;
	uint32_t executors; /* bells that it may take */
	uint32_t zero;
	uint8_t token[DS_LOCAL_TOKEN_BYTES]; /* the shadow's, for estates */
};
#define DS_LOCAL_ESTATES ".estates" /* behind the socket's name: where a container's estates are kept (runtime/wire/estate.h) */

/**
 * struct ds_local_task - DS_LOCAL_TASK: whoever sends it, as the kernel says (SCM_CREDENTIALS), is the program's task.
 * Answered by DS_LOCAL_ROOTED, only a head, with two descriptors: the task's root, and a socket for orders (runtime/container/task.h).
 */
struct ds_local_task {
	struct ds_local_head head;
};

/** enum ds_local_code - Why something was refused or ended. */
enum ds_local_code {
	DS_LOCAL_C_MESSAGE = 1, /* malformed; the connection ends */
	DS_LOCAL_C_ACCESS,	/* not for who asks */
	DS_LOCAL_C_PROCESS,	/* no such process, or one that cannot be shadowed */
	DS_LOCAL_C_NONE,	/* the process has no shadow */
	DS_LOCAL_C_BUSY,	/* it has one already; too many requests */
	DS_LOCAL_C_LIMIT,	/* memory pinned, number of shadows */
	DS_LOCAL_C_HOST,	/* the host is not there or went away; after RETRY it is tried again */
	DS_LOCAL_C_REFUSED,	/* the host refused: policy, map, its limits; text is the host's */
	DS_LOCAL_C_GONE,	/* the service ended, text is the host's */
	DS_LOCAL_C_EXIT,	/* the process exited */
	DS_LOCAL_C_EXEC,	/* the process executed another program */
	DS_LOCAL_C_STOPPED,	/* somebody asked for it: STOP, the end of a connection, the end of dsagent */
	DS_LOCAL_C_SYSTEM,	/* a system error */
};

/** struct ds_local_refused - DS_LOCAL_REFUSED, DS_LOCAL_ENDED. */
struct ds_local_refused {
	struct ds_local_head head;
	uint32_t code;
	uint32_t pid; /* of the process it was about; 0: none */
	char text[DS_LOCAL_TEXT_BYTES]; /* one line in plain English; terminated */
};

/** enum ds_local_state - Of a shadow, in LISTED. */
enum ds_local_state {
	DS_LOCAL_S_STARTING = 1,
	DS_LOCAL_S_RUNNING,
	DS_LOCAL_S_ENDING,  /* the host has not closed yet; frames stay pinned */
	DS_LOCAL_S_WAITING, /* RETRY: for the host */
};

/** struct ds_local_entry - One shadow of a LISTED. */
struct ds_local_entry {
	uint32_t id, pid, uid, state, mode, zero;
	uint64_t start_ticks;
	uint64_t pinned_pages, runs, mirror_pages;
	uint64_t faults, drops, updates, calls; /* how many there were */
	char service[DS_LOCAL_SERVICE_BYTES];
	char comm[DS_LOCAL_COMM_BYTES];
};

/** struct ds_local_listed - DS_LOCAL_LISTED; nentries of struct ds_local_entry follow, by rising id; root's hold everybody's. */
struct ds_local_listed {
	struct ds_local_head head;
	uint32_t nentries;
	uint32_t more; /* 1: ask again, from the last id on */
};

_Static_assert(sizeof(struct ds_local_head) == 16 && sizeof(struct ds_local_map) == 24 && sizeof(struct ds_local_mapped) == 208 &&
		       sizeof(struct ds_local_shadow) == 40 + 32 + 256 && sizeof(struct ds_local_started) == 112 &&
		       sizeof(struct ds_local_about) == 24 && sizeof(struct ds_local_ranges) == 24 &&
		       sizeof(struct ds_local_call) == 32 && sizeof(struct ds_local_contained) == 40 && sizeof(struct ds_local_refused) == 256 &&
		       sizeof(struct ds_local_entry) == 88 + 32 + 64 && sizeof(struct ds_local_listed) == 24 && sizeof(struct ds_local_window) == 64 &&
		       sizeof(struct ds_local_windowed) == 24 + sizeof(struct ds_window_mapped) && sizeof(struct ds_local_unwindow) == 40,
	       "messages have no padding");

#endif
