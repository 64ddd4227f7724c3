/* forward.h - system calls of an unmodified program are done by its shadow on the host; what the files here share
 *
 * Theory of operation
 *
 * libdsforward.so is preloaded.  Its constructor reads the settings, asks dsagent for a shadow with the service "forward",
 * and starts the interception (runtime/guest/intercept): from then on every system call comes to forward_hook() (hook.c), which
 * looks at the rule of the call (rules.c) and at where its descriptors (fds.c) and paths (paths.c, where.c) are, and leaves
 * it to the guest's kernel, refuses it, or has the shadow do it (transfer.c, runtime/wire/forward.h): registers as they are.
 *
 *   hook.c      a call: which side, then trace            open.c     what makes, copies and closes descriptors
 *   transfer.c, spin.c   to the host and back, signals    cwd.c      the working directory
 *   pool.c      slots, bells                              poll.c     waiting for descriptors of both sides
 *   agent.c     what dsagent is told and asked            memory.c   mmap of the host's files; the mirror is told of changes
 *							   window.c   what of them is mapped shared
 *   child.c     processes that have no shadow (yet)       exec.c     programs that lie on the host; what the next one inherits
 *   birth.c     fork, vfork                               heir.c, estate.c   descriptors that are inherited (estate.h)
 *   device.c    ioctl: descriptors that drivers make
 *   message.c, carry.c, deliver.c   sendmsg(), recvmsg()	   between.c  sendfile(), splice() from side to side
 *   cross.c     unix sockets, inotify                      unreached.c  programs that load no library
 *   trace.c     what --trace and --summary print          policy.c   what the user wants of calls (policy.h)
 *   summary.c   the table of --summary                    emulate.c, clock.c   answers that no kernel gives
 *
 * Rules of the code are those of the interception (intercept.h): it runs anywhere in the program, handlers included, without
 * C library, thread-local storage and vector registers.  A call to the host is a *turn*: signals are blocked while it lasts,
 * so no handler runs on top of it and none leaves it by siglongjmp(); a signal that the program would get is noticed by a
 * signalfd(2), the host's call is interrupted, and the handler runs when the turn is over, as it would run when the kernel
 * leaves a call.
 *
 * State is of the process.  `live` is a page that is wiped in a forked child, which so knows that it is one.
 */
#ifndef GUEST_FORWARD_FORWARD_H
#define GUEST_FORWARD_FORWARD_H

#include <asm/unistd.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/guest/forward/lock.h"
#include "runtime/guest/forward/paths.h"
#include "runtime/guest/forward/rules.h"
#include "runtime/guest/intercept/internal.h"
#include "runtime/wire/forward.h"
#include "runtime/wire/window.h"

#define FORWARD_PAGE UINT64_C(4096)
#define FORWARD_FD_FLOOR 800	/* our own descriptors: programs count from 0, select() ends at 1024 */
#define FORWARD_FDS_MAX 4096	/* descriptors of the program that can be the host's: DS_SHADOW_GUEST_FDS of runtime/wire/shadow.h */
#define FORWARD_PATH_LOOK 512	/* bytes of a path that are looked at */
#define FORWARD_PATH_MAX 4096
#define FORWARD_POOL 64
#define FORWARD_SCRATCH (4 * FORWARD_PAGE - sizeof(struct ds_forward_slot))
#define FORWARD_SCRATCH_LENT (FORWARD_PAGE - sizeof(struct ds_forward_slot)) /* of these the mirror has the page */
#define NS_PER_SEC INT64_C(1000000000)

/* --- settings (settings.c) ---------------------------------------------------------------------------------------- */

enum forward_action {
	FORWARD_A_NONE = 0,
	FORWARD_A_LOCAL,   /* always the guest's */
	FORWARD_A_FORWARD, /* the host's, although it names nothing there */
	FORWARD_A_DENY,    /* is done: refused */
	FORWARD_A_EMULATE, /* is done: answered */
};

/** struct forward_settings - From the environment, DS_FORWARD_...; see settings.c. */
struct forward_settings {
	struct forward_prefixes prefixes;
	const char *library, *run, *service, *args, *agent, *bell, *trace, *summary, *cwd;
	const char *estates; /* as `bell`: a unix socket in place of the host's */
	const char *estate;  /* what the program before has handed on; NULL: it was started by a program without this library */
	char *estate_text;   /* for the next program */
	const char *exec;    /* this program is to execute that one; NULL or empty: none */
	char *exec_text;     /* for the next program; FORWARD_PATH_MAX */
	uint32_t spin_ns;
	uint32_t families; /* of sockets that are the host's, enum policy_text_family; 0: both of the internet's */
	bool calls; /* the policy has calls made on the host that name nothing there */
	bool net, device, required, patch;
};
extern struct forward_settings forward_settings;

/** forward_settings_read() - Takes them from @envp, and keeps copies for programs that are executed.  Return: NULL or what is wrong. */
const char *forward_settings_read(char **envp);

/** forward_settings_env() - What is kept over exec; for intercept_config. */
const char *const *forward_settings_env(void);

/** forward_settings_cwd() - The directory of the host that the next program starts in; "" for one of the guest. */
void forward_settings_cwd(const char *path);

struct intercept_call;

/** forward_policy_read() - Rules, policy_text.h; adds to the settings what they forward.  Return: NULL or what is wrong. */
const char *forward_policy_read(const char *text);

/** forward_policy() - What the user wants done with @call, which may be changed.  @result: set when it is done. */
enum forward_action forward_policy(struct intercept_call *call, int64_t *result);

/** forward_policy_keeps() - Whether a simplified path is the guest's in spite of being below a directory of the host. */
bool forward_policy_keeps(const char *path);

/** forward_net() - Whether sockets of a family are the host's. */
bool forward_net(uint64_t family);

/* --- the process (start.c, child.c) -------------------------------------------------------------------------------- */

/** enum forward_life - How it is about this process's shadow. */
enum forward_life {
	FORWARD_L_GONE = 0, /* there is none, or no longer, and there will be none */
	FORWARD_L_CHILD,    /* none yet */
	FORWARD_L_BEGINS,   /* it is being made, by the thread that has the lock */
	FORWARD_L_ALIVE,
};

/** struct forward_live - Wiped in a forked child. */
struct forward_live {
	uint32_t state; /* enum forward_life */
	int32_t pid;	/* 0: a forked child that has not noticed */
};
extern struct forward_live *forward_live;

/** forward_threads() - Whether there has been a second thread. */
static inline bool forward_threads(void)
{
	return clone_threads();
}

/** enum forward_who - Who makes a call. */
enum forward_who {
	FORWARD_ME,	/* the process with the shadow */
	FORWARD_CHILD,	/* one that has no shadow yet */
	FORWARD_VCHILD, /* a child that shares the memory (vfork): the state here is its parent's */
	FORWARD_NOBODY, /* there is no shadow, or no longer */
};

/** forward_who() - Of the calling thread. */
enum forward_who forward_who(void);

/** enum forward_child - What becomes of a call of FORWARD_CHILD or FORWARD_VCHILD. */
enum forward_child {
	FORWARD_C_LOCAL, /* the guest's kernel's */
	FORWARD_C_DONE,	 /* the result is there */
	FORWARD_C_NEEDS, /* it takes a shadow; only of FORWARD_CHILD */
};

/** forward_child_call() - Looks at @call, and does it if it is about descriptors' numbers. */
enum forward_child forward_child_call(struct intercept_call *call, int64_t *result, enum forward_who who);

/** forward_child_last_chance() - Before a call after which a shadow might be refused, or calls of ours: gets one that may be needed. */
void forward_child_last_chance(const struct intercept_call *call);

/** forward_child_refused() - FORWARD_C_NEEDS, and there is no shadow: the result. */
void forward_child_refused(const struct intercept_call *call, int64_t *result);

struct forward_estate;

/** forward_newborn() - In a forked child: gives back what is its parent's.  @estate: what it has inherited, or NULL. */
void forward_newborn(const struct forward_estate *estate, bool leased);

/** forward_life_of_child() - Whether a forked child is to get a shadow when it needs one. */
enum forward_life forward_life_of_child(void);

/** forward_become() - Gets a shadow for this process, which has none yet.  Return: whether it has one now. */
bool forward_become(void);

/** forward_alive() - Whether there is a shadow. */
static inline bool forward_alive(void)
{
	return __atomic_load_n(&forward_live->state, __ATOMIC_RELAXED) >= FORWARD_L_BEGINS;
}

/** forward_exit() - The process ends: what it has of the host is closed there before its parent sees that. */
void forward_exit(enum forward_who who);

/** forward_dead() - The shadow is gone: says so once.  Return: -EIO. */
int64_t forward_dead(const char *why);

/* --- pool of slots and bells (pool.c) ------------------------------------------------------------------------------- */

/** struct forward_entry - A slot, its bell, and memory that calls of ours may point to; one turn at a time has it. */
struct forward_entry {
	struct ds_forward_slot *slot;
	char *scratch; /* FORWARD_SCRATCH bytes behind the slot */
	int32_t bell, sigfd;
	int32_t tid;	 /* of the thread whose turn it is */
	uint64_t sigset; /* of sigfd */
	uint64_t mask;	 /* of the thread that sleeps */
	uint32_t sleeps; /* and is to hear of changes of actions */
	uint32_t busy;
	uint64_t user;	  /* who had it last, where that matters (pool.c) */
	uint32_t evicted; /* another thread needs an executor: its call is interrupted, and starts again later */
};

/** forward_pool_start() - Memory for the slots; again in a forked child.  Return: 0 or -errno. */
int forward_pool_start(void);

/** forward_pool_own_token() - As given to forward_pool_token(). */
const uint8_t *forward_pool_own_token(void);

/** forward_pool_token() - What makes a bell ours. */
void forward_pool_token(const uint8_t token[DS_FORWARD_TOKEN_BYTES]);

/** forward_pool_take() - An entry that is connected.  Return: NULL: @error says why. */
struct forward_entry *forward_pool_take(int64_t *error);

/** forward_pool_lend() - In a child of vfork: an entry that is connected, by a bell that the child has too; or NULL. */
struct forward_entry *forward_pool_lend(void);

/** forward_pool_evict() - Every executor has a call: interrupts one of them, a different one each time. */
void forward_pool_evict(void);

/** forward_pool_of() - The entry that thread @tid has.  Return: NULL: it is in no turn. */
struct forward_entry *forward_pool_of(int32_t tid);

/**
 * forward_election_nears() - The calling thread, @tid, is about to begin a turn, or to end one in which it was told of a signal
 *
 * Return: whether that matters: forward_election_over() is to be called then, when it has.
 */
bool forward_election_nears(int32_t tid);
void forward_election_over(void);

/** forward_election_lost() - Whether the signal that thread @mine hears of, for the @looks'th time, is left to the first thread (election.c). */
bool forward_election_lost(const struct forward_entry *mine, uint32_t looks);

/** forward_pool_each() - Calls @fn for each entry that has a bell. */
void forward_pool_each(void (*fn)(struct forward_entry *e));

/** forward_pool_give() - Back. */
void forward_pool_give(struct forward_entry *entry);

/** forward_pool_close() - In a forked child: closes all that is the parent's. */
void forward_pool_close(void);

/** forward_own_fd() - Whether a descriptor is ours and none of the program's. */
bool forward_own_fd(int64_t fd);

/**
 * forward_own_add() - Moves @fd up, out of the program's way, and remembers it
 * @fd: is closed; or -errno
 * @holder: gets its number, also when it has to move again; or -errno
 *
 * Return: as @holder.
 */
int32_t forward_own_add(int64_t fd, int32_t *holder);

/** forward_own_move() - Makes @fd free for the program, if it is ours. */
void forward_own_move(int64_t fd);

/** forward_own_forget() - It is ours no longer, and stays open. */
void forward_own_forget(int32_t fd);

/** forward_own_close() - Closes what forward_own_add() returned; others are left alone. */
void forward_own_close(int32_t fd);

/* --- transfer (transfer.c) ------------------------------------------------------------------------------------------ */

/** struct forward_turn - Calls to the host one after the other, with signals blocked. */
struct forward_turn {
	struct forward_entry *entry;
	uint64_t mask; /* the program's, meanwhile */
	bool told;     /* the last call was interrupted */
};

/**
 * forward_turn_begin_again() - Waits for an executor
 * @evictions: how often this call has been interrupted for another one's sake: it waits the longer before it does so itself
 *
 * Return: 0 or -errno (then there is nothing to end).
 */
int64_t forward_turn_begin_again(struct forward_turn *turn, uint32_t evictions);

/**
 * forward_turn_begin_lent() - In a child of vfork: a turn of its parent's shadow, with a slot that is connected
 *
 * Only the first FORWARD_SCRATCH_LENT bytes of the scratch memory, and forward_turn_quick(): nothing of the memory can be announced
 * while there is such a child.
 *
 * Return: 0, -EAGAIN.
 */
int64_t forward_turn_begin_lent(struct forward_turn *turn);

/** forward_turn_begin() - For a call that has not been interrupted yet. */
static inline int64_t forward_turn_begin(struct forward_turn *turn)
{
	return forward_turn_begin_again(turn, 0);
}

/** forward_turn_evicted() - Whether a call that ended with -EINTR did so for another thread's sake: to be made again, in a new turn. */
bool forward_turn_evicted(struct forward_turn *turn, int64_t result);

/** forward_turn_pause() - Between the turns then, so that the other thread gets the executor; longer each time. */
void forward_turn_pause(uint32_t *evictions);

/** forward_turn_end() - Signals are the program's again: handlers run before this returns. */
void forward_turn_end(struct forward_turn *turn);

/** forward_turn_call() - A call; a signal that the program would get interrupts it.  Return: as the host's kernel does. */
int64_t forward_turn_call(struct forward_turn *turn, uint64_t nr, const uint64_t arg[6]);

/** forward_turn_quick() - A call of ours that nothing interrupts. */
int64_t forward_turn_quick(struct forward_turn *turn, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/** forward_turn_restarts() - Whether a call that was interrupted starts again after the handlers that will run now. */
bool forward_turn_restarts(const struct forward_turn *turn);

/** enum forward_event - Why forward_turn_wait() returned. */
enum forward_event { FORWARD_E_DONE, FORWARD_E_SIGNAL, FORWARD_E_READY, FORWARD_E_TIME, FORWARD_E_DEAD };

/** forward_turn_post() - Hands a call over and returns. */
void forward_turn_post(struct forward_turn *turn, uint64_t nr, const uint64_t arg[6]);

/**
 * forward_turn_wait() - For the end of what was posted, or anything else
 * @fds: the first two are filled in here; may be NULL
 * @nfds: of @fds, the two included
 * @deadline_ns: CLOCK_MONOTONIC; negative: none
 */
enum forward_event forward_turn_wait(struct forward_turn *turn, struct pollfd *fds, uint32_t nfds, int64_t deadline_ns);

/** forward_turn_finish() - Interrupts what was posted, if it is not done, and waits for its end.  Return: its result. */
int64_t forward_turn_finish(struct forward_turn *turn);

/** enum forward_result - What a call that succeeds returns. */
enum forward_result {
	FORWARD_R_PLAIN,      /* a number */
	FORWARD_R_FD,	      /* a descriptor of the host, which gets a number here */
	FORWARD_R_FD_CLOEXEC, /* likewise, closed on exec */
};

/** forward_then - What is done about a call that has succeeded, in the same turn.  Return: its result for the program. */
typedef int64_t forward_then(struct forward_turn *turn, int64_t result, void *ctx);

/** forward_call_then() - A whole call of the program, restarted as signals demand.  @then: may be NULL.  Return: its result. */
int64_t forward_call_then(const struct intercept_call *call, const struct forward_rule *rule, forward_then *then, void *ctx);

/** forward_call_fd() - One whose result is of @kind. */
int64_t forward_call_fd(const struct intercept_call *call, const struct forward_rule *rule, enum forward_result kind);

/** forward_call() - One that returns a number. */
int64_t forward_call(const struct intercept_call *call, const struct forward_rule *rule);

/** forward_quick() - A turn of one forward_turn_quick(). */
int64_t forward_quick(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/** forward_actions_changed() - The program has changed what a signal does; threads that sleep in a call of the host hear of it. */
void forward_actions_changed(void);

/** forward_now_ns() - CLOCK_MONOTONIC. */
int64_t forward_now_ns(void);

/* --- descriptors (fds.c, open.c) ------------------------------------------------------------------------------------ */

#define FORWARD_FD_HOST 1
#define FORWARD_FD_CLOEXEC 2 /* its placeholder has the flag too */
#define FORWARD_FD_EPOLL 4   /* a local epoll descriptor with a companion on the host */
extern uint8_t forward_fd_state[FORWARD_FDS_MAX];

/** forward_fd_host() - Whether a descriptor is the host's. */
static inline bool forward_fd_host(uint64_t fd)
{
	return (uint32_t)fd < FORWARD_FDS_MAX && __atomic_load_n(&forward_fd_state[(uint32_t)fd], __ATOMIC_RELAXED) & FORWARD_FD_HOST;
}

/** forward_fds_any() - Whether any descriptor is. */
bool forward_fds_any(void);

/** forward_fd_set() - What a descriptor is now: FORWARD_FD_..., 0: the guest's. */
void forward_fd_set(uint64_t fd, uint8_t state);

/** forward_fds_start() - Makes what placeholders are copies of. */
void forward_fds_start(void);

/** forward_heir_locked() - A record lock has been set, as the struct flock at @at says: an exec is told that it ends (heir.c). */
void forward_heir_locked(uint64_t at);

/** forward_fd_adopt() - A new descriptor of the host gets the lowest number that is free here.  Return: it or -errno. */
int64_t forward_fd_adopt(struct forward_turn *turn, int64_t raw, bool cloexec);

/** forward_fd_reserve() - The lowest number that is free here, for a descriptor of the host that is to come.  Return: it or -errno. */
int64_t forward_fd_reserve(bool cloexec);

/** forward_fd_hold() - Number @fd, open here as something else, is a descriptor that the host has already.  Return: 0 or -errno. */
int64_t forward_fd_hold(uint64_t fd, bool cloexec);

/** forward_close_range() - close_range() of what is not our own.  Return: as the kernel does. */
int64_t forward_close_range(uint64_t first, uint64_t last, uint64_t flags);

/**
 * forward_fd_cross() - A descriptor of the guest becomes one of the host's
 * @raw: new, of the host; is closed
 * @fd: the guest's, which is closed; its number is the new one's
 *
 * Return: 0 or -errno.
 */
int64_t forward_fd_cross(struct forward_turn *turn, int64_t raw, uint64_t fd, bool cloexec);

/** forward_open_call() - What makes a descriptor on the host. */
int64_t forward_open_call(const struct intercept_call *call, const struct forward_rule *rule);

/** forward_descriptor_call() - close, close_range, dup.., fcntl, ioctl, socket.  Return: whether it did it. */
bool forward_descriptor_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result);

/** forward_ioctl() - ioctl() with a descriptor of the host (device.c). */
int64_t forward_ioctl(const struct intercept_call *call);

/* --- where things are (where.c, cwd.c) -------------------------------------------------------------------------------- */

/** forward_cwd_host() - Whether the working directory is the host's. */
bool forward_cwd_host(void);

/** struct forward_where - What a path means. */
struct forward_where {
	enum forward_side side;
	bool rewrite; /* the path must be made absolute: its directory is the other side's */
	bool empty;   /* "" or NULL: the descriptor itself */
	int32_t link; /* /proc/self/fd/N of one of the host's: N + 1 */
};

/**
 * forward_where() - On which side a path is
 * @dirfd: AT_FDCWD, or a descriptor
 * @path: in the program's memory
 *
 * Return: 0 or -errno.
 */
int forward_where(int64_t dirfd, uint64_t path, struct forward_where *where);

/** forward_absolute() - Writes the path that @path means, made absolute.  Return: 0 or -errno. */
int forward_absolute(char out[FORWARD_PATH_MAX], uint64_t path);

/** forward_string() - Copies a string of the program's.  Return: its length, @room - 1 if it is cut; or -EFAULT. */
int64_t forward_string(char *out, uint64_t from, uint64_t room);

/** forward_cwd_call() - chdir, fchdir, getcwd, umask.  Return: whether it did it. */
bool forward_cwd_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result);

/** forward_cwd_inherit() - The program was started in this directory of the host. */
void forward_cwd_inherit(const char *path);

/** forward_cwd_start() - The shadow is new: it goes to where the program is. */
void forward_cwd_start(void);

/** forward_cwd_text() - The working directory, or NULL if it is not known. */
const char *forward_cwd_text(void);

/* --- waiting (poll.c, epoll.c), memory (memory.c), programs (exec.c), sockets ------------------------------------------- */

/** forward_poll_call() - poll, ppoll, select, pselect6.  Return: whether it did it. */
bool forward_poll_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result);

/** forward_epoll_call() - epoll_ctl, epoll_wait and its kin.  Return: whether it did it. */
bool forward_epoll_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result);

/** forward_epoll_holds() - Whether a descriptor of the shadow is one of ours, a companion. */
bool forward_epoll_holds(uint32_t raw);

/** forward_epoll_paired() - Whether an epoll descriptor has had any of the host's descriptors in it. */
bool forward_epoll_paired(uint64_t epfd);

/** forward_epoll_closed() - An epoll descriptor is no more. */
void forward_epoll_closed(uint64_t fd);

/** forward_epoll_left() - A descriptor of the host is about to be closed. */
void forward_epoll_left(uint64_t fd);

/** forward_memory_call() - mmap, munmap, mremap, madvise, brk, mprotect.  Return: whether it did it. */
bool forward_memory_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result);

/* window.c: files of the host that the program maps shared; window.h has more of them */

/** forward_window_map() - mmap() of one of the host's descriptors.  Return: as mmap(2). */
int64_t forward_window_map(const struct intercept_call *call);

/** forward_window_touches() - Whether anything of it lies in a range. */
bool forward_window_touches(uint64_t start, uint64_t end);

/** forward_window_holds() - Whether all of a range lies in one of them. */
bool forward_window_holds(uint64_t start, uint64_t end);

/** forward_window_gone() - The program has something else there now, or nothing. */
void forward_window_gone(uint64_t start, uint64_t end);

/** forward_window_protect() - mprotect() of a range that forward_window_touches(): up to the first page that may not have it (EACCES). */
int64_t forward_window_protect(struct intercept_call *call);

/** forward_window_sync() - msync() of a range that forward_window_touches().  Return: as msync(2). */
int64_t forward_window_sync(uint64_t start, uint64_t end, uint64_t flags);

/** forward_memory_ready() - Before a call to the host: memory that is new since the last one is announced if it is used. */
void forward_memory_ready(uint64_t nr, const uint64_t arg[6], bool nested);

/**
 * forward_memory_again() - Whether a call that ended with @result is to be made once more
 * @tries: 0 at first
 *
 * -EFAULT may be memory that nobody has announced, such as a stack that grew; then everything is.
 */
bool forward_memory_again(int64_t result, uint32_t *tries);

/** forward_memory_room() - An mmap() of memory without access, which nobody is told of.  Return: as mmap(2). */
int64_t forward_memory_room(const struct intercept_call *call);

/** forward_memory_start() - Looks where the stack is; on the first thread's. */
void forward_memory_start(void);

/** forward_memory_begin() - The shadow is new: nothing has been told yet. */
void forward_memory_begin(void);

/** forward_exec_call() - execve, execveat.  Return: -errno. */
int64_t forward_exec_call(struct intercept_call *call, enum forward_who who);

/** forward_exec_carried() - This program is here in place of @path of the host: executes that. */
void forward_exec_carried(const char *path, char **argv, char **envp);

/** forward_exec_needs() - Whether it takes a shadow to execute that. */
bool forward_exec_needs(const struct intercept_call *call);

/** forward_unreached(), forward_unstarted() - Of the interception (intercept.h): programs that do not load the library (unreached.c). */
int64_t forward_unreached(const struct intercept_call *call, enum intercept_reach why);
void forward_unstarted(int64_t given);

/* --- dsagent (agent.c) ------------------------------------------------------------------------------------------------ */

/** forward_agent_start() - Asks for the shadow.  @why: 256 bytes, for a line of text.  Return: 0 or -errno. */
int forward_agent_start(char *why);

/** forward_agent_active() - Whether there is somebody to be told of memory. */
bool forward_agent_active(void);

/** forward_agent_change() - DROP or REFRESH of [start, end) twice; start == end: not that one.  No range at all: everything. */
int forward_agent_change(bool drop, const uint64_t range[4]);

/**
 * forward_agent_map() - Has a file of the host mapped into the VM's window
 * @want: which
 * @fd: -1: a descriptor of the window is asked for; set to what has come, the caller's: that, or the guest's /dev/mem (DS_WINDOW_PHYSICAL); -1: none
 * @got: where it is; err included
 *
 * Return: 0 or -errno: nothing was heard of it.
 */
int forward_agent_map(const struct ds_window_map *want, int32_t *fd, struct ds_window_mapped *got);

/** forward_agent_close() - In a forked child. */
void forward_agent_close(void);

/* --- telling (trace.c, summary.c) -------------------------------------------------------------------------------------------------- */

extern bool forward_tracing; /* trace or summary */

/** forward_trace_start() - Opens what the settings name. */
void forward_trace_start(void);

/** forward_trace_call() - A call is over.  @where: "host", "guest", "refused", ...; @line: the trace is to have it, too. */
void forward_trace_call(const struct intercept_call *call, int64_t result, const char *where, int64_t ns, bool line);

/** forward_trace_begin() - A call that does not return here (exit, exec, clone). */
void forward_trace_begin(const struct intercept_call *call, const char *where, bool line);

/** forward_trace_note() - A line about something that is refused or goes wrong; only with a trace.  @what: a call or NULL. */
void forward_trace_note(const char *what, const char *text);

/** forward_trace_open() - A file that lines are written to; "-": standard error.  Return: a descriptor or -errno. */
int64_t forward_trace_open(const char *name);

/** forward_summary_start() - Opens the file of the table. */
void forward_summary_start(void);

/** forward_summary_count() - A call for the table; as forward_trace_call(). */
void forward_summary_count(uint64_t nr, int64_t result, const char *where, int64_t ns);

/** forward_summary_holds() - As forward_trace_holds(). */
bool forward_summary_holds(const int32_t *holder);

/** forward_trace_summary() - The table; at the end. */
void forward_trace_summary(void);

/** forward_trace_holds() - Whether a descriptor is of the trace: children go on writing it.  @holder: as in forward_own_add(). */
bool forward_trace_holds(const int32_t *holder);

/** forward_trace_child() - In a forked child: counts of its own. */
void forward_trace_child(void);

/** forward_say() - A line on standard error, whatever the settings. */
void forward_say(const char *text, const char *more);

/** forward_local() - The call here.  Not for clone, exec, prctl, seccomp and io_uring_setup, which the interception does. */
int64_t forward_local(struct intercept_call *call);

/** forward_hook() - Of the interception. */
bool forward_hook(struct intercept_call *call, int64_t *result);

#define raw1(nr, a) intercept_raw(nr, (uint64_t)(a), 0, 0, 0, 0, 0)

#endif
