/* host_granted.c - system calls of a guest's program, made on the host: from the VM process through warden and jailed capsule
 * into a directory of the host; the guest is played
 *
 * What the calls return is compared with what the host's files hold, looked at directly.
 */
#include "tests/forward_guest.h"

#include <dirent.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <time.h>

#include "runtime/host/policy/callgroup.h"
#include "tests/tap.h"

#define UID 4321
#define PATH 0u	  /* pages of the guest's process: strings, */
#define DATA 40u  /* buffers, */
#define SLOTS 10u /* slots */
#define LATENCY_CALLS 2000

static char top[64], rules[2048];
static struct shadow shadow;
static struct thread t;

static uint64_t path(const char *s)
{
	snprintf((char *)at_host(PATH), PAGE, "%s", s);
	return at_guest(PATH);
}

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return thread_call(&t, nr, a, b, c, d, 0);
}

static int64_t opened(const char *name, int flags)
{
	return call(__NR_openat, (uint64_t)AT_FDCWD, path(name), (uint64_t)flags, 0644);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static const char *host(const char *name)
{
	static char p[256];

	snprintf(p, sizeof(p), "%s/%s", top, name);
	return p;
}

static void put(const char *name, const void *data, size_t bytes, mode_t mode)
{
	int fd = open(host(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes || fchmod(fd, mode) || fchown(fd, UID, UID))
		err(2, "%s", name);
	close(fd);
}

static void make_tree(void)
{
	uint8_t big[3 * PAGE];

	snprintf(top, sizeof(top), "/tmp/host_granted.XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755) || mkdir(host("rw"), 0755) || chown(host("rw"), UID, UID) || mkdir(host("ro"), 0755))
		err(2, "%s", top);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	put("rw/big", big, sizeof(big), 0600);
	put("ro/file", "read me", 7, 0644);
	for (int i = 0; i < 50; i++) {
		char name[32];

		snprintf(name, sizeof(name), "rw/entry-%02d", i);
		put(name, "", 0, 0644);
	}
	snprintf(rules, sizeof(rules),
		 "allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 net=host user=%u calls=file,dir,poll,info,socket "
		 "path=/data:%s/rw:rw path=/ro:%s/ro:ro\n"
		 "allow program=/usr/bin/few service=forward executors=1 calls=info user=%u path=/data:%s/rw:rw\n"
		 "allow program=/usr/bin/none service=forward executors=1 path=/data:%s/nowhere:rw\n",
		 UID, top, top, UID, top, top);
}

static void test_files(void)
{
	const uint8_t *whole[3] = {at_host(DATA), at_host(DATA + 1), at_host(DATA + 2)};
	unsigned int wrong = 0, entries = 0;
	struct stat st, here;
	int64_t fd, n;

	tap_eq(vm_shadow(&shadow, "/usr/bin/guest"), DS_AGENT_STARTED, "a shadow that makes calls starts");
	tap_ok(thread_start(&t, shadow.a.started.token, SLOTS, 0, 0), "a thread of the program has an executor");
	tap_eq(call(__NR_getuid, 0, 0, 0, 0), UID, "it is the rule's user");
	fd = opened("/data/big", O_RDONLY);
	tap_ok(fd >= 0, "a file of the host is opened (descriptor %lld)", (long long)fd);
	for (uint32_t i = 0; i < 3; i++)
		memset(at_host(DATA + i), 0, PAGE);
	n = call(__NR_read, (uint64_t)fd, at_guest(DATA), 3 * PAGE, 0);
	for (size_t i = 0; i < 3 * PAGE; i++)
		wrong += whole[i / PAGE][i % PAGE] != (uint8_t)(i * 7 + i / 251);
	tap_ok(n == (int64_t)(3 * PAGE) && !wrong, "read into three pages of the program: %lld bytes, %u of them wrong", (long long)n, wrong);
	n = call(__NR_fstat, (uint64_t)fd, at_guest(DATA), 0, 0);
	memcpy(&st, at_host(DATA), sizeof(st));
	stat(host("rw/big"), &here);
	tap_ok(n == 0 && st.st_ino == here.st_ino && st.st_dev == here.st_dev && st.st_size == here.st_size && st.st_uid == UID &&
		       st.st_mtim.tv_nsec == here.st_mtim.tv_nsec,
	       "it is the host's file, owner and times included");
	tap_eq(call(__NR_read, (uint64_t)fd, 0x1000, 100, 0), 0, "at its end a bad pointer does not matter");
	tap_eq(call(__NR_pread64, (uint64_t)fd, 0x1000, 100, 0), -EFAULT, "else it is a fault, as for the program's own kernel");
	tap_eq(call(__NR_close, (uint64_t)fd, 0, 0, 0), 0, "and closed");

	fd = opened("/data", O_RDONLY | O_DIRECTORY);
	for (;;) {
		n = call(__NR_getdents64, (uint64_t)fd, at_guest(DATA), PAGE, 0);
		if (n <= 0)
			break;
		for (int64_t at = 0; at < n; entries++)
			at += *(uint16_t *)(void *)(at_host(DATA) + at + 16);
	}
	tap_ok(n == 0 && entries == 53, "a directory is listed: %u entries", entries);
	call(__NR_close, (uint64_t)fd, 0, 0, 0);

	fd = opened("/data/new", O_WRONLY | O_CREAT | O_EXCL);
	memcpy(at_host(DATA), "written by a guest", 18);
	n = call(__NR_write, (uint64_t)fd, at_guest(DATA), 18, 0);
	{
		char text[32] = "";
		int mine = open(host("rw/new"), O_RDONLY);

		tap_ok(n == 18 && read(mine, text, sizeof(text)) == 18 && !memcmp(text, "written by a guest", 18), "a file is written");
		tap_ok(!fstat(mine, &here) && here.st_uid == UID && here.st_gid == UID, "which belongs to the rule's user");
		close(mine);
	}
	call(__NR_close, (uint64_t)fd, 0, 0, 0);
	tap_eq(opened("/ro/file", O_RDWR), -EROFS, "what is to be read only is");
	tap_eq(opened("/etc/passwd", O_RDONLY), -ENOENT, "nothing else is there");
	tap_eq(opened("/data/../../../../etc/passwd", O_RDONLY), -ENOENT, "not by .. either");
}

static void test_threads(void)
{
	struct thread blocked, other;
	int32_t pipe_fd[2];

	tap_eq(call(__NR_pipe2, at_guest(DATA), 0, 0, 0), 0, "a pipe on the host");
	memcpy(pipe_fd, at_host(DATA), sizeof(pipe_fd));
	tap_ok(thread_start(&blocked, shadow.a.started.token, SLOTS, 1, 0), "another thread");
	thread_post(&blocked, __NR_read, (const uint64_t[6]){(uint64_t)pipe_fd[0], at_guest(DATA + 1), 100});
	tap_ok(!thread_done(&blocked, 100) && call(__NR_getppid, 0, 0, 0, 0) == 0, "it is blocked in a read, while the first one goes on");
	memcpy(at_host(DATA + 2), "hello", 5);
	tap_eq(call(__NR_write, (uint64_t)pipe_fd[1], at_guest(DATA + 2), 5, 0), 5, "who writes into the pipe");
	tap_ok(thread_done(&blocked, 3000) && blocked.slot->result == 5 && !memcmp(at_host(DATA + 1), "hello", 5), "what the other then has read");

	thread_post(&blocked, __NR_read, (const uint64_t[6]){(uint64_t)pipe_fd[0], at_guest(DATA + 1), 100});
	tap_ok(!thread_done(&blocked, 100), "it is blocked again");
	thread_interrupt(&blocked);
	tap_ok(thread_done(&blocked, 3000) && blocked.slot->result == -EINTR, "a signal in the guest interrupts it");
	tap_ok(call(__NR_getuid, 0, 0, 0, 0) == UID && vm_view(0).interrupts == 1, "and nobody else");
	tap_eq(thread_call(&blocked, __NR_getuid, 0, 0, 0, 0, 0), UID, "it makes other calls then");

	thread_post(&blocked, __NR_read, (const uint64_t[6]){(uint64_t)pipe_fd[0], at_guest(DATA + 1), 100});
	tap_ok(!thread_done(&blocked, 100), "and is blocked");
	{
		const uint64_t ended = vm_view(0).bells_ended;

		close(blocked.bell);
		for (int i = 0; i < 300 && vm_view(0).bells_ended == ended; i++)
			pump(10);
		tap_eq(vm_view(0).bells_ended, ended + 1, "its thread ends in the guest: the executor comes out of the call and is free");
	}
	tap_ok(thread_start(&other, shadow.a.started.token, SLOTS, 2, 0) && thread_call(&other, __NR_getuid, 0, 0, 0, 0, 0) == UID,
	       "for another thread");
	close(other.bell);
}

/* Pages come and go while threads are blocked in calls. */
static void test_changes(void)
{
	const struct ds_agent_range far = {HEAP_VPN + 200, 8}, near = {HEAP_VPN + DATA + 1, 1};
	struct thread blocked[3];
	unsigned int still = 0, done = 0;
	int32_t pipe_fd[2];

	call(__NR_pipe2, at_guest(DATA), 0, 0, 0);
	memcpy(pipe_fd, at_host(DATA), sizeof(pipe_fd));
	for (uint32_t i = 0; i < 3; i++) {
		if (!thread_start(&blocked[i], shadow.a.started.token, SLOTS, 1 + i, 0))
			errx(2, "no executor");
		thread_post(&blocked[i], __NR_read, (const uint64_t[6]){(uint64_t)pipe_fd[0], at_guest(DATA + 1 + i), 5});
	}
	usleep(50000);
	tap_eq(drop(&shadow, &far, 1), DS_AGENT_DONE, "pages are dropped while three threads are blocked");
	tap_eq(update(&shadow, page, HEAP_PAGES), DS_AGENT_DONE, "and come again");
	tap_eq(drop(&shadow, &near, 1), DS_AGENT_DONE, "the page that one of them reads into is dropped");
	tap_eq(update(&shadow, page, HEAP_PAGES), DS_AGENT_DONE, "and comes again");
	for (int i = 0; i < 3; i++)
		still += !thread_done(&blocked[i], 20);
	memcpy(at_host(DATA + 4), "12345", 5);
	for (int i = 0; i < 3; i++)
		call(__NR_write, (uint64_t)pipe_fd[1], at_guest(DATA + 4), 5, 0);
	for (uint32_t i = 0; i < 3; i++) {
		done += thread_done(&blocked[i], 3000) && blocked[i].slot->result == 5 && !memcmp(at_host(DATA + 1 + i), "12345", 5);
		close(blocked[i].bell);
	}
	tap_ok(still == 3 && done == 3, "they know nothing of it, and read what is written then");
	for (int i = 0; i < 300 && vm_view(0).bells - vm_view(0).bells_ended > 1; i++)
		pump(10);
}

static void test_sockets(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(name);
	const int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	char text[16] = "";
	int64_t fd, n;
	int c;

	if (l < 0 || bind(l, (struct sockaddr *)&name, sizeof(name)) || listen(l, 4) || getsockname(l, (struct sockaddr *)&name, &bytes))
		err(2, "listen");
	fd = call(__NR_socket, AF_INET, SOCK_STREAM, 0, 0);
	memcpy(at_host(DATA), &name, sizeof(name));
	tap_ok(fd >= 0 && call(__NR_connect, (uint64_t)fd, at_guest(DATA), sizeof(name), 0) == 0, "the host's loopback is reached");
	c = accept(l, NULL, NULL);
	memcpy(at_host(DATA), "question", 8);
	n = thread_call(&t, __NR_sendto, (uint64_t)fd, at_guest(DATA), 8, 0, 0);
	tap_ok(n == 8 && read(c, text, sizeof(text)) == 8 && !memcmp(text, "question", 8), "bytes go there");
	if (write(c, "answer", 6) != 6)
		err(2, "write");
	n = thread_call(&t, __NR_recvfrom, (uint64_t)fd, at_guest(DATA), 100, 0, 0);
	tap_ok(n == 6 && !memcmp(at_host(DATA), "answer", 6), "and come back");
	call(__NR_close, (uint64_t)fd, 0, 0, 0);
	close(c);
	close(l);
	tap_eq(call(__NR_socket, AF_UNIX, SOCK_STREAM, 0, 0), -EAFNOSUPPORT, "there are no unix sockets");
}

static void test_refused(void)
{
	static const struct {
		uint64_t nr, a, b, c;
	} bad[] = {
		{__NR_mount, 0, 0, 0}, {__NR_ptrace, 0, 0, 0}, {__NR_execve, 0, 0, 0}, {__NR_fork, 0, 0, 0}, {__NR_kill, 1, 9, 0},
		{__NR_setuid, 0, 0, 0}, {__NR_chroot, 0, 0, 0}, {__NR_unshare, 0, 0, 0}, {__NR_bpf, 0, 0, 0}, {__NR_mmap, 0, 4096, 3},
		{__NR_munmap, 0x400000, 4096, 0}, {__NR_exit_group, 0, 0, 0}, {__NR_prctl, 1, 0, 0}, {100000, 0, 0, 0}, {UINT64_MAX, 0, 0, 0},
	};
	unsigned int let = 0, own = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const int64_t r = call(bad[i].nr, bad[i].a, bad[i].b, bad[i].c, 0);

		let += r != -ENOSYS && r != -EPERM;
	}
	tap_eq(let, 0, "calls that are not for a guest's program are refused");
	for (uint64_t fd = DS_SHADOW_GUEST_FDS; fd < DS_SHADOW_OWN_FDS_END; fd++) {
		own += call(__NR_read, fd, at_guest(DATA), 1, 0) >= 0;
		own += call(__NR_dup, fd, 0, 0, 0) >= 0;
	}
	tap_eq(own, 0, "descriptors of the shadow itself cannot be used");
	tap_eq(call(__NR_getuid, 0, 0, 0, 0), UID, "it still serves");
}

static void test_latency(void)
{
	struct thread fast;
	uint64_t from;
	unsigned int right = 0;

	if (!thread_start(&fast, shadow.a.started.token, SLOTS, 3, 1000000))
		errx(2, "no executor");
	from = now_ns();
	for (int i = 0; i < LATENCY_CALLS; i++) {
		thread_post(&fast, __NR_getppid, (const uint64_t[6]){0});
		for (uint64_t until = now_ns() + 1000000000; now_ns() < until;)
			if (ds_forward_done(fast.slot))
				break;
		right += ds_forward_done(fast.slot);
	}
	printf("# a getppid, both sides spinning: %.2f us\n", (double)(now_ns() - from) / LATENCY_CALLS / 1000);
	close(fast.bell);
	from = now_ns();
	for (int i = 0; i < LATENCY_CALLS; i++)
		right += call(__NR_getppid, 0, 0, 0, 0) == 0;
	printf("# a getppid, both sides asleep: %.2f us\n", (double)(now_ns() - from) / LATENCY_CALLS / 1000);
	tap_eq(right, 2 * LATENCY_CALLS, "%d calls, awake and asleep", 2 * LATENCY_CALLS);
}

static uint64_t cpu_ticks(pid_t pid)
{
	char file[64], text[1024] = "";
	unsigned long long user = 0, system_ = 0;
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%d/stat", pid);
	f = fopen(file, "r");
	if (!f || !fgets(text, sizeof(text), f) || !strrchr(text, ')') ||
	    sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system_) != 2)
		err(2, "%s", file);
	fclose(f);
	return user + system_;
}

static void test_idle(void)
{
	const struct warden_view v = vm_view(0);
	uint64_t before;

	usleep(200000);
	before = cpu_ticks(v.warden_pid) + cpu_ticks(v.capsule_pid);
	usleep(1000000);
	tap_eq(cpu_ticks(v.warden_pid) + cpu_ticks(v.capsule_pid) - before, 0, "with threads that make no calls it takes no CPU time in a second");
}

static void test_rules(void)
{
	struct shadow other;

	tap_ok(vm_end(&shadow), "the program ends, and its shadow");
	close(t.bell);
	tap_eq(vm_shadow(&other, "/usr/bin/few"), DS_AGENT_STARTED, "a shadow under another rule");
	tap_ok(thread_start(&t, other.a.started.token, SLOTS, 0, 0) && call(__NR_getuid, 0, 0, 0, 0) == UID, "has the calls it was granted");
	tap_eq(opened("/data/big", O_RDONLY), -EPERM, "and no others");
	tap_eq(call(__NR_socket, AF_INET, SOCK_STREAM, 0, 0), -EPERM, "of any group");
	close(t.bell);
	vm_end(&other);
	tap_ok(vm_shadow(&other, "/usr/bin/none") == DS_AGENT_REFUSED && strstr(other.a.refused.text, "/data") &&
		       !strstr(other.a.refused.text, "nowhere"),
	       "a rule whose place is not there: \"%s\", and the host's path is for the host's log", other.a.refused.text);
	close(other.a.fd);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	make_tree();
	vm_begin(rules);
	test_files();
	test_threads();
	test_changes();
	test_sockets();
	test_refused();
	test_latency();
	test_idle();
	tap_ok(vm_view(0).forwarded > LATENCY_CALLS, "calls are counted (%llu)", (unsigned long long)vm_view(0).forwarded);
	test_rules();
	bells_free(bells);
	shadows_free(row);
	tap_eq(left_processes(), 0, "no process is left");
	{
		char cmd[128];

		snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
		if (system(cmd))
			warnx("%s is left", top);
	}
	return tap_done();
}
