/* agent_play.h - for tests of dsagent: a server of its own, a host that the test plays, processes to be shadowed
 *
 * The server runs in a child with sockets in a temporary folder.  The test is its client and its host at once, one step after the
 * other.  What the host is told is held against /proc/PID/pagemap, read here word by word.
 */
#ifndef TESTS_AGENT_PLAY_H
#define TESTS_AGENT_PLAY_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/map.h"
#include "runtime/guest/agent/agent_server.h"
#include "tests/tap.h"

#define PAGE 4096ul
#define PLAY_MS 20000

static char play_dir[] = "/tmp/agent-test.XXXXXX", play_local[64], play_host[64];
static int play_listen = -1;
static pid_t play_server;

__attribute__((unused)) static void play_die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	fflush(stdout);
	if (play_server)
		kill(play_server, SIGKILL);
	exit(2);
}

static void play_wait(int fd, const char *what)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, PLAY_MS) != 1) {
		errno = ETIMEDOUT;
		play_die(what);
	}
}

static int play_bind(const char *path, int type)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || chmod(path, 0666) || listen(fd, 64))
		play_die(path);
	return fd;
}

/* The server, with @limit_pages and room for 8 shadows; @host: somebody listens there. */
__attribute__((unused)) static void play_begin(uint64_t limit_pages, bool host)
{
	struct agent_options o = {.socket = play_local, .host = play_host, .limit_pages = limit_pages, .max_shadows = 8, .retry_ms = 200};
	int fd;

	if (!mkdtemp(play_dir) || chmod(play_dir, 0755))
		play_die("mkdtemp");
	snprintf(play_local, sizeof(play_local), "%s/local", play_dir);
	snprintf(play_host, sizeof(play_host), "%s/host", play_dir);
	fd = play_bind(play_local, SOCK_SEQPACKET);
	if (host)
		play_listen = play_bind(play_host, SOCK_STREAM);
	fflush(stdout);
	play_server = fork();
	if (!play_server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!freopen("/dev/null", "w", stdout) || (!getenv("AGENT_LOG") && !freopen("/dev/null", "w", stderr)))
			_exit(2);
		_exit(agent_server_run(&o, fd) ? 2 : 0);
	}
	close(fd);
}

/* Ends the server.  Return: its wait status. */
__attribute__((unused)) static int play_end(void)
{
	int status = -1;

	kill(play_server, SIGTERM);
	waitpid(play_server, &status, 0);
	play_server = 0;
	unlink(play_local);
	unlink(play_host);
	rmdir(play_dir);
	return status;
}

/* --- the local side ------------------------------------------------------------------------------------------------- */

static _Alignas(8) uint8_t local_msg[DS_LOCAL_BYTES_MAX];
static int local_fd_came = -1;

__attribute__((unused)) static int local_connect(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, play_local);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)))
		play_die("connect to dsagent");
	return fd;
}

__attribute__((unused)) static void local_send(int fd, void *msg, size_t bytes, uint16_t kind, uint32_t seq)
{
	*(struct ds_local_head *)msg = (struct ds_local_head){DS_LOCAL_MAGIC, DS_LOCAL_VERSION, kind, bytes, seq};
	if (send(fd, msg, bytes, MSG_NOSIGNAL) < 0)
		play_die("send to dsagent");
}

/* The next packet, in local_msg, with a descriptor that came along in local_fd_came.  Return: its kind; 0: the connection was closed. */
__attribute__((unused)) static uint16_t local_receive(int fd, uint32_t *seq)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {local_msg, sizeof(local_msg)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const struct ds_local_head *head = (const struct ds_local_head *)local_msg;
	ssize_t n;

	play_wait(fd, "an answer of dsagent");
	local_fd_came = -1;
	n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return 0;
	if (CMSG_FIRSTHDR(&h))
		memcpy(&local_fd_came, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(int));
	if ((size_t)n < sizeof(*head) || head->bytes != (uint32_t)n || head->magic != DS_LOCAL_MAGIC)
		return UINT16_MAX;
	if (seq)
		*seq = head->seq;
	return head->kind;
}

__attribute__((unused)) static const struct ds_local_refused *local_no(void)
{
	return (const struct ds_local_refused *)local_msg;
}

__attribute__((unused)) static void local_shadow(int fd, uint32_t seq, pid_t pid, uint32_t mode, uint32_t flags, uint64_t reserve)
{
	struct ds_local_shadow m = {.pid = pid, .mode = mode, .flags = flags, .reserve_pages = reserve, .service = "checksum", .args = "a=1"};

	local_send(fd, &m, sizeof(m), DS_LOCAL_SHADOW, seq);
}

__attribute__((unused)) static void local_about(int fd, uint32_t seq, uint16_t kind, pid_t pid)
{
	struct ds_local_about m = {.pid = pid};

	local_send(fd, &m, sizeof(m), kind, seq);
}

/* A DROP or REFRESH of one range, or (@npages 0) of none. */
__attribute__((unused)) static void local_ranges(int fd, uint32_t seq, uint16_t kind, pid_t pid, uint64_t vpn, uint64_t npages)
{
	struct {
		struct ds_local_ranges m;
		struct ds_local_range r;
	} p = {{.pid = pid, .nranges = !!npages}, {vpn, npages}};

	local_send(fd, &p, sizeof(p.m) + (npages ? sizeof(p.r) : 0), kind, seq);
}

/* --- the host's side -------------------------------------------------------------------------------------------------- */

static uint8_t *host_msg;
static size_t host_room;

__attribute__((unused)) static int host_accept(void)
{
	int fd;

	play_wait(play_listen, "dsagent to connect to the host");
	fd = accept4(play_listen, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		play_die("accept");
	return fd;
}

static bool host_read(int fd, void *buf, size_t bytes)
{
	for (size_t have = 0; have < bytes;) {
		ssize_t n;

		play_wait(fd, "a message to the host");
		n = recv(fd, (char *)buf + have, bytes - have, 0);
		if (n <= 0)
			return false;
		have += n;
	}
	return true;
}

/* The next message, in host_msg.  Return: its kind; 0: the stream was closed. */
__attribute__((unused)) static uint16_t host_receive(int fd, uint32_t *seq)
{
	struct ds_agent_head head;

	if (!host_read(fd, &head, sizeof(head)))
		return 0;
	if (head.magic != DS_AGENT_MAGIC || head.bytes < sizeof(head) || head.bytes > DS_AGENT_MAP_BYTES_MAX + (1 << 21))
		return UINT16_MAX;
	if (head.bytes > host_room) {
		host_msg = realloc(host_msg, head.bytes);
		host_room = head.bytes;
	}
	memcpy(host_msg, &head, sizeof(head));
	if (!host_read(fd, host_msg + sizeof(head), head.bytes - sizeof(head)))
		return 0;
	*seq = head.seq;
	return head.kind;
}

__attribute__((unused)) static void host_send(int fd, void *msg, size_t bytes, uint16_t kind, uint32_t seq)
{
	*(struct ds_agent_head *)msg = (struct ds_agent_head){DS_AGENT_MAGIC, DS_AGENT_VERSION, kind, bytes, seq};
	if (send(fd, msg, bytes, MSG_NOSIGNAL) < 0)
		play_die("send as the host");
}

__attribute__((unused)) static void host_done(int fd, uint32_t seq)
{
	struct ds_agent_done m;

	host_send(fd, &m, sizeof(m), DS_AGENT_DONE, seq);
}

__attribute__((unused)) static void host_refuse(int fd, uint32_t seq, uint16_t kind, uint32_t code, const char *text)
{
	struct ds_agent_refused m = {.code = code};

	strcpy(m.text, text);
	host_send(fd, &m, sizeof(m), kind, seq);
}

/* HELLO is answered, ATTACH is in host_msg.  Return: seq of the ATTACH; 0: something else came. */
__attribute__((unused)) static uint32_t host_attached(int fd, uint32_t want_hash)
{
	struct ds_agent_welcome w = {.vm = "test", .want_hash = want_hash};
	uint32_t seq = 0;

	if (host_receive(fd, &seq) != DS_AGENT_HELLO)
		return 0;
	host_send(fd, &w, sizeof(w), DS_AGENT_WELCOME, seq);
	return host_receive(fd, &seq) == DS_AGENT_ATTACH ? seq : 0;
}

#define PLAY_TOKEN "fifteen letters" /* and a zero */

__attribute__((unused)) static void host_started(int fd, uint32_t seq)
{
	struct ds_agent_started m = {.capsule = {0x1000, 64}, .mirror_pages = 77, .host_pid = 4242, .token = PLAY_TOKEN};

	host_send(fd, &m, sizeof(m), DS_AGENT_STARTED, seq);
}

/* --- what is true ------------------------------------------------------------------------------------------------------- */

/* The kernel's word for a page of a process. */
__attribute__((unused)) static uint64_t true_word(pid_t pid, uint64_t vpn)
{
	char path[64];
	uint64_t word = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &word, 8, vpn * 8) != 8)
		word = 0;
	if (fd >= 0)
		close(fd);
	return word;
}

static uint64_t true_frame(pid_t pid, uint64_t vpn)
{
	uint64_t word = true_word(pid, vpn);

	return word >> 63 ? word & ((UINT64_C(1) << 55) - 1) : 0;
}

/* Pages of a map that are not where it says. */
__attribute__((unused)) static uint64_t wrong_pages(const struct rle_map *map, pid_t pid)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < map->nruns; i++)
		for (uint32_t k = 0; k < map->runs[i].npages; k++)
			wrong += true_frame(pid, map->runs[i].vpn.n + k) != map->runs[i].pfn.n + k;
	return wrong;
}

#endif
