/* capsule_forward_demand.c - calls of a guest's threads over a mirror that faults: the slot's page and what a call's pointers lead to
 * come when they are touched
 *
 * The real capsule; dshost is played: a thread of ours reads the faults and maps the page, each after a moment.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/forward_thread.h"
#include "tests/tap.h"

#define THREADS 4
#define ROUNDS 400

static struct host h;
static struct fwd t[THREADS];
static int uffd;
static unsigned int faults, covers, wrong;
static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;

static void send_map(uint64_t vpn, uint64_t pfn, uint32_t npages, uint32_t prot)
{
	struct {
		struct ds_shadow_map map;
		struct ds_shadow_seg seg;
	} m = {.seg = {vpn, pfn, npages, prot}};

	pthread_mutex_lock(&sending);
	m.map = (struct ds_shadow_map){.head = host_head(&h, DS_SHADOW_MAP, sizeof(m)), .nsegs = 1, .covers = covers};
	host_send(&h, &m, sizeof(m), NULL, 0);
	pthread_mutex_unlock(&sending);
}

static void *answer_faults(void *unused)
{
	struct pollfd p = {.fd = uffd, .events = POLLIN};
	struct uffd_msg msg;

	while (poll(&p, 1, -1) == 1 && !(p.revents & (POLLERR | POLLHUP))) {
		if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		const uint64_t vpn = msg.arg.pagefault.address / PAGE;

		faults++;
		usleep(200);
		send_map(vpn, vpn - PLAY_VPN, 1, 3);
	}
	return unused;
}

static bool start(void)
{
	const struct ds_shadow_range range = {PLAY_VPN, PLAY_PAGES};
	struct ds_shadow_boot boot;
	union host_message m;
	int fds[4], kind;
	pthread_t thread;

	host_ram(&h, PLAY_PAGES);
	host_exec(&h, "forward");
	boot = host_boot(&h, "forward", THREADS);
	boot.mode = DS_SHADOW_DEMAND;
	fds[0] = h.ram_fd, fds[1] = h.ram_ro_fd, fds[2] = host_data(NULL, 0, &range, 1, &boot.data);
	fds[3] = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (fds[3] < 0)
		return false;
	host_send(&h, &boot, sizeof(boot), fds, 4);
	close(fds[2]);
	close(fds[3]);
	kind = host_receive(&h, &m, HOST_TIMEOUT_MS);
	if (kind != DS_SHADOW_STATUS)
		errx(2, "boot: %d, reason %u, err %d", kind, h.refused.reason, h.refused.err);
	uffd = (int)syscall(438, syscall(434, h.pid, 0), h.status.fault_fd, 0);
	if (uffd < 0 || pthread_create(&thread, NULL, answer_faults, NULL))
		err(2, "pidfd_getfd, pthread_create");
	return pthread_detach(thread) == 0;
}

/* Has all pages fault again, and waits until they do. */
static bool cover(void)
{
	union host_message m;
	int kind;

	send_map(PLAY_VPN, 0, PLAY_PAGES, DS_SHADOW_COVER);
	while ((kind = host_receive(&h, &m, HOST_TIMEOUT_MS)) == DS_SHADOW_MESSAGE)
		;
	__atomic_add_fetch(&covers, kind == DS_SHADOW_STATUS, __ATOMIC_SEQ_CST);
	return kind == DS_SHADOW_STATUS;
}

static void test_calls(void)
{
	static char data[3 * PAGE];
	char *there = (char *)h.ram + 20 * PAGE + 100;
	int32_t *fds = (void *)(h.ram + 10 * PAGE);
	unsigned int before = faults;

	fwd_start(&h, &t[0], 0, DS_FORWARD_SPIN_NS, DS_FORWARD_SPIN_NS);
	tap_eq(fwd_call(&t[0], SYS_getppid, 0), getpid(), "a call, by a slot whose page is not there yet");
	tap_eq(faults - before, 1, "which faults once");
	tap_eq(fwd_call(&t[0], SYS_pipe2, play_at(10 * PAGE), 0), 0, "a pipe, whose numbers are written to a page that is not there");
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = there[i] = (char)(i * 7 + i / PAGE);
	before = faults;
	tap_eq(fwd_call(&t[0], SYS_write, (uint64_t)fds[1], play_at(20 * PAGE + 100), sizeof(data)), sizeof(data), "write() from four such pages");
	tap_eq(fwd_call(&t[0], SYS_read, (uint64_t)fds[0], play_at(40 * PAGE + 3000), sizeof(data)), sizeof(data), "read() into four");
	tap_ok(!memcmp(h.ram + 40 * PAGE + 3000, data, sizeof(data)), "the bytes are right");
	tap_eq(faults - before, 8, "each page is asked for once");
	/* blocked while all of it is taken away */
	fwd_post(&t[0], SYS_read, (const uint64_t[6]){(uint64_t)fds[0], play_at(60 * PAGE), 5});
	fwd_running(&t[0]);
	tap_ok(cover() && cover(), "all pages are taken away under a read() that is blocked");
	tap_ok(ds_forward_state(t[0].slot) == DS_FORWARD_RUNNING, "which goes on waiting");
	/* by another thread, since this one is in its call */
	fwd_start(&h, &t[1], 1, 0, 0);
	memcpy(h.ram + 70 * PAGE, "hello", 5);
	tap_eq(fwd_call(&t[1], SYS_write, (uint64_t)fds[1], play_at(70 * PAGE), 5), 5, "another thread writes");
	tap_ok(fwd_wait(&t[0], FWD_WAIT_MS) && t[0].slot->result == 5 && !memcmp(h.ram + 60 * PAGE, "hello", 5), "it arrives, where the page is now");
	close(t[0].bell);
	close(t[1].bell);
}

/* How a driver that pins reaches a page: it does not wait for one that is not there (get_user_pages() under the lock of the memory). */
static bool reached(uint64_t at)
{
	char path[40], byte;
	bool got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", h.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(2, "%s", path);
	got = pread(fd, &byte, 1, (off_t)at) == 1;
	close(fd);
	return got;
}

static void test_touched(void)
{
	const uint64_t at = play_at(80 * PAGE);
	unsigned int before, there = 0;

	fwd_start(&h, &t[2], 2, 0, 0);
	tap_ok(cover() && !reached(at), "a page that is not there is not waited for by who takes hold of it in another way");
	before = faults;
	tap_eq(fwd_call(&t[2], SYS_madvise, at, 8 * PAGE, MADV_POPULATE_WRITE), 0, "a guest has eight touched");
	tap_ok(faults - before >= 8, "they are asked for");
	for (int i = 0; i < 8; i++)
		there += reached(at + i * PAGE);
	tap_eq(there, 8, "and are there for everybody");
	tap_eq(fwd_call(&t[2], SYS_madvise, at, 8 * PAGE, MADV_DONTNEED), -ENOSYS, "other advice about the mirror is not the guest's to give");
	tap_ok(reached(at), "and nothing came of it");
	close(t[2].bell);
}

static void *calls_of(void *arg)
{
	struct fwd *me = arg;
	const uint64_t at = (100 + me->executor * 20) * PAGE;
	int32_t *fds = (void *)(h.ram + at);
	unsigned int bad = fwd_call(me, SYS_pipe2, play_at(at), 0) != 0;

	for (uint64_t i = 0; i < ROUNDS && !bad; i++) {
		const uint64_t out = at + (1 + i % 9) * PAGE, in = at + (10 + i % 7) * PAGE;

		*(uint64_t *)(void *)(h.ram + out) = i;
		bad += fwd_call(me, SYS_write, (uint64_t)fds[1], play_at(out), 8) != 8;
		bad += fwd_call(me, SYS_read, (uint64_t)fds[0], play_at(in), 8) != 8 || *(uint64_t *)(void *)(h.ram + in) != i;
	}
	__atomic_add_fetch(&wrong, bad, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_many(void)
{
	pthread_t threads[THREADS];
	struct ds_forward_report report;
	unsigned int taken = 0, over = 0;
	union host_message m;

	while (over < 3 && host_receive(&h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_MESSAGE) {
		memcpy(&report, m.message.payload, sizeof(report));
		over += report.over;
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		fwd_start(&h, &t[i], i, i % 2 ? 0 : DS_FORWARD_SPIN_NS, 0);
		if (pthread_create(&threads[i], NULL, calls_of, &t[i]))
			err(2, "pthread_create");
	}
	for (int i = 0; i < 60; i++) {
		usleep(3000);
		taken += cover();
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		close(t[i].bell);
	}
	tap_eq(wrong, 0, "%u threads, %u calls, while all pages are taken away again and again (%u faults)", THREADS, 2 * THREADS * ROUNDS, faults);
	tap_eq(taken, 60, "60 times");
}

int main(void)
{
	if (!start()) {
		tap_skip("calls over a mirror that faults", "no /dev/userfaultfd");
		return tap_done();
	}
	test_calls();
	test_touched();
	test_many();
	tap_eq(host_end(&h), 0, "the shadow ends");
	return tap_done();
}
