/* proc.c - one process; theory of operation in proc.h */
#include "rle/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "rle/pagemap.h"
#include "rle/vma.h"

#define PF_KTHREAD 0x00200000
#define STAT_BYTES 2048 /* a stat line has about 52 numbers of at most 20 digits and a comm */
#define STATUS_BYTES 8192
#define PIDS_MAX (1 << 22) /* PID_MAX_LIMIT of 64-bit kernels */

/* Reads a small file whole, terminated; what does not fit is cut.  Return: bytes or -errno. */
static ssize_t slurp(int dir_fd, const char *name, char *buf, size_t size)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	size_t have = 0;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	while (have < size - 1) {
		ssize_t got = read(fd, buf + have, size - 1 - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		have += (size_t)got;
	}
	buf[have] = '\0';
	return have ? (ssize_t)have : -ESRCH;
}

/* stat: "PID (comm) S ppid ..."; comm may hold anything, parentheses too, so it ends at the last one. */
static int parse_stat(struct rle_proc *p, char *text)
{
	char *open = strchr(text, '('), *shut = strrchr(text, ')'), *at;
	unsigned long long field[25] = {0};
	size_t len;

	if (!open || !shut || shut < open || strlen(shut) < 4)
		return -EBADMSG;
	len = (size_t)(shut - open - 1);
	if (len >= sizeof(p->comm))
		len = sizeof(p->comm) - 1;
	memcpy(p->comm, open + 1, len);
	p->comm[len] = '\0';
	p->state = shut[2];
	at = shut + 3;
	for (int i = 4; i <= 24; i++) {
		char *end;

		errno = 0;
		field[i] = strtoull(at, &end, 10); /* negative ones wrap; none of ours is */
		if (end == at || errno)
			return -EBADMSG;
		at = end;
	}
	p->kthread = field[9] & PF_KTHREAD;
	p->start_ticks = field[22];
	p->vsz_bytes = field[23];
	p->rss_pages = field[24];
	return 0;
}

int rle_proc_open(struct rle_proc *p, struct rle_src *src, pid_t pid)
{
	char name[16], text[STAT_BYTES];
	ssize_t n;
	int err;

	*p = (struct rle_proc){.src = src, .dir_fd = -1, .pid = pid};
	snprintf(name, sizeof(name), "%d", pid);
	p->dir_fd = openat(src->root_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = slurp(p->dir_fd, "stat", text, sizeof(text));
	err = n < 0 ? (int)n : parse_stat(p, text);
	if (err)
		rle_proc_close(p);
	return err;
}

void rle_proc_close(struct rle_proc *p)
{
	if (p->dir_fd >= 0)
		close(p->dir_fd);
	p->dir_fd = -1;
}

/* The number behind "\nKey:", or false. */
static bool status_field(const char *text, const char *key, uint64_t *value)
{
	const char *at = strstr(text, key);

	return at && sscanf(at + strlen(key), " %" SCNu64, value) == 1;
}

int rle_proc_status(const struct rle_proc *p, struct rle_proc_status *st)
{
	char text[STATUS_BYTES];
	ssize_t n = slurp(p->dir_fd, "status", text, sizeof(text));
	uint64_t uid, hugetlb_kb = 0;

	if (n < 0)
		return (int)n;
	if (!status_field(text, "\nUid:", &uid))
		return -EBADMSG;
	status_field(text, "\nHugetlbPages:", &hugetlb_kb); /* absent without CONFIG_HUGETLB_PAGE and before 4.4 */
	*st = (struct rle_proc_status){.uid = (uid_t)uid, .hugetlb_pages = hugetlb_kb * 1024 / DS_PAGE_BYTES};
	return 0;
}

int rle_proc_ksm(const struct rle_proc *p, uint64_t *pages)
{
	char text[32];
	ssize_t n;

	if (!p->src->ksm_merging_pages)
		return -ENOENT;
	n = slurp(p->dir_fd, "ksm_merging_pages", text, sizeof(text));
	if (n == -ESRCH && !faccessat(p->dir_fd, "stat", F_OK, 0)) {
		p->src->ksm_merging_pages = false; /* the process is there, the file is not */
		return -ENOENT;
	}
	if (n < 0)
		return (int)n;
	return sscanf(text, "%" SCNu64, pages) == 1 ? 0 : -EBADMSG;
}

int rle_proc_cgroup(const struct rle_proc *p, char *buf, size_t size)
{
	char text[STATUS_BYTES], *line, *save = NULL, *best = NULL;
	ssize_t n = slurp(p->dir_fd, "cgroup", text, sizeof(text));

	buf[0] = '\0';
	if (n < 0)
		return n == -ESRCH ? 0 : (int)n; /* also a kernel without cgroups */
	/* "hierarchy:controllers:path", hierarchy 0 being cgroup v2 (cgroups(7)) */
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *path = strchr(line, ':');

		path = path ? strchr(path + 1, ':') : NULL;
		if (path && (!best || !strncmp(line, "0::", 3)))
			best = path + 1;
	}
	if (best)
		snprintf(buf, size, "%s", best);
	return 0;
}

int rle_proc_scan(const struct rle_proc *p, struct rle_enc *e, atomic_uint_least64_t *progress)
{
	struct rle_src *src = p->src;
	cleanup_close int maps_fd = openat(p->dir_fd, "maps", O_RDONLY | O_CLOEXEC);
	cleanup_close int pagemap_fd = -1;
	struct rle_pagemap pm = {.scan = &src->pagemap_scan, .buf = src->pagemap_buf, .progress = progress};
	struct rle_vma_iter it;
	struct rle_vma vma;
	ds_vpn some = {0};
	int r;

	if (maps_fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	pm.fd = pagemap_fd = openat(p->dir_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap_fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	r = p->may_see ? p->may_see(p->may_see_ctx) : 0;
	if (r)
		return r;
	rle_vma_start(&it, maps_fd, src->maps_buf, &src->procmap_query);
	while ((r = rle_vma_next(&it, &vma)) > 0) {
		if (progress)
			atomic_fetch_add_explicit(progress, 1, memory_order_relaxed);
		if (vma.kernel_page)
			continue;
		some = vma.start;
		uint64_t before = e->n.present;

		r = rle_pagemap_vma(&pm, &vma, e);
		if (r)
			return r;
		if (vma.hugetlb)
			e->n.hugetlb_mapped += e->n.present - before;
	}
	if (r)
		return r;
	if (!it.any)
		return -ESRCH; /* user processes have mappings until they are gone */
	if (e->n.vmas) {
		r = rle_pagemap_alive(&pm, some);
		if (r)
			return r;
	}
	return rle_enc_finish(e);
}

static int by_number(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

ssize_t rle_proc_list(const struct rle_src *src, pid_t **out)
{
	cleanup_free pid_t *pids = NULL;
	size_t n = 0, room = 0;
	int fd = openat(src->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((d = readdir(dir)) && n < PIDS_MAX) {
		char *end;
		long pid = strtol(d->d_name, &end, 10);

		if (*end || pid <= 0 || pid > PIDS_MAX || d->d_name[0] < '0' || d->d_name[0] > '9')
			continue;
		if (n == room) {
			pid_t *more;

			room = room ? room * 2 : 1024;
			more = reallocarray(pids, room, sizeof(*more));
			if (!more) {
				closedir(dir);
				return -ENOMEM;
			}
			pids = more;
		}
		pids[n++] = (pid_t)pid;
	}
	closedir(dir);
	if (n)
		qsort(pids, n, sizeof(*pids), by_number);
	*out = pids;
	pids = NULL;
	return (ssize_t)n;
}
