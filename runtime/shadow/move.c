/* move.c - the capsule moves
 *
 * Theory of operation
 *
 *   1. The executors are stopped, hard: all of them are parked in start.S, the control thread is in ctl_step().
 *   2. move_copy() maps the new region, copies image, executors and heap, and corrects the copy: the words that the
 *	linker made pointers (R_X86_64_RELATIVE) are raised by the distance if they still point into the capsule.
 *	Stacks are mapped, not copied: nothing on them will be looked at again.
 *   3. ctl_step() returns the distance to start.S, which jumps by it with an empty stack: from there on the control
 *	thread runs in the new place.
 *   4. move_finish() sends each executor after it, waits until all have arrived, tells the kernel the new addresses
 *	that it keeps (signal handlers, the bounds of PR_SET_MM_MAP), and unmaps the old region.
 *
 * Until step 4 both regions are whole; the kernel may deliver a signal into either.  The kernel keeps no other address
 * of ours: no rseq area, robust list, clear_child_tid or alternate signal stack is ever registered, and sleeping calls
 * have been interrupted and are issued again with addresses worked out anew.
 */
#include <elf.h>
#include <errno.h>

#include "runtime/shadow/capsule.h"

#define SA_SIGINFO 4u
#define SA_RESTORER 0x04000000u
#define SA_RESTART 0x10000000u
#define SIGBUS 7
#define SIGSEGV 11
#define SIGPIPE 13
#define SIG_IGN 1
#define PR_SET_MM 35
#define PR_SET_MM_MAP 14

extern const Elf64_Rela capsule_rela_start[], capsule_rela_end[] __attribute__((visibility("hidden")));

/* The kernel's struct sigaction. */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

/* struct prctl_mm_map, linux/prctl.h. */
struct mm_map {
	uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start,
		env_end, auxv;
	uint32_t auxv_bytes, exe_fd;
};

struct cap_region move_region(uint64_t image, uint64_t heap_bytes)
{
	uint64_t lo = image - CAP_CTL_BLOCK - (uint64_t)cap.boot.nexecutors * CAP_EXEC_BLOCK;

	return (struct cap_region){
		.lo = lo,
		.image = image,
		.bytes = image - lo + cap_image_bytes() + heap_bytes,
	};
}

struct cap_region move_here(void)
{
	return move_region(cap_image(), cap.heap_bytes);
}

static long protect(uint64_t from, uint64_t to, int prot)
{
	return sys(mprotect, from, to - from, prot);
}

/* The same place in the copy. */
static void *there(const void *here, int64_t delta)
{
	return (char *)here + delta;
}

static void correct(int64_t delta, uint64_t lo, uint64_t end)
{
	for (const Elf64_Rela *r = capsule_rela_start; r < capsule_rela_end; r++) {
		uint64_t *word = (uint64_t *)(cap_image() + r->r_offset + (uint64_t)delta);

		if (*word >= lo && *word < end)
			*word += (uint64_t)delta;
	}
}

static long protect_copy(const struct cap_region *new, int64_t delta)
{
	uint64_t text = new->image, rodata = (uint64_t)there(capsule_rodata_start, delta);
	long ret = 0;

	for (uint32_t i = 0; i < cap.boot.nexecutors && !ret; i++)
		ret = protect(new->lo + i * CAP_EXEC_BLOCK, new->lo + i * CAP_EXEC_BLOCK + CAP_GUARD_BYTES, 0);
	if (!ret)
		ret = protect(new->image - CAP_CTL_BLOCK, new->image - CAP_CTL_BLOCK + CAP_GUARD_BYTES, 0);
	if (!ret)
		ret = protect(text, rodata, SYS_PROT_READ | SYS_PROT_EXEC);
	if (!ret)
		ret = protect(rodata, (uint64_t)there(capsule_data_start, delta), SYS_PROT_READ);
	return ret;
}

static void copy_rest(int64_t delta)
{
	for (uint32_t i = 0; i < cap.nexec; i++) {
		struct shadow_exec *new = there(exec_at(i), delta);

		memcpy(new, exec_at(i), sizeof(*new));
		new->state = EXEC_PARKED; /* until it has arrived there */
	}
	memcpy(there((void *)heap_start(), delta), (void *)heap_start(), heap_used());
}

int move_copy(uint64_t image, uint64_t heap_bytes, bool first)
{
	const struct cap_region old = move_here(), new = move_region(image, heap_bytes);
	const int64_t delta = (int64_t)(image - cap_image());
	struct capsule *new_cap = there(&cap, delta);
	long ret = sys(mmap, new.lo, new.bytes, SYS_PROT_READ | SYS_PROT_WRITE,
		       SYS_MAP_PRIVATE | SYS_MAP_ANONYMOUS | SYS_MAP_NORESERVE | SYS_MAP_FIXED_NOREPLACE, -1, 0);

	if (sys_failed(ret))
		return (int)ret;
	if (ret != (long)new.lo) { /* a kernel before 4.17 takes the address for a hint */
		sys(munmap, ret, new.bytes);
		return -EEXIST;
	}
	memcpy((void *)image, (void *)old.image, cap_image_bytes());
	if (first) {
		correct(delta, old.image, (cap_image() + cap_image_bytes()));
	} else {
		copy_rest(delta);
		correct(delta, old.lo, old.lo + old.bytes);
	}
	new_cap->heap_bytes = heap_bytes;
	new_cap->old_lo = old.lo;
	new_cap->old_bytes = old.bytes;
	ret = protect_copy(&new, delta);
	if (ret)
		sys(munmap, new.lo, new.bytes);
	return (int)ret;
}

static long set_handler(int signal, uint64_t handler, uint64_t flags)
{
	const struct kernel_sigaction act = {
		.handler = handler, .flags = flags | SA_RESTORER, .restorer = (uint64_t)exec_restorer};

	return sys(rt_sigaction, signal, &act, 0, sizeof(act.mask));
}

int move_signals(void)
{
	long ret = set_handler(CAP_STOP_SIGNAL, (uint64_t)exec_signal, SA_SIGINFO | SA_RESTART);

	if (!ret)
		ret = set_handler(SIGSEGV, (uint64_t)ctl_fault, SA_SIGINFO);
	if (!ret)
		ret = set_handler(SIGBUS, (uint64_t)ctl_fault, SA_SIGINFO);
	if (!ret) /* a call on a closed pipe says EPIPE; the guest side makes a signal of it */
		ret = set_handler(SIGPIPE, SIG_IGN, 0);
	return (int)ret;
}

int move_mm(void)
{
	const uint64_t arg = (uint64_t)cap.boot.service, arg_end = arg + strlen(cap.boot.service) + 1;
	const struct mm_map mm = {
		.start_code = cap_image(),
		.end_code = (uint64_t)capsule_rodata_start,
		.start_data = (uint64_t)capsule_data_start,
		.end_data = (cap_image() + cap_image_bytes()),
		.start_brk = heap_start() + cap.heap_bytes,
		.brk = heap_start() + cap.heap_bytes,
		.start_stack = cap_image() - 16, /* /proc then names this mapping [stack] */
		.arg_start = arg,
		.arg_end = arg_end,
		.env_start = arg_end,
		.env_end = arg_end,
		.exe_fd = UINT32_MAX,
	};

	return (int)sys(prctl, PR_SET_MM, PR_SET_MM_MAP, &mm, sizeof(mm), 0);
}

void move_finish(int64_t delta)
{
	long ret;

	exec_jump(delta);
	heap_extended();
	cap.moves++;
	cap.moved = true;
	ret = move_signals();
	if (!ret)
		ret = move_mm();
	if (!ret)
		ret = sys(munmap, cap.old_lo, cap.old_bytes);
	if (ret)
		ctl_die(cap.update.head.seq, DS_SHADOW_R_LOST, ret, 0, 0);
}
