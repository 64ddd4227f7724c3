/* cases_processes.c - processes: fork, vfork, clone, exec, tracing; see cases.c */
#include "tests/intercept/cases.h"

static void c_fork(void)
{
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(getppid() <= 1);
		int status;

		waitpid(pid, &status, 0);
		if (status)
			say("status %d\n", status);
	}
	say("done\n");
}

static void c_vfork(void)
{
	volatile int shared = 0;

	for (volatile int i = 0; i < 20; i++) {
		pid_t pid = vfork();

		if (!pid) {
			shared++;
			getppid();
			_exit(3);
		}
		int status;

		waitpid(pid, &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 3)
			say("status %d\n", status);
	}
	say("shared %d\n", shared);
}

static void c_vfork_exec(void)
{
	for (volatile int i = 0; i < 5; i++) {
		pid_t pid = vfork();

		if (!pid) {
			execl("/bin/echo", "echo", "vforked", (char *)NULL);
			_exit(127);
		}
		report_child("vfork", pid);
	}
	pid_t pid = vfork();

	if (!pid) {
		execl("/does/not/exist", "x", (char *)NULL);
		_exit(errno == ENOENT ? 9 : 8);
	}
	report_child("failing", pid);
}

static void c_vfork_nested(void)
{
	pid_t pid = vfork();

	if (!pid) {
		pid_t inner = vfork();
		int status;

		if (!inner)
			_exit(4);
		waitpid(inner, &status, 0);
		_exit(WEXITSTATUS(status) + 1);
	}
	report_child("outer", pid);
}

static void c_spawn(void)
{
	pid_t pid;
	posix_spawn_file_actions_t fa;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, 1, 2);
	int rc = posix_spawn(&pid, "/bin/sh", &fa, NULL, (char *[]){"sh", "-c", "echo spawned >&2; exit 6", NULL}, environ);

	report_child("spawned", pid);
	say("spawn %d\n", rc);
	say("spawn of nothing %s\n", strerror(posix_spawn(&pid, "/does/not/exist", NULL, NULL, (char *[]){"x", NULL}, environ)));
}

static void c_system(void)
{
	say("system %d\n", WEXITSTATUS(system("exit 9")));
	FILE *f = popen("echo piped", "r");
	char line[32] = "";

	if (f && fgets(line, sizeof(line), f))
		say("%s", line);
	if (f)
		pclose(f);
}

static int clone_child(void *arg)
{
	getppid();
	return *(int *)arg;
}

static void c_clone_stack(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int value = 11, status;
	pid_t pid;

	pid = clone(clone_child, stack + sizeof(stack), SIGCHLD, &value);
	waitpid(pid, &status, 0);
	say("own memory: %d\n", WEXITSTATUS(status));
	pid = clone(clone_child, stack + sizeof(stack), SIGCHLD | CLONE_VM, &value);
	waitpid(pid, &status, 0);
	say("shared memory: %d\n", WEXITSTATUS(status));
	tell("invalid flags", clone(clone_child, stack + sizeof(stack), CLONE_THREAD, &value));
}

static void c_clone3(void)
{
	struct clone_args args = {.exit_signal = SIGCHLD, .flags = CLONE_CLEAR_SIGHAND};
	struct sigaction sa;
	int status;
	pid_t pid;

	on(SIGUSR1, count_signal, 0);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (!pid) {
		sigaction(SIGUSR1, NULL, &sa);
		getppid();
		_exit(sa.sa_handler == SIG_DFL ? 13 : 14);
	}
	waitpid(pid, &status, 0);
	say("exit %d\n", WEXITSTATUS(status));
}

static void c_env_empty(void)
{
	pid_t pid = fork();

	if (!pid) {
		execle("/bin/sh", "sh", "-c", "set -- 1; echo empty; /bin/echo further", (char *)NULL, (char *[]){NULL});
		_exit(127);
	}
	report_child("sh", pid);
	pid = fork();
	if (!pid) {
		syscall(SYS_execve, "/bin/echo", (char *[]){"echo", "no environment", NULL}, NULL);
		_exit(127);
	}
	report_child("echo", pid);
}

static void c_execveat(void)
{
	int fd = open("/bin/echo", O_PATH);
	pid_t pid = fork();

	if (!pid) {
		syscall(SYS_execveat, fd, "", (char *[]){"echo", "by descriptor", NULL}, environ, AT_EMPTY_PATH);
		_exit(127);
	}
	report_child("echo", pid);
}

static void c_pdeathsig_wait(void)
{
	siginfo_t info = {0};
	pid_t pid = fork();

	if (!pid)
		_exit(21);
	waitid(P_PID, (id_t)pid, &info, WEXITED);
	say("code %d status %d\n", info.si_code == CLD_EXITED, info.si_status);
}

static void c_setjmp_fork(void)
{
	pid_t pid;

	if (sigsetjmp(cases_jump, 1))
		_exit(17);
	pid = fork();
	if (!pid)
		siglongjmp(cases_jump, 1);
	report_child("child", pid);
}

static void c_traced_child(void)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGUSR1);
		_exit(2);
	}
	waitpid(pid, &status, 0);
	say("stopped by %d\n", WIFSTOPPED(status) ? WSTOPSIG(status) : -1);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	report_child("then", pid);
}

static void c_self_kill(void)
{
	static const int signals[] = {SIGTERM, SIGKILL, SIGSEGV, SIGABRT, SIGPIPE};

	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		pid_t pid = fork();

		if (!pid) {
			if (signals[i] == SIGABRT)
				abort();
			raise(signals[i]);
			_exit(0);
		}
		report_child(strsignal(signals[i]), pid);
	}
}

const struct cases_case cases_processes[] = {
	CASE(fork), CASE(vfork), CASE(vfork_exec), CASE(vfork_nested), CASE(spawn), CASE(system), CASE(clone_stack),
	CASE(clone3), CASE(env_empty), CASE(execveat), CASE(pdeathsig_wait), CASE(setjmp_fork), CASE(traced_child),
	CASE(self_kill), {0},
};
