/* capsule_forward.c - calls of a guest's threads made by the forward service: the real capsule, a guest that is played
 *
 * What a call should give is told by the same call made here, by the kernel's manual pages, or by the file system afterwards.
 */
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/forward_thread.h"
#include "tests/tap.h"

#define THREADS 8
#define BUF 8192     /* offset of a buffer in the process */
#define NEW_FDS (DS_SHADOW_HOLD_FD + 1)

static struct host h;
static struct fwd t0;
static char dir[] = "/tmp/forward-XXXXXX";

static char *buf(void)
{
	return (char *)h.ram + BUF;
}

/* The next answer; executors' reports, which may come at any time, are passed over. */
static int hear(void)
{
	union host_message m;
	int kind;

	while ((kind = host_receive(&h, &m, HOST_TIMEOUT_MS)) == DS_SHADOW_MESSAGE)
		;
	return kind;
}

static void start(uint32_t executors)
{
	host_ram(&h, PLAY_PAGES);
	if (host_start(&h, "forward", executors, play_runs, 1) != DS_SHADOW_STATUS)
		errx(2, "boot: reason %u, err %d", h.refused.reason, h.refused.err);
}

static void finish(void)
{
	tap_eq(host_end(&h), 0, "the shadow ends");
	host_free(&h);
}

/* --- calls ------------------------------------------------------------------------------------------------------------- */

static void test_calls(void)
{
	int64_t fd, n;
	struct stat st;
	unsigned int names = 0, low = 0;
	uint64_t from_ns;

	tap_eq(fwd_call(&t0, SYS_getppid, 0), getpid(), "getppid() is ours: the call is made in the shadow");
	tap_eq(fwd_call(&t0, SYS_getppid, 0), getpid(), "and again");
	snprintf(buf(), 200, "%s/file", dir);
	fd = fwd_call(&t0, SYS_openat, (uint64_t)AT_FDCWD, play_at(BUF), O_RDWR | O_CREAT | O_EXCL, 0640);
	tap_ok(fd >= NEW_FDS, "a file is opened, by a number above those of guest and capsule (%lld)", (long long)fd);
	tap_eq(fwd_call(&t0, SYS_dup3, (uint64_t)fd, 5, 0), 5, "it gets the guest's number");
	tap_eq(fwd_call(&t0, SYS_close, (uint64_t)fd), 0, "and loses the other");
	strcpy(buf() + 1000, "from the guest");
	tap_eq(fwd_call(&t0, SYS_write, 5, play_at(BUF + 1000), 14), 14, "write() of the guest's bytes");
	tap_ok(!stat(buf(), &st) && st.st_size == 14 && (st.st_mode & 0777) == 0640, "they are in the file");
	tap_eq(fwd_call(&t0, SYS_pread64, 5, play_at(BUF + 2000), 100, 5), 9, "pread()");
	tap_ok(!memcmp(buf() + 2000, "the guest", 9), "into the guest's memory");
	tap_eq(fwd_call(&t0, SYS_fstat, 5, play_at(BUF + 3000)), 0, "fstat()");
	tap_ok(((struct stat *)(buf() + 3000))->st_ino == st.st_ino, "is the file's");
	tap_eq(fwd_call(&t0, SYS_close, 5), 0, "close()");
	tap_eq(fwd_call(&t0, SYS_read, 5, play_at(BUF), 1), -EBADF, "then the number is good for nothing");
	for (int i = 0; i < 20; i++) {
		fd = fwd_call(&t0, SYS_openat, (uint64_t)AT_FDCWD, play_at(BUF), O_RDONLY);
		low += fd < NEW_FDS;
		fwd_call(&t0, SYS_close, (uint64_t)fd);
	}
	tap_eq(low, 0, "and is not given away by the kernel");
	strcpy(buf(), dir);
	fd = fwd_call(&t0, SYS_openat, (uint64_t)AT_FDCWD, play_at(BUF), O_RDONLY | O_DIRECTORY);
	n = fwd_call(&t0, SYS_getdents64, (uint64_t)fd, play_at(BUF + 4000), 1000);
	for (int64_t i = 0; i < n; i += ((struct dirent *)(buf() + 4000 + i))->d_reclen)
		names += !strcmp(((struct dirent *)(buf() + 4000 + i))->d_name, "file");
	tap_eq(names, 1, "getdents() lists it");
	fwd_call(&t0, SYS_close, (uint64_t)fd);
	from_ns = now_ns();
	tap_eq(fwd_call(&t0, SYS_poll, 0, 0, 50), 0, "poll() with a timeout");
	tap_ok(now_ns() - from_ns >= 50000000, "takes that long");
	tap_ok(t0.slot->host_ns >= 49000000 && t0.slot->host_ns < 5000000000u, "which the slot tells (%llu us)",
	       (unsigned long long)t0.slot->host_ns / 1000);
	tap_eq(fwd_call(&t0, SYS_read, 7, 1, 1), -EBADF, "errors are the kernel's");
	fd = fwd_call(&t0, SYS_eventfd2, 5, 0);
	tap_eq(fwd_call(&t0, SYS_read, (uint64_t)fd, 16, 8), -EFAULT, "a pointer that leads nowhere is EFAULT");
	fwd_call(&t0, SYS_close, (uint64_t)fd);
}

static void test_refused(void)
{
	static const long business[] = {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_brk, SYS_clone, SYS_fork, SYS_vfork,
					SYS_execve, SYS_execveat, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_exit, SYS_exit_group,
					SYS_rt_sigreturn, SYS_futex, SYS_tgkill, SYS_vmsplice, SYS_io_submit, SYS_io_uring_setup,
					SYS_prctl, SYS_seccomp, SYS_ptrace, 435, 100000};
	static const struct {
		long nr;
		uint64_t arg[6];
	} own[] = {
		{SYS_read, {DS_SHADOW_RAM_FD, 0, 0}}, {SYS_pwrite64, {DS_SHADOW_RAM_FD, 0, 0}}, {SYS_close, {DS_SHADOW_CTL_FD}},
		{SYS_dup3, {DS_SHADOW_RAM_RO_FD, 5, 0}}, {SYS_dup3, {0, DS_SHADOW_RAM_FD, 0}}, {SYS_dup2, {0, DS_SHADOW_FAULT_FD}},
		{SYS_openat, {DS_SHADOW_RAM_FD, 0, 0}}, {SYS_fcntl, {DS_SHADOW_CTL_FD, F_GETFL}}, {SYS_splice, {0, 0, DS_SHADOW_RAM_FD}},
		{SYS_sendfile, {5, DS_SHADOW_RAM_FD, 0, 1}}, {SYS_newfstatat, {DS_SHADOW_RAM_RO_FD, 0, 0, AT_EMPTY_PATH}},
		{SYS_read, {DS_SHADOW_RAM_FD | 1ull << 32, 0, 0}}, {SYS_recvmsg, {DS_SHADOW_CTL_FD}},
	};
	unsigned int wrong = 0;

	for (size_t i = 0; i < sizeof(business) / sizeof(business[0]); i++) {
		const int64_t got = fwd_call(&t0, business[i], 0);

		if (got != -ENOSYS)
			printf("# call %ld: %lld\n", business[i], (long long)got), wrong++;
	}
	tap_eq(wrong, 0, "what concerns the shadow's own memory, threads and signals is ENOSYS");
	wrong = 0;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		const int64_t got = fwd_call6(&t0, own[i].nr, own[i].arg);

		if (got != -EBADF)
			printf("# call %ld: %lld\n", own[i].nr, (long long)got), wrong++;
	}
	tap_eq(wrong, 0, "the capsule's own descriptors are EBADF");
	tap_eq(fwd_call(&t0, SYS_getppid, 0), getpid(), "it goes on");
}

struct message {
	uint64_t name, name_bytes, iov, niov, control, control_bytes, flags;
};

static void test_messages(void)
{
	struct message *m = (void *)(buf() + 512);
	uint64_t *iov = (void *)(buf() + 1024);
	int32_t *fds = (void *)buf();
	char back[32] = "";

	tap_eq(fwd_call(&t0, SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, play_at(BUF)), 0, "a pair of sockets");
	strcpy(buf() + 2000, "onetwo");
	iov[0] = play_at(BUF + 2000), iov[1] = 3, iov[2] = play_at(BUF + 2003), iov[3] = 3;
	*m = (struct message){.iov = play_at(BUF + 1024), .niov = 2};
	tap_eq(fwd_call(&t0, SYS_sendmsg, (uint64_t)fds[0], play_at(BUF + 512), 0), 6, "sendmsg() of two pieces");
	m->niov = 1;
	tap_eq(fwd_call(&t0, SYS_sendmsg, (uint64_t)fds[0], play_at(BUF + 512), MSG_NOSIGNAL), 3, "and of one");
	tap_eq(fwd_call(&t0, SYS_recvfrom, (uint64_t)fds[1], play_at(BUF + 3000), 100, 0, 0, 0), 9, "arrive");
	memcpy(back, buf() + 3000, 9);
	tap_ok(!strcmp(back, "onetwoone"), "in order");
	m->control = play_at(BUF + 3500), m->control_bytes = 24;
	tap_eq(fwd_call(&t0, SYS_sendmsg, (uint64_t)fds[0], play_at(BUF + 512), 0), -EPERM, "control data is not sent");
	fwd_call(&t0, SYS_close, (uint64_t)fds[0]);
	fwd_call(&t0, SYS_close, (uint64_t)fds[1]);
}

static void on_message(const struct ds_shadow_message *m)
{
	(void)m;
}

/* Writes to a pipe of the shadow's. */
static bool write_pipe(int fd)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", h.pid, fd);
	fd = open(path, O_WRONLY);
	n = write(fd, "hello", 5);
	close(fd);
	return n == 5;
}

/* --- interrupts -------------------------------------------------------------------------------------------------------- */

static void test_interrupts(void)
{
	int32_t *fds = (void *)buf();
	const struct timespec *left = (void *)(buf() + 64);
	const struct ds_shadow_head ping = host_head(&h, DS_SHADOW_PING, sizeof(ping));
	unsigned int wrong = 0;
	uint64_t from_ns, restarts;

	tap_eq(fwd_call(&t0, SYS_pipe2, play_at(BUF), 0), 0, "a pipe");
	fwd_post(&t0, SYS_read, (const uint64_t[6]){(uint64_t)fds[0], play_at(BUF + 100), 10});
	fwd_running(&t0);
	tap_ok(ds_forward_state(t0.slot) == DS_FORWARD_RUNNING, "a read() of it blocks");
	fwd_interrupt(&h, 0);
	tap_ok(fwd_wait(&t0, FWD_WAIT_MS) && t0.slot->result == -EINTR, "an interrupt ends it: EINTR");
	for (int i = 0; i < 200; i++)
		fwd_interrupt(&h, 0);
	host_send(&h, &ping, sizeof(ping), NULL, 0);
	hear(); /* they have arrived */
	for (int i = 0; i < 100; i++)
		wrong += fwd_call(&t0, SYS_getppid, 0) != getpid();
	tap_eq(wrong, 0, "interrupts between calls harm none");
	for (int i = 0; i < 300; i++) {
		fwd_post(&t0, SYS_read, (const uint64_t[6]){(uint64_t)fds[0], play_at(BUF + 100), 10});
		for (int k = 0; !fwd_is_done(&t0) && k < 5000; k++) {
			fwd_interrupt(&h, 0);
			usleep((useconds_t)(i % 7) * 20);
		}
		wrong += !fwd_wait(&t0, FWD_WAIT_MS) || t0.slot->result != -EINTR;
	}
	tap_eq(wrong, 0, "at whatever moment they come, 300 times");
	/* a change of the map under a call that is blocked */
	fwd_post(&t0, SYS_read, (const uint64_t[6]){(uint64_t)fds[0], play_at(BUF + 100), 10});
	fwd_running(&t0);
	restarts = h.status.restarts;
	wrong = host_update(&h, play_runs, 1, NULL, 0, on_message) != DS_SHADOW_STATUS;
	for (int i = 0; i < 1000 && h.status.restarts == restarts; i++) { /* it is counted when the call is made again */
		usleep(1000);
		host_send(&h, &ping, sizeof(ping), NULL, 0);
		hear();
	}
	tap_ok(!wrong && h.status.restarts == restarts + 1, "a change of the map finds no call in the guest's memory");
	tap_ok(write_pipe(fds[1]) && fwd_wait(&t0, FWD_WAIT_MS) && t0.slot->result == 5 && !memcmp(buf() + 100, "hello", 5),
	       "which is made again, and ends as ever");
	from_ns = now_ns();
	*(struct timespec *)(buf() + 32) = (struct timespec){10, 0};
	fwd_post(&t0, SYS_nanosleep, (const uint64_t[6]){play_at(BUF + 32), play_at(BUF + 64)});
	fwd_running(&t0);
	fwd_interrupt(&h, 0);
	tap_ok(fwd_wait(&t0, FWD_WAIT_MS) && t0.slot->result == -EINTR && now_ns() - from_ns < 5000000000u, "nanosleep() too");
	tap_ok(left->tv_sec == 9 && left->tv_nsec > 0, "and says how much is left");
	/* a write of more than the pipe takes */
	fwd_post(&t0, SYS_write, (const uint64_t[6]){(uint64_t)fds[1], play_at(BUF), 200000});
	fwd_running(&t0);
	fwd_interrupt(&h, 0);
	tap_ok(fwd_wait(&t0, FWD_WAIT_MS) && t0.slot->result > 0 && t0.slot->result < 200000,
	       "a write() that has done a part says so (%lld)", (long long)t0.slot->result);
	fwd_call(&t0, SYS_close, (uint64_t)fds[0]);
	fwd_call(&t0, SYS_close, (uint64_t)fds[1]);
}

/* --- bells ------------------------------------------------------------------------------------------------------------- */

/* Sends a message.  Return: why it is refused. */
static int refusal(const void *m, size_t bytes, int fd)
{
	host_send(&h, m, bytes, &fd, fd >= 0);
	return hear() == DS_SHADOW_REFUSED ? (int)h.refused.reason : -1;
}

static void test_bells(void)
{
	struct ds_shadow_fd m = {.head = host_head(&h, DS_SHADOW_FD, sizeof(m)), .slot = play_at(0)};
	struct ds_shadow_interrupt i = {.head = host_head(&h, DS_SHADOW_INTERRUPT, sizeof(i)), .executor = 2};
	struct ds_forward_report report;
	struct fwd t;
	int bell;

	tap_eq(refusal(&m, sizeof(m), STDOUT_FILENO), DS_SHADOW_R_MAILBOX, "an executor that has a bell refuses another");
	m.executor = 2;
	tap_eq(refusal(&m, sizeof(m), STDOUT_FILENO), DS_SHADOW_R_EXECUTOR, "there are as many as there are");
	tap_eq(refusal(&i, sizeof(i), -1), DS_SHADOW_R_EXECUTOR, "none but those is interrupted");
	m.executor = 1;
	tap_eq(refusal(&m, sizeof(m), -1), DS_SHADOW_R_FDS, "a bell without a descriptor");
	bell = fwd_give(&h, 1, play_at(64), 0);
	tap_ok(fwd_over(&h, 1, &report) && report.calls == 0, "a slot that is not aligned: the executor lets go");
	close(bell);
	bell = fwd_give(&h, 1, 128, 0);
	tap_ok(fwd_over(&h, 1, &report), "so it does of one that is not there");
	tap_ok(read(bell, &report, 1) == 0, "and closes its end");
	close(bell);
	fwd_start(&h, &t, 1, 0, 0);
	for (int k = 0; k < 10; k++)
		fwd_call(&t, SYS_getppid, 0);
	close(t.bell);
	tap_ok(fwd_over(&h, 1, &report) && report.calls == 10, "a bell that ends frees the executor, which tells how many calls there were");
	fwd_start(&h, &t, 1, 0, 0);
	tap_eq(fwd_call(&t, SYS_getppid, 0), getpid(), "another thread gets it");
	close(t.bell);
	fwd_over(&h, 1, &report);
}

static void test_others(void)
{
	struct ds_shadow_fd m;
	struct ds_shadow_interrupt i;

	host_ram(&h, PLAY_PAGES);
	if (host_start(&h, "calls", 1, play_runs, 1) != DS_SHADOW_STATUS)
		errx(2, "boot");
	m = (struct ds_shadow_fd){.head = host_head(&h, DS_SHADOW_FD, sizeof(m))};
	i = (struct ds_shadow_interrupt){.head = host_head(&h, DS_SHADOW_INTERRUPT, sizeof(i))};
	tap_eq(refusal(&m, sizeof(m), STDOUT_FILENO), DS_SHADOW_R_ORDER, "a service without bells takes none");
	tap_eq(refusal(&i, sizeof(i), -1), DS_SHADOW_R_ORDER, "and no interrupt");
	finish();
}

/* --- many threads ------------------------------------------------------------------------------------------------------ */

static struct fwd many[THREADS];
static volatile unsigned int running;
static unsigned int lost, rounds;

/* Both sides sleep for every call; each thread has a pipe and a word in its own page. */
static void *calls_of(void *arg)
{
	struct fwd *t = arg;
	const uint64_t at = (16 + t->executor) * PAGE;
	int32_t *fds = (void *)(h.ram + at);
	uint64_t *out = (void *)(h.ram + at + 64), *in = (void *)(h.ram + at + 128);
	unsigned int wrong = fwd_call(t, SYS_pipe2, play_at(at), 0) != 0;

	for (uint64_t i = 0; i < rounds && !wrong; i++) {
		if (i % 8) {
			wrong += fwd_call(t, SYS_getppid, 0) != getpid();
			continue;
		}
		*out = i;
		wrong += fwd_call(t, SYS_write, (uint64_t)fds[1], play_at(at + 64), 8) != 8;
		wrong += fwd_call(t, SYS_read, (uint64_t)fds[0], play_at(at + 128), 8) != 8 || *in != i;
	}
	__atomic_add_fetch(&lost, wrong, __ATOMIC_SEQ_CST);
	__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* An update that forbids the place where the capsule is: it moves. */
static bool move_away(void)
{
	const uint64_t moves = h.status.moves;
	const struct ds_shadow_range here = h.status.capsule;

	return host_update(&h, play_runs, 1, &here, 1, on_message) == DS_SHADOW_STATUS && h.status.moves == moves + 1;
}

static void test_many(uint32_t spin_ns, unsigned int each, const char *how)
{
	pthread_t threads[THREADS];
	unsigned int moves = 0, failed = 0;
	uint64_t slept = 0, from_ns = now_ns();

	start(THREADS);
	running = THREADS;
	rounds = each;
	lost = 0;
	for (uint32_t i = 0; i < THREADS; i++) {
		fwd_start(&h, &many[i], i, spin_ns, spin_ns);
		if (pthread_create(&threads[i], NULL, calls_of, &many[i]))
			err(2, "pthread_create");
	}
	while (__atomic_load_n(&running, __ATOMIC_SEQ_CST)) {
		failed += !move_away();
		moves++;
		usleep(20000);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		slept += many[i].slept;
	}
	tap_eq(lost, 0, "%u threads, %u calls, %s: each ends, with the right result (%llu sleeps, %llu ms)", THREADS, THREADS * rounds, how,
	       (unsigned long long)slept, (unsigned long long)(now_ns() - from_ns) / 1000000);
	tap_ok(moves && !failed, "while the capsule moves, %u times", moves);
	for (uint32_t i = 0; i < THREADS; i++)
		close(many[i].bell);
	finish();
}

/* User and system time of the capsule, and switches of all of its threads. */
static void spent(uint64_t *ticks, uint64_t *switches)
{
	char path[64], line[256];
	unsigned long long user, sys, n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", h.pid);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &sys) != 2)
		err(2, "%s", path);
	fclose(f);
	*ticks = user + sys;
	*switches = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", h.pid);
	DIR *d = opendir(path);
	for (const struct dirent *e; (e = readdir(d));) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", h.pid, e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
				*switches += n;
		if (f)
			fclose(f);
	}
	closedir(d);
}

static void test_idle(void)
{
	uint64_t ticks[2], switches[2];

	usleep(50000);
	spent(&ticks[0], &switches[0]);
	usleep(500000);
	spent(&ticks[1], &switches[1]);
	tap_ok(ticks[1] == ticks[0] && switches[1] == switches[0], "an idle thread costs nothing: no time, no switch in half a second");
}

int main(void)
{
	if (!mkdtemp(dir))
		err(2, "mkdtemp");
	start(2);
	fwd_start(&h, &t0, 0, DS_FORWARD_SPIN_NS, DS_FORWARD_SPIN_NS);
	test_calls();
	test_refused();
	test_messages();
	test_interrupts();
	test_bells();
	test_idle();
	tap_ok(move_away() && fwd_call(&t0, SYS_getppid, 0) == getpid(), "the capsule moves, and serves");
	finish();
	test_others();
	test_many(0, 12500, "all with a sleep on either side");
	test_many(DS_FORWARD_SPIN_NS, 1500, "with some spinning");
	return tap_done();
}
