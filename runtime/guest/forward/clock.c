/* clock.c - another time of day for a program, by its policy; and the vDSO, which would tell the kernel's without a system call
 *
 * Theory of operation
 *
 * What is put on the clock is one number.  Calls that tell the time add it; calls that wait until a time of day take it away again
 * (futex(2) with FUTEX_CLOCK_REALTIME, clock_nanosleep(2)), for which the program has worked out a time by the clock that it knows.
 * Not so timers that are set to a time of day, times of files, and those that other programs tell.
 *
 * The C library asks the vDSO, code that the kernel maps into every process, and has looked up its functions before any library
 * is loaded.  So the functions themselves are changed: each begins with a system call and a return then (vdso(7); its pages become the
 * process's own by the first write, as for a breakpoint).  Where the kernel does not allow that, as a vDSO may be sealed
 * (Linux 6.16), it is said.
 */
#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include "runtime/guest/forward/policy.h"

#define PATCH_BYTES 8u
#define SYMBOLS_MAX 64u

static int64_t offset_ns;

/* --- the vDSO ---------------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	uint16_t nr;
} functions[] = {
	{"__vdso_clock_gettime", __NR_clock_gettime},
	{"__vdso_gettimeofday", __NR_gettimeofday},
	{"__vdso_time", __NR_time},
	{"__vdso_clock_getres", __NR_clock_getres},
	{"__vdso_getcpu", __NR_getcpu},
};

/* Where it is, by the auxiliary vector. */
static uint64_t find_vdso(void)
{
	Elf64_auxv_t vector[64];
	const int64_t fd = raw3(__NR_open, "/proc/self/auxv", 0, 0);
	const int64_t n = fd < 0 ? fd : raw3(__NR_read, fd, vector, sizeof(vector));

	if (fd >= 0)
		raw1(__NR_close, fd);
	for (int64_t i = 0; i < n / (int64_t)sizeof(vector[0]); i++)
		if (vector[i].a_type == AT_SYSINFO_EHDR)
			return vector[i].a_un.a_val;
	return 0;
}

/* mov $nr, %eax; syscall; ret */
static void patch(uint64_t at, uint32_t nr)
{
	const uint8_t code[PATCH_BYTES] = {0xb8, (uint8_t)nr, (uint8_t)(nr >> 8), 0, 0, 0x0f, 0x05, 0xc3};

	memcpy((void *)at, code, sizeof(code));
}

/* The dynamic table's entry, as an address. */
static uint64_t entry(const Elf64_Dyn *d, int64_t tag, uint64_t base)
{
	for (; d->d_tag != DT_NULL; d++)
		if (d->d_tag == tag)
			return d->d_un.d_ptr < base ? d->d_un.d_ptr + base : d->d_un.d_ptr;
	return 0;
}

static void patch_all(uint64_t base, const Elf64_Sym *symbols, uint32_t n, const char *strings)
{
	for (uint32_t i = 0; i < n; i++) {
		const char *symbol = strings + symbols[i].st_name;

		for (unsigned int k = 0; k < sizeof(functions) / sizeof(*functions); k++)
			if (symbols[i].st_value && symbols[i].st_size >= PATCH_BYTES && strlen(symbol) == strlen(functions[k].name) &&
			    !memcmp(symbol, functions[k].name, strlen(symbol)))
				patch(base + symbols[i].st_value, functions[k].nr);
	}
}

void forward_vdso_off(void)
{
	static const char failed[] = "the time that the policy says cannot be told: the kernel's vDSO cannot be changed";
	const uint64_t base = find_vdso();
	const Elf64_Ehdr *elf = (const Elf64_Ehdr *)base;
	const Elf64_Phdr *ph;
	const Elf64_Dyn *dynamic = NULL;
	uint64_t end = 0, hash;
	static bool done;

	if (!base || done) /* without a vDSO all is well */
		return;
	done = true;
	ph = (const Elf64_Phdr *)(base + elf->e_phoff);
	for (int i = 0; i < elf->e_phnum; i++) {
		if (ph[i].p_type == PT_DYNAMIC)
			dynamic = (const Elf64_Dyn *)(base + ph[i].p_offset);
		if (ph[i].p_type == PT_LOAD)
			end = ph[i].p_offset + ph[i].p_memsz;
	}
	hash = dynamic ? entry(dynamic, DT_HASH, base) : 0;
	end = (end + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1);
	if (!hash || !end || raw3(__NR_mprotect, base, end, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		forward_say(failed, "");
		return;
	}
	/* The second word of a DT_HASH table is the number of symbols. */
	patch_all(base, (const Elf64_Sym *)entry(dynamic, DT_SYMTAB, base),
		  ((const uint32_t *)hash)[1] < SYMBOLS_MAX ? ((const uint32_t *)hash)[1] : SYMBOLS_MAX, (const char *)entry(dynamic, DT_STRTAB, base));
	raw3(__NR_mprotect, base, end, PROT_READ | PROT_EXEC);
}

/* --- calls -------------------------------------------------------------------------------------------------------------------- */

void forward_clock_start(int64_t value_ns, bool set)
{
	struct __kernel_timespec now = {0};

	if (set)
		raw2(__NR_clock_gettime, CLOCK_REALTIME, &now);
	offset_ns = value_ns - (now.tv_sec * NS_PER_SEC + now.tv_nsec);
}

/* Adds to a time.  Numbers are of the program's: none of them may overflow. */
static void add(struct __kernel_timespec *t, int64_t ns)
{
	int64_t sum = t->tv_nsec + ns % NS_PER_SEC;

	if (t->tv_nsec < 0 || t->tv_nsec >= NS_PER_SEC || t->tv_sec < 0 || t->tv_sec > INT64_MAX / 4)
		return;
	t->tv_sec += ns / NS_PER_SEC;
	t->tv_sec += sum < 0 ? -1 : sum >= NS_PER_SEC;
	t->tv_nsec = sum < 0 ? sum + NS_PER_SEC : sum >= NS_PER_SEC ? sum - NS_PER_SEC : sum;
}

static bool is_of_day(uint64_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI || clock == CLOCK_REALTIME_ALARM;
}

static int64_t tell(const struct intercept_call *call)
{
	struct __kernel_timespec t;
	const int64_t rc = raw2(__NR_clock_gettime, call->nr == __NR_clock_gettime ? call->arg[0] : CLOCK_REALTIME, &t);
	struct timeval v;

	if (rc)
		return rc;
	add(&t, offset_ns);
	switch (call->nr) {
	case __NR_clock_gettime: return intercept_store(call->arg[1], &t, sizeof(t)) ? -EFAULT : 0;
	case __NR_gettimeofday:
		v = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
		if (call->arg[1] && raw2(__NR_gettimeofday, 0, call->arg[1])) /* the time zone */
			return -EFAULT;
		return call->arg[0] && intercept_store(call->arg[0], &v, sizeof(v)) ? -EFAULT : 0;
	default:
		v.tv_sec = t.tv_sec;
		return call->arg[0] && intercept_store(call->arg[0], &v.tv_sec, sizeof(v.tv_sec)) ? -EFAULT : t.tv_sec;
	}
}

/* A call that waits until a time of day, which argument @at leads to. */
static int64_t wait(const struct intercept_call *call, int at)
{
	uint64_t arg[6];
	struct __kernel_timespec t;

	if (intercept_fetch(&t, call->arg[at], sizeof(t)))
		return -EFAULT;
	add(&t, -offset_ns);
	memcpy(arg, call->arg, sizeof(arg));
	arg[at] = (uint64_t)&t;
	return intercept_raw(call->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

bool forward_clock_call(struct intercept_call *call, int64_t *result)
{
	switch (call->nr) {
	case __NR_clock_gettime:
		if (!is_of_day(call->arg[0]))
			return false; /* fall through */
	case __NR_gettimeofday:
	case __NR_time: *result = tell(call); return true;
	case __NR_clock_nanosleep:
		if (!is_of_day(call->arg[0]) || !(call->arg[1] & TIMER_ABSTIME))
			return false;
		*result = wait(call, 2);
		return true;
	case __NR_futex:
		if (!(call->arg[1] & FUTEX_CLOCK_REALTIME) || !call->arg[3])
			return false;
		*result = wait(call, 3);
		return true;
	default: return false;
	}
}
