/* control.c - requests to the daemon and their replies; theory in control.h */
#include "runtime/host/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rle/cleanup.h"

bool control_name_ok(const char *name)
{
	const char *fine = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	const size_t n = strspn(name, fine);

	return n && n < CONTROL_NAME_BYTES && !name[n] && !strchr("_.-", name[0]);
}

static int bad(const char **why, const char *text)
{
	*why = text;
	return -EBADMSG;
}

static int read_table(const struct control_request *r, struct ramtable *table, const char **why)
{
	struct ramtable_file file = {.name = "monitor", .npages = r->ram_pages};
	struct ramtable_err err = {0};
	uint32_t index;
	int e;

	ramtable_init(table);
	e = ramtable_add_file(table, &file, &index, &err);
	for (uint32_t i = 0; !e && i < r->nranges; i++) {
		const struct control_range *c = &r->range[i];

		if ((c->frame | c->page | c->npages) >> (64 - DS_PAGE_SHIFT))
			return bad(why, "a range of the monitor's table is beyond what an address may be");
		e = ramtable_add(table, c->frame << DS_PAGE_SHIFT, c->npages << DS_PAGE_SHIFT, c->page << DS_PAGE_SHIFT, index, &err);
	}
	if (!e)
		e = ramtable_finish(table, &err);
	return e ? bad(why, err.why) : 0;
}

int control_check(const void *packet, size_t bytes, struct control_request *out, struct ramtable *table, const char **why)
{
	struct control_request *r = out;

	if (bytes != sizeof(*r))
		return bad(why, "a request of another length");
	memcpy(r, packet, sizeof(*r));
	if (r->magic != CONTROL_MAGIC)
		return bad(why, "no request");
	if (r->version != CONTROL_VERSION) {
		*why = "the daemon is of another version than this command: restart it";
		return -EPROTONOSUPPORT;
	}
	if (r->verb < CONTROL_VM || r->verb > CONTROL_STOP)
		return bad(why, "a request of a kind that does not exist");
	if (!memchr(r->name, 0, sizeof(r->name)) || (r->verb != CONTROL_STATUS && !control_name_ok(r->name)))
		return bad(why, "a VM's name is 1 to 31 letters, digits, _ . -, and begins with a letter or digit");
	if (r->zero || (r->verb != CONTROL_VM && (r->nranges || r->vmm_pid || r->vmm_uid)) || (r->verb != CONTROL_END && r->guest_pid))
		return bad(why, "a request with a field that its kind does not have");
	if (r->verb == CONTROL_END && !r->guest_pid)
		return bad(why, "the process whose shadow is to end is missing");
	if (r->vmm_pid > INT32_MAX)
		return bad(why, "not the number of a process");
	if (r->nranges > RAMTABLE_RANGES_MAX)
		return bad(why, "too many ranges of memory");
	return r->nranges ? read_table(r, table, why) : 0;
}

void control_put_table(struct control_request *request, const struct ramtable *table)
{
	request->ram_pages = table->file[0].npages;
	request->nranges = 0;
	for (uint32_t i = 0; i < table->nranges; i++) {
		const struct ramtable_range *r = &table->range[i];

		if (r->file == 0)
			request->range[request->nranges++] = (struct control_range){r->frame.n, r->page.n, r->npages};
	}
}

int control_path(char path[static CONTROL_PATH_BYTES], const char *run_dir, const char *name, const char *suffix)
{
	int n = snprintf(path, CONTROL_PATH_BYTES, "%s/%s%s%s", run_dir, name, suffix ? "." : "", suffix ? suffix : "");

	return n < 0 || n >= CONTROL_PATH_BYTES ? -ENAMETOOLONG : 0;
}

static int set_address(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(a->sun_path))
		return -ENAMETOOLONG;
	strcpy(a->sun_path, path);
	return 0;
}

int control_listen(const char *path, int kind, uint32_t uid)
{
	cleanup_close int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	mode_t mask;
	int e = set_address(&addr, path);

	if (fd < 0 || e)
		return e ? e : -errno;
	if (unlink(path) && errno != ENOENT)
		return -errno;
	mask = umask(0177); /* bind() makes it as umask says: there is no moment in which others could connect */
	e = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	umask(mask);
	if (!e && uid != geteuid() && chown(path, uid, (gid_t)-1))
		e = -errno;
	if (!e && listen(fd, 16))
		e = -errno;
	return e ? e : steal_fd(&fd);
}

/* The packet and the descriptor that came with it. */
static int take_reply(int fd, struct control_reply *reply, int *file)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {reply, sizeof(*reply)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	cleanup_close int came = -1;

	if (n < 0)
		return -errno;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&came, CMSG_DATA(c), sizeof(came));
	if (n == 0)
		return -ECONNRESET;
	if (n != sizeof(*reply) || reply->magic != CONTROL_MAGIC || reply->version != CONTROL_VERSION)
		return -EBADMSG;
	reply->vsock[sizeof(reply->vsock) - 1] = reply->doorbell[sizeof(reply->doorbell) - 1] = 0;
	reply->text[sizeof(reply->text) - 1] = 0;
	if (file)
		*file = steal_fd(&came);
	return 0;
}

int control_ask(const char *run_dir, struct control_request *request, struct control_reply *reply, int *file, int timeout_ms)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char path[CONTROL_PATH_BYTES];
	struct sockaddr_un addr;
	int e = control_path(path, run_dir, CONTROL_SOCKET, NULL);

	if (file)
		*file = -1;
	if (e || fd < 0)
		return e ? e : -errno;
	set_address(&addr, path);
	request->magic = CONTROL_MAGIC;
	request->version = CONTROL_VERSION;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) || send(fd, request, sizeof(*request), MSG_NOSIGNAL) < 0)
		return -errno;
	do {
		e = poll(&p, 1, timeout_ms);
	} while (e < 0 && errno == EINTR);
	if (e <= 0)
		return e ? -errno : -ETIMEDOUT;
	return take_reply(fd, reply, file);
}

void control_answer(int fd, struct control_reply *reply, int file)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {reply, sizeof(*reply)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	reply->magic = CONTROL_MAGIC;
	reply->version = CONTROL_VERSION;
	if (file >= 0) {
		struct cmsghdr *c;

		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &file, sizeof(file));
	}
	sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void control_refuse(int fd, int err, const char *fmt, ...)
{
	struct control_reply reply = {.kind = CONTROL_REFUSED, .err = err};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reply.text, sizeof(reply.text), fmt, ap);
	va_end(ap);
	control_answer(fd, &reply, -1);
}
