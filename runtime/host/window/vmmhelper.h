/* vmmhelper.h - a thread in the VMM that maps files into the VM's window; what it is told, and its code
 *
 * Theory of operation
 *
 * QEMU's ivshmem device has its second BAR, the window, in a memfd of ours, mapped shared at some address of QEMU's.  A file that is
 * mapped there in the memfd's place, by MAP_FIXED, is what the guest then has at those pages of the BAR, with an unmodified QEMU: it
 * translates guest addresses to its own and looks at nothing else.  Only a thread of QEMU's can make that mapping, and a file can
 * get there only through a socket that such a thread reads.  So there is one: 1 KiB of code in pages of its own, with a stack of
 * its own, that uses nothing of QEMU's, neither its C library nor its thread-local storage, and has all signals blocked.
 *
 *   dshost's VM process --- SOCK_SEQPACKET, VMM_... with descriptors ---> the thread
 *   (windows.h)         <-- a reply to each order, VMM_FAULT -----------
 *
 * It comes into being in one of two ways, which make no difference afterwards: by ptrace, once (vmminject.h), or by a library that
 * QEMU is started with where ptrace is forbidden (vmm/preload.c).  The first connects to the socket whose name is in its state; the second
 * listens at an abstract one, VMM_LISTENS with the VMM's number.
 *
 * What it leaves behind.  When the connection ends, and so also when the VM process is killed, the thread maps the window's
 * own memory over the whole of it, puts the signal handlers back, closes its two descriptors and exits.  Its pages stay, 28 KiB: nobody can
 * unmap the code that he runs.  QEMU is never stopped for a mapping.
 *
 * Faults.  A page of a file may not be there when it is touched: the file was cut, the disk cannot be read, the device has gone, a
 * program maps more than the device has.  The kernel sends SIGBUS to the thread of QEMU that touched it for the guest, and QEMU
 * would end.  So it has handlers for SIGBUS and SIGSEGV (somebody wrote to a page that can only be read) that look whether the address
 * is in the window.  If so, an empty page of anonymous memory is put in the page's place, VMM_FAULT is sent, and the guest goes on;
 * who has the mapping is told (warden_window.c).  If not, what was there before is called.  QEMU blocks SIGBUS in the threads
 * that run the guest, and a signal of a fault that is blocked kills: so it has to be unblocked in each (vmminject.h, vmm/preload.c).
 * With KVM it is the kernel that touches the page, and QEMU stops the VM (KVM_RUN fails with EFAULT): no handler helps.
 */
#ifndef HOST_VMMHELPER_H
#define HOST_VMMHELPER_H

#include <stddef.h>
#include <stdint.h>

#define VMM_CODE_BYTES 8192
#define VMM_STATE_BYTES 4096
#define VMM_STACK_BYTES 16384
#define VMM_BYTES (VMM_CODE_BYTES + VMM_STATE_BYTES + VMM_STACK_BYTES) /* in this order */
#define VMM_PATH_BYTES 108
#define VMM_LISTENS "dark-window-%d" /* behind a byte 0 */

/** enum vmm_what - Orders; VMM_FAULT is the thread's own. */
enum vmm_what {
	VMM_ARM = 1, /* with the window's memfd: the window lies at address, bytes long; handlers are set.  Once, first */
	VMM_MAP,     /* with a file: mapped at address, from offset on */
	VMM_UNMAP,   /* the window's own memory is mapped there again */
	VMM_DISARM,  /* the window is not there any more: at the end nothing is mapped */
	VMM_FAULT,   /* not answered; a page at address was replaced, result is the signal */
};

/** struct vmm_order - A packet to the thread.  All in whole pages, checked against the window. */
struct vmm_order {
	uint32_t what, seq;
	uint64_t address, bytes, offset;
	uint32_t prot, zero;
};

/** struct vmm_reply - A packet from it. */
struct vmm_reply {
	uint32_t what, seq; /* of the order */
	int64_t result;	    /* 0 or -errno */
	uint64_t address;
};

/** struct vmm_regs - Registers to go on with, and where; user_regs_struct without what does not change. */
struct vmm_regs {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rsp, rip, flags;
};

/** struct vmm_action - The kernel's struct sigaction. */
struct vmm_action {
	uint64_t handler, flags, restorer, mask;
};

/** struct vmm_state - In the page behind the code. */
struct vmm_state {
	struct vmm_regs regs; /* of the thread that was stopped; vmm_boot goes back to them */
	uint64_t all_signals, mask;
	int64_t cloned; /* the thread, or -errno */
	uint64_t done;	/* vmm_boot has come to its end */
	uint64_t failed; /* -errno of connect() */
	uint32_t sock, shm, path_bytes, armed;
	uint32_t listens; /* at the address, for one connection after the other, instead of connecting there */
	uint32_t zero;
	uint64_t window, window_bytes;
	struct vmm_action bus, segv; /* before ours */
	struct {
		uint16_t family;
		char path[VMM_PATH_BYTES]; /* abstract, if it begins with 0 */
	} address;
};

/*
 * The code, to be copied to the first of VMM_BYTES that are executable.  It is position-independent and finds its state
 * VMM_CODE_BYTES behind its own beginning.
 */
extern const uint8_t vmm_code[], vmm_boot[], vmm_enter[];
extern const uint8_t __stop_vmm_text[]; /* the linker's name for the end of the section */

/** vmm_code_bytes() - How much there is. */
static inline size_t vmm_code_bytes(void)
{
	return (size_t)(__stop_vmm_text - vmm_code);
}

/** vmm_enter_offset() - Where a thread starts that was made otherwise, with its stack and all of VMM_BYTES as they are to be. */
static inline size_t vmm_enter_offset(void)
{
	return (size_t)(vmm_enter - vmm_code);
}

/**
 * vmm_boot_offset() - Where a thread is made to go on, whatever it did before
 *
 * It makes state and stack writable, makes the thread, sets done, and goes on with @regs.  It uses no stack and needs nobody's
 * help: who has set the thread's registers may be killed at any moment.
 */
static inline size_t vmm_boot_offset(void)
{
	return (size_t)(vmm_boot - vmm_code);
}

#endif
