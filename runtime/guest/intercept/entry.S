/* entry.S - the only code whose system calls are not intercepted, and the way in and out; see intercept.h
 *
 * intercept_entry, intercept_jump_entry
 *	in:   rax the call's number, rdi rsi rdx r10 r8 r9 its arguments, rcx where the program goes on, rsp the program's
 *	out:  rax the result, rcx and r11 of no meaning, all else as it was, at rcx
 *
 * The frame, from rbp up: rbp, struct intercept_call (nr, six arguments, trapped, pc), the red zone.  The call frame
 * information describes it, so that unwinders (pthread_cancel, C++ exceptions from handlers) pass through.
 */
#include "runtime/guest/intercept/offsets.h"

	.section .text.intercept, "ax", @progbits
	.p2align 12
	.globl intercept_exempt_start
	.hidden intercept_exempt_start
intercept_exempt_start:

	.globl intercept_raw
	.hidden intercept_raw
	.type intercept_raw, @function
intercept_raw:
	.cfi_startproc
	mov %rdi, %rax
	mov %rsi, %rdi
	mov %rdx, %rsi
	mov %rcx, %rdx
	mov %r8, %r10
	mov %r9, %r8
	mov 8(%rsp), %r9
	.globl intercept_syscall
	.hidden intercept_syscall
intercept_syscall:	/* a call in registers, for who comes with a stack that the return address is on */
	syscall
	ret
	.cfi_endproc
	.size intercept_raw, . - intercept_raw

	.globl intercept_restorer
	.hidden intercept_restorer
	.type intercept_restorer, @function
	nop /* unwinders look at the byte before a return address */
intercept_restorer:
	mov $NR_RT_SIGRETURN, %eax
	syscall
	.size intercept_restorer, . - intercept_restorer

	.globl intercept_jump_entry
	.hidden intercept_jump_entry
	.type intercept_jump_entry, @function
intercept_jump_entry:
	xor %r11d, %r11d
	jmp 1f
	.size intercept_jump_entry, . - intercept_jump_entry

	.globl intercept_entry
	.hidden intercept_entry
	.type intercept_entry, @function
intercept_entry:
	.cfi_startproc
	.cfi_def_cfa %rsp, 0
	.cfi_register %rip, %rcx
	mov $1, %r11d
1:	cmp $NR_RT_SIGRETURN, %eax
	je 3f
	lea -RED_ZONE(%rsp), %rsp
	.cfi_def_cfa_offset RED_ZONE
	push %rcx
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rip, -(RED_ZONE + 8)
	push %r11
	.cfi_adjust_cfa_offset 8
	push %r9
	.cfi_adjust_cfa_offset 8
	push %r8
	.cfi_adjust_cfa_offset 8
	push %r10
	.cfi_adjust_cfa_offset 8
	push %rdx
	.cfi_adjust_cfa_offset 8
	push %rsi
	.cfi_adjust_cfa_offset 8
	push %rdi
	.cfi_adjust_cfa_offset 8
	push %rax
	.cfi_adjust_cfa_offset 8
	push %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	mov %rsp, %rbp
	.cfi_def_cfa_register %rbp
	lea 8(%rbp), %rdi
	and $-16, %rsp
	cld
	call intercept_dispatch
	mov %rbp, %rsp
	.cfi_def_cfa_register %rsp
	pop %rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbp
	test %rdx, %rdx
	jnz 2f
	lea 8(%rsp), %rsp
	.cfi_adjust_cfa_offset -8
	pop %rdi
	.cfi_adjust_cfa_offset -8
	pop %rsi
	.cfi_adjust_cfa_offset -8
	pop %rdx
	.cfi_adjust_cfa_offset -8
	pop %r10
	.cfi_adjust_cfa_offset -8
	pop %r8
	.cfi_adjust_cfa_offset -8
	pop %r9
	.cfi_adjust_cfa_offset -8
	pop %r11
	.cfi_adjust_cfa_offset -8
	pop %rcx
	.cfi_adjust_cfa_offset -8
	.cfi_register %rip, %rcx
	lea RED_ZONE(%rsp), %rsp
	.cfi_def_cfa_offset 0
	jmp *%rcx

	/* a clone that shares memory: rdx the slot */
2:	.cfi_def_cfa_offset RED_ZONE + 72
	.cfi_offset %rip, -(RED_ZONE + 8)
	mov %rbx, SLOT_RBX(%rdx)
	mov %rdx, %rbx
	pop %rax
	pop %rdi
	pop %rsi
	pop %rdx
	pop %r10
	pop %r8
	pop %r9
	lea 16 + RED_ZONE(%rsp), %rsp
	.cfi_def_cfa_offset 0
	.cfi_undefined %rip
	syscall
	/* both sides; the child on its own stack, or on the parent's, which waits (vfork) */
	lea -RED_ZONE(%rsp), %rsp
	push %rdi
	push %rsi
	push %rdx
	push %r10
	push %r8
	push %r9
	push %rax
	push %rbp
	mov %rsp, %rbp
	mov %rbx, %rdi
	mov %rax, %rsi
	and $-16, %rsp
	call clone_after
	mov %rbp, %rsp
	pop %rbp
	pop %rax
	pop %r9
	pop %r8
	pop %r10
	pop %rdx
	pop %rsi
	pop %rdi
	lea RED_ZONE(%rsp), %rsp
	mov SLOT_RET(%rbx), %rcx
	mov %rbx, %r11
	mov SLOT_RBX(%rbx), %rbx
	lock decl SLOT_REFS(%r11)
	jmp *%rcx
	.cfi_endproc

	/* as intercept_entry, on a stack of ours (stacks.c): r11 the program's */
	.globl intercept_entry_small
	.hidden intercept_entry_small
	.type intercept_entry_small, @function
intercept_entry_small:
	.cfi_startproc
	.cfi_undefined %rip
	push %r11
	push %rcx
	lea 4f(%rip), %rcx
	jmp intercept_entry
4:	pop %rcx
	pop %rsp
	jmp *%rcx
	.cfi_endproc
	.size intercept_entry_small, . - intercept_entry_small

	/* the program begins (loaded.h): rsi its start, which expects rdx to be 0 and the stack as it is */
	.globl intercept_begin
	.hidden intercept_begin
	.type intercept_begin, @function
intercept_begin:
	.cfi_startproc
	.cfi_undefined %rip
	mov %rsp, %rdi
	push %rsi
	mov %rsp, %rbp
	and $-16, %rsp
	call loaded_construct
	mov %rbp, %rsp
	pop %rcx
	xor %eax, %eax
	xor %edx, %edx
	xor %esi, %esi
	xor %edi, %edi
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %ebp, %ebp
	jmp *%rcx
	.cfi_endproc
	.size intercept_begin, . - intercept_begin

	/* a thread that its monitor has lent (runtime/guest/monitor/lend.h) waits here */
	.globl intercept_park
	.hidden intercept_park
	.type intercept_park, @function
intercept_park:
	.cfi_startproc
	.cfi_undefined %rip
	mov $NR_PAUSE, %eax
	syscall
	jmp intercept_park
	.cfi_endproc
	.size intercept_park, . - intercept_park

	/* a handler of the program returns: rsp is at its struct ucontext, which may have been given a mask with SIGSYS */
3:	.cfi_startproc
	.cfi_undefined %rip
	btrq $SIGSYS_NR - 1, UCONTEXT_SIGMASK(%rsp)
	syscall
	.cfi_endproc
	.size intercept_entry, . - intercept_entry

	.p2align 12
	.globl intercept_exempt_end
	.hidden intercept_exempt_end
intercept_exempt_end:
	.section .note.GNU-stack, "", @progbits
