/* status.c - what there is; theory in status.h */
#include "runtime/host/status.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/log.h"

#define STATUS_BYTES_MAX (UINT64_C(1) << 30)

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* --- made by the daemon ------------------------------------------------------------------------------------------------ */

static int append(int fd, const void *what, size_t bytes, uint64_t *at)
{
	const ssize_t n = pwrite(fd, what, bytes, (off_t)*at);

	*at += bytes;
	return n == (ssize_t)bytes ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int append_vm(int fd, const struct shadows_board *board, uint64_t *at)
{
	const uint64_t start = *at;
	struct control_vm vm = board->vm;
	int e = append(fd, &vm, sizeof(vm), at);

	vm.nshadows = 0;
	for (uint32_t i = 0; !e && i < board->nplaces; i++) {
		struct warden_view view;

		if (!__atomic_load_n(&board->place[i].used, __ATOMIC_ACQUIRE) || warden_stat_read(&board->place[i].stat, &view))
			continue;
		e = append(fd, &view, sizeof(view), at);
		vm.nshadows++;
	}
	return e ? e : append(fd, &vm, sizeof(vm), &(uint64_t){start});
}

int status_make(const struct shadows_board *const *board, uint32_t nboards, uint64_t rules, uint64_t *bytes)
{
	const struct control_status head = {
		.magic = CONTROL_MAGIC,
		.version = CONTROL_VERSION,
		.daemon_pid = (uint32_t)getpid(),
		.nvms = nboards,
		.now_ns = now_ns(),
		.rules = rules,
	};
	cleanup_close int fd = memfd_create("status", MFD_CLOEXEC);
	int e;

	*bytes = 0;
	if (fd < 0)
		return -errno;
	e = append(fd, &head, sizeof(head), bytes);
	for (uint32_t i = 0; !e && i < nboards; i++)
		e = append_vm(fd, board[i], bytes);
	return e ? e : steal_fd(&fd);
}

/* --- shown by the command ------------------------------------------------------------------------------------------------ */

static const char *const vm_states[] = {"waiting", "booting", "ready", "unusable", "ending"};
static const char *const shadow_states[] = {"hello", "attach", "start", "run", "end"};
#define NAME_OF(names, i) ((i) < sizeof(names) / sizeof((names)[0]) ? (names)[i] : "?")

/* A view whose strings are terminated and printable, whatever was in the file. */
static void clean(char *text, size_t bytes)
{
	char copy[DS_AGENT_PATH_BYTES];

	text[bytes - 1] = 0;
	snprintf(copy, sizeof(copy), "%s", text);
	log_escape(text, bytes, copy);
}

struct reader {
	const char *at, *end;
};

static bool take(struct reader *r, void *out, size_t bytes)
{
	if ((size_t)(r->end - r->at) < bytes)
		return false;
	memcpy(out, r->at, bytes);
	r->at += bytes;
	return true;
}

static bool take_vm(struct reader *r, struct control_vm *vm)
{
	if (!take(r, vm, sizeof(*vm)))
		return false;
	clean(vm->name, sizeof(vm->name));
	clean(vm->text, sizeof(vm->text));
	return true;
}

static bool take_view(struct reader *r, struct warden_view *v)
{
	if (!take(r, v, sizeof(*v)))
		return false;
	clean(v->service, sizeof(v->service));
	clean(v->program, sizeof(v->program));
	clean(v->text, sizeof(v->text));
	clean(v->limits, sizeof(v->limits));
	return true;
}

static const char *mode_name(const struct warden_view *v)
{
	if (v->state < WARDEN_START)
		return "-";
	return v->mode == DS_AGENT_EAGER ? "eager" : v->mode == DS_AGENT_DEMAND ? "demand" : "?";
}

static double seconds(const struct control_status *head, const struct warden_view *v)
{
	return v->since_ns && v->since_ns < head->now_ns ? (double)(head->now_ns - v->since_ns) / 1e9 : 0;
}

static const char *source_name(const struct control_vm *vm)
{
	return !vm->ram_bytes ? "-" : vm->checked ? "vhost-user+monitor" : "vhost-user";
}

static const char *provider_name(const struct control_vm *vm)
{
	return !vm->ram_bytes ? "-" : vm->physical ? "/dev/mem" : "file";
}

static int print_text(FILE *out, struct reader *r, const struct control_status *head)
{
	uint64_t shadows = 0, pages = 0, runs = 0, calls = 0, faults = 0;
	struct warden_view v;
	struct control_vm vm;

	fprintf(out, "dshost %u: %u VMs, %" PRIu64 " rules\n", head->daemon_pid, head->nvms, head->rules);
	for (uint32_t i = 0; i < head->nvms; i++) {
		if (!take_vm(r, &vm))
			return -EBADMSG;
		fprintf(out, "\nVM %s: %s, VMM %u, %" PRIu64 " MiB in %" PRIu64 " ranges (%s%s), %s, %u shadows (%" PRIu64 " started, %" PRIu64 " ended, %" PRIu64
			" streams refused)\n", vm.name, NAME_OF(vm_states, vm.state), vm.vmm_pid, vm.ram_bytes >> 20, vm.ranges, source_name(&vm),
			vm.physical ? ", /dev/mem" : "", vm.doorbell ? "doorbell" : "no doorbell", vm.nshadows, vm.started, vm.ended, vm.refused);
		if (vm.doorbell)
			fprintf(out, "  window: %" PRIu64 " of %" PRIu64 " KiB used, in %u pieces%s\n", vm.window_used_bytes >> 10, vm.window_bytes >> 10,
				vm.window_pieces, vm.window_helper ? "" : "; nothing maps there yet");
		if (*vm.text)
			fprintf(out, "  %s\n", vm.text);
		if (vm.nshadows)
			fprintf(out, "  %8s %6s %-7s %-6s %-12s %9s %7s %8s %8s %8s %9s %s\n", "PID", "UID", "STATE", "MODE", "SERVICE", "PAGES", "RUNS",
				"UPDATES", "FAULTS", "CALLS", "SECONDS", "PROGRAM");
		for (uint32_t k = 0; k < vm.nshadows; k++) {
			if (!take_view(r, &v))
				return -EBADMSG;
			fprintf(out, "  %8" PRIu64 " %6u %-7s %-6s %-12s %9" PRIu64 " %7" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %9.1f %s\n", v.guest_pid,
				v.guest_uid, NAME_OF(shadow_states, v.state), mode_name(&v), *v.service ? v.service : "-", v.pages, v.runs, v.updates,
				v.faults, v.calls + v.forwarded, seconds(head, &v), *v.program ? v.program : "-");
			if (*v.limits)
				fprintf(out, "  %8s limits: %s", "", v.limits);
			if (*v.limits && v.paced_ns)
				fprintf(out, "; paced for %.1f s", (double)v.paced_ns / 1e9);
			if (*v.limits)
				fputc('\n', out);
			shadows++;
			pages += v.pages, runs += v.runs, calls += v.calls + v.forwarded, faults += v.faults;
		}
	}
	fprintf(out, "\nin all %" PRIu64 " shadows, %" PRIu64 " pages in %" PRIu64 " runs, %" PRIu64 " faults, %" PRIu64 " calls\n", shadows, pages, runs, faults,
		calls);
	return 0;
}

static void add_u64(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, *text ? json_object_new_string(text) : NULL);
}

static struct json_object *json_shadow(const struct control_status *head, const struct warden_view *v)
{
	struct json_object *o = json_object_new_object();

	add_u64(o, "pid", v->guest_pid);
	add_u64(o, "uid", v->guest_uid);
	add_u64(o, "gid", v->guest_gid);
	add_text(o, "program", v->program);
	add_text(o, "service", v->service);
	add_text(o, "state", NAME_OF(shadow_states, v->state));
	add_text(o, "mode", mode_name(v));
	add_u64(o, "warden", (uint64_t)(v->warden_pid > 0 ? v->warden_pid : 0));
	add_u64(o, "capsule", (uint64_t)(v->capsule_pid > 0 ? v->capsule_pid : 0));
	add_u64(o, "pages", v->pages);
	add_u64(o, "runs", v->runs);
	add_u64(o, "vmas", v->vmas);
	add_u64(o, "updates", v->updates);
	add_u64(o, "drops", v->drops);
	add_u64(o, "dropped_pages", v->dropped_pages);
	add_u64(o, "refused_changes", v->refused_changes);
	add_u64(o, "calls", v->calls);
	add_u64(o, "replies", v->replies);
	add_u64(o, "refused_calls", v->refused_calls);
	add_u64(o, "forwarded", v->forwarded);
	add_u64(o, "forwarded_ns", v->forwarded_ns);
	add_u64(o, "bells", v->bells - v->bells_ended);
	add_u64(o, "refused_bells", v->refused_bells);
	add_u64(o, "interrupts", v->interrupts);
	add_u64(o, "faults", v->faults);
	add_u64(o, "fault_pages", v->fault_pages);
	add_u64(o, "guarded_calls", v->guarded_calls);
	add_u64(o, "denied_calls", v->denied_calls);
	add_u64(o, "start_us", v->start_us);
	add_text(o, "limits", v->limits);
	add_u64(o, "paced_ms", v->paced_ns / 1000000);
	json_object_object_add(o, "seconds", json_object_new_double(seconds(head, v)));
	add_u64(o, "code", v->code);
	add_text(o, "text", v->text);
	return o;
}

static struct json_object *json_vm(const struct control_vm *vm)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "name", vm->name);
	add_text(o, "state", NAME_OF(vm_states, vm->state));
	add_text(o, "text", vm->text);
	add_u64(o, "vmm", vm->vmm_pid);
	add_u64(o, "process", vm->process);
	add_u64(o, "cid", vm->cid);
	add_u64(o, "ram_bytes", vm->ram_bytes);
	add_u64(o, "ranges", vm->ranges);
	add_text(o, "source", source_name(vm));
	add_text(o, "provider", provider_name(vm));
	json_object_object_add(o, "doorbell", json_object_new_boolean(vm->doorbell != 0));
	add_u64(o, "window_bytes", vm->window_bytes);
	add_u64(o, "window_used_bytes", vm->window_used_bytes);
	add_u64(o, "window_pieces", vm->window_pieces);
	json_object_object_add(o, "window_helper", json_object_new_boolean(vm->window_helper != 0));
	add_u64(o, "shadows_started", vm->started);
	add_u64(o, "shadows_ended", vm->ended);
	add_u64(o, "streams_refused", vm->refused);
	add_u64(o, "bells_refused", vm->refused_bells);
	return o;
}

static int print_json(FILE *out, struct reader *r, const struct control_status *head)
{
	struct json_object *top = json_object_new_object(), *vms = json_object_new_array();
	struct warden_view v;
	struct control_vm vm;
	int e = 0;

	add_text(top, "version", DS_VERSION);
	add_u64(top, "daemon", head->daemon_pid);
	add_u64(top, "rules", head->rules);
	json_object_object_add(top, "vms", vms);
	for (uint32_t i = 0; !e && i < head->nvms; i++) {
		struct json_object *o, *shadows;

		if (!take_vm(r, &vm)) {
			e = -EBADMSG;
			break;
		}
		o = json_vm(&vm);
		shadows = json_object_new_array();
		json_object_object_add(o, "shadows", shadows);
		json_object_array_add(vms, o);
		for (uint32_t k = 0; !e && k < vm.nshadows; k++) {
			if (take_view(r, &v))
				json_object_array_add(shadows, json_shadow(head, &v));
			else
				e = -EBADMSG;
		}
	}
	if (!e)
		fprintf(out, "%s\n", json_object_to_json_string_ext(top, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(top);
	return e;
}

/* The file as a whole, and its head.  Return: 0, -errno. */
static int open_file(int fd, uint64_t bytes, char **file, struct reader *r, struct control_status *head)
{
	ssize_t n;

	*file = bytes <= STATUS_BYTES_MAX ? malloc(bytes + 1) : NULL;
	if (!*file)
		return bytes <= STATUS_BYTES_MAX ? -ENOMEM : -EBADMSG;
	n = pread(fd, *file, bytes, 0);
	if (n < 0)
		return -errno;
	*r = (struct reader){*file, *file + n};
	return !take(r, head, sizeof(*head)) || head->magic != CONTROL_MAGIC || head->version != CONTROL_VERSION ? -EBADMSG : 0;
}

int status_print(FILE *out, int fd, uint64_t bytes, bool json)
{
	cleanup_free char *file = NULL;
	struct control_status head;
	struct reader r;
	const int e = open_file(fd, bytes, &file, &r, &head);

	if (e)
		return e;
	return json ? print_json(out, &r, &head) : print_text(out, &r, &head);
}

int status_find(int fd, uint64_t bytes, const char *name, struct control_vm *vm)
{
	cleanup_free char *file = NULL;
	struct control_status head;
	struct warden_view v;
	struct reader r;
	const int e = open_file(fd, bytes, &file, &r, &head);

	if (e)
		return e;
	for (uint32_t i = 0; i < head.nvms; i++) {
		if (!take_vm(&r, vm))
			return -EBADMSG;
		if (!strcmp(vm->name, name))
			return 0;
		for (uint32_t k = 0; k < vm->nshadows; k++)
			if (!take_view(&r, &v))
				return -EBADMSG;
	}
	return -ENOENT;
}
