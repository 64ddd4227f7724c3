/* container.h - a program in a container: its shadow is a task that shares its memory
 *
 * Theory of operation
 *
 * Who answers at dsagent's socket may be the host itself (dscontainer(8)): this is a container, and its kernel is the host's.  Then
 * the shadow is made here, by clone(CLONE_VM) (runtime/container/task.h), and the host gives it what its policy grants:
 *
 *	program   SHADOW		->  host	the policy is asked
 *		  <-  CONTAINED				how many executors, a token
 *		  clone(CLONE_VM)
 *	task	  TASK			->		the kernel says who sent it; the host looks whether it has the program's memory, and
 *		  <-  ROOTED				puts it into a group; a directory comes with it, and a socket for orders
 *		  the directory becomes its root
 *
 * Rights to the host's files and devices come with that directory, which leads to what is granted and to nothing else, and with
 * nothing else: neither the program nor its task has any right on the host that the container's user has not.  Changing the root takes
 * CAP_SYS_CHROOT; who has not got it makes a user namespace for the task, in which it has.
 *
 * Bells are socket pairs; one end goes to the task over a channel that ends with the program, and with its exec.
 */
#ifndef GUEST_FORWARD_CONTAINER_H
#define GUEST_FORWARD_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/guest/local.h"

/** forward_container_start() - Makes the task; @connection: to who said so.  Return: 0, -errno. */
int64_t forward_container_start(int32_t connection, const struct ds_local_contained *said);

/** forward_container() - Whether this is a container. */
bool forward_container(void);

/** forward_alike() - Whether the shadow's tasks have this very memory: in a container, and in tests. */
bool forward_alike(void);

/** forward_container_bell() - A bell for one more executor.  Return: a descriptor of the program's, -errno. */
int64_t forward_container_bell(void);

/** forward_settings_estates() - This program and those that it executes find estates beside dsagent's socket (settings.c). */
void forward_settings_estates(void);

#endif
