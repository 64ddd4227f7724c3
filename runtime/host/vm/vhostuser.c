/* vhostuser.c - the state of a vhost-user-vsock device; theory in vhostuser.h */
#include "runtime/host/vm/vhostuser.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/host/vm/devmem.h"

static void drop_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void drop_table(struct vhostuser *v)
{
	for (uint32_t i = 0; i < VHOSTUSER_REGIONS_MAX; i++)
		drop_fd(&v->fd[i]);
	v->ram_fd = -1;
	v->nregions = 0;
	v->has_table = false;
}

void vhostuser_init(struct vhostuser *v, uint64_t cid)
{
	memset(v, 0, sizeof(*v));
	v->cid = cid;
	v->ram_fd = -1;
	for (uint32_t i = 0; i < VHOSTUSER_REGIONS_MAX; i++)
		v->fd[i] = v->in_fd[i] = -1;
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES; i++)
		v->queue[i].kick = v->queue[i].call = v->queue[i].error = -1;
}

void vhostuser_close(struct vhostuser *v)
{
	drop_table(v);
	for (uint32_t i = 0; i < v->in_fds; i++)
		drop_fd(&v->in_fd[i]);
	v->in_fds = 0;
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES; i++) {
		drop_fd(&v->queue[i].kick);
		drop_fd(&v->queue[i].call);
		drop_fd(&v->queue[i].error);
	}
}

static int refuse(struct vhostuser *v, int number, const char *why, uint64_t value)
{
	v->err = (struct ramtable_err){.why = why, .index = RAMTABLE_NO_INDEX, .value = value};
	return number;
}

/* --- the table ------------------------------------------------------------------------------------------------- */

/* Builds a table of the regions that are in place, with descriptors of theirs. */
static int make_table(struct vhostuser *v, struct ramtable *t)
{
	uint32_t number[VHOSTUSER_REGIONS_MAX];

	ramtable_init(t);
	for (uint32_t i = 0; i < v->nregions; i++) {
		const struct vhostuser_region *r = &v->region[i];
		struct ramtable_file file;
		int e = ramtable_check_fd(v->fd[i], &file, &v->err);

		file.device = !e && file.physical && devmem_is_device(r->offset_bytes, r->bytes);
		if (!e)
			e = ramtable_add_file(t, &file, &number[i], &v->err);
		if (!e)
			e = ramtable_add(t, r->gpa_bytes, r->bytes, r->offset_bytes, number[i], &v->err);
		if (e)
			return e;
	}
	return ramtable_finish(t, &v->err);
}

/* A table is the same when it shows the same pages of the same files. */
static bool same_table(const struct ramtable *a, const struct ramtable *b)
{
	if (a->nranges != b->nranges || a->nfiles != b->nfiles)
		return false;
	for (uint32_t i = 0; i < a->nfiles; i++) {
		if (a->file[i].dev != b->file[i].dev || a->file[i].ino != b->file[i].ino || a->file[i].npages != b->file[i].npages)
			return false;
	}
	for (uint32_t i = 0; i < a->nranges; i++) {
		const struct ramtable_range *r = &a->range[i], *s = &b->range[i];

		if (r->frame.n != s->frame.n || r->page.n != s->page.n || r->npages != s->npages || r->file != s->file)
			return false;
	}
	return true;
}

/* The descriptor of file 0: that of the region that holds guest address 0, which a finished table has. */
static int find_ram_fd(const struct vhostuser *v)
{
	for (uint32_t i = 0; i < v->nregions; i++) {
		if (!v->region[i].gpa_bytes)
			return v->fd[i];
	}
	return -1;
}

/* Takes the descriptors out of @fd as it keeps them. */
static int set_mem_table(struct vhostuser *v, const struct vhostuser_msg *msg, int *fd, uint32_t nfds, enum vhostuser_event *event)
{
	const uint32_t n = msg->head.size >= 8 ? msg->payload.mem.nregions : 0;
	const bool had_table = v->has_table;
	struct ramtable t;

	if (msg->head.size < 8 || n > VHOSTUSER_REGIONS_MAX || msg->head.size != 8 + n * sizeof(struct vhostuser_region))
		return refuse(v, -EPROTO, "SET_MEM_TABLE has another length than its regions need", msg->head.size);
	if (n != nfds)
		return refuse(v, -EBADF, "SET_MEM_TABLE does not bring one descriptor a region", nfds);
	drop_table(v);
	v->nregions = n;
	for (uint32_t i = 0; i < n; i++) {
		v->region[i] = msg->payload.mem.region[i];
		v->fd[i] = fd[i];
		fd[i] = -1;
	}
	if (make_table(v, &t)) {
		drop_table(v);
		*event = VHOSTUSER_EV_NO_TABLE;
		return 0;
	}
	*event = had_table && same_table(&t, &v->table) ? VHOSTUSER_EV_TABLE_SAME : VHOSTUSER_EV_TABLE;
	v->table = t;
	v->has_table = true;
	v->ram_fd = find_ram_fd(v);
	return 0;
}

/* --- queues ---------------------------------------------------------------------------------------------------- */

/* After a change: whether both queues have begun to run. */
static void look_started(struct vhostuser *v, enum vhostuser_event *event)
{
	bool all = true;

	for (uint32_t i = 0; i < VHOSTUSER_QUEUES; i++) {
		const struct vhostuser_queue *q = &v->queue[i];

		/* Without protocol features nobody sends ENABLE, and a queue runs once it is started. */
		all = all && q->started && (q->enabled || !(v->features & VHOSTUSER_F_PROTOCOL_FEATURES));
	}
	if (all && !v->running) {
		v->running = true;
		*event = VHOSTUSER_EV_STARTED;
	}
}

static void look_stopped(struct vhostuser *v, enum vhostuser_event *event)
{
	if (v->running)
		*event = VHOSTUSER_EV_STOPPED;
	v->running = false;
}

/* The messages whose payload is a queue's index and a number. */
static int set_state(struct vhostuser *v, const struct vhostuser_msg *msg, enum vhostuser_event *event)
{
	const uint32_t num = msg->payload.state.num;
	struct vhostuser_queue *q;

	if (msg->payload.state.index >= VHOSTUSER_QUEUES)
		return refuse(v, -ERANGE, "a message names a queue that a vsock device does not have", msg->payload.state.index);
	q = &v->queue[msg->payload.state.index];
	switch (msg->head.request) {
	case VHOSTUSER_SET_VRING_NUM:
		if (!num || num > VHOSTUSER_RING_SIZE_MAX || num & (num - 1))
			return refuse(v, -ERANGE, "SET_VRING_NUM is not a power of two up to 1024", num);
		q->num = num;
		break;
	case VHOSTUSER_SET_VRING_BASE:
		if (num > UINT16_MAX)
			return refuse(v, -ERANGE, "SET_VRING_BASE is no index of a ring", num);
		q->base = num;
		break;
	default: /* SET_VRING_ENABLE */
		if (num > 1)
			return refuse(v, -ERANGE, "SET_VRING_ENABLE is neither 0 nor 1", num);
		q->enabled = num;
		if (num)
			look_started(v, event);
		else
			look_stopped(v, event);
	}
	return 0;
}

static int set_addr(struct vhostuser *v, const struct vhostuser_msg *msg)
{
	struct vhostuser_queue *q;

	if (msg->payload.addr.index >= VHOSTUSER_QUEUES)
		return refuse(v, -ERANGE, "a message names a queue that a vsock device does not have", msg->payload.addr.index);
	/* virtio 1.1, 2.6: what each part is aligned to */
	if (msg->payload.addr.desc % 16 || msg->payload.addr.avail % 2 || msg->payload.addr.used % 4)
		return refuse(v, -ERANGE, "SET_VRING_ADDR has an address that is not aligned", msg->payload.addr.desc);
	q = &v->queue[msg->payload.addr.index];
	q->desc = msg->payload.addr.desc;
	q->avail = msg->payload.addr.avail;
	q->used = msg->payload.addr.used;
	return 0;
}

/* KICK, CALL, ERR. */
static int set_eventfd(struct vhostuser *v, const struct vhostuser_msg *msg, int *fd, uint32_t nfds, enum vhostuser_event *event)
{
	const uint64_t word = msg->payload.u64, index = word & 0xff;
	const uint32_t want = word & VHOSTUSER_NO_FD ? 0 : 1;
	struct vhostuser_queue *q;
	int *place;

	if (word & ~UINT64_C(0x1ff) || index >= VHOSTUSER_QUEUES)
		return refuse(v, -ERANGE, "a message names a queue that a vsock device does not have", word);
	if (nfds != want)
		return refuse(v, -EBADF, "a message for a queue does not bring the descriptor it promises", nfds);
	q = &v->queue[index];
	place = msg->head.request == VHOSTUSER_SET_VRING_KICK ? &q->kick :
		msg->head.request == VHOSTUSER_SET_VRING_CALL ? &q->call : &q->error;
	drop_fd(place);
	if (want) {
		*place = fd[0];
		fd[0] = -1;
	}
	if (msg->head.request != VHOSTUSER_SET_VRING_KICK)
		return 0;
	if (!q->num || !q->desc || !q->avail || !q->used)
		return refuse(v, -EPROTO, "SET_VRING_KICK starts a queue that has no size or no place", index);
	q->started = true;
	look_started(v, event);
	return 0;
}

static int get_vring_base(struct vhostuser *v, const struct vhostuser_msg *msg, struct vhostuser_msg *reply,
			  enum vhostuser_event *event)
{
	struct vhostuser_queue *q;

	if (msg->payload.state.index >= VHOSTUSER_QUEUES)
		return refuse(v, -ERANGE, "a message names a queue that a vsock device does not have", msg->payload.state.index);
	q = &v->queue[msg->payload.state.index];
	reply->head.size = sizeof(reply->payload.state);
	reply->payload.state.index = msg->payload.state.index;
	reply->payload.state.num = q->base;
	drop_fd(&q->kick);
	q->started = q->enabled = false;
	q->num = 0; /* the next start says all of it anew */
	q->desc = q->avail = q->used = 0;
	look_stopped(v, event);
	return 0;
}

/* --- negotiation ------------------------------------------------------------------------------------------------ */

static int get_config(struct vhostuser *v, const struct vhostuser_msg *msg, struct vhostuser_msg *reply)
{
	const uint32_t offset = msg->payload.config.offset, size = msg->payload.config.size;
	uint8_t config[VHOSTUSER_CONFIG_BYTES_MAX] = {0}; /* of which the device has 8 bytes, the CID */

	if (!(v->protocol & VHOSTUSER_P_CONFIG))
		return refuse(v, -EPROTONOSUPPORT, "GET_CONFIG was not negotiated", 0);
	if (msg->head.size < 12 || size > sizeof(config) || offset > sizeof(config) - size || msg->head.size != 12 + size)
		return refuse(v, -ERANGE, "GET_CONFIG wants more than a device's configuration can have", size);
	memcpy(config, &v->cid, sizeof(v->cid));
	reply->head.size = msg->head.size;
	reply->payload.config.offset = offset;
	reply->payload.config.size = size;
	memcpy(reply->payload.config.bytes, config + offset, size);
	return 0;
}

static int set_features(struct vhostuser *v, uint64_t *place, uint64_t wanted, uint64_t offered)
{
	if (wanted & ~offered)
		return refuse(v, -EPROTO, "features are switched on that were not offered", wanted & ~offered);
	*place = wanted;
	return 0;
}

/* Length of the payload that a request has; -1: of several lengths, checked where it is read; -2: not understood. */
static int payload_bytes(uint32_t request)
{
	switch (request) {
	case VHOSTUSER_GET_FEATURES:
	case VHOSTUSER_GET_PROTOCOL_FEATURES:
	case VHOSTUSER_SET_OWNER:
		return 0;
	case VHOSTUSER_SET_FEATURES:
	case VHOSTUSER_SET_PROTOCOL_FEATURES:
	case VHOSTUSER_SET_VRING_KICK:
	case VHOSTUSER_SET_VRING_CALL:
	case VHOSTUSER_SET_VRING_ERR:
	case VHOSTUSER_SET_VRING_NUM:
	case VHOSTUSER_SET_VRING_BASE:
	case VHOSTUSER_GET_VRING_BASE:
	case VHOSTUSER_SET_VRING_ENABLE:
		return 8;
	case VHOSTUSER_SET_VRING_ADDR:
		return 40;
	case VHOSTUSER_SET_MEM_TABLE:
	case VHOSTUSER_GET_CONFIG:
		return -1;
	default:
		return -2;
	}
}

static bool takes_fds(uint32_t request)
{
	return request == VHOSTUSER_SET_MEM_TABLE || request == VHOSTUSER_SET_VRING_KICK || request == VHOSTUSER_SET_VRING_CALL ||
	       request == VHOSTUSER_SET_VRING_ERR;
}

static int check_head(struct vhostuser *v, const struct vhostuser_head *head)
{
	const int want = payload_bytes(head->request);

	if ((head->flags & ~VHOSTUSER_NEED_REPLY) != VHOSTUSER_VERSION)
		return refuse(v, -EPROTONOSUPPORT, "a message of another version of vhost-user, or an answer nobody asked for", head->flags);
	if (want == -2)
		return refuse(v, -EPROTONOSUPPORT, "a message that was not negotiated", head->request);
	if (head->size > VHOSTUSER_PAYLOAD_MAX || (want >= 0 && head->size != (uint32_t)want))
		return refuse(v, -EPROTO, "a message of another length than its kind has", head->size);
	return 0;
}

/* The message itself; answers that carry something set reply->head.size. */
static int dispatch(struct vhostuser *v, const struct vhostuser_msg *msg, int *fd, uint32_t nfds, struct vhostuser_msg *reply,
		    enum vhostuser_event *event)
{
	switch (msg->head.request) {
	case VHOSTUSER_GET_FEATURES:
	case VHOSTUSER_GET_PROTOCOL_FEATURES:
		reply->head.size = sizeof(reply->payload.u64);
		reply->payload.u64 = msg->head.request == VHOSTUSER_GET_FEATURES ? VHOSTUSER_FEATURES : VHOSTUSER_PROTOCOL;
		return 0;
	case VHOSTUSER_SET_FEATURES:
		return set_features(v, &v->features, msg->payload.u64, VHOSTUSER_FEATURES);
	case VHOSTUSER_SET_PROTOCOL_FEATURES:
		return set_features(v, &v->protocol, msg->payload.u64, VHOSTUSER_PROTOCOL);
	case VHOSTUSER_SET_MEM_TABLE:
		return set_mem_table(v, msg, fd, nfds, event);
	case VHOSTUSER_SET_VRING_NUM:
	case VHOSTUSER_SET_VRING_BASE:
	case VHOSTUSER_SET_VRING_ENABLE:
		return set_state(v, msg, event);
	case VHOSTUSER_SET_VRING_ADDR:
		return set_addr(v, msg);
	case VHOSTUSER_GET_VRING_BASE:
		return get_vring_base(v, msg, reply, event);
	case VHOSTUSER_SET_VRING_KICK:
	case VHOSTUSER_SET_VRING_CALL:
	case VHOSTUSER_SET_VRING_ERR:
		return set_eventfd(v, msg, fd, nfds, event);
	case VHOSTUSER_GET_CONFIG:
		return get_config(v, msg, reply);
	default: /* SET_OWNER: there is one session a connection, nothing to do */
		return 0;
	}
}

int vhostuser_message(struct vhostuser *v, const struct vhostuser_msg *msg, const int *fd, uint32_t nfds,
		      struct vhostuser_msg *reply, bool *has_reply, enum vhostuser_event *event)
{
	int mine[VHOSTUSER_REGIONS_MAX] = {-1, -1, -1, -1, -1, -1, -1, -1};

	*event = VHOSTUSER_EV_NONE;
	*has_reply = false;
	memset(reply, 0, sizeof(*reply));
	reply->head = (struct vhostuser_head){.request = msg->head.request, .flags = VHOSTUSER_VERSION | VHOSTUSER_REPLY};
	for (uint32_t i = 0; i < nfds; i++)
		mine[i] = fd[i];
	if (!v->broken)
		v->broken = check_head(v, &msg->head);
	if (!v->broken && nfds && !takes_fds(msg->head.request))
		v->broken = refuse(v, -EBADF, "a message brings descriptors that its kind does not have", nfds);
	if (!v->broken)
		v->broken = dispatch(v, msg, mine, nfds, reply, event);
	for (uint32_t i = 0; i < nfds; i++)
		drop_fd(&mine[i]);
	if (v->broken)
		return v->broken;
	*has_reply = reply->head.size;
	if (!*has_reply && msg->head.flags & VHOSTUSER_NEED_REPLY && v->protocol & VHOSTUSER_P_REPLY_ACK) {
		reply->head.size = sizeof(reply->payload.u64);
		reply->payload.u64 = 0;
		*has_reply = true;
	}
	return 0;
}

/* --- the socket ------------------------------------------------------------------------------------------------- */

/* Keeps the descriptors of @mh; those that are too many are closed, which ends the connection. */
static int keep_fds(struct vhostuser *v, struct msghdr *mh)
{
	bool too_many = mh->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		const uint32_t n = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (uint32_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (v->in_fds < VHOSTUSER_REGIONS_MAX) {
				v->in_fd[v->in_fds++] = fd;
			} else {
				close(fd);
				too_many = true;
			}
		}
	}
	return too_many ? refuse(v, -EBADF, "a message brings more descriptors than any has", v->in_fds) : 0;
}

/* Reads what is missing of [place, place + want), never beyond it: what comes next has descriptors of its own. */
static int read_some(struct vhostuser *v, int sock, void *place, size_t have, size_t want)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(VHOSTUSER_REGIONS_MAX * sizeof(int))];
	struct iovec iov = {.iov_base = (char *)place + have, .iov_len = want - have};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? -EAGAIN : -errno;
	if (n == 0)
		return refuse(v, -ECONNRESET, "the VM has closed the connection", 0);
	v->in_bytes += (size_t)n;
	return keep_fds(v, &mh);
}

static int take_in(struct vhostuser *v, int sock, enum vhostuser_event *event)
{
	struct vhostuser_msg reply;
	const uint32_t nfds = v->in_fds;
	ssize_t n, bytes;
	bool has_reply;
	int r;

	v->in_fds = 0;
	v->in_bytes = 0; /* the next message begins */
	r = vhostuser_message(v, &v->in, v->in_fd, nfds, &reply, &has_reply, event);
	if (!r && v->before_answer && *event != VHOSTUSER_EV_NONE)
		v->before_answer(v->before_ctx, *event);
	if (r || !has_reply)
		return r;
	bytes = (ssize_t)(sizeof(reply.head) + reply.head.size);
	do {
		/* The payload follows the head at a multiple of 8: the two are sent apart. */
		struct iovec iov[2] = {{&reply.head, sizeof(reply.head)}, {&reply.payload, reply.head.size}};
		const struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};

		n = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n == bytes)
		return 0;
	return refuse(v, n < 0 && errno != EAGAIN ? -errno : -EPROTO, "the VM does not take an answer", 0);
}

/* One step towards a whole message. */
static int step(struct vhostuser *v, int sock, enum vhostuser_event *event)
{
	const size_t head = sizeof(v->in.head);
	int r = 0;

	if (v->in_bytes < head) {
		r = read_some(v, sock, &v->in.head, v->in_bytes, head);
		if (r || v->in_bytes < head)
			return r ? r : -EAGAIN;
		r = check_head(v, &v->in.head); /* the size, before it is used */
	} else {
		r = read_some(v, sock, &v->in.payload, v->in_bytes - head, v->in.head.size);
	}
	if (r)
		return r;
	return v->in_bytes < head + v->in.head.size ? -EAGAIN : take_in(v, sock, event);
}

int vhostuser_receive(struct vhostuser *v, int sock, enum vhostuser_event *event)
{
	size_t before;
	int r;

	*event = VHOSTUSER_EV_NONE;
	if (v->broken)
		return v->broken;
	do { /* at most three rounds: the head, the payload, and one that finds nothing */
		before = v->in_bytes;
		r = step(v, sock, event);
	} while (r == -EAGAIN && v->in_bytes > before);
	if (r && r != -EAGAIN)
		v->broken = r;
	return r;
}
