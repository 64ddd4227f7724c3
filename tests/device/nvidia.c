/* nvidia.c - what NVIDIA's user libraries do with files, devices and mappings, without any of their commands
 *
 * usage: nvidia [MAPPINGS]    a line for each step; MAPPINGS: of each device, default 3
 *        nvidia pin DEVICE    gives memory that it has not touched to DEVICE for pinning, says where it is; stores a word there for
 *			       each line that comes
 *
 * libcuda and nvidia-smi, seen through strace(1) and in the open sources of driver (kernel-open/nvidia/nv-mmap.c, nvidia-uvm/uvm.c) and
 * nvidia-modprobe (modprobe-utils/): they read how the driver wants its nodes to be, compare the nodes with that, look for modules, the driver's
 * numbers, the card's place on the bus and the size of a block of the host's memory, open nvidiactl, the card and nvidia-uvm, and send a
 * first command, the check of versions.  Each later mapping of the card's memory is
 * a file of its own, opened for that and closed at once, mapped at offset 0 where the library has reserved room; managed memory is
 * mapped from nvidia-uvm at an offset that is its address.  Where this prints the same in a guest or a container as on the host, all is
 * there that comes before the driver itself: what a stand-in can show, which has nodes that answer no command.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CHECK_VERSION _IOC(_IOC_READ | _IOC_WRITE, 'F', 210, 72) /* NV_ESC_CHECK_VERSION_STR */
#define UVM_INITIALIZE 0x30000001ul
#define ROOM (UINT64_C(64) << 20)
#define MAP_BYTES 65536u
#define NAMES_MAX 16
#define PIN_BYTES (UINT64_C(9) << 20)
#define OS_DESCRIPTOR 0x71u /* NV01_MEMORY_SYSTEM_OS_DESCRIPTOR */

/* nv_ioctl_nvos02_parameters_with_fd: the driver pins [memory, memory + limit] (RmAllocOsDescriptor(), os_lock_user_pages()). */
struct alloc_memory {
	uint32_t root, parent, object, class, flags;
	uint64_t memory, limit;
	uint32_t status;
	int32_t fd;
};
#define ALLOC_MEMORY _IOC(_IOC_READ | _IOC_WRITE, 'F', 0x27, sizeof(struct alloc_memory)) /* NV_ESC_RM_ALLOC_MEMORY */

/* What is in a file, its lines joined. */
static void show(const char *path)
{
	char text[400];
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	printf("read %s: ", path);
	if (n < 0) {
		puts(strerror(errno));
	} else {
		text[n] = 0;
		for (char *at = text; *at; at++)
			putchar(*at == '\n' ? ';' : *at);
		putchar('\n');
	}
	if (fd >= 0)
		close(fd);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void list(const char *path)
{
	char names[NAMES_MAX][256];
	DIR *dir = opendir(path);
	size_t n = 0;

	printf("list %s:", path);
	for (struct dirent *e; dir && n < NAMES_MAX && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			strcpy(names[n++], e->d_name);
	qsort(names, n, sizeof(names[0]), by_name);
	for (size_t i = 0; i < n; i++)
		printf(" %s", names[i]);
	puts(dir ? "" : strerror(errno));
	if (dir)
		closedir(dir);
}

static void node(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		printf("stat %s: %s\n", path, strerror(errno));
	else
		printf("stat %s: %s %u:%u %o, %s\n", path, S_ISCHR(st.st_mode) ? "character device" : "something else", major(st.st_rdev),
		       minor(st.st_rdev), (unsigned int)(st.st_mode & 07777), access(path, R_OK | W_OK) ? strerror(errno) : "for reading and writing");
}

/* Number @NAME of the drivers' list, which tells a node's major number. */
static void number(const char *name)
{
	FILE *f = fopen("/proc/devices", "re");
	char line[100], found[100];
	unsigned int n;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%u %99s", &n, found) == 2 && !strcmp(found, name))
			printf("driver %s: %u\n", name, n);
	if (f)
		fclose(f);
	else
		printf("drivers: %s\n", strerror(errno));
}

static int device(const char *path)
{
	const int fd = open(path, O_RDWR | O_CLOEXEC);

	printf("open %s: ", path);
	if (fd < 0)
		puts(strerror(errno));
	else
		printf("%d, close on exec %d\n", fd, fcntl(fd, F_GETFD));
	return fd;
}

static void command(const char *name, int fd, unsigned long what)
{
	char versions[72] = "535.0";

	printf("%s: ", name);
	puts(ioctl(fd, what, versions) ? strerror(errno) : "done");
}

/* One after the other into the room that is reserved, each of a file that is open for that only. */
static void mappings(const char *path, unsigned int n, char *room)
{
	unsigned int good = 0, own = 0;

	for (unsigned int i = 0; i < n; i++) {
		const int fd = open(path, O_RDWR | O_CLOEXEC);
		char *at = fd < 0 ? MAP_FAILED :
				    mmap(room + i * MAP_BYTES, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);

		if (fd >= 0)
			close(fd);
		if (at != room + i * MAP_BYTES) {
			printf("map %s: %s\n", path, strerror(errno));
			return;
		}
		good++;
		at[0] = (char)i;
		at[MAP_BYTES - 1] = (char)i;
	}
	for (unsigned int i = 0; i < n; i++)
		own += room[i * MAP_BYTES] == (char)i;
	printf("map %s: %u mappings, %u with what was stored there\n", path, good, own);
	if (munmap(room + MAP_BYTES / 2, n * MAP_BYTES - MAP_BYTES / 2))
		printf("unmap: %s\n", strerror(errno));
	room[1] = 1; /* half of the first is left */
}

/* Its offset is its address; a child has none of it.  Nothing is stored there: no stand-in has memory at such an offset. */
static void managed(char *room)
{
	const int fd = device("/dev/nvidia-uvm");
	char *at;

	if (fd < 0)
		return;
	command("first command to nvidia-uvm", fd, UVM_INITIALIZE);
	at = mmap(room, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)(uintptr_t)room);
	printf("map /dev/nvidia-uvm at its own address: %s\n", at == room ? "there" : strerror(errno));
	if (at != room)
		return;
	printf("not for children: %d\n", madvise(room, MAP_BYTES, MADV_DONTFORK));
	printf("back: %d\n", munmap(room, MAP_BYTES));
	close(fd);
}

static int pin(const char *path)
{
	struct alloc_memory ask = {.class = OS_DESCRIPTOR, .limit = PIN_BYTES - 1, .fd = -1};
	const int fd = open(path, O_RDWR | O_CLOEXEC);
	char *memory = mmap(NULL, PIN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), line[16];

	if (fd < 0 || memory == MAP_FAILED)
		return 1;
	ask.memory = (uint64_t)(uintptr_t)memory;
	printf("%#lx %lu %s\n", (unsigned long)ask.memory, (unsigned long)PIN_BYTES, ioctl(fd, ALLOC_MEMORY, &ask) ? strerror(errno) : "done");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		strcpy(memory + PIN_BYTES - sizeof(line), line);
		puts("stored");
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const unsigned int n = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 3;
	char *room, target[256];
	ssize_t bytes;
	int control, card;

	if (argc == 3 && !strcmp(argv[1], "pin"))
		return pin(argv[2]);
	show("/proc/driver/nvidia/version");
	show("/proc/driver/nvidia/params");
	number("nvidia-frontend");
	number("nvidia");
	number("nvidia-uvm");
	node("/dev/nvidiactl");
	node("/dev/nvidia-uvm");
	list("/proc/driver/nvidia/gpus");
	show("/proc/driver/nvidia/gpus/0000:01:00.0/information");
	show("/proc/driver/nvidia/capabilities/mig/config");
	list("/sys/bus/pci/devices");
	bytes = readlink("/sys/bus/pci/devices/0000:01:00.0", target, sizeof(target) - 1);
	printf("link of the card: %.*s\n", bytes < 0 ? 0 : (int)bytes, target);
	show("/sys/bus/pci/devices/0000:01:00.0/numa_node");
	show("/sys/bus/pci/devices/0000:01:00.0/vendor");
	show("/sys/devices/pci0000:00/0000:01:00.0/local_cpulist");
	show("/sys/devices/system/memory/block_size_bytes");
	show("/sys/module/nvidia_uvm/initstate");
	list("/dev/nvidia-caps");
	room = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	control = device("/dev/nvidiactl");
	if (control < 0 || room == MAP_FAILED)
		return 1;
	command("first command to nvidiactl", control, CHECK_VERSION);
	node("/dev/nvidia0");
	card = device("/dev/nvidia0");
	mappings("/dev/nvidiactl", n, room);
	mappings("/dev/nvidia0", n, room + ROOM / 4);
	managed(room + ROOM / 2);
	printf("close: %d %d\n", close(card), close(control));
	node("/dev/nvidia1");
	return 0;
}
