/* filter_group.h - which system calls each group of the policy has (callgroup.h), and what is looked at in their arguments
 *
 * Theory of operation
 *
 * A table.  What is in it may be called by a shadow that somebody has taken over, with any arguments, so each entry had to
 * answer: does it give the RAM's descriptors away or another number?  Does it map?  Does it keep a reference to
 * the guest's pages after it has returned, or after it was interrupted?  Does it send signals to, or change, anything but
 * the shadow itself?  What takes descriptors in its arguments is in runtime/wire/fdargs.h, and none of these is one of
 * the capsule's own; what takes them in memory, where no filter can see them, is not here (sendmsg() with SCM_RIGHTS), or waits
 * for them and tells no more (poll, select).  The exceptions among flags and commands:
 *
 *   open, openat   O_DIRECT: EINVAL, as from a file system that cannot; the device would read or write guest pages by itself
 *   openat2	    ENOSYS: its flags are in memory; programs use openat() then
 *   fcntl	    a list of commands; no O_DIRECT and no signals by F_SETFL; else EINVAL
 *   ioctl	    a list of commands, none of which takes a descriptor (FICLONE does: it would copy the RAM); else ENOTTY.
 *		    With the group "device" any command but these, since what drivers take is known to nobody but them:
 *		    those of file systems, by their letters (FICLONE, FIDEDUPERANGE, EXT4_IOC_MOVE_EXT, ...), ENOTTY; LOOP_CONFIGURE and
 *		    UDMABUF_CREATE, which take any file's descriptor from memory, EINVAL (losetup then uses LOOP_SET_FD, whose
 *		    descriptor can be seen); FIOASYNC and those that name who gets a signal, ENOTTY.  Other descriptors in memory
 *		    are looked at by drivers, which take their own kind: eventfds, files of the same driver
 *   socket	    the internet's families; else EAFNOSUPPORT.  With no unix socket nobody can receive a descriptor.  A rule may
 *		    give unix sockets, too: then
 *   recvmsg, recvmmsg  are ENOSYS.  What else receives closes the descriptors that came along; they are received
 *		    elsewhere, and looked at there (unixmsg.h)
 *   getsockopt	    not SO_PEERPIDFD; ENOPROTOOPT
 *   setsockopt	    not SO_ZEROCOPY: the network would read guest pages after the call; ENOPROTOOPT
 *   sendto	    not MSG_ZEROCOPY; EINVAL
 *   madvise	    MADV_POPULATE_READ and _WRITE, which touch pages and do nothing else; EINVAL
 *
 * A call that waits for its end in a state that cannot be interrupted keeps its pages: then a change of the map waits, and fails
 * after a time; it is never done with the pages in use.
 */
#ifndef HOST_FILTER_GROUP_H
#define HOST_FILTER_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/host/policy/callgroup.h"

#define FILTER_BASE 0 /* for every service with bells, whatever its groups */

/** enum filter_check - What is looked at beside descriptors. */
enum filter_check {
	FILTER_NONE = 0,
	FILTER_OPEN,	   /* flags in argument 1 */
	FILTER_OPENAT,	   /* in argument 2 */
	FILTER_ABSENT,	   /* ENOSYS */
	FILTER_FCNTL,
	FILTER_IOCTL,
	FILTER_FAMILY,
	FILTER_SETSOCKOPT,
	FILTER_SENDTO,
	FILTER_RECVMSG,
	FILTER_GETSOCKOPT,
	FILTER_POPULATE, /* advice in argument 2 */
};

/** struct filter_grant - A call of a group. */
struct filter_grant {
	uint16_t nr;
	uint8_t group; /* a bit of enum callgroup, or FILTER_BASE */
	uint8_t check; /* enum filter_check */
};

/** filter_grants() - The table, those that are called most often first; @n: its length.  No number is in it twice. */
const struct filter_grant *filter_grants(size_t *n);

#endif
