/* place.c - see place.h */
#include "runtime/container/place.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/jail/jaildev.h"
#include "runtime/host/jail/jailroot.h"
#include "runtime/host/shadows.h"

/** struct made - What the child says; its root and its namespace come along. */
struct made {
	int32_t error;
	uint32_t what;
};
enum what { WHAT_NAMESPACE, WHAT_PLACE, WHAT_DEVICES, WHAT_ROOT };
static const char *const what_text[] = {
	[WHAT_NAMESPACE] = "a mount namespace",
	[WHAT_PLACE] = "a place of the host that the rule names",
	[WHAT_DEVICES] = "the devices that the rule names",
	[WHAT_ROOT] = "a root directory",
};

/* In the child.  Return: 0; -errno and @what. */
static int make(const struct policy_rule *r, uid_t uid, gid_t gid, int fds[static 2], uint32_t *what)
{
	const char *pattern[POLICY_DEVICES_MAX];
	struct jail_bind bind[POLICY_PATHS_MAX];
	int bind_fd[POLICY_PATHS_MAX], dev_fd = -1, rc;
	enum jailroot_part part;

	*what = WHAT_NAMESPACE;
	if (unshare(CLONE_NEWNS))
		return -errno;
	fds[1] = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (fds[1] < 0)
		return -errno;
	*what = WHAT_PLACE;
	for (uint32_t i = 0; i < r->npaths; i++) {
		bind[i] = (struct jail_bind){r->path[i].guest, r->path[i].host, r->path[i].writable};
		bind_fd[i] = jailbind_open(&bind[i]);
		if (bind_fd[i] < 0)
			return bind_fd[i];
	}
	*what = WHAT_DEVICES;
	for (uint32_t i = 0; i < r->ndevices; i++)
		pattern[i] = r->device[i];
	if (r->ndevices && (dev_fd = jaildev_open(pattern, r->ndevices, uid, gid)) < 0)
		return dev_fd;
	*what = WHAT_ROOT;
	rc = jailroot_make(bind, bind_fd, r->npaths, dev_fd, &part);
	if (rc)
		return rc;
	fds[0] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fds[0] < 0 ? -errno : 0;
}

static _Noreturn void child(const struct policy_rule *r, uid_t uid, gid_t gid, int socket)
{
	struct made m;
	int fds[2];

	m.error = make(r, uid, gid, fds, &m.what);
	estate_send(socket, &m, sizeof(m), fds, m.error ? 0 : 2);
	_exit(0);
}

int place_make(const struct policy_rule *rule, uid_t uid, gid_t gid, struct place *place, const char **why)
{
	struct made m = {.error = -ECHILD};
	int pair[2], fds[SHADOWS_TELL_FDS], status;
	unsigned int nfds = 0;
	cleanup_close int ours = -1, theirs = -1;
	pid_t pid;

	*place = (struct place){-1, -1};
	*why = what_text[WHAT_NAMESPACE];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ours = pair[0], theirs = pair[1];
	pid = fork();
	if (pid == 0)
		child(rule, uid, gid, theirs);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (estate_receive(ours, &m, sizeof(m), fds, &nfds) != (int64_t)sizeof(m))
		m = (struct made){.error = -ECHILD};
	if (!m.error && nfds == 2) {
		*place = (struct place){.root_fd = fds[0], .ns_fd = fds[1]};
		return 0;
	}
	for (unsigned int i = 0; i < nfds; i++)
		close(fds[i]);
	*why = what_text[m.what <= WHAT_ROOT ? m.what : WHAT_NAMESPACE];
	return m.error ? m.error : -EPROTO;
}

void place_close(struct place *place)
{
	cleanup_close_fn(&place->root_fd);
	cleanup_close_fn(&place->ns_fd);
	*place = (struct place){-1, -1};
}
