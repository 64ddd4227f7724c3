/* host_launch.c - QEMU's command line: what is read from it, what is put behind it, what is refused */
#include "runtime/host/vm/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tap.h"

static char why[LAUNCH_WHY_BYTES];
static struct launch l;
static char *argv[64];
static char text[4096];

/* Cuts a command line at blanks; "_" stands for one within an argument. */
static int read_line(const char *line)
{
	int n = 0;

	snprintf(text, sizeof(text), "%s", line);
	for (char *word = strtok(text, " "); word && n < 63; word = strtok(NULL, " "))
		argv[n++] = word;
	for (int i = 0; i < n; i++)
		for (char *c = argv[i]; *c; c++)
			*c = *c == '_' ? ' ' : *c;
	argv[n] = NULL;
	why[0] = 0;
	return launch_read(&l, n, argv, why);
}

/* What is put behind the command line, blanks between. */
static const char *added(const char *vsock, const char *doorbell)
{
	static char out[4096];
	struct launch_line made;
	size_t at = 0;

	out[0] = 0;
	if (launch_make(&l, vsock, doorbell, &made))
		return "no memory";
	for (int i = 0; i < l.argc; i++)
		if (strcmp(made.argv[i], argv[i]))
			at += (size_t)snprintf(out + at, sizeof(out) - at, "[changed: %s]", made.argv[i]);
	for (int i = l.argc; made.argv[i]; i++)
		at += (size_t)snprintf(out + at, sizeof(out) - at, "%s%s", i > l.argc ? " " : "", made.argv[i]);
	launch_free(&made);
	return out;
}

static void says(const char *got, const char *want, const char *what)
{
	if (!tap_ok(!strcmp(got, want), "%s", what))
		printf("# got  %s\n# want %s\n", got, want);
}

#define RAM(bytes) "-object memory-backend-memfd,id=dark-ram,share=on,size=" bytes " -machine memory-backend=dark-ram "
#define PC_DEVICES                                                                                                              \
	"-chardev socket,id=dark-vsock-socket,path=/v -device vhost-user-vsock-pci,id=dark-vsock,chardev=dark-vsock-socket "     \
	"-chardev socket,id=dark-doorbell-socket,path=/d "                                                                       \
	"-device ivshmem-doorbell,id=dark-doorbell,chardev=dark-doorbell-socket,vectors=1"

static void test_made(void)
{
	tap_ok(!read_line("qemu -m 1G disk.img -append console=ttyS0_-m_9G -nographic"), "an ordinary command line");
	says(added("/v", "/d"), RAM("1073741824") PC_DEVICES, "gets memory and devices behind it; what is another option's value is not read");
	read_line("qemu -machine q35,accel=tcg -m 512");
	tap_ok(l.q35, "q35 is told");
	says(added("/v", "/a,b"),
	     RAM("536870912") "-chardev socket,id=dark-vsock-socket,path=/v -device pcie-root-port,id=dark-vsock-port,chassis=250,slot=1 "
			      "-device vhost-user-vsock-pci,id=dark-vsock,chardev=dark-vsock-socket,bus=dark-vsock-port "
			      "-chardev socket,id=dark-doorbell-socket,path=/a,,b -device pcie-root-port,id=dark-doorbell-port,chassis=250,slot=2 "
			      "-device ivshmem-doorbell,id=dark-doorbell,chardev=dark-doorbell-socket,bus=dark-doorbell-port,vectors=1",
	     "there each device gets a port of its own, and commas in paths are doubled");
	read_line("qemu -M pc -M type=pc-q35-7.2");
	tap_ok(l.q35, "the last machine type counts, and a versioned one is understood");
	read_line("qemu -M q35 -machine pc-i440fx-7.2,usb=off");
	tap_ok(!l.q35, "and the other way round");
	tap_ok(!read_line("qemu -object memory-backend-file,id=m,size=1G,mem-path=/tmp/x,share=on -machine pc,memory-backend=m -m 1G") &&
		       l.own_backend,
	       "a file that is shared already");
	says(added("/v", "/d"), PC_DEVICES, "stays the memory");
	tap_ok(!read_line("qemu -M q35,memory-backend=m -object {\"qom-type\":\"memory-backend-memfd\",\"id\":\"m\",\"size\":1073741824,\"share\":true}") &&
		       l.own_backend,
	       "an object in JSON");
	tap_ok(!read_line("qemu -M pc,memory-backend=m -object memory-backend-memfd,id=m,size=1G"), "a memfd is shared unless it says otherwise");
	tap_ok(!read_line("qemu -object memory-backend-ram,id=dimm,size=1G -object rng-random,id=r -m 1G,slots=1,maxmem=4G") && !l.own_backend,
	       "other objects are none of its business");
}

/* Physical memory of the host in place of a memfd. */
static void test_physical(void)
{
	read_line("qemu -m 2G");
	l.has_ram_at = true;
	l.ram_at = UINT64_C(0x240000000);
	says(added("/v", "/d"),
	     "-object memory-backend-file,id=dark-ram,share=on,mem-path=/dev/mem,offset=9663676416,size=2147483648 -machine memory-backend=dark-ram " PC_DEVICES,
	     "physical memory is a file from that offset on");
}

static void size_is(const char *line, uint64_t bytes)
{
	const int e = read_line(line);

	tap_ok(!e && l.ram_bytes == bytes, "%s: %llu bytes", line, (unsigned long long)l.ram_bytes);
}

static void test_sizes(void)
{
	const uint64_t mib = 1 << 20;

	size_is("qemu", 128 * mib);
	size_is("qemu -m 1024", 1024 * mib);
	size_is("qemu -m 1G", 1024 * mib);
	size_is("qemu -m 1.5G", 1536 * mib);
	size_is("qemu -m size=2g,slots=2,maxmem=8G", 2048 * mib);
	size_is("qemu -m slots=2,size=300M", 300 * mib);
	size_is("qemu -m 1G -m slots=2,maxmem=8G", 1024 * mib);
	size_is("qemu -m 1G -m 2G", 2048 * mib);
	size_is("qemu -m 0", 128 * mib);
	size_is("qemu -m 0.1M", 106496); /* 104857.6 bytes, up to the next multiple of 8192: qemu-system-x86_64 7.2 says so too */
	size_is("qemu --m 5242881b", 5242880 + 8192);
	size_is("qemu -m 4T", 4096 * 1024 * mib);
	tap_ok(read_line("qemu -m 1X") == -EINVAL && read_line("qemu -m G") == -EINVAL && read_line("qemu -m 1GB") == -EINVAL &&
		       read_line("qemu -m -5") == -EINVAL && read_line("qemu -m 99999999T") == -EINVAL && read_line("qemu -m 9223372036854775808b") == -EINVAL,
	       "what is no amount: %s", why);
}

static void name_is(const char *line, const char *name)
{
	read_line(line);
	says(l.name, name, line);
}

static void test_names(void)
{
	name_is("qemu", "");
	name_is("qemu -name web-1", "web-1");
	name_is("qemu -name guest=web.1,debug-threads=on", "web.1");
	name_is("qemu -name ../a_b/c", "a_b_c");
	name_is("qemu -name 0123456789012345678901234567890123456789", "0123456789012345678901234567890");
	name_is("qemu -name a,,b", "a_b");
	tap_ok(control_name_ok("a") && !control_name_ok("") && !control_name_ok("..") && !control_name_ok("a/b") && !control_name_ok("-a") &&
		       !control_name_ok("01234567890123456789012345678901") && control_name_ok("0123456789012345678901234567890"),
	       "names of VMs");
}

static void refused(const char *line, int number, const char *about)
{
	const int e = read_line(line);

	tap_ok(e == number && strstr(why, about), "%s: %s", line, why);
}

static void test_refusals(void)
{
	char *none[] = {NULL};

	tap_ok(launch_read(&l, 0, none, why) == -EINVAL, "no command: %s", why);
	refused("qemu -m", -EINVAL, "value is missing");
	refused("qemu -M pc,memory-backend=m", -EINVAL, "no -object");
	refused("qemu -M pc,memory-backend=m -object memory-backend-file,id=m,size=1G,mem-path=/tmp/x", -EOPNOTSUPP, "share=on");
	refused("qemu -M pc,memory-backend=m -object memory-backend-memfd,id=m,size=1G,share=off", -EOPNOTSUPP, "share=on");
	refused("qemu -M pc,memory-backend=m -object memory-backend-ram,id=m,size=1G,share=on", -EOPNOTSUPP, "memory-backend-memfd");
	refused("qemu -M pc,memory-backend=m -object memory-backend-memfd,id=m,size=1G,hugetlb=on", -EOPNOTSUPP, "hugetlb");
	refused("qemu -M pc,memory-backend=m -object memory-backend-memfd,id=m,size=1G,hugetlb=on,hugetlbsize=2M", -EOPNOTSUPP, "hugetlb");
	refused("qemu -M q35,memory-backend=m -object {\"qom-type\":\"memory-backend-memfd\",\"id\":\"m\",\"share\":false}", -EOPNOTSUPP, "share=on");
	refused("qemu -numa node,memdev=a -numa node,memdev=b", -EOPNOTSUPP, "-numa");
	refused("qemu -mem-path /dev/hugepages", -EOPNOTSUPP, "memory-backend-file");
	refused("qemu -readconfig x.cfg", -EOPNOTSUPP, "-readconfig");
	refused("qemu -M microvm", -EOPNOTSUPP, "PCI");
	refused("qemu -device vhost-vsock-pci,guest-cid=5", -EOPNOTSUPP, "vsock");
	refused("qemu -device {\"driver\":\"vhost-vsock-pci\",\"guest-cid\":5}", -EOPNOTSUPP, "vsock");
}

int main(void)
{
	test_made();
	test_physical();
	test_sizes();
	test_names();
	test_refusals();
	return tap_done();
}
