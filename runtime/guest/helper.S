/* helper.S - what the helper runs: receive a batch of system calls, make them, send the results
 *
 * Position independent, without a stack and without data of its own; remote.h draws the message.  All signals are blocked.
 * Registers that a system call leaves alone hold everything:
 *	r12  the message buffer	     r13  the next call
 *	r14  calls left		     r15  where the next result goes
 * A result (8 bytes) overwrites calls (56 bytes) that were made already, and never the data behind the calls.
 * It is data to the program that carries it: never executed there.
 */
	.section .rodata
	.balign	16
	.globl	helper_code, helper_loop, helper_received, helper_code_end
helper_code:
	syscall
	ud2
helper_loop:
	mov	$45, %eax		/* recvfrom(0, buf, 4096, 0, NULL, NULL) */
	xor	%edi, %edi
	mov	%r12, %rsi
	mov	$4096, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	syscall
helper_received:
	cmp	$64, %rax		/* 0: the other end was closed */
	jl	3f
	lea	helper_code + 4096(%rip), %r12	/* whatever the program made of it: remote.h, "Trust" */
	mov	(%r12), %r14
	lea	8(%r12), %r13
	mov	%r12, %r15
1:	mov	(%r13), %rax
	mov	8(%r13), %rdi
	mov	16(%r13), %rsi
	mov	24(%r13), %rdx
	mov	32(%r13), %r10
	mov	40(%r13), %r8
	mov	48(%r13), %r9
	syscall
	add	$56, %r13
	mov	%rax, (%r15)
	add	$8, %r15
	dec	%r14
	jg	1b
	mov	$44, %eax		/* sendto(0, results, MSG_NOSIGNAL, NULL, 0) */
	xor	%edi, %edi
	mov	%r12, %rsi
	mov	%r15, %rdx
	sub	%r12, %rdx
	mov	$0x4000, %r10d
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	syscall
	test	%rax, %rax
	jg	helper_loop
3:	mov	$231, %eax		/* exit_group(0) */
	xor	%edi, %edi
	syscall
	ud2
helper_code_end:
	.section .note.GNU-stack, "", @progbits
