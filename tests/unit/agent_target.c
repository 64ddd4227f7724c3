/* agent_target.c - what dsagent believes of a process: the path of its program
 *
 * The host's policy goes by that path.  An ordinary user can make a mount namespace in which any program lies at any path.
 */
#include "runtime/guest/agent/agent_target.h"

#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

#define USER 65534
#define TRUSTED "/usr/bin/env" /* a path that a policy may name */

static char own_sleep[256]; /* a program of the user's, where only the user has put it */

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(3);
	close(fd);
}

/* In the child, a user's.  Ends with 2 where users cannot have namespaces. */
static void subject(bool mounted)
{
	if (setresgid(USER, USER, USER) || setresuid(USER, USER, USER) || prctl(PR_SET_DUMPABLE, 1))
		_exit(3);
	if (mounted) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			_exit(2);
		put("/proc/self/setgroups", "deny");
		put("/proc/self/uid_map", "65534 65534 1");
		put("/proc/self/gid_map", "65534 65534 1");
		if (mount(own_sleep, TRUSTED, NULL, MS_BIND, NULL))
			_exit(2);
	}
	execl(mounted ? TRUSTED : own_sleep, "subject", "100", NULL);
	_exit(3);
}

/* What is believed of such a process.  Return: whether there was one. */
static bool believed(bool mounted, char program[DS_AGENT_PATH_BYTES])
{
	const struct agent_caller user = {.pid = 1, .uid = USER, .gid = USER};
	struct agent_refusal why = {0};
	struct agent_target t;
	char exe[64], name[256] = "";
	bool there = false;
	pid_t pid = fork();

	if (!pid)
		subject(mounted);
	snprintf(exe, sizeof(exe), "/proc/%d/exe", pid);
	/* It is there when the program is another one than ours. */
	for (int i = 0; i < 2000 && !there && waitpid(pid, NULL, WNOHANG) == 0; i++) {
		ssize_t n = readlink(exe, name, sizeof(name) - 1);

		name[n > 0 ? n : 0] = '\0';
		there = !strcmp(name, mounted ? TRUSTED : own_sleep);
		usleep(1000);
	}
	if (there && agent_target_open(&t, &user, pid, 0, &why)) {
		printf("# %s\n", why.text);
		there = false;
	}
	if (there) {
		strcpy(program, t.program);
		agent_target_close(&t);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return there;
}

int main(void)
{
	char program[DS_AGENT_PATH_BYTES] = "", folder[] = "/tmp/agent_target.XXXXXX", command[600];

	if (geteuid()) {
		tap_skip("what is believed of a user's process", "needs root");
		return tap_done();
	}
	if (!mkdtemp(folder))
		err(2, "%s", folder);
	snprintf(own_sleep, sizeof(own_sleep), "%s/sleep", folder);
	snprintf(command, sizeof(command), "chmod 755 %s && cp /bin/sleep %s", folder, own_sleep);
	if (system(command))
		errx(2, "%s", command);
	tap_ok(believed(false, program) && !strcmp(program, own_sleep), "a program is told by its path: %s", program);
	if (believed(true, program))
		tap_ok(!strcmp(program, AGENT_TARGET_ELSEWHERE TRUSTED), "one that a user has mounted over another is not taken for that: %s", program);
	else
		tap_skip("a program mounted over another", "users cannot make namespaces here");
	unlink(own_sleep);
	rmdir(folder);
	return tap_done();
}
