/* load.c - see load.h */
#include "runtime/guest/monitor/load.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/cleanup.h"
#define PAGE UINT64_C(4096)
#define FILE_MAX (UINT64_C(16) << 20)
#define SYSCALL_INSN 0x050f
#define CS_64BIT 0x33
#define SYSCALL_STOP (SIGTRAP | 0x80)

/* --- the file ---------------------------------------------------------------------------------------------------------------- */

static bool within(uint64_t at, uint64_t bytes, uint64_t room)
{
	return at <= room && bytes <= room - at;
}

static int read_file(struct load_file *f, const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (st.st_size < (off_t)sizeof(Elf64_Ehdr) || (uint64_t)st.st_size > FILE_MAX)
		return -ENOEXEC;
	f->file_bytes = (size_t)st.st_size;
	f->file = malloc(f->file_bytes);
	if (!f->file)
		return -ENOMEM;
	return read(fd, f->file, f->file_bytes) == st.st_size ? 0 : -EIO;
}

static int take_segment(struct load_file *f, const Elf64_Phdr *p)
{
	const uint64_t start = p->p_vaddr & ~(PAGE - 1), end = (p->p_vaddr + p->p_memsz + PAGE - 1) & ~(PAGE - 1);

	if (f->nsegments == LOAD_SEGMENTS_MAX || !within(p->p_offset, p->p_filesz, f->file_bytes) || p->p_filesz > p->p_memsz ||
	    !within(p->p_vaddr, p->p_memsz, FILE_MAX) || end > f->image_bytes)
		return -ENOEXEC;
	memcpy(f->image + p->p_vaddr, f->file + p->p_offset, p->p_filesz);
	f->segment[f->nsegments].at = start;
	f->segment[f->nsegments].bytes = end - start;
	f->segment[f->nsegments++].prot = (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) | (p->p_flags & PF_X ? PROT_EXEC : 0);
	return 0;
}

static int take_dynamic(struct load_file *f, const Elf64_Phdr *p)
{
	const Elf64_Dyn *d = (const Elf64_Dyn *)(f->image + p->p_vaddr);

	if (!within(p->p_vaddr, p->p_memsz, f->image_bytes) || p->p_vaddr % 8)
		return -ENOEXEC;
	for (size_t i = 0; i < p->p_memsz / sizeof(*d) && d[i].d_tag != DT_NULL; i++)
		switch (d[i].d_tag) {
		case DT_RELA: f->relocations = d[i].d_un.d_ptr; break;
		case DT_RELASZ: f->relocations_bytes = d[i].d_un.d_val; break;
		case DT_SYMTAB: f->symbols = d[i].d_un.d_ptr; break;
		case DT_INIT_ARRAY: f->init = d[i].d_un.d_ptr; break;
		case DT_INIT_ARRAYSZ: f->init_bytes = d[i].d_un.d_val; break;
		case DT_NEEDED:
		case DT_JMPREL:
		case DT_INIT: return -ENOEXEC; /* nothing of the kind is linked into it */
		default: break;
		}
	if (!within(f->relocations, f->relocations_bytes, f->image_bytes) || !within(f->init, f->init_bytes, f->image_bytes))
		return -ENOEXEC;
	return 0;
}

/* By the section headers, which tell how many symbols there are. */
static int find_handle(struct load_file *f, const Elf64_Ehdr *e)
{
	if (e->e_shentsize != sizeof(Elf64_Shdr) || !within(e->e_shoff, (uint64_t)e->e_shnum * sizeof(Elf64_Shdr), f->file_bytes))
		return -ENOEXEC;
	for (unsigned int i = 0; i < e->e_shnum; i++) {
		Elf64_Shdr s, names;

		memcpy(&s, f->file + e->e_shoff + i * sizeof(s), sizeof(s));
		if (s.sh_type != SHT_DYNSYM || s.sh_link >= e->e_shnum || !within(s.sh_offset, s.sh_size, f->file_bytes))
			continue;
		memcpy(&names, f->file + e->e_shoff + s.sh_link * sizeof(names), sizeof(names));
		if (!within(names.sh_offset, names.sh_size, f->file_bytes))
			return -ENOEXEC;
		for (uint64_t k = 0; k < s.sh_size / sizeof(Elf64_Sym); k++) {
			Elf64_Sym sym;

			memcpy(&sym, f->file + s.sh_offset + k * sizeof(sym), sizeof(sym));
			if (sym.st_shndx == SHN_UNDEF || !within(sym.st_name, sizeof(INTERCEPT_HANDLE), names.sh_size) ||
			    memcmp(f->file + names.sh_offset + sym.st_name, INTERCEPT_HANDLE, sizeof(INTERCEPT_HANDLE)) != 0)
				continue;
			f->handle = sym.st_value;
			return within(f->handle, sizeof(struct intercept_handle), f->image_bytes) && f->handle % 8 == 0 ? 0 : -ENOEXEC;
		}
	}
	return -ENOEXEC;
}

int load_open(struct load_file *f, const char *path)
{
	const Elf64_Phdr *dynamic = NULL;
	Elf64_Ehdr e;
	int rc;

	*f = (struct load_file){0};
	rc = read_file(f, path);
	if (rc)
		return rc;
	memcpy(&e, f->file, sizeof(e));
	if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != EM_X86_64 || e.e_type != ET_DYN ||
	    e.e_phentsize != sizeof(Elf64_Phdr) || e.e_phoff % 8 || !within(e.e_phoff, (uint64_t)e.e_phnum * sizeof(Elf64_Phdr), f->file_bytes))
		return -ENOEXEC;
	for (unsigned int i = 0; i < e.e_phnum; i++) {
		const Elf64_Phdr *p = (const Elf64_Phdr *)(f->file + e.e_phoff) + i;

		if (p->p_type == PT_LOAD && within(p->p_vaddr, p->p_memsz, FILE_MAX) && p->p_vaddr + p->p_memsz > f->image_bytes)
			f->image_bytes = (p->p_vaddr + p->p_memsz + PAGE - 1) & ~(PAGE - 1);
	}
	f->image = calloc(1, f->image_bytes + 1);
	if (!f->image)
		return -ENOMEM;
	for (unsigned int i = 0; i < e.e_phnum && !rc; i++) {
		const Elf64_Phdr *p = (const Elf64_Phdr *)(f->file + e.e_phoff) + i;

		if (p->p_type == PT_LOAD)
			rc = take_segment(f, p);
		else if (p->p_type == PT_DYNAMIC)
			dynamic = p;
	}
	if (!rc)
		rc = dynamic ? take_dynamic(f, dynamic) : -ENOEXEC;
	return rc ? rc : find_handle(f, &e);
}

bool load_is_go(pid_t tid)
{
	cleanup_close int fd = -1;
	Elf64_Ehdr e;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &e, sizeof(e), 0) != sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	for (unsigned int i = 0; i < e.e_phnum && i < 128; i++) {
		struct {
			Elf64_Nhdr head;
			char name[4];
		} note;
		Elf64_Phdr p;

		if (pread(fd, &p, sizeof(p), (off_t)(e.e_phoff + i * sizeof(p))) != sizeof(p))
			return false;
		for (uint64_t at = 0; p.p_type == PT_NOTE && at < p.p_filesz && at < PAGE;) {
			if (pread(fd, &note, sizeof(note), (off_t)(p.p_offset + at)) != sizeof(note))
				break;
			if (note.head.n_namesz == 4 && !memcmp(note.name, "Go\0", 4))
				return true;
			at += sizeof(note.head) + ((note.head.n_namesz + UINT64_C(3)) & ~UINT64_C(3)) + ((note.head.n_descsz + UINT64_C(3)) & ~UINT64_C(3));
		}
	}
	return false;
}

/* --- the image, at its place ---------------------------------------------------------------------------------------------------- */

static int relocate(const struct load_file *f, uint8_t *image, uint64_t base)
{
	const Elf64_Rela *r = (const Elf64_Rela *)(f->image + f->relocations);

	for (size_t i = 0; i < f->relocations_bytes / sizeof(*r); i++) {
		uint64_t value = base + (uint64_t)r[i].r_addend, index = ELF64_R_SYM(r[i].r_info);
		Elf64_Sym sym;

		if (!within(r[i].r_offset, 8, f->image_bytes))
			return -ENOEXEC;
		switch (ELF64_R_TYPE(r[i].r_info)) {
		case R_X86_64_RELATIVE: break;
		case R_X86_64_GLOB_DAT:
		case R_X86_64_64:
			if (index > FILE_MAX || !within(f->symbols + index * sizeof(sym), sizeof(sym), f->image_bytes))
				return -ENOEXEC;
			memcpy(&sym, f->image + f->symbols + index * sizeof(sym), sizeof(sym));
			if (sym.st_shndx == SHN_UNDEF && ELF64_ST_BIND(sym.st_info) != STB_WEAK)
				return -ENOEXEC;
			value = sym.st_shndx == SHN_UNDEF ? 0 : base + sym.st_value; /* the dynamic linker's own are not there */
			if (ELF64_R_TYPE(r[i].r_info) == R_X86_64_64)
				value += (uint64_t)r[i].r_addend;
			break;
		default: return -ENOEXEC;
		}
		memcpy(image + r[i].r_offset, &value, sizeof(value));
	}
	return 0;
}

struct plan {
	const struct load_file *file;
	pid_t tid;
	uint64_t ip; /* of a syscall instruction there */
	struct user_regs_struct regs;
};

/* To the next beginning or end of a call.  Signals are blocked; SIGSTOP, which cannot be, is given on.  Return: 0; -ESRCH; -errno. */
static int next_call_stop(pid_t tid)
{
	long sig = 0;

	for (;;) {
		int status;

		if (ptrace(PTRACE_SYSCALL, tid, NULL, sig))
			return -errno;
		while (waitpid(tid, &status, __WALL | __WNOTHREAD) < 0)
			if (errno != EINTR)
				return -errno;
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (WSTOPSIG(status) == SYSCALL_STOP && !(status >> 16))
			return 0;
		sig = status >> 16 ? 0 : WSTOPSIG(status);
	}
}

/* Return: what the call returned; -errno. */
static int64_t remote(struct plan *p, uint64_t nr, const uint64_t arg[6])
{
	struct user_regs_struct regs = p->regs;
	int rc;

	regs.rip = p->ip;
	regs.rax = nr;
	regs.orig_rax = (unsigned long long)-1;
	regs.rdi = arg[0];
	regs.rsi = arg[1];
	regs.rdx = arg[2];
	regs.r10 = arg[3];
	regs.r8 = arg[4];
	regs.r9 = arg[5];
	if (ptrace(PTRACE_SETREGS, p->tid, NULL, &regs))
		return -errno;
	rc = next_call_stop(p->tid);
	if (!rc)
		rc = next_call_stop(p->tid);
	if (rc || ptrace(PTRACE_GETREGS, p->tid, NULL, &regs))
		return rc ? rc : -errno;
	return (int64_t)regs.rax;
}

static int place(struct plan *p, const struct intercept_handle *ours, uint64_t *base, struct intercept_handle *handle)
{
	const struct load_file *f = p->file;
	const uint64_t map[6] = {0, f->image_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0};
	cleanup_free uint8_t *image = malloc(f->image_bytes);
	const int64_t at = image ? remote(p, SYS_mmap, map) : -ENOMEM;
	struct iovec local = {image, f->image_bytes}, there = {(void *)at, f->image_bytes}; /* NOLINT: an address there */
	int64_t rc;

	if (at < 0)
		return (int)at;
	memcpy(image, f->image, f->image_bytes);
	rc = relocate(f, image, (uint64_t)at);
	if (!rc) {
		memcpy(handle, image + f->handle, sizeof(*handle));
		if (handle->magic != INTERCEPT_HANDLE_MAGIC)
			rc = -ENOEXEC;
		handle->traced = ours->traced;
		handle->cookie = ours->cookie;
		handle->init = (uint64_t)at + f->init;
		handle->ninit = f->init_bytes / 8;
		memcpy(image + f->handle, handle, sizeof(*handle));
	}
	if (!rc && process_vm_writev(p->tid, &local, 1, &there, 1, 0) != (ssize_t)f->image_bytes)
		rc = errno ? -errno : -EFAULT;
	for (uint32_t i = 0; i < f->nsegments && !rc; i++)
		rc = remote(p, SYS_mprotect, (const uint64_t[6]){(uint64_t)at + f->segment[i].at, f->segment[i].bytes, (uint64_t)f->segment[i].prot});
	if (rc)
		remote(p, SYS_munmap, (const uint64_t[6]){(uint64_t)at, f->image_bytes});
	*base = (uint64_t)at;
	return (int)rc;
}

int load_into(const struct load_file *file, pid_t tid, enum intercept_monitor monitor, uint64_t cookie, struct intercept_handle *where, uint64_t *handle_at)
{
	const struct intercept_handle ours = {.traced = monitor, .cookie = cookie};
	struct plan p = {.file = file, .tid = tid};
	uint64_t all = ~UINT64_C(0), mask, base = 0;
	struct user_regs_struct begin;
	long first;
	int rc = next_call_stop(tid); /* the end of execve() */

	if (rc)
		return rc;
	if (ptrace(PTRACE_GETREGS, tid, NULL, &p.regs))
		return -errno;
	if (p.regs.cs != CS_64BIT)
		return -ENOEXEC;
	p.ip = p.regs.rip;
	errno = 0;
	first = ptrace(PTRACE_PEEKTEXT, tid, (void *)p.ip, NULL);
	if (errno || ptrace(PTRACE_GETSIGMASK, tid, (void *)sizeof(mask), &mask) || ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof(all), &all) ||
	    ptrace(PTRACE_POKETEXT, tid, (void *)p.ip, (void *)((first & ~0xffffL) | SYSCALL_INSN)))
		return errno ? -errno : -EFAULT;
	rc = place(&p, &ours, &base, where);
	begin = p.regs;
	begin.orig_rax = (unsigned long long)-1;
	if (!rc) {
		*handle_at = base + file->handle;
		begin.rip = where->begin;
		begin.rsi = p.ip;
	}
	if (ptrace(PTRACE_POKETEXT, tid, (void *)p.ip, (void *)first) || ptrace(PTRACE_SETREGS, tid, NULL, &begin) ||
	    ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof(mask), &mask))
		return errno == ESRCH ? -ESRCH : -errno;
	return rc;
}
