/* client.h - a program of the container, as its connection; see server.h */
#ifndef CONTAINER_CLIENT_H
#define CONTAINER_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/container/place.h"
#include "runtime/container/task.h"
#include "runtime/guest/local.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/jail/jailgroup.h"
#include "runtime/host/policy/policy.h"

#define CLIENT_ANSWERS 16 /* adoptions that the task has not answered */

/** struct client - What there is of it; zeroed but for descriptors. */
struct client {
	int fd;	   /* -1: a free place */
	pid_t pid; /* the program */
	uid_t uid;
	gid_t gid;
	int pidfd;
	uint8_t token[DS_LOCAL_TOKEN_BYTES];
	bool granted; /* a SHADOW has been answered: `rule` */
	struct policy_rule rule;
	/* the task; -1, 0: none yet */
	pid_t task;
	int task_pidfd, orders;
	struct place place;
	struct jailgroup group;
	int answer[CLIENT_ANSWERS]; /* of the keeper, oldest first */
	uint32_t nanswers;
};

/** client_open() - Somebody has connected.  @c: filled; given back by client_close().  Return: 0, -errno: @fd stays the caller's. */
int client_open(struct client *c, int fd);

/**
 * client_hear() - A packet has come, or the end
 * @c: open
 * @name: of the container
 * @policy: in force
 *
 * Return: whether the connection goes on.
 */
bool client_hear(struct client *c, const char *name, const struct policy *policy);

/** client_order() - What the keeper wants of the task (estate.h); the descriptors stay the caller's. */
void client_order(struct client *c, const struct estate_order *o, const int *fds, unsigned int nfds);

/** client_answered() - The task has answered an order.  Return: false: it has ended. */
bool client_answered(struct client *c);

/** client_ended() - The task is no more: tells the program. */
void client_ended(struct client *c);

/** client_close() - Ends the task, and lets go of everything. */
void client_close(struct client *c);

#endif
