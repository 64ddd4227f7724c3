/* attach.c - a running VM gets the devices that shadows need; theory in attach.h */
#include "runtime/host/vm/attach.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/control.h"
#include "runtime/host/vm/launch.h"
#include "runtime/host/vm/mtree.h"
#include "runtime/host/vm/qmp.h"
#include "runtime/host/status.h"

#define QMP_MS 20000
#define UNPLUG_MS 30000
#define RELEASE_MS 1000
#define LINGER_MS 5000
#define DRIVER_MS 20000
#define ID_BYTES 128
#define cleanup_json __attribute__((cleanup(qmp_json_cleanup)))

struct device {
	const char *driver, *id; /* of what is plugged in */
	char path[ID_BYTES + 32]; /* of the old one in QEMU's object tree; empty: there is none */
	char old_id[ID_BYTES];	  /* empty: it has none, and the path stands for it */
	char chardev[ID_BYTES];	  /* of the old one */
	char bus[ID_BYTES];	  /* where it is, or goes; empty: anywhere */
};

struct job {
	struct qmp q;
	bool q35;
	char no_bell[ATTACH_TEXT_BYTES]; /* why there is no doorbell; empty: there is one */
	char *text;
};

__attribute__((format(printf, 3, 4))) static int say(struct job *j, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->text, ATTACH_TEXT_BYTES, fmt, ap);
	va_end(ap);
	return code;
}

static const char *qmp_why(const struct job *j, int e)
{
	return *j->q.fault ? j->q.fault : strerror(-e);
}

static void pause_ms(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* --- asking -------------------------------------------------------------------------------------------------------------- */

/* An object of string members: key, value, ..., NULL; a NULL value leaves its key out. */
static struct json_object *strings(const char *key, ...)
{
	struct json_object *o = json_object_new_object();
	va_list ap;

	va_start(ap, key);
	while (key) {
		const char *value = va_arg(ap, const char *);

		if (value)
			json_object_object_add(o, key, json_object_new_string(value));
		key = va_arg(ap, const char *);
	}
	va_end(ap);
	return o;
}

static const char *member_text(struct json_object *o, const char *key)
{
	struct json_object *m;

	return json_object_object_get_ex(o, key, &m) && json_object_is_type(m, json_type_string) ? json_object_get_string(m) : "";
}

/* A property of an object as text; empty if there is none. */
static void get_text(struct job *j, const char *path, const char *property, char *out, size_t bytes)
{
	cleanup_json struct json_object *r = NULL;

	out[0] = 0;
	if (!qmp_command(&j->q, "qom-get", strings("path", path, "property", property, NULL), &r) && json_object_is_type(r, json_type_string))
		snprintf(out, bytes, "%s", json_object_get_string(r));
}

/* Fills @d with a device of its driver, if there is one. */
static int find_device(struct job *j, struct device *d)
{
	static const char *const folders[] = {"/machine/peripheral", "/machine/peripheral-anon"};
	char want[ID_BYTES], link[ID_BYTES + 64];

	snprintf(want, sizeof(want), "child<%s>", d->driver);
	for (size_t f = 0; f < 2 && !*d->path; f++) {
		cleanup_json struct json_object *list = NULL;
		int e = qmp_command(&j->q, "qom-list", strings("path", folders[f], NULL), &list);

		if (e)
			return e;
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *o = json_object_array_get_idx(list, i);

			/* "-transitional" and the like are drivers of their own names */
			if (strncmp(member_text(o, "type"), want, strlen(want) - 1) || strlen(member_text(o, "name")) >= ID_BYTES)
				continue;
			snprintf(d->path, sizeof(d->path), "%s/%.127s", folders[f], member_text(o, "name"));
			snprintf(d->old_id, sizeof(d->old_id), "%s", f ? "" : member_text(o, "name"));
		}
	}
	if (!*d->path)
		return 0;
	get_text(j, d->path, "chardev", d->chardev, sizeof(d->chardev));
	get_text(j, d->path, "parent_bus", link, sizeof(link));
	snprintf(d->bus, sizeof(d->bus), "%.127s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
	return 0;
}

/* Whether the old device's back end lives: its chardev says "disconnected:..." when not. */
static bool is_connected(struct job *j, const struct device *d)
{
	cleanup_json struct json_object *list = NULL;

	if (!*d->chardev || qmp_command(&j->q, "query-chardev", NULL, &list))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (!strcmp(member_text(o, "label"), d->chardev))
			return strncmp(member_text(o, "filename"), "disconnected:", 13) != 0;
	}
	return false;
}

/* Whether nothing is plugged into a port: its bus, which has its name, links to no child.  (query-pci sees what firmware set up.) */
static bool port_is_empty(struct job *j, const char *port)
{
	cleanup_json struct json_object *list = NULL;
	char path[3 * ID_BYTES];

	snprintf(path, sizeof(path), "/machine/peripheral/%.127s/%.127s", port, port);
	if (qmp_command(&j->q, "qom-list", strings("path", path, NULL), &list))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!strncmp(member_text(json_object_array_get_idx(list, i), "name"), "child[", 6))
			return false;
	return true;
}

/* A pcie-root-port with nothing behind it that is not @taken. */
static int find_port(struct job *j, const char *taken, char bus[static ID_BYTES])
{
	cleanup_json struct json_object *list = NULL;
	int e = qmp_command(&j->q, "qom-list", strings("path", "/machine/peripheral", NULL), &list);

	if (e)
		return e;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *name = member_text(o, "name");

		if (!strcmp(member_text(o, "type"), "child<pcie-root-port>") && strcmp(name, taken) && strlen(name) < ID_BYTES &&
		    port_is_empty(j, name)) {
			snprintf(bus, ID_BYTES, "%s", name);
			return 0;
		}
	}
	return -ENOENT;
}

/* --- doing --------------------------------------------------------------------------------------------------------------- */

/* Unplugs the old device and removes its chardev. */
static int unplug(struct job *j, const struct device *d)
{
	char type[ID_BYTES];
	int e;

	if (!*d->path)
		return 0;
	if (!strcmp(d->bus, "pcie.0"))
		return say(j, 2, "the VM's %s has lost its back end and is on q35's root bus, from which nothing can be unplugged: start the VM anew, with dshost run",
			   d->driver);
	e = qmp_command(&j->q, "device_del", strings("id", *d->old_id ? d->old_id : d->path, NULL), NULL);
	if (e)
		return say(j, 2, "the VM's %s cannot be unplugged: %s", d->driver, qmp_why(j, e));
	for (int waited = 0; waited < UNPLUG_MS; waited += 100) {
		get_text(j, d->path, "type", type, sizeof(type));
		if (!*type)
			break;
		pause_ms(100);
	}
	if (*type)
		return say(j, 2, "the guest has not let go of %s within %d s: is its kernel up?  Try again", d->driver, UNPLUG_MS / 1000);
	/* QEMU gives a device back some time after it is out of the tree, and until then its chardev is busy. */
	for (int waited = 0; *d->chardev && waited < RELEASE_MS; waited += 100) {
		e = qmp_command(&j->q, "chardev-remove", strings("id", d->chardev, NULL), NULL);
		if (!e || !strstr(j->q.fault, "busy"))
			break;
		pause_ms(100);
	}
	return 0;
}

/*
 * Whether the window of a doorbell is still there.  A device that was unplugged lingers while anything has a reference to its
 * memory, and QEMU aborts when another is plugged into the same slot meanwhile, because the window's name is taken.  What
 * refers to it for ever in QEMU 7.2 is an `info mtree -f` that was asked for while it was plugged in (it does not give all of its
 * references to the flat view back), so the table is read when no doorbell is there.
 */
static bool window_lingers(struct job *j)
{
	for (int waited = 0; waited < LINGER_MS; waited += 100) {
		cleanup_json struct json_object *text = NULL;

		if (qmp_monitor(&j->q, "info ramblock", &text))
			return true;
		if (!strstr(json_object_get_string(text), "/ivshmem.bar2"))
			return false;
		pause_ms(100);
	}
	return true;
}

/* Connects a chardev to the daemon's socket and plugs the device in. */
static int plug(struct job *j, const struct device *d, const char *path)
{
	struct json_object *addr = json_object_new_object(), *data = json_object_new_object(), *backend = json_object_new_object();
	struct json_object *arguments = json_object_new_object();
	char chardev[ID_BYTES];
	int e;

	snprintf(chardev, sizeof(chardev), "%s-socket-%d", d->id, getpid());
	json_object_object_add(addr, "type", json_object_new_string("unix"));
	json_object_object_add(addr, "data", strings("path", path, NULL));
	json_object_object_add(data, "addr", addr);
	json_object_object_add(data, "server", json_object_new_boolean(0));
	json_object_object_add(backend, "type", json_object_new_string("socket"));
	json_object_object_add(backend, "data", data);
	json_object_object_add(arguments, "id", json_object_new_string(chardev));
	json_object_object_add(arguments, "backend", backend);
	e = qmp_command(&j->q, "chardev-add", arguments, NULL);
	if (e)
		return say(j, 2, "the VM cannot connect to %s: %s", path, qmp_why(j, e));
	e = qmp_command(&j->q, "device_add",
			strings("driver", d->driver, "id", d->id, "chardev", chardev, "bus", *d->bus ? d->bus : NULL, NULL), NULL);
	if (!e)
		return 0;
	say(j, 2, "%s cannot be plugged in: %s", d->driver, qmp_why(j, e));
	qmp_command(&j->q, "chardev-remove", strings("id", chardev, NULL), NULL);
	return 2;
}

/* --- all of it ------------------------------------------------------------------------------------------------------------- */

/* What is there already, and where the new devices go. */
static int look(struct job *j, struct device *vsock, struct device *bell)
{
	char type[ID_BYTES];
	int e = find_device(j, vsock);

	e = e ? e : find_device(j, bell);
	if (e)
		return say(j, 2, "the VM's devices cannot be listed: %s", qmp_why(j, e));
	if (is_connected(j, vsock))
		return say(j, 75, "the VM's %s has a back end that lives: it is attached already (dshost status), or belongs to somebody else", vsock->driver);
	get_text(j, "/machine", "type", type, sizeof(type));
	j->q35 = strstr(type, "q35") != NULL;
	if (j->q35 && !*vsock->path && find_port(j, "", vsock->bus))
		return say(j, 2, "the VM's machine is q35 and it has no free pcie-root-port, and nothing else takes a device at run time: start the VM with -device "
			   "pcie-root-port,id=port1,chassis=1 (once a device; two for both), or with dshost run");
	if (*bell->path && is_connected(j, bell))
		snprintf(j->no_bell, sizeof(j->no_bell), "the VM's %s has another server", bell->driver);
	else if (j->q35 && !*bell->path && find_port(j, vsock->bus, bell->bus))
		snprintf(j->no_bell, sizeof(j->no_bell), "there is no second free pcie-root-port");
	return 0;
}

/* The VM's state as the daemon shows it.  Return: 0 or -errno. */
static int get_state(const struct attach_params *p, const char *name, struct control_vm *vm)
{
	struct control_request r = {.verb = CONTROL_STATUS};
	struct control_reply reply;
	cleanup_close int file = -1;
	int e = control_ask(p->run_dir, &r, &reply, &file, 5000);

	return e ? e : status_find(file, reply.bytes, name, vm);
}

/* Waits until the guest's driver has started the device, and the table was checked. */
static int settle(struct job *j, const struct attach_params *p, const char *name)
{
	struct control_vm vm = {0};

	for (int waited = 0; waited < DRIVER_MS; waited += 100) {
		if (get_state(p, name, &vm))
			return say(j, 2, "vm %s: its process has ended: the daemon's log says why", name);
		if (vm.state == CONTROL_VM_UNUSABLE)
			return say(j, 2, "vm %s: %s", name, vm.text);
		if (vm.state == CONTROL_VM_READY)
			break;
		pause_ms(100);
	}
	if (vm.state != CONTROL_VM_READY)
		return say(j, 4, "vm %s: the devices are plugged in; the guest's driver has not started them yet (dshost status)", name);
	if (*j->no_bell)
		return say(j, 4, "vm %s: ready, without a doorbell: %.300s", name, j->no_bell);
	return say(j, 0, "vm %s: ready", name);
}

static void choose_name(struct job *j, const struct attach_params *p, pid_t pid, char name[static CONTROL_NAME_BYTES])
{
	cleanup_json struct json_object *o = NULL;

	name[0] = 0;
	if (p->name)
		snprintf(name, CONTROL_NAME_BYTES, "%s", p->name);
	else if (!qmp_command(&j->q, "query-name", NULL, &o))
		launch_name(name, member_text(o, "name"));
	if (!*name)
		snprintf(name, CONTROL_NAME_BYTES, "vm-%d", pid);
}

/* Before anything is unplugged: whether a daemon is there, and knows no VM of this name. */
static int check_daemon(struct job *j, const struct attach_params *p, const char *name)
{
	struct control_request r = {.verb = CONTROL_STATUS};
	struct control_reply reply;
	cleanup_close int file = -1;
	struct control_vm vm;
	const int e = control_ask(p->run_dir, &r, &reply, &file, 5000);

	if (e)
		return say(j, 2, "no dshost answers at %s/%s: %s (start it with: dshost serve)", p->run_dir, CONTROL_SOCKET, strerror(-e));
	return status_find(file, reply.bytes, name, &vm) ? 0 : say(j, 75, "there is a VM %s already: give this one another name (--name)", name);
}

static int ask_daemon(struct job *j, const struct attach_params *p, struct control_request *r, struct control_reply *reply)
{
	const int e = control_ask(p->run_dir, r, reply, NULL, 5000);

	if (e)
		return say(j, 2, "%s/%s: %s", p->run_dir, CONTROL_SOCKET, strerror(-e));
	return reply->kind == CONTROL_READY ? 0 : say(j, 2, "%s", reply->text);
}

static int run_job(struct job *j, const struct attach_params *p)
{
	struct device vsock = {.driver = "vhost-user-vsock-pci", .id = LAUNCH_VSOCK_ID};
	struct device bell = {.driver = "ivshmem-doorbell", .id = LAUNCH_DOORBELL_ID};
	struct control_request r = {.verb = CONTROL_VM};
	struct ramtable_err err = {0};
	struct control_reply reply;
	struct ramtable table;
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);
	int e = look(j, &vsock, &bell);

	getsockopt(j->q.fd, SOL_SOCKET, SO_PEERCRED, &cred, &bytes);
	r.vmm_pid = (uint32_t)cred.pid;
	r.vmm_uid = cred.uid;
	choose_name(j, p, cred.pid, r.name);
	e = e ? e : check_daemon(j, p, r.name);
	if (e)
		return e;
	if (!*j->no_bell && unplug(j, &bell))
		snprintf(j->no_bell, sizeof(j->no_bell), "%s", j->text);
	e = unplug(j, &vsock);
	if (e)
		return e;
	if (!*j->no_bell && window_lingers(j))
		snprintf(j->no_bell, sizeof(j->no_bell), "QEMU has not given back the window of one that was there before");
	e = mtree_read(&j->q, &table, &err); /* not before: see window_lingers() */
	if (e)
		return say(j, 2, "the VM's memory cannot be mirrored: %s", err.why ? err.why : qmp_why(j, e));
	control_put_table(&r, &table);
	e = ask_daemon(j, p, &r, &reply);
	e = e ? e : plug(j, &vsock, reply.vsock);
	if (e)
		return e;
	if (!*j->no_bell && plug(j, &bell, reply.doorbell))
		snprintf(j->no_bell, sizeof(j->no_bell), "%s", j->text);
	return settle(j, p, r.name);
}

int attach(const struct attach_params *p, char text[static ATTACH_TEXT_BYTES])
{
	struct job j = {.text = text};
	int e = qmp_connect(&j.q, p->qmp, QMP_MS);

	text[0] = 0;
	if (e == -ETIMEDOUT)
		e = say(&j, 2, "%s: the monitor does not answer: it serves one client at a time, is another one connected?", p->qmp);
	else if (e)
		e = say(&j, 2, "%s: %s", p->qmp, e == -EBADMSG ? "does not speak QMP (-qmp unix:PATH,server=on,wait=off)" : strerror(-e));
	else
		e = run_job(&j, p);
	qmp_close(&j.q);
	return e;
}
