/* agent.h - what a guest's agent and the host's dshost say to each other
 *
 * Theory of operation
 *
 * One stream (AF_VSOCK, SOCK_STREAM) is one shadow: dsagent connects to DS_AGENT_PORT of the host (CID 2) from a port
 * below 1024, which only root of the guest can bind, so an unprivileged guest process cannot speak for others.  When
 * the stream ends, whoever ended it, the shadow ends; when the shadow ends, the stream does.  So a guest that dies,
 * lies or floods harms one shadow, and there is no state to clean up that is not behind one descriptor.
 *
 *   guest -> host  HELLO     first: who speaks
 *                  ATTACH    a process, what it wants, its mappings, and (eager) its map
 *                  UPDATE    its mappings now, and (eager) its whole map now: answered by DONE or REFUSED
 *                  DROP      pages about to go: answered by DONE when the shadow provably has them no more
 *                  PAGES     the answer to FAULT: frames that are pinned, or an empty map where there are none
 *                  CALL      a message for the service, answered by REPLY
 *                  DEVICES   in place of ATTACH: which devices a program could have; answered by GRANTED
 *                  MAP       a file of the host's into the VM's window (window.h): answered by MAPPED
 *                  UNMAP     it is not used any more: answered by UNMAPPED
 *   host -> guest  WELCOME   the answer to HELLO
 *                  GRANTED   lines of text, as said at struct ds_agent_devices
 *                  STARTED   the answer to ATTACH: the shadow stands
 *                  DONE      seq of what was done
 *                  FAULT     (demand) the shadow touched a page: pin it and tell its frame.  Several may be under way
 *                  REPLY     the service's answer, seq of the CALL
 *                  MAPPED    seq of the MAP: where in the window, or an error
 *                  UNMAPPED  seq of the UNMAP: the window's pages are given back
 *                  SPOILT    a page that was mapped by MAP is gone and an empty one is in its place: the process had better know
 *                  REFUSED   seq of what was refused: a code and a line of text.  ATTACH refused: the stream ends
 *                  ENDED     the shadow ends, and why; then the stream does
 *
 * Order of work that keeps memory safe: frames named in a map are pinned before they are named and stay pinned until a
 * DROP that covers them is answered with DONE or the stream has ended and the host has closed its side.  Host writes
 * therefore never land in a frame that the guest has given to somebody else.
 *
 * Every message is a head and what its kind says, `bytes` long in all; what is of variable length follows the struct.
 * Guest and host are one machine: integers are in its byte order, structs without padding.  The host believes nothing:
 * lengths are bounded before memory is taken for them, maps are opened by rle_map_open_copy() and translated against the
 * VM's RAM table, text is checked before it is logged.  A message that is not as said here ends the stream.
 */
#ifndef WIRE_AGENT_H
#define WIRE_AGENT_H

#include <stdint.h>

#include "runtime/wire/window.h"

#define DS_AGENT_PORT 871 /* of the host, in AF_VSOCK's own space; a guest port below 1024 connects to it */
#define DS_AGENT_GUEST_PORT_MAX 1023
#define DS_AGENT_MAGIC UINT32_C(0x47415344) /* the bytes "DSAG" */
#define DS_AGENT_VERSION 1

#define DS_AGENT_MAP_BYTES_MAX (UINT64_C(48) << 20) /* 2 million runs */
#define DS_AGENT_RANGES_MAX 65536		     /* mappings of a process */
#define DS_AGENT_DROP_MAX 4096			     /* ranges of a DROP */
#define DS_AGENT_PAYLOAD_MAX 4096		     /* bytes of a CALL or REPLY */
#define DS_AGENT_TEXT_BYTES 232			     /* terminated */
#define DS_AGENT_PATH_BYTES 1024		     /* terminated */
#define DS_AGENT_SERVICE_BYTES 32		     /* terminated */
#define DS_AGENT_ARGS_BYTES 256			     /* terminated */
#define DS_AGENT_SHA256_BYTES 32
#define DS_AGENT_TOKEN_BYTES 16

enum ds_agent_kind {
	DS_AGENT_HELLO = 1,
	DS_AGENT_ATTACH = 2,
	DS_AGENT_UPDATE = 3,
	DS_AGENT_DROP = 4,
	DS_AGENT_PAGES = 5,
	DS_AGENT_CALL = 6,
	DS_AGENT_DEVICES = 14,
	DS_AGENT_MAP = 7,
	DS_AGENT_UNMAP = 8,
	DS_AGENT_WELCOME = 16,
	DS_AGENT_STARTED = 17,
	DS_AGENT_DONE = 18,
	DS_AGENT_FAULT = 19,
	DS_AGENT_REPLY = 20,
	DS_AGENT_REFUSED = 21,
	DS_AGENT_ENDED = 22,
	DS_AGENT_GRANTED = 30,
	DS_AGENT_MAPPED = 23,
	DS_AGENT_SPOILT = 24,
	DS_AGENT_UNMAPPED = 25,
};

enum ds_agent_mode {
	DS_AGENT_EAGER = 0,  /* the paper's: the whole map, then the service starts */
	DS_AGENT_DEMAND = 1, /* the mirror faults */
};

/** struct ds_agent_head - Every message begins with it. */
struct ds_agent_head {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint32_t bytes; /* of the whole message */
	uint32_t seq;	/* chosen by who asks, repeated by who answers */
};

/** struct ds_agent_range - Pages [vpn, vpn + npages). */
struct ds_agent_range {
	uint64_t vpn, npages;
};

/** struct ds_agent_hello - DS_AGENT_HELLO. */
struct ds_agent_hello {
	struct ds_agent_head head;
	uint8_t boot_id[16];
	char release[64]; /* uname -r; terminated */
};

/** struct ds_agent_welcome - DS_AGENT_WELCOME. */
struct ds_agent_welcome {
	struct ds_agent_head head;
	char vm[32];	    /* what the host calls this VM; terminated */
	uint32_t want_hash; /* 1: ATTACH must carry the program's SHA-256, a policy rule needs it */
	uint32_t zero;
};

/**
 * struct ds_agent_attach - DS_AGENT_ATTACH; behind it nranges of struct ds_agent_range, rising, not overlapping: the
 * mappings of the process (forbidden to the capsule; in demand mode also what faults), then map_bytes of a map keyed by
 * virtual pages into RLE_SPACE_FRAME, split by RLE_SPLIT_ATTR; 0 bytes in demand mode.
 */
struct ds_agent_attach {
	struct ds_agent_head head;
	uint64_t pid, start_ticks; /* in the guest */
	uint32_t uid, gid;
	uint32_t mode;	    /* enum ds_agent_mode */
	uint32_t has_sha256;
	struct ds_agent_range reserve; /* where the guest keeps room for the capsule; npages 0: nowhere */
	uint64_t nranges, map_bytes;
	char service[DS_AGENT_SERVICE_BYTES];
	char args[DS_AGENT_ARGS_BYTES];
	uint8_t sha256[DS_AGENT_SHA256_BYTES]; /* of the program's file */
	char program[DS_AGENT_PATH_BYTES];     /* its path, if that is it for everybody; terminated */
};

/** struct ds_agent_started - DS_AGENT_STARTED. */
struct ds_agent_started {
	struct ds_agent_head head;
	struct ds_agent_range capsule;
	uint64_t mirror_pages;
	uint64_t host_pid; /* the shadow's, for people who look for it */
	uint8_t token[DS_AGENT_TOKEN_BYTES]; /* random; who knows it may bring bells (forward.h): for the process and root only */
};

/** struct ds_agent_update - DS_AGENT_UPDATE; ranges and a map follow as in an ATTACH. */
struct ds_agent_update {
	struct ds_agent_head head;
	uint64_t nranges, map_bytes;
};

/** struct ds_agent_drop - DS_AGENT_DROP; nranges of struct ds_agent_range follow, rising, not overlapping. */
struct ds_agent_drop {
	struct ds_agent_head head;
	uint64_t nranges;
};

/** struct ds_agent_fault - DS_AGENT_FAULT: @vpn was touched; what is pinned of the window may come along. */
struct ds_agent_fault {
	struct ds_agent_head head;
	uint64_t vpn;
	struct ds_agent_range window; /* holds vpn */
	uint32_t write;		      /* the touch was a store */
	uint32_t zero;
};

/**
 * struct ds_agent_pages - DS_AGENT_PAGES, seq of the FAULT; a map as in an ATTACH follows, of pages of the window.
 * Without vpn in it: that page is not there or cannot be had, and who touched it gets a fault of its own.
 */
struct ds_agent_pages {
	struct ds_agent_head head;
	uint64_t map_bytes;
};

/** struct ds_agent_call - DS_AGENT_CALL and DS_AGENT_REPLY; the payload follows. */
struct ds_agent_call {
	struct ds_agent_head head;
	uint32_t executor;
	uint32_t payload_bytes;
};

/**
 * struct ds_agent_devices - DS_AGENT_DEVICES
 *
 * The answer, GRANTED, is a struct ds_agent_call whose payload are lines of text, whole ones; @executor is 1 if there was no room
 * for all of them:
 *
 *   program GLOB	  what follows is granted to programs that match; only where the question names no program
 *   device PATH TYPE	  a device that there is now; TYPE: c or b, MAJOR:MINOR, octal mode of the host's node
 *   path GUESTPATH HOW  a place of the host that goes along; HOW: ro or rw
 */
struct ds_agent_devices {
	struct ds_agent_head head;
	uint32_t uid;
	uint32_t zero;
	char service[DS_AGENT_SERVICE_BYTES];
	char program[DS_AGENT_PATH_BYTES]; /* empty: any; terminated */
};

/** enum ds_agent_code - Why something was refused or a shadow ended. */
enum ds_agent_code {
	DS_AGENT_C_POLICY = 1, /* no rule grants it */
	DS_AGENT_C_MESSAGE,    /* malformed */
	DS_AGENT_C_MAP,	       /* the map leads nowhere it may */
	DS_AGENT_C_LIMIT,      /* a limit of the host, such as vm.max_map_count or the number of shadows */
	DS_AGENT_C_SHADOW,     /* the shadow could not start or make the change */
	DS_AGENT_C_HOST,       /* a system error of the host */
	DS_AGENT_C_GONE,       /* the shadow has ended: its service faulted, exited, or was ended */
	DS_AGENT_C_TIMEOUT,    /* the guest did not answer */
};

/** struct ds_agent_refused - DS_AGENT_REFUSED, DS_AGENT_ENDED (seq 0). */
struct ds_agent_refused {
	struct ds_agent_head head;
	uint32_t code;
	uint32_t zero;
	char text[DS_AGENT_TEXT_BYTES]; /* one line in plain English; terminated */
};

/** struct ds_agent_map - DS_AGENT_MAP; one MAP or UNMAP at a time. */
struct ds_agent_map {
	struct ds_agent_head head;
	struct ds_window_map want;
};

/** struct ds_agent_mapped - DS_AGENT_MAPPED. */
struct ds_agent_mapped {
	struct ds_agent_head head;
	struct ds_window_mapped got;
};

/** struct ds_agent_unmap - DS_AGENT_UNMAP: the process has nothing of the window there any more. */
struct ds_agent_unmap {
	struct ds_agent_head head;
	struct ds_window_unmap what;
};

/** struct ds_agent_unmapped - DS_AGENT_UNMAPPED. */
struct ds_agent_unmapped {
	struct ds_agent_head head;
	uint32_t reached; /* the shadow may have the file there, since it touched it: these pages are to be dropped as well */
	uint32_t zero;
};

/** struct ds_agent_spoilt - DS_AGENT_SPOILT, seq 0: of the process's page @vpn. */
struct ds_agent_spoilt {
	struct ds_agent_head head;
	uint64_t vpn;
	uint32_t signal; /* that the process would have got: SIGBUS */
	uint32_t zero;
};

/** struct ds_agent_done - DS_AGENT_DONE. */
struct ds_agent_done {
	struct ds_agent_head head;
};

_Static_assert(sizeof(struct ds_agent_head) == 16 && sizeof(struct ds_agent_hello) == 96 && sizeof(struct ds_agent_welcome) == 56 &&
		       sizeof(struct ds_agent_attach) == 80 + 32 + 256 + 32 + 1024 && sizeof(struct ds_agent_started) == 64 &&
		       sizeof(struct ds_agent_update) == 32 && sizeof(struct ds_agent_drop) == 24 &&
		       sizeof(struct ds_agent_fault) == 48 && sizeof(struct ds_agent_pages) == 24 &&
		       sizeof(struct ds_agent_call) == 24 && sizeof(struct ds_agent_devices) == 24 + 32 + 1024 && sizeof(struct ds_agent_refused) == 256 &&
		       sizeof(struct ds_agent_map) == 56 && sizeof(struct ds_agent_mapped) == 16 + 8 + 16 * DS_WINDOW_EXTENTS_MAX &&
		       sizeof(struct ds_agent_unmap) == 32 && sizeof(struct ds_agent_unmapped) == 24 && sizeof(struct ds_agent_spoilt) == 32,
	       "messages have no padding");

#endif
