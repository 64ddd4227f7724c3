/* agent_eager.c - dsagent and a running process, eagerly: what the host is told is true, pinned, and taken back in time
 *
 * The process is a child with known pages; frames are read from its pagemap here.
 */
#include "tests/unit/agent_subject.h"

static bool in_ranges(const struct ds_agent_range *r, uint64_t n, uint64_t vpn)
{
	for (uint64_t i = 0; i < n; i++)
		if (vpn >= r[i].vpn && vpn < r[i].vpn + r[i].npages)
			return true;
	return false;
}

static void test_attach(int local, int host, pid_t pid)
{
	uint32_t seq = host_attached(host, 1), attr, n = 0, wrong_ranges = 0, got;
	const struct ds_agent_attach *a = (const struct ds_agent_attach *)host_msg;
	const struct ds_agent_range *r = (const struct ds_agent_range *)(a + 1);
	const struct ds_local_started *s = (const struct ds_local_started *)local_msg;
	uint64_t vpn = board->area / PAGE;
	char line[256], command_line[256];
	struct rle_map map;
	FILE *f;

	if (!tap_ok(seq, "a running process is attached: the host gets HELLO, then ATTACH")) {
		if (local_receive(local, NULL) == DS_LOCAL_REFUSED)
			printf("# refused: %s\n", local_no()->text);
		return;
	}
	tap_ok(a->pid == (uint64_t)pid && !strcmp(a->service, "checksum") && !strcmp(a->args, "a=1") && a->uid == 0 && a->mode == DS_AGENT_EAGER,
	       "ATTACH says which process, service, arguments, user, mode");
	tap_eq(a->head.bytes, sizeof(*a) + a->nranges * sizeof(*r) + a->map_bytes, "ATTACH is as long as its parts");
	map = map_of(a->nranges, a->map_bytes, sizeof(*a), pid, "ATTACH");
	tap_eq(wrong_pages(&map, pid), 0, "each of the %lu pages of the map is where the kernel says", (unsigned long)map.npages);
	for (int i = 0; i < NPAGES; i++)
		n += has(&map, vpn + i, true_frame(pid, vpn + i), NULL) == (i < NPAGES / 2);
	tap_eq(n, NPAGES, "known pages: those that were touched are in it, the others are not");
	tap_ok(has(&map, board->data / PAGE, true_frame(pid, board->data / PAGE), &attr) && !(attr & RLE_ATTR_FILE) && attr & RLE_ATTR_WRITE,
	       "a data page of the program's file is there, as memory of its own");
	tap_ok(has(&map, board->rodata / PAGE, true_frame(pid, board->rodata / PAGE), &attr) && !(attr & (RLE_ATTR_FILE | RLE_ATTR_WRITE)),
	       "a read-only page of the file too, not writable and not the page cache's");
	for (uint64_t i = 0; i < map.nruns; i++)
		wrong_ranges += !in_ranges(r, a->nranges, map.runs[i].vpn.n);
	for (uint64_t i = 1; i < a->nranges; i++)
		wrong_ranges += r[i].vpn < r[i - 1].vpn + r[i - 1].npages;
	tap_eq(wrong_ranges, 0, "the mappings rise, do not overlap, and hold every run");
	tap_ok(in_ranges(r, a->nranges, vpn + NPAGES - 1) && in_ranges(r, a->nranges, vpn + NPAGES), "mappings without pages, and without access, are among them");
	tap_ok(a->reserve.npages == 512 && !in_ranges(r, a->nranges, a->reserve.vpn) && !in_ranges(r, a->nranges, a->reserve.vpn + 511),
	       "room is kept for the capsule, and is none of the mappings");
	snprintf(command_line, sizeof(command_line), "sha256sum /proc/%d/exe", pid);
	f = popen(command_line, "r");
	if (f && fgets(line, sizeof(line), f)) {
		for (int i = 0; i < 32; i++)
			snprintf(command_line + 2 * i, 3, "%02x", a->sha256[i]);
		tap_ok(a->has_sha256 && !strncmp(line, command_line, 64), "the program's SHA-256 is what sha256sum says");
	}
	if (f)
		pclose(f);
	n = map.npages;
	rle_map_close(&map);
	host_started(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_STARTED, "who asked hears that it stands");
	tap_ok(got == 7 && s->mirror_pages == 77 && s->host_pid == 4242 && s->pinned_pages >= n && s->reserve.npages == 512, "and what the host says of it");
}

static void test_drop(int local, int host, pid_t pid)
{
	uint64_t vpn = board->area / PAGE + 3, frame = true_frame(pid, vpn), frame4 = true_frame(pid, vpn + 1);
	const struct ds_agent_drop *d;
	const struct ds_agent_range *r;
	struct rle_map map;
	uint32_t seq, got;
	struct pollfd p = {.fd = local, .events = POLLIN};

	local_ranges(local, 21, DS_LOCAL_DROP, 0, vpn, 2);
	tap_eq(local_receive(local, &got), DS_LOCAL_REFUSED, "pid 0 is who asks, which has no shadow");
	local_ranges(local, 22, DS_LOCAL_DROP, pid, vpn, 2);
	tap_eq(host_receive(host, &seq), DS_AGENT_DROP, "pages that are announced to go are taken from the host");
	d = (const struct ds_agent_drop *)host_msg;
	r = (const struct ds_agent_range *)(d + 1);
	tap_ok(d->nranges == 1 && r->vpn == vpn && r->npages == 2, "just those");
	tap_eq(poll(&p, 1, 100), 0, "who asked waits until the host has let go");
	host_done(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "then it may");
	tap_eq(got, 22, "and knows which");
	command(C_UNMAP_MAP, vpn * PAGE);
	command(C_DONTNEED, (vpn + 1) * PAGE);
	local_ranges(local, 23, DS_LOCAL_REFRESH, pid, vpn, 2);
	tap_eq(host_receive(host, &seq), DS_AGENT_UPDATE, "what is there after it is told");
	map = map_of(((struct ds_agent_update *)host_msg)->nranges, ((struct ds_agent_update *)host_msg)->map_bytes,
		     sizeof(struct ds_agent_update), pid, "UPDATE");
	tap_ok(true_frame(pid, vpn) && has(&map, vpn, true_frame(pid, vpn), NULL), "the new page is in it (frame %#lx, was %#lx)",
	       (unsigned long)true_frame(pid, vpn), (unsigned long)frame);
	tap_ok(!has(&map, vpn + 1, frame4, NULL) && !has(&map, vpn + 1, 0, NULL), "the one that was given back is not");
	tap_eq(wrong_pages(&map, pid), 0, "everything is where it should be");
	rle_map_close(&map);
	host_done(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "REFRESH is done");
}

/* A process that changes its mappings without a word: what the host has is stale, but nobody else's. */
static void test_unannounced(int local, int host, pid_t pid)
{
	uint64_t vpn = board->area / PAGE + 10, old = true_frame(pid, vpn);
	struct rle_map map;
	uint32_t seq, got;

	command(C_UNMAP_MAP, vpn * PAGE);
	tap_ok(true_frame(pid, vpn) != old, "a page changed behind the agent's back has another frame: the old one is pinned");
	command(C_PROTECT, (vpn + 1) * PAGE);
	command(C_TOUCH, board->area + (NPAGES - 1) * PAGE);
	local_ranges(local, 31, DS_LOCAL_REFRESH, pid, 0, 0);
	tap_eq(host_receive(host, &seq), DS_AGENT_UPDATE, "REFRESH of everything tells the host");
	map = map_of(((struct ds_agent_update *)host_msg)->nranges, ((struct ds_agent_update *)host_msg)->map_bytes,
		     sizeof(struct ds_agent_update), pid, "UPDATE");
	tap_ok(!has(&map, vpn, true_frame(pid, vpn), NULL) && !has(&map, vpn, old, NULL), "not of the page whose frame is not pinned yet");
	tap_eq(wrong_pages(&map, pid), 0, "what it tells is true");
	rle_map_close(&map);
	host_done(host, seq);
	tap_eq(host_receive(host, &seq), DS_AGENT_UPDATE, "once the host has let go of the old one, the new one is pinned and told");
	map = map_of(((struct ds_agent_update *)host_msg)->nranges, ((struct ds_agent_update *)host_msg)->map_bytes,
		     sizeof(struct ds_agent_update), pid, "UPDATE");
	tap_ok(has(&map, vpn, true_frame(pid, vpn), NULL), "it is in the map");
	tap_ok(has(&map, board->area / PAGE + NPAGES - 1, true_frame(pid, board->area / PAGE + NPAGES - 1), NULL), "so is a page that was touched meanwhile");
	tap_eq(wrong_pages(&map, pid), 0, "and everything is where it should be");
	rle_map_close(&map);
	host_done(host, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "then REFRESH is done");
	local_ranges(local, 32, DS_LOCAL_REFRESH, pid, 0, 0);
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "when nothing has changed the host is not bothered");
}

static void test_call(int local, int host, pid_t pid)
{
	struct {
		struct ds_local_call m;
		char payload[5];
	} call = {{.pid = pid, .executor = 3, .payload_bytes = 5}, "hello"};
	struct {
		struct ds_agent_call m;
		char payload[3];
	} reply = {{.executor = 3, .payload_bytes = 3}, "yes"};
	const struct ds_agent_call *c;
	const struct ds_local_call *l = (const struct ds_local_call *)local_msg;
	const struct ds_local_listed *list = (const struct ds_local_listed *)local_msg;
	const struct ds_local_entry *e = (const struct ds_local_entry *)(list + 1);
	uint32_t seq, got;

	local_send(local, &call, sizeof(call.m) + 5, DS_LOCAL_CALL, 41);
	tap_eq(host_receive(host, &seq), DS_AGENT_CALL, "a message for the service reaches the host");
	c = (const struct ds_agent_call *)host_msg;
	tap_ok(c->executor == 3 && c->payload_bytes == 5 && !memcmp(c + 1, "hello", 5), "with its payload");
	host_send(host, &reply, sizeof(reply.m) + 3, DS_AGENT_REPLY, seq);
	tap_eq(local_receive(local, &got), DS_LOCAL_REPLY, "its answer comes back");
	tap_ok(got == 41 && l->payload_bytes == 3 && !memcmp(l + 1, "yes", 3), "to who asked");
	local_about(local, 42, DS_LOCAL_LIST, 0);
	tap_eq(local_receive(local, &got), DS_LOCAL_LISTED, "LIST");
	tap_ok(list->nentries == 1 && !list->more && e->pid == (uint32_t)pid && e->state == DS_LOCAL_S_RUNNING && e->calls == 1 && e->drops == 1 &&
		       e->updates == 3 && e->pinned_pages && e->mirror_pages == 77 && !strcmp(e->service, "checksum"),
	       "tells the shadow and what happened to it");
}

static void test_stop(int local, int host, pid_t pid)
{
	struct pollfd p = {.fd = local, .events = POLLIN};
	uint32_t seq, got;

	tap_eq(helpers(pid, true), 1, "while the shadow stands there is a helper");
	local_about(local, 51, DS_LOCAL_STOP, pid);
	tap_eq(host_receive(host, &seq), 0, "STOP ends the stream");
	tap_eq(local_receive(local, &got), DS_LOCAL_ENDED, "who asked for the shadow hears that it has ended");
	tap_ok(got == 7 && local_no()->code == DS_LOCAL_C_STOPPED, "which one, and why");
	tap_eq(poll(&p, 1, 300), 0, "STOP is not done as long as the host has not closed");
	close(host);
	tap_eq(local_receive(local, &got), DS_LOCAL_DONE, "and done when it has");
	tap_eq(helpers(pid, true), 0, "nothing is left in the process");
	command(C_TOUCH, board->area);
	tap_ok(board->done && !kill(pid, 0), "which goes on");
}

int main(void)
{
	pid_t pid;
	int local, host;

	board = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = spawn();
	if (geteuid() || !true_frame(pid, board->area / PAGE)) {
		kill(pid, SIGKILL);
		tap_skip("dsagent shadows a process", "needs root that sees frame numbers");
		return tap_done();
	}
	play_begin(1 << 20, true);
	local = local_connect();
	local_shadow(local, 7, pid, DS_LOCAL_EAGER, 0, 512);
	host = host_accept();
	test_attach(local, host, pid);
	test_drop(local, host, pid);
	test_unannounced(local, host, pid);
	test_call(local, host, pid);
	test_stop(local, host, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_eq(play_end(), 0, "dsagent ends in order");
	return tap_done();
}
