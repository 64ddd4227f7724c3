/* demand_calls.c - faults of whom, and where, a mirror that faults (runtime/shadow/demand.c) relies on, on the running kernel */
#include "tests/uffd.h"

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
	*why = "vm.unprivileged_userfaultfd is 1 here";
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
		*why = "no O_DIRECT in /var/tmp";
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
	return tap_done();
}
