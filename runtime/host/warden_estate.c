/* warden_estate.c - descriptors that the guest's program hands on: taken from the capsule, given to the capsule (estate.h)
 *
 * Taking is done from outside (pidfd_getfd(2)): the capsule has no part in it and no leave to send descriptors anywhere.  Only numbers
 * of the guest program's are taken, and no file that is the VM's RAM, whatever number a capsule may have brought it to.
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
#include "runtime/host/estate.h"
#include "runtime/host/shadows.h"
#include "runtime/host/warden_parts.h"

static bool same_file(int fd, int other)
{
	struct stat a, b;

	return fstat(fd, &a) || fstat(other, &b) || (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/* Return: a descriptor, the caller's; -1: the capsule has none there that may go. */
static int take(const struct warden *w, uint32_t number, int hold)
{
	cleanup_close int fd = (int)syscall(SYS_pidfd_getfd, w->pidfd, number, 0);

	if (fd < 0 || same_file(fd, w->p->ram_fd))
		return -1;
	/* What holds a number that nobody has opened (shadow.h). */
	if (hold >= 0 && same_file(fd, hold) && fcntl(fd, F_GETFL) & O_PATH)
		return -1;
	return steal_fd(&fd);
}

static int send_batch(int answer, const struct estate_batch *b, const int *fds)
{
	return estate_send(answer, b, offsetof(struct estate_batch, number) + b->n * sizeof(b->number[0]), fds, b->n);
}

void warden_estate_lay(struct warden *w, const struct estate_order *o, int answer)
{
	const int room = 1 << 20; /* for descriptors of DS_ESTATE_PAIRS_MAX numbers */
	cleanup_close int hold = w->state == WARDEN_RUN && w->pid ? (int)syscall(SYS_pidfd_getfd, w->pidfd, DS_SHADOW_HOLD_FD, 0) : -1;
	struct estate_batch b = {0};
	int fds[DS_SHADOW_ADOPT_MAX], error = 0;

	if (w->state != WARDEN_RUN || !w->pid)
		return;
	setsockopt(answer, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	for (uint32_t i = 0; i <= o->n && !error; i++) {
		if (i < o->n && o->number[i] < DS_SHADOW_GUEST_FDS) {
			fds[b.n] = take(w, o->number[i], hold);
			if (fds[b.n] >= 0)
				b.number[b.n++] = o->number[i];
		}
		if (b.n < DS_SHADOW_ADOPT_MAX && i < o->n)
			continue;
		error = b.n ? send_batch(answer, &b, fds) : 0;
		while (b.n)
			close(fds[--b.n]);
	}
	if (!error)
		send_batch(answer, &b, NULL); /* with n = 0: that was all */
}

void warden_estate_adopt(struct warden *w, const struct estate_order *o, int *answer, const int *fds, unsigned int nfds)
{
	struct ds_shadow_adopt msg = {.head = warden_capsule_head(w, DS_SHADOW_ADOPT, sizeof(msg)), .n = o->n};
	uint32_t i = 0;

	while (i < WARDEN_ADOPTIONS && w->adoption[i].seq)
		i++;
	if (w->state != WARDEN_RUN || w->ctl_full || i == WARDEN_ADOPTIONS || !o->n || o->n > DS_SHADOW_ADOPT_MAX || nfds != o->n)
		return;
	for (uint32_t k = 0; k < o->n; k++) {
		if (o->number[k] >= DS_SHADOW_GUEST_FDS)
			return;
		msg.number[k] = o->number[k];
	}
	if (!warden_capsule_send(w, &msg, sizeof(msg), fds, nfds))
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
