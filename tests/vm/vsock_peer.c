/* vsock_peer.c - in the guest of vsock.sh: a guest's kernel and its processes against the host's end of their streams
 *
 * usage: vsock_peer
 *
 * Everything once a boot.  After the first one the host resets the machine while a stream is open; after the second the
 * number of all checks is the plan.  Prints TAP.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "tests/tap.h"
#include "tests/vm/vsock.h"

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Return: a connected socket, or -errno. */
static int dial(uint32_t from, uint32_t port)
{
	struct sockaddr_vm me = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = from};
	struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (s < 0)
		return -errno;
	if ((from && bind(s, (struct sockaddr *)&me, sizeof(me))) || connect(s, (struct sockaddr *)&host, sizeof(host))) {
		r = -errno;
		close(s);
		return r;
	}
	return s;
}

static bool put_all(int s, const void *data, size_t bytes)
{
	const char *at = data;

	while (bytes) {
		ssize_t n = send(s, at, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += n;
		bytes -= (size_t)n;
	}
	return true;
}

static bool get_all(int s, void *data, size_t bytes)
{
	return recv(s, data, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static bool echoes(int s, const char *word)
{
	char back[64] = "";

	return put_all(s, word, strlen(word)) && get_all(s, back, strlen(word)) && !strcmp(back, word);
}

static void test_ports(void)
{
	int s, r, status;
	double t;
	pid_t child;

	s = dial(1000, VSOCK_T_AGENT);
	tap_ok(s >= 0 && echoes(s, "privileged"), "a connection from port 1000, which root may bind (%d)", s);
	r = dial(0, VSOCK_T_AGENT);
	tap_eq(r, -ECONNRESET, "from a port of the kernel's choice the same is refused");
	t = now();
	r = dial(0, VSOCK_T_NOBODY);
	t = now() - t;
	tap_eq(r, -ECONNRESET, "nobody is behind port %u", VSOCK_T_NOBODY);
	tap_ok(t < 1, "which is told at once: %.1f ms", t * 1e3);
	child = fork();
	if (!child) {
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(3);
		if (dial(1001, VSOCK_T_AGENT) != -EACCES || dial(0, VSOCK_T_AGENT) != -ECONNRESET)
			_exit(1);
		s = dial(0, VSOCK_T_ECHO);
		_exit(s >= 0 && echoes(s, "nobody") ? 0 : 2);
	}
	waitpid(child, &status, 0);
	tap_eq(status, 0, "a user without rights cannot have port 1001, and has the streams that are for all");
	close(s);
	t = now();
	do { /* it is in use until the host has answered to the end of the stream before */
		s = dial(1000, VSOCK_T_AGENT);
	} while (s == -EADDRINUSE && now() - t < 2);
	t = now() - t;
	tap_ok(s >= 0 && echoes(s, "again"), "port 1000 connects again %.1f ms after it was closed (%d)", t * 1e3, s);
	close(s);
}

static void *send_bulk(void *arg)
{
	static uint8_t block[1 << 16];
	const int s = *(int *)arg;

	for (uint64_t at = 0; at < VSOCK_T_BULK_BYTES; at += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = vsock_t_byte(at + i);
		if (!put_all(s, block, sizeof(block)))
			break;
	}
	shutdown(s, SHUT_WR);
	return NULL;
}

static void test_bulk(void)
{
	static uint8_t block[1 << 16];
	uint64_t got = 0, wrong = 0;
	double t = now();
	pthread_t writer;
	ssize_t n;
	int s = dial(0, VSOCK_T_ECHO);

	if (s < 0 || pthread_create(&writer, NULL, send_bulk, &s))
		exit(2);
	while ((n = recv(s, block, sizeof(block), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			wrong += block[i] != vsock_t_byte(got + (uint64_t)i);
		got += (uint64_t)n;
	}
	pthread_join(writer, NULL);
	t = now() - t;
	tap_ok(n == 0 && got == VSOCK_T_BULK_BYTES && !wrong, "%llu bytes are echoed while they are sent, %llu of them wrong, then the end",
	       (unsigned long long)got, (unsigned long long)wrong);
	printf("# %.1f s, %.1f MB/s each way\n", t, VSOCK_T_BULK_BYTES / t / 1e6);
	close(s);
}

static void test_half_close(void)
{
	static uint8_t block[300000];
	struct vsock_t_sum mine = {0}, theirs = {0};
	char byte;
	int s = dial(0, VSOCK_T_SUM);

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = vsock_t_byte(i);
	vsock_t_add(&mine, block, sizeof(block));
	tap_ok(put_all(s, block, sizeof(block)) && !shutdown(s, SHUT_WR) && get_all(s, &theirs, sizeof(theirs)) && theirs.bytes == mine.bytes &&
		       theirs.sum == mine.sum && recv(s, &byte, 1, 0) == 0,
	       "the guest ends its direction, the host answers with the sum of what came and ends");
	close(s);

	s = dial(0, VSOCK_T_SOURCE);
	mine = theirs = (struct vsock_t_sum){0};
	for (ssize_t n; (n = recv(s, block, sizeof(block), 0)) > 0;)
		vsock_t_add(&mine, block, (uint64_t)n);
	tap_eq(mine.bytes, VSOCK_T_SOURCE_BYTES, "the host sends 1 MB and ends its direction");
	tap_ok(put_all(s, &mine, sizeof(mine)) && !shutdown(s, SHUT_WR), "the guest answers with the sum of that");
	close(s);

	s = dial(0, VSOCK_T_BRIEF);
	tap_ok(s >= 0 && recv(s, &byte, 1, 0) == 1 && recv(s, &byte, 1, 0) == 0, "a host that says one byte and is gone: one byte, then the end");
	errno = 0;
	for (int i = 0; i < 100 && send(s, "x", 1, MSG_NOSIGNAL) == 1; i++)
		usleep(10000);
	tap_eq(errno, EPIPE, "and nothing can be said to it");
	close(s);
}

static void test_many(void)
{
	static int s[VSOCK_T_MANY];
	unsigned int open_ok = 0, good = 0;
	char word[32], other[32];
	double t = now();

	for (unsigned int i = 0; i < VSOCK_T_MANY; i++)
		open_ok += (s[i] = dial(0, VSOCK_T_ECHO)) >= 0;
	for (unsigned int i = 0; i < VSOCK_T_MANY; i++) {
		snprintf(word, sizeof(word), "connection %u of many", i);
		put_all(s[i], word, sizeof(word));
	}
	for (unsigned int i = VSOCK_T_MANY; i-- > 0;) {
		snprintf(word, sizeof(word), "connection %u of many", i);
		good += get_all(s[i], other, sizeof(other)) && !strcmp(word, other);
	}
	tap_ok(open_ok == VSOCK_T_MANY && good == VSOCK_T_MANY, "%u connections at once, %u with their own echo", open_ok, good);
	for (unsigned int i = 0; i < VSOCK_T_MANY; i++)
		close(s[i]);
	printf("# %.1f s\n", now() - t);
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* How long a byte takes to a process of the host and back. */
static void test_round_trip(void)
{
	double t[500];
	int s = dial(0, VSOCK_T_ECHO);
	unsigned int good = 0;

	for (int i = 0; i < 500; i++) {
		t[i] = now();
		good += echoes(s, "x");
		t[i] = now() - t[i];
	}
	qsort(t, 500, sizeof(*t), by_value);
	tap_eq(good, 500, "500 bytes, one after the other, are echoed");
	printf("# round trip: %.0f us at best, %.0f us in the middle, %.0f us for the last of a hundred\n", t[0] * 1e6, t[250] * 1e6, t[495] * 1e6);
	close(s);
}

/* A host end that does not read: its writer waits, nobody else does. */
static void test_deaf(void)
{
	static char block[65536];
	uint64_t sent = 0, answer = 0;
	int deaf = dial(0, VSOCK_T_DEAF), s;
	double t = now();
	ssize_t n;

	do {
		while ((n = send(deaf, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			sent += (uint64_t)n;
		usleep(20000);
	} while (now() - t < 1);
	tap_ok(n < 0 && errno == EAGAIN && sent > 65536 && sent < 4 << 20, "a host end does not read: after %llu bytes the guest waits",
	       (unsigned long long)sent);
	s = dial(0, VSOCK_T_ECHO);
	tap_ok(s >= 0 && echoes(s, "meanwhile") && now() - t < VSOCK_T_DEAF_S, "others go on");
	tap_ok(put_all(deaf, block, sizeof(block)), "once it reads, the guest goes on");
	sent += sizeof(block);
	shutdown(deaf, SHUT_WR);
	tap_ok(get_all(deaf, &answer, sizeof(answer)) && answer == sent, "it has all bytes");
	close(s);
	close(deaf);
}

/* --- ivshmem ---------------------------------------------------------------------------------------------------------- */

/* The folder of the PCI device 1af4:1110. */
static bool find_ivshmem(char *path, size_t bytes)
{
	DIR *d = opendir("/sys/bus/pci/devices");
	bool found = false;

	for (struct dirent *e; d && !found && (e = readdir(d));) {
		char file[300], id[32] = "";
		int fd;

		snprintf(file, sizeof(file), "/sys/bus/pci/devices/%s/modalias", e->d_name);
		fd = open(file, O_RDONLY);
		if (fd < 0)
			continue;
		found = read(fd, id, sizeof(id) - 1) > 0 && !strncmp(id, "pci:v00001AF4d00001110", 22);
		close(fd);
		snprintf(path, bytes, "/sys/bus/pci/devices/%s", e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

static void *map_resource(const char *folder, int n, size_t bytes)
{
	char path[400];
	void *at;
	int fd;

	snprintf(path, sizeof(path), "%s/enable", folder);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) != 1)
		exit(2);
	close(fd);
	snprintf(path, sizeof(path), "%s/resource%d", folder, n);
	fd = open(path, O_RDWR);
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return at;
}

static void test_ivshmem(void)
{
	volatile uint32_t *regs, *window;
	char folder[300];
	double t = now();
	unsigned int rung = 0;

	if (!find_ivshmem(folder, sizeof(folder))) {
		tap_ok(false, "the ivshmem device is there");
		return;
	}
	regs = map_resource(folder, 0, 256);
	window = map_resource(folder, 2, VSOCK_T_WINDOW_BYTES);
	tap_ok((void *)regs != MAP_FAILED && (void *)window != MAP_FAILED, "the doorbells and the window can be mapped");
	if ((void *)regs == MAP_FAILED || (void *)window == MAP_FAILED)
		return;
	tap_eq(regs[2], 0, "the guest's number is 0");
	for (uint32_t d = 0; d < VSOCK_T_BELLS; d++)
		rung += window[d];
	tap_eq(rung, 0, "nothing of an earlier life is in the window");
	window[VSOCK_T_MARK_WORD] = 0x1234567;
	for (uint32_t d = 0; d < VSOCK_T_BELLS; d++) {
		for (uint32_t i = 0; i <= d; i++) {
			const uint32_t before = window[d];

			regs[3] = (d + 1) << 16;
			while (window[d] == before && now() - t < 10)
				;
		}
	}
	for (uint32_t d = 0; d < VSOCK_T_BELLS; d++)
		rung += window[d] == d + 1;
	tap_eq(rung, VSOCK_T_BELLS, "each doorbell is heard by itself, and answered through the window");
	tap_eq(window[VSOCK_T_MARK_WORD + 1], ~0x1234567u, "what the guest writes there the host reads");
	for (uint32_t d = 0; d <= VSOCK_T_BELLS; d++)
		window[d] = 0; /* the window outlives a reset of the machine: it is as the next life expects it */
}

int main(void)
{
	struct vsock_t_life life;
	int s = dial(1023, VSOCK_T_LIFE);
	uint32_t checks;
	char byte;

	if (s < 0 || !get_all(s, &life, sizeof(life))) {
		tap_ok(false, "the host says which life this is (%d)", s);
		return tap_done();
	}
	test_ports();
	test_many();
	test_bulk();
	test_half_close();
	test_round_trip();
	test_deaf();
	test_ivshmem();
	checks = (uint32_t)tap_count;
	put_all(s, &checks, sizeof(checks));
	printf("# life %u ends\n", life.boots + 1);
	fflush(stdout);
	recv(s, &byte, 1, 0); /* until the host has looked: then comes the reset, or the end of the stream */
	tap_count += (int)life.checks;
	return tap_done();
}
