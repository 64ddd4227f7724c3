/* jailnet.h - which addresses a shadow reaches, and how many bytes come and go, decided and counted by the kernel
 *
 * Theory of operation
 *
 * Programs of BPF that are attached to the shadow's cgroup (bpf(2), cgroup version 2; Linux 4.17) are asked by the kernel about each
 * connect(), bind() and sendto() of its sockets, with the address as the kernel has copied it: there is nothing in the shadow's
 * memory that could be changed behind their back, and no call that goes another way.  A program is made from the rule's list:
 * a row of comparisons for each address, and "no" at the end.  It holds for the sockets of the cgroup's processes as long as
 * the cgroup is there; the shadow can neither leave that nor see it.
 *
 *   connect   connect() of TCP and UDP, and the address of a datagram that is sent without
 *   bind      bind()
 *
 * What is refused is EPERM.  A socket that listens without bind() gets a free port of the kernel's choosing; that is not asked.
 * IPv4 by an IPv6 socket (::ffff:a.b.c.d) is IPv4.
 *
 * Two more programs count the bytes of packets, headers included, for who limits them (warden_pace.c).
 *
 * Needs root, and a group of version 2 (jailgroup.h); no controller.  Where there is none, what was to be kept out could not be, so
 * whoever asks for it is refused.
 */
#ifndef HOST_JAILNET_H
#define HOST_JAILNET_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire/addrspec.h"

/** struct jailnet_want - What is to be in force. */
struct jailnet_want {
	bool limited; /* to what the two lists name */
	bool counted;
	const struct addrspec *connect, *bind;
	uint32_t nconnect, nbind;
};

/** struct jailnet - What keeps it; the programs belong to the cgroup. */
struct jailnet {
	int counts_fd; /* -1: nothing is counted */
};

/**
 * jailnet_attach() - Puts it into force
 * @group: the directory of the cgroup
 * @net: filled; given back by jailnet_close()
 *
 * Return: 0; -errno of bpf(2): nothing is left but what goes with the cgroup.
 */
int jailnet_attach(const char *group, const struct jailnet_want *want, struct jailnet *net);

/** jailnet_counts() - Bytes that came in and went out so far.  Return: 0, -errno. */
int jailnet_counts(const struct jailnet *net, uint64_t bytes[static 2]);

/** jailnet_close() - Lets go of the counts. */
void jailnet_close(struct jailnet *net);

#endif
