/* asm.h - what start.S and the C code both know: offsets in struct shadow_exec and the values of its first words */
#ifndef SHADOW_ASM_H
#define SHADOW_ASM_H

#define EXEC_STATE 0
#define EXEC_ORDER 4
#define EXEC_PHASE 8
#define EXEC_CUT 12
#define EXEC_DELTA 16
#define EXEC_RESULT 24
#define EXEC_REGS 32 /* number, then six arguments */

/* state, written by the executor only */
#define EXEC_RUNNING 0	/* in C */
#define EXEC_IN_CALL 1	/* in the stub: nothing but the system call and its registers */
#define EXEC_PARKED 2	/* waits for its order to change */
#define EXEC_ARRIVED 3	/* parked, in the new place */

/* order, written by the control thread only, but for NUDGE, which the executor turns into GO */
#define EXEC_GO 0
#define EXEC_STOP 1
#define EXEC_JUMP 2
#define EXEC_NUDGE 3 /* to leave the stub and look at what there is to do */

/* phase of the current call */
#define EXEC_ISSUE 0 /* is to be issued, for the first time or again */
#define EXEC_DONE 1  /* has its result */

#endif
