/* host_device_random.c - commands at random, with pointers at random, at every device that a shadow was granted, while a machine of another
 * thread goes on; then everything still works
 *
 * DEVICE_RANDOM_CALLS: how many, 3000.  Numbers are the same in every run.
 */
#include "tests/forward_guest.h"

#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "tests/tap.h"

#define PATH 0u
#define SLOTS 10u
#define MEMORY 40u
#define STORED 0x2000u
#define ARGS 100u /* pages that pointers lead to */
#define NARGS 50u

static struct shadow shadow;
static struct thread t, machine;
static uint64_t state = 88172645463325252u;

static uint64_t number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c)
{
	thread_post(&t, nr, (const uint64_t[6]){a, b, c});
	for (int i = 0; i < 100; i++) {
		if (thread_done(&t, i ? 1000 : 200))
			return t.slot->result;
		thread_interrupt(&t); /* a command that waits, KVM_RUN for one */
	}
	return THREAD_LOST;
}

static int64_t opened(const char *name)
{
	snprintf((char *)at_host(PATH), PAGE, "%s", name);
	return call(__NR_open, at_guest(PATH), O_RDWR | O_NONBLOCK, 0);
}

/* Real ones, that get as far as their arguments let them. */
static const uint32_t real[] = {
	(uint32_t)KVM_CREATE_VM, (uint32_t)KVM_GET_MSR_INDEX_LIST, (uint32_t)KVM_CHECK_EXTENSION, (uint32_t)KVM_GET_SUPPORTED_CPUID,
	(uint32_t)KVM_CREATE_VCPU, (uint32_t)KVM_GET_DIRTY_LOG, (uint32_t)KVM_SET_USER_MEMORY_REGION, (uint32_t)KVM_SET_TSS_ADDR,
	(uint32_t)KVM_SET_IDENTITY_MAP_ADDR, (uint32_t)KVM_CREATE_IRQCHIP, (uint32_t)KVM_IRQ_LINE, (uint32_t)KVM_GET_IRQCHIP,
	(uint32_t)KVM_SET_IRQCHIP, (uint32_t)KVM_CREATE_PIT2, (uint32_t)KVM_IOEVENTFD, (uint32_t)KVM_IRQFD, (uint32_t)KVM_SET_GSI_ROUTING,
	(uint32_t)KVM_RUN, (uint32_t)KVM_GET_REGS, (uint32_t)KVM_SET_REGS, (uint32_t)KVM_GET_SREGS, (uint32_t)KVM_SET_SREGS,
	(uint32_t)KVM_TRANSLATE, (uint32_t)KVM_INTERRUPT, (uint32_t)KVM_GET_MSRS, (uint32_t)KVM_SET_MSRS, (uint32_t)KVM_SET_CPUID2,
	(uint32_t)KVM_GET_FPU, (uint32_t)KVM_SET_FPU, (uint32_t)KVM_GET_LAPIC, (uint32_t)KVM_SET_LAPIC, (uint32_t)KVM_GET_VCPU_EVENTS,
	(uint32_t)KVM_SET_VCPU_EVENTS, (uint32_t)KVM_GET_XSAVE, (uint32_t)KVM_SET_XSAVE, (uint32_t)KVM_NMI, (uint32_t)KVM_GET_CLOCK,
	(uint32_t)KVM_CREATE_DEVICE, (uint32_t)KVM_ENABLE_CAP, (uint32_t)TUNSETIFF, (uint32_t)TUNGETIFF, (uint32_t)TUNSETOFFLOAD,
	(uint32_t)TUNSETSNDBUF, (uint32_t)TUNGETFEATURES, (uint32_t)TUNSETVNETHDRSZ, (uint32_t)TUNSETQUEUE, (uint32_t)FIONREAD, (uint32_t)FIONBIO,
};

/* Or letters that drivers of these devices have, and any other. */
static uint32_t command(void)
{
	static const uint8_t letters[] = {0xae, 0xae, 0xae, 'T', 'T', 0x89, 'f', 'L'};
	const uint32_t letter = number() % 16 ? letters[number() % sizeof(letters)] : (uint32_t)number() & 0xff;

	if (number() % 4)
		return real[number() % (sizeof(real) / sizeof(real[0]))];
	return (uint32_t)(number() % 4) << 30 | (uint32_t)(number() % (number() % 2 ? 64 : 1024)) << 16 | letter << 8 | (uint32_t)(number() & 0xff);
}

static uint64_t argument(void)
{
	switch (number() % 6) {
	case 0: return 0;
	case 1: return number();
	case 2: return number() % 64;
	case 3: return at_guest(ARGS + NARGS - 1) + PAGE - number() % 64; /* runs out of what is there */
	default: return at_guest(ARGS + (uint32_t)(number() % NARGS)) + number() % PAGE;
	}
}

static void scramble(void)
{
	uint64_t *page_words = (uint64_t *)(void *)at_host(ARGS + (uint32_t)(number() % NARGS));

	for (size_t i = 0; i < PAGE / 8; i++)
		page_words[i] = number() % 3 ? number() % 5000 : number() % 2 ? at_guest(ARGS) + number() % (NARGS * PAGE) : number();
}

/* Counts in the guest's page for as long as it runs.  Return: its vcpu, or -errno. */
static int64_t start_machine(int64_t kvm)
{
	static const uint8_t loop[] = {0xfe, 0x06, STORED & 0xff, STORED >> 8, /* incb STORED */ 0xeb, 0xfa /* back */};
	const struct kvm_userspace_memory_region region = {.memory_size = 16 * PAGE, .userspace_addr = at_guest(MEMORY)};
	const struct kvm_regs regs = {.rflags = 2};
	const int64_t vm = call(__NR_ioctl, (uint64_t)kvm, KVM_CREATE_VM, 0);
	struct kvm_sregs sregs;
	int64_t vcpu;

	memcpy(at_host(ARGS), &region, sizeof(region));
	if (vm < 0 || call(__NR_ioctl, (uint64_t)vm, KVM_SET_USER_MEMORY_REGION, at_guest(ARGS)))
		return -1;
	vcpu = call(__NR_ioctl, (uint64_t)vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0 || call(__NR_ioctl, (uint64_t)vcpu, KVM_GET_SREGS, at_guest(ARGS)))
		return -1;
	memcpy(&sregs, at_host(ARGS), sizeof(sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	memcpy(at_host(ARGS), &sregs, sizeof(sregs));
	if (call(__NR_ioctl, (uint64_t)vcpu, KVM_SET_SREGS, at_guest(ARGS)))
		return -1;
	memcpy(at_host(ARGS), &regs, sizeof(regs));
	memcpy(at_host(MEMORY), loop, sizeof(loop));
	return call(__NR_ioctl, (uint64_t)vcpu, KVM_SET_REGS, at_guest(ARGS)) ? -1 : vcpu;
}

static bool counts(void)
{
	volatile const uint8_t *at = at_host(MEMORY + STORED / PAGE);
	const uint8_t was = *at;

	for (int i = 0; i < 5000 && *at == was; i++)
		usleep(1000);
	return *at != was;
}

int main(void)
{
	const char *many = getenv("DEVICE_RANDOM_CALLS");
	const unsigned int ncalls = many ? (unsigned int)strtoul(many, NULL, 10) : 3000;
	unsigned int succeeded = 0, lost = 0;
	int64_t fd[8], vcpu;
	size_t nfds = 0;

	signal(SIGPIPE, SIG_IGN);
	if (geteuid() || access("/dev/kvm", R_OK | W_OK) || access("/dev/net/tun", R_OK | W_OK)) {
		tap_skip("commands at random", "it takes root, /dev/kvm and /dev/net/tun");
		return tap_done();
	}
	vm_begin("allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 net=own device=/dev/kvm device=/dev/net/tun device=/dev/zero\n");
	if (vm_shadow(&shadow, "/usr/bin/guest") != DS_AGENT_STARTED || !thread_start(&t, shadow.a.started.token, SLOTS, 0, 0) ||
	    !thread_start(&machine, shadow.a.started.token, SLOTS, 1, 0))
		errx(2, "no shadow");
	fd[nfds++] = opened("/dev/kvm");
	fd[nfds++] = opened("/dev/net/tun");
	fd[nfds++] = opened("/dev/zero");
	vcpu = start_machine(fd[0]);
	thread_post(&machine, __NR_ioctl, (const uint64_t[6]){(uint64_t)vcpu, KVM_RUN, 0});
	tap_ok(vcpu > 0 && !thread_done(&machine, 50) && counts(), "a machine runs and counts in a page of the guest");
	fd[nfds++] = call(__NR_ioctl, (uint64_t)fd[0], KVM_CREATE_VM, 0); /* another one, to be tried out */
	fd[nfds++] = call(__NR_ioctl, (uint64_t)fd[3], KVM_CREATE_VCPU, 0);
	for (unsigned int i = 0; i < ncalls; i++) {
		const int64_t of = number() % 32 ? fd[number() % nfds] : (int64_t)(number() % 8192);
		int64_t rc;

		if (of == vcpu) /* the machine of the other thread is to go on */
			continue;
		if (i % 8 == 0)
			scramble();
		rc = call(__NR_ioctl, (uint64_t)of, command(), argument());
		succeeded += rc >= 0;
		lost += rc == THREAD_LOST;
	}
	tap_eq(lost, 0, "%u commands at random, %u of which succeeded: each has come back", ncalls, succeeded);
	tap_ok(counts() && !thread_done(&machine, 10), "the machine still counts");
	thread_interrupt(&machine);
	tap_ok(thread_done(&machine, 5000) && machine.slot->result == -EINTR, "and is interrupted");
	tap_eq(call(__NR_ioctl, (uint64_t)fd[0], KVM_GET_API_VERSION, 0), 12, "the shadow goes on");
	tap_ok(vm_end(&shadow), "and ends when it is told to");
	bells_free(bells);
	shadows_free(row);
	tap_eq(left_processes(), 0, "no process is left");
	return tap_done();
}
