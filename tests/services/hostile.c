/* hostile.c - a service for tests: plays a shadow that somebody has taken over
 *
 * It makes any system call with any arguments, by an instruction of its own and in the middle of a step: nothing of the
 * capsule stands between it and the kernel.
 */
#include <asm/unistd.h>

#include "runtime/shadow/service.h"
#include "runtime/shadow/sys.h"
#include "tests/services/hostile.h"

#define PAGE 4096u
#define GRAB_STEP (UINT64_C(1) << 20)
#define THREAD_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000) /* as the capsule's: VM FS FILES SIGHAND THREAD SYSVSEM */
#define ANON (SYS_MAP_PRIVATE | SYS_MAP_ANONYMOUS | SYS_MAP_NORESERVE)

static struct hostile_request request;
static struct hostile_answer answer;

static uint64_t argument(uint64_t word)
{
	return word >> 48 == HOSTILE_BUFFER >> 48 ? (uint64_t)request.bytes + (word & 0xffff) : word;
}

static int64_t make(const struct hostile_call *c)
{
	uint64_t a[6];

	for (int i = 0; i < 6; i++)
		a[i] = argument(c->args[i]);
	return sys6(c->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int64_t grab(uint64_t bytes)
{
	uint64_t done = 0;

	while (done < bytes) {
		long at = sys(mmap, 0, GRAB_STEP, SYS_PROT_READ | SYS_PROT_WRITE, ANON, -1, 0);

		if (sys_failed(at))
			return at;
		for (uint64_t i = 0; i < GRAB_STEP; i += PAGE)
			*(volatile uint8_t *)(at + (long)i) = 1;
		done += GRAB_STEP;
	}
	return (int64_t)done;
}

/* A thread that does nothing for ever; its stack is never used. */
static long thread(void)
{
	long ret;
	register uint64_t r10 __asm__("r10") = 0;
	register uint64_t r8 __asm__("r8") = 0;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 2f\n"
			 "1:	pause\n\t"
			 "mov $24, %%eax\n\t" /* sched_yield */
			 "syscall\n\t"
			 "jmp 1b\n"
			 "2:"
			 : "=a"(ret)
			 : "0"(__NR_clone), "D"(THREAD_FLAGS), "S"(request.bytes + HOSTILE_BYTES), "d"(0), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

static void sweep(void)
{
	for (uint32_t i = 0; i < HOSTILE_CALLS_MAX; i++) {
		const uint64_t nr = (uint64_t)request.call[0].nr + i, all = UINT64_MAX;

		answer.result[i] = nr < 1024 && request.skip[nr / 64] >> nr % 64 & 1 ? 0 : sys6((long)nr, all, all, all, all, all, all);
	}
}

static void act(void)
{
	const struct hostile_call *c = request.call;
	long ret;

	switch (request.op) {
	case HOSTILE_CALLS:
		for (uint32_t i = 0; i < request.ncalls && i < HOSTILE_CALLS_MAX; i++)
			answer.result[i] = make(&c[i]);
		break;
	case HOSTILE_SWEEP: sweep(); break;
	case HOSTILE_PEEK: answer.result[0] = shadow_fetch(&answer.bytes, c->args[0], 8); break;
	case HOSTILE_POKE: answer.result[0] = shadow_store(c->args[0], &c->args[1], 8); break;
	case HOSTILE_INT80:
		__asm__ volatile("int $0x80" : "=a"(ret) : "0"(20 /* getpid */) : "memory", "r8", "r9", "r10", "r11");
		answer.result[0] = ret;
		break;
	case HOSTILE_GRAB: answer.result[0] = grab(c->args[0]); break;
	case HOSTILE_THREADS:
		while ((ret = thread()) > 0)
			answer.result[1]++;
		answer.result[0] = ret;
		break;
	case HOSTILE_FLOOD:
		for (uint32_t i = 0; i < request.ncalls; i++)
			answer.result[0] += make(c) != -1;
		break;
	default:
		answer.result[0] = make(c);
		for (;;)
			__builtin_ia32_pause();
	}
}

static enum shadow_next step(struct shadow_exec *x, const struct shadow_event *ev)
{
	memset(&answer, 0, sizeof(answer));
	if (ev->payload_bytes == sizeof(request)) {
		memcpy(&request, ev->payload, sizeof(request));
		act();
		if (request.op != HOSTILE_PEEK)
			memcpy(answer.bytes, request.bytes, sizeof(answer.bytes));
	}
	shadow_reply(x, &answer, sizeof(answer));
	return SHADOW_WAIT;
}

const struct shadow_service shadow_service = {.name = "hostile", .step = step};
