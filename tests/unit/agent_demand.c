/* agent_demand.c - dsagent and a running process, on demand: faults are answered with pages that are pinned */
#include "tests/unit/agent_subject.h"

static int local, host;
static pid_t pid;
static struct rle_map pages;

static void send_fault(uint32_t seq, uint64_t vpn, uint64_t first, uint64_t npages)
{
	struct ds_agent_fault f = {.vpn = vpn, .window = {first, npages}, .write = 1};

	host_send(host, &f, sizeof(f), DS_AGENT_FAULT, seq);
}

/* The answer to a fault, in `pages`. */
static bool receive_pages(uint32_t want)
{
	const struct ds_agent_pages *m;
	uint32_t seq;

	rle_map_close(&pages);
	if (!tap_ok(host_receive(host, &seq) == DS_AGENT_PAGES && seq == want, "fault %u is answered", want))
		return false;
	m = (const struct ds_agent_pages *)host_msg;
	return !rle_map_open_copy(&pages, m + 1, m->map_bytes, NULL);
}

static uint64_t at(int page)
{
	return board->area / PAGE + page;
}

static bool told(uint64_t vpn)
{
	uint64_t frame = true_frame(pid, vpn);

	return frame && has(&pages, vpn, frame, NULL);
}

static void test_attach(void)
{
	const struct ds_agent_attach *a;
	uint32_t seq, got;

	local_shadow(local, 7, pid, DS_LOCAL_DEMAND, 0, 0);
	host = host_accept();
	seq = host_attached(host, 0);
	a = (const struct ds_agent_attach *)host_msg;
	tap_ok(seq && a->mode == DS_AGENT_DEMAND && !a->map_bytes && a->nranges && !a->has_sha256 && !a->reserve.npages,
	       "ATTACH on demand: mappings and no map, no hash that was not asked for, no room");
	host_started(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_STARTED, "it stands");
}

static bool in_ranges(const struct ds_agent_range *r, uint64_t n, uint64_t vpn, uint64_t npages)
{
	for (uint64_t i = 0; i < n; i++)
		if (r[i].vpn < vpn + npages && r[i].vpn + r[i].npages > vpn)
			return true;
	return false;
}

/* The host hears of the process before there is a helper in it. */
static void test_meanwhile(void)
{
	const struct ds_agent_attach *a;
	const struct ds_agent_update *u;
	struct ds_agent_range room;
	struct ds_local_range had;
	uint32_t seq, got;
	char line[256], want[64];
	bool there = false;
	FILE *maps;

	local_shadow(local, 9, pid, DS_LOCAL_DEMAND, 0, 64);
	host = host_accept();
	seq = host_attached(host, 0);
	a = (const struct ds_agent_attach *)host_msg;
	room = a->reserve;
	tap_ok(seq && room.npages == 64 && !in_ranges((const struct ds_agent_range *)(a + 1), a->nranges, room.vpn, room.npages),
	       "ATTACH names room for the capsule where nothing is mapped");
	command(C_GROW, 16 * PAGE);
	host_started(host, seq);
	tap_eq(host_receive(host, &seq), DS_AGENT_UPDATE, "what the process has mapped meanwhile is told");
	u = (const struct ds_agent_update *)host_msg;
	tap_ok(!u->map_bytes && in_ranges((const struct ds_agent_range *)(u + 1), u->nranges, board->mapped / PAGE, 16) &&
		       !in_ranges((const struct ds_agent_range *)(u + 1), u->nranges, room.vpn, room.npages),
	       "the new mapping, and not the room for the capsule");
	host_done(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_STARTED, "then it stands");
	had = ((const struct ds_local_started *)local_msg)->reserve;
	tap_ok(had.vpn == room.vpn && had.npages == room.npages, "with the room that was named");
	snprintf(line, sizeof(line), "/proc/%d/maps", pid);
	snprintf(want, sizeof(want), "%lx-%lx ---p", room.vpn * PAGE, (room.vpn + room.npages) * PAGE);
	maps = fopen(line, "r");
	while (maps && fgets(line, sizeof(line), maps))
		there |= !strncmp(line, want, strlen(want));
	if (maps)
		fclose(maps);
	tap_ok(there, "which is kept free in the process");
	send_fault(1, board->mapped / PAGE, board->mapped / PAGE, 16);
	receive_pages(1);
	tap_ok(pages.npages == 16 && !wrong_pages(&pages, pid), "a fault there is answered");
	rle_map_close(&pages);
	command(C_EXIT, 0);
	tap_eq(host_receive(host, &seq), 0, "the process exits: the stream ends");
	tap_eq(local_receive(local, &got), DS_LOCAL_ENDED, "who asked hears of it");
	close(host);
	waitpid(pid, NULL, 0);
}

static void test_faults(void)
{
	uint64_t frame;
	uint32_t attr;

	send_fault(1, at(2), at(0), 16);
	receive_pages(1);
	tap_ok(told(at(2)), "the page that was touched comes, and is where the kernel says");
	tap_ok(pages.npages == 16 && !wrong_pages(&pages, pid), "so do its neighbours in the window");
	/* A page that nobody ever touched is made. */
	tap_eq(true_frame(pid, at(NPAGES - 3)), 0, "a page that the process never touched is not there");
	send_fault(2, at(NPAGES - 3), at(NPAGES - 8), 8);
	receive_pages(2);
	tap_ok(told(at(NPAGES - 3)), "touched on the host it is made, pinned and told");
	tap_ok(pages.npages <= 16 && !wrong_pages(&pages, pid), "together with no more than a few around it");
	/* Pages of the program's file become its own. */
	send_fault(3, board->data / PAGE, board->data / PAGE, 1);
	receive_pages(3);
	tap_ok(has(&pages, board->data / PAGE, true_frame(pid, board->data / PAGE), &attr) && attr & RLE_ATTR_WRITE && !(attr & RLE_ATTR_FILE),
	       "a data page of the program's file comes as memory of its own");
	send_fault(4, board->rodata / PAGE, board->rodata / PAGE, 1);
	receive_pages(4);
	tap_ok(has(&pages, board->rodata / PAGE, true_frame(pid, board->rodata / PAGE), &attr) && !(attr & (RLE_ATTR_WRITE | RLE_ATTR_FILE)),
	       "a read-only one too, and not writable");
	send_fault(5, at(NPAGES), at(NPAGES), 1);
	receive_pages(5);
	tap_eq(pages.npages, 0, "a page without access cannot be had");
	send_fault(6, 16, 16, 4);
	receive_pages(6);
	tap_eq(pages.npages, 0, "nor one where nothing is mapped");
	send_fault(7, at(2), at(0), 4);
	receive_pages(7);
	tap_ok(told(at(2)), "a page that was told before can be asked for again");
	/* Several at once. */
	for (int i = 0; i < 8; i++)
		send_fault(10 + i, at(16 + i), at(16 + i), 1);
	for (int i = 0; i < 8; i++) {
		receive_pages(10 + i);
		tap_ok(told(at(16 + i)), "page %d", i);
	}
	frame = true_frame(pid, at(2));
	command(C_UNMAP_MAP, at(2) * PAGE);
	tap_ok(true_frame(pid, at(2)) != frame, "a frame that was told is not used for anything else");
}

/* The process has changed a page that the host has: it is taken back before anything else is told. */
static void test_changed(void)
{
	const struct ds_agent_drop *d;
	const struct ds_agent_range *r;
	uint32_t seq, got;

	send_fault(20, at(1), at(0), 8);
	tap_eq(host_receive(host, &seq), DS_AGENT_DROP, "a fault near a page that has changed: that one is taken from the host first");
	d = (const struct ds_agent_drop *)host_msg;
	r = (const struct ds_agent_range *)(d + 1);
	tap_ok(d->nranges == 1 && r->vpn == at(2) && r->npages == 1, "that one only");
	/* Another fault comes while the host is about it. */
	send_fault(21, at(30), at(30), 1);
	receive_pages(21);
	tap_ok(told(at(30)), "a fault that comes meanwhile is answered meanwhile");
	host_done(host, seq);
	receive_pages(20);
	tap_ok(told(at(1)) && told(at(2)) && !wrong_pages(&pages, pid), "then the fault is answered, with the new page");
	command(C_PROTECT, at(4) * PAGE);
	command(C_MAP, board->area - (64 << 20));
	local_ranges(local, 61, DS_LOCAL_REFRESH, pid, 0, 0);
	tap_eq(host_receive(host, &seq), DS_AGENT_DROP, "REFRESH: a page that is read-only now is taken back");
	d = (const struct ds_agent_drop *)host_msg;
	r = (const struct ds_agent_range *)(d + 1);
	tap_ok(d->nranges == 2 && r[0].vpn == at(4) && r[0].npages == 1 && r[1].vpn == at(NPAGES) && r[1].npages == 1,
	       "that one, and one that could not be had before and may be had now");
	host_done(host, seq);
	seq = host_receive(host, &got);
	if (seq == DS_AGENT_UPDATE)
		host_done(host, got);
	tap_eq(seq, DS_AGENT_UPDATE, "and more mappings than the host knew are told");
	tap_eq(((struct ds_agent_update *)host_msg)->map_bytes, 0, "without a map");
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "done");
	send_fault(22, at(4), at(4), 1);
	receive_pages(22);
	tap_ok(told(at(4)) && !(pages.runs[0].attr & RLE_ATTR_WRITE), "asked for again it comes as it is now");
}

static void test_blocked(void)
{
	struct pollfd p = {.fd = host, .events = POLLIN};
	uint32_t seq, got;

	local_ranges(local, 71, DS_LOCAL_DROP, pid, at(6), 2);
	tap_eq(host_receive(host, &seq), DS_AGENT_DROP, "DROP reaches the host");
	host_done(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "and is done");
	local_ranges(local, 72, DS_LOCAL_DROP, pid, at(NPAGES - 20), 1);
	tap_ok(local_receive(local, &got) == DS_LOCAL_DONE && !poll(&p, 1, 0), "of what the host does not have it is done at once");
	send_fault(30, at(6), at(0), 16);
	tap_eq(poll(&p, 1, 200), 0, "a fault on a page that was dropped waits");
	command(C_DONTNEED, at(6) * PAGE);
	send_fault(31, at(9), at(0), 16);
	receive_pages(31);
	tap_ok(told(at(9)) && !has(&pages, at(6), 0, NULL) && pages.npages == 14, "others go on, without the dropped pages");
	local_ranges(local, 73, DS_LOCAL_REFRESH, pid, at(6), 2);
	receive_pages(30);
	tap_ok(told(at(6)), "until REFRESH: then it is answered with what is there now");
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "REFRESH is done");
	local_ranges(local, 74, DS_LOCAL_DROP, pid, at(6), 1);
	host_receive(host, &seq);
	host_done(host, seq);
	local_receive(local, &got);
	send_fault(32, at(6), at(6), 1);
	receive_pages(32);
	tap_eq(pages.npages, 0, "without a REFRESH it is answered after a while: nothing is there");
}

int main(void)
{
	uint32_t seq, got;

	board = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = spawn();
	if (geteuid() || !true_frame(pid, board->area / PAGE)) {
		kill(pid, SIGKILL);
		tap_skip("dsagent shadows a process on demand", "needs root that sees frame numbers");
		return tap_done();
	}
	play_begin(1 << 20, true);
	local = local_connect();
	test_attach();
	test_faults();
	test_changed();
	test_blocked();
	rle_map_close(&pages);
	command(C_EXIT, 0);
	tap_eq(host_receive(host, &seq), 0, "the process exits: the stream ends");
	tap_eq(local_receive(local, &got), DS_LOCAL_ENDED, "who asked hears of it");
	tap_eq(local_no()->code, DS_LOCAL_C_EXIT, "and why");
	close(host);
	waitpid(pid, NULL, 0);
	pid = spawn();
	test_meanwhile();
	/* dsagent is killed: what is in processes and on the host ends by itself. */
	pid = spawn();
	test_attach();
	tap_eq(helpers(pid, true), 1, "another shadow stands");
	kill(play_server, SIGKILL);
	tap_eq(host_receive(host, &seq), 0, "dsagent is killed: streams end");
	for (int i = 0; i < 200 && helpers(pid, false); i++)
		usleep(10000);
	tap_eq(helpers(pid, false), 0, "helpers end");
	command(C_TOUCH, board->area);
	tap_ok(board->done && !kill(pid, 0), "the process goes on");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_ok(WIFSIGNALED(play_end()), "it was killed indeed");
	return tap_done();
}
