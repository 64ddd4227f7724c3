/* forward.c - a service that makes system calls for threads of the guest program
 *
 * Theory of operation
 *
 * Each executor serves one guest thread at a time, through the slot that the thread has in its own memory and the bell that
 * dshost has given us (SHADOW_EV_BELL).  runtime/wire/forward.h tells the protocol; here is the executor's side of it, a step
 * function whose stage is in struct state:
 *
 *	       .---------------------------------------------------------------------.
 *	       v								     |
 *   bell -> look: a new call? -> the registers, `taken` -> [the call] -> result, `done` -> guest asleep? -> [ring]
 *	       |  ^
 *	       |  '- somebody rings
 *	       '-> nothing for spin_ns: host_asleep, look again, [read the bell] -> it has ended: [close], wait for another
 *
 * What is in brackets are system calls, made outside of C, so that the capsule can move while an executor is blocked in them.
 * They are made exactly once however often the capsule interrupts them; the guest's own interrupts end the call in the middle
 * (service.h, SHADOW_FOR_GUEST), and no other stage.
 *
 * Spinning pays where the next call comes soon, and where the guest's thread has a processor of its own meanwhile.  A thread that was
 * woken for its result needs a while until it has it, so the time is counted from there, and that while is bounded too (WAKE_SPINS):
 * else two sides that sleep would go on waking each other for ever, however soon the next call comes.  When it is in vain more often
 * than not, the executor does without for the next 2, 4, ... REST_MAX calls: where many want the processors, who spins loses his
 * turn, for as long as a thousand calls take that sleep in between.  It is never tried for a shorter time: that would be
 * in vain for sure, and so could not show that spinning pays again.
 *
 * Barriers: shadow_swap32() is a full one, and the only ones that are wanted on x86, whose loads and stores stay in order otherwise.  Each
 * word is loaded once where it decides something.
 *
 * The call is made as posted, registers and all.  What is changed is little, and only what would not mean the same thing here
 * (substitute()): close() keeps the number taken; signal masks are left out, as the guest's signals are none of this process's;
 * sendmsg() becomes sendto() or writev(), since control data could carry a descriptor of the capsule, which no filter can see.
 * What concerns the address space, the threads and the signals of this process is refused here so that an honest program gets a
 * clean errno.  That is a courtesy: what protects the host is the filter that the shadow runs under, since a guest that writes
 * a bad pointer may own this code.
 *
 * The slot is guest memory.  If it is not there any more, or if the bell ends, the executor lets go of both.
 */
#include <asm/errno.h>
#include <asm/unistd.h>

#include "runtime/shadow/service.h"
#include "runtime/wire/fdargs.h"
#include "runtime/wire/forward.h"
#include "runtime/wire/shadow.h"

#define SPIN_NS_MAX 1000000u /* a step is over within about that */
#define WAKE_SPINS 20u	     /* a guest's thread that was woken may take so many times as long */
#define VAIN_FREE 3u	     /* failures that cost nothing yet */
#define VAIN_MAX 13u
#define REST_MAX (1u << (VAIN_MAX - VAIN_FREE))
#define YIELD_NS 5000u
#define LOOKS 16u /* between two looks at the clock */
#define REPORT_NS UINT64_C(1000000000)
#define O_CLOEXEC 02000000
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000
#define NR_uretprobe 335 /* a SIGILL to who is not being probed, and past every filter: Linux 6.11 */
#define NR_uprobe 336
#define NR_clone3 435
#define NR_epoll_pwait2 441
#define MADV_POPULATE_READ 22 /* asm-generic/mman-common.h of Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#define AT(s, field) ((s)->slot + offsetof(struct ds_forward_slot, field))

enum stage {
	STAGE_CALL,  /* the guest's call is being made */
	STAGE_RING,  /* the guest is being woken */
	STAGE_SLEEP, /* the bell is being read */
	STAGE_YIELD, /* the guest is being waited for */
	STAGE_CLOSE, /* the bell is being closed */
};

struct state {
	uint64_t slot;
	uint64_t began_ns, reported_ns;
	uint64_t free_ns;  /* since when a call is looked for */
	uint64_t taken_ns; /* since when the last result has been seen to be taken; 0: it has not */
	uint64_t yield_ns; /* when the processor was offered last */
	uint32_t spin_ns; /* at most */
	uint32_t vain;	  /* times that it was for nothing, halved by each that was not */
	uint32_t rest;	  /* calls that are not spun for */
	bool spins;	  /* for the next one */
	int32_t fd;	  /* the bell */
	uint32_t call;	  /* number of the last call */
	enum stage stage;
	bool closes; /* the call is a close() */
	struct ds_forward_report report;
	uint64_t reported_calls;
	uint8_t rings[64];
};

/* The kernel's struct user_msghdr and struct iovec. */
struct message {
	uint64_t name;
	uint32_t name_bytes, pad;
	uint64_t iov, niov, control, control_bytes;
};
struct piece {
	uint64_t base, bytes;
};

/* --- which calls ------------------------------------------------------------------------------------------------- */

/* Those that the shadow may make because the capsule itself has to, and relatives that ask for the same. */
static bool own_business(uint64_t nr)
{
	switch (nr) {
	case __NR_mmap:
	case __NR_munmap:
	case __NR_mremap:
	case __NR_mprotect:
	case __NR_brk:
	case __NR_remap_file_pages:
	case __NR_clone:
	case NR_clone3:
	case __NR_fork:
	case __NR_vfork:
	case __NR_execve:
	case __NR_execveat:
	case __NR_exit:
	case __NR_exit_group:
	case __NR_rt_sigaction:
	case __NR_rt_sigprocmask:
	case __NR_rt_sigreturn:
	case __NR_rt_sigsuspend:
	case __NR_sigaltstack:
	case __NR_restart_syscall:
	case __NR_kill:
	case __NR_tkill:
	case __NR_tgkill:
	case __NR_futex:
	case __NR_prctl:
	case __NR_arch_prctl:
	case __NR_seccomp:
	case __NR_set_tid_address:
	case __NR_set_robust_list:
	case __NR_rseq:
	case __NR_ptrace:
	case __NR_io_setup:
	case __NR_io_submit:
	case __NR_io_uring_setup:
	case __NR_io_uring_enter:
	case __NR_io_uring_register:
	case __NR_vmsplice:
	case NR_uretprobe:
	case NR_uprobe: return true;
	default: return nr > 0xffff;
	}
}

/* Whether a descriptor of the capsule is named.  A descriptor is an int. */
static bool own_descriptor(uint64_t nr, const uint64_t args[static 6])
{
	const unsigned int fds = fdargs_of(nr);

	for (int i = 0; i < 6; i++)
		if (fds & 1u << i && (uint32_t)args[i] >= DS_SHADOW_GUEST_FDS && (uint32_t)args[i] < DS_SHADOW_OWN_FDS_END)
			return true;
	return false;
}

/* A sendmsg() without control data as another call.  Return: its number, or -errno. */
static int64_t plain_sendmsg(uint64_t args[static 6])
{
	const uint64_t flags = (uint32_t)args[2];
	struct piece piece = {0};
	struct message m;

	if (shadow_fetch(&m, args[1], sizeof(m)))
		return -EFAULT;
	if (m.control && m.control_bytes)
		return -EPERM;
	if (m.niov <= 1) {
		if (m.niov && shadow_fetch(&piece, m.iov, sizeof(piece)))
			return -EFAULT;
		args[1] = piece.base;
		args[2] = piece.bytes;
		args[3] = flags;
		args[4] = m.name;
		args[5] = m.name ? m.name_bytes : 0;
		return __NR_sendto;
	}
	if (m.name || flags & ~(uint64_t)MSG_NOSIGNAL) /* writev() has neither; SIGPIPE is ignored here anyway */
		return -EOPNOTSUPP;
	args[1] = m.iov;
	args[2] = m.niov;
	return __NR_writev;
}

/* What is made instead of call @nr; @args are changed in place.  Return: a number, or -errno. */
static int64_t substitute(struct state *s, uint64_t nr, uint64_t args[static 6])
{
	s->closes = false;
	if (own_business(nr))
		return -ENOSYS;
	if (own_descriptor(nr, args))
		return -EBADF;
	switch (nr) {
	case __NR_close:
		if ((uint32_t)args[0] >= DS_SHADOW_GUEST_FDS)
			return (int64_t)nr;
		s->closes = true;
		args[1] = args[0];
		args[0] = (uint64_t)shadow_hold_fd();
		args[2] = O_CLOEXEC;
		return __NR_dup3;
	case __NR_madvise: return args[2] == MADV_POPULATE_READ || args[2] == MADV_POPULATE_WRITE ? (int64_t)nr : -ENOSYS;
	case __NR_ppoll: args[3] = 0; return (int64_t)nr;
	case __NR_pselect6: args[5] = 0; return (int64_t)nr;
	case __NR_epoll_pwait:
	case NR_epoll_pwait2: args[4] = 0; return (int64_t)nr;
	case __NR_sendmsg: return plain_sendmsg(args);
	default: return (int64_t)nr;
	}
}

/* --- the stages -------------------------------------------------------------------------------------------------- */

static enum shadow_next leave(struct shadow_exec *x, struct state *s)
{
	const uint64_t args[6] = {(uint64_t)shadow_hold_fd(), (uint64_t)s->fd, O_CLOEXEC};

	s->stage = STAGE_CLOSE;
	shadow_call(x, __NR_dup3, args, 0);
	return SHADOW_CALL;
}

static void report(struct shadow_exec *x, struct state *s, uint64_t now_ns)
{
	s->reported_ns = now_ns;
	s->reported_calls = s->report.calls;
	shadow_reply(x, &s->report, sizeof(s->report));
}

/* The next call is looked for from now on. */
static void free_since(struct state *s, uint64_t now_ns)
{
	s->free_ns = s->yield_ns = now_ns;
	s->taken_ns = 0;
	s->spins = false;
}

/* The result is there: tells the guest. */
static enum shadow_next done(struct shadow_exec *x, struct state *s, int64_t result, uint64_t took_ns, uint64_t now_ns)
{
	const uint64_t out[2] = {(uint64_t)result, took_ns};
	uint32_t asleep;

	_Static_assert(offsetof(struct ds_forward_slot, host_ns) == offsetof(struct ds_forward_slot, result) + 8, "stored at once");
	s->report.calls++;
	s->report.busy_ns += took_ns;
	if (now_ns - s->reported_ns > REPORT_NS)
		report(x, s, now_ns);
	if (shadow_store_words(AT(s, result), out, 2) || shadow_swap32(AT(s, done), s->call) || shadow_load32(&asleep, AT(s, guest_asleep)))
		return leave(x, s);
	free_since(s, now_ns);
	if (!asleep)
		return SHADOW_AGAIN;
	s->stage = STAGE_RING;
	s->rings[0] = DS_FORWARD_RING;
	/* A bell that is full rings already. */
	shadow_call(x, __NR_sendto,
		    (const uint64_t[6]){(uint64_t)s->fd, (uint64_t)shadow_handle_of(s->rings).offset, 1, MSG_DONTWAIT | MSG_NOSIGNAL},
		    1u << 1);
	return SHADOW_CALL;
}

/* @call: its number. */
static enum shadow_next take(struct shadow_exec *x, struct state *s, uint32_t call)
{
	uint64_t regs[7], *args = regs + 1;
	int64_t nr;

	_Static_assert(offsetof(struct ds_forward_slot, arg) == offsetof(struct ds_forward_slot, nr) + 8, "fetched at once");
	s->call = call;
	if (shadow_fetch_words(regs, AT(s, nr), 7) || shadow_store32(AT(s, taken), call))
		return leave(x, s);
	nr = substitute(s, regs[0], args);
	if (nr < 0)
		return done(x, s, nr, 0, shadow_now_ns());
	s->stage = STAGE_CALL;
	s->began_ns = shadow_now_ns();
	/* A close() that said EINTR would have closed. */
	shadow_call(x, (long)nr, args, s->closes ? 0 : SHADOW_FOR_GUEST);
	return SHADOW_CALL;
}

static enum shadow_next sleep(struct shadow_exec *x, struct state *s)
{
	uint32_t call;

	if (shadow_swap32(AT(s, host_asleep), 1) || shadow_load32(&call, AT(s, posted)))
		return leave(x, s);
	if (call != s->call)
		return shadow_swap32(AT(s, host_asleep), 0) ? leave(x, s) : take(x, s, call);
	s->stage = STAGE_SLEEP;
	shadow_call(x, __NR_read,
		    (const uint64_t[6]){(uint64_t)s->fd, (uint64_t)shadow_handle_of(s->rings).offset, sizeof(s->rings)}, 1u << 1);
	return SHADOW_CALL;
}

/* Whether the next call is worth to spin for. */
static bool worth(struct state *s)
{
	if (!s->spin_ns)
		return false;
	if (!s->rest)
		return true;
	s->rest--;
	return false;
}

static void in_vain(struct state *s)
{
	if (s->vain < VAIN_MAX)
		s->vain++;
	s->rest = s->vain > VAIN_FREE ? 1u << (s->vain - VAIN_FREE) : 0;
}

static enum shadow_next look(struct shadow_exec *x, struct state *s)
{
	const uint64_t long_ns = WAKE_SPINS * (uint64_t)s->spin_ns, wake_ns = long_ns < SPIN_NS_MAX ? long_ns : SPIN_NS_MAX;
	uint32_t call, seen;

	for (;;) {
		uint64_t now_ns;

		for (uint32_t i = 0; i < LOOKS; i++) {
			if (shadow_load32(&call, AT(s, posted)))
				return leave(x, s);
			if (call != s->call) {
				if (s->spins) {
					s->vain /= 2;
					s->rest = 0;
				}
				return take(x, s, call);
			}
			if (!s->spins && !worth(s))
				return sleep(x, s);
			s->spins = true;
			__builtin_ia32_pause();
		}
		now_ns = shadow_now_ns();
		if (!s->taken_ns) {
			if (shadow_load32(&seen, AT(s, seen)))
				return leave(x, s);
			s->taken_ns = seen == s->call ? now_ns : 0;
		}
		if (s->taken_ns ? now_ns - s->taken_ns >= s->spin_ns : now_ns - s->free_ns >= wake_ns) {
			in_vain(s);
			return sleep(x, s);
		}
		/* Who carries the ring may wait for this very processor. */
		if (!s->taken_ns && now_ns - s->yield_ns >= YIELD_NS) {
			s->yield_ns = now_ns;
			s->stage = STAGE_YIELD;
			shadow_call(x, __NR_sched_yield, (const uint64_t[6]){0}, 0);
			return SHADOW_CALL;
		}
		if (shadow_hurry(x))
			return SHADOW_AGAIN;
	}
}

static enum shadow_next begin(struct shadow_exec *x, struct state *s, const struct shadow_bell *bell)
{
	*s = (struct state){
		.slot = bell->slot,
		.spin_ns = bell->spin_ns < SPIN_NS_MAX ? bell->spin_ns : SPIN_NS_MAX,
		.fd = bell->fd,
		.reported_ns = shadow_now_ns(),
		.free_ns = shadow_now_ns(),
	};
	/* Within a page, so that what is there is there as a whole. */
	if (s->slot % sizeof(struct ds_forward_slot) || shadow_load32(&s->call, AT(s, done)) || shadow_swap32(AT(s, host_asleep), 0))
		return leave(x, s);
	return look(x, s);
}

static enum shadow_next result(struct shadow_exec *x, struct state *s, int64_t result)
{
	const bool passing = result == -EINTR || result == -EAGAIN;
	const uint64_t now_ns = shadow_now_ns();
	enum shadow_next next;

	switch (s->stage) {
	case STAGE_CALL:
		next = done(x, s, s->closes && result > 0 ? 0 : result, now_ns - s->began_ns, now_ns);
		return next == SHADOW_AGAIN ? look(x, s) : next; /* without a way round by the caller */
	case STAGE_RING: return result < 0 && !passing ? leave(x, s) : look(x, s);
	case STAGE_SLEEP:
		if ((result <= 0 && !passing) || shadow_swap32(AT(s, host_asleep), 0))
			return leave(x, s);
		free_since(s, now_ns);
		return look(x, s);
	case STAGE_YIELD: return look(x, s);
	default:
		s->report.over = 1;
		report(x, s, 0);
		return SHADOW_WAIT;
	}
}

static enum shadow_next step(struct shadow_exec *x, const struct shadow_event *ev)
{
	struct state *s = shadow_state(x);

	switch (ev->kind) {
	case SHADOW_EV_BELL: return begin(x, s, ev->payload);
	case SHADOW_EV_RESULT: return result(x, s, ev->result);
	case SHADOW_EV_AGAIN: return look(x, s);
	default: /* nobody has anything to say to it */
		shadow_reply(x, &(const int64_t){-ENOSYS}, sizeof(int64_t));
		return SHADOW_WAIT;
	}
}

const struct shadow_service shadow_service = {
	.name = "forward",
	.bells = true,
	.state_bytes = sizeof(struct state),
	.step = step,
};
