/* forward.c - what a forwarded call costs on the host, beside the same call made here and beside bare ways between two processes
 *
 * usage: forward ROUNDS
 *
 * The guest's thread is played in this process; the shadow runs in its jail, its guard armed, every group of calls granted.
 * Each round measures all of them in turn; medians are printed, nanoseconds a call:
 *
 *   getppid	 the call, made here
 *   ring	 a word in shared memory goes to another process that spins, and back: the least a busy pair can take
 *   spinning	 getppid, forwarded, both sides spinning
 *   pingpong	 a byte through a socket pair to another process that sleeps, and back: the least a pair that slept can take
 *   sleeping	 getppid, forwarded, both sides asleep each time
 *   pingpong1, sleeping1   the same, with both sides on one processor
 *   pread4k, forward4k, pread512k, forward512k   so much of a file in memory, here and forwarded (both sides spinning)
 *
 * then the ratios.  Where it is not said otherwise this process is on the first processor that it may have, and the other, shadow or
 * partner, on the second: a wake-up takes two or three times as long from processor to processor as on the same one, and the kernel's
 * choice would be what is compared.  With one processor only, spinning pairs take turns by the clock: do not look at them there.
 */
#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>

#include "runtime/host/policy/callgroup.h"
#include "tests/bench/median.h"
#include "tests/forward_thread.h"
#include "tests/guarded.h"

#define ROUNDS_MAX 999
#define CALLS 500
#define BULK_CALLS 20
#define MIB (1u << 20)
#define FILE_AT (128 * PAGE) /* in the process: half of it is a buffer */
#define SPIN_NS DS_FORWARD_SPIN_NS

enum what { GETPPID, RING, SPINNING, PINGPONG, SLEEPING, PINGPONG1, SLEEPING1, PREAD4K, FORWARD4K, PREAD_BIG, FORWARD_BIG, NWHAT };
static const char *const names[NWHAT] = {"getppid",   "ring",	  "spinning",  "pingpong",  "sleeping", "pingpong1",
					 "sleeping1", "pread4k", "forward4k", "pread512k", "forward512k"};

static struct guarded g;
static struct fwd spinner, sleeper;
static volatile uint32_t *word; /* of the ring */
static int pair[2], file_fd;
static pid_t partner_pid;
static cpu_set_t allowed; /* processors */
static uint8_t buffer[MIB];

/* The other end of ring and ping-pong; each is used alone, so it does not spin while it is to sleep. */
static void partner(bool ring)
{
	char byte;

	for (uint32_t n = 1; ring; n += 2) {
		while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != n)
			__builtin_ia32_pause();
		__atomic_store_n(word, n + 1, __ATOMIC_RELEASE);
		if (n + 1 >= 2 * (CALLS + 1))
			_exit(0);
	}
	while (read(pair[1], &byte, 1) == 1)
		if (write(pair[1], &byte, 1) != 1)
			break;
	_exit(0);
}

/* A thread has the first or the second of the processors. */
static void pin(pid_t tid, int which)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int i = 0, k = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &allowed) && k++ == which % CPU_COUNT(&allowed))
			CPU_SET(i, &one);
	if (sched_setaffinity(tid, sizeof(one), &one))
		err(2, "sched_setaffinity");
}

/* Partner and shadow. */
static void place(int which)
{
	static int now = -1;
	const struct dirent *e;
	char path[64];
	DIR *d;

	if (which == now)
		return;
	now = which;
	pin(partner_pid, which);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)g.jail.pid);
	d = opendir(path);
	if (!d)
		err(2, "%s", path);
	while ((e = readdir(d)))
		if (*e->d_name != '.')
			pin(atoi(e->d_name), which);
	closedir(d);
}

static double ring(void)
{
	uint64_t from_ns = 0;
	pid_t pid;

	*word = 0;
	pid = fork();
	if (!pid) { /* it would begin on this processor */
		pin(0, 1);
		partner(true);
	}
	for (uint32_t i = 0; i <= CALLS; i++) {
		if (i == 1) /* it runs by now */
			from_ns = now_ns();
		__atomic_store_n(word, 2 * i + 1, __ATOMIC_RELEASE);
		while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 2 * i + 2)
			__builtin_ia32_pause();
	}
	from_ns = now_ns() - from_ns;
	waitpid(pid, NULL, 0);
	return (double)from_ns / CALLS;
}

static void right(bool ok)
{
	if (!ok)
		errx(2, "a call went wrong");
}

static double measure(enum what what)
{
	const uint64_t file = (uint64_t)file_fd;
	const unsigned int calls = what >= PREAD_BIG ? BULK_CALLS : CALLS;
	uint64_t from_ns;
	char byte = 0;

	place(what != PINGPONG1 && what != SLEEPING1);
	if (what == RING)
		return ring();
	if (what == SPINNING || what >= PREAD4K)
		fwd_call(&spinner, SYS_getppid, 0); /* wakes it */
	from_ns = now_ns();
	for (unsigned int i = 0; i < calls; i++) {
		switch (what) {
		case GETPPID: right(syscall(SYS_getppid) > 0); break;
		case SPINNING: right(fwd_call(&spinner, SYS_getppid, 0) == 0); break;
		case PINGPONG:
		case PINGPONG1: right(write(pair[0], &byte, 1) == 1 && read(pair[0], &byte, 1) == 1); break;
		case SLEEPING:
		case SLEEPING1: right(fwd_call(&sleeper, SYS_getppid, 0) == 0); break;
		case PREAD4K: right(pread(file_fd, buffer, 4096, 0) == 4096); break;
		case FORWARD4K: right(fwd_call(&spinner, SYS_pread64, file, play_at(FILE_AT), 4096, 0) == 4096); break;
		case PREAD_BIG: right(pread(file_fd, buffer, MIB / 2, 0) == MIB / 2); break;
		default: right(fwd_call(&spinner, SYS_pread64, file, play_at(FILE_AT), MIB / 2, 0) == MIB / 2); break;
		}
	}
	return (double)(now_ns() - from_ns) / calls;
}

static void start(void)
{
	static const struct filter_want want = {
		.bells = true, .groups = CALLGROUP_FILE | CALLGROUP_DIR | CALLGROUP_SOCKET | CALLGROUP_POLL | CALLGROUP_INFO};
	static char dir[] = "/dev/shm/forward-XXXXXX";
	const struct jail_bind bind = {.guest = "/data", .host = dir, .writable = true};
	struct jail_params p = {.threads = 3, .memory_bytes = 64 << 20, .as_root = true, .binds = &bind, .nbinds = 1};
	char path[64];
	int64_t fd;

	if (!mkdtemp(dir))
		err(2, "%s", dir);
	snprintf(path, sizeof(path), "%s/file", dir);
	file_fd = open(path, O_RDWR | O_CREAT, 0600);
	if (file_fd < 0 || write(file_fd, buffer, MIB) != MIB)
		err(2, "%s", path);
	guarded_init(&g, PLAY_PAGES);
	if (guarded_spawn(&g, "forward", &want, &p))
		errx(2, "jail: %s: %s", g.jail_err.what, strerror(-g.jail_err.err));
	if (guarded_boot(&g, "forward", 2, play_runs, 1) != DS_SHADOW_STATUS)
		errx(2, "the shadow does not start");
	fwd_start(&g.h, &spinner, 0, SPIN_NS, SPIN_NS);
	fwd_start(&g.h, &sleeper, 1, 0, 0);
	strcpy((char *)g.h.ram + FILE_AT, "/data/file");
	fd = fwd_call(&spinner, SYS_openat, (uint64_t)AT_FDCWD, play_at(FILE_AT), O_RDWR);
	right(fd >= 0 && fwd_call(&spinner, SYS_dup3, (uint64_t)fd, (uint64_t)file_fd, 0) == file_fd);
	unlink(path);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	static double ns[NWHAT][ROUNDS_MAX], m[NWHAT];
	const int rounds = argc == 2 ? atoi(argv[1]) : 0;
	union host_message message;

	if (rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: forward ROUNDS (1 to %d)\n", ROUNDS_MAX);
		return 1;
	}
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		err(2, "sched_getaffinity");
	word = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (word == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(2, "mmap, socketpair");
	partner_pid = fork();
	if (!partner_pid) {
		close(pair[0]);
		partner(false);
	}
	start();
	pin(0, 0);
	for (int r = 0; r < rounds; r++) {
		for (int w = 0; w < NWHAT; w++)
			ns[w][r] = measure((enum what)w);
		while (host_receive(&g.h, &message, 0) == DS_SHADOW_MESSAGE) /* reports */
			;
	}
	for (int w = 0; w < NWHAT; w++) {
		m[w] = bench_median(ns[w], (size_t)rounds);
		printf("%s %.0f\n", names[w], m[w]);
	}
	printf("spinning/getppid %.2f\nspinning/ring %.2f\nsleeping/pingpong %.2f\nsleeping1/pingpong1 %.2f\nforward4k/pread4k %.2f\nforward512k/pread512k %.2f\n",
	       m[SPINNING] / m[GETPPID], m[SPINNING] / m[RING], m[SLEEPING] / m[PINGPONG],
	       m[SLEEPING1] / m[PINGPONG1], m[FORWARD4K] / m[PREAD4K],
	       m[FORWARD_BIG] / m[PREAD_BIG]);
	kill(partner_pid, SIGKILL);
	guarded_end(&g);
	host_free(&g.h);
	return 0;
}
