/* helper.c - the code of the thread in the VMM; theory in ../vmmhelper.h
 *
 * Freestanding, in one section, without data: the build (host.mk) refuses an object that refers to anything outside of itself.  State
 * is at a fixed distance from the code.
 */
#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "runtime/host/window/vmmhelper.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define PAGE UINT64_C(4096)
#define PROTS (PROT_READ | PROT_WRITE)
#define KERNEL_SA_RESTORER UINT64_C(0x04000000)
#define CLONE_AS_THREAD 0x50f00 /* CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM */
_Static_assert(CLONE_AS_THREAD == (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM), "for the assembler");
_Static_assert(offsetof(struct vmm_state, all_signals) == 144 && offsetof(struct vmm_state, mask) == 152 && offsetof(struct vmm_state, cloned) == 160 &&
		       offsetof(struct vmm_state, done) == 168 && offsetof(struct vmm_regs, rip) == 128 && offsetof(struct vmm_regs, flags) == 136,
	       "for the assembler");

#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN void vmm_main(void);
HIDDEN void vmm_restorer(void);
HIDDEN void vmm_on_fault(int signal, const siginfo_t *info, void *context);

__asm__(".text\n"
	".globl vmm_code, vmm_boot\n"
	".hidden vmm_code, vmm_boot, vmm_enter\n"
	"vmm_code:\n"
	"	ud2\n"
	".balign 16\n"
	"vmm_boot:\n"
	"	mov	$" TEXT(__NR_mprotect) ", %eax\n"
	"	lea	vmm_code + " TEXT(VMM_CODE_BYTES) "(%rip), %rdi\n"
	"	mov	$" TEXT(VMM_STATE_BYTES) " + " TEXT(VMM_STACK_BYTES) ", %esi\n"
	"	mov	$3, %edx\n"
	"	syscall\n"
	"	lea	vmm_code + " TEXT(VMM_CODE_BYTES) "(%rip), %rbx\n"
	"	mov	$" TEXT(__NR_rt_sigprocmask) ", %eax\n" /* the new thread has all signals blocked from the first */
	"	mov	$2, %edi\n"
	"	lea	144(%rbx), %rsi\n"
	"	lea	152(%rbx), %rdx\n"
	"	mov	$8, %r10d\n"
	"	syscall\n"
	"	mov	$" TEXT(__NR_clone) ", %eax\n"
	"	mov	$" TEXT(CLONE_AS_THREAD) ", %edi\n"
	"	lea	" TEXT(VMM_STATE_BYTES) " + " TEXT(VMM_STACK_BYTES) "(%rbx), %rsi\n"
	"	xor	%edx, %edx\n"
	"	xor	%r10d, %r10d\n"
	"	xor	%r8d, %r8d\n"
	"	syscall\n"
	"	test	%rax, %rax\n"
	"	jz	1f\n"
	"	mov	%rax, 160(%rbx)\n"
	"	mov	$" TEXT(__NR_rt_sigprocmask) ", %eax\n"
	"	mov	$2, %edi\n"
	"	lea	152(%rbx), %rsi\n"
	"	xor	%edx, %edx\n"
	"	mov	$8, %r10d\n"
	"	syscall\n"
	"	movq	$1, 168(%rbx)\n"
	"	lea	-136(%rsp), %rsp\n" /* below what the thread uses; a signal may come again here */
	"	push	136(%rbx)\n"
	"	popfq\n"
	"	mov	0(%rbx), %rax\n"
	"	mov	16(%rbx), %rcx\n"
	"	mov	24(%rbx), %rdx\n"
	"	mov	32(%rbx), %rsi\n"
	"	mov	40(%rbx), %rdi\n"
	"	mov	48(%rbx), %rbp\n"
	"	mov	56(%rbx), %r8\n"
	"	mov	64(%rbx), %r9\n"
	"	mov	72(%rbx), %r10\n"
	"	mov	80(%rbx), %r11\n"
	"	mov	88(%rbx), %r12\n"
	"	mov	96(%rbx), %r13\n"
	"	mov	104(%rbx), %r14\n"
	"	mov	112(%rbx), %r15\n"
	"	mov	120(%rbx), %rsp\n"
	"	mov	8(%rbx), %rbx\n"
	"	jmp	*vmm_code + " TEXT(VMM_CODE_BYTES) " + 128(%rip)\n"
	".globl vmm_enter\n"
	"vmm_enter:\n" /* a new thread, on its stack */
	"1:	xor	%ebp, %ebp\n"
	"	call	vmm_main\n"
	"	mov	$" TEXT(__NR_exit) ", %eax\n"
	"	xor	%edi, %edi\n"
	"	syscall\n"
	"	ud2\n"
	".globl vmm_restorer\n"
	"vmm_restorer:\n"
	"	mov	$" TEXT(__NR_rt_sigreturn) ", %eax\n"
	"	syscall\n");

extern HIDDEN char vmm_text[] __asm__("vmm_code");

static inline struct vmm_state *state(void)
{
	return (struct vmm_state *)(vmm_text + VMM_CODE_BYTES);
}

static inline int64_t call(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}

static bool within(const struct vmm_state *s, uint64_t address, uint64_t bytes)
{
	return s->armed && !((address | bytes) % PAGE) && bytes && bytes <= s->window_bytes && address >= s->window &&
	       address - s->window <= s->window_bytes - bytes;
}

/* Return: 0 or -errno. */
static int64_t map_at(uint64_t address, uint64_t bytes, uint64_t prot, uint64_t flags, uint32_t fd, uint64_t offset)
{
	const int64_t at = call(__NR_mmap, address, bytes, prot, flags | MAP_FIXED, (uint64_t)(int64_t)(int32_t)fd, offset);

	return at < 0 && at > -4096 ? at : 0;
}

/* --- faults ------------------------------------------------------------------------------------------------------ */

/* Runs in any thread of the VMM. */
void vmm_on_fault(int signal, const siginfo_t *info, void *context)
{
	struct vmm_state *s = state();
	struct vmm_action *before = signal == SIGBUS ? &s->bus : &s->segv;
	struct vmm_reply told;

	told.address = (uint64_t)info->si_addr & ~(PAGE - 1);
	/* BUS_MCEERR_...: the memory itself is broken, which the VMM passes on to the guest */
	if (info->si_code > 0 && !(signal == SIGBUS && info->si_code > BUS_OBJERR) && within(s, told.address, PAGE) &&
	    !map_at(told.address, PAGE, PROTS, MAP_SHARED | MAP_ANONYMOUS, UINT32_MAX, 0)) {
		told.what = VMM_FAULT;
		told.seq = 0;
		told.result = signal;
		call(__NR_sendto, s->sock, (uint64_t)&told, sizeof(told), MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
		return;
	}
	if (before->handler > 1)
		((void (*)(int, const siginfo_t *, void *))before->handler)(signal, info, context);
	else
		call(__NR_rt_sigaction, (uint64_t)signal, (uint64_t)before, 0, 8, 0, 0); /* the access is made again, and it is what it would have been */
}

static void set_handler(int signal, struct vmm_action *before)
{
	struct vmm_action ours;

	ours.handler = (uint64_t)vmm_on_fault;
	ours.flags = SA_SIGINFO | SA_ONSTACK | KERNEL_SA_RESTORER;
	ours.restorer = (uint64_t)vmm_restorer;
	ours.mask = 0;
	call(__NR_rt_sigaction, (uint64_t)signal, (uint64_t)&ours, (uint64_t)before, 8, 0, 0);
}

/* If it is still ours. */
static void reset_handler(int signal, const struct vmm_action *before)
{
	struct vmm_action now;

	if (!call(__NR_rt_sigaction, (uint64_t)signal, 0, (uint64_t)&now, 8, 0, 0) && now.handler == (uint64_t)vmm_on_fault)
		call(__NR_rt_sigaction, (uint64_t)signal, (uint64_t)before, 0, 8, 0, 0);
}

/* --- orders ------------------------------------------------------------------------------------------------------- */

/* @fd: came along; is taken over if it is set to UINT32_MAX. */
static int64_t arm(struct vmm_state *s, const struct vmm_order *o, uint32_t *fd)
{
	if (s->armed || *fd == UINT32_MAX || (o->address | o->bytes) % PAGE || !o->bytes)
		return -22; /* EINVAL */
	s->shm = *fd;
	*fd = UINT32_MAX;
	s->window = o->address;
	s->window_bytes = o->bytes;
	s->armed = 1;
	set_handler(SIGBUS, &s->bus);
	set_handler(SIGSEGV, &s->segv);
	return 0;
}

static void disarm(struct vmm_state *s)
{
	if (!s->armed)
		return;
	s->armed = 0;
	reset_handler(SIGBUS, &s->bus);
	reset_handler(SIGSEGV, &s->segv);
	call(__NR_close, s->shm, 0, 0, 0, 0, 0);
}

static int64_t execute(struct vmm_state *s, const struct vmm_order *o, uint32_t *fd)
{
	if (o->what == VMM_ARM)
		return arm(s, o, fd);
	if (o->what == VMM_DISARM) {
		disarm(s);
		return 0;
	}
	if (!within(s, o->address, o->bytes))
		return -22;
	if (o->what == VMM_UNMAP)
		return map_at(o->address, o->bytes, PROTS, MAP_SHARED, s->shm, o->address - s->window);
	if (o->what != VMM_MAP || *fd == UINT32_MAX)
		return -22;
	return map_at(o->address, o->bytes, o->prot & PROTS, MAP_SHARED, *fd, o->offset);
}

/* The kernel's struct user_msghdr, and a cmsghdr with a descriptor. */
struct message {
	uint64_t name, name_bytes, iov, niov, control, control_bytes, flags;
};
struct rights {
	uint64_t bytes;
	uint32_t level, type, fd, pad;
};

static void serve(struct vmm_state *s)
{
	for (;;) {
		struct vmm_order order;
		struct vmm_reply reply;
		struct rights rights;
		uint64_t iov[2];
		struct message m;
		int64_t got;

		iov[0] = (uint64_t)&order;
		iov[1] = sizeof(order);
		m.name = m.name_bytes = m.flags = 0;
		m.iov = (uint64_t)iov;
		m.niov = 1;
		m.control = (uint64_t)&rights;
		m.control_bytes = sizeof(rights);
		rights.bytes = 0;
		got = call(__NR_recvmsg, s->sock, (uint64_t)&m, MSG_CMSG_CLOEXEC, 0, 0, 0);
		if (got == -4) /* EINTR: a debugger */
			continue;
		if (got <= 0)
			return;
		if (m.control_bytes < 20 || rights.bytes < 20 || rights.level != SOL_SOCKET || rights.type != SCM_RIGHTS)
			rights.fd = UINT32_MAX;
		reply.what = order.what;
		reply.seq = order.seq;
		reply.address = order.address;
		reply.result = got == sizeof(order) ? execute(s, &order, &rights.fd) : -22;
		if (rights.fd != UINT32_MAX)
			call(__NR_close, rights.fd, 0, 0, 0, 0, 0);
		call(__NR_sendto, s->sock, (uint64_t)&reply, sizeof(reply), MSG_NOSIGNAL, 0, 0);
	}
}

/* The connection has ended. */
static void leave(struct vmm_state *s)
{
	if (s->armed) {
		map_at(s->window, s->window_bytes, PROTS, MAP_SHARED, s->shm, 0);
		disarm(s);
	}
	call(__NR_close, s->sock, 0, 0, 0, 0, 0);
}

static int64_t listen_and_serve(struct vmm_state *s, uint32_t sock)
{
	int64_t rc = call(__NR_bind, sock, (uint64_t)&s->address, 2 + s->path_bytes, 0, 0, 0);

	if (!rc)
		rc = call(__NR_listen, sock, 1, 0, 0, 0, 0);
	s->failed = (uint64_t)rc;
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
	while (!rc) {
		const int64_t got = call(__NR_accept4, sock, 0, 0, SOCK_CLOEXEC, 0, 0);

		if (got < 0)
			continue; /* EINTR, or who connected has gone; nothing else can come of it */
		s->sock = (uint32_t)got;
		serve(s);
		leave(s);
	}
	return rc;
}

void vmm_main(void)
{
	struct vmm_state *s = state();
	const uint64_t name = UINT64_C(0x6f646e69772d7364); /* "ds-windo" */
	const uint64_t name_end = 'w';
	uint64_t both[2];
	int64_t rc;

	both[0] = name;
	both[1] = name_end;
	call(__NR_prctl, PR_SET_NAME, (uint64_t)both, 0, 0, 0, 0);
	rc = call(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0, 0, 0);
	if (rc >= 0 && s->listens) {
		rc = listen_and_serve(s, (uint32_t)rc);
	} else if (rc >= 0) {
		s->sock = (uint32_t)rc;
		rc = call(__NR_connect, s->sock, (uint64_t)&s->address, 2 + s->path_bytes, 0, 0, 0);
		if (!rc)
			serve(s);
		leave(s);
	}
	s->failed = (uint64_t)rc;
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE); /* who waits for it to listen waits no longer */
}
