/* start.S - everything of the capsule that runs without a C frame
 *
 * The rule that makes relocation sound: while the capsule moves, no C function is active in it, not even a suspended
 * one.  A C frame holds return addresses, saved frame pointers and whatever addresses the compiler chose to keep in
 * registers; nobody can find and correct them all.  So the loops of the threads are here, and between two calls into
 * C a thread's whole state is one pointer: %rbx for an executor, nothing for the control thread.  Adding the distance
 * to it (and to the address jumped to) moves the thread.  Stacks are empty then: they are made anew, not copied.
 *
 *   control thread: loop { delta = ctl_step(); if (delta) { jump by delta; move_finish(delta); } }
 *   executor:       loop { stop here if ordered; exec_step(x); the stub: one system call }
 *
 * The stub, from stub_begin to stub_end, is where executors block.  A signal that finds an executor inside does not
 * return there: what the interrupted code would have done next is known from the instruction pointer alone (nothing
 * issued yet, interrupted, or finished with a result), gets written down in the executor, and the executor goes to
 * the head of its loop, where it sees the order to stop.
 */
#include "runtime/shadow/asm.h"

#define SYS_close 3
#define SYS_rt_sigreturn 15
#define SYS_gettid 186
#define SYS_futex 202
#define SYS_exit_group 231
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#define MINUS_EINTR -4
#define MINUS_EFAULT -14
/* struct ucontext of x86-64, arch/x86/include/uapi/asm/sigcontext.h: 40 bytes, then the registers */
#define UC_RBX 128
#define UC_RAX 144
#define UC_RSP 160
#define UC_RIP 168

.macro GLOBAL name
	.globl \name
	.hidden \name
\name:
.endm

	.section .text..entry, "ax", @progbits

/* The kernel enters here: no C runtime, the kernel's stack, the image wherever the kernel put it. */
	.globl _start
_start:
	xor %ebp, %ebp
	and $-16, %rsp
	call boot_relocate
	call boot_prepare		/* %rax: how far away the place is; does not return on failure */
	lea 1f(%rip), %rcx
	add %rax, %rcx
	lea capsule_image_start(%rip), %rsp
	add %rax, %rsp			/* the new stack ends where the new image begins */
	mov %rax, %rdi
	jmp *%rcx
1:	call boot_finish

ctl_loop:
	lea capsule_image_start(%rip), %rsp
	call ctl_step
	test %rax, %rax
	jz ctl_loop
	lea 1f(%rip), %rcx
	add %rax, %rcx
	add %rax, %rsp
	mov %rax, %rdi
	jmp *%rcx
1:	call move_finish
	jmp ctl_loop

/* long exec_clone(flags, struct shadow_exec *x): a thread whose stack ends at x; returns its TID or -errno */
GLOBAL exec_clone
	push %rbx
	mov %rsi, %rbx
	mov $56, %eax			/* clone(flags, stack, NULL, NULL, 0) */
	xor %edx, %edx
	xor %r10d, %r10d
	xor %r8d, %r8d
	syscall
	test %rax, %rax
	jz exec_loop			/* the child; its %rsp is x */
	pop %rbx
	ret

/* --- an executor: %rbx is its struct shadow_exec, its stack ends there ------------------------------------------- */
exec_loop:
	mov %rbx, %rsp
	mov $EXEC_RUNNING, %eax
	xchg %eax, EXEC_STATE(%rbx)	/* a full barrier: either we see the order, or who gave it sees us running */
	cmpl $EXEC_GO, EXEC_ORDER(%rbx)
	jne exec_park
	mov %rbx, %rdi
	call exec_step
	mov $EXEC_IN_CALL, %eax
	xchg %eax, EXEC_STATE(%rbx)

GLOBAL stub_begin
	cmpl $EXEC_GO, EXEC_ORDER(%rbx)
	jne exec_park
	mov EXEC_REGS+0(%rbx), %rax
	mov EXEC_REGS+8(%rbx), %rdi
	mov EXEC_REGS+16(%rbx), %rsi
	mov EXEC_REGS+24(%rbx), %rdx
	mov EXEC_REGS+32(%rbx), %r10
	mov EXEC_REGS+40(%rbx), %r8
	mov EXEC_REGS+48(%rbx), %r9
	syscall
GLOBAL stub_after
	mov %rax, EXEC_RESULT(%rbx)
	movl $EXEC_DONE, EXEC_PHASE(%rbx)
GLOBAL stub_end
	jmp exec_loop

/* Waits here, in the old place or the new one, until the order is to go. */
exec_park:
	mov %rbx, %rsp
	mov $EXEC_PARKED, %eax
park_announce:
	xchg %eax, EXEC_STATE(%rbx)
	mov $SYS_futex, %eax
	lea EXEC_STATE(%rbx), %rdi
	mov $FUTEX_WAKE_PRIVATE, %esi
	mov $1, %edx
	syscall
park_wait:
	mov EXEC_ORDER(%rbx), %r12d
	cmp $EXEC_STOP, %r12d
	jne park_leave
	mov $SYS_futex, %eax
	lea EXEC_ORDER(%rbx), %rdi
	mov $FUTEX_WAIT_PRIVATE, %esi
	mov $EXEC_STOP, %edx
	xor %r10d, %r10d
	syscall
	jmp park_wait
park_leave:
	/* The signal that asked us to stop may still be pending if the order was seen first.  It was sent before the
	 * order changed again, so any system call delivers it: here, where its handler just returns, and not in the
	 * new place while the handler's address is still the old one. */
	mov $SYS_gettid, %eax
	syscall
	cmp $EXEC_JUMP, %r12d
	je park_jump
	cmp $EXEC_NUDGE, %r12d
	jne exec_loop
	mov $EXEC_NUDGE, %eax
	mov $EXEC_GO, %ecx
	lock cmpxchg %ecx, EXEC_ORDER(%rbx)
	je exec_loop
	jmp park_wait			/* another order has come meanwhile */
park_jump:
	mov EXEC_DELTA(%rbx), %rax
	lea 1f(%rip), %rcx
	add %rax, %rcx
	add %rax, %rbx
	add %rax, %rsp
	jmp *%rcx
1:	mov $EXEC_ARRIVED, %eax
	jmp park_announce		/* the copied order is still to stop */

/* The handler of the signal that stops executors: (signal, siginfo, ucontext). */
GLOBAL exec_signal
	mov UC_RIP(%rdx), %rax
	lea stub_begin(%rip), %rcx
	cmp %rcx, %rax
	jb 3f
	lea stub_end(%rip), %rcx
	cmp %rcx, %rax
	jae 3f
	mov UC_RBX(%rdx), %rsi
	mov %rsi, UC_RSP(%rdx)
	lea exec_loop(%rip), %rdi	/* where the interrupted executor goes on */
	mov %rdi, UC_RIP(%rdx)
	lea stub_after(%rip), %rcx
	cmp %rcx, %rax
	jb 2f				/* not issued, or set back by the kernel to be issued again */
	mov UC_RAX(%rdx), %rax
	cmp $MINUS_EINTR, %rax
	jne 1f
	cmpq $SYS_close, EXEC_REGS(%rsi)
	jne 2f				/* a close() that says EINTR has closed (close(2), NOTES): never again */
1:	mov %rax, EXEC_RESULT(%rsi)	/* finished, perhaps cut short */
	movl $EXEC_DONE, EXEC_PHASE(%rsi)
2:	movl $1, EXEC_CUT(%rsi)
3:	ret				/* in C or parked: the order will be seen */

/* Where the kernel's signal frames return to; the vdso is gone (sigaction(2), SA_RESTORER). */
GLOBAL exec_restorer
	mov $SYS_rt_sigreturn, %eax
	syscall
	hlt

/* From here to guard_end: accesses to guest memory, which may not be there; a fault goes on at guard_fault.  They leave the stack alone. */
GLOBAL guard_begin

/* int guard_copy(void *to, const void *from, size_t bytes): 0, or -EFAULT when either side is not there */
GLOBAL guard_copy
	mov %rdx, %rcx
	rep movsb
	xor %eax, %eax
	ret

/* int guard_words(uint64_t *to, const uint64_t *from, size_t n): the same, a word at a time in rising order; n is 1 or more */
GLOBAL guard_words
	xor %eax, %eax
	lea (%rdi,%rdx,8), %rdi
	lea (%rsi,%rdx,8), %rsi
	neg %rdx
1:	mov (%rsi,%rdx,8), %rcx
	mov %rcx, (%rdi,%rdx,8)
	inc %rdx
	jnz 1b
	ret

/* int guard_load32(uint32_t *to, const uint32_t *from): one load of guest memory; 0, or -EFAULT */
GLOBAL guard_load32
	xor %eax, %eax
	mov (%rsi), %ecx
	mov %ecx, (%rdi)
	ret

/* int guard_store32(uint32_t *to, uint32_t value): one store to guest memory; 0, or -EFAULT */
GLOBAL guard_store32
	xor %eax, %eax
	mov %esi, (%rdi)
	ret

/* int guard_swap32(uint32_t *to, uint32_t value): likewise, and a full barrier */
GLOBAL guard_swap32
	xor %eax, %eax
	mov %esi, (%rdi)		/* leaves with the stores before it; xchg would wait for them first */
	lock orl $0, (%rsp)
	ret
GLOBAL guard_end

GLOBAL guard_fault
	mov $MINUS_EFAULT, %eax
	ret

	.section .note.GNU-stack, "", @progbits
