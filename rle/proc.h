/* proc.h - one process: who it is, and its page table through the encoder
 *
 * Theory of operation
 *
 * A process is held by a descriptor of its /proc directory: after exit that gives ESRCH, also when the PID is in
 * use again, while a path would silently open the other process.  (pid, start_ticks) is its identity.
 * (Start times are told in hundredths of a second: a PID used twice within one cannot be told apart by it.)
 *
 * maps and pagemap are both opened before either is read.  Each holds the mm of that moment; when the process exits
 * or execs, that mm dies, and both then read as empty, without an error.  An empty or short read inside a mapping
 * is therefore the sign that the process went away (-ESRCH) and everything read is thrown away.
 *
 * Reading strategy, all of it optional for the kernel (it falls back to plain files):
 * - PROCMAP_QUERY (6.11) lists mappings without formatting text and without path names.
 * - PAGEMAP_SCAN (6.7) with one output entry answers "where is the next page that is not a hole, and is it mapped
 *   by a PMD"; used where a plain read has just shown a hole or a mapping is large, so that holes cost nothing, and
 *   so that a huge page costs one word instead of 512.  One entry a call, because kernels report a stale walk_end
 *   for long vectors.
 * - everything else is read in whole chunks: the kernel's own page walk is the cost (25 ns a 4 KiB entry).
 */
#ifndef RLE_PROC_H
#define RLE_PROC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "rle/enc.h"
#include "rle/src.h"

#define RLE_COMM_BYTES 64 /* TASK_COMM_LEN is 16; kernel threads and recorded trees may show more */

/** struct rle_proc - An open process. */
struct rle_proc {
	struct rle_src *src;
	int dir_fd;
	pid_t pid;
	char comm[RLE_COMM_BYTES]; /* without the brackets; bytes as the kernel has them */
	char state;		   /* R S D Z T t X I */
	bool kthread;		   /* PF_KTHREAD: no address space of its own */
	uint64_t start_ticks;	   /* field 22: clock ticks after boot */
	uint64_t vsz_bytes;	   /* field 23 */
	uint64_t rss_pages;	   /* field 24; leaves out hugetlb pages */

	/* Asked by rle_proc_scan() when maps and pagemap are open and not read yet: whether whoever asked for this scan may see
	 * this memory, which later execs do not change any more.  NULL: nobody is asked, which is what rle_proc_open() leaves. */
	int (*may_see)(void *ctx); /* Return: 0; else what rle_proc_scan() returns */
	void *may_see_ctx;
};

/**
 * rle_proc_open() - Take hold of a process and read its stat
 * @p: filled in; give back with rle_proc_close()
 * @src: where from; must outlive @p
 * @pid: which
 *
 * Return: 0; -ESRCH it is gone; -EBADMSG stat cannot be parsed; -errno.
 */
int rle_proc_open(struct rle_proc *p, struct rle_src *src, pid_t pid);
void rle_proc_close(struct rle_proc *p);

/** struct rle_proc_status - From /proc/PID/status, which needs no mmap_lock. */
struct rle_proc_status {
	uid_t uid;		/* real */
	uint64_t hugetlb_pages; /* in pages of 4 KiB: HugetlbPages; leaves out those behind page tables shared with others */
};

/** rle_proc_status() - Return: 0, -ESRCH, -EBADMSG, -errno. */
int rle_proc_status(const struct rle_proc *p, struct rle_proc_status *st);

/**
 * rle_proc_ksm() - Pages that KSM has merged into shared ones, without a join
 * @pages: filled in
 *
 * From /proc/PID/ksm_merging_pages (Linux 5.19); needs no mmap_lock.
 * Return: 0, -ENOENT the kernel does not tell, -ESRCH, -errno.
 */
int rle_proc_ksm(const struct rle_proc *p, uint64_t *pages);

/**
 * rle_proc_cgroup() - Path of the process's cgroup: the v2 one, else that of the first v1 hierarchy listed
 * @buf: filled with a terminated string; empty if there is none
 * @size: of @buf in bytes
 *
 * Return: 0, -ESRCH, -errno.
 */
int rle_proc_cgroup(const struct rle_proc *p, char *buf, size_t size);

/**
 * rle_proc_scan() - Feed a process's whole page table to an encoder
 * @p: open process
 * @e: initialised with rle_enc_init(); rle_enc_finish() has been called on it on return 0
 * @progress: raised as work is done, so that a watcher can tell slow from hung; may be NULL
 *
 * [vdso], [vvar] and [vsyscall] are left out, as the paper leaves out the vDSO (Section II).
 *
 * Return: 0; -ESRCH the process exited or exec'd meanwhile; -EACCES/-EPERM refused; -EBADMSG maps cannot be
 * parsed; -errno.
 */
int rle_proc_scan(const struct rle_proc *p, struct rle_enc *e, atomic_uint_least64_t *progress);

/**
 * rle_proc_list() - The processes of a source
 * @src: the source
 * @pids: set to a malloc'd array of them in rising order, which the caller frees
 *
 * Return: how many, or -errno.
 */
ssize_t rle_proc_list(const struct rle_src *src, pid_t **pids);

#endif
