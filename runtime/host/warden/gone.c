/* gone.c - proves from outside that a shadow has let go of pages; theory in gone.h */
#include "runtime/host/warden/gone.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "rle/procmap.h"

#define TEXT_BYTES 65536 /* of maps at a time; a line has a path, at most PATH_MAX, each byte as four */

/* A mapping of a file. */
struct mapping {
	uint64_t start, end, offset; /* bytes */
	struct gone_file file;
	bool write;
};

static bool same(const struct gone_file *a, const struct gone_file *b)
{
	return a->major == b->major && a->minor == b->minor && a->inode == b->inode;
}

/* --- the next mapping, by either way ------------------------------------------------------------------------------- */

/* Return: 1 and the first mapping of a file that ends behind @address; 0 there is none; -errno. */
static int ask(int maps_fd, uint64_t address, struct mapping *m)
{
	struct procmap_query q = {
		.size = sizeof(q), .query_flags = QUERY_COVERING_OR_NEXT | QUERY_FILE_BACKED, .query_addr = address};

	if (ioctl(maps_fd, PROCMAP_QUERY, &q))
		return errno == ENOENT ? 0 : -errno;
	*m = (struct mapping){.start = q.vma_start,
			      .end = q.vma_end,
			      .offset = q.vma_offset,
			      .file = {q.dev_major, q.dev_minor, q.inode},
			      .write = q.vma_flags & QUERY_WRITABLE};
	return 1;
}

/* Reads maps line by line. */
struct text {
	int fd;
	char *buf; /* TEXT_BYTES */
	size_t have, pos;
};

static void text_start(struct text *t, int maps_fd, char *buf)
{
	*t = (struct text){.fd = maps_fd, .buf = buf};
	lseek(maps_fd, 0, SEEK_SET);
}

/* Return: 1 and a terminated line; 0 the end; -EBADMSG, -errno. */
static int text_line(struct text *t, char **line)
{
	for (;;) {
		char *start = t->buf + t->pos, *newline = memchr(start, '\n', t->have - t->pos);
		ssize_t got;

		if (newline) {
			*newline = 0;
			t->pos = (size_t)(newline - t->buf) + 1;
			*line = start;
			return 1;
		}
		memmove(t->buf, start, t->have - t->pos);
		t->have -= t->pos;
		t->pos = 0;
		if (t->have == TEXT_BYTES)
			return -EBADMSG;
		got = read(t->fd, t->buf + t->have, TEXT_BYTES - t->have);
		if (got <= 0)
			return got ? -errno : 0;
		t->have += (size_t)got;
	}
}

/* Return: 1 and the next mapping of a file; 0 the end; -EBADMSG, -errno. */
static int text_next(struct text *t, struct mapping *m)
{
	char prot[8], *line = NULL;
	int rc;

	while ((rc = text_line(t, &line)) > 0) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %" SCNx32 ":%" SCNx32 " %" SCNu64, &m->start, &m->end, prot,
			   &m->offset, &m->file.major, &m->file.minor, &m->file.inode) != 7)
			return -EBADMSG;
		m->write = prot[1] == 'w';
		if (m->file.inode)
			return 1;
	}
	return rc;
}

/* --- which file ---------------------------------------------------------------------------------------------------- */

/*
 * What maps calls a file is not always what fstat() does (overlayfs): a mapping of our own tells.  Where none can be made
 * (/dev/mem) fstat() is right.
 */
static int identify(int ram_fd, struct gone_file *file)
{
	cleanup_close int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	cleanup_free char *buf = malloc(TEXT_BYTES);
	struct mapping m;
	struct text t;
	struct stat st;
	void *at;
	int rc;

	if (fd < 0 || fstat(ram_fd, &st))
		return -errno;
	if (!buf)
		return -ENOMEM;
	*file = (struct gone_file){major(st.st_dev), minor(st.st_dev), st.st_ino};
	at = mmap(NULL, DS_PAGE_BYTES, PROT_NONE, MAP_SHARED, ram_fd, 0);
	if (at == MAP_FAILED)
		return 0;
	text_start(&t, fd, buf);
	while ((rc = text_next(&t, &m)) > 0 && !((uintptr_t)at >= m.start && (uintptr_t)at < m.end))
		;
	munmap(at, DS_PAGE_BYTES);
	if (rc <= 0)
		return rc ? rc : -EBADMSG;
	*file = m.file;
	return 0;
}

int gone_open(struct gone *g, pid_t pid, int ram_fd)
{
	char path[64];
	struct mapping m;
	int rc;

	*g = (struct gone){.maps_fd = -1, .pid = pid};
	rc = identify(ram_fd, &g->file);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	g->maps_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (g->maps_fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	rc = ask(g->maps_fd, 0, &m);
	g->query = rc != -ENOTTY && rc != -EINVAL;
	return 0;
}

void gone_close(struct gone *g)
{
	if (g->maps_fd >= 0)
		close(g->maps_fd);
	g->maps_fd = -1;
}

/* --- the check ----------------------------------------------------------------------------------------------------- */

/* One check. */
struct check {
	struct gone *g;
	const struct ds_shadow_range *range;
	size_t n;
	const struct authority *except;
	struct gone_found *found;
	int proc; /* a /proc of its own; -1: not made yet */
};

/*
 * Whether a mapping can be made writable: it can if its descriptor was.  The links in map_files show that as their own
 * permission (fs/proc/base.c, proc_map_files_instantiate), but a link that was looked at before keeps the permission
 * it had then, though another mapping is there now.  So each check looks through a new mount of proc, which nobody has
 * looked through.  Where that cannot be had, and when the mapping has changed meanwhile, it counts as one that can.
 */
static bool may_write(struct check *c, const struct mapping *m)
{
	char path[96];
	struct stat st;

	if (m->write)
		return true;
	if (c->proc < 0) {
		cleanup_close int fs = (int)syscall(__NR_fsopen, "proc", FSOPEN_CLOEXEC);

		if (fs < 0 || syscall(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
			return true;
		c->proc = (int)syscall(__NR_fsmount, fs, FSMOUNT_CLOEXEC, 0);
		if (c->proc < 0)
			return true;
	}
	snprintf(path, sizeof(path), "%d/map_files/%" PRIx64 "-%" PRIx64, c->g->pid, m->start, m->end);
	return fstatat(c->proc, path, &st, AT_SYMLINK_NOFOLLOW) || st.st_mode & S_IWUSR;
}

/* Whether pages [vpn, end) of @m, which is the RAM, may be there; else the first that may not. */
static bool may_be(struct check *c, const struct mapping *m, uint64_t vpn, uint64_t end)
{
	uint64_t pfn = (m->offset >> DS_PAGE_SHIFT) + (vpn - (m->start >> DS_PAGE_SHIFT));
	bool can_write = false, known = false;

	while (vpn < end) {
		bool write;
		uint64_t n = c->except ? authority_span(c->except, vpn, pfn, end - vpn, &write) : 0;

		if (n && !write && !known) {
			can_write = may_write(c, m);
			known = true;
		}
		if (!n || (!write && can_write)) {
			if (c->found)
				*c->found = (struct gone_found){.vpn = vpn, .npages = end - vpn, .pfn = pfn, .write = m->write};
			return false;
		}
		vpn += n;
		pfn += n;
	}
	return true;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int check_by_query(struct check *c)
{
	struct mapping m;
	int rc = 0;

	for (size_t i = 0; i < c->n; i++) {
		const uint64_t end = c->range[i].vpn + c->range[i].npages;

		for (uint64_t vpn = c->range[i].vpn; vpn < end; vpn = m.end >> DS_PAGE_SHIFT) {
			rc = ask(c->g->maps_fd, vpn << DS_PAGE_SHIFT, &m);
			if (rc <= 0)
				return rc; /* nothing behind here: so for the other ranges */
			if (m.start >> DS_PAGE_SHIFT >= end)
				break;
			if (same(&m.file, &c->g->file) &&
			    !may_be(c, &m, later(vpn, m.start >> DS_PAGE_SHIFT), sooner(end, m.end >> DS_PAGE_SHIFT)))
				return -EEXIST;
		}
	}
	return 0;
}

static int check_by_text(struct check *c)
{
	const struct ds_shadow_range *range = c->range;
	const size_t n = c->n;
	cleanup_free char *buf = malloc(TEXT_BYTES);
	struct mapping m;
	struct text t;
	size_t i = 0;
	int rc;

	if (!buf)
		return -ENOMEM;
	text_start(&t, c->g->maps_fd, buf);
	while ((rc = text_next(&t, &m)) > 0 && i < n) {
		const uint64_t start = m.start >> DS_PAGE_SHIFT, end = m.end >> DS_PAGE_SHIFT;

		while (i < n && range[i].vpn + range[i].npages <= start)
			i++;
		if (!same(&m.file, &c->g->file))
			continue;
		for (size_t k = i; k < n && range[k].vpn < end; k++)
			if (!may_be(c, &m, later(range[k].vpn, start), sooner(range[k].vpn + range[k].npages, end)))
				return -EEXIST;
	}
	return rc < 0 ? rc : 0;
}

int gone_check(struct gone *g, const struct ds_shadow_range *range, size_t n, const struct authority *except,
	       struct gone_found *found)
{
	struct check c = {.g = g, .range = range, .n = n, .except = except, .found = found, .proc = -1};
	int rc = g->query ? check_by_query(&c) : check_by_text(&c);

	if (c.proc >= 0)
		close(c.proc);
	return rc;
}
