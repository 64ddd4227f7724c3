/* host_hostile.c - what else a shadow that has been taken over can do: nothing
 *
 * Every system call number there is, the calls that are there for the capsule used for something else, calls that a
 * service was granted used on the RAM, other processes, memory and threads without end, and surviving its warden.
 */
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/hostile.h"

#define NR_MAX 600
#define CLONE_SAME (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define BUF(n) (HOSTILE_BUFFER + (n))

/* What a capsule uses when it runs, told by what it is for; see the names in runtime/shadow. */
static const int used[] = {
	__NR_recvmsg, __NR_sendto,				    /* the channel */
	__NR_pread64, __NR_lseek, __NR_close,			    /* a map that comes with an update */
	__NR_mmap, __NR_munmap, __NR_mprotect, __NR_prctl,	    /* the mirror, moving */
	__NR_futex, __NR_clone, __NR_tgkill, __NR_gettid, __NR_getpid, /* executors */
	__NR_rt_sigaction, __NR_rt_sigreturn, __NR_restart_syscall, __NR_clock_gettime, __NR_sched_yield,
	__NR_getrandom,						    /* a place */
	__NR_exit, __NR_exit_group,
};
/*
 * Not tried with senseless arguments: they end the thread, the process, or the memory.  335 and 336 are uretprobe and
 * uprobe, which newer kernels let through every filter, and which are a SIGILL to who is not being probed.
 */
static const int deadly[] = {__NR_exit, __NR_exit_group, __NR_rt_sigreturn, __NR_munmap, 335, 336};

static bool is_in(int nr, const int *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == nr)
			return true;
	return false;
}
#define IN(nr, list) is_in(nr, list, sizeof(list) / sizeof(list[0]))

static void sweep(uint64_t bits, const char *which)
{
	unsigned int through = 0, missing = 0, tried = 0;

	for (int first = 0; first < NR_MAX; first += HOSTILE_CALLS_MAX) {
		struct hostile_request r = {.op = HOSTILE_SWEEP, .call = {{(int64_t)(bits | (unsigned int)first), {0}}}};

		for (size_t i = 0; !bits && i < sizeof(deadly) / sizeof(deadly[0]); i++)
			r.skip[deadly[i] / 64] |= 1ull << deadly[i] % 64;
		if (hostile_ask(&r) != DS_SHADOW_MESSAGE) {
			tap_ok(false, "calls from %d on: no answer", first);
			return;
		}
		for (int i = 0; i < HOSTILE_CALLS_MAX; i++) {
			int nr = first + i;
			bool refused = answered.result[i] == -EPERM || (!bits && nr == 435 && answered.result[i] == -ENOSYS);

			if (!bits && IN(nr, deadly))
				continue;
			tried++;
			/* those that check their arguments refuse these with EPERM, too: nothing is said of them here */
			if (!refused && (bits || !IN(nr, used))) {
				through++;
				printf("# call %d says %" PRId64 "\n", nr, answered.result[i]);
			}
			missing += !bits && !refused && IN(nr, used);
		}
	}
	tap_eq(through, 0, "%u call numbers%s: none is let through that a capsule does not use", tried, which);
	if (!bits)
		tap_ok(missing > 8, "and those that it uses are (%u of them with any arguments)", missing);
}

struct attempt {
	const char *what;
	long nr;
	uint64_t args[6];
	int64_t want;
};

static void try_all(const struct attempt *a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const uint64_t *w = a[i].args;
		int64_t got = hostile_call(a[i].nr, w[0], w[1], w[2], w[3], w[4], w[5]);

		if (!tap_ok(got == a[i].want, "%s: %s", a[i].want < 0 ? strerror((int)-a[i].want) : "passes", a[i].what))
			printf("# got %" PRId64 "\n", got);
	}
}
#define TRY(list) try_all(list, sizeof(list) / sizeof(list[0]))

/* Calls that a capsule has, used for what it has not got them for. */
static void test_misused(void)
{
	static const struct attempt list[] = {
		{"the RAM is not read", __NR_pread64, {DS_SHADOW_RAM_FD, BUF(0), 64, 0}, -EPERM},
		{"nor by the other descriptor", __NR_pread64, {DS_SHADOW_RAM_RO_FD, BUF(0), 64, 0}, -EPERM},
		{"nor by its number with bits above 32", __NR_pread64, {DS_SHADOW_RAM_FD | 1ull << 32, BUF(0), 64, 0}, -EPERM},
		{"the RAM's descriptor is not closed", __NR_close, {DS_SHADOW_RAM_FD}, -EPERM},
		{"nor the other", __NR_close, {DS_SHADOW_RAM_RO_FD}, -EPERM},
		{"nor asked for its length", __NR_lseek, {DS_SHADOW_RAM_FD, 0, SEEK_END}, -EPERM},
		{"nor sent to", __NR_sendto, {DS_SHADOW_RAM_FD, BUF(0), 1}, -EPERM},
		{"nor made to be another number", __NR_dup, {DS_SHADOW_RAM_FD}, -EPERM},
		{"nor replaced", __NR_dup2, {DS_SHADOW_CTL_FD, DS_SHADOW_RAM_FD}, -EPERM},
		{"a descriptor that is not there is as ever", __NR_close, {40}, -EBADF},
		{"the mortal tie to the warden is not cut", __NR_prctl, {PR_SET_PDEATHSIG, 0}, -EPERM},
		{"it is not made dumpable", __NR_prctl, {PR_SET_DUMPABLE, 1}, -EPERM},
		{"nor named as something else", __NR_prctl, {PR_SET_NAME, BUF(0)}, -EPERM},
		{"nor shown to be executed from something else", __NR_prctl, {PR_SET_MM, PR_SET_MM_EXE_FILE, 3}, -EPERM},
		{"no process", __NR_clone, {SIGCHLD}, -EPERM},
		{"no process that shares memory", __NR_clone, {CLONE_VM | SIGCHLD}, -EPERM},
		{"no thread with descriptors of its own", __NR_clone, {CLONE_SAME & ~(uint64_t)CLONE_FILES}, -EPERM},
		{"no thread in a namespace of its own", __NR_clone, {CLONE_SAME | CLONE_NEWUSER}, -EPERM},
		{"no thread by bits above 32", __NR_clone, {CLONE_SAME | 1ull << 33}, -EPERM},
		{"clone3() is not there", 435, {BUF(0), 88}, -ENOSYS},
		{"nobody else is there to be signalled", __NR_tgkill, {2, 2, SIGKILL}, -ESRCH},
		{"whoever it is", __NR_tgkill, {1000, 1000, SIGKILL}, -ESRCH},
		{"it is the first of its processes", __NR_getpid, {0}, 1},
		{"no filter of its own", __NR_seccomp, {1, 8, BUF(0)}, -EPERM},
		{"no program", __NR_execveat, {DS_SHADOW_CTL_FD, BUF(0), 0, 0, 0x1000}, -EPERM},
		{"no file", __NR_openat, {(uint64_t)-100, BUF(0), 0}, -EPERM},
		{"no socket", __NR_socket, {1, 1, 0}, -EPERM},
		{"no pair of sockets to send a descriptor through", __NR_socketpair, {1, 1, 0, BUF(0)}, -EPERM},
		{"no message with a descriptor in it", __NR_sendmsg, {DS_SHADOW_CTL_FD, BUF(0), 0}, -EPERM},
		{"no ioctl()", __NR_ioctl, {DS_SHADOW_CTL_FD, 0x5401, BUF(0)}, -EPERM},
		{"no protection key", __NR_pkey_mprotect, {A_VPN * PAGE, PAGE, 3, (uint64_t)-1}, -EPERM},
		{"no futex with priority inheritance", __NR_futex, {BUF(0), 6 | 128, 0}, -EPERM},
		{"no futex requeued", __NR_futex, {BUF(0), 3 | 128, 0}, -EPERM},
		{"a futex woken", __NR_futex, {BUF(0), 1 | 128, 1}, 0},
		{"an unknown protection", __NR_mprotect, {A_VPN * PAGE, PAGE, 0x01000000}, -EPERM},
	};

	TRY(list);
}

/* With a socket there is nobody to talk to. */
static void test_network(void)
{
	const int64_t fd = hostile_call(__NR_socket, 2, 1, 0, 0, 0, 0);
	struct hostile_request r = {.op = HOSTILE_CALLS,
				    .ncalls = 3,
				    .call = {{__NR_ioctl, {(uint64_t)fd, 0x8912 /* SIOCGIFCONF */, BUF(64)}},
					     {__NR_bind, {(uint64_t)fd, BUF(0), 16}},
					     {__NR_connect, {(uint64_t)fd, BUF(0), 16}}},
				    .bytes = {2, 0, 0x1f, 0x90, 127, 0, 0, 1}}; /* 127.0.0.1:8080 */
	int length;

	tap_ok(fd >= 0, "with socket() granted there is a socket");
	hostile_ask(&r);
	memcpy(&length, answered.bytes + 64, sizeof(length));
	tap_ok(answered.result[0] == 0 && length == 0, "but a network without an interface that is up");
	if (shadow.jail.landlock >= 4)
		tap_ok(answered.result[1] == -EACCES && answered.result[2] == -EACCES, "and no TCP in it, by landlock");
	else
		tap_skip("and no TCP in it, by landlock", "this kernel's landlock knows no network");
}

/* A service that has been granted calls cannot use them on the RAM. */
static void test_granted(void)
{
	static const struct filter_call calls[] = {{__NR_read, 0}, {__NR_write, 0}, {__NR_dup, 0}, {__NR_dup2, 0}, {__NR_dup3, 0},
						   {__NR_fcntl, 0}, {__NR_ftruncate, 0}, {__NR_splice, 0}, {__NR_pipe2, 0},
						   {__NR_openat, 0}, {__NR_ioctl, 0}, {__NR_socket, 0}, {__NR_fallocate, 0},
						   {__NR_getdents64, 0}, {__NR_bind, 0}, {__NR_connect, 0}, {__NR_mkdirat, 0}, {__NR_copy_file_range, 0}};
	const struct filter_want want = {.calls = calls, .ncalls = sizeof(calls) / sizeof(calls[0])};
	static const struct attempt list[] = {
		{"a pipe", __NR_pipe2, {BUF(64), 0}, 0},
		{"a write to it (it has descriptors 0 and 1)", __NR_write, {1, BUF(0), 8}, 8},
		{"a read from it", __NR_read, {0, BUF(0), 8}, 8},
		{"no read of the RAM", __NR_read, {DS_SHADOW_RAM_FD, BUF(0), 8}, -EPERM},
		{"no write", __NR_write, {DS_SHADOW_RAM_FD, BUF(0), 8}, -EPERM},
		{"no write", __NR_write, {DS_SHADOW_RAM_RO_FD, BUF(0), 8}, -EPERM},
		{"no second number", __NR_dup, {DS_SHADOW_RAM_FD}, -EPERM},
		{"no second number", __NR_dup2, {DS_SHADOW_RAM_FD, 30}, -EPERM},
		{"no other file by its number", __NR_dup2, {0, DS_SHADOW_RAM_RO_FD}, -EPERM},
		{"nor by the other", __NR_dup3, {0, DS_SHADOW_RAM_FD, 0}, -EPERM},
		{"not the writable one by the number of the other", __NR_dup3, {DS_SHADOW_RAM_FD, DS_SHADOW_RAM_RO_FD, 0}, -EPERM},
		{"no second number", __NR_fcntl, {DS_SHADOW_RAM_FD, F_DUPFD, 20}, -EPERM},
		{"no holes", __NR_ftruncate, {DS_SHADOW_RAM_FD, 0}, -EPERM},
		{"no holes", __NR_fallocate, {DS_SHADOW_RAM_FD, 3, 0, PAGE}, -EPERM},
		{"no splice from it", __NR_splice, {DS_SHADOW_RAM_FD, 0, 1, 0, 8, 0}, -EPERM},
		{"no splice to it", __NR_splice, {0, 0, DS_SHADOW_RAM_FD, 0, 8, 0}, -EPERM},
		{"no copy from it", __NR_copy_file_range, {DS_SHADOW_RAM_FD, 0, 1, 0, 8, 0}, -EPERM},
		{"no ioctl() on it", __NR_ioctl, {DS_SHADOW_RAM_FD, 0x5451, 0}, -EPERM},
		{"its end of the channel is not made to block its warden", __NR_fcntl, {DS_SHADOW_CTL_FD, F_SETFL, 0}, -EPERM},
		{"nor is the userfaultfd, whose file the warden reads too", __NR_fcntl, {DS_SHADOW_FAULT_FD, F_SETFL, 0}, -EPERM},
		{"nor by the other way", __NR_ioctl, {DS_SHADOW_FAULT_FD, 0x5421 /* FIONBIO */, BUF(64)}, -EPERM},
		{"no fault is taken from the warden", __NR_read, {DS_SHADOW_FAULT_FD, BUF(0), 32}, -EPERM},
		{"an other descriptor gets a second number", __NR_dup2, {0, 30}, 30},
	};
	static const char *const paths[] = {"/", ".", "..", "/proc/self/maps", "/etc/passwd", "/dev/mem", "../../../etc/passwd",
					    "/proc/1/root/etc/passwd", "/sys"};
	unsigned int opened = 0;

	hostile_start(&want, 64 << 20);
	TRY(list);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct hostile_request r = {.op = HOSTILE_CALLS, .ncalls = 4,
					    .call = {{__NR_openat, {(uint64_t)-100, BUF(0), O_RDONLY}},
						     {__NR_openat, {(uint64_t)-100, BUF(0), O_PATH | O_DIRECTORY}},
						     {__NR_openat, {(uint64_t)-100, BUF(0), O_RDWR | O_CREAT, 0600}},
						     {__NR_mkdirat, {(uint64_t)-100, BUF(0), 0700}}}};

		strcpy((char *)r.bytes, paths[i]);
		hostile_ask(&r);
		for (int k = 0; k < 4; k++)
			opened += answered.result[k] >= 0 && !(k == 1 && i < 3); /* the empty root itself, as a place only */
	}
	tap_eq(opened, 0, "with openat() granted there is nothing to open or make in its root");
	test_network();
	hostile_end();
}

/*
 * The parent of a shadow dies.  We have its end of the channel meanwhile: the shadow does not see it closed, which would
 * make the capsule's own thread end it.
 */
static void test_outlive(void)
{
	int pipes[2], pidfd, warden_fd, ctl;
	struct pollfd p = {.events = POLLIN};
	struct {
		pid_t pid;
		int ctl;
	} told = {0};
	pid_t warden;

	if (pipe2(pipes, O_CLOEXEC))
		err(2, "pipe");
	fflush(stdout);
	warden = fork();
	if (!warden) {
		static const struct filter_want want;
		struct hostile_request r = {.op = HOSTILE_SPIN, .call = {{__NR_prctl, {PR_SET_PDEATHSIG, 0}}}};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		hostile_start(&want, 64 << 20);
		hostile_send(&r);
		told.pid = shadow.jail.pid;
		told.ctl = shadow.h.ctl;
		if (write(pipes[1], &told, sizeof(told)) != sizeof(told))
			_exit(1);
		pause();
		_exit(0);
	}
	close(pipes[1]);
	if (read(pipes[0], &told, sizeof(told)) != sizeof(told))
		err(2, "no warden");
	close(pipes[0]);
	warden_fd = (int)syscall(434, warden, 0);
	ctl = (int)syscall(438, warden_fd, told.ctl, 0);
	pidfd = (int)syscall(434, told.pid, 0);
	p.fd = pidfd;
	tap_ok(pidfd >= 0 && ctl >= 0 && poll(&p, 1, 100) == 0, "a shadow that spins lives as long as its warden");
	kill(warden, SIGKILL);
	waitpid(warden, NULL, 0);
	tap_ok(poll(&p, 1, HOST_TIMEOUT_MS) == 1, "and not longer");
	close(pidfd);
	close(ctl);
	close(warden_fd);
}

/* Without a cgroup file system. */
static void test_rlimit(void)
{
	static const char what[] = "without a cgroup memory ends at RLIMIT_DATA";
	static const struct filter_want want;
	const struct hostile_request grab = {.op = HOSTILE_GRAB, .call = {{0, {256 << 20}}}};
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL))
			_exit(77);
		hostile_start(&want, 64 << 20);
		_exit(shadow.jail.memory == JAIL_MEMORY_RLIMIT && hostile_ask(&grab) == DS_SHADOW_MESSAGE && answered.result[0] == -ENOMEM &&
				      guarded_update(&shadow, hostile_runs, NRUNS) == DS_SHADOW_STATUS ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		tap_skip(what, "the cgroup file systems cannot be hidden here");
	else
		tap_eq(status, 0, "%s", what);
}

static void test_limits(void)
{
	static const struct filter_want want;
	struct hostile_request grab = {.op = HOSTILE_GRAB, .call = {{0, {256 << 20}}}};
	struct hostile_request threads = {.op = HOSTILE_THREADS};
	struct hostile_request int80 = {.op = HOSTILE_INT80};
	enum jail_memory memory;
	int kind;

	hostile_start(&want, 64 << 20);
	hostile_ask(&threads);
	tap_ok(answered.result[0] == -EAGAIN && answered.result[1] <= 1, "threads end at the limit, after %d", (int)answered.result[1]);
	hostile_end();
	hostile_start(&want, 64 << 20);
	memory = shadow.jail.memory;
	kind = hostile_ask(&grab);
	if (memory == JAIL_MEMORY_RLIMIT)
		tap_ok(kind == DS_SHADOW_MESSAGE && answered.result[0] == -ENOMEM, "memory ends at the limit (RLIMIT_DATA)");
	else
		tap_ok(kind == 0, "with more memory than its limit (%s) it is killed", jail_memory_name(memory));
	tap_ok(hostile_end() == SIGKILL, "and gone");
	hostile_start(&want, 64 << 20);
	tap_eq(hostile_ask(&int80), 0, "a call of another architecture ends it");
	tap_eq(hostile_end() & 0x7f, SIGSYS, "by SIGSYS");
}

int main(void)
{
	static const struct filter_want want;

	hostile_start(&want, 64 << 20);
	sweep(0, "");
	sweep(0x40000000, " of the x32 kind");
	test_misused();
	tap_eq(guarded_update(&shadow, hostile_runs, NRUNS), DS_SHADOW_STATUS, "after all that an update passes");
	hostile_end();
	test_granted();
	test_outlive();
	test_limits();
	test_rlimit();
	jailgroup_sweep(); /* of the warden that was killed */
	return tap_done();
}
