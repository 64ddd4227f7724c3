/* warden_estate.c - descriptors that the guest's program hands on: taken from the capsule, given to the capsule (estate.h)
 *
 * Taking is done from outside (pidfd_getfd(2)): the capsule has no part in it and no leave to send descriptors anywhere.  Only numbers
 * of the guest program's are taken, and no file that is the VM's RAM, whatever number a capsule may have brought it to.
 *
 * A lease of the window's (DS_ESTATE_WINDOW) is no descriptor of the capsule's: it goes from warden to warden (warden_lease.c).
 *
 * Giving is a message to the capsule's control thread (DS_SHADOW_ADOPT).  Its STATUS, or its refusal, is told to the keeper.  What
 * cannot be sent now is refused, not kept: the guest may ask again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/shadows.h"
#include "runtime/host/warden/warden_parts.h"

/* A lease of what is mapped of the window, if that is wanted. */
static void lay_window(struct warden *w, const struct estate_order *o, int answer)
{
	const struct estate_batch b = {.n = 1, .number = {DS_ESTATE_WINDOW}};
	uint32_t i = 0;

	while (i < o->n && o->number[i] != DS_ESTATE_WINDOW)
		i++;
	if (i < o->n) {
		cleanup_close int lease = warden_window_lease(w);

		if (lease >= 0)
			estate_send(answer, &b, sizeof(b.n) + sizeof(b.number[0]), &lease, 1);
	}
}

void warden_estate_lay(struct warden *w, const struct estate_order *o, int answer)
{
	cleanup_close int hold = w->state == WARDEN_RUN && w->pid ? (int)syscall(SYS_pidfd_getfd, w->pidfd, DS_SHADOW_HOLD_FD, 0) : -1;

	if (w->state != WARDEN_RUN || !w->pid)
		return;
	lay_window(w, o, answer);
	if (!(w->rule->families & POLICY_UNIX) || !estate_send(answer, &(const uint32_t){ESTATE_MESSAGES}, sizeof(uint32_t), NULL, 0))
		estate_lay(w->pidfd, hold, w->p->ram_fd, o, answer);
}

/* Whether a descriptor is the VM's RAM, which somebody may have sent over a socket. */
static bool is_ram(const struct warden *w, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) || fstat(w->p->ram_fd, &b) || (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

void warden_estate_adopt(struct warden *w, const struct estate_order *o, int *answer, const int *fds, unsigned int nfds)
{
	struct ds_shadow_adopt msg = {.head = warden_capsule_head(w, DS_SHADOW_ADOPT, sizeof(msg))};
	int given[DS_SHADOW_ADOPT_MAX];
	uint32_t i = 0;

	while (i < WARDEN_ADOPTIONS && w->adoption[i].seq)
		i++;
	if (w->state != WARDEN_RUN || w->ctl_full || i == WARDEN_ADOPTIONS || !o->n || o->n > DS_SHADOW_ADOPT_MAX || nfds != o->n)
		return;
	for (uint32_t k = 0; k < o->n; k++) {
		if (o->number[k] == DS_ESTATE_WINDOW && !warden_window_inherit(w, fds[k]))
			continue;
		if (o->number[k] >= DS_SHADOW_GUEST_FDS || is_ram(w, fds[k]))
			return;
		given[msg.n] = fds[k];
		msg.number[msg.n++] = o->number[k];
	}
	if (!msg.n)
		send(*answer, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (!warden_capsule_send(w, &msg, sizeof(msg), given, msg.n))
		w->adoption[i] = (struct warden_adoption){.seq = msg.head.seq, .answer = steal_fd(answer)};
}

bool warden_estate_answered(struct warden *w, uint32_t seq, bool adopted)
{
	for (uint32_t i = 0; i < WARDEN_ADOPTIONS; i++) {
		struct warden_adoption *a = &w->adoption[i];

		if (!seq || a->seq != seq)
			continue;
		if (adopted)
			send(a->answer, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(a->answer);
		*a = (struct warden_adoption){0};
		return true;
	}
	return false;
}

void warden_estate_free(struct warden *w)
{
	for (uint32_t i = 0; i < WARDEN_ADOPTIONS; i++)
		if (w->adoption[i].seq)
			close(w->adoption[i].answer);
}
