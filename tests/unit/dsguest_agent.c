/* dsguest_agent.c - dsrun, libdsguest.so and dsagent together: programs that run with a shadow, whose host the test plays
 *
 * The programs ask for themselves, get a helper, are pinned and frozen, and give back memory meanwhile.  They must do what they do
 * without a shadow, and the host must be asked for every page before it goes.
 */
#include "tests/spawn.h"
#include "tests/unit/agent_play.h"

static struct {
	unsigned long attached, drops, late, updates, calls, streams;
	bool truth; /* the first map was right */
} host;

static uint64_t map_pages;

/* Frames of what is in the map when the process waits for us: it is in its constructor then. */
static void look_at_attach(void)
{
	const struct ds_agent_attach *a = (const struct ds_agent_attach *)host_msg;
	struct rle_map map;

	if (rle_map_open_copy(&map, host_msg + sizeof(*a) + a->nranges * sizeof(struct ds_agent_range), a->map_bytes, NULL))
		return;
	map_pages = map.npages;
	host.truth = map.npages > 100 && wrong_pages(&map, a->pid) == 0 && !strcmp(a->service, "checksum") && !strcmp(a->args, "x y");
	rle_map_close(&map);
}

static pid_t shadowed; /* the process */

/* What is announced must still be there: each page that has a frame. */
static void look_at_drop(void)
{
	const struct ds_agent_drop *d = (const struct ds_agent_drop *)host_msg;
	const struct ds_agent_range *r = (const struct ds_agent_range *)(d + 1);
	uint64_t there = 0;

	for (uint64_t i = 0; i < d->nranges; i++)
		for (uint64_t k = 0; k < r[i].npages; k++)
			there += true_frame(shadowed, r[i].vpn + k) != 0;
	host.late += there == 0;
	host.drops++;
}

/* One message of the stream.  Return: false: it has ended. */
static bool serve(int fd)
{
	struct ds_agent_call *call;
	uint32_t seq = 0;

	switch (host_receive(fd, &seq)) {
	case DS_AGENT_DROP:
		look_at_drop();
		host_done(fd, seq);
		return true;
	case DS_AGENT_UPDATE:
		host.updates++;
		host_done(fd, seq);
		return true;
	case DS_AGENT_CALL:
		host.calls++;
		call = (struct ds_agent_call *)host_msg;
		for (uint32_t i = 0; i < call->payload_bytes; i++)
			host_msg[sizeof(*call) + i] ^= 0x20;
		host_send(fd, host_msg, sizeof(*call) + call->payload_bytes, DS_AGENT_REPLY, seq);
		return true;
	default:
		return false;
	}
}

static void attach(int fd)
{
	uint32_t seq = host_attached(fd, 0);

	if (!seq)
		return;
	shadowed = ((const struct ds_agent_attach *)host_msg)->pid;
	look_at_attach();
	host.attached++;
	host_started(fd, seq);
}

/* Runs dsrun with a command and plays the host until it has exited.  Return: its status; what it printed in @out. */
static int run(const char *const command[], char *out, size_t room)
{
	const char *argv[16] = {NULL, "--socket", play_local, "--service", "checksum", "--args", "x y", "--required", "--"};
	const char *bin = getenv("BIN") ? getenv("BIN") : "build/bin";
	int heard, status, n = 9, stream = -1;
	char program[512];
	size_t have = 0;
	ssize_t got = 1;
	pid_t child;

	memset(&host, 0, sizeof(host));
	snprintf(program, sizeof(program), "%s/dsrun", bin);
	argv[0] = program;
	while (*command)
		argv[n++] = *command++;
	child = spawn_heard(argv, true, &heard);
	while (got > 0 || stream >= 0) {
		struct pollfd p[3] = {{got > 0 ? heard : -1, POLLIN, 0}, {play_listen, POLLIN, 0}, {stream, POLLIN, 0}};

		if (poll(p, 3, PLAY_MS) <= 0)
			play_die("the program to go on");
		if (p[0].revents) {
			got = read(heard, out + have, room - 1 - have);
			have += got > 0 ? got : 0;
		}
		if (p[1].revents && stream < 0) {
			stream = host_accept();
			host.streams++;
			attach(stream);
		}
		if (p[2].revents && !serve(stream)) {
			close(stream);
			stream = -1;
		}
	}
	out[have] = 0;
	close(heard);
	waitpid(child, &status, 0);
	return status;
}

static void subjects(void)
{
	static const struct {
		const char *name;
		unsigned long drops; /* at least; pages are told to the host one refresh before */
	} list[] = {{"munmap", 1}, {"madvise", 1}, {"mremap", 2}, {"mmap", 1}, {"brk", 2}, {"fork", 1}, {"threads", 320}, {"handler", 50}, {"call", 0}, {"drop", 1}};
	const char *bin = getenv("BIN") ? getenv("BIN") : "build/bin";
	static char out[65536];
	char program[512];

	snprintf(program, sizeof(program), "%s/../tests/tools/dsguest_subject", bin);
	setenv("SUBJECT_REFRESH", "1", 1);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		const char *const command[] = {program, list[i].name, NULL};
		int status = run(command, out, sizeof(out));

		if (!tap_ok(status == 0 && host.attached == 1 && host.truth, "%s: does what it does without a shadow (%x); its map of %lu pages was true",
			    list[i].name, status, (unsigned long)map_pages))
			printf("# %s\n", out);
		tap_ok(host.drops >= list[i].drops && host.late == 0, "%s: %lu drops, none too late (%lu), %lu updates, %lu calls", list[i].name, host.drops,
		       host.late, host.updates, host.calls);
	}
}

static void programs(void)
{
	static const struct {
		const char *const argv[5];
		const char *want;
		int status;
	} list[] = {
		{{"bash", "-c", "x=0; for i in $(seq 100); do x=$((x+i)); done; (exit 4); echo $x $?; exit 3"}, "5050 4\n", 3},
		{{"sh", "-c", "seq 1000 | sort -n | tail -1; kill -TERM $$"}, "1000\n", -SIGTERM},
		{{"python3", "-c", "import threading;r=[];t=[threading.Thread(target=lambda i=i:r.append(i)) for i in range(9)];[x.start() for x in t];[x.join() for x in t];print(sum(r))"},
		 "36\n",
		 0},
	};
	static char out[65536];

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		int status = run(list[i].argv, out, sizeof(out));
		int got = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);

		if (!tap_ok(got == list[i].status && !strcmp(out, list[i].want) && host.attached >= 1, "%s with a shadow: status %d, %lu drops",
			    list[i].argv[0], got, host.drops))
			printf("# %s\n", out);
	}
}

int main(void)
{
	play_begin(1 << 20, true);
	subjects();
	programs();
	tap_eq(play_end(), 0, "dsagent ends");
	return tap_done();
}
