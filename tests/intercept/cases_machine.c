/* cases_machine.c - registers, memory, code made at run time, waiting; see cases.c */
#include "tests/intercept/cases.h"

/* Leaf code that keeps data in the red zone over a raw call. */
static void c_red_zone(void)
{
	uint64_t wrong = 0;

	for (int i = 0; i < 10000; i++) {
		uint64_t got, nr = SYS_getppid;

		__asm__ volatile("movq %2, -8(%%rsp)\n\tmovq %2, -64(%%rsp)\n\tmovq %2, -128(%%rsp)\n\tsyscall\n\t"
				 "movq -8(%%rsp), %%rcx\n\txorq -64(%%rsp), %%rcx\n\txorq -128(%%rsp), %%rcx\n\tmovq %%rcx, %1"
				 : "+a"(nr), "=&r"(got)
				 : "r"((uint64_t)i * 0x9e3779b97f4a7c15)
				 : "rcx", "r11", "memory");
		wrong += got != (uint64_t)i * 0x9e3779b97f4a7c15;
	}
	say("wrong %d\n", (int)wrong);
}

static void c_registers(void)
{
	uint64_t changed = 0;

	for (uint64_t i = 1; i < 5000; i++) {
		register uint64_t r10 __asm__("r10") = i * 3, r8 __asm__("r8") = i * 5, r9 __asm__("r9") = i * 7, r12 __asm__("r12") = i * 11;
		register uint64_t r13 __asm__("r13") = i * 13, r14 __asm__("r14") = i * 17, r15 __asm__("r15") = i * 19;
		uint64_t nr = SYS_getppid, di = i * 23, si = i * 29, dx = i * 31;

		__asm__ volatile("syscall"
				 : "+a"(nr), "+D"(di), "+S"(si), "+d"(dx), "+r"(r10), "+r"(r8), "+r"(r9), "+r"(r12), "+r"(r13), "+r"(r14),
				   "+r"(r15)
				 :
				 : "rcx", "r11", "memory");
		changed += r10 != i * 3 || r8 != i * 5 || r9 != i * 7 || r12 != i * 11 || r13 != i * 13 || r14 != i * 17 || r15 != i * 19 ||
		       di != i * 23 || si != i * 29 || dx != i * 31;
	}
	say("changed %d\n", (int)changed);
}

static void c_vector(void)
{
	double x[4] = {1.5, 2.5, 3.5, 4.5}, y[4];
	long nr = SYS_getppid;

	__asm__ volatile("movupd (%1), %%xmm7\n\tmovupd 16(%1), %%xmm15\n\tsyscall\n\tmovupd %%xmm7, (%2)\n\tmovupd %%xmm15, 16(%2)"
			 : "+a"(nr)
			 : "r"(x), "r"(y)
			 : "rcx", "r11", "memory", "xmm7", "xmm15");
	say("%g %g %g %g\n", y[0], y[1], y[2], y[3]);
}

static void c_jit(void)
{
	static const uint8_t code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* mov $SYS_getppid,%eax; syscall; ret */
	uint8_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int right = 0;

	memcpy(p, code, sizeof(code));
	for (int i = 0; i < 100; i++)
		right += ((int (*)(void))p)() == getppid();
	p[1] = 102; /* SYS_getuid: the same place, another number */
	right += ((int (*)(void))p)() == (int)getuid();
	say("right %d\n", right);
}

static void c_dlopen(void)
{
	void *m = dlopen("libm.so.6", RTLD_NOW);
	double (*cosine)(double) = m ? (double (*)(double))dlsym(m, "cos") : NULL;

	say("cos(0) %g\n", cosine ? cosine(0) : -1);
}

static void c_bad_pointers(void)
{
	tell("write", write(1, cases_bad, 10));
	tell("uname", uname(cases_bad));
	tell("nosys", syscall(100000));
	tell("nosys", syscall(-1));
}

static void c_large_frame(void)
{
	char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov[8];
	int fd[2], n = 0;

	if (pipe(fd))
		return;
	for (int i = 0; i < 8; i++)
		iov[i] = (struct iovec){p + i * 100, 100};
	memset(p, 'a', 800);
	n = (int)writev(fd[1], iov, 8);
	say("writev %d readv %d\n", n, (int)readv(fd[0], iov, 8));
}

static void c_mremap_text(void)
{
	uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p[0] = 42;
	p = mremap(p, 8192, 1 << 20, MREMAP_MAYMOVE);
	say("kept %d, ", p[0]);
	say("unmap %d\n", munmap(p, 1 << 20));
}

static void c_brk(void)
{
	char *a = sbrk(0), *b = sbrk(65536);

	b[0] = 1;
	say("grew %d, shrank %d\n", b == a, sbrk(-65536) == a + 65536);
}

static void c_nanosleep_rest(void)
{
	struct timespec want = {5, 0}, rest = {0};
	int rc;

	on(SIGALRM, count_signal, 0);
	timer_ms(30, 0);
	rc = nanosleep(&want, &rest);
	say("nanosleep %d %s, rest over 4 s: %d\n", rc, strerror(errno), rest.tv_sec == 4);
}

static void c_futex_timeout(void)
{
	int word = 1;
	const struct timespec limit = {0, 20000000};

	tell("futex", syscall(SYS_futex, &word, FUTEX_WAIT, 1, &limit, NULL, 0));
	tell("futex", syscall(SYS_futex, &word, FUTEX_WAIT, 2, &limit, NULL, 0));
}

static void c_epoll(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 77}, got;
	int ep = epoll_create1(0), fd = eventfd(0, 0);
	uint64_t one = 1;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	say("none %d\n", epoll_wait(ep, &got, 1, 0));
	if (write(fd, &one, sizeof(one)) == sizeof(one))
		say("one %d ", epoll_wait(ep, &got, 1, 1000));
	say("data %u\n", got.data.u32);
}

static void c_timerfd(void)
{
	const struct itimerspec t = {.it_value = {0, 20000000}};
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t n = 0;

	timerfd_settime(fd, 0, &t, NULL);
	say("read %d ", read(fd, &n, sizeof(n)) == sizeof(n));
	say("times %d\n", (int)n);
}

static void *poster(void *arg)
{
	usleep(10000);
	sem_post(arg);
	return NULL;
}

static void c_sem(void)
{
	sem_t sem;
	pthread_t t;

	sem_init(&sem, 0, 0);
	pthread_create(&t, NULL, poster, &sem);
	say("wait %d\n", sem_wait(&sem));
	pthread_join(t, NULL);
}

static void c_io_uring(void)
{
	char params[256] = {0};
	const long fd = syscall(SYS_io_uring_setup, 1, params);

	/* The one thing that is to differ: a ring makes calls that nobody sees.  Programs fall back. */
	say("no ring without fallback: %d\n", fd >= 0 || errno == ENOSYS || errno == EPERM);
}

const struct cases_case cases_machine[] = {
	CASE(red_zone), CASE(registers), CASE(vector), CASE(jit), CASE(dlopen), CASE(bad_pointers), CASE(large_frame),
	CASE(mremap_text), CASE(brk), CASE(nanosleep_rest), CASE(futex_timeout), CASE(epoll), CASE(timerfd),
	CASE(sem), CASE(io_uring), {0},
};
