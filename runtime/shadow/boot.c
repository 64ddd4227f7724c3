/* boot.c - from the kernel's exec to a capsule that is alone with its mirror
 *
 * Theory of operation
 *
 * The kernel puts text, data and bss somewhere, a stack elsewhere, and adds the vdso.  Nothing else has run: there is
 * no C runtime, no other thread, and no address is registered with the kernel.  boot_prepare() runs there, on the
 * kernel's stack: it takes BOOT from the control channel, gives the RAM's descriptors the numbers that the guard knows
 * them by, reads the map into scratch memory, finds a place that is free of the map and of the forbidden ranges, and
 * copies the image there.  Where the kernel put things it cannot look up, as there is no /proc in a jail; it need
 * not: MAP_FIXED_NOREPLACE says when something is in the way, and another place is tried.  start.S jumps.  boot_finish()
 * runs in the new place: it takes over the map, unmaps everything else (the old image, the stack, the vdso, the scratch
 * memory), makes the mirror, arms the guard (runtime/wire/shadow.h) and starts the service.
 *
 * Before anything is unmapped BOOT can be refused with the process intact.  Whatever fails, the answer is REFUSED with
 * the reason, and the process ends.
 */
#include <elf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "runtime/shadow/capsule.h"
#include "runtime/shadow/params.h"

#define PLACE_TRIES 16
#define FDS_ASIDE DS_SHADOW_OWN_FDS_END /* above every number that is given away here */
#define F_DUPFD_CLOEXEC 1030
#define O_CLOEXEC 02000000
#define O_PATH 010000000
#define AT_FDCWD (-100)
#define RATE_NS 200000 /* to measure the time-stamp counter: the clock's own time is a thousandth of it */
#define SEEK_END 2
#define RSEQ_FLAG_UNREGISTER 1
#define RSEQ_SIGNATURE 0x53053053
#define ROBUST_LIST_HEAD_BYTES 24
#define RLIMIT_CORE 4
#define PR_SET_NAME 15
#define PR_SET_DUMPABLE 4
#define FILTER_WAIT_KILLABLE_RECV (1u << 5) /* SECCOMP_FILTER_FLAG_..., Linux 5.19 */

extern const Elf64_Rela capsule_rela_start[], capsule_rela_end[] __attribute__((visibility("hidden")));

/* The kernel's struct rseq, as registered for a moment to see that nobody else has. */
static struct {
	uint8_t bytes[32];
} rseq_area __attribute__((aligned(32)));

/* Needs no relocation itself: all addresses in it are relative to the instruction pointer. */
void boot_relocate(void)
{
	for (const Elf64_Rela *r = capsule_rela_start; r < capsule_rela_end; r++) {
		if (ELF64_R_TYPE(r->r_info) != R_X86_64_RELATIVE)
			sys_exit(CAP_EXIT_REFUSED);
		*(uint64_t *)(cap_image() + r->r_offset) = cap_image() + (uint64_t)r->r_addend;
	}
}

__attribute__((noreturn)) static void refuse(struct ds_shadow_refused *refused)
{
	ctl_refuse(cap.boot.head.seq, refused);
	sys_exit(CAP_EXIT_REFUSED);
}

__attribute__((noreturn)) static void die(enum ds_shadow_reason reason, long err, uint64_t index, uint64_t value)
{
	ctl_die(cap.boot.head.seq, reason, err, index, value);
}

/* Scratch memory anywhere: everything the kernel places is given up soon. */
static void *scratch(uint64_t bytes)
{
	long at = sys(mmap, 0, bytes, SYS_PROT_READ | SYS_PROT_WRITE, SYS_MAP_PRIVATE | SYS_MAP_ANONYMOUS | SYS_MAP_NORESERVE,
		      -1, 0);

	if (sys_failed(at))
		die(DS_SHADOW_R_NO_MEMORY, at, 0, bytes);
	return (void *)at;
}

static void put_fd(int from, int to)
{
	long ret = sys(dup3, from, to, O_CLOEXEC);

	if (ret < 0)
		die(DS_SHADOW_R_KERNEL, ret, __NR_dup3, (uint64_t)to);
	sys(close, from);
}

/* Fills cap.boot and puts the descriptors in their places.  Return: the data file. */
static int take_boot(void)
{
	static struct ds_shadow_boot boot;
	struct ds_shadow_refused refused = {0};
	uint32_t nfds, want;
	int fds[CAP_FDS];
	long got = ctl_receive(&boot, sizeof(boot), fds, &nfds, true);

	if (got == -EMSGSIZE)
		die(DS_SHADOW_R_MESSAGE, 0, 0, 0);
	if (got <= 0) /* started by somebody who does not speak the protocol */
		sys_exit(CAP_EXIT_CHANNEL);
	if (got >= (long)sizeof(boot.head))
		cap.boot.head.seq = boot.head.seq;
	if (params_head(&boot, (size_t)got, &refused))
		refuse(&refused);
	if (boot.head.kind != DS_SHADOW_BOOT)
		die(DS_SHADOW_R_ORDER, 0, 0, boot.head.kind);
	want = params_fds(DS_SHADOW_BOOT, boot.mode);
	if (nfds != want)
		die(DS_SHADOW_R_FDS, 0, nfds, want);
	if (params_boot(&boot, shadow_service.name, &refused))
		refuse(&refused);
	cap.boot = boot;
	cap.guard_fd = cap.fault_fd = -1;
	/* None has the number of another: all are moved aside before the first is put in its place. */
	for (uint32_t i = 0; i < nfds; i++) {
		long aside = sys(fcntl, fds[i], F_DUPFD_CLOEXEC, FDS_ASIDE);

		if (aside < 0)
			die(DS_SHADOW_R_KERNEL, aside, __NR_fcntl, 0);
		sys(close, fds[i]);
		fds[i] = (int)aside;
	}
	put_fd(fds[0], DS_SHADOW_RAM_FD);
	put_fd(fds[1], DS_SHADOW_RAM_RO_FD);
	if (nfds > 3)
		put_fd(fds[3], DS_SHADOW_FAULT_DEV_FD);
	return fds[2];
}

static void check_ram(void)
{
	long bytes;

	if (cap.boot.provider == DS_SHADOW_RAM_DEVMEM)
		return;
	for (int fd = DS_SHADOW_RAM_FD; fd <= DS_SHADOW_RAM_RO_FD; fd++) {
		bytes = sys(lseek, fd, 0, SEEK_END);
		if (bytes < 0 || (uint64_t)bytes < cap.boot.ram_bytes)
			die(DS_SHADOW_R_RAM, bytes < 0 ? bytes : 0, 0, bytes < 0 ? 0 : (uint64_t)bytes);
	}
}

/* Copies the image to a place that is free of @block's map and ranges.  Return: the distance. */
static int64_t copy_to_place(void *block)
{
	const struct cap_region here = move_here();
	const struct rle_map map = mirror_blob_view(block);
	struct place_want want = {
		.src = {place_of_map(&map), place_of_ranges((const struct ds_shadow_range *)((char *)block + cap.boot.data.map_bytes),
							    cap.boot.data.nforbidden)},
		.npages = here.bytes >> DS_PAGE_SHIFT,
		.first_vpn = cap.boot.min_vpn,
		.reserve = cap.boot.reserve,
	};
	uint64_t vpn, image;
	int rc = -EEXIST;

	for (int i = 0; i < PLACE_TRIES && rc == -EEXIST; i++) {
		want.random = ctl_random();
		if (place_find(&want, &vpn))
			break;
		image = (vpn << DS_PAGE_SHIFT) + here.image - here.lo;
		rc = move_copy(image, cap.heap_bytes, true);
		if (!rc)
			return (int64_t)(image - here.image);
		want.reserve.npages = 0; /* something of the kernel's is there */
	}
	if (rc == -EEXIST)
		die(DS_SHADOW_R_NO_PLACE, 0, 0, want.npages);
	die(DS_SHADOW_R_NO_MEMORY, rc, 0, want.npages << DS_PAGE_SHIFT);
}

int64_t boot_prepare(void)
{
	struct ds_shadow_refused refused;
	uint64_t bytes;
	void *block;
	int data;

	data = take_boot();
	cap.pid = (int32_t)sys(getpid);
	check_ram();
	bytes = params_data_bytes(&cap.boot.data);
	if (ctl_data_there(data, bytes, &refused))
		refuse(&refused);
	block = scratch(bytes);
	cap.boot_block = (uint64_t)block;
	if (ctl_read_data(data, block, bytes, &refused) || mirror_check(block, &cap.boot.data, &cap.now.sum, &refused))
		refuse(&refused);
	sys(close, data);

	/* Room for two maps: the one in force and the next. */
	cap.heap_bytes = cap.boot.heap_bytes + (2 * bytes + 2 * CAP_PAGE) / CAP_PAGE * CAP_PAGE;
	return copy_to_place(block);
}

/* Nothing of ours may be written by the kernel at an address that is the guest's later. */
static void forget_addresses(void)
{
	long ret = sys(set_robust_list, 0, ROBUST_LIST_HEAD_BYTES);

	if (ret)
		die(DS_SHADOW_R_KERNEL, ret, __NR_set_robust_list, 0);
	sys(set_tid_address, 0); /* cannot fail */
	/* Only one rseq area can be registered: that ours can be shows that there was none.  -ENOSYS is as good. */
	ret = sys(rseq, &rseq_area, sizeof(rseq_area), 0, RSEQ_SIGNATURE);
	if (!ret)
		ret = sys(rseq, &rseq_area, sizeof(rseq_area), RSEQ_FLAG_UNREGISTER, RSEQ_SIGNATURE);
	if (ret && ret != -ENOSYS)
		die(DS_SHADOW_R_KERNEL, ret, __NR_rseq, 0);
}

/*
 * From here on nothing that has a file is mapped without leave from outside.  The knock shows that somebody is there: a
 * mapping as the answer would mean that there is no filter.  Our listener is closed: whoever holds it grants the leave.
 */
static void arm(void)
{
	const struct ds_shadow_data *d = &cap.now.data;
	char *block = shadow_at(cap.now.block);
	struct sock_fprog prog = {
		.len = (unsigned short)(d->filter_bytes / sizeof(struct sock_filter)),
		.filter = (void *)(block + d->map_bytes + d->nforbidden * sizeof(struct ds_shadow_range)),
	};
	long ret;

	if (!d->filter_bytes)
		return;
	ret = sys(prctl, PR_SET_DUMPABLE, 0);
	if (!ret)
		ret = sys(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | FILTER_WAIT_KILLABLE_RECV, &prog);
	if (ret < 0)
		die(DS_SHADOW_R_GUARD, ret, 0, 0);
	cap.guard_fd = (int32_t)ret;
	ctl_status(cap.boot.head.seq);
	ret = sys(mmap, 0, CAP_PAGE, 0, SYS_MAP_SHARED, DS_SHADOW_RAM_RO_FD, 0);
	if (ret != DS_SHADOW_KNOCK)
		die(DS_SHADOW_R_GUARD, 0, 0, (uint64_t)ret);
	sys(close, cap.guard_fd);
	cap.guard_fd = -1;
}

/*
 * For a service that makes calls for a guest: the numbers from the capsule's own on, up to DS_SHADOW_HOLD_FD, hold a file that is
 * good for nothing, so that nothing which is opened later gets one of them; and the rate of the time-stamp counter.
 */
static void prepare_bells(void)
{
	static const char root[] = "/";
	uint64_t ticks, from_ns, ns;
	long fd, hold = DS_SHADOW_GUEST_FDS;

	fd = sys(openat, AT_FDCWD, root, O_PATH | O_CLOEXEC, 0);
	while (fd >= 0 && hold >= 0 && hold < DS_SHADOW_HOLD_FD)
		hold = sys(fcntl, fd, F_DUPFD_CLOEXEC, DS_SHADOW_GUEST_FDS);
	if (fd < 0 || hold < 0)
		die(DS_SHADOW_R_KERNEL, fd < 0 ? fd : hold, fd < 0 ? __NR_openat : __NR_fcntl, 0);
	sys(close, fd);
	from_ns = sys_now_ns();
	ticks = __builtin_ia32_rdtsc();
	while ((ns = sys_now_ns() - from_ns) < RATE_NS)
		;
	ticks = __builtin_ia32_rdtsc() - ticks;
	cap.ns_per_tick = ticks ? (ns << 32) / ticks : 0;
}

void boot_finish(int64_t delta)
{
	const uint64_t no_core[2] = {0, 0}; /* a core would hold the guest's memory */
	struct ds_shadow_refused refused;
	struct shadow_change change = {.updates = 1, .mirror_pages = cap.now.sum.pages, .moved = true};
	const uint64_t bytes = params_data_bytes(&cap.boot.data);
	int rc;

	(void)delta;
	heap_init();
	cap.now.data = cap.boot.data;
	cap.now.block = shadow_alloc(bytes);
	if (!cap.now.block.offset)
		die(DS_SHADOW_R_NO_MEMORY, 0, 0, bytes);
	memcpy(shadow_at(cap.now.block), (const void *)cap.boot_block, bytes);
	cap.boot_block = 0;

	forget_addresses();
	sys(prlimit64, 0, RLIMIT_CORE, no_core, 0);
	sys(prctl, PR_SET_NAME, cap.boot.service);
	rc = mirror_only();
	if (rc)
		die(DS_SHADOW_R_UNMAP, rc, 0, 0);
	rc = move_signals();
	if (rc)
		die(DS_SHADOW_R_KERNEL, rc, __NR_rt_sigaction, 0);
	rc = move_mm();
	if (rc)
		die(DS_SHADOW_R_KERNEL, rc, __NR_prctl, 0);
	if ((cap.boot.mode == DS_SHADOW_DEMAND && demand_open(&refused)) || mirror_make(&refused))
		refuse(&refused);
	cap.updates = 1;
	if (shadow_service.bells)
		prepare_bells();
	arm();
	rc = shadow_service.start ? shadow_service.start(cap.boot.args) : 0;
	if (rc)
		die(DS_SHADOW_R_SERVICE, rc, 0, 0);
	if (shadow_service.update)
		shadow_service.update(&change);
	rc = exec_start();
	if (rc)
		die(DS_SHADOW_R_KERNEL, rc, __NR_clone, 0);
	ctl_status(cap.boot.head.seq);
}
