/* vhostuser.c - fuzzes the vhost-user back end with a sequence of messages
 *
 * Input: messages one after the other, each a byte that says how many descriptors come along (modulo 9; its bit 7:
 * of /dev/null instead of a RAM file), a head and as much payload as the head's size, cut at the longest that
 * is read.  Each goes to vhostuser_message() directly; the socket is in the unit test.  Whatever the order, what others
 * rely on must hold: a table is finished and within its file, running means that both queues have a place,
 * what is broken stays broken, and no descriptor is left at the end.
 */
#include "runtime/host/vm/vhostuser.h"
#include "tests/fuzz/target.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES (INT64_C(1) << 33)

static void check(const struct vhostuser *v)
{
	MUST(v->nregions <= VHOSTUSER_REGIONS_MAX && (v->ram_fd >= 0) == v->has_table);
	for (uint32_t i = 0; i < VHOSTUSER_QUEUES; i++) {
		const struct vhostuser_queue *q = &v->queue[i];

		MUST(q->num <= VHOSTUSER_RING_SIZE_MAX && q->base <= UINT16_MAX && (!q->num || !(q->num & (q->num - 1))));
		if (v->running)
			MUST(q->started && q->num && !(q->desc % 16));
	}
	if (!v->has_table)
		return;
	MUST(v->table.finished && v->table.nranges && !v->table.range[0].frame.n && fcntl(v->ram_fd, F_GETFD) >= 0);
	for (uint32_t i = 0; i < v->table.nranges; i++) {
		const struct ramtable_range *r = &v->table.range[i];

		MUST(r->file < v->table.nfiles && r->page.n + r->npages <= v->table.file[r->file].npages);
		MUST(!i || r[-1].frame.n + r[-1].npages <= r->frame.n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ram = -1, null = -1;
	struct vhostuser v;
	int lowest, after;

	if (ram < 0) {
		ram = memfd_create("ram", MFD_CLOEXEC);
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		MUST(ram >= 0 && null >= 0 && !ftruncate(ram, RAM_BYTES));
	}
	lowest = dup(ram);
	close(lowest);
	vhostuser_init(&v, 3);
	while (size > sizeof(struct vhostuser_head)) {
		const uint32_t nfds = (*data & 0x7f) % 9;
		struct vhostuser_msg msg = {0}, reply;
		int fd[VHOSTUSER_REGIONS_MAX], broken = v.broken, r;
		enum vhostuser_event event;
		bool has_reply;
		size_t bytes;

		for (uint32_t i = 0; i < nfds; i++)
			fd[i] = dup(*data & 0x80 ? null : ram);
		data++, size--;
		memcpy(&msg.head, data, sizeof(msg.head));
		data += sizeof(msg.head), size -= sizeof(msg.head);
		bytes = msg.head.size < sizeof(msg.payload) ? msg.head.size : sizeof(msg.payload);
		bytes = bytes < size ? bytes : size;
		memcpy(&msg.payload, data, bytes);
		data += bytes, size -= bytes;
		r = vhostuser_message(&v, &msg, fd, nfds, &reply, &has_reply, &event);
		MUST(r == v.broken && (!broken || r == broken) && (!r || v.err.why));
		MUST(!has_reply || (!r && reply.head.size && reply.head.size <= VHOSTUSER_PAYLOAD_MAX && reply.head.request == msg.head.request));
		MUST(event != VHOSTUSER_EV_NO_TABLE || (!v.has_table && v.err.why));
		check(&v);
	}
	vhostuser_close(&v);
	after = dup(ram);
	close(after);
	MUST(after == lowest);
	return 0;
}
