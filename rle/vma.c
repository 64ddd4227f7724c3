/* vma.c - the mappings of a process; see vma.h */
#include "rle/vma.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "rle/procmap.h"
#include "rle/run.h"

#define NAME_BYTES 128 /* all we look for are names in brackets, which are shorter */

void rle_vma_start(struct rle_vma_iter *it, int maps_fd, char *buf, bool *query)
{
	*it = (struct rle_vma_iter){.fd = maps_fd, .buf = buf};
	if (*query) {
		struct procmap_query q = {.size = sizeof(q), .query_flags = QUERY_COVERING_OR_NEXT};

		*query = ioctl(maps_fd, PROCMAP_QUERY, &q) == 0 || (errno != ENOTTY && errno != EINVAL);
	}
	it->query = *query;
}

/* Pages that the kernel maps into every process and that are no part of its own memory. */
static bool is_kernel_name(const char *name, size_t len)
{
	return (len >= 5 && !memcmp(name, "[vvar", 5)) || (len >= 6 && !memcmp(name, "[vdso]", 6)) ||
	       (len >= 9 && !memcmp(name, "[vsyscall", 9)) || (len >= 9 && !memcmp(name, "[uprobes]", 9));
}

static int query_next(struct rle_vma_iter *it, struct rle_vma *vma)
{
	char name[NAME_BYTES];
	struct procmap_query q = {
		.size = sizeof(q),
		.query_flags = QUERY_COVERING_OR_NEXT,
		.query_addr = it->next_vpn << DS_PAGE_SHIFT,
	};

	if (ioctl(it->fd, PROCMAP_QUERY, &q))
		return errno == ENOENT ? 0 : -errno;
	*vma = (struct rle_vma){
		.start = {q.vma_start >> DS_PAGE_SHIFT},
		.end = {q.vma_end >> DS_PAGE_SHIFT},
		.prot = q.vma_flags & RLE_ATTR_PROT, /* the same four bits: r 1, w 2, x 4, shared 8 */
		.hugetlb = q.vma_page_size > DS_PAGE_BYTES,
		.file = q.inode || q.dev_major || q.dev_minor,
	};
	/* Only an unwritable mapping of no file can be the kernel's, so only for these the name is asked for. */
	if (!q.inode && !(vma->prot & RLE_ATTR_WRITE)) {
		q = (struct procmap_query){
			.size = sizeof(q),
			.query_addr = vma->start.n << DS_PAGE_SHIFT,
			.vma_name_addr = (uintptr_t)name,
			.vma_name_size = sizeof(name),
		};
		if (!ioctl(it->fd, PROCMAP_QUERY, &q) && q.vma_name_size && q.vma_name_size <= sizeof(name))
			vma->kernel_page = is_kernel_name(name, q.vma_name_size);
	}
	return 1;
}

static const char *hex(const char *p, const char *end, char stop, uint64_t *value)
{
	const char *start = p;

	*value = 0;
	for (; p < end && *p != stop; p++) {
		unsigned int digit;

		if (*p >= '0' && *p <= '9')
			digit = *p - '0';
		else if (*p >= 'a' && *p <= 'f')
			digit = *p - 'a' + 10;
		else
			return NULL;
		if (*value >> 60)
			return NULL;
		*value = *value << 4 | digit;
	}
	return p < end && p > start ? p + 1 : NULL;
}

int rle_vma_parse(const char *line, size_t len, struct rle_vma *vma)
{
	static const char letters[] = "rwxs";
	const char *end = line + len, *p;
	uint64_t from, to;

	p = hex(line, end, '-', &from);
	if (p)
		p = hex(p, end, ' ', &to);
	if (!p || end - p < 5 || p[4] != ' ' || from >= to || (from | to) & (DS_PAGE_BYTES - 1))
		return -EBADMSG;
	*vma = (struct rle_vma){.start = {from >> DS_PAGE_SHIFT}, .end = {to >> DS_PAGE_SHIFT}};
	for (int i = 0; i < 4; i++) {
		if (p[i] == letters[i])
			vma->prot |= 1u << i;
		else if (p[i] != (i == 3 ? 'p' : '-'))
			return -EBADMSG;
	}
	if (vma->start.n >= DS_USER_VPN_END)
		return -ERANGE;
	if (vma->end.n > DS_USER_VPN_END)
		return -EBADMSG;
	/* offset, device, inode, padding, name */
	for (int field = 0; p < end && field < 4; field++) {
		if (field >= 2) /* a file system may give a file the number 0 */
			vma->file |= field == 2 ? end - p < 5 || memcmp(p, "00:00", 5) : *p != '0';
		while (p < end && *p != ' ')
			p++;
		while (p < end && *p == ' ')
			p++;
	}
	vma->kernel_page = is_kernel_name(p, end - p);
	vma->hugetlb = end - p >= 14 && !memcmp(p, "/anon_hugepage", 14);
	return 0;
}

/* The next whole line, or as much of an overlong one as the buffer holds. */
static int text_line(struct rle_vma_iter *it, const char **line, size_t *len)
{
	for (;;) {
		char *from = it->buf + it->pos, *nl = memchr(from, '\n', it->have - it->pos);
		bool full = it->pos == 0 && it->have == RLE_VMA_BUF_BYTES;

		if (nl || full) {
			bool skip = it->skip_line;

			*line = from;
			*len = nl ? (size_t)(nl - from) : it->have;
			it->pos = nl ? (size_t)(nl + 1 - it->buf) : it->have;
			it->skip_line = !nl;
			if (skip)
				continue;
			return 1;
		}
		memmove(it->buf, from, it->have - it->pos);
		it->have -= it->pos;
		it->pos = 0;
		if (it->eof)
			return it->have && !it->skip_line ? -EBADMSG : 0; /* the kernel ends with a whole line */
		ssize_t got = read(it->fd, it->buf + it->have, RLE_VMA_BUF_BYTES - it->have);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0)
			it->have += (size_t)got;
		it->eof = got == 0;
	}
}

static int text_next(struct rle_vma_iter *it, struct rle_vma *vma)
{
	const char *line = NULL;
	size_t len = 0;
	int r;

	do {
		r = text_line(it, &line, &len);
		if (r <= 0)
			return r;
		r = rle_vma_parse(line, len, vma);
	} while (r == -ERANGE);
	return r ? r : 1;
}

int rle_vma_next(struct rle_vma_iter *it, struct rle_vma *vma)
{
	for (;;) {
		int r = it->query ? query_next(it, vma) : text_next(it, vma);

		if (r <= 0)
			return r;
		if (vma->start.n < it->next_vpn)
			vma->start.n = it->next_vpn;
		if (vma->end.n > DS_USER_VPN_END)
			vma->end.n = DS_USER_VPN_END;
		if (vma->start.n >= vma->end.n) {
			if (it->query)
				return 0; /* it would give the same for ever */
			continue;
		}
		it->next_vpn = vma->end.n;
		it->any = true;
		return 1;
	}
}
