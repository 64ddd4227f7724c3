/* host_ivshmem.c - the ivshmem server: what a VM is told, bells, interrupts, VMs that come and go, and bad ones */
#include "runtime/host/vm/ivshmem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/count_fds.h"
#include "tests/tap.h"

#define SHM_BYTES (UINT64_C(1) << 20)
#define BELLS IVSHMEM_DOORBELLS_MAX /* more than a socket holds messages */
#define VECTORS 3u

static struct ivshmem *s;
static char path[PATH_MAX];

/* What the device knows after it was told everything, as QEMU's own reader collects it (hw/misc/ivshmem.c). */
struct device {
	int sock, shm, bell[BELLS + 1], vector[VECTORS];
	uint32_t nbells, nvectors, bad;
	int64_t id;
};

static int work(void)
{
	struct pollfd p = {.fd = ivshmem_fd(s), .events = POLLIN};
	int n = 0;

	for (; poll(&p, 1, 0) == 1 && n < 1000; n++)
		ivshmem_run(s);
	return n;
}

static int dial(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, path, strlen(path) + 1);
	if (sock < 0 || connect(sock, (struct sockaddr *)&a, sizeof(a)))
		exit(2);
	return sock;
}

/* The next message and its descriptor or -1.  Return: 1, 0 at the end, -errno. */
static int receive(int sock, int64_t *number, int *fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec iov = {number, sizeof(*number)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;

	*fd = -1;
	if (n <= 0)
		return n ? -errno : 0;
	c = CMSG_FIRSTHDR(&mh);
	if (c && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	return n == sizeof(*number) ? 1 : -EPROTO;
}

static void learn(struct device *d, int sock)
{
	uint64_t seen = 0;
	int64_t number;
	int fd, r;

	memset(d, 0, sizeof(*d));
	d->sock = sock;
	d->shm = -1;
	d->id = -1;
	do {
		work(); /* it may have had to wait for room */
		while ((r = receive(sock, &number, &fd)) > 0) {
			if (seen == 0)
				d->bad += number != 0 || fd >= 0;
			else if (seen == 1)
				d->id = fd < 0 ? number : -1;
			else if (number == -1 && d->shm < 0 && fd >= 0)
				d->shm = fd;
			else if (number == d->id && fd >= 0 && d->nvectors < VECTORS)
				d->vector[d->nvectors++] = fd;
			else if (number == d->nbells + 1 && fd >= 0 && d->nbells < BELLS)
				d->bell[d->nbells++] = fd;
			else
				d->bad++;
			seen++;
		}
	} while (r == -EAGAIN && work());
}

static void leave(struct device *d)
{
	for (uint32_t i = 0; i < d->nbells; i++)
		close(d->bell[i]);
	for (uint32_t i = 0; i < d->nvectors; i++)
		close(d->vector[i]);
	close(d->shm);
	close(d->sock);
	work();
}

static void test_life(void)
{
	uint32_t rung = 0, wrong = 0;
	struct device d, other;
	struct stat st, st2;
	eventfd_t n;
	int64_t number;
	int fd, second;
	char *mine, *theirs;

	tap_ok(!ivshmem_connected(s) && !work(), "nobody is there");
	learn(&d, dial());
	tap_ok(!d.bad && d.id == 0 && d.shm >= 0 && d.nbells == BELLS && d.nvectors == VECTORS && ivshmem_connected(s),
	       "a VM is told its number, the window, %u doorbells and %u vectors, in this order", d.nbells, d.nvectors);
	tap_eq(work(), 0, "then there is nothing to do");
	mine = mmap(NULL, SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ivshmem_shm(s), 0);
	theirs = mmap(NULL, SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, d.shm, 0);
	strcpy(theirs + SHM_BYTES - 8, "window");
	tap_ok(!strcmp(mine + SHM_BYTES - 8, "window") && !fstat(d.shm, &st) && (uint64_t)st.st_size == SHM_BYTES, "the window is the same one");
	tap_ok(ftruncate(d.shm, 4096) && errno == EPERM && ftruncate(d.shm, 2 * SHM_BYTES) && errno == EPERM, "nobody can change its size");
	for (uint32_t i = 0; i < BELLS; i++) {
		eventfd_write(d.bell[i], i + 1);
		rung += !eventfd_read(ivshmem_doorbell(s, i), &n) && n == i + 1;
		wrong += i && !eventfd_read(ivshmem_doorbell(s, i - 1), &n);
	}
	tap_ok(rung == BELLS && !wrong, "each doorbell is its own");
	for (uint32_t i = 0, good = 0; i < VECTORS; i++) {
		eventfd_write(ivshmem_vector(s, i), 1);
		good += !eventfd_read(d.vector[i], &n);
		if (i == VECTORS - 1)
			tap_eq(good, VECTORS, "each vector too");
	}
	tap_ok(ivshmem_doorbell(s, BELLS) == -EINVAL && ivshmem_vector(s, VECTORS) == -EINVAL && ivshmem_doorbell(s, UINT32_MAX) == -EINVAL,
	       "there are no more");

	second = dial();
	work();
	tap_ok(receive(second, &number, &fd) == 0 && ivshmem_connected(s), "a second VM is turned away");
	close(second);

	/* The first goes with a bell rung and an interrupt not taken, and another one comes. */
	eventfd_write(d.bell[7], 1);
	eventfd_write(ivshmem_vector(s, 1), 1);
	leave(&d);
	tap_ok(!ivshmem_connected(s), "a VM that goes is seen to go");
	learn(&other, dial());
	tap_ok(!other.bad && other.nbells == BELLS && other.nvectors == VECTORS && ivshmem_connected(s) && !fstat(other.shm, &st2) &&
		       st2.st_ino == st.st_ino,
	       "another one is told the same");
	tap_ok(!mine[SHM_BYTES - 8] && eventfd_read(ivshmem_doorbell(s, 7), &n) && eventfd_read(other.vector[1], &n), "and finds nothing of the first");
	tap_ok(send(other.sock, "\0\0\0\0\0\0\0\0", 8, MSG_NOSIGNAL) == 8 && work() && !ivshmem_connected(s), "a VM that speaks is no VM");
	leave(&other);
	/* One that goes and one that comes at once, seen together. */
	learn(&d, dial());
	leave(&d);
	fd = dial();
	close(fd);
	learn(&d, dial());
	tap_ok(d.nvectors == VECTORS && ivshmem_connected(s), "going and coming between two looks");
	leave(&d);
	munmap(mine, SHM_BYTES);
	munmap(theirs, SHM_BYTES);
}

/* One that does not read is told as much as its socket holds; nothing waits for it. */
static void test_slow(void)
{
	const int sock = dial(), runs = work();
	struct device d;

	tap_ok(runs < 10 && !ivshmem_connected(s), "a VM that does not read is not told all, and the server rests after %d runs", runs);
	learn(&d, sock);
	tap_ok(!d.bad && d.nbells == BELLS && d.nvectors == VECTORS && ivshmem_connected(s), "it is told the rest when it does");
	leave(&d);
}

/* A device that is to be plugged out and in again is told of no interrupt. */
static void test_no_vectors(void)
{
	struct ivshmem *old = s;
	struct device d;

	path[strlen(path) - 1]++;
	tap_eq(ivshmem_new(&s, path, SHM_BYTES, 5, 0), 0, "a server without vectors");
	learn(&d, dial());
	tap_ok(!d.bad && d.id == 0 && d.shm >= 0 && d.nbells == 5 && !d.nvectors && ivshmem_connected(s), "tells of the window and the doorbells only");
	leave(&d);
	ivshmem_free(s);
	path[strlen(path) - 1]--;
	s = old;
}

static void test_bad(void)
{
	struct ivshmem *t;
	struct stat st;
	char longest[200], file[PATH_MAX];
	int fd;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	snprintf(file, sizeof(file), "%.4000s.file", path);
	tap_eq(ivshmem_new(&t, file, 4095, 1, 1), -EINVAL, "a window of 4095 bytes is refused");
	tap_eq(ivshmem_new(&t, file, 3 << 20, 1, 1), -EINVAL, "and one of 3 MB");
	tap_eq(ivshmem_new(&t, file, 0, 1, 1), -EINVAL, "and of none");
	tap_eq(ivshmem_new(&t, file, UINT64_C(1) << 63, 1, 1), -EINVAL, "and of 2^63 bytes");
	tap_eq(ivshmem_new(&t, file, 4096, IVSHMEM_DOORBELLS_MAX + 1, 1), -EINVAL, "too many doorbells");
	tap_eq(ivshmem_new(&t, file, 4096, 1, IVSHMEM_VECTORS_MAX + 1), -EINVAL, "too many vectors");
	tap_eq(ivshmem_new(&t, longest, 4096, 1, 1), -ENAMETOOLONG, "a path that no socket can have");
	tap_eq(ivshmem_new(&t, path, 4096, 1, 1), -EADDRINUSE, "a path where a server listens");
	tap_ok(!t && !stat(path, &st) && (st.st_mode & 07777) == 0600, "whose socket stays, for its owner only");
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	tap_ok(ivshmem_new(&t, file, 4096, 1, 1) == -EADDRINUSE && !stat(file, &st), "a file of another kind stays too");
	close(fd);
	unlink(file);
	ivshmem_free(NULL);
}

int main(void)
{
	const int before = count_fds();
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char folder[] = "/tmp/ivshmem.XXXXXX";
	struct rlimit files;
	struct stat st;
	int old;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max; /* the server's and the VM's descriptors are all here */
	setrlimit(RLIMIT_NOFILE, &files);
	if (!mkdtemp(folder))
		return 2;
	snprintf(path, sizeof(path), "%s/socket", folder);
	memcpy(a.sun_path, path, strlen(path) + 1);
	old = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(old, (struct sockaddr *)&a, sizeof(a)) || listen(old, 1))
		return 2;
	close(old); /* a server that was killed */
	tap_eq(ivshmem_new(&s, path, SHM_BYTES, BELLS, VECTORS), 0, "a server takes the place of one that is gone");
	if (!s)
		return tap_done();
	test_life();
	test_slow();
	test_no_vectors();
	test_bad();
	ivshmem_free(s);
	tap_ok(stat(path, &st) && errno == ENOENT, "at the end the socket is gone");
	tap_eq(count_fds(), before, "no descriptor is left");
	rmdir(folder);
	return tap_done();
}
