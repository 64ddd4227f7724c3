/* machine.c - the machine around a snapshot; see machine.h */
#include "collector/machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collector/text.h"
#include "rle/addr.h"
#include "rle/cleanup.h"

#define THP "sys/kernel/mm/transparent_hugepage"

/* Two roots, one for each file system; of a recorded tree both are the same folder. */
struct roots {
	int proc, sys;
};

static void roots_open(struct roots *r, const char *root)
{
	r->proc = open(root ? root : "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r->sys = open(root ? root : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void roots_close(struct roots *r)
{
	cleanup_close_fn(&r->proc);
	cleanup_close_fn(&r->sys);
}

/* A whole file, terminated, cut to @size.  Return: its length, 0 also when it cannot be read. */
static size_t slurp(int dir, const char *path, char *buf, size_t size)
{
	cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n;

	while (fd >= 0 && have + 1 < size && (n = read(fd, buf + have, size - 1 - have)) > 0)
		have += n;
	buf[have] = '\0';
	return have;
}

/* A file of one line, without its end and fit to be stored. */
static void slurp_line(int dir, const char *path, char *buf, size_t size)
{
	char raw[1024];

	slurp(dir, path, raw, sizeof(raw));
	raw[strcspn(raw, "\n")] = '\0';
	text_clean(buf, size, raw);
}

static int64_t slurp_number(int dir, const char *path)
{
	char text[32], *end;
	long long n;

	slurp(dir, path, text, sizeof(text));
	n = strtoll(text, &end, 10);
	return end == text || n < 0 ? -1 : n;
}

/* The word in [brackets] of a file that lists the choices. */
static void slurp_choice(int dir, const char *path, char word[static MACHINE_WORD_BYTES])
{
	char line[256], *from, *to;

	word[0] = '\0';
	slurp_line(dir, path, line, sizeof(line));
	from = strchr(line, '[');
	to = from ? strchr(from, ']') : NULL;
	if (to && to - from <= MACHINE_WORD_BYTES) {
		*to = '\0';
		strcpy(word, from + 1);
	}
}

void machine_identify(struct machine_id *id, const char *root)
{
	__attribute__((cleanup(roots_close))) struct roots r;
	char release[128], version[256];

	roots_open(&r, root);
	slurp_line(r.proc, "sys/kernel/hostname", id->host, sizeof(id->host));
	slurp_line(r.proc, "sys/kernel/random/boot_id", id->boot_id, sizeof(id->boot_id));
	slurp_line(r.proc, "sys/kernel/osrelease", release, sizeof(release));
	slurp_line(r.proc, "sys/kernel/version", version, sizeof(version));
	snprintf(id->kernel, sizeof(id->kernel), "%s%s%s", release, *version ? " " : "", version);
	if (!*id->host)
		strcpy(id->host, "unknown");
	if (!*id->boot_id)
		strcpy(id->boot_id, "unknown");
	if (!*id->kernel)
		strcpy(id->kernel, "unknown");
}

/* Text built up in a buffer; what does not fit is dropped as a whole. */
struct out {
	char *at, *end;
};

__attribute__((format(printf, 2, 3))) static bool out_add(struct out *o, const char *fmt, ...)
{
	size_t room = o->end - o->at;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(o->at, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) {
		*o->at = '\0';
		return false;
	}
	o->at += n;
	return true;
}

/* "Node 0, zone   Normal   4   2   1 ..." becomes {"node":0,"zone":"Normal","free":[4,2,1]}. */
static void buddyinfo_zone(struct out *o, const char *line, bool first)
{
	struct out start = *o;
	char zone[32];
	int node, skip = 0;

	if (sscanf(line, "Node %d, zone %31[A-Za-z0-9_]%n", &node, zone, &skip) != 2 || !skip)
		return;
	if (!out_add(o, "%s{\"node\":%d,\"zone\":\"%s\",\"free\":[", first ? "" : ",", node, zone))
		return;
	for (const char *comma = "", *at = line + skip;; comma = ",") {
		char *end;
		unsigned long long n = strtoull(at, &end, 10);

		if (end == at)
			break;
		at = end;
		if (!out_add(o, "%s%llu", comma, n)) {
			*o = start;
			*o->at = '\0';
			return;
		}
	}
	if (!out_add(o, "]}")) {
		*o = start;
		*o->at = '\0';
	}
}

static void read_buddyinfo(struct machine *m, int proc)
{
	struct out o = {m->buddyinfo + 1, m->buddyinfo + sizeof(m->buddyinfo) - 1}; /* room for both brackets */
	cleanup_free char *text = malloc(MACHINE_JSON_BYTES);
	char *rest = text, *line;

	m->buddyinfo[0] = '\0';
	if (!text || !slurp(proc, "buddyinfo", text, MACHINE_JSON_BYTES))
		return;
	m->buddyinfo[0] = '[';
	while ((line = strsep(&rest, "\n")))
		buddyinfo_zone(&o, line, o.at == m->buddyinfo + 1);
	strcpy(o.at, "]");
}

static int by_number(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return (x > y) - (x < y);
}

/* mTHP (kernel 6.8 and up): a folder hugepages-64kB and so on for each size. */
static void read_mthp(struct machine *m, int sys)
{
	struct out o = {m->mthp + 1, m->mthp + sizeof(m->mthp) - 1};
	int fd = openat(sys, THP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	unsigned long kb[64], size;
	struct dirent *d;
	size_t n = 0;

	m->mthp[0] = '\0';
	if (!dir) {
		cleanup_close_fn(&fd);
		return;
	}
	while (n < 64 && (d = readdir(dir)))
		if (sscanf(d->d_name, "hugepages-%lukB", &size) == 1)
			kb[n++] = size;
	closedir(dir);
	if (!n)
		return;
	qsort(kb, n, sizeof(*kb), by_number);
	m->mthp[0] = '{';
	for (size_t i = 0; i < n; i++) {
		char path[128], word[MACHINE_WORD_BYTES];

		snprintf(path, sizeof(path), THP "/hugepages-%lukB/enabled", kb[i]);
		slurp_choice(sys, path, word);
		if (*word) /* the smallest sizes are for shared memory only and have no such file */
			out_add(&o, "%s\"%lukB\":\"%s\"", o.at > m->mthp + 1 ? "," : "", kb[i], word);
	}
	strcpy(o.at, "}");
}

/* "MemTotal:       24684096 kB" */
static int64_t meminfo_bytes(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at && (at == text || at[-1] == '\n') ? strtoll(at + strlen(key), NULL, 10) * 1024 : -1;
}

static void read_meminfo(struct machine *m, int proc)
{
	char text[8192];

	slurp(proc, "meminfo", text, sizeof(text));
	m->mem_total_bytes = meminfo_bytes(text, "MemTotal:");
	m->mem_free_bytes = meminfo_bytes(text, "MemFree:");
	m->hugetlb_pages = meminfo_bytes(text, "Hugetlb:");
	if (m->hugetlb_pages > 0)
		m->hugetlb_pages /= DS_PAGE_BYTES;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* When a recorded tree was recorded; a tree that does not say is taken to be of now. */
static double time_of_recording(int proc, double uptime_s)
{
	cleanup_free char *text = malloc(1 << 20); /* stat has a line for each CPU before the one wanted */
	const char *at;

	if (!text || isnan(uptime_s) || !slurp(proc, "stat", text, 1 << 20))
		return now();
	at = strstr(text, "\nbtime ");
	return at ? strtoll(at + 7, NULL, 10) + uptime_s : now();
}

void machine_read(struct machine *m, const char *root)
{
	__attribute__((cleanup(roots_close))) struct roots r;
	char line[128], *end;

	roots_open(&r, root);
	slurp_line(r.proc, "uptime", line, sizeof(line));
	m->uptime_s = strtod(line, &end);
	if (end == line)
		m->uptime_s = NAN;
	m->time = root ? time_of_recording(r.proc, m->uptime_s) : now();
	read_meminfo(m, r.proc);
	read_buddyinfo(m, r.proc);
	m->max_map_count = slurp_number(r.proc, "sys/vm/max_map_count");
	m->ksm_run = slurp_number(r.sys, "sys/kernel/mm/ksm/run");
	slurp_choice(r.sys, THP "/enabled", m->thp_enabled);
	slurp_choice(r.sys, THP "/defrag", m->thp_defrag);
	slurp_choice(r.sys, THP "/shmem_enabled", m->thp_shmem);
	read_mthp(m, r.sys);
}

static bool have_ptrace_capability(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	return syscall(SYS_capget, &head, data) == 0 && data[CAP_TO_INDEX(CAP_SYS_PTRACE)].effective & CAP_TO_MASK(CAP_SYS_PTRACE);
}

bool machine_hides_processes(void)
{
	cleanup_free char *line = NULL;
	bool hides = false;
	size_t size = 0;
	FILE *f;

	if (have_ptrace_capability())
		return false;
	f = fopen("/proc/self/mountinfo", "re");
	/* "22 1 0:20 / /proc rw,relatime - proc proc rw,hidepid=invisible"; a later mount covers an earlier one */
	while (f && getline(&line, &size, f) > 0)
		if (strstr(line, " /proc ") && strstr(line, " - proc "))
			hides = strstr(line, "hidepid=") && !strstr(line, "hidepid=0") && !strstr(line, "hidepid=off");
	if (f)
		fclose(f);
	return hides;
}
