/* standin_cuda.c - a libcuda.so.1 for machines without a card: memory is had as NVIDIA's library has it, and the processor computes
 *
 * With this in the library path tests/device/cuda runs on nodes that are /dev/zero's, and so all of tests/gpu/check can be tried
 * where there is no card: tests/cli/gpu.sh.  What the real one does by commands is not here; what is, is what it does to files and memory:
 *
 *   the card's memory    a file opened for one mapping, a command on nvidiactl that arms it (NV_ESC_RM_MAP_MEMORY), mmap() of its offset 0
 *			  over room that was reserved, and the file is closed (kernel-open/nvidia/nv-mmap.c)
 *   pinned memory	  the program's own, handed to the driver page by page (NV_ESC_RM_ALLOC_MEMORY, os_lock_user_pages())
 *   managed memory	  is not there: what would be shown of it is the driver's doing
 *
 * The commands fail, as the nodes know none.  The first target of a kernel is refused, as drivers refuse those that are too old for them.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define API(name, ...)                                                                                                                               \
	int name(__VA_ARGS__);                                                                                                                       \
	int name(__VA_ARGS__)
#define NO_MEMORY 2
#define NO_DEVICE 100
#define NO_BINARY 209
#define NOT_SUPPORTED 801
#define ROOM (UINT64_C(1) << 30)
#define PAGE UINT64_C(4096)
#define CAPABILITY_MAJOR 75

typedef uint64_t device_ptr;

/* nv_ioctl_nvos33_parameters_with_fd and nv_ioctl_nvos02_parameters_with_fd */
struct map_memory {
	uint32_t client, device, memory, pad;
	uint64_t offset, length, address;
	uint32_t status, flags;
	int32_t fd;
};
struct alloc_memory {
	uint32_t root, parent, object, class, flags;
	uint64_t memory, limit;
	uint32_t status;
	int32_t fd;
};
#define MAP_MEMORY _IOC(_IOC_READ | _IOC_WRITE, 'F', 0x4e, sizeof(struct map_memory))
#define ALLOC_MEMORY _IOC(_IOC_READ | _IOC_WRITE, 'F', 0x27, sizeof(struct alloc_memory))
#define OS_DESCRIPTOR 0x71u

static int control = -1, card = -1, uvm = -1;
static char *room;
static uint64_t used, launches;

static uint64_t whole(uint64_t bytes)
{
	return (bytes + PAGE - 1) & ~(PAGE - 1);
}

API(cuInit, unsigned int flags)
{
	(void)flags;
	control = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	card = open("/dev/nvidia0", O_RDWR | O_CLOEXEC);
	uvm = open("/dev/nvidia-uvm", O_RDWR | O_CLOEXEC);
	room = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return control < 0 || card < 0 || uvm < 0 || room == MAP_FAILED ? NO_DEVICE : 0;
}

API(cuMemAlloc_v2, device_ptr *p, size_t bytes)
{
	const int fd = open("/dev/nvidia0", O_RDWR | O_CLOEXEC);
	struct map_memory arm = {.length = bytes, .fd = fd};
	void *at = MAP_FAILED;

	if (fd >= 0 && used + whole(bytes) <= ROOM) {
		ioctl(control, MAP_MEMORY, &arm);
		at = mmap(room + used, whole(bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	}
	if (fd >= 0)
		close(fd);
	if (at == MAP_FAILED)
		return NO_MEMORY;
	used += whole(bytes);
	*p = (device_ptr)(uintptr_t)at;
	return 0;
}

API(cuMemHostAlloc, void **p, size_t bytes, unsigned int flags)
{
	struct alloc_memory ask = {.class = OS_DESCRIPTOR, .limit = whole(bytes) - 1, .fd = -1};

	(void)flags;
	*p = mmap(NULL, whole(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*p == MAP_FAILED)
		return NO_MEMORY;
	ask.memory = (uint64_t)(uintptr_t)*p;
	ioctl(card, ALLOC_MEMORY, &ask);
	return 0;
}

API(cuMemAllocManaged, device_ptr *p, size_t bytes, unsigned int flags)
{
	(void)bytes;
	(void)flags;
	*p = 0;
	return NOT_SUPPORTED;
}

API(cuMemcpyHtoD_v2, device_ptr to, const void *from, size_t bytes)
{
	memcpy((void *)(uintptr_t)to, from, bytes);
	return 0;
}

API(cuMemcpyDtoH_v2, void *to, device_ptr from, size_t bytes)
{
	memcpy(to, (const void *)(uintptr_t)from, bytes);
	return 0;
}

/* --- kernels ------------------------------------------------------------------------------------------------------------------- */

API(cuModuleLoadData, void **module, const void *text)
{
	*module = room;
	return strstr(text, ".target sm_50") ? NO_BINARY : 0;
}

/* NULL stands for the one that does nothing. */
API(cuModuleGetFunction, void **function, void *module, const char *name)
{
	*function = strcmp(name, "add") ? NULL : module;
	return 0;
}

API(cuLaunchKernel, void *function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
	unsigned int shared, void *stream, void **args, void **extra)
{
	const float *a, *b;
	unsigned int n;
	float *c;

	(void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)stream, (void)extra;
	launches++;
	if (!function)
		return 0;
	memcpy(&a, args[0], sizeof(a));
	memcpy(&b, args[1], sizeof(b));
	memcpy(&c, args[2], sizeof(c));
	memcpy(&n, args[3], sizeof(n));
	for (unsigned int i = 0; i < n; i++)
		c[i] = a[i] + b[i];
	return 0;
}

/* --- events: how many kernels there were before each; a kernel takes a microsecond of this time ------------------------------------- */

API(cuEventCreate, void **event, unsigned int flags)
{
	(void)flags;
	*event = calloc(1, sizeof(launches));
	return *event ? 0 : NO_MEMORY;
}

API(cuEventRecord, void *event, void *stream)
{
	(void)stream;
	memcpy(event, &launches, sizeof(launches));
	return 0;
}

API(cuEventElapsedTime, float *ms, const void *begin, const void *end)
{
	uint64_t a, b;

	memcpy(&a, begin, sizeof(a));
	memcpy(&b, end, sizeof(b));
	*ms = (float)(b - a) / 1000;
	return 0;
}

API(cuEventDestroy_v2, void *event)
{
	free(event);
	return 0;
}

/* --- what has nothing to do ------------------------------------------------------------------------------------------------------- */

API(cuDeviceGet, int *device, int i)
{
	*device = i;
	return 0;
}

API(cuDeviceGetCount, int *n)
{
	*n = 1;
	return 0;
}

API(cuDeviceGetName, char *name, int room_bytes, int device)
{
	(void)device;
	snprintf(name, (size_t)room_bytes, "stand-in");
	return 0;
}

API(cuDeviceTotalMem_v2, size_t *bytes, int device)
{
	(void)device;
	*bytes = ROOM;
	return 0;
}

API(cuDeviceGetAttribute, int *value, int which, int device)
{
	(void)device;
	*value = which == CAPABILITY_MAJOR ? 9 : 0;
	return 0;
}

API(cuCtxCreate_v2, void **context, unsigned int flags, int device)
{
	(void)flags;
	(void)device;
	*context = room;
	return 0;
}

API(cuStreamCreate, void **stream, unsigned int flags)
{
	(void)flags;
	*stream = room;
	return 0;
}

API(cuGetErrorName, int error, const char **name)
{
	*name = error == NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED" : "an error of the stand-in";
	return 0;
}

API(cuCtxSynchronize, void)
{
	return 0;
}

#define NOTHING(name)                                                                                                                                \
	API(name, const void *object)                                                                                                                \
	{                                                                                                                                            \
		(void)object;                                                                                                                        \
		return 0;                                                                                                                            \
	}
NOTHING(cuCtxDestroy_v2)
NOTHING(cuMemFree_v2)
NOTHING(cuMemFreeHost)
NOTHING(cuStreamSynchronize)
NOTHING(cuStreamDestroy_v2)
NOTHING(cuEventSynchronize)
