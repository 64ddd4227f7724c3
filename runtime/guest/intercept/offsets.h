/* offsets.h - numbers that entry.S and C agree on; dispatch.c asserts them */
#ifndef GUEST_INTERCEPT_OFFSETS_H
#define GUEST_INTERCEPT_OFFSETS_H

#define NR_RT_SIGRETURN 15
#define NR_PAUSE 34
#define RED_ZONE 128	     /* bytes below rsp that belong to the program (System V ABI, 3.2.2) */
#define UCONTEXT_SIGMASK 296 /* in the kernel's struct ucontext */
#define SLOT_RET 0
#define SLOT_RBX 8
#define SLOT_REFS 24
#ifdef __ASSEMBLER__
#define SIGSYS_NR 31
#endif

#endif
