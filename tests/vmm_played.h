/* vmm_played.h - plays a VMM for tests: a process that has the window's memfd mapped, and a processor that loads and stores there
 *
 * Two threads: one waits in poll() as QEMU's main thread does, one loads and stores as told and has all signals blocked but SIGSEGV,
 * SIGFPE and SIGILL, as QEMU's processors have.
 */
#ifndef TESTS_VMM_PLAYED_H
#define TESTS_VMM_PLAYED_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/addr.h"

#define VMM_PAGES 64u
#define VMM_WINDOW (VMM_PAGES * DS_PAGE_BYTES)
#define VMM_NOWHERE UINT64_MAX /* an access to an address where nothing is */

static int vmm_shm = -1; /* the window's memfd */

static void vmm_make_window(void)
{
	vmm_shm = memfd_create("ivshmem", MFD_CLOEXEC);
	if (vmm_shm < 0 || ftruncate(vmm_shm, VMM_WINDOW))
		exit(2);
}

struct vmm {
	pid_t pid;
	int sock;
};

struct access {
	uint64_t at;
	uint32_t store, value;
};

struct cpu {
	volatile uint8_t *window;
	int sock;
};

static void *run_cpu(void *arg)
{
	const struct cpu *cpu = arg;
	const volatile uint8_t *volatile nowhere = (const volatile uint8_t *)8;
	struct access a;

	while (recv(cpu->sock, &a, sizeof(a), 0) == sizeof(a)) {
		if (a.at == UINT64_MAX)
			a.value = *nowhere;
		else if (a.store)
			cpu->window[a.at] = (uint8_t)a.value;
		else
			a.value = cpu->window[a.at];
		send(cpu->sock, &a, sizeof(a), MSG_NOSIGNAL);
	}
	_exit(0);
}

static void be_vmm(int sock)
{
	struct cpu cpu = {mmap(NULL, VMM_WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, vmm_shm, 0), sock};
	const sigset_t none = {0};
	sigset_t set;
	pthread_t thread;

	sigfillset(&set);
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGILL);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	pthread_create(&thread, NULL, run_cpu, &cpu);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	for (int turns = 0;; turns++)
		poll(NULL, 0, turns % 2 ? -1 : 50); /* both kinds of restarting */
}

static struct vmm start_vmm(void)
{
	struct vmm v;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		exit(2);
	v.pid = fork();
	if (!v.pid) {
		close(pair[0]);
		be_vmm(pair[1]);
	}
	close(pair[1]);
	v.sock = pair[0];
	return v;
}

static int end_vmm(struct vmm *v)
{
	int status = 0;

	close(v->sock);
	waitpid(v->pid, &status, 0);
	return status;
}

/* Return: the byte; -1: the VMM has died of it. */
static int access_at(const struct vmm *v, uint64_t at_page, uint64_t offset, int store)
{
	struct access a = {.at = at_page == VMM_NOWHERE ? UINT64_MAX : at_page * DS_PAGE_BYTES + offset, .store = store >= 0, .value = (uint32_t)store};

	if (send(v->sock, &a, sizeof(a), MSG_NOSIGNAL) != sizeof(a) || recv(v->sock, &a, sizeof(a), 0) != sizeof(a))
		return -1;
	return (int)a.value;
}

__attribute__((unused)) static int load(const struct vmm *v, uint64_t at_page)
{
	return access_at(v, at_page, 7, -1);
}

__attribute__((unused)) static int tasks(const struct vmm *v)
{
	char name[64];
	struct stat st;

	snprintf(name, sizeof(name), "/proc/%d/task", v->pid);
	return stat(name, &st) ? -1 : (int)st.st_nlink - 2;
}

__attribute__((unused)) static char state_of(const struct vmm *v)
{
	char name[64], line[128] = "";
	char state = '?';
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/stat", v->pid);
	f = fopen(name, "re");
	if (f && fgets(line, sizeof(line), f))
		sscanf(strrchr(line, ')') + 1, " %c", &state);
	if (f)
		fclose(f);
	return state;
}

#endif
