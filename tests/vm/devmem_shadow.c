/* devmem_shadow.c - in VM A of devmem.sh: a capsule mirrors a process of VM B through /dev/mem; what /dev/mem cannot do
 *
 * usage: devmem_shadow PORT BLOCK-DEVICE
 *
 * PORT tells what devmem_host.c found out; BLOCK-DEVICE is any that O_DIRECT works with.  Prints TAP.
 */
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/capsule_host.h"
#include "tests/services/calls.h"
#include "tests/tap.h"
#include "tests/vm/devmem.h"

static struct devmem_told told;
static uint8_t blob[TRANSLATE_MAP_BYTES];
static size_t blob_bytes;
static struct rle_map map;
static const char *device;

static void read_port(const char *path)
{
	static char text[2 * TRANSLATE_MAP_BYTES + 1024];
	int fd = open(path, O_RDONLY);
	size_t have = 0;
	const char *at;

	if (fd < 0)
		err(2, "%s", path);
	while (have < sizeof(text) - 1 && !(strstr(text, "\nMAP ") && text[have - 1] == '\n')) {
		ssize_t got = read(fd, text + have, sizeof(text) - 1 - have);

		if (got < 0)
			err(2, "%s", path);
		have += (size_t)got;
	}
	close(fd);
	at = strstr(text, "\nMAP ");
	if (!at || sscanf(text, DEVMEM_TOLD_SCAN, &told.pattern, &told.talk, &told.list, &told.scratch, &told.seed,
			  &told.scratch_frame) != 6)
		errx(2, "what the port says is not understood");
	for (at += 5; blob_bytes < sizeof(blob) && *at != '\n' && sscanf(at, "%2hhx", &blob[blob_bytes]) == 1; at += 2)
		blob_bytes++;
	if (rle_map_open(&map, blob, blob_bytes, NULL))
		errx(2, "the map that the port tells is not valid");
}

/* --- the capsule ------------------------------------------------------------------------------------------------- */

/* Starts @service over the map, through /dev/mem.  Return: whether it stands. */
static bool start(struct host *h, const char *service)
{
	struct ds_shadow_boot boot;
	int kind;

	*h = (struct host){.ctl = -1, .ram_pages = UINT64_C(1) << 40};
	h->ram_fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
	h->ram_ro_fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	if (h->ram_fd < 0 || h->ram_ro_fd < 0)
		err(2, "/dev/mem");
	host_exec(h, service);
	boot = host_boot(h, service, 1);
	boot.provider = DS_SHADOW_RAM_DEVMEM;
	boot.data = (struct ds_shadow_data){.map_bytes = blob_bytes};
	kind = host_boot_send(h, &boot, host_file(blob, blob_bytes, NULL, 0));
	if (kind != DS_SHADOW_STATUS)
		printf("# kind %d; reason %u, err %d, index %" PRIu64 ", value %" PRIu64 "\n", kind, h->refused.reason,
		       h->refused.err, h->refused.index, h->refused.value);
	return kind == DS_SHADOW_STATUS;
}

static uint64_t calls(struct host *h, uint32_t op, uint64_t arg0, uint64_t arg1)
{
	const struct calls_request r = {.op = op, .args = {arg0, arg1}};
	struct calls_answer a;
	union host_message m;

	host_message(h, 0, &r, sizeof(r));
	if (host_receive(h, &m, HOST_TIMEOUT_MS) != DS_SHADOW_MESSAGE || m.message.payload_bytes != sizeof(a))
		errx(2, "the service does not answer");
	memcpy(&a, m.message.payload, sizeof(a));
	return (uint64_t)a.result;
}

/* Pages of the mirror that are /dev/mem at the frame that the map says, by the kernel's own account. */
static uint64_t count_mapped(pid_t pid)
{
	uint64_t from, to, offset, good = 0;
	char path[64], line[512];
	struct rle_run hit;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "/dev/mem") || sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &from, &to, &offset) != 3)
			continue;
		for (uint64_t i = 0; i < (to - from) / PAGE; i++)
			good += rle_map_lookup(&map, (ds_vpn){from / PAGE + i}, &hit) && hit.pfn.n == offset / PAGE + i;
	}
	if (f)
		fclose(f);
	return good;
}

static void test_mirror(void)
{
	unsigned int wrong = 0, turns = 0;
	struct host h;

	if (!tap_ok(start(&h, "calls"), "a capsule mirrors %" PRIu64 " pages of a process of the other VM, through /dev/mem", map.npages))
		exit(tap_done());
	tap_eq(count_mapped(h.pid), map.npages, "every page is mapped from /dev/mem at the frame that the map says");
	for (uint64_t i = 0; i < DEVMEM_PAGES * TRANSLATE_WORDS; i += 61)
		wrong += calls(&h, CALLS_LOAD, told.pattern + i * 8, 0) != translate_word(told.seed, i);
	tap_eq(wrong, 0, "the process's own addresses lead to its memory");
	for (uint64_t i = 1; i <= DEVMEM_TURNS; i++) {
		uint64_t reply = 0;

		calls(&h, CALLS_STORE, told.talk, i);
		for (int ms = 0; ms < 5000 && reply != translate_word(told.seed, i); ms++) {
			reply = calls(&h, CALLS_LOAD, told.talk + offsetof(struct devmem_talk, reply), 0);
			usleep(1000);
		}
		if (reply != translate_word(told.seed, i))
			break;
		turns++;
	}
	tap_eq(turns, DEVMEM_TURNS, "stores are seen by the process, and its own are seen here: %u times", DEVMEM_TURNS);
	for (uint64_t i = 0; i < DEVMEM_PAGES; i++)
		calls(&h, CALLS_STORE, told.pattern + i * PAGE, ~translate_word(told.seed, i * TRANSLATE_WORDS));
	tap_eq(host_end(&h), 0, "the capsule ends");
}

static void test_list(void)
{
	const uint64_t request[3] = {told.list, offsetof(struct devmem_node, next), offsetof(struct devmem_node, value)};
	uint64_t answer[4] = {0}, sum = 0;
	union host_message m;
	struct host h;

	for (uint64_t i = 0; i < DEVMEM_NODES; i++)
		sum += translate_word(told.seed, i);
	if (!tap_ok(start(&h, "listwalk"), "the service that walks lists starts"))
		return;
	host_message(&h, 0, request, sizeof(request));
	if (host_receive(&h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_MESSAGE)
		memcpy(answer, m.message.payload, sizeof(answer));
	tap_ok(answer[0] == DEVMEM_NODES && answer[1] == sum && !answer[3], "it follows the process's pointers: %" PRIu64 " nodes",
	       answer[0]);
	host_end(&h);
}

/* --- what /dev/mem can and cannot do ------------------------------------------------------------------------------ */

/* Every probe gets a page that can be read and written.  Return: 0, or -errno of the call it is about. */
static int result(long r)
{
	return r < 0 ? -errno : 0;
}

static int probe_direct(uint8_t *p)
{
	int fd = open(device, O_RDONLY | O_DIRECT), r;

	r = fd < 0 ? -EBADF : result(read(fd, p, PAGE));
	close(fd);
	return r;
}

static int probe_buffered(uint8_t *p)
{
	int fd = memfd_create("file", 0), r;

	memset(p, 'x', PAGE);
	r = result(write(fd, p, PAGE));
	memset(p, 0, PAGE);
	r = r ? r : result(pread(fd, p, PAGE, 0));
	close(fd);
	return r ? r : p[PAGE - 1] == 'x' ? 0 : -EIO;
}

static int probe_vectors(uint8_t *p)
{
	struct iovec iov[2] = {{p, 100}, {p + 1000, 100}};
	int fd = memfd_create("file", 0), r;

	r = result(writev(fd, iov, 2));
	r = r ? r : result(preadv(fd, iov, 2, 0));
	close(fd);
	return r;
}

static int probe_socket(uint8_t *p)
{
	int pair[2], r = result(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));

	r = r ? r : result(send(pair[0], p, 2048, 0));
	r = r ? r : result(recv(pair[1], p + 2048, 2048, MSG_WAITALL));
	close(pair[0]);
	close(pair[1]);
	return r;
}

/* The kernel reads the word, finds another value than the one said, and does not wait. */
static int probe_futex(uint8_t *p, int flag)
{
	*(uint32_t *)p = 7;
	return syscall(SYS_futex, p, FUTEX_WAIT | flag, 8, NULL, NULL, 0) < 0 && errno == EAGAIN ? 0 : -errno;
}

static int probe_futex_private(uint8_t *p)
{
	return probe_futex(p, FUTEX_PRIVATE_FLAG);
}

static int probe_futex_shared(uint8_t *p)
{
	return probe_futex(p, 0);
}

static int probe_atomics(uint8_t *p)
{
	_Atomic uint64_t *word = (_Atomic uint64_t *)p;
	pid_t child;

	atomic_store(word, 0);
	child = fork();
	for (int i = 0; i < 100000; i++)
		atomic_fetch_add(word, 1);
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	return atomic_load(word) == 200000 ? 0 : -EIO;
}

static int probe_execute(uint8_t *p)
{
	static const uint8_t code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
	int (*function)(void);

	memcpy(p, code, sizeof(code));
	memcpy(&function, &p, sizeof(p));
	if (mprotect(p, PAGE, PROT_READ | PROT_EXEC))
		return -errno;
	return function() == 42 ? result(mprotect(p, PAGE, PROT_READ | PROT_WRITE)) : -EIO;
}

static int probe_proc_mem(uint8_t *p)
{
	int fd = open("/proc/self/mem", O_RDONLY), r;
	uint64_t word;

	r = result(pread(fd, &word, sizeof(word), (off_t)(uintptr_t)p));
	close(fd);
	return r;
}

static int probe_vm_remote(uint8_t *p)
{
	uint64_t word;
	struct iovec local = {&word, sizeof(word)}, remote = {p, sizeof(word)};

	return result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
}

static int probe_vm_local(uint8_t *p)
{
	uint64_t word = 5;
	struct iovec local = {p, sizeof(word)}, remote = {&word, sizeof(word)};

	return result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
}

static int probe_vmsplice(uint8_t *p)
{
	struct iovec iov = {p, PAGE};
	int pair[2], r;

	r = result(pipe(pair));
	r = r ? r : result(vmsplice(pair[1], &iov, 1, 0));
	close(pair[0]);
	close(pair[1]);
	return r;
}

static int probe_io_uring(uint8_t *p)
{
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	struct iovec iov = {p, PAGE};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &params), r;

	r = fd < 0 ? -EBADF : result(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1));
	close(fd);
	return r;
}

static int probe_userfaultfd(uint8_t *p)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.range = {(uintptr_t)p, PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), r;

	r = fd < 0 || ioctl(fd, UFFDIO_API, &api) ? -EBADF : result(ioctl(fd, UFFDIO_REGISTER, &reg));
	close(fd);
	return r;
}

static int probe_populate(uint8_t *p)
{
	return result(madvise(p, PAGE, MADV_POPULATE_WRITE));
}

static const struct {
	const char *what;
	int (*probe)(uint8_t *p);
	int devmem; /* what it is to return on /dev/mem; on a shared file it is to succeed */
} probes[] = {
	{"buffered write() and read()", probe_buffered, 0},
	{"writev() and readv()", probe_vectors, 0},
	{"send() and recv() on a unix socket", probe_socket, 0},
	{"a private futex", probe_futex_private, 0},
	{"atomic operations of two processes after fork()", probe_atomics, 0},
	{"execution of code", probe_execute, 0},
	{"reading through /proc/PID/mem", probe_proc_mem, 0},
	{"process_vm_readv() with the memory as the local side", probe_vm_local, 0},
	{"O_DIRECT", probe_direct, -EFAULT},
	{"process_vm_readv() with the memory as the remote side", probe_vm_remote, -EFAULT},
	{"a shared futex", probe_futex_shared, -EFAULT},
	{"vmsplice()", probe_vmsplice, -EFAULT},
	{"registration with io_uring", probe_io_uring, -EFAULT},
	{"userfaultfd registration", probe_userfaultfd, -EINVAL},
	{"MADV_POPULATE_WRITE", probe_populate, -EINVAL},
};

static void test_limits(void)
{
	int mem = open("/dev/mem", O_RDWR | O_CLOEXEC), file = memfd_create("control", 0);
	uint8_t *p, *control;

	if (mem < 0 || ftruncate(file, PAGE))
		err(2, "/dev/mem");
	errno = 0;
	tap_ok(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, mem, 0x1000000) == MAP_FAILED && errno == EPERM,
	       "a stock kernel refuses its own RAM through /dev/mem: EPERM");
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, (off_t)(told.scratch_frame * PAGE));
	control = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (!tap_ok(p != MAP_FAILED && control != MAP_FAILED, "a page of the other VM is mapped, and one of a memfd beside it"))
		return;
	for (size_t i = 0; i < sizeof(probes) / sizeof(*probes); i++) {
		const int on_file = probes[i].probe(control), on_mem = probes[i].probe(p);

		tap_ok(on_file == 0 && on_mem == probes[i].devmem, "%s: %s", probes[i].what,
		       probes[i].devmem == 0 ? "works on both" : strerror(-probes[i].devmem));
		if (on_file || on_mem != probes[i].devmem)
			printf("# memfd: %s; /dev/mem: %s\n", strerror(-on_file), strerror(-on_mem));
	}
}

int main(int argc, char **argv)
{
	struct host h;

	if (argc != 3)
		errx(2, "usage: devmem_shadow PORT BLOCK-DEVICE");
	signal(SIGPIPE, SIG_IGN);
	device = argv[2];
	read_port(argv[1]);
	test_mirror();
	test_list();
	test_limits();
	/* the process in the other VM may end */
	if (start(&h, "calls"))
		calls(&h, CALLS_STORE, told.talk, DEVMEM_DONE);
	host_end(&h);
	return tap_done();
}
