/* guard_kernel.c - what the jail and the guard (runtime/host) rely on, on the running kernel
 *
 * Each assumption is proved with plain system calls; a kernel on which one does not hold cannot keep a shadow that has
 * been taken over, and this says which.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

#define PAGE 4096ul
#define NR_PIDFD_OPEN 434
#define NR_PIDFD_GETFD 438
#define WAIT_KILLABLE (1ul << 5) /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19 */
#define TIMEOUT_MS 5000
#define MARK 0x6b6e6f63

/* mmap() with a file is reported, everything else passes. */
static const struct sock_filter notify_mmap[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 0, 3),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

/* What a child that is guarded shares with us. */
struct common {
	volatile int listener, ready, handled;
	volatile long result;
	volatile pid_t tid;
};
static struct common *common;
static int file_fd;

static int set_filter(const struct sock_filter *ins, size_t n, unsigned long flags)
{
	const struct sock_fprog prog = {.len = (unsigned short)n, .filter = (struct sock_filter *)ins};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

/* A child that has armed itself and makes one reported call, whose result it leaves in common.  Return: its listener. */
static int guarded_child(pid_t *pid, void (*before)(void), int pidfd_out[static 1])
{
	int listener, pidfd;

	memset(common, 0, sizeof(*common));
	fflush(stdout);
	*pid = fork();
	if (!*pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (before)
			before();
		common->tid = getpid();
		common->listener = set_filter(notify_mmap, 6, SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE);
		common->ready = 1;
		while (common->ready != 2)
			usleep(100);
		close(common->listener);
		errno = 0;
		common->result = (long)mmap((void *)0x10000000, 3 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file_fd, (off_t)(5 * PAGE));
		if (common->result == -1)
			common->result = -errno;
		common->ready = 3;
		for (;;)
			pause();
	}
	while (!common->ready)
		usleep(100);
	pidfd = (int)syscall(NR_PIDFD_OPEN, *pid, 0);
	listener = (int)syscall(NR_PIDFD_GETFD, pidfd, common->listener, 0);
	if (listener < 0)
		err(2, "pidfd_getfd");
	common->ready = 2;
	*pidfd_out = pidfd;
	return listener;
}

static void end_child(pid_t pid, int pidfd, int listener)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(pidfd);
	if (listener >= 0)
		close(listener);
}

static bool readable(int fd, short *revents, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool got = poll(&p, 1, timeout_ms) > 0;

	*revents = p.revents;
	return got;
}

static void await_result(void)
{
	for (int i = 0; i < TIMEOUT_MS * 10 && common->ready != 3; i++)
		usleep(100);
}

/* --- notifications -------------------------------------------------------------------------------------------------- */

static void on_signal(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info, (void)context;
	common->handled++;
}

static void with_handler(void)
{
	const struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	sigaction(SIGUSR1, &act, NULL);
}

static long syscall_of(pid_t pid)
{
	char path[64];
	long nr = -2;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, pid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%ld", &nr) != 1)
		nr = -3; /* running */
	if (f)
		fclose(f);
	return nr;
}

static void test_arguments(void)
{
	struct seccomp_notif n = {0};
	struct seccomp_notif_resp resp = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
	short revents;
	char path[64];
	struct stat st;
	pid_t pid;
	int pidfd, listener = guarded_child(&pid, with_handler, &pidfd);

	tap_ok(readable(listener, &revents, TIMEOUT_MS) && revents == POLLIN, "a reported call makes the listener readable");
	tap_eq(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n), 0, "and is received");
	tap_ok(n.pid == (uint32_t)pid && n.data.nr == __NR_mmap && n.data.args[0] == 0x10000000 && n.data.args[1] == 3 * PAGE &&
		       n.data.args[2] == PROT_READ && n.data.args[3] == (MAP_SHARED | MAP_FIXED) && (int)n.data.args[4] == file_fd &&
		       n.data.args[5] == 5 * PAGE, "with who makes it, its number and its six registers");
	tap_eq(syscall_of(pid), __NR_mmap, "its caller is seen to be in mmap() meanwhile");
	/* whoever changes its registers would have to interrupt it */
	kill(pid, SIGUSR1);
	usleep(20000);
	tap_ok(!common->handled && syscall_of(pid) == __NR_mmap, "a signal's handler does not run between the report and the answer");
	resp.id = n.id;
	tap_eq(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp), 0, "it is let pass");
	await_result();
	tap_eq(common->result, 0x10000000, "and done");
	tap_eq(common->handled, 1, "the handler runs after it");
	snprintf(path, sizeof(path), "/proc/%d/map_files/10000000-10003000", pid);
	tap_ok(!lstat(path, &st), "what is mapped is what was reported");
	for (int i = 0; i < 1000 && syscall_of(pid) != __NR_pause; i++)
		usleep(1000);
	tap_eq(syscall_of(pid), __NR_pause, "afterwards the caller is seen to be elsewhere");
	end_child(pid, pidfd, -1);
	tap_ok(readable(listener, &revents, TIMEOUT_MS) && revents & POLLHUP, "when the process is gone its listener hangs up");
	close(listener);
}

static void test_answers(void)
{
	struct seccomp_notif n = {0};
	struct seccomp_notif_resp resp = {.val = MARK};
	short revents;
	pid_t pid;
	int pidfd, listener = guarded_child(&pid, NULL, &pidfd);

	readable(listener, &revents, TIMEOUT_MS);
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n))
		err(2, "RECV");
	resp.id = n.id;
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
	await_result();
	tap_eq(common->result, MARK, "a call can be answered with a value, undone");
	tap_ok(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) && errno == ENOENT, "once");
	end_child(pid, pidfd, listener);

	listener = guarded_child(&pid, NULL, &pidfd);
	close(listener);
	await_result();
	tap_eq(common->result, -ENOSYS, "with nobody at the listener the call fails");
	end_child(pid, pidfd, -1);
}

/* A call that is taken back between poll() and RECV does not make RECV wait. */
static void test_withdrawn(void)
{
	struct seccomp_notif n = {0};
	struct itimerval alarm_in = {.it_value = {.tv_sec = 2}};
	const struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	short revents;
	pid_t pid;
	int pidfd, listener = guarded_child(&pid, with_handler, &pidfd), rc, why;

	readable(listener, &revents, TIMEOUT_MS);
	ptrace(PTRACE_SEIZE, pid, NULL, NULL);
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	waitpid(pid, NULL, __WALL);
	tap_ok(!readable(listener, &revents, 0), "a call that is interrupted before it is received is taken back");
	sigaction(SIGALRM, &act, NULL); /* no SA_RESTART: would end the wait with EINTR */
	setitimer(ITIMER_REAL, &alarm_in, NULL);
	rc = ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n), why = errno;
	alarm_in.it_value.tv_sec = 0;
	setitimer(ITIMER_REAL, &alarm_in, NULL);
	tap_ok(rc && why == ENOENT, "to receive it says ENOENT at once");
	if (ptrace(PTRACE_DETACH, pid, NULL, NULL))
		err(2, "PTRACE_DETACH");
	tap_ok(readable(listener, &revents, TIMEOUT_MS), "and it is made again");
	end_child(pid, pidfd, listener);
}

static void test_filters(void)
{
	static const struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	static const struct sock_filter no_getppid[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_filter got[16];
	pid_t pid;

	memset(common, 0, sizeof(*common));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		set_filter(no_getppid, 4, 0);
		set_filter(allow, 1, 0);
		common->result = syscall(__NR_getppid) < 0 ? -errno : 0;
		common->handled = set_filter(notify_mmap, 6, SECCOMP_FILTER_FLAG_NEW_LISTENER) >= 0 &&
				  set_filter(notify_mmap, 6, SECCOMP_FILTER_FLAG_NEW_LISTENER) < 0 && errno == EBUSY;
		common->ready = 3;
		for (;;)
			pause();
	}
	await_result();
	tap_eq(common->result, -EXDEV, "of two filters the stricter counts, whichever came first");
	tap_ok(common->handled, "a process has one listener, not two");
	ptrace(PTRACE_SEIZE, pid, NULL, NULL);
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	waitpid(pid, NULL, __WALL);
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, NULL) < 0 && errno != EINVAL) {
		tap_skip("the oldest filter is read back as number 0", strerror(errno));
	} else {
		long n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, got);

		tap_ok(n == 4 && !memcmp(got, no_getppid, sizeof(no_getppid)), "the oldest filter is read back as number 0, as it was made");
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* --- memory --------------------------------------------------------------------------------------------------------- */

static void test_read_only(void)
{
	char path[64];
	int ro;
	void *at;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	tap_ok(at != MAP_FAILED && mprotect(at, PAGE, PROT_READ | PROT_WRITE) && errno == EACCES,
	       "a shared mapping by a descriptor open for reading cannot be made writable");
	tap_ok(mmap(at, PAGE, PROT_WRITE, MAP_SHARED | MAP_FIXED, ro, 0) == MAP_FAILED && errno == EACCES, "nor mapped writable");
	munmap(at, PAGE);
	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file_fd, 0);
	tap_eq(mprotect(at, PAGE, PROT_READ | PROT_WRITE), 0, "one by a writable descriptor can");
	munmap(at, PAGE);
	close(ro);
}

/* What tells the two apart from outside: the permission of a link, looked at through a mount of proc that is new. */
static bool link_writable(void *at)
{
	char path[96];
	int fs = (int)syscall(__NR_fsopen, "proc", FSOPEN_CLOEXEC), mount;
	struct stat st = {0};

	syscall(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	mount = (int)syscall(__NR_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	snprintf(path, sizeof(path), "%d/map_files/%lx-%lx", getpid(), (unsigned long)at, (unsigned long)at + PAGE);
	if (mount < 0 || fstatat(mount, path, &st, AT_SYMLINK_NOFOLLOW))
		err(2, "%s", path);
	close(mount);
	close(fs);
	return st.st_mode & S_IWUSR;
}

static void test_links(void)
{
	char path[64];
	void *at;
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	tap_ok(!link_writable(at), "the link of a mapping that cannot be made writable says so");
	mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file_fd, 0);
	tap_ok(link_writable(at), "so does the link of one that can, though it is not writable now");
	mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 0);
	tap_ok(!link_writable(at), "and again");
	munmap(at, PAGE);
	close(ro);
}

static void test_noreplace(void)
{
	void *at = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	tap_ok(mmap((char *)at + 2 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED &&
		       errno == EEXIST, "MAP_FIXED_NOREPLACE says when something is in the way");
	munmap(at, 3 * PAGE);
}

/* --- life and death ------------------------------------------------------------------------------------------------- */

/* A grandchild in a pid namespace of its own whose parent dies; @ignore: it tries to be deaf. */
static void test_death(void)
{
	int pidfd;
	short revents;
	pid_t parent;

	memset(common, 0, sizeof(*common));
	fflush(stdout);
	parent = fork();
	if (!parent) {
		pid_t child = (pid_t)syscall(__NR_clone, CLONE_NEWPID | CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

		if (!child) {
			sigset_t all;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sigfillset(&all);
			sigprocmask(SIG_SETMASK, &all, NULL);
			common->result = getpid();
			common->ready = 3;
			for (;;)
				pause();
		}
		common->tid = child;
		for (;;)
			pause();
	}
	await_result();
	while (!common->tid)
		usleep(100);
	if (common->tid < 0) {
		tap_skip("the first process of a pid namespace dies with its parent", "no user namespaces here");
		kill(parent, SIGKILL);
		waitpid(parent, NULL, 0);
		return;
	}
	tap_eq(common->result, 1, "a process in a pid namespace of its own is number 1");
	pidfd = (int)syscall(NR_PIDFD_OPEN, common->tid, 0);
	tap_ok(pidfd >= 0 && !readable(pidfd, &revents, 50), "it lives");
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	tap_ok(readable(pidfd, &revents, TIMEOUT_MS), "when its parent dies it is killed, though it is an init");
	close(pidfd);
}

static int program(const char *path, const char *root)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), status;
	char *argv[] = {(char *)"x", NULL}, *envp[] = {NULL};
	pid_t pid;

	if (fd < 0)
		return -1;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (chroot(root) || chdir("/") || setresuid(65534, 65534, 65534))
			_exit(111);
		syscall(__NR_close_range, 0, 2, 0);
		syscall(__NR_execveat, fd, "", argv, envp, 0x1000 /* AT_EMPTY_PATH */);
		_exit(errno == ENOENT || errno == EACCES ? 112 : 113);
	}
	waitpid(pid, &status, 0);
	close(fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

static void test_exec(void)
{
	const char *bin = getenv("BIN");
	char root[] = "/tmp/guard_kernel.XXXXXX", capsule[4096];

	if (!mkdtemp(root) || chmod(root, 0))
		err(2, "mkdtemp");
	snprintf(capsule, sizeof(capsule), "%s/../shadow/calls", bin ? bin : "build/bin");
	tap_eq(program(capsule, root), 3, "a static program is executed by descriptor in an empty root (it finds no channel, and ends)");
	tap_eq(program("/proc/self/exe", root), 112, "one that needs an interpreter is not");
	rmdir(root);
}

static void test_dumpable(void)
{
	int pidfd, got;
	pid_t pid;

	memset(common, 0, sizeof(*common));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (setresuid(65534, 65534, 65534) || prctl(PR_SET_DUMPABLE, 0))
			_exit(1);
		common->ready = 3;
		for (;;)
			pause();
	}
	await_result();
	pidfd = (int)syscall(NR_PIDFD_OPEN, pid, 0);
	got = (int)syscall(NR_PIDFD_GETFD, pidfd, file_fd, 0);
	tap_ok(got >= 0, "root takes a descriptor from a process that is not dumpable");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(got);
	close(pidfd);
}

int main(void)
{
	common = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	file_fd = memfd_create("ram", MFD_CLOEXEC);
	if (common == MAP_FAILED || file_fd < 0 || ftruncate(file_fd, 64 * (off_t)PAGE))
		err(2, "memfd");
	test_arguments();
	test_answers();
	test_withdrawn();
	test_filters();
	test_read_only();
	test_links();
	test_noreplace();
	test_death();
	test_exec();
	test_dumpable();
	return tap_done();
}
