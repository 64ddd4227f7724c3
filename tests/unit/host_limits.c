/* host_limits.c - limits of a policy's rule, in force for a shadow that makes system calls: what it uses is held against what the rule
 * says, by clocks and counts of the test's own; and with a host that has no cgroups
 *
 * Times are only compared with the least that they can be: a loaded machine makes them longer.
 */
#include "tests/forward_guest.h"

#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "runtime/host/status.h"
#include "tests/tap.h"

#define DATA 40u
#define SLOTS 10u
#define FILE_BYTES (16u << 20)
#define WAIT_MS 60000

static char top[64], rules[4096];
static struct shadow shadow;
static struct thread t;
static int listener;
static uint16_t port;

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	thread_post(&t, nr, (const uint64_t[6]){a, b, c, d, 0, 0});
	return thread_done(&t, WAIT_MS) ? t.slot->result : THREAD_LOST;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int64_t opened(const char *name, int flags)
{
	snprintf((char *)at_host(0), PAGE, "%s", name);
	return call(__NR_openat, (uint64_t)AT_FDCWD, at_guest(0), (uint64_t)flags, 0644);
}

/* Reads, as one call, @pieces times 12 KiB of a file. */
static int64_t read_much(int64_t fd, uint32_t pieces)
{
	for (uint32_t i = 0; i < pieces; i++)
		((struct iovec *)(void *)at_host(DATA + 4 + i / 256))[i % 256] = (struct iovec){(void *)(uintptr_t)at_guest(DATA), 3 * PAGE};
	return call(__NR_preadv, (uint64_t)fd, at_guest(DATA + 4), pieces, 0);
}

static void begin(const char *program)
{
	const int kind = vm_shadow(&shadow, program);

	if (kind != DS_AGENT_STARTED)
		errx(2, "%s: no shadow: %s", program, kind == DS_AGENT_REFUSED ? shadow.a.refused.text : "?");
	if (!thread_start(&t, shadow.a.started.token, SLOTS, 0, 0))
		errx(2, "%s: no executor", program);
}

static void end(void)
{
	close(t.bell);
	if (!vm_end(&shadow))
		errx(2, "the shadow does not end");
}

static bool is_stopped(pid_t pid)
{
	char path[64], text[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f && fgets(text, sizeof(text), f) && strrchr(text, ')'))
		text[0] = strrchr(text, ')')[2];
	if (f)
		fclose(f);
	return text[0] == 'T';
}

/*
 * What it has used is counted: it is stopped now, or so much time has passed since @from that it need not be.  A call that is
 * made then comes back when it has paid.
 */
static void await_stopped(double from, double enough)
{
	const pid_t pid = vm_view(0).capsule_pid;

	for (int i = 0; i < WAIT_MS / 5 && seconds() - from < enough && !is_stopped(pid); i++)
		pump(5);
}

/* The warden tells of it a moment after it has let the shadow run again. */
static void await_paced(void)
{
	for (int i = 0; i < WAIT_MS / 10 && !vm_view(0).paced_ns; i++)
		pump(10);
}

/* What `dshost status` prints; free()d by the caller. */
static char *status(bool json)
{
	const struct shadows_board *boards[] = {board};
	char *text = NULL;
	size_t n = 0;
	uint64_t bytes;
	const int fd = status_make(boards, 1, 6, &bytes);
	FILE *f = open_memstream(&text, &n);

	if (fd < 0 || !f || status_print(f, fd, bytes, json))
		errx(2, "status");
	fclose(f);
	close(fd);
	return text;
}

static void test_status(void)
{
	char *text = status(false), *json = status(true);
	const char *paced = strstr(json, "\"paced_ms\":");

	tap_ok(strstr(text, "limits: memory: ") && strstr(text, "read-rate: pacing; paced for "), "so does dshost status");
	tap_ok(strstr(json, "read-rate: pacing\"") && paced && strtoul(paced + 11, NULL, 10) > 0, "and as JSON");
	free(text);
	free(json);
}

static void test_rate(void)
{
	struct thread blocked;
	const struct ds_agent_range near = {HEAP_VPN + DATA + 1, 1};
	struct warden_view v;
	double from, took, least;
	int64_t fd, n = 0;
	int32_t pipe_fd[2];

	begin("/usr/bin/reads");
	fd = opened("/data/big", O_RDONLY);
	from = seconds();
	for (int i = 0; i < 8; i++)
		n += read_much(fd, 64);
	least = (double)n / (4 << 20) - 0.3;
	await_stopped(from, least);
	tap_eq(call(__NR_getuid, 0, 0, 0, 0), 65534, "%lld KB are read", (long long)n >> 10);
	took = seconds() - from;
	tap_ok(n > 1 << 20 && took > least, "at 4 MB a second: what comes then is %.2f s later", took);
	await_paced();
	v = vm_view(0);
	tap_ok(v.paced_ns > 0 && strstr(v.limits, "read-rate: pacing"), "the view says so: %.2f s, \"%s\"", (double)v.paced_ns / 1e9, v.limits);

	test_status();
	tap_eq(call(__NR_pipe2, at_guest(DATA), 0, 0, 0), 0, "a pipe");
	memcpy(pipe_fd, at_host(DATA), sizeof(pipe_fd));
	if (!thread_start(&blocked, shadow.a.started.token, SLOTS, 1, 0))
		errx(2, "no executor");
	thread_post(&blocked, __NR_read, (const uint64_t[6]){(uint64_t)pipe_fd[0], at_guest(DATA + 1), 100});
	from = seconds();
	for (int i = 0; i < 10; i++)
		read_much(fd, 64);
	await_stopped(from, 20);
	took = seconds();
	tap_eq(drop(&shadow, &near, 1), DS_AGENT_DONE, "while it is stopped for what it used, pages can be dropped");
	tap_eq(update(&shadow, page, HEAP_PAGES), DS_AGENT_DONE, "and come again");
	thread_interrupt(&blocked);
	for (int i = 0; i < 100 && !thread_done(&blocked, 100); i++)
		thread_interrupt(&blocked);
	tap_ok(blocked.slot->result == -EINTR, "and a thread that is blocked there can be interrupted");
	printf("# after %.2f s\n", seconds() - took);
	tap_eq(call(__NR_splice, (uint64_t)fd, 0, (uint64_t)pipe_fd[1], 0), -EINVAL, "splice(), which nobody counts, is refused");
	close(blocked.bell);
	end();
}

static void test_counts(void)
{
	struct rlimit limit = {0};
	int64_t fd, dup_low, dup_high;

	begin("/usr/bin/few");
	memset(at_host(DATA), 'x', PAGE);
	fd = opened("/data/new", O_WRONLY | O_CREAT);
	tap_eq(call(__NR_pwrite64, (uint64_t)fd, at_guest(DATA), PAGE, 16384 - PAGE), PAGE, "a file may be as large as its limit");
	tap_eq(call(__NR_pwrite64, (uint64_t)fd, at_guest(DATA), PAGE, 16384), -EFBIG, "and not larger");
	tap_eq(call(__NR_ftruncate, (uint64_t)fd, 16385, 0, 0), -EFBIG, "in no way");
	dup_low = call(__NR_dup3, (uint64_t)fd, 9, 0, 0);
	dup_high = call(__NR_dup3, (uint64_t)fd, 10, 0, 0);
	tap_ok(dup_low == 9 && dup_high == -EMFILE && call(__NR_dup2, (uint64_t)fd, 4095, 0, 0) == -EMFILE, "the program has descriptors 0 to 9 there");
	tap_eq(call(__NR_close, 10, 0, 0, 0), 0, "closing others is no error");
	prlimit(vm_view(0).capsule_pid, RLIMIT_NOFILE, NULL, &limit);
	tap_ok(limit.rlim_max < DS_SHADOW_HOLD_FD + 100, "and few are on their way to a number: RLIMIT_NOFILE is %llu", (unsigned long long)limit.rlim_max);
	tap_ok(strstr(vm_view(0).limits, "descriptors: filter") && strstr(vm_view(0).limits, "file-size: RLIMIT_FSIZE"), "as the view says");
	end();
}

/* --- the network ----------------------------------------------------------------------------------------------------------- */

static int64_t with_name(uint64_t nr, int64_t fd, uint16_t p)
{
	const struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(p)};

	memcpy(at_host(DATA), &name, sizeof(name));
	return call(nr, (uint64_t)fd, at_guest(DATA), sizeof(name), 0);
}

static int64_t sock(int family, int type, int protocol)
{
	return call(__NR_socket, (uint64_t)family, (uint64_t)type, (uint64_t)protocol, 0);
}

static void test_net(void)
{
	int64_t fd;

	if (vm_shadow(&shadow, "/usr/bin/net") != DS_AGENT_STARTED) {
		printf("# %s\n", shadow.a.refused.text);
		tap_skip("addresses", "it takes a cgroup of version 2 and BPF");
		close(shadow.a.fd);
		return;
	}
	if (!thread_start(&t, shadow.a.started.token, SLOTS, 0, 0))
		errx(2, "no executor");
	fd = sock(AF_INET, SOCK_STREAM, 0);
	tap_eq(with_name(__NR_connect, fd, port), 0, "the address that the rule names is reached");
	close(accept(listener, NULL, NULL));
	fd = sock(AF_INET, SOCK_STREAM, 0);
	tap_eq(with_name(__NR_connect, fd, 1), -EPERM, "another port is not");
	tap_eq(with_name(__NR_bind, fd, 0), -EPERM, "it may bind to nothing");
	tap_eq(call(__NR_listen, (uint64_t)fd, 5, 0, 0), -EPERM, "and so not listen");
	tap_eq(sock(AF_INET6, SOCK_STREAM, 0), -EAFNOSUPPORT, "of the other family there are no sockets");
	tap_eq(sock(AF_INET, SOCK_STREAM, 132 /* SCTP */), -EPROTONOSUPPORT, "nor of protocols that nobody looks at");
	tap_ok(strstr(vm_view(0).limits, "connect, bind: BPF") != NULL, "the view says who looks at it");
	end();

	begin("/usr/bin/listens");
	fd = sock(AF_INET, SOCK_STREAM, 0);
	tap_ok(with_name(__NR_bind, fd, 1) == -EPERM && with_name(__NR_bind, fd, 0) == 0 && call(__NR_listen, (uint64_t)fd, 5, 0, 0) == 0,
	       "a rule for binding: the port that it names, here one of the kernel's choosing");
	end();
}

static void test_net_rate(void)
{
	static char data[65536];
	double from, took, least;
	int64_t fd, n = 0, got;
	pid_t pid;
	int c;

	if (vm_shadow(&shadow, "/usr/bin/receives") != DS_AGENT_STARTED) {
		tap_skip("bytes of the network", "it takes a cgroup of version 2 and BPF");
		close(shadow.a.fd);
		return;
	}
	if (!thread_start(&t, shadow.a.started.token, SLOTS, 0, 0))
		errx(2, "no executor");
	fd = sock(AF_INET, SOCK_STREAM, 0);
	if (with_name(__NR_connect, fd, port))
		errx(2, "connect");
	c = accept(listener, NULL, NULL);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		for (int i = 0; i < 48; i++) /* 3 MB */
			if (write(c, data, sizeof(data)) != (ssize_t)sizeof(data))
				_exit(1);
		_exit(0);
	}
	close(c);
	from = seconds();
	do {
		got = call(__NR_recvfrom, (uint64_t)fd, at_guest(DATA), PAGE, 0x100 /* MSG_WAITALL */);
		n += got > 0 ? got : 0;
	} while (got > 0);
	least = (double)n / (2 << 20) - 0.3;
	await_stopped(from, least);
	call(__NR_getuid, 0, 0, 0, 0);
	took = seconds() - from;
	waitpid(pid, NULL, 0);
	tap_ok(n == 48 * (int64_t)sizeof(data) && took > least, "%lld KB are received at 2 MB a second: in %.2f s",
	       (long long)n >> 10, took);
	end();
}

/* --- processor time ---------------------------------------------------------------------------------------------------------- */

static double cpu_of(pid_t pid)
{
	struct timespec ts = {0};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void test_cpu(const char *who)
{
	double from, cpu_from, cpu, took;
	uint64_t bytes = 0;
	pid_t capsule;
	int64_t fd;

	begin("/usr/bin/works");
	capsule = vm_view(0).capsule_pid;
	fd = opened("/data/big", O_RDONLY);
	from = seconds();
	cpu_from = cpu_of(capsule);
	do
		bytes += (uint64_t)read_much(fd, 1000);
	while (seconds() - from < 1.3);
	await_stopped(from, (cpu_of(capsule) - cpu_from) * 10 - 0.5);
	call(__NR_getuid, 0, 0, 0, 0);
	took = seconds() - from;
	cpu = cpu_of(capsule) - cpu_from;
	/* A tenth of a processor; what is saved in a tenth of a second, a period of the kernel's, and the last call. */
	tap_ok(cpu < took * 0.1 + 0.1, "%s: at cpu=10%% it had %.3f s of a processor in %.2f s, and read %llu MB", who, cpu, took,
	       (unsigned long long)bytes >> 20);
	tap_ok(strstr(vm_view(0).limits, who) != NULL, "as the view says: %s", vm_view(0).limits);
	end();
}

/* On a host that has no cgroups. */
static void test_without(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL)) {
		tap_skip("a host without cgroups", "there can be no mount namespace here");
		return;
	}
	tap_eq(vm_shadow(&shadow, "/usr/bin/net"), DS_AGENT_REFUSED, "without cgroups a rule that names addresses gives no shadow");
	close(shadow.a.fd);
	for (int i = 0; i < 500 && shadows_count(row); i++)
		pump(10);
	test_cpu("cpu: pacing");
	tap_ok(vm_view(0).paced_ns > 0, "for which it was stopped");
}

static void prepare(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(name);
	char path[128];
	int fd;

	snprintf(top, sizeof(top), "/tmp/host_limits.XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0777))
		err(2, "%s", top);
	snprintf(path, sizeof(path), "%s/big", top);
	fd = open(path, O_WRONLY | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, FILE_BYTES))
		err(2, "%s", path);
	close(fd);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof(name)) || listen(listener, 4) ||
	    getsockname(listener, (struct sockaddr *)&name, &bytes))
		err(2, "listen");
	port = ntohs(name.sin_port);
	snprintf(rules, sizeof(rules),
		 "allow program=/usr/bin/reads service=forward executors=2 path=/data:%s:rw read-rate=4M\n"
		 "allow program=/usr/bin/few service=forward path=/data:%s:rw descriptors=10 file-size=16K\n"
		 "allow program=/usr/bin/net service=forward net=host connect=tcp:127.0.0.1:%u family=inet\n"
		 "allow program=/usr/bin/listens service=forward net=host bind=127.0.0.0/8:0\n"
		 "allow program=/usr/bin/receives service=forward net=host receive-rate=2M\n"
		 "allow program=/usr/bin/works service=forward path=/data:%s:ro cpu=10%%\n",
		 top, top, port, top);
}

int main(void)
{
	char command[128];

	signal(SIGPIPE, SIG_IGN);
	umask(0);
	prepare();
	vm_begin(rules);
	test_rate();
	test_counts();
	test_net();
	test_net_rate();
	test_cpu("cpu: ");
	test_without();
	bells_free(bells);
	shadows_free(row);
	tap_eq(left_processes(), 0, "no process is left");
	snprintf(command, sizeof(command), "rm -rf %s", top);
	if (system(command))
		warnx("%s is left", top);
	return tap_done();
}
