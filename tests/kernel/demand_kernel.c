/* demand_kernel.c - what a mirror that faults (runtime/shadow/demand.c, runtime/host/demand.c) relies on, on the running kernel
 *
 * In each child one page range is registered with a userfaultfd made from /dev/userfaultfd; a thread (or the parent process)
 * plays who answers faults: it maps a page of a memfd over the place and wakes.  Page i of the memfd begins with i + 1.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/tap.h"

#define PAGE 4096ul
#define PAGES 64ul
#define SKIPPED 77
#define SECONDS 10

static const char *why = "";
static char *area;	  /* PAGES pages that fault */
static int dev_fd, uffd, ram_fd;
static volatile unsigned int faults;

/* Runs @fn in a child.  Return: its exit status; 128 + signal. */
static int in_child(int (*fn)(void))
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(SECONDS);
		_exit(fn());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(2, "fork");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void holds(int (*fn)(void), const char *what)
{
	int status = in_child(fn);

	if (status == SKIPPED)
		tap_skip(what, why);
	else if (!tap_ok(status == 0, "%s", what))
		printf("# status %d\n", status);
}

/* --- tools ------------------------------------------------------------------------------------------------------- */

static int new_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = ioctl(dev_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api))
		return -1;
	return fd;
}

static int try_register(int fd, void *at, unsigned long npages)
{
	struct uffdio_register reg = {{(uintptr_t)at, npages * PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

static void wake(void *at, unsigned long npages)
{
	struct uffdio_range range = {(uintptr_t)at, npages * PAGE};

	if (ioctl(uffd, UFFDIO_WAKE, &range))
		err(2, "UFFDIO_WAKE");
}

/* Memory without access, registered, then accessible: as the capsule covers. */
static void cover(void *at, unsigned long npages)
{
	if (mmap(at, npages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    try_register(uffd, at, npages) || mprotect(at, npages * PAGE, PROT_READ | PROT_WRITE))
		err(2, "cover");
}

static void map(unsigned long page)
{
	if (mmap(area + page * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram_fd, (off_t)(page * PAGE)) == MAP_FAILED)
		err(2, "mmap");
}

/* Waits for a fault and reads it.  Return: its page in the area. */
static unsigned long read_fault(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct uffd_msg msg;

	do
		poll(&p, 1, -1);
	while (read(fd, &msg, sizeof(msg)) != sizeof(msg) && errno == EAGAIN);
	faults++;
	return (msg.arg.pagefault.address - (uintptr_t)area) / PAGE;
}

static bool has_fault(void)
{
	struct pollfd p = {.fd = uffd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* Answers every fault. */
static void *answer_all(void *unused)
{
	while (!unused) {
		unsigned long page = read_fault(uffd);

		map(page);
		wake(area + page * PAGE, 1);
	}
	return NULL;
}

static void thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg))
		err(2, "pthread_create");
	pthread_detach(t);
}

static void prepare(void)
{
	uffd = new_uffd();
	ram_fd = memfd_create("ram", MFD_CLOEXEC);
	if (uffd < 0 || ram_fd < 0 || ftruncate(ram_fd, (off_t)(PAGES * PAGE)))
		err(2, "userfaultfd, memfd");
	for (uint64_t i = 1; i <= PAGES; i++)
		if (pwrite(ram_fd, &i, sizeof(i), (off_t)((i - 1) * PAGE)) != sizeof(i))
			err(2, "pwrite");
	area = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	area += PAGE;
	cover(area, PAGES);
}

static void prepare_answered(void)
{
	prepare();
	thread(answer_all, NULL);
}

static uint64_t word(unsigned long page)
{
	return *(volatile uint64_t *)(area + page * PAGE);
}

/* --- privileges -------------------------------------------------------------------------------------------------- */

static int nobody(void)
{
	int pipe_fds[2];

	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return 2;
	prepare_answered();
	if (pipe(pipe_fds) || write(pipe_fds[1], "abc", 3) != 3)
		return 3;
	return read(pipe_fds[0], area + 5 * PAGE, 3) == 3 && !memcmp(area + 5 * PAGE, "abc", 3) && faults == 1 ? 0 : 4;
}

static int nobody_without_device(void)
{
	int fd;

	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 2;
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		return errno == EPERM ? 0 : 3;
	why = "vm.unprivileged_userfaultfd is 1 here";
	return SKIPPED;
}

/* --- from outside ------------------------------------------------------------------------------------------------ */

static int channel[2];

/* In the child: maps the page that the parent says, wakes nobody. */
static void *map_as_told(void *unused)
{
	unsigned char page;

	while (read(channel[1], &page, 1) == 1) {
		map(page);
		if (write(channel[1], &page, 1) != 1)
			break;
	}
	return unused;
}

static int outside_child(void)
{
	uint64_t say[2];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prepare();
	if (mmap(area, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) /* not registered now */
		return 2;
	say[0] = (uintptr_t)area;
	say[1] = (uint64_t)uffd;
	if (write(channel[1], say, sizeof(say)) < 0 || read(channel[1], say, 1) != 1)
		return 3;
	if (mprotect(area, PAGE, PROT_READ | PROT_WRITE))
		return 4;
	thread(map_as_told, NULL);
	return word(1) == 2 && word(0) == 1 ? 0 : 5;
}

/* The child says where its area is, and touches it; this process reads the faults, registers a page and wakes. */
static int from_outside(void)
{
	uint64_t said[2];
	pid_t pid;
	int status;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel))
		return 2;
	pid = fork();
	if (!pid)
		_exit(outside_child());
	if (read(channel[0], said, sizeof(said)) != sizeof(said))
		return 3;
	uffd = (int)syscall(SYS_pidfd_getfd, (int)syscall(SYS_pidfd_open, pid, 0), (int)said[1], 0);
	if (uffd < 0)
		return 4;
	area = (char *)said[0];
	if (try_register(uffd, area, 1)) /* in the memory that the descriptor was made in, whoever uses it */
		return 5;
	if (write(channel[0], "", 1) != 1)
		return 6;
	for (int i = 0; i < 2; i++) {
		unsigned char page = (unsigned char)read_fault(uffd);

		if (write(channel[0], &page, 1) != 1 || read(channel[0], &page, 1) != 1)
			return 7;
		wake(area + page * PAGE, 1);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 8;
}

/* --- system calls ------------------------------------------------------------------------------------------------ */

static int in_read_and_write(void)
{
	static char data[3 * PAGE], back[3 * PAGE];
	int pipe_fds[2];

	prepare_answered();
	memset(data, 7, sizeof(data));
	if (pipe(pipe_fds) || write(pipe_fds[1], data, sizeof(data)) != (ssize_t)sizeof(data))
		return 2;
	if (read(pipe_fds[0], area + 100, sizeof(data)) != (ssize_t)sizeof(data) || faults != 4) /* it spans four pages */
		return 3;
	if (memcmp(area + 100, data, sizeof(data)))
		return 4;
	if (write(pipe_fds[1], area + 10 * PAGE + 100, sizeof(data)) != (ssize_t)sizeof(data) || faults != 8)
		return 5;
	if (read(pipe_fds[0], back, sizeof(back)) != (ssize_t)sizeof(back))
		return 6;
	return memcmp(back, area + 10 * PAGE + 100, sizeof(back)) ? 7 : 0;
}

static int in_vectors(void)
{
	struct iovec *iov;
	int pipe_fds[2];

	prepare_answered();
	iov = (struct iovec *)(area + 20 * PAGE - 8); /* the vector itself lies in two pages that fault */
	if (pipe(pipe_fds) || write(pipe_fds[1], "abcdef", 6) != 6)
		return 2;
	iov[0] = (struct iovec){area + PAGE - 3, 6};
	return readv(pipe_fds[0], iov, 1) == 6 && !memcmp(area + PAGE - 3, "abcdef", 6) && faults == 4 ? 0 : 3;
}

static int in_futex(void)
{
	prepare_answered();
	if (syscall(SYS_futex, area, FUTEX_WAIT, 2, NULL, NULL, 0) != -1 || errno != EAGAIN || faults != 1)
		return 2;
	if (syscall(SYS_futex, area + PAGE, FUTEX_WAIT_PRIVATE, 3, NULL, NULL, 0) != -1 || errno != EAGAIN || faults != 2)
		return 3;
	/* FUTEX_WAKE_OP stores to its second word */
	if (syscall(SYS_futex, area + 2 * PAGE, FUTEX_WAKE_OP, 1, 1, area + 3 * PAGE, FUTEX_OP(FUTEX_OP_ADD, 10, FUTEX_OP_CMP_EQ, 4)) < 0)
		return 4;
	return word(3) == 14 ? 0 : 5;
}

/* Pages that the kernel takes by reference (get_user_pages): O_DIRECT. */
static int in_direct_io(void)
{
	char name[] = "/var/tmp/demand_kernel.XXXXXX";
	int fd = mkostemp(name, O_DIRECT), bad;
	static char data[2 * PAGE] __attribute__((aligned(4096)));

	if (fd < 0) {
		why = "no O_DIRECT in /var/tmp";
		return SKIPPED;
	}
	unlink(name);
	prepare_answered();
	memset(data, 9, sizeof(data));
	if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
		return 2;
	bad = pread(fd, area + 8 * PAGE, sizeof(data), 0) != (ssize_t)sizeof(data) || memcmp(area + 8 * PAGE, data, sizeof(data));
	return bad || faults != 2 ? 3 : 0;
}

static int in_process_vm(void)
{
	uint64_t value = 0;
	struct iovec local = {&value, sizeof(value)}, remote;

	prepare_answered();
	remote = (struct iovec){area + 5 * PAGE, sizeof(value)};
	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == sizeof(value) && value == 6 && faults == 1 ? 0 : 2;
}

/* --- who is woken, and what he finds ----------------------------------------------------------------------------- */

static volatile int finished, wrong;

static void *touch(void *page)
{
	if (word((unsigned long)page) != (unsigned long)page + 1)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static int many_threads(void)
{
	prepare();
	for (int i = 0; i < 8; i++)
		thread(touch, (void *)7);
	read_fault(uffd);
	usleep(50000); /* the others wait too: their messages are not read */
	map(7);
	wake(area + 7 * PAGE, 1);
	while (finished < 8)
		usleep(1000);
	return wrong ? 2 : has_fault() ? 3 : 0; /* who is woken takes his message with him */
}

static int wake_of_a_range(void)
{
	prepare();
	for (unsigned long i = 0; i < 8; i++)
		thread(touch, (void *)i);
	for (int i = 0; i < 8; i++)
		read_fault(uffd);
	for (unsigned long i = 0; i < 8; i++)
		map(i);
	usleep(20000);
	if (finished)
		return 2; /* a mapping alone wakes nobody */
	wake(area, 8);
	while (finished < 8)
		usleep(1000);
	return wrong ? 3 : 0;
}

/* Woken where nothing has been mapped, he asks again. */
static int woken_for_nothing(void)
{
	prepare();
	thread(touch, (void *)3);
	if (read_fault(uffd) != 3)
		return 2;
	wake(area, PAGES);
	if (read_fault(uffd) != 3 || finished)
		return 3;
	map(3);
	wake(area, PAGES);
	while (!finished)
		usleep(1000);
	return wrong;
}

static int pipe_for_thread[2];
static volatile long result;

static void *read_there(void *page)
{
	result = read(pipe_for_thread[0], area + (unsigned long)page * PAGE, 100);
	if (result < 0)
		result = -errno;
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Where the mapping goes, a wake-up makes EFAULT of it. */
static int unmapped(void)
{
	prepare();
	if (pipe(pipe_for_thread) || write(pipe_for_thread[1], area - PAGE, 0) < 0 || write(pipe_for_thread[1], "abc", 3) != 3)
		return 2;
	thread(read_there, (void *)3);
	read_fault(uffd);
	if (munmap(area, 8 * PAGE))
		return 3;
	usleep(50000);
	if (finished)
		return 4; /* he sleeps on */
	wake(area, 8);
	while (!finished)
		usleep(1000);
	return result == -EFAULT ? 0 : 5;
}

static int without_access(void)
{
	prepare();
	if (pipe(pipe_for_thread) || write(pipe_for_thread[1], "abc", 3) != 3)
		return 2;
	thread(read_there, (void *)3);
	read_fault(uffd);
	if (mmap(area + 3 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return 3;
	wake(area, 8);
	while (!finished)
		usleep(1000);
	return result == -EFAULT ? 0 : 5;
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static volatile int signalled;

static void on_signal(int signal)
{
	(void)signal;
	signalled++;
}

static volatile pid_t reader_tid;

static void *reader(void *page)
{
	reader_tid = gettid();
	return read_there(page);
}

/* A signal for who waits inside a call neither ends the call nor is lost. */
static int signal_in_call(void)
{
	const struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	prepare();
	sigaction(SIGUSR1, &act, NULL);
	if (pipe(pipe_for_thread) || write(pipe_for_thread[1], "abc", 3) != 3)
		return 2;
	thread(reader, (void *)3);
	read_fault(uffd);
	tgkill(getpid(), reader_tid, SIGUSR1);
	usleep(20000);
	if (finished)
		return 3;
	map(3);
	wake(area, PAGES);
	while (!finished)
		usleep(1000);
	if (result != 3 || memcmp(area + 3 * PAGE, "abc", 3))
		return 4;
	return signalled == 1 ? 0 : 5;
}

static void *toucher(void *page)
{
	reader_tid = gettid();
	return touch(page);
}

/* In user mode the handler runs, then the access is tried again. */
static int signal_in_user_mode(void)
{
	const struct sigaction act = {.sa_handler = on_signal};

	prepare();
	sigaction(SIGUSR1, &act, NULL);
	thread(toucher, (void *)3);
	read_fault(uffd);
	tgkill(getpid(), reader_tid, SIGUSR1);
	if (read_fault(uffd) != 3 || signalled != 1 || finished)
		return 2;
	map(3);
	wake(area, PAGES);
	while (!finished)
		usleep(1000);
	return wrong;
}

static int end_while_waiting(void)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		prepare();
		if (pipe(pipe_for_thread) || write(pipe_for_thread[1], "abc", 3) != 3)
			_exit(2);
		thread(read_there, (void *)3);
		thread(touch, (void *)4);
		read_fault(uffd);
		read_fault(uffd);
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 2; /* in_child()'s alarm ends a child that hangs */
}

/* --- covering ---------------------------------------------------------------------------------------------------- */

/* Mappings in the area, as the kernel has merged them. */
static unsigned int mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	unsigned int n = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		n += sscanf(line, "%lx-%lx", &from, &to) == 2 && from >= (uintptr_t)area && to <= (uintptr_t)area + PAGES * PAGE;
	if (f)
		fclose(f);
	return n;
}

static int covered_again(void)
{
	prepare_answered();
	for (int round = 0; round < 20; round++) {
		for (unsigned long i = 0; i < PAGES; i += 2) {
			if (round % 2)
				*(volatile uint64_t *)(area + i * PAGE + 8) = 1; /* a fault for writing is another path */
			if (word(i) != i + 1)
				return 2;
		}
		if (mappings() != PAGES)
			return 3;
		for (unsigned long i = 0; i < PAGES; i += 2)
			cover(area + i * PAGE, 1);
		if (mappings() != 1) /* else a mirror would use up its mappings */
			return 4;
	}
	return faults == 20 * PAGES / 2 ? 0 : 5;
}

static int large_cover(void)
{
	const unsigned long bytes = 1ul << 44; /* 16 TiB: what sanitizers and managed heaps reserve */
	char *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	prepare();
	if (at == MAP_FAILED) {
		why = "there is no room for 16 TiB";
		return SKIPPED;
	}
	if (try_register(uffd, at, bytes / PAGE))
		return 2;
	if (mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0)
		return 0;
	why = "vm.overcommit_memory is 2 here";
	return errno == ENOMEM ? SKIPPED : 3;
}

/* A trap: what is moved is not registered any more (unless UFFD_FEATURE_EVENT_REMAP).  So nothing is. */
static int moved(void)
{
	char *to;

	prepare();
	to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mremap(area, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return 2;
	return *(volatile uint64_t *)to == 0 && !has_fault() ? 0 : 3;
}

/* A trap: memory that is not registered is filled with zeroes by a touch.  So it has no access before. */
static int without_access_first(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prepare();
	if (*(volatile uint64_t *)p != 0 || try_register(uffd, p, 1))
		return 2;
	return *(volatile uint64_t *)p == 0 && !has_fault() ? 0 : 3; /* registered, and never faults */
}

int main(void)
{
	dev_fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev_fd < 0) {
		tap_skip("what a mirror that faults relies on", "no access to /dev/userfaultfd (Linux 6.1, root)");
		return tap_done();
	}
	holds(nobody, "a process without privileges makes a userfaultfd of /dev/userfaultfd's descriptor that handles faults of its calls");
	holds(nobody_without_device, "which userfaultfd(2) refuses it");
	holds(from_outside, "another process with the descriptor (pidfd_getfd) reads faults, registers and wakes");
	holds(in_read_and_write, "faults within read() and write(), over several pages");
	holds(in_vectors, "within readv(), also of the vector");
	holds(in_futex, "within futex(): shared, private, wake-op");
	holds(in_direct_io, "within O_DIRECT I/O, where the kernel takes references to pages");
	holds(in_process_vm, "within process_vm_readv() by others");
	holds(many_threads, "one wake-up wakes all who wait for a page; messages of theirs that were not read go");
	holds(wake_of_a_range, "a mapping over the place wakes nobody; UFFDIO_WAKE of a range does, and they find the mapping");
	holds(woken_for_nothing, "who is woken and finds nothing faults again");
	holds(unmapped, "munmap() wakes nobody; woken then, a call ends with EFAULT");
	holds(without_access, "and so it does where memory without access was mapped");
	holds(signal_in_call, "a signal for who waits inside a call is handled when the call is done, which is not cut short");
	holds(signal_in_user_mode, "in user mode the handler runs and the access is tried again");
	holds(end_while_waiting, "a process ends while its threads wait");
	holds(covered_again, "registering memory without access and giving access afterwards; covered again, pieces merge into one mapping");
	holds(large_cover, "16 TiB can be covered");
	holds(moved, "mremap() loses the registration");
	holds(without_access_first, "a page of zeroes, once there, never faults");
	return tap_done();
}
