/* inject_refuse.c - which processes get no helper, and what is said; stopped ones, vfork, odd code, whole programs of others */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/helper/freeze.h"
#include "runtime/guest/helper/inject.h"
#include "runtime/guest/helper/tracee.h"
#include "tests/spawn.h"
#include "tests/tap.h"

static int ready[2];

static void is_ready(void)
{
	if (write(ready[1], "x", 1) != 1)
		_exit(9);
}

static pid_t start(void (*fn)(void))
{
	char c;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		fn();
		_exit(0);
	}
	if (read(ready[0], &c, 1) != 1)
		exit(2);
	usleep(20000);
	return child;
}

static int end(pid_t child)
{
	int status = -1;

	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return status;
}

/* A helper is put in, works, and is taken out again. */
static bool works(pid_t pid, unsigned int flags)
{
	struct inject_err why = {0};
	struct remote r;
	bool good;

	if (inject_helper(pid, flags, &r, &why)) {
		printf("# %d, %s\n", why.err, why.why);
		return false;
	}
	good = remote_syscall(&r, SYS_close, (uint64_t[6]){77}) == -EBADF;
	return inject_remove(&r, &why) == 0 && good;
}

static void refused(pid_t pid, int want, const char *text, const char *what)
{
	struct inject_err why = {0};
	struct remote r;
	int err = inject_helper(pid, 0, &r, &why);

	tap_ok(err == want && why.err == want && why.why && strstr(why.why, text), "%s: refused (%d, %s)", what, err, why.why ? why.why : "no reason");
	tap_ok(r.pid == 0 && !r.tracer && r.pidfd == -1 && r.mem_fd == -1, "%s: nothing is left open", what);
}

static void sleeper(void)
{
	is_ready();
	for (;;)
		pause();
}

static void strict(void)
{
	is_ready();
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	for (;;)
		;
}

static void filtered(void)
{
	struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {1, allow};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
	sleeper();
}

/* 64-bit code jumps to a 32-bit segment and loops there. */
static void code32(void)
{
	static const uint8_t loop[] = {0xeb, 0xfe}; /* jmp . */
	uint8_t *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct {
		uint32_t offset;
		uint16_t segment;
	} __attribute__((packed)) to = {0x10000000, 0x23};

	memcpy(low, loop, sizeof(loop));
	is_ready();
	__asm__ volatile("ljmp *%0" : : "m"(to));
}

/* Every system call is intercepted (and would kill, without a handler) but those of one page, which is not the first that has
 * a syscall instruction. */
static void dispatched(void)
{
	uint8_t *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	uint8_t *exempt = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	memcpy(low, "\x0f\x05\xc3", 3);
	memcpy(exempt, "\x0f\x05\xc3", 3);
	mprotect(low, 4096, PROT_READ | PROT_EXEC);
	mprotect(exempt, 4096, PROT_READ | PROT_EXEC);
	is_ready();
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, exempt, 4096, NULL))
		_exit(77);
	for (;;)
		;
}

/* The same with no page that is exempt. */
static void all_dispatched(void)
{
	is_ready();
	prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0x10000, 0x1000, NULL);
	for (;;)
		;
}

static void in_vfork(void)
{
	pid_t child;

	is_ready();
	child = vfork();
	if (child == 0) {
		syscall(SYS_nanosleep, &(struct timespec){.tv_sec = 60}, NULL);
		_exit(0);
	}
}

/* A pipe that nobody reads: the write is half done. */
static void writes(void)
{
	static char much[1 << 20];
	int fds[2];

	if (pipe(fds))
		_exit(1);
	is_ready();
	_exit(write(fds[1], much, sizeof(much)) != sizeof(much));
}

/* The same, with another thread that can be used instead. */
static void *write_thread(void *unused)
{
	(void)unused;
	writes();
	return NULL;
}

static void writes_and_sleeps(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, write_thread, NULL);
	for (;;)
		pause();
}

static void *sleep_thread(void *unused)
{
	is_ready();
	for (;;)
		pause();
	return unused;
}

static void main_thread_gone(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, sleep_thread, NULL);
	syscall(SYS_exit, 0);
}

static void refusals(void)
{
	pid_t child = start(sleeper), zombie, tracer;
	struct inject_err why;
	struct remote r;
	int status;
	char state;

	tap_ok(works(child, 0), "a process that sleeps: works");
	tracer = fork();
	if (tracer == 0) {
		ptrace(PTRACE_SEIZE, child, NULL, NULL);
		is_ready();
		pause();
	}
	if (read(ready[0], &state, 1) != 1)
		exit(2);
	refused(child, -EPERM, "traced", "a process that is being debugged");
	end(tracer);
	tap_ok(works(child, 0), "and afterwards: works");
	end(child);
	refused(child, -ESRCH, "no such", "a process that is gone");
	refused(2, -EPERM, "kernel thread", "a kernel thread");
	refused(getpid(), -EPERM, "itself", "itself");
	zombie = fork();
	if (zombie == 0)
		_exit(0);
	waitid(P_PID, zombie, &(siginfo_t){0}, WEXITED | WNOWAIT);
	refused(zombie, -ESRCH, "exited", "a zombie");
	waitpid(zombie, &status, 0);

	child = start(strict);
	refused(child, -EACCES, "strict", "strict seccomp");
	end(child);
	child = start(filtered);
	refused(child, -EACCES, "filter", "a seccomp filter");
	tap_ok(works(child, INJECT_SECCOMP), "unless it is asked for: works");
	end(child);
	child = start(code32);
	refused(child, -ENOEXEC, "32-bit", "32-bit code");
	tap_eq(end(child), SIGKILL, "which goes on until it is killed");
	child = start(dispatched);
	tap_ok(works(child, 0), "intercepted system calls, with an exempt range: works");
	tap_eq(end(child), SIGKILL, "and it goes on until it is killed");
	child = start(all_dispatched);
	refused(child, -EACCES, "intercepted", "intercepted system calls");
	tap_eq(end(child), SIGKILL, "it does not notice");
	child = start(in_vfork);
	refused(child, -EBUSY, "vfork", "a process in vfork");
	end(child);
	child = start(writes);
	refused(child, -EAGAIN, "write", "a write half done");
	end(child);
	child = start(writes_and_sleeps);
	tap_ok(works(child, 0), "the same in one thread of two: works, by the other");
	if (inject_helper(child, 0, &r, &why) == 0) {
		struct freeze *f;

		tap_eq(freeze_start(&r, 1000, &f, &why), -EAGAIN, "but not all threads can be frozen (%s)", why.why);
		inject_remove(&r, &why);
	}
	end(child);
	child = start(main_thread_gone);
	refused(child, -EOPNOTSUPP, "main thread", "a process whose main thread has ended");
	end(child);
}

/* --- stopped by a signal ----------------------------------------------------------------------------------------- */

static char state_of(pid_t pid)
{
	char path[64], text[256] = "", *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return '?';
	p = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
	fclose(f);
	return p ? p[2] : '?';
}

/* Whether it comes to be in that state. */
static bool becomes(pid_t pid, char state)
{
	for (int i = 0; i < 6000 && state_of(pid) != state; i++)
		usleep(10000);
	return state_of(pid) == state;
}

static void stopped(void)
{
	pid_t child = start(sleeper);
	siginfo_t info = {0};
	int status;

	kill(child, SIGSTOP);
	waitpid(child, &status, WUNTRACED);
	tap_ok(works(child, 0), "a stopped process: works");
	tap_ok(becomes(child, 'T'), "and stays stopped");
	tap_ok(waitid(P_PID, child, &info, WSTOPPED | WCONTINUED | WNOHANG) == 0 && info.si_pid == 0, "without its parent being told anything");
	kill(child, SIGCONT);
	waitpid(child, &status, WCONTINUED);
	tap_ok(WIFCONTINUED(status) && becomes(child, 'S'), "until it is continued");

	/* Stops and continues all the time while helpers come and go: what counts is the last word. */
	for (int i = 0; i < 60; i++) {
		struct inject_err why;
		struct remote r;
		int err;

		kill(child, i & 1 ? SIGCONT : SIGSTOP);
		err = inject_helper(child, 0, &r, &why);
		kill(child, i & 2 ? SIGCONT : SIGSTOP);
		if (!err)
			err = inject_remove(&r, &why);
		if (err)
			tap_ok(false, "round %d: %d, %s", i, err, why.why);
	}
	kill(child, SIGSTOP);
	waitpid(child, &status, WUNTRACED);
	tap_ok(state_of(child) == 'T', "stopped again");
	kill(child, SIGCONT);
	tap_ok(becomes(child, 'S'), "and running again");
	kill(child, SIGTERM);
	waitpid(child, &status, 0);
	tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "it dies by the signal it was sent");
}

/* --- programs of others -------------------------------------------------------------------------------------------- */

/* Runs a command twice, once with helpers in and out: output and status must be the same. */
static int run(const char *const argv[], bool bother, char *out, size_t room, unsigned long *times)
{
	struct inject_err why;
	int heard, status;
	size_t have = 0;
	ssize_t got;
	pid_t child;

	child = spawn_heard(argv, false, &heard);
	fcntl(heard, F_SETFL, O_NONBLOCK);
	for (;;) {
		struct remote r;

		got = read(heard, out + have, room - 1 - have);
		if (got == 0)
			break;
		have += got > 0 ? got : 0;
		if (bother && !inject_helper(child, 0, &r, &why)) {
			inject_remove(&r, &why);
			++*times;
		}
		usleep(bother ? 500 : 5000);
	}
	out[have] = 0;
	close(heard);
	waitpid(child, &status, 0);
	return status;
}

static void programs(void)
{
	static const struct {
		const char *name;
		const char *const argv[5];
	} list[] = {
		{"bash", {"bash", "-c", "x=0; for i in $(seq 200); do x=$((x+i)); done; for i in 1 2 3 4 5; do (exit $i); x=$x$?; sleep 0.05; done; echo $x; exit 9"}},
		{"dash with a pipeline", {"dash", "-c", "seq 20000 | sort -rn | head -3; sleep 0.2 & wait; echo $?"}},
		{"busybox, which is static", {"busybox", "sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.2; echo $i"}},
		{"sleep", {"sleep", "0.3"}},
		{"python with threads, a child and a signal handler",
		 {"python3", "-c",
		  "import threading,subprocess,signal,time,os\n"
		  "n=[0]\n"
		  "def h(*a): n[0]+=1\n"
		  "signal.signal(signal.SIGUSR1,h)\n"
		  "r=[]\n"
		  "def f(i):\n"
		  "  time.sleep(0.02*i); r.append(sum(range(20000*i)))\n"
		  "t=[threading.Thread(target=f,args=(i,)) for i in range(8)]\n"
		  "[x.start() for x in t]; [x.join() for x in t]\n"
		  "for i in range(20): os.kill(os.getpid(),signal.SIGUSR1); time.sleep(0.005)\n"
		  "print(sum(r),n[0],subprocess.run(['sh','-c','exit 5']).returncode,1.5**0.5)\n"}},
		{"awk with numbers", {"awk", "BEGIN{for(i=1;i<1500000;i++)s+=sin(i)/i;printf \"%.12f\\n\",s}"}},
	};
	static char plain[65536], with[65536];

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		unsigned long times = 0;
		int before = run(list[i].argv, false, plain, sizeof(plain), &times), after = -1;

		if (WIFEXITED(before) && WEXITSTATUS(before) == 127) {
			tap_skip(list[i].name, "it is not installed");
			continue;
		}
		/* On a busy machine one can be over before there was a helper in it. */
		for (int tries = 0; tries < 20 && !times; tries++)
			after = run(list[i].argv, true, with, sizeof(with), &times);
		tap_ok(before == after && !strcmp(plain, with) && times > 0, "%s: same output and status %x, %x (%lu helpers)", list[i].name, before, after, times);
	}
}

int main(void)
{
	if (pipe2(ready, O_CLOEXEC))
		return 2;
	refusals();
	stopped();
	programs();
	return tap_done();
}
