/* agent_map.c - dsagent's MAP, where the process changes between the check of its owner and the reading of its memory
 *
 * A process of an ordinary user passes the check.  Then it does what the exec of a setuid program does: it stops being dumpable,
 * or executes another program.  Whoever reads for that user must not look into it any more.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/agent/agent_map.h"
#include "tests/tap.h"

#define USER 65534u

enum change { STAYS, HIDES, EXECS };

/* In the child: an ordinary user's, that changes when told to. */
static void subject(enum change change, int word, int ready)
{
	char c = 0;

	if (setresgid(USER, USER, USER) || setresuid(USER, USER, USER))
		_exit(1);
	prctl(PR_SET_DUMPABLE, 1);
	if (write(ready, &c, 1) != 1 || read(word, &c, 1) != 1)
		_exit(1);
	if (change == HIDES)
		prctl(PR_SET_DUMPABLE, 0);
	if (change == EXECS)
		execl("/bin/sleep", "sleep", "100", NULL);
	if (write(ready, &c, 1) != 1)
		_exit(1);
	pause();
	_exit(0);
}

/* What is answered to @caller when the process has changed.  Return: kind of the answer; -1: it was refused before. */
static int answered(enum change change, const struct agent_caller *caller, char *text, size_t size)
{
	const struct ds_local_map m = {.head = {DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_MAP, sizeof(m), 1}};
	int word[2], ready[2], pair[2], kind = -1;
	struct agent_refusal why = {0};
	struct agent_target t;
	union {
		struct ds_local_head head;
		struct ds_local_refused refused;
		struct ds_local_mapped mapped;
	} answer = {0};
	pid_t pid;
	char c = 0;

	if (pipe2(word, O_CLOEXEC) || pipe2(ready, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid = fork();
	if (!pid)
		subject(change, word[0], ready[1]);
	close(ready[1]);
	if (read(ready[0], &c, 1) == 1 && !agent_target_open(&t, caller, pid, 1, &why)) {
		/* The end of its descriptors is the exec. */
		if (write(word[1], &c, 1) == 1 && read(ready[0], &c, 1) >= 0 && !agent_map_answer(pair[0], &m, &t, caller) &&
		    recv(pair[1], &answer, sizeof(answer), MSG_DONTWAIT) >= (ssize_t)sizeof(answer.head))
			kind = answer.head.kind;
		agent_target_close(&t);
	}
	snprintf(text, size, "%s", kind == DS_LOCAL_REFUSED ? answer.refused.text : why.text);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 2; i++) {
		close(word[i]);
		close(pair[i]);
	}
	close(ready[0]);
	return kind;
}

int main(void)
{
	const struct agent_caller user = {.pid = 1, .uid = USER, .gid = USER}, root = {.pid = 1};
	char text[DS_LOCAL_TEXT_BYTES] = "";

	if (geteuid()) {
		tap_skip("maps of processes that change", "needs root");
		return tap_done();
	}
	tap_eq(answered(STAYS, &user, text, sizeof(text)), DS_LOCAL_MAPPED, "a process that stays as it was");
	tap_eq(answered(HIDES, &user, text, sizeof(text)), DS_LOCAL_REFUSED, "one that is not dumpable any more when it is read: %s", text);
	tap_ok(strstr(text, "not dumpable"), "says why");
	tap_eq(answered(EXECS, &user, text, sizeof(text)), DS_LOCAL_REFUSED, "one that has executed another program: %s", text);
	tap_eq(answered(HIDES, &root, text, sizeof(text)), DS_LOCAL_MAPPED, "root may see it");
	tap_eq(answered(EXECS, &root, text, sizeof(text)), DS_LOCAL_MAPPED, "and that");
	return tap_done();
}
