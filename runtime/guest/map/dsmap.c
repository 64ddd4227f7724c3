/* dsmap - prints, saves and compares the map of one process
 *
 * Theory of operation
 *
 * A map is made in memory, by a scan or from a file, and then printed, saved or compared: one object, whatever is
 * asked for, and nothing is written before the scan has succeeded.  A process that execs meanwhile loses the address
 * space that was being read (rle/proc.h); its new one is read then.
 *
 * Frame numbers are the kernel's secret (they help attacks on memory), so what dsmap saves is readable by its owner only,
 * and a saved map is copied before it is believed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "rle/mapw.h"
#include "rle/proc.h"
#include "runtime/guest/map/dsmap_agent.h"
#include "runtime/guest/map/dsmap_options.h"
#include "runtime/guest/map/mapprint.h"

#define MAP_MAX_BYTES (UINT64_C(1) << 30) /* 44 million runs: 170 GiB of single pages */
#define TRIES 3				  /* a process may exec while it is read, but hardly all the time */

struct subject {
	struct rle_map map;
	void *blob; /* of a scan */
	size_t blob_bytes;
	char comm[RLE_COMM_BYTES];
	struct rle_counts counts;
	bool scanned;
	bool no_frames; /* dsagent withheld them */
};

static void subject_free(struct subject *s)
{
	rle_map_close(&s->map);
	free(s->blob);
}

static int system_error(const char *what, int err)
{
	fprintf(stderr, "dsmap: %s: %s\n", what, strerror(-err));
	return DSMAP_SYSTEM;
}

/* One attempt.  Return: 0 or -errno; -ENODATA: no address space; -ENOKEY: frame numbers are hidden. */
static int scan_once(struct subject *s, const struct dsmap_options *o, struct rle_src *src, enum rle_split split)
{
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;
	__attribute__((cleanup(rle_proc_close))) struct rle_proc p = {.dir_fd = -1};
	struct rle_map_meta meta = {.split = split, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = o->pid};
	struct rle_enc e;
	int err = rle_proc_open(&p, src, o->pid);

	if (err)
		return err;
	memcpy(s->comm, p.comm, sizeof(s->comm));
	if (p.kthread || p.state == 'Z' || p.state == 'X')
		return -ENODATA;
	meta.start_ticks = p.start_ticks;
	err = rle_mapw_begin_mem(&w, &meta, MAP_MAX_BYTES);
	if (err)
		return err;
	rle_enc_init(&e, split, rle_mapw_run, w, &src->frames);
	err = rle_proc_scan(&p, &e, NULL);
	if (err)
		return err;
	if (e.n.hidden)
		return -ENOKEY;
	err = rle_mapw_finish(w);
	if (err)
		return err;
	s->counts = e.n;
	s->scanned = true;
	s->blob = rle_mapw_take(w, &s->blob_bytes);
	return rle_map_open(&s->map, s->blob, s->blob_bytes, NULL);
}

/* @why_not: why it cannot be seen without dsagent; NULL: dsagent was asked for.  Return: 0 or an exit code, after a complaint. */
static int ask(struct subject *s, const struct dsmap_options *o, enum rle_split split, const char *why_not)
{
	struct dsmap_answer a;
	int code = dsmap_agent_ask(&a, o, split, why_not);

	if (code)
		return code;
	s->map = a.map;
	s->blob = a.blob;
	s->blob_bytes = a.blob_bytes;
	s->counts = a.counts;
	s->no_frames = a.no_frames;
	s->scanned = true;
	memcpy(s->comm, a.comm, sizeof(s->comm));
	if (!s->no_frames || (!o->out && !o->diff))
		return 0;
	fputs("dsmap: dsagent gives frame numbers to root only, and a map without them cannot be saved or compared\n", stderr);
	return DSMAP_NO_PFN;
}

static int no_frames(struct subject *s, const struct dsmap_options *o, enum rle_split split, const char *why)
{
	if (!o->root && !o->join)
		return ask(s, o, split, why);
	fprintf(stderr,
		"dsmap: frame numbers cannot be seen: %s\n"
		"The kernel shows them to CAP_SYS_ADMIN in the initial user namespace only: run dsmap as root.\n",
		why);
	return DSMAP_NO_PFN;
}

/* Return: 0 or an exit code, after a complaint. */
static int scan(struct subject *s, const struct dsmap_options *o, enum rle_split split)
{
	struct rle_src src;
	const char *why = "";
	int err;

	if (o->agent)
		return ask(s, o, split, NULL);
	err = rle_src_open(&src, o->root, o->join, &why);
	if (err == -EPERM || err == -EACCES)
		return no_frames(s, o, split, why);
	if (err) {
		fprintf(stderr, "dsmap: %s: %s: %s\n", o->root ? o->root : "/proc", why, strerror(-err));
		return DSMAP_SYSTEM;
	}
	for (int i = 0; i < TRIES; i++) {
		err = scan_once(s, o, &src, split);
		if (err != -ESRCH)
			break;
	}
	rle_src_close(&src);
	switch (-err) {
	case 0:
		return 0;
	case ESRCH:
	case ENOENT:
		fprintf(stderr, "dsmap: no process %d, or it ended while it was read\n", o->pid);
		return DSMAP_SYSTEM;
	case ENODATA:
		fprintf(stderr, "dsmap: process %d (%s) is a kernel thread or has ended: it has no address space\n", o->pid, s->comm);
		return DSMAP_SYSTEM;
	case ENOKEY:
		return no_frames(s, o, split, "its present pages show frame 0");
	case EACCES:
	case EPERM:
		return no_frames(s, o, split, "the kernel refuses to show this process");
	case E2BIG:
		fprintf(stderr, "dsmap: process %d has more runs than dsmap holds in memory (%" PRIu64 " MiB); try --split none\n", o->pid,
			MAP_MAX_BYTES >> 20);
		return DSMAP_SYSTEM;
	default:
		fprintf(stderr, "dsmap: process %d: %s\n", o->pid, strerror(-err));
		return DSMAP_SYSTEM;
	}
}

static int load(struct rle_map *map, const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct rle_map_err e = {0};
	int err;

	if (fd < 0)
		return system_error(path, -errno);
	err = rle_map_load(map, fd, MAP_MAX_BYTES, true, &e);
	if (err && e.why)
		fprintf(stderr, "dsmap: %s: not a map that can be used: %s (byte %" PRIu64 ")\n", path, e.why, e.offset_bytes);
	else if (err == -EINVAL)
		fprintf(stderr, "dsmap: %s: not a regular file\n", path);
	else if (err)
		return system_error(path, err);
	return err ? DSMAP_SYSTEM : 0;
}

static int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno != EINTR)
			return -errno;
		if (k > 0) {
			p += k;
			n -= k;
		}
	}
	return 0;
}

/* A regular file appears whole or not at all; a pipe or device is written in place. */
static int save(const char *path, const void *blob, size_t blob_bytes)
{
	cleanup_close int fd = -1;
	cleanup_free char *beside = NULL;
	struct stat st;
	int err;

	if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
		fd = open(path, O_WRONLY | O_CLOEXEC);
		err = fd < 0 ? -errno : write_all(fd, blob, blob_bytes);
		return err ? system_error(path, err) : 0;
	}
	if (asprintf(&beside, "%s.XXXXXX", path) < 0) {
		beside = NULL;
		return system_error(path, -ENOMEM);
	}
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return system_error(path, -errno);
	err = write_all(fd, blob, blob_bytes);
	if (!err && rename(beside, path))
		err = -errno;
	if (!err)
		return 0;
	unlink(beside);
	return system_error(path, err);
}

/* Whether the two maps can be told apart meaningfully; complains. */
static int comparable(const struct dsmap_options *o, const struct rle_map *was, const struct rle_map *now)
{
	if (was->meta.pid != now->meta.pid || was->meta.start_ticks != now->meta.start_ticks)
		fprintf(stderr, "dsmap: note: %s is of another process: %" PRIu64 ", started at tick %" PRIu64 "\n", o->diff, was->meta.pid,
			was->meta.start_ticks);
	if (was->meta.split == RLE_SPLIT_ATTR && now->meta.split == RLE_SPLIT_ATTR && was->nruns && now->nruns &&
	    (was->runs[0].attr ^ now->runs[0].attr) & RLE_ATTR_JOINED) {
		fprintf(stderr, "dsmap: %s was made %s --join: do the same now, or every page differs\n", o->diff,
			was->runs[0].attr & RLE_ATTR_JOINED ? "with" : "without");
		return DSMAP_USAGE;
	}
	return 0;
}

/* Prints what was asked for.  Return: an exit code. */
static int show(const struct dsmap_options *o, const struct subject *s, const struct rle_map *was)
{
	struct mapprint p = {
		.f = stdout,
		.json = o->json,
		.comm = s->scanned ? s->comm : NULL,
		.counts = s->scanned ? &s->counts : NULL,
		.joined = o->join == RLE_JOIN_FULL,
		.no_frames = s->no_frames,
	};
	int code;

	if (o->diff) {
		code = comparable(o, was, &s->map);
		if (code)
			return code;
		if (mapprint_diff(&p, was, &s->map)) {
			fprintf(stderr, "dsmap: %s: its runs are split by '%s' or count other things: the maps cannot be compared\n", o->diff,
				dsmap_split_name(was->meta.split));
			return DSMAP_USAGE;
		}
	} else if (o->stats) {
		mapprint_stats(&p, &s->map);
	} else if (!o->out || o->json) {
		mapprint_runs(&p, &s->map);
	}
	if (fflush(stdout) || ferror(stdout))
		return system_error("standard output", -errno);
	return DSMAP_DONE;
}

int main(int argc, char **argv)
{
	__attribute__((cleanup(subject_free))) struct subject s = {0};
	__attribute__((cleanup(rle_map_close))) struct rle_map was = {0};
	struct dsmap_options o;
	enum rle_split split;
	int code = dsmap_options_read(&o, argc, argv);

	if (code >= 0)
		return code;
	split = o.split;
	if (o.diff) {
		code = load(&was, o.diff);
		if (code)
			return code;
		if (!o.split_said)
			split = was.meta.split; /* what it can be compared with */
	}
	code = o.from ? load(&s.map, o.from) : scan(&s, &o, split);
	if (code)
		return code;
	if (o.from && o.split_said && s.map.meta.split != o.split) {
		fprintf(stderr, "dsmap: %s is split by '%s', and a saved map stays as it is\n", o.from, dsmap_split_name(s.map.meta.split));
		return DSMAP_USAGE;
	}
	if (o.out && o.from) {
		fputs("dsmap: --out with --from would be a copy: use cp\n", stderr);
		return DSMAP_USAGE;
	}
	if (o.out) {
		code = save(o.out, s.blob, s.blob_bytes);
		if (code)
			return code;
	}
	return show(&o, &s, &was);
}
