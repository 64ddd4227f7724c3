/* libdsguest.c - a program's side of its shadow: the connection to dsagent and the functions of dsguest.h
 *
 * Theory of operation in libdsguest.h.
 */
#include "runtime/guest/lib/libdsguest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "runtime/guest/lib/dsguest.h"

#define EXPORT __attribute__((visibility("default")))
#define BUSY_MS 10000
#define FD_FLOOR 800 /* programs count descriptors from 0, and select() ends at 1024 */

struct guest_state *guest;
static __thread char why[DS_LOCAL_TEXT_BYTES + 64];
static struct {
	int fd; /* the connection, for a child whose state was wiped; -1: none */
	dev_t dev;
	ino_t ino;
} inherited = {.fd = -1};

long guest_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

int guest_say(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err;
}

/* --- the lock ---------------------------------------------------------------------------------------------------- */

static void lock(uint64_t *mask)
{
	const uint64_t all = UINT64_MAX;
	int was = 0;

	guest_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)mask, sizeof(all), 0, 0);
	if (__atomic_compare_exchange_n(&guest->lock, &was, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&guest->lock, 2, __ATOMIC_ACQUIRE))
		guest_syscall(SYS_futex, (long)&guest->lock, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0);
}

static void unlock(const uint64_t *mask)
{
	if (__atomic_exchange_n(&guest->lock, 0, __ATOMIC_RELEASE) == 2)
		guest_syscall(SYS_futex, (long)&guest->lock, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
	guest_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)mask, 0, sizeof(*mask), 0, 0);
}

/* --- the connection ---------------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int open_connection(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	const char *path = secure_getenv("DSGUEST_SOCKET");
	int fd, high, err;

	if (!path)
		path = DS_LOCAL_SOCKET;
	if (strlen(path) >= sizeof(name.sun_path))
		return guest_say(-EINVAL, "DSGUEST_SOCKET is longer than a socket's name can be");
	strcpy(name.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return guest_say(-errno, "no socket could be made: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&name, sizeof(name))) {
		err = -errno;
		close(fd);
		return guest_say(err, "dsagent does not answer at %s: %s; is it running?", path, strerror(-err));
	}
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_FLOOR);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static int send_packet(int fd, const void *head, size_t head_bytes, const void *rest, size_t rest_bytes)
{
	struct iovec iov[2] = {{(void *)head, head_bytes}, {(void *)rest, rest_bytes}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = rest_bytes ? 2 : 1};
	ssize_t got;

	do
		got = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : 0;
}

/* One packet.  Return: its length; -ETIMEDOUT; -ECONNRESET: dsagent is gone; -EBADMSG. */
static ssize_t receive(int fd, void *buf, size_t room, int64_t deadline_ms)
{
	const struct ds_local_head *head = buf;

	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_ms ? deadline_ms - now_ms() : -1;
		ssize_t got;

		if (deadline_ms && left <= 0)
			return -ETIMEDOUT;
		if (poll(&pfd, 1, left) <= 0)
			continue;
		got = recv(fd, buf, room, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0)
			return -ECONNRESET;
		if ((size_t)got < sizeof(*head) || head->magic != DS_LOCAL_MAGIC || head->version != DS_LOCAL_VERSION || head->bytes != (size_t)got)
			return -EBADMSG;
		return got;
	}
}

static int error_of(uint32_t code)
{
	switch (code) {
	case DS_LOCAL_C_ACCESS:
		return -EACCES;
	case DS_LOCAL_C_PROCESS:
	case DS_LOCAL_C_NONE:
	case DS_LOCAL_C_EXIT:
	case DS_LOCAL_C_EXEC:
	case DS_LOCAL_C_STOPPED:
	case DS_LOCAL_C_GONE:
		return -ESRCH;
	case DS_LOCAL_C_BUSY:
		return -EBUSY;
	case DS_LOCAL_C_LIMIT:
		return -ENOSPC;
	case DS_LOCAL_C_HOST:
		return -EHOSTUNREACH;
	case DS_LOCAL_C_REFUSED:
		return -EPERM;
	default:
		return -EIO;
	}
}

static int refusal(const void *packet, size_t bytes)
{
	const struct ds_local_refused *r = packet;

	if (bytes < sizeof(*r))
		return guest_say(-EBADMSG, "dsagent said something that is no message");
	return guest_say(error_of(r->code), "%.*s", (int)strnlen(r->text, sizeof(r->text)), r->text);
}

/* The answer to @seq, into @buf.  Return: its length; -errno, also if it is a refusal. */
static ssize_t answer(int fd, uint32_t seq, void *buf, size_t room, int64_t deadline_ms)
{
	const struct ds_local_head *head = buf;
	ssize_t got;

	for (;;) {
		got = receive(fd, buf, room, deadline_ms);
		if (got < 0)
			return guest_say(got, got == -ETIMEDOUT ? "dsagent did not answer in time" : "dsagent went away");
		if (head->kind == DS_LOCAL_ENDED)
			return refusal(buf, got);
		if (head->seq != seq) /* to a REFRESH, which nobody waited for */
			continue;
		return head->kind == DS_LOCAL_REFUSED ? refusal(buf, got) : got;
	}
}

static struct ds_local_head head_of(uint16_t kind, uint32_t bytes, uint32_t seq)
{
	return (struct ds_local_head){.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = kind, .bytes = bytes, .seq = seq};
}

/* Whether a descriptor is still the connection: the program may have closed it. */
static bool still(int fd, dev_t dev, ino_t ino)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static bool connected(void)
{
	return still(guest->fd, guest->dev, guest->ino);
}

/* Under the lock: there is no shadow any more. */
static void forget(void)
{
	if (connected())
		close(guest->fd);
	guest->fd = inherited.fd = -1;
	__atomic_store_n(&guest->active, 0, __ATOMIC_RELEASE);
}

int guest_change(enum ds_local_kind kind, const struct ds_local_range *ranges, uint32_t n)
{
	struct ds_local_ranges msg = {.nranges = n};
	uint64_t mask, buf[64];
	int saved = errno, err = 0;

	if (!guest_active())
		return 0;
	lock(&mask);
	if (!guest->active || !connected()) {
		if (guest->active)
			err = guest_say(-ESRCH, "the program has closed the connection to dsagent");
		if (guest->active)
			forget();
		unlock(&mask);
		errno = saved;
		return err;
	}
	msg.head = head_of(kind, sizeof(msg) + n * sizeof(*ranges), ++guest->seq);
	err = send_packet(guest->fd, &msg, sizeof(msg), ranges, n * sizeof(*ranges));
	if (err)
		guest_say(err, "dsagent went away");
	else
		err = answer(guest->fd, msg.head.seq, buf, sizeof(buf), now_ms() + GUEST_MEMORY_MS);
	/* Too busy is the only refusal that leaves a shadow. */
	if (err < 0 && err != -EBUSY)
		forget();
	unlock(&mask);
	errno = saved;
	return err < 0 ? err : 0;
}

/* --- dsguest.h ---------------------------------------------------------------------------------------------------- */

static int make_state(void)
{
	struct guest_state *s;

	if (guest)
		return 0;
	s = (void *)guest_syscall(SYS_mmap, 0, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if ((unsigned long)s > -4096ul)
		return guest_say(-ENOMEM, "no memory");
	guest_syscall(SYS_madvise, (long)s, GUEST_PAGE, MADV_WIPEONFORK, 0, 0, 0);
	guest = s;
	return 0;
}

static void in_child(void)
{
	if (still(inherited.fd, inherited.dev, inherited.ino))
		close(inherited.fd);
	inherited.fd = -1;
}

EXPORT int dsguest_shadow(const char *service, int mode, const char *args)
{
	struct ds_local_shadow msg = {.mode = mode, .flags = DS_LOCAL_TIED};
	uint64_t mask, buf[64];
	struct stat st;
	int fd, err;

	if (!service || strlen(service) >= sizeof(msg.service) || (args && strlen(args) >= sizeof(msg.args)) ||
	    (mode != DSGUEST_EAGER && mode != DSGUEST_DEMAND))
		return guest_say(-EINVAL, "the service's name or arguments are too long (%zu and %zu bytes at most), or there is no such mode",
				 sizeof(msg.service) - 1, sizeof(msg.args) - 1);
	strcpy(msg.service, service);
	strcpy(msg.args, args ? args : "");
	err = make_state();
	if (err)
		return err;
	if (guest->active)
		return guest_say(-EALREADY, "this process has a shadow already");
	/* Without the lock, as signals are for the program meanwhile: of two threads that ask, dsagent refuses one. */
	fd = open_connection();
	if (fd < 0)
		return fd;
	msg.head = head_of(DS_LOCAL_SHADOW, sizeof(msg), 1);
	err = send_packet(fd, &msg, sizeof(msg), NULL, 0);
	if (err)
		guest_say(err, "dsagent went away");
	else
		err = answer(fd, msg.head.seq, buf, sizeof(buf), now_ms() + GUEST_START_MS);
	if (err < 0 || fstat(fd, &st)) {
		close(fd);
		return err < 0 ? err : -EBADF;
	}
	lock(&mask);
	guest->fd = inherited.fd = fd;
	guest->dev = inherited.dev = st.st_dev;
	guest->ino = inherited.ino = st.st_ino;
	guest->seq = 1;
	__atomic_store_n(&guest->active, 1, __ATOMIC_RELEASE);
	unlock(&mask);
	return 0;
}

EXPORT int dsguest_active(void)
{
	return guest_active();
}

EXPORT long dsguest_call(const void *message, size_t bytes, void *reply, size_t room)
{
	struct ds_local_call msg = {.payload_bytes = bytes};
	struct {
		struct ds_local_call head;
		char payload[DS_LOCAL_PAYLOAD_MAX];
	} got;
	ssize_t n;
	int fd;

	if (bytes > DS_LOCAL_PAYLOAD_MAX)
		return guest_say(-EMSGSIZE, "a message to the service has %d bytes at most", DS_LOCAL_PAYLOAD_MAX);
	if (!guest_active())
		return guest_say(-ESRCH, "this process has no shadow");
	fd = open_connection();
	if (fd < 0)
		return fd;
	msg.head = head_of(DS_LOCAL_CALL, sizeof(msg) + bytes, 1);
	n = send_packet(fd, &msg, sizeof(msg), message, bytes);
	if (!n)
		n = answer(fd, 1, &got, sizeof(got), 0);
	close(fd);
	if (n < 0)
		return n;
	if (got.head.head.kind != DS_LOCAL_REPLY || (size_t)n < sizeof(got.head) || got.head.payload_bytes != (size_t)n - sizeof(got.head))
		return guest_say(-EBADMSG, "dsagent said something that is no answer");
	memcpy(reply, got.payload, got.head.payload_bytes < room ? got.head.payload_bytes : room);
	return got.head.payload_bytes;
}

static int change(enum ds_local_kind kind, const void *addr, size_t bytes)
{
	uint64_t start = (uintptr_t)addr / GUEST_PAGE, end = ((uintptr_t)addr + bytes + GUEST_PAGE - 1) / GUEST_PAGE;
	struct ds_local_range range = {.vpn = start, .npages = end - start};

	if ((uintptr_t)addr + bytes < (uintptr_t)addr || (uintptr_t)addr + bytes > (UINT64_C(1) << 47))
		return guest_say(-EINVAL, "no such range");
	return guest_change(kind, &range, bytes ? 1 : 0);
}

EXPORT int dsguest_drop(const void *addr, size_t bytes)
{
	return bytes ? change(DS_LOCAL_DROP, addr, bytes) : 0;
}

EXPORT int dsguest_refresh(const void *addr, size_t bytes)
{
	return change(DS_LOCAL_REFRESH, addr, bytes);
}

EXPORT int dsguest_stop(void)
{
	struct ds_local_about msg = {.pid = 0};
	uint64_t mask, buf[64];
	int err;

	if (!guest_active())
		return guest_say(-ESRCH, "this process has no shadow");
	lock(&mask);
	if (!guest->active || !connected()) {
		err = guest_say(-ESRCH, "this process has no shadow");
	} else {
		msg.head = head_of(DS_LOCAL_STOP, sizeof(msg), ++guest->seq);
		err = send_packet(guest->fd, &msg, sizeof(msg), NULL, 0);
		/* ENDED may come before DONE: the shadow is no more either way. */
		if (!err)
			err = answer(guest->fd, msg.head.seq, buf, sizeof(buf), now_ms() + GUEST_START_MS);
		err = err == -ESRCH || err > 0 ? 0 : err;
	}
	if (guest->active)
		forget();
	unlock(&mask);
	return err;
}

EXPORT const char *dsguest_why(void)
{
	return why;
}

/* --- started by dsrun --------------------------------------------------------------------------------------------- */

/* After exec the shadow of the program before may still be on its way out. */
static int ask_again(const char *service, int mode, const char *args)
{
	int64_t until_ms = now_ms() + BUSY_MS;
	int err;

	while ((err = dsguest_shadow(service, mode, args)) == -EBUSY && now_ms() < until_ms)
		usleep(10000);
	return err;
}

/* dsrun says whom it means by the process's number, which exec keeps: children inherit the environment, not the shadow. */
__attribute__((constructor)) static void begin(void)
{
	const char *service = secure_getenv("DSGUEST_SERVICE"), *pid = secure_getenv("DSGUEST_PID"), *mode = secure_getenv("DSGUEST_MODE");
	bool required = secure_getenv("DSGUEST_REQUIRED") != NULL;
	int saved = errno;

	pthread_atfork(NULL, NULL, in_child);
	if (service && pid && atoi(pid) == getpid() &&
	    ask_again(service, mode && !strcmp(mode, "demand") ? DSGUEST_DEMAND : DSGUEST_EAGER, secure_getenv("DSGUEST_ARGS"))) {
		dprintf(STDERR_FILENO, "dsrun: no shadow for process %d: %s; %s\n", getpid(), why, required ? "it is not started (--required)" : "it runs without");
		if (required)
			_exit(125);
	}
	errno = saved;
}
