/* agent_token.c - the token of a shadow's bells: dsagent tells it to the process itself and to root, and to nobody else */
#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/agent_subject.h"
#include "tests/tap.h"

#define NOBODY 65534

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static const uint8_t *told(void)
{
	return ((const struct ds_local_started *)local_msg)->token;
}

/* The process itself: connects, asks, and says by its exit status what it got.  Its user is not root. */
__attribute__((noreturn)) static void ask_for_myself(void)
{
	int fd;

	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) || prctl(PR_SET_DUMPABLE, 1))
		_exit(2);
	fd = local_connect();
	local_shadow(fd, 3, 0, DS_LOCAL_DEMAND, 0, 0);
	if (local_receive(fd, NULL) != DS_LOCAL_STARTED)
		_exit(3);
	_exit(memcmp(told(), PLAY_TOKEN, sizeof(PLAY_TOKEN)) ? 4 : 0);
}

int main(void)
{
	static const uint8_t none[DS_LOCAL_TOKEN_BYTES];
	int local, host, status;
	pid_t pid;

	board = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = spawn();
	if (geteuid() || !true_frame(pid, board->area / PAGE)) {
		reap(pid);
		tap_skip("who is told the token", "needs root that sees frame numbers");
		return tap_done();
	}
	play_begin(16384, true);
	local = local_connect();
	local_shadow(local, 1, pid, DS_LOCAL_DEMAND, 0, 0);
	host = host_accept();
	host_started(host, host_attached(host, 0));
	tap_ok(local_receive(local, NULL) == DS_LOCAL_STARTED && !memcmp(told(), PLAY_TOKEN, sizeof(PLAY_TOKEN)), "root is told the token of any process");
	close(host);
	local_receive(local, NULL);
	close(local);
	reap(pid);

	pid = spawn_as(NOBODY);
	if (setegid(NOBODY) || seteuid(NOBODY))
		play_die("seteuid");
	local = local_connect();
	if (seteuid(0) || setegid(0))
		play_die("seteuid");
	local_shadow(local, 2, pid, DS_LOCAL_DEMAND, 0, 0);
	host = host_accept();
	host_started(host, host_attached(host, 0));
	tap_ok(local_receive(local, NULL) == DS_LOCAL_STARTED && !memcmp(told(), none, sizeof(none)), "a user is not told that of another process of theirs");
	close(host);
	local_receive(local, NULL);
	close(local);
	reap(pid);

	fflush(stdout);
	pid = fork();
	if (!pid)
		ask_for_myself();
	host = host_accept();
	host_started(host, host_attached(host, 0));
	waitpid(pid, &status, 0);
	tap_eq(status, 0, "a process is told its own");
	close(host);
	kill(play_server, SIGTERM);
	tap_eq(play_end(), 0, "dsagent ends");
	return tap_done();
}
