/* reasons.c - see reasons.h */
#include "runtime/host/reasons.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "rle/addr.h"

#define EXIT_REFUSED 1 /* of a capsule: runtime/shadow/capsule.h */
#define EXIT_FAULT 2
#define EXIT_CHANNEL 3

const char *reasons_code(uint32_t code)
{
	switch ((enum ds_agent_code)code) {
	case DS_AGENT_C_POLICY: return "refused by the policy";
	case DS_AGENT_C_MESSAGE: return "malformed message";
	case DS_AGENT_C_MAP: return "unusable map";
	case DS_AGENT_C_LIMIT: return "limit reached";
	case DS_AGENT_C_SHADOW: return "shadow failed";
	case DS_AGENT_C_HOST: return "host error";
	case DS_AGENT_C_GONE: return "shadow ended";
	case DS_AGENT_C_TIMEOUT: return "timeout";
	}
	return code ? "unknown reason" : "none";
}

/* ", error text" of an errno that a capsule gave; nothing for 0. */
static const char *because(char *buf, size_t bytes, int32_t err)
{
	if (!err)
		return "";
	if (err < 0 && err > -4096 && strerrordesc_np(-err))
		snprintf(buf, bytes, ": %s", strerrordesc_np(-err));
	else
		snprintf(buf, bytes, ": error %" PRId32, err);
	return buf;
}

static uint64_t address(uint64_t vpn)
{
	return vpn << DS_PAGE_SHIFT;
}

void reasons_refused(char *text, size_t bytes, const struct ds_shadow_refused *r)
{
	const uint64_t i = r->index, v = r->value;
	char err[96];
	const char *e = because(err, sizeof(err), r->err);

#define SAY(...) snprintf(text, bytes, __VA_ARGS__); return
	switch ((enum ds_shadow_reason)r->reason) {
	case DS_SHADOW_R_MESSAGE: SAY("the capsule calls a message malformed (offset %" PRIu64 ", value %" PRIu64 ")", i, v);
	case DS_SHADOW_R_VERSION: SAY("the capsule speaks another version of the protocol than %" PRIu64, v);
	case DS_SHADOW_R_FDS: SAY("the capsule got %" PRIu64 " descriptors and wants %" PRIu64, i, v);
	case DS_SHADOW_R_ORDER: SAY("the capsule got a message out of turn (kind %" PRIu64 ")", v);
	case DS_SHADOW_R_LIMIT: SAY("a number is out of range (offset %" PRIu64 ", limit %" PRIu64 ")", i, v);
	case DS_SHADOW_R_SERVICE: SAY("the service did not start%s", *e ? e : ": the executable holds another one");
	case DS_SHADOW_R_DATA: SAY("the capsule cannot read the map's file%s (%" PRIu64 " of %" PRIu64 " bytes)", e, i, v);
	case DS_SHADOW_R_RAM: SAY("the VM's RAM file cannot be used%s (it has %" PRIu64 " bytes)", e, v);
	case DS_SHADOW_R_FORBIDDEN: SAY("mapping %" PRIu64 " of the process is out of order or beyond the user half", i);
	case DS_SHADOW_R_MAP: SAY("the capsule cannot use the map%s (run %" PRId64 ", offset %" PRIu64 ")", e, (int64_t)i, v);
	case DS_SHADOW_R_SPACE: SAY("the map is of another kind than the capsule wants");
	case DS_SHADOW_R_RUN_HIGH: SAY("run %" PRIu64 " of the map, at 0x%" PRIx64 ", ends beyond the user half", i, address(v));
	case DS_SHADOW_R_RUN_LOW:
		SAY("run %" PRIu64 " of the map, at 0x%" PRIx64 ", is lower than the host lets processes map (vm.mmap_min_addr)", i,
		    address(v));
	case DS_SHADOW_R_RUN_RAM: SAY("run %" PRIu64 " of the map ends beyond the VM's RAM (page %" PRIu64 ")", i, v);
	case DS_SHADOW_R_MAX_MAPS:
		SAY("the mirror takes %" PRIu64 " mappings and the host's vm.max_map_count leaves %" PRIu64 ": raise it, or use demand mode",
		    v, i);
	case DS_SHADOW_R_NO_PLACE: SAY("nowhere in the process's address space is room for the capsule's %" PRIu64 " pages", v);
	case DS_SHADOW_R_NO_MEMORY: SAY("no memory for %" PRIu64 " bytes of the capsule%s", v, e);
	case DS_SHADOW_R_GUARD: SAY("the capsule's guard is not in force (the knock was answered 0x%" PRIx64 ")%s", v, e);
	case DS_SHADOW_R_UNMAP: SAY("the kernel does not let go of its own mappings (a sealed vdso)%s", e);
	case DS_SHADOW_R_KERNEL: SAY("system call %" PRIu64 " failed when the capsule started%s", i, e);
	case DS_SHADOW_R_MMAP: SAY("run %" PRIu64 " of the map, at 0x%" PRIx64 ", could not be mapped%s", i, address(v), e);
	case DS_SHADOW_R_BUSY: SAY("executor %" PRIu64 " of the service did not stop in time", i);
	case DS_SHADOW_R_EXECUTOR: SAY("the service has no executor %" PRIu64, i);
	case DS_SHADOW_R_MAILBOX: SAY("executor %" PRIu64 " has not taken its last message yet", i);
	case DS_SHADOW_R_LOST: SAY("a change of the mirror failed half-way%s", e);
	case DS_SHADOW_R_END: break;
	}
	SAY("the capsule refused for reason %" PRIu32 ", which is not known (error %" PRId32 ", index %" PRIu64 ", value %" PRIu64 ")",
	    r->reason, r->err, i, v);
#undef SAY
}

enum ds_agent_code reasons_refused_code(const struct ds_shadow_refused *refused)
{
	switch ((enum ds_shadow_reason)refused->reason) {
	case DS_SHADOW_R_FORBIDDEN:
	case DS_SHADOW_R_MAP:
	case DS_SHADOW_R_SPACE:
	case DS_SHADOW_R_RUN_HIGH:
	case DS_SHADOW_R_RUN_LOW:
	case DS_SHADOW_R_RUN_RAM: return DS_AGENT_C_MAP;
	case DS_SHADOW_R_MAX_MAPS:
	case DS_SHADOW_R_EXECUTOR: return DS_AGENT_C_LIMIT;
	case DS_SHADOW_R_LOST: return DS_AGENT_C_GONE;
	default: return DS_AGENT_C_SHADOW;
	}
}

void reasons_fault(char *text, size_t bytes, const struct ds_shadow_fault *f)
{
	const char *what = f->signal == SIGBUS	? "memory that is beyond its file" :
			   f->signal == SIGSEGV ? "memory that is not there" :
						  "memory in a way that is not known";
	char code[64] = "outside its executable";

	if (f->code != UINT64_MAX)
		snprintf(code, sizeof(code), "at offset 0x%" PRIx64 " of its executable", f->code);
	snprintf(text, bytes, "the service touched %s, 0x%" PRIx64 ", by code %s", what, f->address, code);
}

void reasons_exit(char *text, size_t bytes, int status)
{
	if (WIFSIGNALED(status)) {
		const char *name = sigdescr_np(WTERMSIG(status));

		snprintf(text, bytes, "the capsule was killed by signal %d%s%s%s", WTERMSIG(status), name ? " (" : "", name ? name : "",
			 name ? ")" : "");
		return;
	}
	switch (WEXITSTATUS(status)) {
	case 0: snprintf(text, bytes, "the capsule ended by itself"); return;
	case EXIT_REFUSED: snprintf(text, bytes, "the capsule refused and ended"); return;
	case EXIT_FAULT: snprintf(text, bytes, "the capsule ended after a fault"); return;
	case EXIT_CHANNEL: snprintf(text, bytes, "the capsule lost its control channel and ended"); return;
	default: snprintf(text, bytes, "the capsule ended with status %d", WEXITSTATUS(status));
	}
}
