/* warden_parts.h - the parts of a warden, for each other; warden.h tells how they work together
 *
 *   warden.c          the loop, what is waited for, the end
 *   warden_stream.c   the guest's stream: reading, the queue of what the guest has not read yet
 *   warden_attach.c   HELLO, ATTACH: policy, limits, STARTED
 *   warden_map.c      from a guest's message to the map that a capsule may have
 *   warden_devices.c  DEVICES: what a program could have
 *   warden_capsule.c  start and BOOT of the capsule, its control socket, what it says
 *   warden_guard.c    what the capsule may map, and the look from outside whether it has let go
 *   warden_change.c   UPDATE and DROP
 *   warden_demand.c   the mirror that faults: FAULT and PAGES
 *   warden_call.c     CALL and REPLY
 *   warden_bell.c     bells of guest threads, and interrupts
 *   warden_estate.c   descriptors that the guest's program hands on
 *   warden_pace.c     limits of what it uses: who keeps them, and those that are kept by stopping it for a while
 *   warden_window.c   files of the host that the guest's program maps: MAP and UNMAP
 *   warden_pieces.c   which of its pages are which of a file
 *   warden_reach.c    the capsule has these files, too, when it touches them
 *   warden_physical.c devices that the VM has by their physical addresses
 *   warden_lease.c    what a forked child inherits of them
 *   warden_stat.c     the view in shared memory
 *
 * How parts fail: whatever ends the shadow is told to warden_end(), the first time counts, and the caller returns; the
 * loop sees it.  A part never closes or kills anything itself.
 *
 * A change is what the capsule has to answer before the guest is answered: BOOT, the map of an UPDATE, the map that a
 * DROP leaves.  There is one at a time.  While it lasts, calls, answers and faults go on.  A second change waits: at the front
 * of the stream, from which nothing is read meanwhile; in demand mode, where an answer to a fault may be behind it that the
 * first change needs to come to its end, aside.
 */
#ifndef HOST_WARDEN_PARTS_H
#define HOST_WARDEN_PARTS_H

#include <stdbool.h>

#include "rle/map.h"
#include "runtime/host/warden/agentmsg.h"
#include "runtime/host/warden/authority.h"
#include "runtime/host/demand/demand.h"
#include "runtime/host/jail/filter.h"
#include "runtime/host/warden/gone.h"
#include "runtime/host/warden/guard.h"
#include "runtime/host/jail/jail.h"
#include "runtime/host/log.h"
#include "runtime/host/policy/policy.h"
#include "runtime/host/warden/warden.h"
#include "runtime/wire/forward.h"
#include "runtime/wire/shadow.h"

#define WARDEN_OUT_BYTES_MAX (1u << 20) /* kept for a guest that does not read */
#define WARDEN_LATER_MAX 16u		/* changes that wait aside */
#define WARDEN_QUEUED_CALLS 64u		/* for executors that are at work */
#define WARDEN_LOG_LINES 100u		/* of a shadow: a guest must not be able to fill the log */
#define WARDEN_ADOPTIONS 8u
#define WARDEN_NEVER UINT64_MAX

struct estate_order;
struct windows_ask;

/** struct warden_map - A map as the capsule has it, or is to get it: into the RAM file (or the host's memory). */
struct warden_map {
	void *blob; /* owned */
	size_t blob_bytes;
	struct rle_map map; /* view of the blob */
	struct ds_shadow_range *forbidden; /* owned */
	uint64_t nforbidden;
	uint64_t segs; /* mappings that its mirror takes */
};

/** enum warden_change_kind - What is under way. */
enum warden_change_kind { WARDEN_CHANGE_NONE, WARDEN_CHANGE_BOOT, WARDEN_CHANGE_UPDATE, WARDEN_CHANGE_DROP };

/** struct warden_change - A change that the capsule has not answered yet. */
struct warden_change {
	enum warden_change_kind kind;
	uint32_t guest_seq, capsule_seq;
	bool demand_told; /* UPDATE: the machine knows of it */
	bool guarded; /* BOOT: the guard is in force, the service not started yet */
	struct warden_map coming;
	int data_fd;	      /* until it is sent; else -1 */
	uint64_t deadline_ns; /* WARDEN_NEVER where there is none */
	uint64_t dropped_pages;
};

/** struct warden_call - A call that an executor is at work on. */
struct warden_call {
	bool under_way;
	uint32_t guest_seq, capsule_seq;
};

/** struct warden_bell - The bell that an executor has; meanwhile its struct warden_call is under way, too. */
struct warden_bell {
	bool live;
	bool ended;	 /* the guest has closed it; the executor has to notice */
	int fd;		 /* ours, to see its end; -1 */
	uint32_t id;	 /* as the VM process calls it */
	uint64_t calls, busy_ns; /* as told by the executor so far */
};

/** struct warden_adoption - Descriptors that the capsule has been sent and has not answered for. */
struct warden_adoption {
	uint32_t seq; /* of the message; 0: none */
	int answer;   /* whoever waits */
};

/** struct warden_queued - A call that waits for its executor, or for room in the control socket. */
struct warden_queued {
	struct warden_queued *next;
	uint32_t executor, guest_seq, payload_bytes;
	uint8_t payload[];
};

/** struct warden_later - A change that waits aside, a whole message. */
struct warden_later {
	struct warden_later *next;
	uint64_t message[]; /* aligned as struct ds_agent_head wants it */
};

#define WARDEN_PACE_CPU POLICY_RATES /* nanoseconds a second */
#define WARDEN_PACES (POLICY_RATES + 1)

/** struct warden_pace - What of the rule's limits is kept by stopping the capsule; by enum policy_rate, and the processor. */
struct warden_pace {
	uint64_t rate[WARDEN_PACES]; /* a second; 0: no limit, or somebody else keeps it */
	uint64_t last[WARDEN_PACES]; /* counts when it was looked at */
	int64_t debt[WARDEN_PACES];  /* used too much; negative: saved */
	uint64_t looked_ns, next_ns; /* next: WARDEN_NEVER where there is no limit */
	uint64_t interval_ns;
	uint64_t stopped_ns, grace_ns, lifted_ns;
	bool stopped;
	int io_fd; /* /proc/PID/io; -1 */
};

/** struct warden_file - A file of which pieces are mapped; its descriptor is closed with the last of them. */
struct warden_file {
	int fd;
	uint32_t users;
};

/** struct warden_piece - Pages of the VM's window, or frames of the guest, that the guest's process has at @vpn. */
struct warden_piece {
	uint64_t vpn, npages, page;
	uint64_t offset;	  /* bytes, in the file */
	struct warden_file *file; /* NULL: not known, the capsule cannot have it */
	uint16_t prot;		  /* that the mapping allows */
	bool wanted;		  /* the capsule is to be told to map it */
	bool reached;		  /* it has been told */
	bool physical;		  /* page is a frame of the guest: nobody has to give it back */
};

/** struct warden_pieces - Some of them; by no order.  Owned, and with each its file's use. */
struct warden_pieces {
	struct warden_piece *at;
	uint32_t n, room;
};

/** struct warden_window - What is mapped of the window, and the MAP or UNMAP under way. */
struct warden_window {
	int fd;		    /* to the VM process; -1: there is no window */
	uint16_t under_way; /* DS_AGENT_MAP, DS_AGENT_UNMAP; 0: nothing */
	uint32_t guest_seq;
	uint32_t answers;   /* that are still to come */
	int32_t err;	    /* of those that have */
	bool reached;	    /* UNMAP: a piece of it is */
	struct ds_window_map want;
	struct warden_piece coming; /* what MAP will have: its file's use is here until then */
	struct warden_pieces have;
	uint32_t capsule_seq; /* of the WINDOW that the capsule has been sent; 0: none */
	struct ds_shadow_range capsule_range;
	bool reaching; /* the guest waits until nothing is wanted */
	int lease_fd;  /* of what the parent had; -1 */
	struct warden_pieces lent;
};

/** struct warden - Everything of a shadow. */
struct warden {
	const struct warden_params *p;
	struct warden_times times;
	enum warden_state state;
	struct warden_view view;
	unsigned int log_lines;

	/* the guest's side */
	int stream_fd;
	struct agentmsg in;
	uint64_t hello_deadline_ns; /* for what has to come first; WARDEN_NEVER later */
	uint64_t part_begun_ns;	    /* a message whose rest is still to come: when it began; 0 */
	uint64_t part_deadline_ns;  /* and when it has to be there */
	bool held;		    /* a change waits at the front of the stream */
	struct warden_later *later, **later_end;
	unsigned int nlater;
	uint8_t *out;
	size_t out_at, out_have, out_room;
	uint64_t out_deadline_ns;
	struct ds_agent_attach who;
	const struct policy_rule *rule; /* once it is admitted */

	/* the capsule's side */
	pid_t pid; /* 0: there is none */
	int pidfd, ctl_fd;
	bool ctl_full;
	uint32_t seq;
	int ram_ro_fd;
	uint64_t max_maps, min_vpn;
	uint64_t attach_ns;
	struct filter first, second;
	struct jail jail;
	struct authority *authority;
	struct guard guard;
	struct gone gone;
	struct demand *demand; /* NULL in eager mode */
	int fault_dev_fd;
	struct warden_map now;
	struct warden_change change;
	struct warden_call call[DS_SHADOW_EXECUTORS_MAX];
	struct warden_bell bell[DS_SHADOW_EXECUTORS_MAX];
	int bells_fd, bell_ends_fd; /* from the VM process; epoll of those that live */
	struct warden_adoption adoption[WARDEN_ADOPTIONS];
	struct warden_pace pace;
	struct warden_window window;
	uint64_t bell_again_ns;	    /* when an executor whose bell has ended is interrupted once more; WARDEN_NEVER */
	struct warden_queued *queue, **queue_end;
	unsigned int nqueued;

	/* the end */
	bool ended;
	int exit_status;
};

/* --- warden.c --- */
/** warden_now_ns() - CLOCK_MONOTONIC. */
uint64_t warden_now_ns(void);
/** warden_after_ms() - The time @ms from now. */
uint64_t warden_after_ms(uint64_t ms);
/**
 * warden_end() - Says that the shadow ends, and why; the first one to say so is believed
 * @code: enum ds_agent_code for the guest; 0: the guest has closed the stream, nobody is to be told
 */
__attribute__((format(printf, 3, 4))) void warden_end(struct warden *w, uint32_t code, const char *fmt, ...);
/** warden_log() - A line about this shadow, as long as it has not had too many. */
__attribute__((format(printf, 3, 4))) void warden_log(struct warden *w, enum log_level level, const char *fmt, ...);

/* --- warden_stream.c --- */
/** warden_send() - Queues a message for the guest; @msg's head is filled here. */
void warden_send(struct warden *w, uint16_t kind, uint32_t seq, struct ds_agent_head *msg, size_t bytes);
/** warden_send_payload() - The same, of a message that ends with @payload. */
void warden_send_payload(struct warden *w, uint16_t kind, uint32_t seq, struct ds_agent_head *msg, size_t bytes,
			 const void *payload, size_t payload_bytes);
/** warden_refuse() - Queues REFUSED or ENDED. */
void warden_refuse(struct warden *w, uint16_t kind, uint32_t seq, uint32_t code, const char *text);
/** warden_stream_write() - Writes what the guest takes now. */
void warden_stream_write(struct warden *w);
/** warden_stream_read() - Reads what is there and handles it. */
void warden_stream_read(struct warden *w);
/** warden_stream_work() - Handles the changes that wait, and the messages that have arrived whole. */
void warden_stream_work(struct warden *w);
/** warden_stream_free() - Gives back what waits. */
void warden_stream_free(struct warden *w);

/* --- warden_attach.c --- */
/** warden_hello() - Handles HELLO. */
void warden_hello(struct warden *w, const struct ds_agent_hello *msg);
/** warden_admit() - Asks the policy about an ATTACH whose struct has arrived; the map may still be under way. */
void warden_admit(struct warden *w, const struct ds_agent_attach *msg);
/** warden_devices() - Handles DEVICES. */
void warden_devices(struct warden *w, const struct ds_agent_devices *msg);
/** warden_attach() - Handles the whole ATTACH: starts the capsule. */
void warden_attach(struct warden *w, const struct ds_agent_attach *msg);
/** warden_started() - The capsule stands: tells the guest. */
void warden_started(struct warden *w, const struct ds_shadow_status *status);

/* --- warden_map.c --- */
/**
 * warden_map_take() - From the bytes of a guest's message to a map that its capsule may have
 * @msg: ATTACH or UPDATE
 * @out: filled; given back by warden_map_free(); empty after an error
 * @text: filled with why not, on an error
 *
 * Return: 0, or the enum ds_agent_code to refuse it with.
 */
uint32_t warden_map_take(struct warden *w, const struct ds_agent_head *msg, struct warden_map *out,
			 char text[static DS_AGENT_TEXT_BYTES]);
/**
 * warden_map_translate() - The bytes of a guest's map, checked, as a map into the RAM
 * @blob: set to it, the caller's to free(); NULL after an error
 *
 * Return: as warden_map_take().
 */
uint32_t warden_map_translate(struct warden *w, const void *bytes, size_t nbytes, void **blob, size_t *blob_bytes,
			      char text[static DS_AGENT_TEXT_BYTES]);
/**
 * warden_map_adopt() - Puts a blob into @m, which owns it from now on, and checks that it can be mirrored
 *
 * Return: as warden_map_take().
 */
uint32_t warden_map_adopt(struct warden *w, struct warden_map *m, void *blob, size_t bytes,
			  char text[static DS_AGENT_TEXT_BYTES]);
/** warden_max_segs() - How many mappings the mirror may take. */
uint64_t warden_max_segs(const struct warden *w);
/** warden_map_free() - Gives back what a map owns. */
void warden_map_free(struct warden_map *m);
/**
 * warden_map_file() - Makes the file that a capsule reads its map from: sealed, so that it stays as it is
 * @filter: the guard's program behind the ranges; NULL: none
 *
 * Return: a descriptor, the caller's; -errno.
 */
int warden_map_file(const struct warden_map *m, const void *filter, size_t filter_bytes);

/* --- warden_capsule.c --- */
/** warden_capsule_start() - Starts the capsule and sends BOOT; w->change is filled. */
void warden_capsule_start(struct warden *w);
/**
 * warden_capsule_send() - Sends a message to the capsule
 * @fds: to go along
 *
 * Return: 0; -EAGAIN: no room now, w->ctl_full is set; anything else has ended the shadow.
 */
int warden_capsule_send(struct warden *w, const void *msg, size_t bytes, const int *fds, unsigned int nfds);
/** warden_capsule_read() - Handles what the capsule has said. */
void warden_capsule_read(struct warden *w);
/** warden_capsule_gone() - Its process has ended. */
void warden_capsule_gone(struct warden *w);
/** warden_capsule_kill() - Kills it and waits until it is gone: its address space then is, too. */
void warden_capsule_kill(struct warden *w);
/** warden_capsule_head() - The head of the next message to it. */
struct ds_shadow_head warden_capsule_head(struct warden *w, uint16_t kind, size_t bytes);

/* --- warden_guard.c --- */
/** warden_guard_prepare() - Before the capsule is started: filters, and that nothing may be mapped.  Return: 0, -errno. */
int warden_guard_prepare(struct warden *w);
/** warden_guard_take() - The capsule says that its guard is in force: takes it, and lets the service start. */
void warden_guard_take(struct warden *w, const struct ds_shadow_status *status);
/** warden_guard_seal() - The service has started.  Return: whether the capsule holds no listener itself; else it has to end. */
bool warden_guard_seal(struct warden *w);
/** warden_guard_answer() - The capsule wants to map something. */
void warden_guard_answer(struct warden *w);
/**
 * warden_guard_gone() - Whether the capsule has nothing of the RAM in ranges but what its map has there
 * @except: whether that may be there; false: nothing may
 *
 * Leave for anything else has been taken back before.  Return: true; else the shadow ends, as has been said.
 */
bool warden_guard_gone(struct warden *w, const struct ds_shadow_range *ranges, size_t n, bool except);
/** warden_guard_free() - Gives it all back; the capsule is dead. */
void warden_guard_free(struct warden *w);

/* --- warden_change.c --- */
/** warden_update() - Handles UPDATE. */
void warden_update(struct warden *w, const struct ds_agent_update *msg);
/** warden_drop() - Handles DROP. */
void warden_drop(struct warden *w, const struct ds_agent_drop *msg);
/** warden_change_send() - Sends the change under way, if that has not worked yet. */
void warden_change_send(struct warden *w);
/** warden_change_done() - The capsule says that it is in force. */
void warden_change_done(struct warden *w, const struct ds_shadow_status *status);
/** warden_change_refused() - The capsule refuses it. */
void warden_change_refused(struct warden *w, const struct ds_shadow_refused *refused);

/** warden_change_over() - The change under way is in force and proved: the guest is told. */
void warden_change_over(struct warden *w, uint32_t guest_seq);

/* --- warden_demand.c; in demand mode, unless said otherwise --- */
/** warden_demand_prepare() - Makes the machine for w->change.coming. */
void warden_demand_prepare(struct warden *w);
/** warden_demand_take() - Takes the capsule's userfaultfd. */
void warden_demand_take(struct warden *w, const struct ds_shadow_status *status);
/** warden_demand_run() - The userfaultfd is readable. */
void warden_demand_run(struct warden *w);
/** warden_demand_flush() - The capsule takes messages again; in any mode. */
void warden_demand_flush(struct warden *w);
/** warden_demand_deadline_ns() - When the guest has to have answered; in any mode. */
uint64_t warden_demand_deadline_ns(const struct warden *w);
/** warden_demand_view() - Brings w->view up to date; in any mode. */
void warden_demand_view(struct warden *w);
/** warden_pages() - Handles PAGES. */
void warden_pages(struct warden *w, const struct ds_agent_pages *msg);
/** warden_demand_drop() - Handles DROP. */
void warden_demand_drop(struct warden *w, const struct ds_agent_drop *msg);
/** warden_demand_update() - Before an UPDATE is sent; in any mode.  Return: whether it may be sent now. */
bool warden_demand_update(struct warden *w);
/** warden_demand_updated() - It has been answered; in any mode.  Return: false: the shadow ends. */
bool warden_demand_updated(struct warden *w, bool applied);
/** warden_demand_status() - STATUS for the machine. */
void warden_demand_status(struct warden *w, uint32_t seq);
/** warden_demand_refused() - REFUSED for the machine. */
void warden_demand_refused(struct warden *w, const struct ds_shadow_refused *refused);

/* --- warden_call.c --- */
/** warden_call() - Handles CALL. */
void warden_call(struct warden *w, const struct ds_agent_call *msg);
/** warden_call_pump() - Sends queued calls whose executors are free. */
void warden_call_pump(struct warden *w);
/** warden_call_answer() - An executor has answered. */
void warden_call_answer(struct warden *w, const struct ds_shadow_message *msg);
/** warden_call_refused() - Whether what the capsule refuses is a call; then its caller is told. */
bool warden_call_refused(struct warden *w, const struct ds_shadow_refused *refused);
/** warden_call_free() - Gives the queue back. */
void warden_call_free(struct warden *w);

/* --- warden_bell.c --- */
/** warden_bell_prepare() - Before anything comes.  Return: 0, -errno. */
int warden_bell_prepare(struct warden *w);
/** warden_bell_read() - The VM process has sent bells or interrupts. */
void warden_bell_read(struct warden *w);
/** warden_bell_ends() - Bells have ended in the guest. */
void warden_bell_ends(struct warden *w);
/** warden_bell_again() - It is time to interrupt who has not noticed. */
void warden_bell_again(struct warden *w);
/** warden_bell_report() - Whether a MESSAGE is about a bell; then it has been handled. */
bool warden_bell_report(struct warden *w, const struct ds_shadow_message *msg);
/** warden_bell_refused() - The capsule does not take the bell of executor @i. */
void warden_bell_refused(struct warden *w, uint32_t i, const struct ds_shadow_refused *refused);
/** warden_bell_free() - Closes them. */
void warden_bell_free(struct warden *w);

/* --- warden_estate.c --- */
/** warden_estate_lay() - Takes descriptors of the capsule and sends them to @answer, which stays the caller's. */
void warden_estate_lay(struct warden *w, const struct estate_order *o, int answer);
/** warden_estate_adopt() - Gives the capsule @fds, which stay the caller's; takes *@answer over if it is to be told later. */
void warden_estate_adopt(struct warden *w, const struct estate_order *o, int *answer, const int *fds, unsigned int nfds);
/** warden_estate_answered() - Whether what the capsule answers with @seq is an ADOPT; then whoever waits is told. */
bool warden_estate_answered(struct warden *w, uint32_t seq, bool adopted);
/** warden_estate_free() - Closes what waits. */
void warden_estate_free(struct warden *w);

/* --- warden_pace.c --- */
/** warden_pace_grant() - What of the rule's limits the jail keeps. */
void warden_pace_grant(const struct warden *w, struct jail_params *p);
/** warden_pace_start() - The shadow stands: says who keeps which limit, and keeps the others from now on. */
void warden_pace_start(struct warden *w);
/** warden_pace_deadline_ns() - When it is to be looked at again. */
uint64_t warden_pace_deadline_ns(const struct warden *w);
/** warden_pace_run() - Looks what was used, stops the capsule or lets it run. */
void warden_pace_run(struct warden *w);
/** warden_pace_interrupt() - The capsule is about to be told of an interrupt: it has to run for a moment. */
void warden_pace_interrupt(struct warden *w);
/** warden_pace_free() - Gives back what it holds. */
void warden_pace_free(struct warden *w);
/* --- warden_window.c --- */
/** warden_window_map() - Handles MAP. */
void warden_window_map(struct warden *w, const struct ds_agent_map *msg);
/** warden_window_unmap() - Handles UNMAP. */
void warden_window_unmap(struct warden *w, const struct ds_agent_unmap *msg);
/** warden_window_read() - The VM process has answered. */
void warden_window_read(struct warden *w);
/** warden_window_ask() - A packet for the VM process.  Return: 0, -errno. */
int warden_window_ask(const struct warden *w, const struct windows_ask *a, int fd);
/** warden_window_reached() - The capsule has been told of all that was wanted: the guest hears of it if it waits. */
void warden_window_reached(struct warden *w);
/** warden_window_free() - Gives back memory and the socket; the pages are the VM process's to take back. */
void warden_window_free(struct warden *w);

/* --- warden_pieces.c --- */
/** warden_pieces_room() - For @n more.  Return: 0, -ENOMEM. */
int warden_pieces_room(struct warden_pieces *p, uint32_t n);
/** warden_pieces_add() - One more, for which there is room; its file is used once more. */
void warden_pieces_add(struct warden_pieces *p, struct warden_piece piece);
/**
 * warden_pieces_common() - The part of the next piece that lies in a range
 * @at: 0 at first; where to go on
 *
 * Return: whether there is one, in @out.
 */
bool warden_pieces_common(const struct warden_pieces *p, uint64_t vpn, uint64_t npages, uint32_t *at, struct warden_piece *out);
/** warden_pieces_cut() - Takes out what lies in a range; there is room for one more. */
void warden_pieces_cut(struct warden_pieces *p, uint64_t vpn, uint64_t npages);
/** warden_pieces_free() - Gives them back. */
void warden_pieces_free(struct warden_pieces *p);
/** warden_file_new() - Takes @fd over.  Return: a file without a user; NULL: no memory, @fd is closed. */
struct warden_file *warden_file_new(int fd);
/** warden_file_drop() - It has a user less; NULL is allowed. */
void warden_file_drop(struct warden_file *f);

/* --- warden_reach.c: the capsule has files where the guest's program has them --- */
/** warden_reach_touched() - Whether a page of the guest's process is a file's, of which the capsule will be told then. */
bool warden_reach_touched(struct warden *w, uint64_t vpn);
/** warden_reach_want() - The capsule is to have what lies in a range.  Return: whether there is anything. */
bool warden_reach_want(struct warden *w, uint64_t vpn, uint64_t npages);
/** warden_reach_gone() - Before a range is cut: who sleeps there is not to be forgotten. */
void warden_reach_gone(struct warden *w, uint64_t vpn, uint64_t npages);
/** warden_reach_send() - Tells the capsule of the next that is wanted, if it can be told now. */
void warden_reach_send(struct warden *w);
/** warden_reach_answered() - Whether an answer of the capsule was for a WINDOW; then it has been dealt with. */
bool warden_reach_answered(struct warden *w, uint32_t seq, bool mapped);

/* --- warden_physical.c --- */
/**
 * warden_physical_find() - Where the guest has what a device's mapping leads to
 * @t: the VM's table
 * @fd: of the device
 * @a: what of it, and how
 * @got: the frames of the guest, as extents; empty where there are none
 *
 * Return: whether all of it is memory that the VM was given.
 */
bool warden_physical_find(const struct ramtable *t, int fd, const struct windows_ask *a, struct ds_window_mapped *got);

/* --- warden_lease.c: mappings that a forked child inherits --- */
/** warden_window_lease() - A lease of all that is mapped.  Return: a descriptor, the caller's; -1: there is none. */
int warden_window_lease(struct warden *w);
/** warden_window_inherit() - @fd is a lease that the guest's process has claimed; stays the caller's.  Return: 0, -errno. */
int warden_window_inherit(struct warden *w, int fd);
/** warden_window_settle() - Forgets it. */
void warden_window_settle(struct warden *w);

/* --- warden_stat.c --- */
/** warden_stat_write() - Shows w->view to others. */
void warden_stat_write(struct warden_stat *stat, const struct warden_view *view);

#endif
