/* sys.h - system calls without a C library
 *
 * Each returns what the kernel returns: a result, or -errno.  Structures and numbers are the kernel's (uapi headers),
 * not glibc's.  clobber: rcx and r11 are lost to `syscall` (Intel SDM, SYSCALL).
 */
#ifndef SHADOW_SYS_H
#define SHADOW_SYS_H

#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

/** sys6() - Issues system call @nr. */
static inline long sys6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define SYS_WORD(x) ((uint64_t)(x))
/* sys(name, arguments...): up to six; pointers are cast */
#define SYS_PICK(nr, a, b, c, d, e, f, ...) \
	sys6(nr, SYS_WORD(a), SYS_WORD(b), SYS_WORD(c), SYS_WORD(d), SYS_WORD(e), SYS_WORD(f))
#define sys(name, ...) SYS_PICK(__NR_##name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)

#define SYS_PROT_READ 1
#define SYS_PROT_WRITE 2
#define SYS_PROT_EXEC 4
#define SYS_MAP_SHARED 0x01
#define SYS_MAP_PRIVATE 0x02
#define SYS_MAP_FIXED 0x10
#define SYS_MAP_ANONYMOUS 0x20
#define SYS_MAP_NORESERVE 0x4000
#define SYS_MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17 */

#define SYS_FUTEX_WAIT_PRIVATE 128
#define SYS_FUTEX_WAKE_PRIVATE 129

/** struct sys_timespec - What the kernel calls __kernel_timespec. */
struct sys_timespec {
	int64_t sec, nsec;
};

/** sys_now_ns() - CLOCK_MONOTONIC, by system call: there is no vdso. */
static inline uint64_t sys_now_ns(void)
{
	struct sys_timespec ts = {0};

	sys(clock_gettime, 1, &ts);
	return (uint64_t)ts.sec * 1000000000u + (uint64_t)ts.nsec;
}

/** sys_exit() - Ends the shadow with all its threads. */
__attribute__((noreturn)) static inline void sys_exit(int status)
{
	for (;;)
		sys(exit_group, status);
}

/** sys_failed() - Whether @ret is -errno; a mapping's address never is. */
static inline int sys_failed(long ret)
{
	return ret < 0 && ret > -4096;
}

#endif
