/* jail.h - starts a capsule where it can reach nothing
 *
 * Theory of operation
 *
 * The capsule is executed, by descriptor, as the only process of new user, mount, pid, network, ipc, uts and cgroup
 * namespaces.  One user is mapped there, to an unprivileged one of the host; it is not root inside either, has no
 * capabilities, and cannot get any (no_new_privs, locked securebits, no setuid file to be found).  Its root directory is
 * an empty, read-only tmpfs with mode 0, pivoted to; nothing else is mounted.  Landlock denies what is left of the file
 * system, TCP and abstract sockets where the kernel has it.  A seccomp filter (filter.h) is in force before the capsule's
 * first instruction.  It holds one descriptor: its end of the control channel, number DS_SHADOW_CTL_FD.
 *
 * A rule of the policy may grant more, for shadows that make system calls for a guest's program: places of the host's file
 * system (jailbind.h), of which the root then has the directories that lead there; the host's network namespace; a user of the host.
 * Users and groups have the same numbers inside as outside then, so that files show whose they are; rights come with that for
 * the shadow's own user only, as it has no capabilities.
 *
 * And devices, in a /dev of the jail's own (jaildev.h); and the administration of a network namespace that is its own
 * and empty (CAP_NET_ADMIN, good for nothing else): a tun or tap device there is an interface that the host's admin connects.
 *
 * Its life is tied to its parent's: PR_SET_PDEATHSIG with SIGKILL, checked against a parent that has died before, and
 * being the first process of a pid namespace, which the kernel empties when it ends.
 *
 * Memory is limited by a cgroup of its own where that can be made (v2 with the memory controller delegated, or v1), else by
 * RLIMIT_DATA, which counts private memory that can be written: the mirror is not counted, one that faults is, so in
 * demand mode there is no limit then.  Less than a cgroup either way: memory that was written and then made read-only is
 * not counted.  In every case it is the first that the kernel kills when memory is short (oom_score_adj).  Processor time is limited by a
 * cgroup or not here (the caller sees which, and can do it itself: warden_pace.c), threads by RLIMIT_NPROC, and a cgroup beside;
 * the size of files that it writes by RLIMIT_FSIZE, whose signal is ignored, so that a write is EFBIG.
 *
 * dshost is root.  Without root a jail can be made all the same, where the host lets users make namespaces, with the caller's own
 * user outside; a guard cannot be taken then.
 *
 * jail_spawn() clones without exec and does the rest in the child, which reports each step that fails over a socket that
 * the exec closes.  The caller must be single-threaded, and is the parent that has to live.
 */
#ifndef HOST_JAIL_H
#define HOST_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/host/jail/filter.h"
#include "runtime/host/jail/jailbind.h"
#include "runtime/host/jail/jaildev.h"
#include "runtime/host/jail/jailgroup.h"
#include "runtime/host/jail/jailnet.h"

#define JAIL_NOBODY 65534

/** enum jail_memory - How memory is limited. */
enum jail_memory { JAIL_MEMORY_NONE, JAIL_MEMORY_RLIMIT, JAIL_MEMORY_CGROUP1, JAIL_MEMORY_CGROUP2 };

/** struct jail_params - What to start, and its limits. */
struct jail_params {
	int exe_fd; /* the capsule, open (O_RDONLY or O_PATH); borrowed; must be executable for everybody */
	int ctl_fd; /* its end of the control channel; borrowed, close it afterwards */
	const char *name; /* argv[0] */
	uid_t uid;	  /* of the host; 0: JAIL_NOBODY; without root: the caller's own, whatever is said here */
	gid_t gid;
	bool as_root;	  /* uid and gid 0 are meant; without capabilities it is a user like others, who owns root's files */
	bool all_ids;	  /* users and groups have their own numbers; as root only */
	bool net_host;	  /* no network namespace of its own */
	bool net_own;	  /* it administers the one of its own */
	bool unix_sockets; /* the filter lets it have some; not beside net_host where landlock does not keep abstract names apart */
	const struct jail_bind *binds; /* as root only */
	size_t nbinds;	  /* at most JAILBIND_MAX */
	const char *const *devices; /* patterns; as root only */
	size_t ndevices; /* at most JAILDEV_PATTERNS_MAX */
	uint64_t memory_bytes; /* 0: no limit; in a cgroup it has to hold the page tables of the mirror, too */
	uint32_t threads;      /* executors and one */
	uint32_t cpu_percent;  /* of one processor; 0: no limit */
	uint64_t file_size_bytes; /* 0: no limit */
	uint32_t descriptors;  /* of the program; the filter sees to it, here is room for those that are on their way; 0: no limit */
	struct jailnet_want net; /* which addresses it reaches, whether bytes are counted; as root only */
	bool demand;
	const struct filter *first; /* filter_first() */
};

/** struct jail - A process in its jail. */
struct jail {
	pid_t pid; /* 0: none */
	int pidfd;
	enum jail_memory memory;
	int landlock; /* ABI version in use; 0: the kernel has none */
	struct jailgroup group; /* tells what else is limited by a cgroup */
	struct jailnet net;
};

/** struct jail_err - Why nothing was started. */
struct jail_err {
	const char *what; /* the step that failed, in words; static text */
	int err;	  /* -errno */
	int bind;	  /* which of the places cannot be given, from 1 on, -1: devices; 0: it is something else */
};

/**
 * jail_spawn() - Starts a capsule in a jail
 * @p: what and how
 * @j: filled; given back by jail_kill()
 * @err: filled on an error
 *
 * When it returns 0 the capsule has been executed and waits for its BOOT.
 *
 * Return: 0, -errno (nothing is left).  -EPERM or -ENOSPC with "user namespace" in @err->what: this host forbids them
 * (user.max_user_namespaces, kernel.unprivileged_userns_clone, an AppArmor policy).
 */
int jail_spawn(const struct jail_params *p, struct jail *j, struct jail_err *err);

/**
 * jail_kill() - Ends the process, if it still runs, and takes everything away that was made for it
 *
 * Waits for its end; SIGKILL cannot be refused, but a call that waits for hardware can last.
 *
 * Return: its status as of waitpid(2), or -errno.
 */
int jail_kill(struct jail *j);

/** jail_memory_name() - How memory is limited, in words. */
const char *jail_memory_name(enum jail_memory memory);

#endif
