/* collect_hang - makes a process that hangs whoever reads its page table, or a file that hangs its reader for good
 *
 * usage: collect_hang lock DIR    mounts on DIR; prints the PID of a process that holds its mmap_lock for writing
 *        collect_hang read DIR    mounts on DIR; a read of DIR/f hangs and cannot be interrupted, by SIGKILL neither
 *
 * Both last until standard input ends; then everything is undone and those who hang go on.
 *
 * How: a file system of our own, spoken directly to /dev/fuse (include/uapi/linux/fuse.h), holds one file, f, and leaves
 * some requests unanswered.
 *
 * lock: the victim maps f shared, dirties a page and maps something else over it.  mmap() with MAP_FIXED unmaps the old
 * mapping while it holds mmap_lock for writing; fuse_vma_close() then writes the page back and waits for the answer
 * (fs/fuse/file.c; watched on 6.18).  An ordinary page fault would not do: it lets go of mmap_lock while it waits, or,
 * with per-VMA locks, does not take it.
 *
 * read: f is opened with FOPEN_DIRECT_IO, so that read() itself sends the request.  Once the server has taken a request,
 * request_wait_answer() waits for it uninterruptibly (fs/fuse/dev.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#define FILE_NODE 2
#define FILE_BYTES 4096

static int fuse_fd;
static bool hang_reads;

static void die(const char *what)
{
	fprintf(stderr, "collect_hang: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void reply(const struct fuse_in_header *in, int err, const void *body, size_t bytes)
{
	char buf[sizeof(struct fuse_out_header) + 8192];
	struct fuse_out_header out = {.len = sizeof(out) + bytes, .error = err, .unique = in->unique};

	memcpy(buf, &out, sizeof(out));
	if (bytes)
		memcpy(buf + sizeof(out), body, bytes);
	if (write(fuse_fd, buf, out.len) < 0 && errno != ENOENT)
		die("write to /dev/fuse");
}

static struct fuse_attr attributes(uint64_t node)
{
	return (struct fuse_attr){.ino = node,
				  .size = node == FILE_NODE ? FILE_BYTES : 0,
				  .blocks = 8,
				  .mode = node == FILE_NODE ? S_IFREG | 0600 : S_IFDIR | 0700,
				  .nlink = 1,
				  .blksize = 4096};
}

static void serve(const struct fuse_in_header *in, const void *body)
{
	char zeros[FILE_BYTES] = {0};

	switch (in->opcode) {
	case FUSE_INIT: {
		const struct fuse_init_in *init = body;
		struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = init->minor, .max_write = 4096, .max_readahead = 0};

		if (out.minor > FUSE_KERNEL_MINOR_VERSION)
			out.minor = FUSE_KERNEL_MINOR_VERSION;
		reply(in, 0, &out, sizeof(out));
		break;
	}
	case FUSE_LOOKUP: {
		struct fuse_entry_out out = {.nodeid = FILE_NODE, .attr_valid = 3600, .entry_valid = 3600, .attr = attributes(FILE_NODE)};

		if (strcmp(body, "f") == 0)
			reply(in, 0, &out, sizeof(out));
		else
			reply(in, -ENOENT, NULL, 0);
		break;
	}
	case FUSE_GETATTR: {
		struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(in->nodeid)};

		reply(in, 0, &out, sizeof(out));
		break;
	}
	case FUSE_OPEN: {
		struct fuse_open_out out = {.open_flags = hang_reads ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE};

		reply(in, 0, &out, sizeof(out));
		break;
	}
	case FUSE_READ:
		if (!hang_reads)
			reply(in, 0, zeros, sizeof(zeros));
		break;
	case FUSE_WRITE: /* never answered */
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(in, -ENOSYS, NULL, 0);
	}
}

static void run_victim(const char *dir)
{
	char path[4096];
	char *page;
	int fd;

	snprintf(path, sizeof(path), "%s/f", dir);
	fd = open(path, O_RDWR);
	page = fd < 0 ? MAP_FAILED : mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		die(path);
	page[0] = 1;
	mmap(page, FILE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	for (;;)
		pause();
}

/* Whether @pid is in state D: it then waits for the write, with the lock held. */
static bool in_d_state(pid_t pid)
{
	char path[64], text[512] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return strstr(text, ") D ") != NULL;
}

int main(int argc, char **argv)
{
	char options[128];
	_Alignas(8) static char buf[1 << 17];
	pid_t victim = 0;
	bool told = false;

	if (argc != 3 || (strcmp(argv[1], "lock") && strcmp(argv[1], "read"))) {
		fprintf(stderr, "usage: collect_hang lock|read DIR\n");
		return 1;
	}
	hang_reads = strcmp(argv[1], "read") == 0;
	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse_fd < 0)
		die("/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse_fd);
	if (mount("collect_hang", argv[2], "fuse", MS_NOSUID | MS_NODEV, options))
		die(argv[2]);
	if (!hang_reads) {
		victim = fork();
		if (victim == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(fuse_fd); /* else it would keep the file system alive that it hangs on */
			run_victim(argv[2]);
		}
	}
	for (;;) {
		struct pollfd fds[2] = {{.fd = fuse_fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
		ssize_t n;

		if (!told && (hang_reads || in_d_state(victim))) {
			printf("%d\n", hang_reads ? getpid() : victim);
			fflush(stdout);
			told = true;
		}
		if (poll(fds, 2, 20) < 0)
			die("poll");
		if (fds[1].revents)
			break;
		if (!fds[0].revents)
			continue;
		n = read(fuse_fd, buf, sizeof(buf));
		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			serve((struct fuse_in_header *)buf, buf + sizeof(struct fuse_in_header));
		else if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT)
			die("read from /dev/fuse");
	}
	if (victim)
		kill(victim, SIGKILL);
	umount2(argv[2], MNT_DETACH);
	close(fuse_fd); /* aborts what is unanswered */
	if (victim)
		waitpid(victim, NULL, 0);
	return 0;
}
