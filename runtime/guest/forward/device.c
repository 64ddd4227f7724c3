/* device.c - ioctl() with the host's descriptors
 *
 * Theory of operation
 *
 * Commands of drivers are passed on as they are: what their pointers lead to is the same memory on both sides, and descriptors have
 * the same numbers.  Two things are to be done here, for all drivers in the same way.
 *
 * Descriptors that a driver makes (KVM_CREATE_VM, KVM_CREATE_DEVICE, DRM_IOCTL_PRIME_HANDLE_TO_FD, ...) come as the result, or in
 * the command's structure.  They have to get a number here.  No list of commands tells which they are.  What tells is that no number
 * below FORWARD_FDS_MAX is ever free in the shadow (fds.c), so that new descriptors are above, in a range where results and
 * structures seldom have numbers: where the result is one of that range, or a word of a structure that was not before, the
 * shadow is asked whether it is open.  Then it is moved to the lowest number that is free here, and the new number is put in
 * the old one's place.  Looked at are the first LOOK_BYTES of a structure that the command's number says is written (_IOC_READ); a
 * descriptor further on, or behind another pointer, keeps its high number and stays unknown here.
 * A word that looks like one and is not would have to be the number of a descriptor that another thread is just about to get.
 *
 * Memory that is new to the mirror is announced before every command: structures point to it (the memory of a virtual machine, for one),
 * and the driver may use it in later commands.
 *
 * Memory that a driver pins has to be in the mirror before: a page that is not there comes when it is touched, and most ways in which
 * a driver takes hold of pages (pin_user_pages() under the lock of the address space: NVIDIA's os_lock_user_pages(), AF_XDP's and vDPA's) do
 * not wait for it but fail with EFAULT (handle_userfault(): FAULT_FLAG_ALLOW_RETRY).  Which commands pin is the driver's to know.  What tells
 * is that a structure has the address of a page followed by a length, or by a length less one, as NVIDIA has it: such a range is touched in
 * the shadow before the command is made (MADV_POPULATE_WRITE, _READ where it cannot be written).  Where it was something else it was in
 * vain, and stops at the first page that is not there.
 *
 * A command that a signal ends with EINTR starts again if the handlers have SA_RESTART, as by signal(7).  KVM_RUN never
 * does (Documentation/virt/kvm/api.rst, KVM_RUN).  KVM_SET_SIGNAL_MASK would be about the signals of the shadow's threads and is
 * refused; programs use immediate_exit of struct kvm_run instead since Linux 4.13.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "runtime/guest/forward/forward.h"
#include "runtime/wire/shadow.h"

#define LOOK_BYTES 128u
#define PINNED_LOW UINT64_C(0x10000) /* nobody has memory below (vm.mmap_min_addr) */
#define PINNED_HIGH (UINT64_C(1) << 47)
#define TOUCH_BYTES (UINT64_C(4) << 20) /* in a call, which a change of the mirror waits for */
#define POPULATE_READ 22 /* asm-generic/mman-common.h of Linux 5.14 */
#define POPULATE_WRITE 23
#define KVM_RUN_ 0xae80u
#define KVM_SET_SIGNAL_MASK_ 0x4004ae8bu
#define NOT_ONE INT64_C(-100000) /* no errno */

_Static_assert(FORWARD_FDS_MAX == DS_SHADOW_GUEST_FDS, "numbers of the program");

/* A command's structure before it was made. */
struct look {
	uint64_t at;
	uint32_t nwords, before[LOOK_BYTES / 4];
};

static bool may_be_new(uint32_t number)
{
	return number > DS_SHADOW_HOLD_FD && number < DS_SHADOW_FDS_MAX && !forward_epoll_holds(number);
}

/* Return: its number here, -errno, or NOT_ONE. */
static int64_t take_new(struct forward_turn *turn, uint32_t number)
{
	const int64_t flags = may_be_new(number) ? forward_turn_quick(turn, __NR_fcntl, number, F_GETFD, 0, 0) : -1;

	return flags < 0 ? NOT_ONE : forward_fd_adopt(turn, number, flags & FD_CLOEXEC);
}

static int64_t look_for_new(struct forward_turn *turn, int64_t result, void *ctx)
{
	const struct look *look = ctx;
	uint32_t after[LOOK_BYTES / 4];
	int64_t fd = result <= UINT32_MAX ? take_new(turn, (uint32_t)result) : NOT_ONE;

	if (fd != NOT_ONE)
		return fd;
	if (!look->nwords || intercept_fetch(after, look->at, look->nwords * 4))
		return result;
	for (uint32_t i = 0; i < look->nwords; i++) {
		if (after[i] == look->before[i])
			continue;
		fd = take_new(turn, after[i]);
		if (fd == NOT_ONE)
			continue;
		if (fd < 0)
			return fd;
		after[i] = (uint32_t)fd;
		intercept_store(look->at + i * 4, &after[i], 4);
	}
	return result;
}

/* --- memory that is pinned ------------------------------------------------------------------------------------------------------ */

static int64_t populate(uint64_t start, uint64_t bytes, uint64_t how)
{
	static const struct forward_rule plain = {.kind = FORWARD_FD};
	const struct intercept_call call = {.nr = __NR_madvise, .arg = {start, bytes, how}};
	int64_t rc;

	do
		rc = forward_call(&call, &plain);
	while (rc == -EINTR); /* a handler has run */
	return rc;
}

static void touch(uint64_t start, uint64_t end)
{
	uint32_t tries = 0;

	while (start < end) {
		const uint64_t bytes = end - start < TOUCH_BYTES ? end - start : TOUCH_BYTES;
		int64_t rc = populate(start, bytes, POPULATE_WRITE);

		if (rc == -EINVAL && forward_memory_again(-EFAULT, &tries)) /* what was read only may be written by now */
			rc = populate(start, bytes, POPULATE_WRITE);
		if (rc)
			rc = populate(start, bytes, POPULATE_READ);
		if (rc)
			return;
		start += bytes;
	}
}

static void touch_ranges(const uint32_t *words, uint32_t n)
{
	for (uint32_t i = 0; i + 4 <= n; i += 2) {
		const uint64_t at = words[i] | (uint64_t)words[i + 1] << 32, length = words[i + 2] | (uint64_t)words[i + 3] << 32;

		if (at % FORWARD_PAGE || at < PINNED_LOW || at >= PINNED_HIGH || length < FORWARD_PAGE - 1 || length >= PINNED_HIGH - at)
			continue;
		touch(at, (at + length + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1));
	}
}

int64_t forward_ioctl(const struct intercept_call *call)
{
	const uint32_t command = (uint32_t)call->arg[1], bytes = _IOC_SIZE(command) < LOOK_BYTES ? _IOC_SIZE(command) : LOOK_BYTES;
	const struct forward_rule rule = {
		.kind = FORWARD_FD, .flags = (uint8_t)(FORWARD_NESTED | (command == KVM_RUN_ ? FORWARD_NO_RESTART : 0))};
	struct look look = {.at = call->arg[2], .nwords = _IOC_DIR(command) == _IOC_NONE ? 0 : bytes / 4};

	if (command == KVM_SET_SIGNAL_MASK_) {
		forward_trace_note("ioctl", "KVM_SET_SIGNAL_MASK is about signals, and those are the guest's");
		return -ENOTTY;
	}
	if (look.nwords && intercept_fetch(look.before, look.at, look.nwords * 4))
		look.nwords = 0;
	if (_IOC_DIR(command) & _IOC_WRITE && forward_agent_active())
		touch_ranges(look.before, look.nwords);
	if (!(_IOC_DIR(command) & _IOC_READ))
		look.nwords = 0;
	return forward_call_then(call, &rule, look_for_new, &look);
}
