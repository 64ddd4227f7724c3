/* task.c - see task.h */
#include "runtime/container/task.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "runtime/guest/forward/forward.h"
#include "runtime/wire/shadow.h"

#define STACK_BYTES (UINT64_C(64) << 10)
#define START_NS (30 * NS_PER_SEC)
#define CMSG_BYTES 16
#define SPINS 32u      /* between two looks at the clock */
#define WAKE_SPINS 20u /* a thread that was woken for its result may take so many times as long as one spins for the next call */
#define VAIN_FREE 3u   /* failures that cost nothing yet */
#define VAIN_MAX 8u
#define KERNEL_SA_RESTORER 0x04000000u
#define PR_SET_SYSCALL_USER_DISPATCH_ 59

struct executor {
	struct ds_forward_slot *slot;
	int32_t bell, tid;
	uint32_t rung, gone, used, spin_ns;
	uint32_t vain, rest;  /* times that spinning was in vain, and calls that it is not tried for */
	uint32_t interrupted; /* number of the call that is to be, plus one */
	uint32_t signalled;   /* since a call was last made again for that */
	uint64_t stack;
};

/* The task has these, too: they are of one program, and in a forked child of the next one. */
static struct executor executors[TASK_EXECUTORS_MAX];
static struct task_want wanted;
static int32_t hold, program;
static uint64_t main_stack;
static uint32_t state; /* 0: not prepared yet, 1: it is, else a -errno */

/* A task on a stack of its own, which runs fn(argument) and must not return. */
int64_t task_clone(uint64_t flags, uint64_t stack_top, void (*fn)(void *), void *argument);
void task_restorer(void);
__asm__(".text\n"
	".type task_clone, @function\n"
	"task_clone:\n"
	"	sub $24, %rsi\n"
	"	lea 1f(%rip), %rax\n"
	"	mov %rax, (%rsi)\n"
	"	mov %rdx, 8(%rsi)\n"
	"	mov %rcx, 16(%rsi)\n"
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	xor %r8d, %r8d\n"
	"	mov $56, %eax\n"
	"	jmp intercept_syscall\n" /* exempt; it returns twice */
	"1:	pop %rax\n"
	"	pop %rdi\n"
	"	xor %ebp, %ebp\n"
	"	call *%rax\n"
	"	hlt\n"
	".type task_restorer, @function\n"
	"task_restorer:\n"
	"	mov $15, %eax\n"
	"	syscall\n");

static uint64_t new_stack(void)
{
	const int64_t at = raw6(__NR_mmap, 0, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at < 0 ? 0 : (uint64_t)at;
}

/* --- executors ---------------------------------------------------------------------------------------------------------------- */

static void bell_ring(const struct executor *x)
{
	const uint8_t byte = DS_FORWARD_RING;

	raw6(__NR_sendto, x->bell, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
}

/* Whether there is a call that has not been made; `done` and `taken` are written by nobody else. */
static bool posted(const struct executor *x)
{
	return __atomic_load_n(&x->slot->posted, __ATOMIC_SEQ_CST) != x->slot->done;
}

/* Return: whether a call came.  Others may have the processor meanwhile: the program's thread may be one of them. */
static bool spin(const struct executor *x)
{
	int64_t since = forward_now_ns();
	bool taken = false; /* the result of the call before */

	for (;;) {
		int64_t now;

		for (uint32_t i = 0; i < SPINS; i++) {
			if (posted(x))
				return true;
			__asm__ volatile("pause");
		}
		raw0(__NR_sched_yield);
		now = forward_now_ns();
		if (!taken && __atomic_load_n(&x->slot->seen, __ATOMIC_RELAXED) == x->slot->done) {
			taken = true;
			since = now;
		}
		if (now - since >= (int64_t)x->spin_ns * (taken ? 1 : WAKE_SPINS))
			return false;
	}
}

/* When spinning pays: as the service of a capsule has it (runtime/services/forward.c). */
static bool spin_if_worth(struct executor *x)
{
	if (!x->spin_ns || x->rest) {
		x->rest -= x->rest > 0;
		return false;
	}
	if (spin(x)) {
		x->vain /= 2;
		return true;
	}
	x->vain += x->vain < VAIN_MAX;
	x->rest = x->vain > VAIN_FREE ? 1u << (x->vain - VAIN_FREE) : 0;
	return false;
}

/* Return: false: the bell is gone. */
static bool await_call(struct executor *x)
{
	if (spin_if_worth(x))
		return true;
	while (!__atomic_load_n(&x->gone, __ATOMIC_ACQUIRE)) {
		const uint32_t rung = __atomic_load_n(&x->rung, __ATOMIC_ACQUIRE);

		__atomic_store_n(&x->slot->host_asleep, 1, __ATOMIC_SEQ_CST);
		if (!posted(x))
			raw4(__NR_futex, &x->rung, FUTEX_WAIT, rung, 0);
		__atomic_store_n(&x->slot->host_asleep, 0, __ATOMIC_SEQ_CST);
		if (posted(x))
			return true;
	}
	return false;
}

/* As the service of a capsule does it: the numbers of the program stay taken. */
static int64_t perform(const struct ds_forward_slot *slot)
{
	int64_t result;

	if (slot->nr == __NR_close && (uint32_t)slot->arg[0] < DS_SHADOW_GUEST_FDS) {
		result = raw3(__NR_dup3, hold, slot->arg[0], O_CLOEXEC);
		return result < 0 ? result : 0;
	}
	return intercept_raw(slot->nr, slot->arg[0], slot->arg[1], slot->arg[2], slot->arg[3], slot->arg[4], slot->arg[5]);
}

static void execute(void *argument)
{
	struct executor *x = argument;
	struct ds_forward_slot *slot = x->slot;

	while (await_call(x)) {
		const uint32_t call = slot->posted;
		int64_t result, start_ns;

		__atomic_store_n(&slot->taken, call, __ATOMIC_SEQ_CST);
		start_ns = forward_now_ns();
		/* A signal for the call before may have come too late for that.  What ends so by itself (KVM_RUN) is not made again for ever. */
		do
			result = perform(slot);
		while (result == -EINTR && __atomic_load_n(&x->interrupted, __ATOMIC_ACQUIRE) != call + 1 &&
		       __atomic_exchange_n(&x->signalled, 0, __ATOMIC_ACQUIRE));
		slot->result = result;
		slot->host_ns = (uint64_t)(forward_now_ns() - start_ns);
		__atomic_store_n(&slot->done, call, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&slot->guest_asleep, __ATOMIC_SEQ_CST))
			bell_ring(x);
	}
	raw3(__NR_dup3, hold, x->bell, O_CLOEXEC);
	__atomic_store_n(&x->used, 0, __ATOMIC_RELEASE);
	raw1(__NR_exit, 0);
}

/* --- what comes to the task ------------------------------------------------------------------------------------------------------ */

static void on_interrupt(int n)
{
	(void)n;
}

int64_t task_receive(int32_t socket, void *packet, uint64_t room, int32_t *fds, uint32_t *nfds)
{
	union {
		struct {
			uint64_t bytes;
			int32_t level, type, fd[TASK_ADOPTION_MAX];
		} rights;
		char bytes[CMSG_BYTES + TASK_ADOPTION_MAX * 4 + 64]; /* and a name of the sender, where the socket gives such */
	} control;
	struct iovec iov = {packet, room};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	const int64_t got = raw3(__NR_recvmsg, socket, &m, MSG_CMSG_CLOEXEC);
	const bool came = got > 0 && m.msg_controllen >= CMSG_BYTES && control.rights.level == SOL_SOCKET && control.rights.type == SCM_RIGHTS;
	const uint32_t n = came ? (uint32_t)(control.rights.bytes - CMSG_BYTES) / 4 : 0;

	for (uint32_t i = 0; i < n && i < TASK_ADOPTION_MAX; i++) {
		if (i < *nfds)
			fds[i] = control.rights.fd[i];
		else
			raw1(__NR_close, control.rights.fd[i]);
	}
	*nfds = n < *nfds ? n : *nfds;
	return got;
}

int64_t task_adopt(int32_t socket)
{
	struct task_adoption a;
	int32_t fds[TASK_ADOPTION_MAX];
	uint32_t n = TASK_ADOPTION_MAX;
	const int64_t got = task_receive(socket, &a, sizeof(a), fds, &n);
	bool good = got == (int64_t)sizeof(a) && a.magic == TASK_ADOPTION && a.n == n;

	for (uint32_t i = 0; i < n; i++) {
		if (good && a.number[i] < DS_SHADOW_GUEST_FDS)
			good = raw3(__NR_dup3, fds[i], a.number[i], O_CLOEXEC) >= 0;
		raw1(__NR_close, fds[i]);
	}
	if (got > 0)
		raw6(__NR_sendto, socket, good ? "" : "\1", 1, MSG_NOSIGNAL, 0, 0);
	return got > 0 ? 0 : got < 0 ? got : -EPIPE;
}

void task_bell(int32_t low)
{
	const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	struct ds_forward_hello hello;

	if (raw6(__NR_recvfrom, low, &hello, sizeof(hello), MSG_WAITALL, 0, 0) == (int64_t)sizeof(hello) && hello.magic == DS_FORWARD_MAGIC &&
	    hello.version == DS_FORWARD_VERSION)
		for (uint32_t i = 0; i < wanted.nexecutors; i++) {
			struct executor *x = &executors[i];

			if (__atomic_load_n(&x->used, __ATOMIC_ACQUIRE))
				continue;
			if (!x->stack)
				x->stack = new_stack();
			if (!x->stack)
				break;
			x->slot = (struct ds_forward_slot *)hello.slot;
			x->bell = (int32_t)raw3(__NR_dup3, low, DS_SHADOW_BELL_FD + i, O_CLOEXEC);
			x->spin_ns = hello.spin_ns;
			x->rung = x->gone = x->interrupted = x->signalled = x->vain = x->rest = 0;
			x->used = 1;
			x->tid = x->bell < 0 ? -1 : (int32_t)task_clone(flags, x->stack + STACK_BYTES, execute, x);
			if (x->tid <= 0) {
				raw3(__NR_dup3, hold, DS_SHADOW_BELL_FD + i, O_CLOEXEC);
				x->used = 0;
			}
			break;
		}
	raw1(__NR_close, low);
}

/* Return: whether a call is still to be interrupted. */
static bool interrupt(struct executor *x)
{
	if (ds_forward_done(x->slot) || x->interrupted != x->slot->posted + 1)
		return false;
	__atomic_store_n(&x->signalled, 1, __ATOMIC_RELEASE);
	raw3(__NR_tgkill, raw0(__NR_getpid), x->tid, SIGUSR1);
	return true;
}

static void hear_bell(struct executor *x)
{
	uint8_t bytes[64];
	const int64_t n = raw6(__NR_recvfrom, x->bell, bytes, sizeof(bytes), MSG_DONTWAIT, 0, 0);

	if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
		__atomic_store_n(&x->gone, 1, __ATOMIC_RELEASE);
	for (int64_t i = 0; i < n; i++)
		if (bytes[i] == DS_FORWARD_INTERRUPT)
			__atomic_store_n(&x->interrupted, x->slot->posted + 1, __ATOMIC_RELEASE);
	__atomic_fetch_add(&x->rung, 1, __ATOMIC_RELEASE);
	raw3(__NR_futex, &x->rung, FUTEX_WAKE, 1);
}

static void serve(void)
{
	enum { BELLS = TASK_HEARD_MAX + 1 };

	for (;;) {
		struct pollfd fds[TASK_EXECUTORS_MAX + BELLS];
		const struct __kernel_timespec ms = {0, 1000000};
		bool again = false;

		for (uint32_t i = 0; i < wanted.nexecutors; i++)
			if (executors[i].used && executors[i].interrupted)
				again |= interrupt(&executors[i]);
		for (uint32_t i = 0; i < TASK_HEARD_MAX; i++)
			fds[i] = (struct pollfd){.fd = wanted.keep[i], .events = POLLIN};
		fds[TASK_HEARD_MAX] = (struct pollfd){.fd = program, .events = POLLIN};
		for (uint32_t i = 0; i < wanted.nexecutors; i++)
			fds[BELLS + i] = (struct pollfd){.fd = executors[i].used && !executors[i].gone ? executors[i].bell : -1, .events = POLLIN};
		if (raw6(__NR_ppoll, fds, wanted.nexecutors + BELLS, again ? &ms : NULL, 0, 0, 0) <= 0)
			continue;
		if (fds[TASK_HEARD_MAX].revents)
			raw1(__NR_exit_group, 0);
		for (uint32_t i = 0; i < wanted.nexecutors; i++)
			if (fds[BELLS + i].revents)
				hear_bell(&executors[i]);
		for (uint32_t i = 0; i < TASK_HEARD_MAX; i++)
			if (fds[i].revents && !wanted.hear(&wanted, i))
				raw1(__NR_exit_group, 0);
	}
}

/* --- the task -------------------------------------------------------------------------------------------------------------------- */

static void say(int64_t rc)
{
	__atomic_store_n(&state, (uint32_t)(rc ? rc : 1), __ATOMIC_RELEASE);
	raw3(__NR_futex, &state, FUTEX_WAKE, 1);
	if (rc)
		raw1(__NR_exit_group, 1);
}

/* The program's numbers and our own are all taken, so that none is ever free, and what a driver makes is above. */
static void fill_numbers(void)
{
	int64_t fd;

	hold = (int32_t)raw3(__NR_dup3, raw3(__NR_open, "/", O_PATH, 0), DS_SHADOW_HOLD_FD, O_CLOEXEC);
	if (hold < 0)
		say(hold);
	raw3(__NR_close_range, 0, DS_SHADOW_GUEST_FDS - 1, 0);
	while ((fd = raw3(__NR_fcntl, hold, F_DUPFD_CLOEXEC, 0)) >= 0 && fd < DS_SHADOW_HOLD_FD)
		;
	if (fd < 0)
		say(fd);
	raw1(__NR_close, fd);
}

/* Whoever may not raise the limit may have been given enough. */
static int64_t raise_limit(void)
{
	struct rlimit limit = {DS_SHADOW_FDS_MAX, DS_SHADOW_FDS_MAX};
	const int64_t rc = raw4(__NR_prlimit64, 0, RLIMIT_NOFILE, &limit, 0);

	if (!rc || raw4(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, &limit) || limit.rlim_max < DS_SHADOW_FDS_MAX)
		return rc;
	limit.rlim_cur = DS_SHADOW_FDS_MAX;
	return raw4(__NR_prlimit64, 0, RLIMIT_NOFILE, &limit, 0);
}

static void run(void *argument)
{
	const struct {
		uint64_t handler, flags, restorer, mask;
	} act = {(uint64_t)on_interrupt, KERNEL_SA_RESTORER, (uint64_t)task_restorer, 0};
	const uint64_t but = ~(UINT64_C(1) << (SIGUSR1 - 1));
	int64_t rc;

	(void)argument;
	raw0(__NR_setsid);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &but, 0, 8);
	raw4(__NR_rt_sigaction, SIGUSR1, &act, 0, 8);
	rc = wanted.prepare(&wanted);
	if (!rc)
		rc = raise_limit();
	if (rc)
		say(rc);
	for (uint32_t i = 0; i < TASK_HEARD_MAX; i++)
		if (wanted.keep[i] >= 0)
			wanted.keep[i] = (int32_t)raw3(__NR_dup3, wanted.keep[i], DS_SHADOW_CTL_FD + i, O_CLOEXEC);
	program = (int32_t)raw3(__NR_dup3, program, DS_SHADOW_CTL_FD + TASK_HEARD_MAX, O_CLOEXEC);
	fill_numbers();
	say(0);
	serve();
}

int64_t task_start(const struct task_want *want)
{
	const int64_t until = forward_now_ns() + START_NS;
	const struct __kernel_timespec moment = {0, NS_PER_SEC / 10};
	uint32_t now = 0;
	int64_t task;
	int32_t mine;

	if (want->nexecutors > TASK_EXECUTORS_MAX || !want->nexecutors)
		return -EINVAL;
	wanted = *want;
	for (uint32_t i = 0; i < TASK_EXECUTORS_MAX; i++) { /* in a forked child: its parent's, but for the stacks */
		const uint64_t stack = executors[i].stack;

		executors[i] = (struct executor){.stack = stack};
	}
	if (!main_stack)
		main_stack = new_stack();
	mine = (int32_t)raw2(__NR_pidfd_open, raw0(__NR_getpid), 0);
	if (!main_stack || mine < 0)
		return main_stack ? mine : -ENOMEM;
	program = mine;
	state = 0;
	if (intercept_config.hook) /* this call is none of the program's */
		raw6(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH_, 0, 0, 0, 0, 0);
	task = task_clone(CLONE_VM, main_stack + STACK_BYTES, run, NULL);
	if (intercept_config.hook)
		clone_arm();
	while (task > 0 && !(now = __atomic_load_n(&state, __ATOMIC_ACQUIRE)) && forward_now_ns() < until)
		raw4(__NR_futex, &state, FUTEX_WAIT, 0, &moment);
	raw1(__NR_close, mine);
	if (task < 0)
		return task;
	return now == 1 ? task : now ? (int64_t)(int32_t)now : -ETIMEDOUT;
}
