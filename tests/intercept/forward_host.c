/* forward_host.c - a host for tests: a task that shares the program's memory, and nothing else with it
 *
 * Linked into forward_native.so beside the library under test.  When a process is to have a shadow, a task is made by clone(CLONE_VM): the
 * program's memory is its own, verbatim, as a mirror would make it; descriptors, directories, root and signals are not.  It
 * changes its root to the one in DS_FORWARD_ARGS, takes bells on the abstract socket that DS_FORWARD_BELL names ("%": the process's
 * number) and runs an executor, a thread of that task, for each, as runtime/wire/forward.h says.
 *
 *   DS_FORWARD_ARGS=DIRECTORY[:EXECUTORS]   "/" of the host (not set: no host is made), and how many bells it takes at most; 16
 *   DS_FORWARD_USER=UID                     user and group of the host, which has no other groups then
 *
 * It ends with the program: by exit (pidfd) and by exec (a socket that exec closes).  Descriptors that the program hands on are kept by
 * tests/intercept/estates, which the token tells whose they are (forward_host.h).
 */
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
#include <sys/un.h>

#include "runtime/guest/forward/forward.h"
#include "tests/intercept/forward_host.h"

#define STACK_BYTES (UINT64_C(64) << 10)
#define OWN_FD 4096
#define NFDS 8192
#define EXECUTORS_MAX 64
#define KERNEL_SA_RESTORER 0x04000000u
#define PR_SET_SYSCALL_USER_DISPATCH_ 59

struct executor {
	struct ds_forward_slot *slot;
	int32_t bell, tid;
	uint32_t rung, gone, used, spin_ns, interrupted; /* interrupted: seq of the call, plus one */
	uint64_t stack;
};

static struct executor executors[EXECUTORS_MAX];
static uint32_t nexecutors = 16;
static int32_t hold, listening, lifeline, program, program_end;
static char root[512], name[108];
static uint32_t user;

/* A task on a stack of its own, which runs fn(argument) and must not return. */
int64_t host_clone(uint64_t flags, uint64_t stack_top, void (*fn)(void *), void *argument);
void host_restorer(void);
__asm__(".text\n"
	".type host_clone, @function\n"
	"host_clone:\n"
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
	".type host_restorer, @function\n"
	"host_restorer:\n"
	"	mov $15, %eax\n"
	"	syscall\n");

static uint64_t new_stack(void)
{
	return (uint64_t)raw6(__NR_mmap, 0, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* --- executors ---------------------------------------------------------------------------------------------------------------- */

static void bell_ring(const struct executor *x)
{
	const uint8_t byte = DS_FORWARD_RING;

	raw6(__NR_sendto, x->bell, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
}

static bool posted(const struct executor *x)
{
	return __atomic_load_n(&x->slot->state, __ATOMIC_SEQ_CST) == DS_FORWARD_POSTED;
}

/* Return: false: the bell is gone. */
static bool await_call(struct executor *x)
{
	const int64_t until = forward_now_ns() + x->spin_ns;

	while (x->spin_ns && forward_now_ns() < until)
		if (posted(x))
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

/* As the real service does it: the numbers of the program stay taken. */
static int64_t perform(const struct ds_forward_slot *slot)
{
	int64_t result;

	if (slot->nr == __NR_close && (uint32_t)slot->arg[0] < OWN_FD) {
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
		int64_t result, start_ns;

		__atomic_store_n(&slot->state, DS_FORWARD_RUNNING, __ATOMIC_SEQ_CST);
		start_ns = forward_now_ns();
		do
			result = perform(slot);
		while (result == -EINTR && __atomic_load_n(&x->interrupted, __ATOMIC_ACQUIRE) != slot->seq + 1);
		slot->result = result;
		slot->host_ns = (uint64_t)(forward_now_ns() - start_ns);
		__atomic_store_n(&slot->state, DS_FORWARD_DONE, __ATOMIC_SEQ_CST);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&slot->guest_asleep, __ATOMIC_SEQ_CST))
			bell_ring(x);
	}
	raw1(__NR_close, x->bell);
	__atomic_store_n(&x->used, 0, __ATOMIC_RELEASE);
	raw1(__NR_exit, 0);
}

/* --- the host's main task ------------------------------------------------------------------------------------------------------- */

static void on_interrupt(int n)
{
	(void)n;
}

/* Descriptors for numbers of the program's. */
static void adopt(int64_t fd)
{
	union {
		uint64_t align;
		char bytes[16 + FORWARD_HOST_ADOPTION_MAX * 4];
	} control;
	struct forward_host_adoption a;
	struct iovec iov = {&a, sizeof(a)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int32_t fds[FORWARD_HOST_ADOPTION_MAX];

	if (raw3(__NR_recvmsg, fd, &m, MSG_CMSG_CLOEXEC) != (int64_t)sizeof(a) || a.n > FORWARD_HOST_ADOPTION_MAX ||
	    m.msg_controllen < 16 + a.n * 4)
		return;
	memcpy(fds, control.bytes + 16, a.n * 4);
	for (uint32_t i = 0; i < a.n; i++) {
		raw3(__NR_dup3, fds[i], a.number[i], O_CLOEXEC);
		raw1(__NR_close, fds[i]);
	}
	raw6(__NR_sendto, fd, "", 1, MSG_NOSIGNAL, 0, 0);
}

static void accept_bell(void)
{
	const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	struct ds_forward_hello hello;
	const int64_t low = raw4(__NR_accept4, listening, 0, 0, SOCK_CLOEXEC), fd = raw3(__NR_fcntl, low, F_DUPFD_CLOEXEC, OWN_FD);

	raw1(__NR_close, low);
	if (fd < 0)
		return;
	if (raw6(__NR_recvfrom, fd, &hello, sizeof(hello.magic), MSG_WAITALL | MSG_PEEK, 0, 0) == 4 && hello.magic == FORWARD_HOST_ADOPTION) {
		adopt(fd);
		raw1(__NR_close, fd);
		return;
	}
	if (raw6(__NR_recvfrom, fd, &hello, sizeof(hello), MSG_WAITALL, 0, 0) == (int64_t)sizeof(hello) && hello.magic == DS_FORWARD_MAGIC &&
	    hello.version == DS_FORWARD_VERSION)
		for (uint32_t i = 0; i < nexecutors; i++) {
			struct executor *x = &executors[i];

			if (__atomic_load_n(&x->used, __ATOMIC_ACQUIRE))
				continue;
			x->slot = (struct ds_forward_slot *)hello.slot;
			x->bell = (int32_t)fd;
			x->spin_ns = hello.spin_ns;
			x->rung = x->gone = x->interrupted = 0;
			x->used = 1;
			if (!x->stack)
				x->stack = new_stack();
			x->tid = (int32_t)host_clone(flags, x->stack + STACK_BYTES, execute, x);
			return;
		}
	raw1(__NR_close, fd);
}

/* Return: whether a call is still to be interrupted. */
static bool interrupt(struct executor *x)
{
	const uint32_t state = __atomic_load_n(&x->slot->state, __ATOMIC_SEQ_CST);

	if ((state != DS_FORWARD_RUNNING && state != DS_FORWARD_POSTED) || x->interrupted != x->slot->seq + 1)
		return false;
	raw3(__NR_tgkill, raw0(__NR_getpid), x->tid, SIGUSR1);
	return true;
}

static void hear(struct executor *x)
{
	uint8_t bytes[64];
	const int64_t n = raw6(__NR_recvfrom, x->bell, bytes, sizeof(bytes), MSG_DONTWAIT, 0, 0);

	if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
		__atomic_store_n(&x->gone, 1, __ATOMIC_RELEASE);
	for (int64_t i = 0; i < n; i++)
		if (bytes[i] == DS_FORWARD_INTERRUPT)
			__atomic_store_n(&x->interrupted, x->slot->seq + 1, __ATOMIC_RELEASE);
	__atomic_fetch_add(&x->rung, 1, __ATOMIC_RELEASE);
	raw3(__NR_futex, &x->rung, FUTEX_WAKE, 1);
}

static void serve(void)
{
	for (;;) {
		struct pollfd fds[EXECUTORS_MAX + 3];
		struct __kernel_timespec ms = {0, 1000000};
		bool again = false;

		for (uint32_t i = 0; i < nexecutors; i++)
			if (executors[i].used && executors[i].interrupted)
				again |= interrupt(&executors[i]);
		fds[0] = (struct pollfd){.fd = listening, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = lifeline, .events = POLLIN};
		fds[2] = (struct pollfd){.fd = program, .events = POLLIN};
		for (uint32_t i = 0; i < nexecutors; i++)
			fds[3 + i] = (struct pollfd){.fd = executors[i].used && !executors[i].gone ? executors[i].bell : -1, .events = POLLIN};
		if (raw6(__NR_ppoll, fds, nexecutors + 3, again ? &ms : NULL, 0, 0, 0) <= 0)
			continue;
		if (fds[1].revents || fds[2].revents)
			raw1(__NR_exit_group, 0);
		for (uint32_t i = 0; i < nexecutors; i++)
			if (fds[3 + i].revents)
				hear(&executors[i]);
		if (fds[0].revents)
			accept_bell();
	}
}

static void host(void *argument)
{
	const struct {
		uint64_t handler, flags, restorer, mask;
	} act = {(uint64_t)on_interrupt, KERNEL_SA_RESTORER, (uint64_t)host_restorer, 0};
	const struct rlimit limit = {NFDS, NFDS};
	const uint64_t but = ~(UINT64_C(1) << (SIGUSR1 - 1));

	int64_t fd;

	(void)argument;
	raw0(__NR_setsid);
	raw4(__NR_prlimit64, 0, RLIMIT_NOFILE, &limit, 0);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, &but, 0, 8);
	raw4(__NR_rt_sigaction, SIGUSR1, &act, 0, 8);
	listening = (int32_t)raw3(__NR_dup3, listening, OWN_FD, O_CLOEXEC);
	lifeline = (int32_t)raw3(__NR_dup3, lifeline, OWN_FD + 1, O_CLOEXEC);
	program = (int32_t)raw3(__NR_dup3, program, OWN_FD + 2, O_CLOEXEC);
	raw3(__NR_close_range, 0, OWN_FD - 1, 0);
	hold = (int32_t)raw3(__NR_fcntl, raw3(__NR_open, "/", O_PATH, 0), F_DUPFD_CLOEXEC, OWN_FD);
	while ((fd = raw3(__NR_fcntl, hold, F_DUPFD_CLOEXEC, 0)) < OWN_FD)
		;
	raw1(__NR_close, fd);
	if (raw1(__NR_chroot, root) || raw1(__NR_chdir, "/"))
		raw1(__NR_exit_group, 1);
	if (user && (raw2(__NR_setgroups, 0, 0) || raw3(__NR_setresgid, user, user, user) || raw3(__NR_setresuid, user, user, user)))
		raw1(__NR_exit_group, 1);
	serve();
}

__attribute__((constructor(101))) static void read_user(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (envp = intercept_environment(envp); *envp; envp++)
		if (!strncmp(*envp, "DS_FORWARD_USER=", 16))
			for (const char *at = *envp + 16; *at; at++)
				user = 10 * user + (uint32_t)(*at - '0');
}

static void make_host(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct __kernel_timespec ms = {0, 1000000};
	struct forward_host_token token = {0};
	int32_t life[2];
	uint32_t n = 0, pid = (uint32_t)raw0(__NR_getpid), unit = 1;

	memset(executors, 0, sizeof(executors)); /* in a forked child: its parent's */
	if (*forward_settings.args == '/' && strlen(forward_settings.args) < sizeof(root)) {
		char *at;

		memcpy(root, forward_settings.args, strlen(forward_settings.args) + 1);
		at = strchr(root, ':');
		if (at)
			*at++ = 0;
		for (nexecutors = at ? 0 : 16; at && *at; at++)
			nexecutors = 10 * nexecutors + (uint32_t)(*at - '0');
	}
	if (*forward_settings.bell == '@' && strlen(forward_settings.bell) < sizeof(name))
		memcpy(name, forward_settings.bell + 1, strlen(forward_settings.bell));
	if (!root[0] || !name[0] || nexecutors > EXECUTORS_MAX)
		return;
	n = 1;
	for (const char *at = name; *at && n < 90; at++) {
		if (*at != '%') {
			address.sun_path[n++] = *at;
			continue;
		}
		while (pid / unit >= 10)
			unit *= 10;
		for (; unit; unit /= 10)
			address.sun_path[n++] = (char)('0' + pid / unit % 10);
	}
	listening = (int32_t)raw3(__NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The host of the program that was executed in this process before may not have gone yet. */
	for (uint32_t tries = 0; tries < 1000 && raw3(__NR_bind, listening, &address, offsetof(struct sockaddr_un, sun_path) + n) == -EADDRINUSE; tries++)
		raw2(__NR_nanosleep, &ms, 0);
	if (raw2(__NR_listen, listening, 64) ||
	    raw4(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life))
		return;
	program = (int32_t)raw2(__NR_pidfd_open, pid = (uint32_t)raw0(__NR_getpid), 0);
	lifeline = life[1];
	n = (uint32_t)listening; /* the host's own variables are these: it shares them */
	unit = (uint32_t)program;
	token.program = (int32_t)pid;
	if (intercept_config.hook) /* this call is none of the program's */
		raw6(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH_, 0, 0, 0, 0, 0);
	token.host = (int32_t)host_clone(CLONE_VM, new_stack() + STACK_BYTES, host, NULL);
	if (intercept_config.hook)
		clone_arm();
	if (token.host < 0)
		return;
	forward_pool_token((const uint8_t *)&token);
	raw1(__NR_close, n);
	raw1(__NR_close, unit);
	raw1(__NR_close, life[1]);
	forward_own_add(life[0], &program_end);
}

int __real_forward_pool_start(void);
int __wrap_forward_pool_start(void);

/* The library is about to get a shadow (-Wl,--wrap). */
int __wrap_forward_pool_start(void)
{
	if (forward_settings.bell)
		make_host();
	return __real_forward_pool_start();
}
