/* sharers.c - who else uses a process's memory; theory of operation in sharers.h */
#include "runtime/guest/helper/sharers.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define FEW 256	   /* that many numbers are looked at one by one */
#define ROUNDS_MAX 16

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* A small file of /proc, terminated.  Return: whether there is anything in it. */
static bool slurp(const char *path, char *buf, size_t bytes)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, bytes - 1);

	buf[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

/* The number that was given out last, of a process or a thread; the fifth field of loadavg.  Return: it; 0: not known. */
static pid_t last_number(void)
{
	char buf[128], *at;

	if (!slurp("/proc/loadavg", buf, sizeof(buf)))
		return 0;
	at = strrchr(buf, ' ');
	return at ? atoi(at + 1) : 0;
}

static int64_t numbers(void)
{
	char buf[32];

	return slurp("/proc/sys/kernel/pid_max", buf, sizeof(buf)) ? atoll(buf) : 0;
}

/* kcmp() finds those that have no memory equal too: kernel threads, zombies. */
static bool has_memory(pid_t pid)
{
	char path[64], buf[64];

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	return slurp(path, buf, sizeof(buf)) && buf[0] != '0';
}

static bool shares(pid_t pid, pid_t other)
{
	return other != pid && syscall(SYS_kcmp, pid, other, KCMP_VM, 0, 0) == 0 && has_memory(other);
}

static bool is_thread_of(pid_t pid, pid_t number)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", pid, number);
	return access(path, F_OK) == 0;
}

static pid_t among_all(pid_t pid, pid_t except)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		pid_t other = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;

		if (other > 0 && other != except && shares(pid, other))
			found = other;
	}
	if (proc)
		closedir(proc);
	return found;
}

/* Among the tasks with these numbers: unlike a list of /proc, that has threads too, the program's own among them. */
static pid_t among(pid_t pid, pid_t except, pid_t after, pid_t last)
{
	for (pid_t other = after + 1; other <= last; other++)
		if (other != except && shares(pid, other) && !is_thread_of(pid, other) && !(except && is_thread_of(except, other)))
			return other;
	return 0;
}

pid_t sharers_find(struct sharers *s, pid_t pid, pid_t except)
{
	const int64_t began_us = now_us();
	pid_t last = s ? last_number() : 0, found;
	bool few = s && s->last && last >= s->last && last - s->last <= FEW && began_us - s->at_us < numbers();

	if (few) {
		pid_t after = s->last;

		for (int i = 0; few; i++) {
			found = among(pid, except, after, last);
			if (found)
				return found;
			after = last;
			last = last_number();
			if (last == after)
				break;
			few = last > after && last - after <= FEW && i < ROUNDS_MAX;
		}
	}
	if (!few) {
		found = among_all(pid, except);
		if (found)
			return found;
	}
	if (s)
		*s = (struct sharers){.last = last, .at_us = began_us};
	return 0;
}
