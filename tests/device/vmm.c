/* vmm.c - a small virtual machine monitor on /dev/kvm, in cases: what it prints is the same on the host and in a guest whose shadow
 * has the host's device
 *
 * usage: vmm [CASE]...     without: all; a line for each, "NAME: what happened"; status 1: one went wrong
 *
 * Machines run in real mode, their memory lies in this program's heap.  Cases that look at struct kvm_run need the device's
 * memory to be mapped; where that is refused they say so.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY (64u << 10)
#define STORED 0x2000
#define MANY 2000

struct machine {
	int kvm, vm, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_bytes;
};

static int bad;

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	bad = 1;
	return -1;
}

static int add_vcpu(struct machine *m, uint64_t id, uint64_t rip)
{
	struct kvm_regs regs = {.rip = rip, .rflags = 2, .rax = 2, .rbx = 3, .rsp = 0xf000};
	struct kvm_sregs sregs;
	const int vcpu = ioctl(m->vm, KVM_CREATE_VCPU, id);

	if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return fail("KVM_CREATE_VCPU");
	sregs.cs.base = sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs))
		return fail("KVM_SET_REGS");
	return vcpu;
}

static int machine_new(struct machine *m, const void *code, size_t bytes, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .flags = flags};

	*m = (struct machine){.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
	if (m->kvm < 0)
		return fail("/dev/kvm");
	m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	m->memory = aligned_alloc(4096, MEMORY);
	if (m->vm < 0 || !m->memory)
		return fail("KVM_CREATE_VM");
	memset(m->memory, 0, MEMORY);
	memcpy(m->memory, code, bytes);
	region.userspace_addr = (uint64_t)m->memory;
	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region))
		return fail("KVM_SET_USER_MEMORY_REGION");
	m->vcpu = add_vcpu(m, 0, 0);
	return m->vcpu < 0 ? -1 : 0;
}

static struct kvm_run *map(const struct machine *m, int vcpu, size_t *bytes)
{
	struct kvm_run *run;
	const int n = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	*bytes = n > 0 ? (size_t)n : 0;
	run = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED) {
		fail("mmap of a vcpu");
		return NULL;
	}
	return run;
}

static void machine_free(struct machine *m)
{
	if (m->run)
		munmap(m->run, m->run_bytes);
	close(m->vcpu);
	close(m->vm);
	close(m->kvm);
	free(m->memory);
}

/* --- without struct kvm_run -------------------------------------------------------------------------------------------- */

static const uint8_t sum_code[] = {0x00, 0xd8, /* add %bl,%al */ 0xa2, STORED & 0xff, STORED >> 8, /* mov %al,STORED */ 0xf4 /* hlt */};
static const uint8_t count_code[] = {0xfe, 0x06, STORED & 0xff, STORED >> 8, /* incb STORED */ 0xeb, 0xfa /* back */};

static void numbers(void)
{
	struct machine m;
	int lowest;

	if (machine_new(&m, sum_code, sizeof(sum_code), 0))
		return;
	lowest = dup(0);
	printf("numbers: version %d, descriptors %d %d %d, next free one %d, close on exec %d %d\n", ioctl(m.kvm, KVM_GET_API_VERSION, 0), m.kvm,
	       m.vm, m.vcpu, lowest, fcntl(m.vm, F_GETFD), fcntl(m.vcpu, F_GETFD));
	close(lowest);
	machine_free(&m);
	lowest = dup(0);
	printf("numbers: free again %d, bad descriptor %d, bad pointer %d\n", lowest, ioctl(m.vm, KVM_CREATE_VCPU, 1) < 0 ? errno : 0,
	       ioctl(lowest, KVM_GET_API_VERSION, 8) < 0 ? errno : 0);
	close(lowest);
}

static void sum(void)
{
	struct kvm_regs regs;
	struct machine m;

	if (machine_new(&m, sum_code, sizeof(sum_code), 0))
		return;
	if (ioctl(m.vcpu, KVM_RUN, 0) || ioctl(m.vcpu, KVM_GET_REGS, &regs))
		fail("sum");
	else
		printf("sum: stored %d, rax %d, rip %d\n", m.memory[STORED], (int)regs.rax, (int)regs.rip);
	machine_free(&m);
}

static void on_signal(int n)
{
	(void)n;
}

static void interrupted(void)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct itimerspec when = {.it_value.tv_nsec = 200000000};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct machine m;
	timer_t timer;
	int rc, error;

	if (machine_new(&m, count_code, sizeof(count_code), 0))
		return;
	sigaction(SIGUSR1, &act, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer))
		fail("timer_create");
	timer_settime(timer, 0, &when, NULL);
	rc = ioctl(m.vcpu, KVM_RUN, 0);
	error = errno;
	timer_delete(timer);
	printf("interrupted: %d %s\n", rc, rc ? strerror(error) : "");
	machine_free(&m);
}

static void dirty(void)
{
	struct kvm_dirty_log log = {.slot = 0};
	uint64_t bits[2] = {0};
	struct machine m;

	if (machine_new(&m, sum_code, sizeof(sum_code), KVM_MEM_LOG_DIRTY_PAGES))
		return;
	log.dirty_bitmap = bits;
	if (ioctl(m.vcpu, KVM_RUN, 0) || ioctl(m.vm, KVM_GET_DIRTY_LOG, &log))
		fail("dirty");
	else
		printf("dirty: page 2 %s, page 5 %s\n", bits[0] & 4 ? "written" : "clean", bits[0] & 32 ? "written" : "clean");
	machine_free(&m);
}

/* A descriptor that comes in the command's structure. */
static void embedded(void)
{
	struct kvm_create_device d = {.type = KVM_DEV_TYPE_VFIO, .fd = 0xffff};
	struct machine m;

	if (machine_new(&m, sum_code, sizeof(sum_code), 0))
		return;
	if (ioctl(m.vm, KVM_CREATE_DEVICE, &d))
		printf("embedded: %s\n", strerror(errno));
	else
		printf("embedded: %d, close on exec %d, close %d\n", (int)d.fd, fcntl((int)d.fd, F_GETFD), close((int)d.fd));
	machine_free(&m);
}

/* A store that a driver turns into an eventfd's event: no exit. */
static void event(void)
{
	static const uint8_t code[] = {0xb0, 0x05, /* mov $5,%al */ 0xe6, 0x42, /* out %al,$0x42 */ 0xa2, STORED & 0xff, STORED >> 8, 0xf4};
	struct kvm_ioeventfd io = {.addr = 0x42, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO};
	struct machine m;
	struct pollfd p;
	uint64_t n = 0;

	if (machine_new(&m, code, sizeof(code), 0))
		return;
	io.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p = (struct pollfd){.fd = io.fd, .events = POLLIN};
	if (ioctl(m.vm, KVM_IOEVENTFD, &io) || ioctl(m.vcpu, KVM_RUN, 0))
		fail("event");
	else if (poll(&p, 1, 5000) != 1 || read(io.fd, &n, sizeof(n)) != sizeof(n))
		fail("the event");
	else
		printf("event: came %d time, descriptor %d, the machine went on %d\n", (int)n, io.fd, m.memory[STORED]);
	close(io.fd);
	machine_free(&m);
}

/* --- with it --------------------------------------------------------------------------------------------------------------- */

static int exits(struct machine *m, const char *name, int most)
{
	for (int i = 0; i < most; i++) {
		if (ioctl(m->vcpu, KVM_RUN, 0))
			return fail(name);
		switch (m->run->exit_reason) {
		case KVM_EXIT_IO:
			printf("%s: port %#x %s %d\n", name, m->run->io.port, m->run->io.direction ? "out" : "in",
			       m->run->io.direction ? *((uint8_t *)m->run + m->run->io.data_offset) : 0);
			if (!m->run->io.direction)
				*((uint8_t *)m->run + m->run->io.data_offset) = 37;
			break;
		case KVM_EXIT_MMIO:
			printf("%s: address %#llx %s %d\n", name, (unsigned long long)m->run->mmio.phys_addr, m->run->mmio.is_write ? "write" : "read",
			       m->run->mmio.is_write ? m->run->mmio.data[0] : 0);
			if (!m->run->mmio.is_write)
				m->run->mmio.data[0] = 99;
			break;
		case KVM_EXIT_HLT: printf("%s: halt, stored %d\n", name, m->memory[STORED]); return 0;
		default: printf("%s: exit %d\n", name, (int)m->run->exit_reason); return bad = 1;
		}
	}
	return 0;
}

static void ports(void)
{
	static const uint8_t code[] = {0x00, 0xd8, 0xe6, 0x10, /* out %al,$0x10 */ 0xe4, 0x11, /* in $0x11,%al */ 0xa2, STORED & 0xff, STORED >> 8, 0xf4};
	struct machine m;

	if (machine_new(&m, code, sizeof(code), 0))
		return;
	m.run = map(&m, m.vcpu, &m.run_bytes);
	if (m.run)
		exits(&m, "ports", 10);
	machine_free(&m);
}

static void mmio(void)
{
	static const uint8_t code[] = {0xb8, 0x00, 0xf0, /* mov $0xf000,%ax */ 0x8e, 0xd8, /* mov %ax,%ds */ 0xc6, 0x06, 0x00, 0x80, 0x2a, /* movb $42,0x8000 */
				       0xa0, 0x01, 0x80, /* mov 0x8001,%al */ 0x31, 0xdb, /* xor %bx,%bx */ 0x8e, 0xdb, /* mov %bx,%ds */
				       0xa2, STORED & 0xff, STORED >> 8, 0xf4};
	struct machine m;

	if (machine_new(&m, code, sizeof(code), 0))
		return;
	m.run = map(&m, m.vcpu, &m.run_bytes);
	if (m.run)
		exits(&m, "mmio", 10);
	machine_free(&m);
}

struct side {
	struct machine *m;
	int vcpu, outs;
};

static void *runs(void *argument)
{
	struct side *s = argument;
	struct kvm_run *run;
	size_t bytes;

	run = map(s->m, s->vcpu, &bytes);
	while (run && !ioctl(s->vcpu, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_IO)
		s->outs++;
	if (run && run->exit_reason != KVM_EXIT_HLT)
		bad = 1;
	if (run)
		munmap(run, bytes);
	return NULL;
}

/* Each counts 50 in a word of its own and tells by a port; one at 0, one at 0x100. */
static void two(void)
{
	static const uint8_t code[] = {0xb9, 50, 0, /* mov $50,%cx */ 0xe6, 0x10, 0x49, /* dec %cx */ 0x75, 0xfb, /* jnz */ 0xf4};
	struct side a, b;
	struct machine m;
	pthread_t t;

	if (machine_new(&m, code, sizeof(code), 0))
		return;
	memcpy(m.memory + 0x100, code, sizeof(code));
	a = (struct side){&m, m.vcpu, 0};
	b = (struct side){&m, add_vcpu(&m, 1, 0x100), 0};
	if (pthread_create(&t, NULL, runs, &b))
		fail("pthread_create");
	runs(&a);
	pthread_join(t, NULL);
	printf("two: %d and %d\n", a.outs, b.outs);
	close(b.vcpu);
	machine_free(&m);
}

/* How fast exits are: for who measures; not a case. */
static void speed(void)
{
	static const uint8_t code[] = {0xe6, 0x10, 0xeb, 0xfc};
	struct timespec from, to;
	struct machine m;
	double ns;

	if (machine_new(&m, code, sizeof(code), 0))
		return;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < MANY; i++)
		if (ioctl(m.vcpu, KVM_RUN, 0)) {
			fail("KVM_RUN");
			break;
		}
	clock_gettime(CLOCK_MONOTONIC, &to);
	ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
	printf("speed: %.0f exits a second, %.2f us each\n", MANY / ns * 1e9, ns / MANY / 1000);
	machine_free(&m);
}

static const struct {
	const char *name;
	void (*run)(void);
	int asked; /* only if it is named */
} cases[] = {
	{"numbers", numbers, 0}, {"sum", sum, 0},     {"interrupted", interrupted, 0}, {"dirty", dirty, 0}, {"embedded", embedded, 0},
	{"event", event, 0},	 {"ports", ports, 0}, {"mmio", mmio, 0},	       {"two", two, 0},	    {"speed", speed, 1},
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int wanted = argc < 2 && !cases[i].asked;

		for (int k = 1; k < argc; k++)
			wanted |= !strcmp(argv[k], cases[i].name);
		if (wanted)
			cases[i].run();
	}
	return bad;
}
