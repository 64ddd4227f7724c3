/* fuse.c - a file system of one file, served on /dev/fuse
 *
 * usage: fuse TEXT     says "descriptor N" and waits until somebody has mounted what that leads to; the file "hello" there holds TEXT
 *
 * Ends when it is unmounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_NODE 2
#define BUFFER_BYTES (132 << 10)

static const char *text;
static int device;
static _Alignas(8) uint8_t request[BUFFER_BYTES];

static void reply(const struct fuse_in_header *in, int error, const void *data, size_t bytes)
{
	struct fuse_out_header out = {.len = (uint32_t)(sizeof(out) + bytes), .error = -error, .unique = in->unique};
	struct iovec iov[2] = {{&out, sizeof(out)}, {(void *)(uintptr_t)data, bytes}};

	if (writev(device, iov, bytes ? 2 : 1) < 0 && errno != ENOENT)
		printf("writev: %s\n", strerror(errno));
}

static struct fuse_attr attr_of(uint64_t node)
{
	return (struct fuse_attr){.ino = node,
				  .size = node == FILE_NODE ? strlen(text) : 0,
				  .mode = node == FILE_NODE ? S_IFREG | 0444 : S_IFDIR | 0555,
				  .nlink = 1};
}

static void lookup(const struct fuse_in_header *in, const char *name)
{
	const struct fuse_entry_out entry = {.nodeid = FILE_NODE, .attr = attr_of(FILE_NODE)};

	if (in->nodeid != FUSE_ROOT_ID || strcmp(name, "hello"))
		reply(in, ENOENT, NULL, 0);
	else
		reply(in, 0, &entry, sizeof(entry));
}

static void read_file(const struct fuse_in_header *in, const struct fuse_read_in *r)
{
	const size_t bytes = strlen(text), at = r->offset < bytes ? (size_t)r->offset : bytes;

	reply(in, 0, text + at, bytes - at < r->size ? bytes - at : r->size);
}

static void read_folder(const struct fuse_in_header *in, const struct fuse_read_in *r)
{
	_Alignas(8) uint8_t entry[FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + 5)] = {0};
	const struct fuse_dirent head = {.ino = FILE_NODE, .off = 1, .namelen = 5, .type = S_IFREG >> 12};

	memcpy(entry, &head, FUSE_NAME_OFFSET);
	memcpy(entry + FUSE_NAME_OFFSET, "hello", 5);
	reply(in, 0, entry, r->offset ? 0 : sizeof(entry));
}

static void serve(const struct fuse_in_header *in, const void *body)
{
	const struct fuse_init_in *wanted = body;
	const struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = in->opcode == FUSE_INIT ? wanted->max_readahead : 0,
					   .max_write = 4096};
	const struct fuse_attr_out attr = {.attr = attr_of(in->nodeid)};
	const struct fuse_open_out opened = {.fh = 0};

	switch (in->opcode) {
	case FUSE_INIT: reply(in, 0, &init, sizeof(init)); break;
	case FUSE_LOOKUP: lookup(in, body); break;
	case FUSE_GETATTR: reply(in, 0, &attr, sizeof(attr)); break;
	case FUSE_OPEN:
	case FUSE_OPENDIR: reply(in, 0, &opened, sizeof(opened)); break;
	case FUSE_READ: read_file(in, body); break;
	case FUSE_READDIR: read_folder(in, body); break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR: reply(in, 0, NULL, 0); break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT: break;
	default: reply(in, ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	text = argc > 1 ? argv[1] : "";
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0) {
		printf("/dev/fuse: %s\n", strerror(errno));
		return 1;
	}
	printf("descriptor %d\n", device);
	for (;;) {
		const ssize_t n = read(device, request, sizeof(request));

		if (n < 0 && errno == EPERM) /* not mounted yet */
			usleep(50000);
		else if (n < 0 && errno == ENODEV) /* not any more */
			break;
		else if (n < 0 && errno != EINTR && errno != ENOENT && errno != EAGAIN) {
			printf("read: %s\n", strerror(errno));
			return 1;
		} else if (n > (ssize_t)sizeof(struct fuse_in_header))
			serve((const void *)request, request + sizeof(struct fuse_in_header));
	}
	puts("unmounted");
	return 0;
}
