/* ctl.c - the control thread: messages of dshost, updates of the map
 *
 * Theory of operation
 *
 * ctl_step() takes one message.  An update may need the capsule to move in between, and no C function survives a
 * move; so an update is a sequence of stages, cap.pending says which is next, and a stage that needs a move makes the
 * copy and returns the distance.  start.S jumps, and calls ctl_step() again in the new place.
 *
 *   receive   room for the new map in the heap (or move to where there is room), read it, check it (or refuse it);
 *	       stop the executors softly; does the map, or a forbidden range, touch the capsule?  Then move to where
 *	       neither the old map nor the new one nor any forbidden range is.
 *   apply     change the mirror, tell the service, let the executors go, answer.
 *
 * In demand mode the channel is also served while executors are waited for (ctl_serve()), since they may be waiting for
 * a MAP.  Another change that comes then is held until this one is done.
 */
#include <asm/socket.h>
#include <errno.h>

#include "runtime/shadow/capsule.h"
#include "runtime/shadow/params.h"

#define SCM_RIGHTS 1
#define MSG_NOSIGNAL 0x4000
#define MSG_CTRUNC 8
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_CMSG_CLOEXEC 0x40000000
#define SEEK_END 2
#define F_DUPFD_CLOEXEC 1030
#define O_CLOEXEC 02000000
#define UC_RIP_WORD (168 / 8)
#define SIGINFO_ADDR_WORD (16 / 8)

struct capsule cap;

/* The kernel's struct user_msghdr and struct cmsghdr. */
struct kernel_iovec {
	uint64_t base, bytes;
};
struct kernel_msghdr {
	uint64_t name;
	uint64_t name_bytes; /* an int and padding */
	uint64_t iov, niov, control, control_bytes;
	uint64_t flags; /* an int and padding */
};
struct rights {
	uint64_t bytes;
	int32_t level, type;
	int32_t fds[CAP_FDS];
};

long ctl_receive(void *buf, size_t bytes, int fds[static CAP_FDS], uint32_t *nfds, bool wait)
{
	struct rights rights = {0};
	struct kernel_iovec iov = {(uint64_t)buf, bytes};
	struct kernel_msghdr msg = {
		.iov = (uint64_t)&iov, .niov = 1, .control = (uint64_t)&rights, .control_bytes = sizeof(rights)};
	long ret;

	for (int i = 0; i < CAP_FDS; i++)
		fds[i] = -1;
	*nfds = 0;
	do
		ret = sys(recvmsg, DS_SHADOW_CTL_FD, &msg, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	while (ret == -EINTR);
	if (ret <= 0)
		return ret;
	if (msg.control_bytes >= sizeof(rights) - sizeof(rights.fds) && rights.level == SOL_SOCKET && rights.type == SCM_RIGHTS) {
		*nfds = (uint32_t)((rights.bytes - (sizeof(rights) - sizeof(rights.fds))) / sizeof(int32_t));
		for (uint32_t i = 0; i < *nfds && i < CAP_FDS; i++)
			fds[i] = rights.fds[i];
	}
	if (msg.flags & MSG_CTRUNC) /* more came than anybody may send; the kernel has closed them */
		*nfds = CAP_FDS + 1;
	return msg.flags & MSG_TRUNC ? -EMSGSIZE : ret;
}

/* Closes what came with a message.  A number that is the guest program's to have is kept from the kernel, see hold_numbers(). */
static void ctl_close(int fd)
{
	if (cap.holding && fd < DS_SHADOW_GUEST_FDS)
		sys(dup3, DS_SHADOW_HOLD_FD, fd, O_CLOEXEC);
	else
		sys(close, fd);
}

void ctl_lost(long err)
{
	sys_exit(err == -EPIPE || err == -ECONNRESET ? 0 : CAP_EXIT_CHANNEL);
}

static void send_head(struct ds_shadow_head *head, uint16_t kind, uint32_t bytes, uint32_t seq)
{
	long ret;

	*head = (struct ds_shadow_head){
		.magic = DS_SHADOW_MAGIC, .version = DS_SHADOW_VERSION, .kind = kind, .bytes = bytes, .seq = seq};
	do
		ret = sys(sendto, DS_SHADOW_CTL_FD, head, bytes, MSG_NOSIGNAL);
	while (ret == -EINTR);
	if (ret < 0)
		ctl_lost(ret);
}

void ctl_refuse(uint32_t seq, struct ds_shadow_refused *refused)
{
	send_head(&refused->head, DS_SHADOW_REFUSED, sizeof(*refused), seq);
}

void ctl_die(uint32_t seq, enum ds_shadow_reason reason, long err, uint64_t index, uint64_t value)
{
	struct ds_shadow_refused refused = {.reason = reason, .err = (int32_t)err, .index = index, .value = value};

	ctl_refuse(seq, &refused);
	sys_exit(CAP_EXIT_REFUSED);
}

void ctl_status(uint32_t seq)
{
	const struct cap_region here = move_here();
	struct ds_shadow_status status = {
		.capsule = {here.lo >> DS_PAGE_SHIFT, here.bytes >> DS_PAGE_SHIFT},
		.mirror_pages = cap.now.sum.pages,
		.mirror_vmas = cap.now.sum.segs,
		.updates = cap.updates,
		.moves = cap.moves,
		.rebuilds = cap.rebuilds,
		.pid = (uint32_t)cap.pid,
		.nexecutors = cap.nexec,
		.guard_fd = cap.guard_fd,
		.fault_fd = cap.fault_fd,
	};

	for (uint32_t i = 0; i < cap.nexec; i++)
		status.restarts += exec_at(i)->restarts;
	send_head(&status.head, DS_SHADOW_STATUS, sizeof(status), seq);
}

/* Registers and siginfo as in start.S.  Runs in whatever thread made the access. */
void ctl_fault(int signal, void *info, void *ucontext)
{
	uint64_t *rip = (uint64_t *)ucontext + UC_RIP_WORD;
	const uint64_t image = cap_image();
	struct ds_shadow_fault fault;

	if (*rip >= (uint64_t)guard_begin && *rip < (uint64_t)guard_end) {
		*rip = (uint64_t)guard_fault;
		return;
	}
	fault = (struct ds_shadow_fault){
		.address = ((uint64_t *)info)[SIGINFO_ADDR_WORD],
		.code = *rip >= image && *rip < (uint64_t)capsule_rodata_start ? *rip - image : UINT64_MAX,
		.signal = (uint32_t)signal,
	};
	send_head(&fault.head, DS_SHADOW_FAULT, sizeof(fault), 0);
	sys_exit(CAP_EXIT_FAULT);
}

int ctl_data_there(int fd, uint64_t bytes, struct ds_shadow_refused *refused)
{
	const long there = sys(lseek, fd, 0, SEEK_END);

	if (there >= 0 && (uint64_t)there >= bytes)
		return 0;
	*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_DATA, .value = bytes};
	if (there < 0)
		refused->err = (int32_t)there;
	else
		refused->index = (uint64_t)there;
	return -ENODATA;
}

int ctl_read_data(int fd, void *block, uint64_t bytes, struct ds_shadow_refused *refused)
{
	uint64_t done = 0;

	while (done < bytes) {
		long got = sys(pread64, fd, (char *)block + done, bytes - done, done);

		if (got == -EINTR)
			continue;
		if (got <= 0) {
			*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_DATA, .err = (int32_t)got, .index = done, .value = bytes};
			return got ? (int)got : -ENODATA;
		}
		done += (uint64_t)got;
	}
	return 0;
}

uint64_t ctl_random(void)
{
	uint64_t random = 0;

	if (sys(getrandom, &random, sizeof(random), 0) != sizeof(random))
		random = sys_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
	return random;
}

/* --- updates ----------------------------------------------------------------------------------------------------- */

static int64_t update_refuse(struct ds_shadow_refused *refused)
{
	shadow_free(cap.coming.block);
	cap.coming = (struct cap_map){0};
	if (cap.update_fd >= 0)
		ctl_close(cap.update_fd);
	cap.pending = CAP_IDLE;
	exec_go();
	ctl_refuse(cap.update.head.seq, refused);
	return 0;
}

static int64_t refuse_busy(int rc, uint32_t who)
{
	struct ds_shadow_refused refused = {.reason = DS_SHADOW_R_BUSY, .err = rc, .index = who};

	return update_refuse(&refused);
}

/*
 * Copies the capsule out of everybody's way, with @more_bytes more of heap, and returns the distance; or refuses the
 * update.  Nothing is measured before the executors have stopped: they can make the heap longer.
 */
static int64_t start_move(uint64_t more_bytes)
{
	struct place_want want = {.first_vpn = cap.boot.min_vpn, .reserve = cap.boot.reserve, .random = ctl_random()};
	struct ds_shadow_refused refused;
	struct ds_shadow_range self;
	struct cap_region here;
	struct rle_map now, coming;
	uint64_t vpn, image;
	uint32_t who = 0;
	int rc = exec_stop(EXEC_STOP_HARD, &who);

	if (rc)
		return refuse_busy(rc, who);
	here = move_here();
	self = (struct ds_shadow_range){here.lo >> DS_PAGE_SHIFT, here.bytes >> DS_PAGE_SHIFT};
	now = mirror_view(&cap.now);
	coming = mirror_view(&cap.coming);
	want.npages = self.npages + (more_bytes >> DS_PAGE_SHIFT);
	want.src[0] = place_of_map(&now);
	want.src[1] = place_of_map(&coming);
	want.src[2] = mirror_forbidden(&cap.now);
	want.src[3] = mirror_forbidden(&cap.coming);
	want.src[4] = place_of_ranges(&self, 1);
	if (place_find(&want, &vpn)) {
		refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_NO_PLACE, .value = want.npages};
		return update_refuse(&refused);
	}
	image = (vpn << DS_PAGE_SHIFT) + here.image - here.lo;
	rc = move_copy(image, cap.heap_bytes + more_bytes, false);
	if (rc) {
		refused = (struct ds_shadow_refused){
			.reason = DS_SHADOW_R_NO_MEMORY, .err = rc, .value = want.npages << DS_PAGE_SHIFT};
		return update_refuse(&refused);
	}
	return (int64_t)(image - here.image);
}

/* The executors are stopped, at least softly. */
static int64_t update_apply(void)
{
	struct shadow_change change;
	int rc = mirror_change();

	if (rc)
		ctl_die(cap.update.head.seq, DS_SHADOW_R_LOST, rc, 0, 0);
	shadow_free(cap.now.block);
	cap.now = cap.coming;
	cap.coming = (struct cap_map){0};
	ctl_close(cap.update_fd);
	cap.pending = CAP_IDLE;
	cap.updates++;
	change = (struct shadow_change){.updates = cap.updates, .mirror_pages = cap.now.sum.pages, .moved = cap.moved};
	if (shadow_service.update)
		shadow_service.update(&change);
	exec_go();
	ctl_status(cap.update.head.seq);
	return 0;
}

/* Whether the capsule may stay where it is under the coming map.  Executors are stopped: they cannot make it longer. */
static bool can_stay(void)
{
	const struct cap_region here = move_here();
	const struct rle_map coming = mirror_view(&cap.coming);
	const struct place_want want = {.src = {place_of_map(&coming), mirror_forbidden(&cap.coming)}};

	return place_free(&want, (struct ds_shadow_range){here.lo >> DS_PAGE_SHIFT, here.bytes >> DS_PAGE_SHIFT});
}

static int64_t update_receive(void)
{
	const uint64_t bytes = params_data_bytes(&cap.update.data);
	struct ds_shadow_refused refused;
	uint32_t who = 0;
	int rc;

	if (ctl_data_there(cap.update_fd, bytes, &refused))
		return update_refuse(&refused);
	cap.coming = (struct cap_map){.block = shadow_alloc(bytes), .data = cap.update.data};
	if (!cap.coming.block.offset) {
		refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_NO_MEMORY, .value = bytes};
		if (cap.moved) /* to make room, and still there is none */
			return update_refuse(&refused);
		return start_move((bytes + 2 * CAP_PAGE) / CAP_PAGE * CAP_PAGE);
	}
	if (ctl_read_data(cap.update_fd, shadow_at(cap.coming.block), bytes, &refused) ||
	    mirror_check(shadow_at(cap.coming.block), &cap.coming.data, &cap.coming.sum, &refused))
		return update_refuse(&refused);
	/* A call made for a guest may hold pages that go (a file system that pins them): it is interrupted and made again. */
	rc = exec_stop(shadow_service.bells ? EXEC_STOP_QUIET : EXEC_STOP_SOFT, &who);
	if (rc)
		return refuse_busy(rc, who);
	cap.pending = CAP_APPLY;
	return can_stay() ? update_apply() : start_move(0);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static void deliver(const struct ds_shadow_message *message, struct ds_shadow_refused *refused)
{
	struct shadow_exec *x;

	if (params_message(message, cap.nexec, refused)) {
		ctl_refuse(message->head.seq, refused);
		return;
	}
	x = exec_at(message->executor);
	if (__atomic_load_n(&x->mail, __ATOMIC_ACQUIRE)) {
		*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_MAILBOX, .index = message->executor};
		ctl_refuse(message->head.seq, refused);
		return;
	}
	memcpy(x->inbox, message->payload, message->payload_bytes);
	x->mail_bytes = message->payload_bytes;
	x->mail_seq = message->head.seq;
	__atomic_store_n(&x->mail, CAP_MAIL_MESSAGE, __ATOMIC_RELEASE);
	exec_wake(&x->mail);
}

/* Every number of the guest program's gets a file, so that the kernel gives none of them away (runtime/wire/shadow.h). */
static long hold_numbers(void)
{
	long fd = 0;

	if (cap.holding)
		return 0;
	while (fd >= 0 && fd < DS_SHADOW_GUEST_FDS)
		fd = sys(fcntl, DS_SHADOW_HOLD_FD, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	sys(close, fd);
	cap.holding = true;
	return 0;
}

static void give_bell(const struct ds_shadow_fd *m, int fd, struct ds_shadow_refused *refused)
{
	struct shadow_exec *x;
	long ret;

	if (params_executor(m->executor, cap.nexec, refused)) {
		ctl_close(fd);
		ctl_refuse(m->head.seq, refused);
		return;
	}
	x = exec_at(m->executor);
	if (__atomic_load_n(&x->mail, __ATOMIC_ACQUIRE) || __atomic_load_n(&x->bell, __ATOMIC_ACQUIRE)) {
		*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_MAILBOX, .index = m->executor};
		ctl_close(fd);
		ctl_refuse(m->head.seq, refused);
		return;
	}
	ret = hold_numbers();
	if (ret >= 0)
		ret = sys(dup3, fd, DS_SHADOW_BELL_FD + (int)m->executor, O_CLOEXEC);
	ctl_close(fd);
	if (ret < 0) {
		*refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_KERNEL, .err = (int32_t)ret, .index = __NR_dup3};
		ctl_refuse(m->head.seq, refused);
		return;
	}
	*(struct shadow_bell *)x->inbox =
		(struct shadow_bell){.slot = m->slot, .spin_ns = m->spin_ns, .fd = DS_SHADOW_BELL_FD + (int)m->executor};
	x->mail_bytes = sizeof(struct shadow_bell);
	x->mail_seq = m->head.seq;
	__atomic_store_n(&x->bell, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&x->mail, CAP_MAIL_BELL, __ATOMIC_RELEASE);
	exec_wake(&x->mail);
}

/* A received descriptor is above the guest's numbers once they are held, so none of them is in the place of another. */
static void adopt(const struct ds_shadow_adopt *m, const int *fds)
{
	struct ds_shadow_refused refused = {.reason = DS_SHADOW_R_KERNEL, .index = __NR_dup3};
	long ret = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		if (ret >= 0)
			ret = sys(dup3, fds[i], m->number[i], O_CLOEXEC);
		ctl_close(fds[i]);
	}
	refused.err = (int32_t)ret;
	if (ret < 0)
		ctl_refuse(m->head.seq, &refused);
	else
		ctl_status(m->head.seq);
}

static struct {
	union {
		struct ds_shadow_head head;
		struct ds_shadow_update update;
		struct ds_shadow_boot boot;
		struct ds_shadow_fd fd;
		struct ds_shadow_interrupt interrupt;
		struct ds_shadow_adopt adopt;
		struct ds_shadow_window window;
		struct ds_shadow_message message;
		struct ds_shadow_map map;
	} m;
	uint8_t payload[DS_SHADOW_PAYLOAD_MAX];
} in;
_Static_assert(sizeof(in) >= sizeof(cap.covered), "a MAP fits");

/* Takes a message and checks it.  Return: whether there is one in `in`; what is refused is not. */
static bool take(bool wait, int fds[static CAP_FDS])
{
	struct ds_shadow_refused refused = {0};
	uint32_t nfds, want;
	long got = ctl_receive(&in, sizeof(in), fds, &nfds, wait);

	if (got == -EAGAIN)
		return false;
	if (got == 0) /* dshost has closed its end */
		sys_exit(0);
	if (got == -EMSGSIZE)
		refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_MESSAGE};
	else if (got < 0)
		ctl_lost(got);
	else if (params_head(&in, (size_t)got, &refused))
		; /* refused */
	else if (in.m.head.kind == DS_SHADOW_BOOT || ((in.m.head.kind == DS_SHADOW_MAP || in.m.head.kind == DS_SHADOW_WINDOW) && cap.boot.mode == DS_SHADOW_EAGER) ||
		 (!shadow_service.bells && (in.m.head.kind == DS_SHADOW_FD || in.m.head.kind == DS_SHADOW_INTERRUPT)) ||
		 (!cap.holding && (in.m.head.kind == DS_SHADOW_ADOPT || in.m.head.kind == DS_SHADOW_WINDOW)))
		refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_ORDER};
	else if (in.m.head.kind == DS_SHADOW_ADOPT && params_adopt(&in.m.adopt, &refused))
		; /* refused */
	else if (want = in.m.head.kind == DS_SHADOW_ADOPT ? in.m.adopt.n : params_fds(in.m.head.kind, 0), nfds != want)
		refused = (struct ds_shadow_refused){.reason = DS_SHADOW_R_FDS, .index = nfds, .value = want};
	else if (in.m.head.kind == DS_SHADOW_UPDATE)
		params_update(&in.m.update, &refused);
	else if (in.m.head.kind == DS_SHADOW_MAP)
		params_map(&in.m.map, &cap.boot, &refused);
	else if (in.m.head.kind == DS_SHADOW_WINDOW)
		params_window(&in.m.window, &refused);
	if (!refused.reason)
		return true;
	for (int i = 0; i < CAP_FDS; i++)
		if (fds[i] >= 0)
			ctl_close(fds[i]);
	ctl_refuse(got >= (long)sizeof(in.m.head) ? in.m.head.seq : 0, &refused);
	return false;
}

/* Does what needs no executor to stop.  @fds: that came along.  Return: whether that was all: false for a change. */
static bool handle(const int *fds)
{
	struct ds_shadow_refused refused = {0};

	switch (in.m.head.kind) {
	case DS_SHADOW_QUIT: sys_exit(0);
	case DS_SHADOW_PING: ctl_status(in.m.head.seq); return true;
	case DS_SHADOW_MESSAGE: deliver(&in.m.message, &refused); return true;
	case DS_SHADOW_FD: give_bell(&in.m.fd, fds[0], &refused); return true;
	case DS_SHADOW_ADOPT: adopt(&in.m.adopt, fds); return true;
	case DS_SHADOW_WINDOW:
		if (demand_window(&in.m.window, fds[0], &refused))
			ctl_refuse(in.m.head.seq, &refused);
		else
			ctl_status(in.m.head.seq);
		ctl_close(fds[0]);
		return true;
	case DS_SHADOW_INTERRUPT:
		if (params_executor(in.m.interrupt.executor, cap.nexec, &refused))
			ctl_refuse(in.m.head.seq, &refused);
		else
			exec_interrupt(in.m.interrupt.executor);
		return true;
	case DS_SHADOW_MAP:
		if (params_covers(&in.m.map))
			return false;
		if (demand_map(&in.m.map, &refused))
			ctl_refuse(in.m.head.seq, &refused);
		return true;
	default: return false;
	}
}

void ctl_serve(void)
{
	struct ds_shadow_refused refused = {.reason = DS_SHADOW_R_ORDER};
	int fds[CAP_FDS];

	while (take(false, fds)) {
		if (handle(fds))
			continue;
		if (!cap.held.head.kind) {
			if (in.m.head.kind == DS_SHADOW_MAP)
				demand_arrived(&in.m.map);
			memcpy(&cap.held, &in, in.m.head.bytes);
			cap.held_fd = fds[0];
			continue;
		}
		if (fds[0] >= 0)
			ctl_close(fds[0]);
		ctl_refuse(in.m.head.seq, &refused);
	}
}

static void cover(const struct ds_shadow_map *map)
{
	struct ds_shadow_refused refused = {.reason = DS_SHADOW_R_BUSY};
	const uint32_t seq = map->head.seq;
	uint32_t who = 0;
	int rc;

	rc = exec_stop(EXEC_STOP_QUIET, &who);
	if (rc) {
		cap.covering = false;
		cap.nwaits = 0;
		refused.err = rc;
		refused.index = who;
		ctl_refuse(seq, &refused);
		return;
	}
	rc = demand_cover();
	if (rc)
		ctl_die(seq, DS_SHADOW_R_LOST, rc, 0, 0);
	exec_go();
	ctl_status(seq);
}

int64_t ctl_step(void)
{
	int fds[CAP_FDS];

	if (cap.pending == CAP_RECEIVE)
		return update_receive();
	if (cap.pending == CAP_APPLY)
		return update_apply();
	if (cap.held.head.kind) {
		memcpy(&in, &cap.held, cap.held.head.bytes);
		fds[0] = cap.held_fd;
		cap.held.head.kind = 0;
	} else if (!take(true, fds) || handle(fds)) {
		return 0;
	} else if (in.m.head.kind == DS_SHADOW_MAP) {
		demand_arrived(&in.m.map);
	}
	if (in.m.head.kind == DS_SHADOW_MAP) {
		cover(&in.m.map);
		return 0;
	}
	cap.update = in.m.update;
	cap.update_fd = fds[0];
	cap.moved = false;
	cap.pending = CAP_RECEIVE;
	return update_receive();
}
