/* host_unix.c - unix sockets of the host in a shadow: which it reaches, and which descriptors go over them
 *
 * A shadow of a rule with family=unix, behind its filters and in its jail, and a keeper; this process is the programs of the host at the other
 * ends, and the guest.  What the shadow has open is counted from outside.
 */
#include "tests/estate_guest.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "runtime/host/jail/jailland.h"
#include "runtime/host/warden/keeper.h"
#include "tests/tap.h"

#define DATA 40u /* pages of the guest's process: buffers */
#define SOCK 20	 /* numbers of its program */
#define FILE_AT 21
#define GOT 30

static struct shadow with, without;
static struct thread t, t2;
static char top[64], rules[1024];
static int listener, other, peer;
static pid_t capsule; /* of the first */

struct message {
	struct answer a;
	char data[64];
};

static struct sockaddr_un named(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

static const char *host(const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	return path;
}

static int listen_at(const char *name, bool abstract)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = named(host(name));

	if (abstract)
		a.sun_path[0] = 0;
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 5) || (!abstract && chmod(host(name), 0777)))
		err(2, "%s", name);
	return fd;
}

static void make_places(void)
{
	int fd;

	snprintf(top, sizeof(top), "/tmp/host_unix.XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755) || mkdir(host("in"), 0755) || mkdir(host("out"), 0755))
		err(2, "%s", top);
	listener = listen_at("in/sock", false);
	other = listen_at("out/sock", false);
	fd = open(host("in/file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "inside", 6) != 6 || close(fd))
		err(2, "file");
	fd = open(host("out/file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "outside", 7) != 7 || close(fd))
		err(2, "file");
	snprintf(rules, sizeof(rules),
		 "allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 family=unix path=/data:%s/in:ro path=/one:%s/in/sock:rw\n"
		 "allow program=/usr/bin/other service=forward executors=4 max-pages=1000 calls=socket,poll,file\n"
		 "allow program=/usr/bin/both service=forward executors=1 max-pages=1000 family=unix,inet net=host path=/data:%s/in:ro\n",
		 top, top, top);
}

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	return thread_call(&t, nr, a, b, c, d, e);
}

/* A descriptor of the shadow at number @to. */
static int64_t at_number(int64_t raw, int to)
{
	if (raw < 0)
		return raw;
	call(__NR_dup3, (uint64_t)raw, (uint64_t)to, 0, 0, 0);
	return call(__NR_close, (uint64_t)raw, 0, 0, 0, 0) ? -1 : to;
}

static int64_t connect_to(const char *path, bool abstract)
{
	const struct sockaddr_un a = named(path);
	int64_t fd = at_number(call(__NR_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0), SOCK);

	if (fd < 0)
		return fd;
	memcpy(at_host(DATA), &a, sizeof(a));
	if (abstract)
		at_host(DATA)[2] = 0;
	return call(__NR_connect, SOCK, at_guest(DATA), sizeof(a), 0, 0);
}

static void test_reach(void)
{
	const uint64_t options[] = {AF_INET, AF_INET6, AF_NETLINK, AF_VSOCK};
	struct ucred who = {0};
	socklen_t bytes = sizeof(who);
	int refused = 0;

	for (int i = 0; i < 4; i++)
		refused += call(__NR_socket, options[i], i == 2 ? SOCK_RAW : SOCK_STREAM, 0, 0, 0) == -EAFNOSUPPORT;
	tap_eq(refused, 4, "a shadow with family=unix has no sockets of other families");
	tap_eq(call(__NR_socketpair, AF_UNIX, SOCK_STREAM, 0, at_guest(DATA), 0), -EPERM, "and no pairs");
	tap_eq(connect_to(host("out/sock"), false), -ENOENT, "a socket outside its paths is not there");
	tap_eq(connect_to("/data/../out/sock", false), -ENOENT, "nor by way of ..");
	tap_eq(connect_to(host("abstract"), true), -ECONNREFUSED, "nor one with an abstract name");
	tap_eq(connect_to("/one", false), 0, "a socket that is a path of its own is");
	peer = accept(listener, NULL, NULL);
	close(peer);
	tap_eq(connect_to("/data/sock", false), 0, "and one in a directory of the rule's");
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	tap_ok(peer >= 0 && !getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &bytes) && who.uid == 65534 && who.gid == 65534 && who.pid == capsule,
	       "who connects is the shadow, as the rule's user (%u)", who.uid);
	memset(at_host(DATA), 0, 64);
	*(uint32_t *)(void *)at_host(DATA) = 4;
	tap_eq(call(__NR_getsockopt, SOCK, SOL_SOCKET, 77, at_guest(DATA) + 8, at_guest(DATA)), -ENOPROTOOPT, "no descriptor of the other end's process");
}

/* From here to the shadow's socket, with descriptors. */
static void post(const int *fds, int n)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = "";
	struct iovec iov = {(void *)"post", 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int))};

	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN((size_t)n * sizeof(int))};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, (size_t)n * sizeof(int));
	if (sendmsg(peer, &m, MSG_NOSIGNAL) != 4)
		err(2, "sendmsg");
}

/* The data behind an answer. */
static int rest(int fd, struct message *m, int n)
{
	for (int i = 0, have = 0; i < 20000 && have < n; i++) {
		const ssize_t got = recv(fd, m->data + have, (size_t)(n - have), MSG_DONTWAIT);

		have += got > 0 ? (int)got : 0;
		pump_all();
	}
	return n;
}

static int send_estate(int fd, const char *data, const struct ds_estate_pair *pair, uint32_t n, struct answer *a)
{
	struct ds_estate_request r = {.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = DS_ESTATE_SEND, .npairs = n, .bytes = (uint32_t)strlen(data)};

	if (write(fd, &r, sizeof(r)) != sizeof(r) || write(fd, pair, n * sizeof(*pair)) != (ssize_t)(n * sizeof(*pair)) ||
	    write(fd, data, strlen(data)) != (ssize_t)strlen(data))
		warn("estate");
	return answer(fd, a);
}

/* Return: bytes, -errno; m->a.head.n descriptors came. */
static int receive_estate(int fd, uint16_t socket, uint16_t flags, uint32_t room, struct message *m)
{
	struct {
		struct ds_estate_request r;
		struct ds_estate_pair pair;
	} ask = {{.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = DS_ESTATE_RECEIVE, .npairs = 1, .bytes = room}, {socket, flags}};
	int n;

	if (write(fd, &ask, sizeof(ask)) != sizeof(ask))
		warn("estate");
	n = answer(fd, &m->a);
	return m->a.head.error > 0 ? rest(fd, m, m->a.head.error) : m->a.head.error < 0 ? m->a.head.error : n < 0 ? n : 0;
}

static int lay_socket(const struct ds_estate_pair *pair, uint32_t n, struct answer *a)
{
	const int fd = estate_connect();

	tap_eq(request(fd, DS_ESTATE_HELLO, with.a.started.token, pair, n, a), (long)n, "the socket is laid aside%s", n > 1 ? ", and what is to be sent" : "");
	return fd;
}

static void test_alone(void)
{
	const int before = open_fds(capsule), file = open(host("out/file"), O_RDONLY | O_CLOEXEC);
	struct msghdr m = {.msg_iovlen = 0};
	int sent;

	memset(at_host(DATA), 0, PAGE);
	tap_eq(call(__NR_recvmsg, SOCK, at_guest(DATA), 0, 0, 0), -ENOSYS, "it cannot receive descriptors by itself");
	tap_eq(call(__NR_recvmmsg, SOCK, at_guest(DATA), 1, 0, 0), -ENOSYS, "nor several messages with some");
	m.msg_control = (void *)(uintptr_t)(at_guest(DATA) + 256);
	m.msg_controllen = CMSG_SPACE(sizeof(int));
	memcpy(at_host(DATA), &m, sizeof(m));
	tap_eq(call(__NR_sendmsg, SOCK, at_guest(DATA), 0, 0, 0), -EPERM, "nor send any");
	for (sent = 0; sent < 4; sent++)
		post(&file, 1);
	tap_eq(call(__NR_recvfrom, SOCK, at_guest(DATA), 4, 0, 0), 4, "what comes with a message that it reads");
	tap_eq(call(__NR_read, SOCK, at_guest(DATA), 4, 0, 0), 4, "or reads in another way");
	*(struct iovec *)(void *)at_host(DATA) = (struct iovec){(void *)(uintptr_t)(at_guest(DATA) + 64), 100};
	tap_eq(call(__NR_readv, SOCK, at_guest(DATA), 1, 0, 0), 4, "or in pieces");
	tap_eq(call(__NR_recvfrom, SOCK, at_guest(DATA), 4, MSG_PEEK, 0), 4, "or looks at");
	tap_eq(call(__NR_recvfrom, SOCK, at_guest(DATA), 4, 0, 0), 4, "without taking it");
	tap_eq(open_fds(capsule), before, "does not become a descriptor of its");
	close(file);
}

static void test_sent(void)
{
	static const struct ds_estate_pair lay[] = {{SOCK, 0}, {FILE_AT, 1}}, out[] = {{0, 0}, {1, 0}, {1, 0}};
	char control[CMSG_SPACE(4 * sizeof(int))], data[16] = "";
	struct iovec iov = {data, sizeof(data)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct stat st = {0}, same = {0};
	struct answer a;
	int fd, fds[2] = {-1, -1};

	strcpy((char *)at_host(DATA), "/data/file");
	tap_eq(at_number(call(__NR_openat, (uint64_t)AT_FDCWD, at_guest(DATA), O_RDONLY, 0, 0), FILE_AT), FILE_AT, "it opens a file");
	fd = lay_socket(lay, 2, &a);
	tap_eq(send_estate(fd, "letter", out, 3, &a), 6, "a message is sent with it, twice");
	tap_eq(recvmsg(peer, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT), 6, "and has come");
	if (CMSG_FIRSTHDR(&m))
		memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
	fstat(fds[1], &st);
	stat(host("in/file"), &same);
	tap_ok(!strcmp(data, "letter") && fds[0] >= 0 && fds[1] >= 0 && st.st_ino == same.st_ino, "with the file");
	tap_eq(send_estate(fd, "x", (const struct ds_estate_pair[]){{1, 0}}, 1, &a), -ENOTSOCK, "a file is no socket");
	tap_eq(send_estate(fd, "x", (const struct ds_estate_pair[]){{9, 0}}, 1, &a), -EBADF, "what is not there cannot be sent to");
	tap_eq(send_estate(fd, "x", (const struct ds_estate_pair[]){{0, 0}, {9, 0}}, 2, &a), -EBADF, "or sent");
	tap_eq(send_estate(fd, "x", NULL, 0, &a), -EBADF, "and a message needs a socket");
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

static void test_received(void)
{
	static const struct ds_estate_pair lay[] = {{SOCK, 7}};
	int fd, pair[2], ends[2], fds[3] = {open(host("out/file"), O_RDONLY | O_CLOEXEC)};
	struct message m;
	struct answer a;

	if (pipe2(ends, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(2, "pipe");
	fds[1] = ends[1];
	fds[2] = pair[1];
	fd = lay_socket(lay, 1, &a);
	tap_eq(receive_estate(fd, 7, 0, 64, &m), -EAGAIN, "nothing has come yet");
	post(fds, 3);
	tap_eq(receive_estate(fd, 7, MSG_PEEK, 64, &m), 4, "a message is looked at");
	tap_eq(receive_estate(fd, 7, 0, 64, &m), 4, "and received");
	tap_ok(!memcmp(m.data, "post", 4) && m.a.head.n == 3 && !m.a.head.flags, "with a file, a pipe and a unix socket");
	if (m.a.head.n == 3) {
		const struct ds_estate_pair wish[] = {{m.a.number[0], GOT}, {m.a.number[1], GOT + 1}, {m.a.number[2], GOT + 2}};

		tap_eq(request(fd, DS_ESTATE_CLAIM, with.a.started.token, wish, 3, &a), 3, "which the shadow gets");
	}
	tap_eq(call(__NR_read, GOT, at_guest(DATA), 64, 0, 0), 7, "It reads the file");
	tap_ok(!memcmp(at_host(DATA), "outside", 7), "that was sent to it");
	tap_eq(call(__NR_write, GOT + 1, at_guest(DATA), 3, 0, 0), 3, "and writes to the pipe");
	tap_eq(read(ends[0], m.data, 64), 3, "at whose end it is heard");
	tap_eq(call(__NR_write, GOT + 2, at_guest(DATA), 4, 0, 0), 4, "and to the socket");
	tap_eq(read(pair[0], m.data, 64), 4, "likewise");
	for (int i = 0; i < 3; i++)
		call(__NR_close, (uint64_t)(GOT + i), 0, 0, 0, 0);
	close(fd);
	close(fds[0]);
	close(ends[0]);
	close(ends[1]);
	close(pair[0]);
	close(pair[1]);
}

/* What may not come, and the VM's own memory, which looks like a file. */
static void test_withheld(void)
{
	static const struct ds_estate_pair lay[] = {{SOCK, 0}};
	const int inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct {
		const char *what;
		int fd;
	} not[] = {
		{"a directory", open(host("out"), O_RDONLY | O_DIRECTORY | O_CLOEXEC)},
		{"a file that is open as a path", open(host("out/file"), O_PATH | O_CLOEXEC)},
		{"a device", open("/dev/null", O_RDWR | O_CLOEXEC)},
		{"a socket of the internet", inet},
		{"an eventfd", eventfd(0, EFD_CLOEXEC)},
		{"an epoll descriptor", epoll_create1(EPOLL_CLOEXEC)},
		{"a process", (int)syscall(SYS_pidfd_open, getpid(), 0)},
	};
	int fds[3], fd, before;
	struct message m;
	struct answer a;

	fd = lay_socket(lay, 1, &a);
	before = open_fds(keeper_pid());
	for (size_t i = 0; i < sizeof(not) / sizeof(not[0]); i++) {
		post(&not[i].fd, 1);
		tap_ok(receive_estate(fd, 0, 0, 64, &m) == 4 && !m.a.head.n && m.a.head.flags == MSG_CTRUNC, "%s is not received, and the message says so", not[i].what);
	}
	fds[0] = fds[2] = open(host("out/file"), O_RDONLY | O_CLOEXEC);
	fds[1] = not[0].fd;
	post(fds, 3);
	tap_ok(receive_estate(fd, 0, 0, 64, &m) == 4 && m.a.head.n == 1 && m.a.head.flags == MSG_CTRUNC, "and what comes behind it neither");
	tap_eq(open_fds(keeper_pid()), before + 1, "the keeper has closed them");
	post(&ram_fd, 1);
	tap_ok(receive_estate(fd, 0, 0, 64, &m) == 4 && m.a.head.n == 1, "the VM's memory is a file like others");
	tap_eq(request(fd, DS_ESTATE_CLAIM, with.a.started.token, (const struct ds_estate_pair[]){{m.a.number[0], GOT}}, 1, &a), -ENOENT, "to the keeper, not to the warden");
	tap_eq(call(__NR_read, GOT, at_guest(DATA), 1, 0, 0), -EBADF, "and the shadow has not got it");
	close(fd);
	close(fds[0]);
	for (size_t i = 0; i < sizeof(not) / sizeof(not[0]); i++)
		close(not[i].fd);
}

static void test_refused(void)
{
	static const struct ds_estate_pair lay[] = {{SOCK, 0}}, here[] = {{SOCK, SOCK}};
	struct ds_estate_request large = {.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = DS_ESTATE_SEND, .npairs = 1, .bytes = DS_ESTATE_DATA_MAX + 1};
	struct message m;
	struct answer a, b;
	int fd, second;

	tap_eq(thread_call(&t2, __NR_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0), -EAFNOSUPPORT, "a shadow of a rule without unix sockets makes none");
	fd = lay_socket(lay, 1, &a);
	second = estate_connect();
	tap_eq(request(second, DS_ESTATE_HELLO, a.head.token, NULL, 0, &b), 1, "a copy of an estate");
	tap_eq(send_estate(second, "x", (const struct ds_estate_pair[]){{0, 0}}, 1, &b), -EPERM, "sends nothing");
	tap_eq(receive_estate(second, 0, 0, 64, &m), -EPERM, "and receives nothing");
	tap_eq(request(second, DS_ESTATE_CLAIM, without.a.started.token, (const struct ds_estate_pair[]){{0, SOCK}}, 1, &b), 1, "the other shadow is handed the socket");
	close(second);
	second = estate_connect();
	tap_eq(request(second, DS_ESTATE_HELLO, without.a.started.token, here, 1, &b), 1, "which it lays aside");
	tap_eq(send_estate(second, "x", here, 1, &b), -EPERM, "it may send nothing");
	tap_eq(receive_estate(second, SOCK, 0, 64, &m), -EPERM, "and receive nothing");
	close(second);
	if (write(fd, &large, sizeof(large)) != sizeof(large))
		warn("estate");
	tap_eq(answer(fd, &a), -1000, "a message that is too large ends the stream");
	close(fd);
	fd = estate_connect();
	tap_eq(send_estate(fd, "x", lay, 1, &a), -1000, "so does one before anything was laid aside");
	close(fd);
	fd = lay_socket(lay, 1, &a);
	close(peer);
	tap_eq(receive_estate(fd, 0, 0, 64, &m), 0, "the end of the other side is seen");
	tap_eq(send_estate(fd, "x", (const struct ds_estate_pair[]){{0, 0}}, 1, &a), -EPIPE, "on both ways");
	close(fd);
}

static uint64_t dice(uint64_t n)
{
	static uint64_t state = 20260522;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (state >> 33) % n;
}

/* Requests that are mostly sound, with numbers that are mostly not. */
static void test_random(void)
{
	static const struct ds_estate_pair lay[] = {{FILE_AT, 0}};
	const pid_t keeper = keeper_pid();
	unsigned int replies = 0, ends = 0;
	struct {
		struct ds_estate_request r;
		struct ds_estate_pair pair[8];
		char data[64];
	} q;
	struct answer a;
	int fd = -1;

	for (int i = 0; i < 1500; i++) {
		int n;

		if (fd < 0) {
			fd = estate_connect();
			if (dice(8) && request(fd, DS_ESTATE_HELLO, with.a.started.token, lay, 1, &a) != 1)
				ends++;
		}
		q.r = (struct ds_estate_request){.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = (uint16_t)dice(7), .npairs = (uint32_t)dice(8)};
		q.r.bytes = q.r.what >= DS_ESTATE_SEND && dice(8) ? (uint32_t)dice(sizeof(q.data)) : dice(8) ? 0 : (uint32_t)dice(UINT64_C(1) << 32);
		if (dice(2))
			memcpy(q.r.token, with.a.started.token, sizeof(q.r.token));
		for (int p = 0; p < 8; p++)
			q.pair[p] = (struct ds_estate_pair){(uint16_t)dice(dice(2) ? 4 : 65536), (uint16_t)dice(dice(2) ? 64 : 65536)};
		if (!dice(16))
			((uint8_t *)&q.r)[dice(sizeof(q.r))] ^= (uint8_t)(1 + dice(255));
		n = (int)(sizeof(q.r) + (q.r.npairs & 7) * sizeof(q.pair[0]));
		memmove((char *)&q + n, q.data, q.r.what == DS_ESTATE_SEND ? q.r.bytes & 63 : 0);
		if (write(fd, &q, (size_t)n + (q.r.what == DS_ESTATE_SEND ? q.r.bytes & 63 : 0)) < 0 && errno != EPIPE)
			warn("write");
		/* What announces more than it brings would be waited for: it is ended from here. */
		if (q.r.npairs > 7 || q.r.bytes > 63 || !dice(16))
			shutdown(fd, SHUT_WR);
		n = answer(fd, &a);
		replies += n > -1000;
		if (n <= -1000 || q.r.what == DS_ESTATE_RECEIVE) {
			ends++;
			close(fd);
			fd = -1;
		}
	}
	close(fd);
	tap_ok(replies > 150 && ends > 150, "of 1500 requests by lot %u are answered, %u end their stream", replies, ends);
	fd = estate_connect();
	tap_ok(keeper_pid() == keeper && request(fd, DS_ESTATE_HELLO, with.a.started.token, lay, 1, &a) == 1, "the keeper is there as ever");
	close(fd);
	for (int i = 0; i < 2000 && open_fds(keeper) > 7; i++)
		pump_all();
	tap_ok(open_fds(keeper) <= 7, "and has nothing left (%d descriptors)", open_fds(keeper));
}

/* Beside the host's network abstract names are a matter of landlock. */
static void test_beside(void)
{
	struct shadow both;
	struct sockaddr_un a = named(host("abstract"));
	struct thread thread;
	int64_t fd;

	if (jailland_abi() < JAILLAND_ABI_SCOPES) {
		tap_eq(vm_shadow(&both, "/usr/bin/both"), DS_AGENT_REFUSED, "without landlock of Linux 6.12 there is no shadow with unix sockets on the host's network");
		return;
	}
	tap_eq(vm_shadow(&both, "/usr/bin/both"), DS_AGENT_STARTED, "a shadow with unix sockets on the host's network");
	tap_ok(thread_start(&thread, both.a.started.token, 12, 0, 0), "has a thread");
	fd = thread_call(&thread, __NR_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0);
	a.sun_path[0] = 0;
	memcpy(at_host(DATA), &a, sizeof(a));
	tap_eq(thread_call(&thread, __NR_connect, (uint64_t)fd, at_guest(DATA), sizeof(a), 0, 0), -EPERM, "it cannot connect to an abstract name");
	a = named("/data/sock");
	memcpy(at_host(DATA), &a, sizeof(a));
	tap_eq(thread_call(&thread, __NR_connect, (uint64_t)fd, at_guest(DATA), sizeof(a), 0, 0), 0, "and can to a socket of its paths");
	tap_ok(thread_call(&thread, __NR_socket, AF_INET, SOCK_STREAM, 0, 0, 0) >= 0, "other sockets it has, too");
	tap_eq(thread_call(&thread, __NR_socket, AF_INET6, SOCK_STREAM, 0, 0, 0), -EAFNOSUPPORT, "of the families that were named");
}

int main(void)
{
	char command[96];

	signal(SIGPIPE, SIG_IGN);
	make_places();
	listen_at("abstract", true);
	vm_begin(rules);
	if (estates_new(&estates, row))
		errx(2, "estates_new");
	tap_eq(vm_shadow(&with, "/usr/bin/guest"), DS_AGENT_STARTED, "a shadow with unix sockets");
	capsule = vm_view(0).capsule_pid;
	tap_eq(vm_shadow(&without, "/usr/bin/other"), DS_AGENT_STARTED, "and one without");
	tap_ok(thread_start(&t, with.a.started.token, 10, 0, 0) && thread_start(&t2, without.a.started.token, 11, 0, 0), "with a thread each");
	test_reach();
	test_alone();
	test_sent();
	test_received();
	test_withheld();
	test_refused();
	test_random();
	test_beside();
	close(other);
	estates_free(estates);
	bells_free(bells);
	shadows_free(row);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	if (system(command))
		warn("%s", top);
	return tap_done();
}
