/* launch.h - from an ordinary QEMU command line to one whose VM can have shadows
 *
 * Theory of operation
 *
 * What a VM needs: RAM in one shared file, a vhost-user-vsock-pci device, and an ivshmem-doorbell device.  The command line
 * is read as QEMU reads it as far as it is about memory (-m, -machine, -object memory-backend-*, -numa, -mem-path) and about the
 * VM's name; everything else is passed on as it is.  Then options are put behind it:
 *
 *	-object memory-backend-memfd,id=dark-ram,share=on,size=BYTES  -machine memory-backend=dark-ram
 *		unless it has a backend already, which stays if its file is shared; physical memory of the host is
 *		-object memory-backend-file,id=dark-ram,share=on,mem-path=/dev/mem,offset=ADDRESS,size=BYTES (QEMU 8.1)
 *	-chardev socket,id=dark-vsock-socket,path=...  -device vhost-user-vsock-pci,id=dark-vsock,chardev=dark-vsock-socket
 *	-chardev socket,id=dark-doorbell-socket,path=...  -device ivshmem-doorbell,id=dark-doorbell,chardev=...,vectors=1
 *		on q35 each on a pcie-root-port of its own, because nothing can be unplugged from that machine's root bus, and
 *		a device whose back end has ended is replaced by unplugging it (attach.h)
 *
 * Being last they take the places on the bus that are left.  QEMU merges several -machine options (its
 * machine_merge_property()), so the machine's type need not be known to set its backend.
 *
 * Refused, with the option that is to blame: memory that shadows could not mirror (private, hugetlb pages, split between NUMA
 * nodes, in no file) and what cannot be read here (-readconfig).
 *
 * Pure, but that a backend's mem-path is looked at (statfs(2)).
 */
#ifndef HOST_LAUNCH_H
#define HOST_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/host/control.h"

#define LAUNCH_WHY_BYTES 256
#define LAUNCH_DOORBELL_VECTORS "1"

#define LAUNCH_VSOCK_ID "dark-vsock"
#define LAUNCH_DOORBELL_ID "dark-doorbell"

/** struct launch - A command line that was understood. */
struct launch {
	int argc; /* of what was given */
	char *const *argv; /* the caller's */
	bool q35;
	bool own_backend;	/* the machine has a backend that is shared: none is added */
	uint64_t ram_bytes;	/* as -m says */
	uint64_t ram_at;	/* the caller's to set: the memory is physical memory of the host from here on (devmem.h); */
	bool has_ram_at;	/* if this is set, and own_backend is not */
	char name[CONTROL_NAME_BYTES]; /* from -name, made fit for a VM's name; empty: none */
};

/** struct launch_line - A command line that was made: execvp()'s argument. */
struct launch_line {
	char **argv; /* ends with NULL */
};

/**
 * launch_read() - Reads a command line
 * @l: filled
 * @argc: of @argv
 * @argv: the program and its arguments; the strings must live as long as @l
 * @why: filled on an error: a line for people
 *
 * Return: 0, -EINVAL (usage), -EOPNOTSUPP (a VM that cannot have shadows).
 */
int launch_read(struct launch *l, int argc, char *const *argv, char why[static LAUNCH_WHY_BYTES]);

/**
 * launch_make() - Makes the command line that is to be executed
 * @l: from launch_read()
 * @vsock: path of the socket that the vhost-user-vsock device connects to
 * @doorbell: path of the socket of the doorbell device
 * @line: filled; given back by launch_free()
 *
 * Return: 0, -ENOMEM.
 */
int launch_make(const struct launch *l, const char *vsock, const char *doorbell, struct launch_line *line);

/** launch_free() - Gives a command line back. */
void launch_free(struct launch_line *line);

/**
 * launch_size() - A number of bytes as QEMU reads it: digits, perhaps with a fraction, and one of the letters b k m g t
 * @text: ends at NUL
 * @unit: what a number without a letter counts
 *
 * Return: 0, -EINVAL, -ERANGE (2^63 or more).
 */
int launch_size(const char *text, uint64_t unit, uint64_t *bytes);

/** launch_name() - Makes a VM's name for control.h of what QEMU calls it; empty if there is no letter or digit in it. */
void launch_name(char name[static CONTROL_NAME_BYTES], const char *text);

#endif
