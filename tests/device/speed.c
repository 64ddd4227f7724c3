/* speed.c - what calls on a device cost, and memory that is mapped from one
 *
 * usage: speed COUNT [FILE]    prints "NAME NANOSECONDS" of medians:
 *
 *   seek      lseek() of /dev/kvm, which does nothing	       map      mmap() and munmap() of a vcpu's memory
 *   ioctl     KVM_GET_API_VERSION			       touch    the first access to a page of FILE, mapped, and of memory of its own (own_touch)
 *   run       a machine's exit and re-entry		       stream   a page's worth of copying from FILE, mapped, and from memory of its own (own_stream)
 *
 * A line "NAME none" where it cannot be had.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/median.h"

#define PAGE 4096u
#define MAPPED_BYTES (4u << 20)
#define ROUNDS 21

static double *took;
static unsigned int count;

static void tell(const char *name, unsigned int n)
{
	printf("%s %.0f\n", name, bench_median(took, n));
}

static void calls(const char *name, int fd, unsigned long command)
{
	for (unsigned int i = 0; i < count; i++) {
		const double from = bench_now_ns();

		if ((command ? ioctl(fd, command, 0) : (int)lseek(fd, 0, SEEK_CUR)) < 0) {
			printf("%s none\n", name);
			return;
		}
		took[i] = bench_now_ns() - from;
	}
	tell(name, count);
}

/* A machine that writes to a port and does it again.  Return: its vcpu, or -1. */
static int machine(int kvm, void *memory)
{
	static const uint8_t code[] = {0xe6, 0x10, 0xeb, 0xfc};
	struct kvm_userspace_memory_region region = {.memory_size = PAGE, .userspace_addr = (uint64_t)memory};
	struct kvm_regs regs = {.rflags = 2};
	struct kvm_sregs sregs;
	const int vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);

	memcpy(memory, code, sizeof(code));
	if (vcpu < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) || ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return -1;
	sregs.cs.base = sregs.cs.selector = 0;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs) ? -1 : vcpu;
}

static void mappings(int kvm, int vcpu)
{
	const size_t bytes = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const unsigned int n = count < 200 ? count : 200;

	for (unsigned int i = 0; i < n; i++) {
		const double from = bench_now_ns();
		void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

		if (at == MAP_FAILED) {
			puts("map none");
			return;
		}
		munmap(at, bytes);
		took[i] = bench_now_ns() - from;
	}
	tell("map", n);
}

/* First accesses, then copying from it. */
static void memory(const char *touch, const char *stream, volatile uint8_t *at, char *to)
{
	const unsigned int pages = MAPPED_BYTES / PAGE;

	for (unsigned int i = 0; i < pages && i < count; i++) {
		const double from = bench_now_ns();

		(void)at[i * PAGE];
		took[i] = bench_now_ns() - from;
	}
	tell(touch, pages < count ? pages : count);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		const double from = bench_now_ns();

		memcpy(to, (const void *)(uintptr_t)at, MAPPED_BYTES);
		took[i] = (bench_now_ns() - from) / pages;
	}
	tell(stream, ROUNDS);
}

int main(int argc, char **argv)
{
	const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), file = argc > 2 ? open(argv[2], O_RDWR | O_CLOEXEC) : -1;
	char *to = malloc(MAPPED_BYTES), *own = mmap(NULL, MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *code = aligned_alloc(PAGE, PAGE), *mapped;
	int vcpu;

	count = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 1000;
	took = calloc(count + MAPPED_BYTES / PAGE + ROUNDS, sizeof(*took));
	if (!took || !to || own == MAP_FAILED || !code || !count)
		return 2;
	memset(to, 1, MAPPED_BYTES);
	if (kvm >= 0) {
		calls("seek", kvm, 0);
		calls("ioctl", kvm, KVM_GET_API_VERSION);
		vcpu = machine(kvm, code);
		calls("run", vcpu, KVM_RUN);
		mappings(kvm, vcpu);
	}
	memory("own_touch", "own_stream", (volatile uint8_t *)own, to);
	mapped = file < 0 ? MAP_FAILED : mmap(NULL, MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (mapped == MAP_FAILED)
		puts("touch none\nstream none");
	else
		memory("touch", "stream", mapped, to);
	return 0;
}
