/* shadows.h - the wardens of one VM: started, watched, ended, until nothing of them is left
 *
 * Theory of operation
 *
 * The VM process (vmproc.h) has a row of places, as many as shadows may exist at a time.  A stream that the guest's agent
 * opens takes one: a warden is forked (warden.h) with its copy of the RAM's table and descriptor as they are at that
 * moment.  What a warden says of itself is in the shared memory of the VM's board (struct shadows_board), where the
 * daemon reads it too.
 *
 * A place is free again when the warden *and* its capsule are gone, and only then this process closes its own copy
 * of the stream: the guest takes the end of the stream as leave to use its frames again.  A warden that ends as it should has
 * waited for its capsule.  One that is killed leaves the capsule to the kernel (PR_SET_PDEATHSIG), which kills it a moment
 * later; because this process is a subreaper (prctl(2)), the capsule becomes its child, so that it can be killed by its
 * number without a race and its end can be waited for.
 *
 * shadows_end_all() is called in the middle of QEMU's own reset (vhostuser.h, before_answer): QEMU waits, so the guest
 * cannot use its memory for something else while a shadow still writes there.
 *
 * Children are seen by SIGCHLD, which the caller takes by a signalfd and answers with shadows_reap().  One thread.
 */
#ifndef HOST_SHADOWS_H
#define HOST_SHADOWS_H

#include "runtime/host/control.h"
#include "runtime/host/log.h"
#include "runtime/host/policy/policy.h"
#include "runtime/host/warden/warden.h"

#define SHADOWS_DEFAULT 128u /* places of a VM, where nobody says otherwise */
#define SHADOWS_MAX 4096u
#define SHADOWS_TELL_FDS 65u /* an answer's socket and the descriptors of an ADOPT (shadow.h) */

/**
 * struct shadows_board - What a VM process tells, in memory shared with the daemon (MAP_SHARED | MAP_ANONYMOUS)
 *
 * The VM process writes @vm and @used, each warden its own @stat.  Readers take every string as unterminated.
 */
struct shadows_board {
	struct control_vm vm;
	struct log_budget log; /* of the VM process and its wardens */
	uint32_t nplaces;
	uint32_t zero;
	struct shadows_place {
		uint32_t used; /* since the fork, until warden and capsule are gone */
		uint32_t zero;
		struct warden_stat stat;
	} place[];
};

struct shadows;
struct windows;

/** shadows_board_bytes() - What a board of @nplaces takes. */
size_t shadows_board_bytes(uint32_t nplaces);

/**
 * shadows_new() - Makes the row; makes the caller a subreaper
 * @out: set; NULL after an error
 * @board: zeroed but for nplaces; stays the caller's, as do the next two
 * @vm: the VM's name
 * @services_dir: where the capsules are
 *
 * Return: 0, -ENOMEM, -errno of prctl().
 */
int shadows_new(struct shadows **out, struct shadows_board *board, const char *vm, const char *services_dir);

/** shadows_free() - shadows_end_all(), and the rest is given back; NULL is allowed. */
void shadows_free(struct shadows *s);

/** shadows_windows() - Shadows that start from now on may map files into the VM's window (windows.h), which stays the caller's. */
void shadows_windows(struct shadows *s, struct windows *windows);

/** shadows_policy() - Shadows that start from now on are under @policy, which this takes over. */
void shadows_policy(struct shadows *s, struct policy *policy);

/**
 * shadows_start() - Forks a warden for a stream
 * @fd: the host's end; taken over on return 0
 * @guest_port: for the log
 * @ram_fd: of the RAM file, stays the caller's
 * @table: finished
 *
 * Return: 0; -EBUSY (all places are taken); -errno of fork().
 */
int shadows_start(struct shadows *s, int fd, uint32_t guest_port, int ram_fd, const struct ramtable *table);

/**
 * shadows_end() - Asks the warden of a guest's process to end
 * @guest_pid: as the guest counts
 * @client: a connection of control.h, taken over on return 0: it gets DONE when nothing of the shadow is left; -1: nobody
 *
 * A process that has several shadows loses all of them; the first of them answers.
 *
 * Return: 0, -ESRCH.
 */
int shadows_end(struct shadows *s, uint64_t guest_pid, int client);

/**
 * shadows_by_token() - The shadow that has given this token to its guest's process
 * @token: DS_FORWARD_TOKEN_BYTES; the time this takes does not depend on it
 * @place: set to where it is
 * @shadow: set to a number that no other shadow of the VM ever has
 *
 * Return: 0, -ENOENT.
 */
int shadows_by_token(const struct shadows *s, const uint8_t *token, uint32_t *place, uint64_t *shadow);

/**
 * shadows_tell() - Sends a packet to a warden, without waiting
 * @place, @shadow: from shadows_by_token()
 * @fds: go along, stay the caller's; at most SHADOWS_TELL_FDS
 *
 * Return: 0; -ESRCH (it is another shadow's place now); -EAGAIN (it has not read those before); -errno of sendmsg().
 */
int shadows_tell(const struct shadows *s, uint32_t place, uint64_t shadow, const void *packet, size_t bytes, const int *fds,
		 unsigned int nfds);

/** shadows_forget() - Wipes the tokens, in a child that has nothing to do with shadows. */
void shadows_forget(struct shadows *s);

/** shadows_reap() - Takes in children that have ended, and kills capsules that their warden has left; never blocks. */
void shadows_reap(struct shadows *s);

/**
 * shadows_end_all() - Ends all and waits until nothing is left, or for 10 seconds at the most
 * @why: for the log
 *
 * SIGTERM first, SIGKILL to who is still there after 200 ms.
 *
 * Return: 0, -ETIMEDOUT: a process cannot be killed at the moment (it hangs in the kernel).
 */
int shadows_end_all(struct shadows *s, const char *why);

/** shadows_count() - Places that are taken. */
uint32_t shadows_count(const struct shadows *s);

#endif
