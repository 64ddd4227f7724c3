/* host_shadows.c - the wardens of a VM: places, ends, what is left when one is killed; with real wardens, whose guest is this test
 *
 * A warden that waits for HELLO is enough: it has a stream, memory of its own and a place, but needs no capsule.  A capsule that
 * its warden has left is played by a process that does not die with its parent.
 */
#include "runtime/host/shadows.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/count_fds.h"
#include "tests/tap.h"

#define PLACES 3u

static struct shadows_board *board;
static struct shadows *s;
static struct ramtable table;
static int ram;

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* A stream with a warden behind it.  Return: the guest's end, or -errno of shadows_start(). */
static int start(void)
{
	int pair[2], e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		exit(2);
	e = shadows_start(s, pair[1], 900, ram, &table);
	if (!e)
		return pair[0];
	close(pair[0]);
	close(pair[1]);
	return e;
}

static struct warden_view view(uint32_t i)
{
	struct warden_view v;

	warden_stat_read(&board->place[i].stat, &v);
	return v;
}

/* Waits until place @i has a warden that has written who it is. */
static pid_t warden(uint32_t i)
{
	for (int k = 0; k < 500 && !view(i).warden_pid; k++)
		pause_ms(10);
	return view(i).warden_pid;
}

/* Whether the stream ends within @ms, while children are taken in; bytes before the end are thrown away. */
static bool ends(int fd, int ms)
{
	char bytes[4096];

	for (int k = 0; k < ms; k += 10) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		shadows_reap(s);
		if (poll(&p, 1, 10) == 1 && read(fd, bytes, sizeof(bytes)) <= 0)
			return true;
	}
	return false;
}

static void test_places(void)
{
	const int before = count_fds();
	int fd[PLACES], client[2];
	struct control_reply reply = {0};
	pid_t pid;

	for (uint32_t i = 0; i < PLACES; i++)
		fd[i] = start();
	tap_ok(fd[0] >= 0 && fd[1] >= 0 && fd[2] >= 0 && shadows_count(s) == PLACES && board->vm.started == PLACES, "%u shadows start", PLACES);
	tap_eq(start(), -EBUSY, "there is no place for one more");
	pid = warden(1);
	tap_ok(pid > 0 && board->place[1].used && view(1).state == WARDEN_HELLO, "a warden tells who it is and what it waits for");
	close(fd[1]);
	for (int k = 0; k < 300 && shadows_count(s) == PLACES; k++) {
		shadows_reap(s);
		pause_ms(10);
	}
	tap_ok(shadows_count(s) == PLACES - 1 && !board->place[1].used && kill(pid, 0) && board->vm.ended == 1,
	       "the guest closes its stream: the shadow ends and its place is free");
	fd[1] = start();
	tap_ok(fd[1] >= 0 && warden(1) > 0 && warden(1) != pid, "another takes it");
	kill(warden(0), SIGKILL);
	tap_ok(ends(fd[0], 3000) && shadows_count(s) == PLACES - 1, "a warden is killed: its stream ends");
	tap_ok(!ends(fd[2], 100), "and no other");

	tap_eq(shadows_end(s, 77, -1), -ESRCH, "the shadow of a process that has none cannot be ended");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, client))
		exit(2);
	board->place[2].stat.view.guest_pid = 77; /* as its warden would once the guest has said so */
	tap_eq(shadows_end(s, 77, client[1]), 0, "that of one that has is");
	tap_ok(ends(fd[2], 3000) && shadows_count(s) == 1, "its stream ends");
	tap_ok(recv(client[0], &reply, sizeof(reply), MSG_DONTWAIT) == sizeof(reply) && reply.kind == CONTROL_DONE, "and who asked is told afterwards");
	close(client[0]);
	for (uint32_t i = 0; i < PLACES; i++)
		if (i != 1)
			close(fd[i]);
	tap_eq(shadows_end_all(s, "the test says so"), 0, "all end");
	tap_ok(shadows_count(s) == 0 && ends(fd[1], 200), "and none is left");
	close(fd[1]);
	tap_eq(count_fds(), before, "no descriptor is left");
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A warden that does not hear, and one whose capsule outlives it: the guest must not take its frames for free too early. */
static void test_stubborn(void)
{
	int fd = start(), other = start(), hold[2];
	pid_t pid = warden(0), capsule;
	int64_t begun;
	char byte;

	kill(pid, SIGSTOP);
	begun = now_ms();
	tap_eq(shadows_end_all(s, "the test says so"), 0, "a warden that is stopped is killed");
	tap_ok(now_ms() - begun < 5000 && ends(fd, 200) && ends(other, 200), "in %lld ms", (long long)(now_ms() - begun));
	close(fd);
	close(other);

	/* This process is a subreaper: a child of the warden's becomes ours.  Here it is ours from the start. */
	fd = start();
	pid = warden(0);
	if (pipe2(hold, O_CLOEXEC))
		exit(2);
	capsule = fork();
	if (capsule == 0) {
		signal(SIGTERM, SIG_IGN);
		pause();
		_exit(0);
	}
	close(hold[1]); /* the child has the other copy: its end is read when it is dead */
	tap_ok(poll(&(struct pollfd){.fd = hold[0], .events = POLLIN}, 1, 0) == 0, "a capsule runs");
	board->place[0].stat.view.capsule_pid = capsule;
	kill(pid, SIGKILL);
	tap_ok(ends(fd, 3000), "its warden is killed: the stream ends");
	tap_ok(read(hold[0], &byte, 1) == 0 && kill(capsule, 0) && errno == ESRCH, "after the capsule, which was killed and waited for");
	tap_eq(shadows_count(s), 0, "and the place is free");
	close(hold[0]);
	close(fd);
}

/* Forks under a guest that knocks as fast as it can: places limit it, and nothing piles up. */
static void test_flood(void)
{
	const int before = count_fds();
	unsigned int refused = 0, started = 0;

	for (int i = 0; i < 60; i++) {
		int fd = start();

		refused += fd == -EBUSY;
		started += fd >= 0;
		if (fd >= 0)
			close(fd);
		if (i % 10 == 9)
			pause_ms(50);
		shadows_reap(s);
	}
	tap_ok(started >= PLACES && refused > 0, "a flood: %u streams got a warden, %u did not", started, refused);
	tap_eq(shadows_end_all(s, "the test says so"), 0, "all end");
	tap_ok(count_fds() == before && waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "no descriptor and no child is left");
}

int main(void)
{
	struct ramtable_file file;
	struct ramtable_err err;
	uint32_t index;

	board = mmap(NULL, shadows_board_bytes(PLACES), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ram = memfd_create("ram", MFD_CLOEXEC);
	if (board == MAP_FAILED || ram < 0 || ftruncate(ram, 1 << 20))
		return 2;
	ramtable_init(&table);
	if (ramtable_check_fd(ram, &file, &err) || ramtable_add_file(&table, &file, &index, &err) ||
	    ramtable_add(&table, 0, 1 << 20, 0, index, &err) || ramtable_finish(&table, &err))
		return 2;
	board->nplaces = PLACES;
	tap_eq(shadows_new(&s, board, "vm", "/nowhere"), 0, "a VM's places are made");
	test_places();
	test_stubborn();
	test_flood();
	shadows_free(s);
	return tap_done();
}
