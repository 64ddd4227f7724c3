/* cuda.c - small CUDA programs by the driver's own interface, which is loaded when they run: nothing of CUDA is needed to build them
 *
 * usage: cuda [CASE]...    without: all.  A line for each: "ok NAME: ...", "not ok NAME: where it stopped and why", "none NAME: ..."
 *
 *   query     the device, its memory and version		streams   work in four streams at a time
 *   add       vectorAdd, checked against the processor	events    the time between two events rises with the work
 *   pinned    copying by pinned memory, both ways		launch    how long an empty kernel takes to start
 *   managed   memory that moves by itself (UVM)		product   a matrix product of cuBLAS, checked
 *
 * Times and bandwidths are printed as they are; who runs this on the host and in a guest compares them.  Types and numbers are of
 * cuda.h and cublas_v2.h (CUDA 12).
 */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ELEMENTS 1000000u
#define PINNED_BYTES (64u << 20)
#define LAUNCHES 2000
#define SIDE 256
#define STREAMS 4

typedef unsigned long long device_ptr;
typedef int result;

static struct {
	result (*init)(unsigned int), (*device_get)(int *, int), (*device_count)(int *), (*device_name)(char *, int, int),
		(*device_mem)(size_t *, int), (*attribute)(int *, int, int), (*ctx_create)(void **, unsigned int, int), (*ctx_destroy)(void *),
		(*module_load)(void **, const void *), (*function)(void **, void *, const char *), (*mem_alloc)(device_ptr *, size_t),
		(*mem_free)(device_ptr), (*to_device)(device_ptr, const void *, size_t), (*from_device)(void *, device_ptr, size_t),
		(*host_alloc)(void **, size_t, unsigned int), (*host_free)(void *), (*managed)(device_ptr *, size_t, unsigned int),
		(*launch)(void *, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, void *, void **,
			  void **),
		(*sync)(void), (*stream_create)(void **, unsigned int), (*stream_sync)(void *), (*stream_destroy)(void *),
		(*event_create)(void **, unsigned int), (*event_record)(void *, void *), (*event_sync)(void *),
		(*event_elapsed)(float *, void *, void *), (*event_destroy)(void *), (*error_name)(result, const char **);
} cu;

static const struct {
	const char *name;
	void *to;
} symbols[] = {
	{"cuInit", &cu.init}, {"cuDeviceGet", &cu.device_get}, {"cuDeviceGetCount", &cu.device_count}, {"cuDeviceGetName", &cu.device_name},
	{"cuDeviceTotalMem_v2", &cu.device_mem}, {"cuDeviceGetAttribute", &cu.attribute}, {"cuCtxCreate_v2", &cu.ctx_create},
	{"cuCtxDestroy_v2", &cu.ctx_destroy}, {"cuModuleLoadData", &cu.module_load}, {"cuModuleGetFunction", &cu.function},
	{"cuMemAlloc_v2", &cu.mem_alloc}, {"cuMemFree_v2", &cu.mem_free}, {"cuMemcpyHtoD_v2", &cu.to_device}, {"cuMemcpyDtoH_v2", &cu.from_device},
	{"cuMemHostAlloc", &cu.host_alloc}, {"cuMemFreeHost", &cu.host_free}, {"cuMemAllocManaged", &cu.managed}, {"cuLaunchKernel", &cu.launch},
	{"cuCtxSynchronize", &cu.sync}, {"cuStreamCreate", &cu.stream_create}, {"cuStreamSynchronize", &cu.stream_sync},
	{"cuStreamDestroy_v2", &cu.stream_destroy}, {"cuEventCreate", &cu.event_create}, {"cuEventRecord", &cu.event_record},
	{"cuEventSynchronize", &cu.event_sync}, {"cuEventElapsedTime", &cu.event_elapsed}, {"cuEventDestroy_v2", &cu.event_destroy},
	{"cuGetErrorName", &cu.error_name},
};

/* Each generation of drivers translates for the cards of its time and some older ones. */
static const char *const targets[] = {".version 6.0\n.target sm_50\n", ".version 6.3\n.target sm_75\n", ".version 7.8\n.target sm_90\n"};
/* c[i] = a[i] + b[i]; and nothing */
static const char kernels[] =
	".address_size 64\n"
	".visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)\n{\n"
	".reg .pred %p<2>;\n.reg .f32 %f<4>;\n.reg .b32 %r<6>;\n.reg .b64 %rd<11>;\n"
	"ld.param.u64 %rd1, [a];\nld.param.u64 %rd2, [b];\nld.param.u64 %rd3, [c];\nld.param.u32 %r5, [n];\n"
	"mov.u32 %r2, %ctaid.x;\nmov.u32 %r3, %ntid.x;\nmov.u32 %r4, %tid.x;\nmad.lo.s32 %r1, %r2, %r3, %r4;\n"
	"setp.ge.s32 %p1, %r1, %r5;\n@%p1 bra DONE;\n"
	"cvta.to.global.u64 %rd4, %rd1;\ncvta.to.global.u64 %rd5, %rd2;\ncvta.to.global.u64 %rd6, %rd3;\nmul.wide.s32 %rd7, %r1, 4;\n"
	"add.s64 %rd8, %rd4, %rd7;\nadd.s64 %rd9, %rd5, %rd7;\nadd.s64 %rd10, %rd6, %rd7;\n"
	"ld.global.f32 %f1, [%rd8];\nld.global.f32 %f2, [%rd9];\nadd.f32 %f3, %f1, %f2;\nst.global.f32 [%rd10], %f3;\n"
	"DONE:\nret;\n}\n"
	".visible .entry nothing()\n{\nret;\n}\n";

static void *add_kernel, *empty_kernel;
static float *left, *right, *sum;
static const char *at_call; /* the call that did not succeed, and why */
static result why;

/* Whether a call succeeded; the first that did not is remembered. */
static int did(result rc, const char *call)
{
	if (rc && !at_call) {
		at_call = call;
		why = rc;
	}
	return !rc;
}
#define DID(call) did(cu.call, #call)

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int start_add(void *stream, device_ptr a, device_ptr b, device_ptr c, unsigned int n)
{
	void *args[] = {&a, &b, &c, &n};

	return DID(launch(add_kernel, (n + 255) / 256, 1, 1, 256, 1, 1, 0, stream, args, NULL));
}

static unsigned int wrong(const float *c, unsigned int n)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < n; i++)
		bad += c[i] != left[i] + right[i];
	return bad;
}

/* --- the cases: each returns whether it went well, and leaves what it has to say in @text --------------------------------- */

static int query(char *text, size_t room)
{
	int major = 0, minor = 0, n = 0;
	char name[128] = "";
	size_t bytes = 0;

	if (!DID(device_count(&n)) || !DID(device_name(name, sizeof(name), 0)) || !DID(device_mem(&bytes, 0)) || !DID(attribute(&major, 75, 0)) ||
	    !DID(attribute(&minor, 76, 0)))
		return 0;
	snprintf(text, room, "%d devices, %s, %zu MiB, compute capability %d.%d", n, name, bytes >> 20, major, minor);
	return 1;
}

static int three(device_ptr p[3], size_t bytes)
{
	for (int i = 0; i < 3; i++)
		if (!DID(mem_alloc(&p[i], bytes)))
			return 0;
	return 1;
}

static int add(char *text, size_t room)
{
	const size_t bytes = ELEMENTS * sizeof(float);
	const double from = now_s();
	device_ptr p[3] = {0};
	unsigned int bad;

	if (!three(p, bytes) || !DID(to_device(p[0], left, bytes)) || !DID(to_device(p[1], right, bytes)) ||
	    !start_add(NULL, p[0], p[1], p[2], ELEMENTS) || !DID(sync()) || !DID(from_device(sum, p[2], bytes)))
		return 0;
	bad = wrong(sum, ELEMENTS);
	snprintf(text, room, "%u sums, %u of them wrong, %.2f ms", ELEMENTS, bad, (now_s() - from) * 1e3);
	for (int i = 0; i < 3; i++)
		cu.mem_free(p[i]);
	return !bad;
}

static int pinned(char *text, size_t room)
{
	double out, back;
	device_ptr p = 0;
	void *host = NULL;
	int same;

	if (!DID(host_alloc(&host, PINNED_BYTES, 0)) || !DID(mem_alloc(&p, PINNED_BYTES)))
		return 0;
	memset(host, 0x5a, PINNED_BYTES);
	out = now_s();
	if (!DID(to_device(p, host, PINNED_BYTES)) || !DID(sync()))
		return 0;
	out = now_s() - out;
	memset(host, 0, PINNED_BYTES);
	back = now_s();
	if (!DID(from_device(host, p, PINNED_BYTES)) || !DID(sync()))
		return 0;
	back = now_s() - back;
	same = ((unsigned char *)host)[0] == 0x5a && !memcmp(host, (char *)host + 1, PINNED_BYTES - 1);
	snprintf(text, room, "%.2f GB/s there, %.2f GB/s back, %s", PINNED_BYTES / out / 1e9, PINNED_BYTES / back / 1e9,
		 same ? "as it went" : "not as it went");
	cu.mem_free(p);
	cu.host_free(host);
	return same;
}

static int managed(char *text, size_t room)
{
	const size_t bytes = ELEMENTS * sizeof(float);
	device_ptr p[3] = {0};
	unsigned int bad;

	for (int i = 0; i < 3; i++)
		if (!DID(managed(&p[i], bytes, 1)))
			return 0;
	memcpy((void *)p[0], left, bytes);
	memcpy((void *)p[1], right, bytes);
	if (!start_add(NULL, p[0], p[1], p[2], ELEMENTS) || !DID(sync()))
		return 0;
	bad = wrong((const float *)p[2], ELEMENTS);
	snprintf(text, room, "%u sums, %u of them wrong", ELEMENTS, bad);
	return !bad;
}

static int streams(char *text, size_t room)
{
	const unsigned int part = ELEMENTS / STREAMS;
	device_ptr p[STREAMS][3] = {{0}};
	void *stream[STREAMS];
	unsigned int bad;

	for (int i = 0; i < STREAMS; i++)
		if (!DID(stream_create(&stream[i], 0)) || !three(p[i], part * sizeof(float)) ||
		    !DID(to_device(p[i][0], left + (size_t)i * part, part * sizeof(float))) ||
		    !DID(to_device(p[i][1], right + (size_t)i * part, part * sizeof(float))) || !start_add(stream[i], p[i][0], p[i][1], p[i][2], part))
			return 0;
	memset(sum, 0, ELEMENTS * sizeof(float));
	for (int i = 0; i < STREAMS; i++)
		if (!DID(stream_sync(stream[i])) || !DID(from_device(sum + (size_t)i * part, p[i][2], part * sizeof(float))) ||
		    !DID(stream_destroy(stream[i])))
			return 0;
	bad = wrong(sum, part * STREAMS);
	snprintf(text, room, "%u sums in %d streams, %u of them wrong", part * STREAMS, STREAMS, bad);
	return !bad;
}

static int launches(int n, float *ms)
{
	void *begin, *end;

	if (!DID(event_create(&begin, 0)) || !DID(event_create(&end, 0)) || !DID(event_record(begin, NULL)))
		return 0;
	for (int i = 0; i < n; i++)
		if (!DID(launch(empty_kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL)))
			return 0;
	return DID(event_record(end, NULL)) && DID(event_sync(end)) && DID(event_elapsed(ms, begin, end)) && DID(event_destroy(begin)) &&
	       DID(event_destroy(end));
}

static int events(char *text, size_t room)
{
	float few = 0, many = 0;

	if (!launches(10, &few) || !launches(LAUNCHES, &many))
		return 0;
	snprintf(text, room, "10 launches %.3f ms, %d launches %.3f ms", (double)few, LAUNCHES, (double)many);
	return many > few;
}

static int launch(char *text, size_t room)
{
	const double from = now_s();

	for (int i = 0; i < LAUNCHES; i++)
		if (!DID(launch(empty_kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL)) || !DID(sync()))
			return 0;
	snprintf(text, room, "%.2f us for a launch and its end", (now_s() - from) / LAUNCHES * 1e6);
	return 1;
}

static int product(char *text, size_t room)
{
	static const char *const names[] = {"libcublas.so.12", "libcublas.so.11", "libcublas.so.13", "libcublas.so"};
	const size_t bytes = SIDE * SIDE * sizeof(float);
	int (*create)(void **), (*gemm)(void *, int, int, int, int, int, const float *, device_ptr, int, device_ptr, int, const float *, device_ptr, int);
	const float one = 1, zero = 0;
	device_ptr p[3] = {0};
	void *lib = NULL, *blas;
	double worst = 0;

	for (size_t i = 0; !lib && i < sizeof(names) / sizeof(names[0]); i++)
		lib = dlopen(names[i], RTLD_NOW);
	if (!lib) {
		snprintf(text, room, "there is no libcublas here");
		return -1;
	}
	*(void **)&create = dlsym(lib, "cublasCreate_v2");
	*(void **)&gemm = dlsym(lib, "cublasSgemm_v2");
	if (!create || !gemm || !did(create(&blas), "cublasCreate_v2") || !three(p, bytes) || !DID(to_device(p[0], left, bytes)) ||
	    !DID(to_device(p[1], right, bytes)) ||
	    !did(gemm(blas, 0, 0, SIDE, SIDE, SIDE, &one, p[0], SIDE, p[1], SIDE, &zero, p[2], SIDE), "cublasSgemm_v2") || !DID(sync()) ||
	    !DID(from_device(sum, p[2], bytes)))
		return 0;
	for (int col = 0; col < SIDE; col += 17) /* column-major */
		for (int row = 0; row < SIDE; row += 13) {
			double want = 0, off;

			for (int k = 0; k < SIDE; k++)
				want += (double)left[k * SIDE + row] * (double)right[col * SIDE + k];
			off = fabs(want - (double)sum[col * SIDE + row]) / (fabs(want) + 1);
			worst = off > worst ? off : worst;
		}
	snprintf(text, room, "%d x %d, off by at most %.1e", SIDE, SIDE, worst);
	return worst < 1e-3;
}

static const struct {
	const char *name;
	int (*run)(char *text, size_t room);
} cases[] = {
	{"query", query}, {"add", add}, {"pinned", pinned}, {"streams", streams}, {"events", events}, {"launch", launch}, {"managed", managed},
	{"product", product},
};

/* Return: NULL, or what is missing. */
static const char *load(void)
{
	static char missing[128];
	void *lib = dlopen("libcuda.so.1", RTLD_NOW);

	if (!lib)
		return dlerror();
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *at = dlsym(lib, symbols[i].name);

		if (!at) {
			snprintf(missing, sizeof(missing), "libcuda.so.1 has no %s", symbols[i].name);
			return missing;
		}
		memcpy(symbols[i].to, &at, sizeof(at));
	}
	return NULL;
}

/* Return: 0, or the last error. */
static result load_kernels(void **module)
{
	char text[sizeof(kernels) + 64];
	result rc = 0;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		snprintf(text, sizeof(text), "%s%s", targets[i], kernels);
		rc = cu.module_load(module, text);
		if (!rc)
			break;
	}
	return rc;
}

static int begin(void)
{
	void *ctx, *module;
	int device;

	left = malloc(ELEMENTS * sizeof(float)), right = malloc(ELEMENTS * sizeof(float)), sum = malloc(ELEMENTS * sizeof(float));
	if (!left || !right || !sum)
		return 0;
	for (unsigned int i = 0; i < ELEMENTS; i++) {
		left[i] = (float)(i % 1000) / 7;
		right[i] = (float)(i % 777) / 3;
	}
	return DID(init(0)) && DID(device_get(&device, 0)) && DID(ctx_create(&ctx, 0, device)) && did(load_kernels(&module), "module_load") &&
	       DID(function(&add_kernel, module, "add")) && DID(function(&empty_kernel, module, "nothing"));
}

static void say_where(const char *name)
{
	const char *error = NULL;

	cu.error_name(why, &error);
	printf("not ok %s: %s: %s (%d)\n", name, at_call ? at_call : "it", at_call ? (error ? error : "an error without a name") : "gave wrong results",
	       at_call ? why : 0);
	at_call = NULL;
}

int main(int argc, char **argv)
{
	const char *missing = load();
	int bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (missing) {
		printf("none all: %s\n", missing);
		return 77;
	}
	if (!begin()) {
		say_where("start");
		return 1;
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256] = "";
		int wanted = argc < 2, well;

		for (int k = 1; k < argc; k++)
			wanted |= !strcmp(argv[k], cases[i].name);
		if (!wanted)
			continue;
		well = cases[i].run(text, sizeof(text));
		bad |= !well;
		if (well)
			printf("%s %s: %s\n", well > 0 ? "ok" : "none", cases[i].name, text);
		else
			say_where(cases[i].name);
	}
	return bad;
}
