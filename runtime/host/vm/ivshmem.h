/* ivshmem.h - the server of a VM's ivshmem-doorbell device: a window of shared memory, doorbells, interrupts
 *
 * Theory of operation
 *
 * QEMU's ivshmem-doorbell connects to a unix socket and is told everything by messages of 8 bytes (little endian), some
 * with a descriptor (QEMU's docs/specs/ivshmem-spec): version 0; its own number; -1 with the shared memory; for
 * each other VM its number with an eventfd, once a vector; its own number with an eventfd for each of its vectors.  It
 * answers nothing.
 *
 * The other VMs are pretended: each is a doorbell.  The guest's number is 0, doorbell d is peer d + 1 with one vector.  A
 * guest that stores (d + 1) << 16 at offset 12 of BAR 0 adds one to the eventfd of doorbell d, without leaving
 * to user space under KVM.  The other way, adding one to the eventfd of a vector raises that interrupt in the guest.
 * The device is made with vectors=N as ivshmem_new() was told; QEMU wants one at least, also where no eventfd is given for it.
 *
 * Who plugs the device out and in again gives no vectors.  Without KVM's irqfd QEMU polls their eventfds itself and does not stop when the
 * device is unplugged (watch_vector_notifier(), and nothing of it in ivshmem_exit(), hw/misc/ivshmem.c; seen in 7.2): the next
 * thing that gets the number of the closed descriptor, such as the eventfd of a doorbell of the next device, makes it call into memory that was
 * freed.  tests/vm/replug.py does that to it.
 *
 * The shared memory is a memfd whose size is sealed, so nobody's mapping of it can come to fault.  Its content is
 * the guest's to write at any time.
 *
 * One VM at a time.  It may go and another come (a VM that was started again): descriptors stay the same ones, the
 * window is emptied and doorbells that were rung are forgotten.  A second VM while the first is there is turned away.
 * QEMU sets O_NONBLOCK on the eventfds, which are shared with it: poll() before read().
 *
 * Single-threaded.  Nothing here blocks.
 */
#ifndef HOST_IVSHMEM_H
#define HOST_IVSHMEM_H

#include <stdbool.h>
#include <stdint.h>

#define IVSHMEM_DOORBELLS_MAX 512u
#define IVSHMEM_VECTORS_MAX 32u

struct ivshmem;

/**
 * ivshmem_new() - Makes the window, the doorbells and the vectors, and listens
 * @out: set; given back by ivshmem_free(); NULL after an error
 * @path: of the unix socket that is made, mode 0600; one left behind by a server that is gone is replaced
 * @shm_bytes: a power of two, 4096 or more (QEMU makes a PCI BAR of it)
 * @ndoorbells: up to IVSHMEM_DOORBELLS_MAX
 * @nvectors: up to IVSHMEM_VECTORS_MAX
 *
 * Return: 0, -EINVAL, -ENAMETOOLONG, -EADDRINUSE (a server listens there), -ENOMEM, -errno of what is made.
 */
int ivshmem_new(struct ivshmem **out, const char *path, uint64_t shm_bytes, uint32_t ndoorbells, uint32_t nvectors);

/** ivshmem_free() - Ends the connection, removes the socket, closes all descriptors; NULL is allowed. */
void ivshmem_free(struct ivshmem *s);

/** ivshmem_fd() - A descriptor that poll() calls readable when ivshmem_run() has something to do; stays the same. */
int ivshmem_fd(const struct ivshmem *s);

/** ivshmem_run() - Lets a VM in, tells it what it is told, sees it go; never blocks. */
void ivshmem_run(struct ivshmem *s);

/** ivshmem_connected() - Whether a VM is there and has been told everything. */
bool ivshmem_connected(const struct ivshmem *s);

/** ivshmem_shm() - The window's descriptor, read and write; this stays its owner. */
int ivshmem_shm(const struct ivshmem *s);

/**
 * ivshmem_doorbell() - The eventfd of doorbell @d, to be polled and read; this stays its owner
 *
 * Return: a descriptor; -EINVAL if there is no such doorbell.
 */
int ivshmem_doorbell(const struct ivshmem *s, uint32_t d);

/**
 * ivshmem_vector() - The eventfd of vector @n: writing to it interrupts the guest; this stays its owner
 *
 * Return: a descriptor; -EINVAL if there is no such vector.
 */
int ivshmem_vector(const struct ivshmem *s, uint32_t n);

#endif
