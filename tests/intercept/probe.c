/* probe.c - a library that intercepts everything, changes nothing and counts; for tests
 *
 * The environment tells: DS_PROBE=path of this library, DS_PROBE_LOG=file to which each process appends a line when it ends
 * by exit_group(): "traps jumps patched", and one for each program started that this library will not be in: "unreached WHY";
 * DS_PROBE_ANSWER=N: the hook answers call N with 4242; DS_PROBE_REFUSE=1: such a program is not started (EACCES); DS_PROBE_PATCH=0: no patching; DS_PROBE_PROVE=1: the kernel kills
 * whoever makes a call from anywhere else than the exempt range, which proves that none gets by (not over exec: the range lies
 * elsewhere then); DS_PROBE_TRACE=file: which calls the hook was asked about, as pairs of two 32-bit numbers, thread and call,
 * the first pair the count of pairs, up to TRACE_PAIRS of them; shared by all processes, so their order is the order of the calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>

#include "runtime/guest/intercept/internal.h"

#define TRACE_PAIRS (1u << 21)

struct pair {
	uint32_t tid, nr;
};

static char preload[512], log_path[512], trace_path[512], patch_setting[32];
static char *settings[5];
static struct pair *trace;
static bool refuse;
static uint64_t answered = UINT64_MAX - 1; /* of no call that anybody makes */

static char *append(char *at, uint64_t n)
{
	char digits[20];
	int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		*at++ = digits[--i];
	*at++ = ' ';
	return at;
}

static void log_line(const char *line, uint64_t bytes)
{
	int64_t fd = raw4(__NR_openat, AT_FDCWD, log_path + 13, O_WRONLY | O_CREAT | O_APPEND, 0600);

	raw3(__NR_write, fd, line, bytes);
	raw2(__NR_close, fd, 0);
}

static int64_t unreached(const struct intercept_call *call, enum intercept_reach why)
{
	static const char *const names[] = {
		[INTERCEPT_STATIC] = "unreached static\n", [INTERCEPT_SETUID] = "unreached setuid\n", [INTERCEPT_FOREIGN] = "unreached foreign\n"};

	(void)call;
	if (log_path[13])
		log_line(names[why], strlen(names[why]));
	return refuse ? -EACCES : 0;
}

static bool hook(struct intercept_call *call, int64_t *result)
{
	if (trace) {
		const uint64_t at = __atomic_add_fetch((uint64_t *)trace, 1, __ATOMIC_RELAXED);

		if (at < TRACE_PAIRS)
			trace[at] = (struct pair){(uint32_t)raw0(__NR_gettid), (uint32_t)call->nr};
	}
	if (call->nr == answered) {
		*result = 4242;
		return true;
	}
	if (call->nr == __NR_exit_group && log_path[13]) {
		struct intercept_stats stats;
		char line[80], *at = line;

		intercept_stats(&stats);
		at = append(append(append(at, stats.traps), stats.jumps), stats.patched);
		at[-1] = '\n';
		log_line(line, (uint64_t)(at - line));
	}
	return false;
}

/* seccomp_data.instruction_pointer is behind the syscall instruction.  Ranges within 4 GiB blocks only: one page is. */
static int64_t prove(void)
{
	const uint64_t start = (uint64_t)intercept_exempt_start, end = (uint64_t)intercept_exempt_end;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(start >> 32), 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)start, 0, 1),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)end, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {sizeof(filter) / sizeof(*filter), filter};

	raw6(__NR_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0, 0);
	return raw3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

static void open_trace(const char *path)
{
	const uint64_t bytes = TRACE_PAIRS * sizeof(struct pair);
	const int64_t fd = raw4(__NR_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int64_t at;

	raw2(__NR_ftruncate, fd, bytes);
	at = raw6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	raw2(__NR_close, fd, 0);
	trace = at < 0 ? NULL : (struct pair *)at;
}

static void take(char *to, size_t bytes, const char *from)
{
	if (strlen(from) < bytes)
		memcpy(to, from, strlen(from) + 1);
}

__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	struct intercept_config config = {.hook = hook, .patch = true, .unreached = unreached};
	int n = 0;
	bool proof = false;

	(void)argc;
	(void)argv;
	for (envp = intercept_environment(envp); *envp; envp++) {
		if (!strncmp(*envp, "DS_PROBE=", 9)) {
			take(preload, sizeof(preload), *envp);
			settings[n++] = preload;
			config.preload = preload + 9;
		} else if (!strncmp(*envp, "DS_PROBE_LOG=", 13)) {
			take(log_path, sizeof(log_path), *envp);
			settings[n++] = log_path;
		} else if (!strncmp(*envp, "DS_PROBE_TRACE=", 15)) {
			take(trace_path, sizeof(trace_path), *envp);
			settings[n++] = trace_path;
			open_trace(trace_path + 15);
		} else if (!strncmp(*envp, "DS_PROBE_PATCH=", 15)) {
			take(patch_setting, sizeof(patch_setting), *envp);
			settings[n++] = patch_setting;
			config.patch = patch_setting[15] != '0';
		} else if (!strncmp(*envp, "DS_PROBE_ANSWER=", 16)) {
			answered = 0;
			for (const char *at = *envp + 16; *at; at++)
				answered = answered * 10 + (uint64_t)(*at - '0');
		} else if (!strncmp(*envp, "DS_PROBE_REFUSE=1", 17)) {
			refuse = true;
		} else if (!strncmp(*envp, "DS_PROBE_PROVE=1", 16)) {
			proof = true;
		}
	}
	config.env = (const char *const *)settings;
	if (intercept_start(&config) || (proof && prove())) {
		static const char text[] = "probe: no interception here\n";

		raw3(__NR_write, 2, text, sizeof(text) - 1);
		raw2(__NR_exit_group, 99, 0);
	}
}
