/* helper_kernel.c - what the kernel does that the helper, its injection and the library rely on
 *
 * Each check is one property, shown on the running kernel; the name in brackets says who relies on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/tap.h"

#define PAGE 4096ul
#define ERESTART_RESTARTBLOCK 516 /* include/linux/errno.h, never seen without ptrace */
#define ERESTARTSYS 512

static char stack[8][65536] __attribute__((aligned(16)));
static int gate[2]; /* who reads from it waits */

/* A task that shares the memory and nothing else. */
static pid_t make(int slot, int (*fn)(void *), int flags, void *arg)
{
	return clone(fn, stack[slot] + sizeof(stack[slot]), CLONE_VM | flags, arg);
}

static int waits(void *unused)
{
	char c;

	(void)unused;
	return read(gate[0], &c, 1) == 1 ? 7 : 8;
}

static void unseen_child(void)
{
	pid_t helper = make(0, waits, 0, NULL);
	int status;

	tap_ok(wait(NULL) == -1 && errno == ECHILD, "wait() returns ECHILD when the only child has exit signal 0 [inject]");
	tap_ok(waitpid(helper, NULL, WNOHANG) == -1 && errno == ECHILD, "not even by its number");
	tap_eq(waitpid(helper, NULL, WNOHANG | __WCLONE), 0, "with __WCLONE it is found");
	if (write(gate[1], "x", 1) != 1)
		return;
	tap_ok(waitpid(helper, &status, __WCLONE) == helper && WEXITSTATUS(status) == 7, "and reaped [inject_remove]");
}

static int leave_table(void *fd)
{
	return close_range(0, ~0u, CLOSE_RANGE_UNSHARE) || fcntl(*(int *)fd, F_GETFD) != -1;
}

static void descriptors(void)
{
	struct flock lock = {.l_type = F_WRLCK}, test = {.l_type = F_WRLCK};
	int fd = memfd_create("x", 0), status;
	pid_t child;

	fcntl(fd, F_SETLK, &lock);
	child = make(0, leave_table, CLONE_FILES | SIGCHLD, &fd);
	waitpid(child, &status, 0);
	tap_eq(status, 0, "CLOSE_RANGE_UNSHARE takes a task out of a table of descriptors [inject]");
	tap_ok(fcntl(fd, F_GETFD) == 0, "and leaves it to the others");
	child = fork();
	if (child == 0)
		_exit(fcntl(fd, F_GETLK, &test) || test.l_type != F_WRLCK);
	waitpid(child, &status, 0);
	tap_eq(status, 0, "with its locks");
	close(fd);
}

static int read_limit(void *unused)
{
	(void)unused;
	return waits(NULL) - 7;
}

static void limits(void)
{
	struct rlimit zero = {0, 0}, ours;
	pid_t helper = make(0, read_limit, SIGCHLD, NULL);
	int status;

	tap_eq(prlimit(helper, RLIMIT_CORE, &zero, NULL), 0, "the helper's limits are its own [inject]");
	getrlimit(RLIMIT_MEMLOCK, &ours);
	prlimit(helper, RLIMIT_MEMLOCK, &(struct rlimit){4096, 4096}, NULL);
	getrlimit(RLIMIT_MEMLOCK, &zero);
	tap_ok(zero.rlim_cur == ours.rlim_cur, "the program's stay");
	if (write(gate[1], "x", 1) != 1)
		return;
	waitpid(helper, &status, 0);
}

/* --- deaths ------------------------------------------------------------------------------------------------------ */

static volatile pid_t of_thread;

static int dies_with_parent(void *unused)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return waits(unused);
}

static void *short_thread(void *unused)
{
	of_thread = make(1, dies_with_parent, 0, NULL);
	usleep(50000);
	return unused;
}

static void parent_death(void)
{
	pthread_t thread;
	int status = 0;

	pthread_create(&thread, NULL, short_thread, NULL);
	pthread_join(thread, NULL);
	tap_ok(waitpid(of_thread, &status, __WCLONE) == of_thread && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
	       "PDEATHSIG comes when the thread dies that made the task, so only the main thread's helper asks for it [inject]");
}

/* --- fork -------------------------------------------------------------------------------------------------------- */

static void forks(void)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char vec;
	int status;
	pid_t child;

	memset(p, 1, 2 * PAGE);
	madvise(p, PAGE, MADV_DONTFORK);
	madvise(p + PAGE, PAGE, MADV_WIPEONFORK);
	child = fork();
	if (child == 0)
		_exit(mincore(p, PAGE, &vec) != -1 ? 1 : errno != ENOMEM ? 2 : p[PAGE] != 0);
	waitpid(child, &status, 0);
	tap_eq(status, 0, "after fork a DONTFORK page is not there [inject], a WIPEONFORK page is zero [libdsguest]");
	tap_eq(p[0] + p[PAGE], 2, "and the parent's are as they were");
}

/* --- interrupted calls ---------------------------------------------------------------------------------------------- */

static void stop(pid_t pid, struct user_regs_struct *regs)
{
	int status;

	usleep(20000);
	ptrace(PTRACE_SEIZE, pid, NULL, NULL);
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	waitpid(pid, &status, __WALL);
	ptrace(PTRACE_GETREGS, pid, NULL, regs);
}

static void interrupted(const char *name, int (*fn)(void), long nr, long want)
{
	struct user_regs_struct regs = {0};
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(fn());
	stop(child, &regs);
	tap_ok((long)regs.orig_rax == nr && (long)regs.rax == want, "a stop in %s shows its number and %ld, got %ld and %ld [tracee]", name, want,
	       (long)regs.orig_rax, (long)regs.rax);
	if (want == -EINTR) {
		regs.rax = -514; /* ERESTARTNOHAND */
		ptrace(PTRACE_SETREGS, child, NULL, &regs);
	}
	ptrace(PTRACE_DETACH, child, NULL, NULL);
	waitpid(child, &status, 0);
	tap_eq(status, 0, "and after it %s ends as it should", name);
}

static int a_sleep(void)
{
	return syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 60000000}, NULL) != 0;
}

static int a_read(void)
{
	int fds[2];
	char c;

	if (pipe(fds))
		return 9;
	if (fork() == 0) {
		usleep(60000);
		_exit(write(fds[1], "x", 1) != 1);
	}
	return read(fds[0], &c, 1) != 1;
}

static int an_epoll(void)
{
	struct epoll_event ev;

	return syscall(SYS_epoll_wait, epoll_create1(0), &ev, 1, 60) != 0;
}

/* --- pins ------------------------------------------------------------------------------------------------------------ */

static uint64_t frame(const char *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t word = 0;

	if (fd < 0 || pread(fd, &word, 8, (uintptr_t)p / PAGE * 8) != 8)
		word = 0;
	close(fd);
	return word & ((UINT64_C(1) << 55) - 1);
}

/* fork, then a store: the page of whoever stores is copied, unless it is pinned. */
static bool moves(char *p)
{
	uint64_t was = frame(p);
	int status;
	pid_t child;

	child = fork();
	if (child == 0) {
		char c;

		_exit(read(gate[0], &c, 1) != 1);
	}
	*(volatile char *)p = 9;
	if (write(gate[1], "x", 1) != 1)
		return false;
	waitpid(child, &status, 0);
	return frame(p) != was;
}

static void pins(void)
{
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *to;
	struct iovec iov = {p, PAGE};
	int ring;

	*p = 1;
	if (!frame(p)) {
		tap_skip("pins", "frame numbers are hidden without privilege");
		return;
	}
	ring = syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0) {
		tap_skip("pins", "io_uring is not there or forbidden");
		return;
	}
	tap_ok(moves(p), "a page moves when it is stored to after fork");
	tap_eq(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1), 0, "a ring that is disabled registers buffers [inject]");
	tap_ok(!moves(p), "after that the page stays");
	mprotect(p, PAGE, PROT_READ);
	to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	tap_ok(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap puts it over another page");
	mprotect(to, PAGE, PROT_READ | PROT_WRITE);
	tap_ok(!moves(to), "where it is pinned as before [pin]");
}

int main(void)
{
	if (pipe2(gate, O_CLOEXEC))
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	unseen_child();
	descriptors();
	limits();
	parent_death();
	forks();
	interrupted("nanosleep", a_sleep, SYS_nanosleep, -ERESTART_RESTARTBLOCK);
	interrupted("read", a_read, SYS_read, -ERESTARTSYS);
	interrupted("epoll_wait", an_epoll, SYS_epoll_wait, -EINTR);
	pins();
	return tap_done();
}
