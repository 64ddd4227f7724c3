/* stacks.c - programs whose own stacks are too small to be borrowed
 *
 * A call under way borrows the stack of the thread that makes it (entry.S), some kilobytes of it.  Go gives each of its goroutines
 * a stack of two, makes system calls on them by instructions of its own, and knows how far down each of its functions goes.  So in
 * a program that Go has built (it has a note that says so) a trap goes on on a stack that is the thread's here, found by its number:
 * intercept_entry_small, which comes back to the program's own.  Handlers of Go run on an alternate stack, which is large
 * enough for the calls that they make; and a thread is made on a large one, by a call that must be made there.
 *
 * A thread's stack is another one's when the kernel knows the thread no more.  No place is patched in such programs, as a jump comes
 * with the stack that there is.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/auxvec.h>
#include <linux/mman.h>
#include <string.h>

#include "runtime/guest/intercept/internal.h"

#define STACK_BYTES (UINT64_C(64) << 10)
#define TABLE 8192u
#define PROBES 128u
#define NOTES_MAX 1024u

bool stacks_small;
static struct {
	uint32_t tid; /* 0: no entry */
	uint64_t top; /* 0: being made */
} stacks[TABLE];

static uint64_t make(void)
{
	const int64_t at = raw6(__NR_mmap, 0, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	return at < 0 ? 0 : (uint64_t)at + STACK_BYTES;
}

uint64_t stacks_top(void)
{
	const uint32_t tid = (uint32_t)raw0(__NR_gettid);
	const int64_t pid = raw0(__NR_getpid);

	for (uint32_t i = 0; i < PROBES; i++)
		if (__atomic_load_n(&stacks[(tid + i) % TABLE].tid, __ATOMIC_RELAXED) == tid)
			return stacks[(tid + i) % TABLE].top;
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (tid + i) % TABLE, had = __atomic_load_n(&stacks[at].tid, __ATOMIC_RELAXED);

		if (had && (!stacks[at].top || raw3(__NR_tgkill, pid, had, 0) != -ESRCH))
			continue;
		if (!__atomic_compare_exchange_n(&stacks[at].tid, &had, tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		if (!stacks[at].top)
			stacks[at].top = make();
		return stacks[at].top;
	}
	return 0;
}

static bool has_go_note(const Elf64_Phdr *note, uint64_t base)
{
	uint64_t left = note->p_memsz < NOTES_MAX ? note->p_memsz : NOTES_MAX;
	char text[NOTES_MAX] __attribute__((aligned(8))), *at = text;

	if (intercept_fetch(text, base + note->p_vaddr, left))
		return false;
	while (left >= sizeof(Elf64_Nhdr)) {
		const Elf64_Nhdr *n = (const Elf64_Nhdr *)at;
		const uint64_t name = (n->n_namesz + 3u) & ~3u, bytes = sizeof(*n) + name + ((n->n_descsz + 3u) & ~3u);

		if (n->n_namesz == 4 && left >= sizeof(*n) + 4 && !memcmp(at + sizeof(*n), "Go\0", 4))
			return true;
		if (n->n_namesz > left || n->n_descsz > left || bytes > left)
			return false;
		at += bytes;
		left -= bytes;
	}
	return false;
}

void stacks_start(void)
{
	const int64_t fd = raw4(__NR_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY | O_CLOEXEC, 0);
	uint64_t pair[64][2], phdrs = 0, nphdrs = 0, base = 0;
	bool found = false;
	int64_t n;

	if (fd < 0)
		return;
	n = raw3(__NR_read, fd, pair, sizeof(pair));
	raw2(__NR_close, fd, 0);
	for (int64_t i = 0; i < n / 16; i++) {
		phdrs = pair[i][0] == AT_PHDR ? pair[i][1] : phdrs;
		nphdrs = pair[i][0] == AT_PHNUM ? pair[i][1] : nphdrs;
	}
	if (!phdrs || nphdrs > 64)
		return;
	for (uint64_t i = 0; i < nphdrs; i++) { /* the headers of the program follow that of the file, if they do not say where they are */
		const Elf64_Phdr *p = (const Elf64_Phdr *)phdrs + i;

		if (p->p_type == PT_PHDR || (p->p_type == PT_LOAD && !p->p_offset && !found))
			base = phdrs - (p->p_type == PT_PHDR ? p->p_vaddr : p->p_vaddr + sizeof(Elf64_Ehdr));
		found = found || p->p_type == PT_PHDR;
	}
	for (uint64_t i = 0; i < nphdrs && !stacks_small; i++)
		if (((const Elf64_Phdr *)phdrs)[i].p_type == PT_NOTE)
			stacks_small = has_go_note((const Elf64_Phdr *)phdrs + i, base);
}
