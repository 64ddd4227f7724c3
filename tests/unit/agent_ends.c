/* agent_ends.c - dsagent: how shadows end, who is refused and why, and that frames stay until the host has let go
 *
 * A frame that was freed is not anonymous memory any more: /proc/kpageflags tells.
 */
#include <inttypes.h>

#include "tests/unit/agent_subject.h"

#define NOBODY 65534
#define LIMIT_MIB 64ul /* that may be pinned in all */
#define KPF_ANON (UINT64_C(1) << 12) /* linux/kernel-page-flags.h */

static int local;
static uint32_t got;

/* A connection of @uid's. */
static int connect_as(uid_t uid)
{
	int fd;

	if (setegid(uid) || seteuid(uid))
		play_die("seteuid");
	fd = local_connect();
	if (seteuid(0) || setegid(0))
		play_die("seteuid");
	return fd;
}

static bool frame_is_anon(uint64_t frame)
{
	uint64_t flags = 0;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &flags, 8, frame * 8) != 8)
		play_die("/proc/kpageflags");
	close(fd);
	return flags & KPF_ANON;
}

/* A shadow that stands.  Return: the host's end; frames[]: of the first known pages. */
static int stand_in(uint32_t mode, int fd, pid_t pid, uint32_t flags, uint64_t frames[4])
{
	int host;

	local_shadow(fd, 7, pid, mode, flags, 0);
	host = host_accept();
	host_started(host, host_attached(host, 0));
	if (local_receive(fd, &got) != DS_LOCAL_STARTED) {
		printf("# %s\n", local_no()->text);
		play_die("a shadow does not stand");
	}
	for (int i = 0; i < 4; i++)
		frames[i] = true_frame(pid, board->area / PAGE + i);
	return host;
}

static int stand(int fd, pid_t pid, uint32_t flags, uint64_t frames[4])
{
	return stand_in(DS_LOCAL_EAGER, fd, pid, flags, frames);
}

static int held(const uint64_t frames[4])
{
	int n = 0;

	for (int i = 0; i < 4; i++)
		n += frame_is_anon(frames[i]);
	return n;
}

/* Sockets of dsagent's main process: of a shadow that has ended, the stream and the safe that keeps its frames (hold.h). */
static int sockets(void)
{
	char line[128];

	snprintf(line, sizeof(line), "ls -l /proc/%d/fd | grep -c socket:", play_server);
	return number_of(line);
}

static int sockets_before;

/* After the host has closed dsagent closes the safe, the last holder of these frames.  (What becomes of the frames then is the
 * kernel's business: the next one to get them may have anonymous memory in them too.) */
static bool let_go(void)
{
	for (int i = 0; i < 3000 && sockets() != sockets_before; i++)
		usleep(10000);
	return sockets() == sockets_before;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void expect_end(const char *what, uint32_t code)
{
	uint16_t kind = local_receive(local, &got);

	tap_ok(kind == DS_LOCAL_ENDED && local_no()->code == code, "%s: who asked is told", what);
	if (kind != DS_LOCAL_ENDED || local_no()->code != code)
		printf("# kind %u, code %u: %s\n", kind, local_no()->code, local_no()->text);
}

/* The children of the server: one a shadow. */
static pid_t child_of_server(void)
{
	char line[64];
	FILE *f;
	pid_t pid = 0;

	snprintf(line, sizeof(line), "/proc/%d/task/%d/children", play_server, play_server);
	f = fopen(line, "r");
	if (f && fgets(line, sizeof(line), f))
		pid = atoi(line);
	if (f)
		fclose(f);
	return pid;
}

static void test_ends(void)
{
	uint64_t frames[4];
	uint32_t seq;
	pid_t pid = spawn();
	int host;

	local_about(local, 1, DS_LOCAL_LIST, 0); /* answered, it has accepted our connection: that socket is one of those before */
	tap_eq(local_receive(local, &got), DS_LOCAL_LISTED, "dsagent answers");
	sockets_before = sockets();
	host = stand(local, pid, 0, frames);
	reap(pid);
	tap_eq(host_receive(host, &seq), 0, "killed: the stream ends");
	expect_end("killed", DS_LOCAL_C_EXIT);
	usleep(300000);
	tap_eq(held(frames), 4, "killed: its frames are still nobody else's");
	tap_eq(sockets() - sockets_before, 2, "dsagent holds the stream and the safe");
	close(host);
	tap_ok(let_go(), "until the host has closed");

	pid = spawn();
	host = stand(local, pid, 0, frames);
	command(C_EXEC, 0);
	tap_eq(host_receive(host, &seq), 0, "exec: the stream ends");
	expect_end("exec", DS_LOCAL_C_EXEC);
	usleep(300000);
	tap_eq(held(frames), 4, "exec: frames of the old memory stay");
	close(host);
	tap_ok(let_go(), "until the host has closed");
	tap_eq(helpers(pid, true), 0, "exec: no helper is left");
	reap(pid);

	pid = spawn();
	host = stand(local, pid, 0, frames);
	tap_ok(child_of_server() > 0 && !kill(child_of_server(), SIGKILL), "dsagent's own process for a shadow is killed");
	tap_eq(host_receive(host, &seq), 0, "the stream ends all the same");
	expect_end("it is killed", DS_LOCAL_C_SYSTEM);
	reap(pid);
	usleep(300000);
	tap_eq(held(frames), 4, "frames stay all the same, without process, child and helper");
	close(host);
	tap_ok(let_go(), "until the host has closed");

	pid = spawn();
	host = stand(local, pid, 0, frames);
	host_refuse(host, 0, DS_AGENT_ENDED, DS_AGENT_C_GONE, "the service returned 3");
	close(host);
	expect_end("the host ends it", DS_LOCAL_C_GONE);
	tap_ok(!strcmp(local_no()->text, "the service returned 3"), "in the host's words");
	host = stand(local, pid, 0, frames);
	tap_ok(host >= 0, "it can have another one");
	host_done(host, 999);
	expect_end("an answer to nothing", DS_LOCAL_C_HOST);
	close(host);
	host = stand(local, pid, 0, frames);
	if (write(host, "nonsense and more of it, all of it not a message", 48) < 0)
		play_die("write");
	expect_end("nonsense from the host", DS_LOCAL_C_HOST);
	close(host);

	host = stand(local, pid, DS_LOCAL_RETRY, frames);
	close(host);
	expect_end("the host goes away", DS_LOCAL_C_HOST);
	host = host_accept();
	host_started(host, host_attached(host, 0));
	tap_eq(local_receive(local, &got), DS_LOCAL_STARTED, "RETRY: it is tried again, and stands");
	tap_eq(got, 7, "as the same request");
	close(host);
	expect_end("and again", DS_LOCAL_C_HOST);
	local_about(local, 8, DS_LOCAL_STOP, pid);
	do {
		seq = local_receive(local, &got);
	} while (seq == DS_LOCAL_ENDED);
	tap_ok(seq == DS_LOCAL_DONE && got == 8, "STOP while it waits for the host");

	int tied = local_connect();

	host = stand(tied, pid, DS_LOCAL_TIED, frames);
	close(tied);
	tap_eq(host_receive(host, &seq), 0, "TIED: the connection ends, and so does the shadow");
	close(host);
	reap(pid);
}

/* Where the helper's desk lies in a process (remote.h).  0: not found. */
static uint64_t helper_desk(pid_t pid)
{
	uint64_t at = 0, start;
	char line[512];
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/maps", pid);
	f = fopen(line, "r");
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "memfd:dark shadow") && sscanf(line, "%" SCNx64, &start) == 1)
			at = start;
	if (f)
		fclose(f);
	return at;
}

/* A process that puts something else in the place of the helper's desk could make it pin and hold other pages. */
static void test_tampered(void)
{
	uint64_t frames[4], desk;
	uint32_t seq;
	pid_t pid = spawn();
	int host = stand(local, pid, 0, frames);

	desk = helper_desk(pid);
	if (!desk)
		play_die("the helper's desk");
	command(C_UNMAP_MAP, desk + 3 * PAGE);
	local_ranges(local, 15, DS_LOCAL_REFRESH, pid, 0, 0);
	tap_ok(local_receive(local, &got) == DS_LOCAL_REFUSED && strstr(local_no()->text, "interfered"), "a page of the program's own, where the helper reads what to do, is noticed");
	expect_end("it ends the shadow", DS_LOCAL_C_PROCESS);
	tap_eq(host_receive(host, &seq), 0, "nothing is told with it: the stream ends");
	close(host);
	tap_ok(let_go(), "frames are let go of when the host has closed");
	host = stand(local, pid, 0, frames);
	tap_ok(host >= 0, "it can have another shadow");
	close(host);
	local_receive(local, &got);
	reap(pid);
}

static void expect_refusal(uint32_t code, const char *part, const char *what)
{
	uint16_t kind = local_receive(local, &got);

	tap_ok(kind == DS_LOCAL_REFUSED && local_no()->code == code && strstr(local_no()->text, part), "refused: %s", what);
	if (kind != DS_LOCAL_REFUSED || local_no()->code != code || !strstr(local_no()->text, part))
		printf("# kind %u, code %u: %s\n", kind, local_no()->code, kind == DS_LOCAL_REFUSED ? local_no()->text : "-");
}

static void refused(pid_t pid, uint32_t flags, uint32_t code, const char *part, const char *what)
{
	local_shadow(local, 9, pid, DS_LOCAL_EAGER, flags, 0);
	expect_refusal(code, part, what);
}

/* The process asks, and the host hears nothing of it. */
static void untold(pid_t pid, const char *who, uint32_t code, const char *part, const char *why)
{
	int host;

	local_shadow(local, 9, pid, DS_LOCAL_EAGER, 0, 0);
	host = host_accept();
	tap_eq(host_attached(host, 0), 0, "%s is never told to the host", who);
	close(host);
	expect_refusal(code, part, why);
}

static void test_refusals(void)
{
	uint64_t frames[4];
	pid_t pid = spawn();
	int host, status;

	refused(2, 0, DS_LOCAL_C_PROCESS, "kernel thread", "a kernel thread");
	refused(1, 0, DS_LOCAL_C_PROCESS, "starts all others", "process 1");
	refused(play_server, 0, DS_LOCAL_C_PROCESS, "is dsagent", "dsagent itself");
	refused(4194303, 0, DS_LOCAL_C_PROCESS, "no process", "a process that does not exist");
	refused(pid, 16, DS_LOCAL_C_MESSAGE, "flag", "a flag that does not exist");
	close(local);
	local = local_connect();
	host = stand(local, pid, 0, frames);
	refused(pid, 0, DS_LOCAL_C_BUSY, "already", "a second shadow of a process");
	local_about(local, 8, DS_LOCAL_STOP, pid);
	close(host);
	local_receive(local, &got);
	local_receive(local, &got);
	local_shadow(local, 9, pid, DS_LOCAL_EAGER, 0, 0);
	host = host_accept();
	host_refuse(host, host_attached(host, 0), DS_AGENT_REFUSED, DS_AGENT_C_POLICY, "no rule grants it");
	close(host);
	expect_refusal(DS_LOCAL_C_REFUSED, "no rule grants it", "by the host's policy, in its words");
	local_about(local, 9, DS_LOCAL_STOP, pid);
	do {
		status = local_receive(local, &got);
	} while (status == DS_LOCAL_ENDED || (status == DS_LOCAL_REFUSED && local_no()->code != DS_LOCAL_C_NONE));
	tap_ok(true, "nothing of it is left");
	command(C_TRACEME, 0);
	refused(pid, 0, DS_LOCAL_C_PROCESS, "traced by process", "a process that is traced");
	reap(pid);
	pid = spawn();
	command(C_FILTER, 0);
	refused(pid, 0, DS_LOCAL_C_PROCESS, "seccomp filter", "a process with a seccomp filter");
	host = stand(local, pid, DS_LOCAL_SECCOMP, frames);
	tap_ok(host >= 0, "unless the caller says that it does no harm");
	close(host);
	local_receive(local, &got);
	reap(pid);
	pid = spawn();
	command(C_STRICT, 0);
	usleep(20000);
	refused(pid, DS_LOCAL_SECCOMP, DS_LOCAL_C_PROCESS, "strict", "a process under strict seccomp");
	reap(pid);
	pid = spawn_as(NOBODY);
	command(C_HIDE, 0);
	refused(pid, 0, DS_LOCAL_C_ACCESS, "may insist", "a user's process that is not dumpable");
	host = stand(local, pid, DS_LOCAL_FORCE, frames);
	tap_ok(host >= 0, "unless root insists");
	close(host);
	local_receive(local, &got);
	reap(pid);
	pid = spawn();
	command(C_RING, 0);
	tap_ok((int64_t)board->mapped >= 0, "a process makes an io_uring that polls");
	untold(pid, "it", DS_LOCAL_C_BUSY, "io_uring",
	       "because its kernel threads would change memory while the others are stopped");
	reap(pid);
	pid = spawn();
	command(C_GROW, 80 << 20);
	untold(pid, "a process larger than what may be pinned", DS_LOCAL_C_LIMIT, "--limit",
	       "because of the limit on pinned memory");
	reap(pid);
	close(play_listen);
	play_listen = -1;
	unlink(play_host);
	pid = spawn();
	refused(pid, 0, DS_LOCAL_C_HOST, "dshost", "without a host");
	reap(pid);
	play_listen = play_bind(play_host, SOCK_STREAM);
}

/* An ordinary user. */
static void test_user(void)
{
	const struct ds_local_mapped *m = (const struct ds_local_mapped *)local_msg;
	struct ds_local_map map = {.split = RLE_SPLIT_PROT};
	pid_t roots = spawn(), pid;
	uint64_t area, sum = 0, present = 0, frames[4];
	struct ds_local_run *run;
	int root = local, host;

	local = connect_as(NOBODY);
	refused(roots, 0, DS_LOCAL_C_ACCESS, "not yours", "a user who wants root's process");
	map.pid = roots;
	local_send(local, &map, sizeof(map), DS_LOCAL_MAP, 11);
	expect_refusal(DS_LOCAL_C_ACCESS, "not yours", "a user who wants the map of root's process");
	reap(roots);
	/* Three quarters of what may be pinned are the most that a user can have; root can have the rest. */
	pid = spawn_as(NOBODY);
	command(C_GROW, (3 * LIMIT_MIB / 4 + 2) << 20);
	untold(pid, "a user's process larger than what one user may have pinned", DS_LOCAL_C_LIMIT, "for one user",
	       "because others are to have a part of the limit");
	reap(pid);
	pid = spawn();
	command(C_GROW, (3 * LIMIT_MIB / 4 + 2) << 20);
	close(stand(root, pid, 0, frames));
	tap_ok(((struct ds_local_started *)local_msg)->pinned_pages >= (3 * LIMIT_MIB / 4) << 8, "root can have as much");
	local_receive(root, &got);
	reap(pid);
	pid = spawn_as(NOBODY);
	area = board->area / PAGE;
	map.pid = pid;
	local_send(local, &map, sizeof(map), DS_LOCAL_MAP, 12);
	tap_ok(local_receive(local, &got) == DS_LOCAL_MAPPED && m->form == DS_LOCAL_FORM_RUNS && local_fd_came >= 0,
	       "a user gets the map of an own process, as runs without frames");
	run = mmap(NULL, m->bytes, PROT_READ, MAP_SHARED, local_fd_came, 0);
	if (run == MAP_FAILED)
		play_die("mmap of runs");
	for (uint64_t i = 0; i < m->nruns; i++)
		sum += run[i].vpn >= area && run[i].vpn < area + NPAGES ? run[i].npages : 0;
	for (int i = 0; i < NPAGES; i++)
		present += !!true_frame(pid, area + i);
	tap_ok(m->bytes == m->nruns * sizeof(*run) && sum == present && sum == NPAGES / 2, "of the pages that are there (%lu of %lu)",
	       (unsigned long)sum, (unsigned long)present);
	tap_ok(ftruncate(local_fd_came, 0) && mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, local_fd_came, 0) == MAP_FAILED, "nobody can change it");
	munmap(run, m->bytes);
	close(local_fd_came);
	local_send(root, &map, sizeof(map), DS_LOCAL_MAP, 12);
	local_receive(root, &got);
	if (tap_ok(m->form == DS_LOCAL_FORM_MAP && local_fd_came >= 0, "root gets it with frames")) {
		struct rle_map blob;

		tap_eq(rle_map_load(&blob, local_fd_came, 1 << 20, true, NULL), 0, "as a map");
		tap_eq(wrong_pages(&blob, pid), 0, "that is true");
		rle_map_close(&blob);
		close(local_fd_came);
	}
	command(C_HIDE, 0);
	refused(pid, 0, DS_LOCAL_C_ACCESS, "not dumpable", "an own process that is not dumpable (as after setuid)");
	refused(pid, DS_LOCAL_FORCE, DS_LOCAL_C_ACCESS, "only root", "a user who insists");
	command(C_HIDE, 1);
	host = stand(local, pid, 0, frames);
	tap_ok(((struct ds_local_started *)local_msg)->pinned_pages, "a user's own process can have a shadow");
	const struct ds_agent_attach *a = (const struct ds_agent_attach *)host_msg;
	const uint64_t board_vpn = (uintptr_t)board / PAGE;
	struct rle_map told = map_of(a->nranges, a->map_bytes, sizeof(*a), pid, "a user's ATTACH");

	tap_ok(has(&told, board_vpn, true_frame(pid, board_vpn), NULL), "shared memory is in it");
	tap_ok(has(&told, board->area / PAGE, frames[0], NULL), "and private memory");
	rle_map_close(&told);
	/* Half of the 8 that there may be are the most that a user can have. */
	pid_t more[4];
	int hosts[4];

	for (int i = 0; i < 4; i++) {
		more[i] = spawn_as(NOBODY);
		if (i < 3)
			hosts[i] = stand_in(DS_LOCAL_DEMAND, local, more[i], 0, frames);
	}
	refused(more[3], 0, DS_LOCAL_C_LIMIT, "half of all", "a user who has four of eight");
	for (int i = 0; i < 4; i++) {
		reap(more[i]);
		if (i < 3)
			close(hosts[i]);
		if (i < 3)
			local_receive(local, &got);
	}
	int other = local;

	local = connect_as(NOBODY - 1);
	local_about(local, 13, DS_LOCAL_STOP, pid);
	expect_refusal(DS_LOCAL_C_ACCESS, "not yours", "another user who wants to end it");
	local_about(local, 14, DS_LOCAL_LIST, 0);
	tap_ok(local_receive(local, &got) == DS_LOCAL_LISTED && !((struct ds_local_listed *)local_msg)->nentries, "who does not even see it");
	close(local);
	local = other;
	close(host);
	expect_end("the host goes away", DS_LOCAL_C_HOST);
	close(local);
	local = root;
	reap(pid);
}

int main(void)
{
	uint64_t frames[4];
	pid_t pid;
	int host;

	board = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = spawn();
	if (geteuid() || !true_frame(pid, board->area / PAGE)) {
		reap(pid);
		tap_skip("dsagent's shadows end", "needs root that sees frame numbers");
		return tap_done();
	}
	reap(pid);
	play_begin(LIMIT_MIB << 8, true);
	local = local_connect();
	test_ends();
	test_tampered();
	test_refusals();
	test_user();
	/* dsagent is asked to end while shadows stand. */
	pid = spawn();
	host = stand(local, pid, 0, frames);
	kill(play_server, SIGTERM);
	tap_eq(host_receive(host, &got), 0, "dsagent is asked to end: streams end");
	close(host);
	tap_eq(play_end(), 0, "and it ends when the host has closed them");
	tap_eq(helpers(pid, true), 0, "without a helper left behind");
	reap(pid);
	return tap_done();
}
