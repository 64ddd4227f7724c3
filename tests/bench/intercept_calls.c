/* intercept_calls.c - nanoseconds a call, and milliseconds a program, for tests/bench/intercept
 *
 * usage: intercept_calls calls              under whatever it was started: "raw NS libc NS read NS", medians of batches
 *        intercept_calls notify             getppid answered by another thread through seccomp's user notification: "notify NS"
 *        intercept_calls whole ROUNDS LIB ORACLE PROGRAM...
 *                                           in turns: as it is, with LIB preloaded, under ORACLE ("-": not); "MS MS MS"
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/median.h"

#define BATCHES 101
#define BATCH_NS 300000.0 /* a batch is about this long */
#define ROUNDS_MAX 1001

static int null_fd;

/* The shape that places in libraries have: the number, the instruction. */
static void raw(void)
{
	uint64_t ret;

	__asm__ volatile("movl %1, %%eax\n\tsyscall" : "=a"(ret) : "i"(SYS_getppid) : "rcx", "r11", "memory");
}

static void libc(void)
{
	getppid();
}

static void read_null(void)
{
	char c;

	if (read(null_fd, &c, 1) < 0)
		abort();
}

static double batch(void (*call)(void), unsigned int n)
{
	const double start = bench_now_ns();

	for (unsigned int i = 0; i < n; i++)
		call();
	return (bench_now_ns() - start) / n;
}

static double measure(void (*call)(void))
{
	double values[BATCHES];
	unsigned int n = 10;

	batch(call, 100); /* places become hot */
	while (n < 4000 && batch(call, n) * n < BATCH_NS)
		n *= 2;
	for (int i = 0; i < BATCHES; i++)
		values[i] = batch(call, n);
	return bench_median(values, BATCHES);
}

/* --- user notification ------------------------------------------------------------------------------------------------ */

static int listener = -1;

static void *answer(void *arg)
{
	struct seccomp_notif req;
	struct seccomp_notif_resp resp;
	int fd;

	while ((fd = __atomic_load_n(&listener, __ATOMIC_ACQUIRE)) < 0)
		usleep(1000);
	for (;;) {
		memset(&req, 0, sizeof(req));
		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &req))
			return arg;
		resp = (struct seccomp_notif_resp){.id = req.id, .val = 4242};
		ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
	}
}

static int notify(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {sizeof(filter) / sizeof(*filter), filter};
	pthread_t t;
	long fd;

	if (pthread_create(&t, NULL, answer, NULL))
		return 2;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog); /* this thread only */
	if (fd < 0)
		return 2;
	__atomic_store_n(&listener, (int)fd, __ATOMIC_RELEASE);
	if (getppid() != 4242)
		return 2;
	printf("notify %.0f\n", measure(libc));
	return 0;
}

/* --- whole programs --------------------------------------------------------------------------------------------------- */

static double run_ms(const char *lib, char **argv)
{
	const double start = bench_now_ns();
	int status, null;
	pid_t pid = fork();

	if (!pid) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		if (lib) {
			setenv("LD_PRELOAD", lib, 1);
			setenv("DS_PROBE", lib, 1);
		}
		execvp(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "intercept_calls: %s ended with %#x\n", argv[0], status);
		exit(2);
	}
	return (bench_now_ns() - start) / 1e6;
}

static int whole(int argc, char **argv)
{
	static double values[3][ROUNDS_MAX];
	const int rounds = atoi(argv[2]);
	const bool monitor = strcmp(argv[4], "-") != 0;

	if (rounds < 1 || rounds >= ROUNDS_MAX || argc < 6)
		return 1;
	run_ms(NULL, argv + 5); /* into the page cache */
	for (int i = 0; i < rounds; i++) {
		values[0][i] = run_ms(NULL, argv + 5);
		values[1][i] = run_ms(argv[3], argv + 5);
		if (monitor)
			values[2][i] = run_ms(NULL, argv + 4);
	}
	printf("%.3f %.3f", bench_median(values[0], (size_t)rounds), bench_median(values[1], (size_t)rounds));
	printf(monitor ? " %.3f\n" : " -\n", bench_median(values[2], (size_t)rounds));
	return 0;
}

int main(int argc, char **argv)
{
	null_fd = open("/dev/null", O_RDONLY);
	if (argc > 1 && !strcmp(argv[1], "notify"))
		return notify();
	if (argc > 5 && !strcmp(argv[1], "whole"))
		return whole(argc, argv);
	if (argc < 2 || strcmp(argv[1], "calls"))
		return 1;
	printf("raw %.1f\n", measure(raw));
	printf("libc %.1f\n", measure(libc));
	printf("read %.1f\n", measure(read_null));
	return 0;
}
