/* host_device.c - devices of the host that a rule grants: from the VM process through warden and jailed capsule to the driver; the
 * guest is played
 *
 * The devices are /dev/kvm and /dev/net/tun of this machine.  A machine of KVM has pages of the played guest as its memory, which lie
 * scattered in the RAM file; what it stores is looked for there.
 */
#include "tests/forward_guest.h"

#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/loop.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/tap.h"

#define UID 4321
#define PATH 0u	   /* pages of the guest's process: strings, */
#define ARG 1u	   /* arguments of ioctl(), */
#define SLOTS 10u  /* slots, */
#define MEMORY 40u /* the machine's memory */
#define MEMORY_PAGES 16u
#define STORED 0x2000u /* where the machine's program stores */
#define RAW_FIRST (DS_SHADOW_HOLD_FD + 1)
#define FICLONE_ 0x40049409u
#define EXT4_MOVE_EXT 0xc028660fu
#define LOOP_CONFIGURE_ 0x4c0au

static struct shadow shadow;
static struct thread t;

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return thread_call(&t, nr, a, b, c, d, 0);
}

static uint64_t path(const char *s)
{
	snprintf((char *)at_host(PATH), PAGE, "%s", s);
	return at_guest(PATH);
}

static int64_t opened(const char *name)
{
	return call(__NR_openat, (uint64_t)AT_FDCWD, path(name), O_RDWR, 0);
}

/* ioctl() with an argument in the guest's memory, which is copied there and back. */
static int64_t control(int64_t fd, unsigned long cmd, void *arg, size_t bytes)
{
	int64_t rc;

	memcpy(at_host(ARG), arg, bytes);
	rc = call(__NR_ioctl, (uint64_t)fd, cmd, at_guest(ARG), 0);
	memcpy(arg, at_host(ARG), bytes);
	return rc;
}

static int64_t number(int64_t fd, unsigned long cmd, uint64_t arg)
{
	return call(__NR_ioctl, (uint64_t)fd, cmd, arg, 0);
}

static bool begin(const char *program)
{
	return vm_shadow(&shadow, program) == DS_AGENT_STARTED && thread_start(&t, shadow.a.started.token, SLOTS, 0, 0);
}

/* --- what is there ---------------------------------------------------------------------------------------------------- */

static void list(const char *name, char *out, size_t room)
{
	const int64_t fd = call(__NR_openat, (uint64_t)AT_FDCWD, path(name), O_RDONLY | O_DIRECTORY, 0);
	int64_t n = call(__NR_getdents64, (uint64_t)fd, at_guest(ARG), PAGE, 0);

	out[0] = 0;
	for (int64_t at = 0; at < n; at += *(uint16_t *)(void *)(at_host(ARG) + at + 16)) {
		const char *entry = (const char *)at_host(ARG) + at + 19;

		if (entry[0] != '.')
			snprintf(out + strlen(out), room - strlen(out), "%s ", entry);
	}
	call(__NR_close, (uint64_t)fd, 0, 0, 0);
}

static void test_there(void)
{
	struct stat st, here;
	char names[256];
	int64_t fd;

	tap_ok(begin("/usr/bin/guest"), "a shadow with devices starts");
	list("/dev", names, sizeof(names));
	tap_ok(!strcmp(names, "net zero ") || !strcmp(names, "zero net "), "its /dev has what the rule names: %s", names);
	list("/dev/net", names, sizeof(names));
	tap_ok(!strcmp(names, "tun "), "folders too: %s", names);
	tap_eq(call(__NR_stat, path("/dev/zero"), at_guest(ARG), 0, 0), 0, "a node can be asked about");
	memcpy(&st, at_host(ARG), sizeof(st));
	tap_ok(!stat("/dev/zero", &here) && st.st_rdev == here.st_rdev && st.st_mode == here.st_mode && st.st_uid == here.st_uid,
	       "it is as the host's, which everybody may use");
	fd = opened("/dev/zero");
	memset(at_host(ARG), 7, 64);
	tap_ok(call(__NR_read, (uint64_t)fd, at_guest(ARG), 64, 0) == 64 && at_host(ARG)[63] == 0, "reading it is reading the device");
	call(__NR_close, (uint64_t)fd, 0, 0, 0);
	tap_eq(opened("/dev/null"), -ENOENT, "a device that nobody has granted is not there");
	tap_eq(opened("/dev/mem"), -ENOENT, "nor is memory, which the rule's pattern matches");
	tap_eq(call(__NR_mknod, path("/dev/null"), S_IFCHR | 0666, makedev(1, 3), 0), -EROFS, "none can be made");
	tap_eq(call(__NR_unlink, path("/dev/zero"), 0, 0, 0), -EROFS, "or removed");
}

/* Commands that would reach files or signals, by any descriptor. */
static void test_refused(void)
{
	const int64_t fd = opened("/dev/zero");

	tap_eq(number(fd, FICLONE_, DS_SHADOW_RAM_FD), -ENOTTY, "a file's extents are not shared: FICLONE");
	tap_eq(number(fd, EXT4_MOVE_EXT, at_guest(ARG)), -ENOTTY, "nor exchanged");
	tap_eq(number(fd, LOOP_SET_FD, DS_SHADOW_RAM_FD), -EPERM, "the RAM is no loop device's file");
	tap_ok(number(fd, LOOP_SET_FD, 0) == -ENOTTY, "another one would be for the driver to judge");
	tap_eq(number(fd, LOOP_CONFIGURE_, at_guest(ARG)), -EINVAL, "a descriptor in memory is not taken for one");
	tap_eq(number(fd, FIOASYNC, at_guest(ARG)), -ENOTTY, "no signals");
	tap_eq(number(DS_SHADOW_RAM_FD, FIONBIO, at_guest(ARG)), -EBADF, "the capsule's descriptors are not there");
	tap_eq(call(__NR_mmap, 0, PAGE, PROT_READ, MAP_SHARED), -ENOSYS, "and nothing is mapped by a call");
	tap_eq(call(__NR_madvise, at_guest(MEMORY), MEMORY_PAGES * PAGE, MADV_POPULATE_WRITE, 0), 0, "pages can be touched, for drivers that pin");
	tap_eq(call(__NR_madvise, at_guest(MEMORY), PAGE, MADV_DONTNEED, 0), -ENOSYS, "which is all that can be done to them");
	call(__NR_close, (uint64_t)fd, 0, 0, 0);
	tap_ok(vm_end(&shadow), "that shadow ends");
	tap_ok(begin("/usr/bin/files"), "one that has a device, but not its commands,");
	tap_eq(call(__NR_madvise, at_guest(MEMORY), PAGE, MADV_POPULATE_WRITE, 0), -EPERM, "touches none");
	tap_eq(number(opened("/dev/zero"), KVM_GET_API_VERSION, 0), -ENOTTY, "makes none but those that any file has");
	tap_ok(vm_end(&shadow), "and ends");
}

/* --- a network of its own ------------------------------------------------------------------------------------------------- */

static bool host_sees(const char *name)
{
	char file[64], line[256];
	bool found = false;
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%d/net/dev", vm_view(0).capsule_pid);
	f = fopen(file, "re");
	while (f && fgets(line, sizeof(line), f))
		found |= strstr(line, name) != NULL;
	if (f)
		fclose(f);
	return found;
}

static void test_tun(void)
{
	struct ifreq want = {.ifr_name = "ds-test", .ifr_flags = IFF_TUN | IFF_NO_PI};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a090801)};
	int64_t tun, s, n;

	if (access("/dev/net/tun", R_OK | W_OK)) {
		tap_skip("an interface", "this machine has no /dev/net/tun");
		return;
	}
	tap_ok(begin("/usr/bin/guest"), "a shadow with a network of its own");
	tun = opened("/dev/net/tun");
	tap_eq(control(tun, TUNSETIFF, &want, sizeof(want)), 0, "makes an interface");
	tap_ok(host_sees("ds-test"), "which the host sees in the shadow's namespace");
	s = call(__NR_socket, AF_INET, SOCK_DGRAM, 0, 0);
	memcpy(&want.ifr_addr, &address, sizeof(address));
	tap_eq(control(s, SIOCSIFADDR, &want, sizeof(want)), 0, "gives it an address");
	address.sin_addr.s_addr = htonl(0x0a090802);
	memcpy(&want.ifr_dstaddr, &address, sizeof(address));
	tap_eq(control(s, SIOCSIFDSTADDR, &want, sizeof(want)), 0, "and its neighbour one");
	want.ifr_flags = IFF_UP | IFF_RUNNING;
	tap_eq(control(s, SIOCSIFFLAGS, &want, sizeof(want)), 0, "switches it on");
	address.sin_port = htons(99);
	memcpy(at_host(ARG), &address, sizeof(address));
	memcpy(at_host(ARG) + 64, "through the tunnel", 18);
	tap_eq(thread_call(&t, __NR_connect, (uint64_t)s, at_guest(ARG), sizeof(address), 0, 0), 0, "connects to somebody behind it");
	tap_eq(call(__NR_write, (uint64_t)s, at_guest(ARG) + 64, 18, 0), 18, "sends");
	do /* what the kernel itself has to say to its new neighbours comes first */
		n = call(__NR_read, (uint64_t)tun, at_guest(ARG), PAGE, 0);
	while (n > 0 && at_host(ARG)[0] >> 4 == 6);
	tap_ok(n == 20 + 8 + 18 && !memcmp(at_host(ARG) + 28, "through the tunnel", 18), "and reads the packet from the device (%lld bytes)",
	       (long long)n);
	tap_ok(vm_end(&shadow), "with the shadow its network ends");
	tap_ok(begin("/usr/bin/none"), "a shadow with no network");
	tap_eq(control(opened("/dev/net/tun"), TUNSETIFF, &want, sizeof(want)), -EPERM, "makes no interface");
	tap_ok(vm_end(&shadow), "and ends");
}

/* --- machines ---------------------------------------------------------------------------------------------------------------- */

static int64_t kvm, vm, vcpu;

/* Real mode: a program at 0 of the machine's memory. */
static bool machine(const uint8_t *code, size_t bytes)
{
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY_PAGES * PAGE, .userspace_addr = at_guest(MEMORY)};
	struct kvm_regs regs = {.rflags = 2, .rax = 2, .rbx = 3};
	struct kvm_sregs sregs;

	kvm = opened("/dev/kvm");
	vm = number(kvm, KVM_CREATE_VM, 0);
	if (vm < RAW_FIRST || control(vm, KVM_SET_USER_MEMORY_REGION, &region, sizeof(region)))
		return false;
	vcpu = number(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < RAW_FIRST || control(vcpu, KVM_GET_SREGS, &sregs, sizeof(sregs)))
		return false;
	sregs.cs.base = sregs.cs.selector = 0;
	memcpy(at_host(MEMORY), code, bytes);
	return !control(vcpu, KVM_SET_SREGS, &sregs, sizeof(sregs)) && !control(vcpu, KVM_SET_REGS, &regs, sizeof(regs));
}

static void test_machine(void)
{
	static const uint8_t sum[] = {0x00, 0xd8, /* add %bl,%al */ 0xa2, STORED & 0xff, STORED >> 8, /* mov %al,STORED */ 0xf4 /* hlt */};
	static const uint8_t loop[] = {0xfe, 0x06, STORED & 0xff, STORED >> 8, /* incb STORED */ 0xeb, 0xfa /* back */};
	const struct ds_agent_range other = {HEAP_VPN + 200, 8}, stored = {HEAP_VPN + MEMORY + STORED / PAGE, 1};
	struct kvm_regs regs = {0};
	struct thread second;
	struct stat st, here;
	uint8_t was;

	tap_ok(begin("/usr/bin/guest"), "a shadow with /dev/kvm");
	tap_eq(call(__NR_stat, path("/dev/kvm"), at_guest(ARG), 0, 0), 0, "which is not everybody's on the host");
	memcpy(&st, at_host(ARG), sizeof(st));
	tap_ok(!stat("/dev/kvm", &here) && st.st_rdev == here.st_rdev && (here.st_mode & 6) != 6 ? st.st_uid == 65534 && (st.st_mode & 0600) == 0600 : true,
	       "and the shadow's user's in there");
	tap_ok(machine(sum, sizeof(sum)), "a machine whose memory are pages of the guest's process");
	tap_eq(number(kvm, KVM_GET_API_VERSION, 0), 12, "is KVM's");
	at_host(MEMORY + STORED / PAGE)[0] = 0;
	tap_eq(number(vcpu, KVM_RUN, 0), 0, "it runs");
	tap_eq(at_host(MEMORY + STORED / PAGE)[0], 5, "and has stored the sum of two registers in the guest's page");
	tap_ok(control(vcpu, KVM_GET_REGS, &regs, sizeof(regs)) == 0 && regs.rax == 5 && regs.rip == sizeof(sum), "as its registers say");

	memcpy(at_host(MEMORY), loop, sizeof(loop));
	regs.rip = 0;
	control(vcpu, KVM_SET_REGS, &regs, sizeof(regs));
	tap_ok(thread_start(&second, shadow.a.started.token, SLOTS, 1, 0), "a second thread of the program");
	thread_post(&second, __NR_ioctl, (const uint64_t[6]){(uint64_t)vcpu, KVM_RUN, 0});
	tap_ok(!thread_done(&second, 100), "runs a machine that does not halt");
	tap_eq(number(kvm, KVM_GET_API_VERSION, 0), 12, "the first one goes on making calls");
	tap_eq(drop(&shadow, &other, 1), DS_AGENT_DONE, "pages that are not the machine's are dropped meanwhile");
	was = at_host(MEMORY + STORED / PAGE)[0];
	for (int i = 0; i < 1000 && at_host(MEMORY + STORED / PAGE)[0] == was; i++)
		usleep(1000);
	tap_ok(at_host(MEMORY + STORED / PAGE)[0] != was && !thread_done(&second, 10), "it runs on, counting in the guest's page");
	thread_interrupt(&second);
	tap_ok(thread_done(&second, 5000) && second.slot->result == -EINTR, "a signal in the guest ends the call");
	tap_eq(drop(&shadow, &stored, 1), DS_AGENT_DONE, "its page is dropped");
	was = at_host(MEMORY + STORED / PAGE)[0];
	number(vcpu, KVM_RUN, 0); /* a fault, or an exit for lack of memory to emulate with */
	tap_eq(at_host(MEMORY + STORED / PAGE)[0], was, "the machine cannot store there any more");
	close(second.bell);
	tap_ok(vm_end(&shadow), "the shadow ends with its machine");
}

int main(void)
{
	char rules[2048];

	signal(SIGPIPE, SIG_IGN);
	if (geteuid() || access("/dev/zero", R_OK)) {
		tap_skip("devices of the host", "it takes root");
		return tap_done();
	}
	snprintf(rules, sizeof(rules),
		 "allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 user=%u device=/dev/net/tun device=/dev/zer? "
		 "device=/dev/me[m] device=/dev/nothing-there net=own\n"
		 "allow program=/usr/bin/files service=forward executors=2 user=%u device=/dev/zero calls=file\n"
		 "allow program=/usr/bin/none service=forward executors=2 user=%u device=/dev/net/*\n",
		 UID, UID, UID);
	vm_begin(rules);
	test_there();
	test_refused();
	test_tun();
	vm_rules("allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 device=/dev/kvm\n");
	if (access("/dev/kvm", R_OK | W_OK))
		tap_skip("machines", "this machine has no /dev/kvm");
	else
		test_machine();
	bells_free(bells);
	shadows_free(row);
	tap_eq(left_processes(), 0, "no process is left");
	return tap_done();
}
