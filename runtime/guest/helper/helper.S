/* helper.S - what a helper runs for a batch of calls; it lies on the desk (remote.h)
 *
 * Position independent, without a stack and without data of its own.  Registers that a system call leaves alone hold everything:
 *	r13  the next call (struct remote_call)     r14  calls left
 * It goes on until a call returns something else than it should, and then, or at the end, traps: r14 and rax tell.
 * It is data to the program that carries it: never executed there.
 */
	.section .rodata
	.balign	16
	.globl	helper_code, helper_trap, helper_code_end
helper_code:
	mov	(%r13), %rax
	mov	8(%r13), %rdi
	mov	16(%r13), %rsi
	mov	24(%r13), %rdx
	mov	32(%r13), %r10
	mov	40(%r13), %r8
	mov	48(%r13), %r9
	syscall
	cmpq	$0, 64(%r13)		/* whatever it returns will do */
	jne	1f
	cmp	%rax, 56(%r13)
	jne	2f
1:	add	$72, %r13
	dec	%r14
	jnz	helper_code
2:	int3
helper_trap:
	ud2
helper_code_end:
	.section .note.GNU-stack, "", @progbits
