/* host_vhostuser.c - the vhost-user back end: QEMU's order of messages over a socket, and everything that is refused */
#include "runtime/host/vm/vhostuser.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/count_fds.h"
#include "tests/tap.h"

#define MIB (UINT64_C(1) << 20)
#define NEED_REPLY (VHOSTUSER_VERSION | VHOSTUSER_NEED_REPLY)

static struct vhostuser v;
static int sock[2]; /* QEMU's end, ours */
static enum vhostuser_event event;

static int make_ram(uint64_t bytes)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		exit(2);
	return fd;
}

/* Sends @bytes of payload with descriptors, the way QEMU does: one sendmsg(). */
static void send_raw(uint32_t request, uint32_t flags, uint32_t size, const void *payload, size_t bytes, const int *fd, uint32_t nfds)
{
	struct vhostuser_head head = {.request = request, .flags = flags, .size = size};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct iovec iov[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)payload, bytes}};
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};

	if (nfds) {
		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		CMSG_FIRSTHDR(&mh)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&mh)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&mh)->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), fd, nfds * sizeof(int));
	}
	if (sendmsg(sock[0], &mh, MSG_NOSIGNAL) < 0)
		exit(2);
}

static int tell(uint32_t request, uint32_t flags, const void *payload, uint32_t bytes, const int *fd, uint32_t nfds)
{
	send_raw(request, flags, bytes, payload, bytes, fd, nfds);
	return vhostuser_receive(&v, sock[1], &event);
}

static int tell_u64(uint32_t request, uint64_t word, int fd)
{
	return tell(request, VHOSTUSER_VERSION, &word, 8, &fd, fd >= 0);
}

static int tell_state(uint32_t request, uint32_t index, uint32_t num)
{
	const uint32_t state[2] = {index, num};

	return tell(request, VHOSTUSER_VERSION, state, 8, NULL, 0);
}

static int tell_addr(uint32_t index, uint64_t desc, uint64_t used, uint64_t avail)
{
	const uint64_t addr[5] = {index, desc, used, avail, 0};

	return tell(VHOSTUSER_SET_VRING_ADDR, VHOSTUSER_VERSION, addr, 40, NULL, 0);
}

/* The answer, whose payload must have @bytes; 0 if there is none. */
static uint32_t answer(uint32_t request, void *payload, uint32_t bytes)
{
	struct vhostuser_head head;

	if (recv(sock[0], &head, sizeof(head), MSG_DONTWAIT) != sizeof(head) || head.request != request ||
	    head.flags != (VHOSTUSER_VERSION | VHOSTUSER_REPLY) || head.size != bytes)
		return 0;
	return (uint32_t)recv(sock[0], payload, bytes, MSG_DONTWAIT);
}

static uint64_t ask(uint32_t request)
{
	uint64_t word = 0;

	return tell(request, VHOSTUSER_VERSION, NULL, 0, NULL, 0) || answer(request, &word, 8) != 8 ? 0 : word;
}

static void begin(void)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		exit(2);
	vhostuser_init(&v, 42);
}

static void end(void)
{
	vhostuser_close(&v);
	close(sock[0]);
	close(sock[1]);
}

struct mem {
	uint32_t n, padding;
	struct vhostuser_region region[16];
};

static int tell_mem(struct mem *m, const int *fd, uint32_t nfds)
{
	return tell(VHOSTUSER_SET_MEM_TABLE, NEED_REPLY, m, (uint32_t)(8 + m->n * sizeof(m->region[0])), fd, nfds);
}

static int tell_pc(int ram, uint64_t low)
{
	struct mem m = {.n = 2, .region = {{0, low, 0x7f0000000000, 0}, {UINT64_C(1) << 32, 8 * MIB - low, 0x7f1000000000, low}}};
	const int fd[2] = {ram, ram};

	return tell_mem(&m, fd, 2);
}

/* As QEMU 7.2 does it when the guest's driver starts the device. */
static int start(int ram, uint64_t low)
{
	int r = tell_u64(VHOSTUSER_SET_FEATURES, VHOSTUSER_FEATURES, -1) || tell_pc(ram, low) || event == VHOSTUSER_EV_NO_TABLE;
	const enum vhostuser_event table = event;
	uint64_t word;

	answer(VHOSTUSER_SET_MEM_TABLE, &word, 8);
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES && !r; i++) {
		int kick = eventfd(0, EFD_CLOEXEC);

		r = tell_state(VHOSTUSER_SET_VRING_NUM, i, 128) || tell_state(VHOSTUSER_SET_VRING_BASE, i, 5 + i) ||
		    tell_addr(i, 0x7f0000001000, 0x7f0000003004, 0x7f0000002002) || tell_u64(VHOSTUSER_SET_VRING_KICK, i, kick) ||
		    tell_u64(VHOSTUSER_SET_VRING_CALL, i, kick) || tell_u64(VHOSTUSER_SET_VRING_ERR, i | VHOSTUSER_NO_FD, -1);
		close(kick);
	}
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES && !r; i++)
		r = tell_state(VHOSTUSER_SET_VRING_ENABLE, i, 1) || event != (i ? VHOSTUSER_EV_STARTED : VHOSTUSER_EV_NONE);
	event = table;
	return r;
}

static void negotiate(void)
{
	const uint64_t offered = ask(VHOSTUSER_GET_FEATURES), protocol = ask(VHOSTUSER_GET_PROTOCOL_FEATURES);
	const uint8_t want[20] = {[4] = 8};
	uint8_t config[20] = {0};
	uint64_t cid;

	tap_ok(offered >> 32 & 1 && offered >> 30 & 1 && protocol == (1 << 3 | 1 << 9), "features are offered");
	tap_ok(!tell_u64(VHOSTUSER_SET_PROTOCOL_FEATURES, protocol, -1) && !tell(VHOSTUSER_SET_OWNER, VHOSTUSER_VERSION, NULL, 0, NULL, 0) &&
		       !tell(VHOSTUSER_GET_CONFIG, VHOSTUSER_VERSION, want, 20, NULL, 0) && answer(VHOSTUSER_GET_CONFIG, config, 20) == 20,
	       "and taken; the configuration is answered");
	memcpy(&cid, config + 12, 8);
	tap_eq(cid, 42, "with the CID");
}

static unsigned int settled, answered_early;

/* Nothing may have been answered yet when this is called. */
static void settle(void *ctx, enum vhostuser_event what)
{
	char byte;

	settled += ctx == &settled && what == VHOSTUSER_EV_STOPPED;
	answered_early += recv(sock[0], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
}

static void test_life(void)
{
	const int before = count_fds(), ram = make_ram(8 * MIB);
	uint32_t state[2] = {0};
	uint64_t ack = 7;
	char byte;

	begin();
	negotiate();
	tap_ok(!tell_pc(ram, 4 * MIB) && event == VHOSTUSER_EV_TABLE && answer(VHOSTUSER_SET_MEM_TABLE, &ack, 8) == 8 && !ack,
	       "a table is an event, and acknowledged");
	tap_ok(v.table.nranges == 2 && v.table.range[1].frame.n == 1 << 20 && v.table.range[1].page.n == 1024 &&
		       v.table.range[1].npages == 1024 && v.table.nfiles == 1,
	       "it is the one that was sent");
	tap_ok(pwrite(v.ram_fd, "x", 1, 0) == 1 && pread(ram, &byte, 1, 0) == 1 && byte == 'x', "with the RAM file's descriptor");
	tap_ok(!start(ram, 4 * MIB) && event == VHOSTUSER_EV_TABLE_SAME && v.running, "both queues run; the same table is told apart");
	tap_ok(!tell_pc(ram, 2 * MIB) && event == VHOSTUSER_EV_TABLE && v.running && answer(VHOSTUSER_SET_MEM_TABLE, &ack, 8) == 8,
	       "another layout is a new table, while the queues run");
	v.before_answer = settle;
	v.before_ctx = &settled;
	tap_ok(!tell_state(VHOSTUSER_GET_VRING_BASE, 0, 0) && event == VHOSTUSER_EV_STOPPED && !v.running &&
		       answer(VHOSTUSER_GET_VRING_BASE, state, 8) == 8 && state[0] == 0 && state[1] == 5,
	       "a reset of the guest is an event, the ring's index is answered");
	tap_ok(!tell_state(VHOSTUSER_GET_VRING_BASE, 1, 0) && event == VHOSTUSER_EV_NONE &&
		       answer(VHOSTUSER_GET_VRING_BASE, state, 8) == 8 && state[0] == 1 && state[1] == 6,
	       "the second queue's is no second reset");
	tap_ok(settled == 1 && !answered_early, "whoever uses the memory is told once, and before QEMU is");
	v.before_answer = NULL;
	tap_ok(!tell_state(VHOSTUSER_SET_VRING_ENABLE, 0, 1) && !tell_state(VHOSTUSER_SET_VRING_ENABLE, 1, 1) && !v.running &&
		       !tell_state(VHOSTUSER_SET_VRING_ENABLE, 0, 0) && !tell_state(VHOSTUSER_SET_VRING_ENABLE, 1, 0),
	       "enabling queues that were stopped does not start them");
	for (int i = 0; i < 5; i++) {
		bool good = !start(ram, 2 * MIB) && event == VHOSTUSER_EV_TABLE_SAME && v.running;

		good = good && !tell_state(VHOSTUSER_GET_VRING_BASE, 1, 0) && event == VHOSTUSER_EV_STOPPED && answer(11, state, 8) == 8;
		good = good && !tell_state(VHOSTUSER_GET_VRING_BASE, 0, 0) && event == VHOSTUSER_EV_NONE && answer(11, state, 8) == 8;
		tap_ok(good, "reboot %d: starts and stops again", i + 1);
	}
	close(sock[0]);
	sock[0] = -1;
	tap_eq(vhostuser_receive(&v, sock[1], &event), -ECONNRESET, "the VM's death is seen");
	tap_eq(vhostuser_receive(&v, sock[1], &event), -ECONNRESET, "and it stays so");
	end();
	close(ram);
	tap_eq(count_fds(), before, "no descriptor is left");
}

static void test_pieces(void)
{
	const struct mem m = {.n = 1, .region = {{0, MIB, 0, 0}}};
	const struct vhostuser_head head = {VHOSTUSER_SET_MEM_TABLE, VHOSTUSER_VERSION, 40};
	const int ram = make_ram(MIB);
	bool waiting = true;
	int r = 0;

	begin();
	for (size_t i = 0; i < sizeof(head); i++) {
		waiting = waiting && send(sock[0], (const char *)&head + i, 1, 0) == 1 && vhostuser_receive(&v, sock[1], &event) == -EAGAIN;
	}
	vhostuser_close(&v); /* half-way */
	end();
	begin();
	send_raw(VHOSTUSER_SET_MEM_TABLE, VHOSTUSER_VERSION, 40, &m, 3, &ram, 1);
	waiting = waiting && vhostuser_receive(&v, sock[1], &event) == -EAGAIN;
	for (size_t i = 3; i < 40; i++) {
		waiting = waiting && send(sock[0], (const char *)&m + i, 1, 0) == 1;
		r = vhostuser_receive(&v, sock[1], &event);
		waiting = waiting && r == (i < 39 ? -EAGAIN : 0);
	}
	tap_ok(waiting && event == VHOSTUSER_EV_TABLE && v.has_table, "a message that comes byte by byte is taken in when it is whole");
	end();
	close(ram);
}

/* --- refusals ------------------------------------------------------------------------------------------------------ */

static void refused(int got, int want, const char *what)
{
	struct vhostuser_msg reply;
	struct vhostuser_msg msg = {.head = {VHOSTUSER_GET_FEATURES, VHOSTUSER_VERSION, 0}};
	bool has_reply;

	tap_ok(got == want && v.err.why && vhostuser_message(&v, &msg, NULL, 0, &reply, &has_reply, &event) == want && !has_reply,
	       "%s ends the connection (%d): %s", what, got, v.err.why ? v.err.why : "no reason");
	end();
	begin();
}

static void test_refusals(void)
{
	const int before = count_fds(), ram = make_ram(8 * MIB), many[16] = {ram, ram, ram, ram, ram, ram, ram, ram, ram, ram, ram, ram};
	const uint32_t config[5] = {250, 8, 0}, short_config[3] = {0, 100, 0};
	struct mem m = {.n = 1, .region = {{0, MIB, 0, 0}}};
	const uint64_t word = 0;

	begin();
	refused(tell(7, VHOSTUSER_VERSION, &word, 8, NULL, 0), -EPROTONOSUPPORT, "SET_LOG_FD");
	refused(tell(UINT32_MAX, VHOSTUSER_VERSION, NULL, 0, NULL, 0), -EPROTONOSUPPORT, "a message that does not exist");
	refused(tell(VHOSTUSER_SET_OWNER, 2, NULL, 0, NULL, 0), -EPROTONOSUPPORT, "version 2");
	refused(tell(VHOSTUSER_SET_OWNER, 5, NULL, 0, NULL, 0), -EPROTONOSUPPORT, "an answer");
	refused(tell(VHOSTUSER_SET_FEATURES, VHOSTUSER_VERSION, &word, 4, NULL, 0), -EPROTO, "half a word");
	send_raw(VHOSTUSER_SET_MEM_TABLE, VHOSTUSER_VERSION, UINT32_MAX, NULL, 0, NULL, 0);
	refused(vhostuser_receive(&v, sock[1], &event), -EPROTO, "a payload of 4 GiB");
	refused(tell_u64(VHOSTUSER_SET_FEATURES, UINT64_C(1) << 26, -1), -EPROTO, "dirty logging");
	refused(tell_u64(VHOSTUSER_SET_PROTOCOL_FEATURES, UINT64_C(1) << 15, -1), -EPROTO, "memory slots");
	refused(tell_mem(&m, many, 0), -EBADF, "a table without descriptors");
	refused(tell_mem(&m, many, 2), -EBADF, "a descriptor too many");
	m.n = 8;
	refused(tell_mem(&m, many, 12), -EBADF, "twelve descriptors for eight regions");
	m.n = 9;
	refused(tell(VHOSTUSER_SET_MEM_TABLE, VHOSTUSER_VERSION, &m, 8 + 8 * 32, many, 8), -EPROTO, "nine regions in the room of eight");
	refused(tell(VHOSTUSER_SET_MEM_TABLE, VHOSTUSER_VERSION, &m, 8 + 9 * 32, many, 8), -EPROTO, "nine regions");
	m.n = 2;
	refused(tell(VHOSTUSER_SET_MEM_TABLE, VHOSTUSER_VERSION, &m, 8 + 32, many, 2), -EPROTO, "a region less than said");
	refused(tell(VHOSTUSER_SET_OWNER, VHOSTUSER_VERSION, NULL, 0, many, 1), -EBADF, "a descriptor with SET_OWNER");
	refused(tell_state(VHOSTUSER_SET_VRING_NUM, 2, 128), -ERANGE, "a third queue");
	refused(tell_state(VHOSTUSER_SET_VRING_NUM, 0, 129), -ERANGE, "129 entries");
	refused(tell_state(VHOSTUSER_SET_VRING_NUM, 0, 2048), -ERANGE, "2048 entries");
	refused(tell_state(VHOSTUSER_SET_VRING_BASE, 0, 65536), -ERANGE, "an index of 17 bits");
	refused(tell_state(VHOSTUSER_GET_VRING_BASE, 2, 0), -ERANGE, "the index of a third queue");
	refused(tell_state(VHOSTUSER_SET_VRING_ENABLE, 0, 2), -ERANGE, "half enabled");
	refused(tell_addr(2, 16, 16, 16), -ERANGE, "the place of a third queue");
	refused(tell_addr(0, 8, 16, 16), -ERANGE, "descriptors that are not aligned");
	refused(tell_u64(VHOSTUSER_SET_VRING_KICK, 0, ram), -EPROTO, "a queue without a place");
	refused(tell_u64(VHOSTUSER_SET_VRING_CALL, 0, -1), -EBADF, "a call without its descriptor");
	refused(tell_u64(VHOSTUSER_SET_VRING_CALL, VHOSTUSER_NO_FD, ram), -EBADF, "a descriptor that was not promised");
	refused(tell_u64(VHOSTUSER_SET_VRING_CALL, 0xff, ram), -ERANGE, "queue 255");
	refused(tell(VHOSTUSER_GET_CONFIG, VHOSTUSER_VERSION, config, 20, NULL, 0), -EPROTONOSUPPORT, "GET_CONFIG, not negotiated");
	tell_u64(VHOSTUSER_SET_PROTOCOL_FEATURES, VHOSTUSER_PROTOCOL, -1);
	refused(tell(VHOSTUSER_GET_CONFIG, VHOSTUSER_VERSION, config, 20, NULL, 0), -ERANGE, "a configuration beyond its end");
	tell_u64(VHOSTUSER_SET_PROTOCOL_FEATURES, VHOSTUSER_PROTOCOL, -1);
	refused(tell(VHOSTUSER_GET_CONFIG, VHOSTUSER_VERSION, short_config, 12, NULL, 0), -ERANGE, "a configuration without room");
	end();
	close(ram);
	tap_eq(count_fds(), before, "no descriptor is left");
}

/* Rightly sent, but of no use for shadows: the device goes on. */
static void no_table(struct mem *m, const int *fd, const char *what)
{
	const int before = count_fds();

	tap_ok(!tell_mem(m, fd, m->n) && event == VHOSTUSER_EV_NO_TABLE && !v.has_table && v.ram_fd == -1 && !v.broken,
	       "%s is no table: %s", what, v.err.why);
	tap_ok(count_fds() <= before, "and leaves no descriptor");
}

static void test_unusable(void)
{
	const int ram = make_ram(8 * MIB), null = open("/dev/null", O_RDWR | O_CLOEXEC), fd[2] = {ram, ram}, dev[1] = {null};
	struct mem m = {.n = 0};
	int huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

	begin();
	tap_ok(!tell_pc(ram, 4 * MIB) && v.has_table, "a table is there");
	no_table(&m, fd, "nothing (RAM that is not shared has no descriptor)");
	m = (struct mem){.n = 1, .region = {{MIB, MIB, 0, 0}}};
	no_table(&m, fd, "memory that does not begin at 0");
	m = (struct mem){.n = 1, .region = {{0, 9 * MIB, 0, 0}}};
	no_table(&m, fd, "a range longer than its file");
	m = (struct mem){.n = 2, .region = {{0, 2 * MIB, 0, 0}, {MIB, MIB, 0, 0}}};
	no_table(&m, fd, "an overlap");
	m = (struct mem){.n = 1, .region = {{0, 4096, 0, 0}}};
	no_table(&m, dev, "a device");
	if (huge < 0)
		tap_skip("hugetlb", "this kernel has no hugetlb memfd");
	else
		no_table(&m, &huge, "hugetlb");
	tap_ok(!tell_pc(ram, 4 * MIB) && event == VHOSTUSER_EV_TABLE && v.has_table, "the next good one is in force again");
	end();
}

int main(void)
{
	test_life();
	test_pieces();
	test_refusals();
	test_unusable();
	return tap_done();
}
