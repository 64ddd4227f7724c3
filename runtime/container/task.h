/* task.h - a program's shadow on its own kernel: a task that shares the program's memory, and little else with it
 *
 * Theory of operation
 *
 * In a virtual machine the shadow's memory is made to be the program's, page by page.  In a container both are processes of one kernel,
 * and clone(CLONE_VM) makes it so at once: the task has the same page table.  Descriptors, directories, root, users and signals are its
 * own.  So a system call that it makes with the program's registers means the host's files and the program's memory, and what
 * a driver keeps of its caller's address space (KVM's machines, NVIDIA's managed memory) is the program's: there is nothing to
 * mirror, pin, map or announce.
 *
 *   program: slot, bell -- the same bytes --> executor: a thread of the task, one for each bell (runtime/wire/forward.h)
 *
 * Numbers of descriptors are as in a capsule (runtime/wire/shadow.h): those below DS_SHADOW_GUEST_FDS are the program's and never
 * free, held by a descriptor that is good for nothing, the task's own are above, and what drivers make is above those.
 *
 * This code is part of the library in the program, under its rules (intercept.h): no C library, no thread-local storage, raw calls.
 * It ends when the program does (a pidfd), when that executes another one (the channel, which exec closes), or when it is killed.
 * Where the task has its root, and who tells it of bells and inherited descriptors, is said by who starts it: a container's
 * library (runtime/guest/forward/container.c), or tests.
 */
#ifndef CONTAINER_TASK_H
#define CONTAINER_TASK_H

#include <stdint.h>

#define TASK_ADOPTION UINT32_C(0x54504f44)
#define TASK_ADOPTION_MAX 64
#define TASK_HEARD_MAX 2

/** struct task_adoption - A packet: descriptor i that comes along gets number[i].  Answered by a byte: 0, they are there. */
struct task_adoption {
	uint32_t magic, n;
	uint16_t number[TASK_ADOPTION_MAX];
};

/** struct task_want - How a task is to be. */
struct task_want {
	uint32_t nexecutors; /* bells that it takes at a time; at most TASK_EXECUTORS_MAX */
	int32_t keep[TASK_HEARD_MAX]; /* descriptors of the program's that the task listens to; -1: none.  In the task they get other numbers */
	/*
	 * In the task, before anything else is done there: its root, its user.  All descriptors of the program are open still; what
	 * it puts into keep[] is kept.  Return: 0, or the task ends with this -errno.
	 */
	int64_t (*prepare)(struct task_want *want);
	/* In the task, when keep[@i] can be read, or has ended.  Return: whether to go on; else the task ends. */
	int (*hear)(struct task_want *want, uint32_t i);
};
#define TASK_EXECUTORS_MAX 64

/**
 * task_start() - Makes the task
 * @want: is kept until there is another one
 *
 * Waits until it is prepared.  Return: its process number, as the program's namespace counts; -errno, of prepare() too.
 */
int64_t task_start(const struct task_want *want);

/** task_receive() - In the task: a packet with descriptors, from a socket.  @fds: @nfds at most; set to how many came.  Return: its length, -errno. */
int64_t task_receive(int32_t socket, void *packet, uint64_t room, int32_t *fds, uint32_t *nfds);

/** task_bell() - In the task: a bell, whose hello has been written; its number is the task's to have from now on. */
void task_bell(int32_t fd);

/** task_adopt() - In the task: receives a task_adoption from a socket, and answers.  Return: 0, -errno: the other end is gone. */
int64_t task_adopt(int32_t socket);

#endif
