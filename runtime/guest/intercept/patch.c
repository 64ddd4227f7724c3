/* patch.c - places that trap often become jumps
 *
 * Theory of operation
 *
 * A trap is two microseconds, a jump to intercept_jump_entry a few nanoseconds.  Processes make nearly all of their
 * calls from a few dozen places, so places are counted and changed when they are hot, one at a time, never by scanning
 * text for bytes that look like a system call.  Three shapes are known; five bytes become `jmp rel32`:
 *
 *   mov $nr,%eax ; syscall              the mov; the syscall stays, for whoever jumps to it
 *   mov $nr,%rax ; syscall              its first five bytes, likewise (return from a handler)
 *   syscall ; cmp $-4096,%rax          the syscall and three bytes of the cmp, which the stub then does; only while there
 *                                       is one thread, as one that is in the call would come back into the jump; and only
 *                                       in the C library, which is known not to jump to such a cmp
 *
 * A place is changed in a private mapping of a file that is readable and executable, by making its pages writable for
 * a moment: private copies of theirs.  With other threads only if the five bytes lie in one aligned word of eight, which one
 * store changes: a thread sees the old instruction or the new one.  All other places go on trapping.
 *
 * The stubs lie within two gigabytes of the place, in an area of read-only code that is the same for all, with a table of
 * what differs behind it:
 *
 *   enter:  lea entry(%rip),%r11 ; mov next(%r11),%rcx ; [mov nr(%r11),%eax] ; jmp *to(%r11)     to: intercept_jump_entry
 *   back:   cmp $-4096,%rax ; jmp *(entry.place)                                                 for the third shape
 *
 * One thread patches at a time; another one that comes meanwhile goes on without.
 *
 * Changing a place takes as long as dozens of traps (the mappings are read, a page of text is copied).  A forked child that
 * lives for a few calls would pay that for each place that its parent has left nearly hot, so its first traps do not count.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <string.h>

#include "runtime/guest/intercept/internal.h"

#define NPLACES 1024u /* counted; a power of two */
#define HOT 4u
#define CHILD_QUIET 32u /* traps of a forked child that do not count */
#define NAREAS 8u
#define NENTRIES 256u
#define STUB_BYTES 64u
#define CODE_BYTES (NENTRIES * STUB_BYTES)
#define DATA_BYTES (NENTRIES * sizeof(struct entry))
#define AREA_BYTES (CODE_BYTES + DATA_BYTES)
#define REACH (INT64_C(1) << 31)
#define PAGE UINT64_C(4096)

struct entry {
	uint64_t next;	/* 0: goes into rcx: behind the place, or the stub's second half */
	uint64_t to;	/* 8: intercept_jump_entry */
	uint64_t place; /* 16: behind the cmp */
	uint32_t nr;	/* 24 */
	uint32_t zero;
};

struct area {
	uint64_t code;
	uint32_t used;
};

static struct {
	uint64_t pc;
	uint32_t hits;
} places[NPLACES];
static struct area areas[NAREAS];
static uint32_t busy, quiet;

/* --- /proc/self/maps, a line at a time ---------------------------------------------------------------------------- */

struct reader {
	int fd;
	uint32_t at, have;
	char buf[512];
};

struct line {
	uint64_t start, end, inode;
	char perms[4];
	bool libc;
};

static int next_byte(struct reader *r)
{
	if (r->at == r->have) {
		const int64_t got = raw3(__NR_read, r->fd, r->buf, sizeof(r->buf));

		if (got <= 0)
			return -1;
		r->at = 0;
		r->have = (uint32_t)got;
	}
	return (unsigned char)r->buf[r->at++];
}

/* A number and the byte behind it. */
static uint64_t number(struct reader *r, unsigned int base, int *end)
{
	uint64_t n = 0;

	for (;;) {
		const int c = next_byte(r);
		const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' && base == 16 ? c - 'a' + 10 : -1;

		if (digit < 0) {
			*end = c;
			return n;
		}
		n = n * base + (uint64_t)digit;
	}
}

static bool next_line(struct reader *r, struct line *line)
{
	static const char name[] = "/libc.so";
	uint32_t matched = 0;
	int c;

	line->start = number(r, 16, &c);
	if (c != '-')
		return false;
	line->end = number(r, 16, &c);
	for (int i = 0; i < 4; i++)
		line->perms[i] = (char)next_byte(r);
	next_byte(r);
	number(r, 16, &c); /* offset, device */
	number(r, 16, &c);
	number(r, 16, &c);
	line->inode = number(r, 10, &c);
	line->libc = false;
	while (c != '\n' && c >= 0) {
		c = next_byte(r);
		matched = c == name[matched] ? matched + 1 : c == name[0];
		if (matched == sizeof(name) - 1) {
			line->libc = true;
			matched = 0;
		}
	}
	return true;
}

static int maps_open(struct reader *r)
{
	*r = (struct reader){.fd = (int)raw4(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0)};
	return r->fd < 0 ? r->fd : 0;
}

/* The mapping of [start, end), if it is one whose text may be changed. */
static bool text_there(uint64_t start, uint64_t end, struct line *line)
{
	struct reader r;
	bool found = false;

	if (maps_open(&r))
		return false;
	while (!found && next_line(&r, line))
		found = line->start <= start && end <= line->end;
	raw2(__NR_close, r.fd, 0);
	return found && line->inode && line->perms[0] == 'r' && line->perms[1] == '-' && line->perms[2] == 'x' && line->perms[3] == 'p';
}

/* --- stubs -------------------------------------------------------------------------------------------------------- */

static uint8_t *put32(uint8_t *at, int64_t value)
{
	const int32_t v = (int32_t)value;

	memcpy(at, &v, sizeof(v));
	return at + sizeof(v);
}

/* Writes the code of an area: nothing in it depends on a place but distances. */
static void write_code(uint8_t *code)
{
	for (uint32_t i = 0; i < NENTRIES; i++) {
		uint8_t *at = code + i * STUB_BYTES;
		const uint8_t *const entry = code + CODE_BYTES + i * sizeof(struct entry);

		/* +0, with the number: lea entry(%rip),%r11; mov 24(%r11),%eax; mov (%r11),%rcx; jmp *8(%r11) */
		memcpy(at, "\x4c\x8d\x1d", 3);
		put32(at + 3, entry - (at + 7));
		memcpy(at + 7, "\x41\x8b\x43\x18\x49\x8b\x0b\x41\xff\x63\x08", 11);
		/* +20, without */
		memcpy(at + 20, "\x4c\x8d\x1d", 3);
		put32(at + 23, entry - (at + 27));
		memcpy(at + 27, "\x49\x8b\x0b\x41\xff\x63\x08", 7);
		/* +40: cmp $-4096,%rax; jmp *16(entry) */
		memcpy(at + 40, "\x48\x3d\x00\xf0\xff\xff\xff\x25", 8);
		put32(at + 48, entry + 16 - (at + 52));
	}
}

static bool near(uint64_t a, uint64_t b)
{
	const int64_t d = (int64_t)(a - b);

	return d > -REACH + (int64_t)AREA_BYTES && d < REACH - (int64_t)AREA_BYTES;
}

/* Maps an area in a hole near @pc: the first one below it that is large enough, or above. */
static uint64_t map_area(uint64_t pc)
{
	struct reader r;
	struct line line;
	uint64_t end = PAGE * 16, best = 0;
	int64_t got;

	if (maps_open(&r))
		return 0;
	while (next_line(&r, &line)) {
		if (line.start >= end + AREA_BYTES + 2 * PAGE && near(line.start - AREA_BYTES - PAGE, pc)) {
			best = line.start - AREA_BYTES - PAGE;
			if (line.start > pc)
				break;
		}
		end = line.end;
	}
	raw2(__NR_close, r.fd, 0);
	if (!best)
		return 0;
	got = raw6(__NR_mmap, best, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got < 0)
		return 0;
	write_code((uint8_t *)got);
	if (raw3(__NR_mprotect, got, CODE_BYTES, PROT_READ | PROT_EXEC)) {
		raw2(__NR_munmap, got, AREA_BYTES);
		return 0;
	}
	return (uint64_t)got;
}

/* A free stub near @pc.  Return: its entry; *@stub where its code is. */
static struct entry *take_stub(uint64_t pc, uint64_t *stub)
{
	for (unsigned int i = 0; i < NAREAS; i++) {
		struct area *a = &areas[i];

		if (!a->code)
			a->code = map_area(pc);
		if (!a->code)
			return NULL;
		if (a->used < NENTRIES && near(a->code, pc)) {
			*stub = a->code + a->used * STUB_BYTES;
			return (struct entry *)(a->code + CODE_BYTES) + a->used++;
		}
	}
	return NULL;
}

/* --- a place ------------------------------------------------------------------------------------------------------ */

enum shape { SHAPE_NONE, SHAPE_MOV, SHAPE_MOV_LONG, SHAPE_CMP };

static enum shape shape_of(uint64_t pc, uint32_t nr)
{
	const uint8_t *p = (const uint8_t *)pc;
	uint32_t imm;

	memcpy(&imm, p - 6, sizeof(imm));
	if (p[-7] == 0xb8 && imm == nr)
		return SHAPE_MOV;
	if (p[-9] == 0x48 && p[-8] == 0xc7 && p[-7] == 0xc0 && imm == nr)
		return SHAPE_MOV_LONG;
	return SHAPE_NONE;
}

static bool write_jump(uint64_t place, uint64_t stub)
{
	const uint64_t page = place & ~(PAGE - 1), bytes = ((place + 5 + PAGE - 1) & ~(PAGE - 1)) - page;
	const uint64_t word = place & ~UINT64_C(7);
	const bool alone = !clone_threads();
	uint8_t jump[5] = {0xe9}, now[8];
	uint64_t value;

	if (!alone && place - word > 3)
		return false;
	put32(jump + 1, (int64_t)(stub - (place + 5)));
	if (raw3(__NR_mprotect, page, bytes, PROT_READ | PROT_WRITE | PROT_EXEC))
		return false;
	if (place - word <= 3) {
		memcpy(now, (const void *)word, sizeof(now));
		memcpy(now + (place - word), jump, sizeof(jump));
		memcpy(&value, now, sizeof(value));
		__atomic_store_n((uint64_t *)word, value, __ATOMIC_RELEASE);
	} else {
		memcpy((void *)place, jump, sizeof(jump));
	}
	raw3(__NR_mprotect, page, bytes, PROT_READ | PROT_EXEC);
	return true;
}

/* Return: where the call that has trapped goes on: behind its place, or in the stub if that is a jump now. */
static uint64_t patch(uint64_t pc, uint32_t nr)
{
	static const uint8_t cmp[6] = {0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff};
	struct line line;
	enum shape shape;
	struct entry *e;
	uint64_t stub, place;

	if (!text_there(pc - 9, pc + sizeof(cmp), &line))
		return pc;
	shape = shape_of(pc, nr);
	if (shape == SHAPE_NONE && line.libc && !clone_threads() && !memcmp((const void *)pc, cmp, sizeof(cmp)))
		shape = SHAPE_CMP;
	if (shape == SHAPE_NONE)
		return pc;
	e = take_stub(pc, &stub);
	if (!e)
		return pc;
	*e = (struct entry){.next = pc, .to = (uint64_t)intercept_jump_entry, .nr = nr};
	place = shape == SHAPE_MOV ? pc - 7 : shape == SHAPE_MOV_LONG ? pc - 9 : pc - 2;
	if (shape == SHAPE_CMP) {
		e->next = stub + 40;
		e->place = pc + sizeof(cmp);
		stub += 20;
	}
	if (!write_jump(place, stub))
		return pc;
	__atomic_fetch_add(&intercept_counts.patched, 1, __ATOMIC_RELAXED);
	return e->next;
}

void patch_note(struct intercept_call *call)
{
	const uint64_t pc = call->pc;
	uint32_t at = (uint32_t)((pc * UINT64_C(0x9e3779b97f4a7c15)) >> 54), idle = 0;
	const uint32_t first = at;
	uint32_t left;
	const uint64_t all = ALL_SIGNALS;
	uint64_t mask;

	left = __atomic_load_n(&quiet, __ATOMIC_RELAXED);
	if (left) {
		__atomic_store_n(&quiet, left - 1, __ATOMIC_RELAXED); /* threads may take the same step */
		return;
	}
	while (places[at].pc != pc) {
		uint64_t none = 0;

		if (__atomic_compare_exchange_n(&places[at].pc, &none, pc, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			break;
		at = (at + 1) & (NPLACES - 1);
		if (at == first)
			return;
	}
	if (__atomic_add_fetch(&places[at].hits, 1, __ATOMIC_RELAXED) != HOT)
		return;
	if (call->nr > UINT32_MAX || !__atomic_compare_exchange_n(&busy, &idle, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &all, &mask, sizeof(mask)); /* a handler might leave and never come back */
	call->pc = patch(pc, (uint32_t)call->nr);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &mask, 0, sizeof(mask));
	__atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

void patch_child(void)
{
	__atomic_store_n(&quiet, CHILD_QUIET, __ATOMIC_RELAXED);
	__atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}
