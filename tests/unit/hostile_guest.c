/* hostile_guest.c - a guest that means harm, attempt by attempt, against live shadows: what it gets, and that nothing else is harmed
 *
 * hostile_world.h tells what must not be harmed.  The guest knows more than a real one could: where its capsule lies, to the byte.  It may ruin
 * its own shadow, since that has its memory; then the shadow ends, and another can be had.
 *
 *   HOSTILE_KILLS=N   so many deaths at different instructions (default 25)
 */
#include <sys/ptrace.h>

#include "tests/hostile_process.h"

#define KILLS 25
#define NSTRETCH 64

/* --- pointers ---------------------------------------------------------------------------------------------------------------- */

static const uint64_t nowhere[] = {
	0, 8, 4096, HEAP_VPN *PAGE - 8 * PAGE, UINT64_C(0x7ffffffff000), UINT64_C(0x800000000000), UINT64_C(0xfff0000000000000),
	UINT64_C(0xffff800000000000), UINT64_C(0xffff888000000000), UINT64_C(0xffffffff81000000), UINT64_C(0xffffffffff600000), UINT64_MAX - 4095,
};

static unsigned int bad_pointer(uint64_t at, uint64_t in, uint64_t out)
{
	const uint64_t iov = at_guest(BUF) + 512;
	unsigned int wrong = 0;

	*(uint64_t *)(void *)(at_host(BUF) + 512) = at;
	*(uint64_t *)(void *)(at_host(BUF) + 520) = 64;
	wrong += call(__NR_pread64, in, at, 64, 0, 0) != -EFAULT;
	wrong += call(__NR_preadv, in, iov, 1, 0, 0) != -EFAULT;
	wrong += call(__NR_fstat, in, at, 0, 0, 0) != -EFAULT;
	wrong += call(__NR_pipe2, at, 0, 0, 0, 0) != -EFAULT;
	wrong += call(__NR_getcwd, at, 100, 0, 0, 0) != -EFAULT;
	if (!out)
		return wrong;
	wrong += call(__NR_pwrite64, out, at, 64, 0, 0) != -EFAULT;
	wrong += call(__NR_openat, (uint64_t)AT_FDCWD, at, 0, 0, 0) != -EFAULT;
	wrong += call(__NR_renameat2, (uint64_t)AT_FDCWD, at, (uint64_t)AT_FDCWD, at, 0) != -EFAULT;
	return wrong;
}

/* What is wrong with bells whose slot is at @at: none may make calls there. */
static bool slot_at(uint64_t at)
{
	struct ds_forward_hello h = bell_hello(own.a.started.token, at);
	uint32_t port;
	const int fd = bell_connect(&port);
	bool sent = write(fd, &h, sizeof(h)) == sizeof(h);

	for (int i = 0; i < 20; i++)
		pump(1);
	close(fd);
	return sent;
}

static void test_pointers(void)
{
	struct stretch list[NSTRETCH];
	unsigned int wrong = 0, ruined = 0, n, left = 0;
	int64_t in, out, result;

	begin(1);
	in = open_at("/ro/read", O_RDONLY);
	out = open_at("/data/own", O_RDWR);
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
		wrong += bad_pointer(nowhere[i], (uint64_t)in, (uint64_t)out);
	tap_eq(wrong, 0, "pointers to nowhere, at the kernel and at no address at all are EFAULT");
	wrong = 0;
	for (uint32_t i = 0; i < RO_PAGES; i++)
		wrong += bad_pointer(at_guest(RO_FIRST + i), (uint64_t)in, 0);
	tap_eq(wrong, 0, "and so are pages that may only be read, where something is to be stored");
	/* What the capsule may not write itself. */
	n = hostile_capsule(list, NSTRETCH);
	for (uint32_t i = 0; i < n; i++)
		wrong += !list[i].writable && bad_pointer(list[i].from, (uint64_t)in, 0);
	tap_ok(n > 3 && !wrong, "and the code of the capsule (%u stretches of memory)", n);
	end(1);

	/* What it may: the shadow is its own. */
	for (uint32_t i = 0; i < n; i++) {
		struct stretch now[NSTRETCH];

		begin(1);
		if (i >= hostile_capsule(now, NSTRETCH) || !now[i].writable) {
			end(1);
			continue;
		}
		out = open_at("/data/own", O_RDWR);
		call(__NR_ftruncate, (uint64_t)out, 1 << 20, 0, 0, 0);
		ruined++;
		if (hostile_try(&t[0], 200, &result, __NR_pread64, (const uint64_t[6]){(uint64_t)out, now[i].from, now[i].to - now[i].from, 0}))
			hostile_try(&t[0], 200, &result, __NR_getpid, (const uint64_t[6]){0});
		left += !hostile_end(&own, t, 1);
	}
	tap_ok(ruined > 3 && !left, "a guest that overwrites its capsule's memory (%u times another part of it) has ruined its own shadow", ruined);
	world_unharmed("then");

	begin(1);
	n = hostile_capsule(list, NSTRETCH);
	for (uint32_t i = 0; i < n; i++) {
		slot_at(list[i].from);
		slot_at((list[i].from + list[i].to) / 2 & -sizeof(struct ds_forward_slot));
	}
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
		slot_at(nowhere[i] & -sizeof(struct ds_forward_slot));
	tap_ok(hostile_end(&own, t, 1), "slots that are to lie in the capsule, in the kernel, nowhere: the shadow ends when it is to");
	world_unharmed("then");
}

/* --- arguments that change ----------------------------------------------------------------------------------------------------- */

static void change_slot(uint32_t i)
{
	static const uint64_t nr[] = {__NR_getpid, __NR_mmap, __NR_pread64, __NR_sendmsg, __NR_close, __NR_dup3, __NR_clone, __NR_munmap};
	volatile struct ds_forward_slot *s = t[0].slot;

	s->nr = nr[i % 8];
	s->arg[0] = i & 1 ? 3 : DS_SHADOW_RAM_FD + (i >> 1 & 1);
	s->arg[1] = i & 2 ? at_guest(BUF) : at_guest(RO_FIRST);
	s->arg[2] = i & 4 ? 64 : UINT64_C(1) << 40;
}

static void change_path(uint32_t i)
{
	volatile char *at = (volatile char *)at_host(STRINGS);

	/* "/data/own" and "/data/../", "/data/own/.." in one */
	at[6] = i & 1 ? 'o' : '.';
	at[7] = i & 1 ? 'w' : '.';
	at[8] = i & 1 ? 'n' : '/';
}

static void change_pieces(uint32_t i)
{
	volatile uint64_t *iov = (volatile uint64_t *)(void *)(at_host(BUF) + 512);

	iov[0] = i & 1 ? at_guest(BUF) + 1024 : i & 2 ? at_guest(RO_FIRST) : UINT64_C(0xffff888000000000);
	iov[1] = i & 4 ? 32 : UINT64_C(1) << 62;
}

static void test_changing(void)
{
	unsigned int outside = 0, lost = 0;
	int64_t fd, result;
	pid_t pid;

	begin(1);
	pid = changer(change_slot);
	for (int i = 0; i < 3000; i++)
		lost += !hostile_try(&t[0], 20000, &result, __NR_pread64, (const uint64_t[6]){3, at_guest(BUF), 64});
	stop(pid);
	tap_eq(lost, 0, "the number of a call and its arguments change while it is made, 3000 times: each one ends");
	end(1);
	begin(1);
	text(0, "/data/own");
	snprintf((char *)at_host(STRINGS) + 256, 256, "%s/secret", places.outside);
	pid = changer(change_path);
	for (int i = 0; i < 3000; i++) {
		fd = call(__NR_openat, (uint64_t)AT_FDCWD, at_guest(STRINGS), O_RDONLY, 0, 0);
		if (fd >= 0 && call(__NR_pread64, (uint64_t)fd, at_guest(BUF), 6, 0, 0) == 6)
			outside += !memcmp(at_host(BUF), "SECRET", 6);
		if (fd >= 0)
			call(__NR_close, (uint64_t)fd, 0, 0, 0, 0);
	}
	stop(pid);
	tap_eq(outside, 0, "a path changes while it is followed, 3000 times: it leads nowhere else");
	fd = open_at("/data/own", O_RDWR);
	pid = changer(change_pieces);
	lost = 0;
	for (int i = 0; i < 3000; i++)
		lost += !hostile_try(&t[0], 20000, &result, i & 1 ? __NR_preadv : __NR_pwritev,
				     (const uint64_t[6]){(uint64_t)fd, at_guest(BUF) + 512, 1, 0, 0});
	stop(pid);
	tap_eq(lost, 0, "pieces of a vector change, 3000 times");
	end(1);
	world_unharmed("after calls whose arguments changed under them");
}

/* --- descriptors --------------------------------------------------------------------------------------------------------------- */

/* What a shadow's descriptors of the capsule are, as text: which number, which file. */
static void table(char *out, size_t room)
{
	const int place = hostile_place();
	size_t used = 0;

	out[0] = 0;
	for (uint32_t fd = DS_SHADOW_GUEST_FDS; fd < DS_SHADOW_OWN_FDS_END; fd++) {
		char path[64], file[128];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%u", place < 0 ? 0 : vm_view((uint32_t)place).capsule_pid, fd);
		n = readlink(path, file, sizeof(file) - 1);
		if (n < 0)
			continue;
		file[n] = 0;
		used += (size_t)snprintf(out + used, room - used, "%u %s\n", fd, file);
	}
}

static void test_descriptors(void)
{
	static const struct {
		uint64_t nr, arg[6];
		int at; /* the argument that is the descriptor */
	} each[] = {
		{__NR_read, {0, 0, 64}, 0}, {__NR_write, {0, 0, 64}, 0}, {__NR_pread64, {0, 0, 64}, 0}, {__NR_pwrite64, {0, 0, 64}, 0},
		{__NR_fstat, {0}, 0}, {__NR_dup, {0}, 0}, {__NR_dup2, {0, 9}, 0}, {__NR_dup3, {0, 9}, 0}, {__NR_dup3, {3, 0}, 1}, {__NR_close, {0}, 0},
		{__NR_fcntl, {0, F_DUPFD, 10}, 0}, {__NR_fcntl, {0, F_GETFL}, 0}, {__NR_lseek, {0, 0, 2}, 0}, {__NR_ftruncate, {0, 0}, 0},
		{__NR_fallocate, {0, 3, 0, 4096}, 0}, {__NR_sendfile, {3, 0, 0, 64}, 1}, {__NR_sendfile, {0, 3, 0, 64}, 0},
		{__NR_copy_file_range, {0, 0, 3, 0, 64}, 0}, {__NR_copy_file_range, {3, 0, 0, 0, 64}, 2}, {__NR_splice, {0, 0, 3, 0, 64}, 0},
		{__NR_openat, {0, 0, 0}, 0}, {__NR_newfstatat, {0, 0, 0, AT_EMPTY_PATH}, 0}, {__NR_fchdir, {0}, 0}, {__NR_fchmod, {0, 0777}, 0},
		{__NR_flock, {0, 2}, 0}, {__NR_epoll_ctl, {3, 1, 0, 0}, 2}, {__NR_ioctl, {0, 0x541b, 0}, 0}, {__NR_sendto, {0, 0, 1}, 0},
		{__NR_recvfrom, {0, 0, 64}, 0}, {__NR_recvmsg, {0, 0}, 0}, {__NR_sendmsg, {0, 0}, 0}, {__NR_accept4, {0}, 0},
		{__NR_setsockopt, {0, 1, 7, 0, 4}, 0}, {__NR_fgetxattr, {0}, 0}, {__NR_linkat, {0, 0, (uint64_t)AT_FDCWD, 0, AT_EMPTY_PATH}, 0},
		{__NR_execveat, {0, 0, 0, 0, AT_EMPTY_PATH}, 0}, {__NR_mmap, {0, 4096, 3, 1, 0, 0}, 4}, {__NR_vmsplice, {0}, 0}, {436, {0, 8191}, 0},
	};
	char before[4096], after[4096];
	unsigned int through = 0, tried = 0;
	struct pollfd *p = (void *)at_host(BUF);

	begin(1);
	tap_eq(call(__NR_dup3, (uint64_t)open_at("/data/own", O_RDWR), 3, 0, 0, 0), 3, "a descriptor of its own");
	table(before, sizeof(before));
	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		for (uint64_t fd = DS_SHADOW_GUEST_FDS; fd < DS_SHADOW_OWN_FDS_END; fd++) {
			for (int high = 0; high < 2; high++) {
				uint64_t a[6];
				int64_t got;

				memcpy(a, each[i].arg, sizeof(a));
				for (int k = 1; k < 5; k++)
					if (!a[k] && k != each[i].at && each[i].nr != __NR_dup3)
						a[k] = at_guest(BUF) + 2048;
				a[each[i].at] = fd | (high ? UINT64_C(1) << 40 : 0);
				got = thread_call(&t[0], each[i].nr, a[0], a[1], a[2], a[3], a[4]);
				tried++;
				if (got != -EBADF && got != -ENOSYS && got != -EPERM)
					printf("# call %llu on %llu: %lld\n", (unsigned long long)each[i].nr, (unsigned long long)fd, (long long)got), through++;
			}
		}
	}
	table(after, sizeof(after));
	tap_eq(through, 0, "%u attempts on the capsule's own descriptors, the VM's memory among them: none passes", tried);
	tap_ok(*before && !strcmp(before, after), "they are as they were");
	/* In memory, where no filter sees them: it may be asked whether they are ready, and that is all. */
	for (uint32_t i = 0; i < 16; i++)
		p[i] = (struct pollfd){.fd = (int)(DS_SHADOW_GUEST_FDS + i), .events = POLLIN | POLLOUT};
	tap_ok(call(__NR_poll, at_guest(BUF), 16, 0, 0, 0) >= 0, "poll() may look at them");
	tap_eq(call(__NR_close, 3, 0, 0, 0, 0), 0, "its own is closed");
	end(1);
	world_unharmed("after that");
}

/* --- bombs ----------------------------------------------------------------------------------------------------------------------- */

static void test_bombs(void)
{
	static const uint64_t births[] = {__NR_fork, __NR_vfork, __NR_clone, 435 /* clone3 */, __NR_execve};
	struct shadow more[PLACES * 8];
	static int silent[600];
	unsigned int born = 0, started = 0, taken = 0;
	uint32_t port;

	begin(1);
	for (size_t i = 0; i < sizeof(births) / sizeof(births[0]); i++)
		born += call(births[i], i == 2 ? SIGCHLD : at_guest(BUF), 0, 0, 0, 0) != -ENOSYS;
	tap_eq(born, 0, "a shadow makes no process");
	/* Children that all want a shadow. */
	for (uint32_t i = 0; i < PLACES * 8; i++) {
		more[i] = (struct shadow){.a = {.fd = -1}};
		if (vm_shadow(&more[i], "/usr/bin/hostile") == DS_AGENT_STARTED)
			started++;
	}
	tap_eq(started, PLACES - 2, "of %u more that want a shadow as many get one as there are places", PLACES * 8);
	tap_ok(world_witness_works(), "the other shadow does its work meanwhile");
	for (uint32_t i = 0; i < PLACES * 8; i++)
		if (more[i].a.fd >= 0)
			close(more[i].a.fd);
	for (int i = 0; i < 2000 && shadows_count(row) > 2; i++)
		pump(10);
	tap_eq(shadows_count(row), 2, "and places come free");
	/* Threads that all want an executor, and many that only connect. */
	for (uint32_t i = 0; i < 600; i++) {
		const struct ds_forward_hello h = bell_hello(own.a.started.token, at_guest(3) + i % 32 * sizeof(struct ds_forward_slot));

		silent[i] = bell_connect(&port);
		if (i % 2 && write(silent[i], &h, sizeof(h)) != sizeof(h))
			err(2, "hello");
		if (i % 16 == 0)
			pump(0);
	}
	for (int i = 0; i < 100; i++)
		pump(1);
	for (uint32_t i = 0; i < 600; i++) {
		char byte;

		taken += i % 2 && recv(silent[i], &byte, 1, MSG_DONTWAIT) != 0;
		close(silent[i]);
	}
	tap_ok(taken > 0 && taken < 8, "of 300 more threads %u get an executor, as many as were free", taken);
	tap_ok(world_witness_works() && call(__NR_getpid, 0, 0, 0, 0, 0) == 1, "who has one keeps it, and the other shadow works");
	end(1);
	world_unharmed("after the bombs");
}

/* --- who does not listen ---------------------------------------------------------------------------------------------------------- */

static void test_unread(void)
{
	struct ds_forward_slot *s;
	unsigned int done = 0;
	int64_t result;

	begin(2);
	s = t[1].slot;
	for (int i = 0; i < 20000; i++) { /* asks to be woken each time and never reads it */
		s->nr = __NR_getpid;
		__atomic_store_n(&s->guest_asleep, 1, __ATOMIC_SEQ_CST);
		if (ds_forward_post(s))
			send(t[1].bell, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		for (int k = 0; k < 3000000 && !ds_forward_done(s); k++)
			if (k > 1000)
				sched_yield();
		done += ds_forward_done(s);
	}
	tap_eq(done, 20000, "a thread that never reads its bell gets 20,000 results all the same");
	tap_eq(call(__NR_getpid, 0, 0, 0, 0, 0), 1, "and disturbs no other");
	/* One that never takes a result, and rings all the time. */
	for (int i = 0; i < 20000; i++)
		send(t[1].bell, i % 3 ? "\1" : "\2", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	tap_eq(call(__NR_getpid, 0, 0, 0, 0, 0), 1, "nor does one that only rings");
	/* A call that waits for ever when its thread goes. */
	tap_eq(call(__NR_pipe2, at_guest(BUF), 0, 0, 0, 0), 0, "a pipe");
	tap_ok(hostile_try(&t[1], 20000, &result, __NR_getpid, (const uint64_t[6]){0}), "the thread asks again");
	thread_post(&t[1], __NR_read, (const uint64_t[6]){*(uint32_t *)(void *)at_host(BUF), at_guest(BUF) + 64, 1});
	for (int i = 0; i < 20000 && ds_forward_state(s) != DS_FORWARD_RUNNING; i++)
		usleep(1000);
	close(t[1].bell);
	t[1].bell = -1;
	tap_ok(thread_start(&t[2], own.a.started.token, 3, 0, 0) && thread_call(&t[2], __NR_getpid, 0, 0, 0, 0, 0) == 1, "its end is no loss to others");
	end(3);
	world_unharmed("after that");
}

/* --- death at any instruction ------------------------------------------------------------------------------------------------------ */

/* The guest's side of some calls, until somebody kills it. */
static void work(void)
{
	char *buf = (char *)at_host(BUF);

	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);
	for (;;) {
		int64_t fd;

		strcpy(buf, "/data/own");
		fd = call(__NR_openat, (uint64_t)AT_FDCWD, at_guest(BUF), O_RDWR, 0, 0);
		call(__NR_dup3, (uint64_t)fd, 7, 0, 0, 0);
		call(__NR_close, (uint64_t)fd, 0, 0, 0, 0);
		call(__NR_pwrite64, 7, at_guest(BUF), 9, 0, 0);
		call(__NR_close, 7, 0, 0, 0, 0);
	}
}

/* Return: whether the guest died where it should, and its shadow with it. */
static bool killed_after(uint32_t steps)
{
	int status;
	pid_t pid;

	begin(1);
	fflush(stdout);
	pid = fork();
	if (!pid)
		work();
	close(t[0].bell); /* its descriptors are closed by its death, as its kernel would */
	t[0].bell = -1;
	close(own.a.fd);
	own.a.fd = -1;
	waitpid(pid, &status, 0);
	for (uint32_t i = 0; i < steps && WIFSTOPPED(status); i++) {
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		waitpid(pid, &status, 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && hostile_end(&own, t, 0);
}

static void test_killed(void)
{
	const char *text_of = getenv("HOSTILE_KILLS");
	const uint32_t n = text_of ? (uint32_t)atoi(text_of) : KILLS;
	unsigned int wrong = 0;

	srand((unsigned int)n);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t steps = n > 300 ? i : (uint32_t)rand() % 1500;

		if (!killed_after(steps))
			printf("# after %u instructions\n", steps), wrong++;
		if (i % 10 == 0)
			wrong += !world_witness_works();
	}
	tap_eq(wrong, 0, "a guest that is killed at %u different instructions takes its shadow along", n);
	world_unharmed("after that");
}

int main(void)
{
	const char *why = world_begin("executors=8");

	if (why) {
		tap_skip("a hostile guest harms nothing but itself", why);
		return tap_done();
	}
	test_pointers();
	test_changing();
	test_descriptors();
	test_bombs();
	test_unread();
	test_killed();
	world_end();
	return tap_done();
}
