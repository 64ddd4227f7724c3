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
 * the old one's place.  Looked at are structures that the command's number says are written (_IOC_READ) and have at most
 * LOOK_BYTES; a descriptor within a larger one, or behind another pointer, keeps its high number and stays unknown here.
 * A word that looks like one and is not would have to be the number of a descriptor that another thread is just about to get.
 *
 * Memory that is new to the mirror is announced before every command: structures point to it (the memory of a virtual machine, for one),
 * and the driver may use it in later commands.
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

int64_t forward_ioctl(const struct intercept_call *call)
{
	const uint32_t command = (uint32_t)call->arg[1], bytes = _IOC_DIR(command) & _IOC_READ ? _IOC_SIZE(command) : 0;
	const struct forward_rule rule = {
		.kind = FORWARD_FD, .flags = (uint8_t)(FORWARD_NESTED | (command == KVM_RUN_ ? FORWARD_NO_RESTART : 0))};
	struct look look = {.at = call->arg[2], .nwords = bytes <= LOOK_BYTES ? bytes / 4 : 0};

	if (command == KVM_SET_SIGNAL_MASK_) {
		forward_trace_note("ioctl", "KVM_SET_SIGNAL_MASK is about signals, and those are the guest's");
		return -ENOTTY;
	}
	if (look.nwords && intercept_fetch(look.before, look.at, look.nwords * 4))
		look.nwords = 0;
	return forward_call_then(call, &rule, look_for_new, &look);
}
