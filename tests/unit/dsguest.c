/* dsguest.c - libdsguest.so and dsrun, with a dsagent that the test plays
 *
 * The subject (tests/tools/dsguest_subject.c) changes its memory.  The played dsagent looks at that memory when it gets a DROP:
 * what is announced must still be there then, and a REFRESH must come when it is done.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/local.h"
#include "tests/spawn.h"
#include "tests/tap.h"

#define PAGE 4096ul
#define CONNECTIONS 16

/* What the played dsagent has seen; in memory shared with it. */
static struct seen {
	struct ds_local_shadow shadow;
	pid_t pid; /* who connected for it */
	unsigned long shadows, drops, refreshes, calls, stops, bad, not_there;
	struct ds_local_range drop[64], refresh[64];
	char ended;  /* answer the first change by ENDED */
	char refuse; /* SHADOW */
} *seen;

static int shadow_fd = -1; /* of the connection that asked last */
static bool end_first;     /* the next subject's first change is answered by ENDED */
static char dir[] = "/tmp/dsguest.XXXXXX", path[64];

/* Is the first byte of every page of the range mapped?  The subject fills what it makes, so it is also there. */
static bool mapped(pid_t pid, const struct ds_local_range *r)
{
	for (uint64_t i = 0; i < r->npages; i++) {
		char byte;
		struct iovec here = {&byte, 1}, there = {(void *)((r->vpn + i) * PAGE), 1};

		if (process_vm_readv(pid, &here, 1, &there, 1, 0) != 1)
			return false;
	}
	return true;
}

static void refuse(int fd, uint32_t seq, uint16_t kind, uint32_t code, const char *text)
{
	struct ds_local_refused r = {.head = {DS_LOCAL_MAGIC, DS_LOCAL_VERSION, kind, sizeof(r), seq}, .code = code};

	strcpy(r.text, text);
	send(fd, &r, sizeof(r), MSG_NOSIGNAL);
}

static void changed(int fd, const struct ds_local_ranges *m, pid_t pid)
{
	const struct ds_local_range *r = (const void *)(m + 1);
	bool drop = m->head.kind == DS_LOCAL_DROP;
	unsigned long *n = drop ? &seen->drops : &seen->refreshes;
	struct ds_local_done done = {.head = {DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_DONE, sizeof(done), m->head.seq}};

	if (seen->ended) {
		refuse(fd, 1, DS_LOCAL_ENDED, DS_LOCAL_C_GONE, "the service has ended");
		return;
	}
	for (uint32_t i = 0; i < m->nranges; i++) {
		seen->bad += r[i].npages == 0 || (i && r[i].vpn < r[i - 1].vpn + r[i - 1].npages);
		if (drop)
			seen->not_there += !mapped(pid, &r[i]);
		if (*n < 64)
			(drop ? seen->drop : seen->refresh)[*n] = r[i];
		(*n)++;
	}
	send(fd, &done, sizeof(done), MSG_NOSIGNAL);
}

static void answer(int fd)
{
	static _Alignas(8) char buf[DS_LOCAL_BYTES_MAX];
	struct ds_local_head *head = (void *)buf;
	struct ds_local_done done;
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);
	ssize_t got = recv(fd, buf, sizeof(buf), 0);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	if (got < (ssize_t)sizeof(*head) || head->bytes != got || head->magic != DS_LOCAL_MAGIC || head->version != DS_LOCAL_VERSION) {
		seen->bad++;
		return;
	}
	done.head = (struct ds_local_head){DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_DONE, sizeof(done), head->seq};
	if (head->kind == DS_LOCAL_SHADOW) {
		struct ds_local_started s = {.head = done.head, .pinned_pages = 11, .runs = 5, .mirror_pages = 13, .host_pid = 17};

		seen->shadows++;
		shadow_fd = fd;
		memcpy(&seen->shadow, buf, sizeof(seen->shadow));
		seen->pid = cred.pid;
		s.head.kind = DS_LOCAL_STARTED;
		s.head.bytes = sizeof(s);
		if (seen->refuse)
			refuse(fd, head->seq, DS_LOCAL_REFUSED, DS_LOCAL_C_REFUSED, "no rule grants it");
		else
			send(fd, &s, sizeof(s), MSG_NOSIGNAL);
	} else if (head->kind == DS_LOCAL_CALL) {
		struct ds_local_call *call = (void *)buf;

		seen->calls++;
		head->kind = DS_LOCAL_REPLY;
		for (uint32_t i = 0; i < call->payload_bytes; i++)
			buf[sizeof(*call) + i] ^= 0x20;
		send(fd, buf, got, MSG_NOSIGNAL);
	} else if (head->kind == DS_LOCAL_STOP) {
		seen->stops++;
		if (fd == shadow_fd)
			refuse(fd, 1, DS_LOCAL_ENDED, DS_LOCAL_C_STOPPED, "stopped");
		send(fd, &done, sizeof(done), MSG_NOSIGNAL);
	} else if (head->kind == DS_LOCAL_LIST) {
		struct {
			struct ds_local_listed head;
			struct ds_local_entry e;
		} l = {.head = {.head = done.head, .nentries = 1}, .e = {.id = 3, .pid = 4711, .state = DS_LOCAL_S_RUNNING, .service = "svc", .comm = "prog"}};

		l.head.head.kind = DS_LOCAL_LISTED;
		l.head.head.bytes = sizeof(l);
		send(fd, &l, sizeof(l), MSG_NOSIGNAL);
	} else if (head->kind == DS_LOCAL_DROP || head->kind == DS_LOCAL_REFRESH) {
		changed(fd, (const void *)buf, cred.pid);
	}
}

static void play(int listener)
{
	struct pollfd pfd[CONNECTIONS + 1] = {{.fd = listener, .events = POLLIN}};
	int n = 1;

	while (poll(pfd, n, -1) > 0) {
		for (int i = n - 1; i > 0; i--) {
			char c;

			if (!pfd[i].revents)
				continue;
			if (recv(pfd[i].fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
				shadow_fd = shadow_fd == pfd[i].fd ? -1 : shadow_fd;
				close(pfd[i].fd);
				pfd[i] = pfd[--n];
			} else {
				answer(pfd[i].fd);
			}
		}
		if (pfd[0].revents && n <= CONNECTIONS)
			pfd[n++] = (struct pollfd){.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), .events = POLLIN};
	}
}

static pid_t start_agent(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	pid_t child;

	if (!mkdtemp(dir))
		exit(2);
	snprintf(path, sizeof(path), "%s/socket", dir);
	strcpy(name.sun_path, path);
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) || listen(fd, 16))
		exit(2);
	child = fork();
	if (child == 0) {
		play(fd);
		_exit(0);
	}
	close(fd);
	return child;
}

/* Runs dsrun with the arguments.  Return: its exit status; -1: it was killed.  @out gets standard output and error. */
static int dsrun(char *out, size_t room, const char *const args[])
{
	const char *argv[16] = {NULL}, *bin = getenv("BIN") ? getenv("BIN") : "build/bin";
	char program[512];
	size_t have = 0;
	int heard, status, n = 0;
	ssize_t got;
	pid_t child;

	snprintf(program, sizeof(program), "%s/dsrun", bin);
	argv[n++] = program;
	while (*args)
		argv[n++] = *args++;
	child = spawn_heard(argv, true, &heard);
	while ((got = read(heard, out + have, room - 1 - have)) > 0)
		have += got;
	out[have] = 0;
	close(heard);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char said[4096];
static unsigned long told[2]; /* page numbers that the subject printed */

static int subject(const char *what)
{
	static char program[512];
	const char *const args[] = {"--service", "svc", "--args", "a b", "--required", "--socket", path, "--", program, what, NULL};
	const char *bin = getenv("BIN") ? getenv("BIN") : "build/bin";
	int status;

	snprintf(program, sizeof(program), "%s/../tests/tools/dsguest_subject", bin);
	memset(seen, 0, sizeof(*seen));
	seen->ended = end_first;
	status = dsrun(said, sizeof(said), args);
	told[0] = told[1] = 0;
	sscanf(said, "%lx %lx", &told[0], &told[1]);
	told[0] /= PAGE;
	told[1] /= PAGE;
	return status;
}

static bool range_is(const struct ds_local_range *r, uint64_t vpn, uint64_t npages)
{
	return r->vpn == vpn && r->npages == npages;
}

/* Nothing was announced too late, and everything that was dropped is refreshed. */
static bool orderly(unsigned long drops)
{
	bool same = seen->drops == drops && seen->refreshes == drops && !seen->bad && !seen->not_there;

	for (unsigned long i = 0; i < drops && i < 64 && same; i++)
		same = drops > 64 || range_is(&seen->refresh[i], seen->drop[i].vpn, seen->drop[i].npages);
	if (!same)
		printf("# %lu drops, %lu refreshes, %lu malformed, %lu too late\n", seen->drops, seen->refreshes, seen->bad, seen->not_there);
	return same;
}

static bool covers(uint64_t vpn, uint64_t npages)
{
	for (unsigned long i = 0; i < seen->drops && i < 64; i++)
		if (seen->drop[i].vpn <= vpn && vpn + npages <= seen->drop[i].vpn + seen->drop[i].npages)
			return true;
	return false;
}

static void changes(void)
{
	tap_eq(subject("munmap"), 0, "munmap does what it does (%s)", said);
	tap_ok(seen->shadows == 1 && seen->shadow.pid == 0 && !strcmp(seen->shadow.service, "svc") && !strcmp(seen->shadow.args, "a b") &&
		       seen->shadow.mode == DS_LOCAL_EAGER,
	       "dsagent was asked for what dsrun was told");
	tap_ok(orderly(1) && range_is(&seen->drop[0], told[0] + 2, 3), "three pages were dropped before they went, and refreshed");
	tap_eq(subject("madvise"), 0, "madvise");
	tap_ok(orderly(1) && range_is(&seen->drop[0], told[0] + 1, 1), "MADV_DONTNEED drops, MADV_WILLNEED does not");
	tap_eq(subject("mremap"), 0, "mremap");
	tap_ok(orderly(seen->drops) && (seen->drops == 2 || seen->drops == 3), "where from and where to are dropped, or both at once where they touch");
	tap_ok(covers(told[0], 4) && covers(told[1], 4), "both whole");
	tap_ok(seen->drop[seen->drops - 1].vpn == told[1] + 2 && seen->drop[seen->drops - 1].npages == 2, "shrinking drops the rest");
	tap_eq(subject("mmap"), 0, "mmap");
	tap_ok(orderly(1) && range_is(&seen->drop[0], told[0] + 1, 1), "MAP_FIXED drops what it lands on");
	tap_eq(subject("brk"), 0, "brk and sbrk");
	tap_ok(orderly(2) && range_is(&seen->drop[0], told[0] + 3, 1) && range_is(&seen->drop[1], told[0] + 1, 2), "drop what they give back");
	tap_eq(subject("fork"), 0, "a child has no shadow and unmaps as it likes");
	tap_ok(orderly(1) && range_is(&seen->drop[0], told[0] + 1, 1) && seen->stops == 0, "and only its parent is heard");
	tap_eq(subject("threads"), 0, "8 threads");
	tap_ok(orderly(8 * 40), "are heard one by one");
	tap_eq(subject("handler"), 0, "a signal handler that unmaps");
	tap_ok(seen->drops >= 50 && orderly(seen->drops), "does not block (%lu)", seen->drops);
	setenv("SUBJECT_EARLY", "1", 1);
	tap_eq(subject("call"), 0, "before main() and after it");
	tap_ok(orderly(2) && range_is(&seen->drop[0], told[0], 1) && range_is(&seen->drop[1], told[0] + 1, 1), "it works too");
	unsetenv("SUBJECT_EARLY");
}

static void rest(void)
{
	const char *const plain[] = {"--service", "svc", "--mode", "demand", "--socket", path, "--", "sh", "-c", "exit 7", NULL};
	const char *const killed[] = {"--service", "svc", "--socket", path, "--", "sh", "-c", "kill -9 $$", NULL};
	const char *const nested[] = {"--service", "svc", "--socket", path, "--", "sh", "-c", "cat /dev/null; exec cat /dev/null", NULL};
	const char *const nobody[] = {"--service", "svc", "--socket", "/nowhere", "--", "sh", "-c", "exit 5", NULL};
	const char *const list[] = {"--socket", path, "--list", NULL}, *const stop[] = {"--socket", path, "--stop", "1", NULL};
	const char *const pid[] = {"--socket", path, "--pid", "1", "--service", "x", "--mode", "demand", NULL};
	const char *const required[] = {"--required", "--service", "svc", "--socket", path, "--", "sh", "-c", "exit 5", NULL};

	tap_eq(subject("call"), 0, "the service is called and answers");
	tap_eq(seen->calls, 2, "twice");
	tap_eq(subject("drop"), 0, "a program that knows drops, refreshes and stops");
	tap_ok(seen->drops == 1 && range_is(&seen->drop[0], told[0] + 1, 2) && range_is(&seen->refresh[0], told[0] + 1, 2) && seen->stops == 1,
	       "in whole pages, and is not heard after that");
	tap_eq(subject("closed"), 0, "a program that closes all descriptors goes on without");
	end_first = true;
	tap_eq(subject("ended"), 0, "so does one whose service has ended");
	end_first = false;
	tap_ok(seen->drops == 0 && seen->refreshes == 0, "which says nothing more");
	memset(seen, 0, sizeof(*seen));
	tap_eq(dsrun(said, sizeof(said), plain), 7, "the exit status is the program's");
	tap_ok(seen->shadows == 1 && seen->shadow.mode == DS_LOCAL_DEMAND, "which had a shadow, on demand");
	tap_eq(dsrun(said, sizeof(said), killed), -1, "so is the signal");
	memset(seen, 0, sizeof(*seen));
	tap_eq(dsrun(said, sizeof(said), nested), 0, "a program that starts others and then executes another");
	tap_eq(seen->shadows, 2, "asks for itself before and after, and not for its child");
	tap_eq(dsrun(said, sizeof(said), nobody), 5, "without a dsagent the program runs");
	tap_ok(strstr(said, "dsrun: no shadow for process ") && strstr(said, "/nowhere"), "and it is said why it has no shadow");
	seen->refuse = 1;
	tap_eq(dsrun(said, sizeof(said), required), 125, "not so if it is required");
	tap_ok(strstr(said, "no rule grants it") != NULL, "and the reason is dsagent's");
	tap_eq(dsrun(said, sizeof(said), pid), 2, "a process that runs is refused too");
	seen->refuse = 0;
	tap_eq(dsrun(said, sizeof(said), pid), 0, "and shadowed");
	tap_ok(seen->shadow.pid == 1 && seen->shadow.mode == DS_LOCAL_DEMAND && strstr(said, "13 pages mirrored, 11 pinned in 5 runs") != NULL,
	       "which is said with numbers (%s)", said);
	tap_ok(dsrun(said, sizeof(said), list) == 0 && strstr(said, "4711  prog") && strstr(said, "svc"), "shadows are listed");
	tap_ok(dsrun(said, sizeof(said), stop) == 0 && !*said, "and stopped");
}

/* The library linked into a program, without dsrun. */
static void alone(void)
{
	const char *bin = getenv("BIN") ? getenv("BIN") : "build/bin";
	char command[1024];

	memset(seen, 0, sizeof(*seen));
	snprintf(command, sizeof(command), "DSGUEST_SOCKET=%s %s/../tests/tools/dsguest_subject ask", path, bin);
	tap_eq(system(command), 0, "a program asks by itself");
	tap_ok(seen->shadows == 1 && !strcmp(seen->shadow.args, "by itself") && seen->shadow.mode == DS_LOCAL_DEMAND, "for what it wants");
	snprintf(command, sizeof(command), "DSGUEST_SOCKET=%s %s/../tests/tools/dsguest_subject none", path, bin);
	tap_eq(system(command), 0, "and one that does not has none");
	tap_eq(seen->shadows, 1, "and does not ask");
}

int main(void)
{
	pid_t agent;

	signal(SIGPIPE, SIG_IGN);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	agent = start_agent();
	changes();
	rest();
	alone();
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	unlink(path);
	rmdir(dir);
	return tap_done();
}
