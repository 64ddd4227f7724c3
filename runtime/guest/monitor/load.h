/* load.h - puts the library of the interception into a program that has just been executed, from outside
 *
 * Theory of operation
 *
 * LD_PRELOAD needs a dynamic linker.  A statically linked program has none, so a tracer does its work (loaded.h says what the
 * library expects): it stops the program at the end of execve(2) (PTRACE_O_TRACEEXEC), before its first instruction, when it has one
 * thread and nothing of its own but its stack, and makes it do what is needed by system calls in its name: memory for the
 * library, whose content is written by process_vm_writev(2), and its protection.  Nothing is opened there, so neither its root
 * nor its descriptors matter.  The instruction that makes these calls is written over the program's first one and then put
 * back.  Signals are blocked meanwhile.
 *
 * The library needs no other library: freestanding code, with relative relocations and few others.  Its file is read once, by the tracer.
 */
#ifndef RUNTIME_GUEST_LOAD_H
#define RUNTIME_GUEST_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/guest/intercept/loaded.h"

#define LOAD_SEGMENTS_MAX 8

/** struct load_file - A library, read and checked. */
struct load_file {
	uint8_t *file, *image; /* as it lies on the disk; as it lies in memory, not relocated */
	size_t file_bytes, image_bytes;
	struct {
		uint64_t at, bytes; /* whole pages of the image */
		int prot;
	} segment[LOAD_SEGMENTS_MAX];
	uint32_t nsegments;
	uint64_t handle;		      /* offset of the struct intercept_handle */
	uint64_t relocations, relocations_bytes; /* offset of the Elf64_Rela */
	uint64_t symbols;		      /* offset of the Elf64_Sym */
	uint64_t init, init_bytes;
};

/**
 * load_open() - Reads a library
 * @file: filled in; for as long as the process lives, which is there for it
 *
 * Return: 0; -ENOEXEC: it is not what can be loaded; -errno.
 */
int load_open(struct load_file *file, const char *path);

/** load_is_go() - Whether Go has built the program that @tid executes: it has stacks that no trap of a monitor's can borrow (stacks.c). */
bool load_is_go(pid_t tid);

/**
 * load_into() - Puts it into a program
 * @tid: in its PTRACE_EVENT_EXEC stop, traced by the caller with PTRACE_O_TRACESYSGOOD; afterwards in another stop, from where it
 *       begins with the library
 * @monitor: whether there is one
 * @cookie: what the handle there will hold
 * @where: filled in: the handle as it lies there
 * @handle_at: its address there
 *
 * When it fails, the program is as it was.
 *
 * Return: 0; -ESRCH: it was killed; -ENOEXEC: no x86-64 program; -ENOMEM; -errno.
 */
int load_into(const struct load_file *file, pid_t tid, enum intercept_monitor monitor, uint64_t cookie, struct intercept_handle *where, uint64_t *handle_at);

#endif
