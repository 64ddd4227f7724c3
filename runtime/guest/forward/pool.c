/* pool.c - slots and bells, and descriptors that the program must not see
 *
 * Theory of operation
 *
 * A slot with its bell is an executor of the shadow.  A thread has one only while a call of its own is on the host, so the
 * pool is as large as the number of calls that block there at the same time, and a thread that ends gives nothing back.  An
 * entry is taken by a compare-and-exchange with signals blocked, so whoever has one goes on to give it back.  Entries are
 * connected when they are first needed; when the host has no executor for another bell (it ends the stream), the pool stays as
 * it is.  Who finds none free waits a moment, and then has one of the calls that are under way interrupted, each time another
 * one: whoever made that call waits in turn and makes it again.  So threads that are blocked on the host, however many, do not
 * keep another one from the call that would wake them.
 *
 * Where devices are used a thread gets the entry that it had before, if it can be had, and else rather a new one than somebody
 * else's: to a driver the executor is the caller, and some make much of it if that changes (KVM_RUN waits for a grace period of
 * RCU then, before Linux 6.13).  Threads are told apart by where their stacks are.
 *
 * Our descriptors lie high and are closed by exec.  The program does not see them: its close() of one is EBADF, its dup2()
 * onto one moves it.  They are looked for by number in `own`.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/time_types.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/guest/forward/container.h"
#include "runtime/guest/forward/forward.h"

#define ENTRY_BYTES (4 * FORWARD_PAGE)
#define OWN_MAX (2 * FORWARD_POOL + 8)
#define HOST_CID 2
#define AF_VSOCK_FAMILY 40
#define USER_SHIFT 22 /* stacks of threads are rarely smaller */
#define NOT_YET 2 /* in host_asleep; not 0, so a call would ring */
#define FULL_NS (NS_PER_SEC / 10)
#define ANSWER_NS (10 * NS_PER_SEC)
#define MOMENT_NS 20000 /* between two looks for an answer; doubles */
#define MOMENT_MAX_NS 1000000

struct vsock_address {
	uint16_t family, reserved;
	uint32_t port, cid;
	uint8_t flags, zero[3];
};

static struct forward_entry entries[FORWARD_POOL];
static uint32_t connected;
static int64_t full_until_ns; /* the host has no more executors than are connected; asked again then */
static uint8_t token[DS_FORWARD_TOKEN_BYTES];
static struct {
	int32_t fd; /* plus one; 0: none */
	int32_t *holder;
} own[OWN_MAX];

/* --- descriptors of ours ------------------------------------------------------------------------------------------------ */

static int32_t find_own(int64_t fd)
{
	if (fd < 0)
		return -1;
	for (int32_t i = 0; i < OWN_MAX; i++)
		if (__atomic_load_n(&own[i].fd, __ATOMIC_RELAXED) == (int32_t)fd + 1)
			return i;
	return -1;
}

bool forward_own_fd(int64_t fd)
{
	return find_own(fd) >= 0;
}

int32_t forward_own_add(int64_t fd, int32_t *holder)
{
	int64_t high;

	*holder = (int32_t)fd;
	if (fd < 0)
		return *holder;
	high = raw3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, FORWARD_FD_FLOOR);
	if (high < 0) /* a low limit: as high as the number of descriptors allows is not worth a search */
		high = fd;
	else
		raw1(__NR_close, fd);
	for (int32_t i = 0; i < OWN_MAX; i++) {
		int32_t none = 0;

		if (__atomic_compare_exchange_n(&own[i].fd, &none, (int32_t)high + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			own[i].holder = holder;
			break;
		}
	}
	*holder = (int32_t)high;
	return *holder;
}

void forward_own_forget(int32_t fd)
{
	const int32_t at = find_own(fd);

	if (at >= 0)
		__atomic_store_n(&own[at].fd, 0, __ATOMIC_RELAXED);
}

void forward_own_close(int32_t fd)
{
	const int32_t at = find_own(fd);

	if (at < 0)
		return;
	__atomic_store_n(&own[at].fd, 0, __ATOMIC_RELAXED);
	raw1(__NR_close, fd);
}

/* A thread that is in a call at this moment goes on with the old number; programs do not use numbers as high as these. */
void forward_own_move(int64_t fd)
{
	const int32_t at = find_own(fd);
	int64_t to;

	if (at < 0)
		return;
	to = raw3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, FORWARD_FD_FLOOR);
	if (to < 0)
		return;
	__atomic_store_n(&own[at].fd, (int32_t)to + 1, __ATOMIC_RELAXED);
	__atomic_store_n(own[at].holder, (int32_t)to, __ATOMIC_RELAXED);
}

void forward_pool_close(void)
{
	for (int32_t i = 0; i < OWN_MAX; i++) {
		if (!own[i].fd || forward_trace_holds(own[i].holder))
			continue;
		raw1(__NR_close, own[i].fd - 1);
		own[i].fd = 0;
	}
}

/* --- entries -------------------------------------------------------------------------------------------------------------- */

int forward_pool_start(void)
{
	static int64_t at; /* the same memory again in a forked child, which has a copy of it */

	if (!at)
		at = raw6(__NR_mmap, 0, FORWARD_POOL * ENTRY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0) {
		const int error = (int)at;

		at = 0;
		return error;
	}
	connected = 0;
	full_until_ns = 0;
	for (uint64_t i = 0; i < FORWARD_POOL; i++) {
		entries[i] = (struct forward_entry){0};
		entries[i].slot = (struct ds_forward_slot *)(at + (int64_t)(i * ENTRY_BYTES));
		entries[i].scratch = (char *)(entries[i].slot + 1);
		entries[i].bell = entries[i].sigfd = -1;
	}
	return 0;
}

void forward_pool_token(const uint8_t t[DS_FORWARD_TOKEN_BYTES])
{
	memcpy(token, t, sizeof(token));
}

const uint8_t *forward_pool_own_token(void)
{
	return token;
}

/* The path, with the number of the process in place of "%".  Return: its length. */
static size_t bell_name(char *out, size_t room, const char *path)
{
	size_t n = 0;

	for (; *path && n < room - 12; path++) {
		uint32_t pid = (uint32_t)forward_live->pid, unit = 1;

		if (*path != '%') {
			out[n++] = *path;
			continue;
		}
		while (pid / unit >= 10)
			unit *= 10;
		for (; unit; unit /= 10)
			out[n++] = (char)('0' + pid / unit % 10);
	}
	return n;
}

static int64_t open_bell(void)
{
	const char *path = forward_settings.bell;
	int64_t fd, rc;

	if (forward_container())
		return forward_container_bell();
	fd = raw3(__NR_socket, path ? AF_UNIX : AF_VSOCK_FAMILY, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	if (path) {
		struct sockaddr_un name = {.sun_family = AF_UNIX};
		const size_t n = bell_name(name.sun_path, sizeof(name.sun_path), path);

		if (*path == '@') /* the abstract name space */
			name.sun_path[0] = 0;
		rc = raw3(__NR_connect, fd, &name, offsetof(struct sockaddr_un, sun_path) + n);
	} else {
		const struct vsock_address address = {.family = AF_VSOCK_FAMILY, .port = DS_FORWARD_PORT, .cid = HOST_CID};

		rc = raw3(__NR_connect, fd, &address, sizeof(address));
	}
	if (rc) {
		raw1(__NR_close, fd);
		return rc;
	}
	return fd;
}

/* Return: 0 or -errno. */
static int64_t connect_bell(struct forward_entry *e)
{
	struct ds_forward_hello hello = {.magic = DS_FORWARD_MAGIC, .version = DS_FORWARD_VERSION, .slot = (uint64_t)e->slot,
					 .spin_ns = forward_settings.spin_ns};
	int64_t fd = open_bell(), rc, moment_ns = MOMENT_NS;

	if (fd < 0)
		return fd;
	memcpy(hello.token, token, sizeof(token));
	*e->slot = (struct ds_forward_slot){.host_asleep = NOT_YET};
	rc = raw6(__NR_sendto, fd, &hello, sizeof(hello), MSG_NOSIGNAL, 0, 0);
	if (rc != (int64_t)sizeof(hello)) {
		raw1(__NR_close, fd);
		return rc < 0 ? rc : -EPIPE;
	}
	/* An executor has the bell when it has said whether it sleeps; if there is none for it, the stream ends. */
	for (int64_t until = forward_now_ns() + ANSWER_NS; __atomic_load_n(&e->slot->host_asleep, __ATOMIC_ACQUIRE) == NOT_YET;) {
		struct pollfd pfd = {.fd = (int32_t)fd, .events = POLLIN};
		struct __kernel_timespec moment = {0, moment_ns};
		uint8_t byte;

		if (forward_now_ns() > until ||
		    (raw6(__NR_ppoll, &pfd, 1, &moment, 0, 0, 0) > 0 &&
		     raw6(__NR_recvfrom, fd, &byte, 1, MSG_DONTWAIT, 0, 0) == 0)) {
			raw1(__NR_close, fd);
			return -ECONNREFUSED;
		}
		if (moment_ns < MOMENT_MAX_NS)
			moment_ns *= 2;
	}
	forward_own_add(fd, &e->bell);
	return 0;
}

static bool claim(struct forward_entry *e)
{
	uint32_t none = 0;

	return !__atomic_load_n(&e->busy, __ATOMIC_RELAXED) &&
	       __atomic_compare_exchange_n(&e->busy, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* Whether an entry is what is looked for: the thread's own (0), a new one (1), any (2). */
static bool fits(const struct forward_entry *e, uint64_t user, uint32_t pass, bool full)
{
	switch (pass) {
	case 0: return e->bell >= 0 && e->user == user;
	case 1: return e->bell < 0 && !full;
	default: return e->bell >= 0 || !full;
	}
}

struct forward_entry *forward_pool_take(int64_t *error)
{
	const int64_t until = __atomic_load_n(&full_until_ns, __ATOMIC_RELAXED);
	const uint64_t user = forward_settings.device ? (uint64_t)__builtin_frame_address(0) >> USER_SHIFT : 0;
	bool full = until && forward_now_ns() < until;

	for (uint32_t k = user ? 0 : 2 * FORWARD_POOL; k < 3 * FORWARD_POOL; k++) {
		struct forward_entry *e = &entries[k % FORWARD_POOL];

		if (!fits(e, user, k / FORWARD_POOL, full) || !claim(e))
			continue;
		e->user = user;
		if (e->bell >= 0) {
			__atomic_store_n(&e->evicted, 0, __ATOMIC_RELAXED);
			return e;
		}
		*error = connect_bell(e);
		if (!*error) {
			__atomic_fetch_add(&connected, 1, __ATOMIC_RELAXED);
			return e;
		}
		forward_pool_give(e);
		if (!__atomic_load_n(&connected, __ATOMIC_RELAXED)) {
			*error = forward_dead("its host does not answer");
			return NULL;
		}
		if (!__atomic_exchange_n(&full_until_ns, forward_now_ns() + FULL_NS, __ATOMIC_RELAXED))
			forward_trace_note(NULL, "the shadow has no executor for another call: calls wait for each other");
		full = true;
	}
	*error = -EAGAIN;
	return NULL;
}

struct forward_entry *forward_pool_lend(void)
{
	for (uint32_t i = 0; i < FORWARD_POOL; i++) {
		struct forward_entry *e = &entries[i];

		/* One that was connected since the child came to be has no bell there. */
		if (e->bell < 0 || raw2(__NR_fcntl, e->bell, F_GETFD) < 0 || !claim(e))
			continue;
		__atomic_store_n(&e->evicted, 0, __ATOMIC_RELAXED);
		return e;
	}
	return NULL;
}

void forward_pool_evict(void)
{
	static uint32_t next;
	const uint8_t byte = DS_FORWARD_INTERRUPT;

	for (uint32_t tries = 0; tries < FORWARD_POOL; tries++) {
		struct forward_entry *e = &entries[__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % FORWARD_POOL];

		if (e->bell < 0 || ds_forward_done(e->slot))
			continue;
		__atomic_store_n(&e->evicted, 1, __ATOMIC_RELEASE);
		raw6(__NR_sendto, e->bell, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
		return;
	}
}

struct forward_entry *forward_pool_of(int32_t tid)
{
	for (uint32_t i = 0; i < FORWARD_POOL; i++)
		if (__atomic_load_n(&entries[i].busy, __ATOMIC_SEQ_CST) && __atomic_load_n(&entries[i].tid, __ATOMIC_SEQ_CST) == tid)
			return &entries[i];
	return NULL;
}

void forward_pool_each(void (*fn)(struct forward_entry *e))
{
	for (uint32_t i = 0; i < FORWARD_POOL; i++)
		if (entries[i].bell >= 0)
			fn(&entries[i]);
}

void forward_pool_give(struct forward_entry *e)
{
	__atomic_store_n(&e->tid, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&e->busy, 0, __ATOMIC_RELEASE);
}
