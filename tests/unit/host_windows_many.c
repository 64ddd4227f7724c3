/* host_windows_many.c - the device window where there are several: owners of pages, VMMs that die, VMs at the same time
 *
 * The VMMs are played: vmm_played.h.
 */
#include "runtime/host/window/windows.h"

#include <signal.h>
#include <sys/inotify.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/tap.h"
#include "tests/windows_played.h"

/* Pages of a forked child: a lease has them, until they are a shadow's again or nobody's. */
static void test_lease(void)
{
	cleanup_close int file = make_file(8, 1);
	struct windows_ask lend = {.what = WINDOWS_LEASE}, take = {.what = WINDOWS_ADOPT};
	struct windows_answer m;
	socklen_t bytes = sizeof(lend.offset);
	int pair[2], other[2], a, b;
	uint64_t at;
	struct vmm v;
	char byte;

	begin(&v, &a, &b);
	m = map(a, file, 3, 0, PROT_READ | PROT_WRITE);
	at = m.mapped.extent[0].page;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, other) ||
	    getsockopt(pair[1], SOL_SOCKET, SO_COOKIE, &lend.offset, &bytes))
		exit(2);
	ask(a, &lend, pair[0]);
	close(pair[0]);
	tap_ok(!m.err && recv(pair[1], &byte, 1, MSG_DONTWAIT) == 1, "a lease of what a shadow has, which is told at its other end");
	tap_eq(unmap(a, at, 3), 0, "the shadow gives its pages back");
	tap_ok(load(&v, at) == 1 && load(&v, at + 2) == 3, "and the file is still there");
	tap_ok(map(a, file, 2, 5, PROT_READ).mapped.extent[0].page != at, "nobody else gets these pages");
	take.extent = (struct ds_window_extent){at + 1, 2};
	tap_eq(ask(b, &take, other[0]).err, -ENOENT, "who shows another socket gets nothing");
	tap_eq(ask(b, &take, -1).err, -EPROTO, "nor who shows none");
	tap_eq(ask(b, &take, pair[1]).err, 0, "another shadow takes two of the pages over");
	tap_eq(ask(b, &take, pair[1]).err, -EEXIST, "once");
	take.extent.page = at + 30;
	tap_eq(ask(b, &take, pair[1]).err, -EINVAL, "and not what the lease does not have");
	close(pair[1]);
	work();
	tap_ok(load(&v, at) == 0 && load(&v, at + 1) == 2 && load(&v, at + 2) == 3, "when nobody has the lease any more the third page is gone, and only that");
	tap_eq(unmap(b, at + 1, 2), 0, "the other shadow gives back what it has");
	tap_ok(load(&v, at + 1) == 0 && load(&v, at + 2) == 0, "and the window is whole there");
	close(other[0]);
	close(other[1]);
	close(a);
	close(b);
	windows_free(w);
	tap_eq(end_vmm(&v), 0, "the VMM goes on to its own end");
}

/* The VMM is killed while a thread is put into it, or while that maps. */
static void test_vmm_killed(void)
{
	cleanup_close int file = make_file(4, 1);
	const struct windows_params p = {.vm = "one", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES};
	uint32_t answered = 0, again = 0, gone = 0;

	for (uint32_t round = 0; round < 20; round++) {
		struct vmm v = start_vmm();
		int a, status;
		pid_t killer;

		load(&v, 1);
		if (windows_new(&w, &p))
			exit(2);
		windows_vmm(w, v.pid, true);
		a = windows_join(w, 1);
		killer = fork();
		if (!killer) {
			nanosleep(&(struct timespec){.tv_nsec = 200000 * (long)round}, NULL);
			kill(v.pid, SIGKILL);
			_exit(0);
		}
		for (int i = 0; i < 100000; i++) {
			const struct windows_answer m = map(a, file, 4, 0, PROT_READ | PROT_WRITE);

			if (m.err) { /* what cannot be done any more is said at once */
				answered += m.err == -ENODEV;
				break;
			}
			unmap(a, m.mapped.extent[0].page, 4);
		}
		waitpid(killer, NULL, 0);
		close(v.sock);
		gone += waitpid(v.pid, &status, 0) == v.pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
		windows_vmm(w, 0, false);
		if (round < 19) {
			windows_free(w);
			close(a);
			continue;
		}
		v = start_vmm();
		load(&v, 1);
		windows_vmm(w, v.pid, true);
		for (int waited = 0; !again && waited < WAIT_MS; waited += 100) { /* after a failure it is not tried again at once */
			again = !map(a, file, 4, 0, PROT_READ).err && load(&v, 1) == 1;
			nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
		}
		windows_free(w);
		close(a);
		end_vmm(&v);
	}
	tap_eq(answered, 20, "the VMM is killed while files are mapped into it, 20 times: ENODEV to who asks");
	tap_eq(gone, 20, "it dies of that, and nothing holds it");
	tap_ok(again, "the next VMM is served");
}

/* Two VMs at the same time, each with a window: what is mapped in one is not in the other. */
static void test_two(void)
{
	cleanup_close int file = make_file(8, 1), other = make_file(8, 101);
	const int first_shm = vmm_shm;
	struct windows_params p = {.vm = "one", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES};
	struct vmm one = start_vmm(), two;
	struct windows *first, *second;
	struct windows_answer m, n;
	char path_two[sizeof(path) + 2];
	uint32_t right = 0;
	int a, b;

	load(&one, 1);
	vmm_make_window();
	two = start_vmm();
	load(&two, 1);
	if (windows_new(&first, &p))
		exit(2);
	snprintf(path_two, sizeof(path_two), "%s2", path);
	p = (struct windows_params){.vm = "two", .path = path_two, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES};
	if (windows_new(&second, &p))
		exit(2);
	windows_vmm(first, one.pid, true);
	windows_vmm(second, two.pid, true);
	a = windows_join(first, 7);
	b = windows_join(second, 7);
	for (uint64_t i = 0; i < 50; i++) {
		w = first;
		m = map(a, file, 4, i % 4, PROT_READ | PROT_WRITE);
		w = second;
		n = map(b, other, 4, i % 3, PROT_READ | PROT_WRITE);
		right += !m.err && !n.err && load(&one, m.mapped.extent[0].page) == 1 + (int)(i % 4) &&
			 load(&two, n.mapped.extent[0].page) == 101 + (int)(i % 3);
		w = first;
		right += !unmap(a, m.mapped.extent[0].page, 4) && load(&one, m.mapped.extent[0].page) == 0 &&
			 load(&two, n.mapped.extent[0].page) == 101 + (int)(i % 3);
		w = second;
		right += !unmap(b, n.mapped.extent[0].page, 4);
	}
	tap_eq(right, 150, "two VMs have windows at the same time, and neither sees what the other has");
	w = first;
	m = map(a, file, 4, 0, PROT_READ | PROT_WRITE);
	w = second;
	n = map(b, other, 4, 0, PROT_READ | PROT_WRITE);
	kill(one.pid, SIGKILL);
	end_vmm(&one);
	tap_ok(!n.err && load(&two, n.mapped.extent[0].page) == 101 && load(&two, n.mapped.extent[0].page + 3) == 104, "when one ends the other has what it had");
	windows_free(first);
	windows_free(second);
	close(a);
	close(b);
	tap_eq(end_vmm(&two), 0, "and goes on to its own end");
	close(vmm_shm);
	vmm_shm = first_shm;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A VMM that may not be traced, since somebody else does: it is not tried each time that a guest asks. */
static void test_forbidden(const char *folder)
{
	cleanup_close int file = make_file(4, 1), seen = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	const struct windows_params p = {.vm = "one", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES};
	_Alignas(struct inotify_event) char events[4096];
	struct vmm v = start_vmm(), other;
	uint32_t refused = 0, asked = 0, tries = 0;
	int64_t from, took = 0;
	ssize_t n;
	int a;

	load(&v, 1);
	if (windows_new(&w, &p) || ptrace(PTRACE_SEIZE, v.pid, NULL, NULL) || inotify_add_watch(seen, folder, IN_CREATE) < 0)
		exit(2);
	windows_vmm(w, v.pid, true);
	a = windows_join(w, 1);
	from = now_ms();
	for (; tries < 3 && took < WAIT_MS; asked++) {
		refused += map(a, file, 4, 0, PROT_READ | PROT_WRITE).err == -ENODEV;
		took = now_ms() - from;
		while ((n = read(seen, events, sizeof(events))) > 0) /* each try makes the socket */
			for (char *at = events; at < events + n; at += sizeof(struct inotify_event) + ((struct inotify_event *)(void *)at)->len)
				tries++;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	tap_ok(refused == asked && tries == 3 && took >= 3000, "a VMM that may not be traced is tried again after a second, and then after two: the third try after %.1f s", (double)took / 1e3);
	other = start_vmm();
	load(&other, 1);
	windows_vmm(w, other.pid, true);
	tap_ok(!map(a, file, 4, 0, PROT_READ | PROT_WRITE).err && load(&other, 1) == 1, "another one is tried at once");
	windows_free(w);
	close(a);
	end_vmm(&other);
	kill(v.pid, SIGKILL);
	end_vmm(&v);
}

int main(void)
{
	char folder[] = "/tmp/windows-XXXXXX";
	cleanup_close int file = make_file(1, 1);
	struct vmm v;
	int a, b, r;

	if (!mkdtemp(folder))
		return 2;
	snprintf(path, sizeof(path), "%s/window", folder);
	vmm_make_window();
	begin(&v, &a, &b);
	r = map(a, file, 1, 0, PROT_READ).err;
	windows_free(w);
	close(a);
	close(b);
	end_vmm(&v);
	if (r == -ENODEV) {
		tap_skip("the device window", "processes may not be traced here");
	} else {
		test_lease();
		test_vmm_killed();
		test_two();
		test_forbidden(folder);
	}
	unlink(path);
	rmdir(folder);
	return tap_done();
}
