/* vsock_host.c - on the host of vsock.sh: the back end of a VM's vsock device and its ivshmem server, a process a stream
 *
 * usage: vsock_host VHOST-SOCKET QMP-SOCKET GUEST-OUTPUT IVSHMEM-SOCKET
 *
 * One loop that never blocks serves the device, the streams and the doorbells; behind each stream is a child that does
 * with it what its port says (tests/vm/vsock.h).  When the guest has told everything for the first time the machine is
 * reset; after the second time it ends by itself.  Prints TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/vm/ivshmem.h"
#include "runtime/host/vm/qmp.h"
#include "runtime/host/vm/vhostuser.h"
#include "runtime/host/vm/vsock.h"
#include "tests/count_fds.h"
#include "tests/tap.h"
#include "tests/vm/vsock.h"

#define PATIENCE_S 240 /* for a boot under emulation on a busy machine */

static struct vhostuser v;
static struct vsock *vs;
static struct ivshmem *iv;
static volatile uint32_t *window;
static struct qmp q;
static int vm = -1; /* the connection */
static unsigned int starts, stops, streams, most, rung;
static int fds_before; /* descriptors when the device was started */
static struct vsock_t_life life;
static int life_fd = -1; /* the stream that tells it, held here */

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* --- streams: children, which may block ------------------------------------------------------------------------------ */

static void put_all(int fd, const void *data, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, data, bytes);

		if (n <= 0)
			_exit(1);
		data = (const char *)data + n;
		bytes -= (size_t)n;
	}
}

static void serve_stream(uint32_t port, int fd)
{
	static uint8_t block[65536];
	struct vsock_t_sum sum = {0};
	ssize_t n;

	if (port == VSOCK_T_BRIEF) {
		put_all(fd, "x", 1);
		return;
	}
	if (port == VSOCK_T_SOURCE) {
		struct vsock_t_sum theirs;

		for (size_t i = 0; i < VSOCK_T_SOURCE_BYTES; i += sizeof(block)) {
			for (size_t k = 0; k < sizeof(block); k++)
				block[k] = vsock_t_byte(i + k);
			vsock_t_add(&sum, block, sizeof(block));
			put_all(fd, block, sizeof(block));
		}
		shutdown(fd, SHUT_WR);
		if (recv(fd, &theirs, sizeof(theirs), MSG_WAITALL) != sizeof(theirs) || theirs.sum != sum.sum || theirs.bytes != sum.bytes)
			kill(getppid(), SIGUSR1); /* a check that fails there */
		return;
	}
	if (port == VSOCK_T_DEAF)
		sleep(VSOCK_T_DEAF_S);
	while ((n = read(fd, block, sizeof(block))) > 0) {
		if (port == VSOCK_T_ECHO || port == VSOCK_T_AGENT)
			put_all(fd, block, (size_t)n);
		else
			vsock_t_add(&sum, block, (uint64_t)n);
	}
	if (port == VSOCK_T_SUM)
		put_all(fd, &sum, sizeof(sum));
	if (port == VSOCK_T_DEAF)
		put_all(fd, &sum.bytes, sizeof(sum.bytes));
}

static volatile sig_atomic_t wrong_sums;
static void count_wrong(int sig)
{
	(void)sig;
	wrong_sums++;
}

static int take_stream(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
	(void)ctx;
	if (host_port == VSOCK_T_LIFE && guest_port <= 1023) {
		if (life_fd >= 0)
			close(life_fd);
		life_fd = fd;
		return send(fd, &life, sizeof(life), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(life) ? 0 : -EIO;
	}
	if (!(host_port == VSOCK_T_AGENT && guest_port <= 1023) && (host_port < VSOCK_T_ECHO || host_port > VSOCK_T_BRIEF))
		return -EACCES;
	streams++;
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fd, 3);
		close_range(4, ~0u, 0);
		serve_stream(host_port, 3);
		_exit(0);
	}
	close(fd);
	return 0;
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

static int take_message(void)
{
	enum vhostuser_event event;
	int r = vhostuser_receive(&v, vm, &event);

	if (event == VHOSTUSER_EV_STARTED)
		fds_before = count_fds();
	if (event == VHOSTUSER_EV_STARTED || (event == VHOSTUSER_EV_TABLE && v.running)) {
		const int s = vsock_start(vs, &v);

		starts += event == VHOSTUSER_EV_STARTED;
		if (s)
			printf("# vsock_start: %d\n", s);
	} else if (event == VHOSTUSER_EV_STOPPED || event == VHOSTUSER_EV_NO_TABLE) {
		stops += event == VHOSTUSER_EV_STOPPED;
		vsock_stop(vs);
	}
	return r == -EAGAIN ? 0 : r;
}

static int serve(void *ctx)
{
	(void)ctx;
	return take_message();
}

static void hear_bell(uint32_t d)
{
	uint64_t n;

	if (read(ivshmem_doorbell(iv, d), &n, sizeof(n)) != sizeof(n))
		return;
	rung += (unsigned int)n;
	window[VSOCK_T_MARK_WORD + 1] = ~window[VSOCK_T_MARK_WORD];
	window[d] += (uint32_t)n;
	n = 1;
	if (write(ivshmem_vector(iv, 0), &n, sizeof(n)) != sizeof(n))
		printf("# vector 0 cannot be raised\n");
}

/* Return: 0, or what ended the connection. */
static int pump(int ms)
{
	struct pollfd p[3 + VSOCK_T_BELLS] = {{.fd = vm, .events = POLLIN}, {.fd = vsock_fd(vs), .events = POLLIN}, {.fd = ivshmem_fd(iv), .events = POLLIN}};
	int r = 0;

	for (uint32_t d = 0; d < VSOCK_T_BELLS; d++)
		p[3 + d] = (struct pollfd){.fd = ivshmem_doorbell(iv, d), .events = POLLIN};
	if (poll(p, 3 + VSOCK_T_BELLS, ms) <= 0)
		return 0;
	if (p[0].revents)
		r = take_message();
	if (p[1].revents && vsock_run(vs))
		printf("# vsock_run: %s\n", vsock_err(vs));
	if (p[2].revents)
		ivshmem_run(iv);
	for (uint32_t d = 0; d < VSOCK_T_BELLS; d++) {
		if (p[3 + d].revents)
			hear_bell(d);
	}
	most = vsock_streams(vs) > most ? vsock_streams(vs) : most;
	return r;
}

static void stop_here(const char *what)
{
	tap_ok(false, "%s%s%s", what, v.err.why ? ": " : "", v.err.why ? v.err.why : "");
	exit(tap_done());
}

static int accept_vm(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const time_t end = now() + PATIENCE_S;
	struct pollfd p[2] = {{.fd = s, .events = POLLIN}, {.fd = ivshmem_fd(iv), .events = POLLIN}};

	/* It gets its name when it listens: QEMU, started as soon as the name is there, would be refused before. */
	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s.new", path) >= (int)sizeof(addr.sun_path) ||
	    bind(s, (struct sockaddr *)&addr, sizeof(addr)) || listen(s, 1) || rename(addr.sun_path, path))
		return -1;
	while (!p[0].revents && now() < end) {
		poll(p, 2, 1000);
		if (p[1].revents)
			ivshmem_run(iv);
	}
	return accept4(s, NULL, NULL, SOCK_CLOEXEC);
}

static bool told(const char *path, const char *what)
{
	static char text[1 << 20];
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return strstr(text, what);
}

/* One life of the guest, until it has told that it ends. */
static int live(const char *output)
{
	const time_t end = now() + PATIENCE_S;
	uint32_t checks = 0;
	char line[32];
	int r = 0;

	snprintf(line, sizeof(line), "# life %u ends", life.boots + 1);
	while (!r && !told(output, line) && now() < end)
		r = pump(200);
	if (r || !told(output, line))
		stop_here("the guest comes to the end of its life");
	tap_ok(starts == 2 * life.boots + 2 && stops == 2 * life.boots + 1 && !vsock_err(vs), "life %u: the device was started twice, and runs",
	       life.boots + 1);
	tap_ok(most >= VSOCK_T_MANY, "up to %u streams were open", most);
	tap_ok(ivshmem_connected(iv) && rung == 10 * (life.boots + 1), "doorbells were rung %u times", rung);
	tap_eq(wrong_sums, 0, "all sums were right");
	if (recv(life_fd, &checks, sizeof(checks), MSG_DONTWAIT) != sizeof(checks))
		stop_here("the guest tells its number of checks");
	life.boots++;
	life.checks += checks;
	most = 0;
	return r;
}

int main(int argc, char **argv)
{
	int r = 0;
	time_t end;
	char byte;

	if (argc != 5)
		return 1;
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, count_wrong);
	vhostuser_init(&v, 3);
	if (vsock_new(&vs, 3, take_stream, NULL) || ivshmem_new(&iv, argv[4], VSOCK_T_WINDOW_BYTES, VSOCK_T_BELLS, 2))
		stop_here("the device and the window are made");
	window = mmap(NULL, VSOCK_T_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ivshmem_shm(iv), 0);
	vm = accept_vm(argv[1]);
	if (vm < 0 || window == MAP_FAILED)
		stop_here("a VM connects");
	for (int i = 0; i < 50 && !r; i++)
		r = pump(20); /* QEMU waits for the CID, and has its monitor only after that */
	r = r ? r : qmp_connect(&q, argv[2], 20000);
	if (r)
		stop_here("the VM has a monitor");
	qmp_serve(&q, vm, serve, NULL);
	live(argv[3]);
	tap_eq(qmp_command(&q, "system_reset", NULL, NULL), 0, "the machine is reset");
	for (end = now() + 30; !r && stops < 2 && now() < end;)
		r = pump(100);
	tap_ok(!r && stops == 2 && !vsock_streams(vs) && recv(life_fd, &byte, 1, MSG_DONTWAIT) == 0, "every stream has ended with the guest");
	close(life_fd);
	life_fd = -1;
	tap_ok(count_fds() <= fds_before, "and left no descriptor");
	live(argv[3]);
	close(life_fd); /* the guest goes on to its end */
	for (end = now() + 60; !r && now() < end;)
		r = pump(100);
	tap_eq(r, -ECONNRESET, "the VM's death is seen");
	for (end = now() + 10; ivshmem_connected(iv) && now() < end;)
		pump(100);
	tap_ok(!ivshmem_connected(iv), "by the server of the window too");
	printf("# %u streams in all\n", streams);
	qmp_close(&q);
	vsock_free(vs);
	ivshmem_free(iv);
	vhostuser_close(&v);
	return tap_done();
}
