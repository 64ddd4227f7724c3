/* emulate.c - answers that the guest's policy gives in place of a kernel: values, names, processors, files; time is in clock.c
 *
 * What is answered is put into the program's memory by intercept_store(), so that a bad pointer is EFAULT as ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>

#include "runtime/guest/forward/policy.h"

#define MFD_CLOEXEC_ 1
#define CPUS_MAX 1024

/* Files that tell the number of processors: get_nprocs(3) and the like read the first. */
static const char *const cpu_files[] = {"/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/present"};

static bool opens(uint64_t nr)
{
	return nr == __NR_open || nr == __NR_openat || nr == __NR_openat2;
}

static bool about_time(uint64_t nr)
{
	return nr == __NR_clock_gettime || nr == __NR_gettimeofday || nr == __NR_time || nr == __NR_clock_nanosleep || nr == __NR_futex;
}

bool forward_emulate_about(const struct policy_text_rule *r, uint64_t nr)
{
	const struct forward_rule *rule = forward_rule(nr);

	switch (r->what) {
	case POLICY_TEXT_VALUE_OF: return policy_text_has(r, nr);
	case POLICY_TEXT_UNAME: return nr == __NR_uname;
	case POLICY_TEXT_CPUS: return nr == __NR_sched_getaffinity || opens(nr);
	case POLICY_TEXT_CLOCK: return about_time(nr);
	case POLICY_TEXT_FILE: return r->to ? (rule->kind >= FORWARD_PATH && rule->kind <= FORWARD_ATS) || nr == __NR_execve : opens(nr);
	default: return false;
	}
}

bool forward_emulate_names(const struct policy_text_rule *r)
{
	return r->what == POLICY_TEXT_CPUS || r->what == POLICY_TEXT_FILE;
}

/* --- files ------------------------------------------------------------------------------------------------------------------- */

static uint64_t open_flags(const struct intercept_call *call)
{
	uint64_t flags = 0;

	if (call->nr == __NR_open)
		return call->arg[1];
	if (call->nr == __NR_openat)
		return call->arg[2];
	return intercept_fetch(&flags, call->arg[2], sizeof(flags)) ? 0 : flags;
}

/* A file in memory with this in it. */
static int64_t made(const struct intercept_call *call, const char *text, size_t bytes)
{
	const uint64_t flags = open_flags(call);
	int64_t fd;

	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	fd = raw2(__NR_memfd_create, "emulated", flags & O_CLOEXEC ? MFD_CLOEXEC_ : 0);
	if (fd >= 0 && (raw3(__NR_write, fd, text, bytes) != (int64_t)bytes || raw3(__NR_lseek, fd, 0, 0))) {
		raw1(__NR_close, fd);
		fd = -ENOSPC;
	}
	return fd;
}

static bool file(const struct policy_text_rule *r, struct intercept_call *call, const char *path, int64_t *result)
{
	char text[POLICY_TEXT_VALUE + 1];
	const struct forward_rule *rule = forward_rule(call->nr);
	const size_t n = r->text ? strlen(r->text) : 0;

	if (strlen(path) != strlen(r->path) || memcmp(path, r->path, strlen(path)))
		return false;
	if (!r->to) {
		memcpy(text, r->text, n);
		text[n] = '\n';
		*result = made(call, text, n + 1);
		return true;
	}
	/* Another path, of ours: what is asked then goes on, and this rule is not about that path. */
	call->arg[call->nr == __NR_execve ? 0 : rule->kind >= FORWARD_AT ? rule->a + 1 : rule->a] = (uint64_t)r->to;
	return false;
}

/* --- processors ----------------------------------------------------------------------------------------------------------------- */

static char *put_number(char *at, uint64_t n)
{
	char digits[24];
	int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		*at++ = digits[--i];
	return at;
}

static bool cpus(const struct policy_text_rule *r, struct intercept_call *call, const char *path, int64_t *result)
{
	const uint64_t n = (uint64_t)r->value, bytes = (n + 63) / 64 * 8;
	uint64_t mask[CPUS_MAX / 64] = {0};
	char text[32] = "0";

	if (call->nr == __NR_sched_getaffinity) {
		for (uint64_t i = 0; i < n; i++)
			mask[i / 64] |= UINT64_C(1) << (i % 64);
		*result = call->arg[1] < bytes || call->arg[1] % 8 ? -EINVAL : intercept_store(call->arg[2], mask, bytes) ? -EFAULT : (int64_t)bytes;
		return true;
	}
	for (unsigned int i = 0; i < sizeof(cpu_files) / sizeof(*cpu_files); i++)
		if (strlen(cpu_files[i]) == strlen(path) && !memcmp(cpu_files[i], path, strlen(path))) {
			char *at = text + 1;

			if (n > 1) {
				*at++ = '-';
				at = put_number(at, n - 1);
			}
			*at++ = '\n';
			*result = made(call, text, (size_t)(at - text));
			return true;
		}
	return false;
}

/* --- names ------------------------------------------------------------------------------------------------------------------------ */

static int64_t name(const struct policy_text_rule *r, const struct intercept_call *call)
{
	struct utsname u;
	char *const fields[POLICY_TEXT_NAMES] = {u.sysname, u.nodename, u.release, u.version, u.machine};
	const int64_t rc = raw1(__NR_uname, &u);

	if (rc)
		return rc;
	for (int i = 0; i < POLICY_TEXT_NAMES; i++)
		if (r->names[i])
			memcpy(fields[i], r->names[i], strlen(r->names[i]) + 1); /* at most 64, and the field has 65 */
	return intercept_store(call->arg[0], &u, sizeof(u)) ? -EFAULT : 0;
}

bool forward_emulate(const struct policy_text_rule *r, struct intercept_call *call, const char *path, int64_t *result)
{
	switch (r->what) {
	case POLICY_TEXT_VALUE_OF: *result = r->value; return true;
	case POLICY_TEXT_UNAME: *result = name(r, call); return true;
	case POLICY_TEXT_CPUS: return cpus(r, call, path, result);
	case POLICY_TEXT_CLOCK: return forward_clock_call(call, result);
	case POLICY_TEXT_FILE: return file(r, call, path, result);
	default: return false;
	}
}
