/* ivshmem.c - the server of an ivshmem-doorbell device; theory in ivshmem.h */
#include "runtime/host/vm/ivshmem.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define GUEST_ID 0
#define HEAD_MESSAGES 3u /* version, the guest's number, the window; then doorbells, then vectors */

struct ivshmem {
	struct sockaddr_un address;
	bool bound; /* the socket in the file system is ours to remove */
	int epoll, listener, shm;
	uint64_t shm_bytes;
	uint32_t ndoorbells, nvectors;
	int doorbell[IVSHMEM_DOORBELLS_MAX], vector[IVSHMEM_VECTORS_MAX];
	int vm;		/* the connection; -1: none */
	uint32_t told;	/* messages sent on it */
};

/* --- the connection ----------------------------------------------------------------------------------------------- */

static uint32_t nmessages(const struct ivshmem *s)
{
	return HEAD_MESSAGES + s->ndoorbells + s->nvectors;
}

static int64_t message(const struct ivshmem *s, uint32_t i, int *fd)
{
	*fd = -1;
	if (i == 0)
		return 0; /* the protocol's version */
	if (i == 1)
		return GUEST_ID;
	if (i == 2) {
		*fd = s->shm;
		return -1;
	}
	i -= HEAD_MESSAGES;
	if (i < s->ndoorbells) {
		*fd = s->doorbell[i];
		return i + 1;
	}
	*fd = s->vector[i - s->ndoorbells];
	return GUEST_ID;
}

/* Return: 0, -EAGAIN, another -errno. */
static int send_message(int sock, int64_t number, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	uint64_t word = htole64((uint64_t)number);
	struct iovec iov = {&word, sizeof(word)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		CMSG_FIRSTHDR(&mh)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&mh)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&mh)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(int));
	}
	do {
		n = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == sizeof(word) ? 0 : -EPIPE;
}

static int watch(const struct ivshmem *s, int how, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};

	return epoll_ctl(s->epoll, how, fd, &ev) ? -errno : 0;
}

static void see_off(struct ivshmem *s)
{
	if (s->vm < 0)
		return;
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->vm, NULL); /* by name: a forked child may hold it */
	shutdown(s->vm, SHUT_RDWR);
	close(s->vm);
	s->vm = -1;
	s->told = 0;
}

/* Goes on telling.  A VM that cannot be told is seen off: QEMU then has a device without doorbells, and says so. */
static void tell(struct ivshmem *s)
{
	int r = 0, fd;

	while (!r && s->told < nmessages(s)) {
		const int64_t number = message(s, s->told, &fd);

		r = send_message(s->vm, number, fd);
		if (!r)
			s->told++;
	}
	if (r == -EAGAIN)
		r = watch(s, EPOLL_CTL_MOD, s->vm, EPOLLIN | EPOLLOUT);
	else if (!r)
		r = watch(s, EPOLL_CTL_MOD, s->vm, EPOLLIN);
	if (r)
		see_off(s);
}

static void empty(int eventfd)
{
	uint64_t n;

	if (read(eventfd, &n, sizeof(n)) < 0)
		return; /* it was empty */
}

/* What an earlier VM left: bells rung, interrupts not yet taken, bytes in the window. */
static void forget(struct ivshmem *s)
{
	for (uint32_t i = 0; i < s->ndoorbells; i++)
		empty(s->doorbell[i]);
	for (uint32_t i = 0; i < s->nvectors; i++)
		empty(s->vector[i]);
	fallocate(s->shm, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)s->shm_bytes);
}

static void let_in(struct ivshmem *s)
{
	int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		return;
	if (s->vm >= 0 || watch(s, EPOLL_CTL_ADD, sock, EPOLLIN)) {
		close(sock);
		return;
	}
	s->vm = sock;
	s->told = 0;
	forget(s);
	tell(s);
}

void ivshmem_run(struct ivshmem *s)
{
	struct epoll_event ev[2];
	const int n = epoll_wait(s->epoll, ev, 2, 0);
	bool visitor = false;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.fd == s->listener)
			visitor = true;
		else if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			see_off(s); /* gone, or it speaks, which it never does */
		else
			tell(s);
	}
	if (visitor) /* after a VM that has gone was seen off */
		let_in(s);
}

/* --- what others ask ------------------------------------------------------------------------------------------------ */

int ivshmem_fd(const struct ivshmem *s)
{
	return s->epoll;
}

bool ivshmem_connected(const struct ivshmem *s)
{
	return s->vm >= 0 && s->told == nmessages(s);
}

int ivshmem_shm(const struct ivshmem *s)
{
	return s->shm;
}

int ivshmem_doorbell(const struct ivshmem *s, uint32_t d)
{
	return d < s->ndoorbells ? s->doorbell[d] : -EINVAL;
}

int ivshmem_vector(const struct ivshmem *s, uint32_t n)
{
	return n < s->nvectors ? s->vector[n] : -EINVAL;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static int make_window(struct ivshmem *s)
{
	s->shm = memfd_create("ivshmem", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->shm < 0 || ftruncate(s->shm, (off_t)s->shm_bytes) ||
	    fcntl(s->shm, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return 0;
}

static int make_eventfds(int *fd, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd[i] < 0)
			return -errno;
	}
	return 0;
}

/* Whether the socket at that address was left behind: nobody listens. */
static bool left_behind(const struct sockaddr_un *address)
{
	cleanup_close int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	return sock >= 0 && !lstat(address->sun_path, &st) && S_ISSOCK(st.st_mode) &&
	       connect(sock, (const struct sockaddr *)address, sizeof(*address)) && errno == ECONNREFUSED;
}

static int make_listener(struct ivshmem *s)
{
	const struct sockaddr *address = (const struct sockaddr *)&s->address;
	int r;

	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listener < 0 || fchmod(s->listener, 0600)) /* the mode that bind() gives the file, unix(7) */
		return -errno;
	r = bind(s->listener, address, sizeof(s->address)) ? -errno : 0;
	if (r == -EADDRINUSE && left_behind(&s->address) && !unlink(s->address.sun_path))
		r = bind(s->listener, address, sizeof(s->address)) ? -errno : 0;
	if (r)
		return r;
	s->bound = true;
	if (listen(s->listener, 4))
		return -errno;
	return watch(s, EPOLL_CTL_ADD, s->listener, EPOLLIN);
}

int ivshmem_new(struct ivshmem **out, const char *path, uint64_t shm_bytes, uint32_t ndoorbells, uint32_t nvectors)
{
	struct ivshmem *s;
	int r;

	*out = NULL;
	if (shm_bytes < 4096 || shm_bytes & (shm_bytes - 1) || shm_bytes > INT64_MAX || ndoorbells > IVSHMEM_DOORBELLS_MAX ||
	    nvectors > IVSHMEM_VECTORS_MAX || !*path)
		return -EINVAL;
	if (strlen(path) >= sizeof(s->address.sun_path))
		return -ENAMETOOLONG;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	memset(s->doorbell, 0xff, sizeof(s->doorbell)); /* -1 each */
	memset(s->vector, 0xff, sizeof(s->vector));
	s->listener = s->shm = s->vm = -1;
	s->shm_bytes = shm_bytes;
	s->ndoorbells = ndoorbells;
	s->nvectors = nvectors;
	s->address.sun_family = AF_UNIX;
	memcpy(s->address.sun_path, path, strlen(path));
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	r = s->epoll < 0 ? -errno : make_window(s);
	if (!r)
		r = make_eventfds(s->doorbell, ndoorbells);
	if (!r)
		r = make_eventfds(s->vector, nvectors);
	if (!r)
		r = make_listener(s);
	if (r) {
		ivshmem_free(s);
		return r;
	}
	*out = s;
	return 0;
}

static void drop_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void ivshmem_free(struct ivshmem *s)
{
	if (!s)
		return;
	see_off(s);
	if (s->bound)
		unlink(s->address.sun_path);
	for (uint32_t i = 0; i < s->ndoorbells; i++)
		drop_fd(s->doorbell[i]);
	for (uint32_t i = 0; i < s->nvectors; i++)
		drop_fd(s->vector[i]);
	drop_fd(s->listener);
	drop_fd(s->shm);
	drop_fd(s->epoll);
	free(s);
}
