/* internal.h - what the files of the interception share; see intercept.h */
#ifndef GUEST_INTERCEPT_INTERNAL_H
#define GUEST_INTERCEPT_INTERNAL_H

#include <asm/unistd.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/guest/intercept/intercept.h"
#include "runtime/guest/intercept/loaded.h"

#define SIGSYS_NR 31
#define SIGSYS_BIT (UINT64_C(1) << (SIGSYS_NR - 1))
#define ALL_SIGNALS UINT64_MAX
#define SIG_SETMASK_HOW 2
#define INTERCEPT_ARCH 0xc000003eu /* AUDIT_ARCH_X86_64 */
#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2 /* si_code */
#endif

#define raw0(nr) intercept_raw(nr, 0, 0, 0, 0, 0, 0)
#define raw2(nr, a, b) intercept_raw(nr, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define raw3(nr, a, b, c) intercept_raw(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define raw4(nr, a, b, c, d) intercept_raw(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)
#define raw6(nr, a, b, c, d, e, f) \
	intercept_raw(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), (uint64_t)(f))

/** struct intercept_slot - What a clone that shares memory needs on both of its sides; offsets are known to entry.S. */
struct intercept_slot {
	uint64_t ret;	/* 0: where both go on */
	uint64_t rbx;	/* 8: the program's; the register holds the slot's address meanwhile */
	uint64_t mask;	/* 16: signals blocked before */
	uint32_t refs;	/* 24: sides that have not gone on yet; 0: free */
	uint32_t flags; /* 28: INTERCEPT_... */
	uint64_t cookie; /* of intercept_config.cloning */
};
#define INTERCEPT_CLEAR_SIGHAND 1u /* the child begins without handlers */
#define INTERCEPT_SHARED 2u	   /* both sides see this slot */
#define INTERCEPT_HIDDEN 4u	   /* the parent believes SIGSYS to be blocked, so does the child */
#define INTERCEPT_WAITED 8u	   /* the parent goes on when the child has executed a program or ended (vfork) */

/** struct intercept_ret - What entry.S does after the dispatch: with a slot, the call itself, as the program's own. */
struct intercept_ret {
	int64_t value;
	struct intercept_slot *slot;
};

extern struct intercept_config intercept_config __attribute__((visibility("hidden")));
extern struct intercept_stats intercept_counts __attribute__((visibility("hidden")));

/* entry.S */
extern char intercept_exempt_start[], intercept_exempt_end[];
void intercept_entry(void);
void intercept_restorer(void);
void intercept_jump_entry(void);
void intercept_begin(void);
void intercept_park(void);

void intercept_entry_small(void);

/* stacks.c */
extern bool stacks_small; /* the program's own stacks are too small to be borrowed */

/** stacks_start() - Finds that out. */
void stacks_start(void);

/** stacks_top() - The end of the calling thread's stack here.  Return: 0: there is none to be had. */
uint64_t stacks_top(void);

/* loaded.c */
extern struct intercept_handle intercept_handle __attribute__((visibility("protected")));

/** intercept_traced() - Whether a monitor makes the traps. */
static inline bool intercept_traced(void)
{
	return intercept_handle.traced == INTERCEPT_TRACED;
}

/** intercept_followed() - Whether a monitor puts the library into further programs. */
static inline bool intercept_followed(void)
{
	return intercept_handle.traced != INTERCEPT_ALONE;
}

/** loaded_construct() - Called by entry.S; @stack: as the kernel leaves it to a program. */
void loaded_construct(uint64_t *stack);

/* dispatch.c */

/** intercept_dispatch() - Called by entry.S for each call. */
struct intercept_ret intercept_dispatch(struct intercept_call *call);

/** intercept_sandboxed() - Whether the program has a seccomp filter, which may kill it for calls that are ours. */
bool intercept_sandboxed(void);

/** intercept_fetch() - Copies @bytes from memory that the program named.  Return: 0 or -EFAULT. */
int intercept_fetch(void *to, uint64_t from, uint64_t bytes);

/** intercept_store() - Copies @bytes to memory that the program named.  Return: 0 or -EFAULT. */
int intercept_store(uint64_t to, const void *from, uint64_t bytes);

/* signals.c */

/** signals_start() - Puts the handler of SIGSYS in place and unblocks it.  Return: 0 or -errno. */
int signals_start(void);

/** signals_install() - The handler again, after its loss (CLONE_CLEAR_SIGHAND).  Return: 0 or -errno. */
int signals_install(void);

/** signals_call() - Does @call if it is one about signals.  Return: whether it was; then @result is set. */
bool signals_call(struct intercept_call *call, int64_t *result);

/** signals_unmap() - Does munmap @call; takes the alternate stack back first if it is what goes.  Return: as the kernel does. */
int64_t signals_unmap(const struct intercept_call *call);

/** signals_exec() - Before an exec: a program that ignores SIGSYS leaves it ignored to the next.  Return: whether to install again. */
bool signals_exec(void);

/** signals_hidden() - Whether the calling thread believes that SIGSYS is blocked. */
bool signals_hidden(void);

/** signals_hide() - Makes the calling thread believe it; a new one. */
void signals_hide(void);

/* clone.c */

/** clone_arm() - Sets the dispatch of the calling thread.  Return: 0 or -errno. */
int clone_arm(void);

/** clone_call() - Does @call if it makes a thread or process.  Return: whether it was one; then @ret is set. */
bool clone_call(struct intercept_call *call, struct intercept_ret *ret);

/** clone_after() - Called by entry.S on both sides of a clone that shares memory; @value is the call's. */
void clone_after(struct intercept_slot *slot, int64_t value);

/** clone_threads() - Whether there has been a second thread. */
bool clone_threads(void);

/* execenv.c */

/** execenv_call() - Does @call if it starts a program.  Return: whether it was; then @result is set. */
bool execenv_call(struct intercept_call *call, int64_t *result);

/** reach_exec() - Looks at the program that execve or execveat @call is to start.  Return: whether it will load the library. */
enum intercept_reach reach_exec(const struct intercept_call *call);

/** execenv_forget() - Gives back what process or thread @tid took for an exec that has succeeded. */
void execenv_forget(int tid);

/* patch.c */

/** patch_note() - A call has trapped: counts its place and patches it when it is hot; may change where the call goes on. */
void patch_note(struct intercept_call *call);

/** patch_child() - In a forked child: another thread may have been patching, which is not here. */
void patch_child(void);

#endif
