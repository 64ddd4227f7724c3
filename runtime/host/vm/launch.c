/* launch.c - from an ordinary QEMU command line to one whose VM can have shadows; theory in launch.h */
#include "runtime/host/vm/launch.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

#include "runtime/host/vm/devmem.h"
#include "runtime/host/vm/qmp.h"

#define MIB (UINT64_C(1) << 20)
#define VALUE_BYTES 4096
#define RAM_DEFAULT_BYTES (128 * MIB) /* of pc and q35 */
#define RAM_ALIGN_BYTES 8192	      /* QEMU rounds -m up to it */
#define BACKENDS_MAX 32

__attribute__((format(printf, 3, 4))) static int refuse(char *why, int number, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, LAUNCH_WHY_BYTES, fmt, ap);
	va_end(ap);
	return number;
}

/* --- values ----------------------------------------------------------------------------------------------------------- */

static int unit_of(const char *text, uint64_t unit, uint64_t *out)
{
	static const char letters[] = "bkmgtpe";
	const char *at;

	if (!*text) {
		*out = unit;
		return 0;
	}
	at = strchr(letters, tolower((unsigned char)*text));
	if (!at || text[1])
		return -EINVAL;
	*out = UINT64_C(1) << (10 * (at - letters));
	return 0;
}

int launch_size(const char *text, uint64_t unit, uint64_t *bytes)
{
	uint64_t whole = 0, mul, scale = 1, part = 0;
	const char *c = text;

	if (!isdigit((unsigned char)*c))
		return -EINVAL;
	for (; isdigit((unsigned char)*c); c++) {
		if (whole > (INT64_MAX - 9) / 10)
			return -ERANGE;
		whole = whole * 10 + (uint64_t)(*c - '0');
	}
	if (*c == '.') {
		for (c++; isdigit((unsigned char)*c); c++) {
			if (scale > UINT64_C(1000000000))
				continue; /* beyond a byte of any size in use */
			part = part * 10 + (uint64_t)(*c - '0');
			scale *= 10;
		}
	}
	if (unit_of(c, unit, &mul))
		return -EINVAL;
	if (whole > (uint64_t)INT64_MAX / mul)
		return -ERANGE;
	*bytes = whole * mul + (uint64_t)((double)part * (double)mul / (double)scale);
	return *bytes > INT64_MAX ? -ERANGE : 0;
}

/*
 * The value of @key in "a,key=value,..."; @first: the key that a first item without "=" has, or NULL.  A comma within a
 * value is doubled (QEMU's docs, "-device help" and qemu-options: key-value lists).  The last of several counts.
 */
static bool get_value(const char *list, const char *first, const char *key, char value[static VALUE_BYTES])
{
	bool found = false;

	for (bool is_first = true; *list; is_first = false) {
		char item[VALUE_BYTES];
		const char *name, *content;
		size_t n = 0;
		char *eq;

		while (*list && !(*list == ',' && list[1] != ',')) {
			list += *list == ',';
			if (n < sizeof(item) - 1)
				item[n++] = *list;
			list++;
		}
		list += *list == ',';
		item[n] = 0;
		eq = strchr(item, '=');
		if (eq) {
			*eq = 0;
			name = item;
			content = eq + 1;
		} else {
			name = is_first && first ? first : item;
			content = is_first && first ? item : "on"; /* "key" alone is key=on */
		}
		if (strcmp(name, key))
			continue;
		snprintf(value, VALUE_BYTES, "%s", content);
		found = true;
	}
	return found;
}

static bool is_on(const char *value)
{
	return !strcmp(value, "on") || !strcmp(value, "yes") || !strcmp(value, "true") || !strcmp(value, "y");
}

/* --- options ---------------------------------------------------------------------------------------------------------- */

/* Options of QEMU 7.2 to 10.0 that take no value; every other one takes one. */
static const char *const lone_options[] = {
	"h", "help", "version", "mem-prealloc", "audio-help", "snapshot", "usb", "nographic", "portrait", "full-screen", "win2k-hack",
	"no-fd-bootchk", "no-acpi", "no-hpet", "singlestep", "one-insn-per-tb", "preconfig", "S", "s", "enable-kvm", "xen-attach",
	"xen-domid-restrict", "no-reboot", "no-shutdown", "daemonize", "nodefaults", "no-user-config", "async-teardown",
	"enable-sync-profile", "enable-fips", "old-param", "semihosting", "sdl", "curses", "alt-grab", "ctrl-grab", "no-frame", "no-quit",
};

static bool takes_value(const char *option)
{
	for (size_t i = 0; i < sizeof(lone_options) / sizeof(lone_options[0]); i++)
		if (!strcmp(option, lone_options[i]))
			return false;
	return true;
}

/* What is known of the command line, until all of it is. */
struct seen {
	char backend[128];		     /* of the machine; empty: none */
	char type[128];			     /* of the machine */
	const char *objects[BACKENDS_MAX]; /* values of -object that are memory backends */
	uint32_t nobjects;
};

void launch_name(char name[static CONTROL_NAME_BYTES], const char *text)
{
	size_t n;

	while (*text && !isalnum((unsigned char)*text))
		text++;
	for (n = 0; text[n] && n < CONTROL_NAME_BYTES - 1; n++)
		name[n] = isalnum((unsigned char)text[n]) || strchr("_.-", text[n]) ? text[n] : '_';
	name[n] = 0;
}

static void take_name(struct launch *l, const char *value)
{
	char text[VALUE_BYTES];

	if (get_value(value, "guest", "guest", text))
		launch_name(l->name, text);
}

static int take_memory(struct launch *l, const char *value, char *why)
{
	char text[VALUE_BYTES];
	uint64_t bytes;

	if (!get_value(value, "size", "size", text))
		return 0; /* -m slots=2,maxmem=4G says nothing of it */
	if (launch_size(text, MIB, &bytes))
		return refuse(why, -EINVAL, "-m %s: not an amount of memory", value);
	l->ram_bytes = bytes ? (bytes + RAM_ALIGN_BYTES - 1) / RAM_ALIGN_BYTES * RAM_ALIGN_BYTES : RAM_DEFAULT_BYTES;
	return 0;
}

static void take_machine(struct seen *s, const char *value)
{
	char text[VALUE_BYTES];

	if (get_value(value, "type", "type", text))
		snprintf(s->type, sizeof(s->type), "%.127s", text);
	if (get_value(value, "type", "memory-backend", text))
		snprintf(s->backend, sizeof(s->backend), "%.127s", text);
}

/* -object as JSON or as a list: the value of a key, as text. */
static bool object_value(const char *object, const char *key, char value[static VALUE_BYTES])
{
	__attribute__((cleanup(qmp_json_cleanup))) struct json_object *o = *object == '{' ? json_tokener_parse(object) : NULL;
	struct json_object *member;

	if (*object != '{')
		return get_value(object, "qom-type", key, value);
	if (!json_object_object_get_ex(o, key, &member))
		return false;
	snprintf(value, VALUE_BYTES, "%s", json_object_get_string(member));
	return true;
}

static int take_object(struct seen *s, const char *value, char *why)
{
	char type[VALUE_BYTES];

	if (!object_value(value, "qom-type", type) || strncmp(type, "memory-backend-", 15))
		return 0;
	if (s->nobjects == BACKENDS_MAX)
		return refuse(why, -EINVAL, "-object: more than %d memory backends", BACKENDS_MAX);
	s->objects[s->nobjects++] = value;
	return 0;
}

/* A vsock device of the user's own: the guest's kernel works one only. */
static int take_device(const char *value, char *why)
{
	char driver[VALUE_BYTES] = "";

	if (*value == '{')
		object_value(value, "driver", driver);
	else
		get_value(value, "driver", "driver", driver);
	if (strstr(driver, "-vsock-") || strstr(driver, "-vsock"))
		return refuse(why, -EOPNOTSUPP, "-device %.60s: shadows need the VM's vsock device, and a Linux guest works only one: leave this one out",
			      driver);
	return 0;
}

static int take_option(struct launch *l, struct seen *s, const char *option, const char *value, char *why)
{
	if (!strcmp(option, "m"))
		return take_memory(l, value, why);
	if (!strcmp(option, "machine") || !strcmp(option, "M"))
		take_machine(s, value);
	else if (!strcmp(option, "object"))
		return take_object(s, value, why);
	else if (!strcmp(option, "device"))
		return take_device(value, why);
	else if (!strcmp(option, "name"))
		take_name(l, value);
	else if (!strcmp(option, "numa") && !strncmp(value, "node", 4))
		return refuse(why, -EOPNOTSUPP, "-numa node: memory that is split between NUMA nodes cannot be mirrored: leave -numa out");
	else if (!strcmp(option, "mem-path"))
		return refuse(why, -EOPNOTSUPP,
			      "-mem-path makes memory that is private to QEMU: use -object memory-backend-file,id=ram,mem-path=%.60s,size=...,share=on and "
			      "-machine memory-backend=ram",
			      value);
	else if (!strcmp(option, "readconfig"))
		return refuse(why, -EOPNOTSUPP, "-readconfig: a file may say how much memory there is, and is not read here: put it on the command line");
	return 0;
}

/* --- the backend ---------------------------------------------------------------------------------------------------- */

static int check_backend(const struct seen *s, char *why)
{
	char id[VALUE_BYTES], type[VALUE_BYTES], value[VALUE_BYTES];
	const char *object = NULL;
	struct statfs fs;
	bool share;

	for (uint32_t i = 0; i < s->nobjects && !object; i++)
		if (object_value(s->objects[i], "id", id) && !strcmp(id, s->backend))
			object = s->objects[i];
	if (!object)
		return refuse(why, -EINVAL, "-machine memory-backend=%s: no -object memory-backend-... has this id", s->backend);
	object_value(object, "qom-type", type);
	if (strcmp(type, "memory-backend-memfd") && strcmp(type, "memory-backend-file") && strcmp(type, "memory-backend-shm"))
		return refuse(why, -EOPNOTSUPP, "-object %.40s,id=%.40s: this memory is in no file that can be shared: use memory-backend-memfd", type,
			      s->backend);
	share = object_value(object, "share", value) ? is_on(value) : strcmp(type, "memory-backend-file") != 0;
	if (!share)
		return refuse(why, -EOPNOTSUPP, "-object %.40s,id=%.40s: share=off keeps the memory private to QEMU: say share=on", type, s->backend);
	if ((object_value(object, "hugetlb", value) && is_on(value)) || object_value(object, "hugetlbsize", value))
		return refuse(why, -EOPNOTSUPP, "-object %.40s,id=%.40s: hugetlb pages cannot be mapped 4 KiB at a time: leave hugetlb out", type,
			      s->backend);
	if (object_value(object, "mem-path", value) && !statfs(value, &fs) && fs.f_type == HUGETLBFS_MAGIC)
		return refuse(why, -EOPNOTSUPP, "-object %.40s,id=%.40s: mem-path=%.60s is of hugetlb pages, which cannot be mapped 4 KiB at a time", type,
			      s->backend, value);
	return 0;
}

static int check_machine(struct launch *l, const struct seen *s, char *why)
{
	static const char *const no_pci[] = {"none", "isapc", "microvm", "x-remote"};

	for (size_t i = 0; i < sizeof(no_pci) / sizeof(no_pci[0]); i++)
		if (!strcmp(s->type, no_pci[i]))
			return refuse(why, -EOPNOTSUPP, "-machine %s: has no PCI bus for the devices that shadows need: pc and q35 have", s->type);
	l->q35 = !strcmp(s->type, "q35") || strstr(s->type, "-q35-");
	l->own_backend = *s->backend;
	return l->own_backend ? check_backend(s, why) : 0;
}

int launch_read(struct launch *l, int argc, char *const *argv, char why[static LAUNCH_WHY_BYTES])
{
	struct seen s = {0};

	*l = (struct launch){.argc = argc, .argv = argv, .ram_bytes = RAM_DEFAULT_BYTES};
	if (argc < 1 || !*argv[0])
		return refuse(why, -EINVAL, "no command: dshost run [options] -- qemu-system-x86_64 ...");
	for (int i = 1; i < argc; i++) {
		const char *option = argv[i];
		int e;

		if (*option != '-' || !option[1])
			continue; /* a disk image */
		option += option[1] == '-' ? 2 : 1;
		if (!takes_value(option))
			continue;
		if (++i == argc)
			return refuse(why, -EINVAL, "-%s: its value is missing", option);
		e = take_option(l, &s, option, argv[i], why);
		if (e)
			return e;
	}
	return check_machine(l, &s, why);
}

/* --- the new line ----------------------------------------------------------------------------------------------------- */

/* An option and its value, which is made as printf() does. */
__attribute__((format(printf, 4, 5))) static int push(struct launch_line *line, int *n, const char *option, const char *fmt, ...)
{
	va_list ap;
	int bytes;

	line->argv[*n] = strdup(option);
	if (!line->argv[*n])
		return -ENOMEM;
	(*n)++;
	va_start(ap, fmt);
	bytes = vasprintf(&line->argv[*n], fmt, ap);
	va_end(ap);
	if (bytes < 0) {
		line->argv[*n] = NULL;
		return -ENOMEM;
	}
	(*n)++;
	return 0;
}

static int push_device(const struct launch *l, struct launch_line *line, int *n, const char *driver, const char *id, int slot, const char *path)
{
	char doubled[2 * CONTROL_PATH_BYTES];
	const char *extra = strstr(driver, "doorbell") ? ",vectors=" LAUNCH_DOORBELL_VECTORS : "";
	size_t k = 0;
	int e;

	for (; *path && k < sizeof(doubled) - 2; path++) {
		doubled[k++] = *path;
		if (*path == ',')
			doubled[k++] = ',';
	}
	doubled[k] = 0;
	e = push(line, n, "-chardev", "socket,id=%s-socket,path=%s", id, doubled);
	if (!l->q35)
		return e ? e : push(line, n, "-device", "%s,id=%s,chardev=%s-socket%s", driver, id, id, extra);
	e = e ? e : push(line, n, "-device", "pcie-root-port,id=%s-port,chassis=250,slot=%d", id, slot);
	return e ? e : push(line, n, "-device", "%s,id=%s,chardev=%s-socket,bus=%s-port%s", driver, id, id, id, extra);
}

int launch_make(const struct launch *l, const char *vsock, const char *doorbell, struct launch_line *line)
{
	int n = 0, e = 0;

	line->argv = calloc((size_t)l->argc + 17, sizeof(char *)); /* up to 8 options of ours, and the NULL */
	if (!line->argv)
		return -ENOMEM;
	for (; n < l->argc; n++) {
		line->argv[n] = strdup(l->argv[n]);
		if (!line->argv[n])
			e = -ENOMEM;
	}
	if (!e && !l->own_backend) {
		if (l->has_ram_at)
			e = push(line, &n, "-object", "memory-backend-file,id=dark-ram,share=on,mem-path=" DEVMEM_PATH ",offset=%" PRIu64 ",size=%" PRIu64,
				 l->ram_at, l->ram_bytes);
		else
			e = push(line, &n, "-object", "memory-backend-memfd,id=dark-ram,share=on,size=%" PRIu64, l->ram_bytes);
		e = e ? e : push(line, &n, "-machine", "memory-backend=dark-ram");
	}
	e = e ? e : push_device(l, line, &n, "vhost-user-vsock-pci", LAUNCH_VSOCK_ID, 1, vsock);
	e = e ? e : push_device(l, line, &n, "ivshmem-doorbell", LAUNCH_DOORBELL_ID, 2, doorbell);
	if (e)
		launch_free(line);
	return e;
}

void launch_free(struct launch_line *line)
{
	for (char **a = line->argv; a && *a; a++)
		free(*a);
	free(line->argv);
	line->argv = NULL;
}
