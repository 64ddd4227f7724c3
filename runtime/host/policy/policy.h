/* policy.h - which guest program may have which service: the host's word, from a file
 *
 * Theory of operation
 *
 * The file (ds-policy(5)) is read line by line (runtime/wire/ruleline.h), a rule a line:
 *
 *	allow vm=web-* program=/usr/bin/python3.?? service=checksum uid=any mode=eager executors=2 max-pages=500000 memory=16M
 *	deny uid=0 vm=web-3
 *
 * The first rule that matches decides; where none does, the answer is no.  A key is a row of a table and a setter
 * (policy_keys.c), a verb a row that says which keys it has.  An unknown verb or key, a key given twice, a value out of range and a missing
 * key are errors with their line, because a rule that is silently not in force is worse than no service at all.
 *
 * Globs: ? is any character but /, * any number of these, ** any number of any; everything else is itself.  A match
 * takes at most (length of pattern) x (length of text) steps, whatever the text: the text is a guest's.
 *
 * What a rule can rely on: the VM's name is the host's own.  Program, hash and uid are what the guest's agent says.  A
 * guest whose kernel lies about them gains what the policy grants to any program of that VM, and no more.
 *
 * A rule with sha256 asks for the program's hash.  Where the guest sent none, `allow` does not match and `deny` does: not
 * knowing never grants anything.
 *
 * Pure but for policy_load(); nothing here prints.  A policy does not change once made: any process may read it.
 */
#ifndef HOST_POLICY_H
#define HOST_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/addrspec.h"
#include "runtime/wire/agent.h"

#define POLICY_FILE_BYTES_MAX (1u << 20)
#define POLICY_RULES_MAX 4096u
#define POLICY_VM_BYTES 64 /* of a glob for VM names; terminated */
#define POLICY_WHY_BYTES 200
#define POLICY_MODE_ANY UINT32_MAX

#define POLICY_PATHS_MAX 8u  /* of a rule */
#define POLICY_PATH_BYTES 256 /* each; terminated */
#define POLICY_DEVICES_MAX 16u  /* of a rule */
#define POLICY_DEVICE_BYTES 128 /* each; terminated */
#define POLICY_USER_NOBODY UINT32_MAX
#define POLICY_ADDRS_MAX 32u /* of a key */
#define POLICY_RATE_MIN 1024u /* bytes a second */

#define POLICY_EXECUTORS 1u		     /* where a rule does not say */
#define POLICY_MAX_PAGES (UINT64_C(1) << 28) /* 1 TiB */
#define POLICY_MEMORY_BYTES (UINT64_C(4) << 20)

/** enum policy_verb - What a rule does. */
enum policy_verb { POLICY_ALLOW, POLICY_DENY };

/** struct policy_path - A place of the host, and where the shadow has it. */
struct policy_path {
	char guest[POLICY_PATH_BYTES], host[POLICY_PATH_BYTES];
	bool writable;
};

/** struct policy_addrs - Addresses that a key names. */
struct policy_addrs {
	uint32_t n;
	struct addrspec spec[POLICY_ADDRS_MAX];
};

/** enum policy_family - Bits. */
enum policy_family { POLICY_INET = 1, POLICY_INET6 = 2, POLICY_UNIX = 4 };

/** enum policy_rate - What is limited to so many bytes a second. */
enum policy_rate { POLICY_READ, POLICY_WRITE, POLICY_RECEIVE, POLICY_SEND, POLICY_RATES };

/** struct policy_rule - One rule; strings are terminated, an empty glob matches anything. */
struct policy_rule {
	enum policy_verb verb;
	unsigned int line; /* in the file, from 1 on */
	char vm[POLICY_VM_BYTES];
	char program[DS_AGENT_PATH_BYTES];
	char service[DS_AGENT_SERVICE_BYTES];
	bool has_sha256, any_uid;
	uint8_t sha256[DS_AGENT_SHA256_BYTES];
	uint32_t uid;
	uint32_t mode; /* enum ds_agent_mode, or POLICY_MODE_ANY */
	/* what an allowed shadow gets */
	uint32_t executors;	/* 1 to DS_SHADOW_EXECUTORS_MAX */
	uint64_t max_pages;	/* mirrored at a time */
	uint64_t memory_bytes;	/* of the service's own; whole pages, at most DS_SHADOW_HEAP_BYTES_MAX */
	/* and of the host; nothing of that where the rule does not say */
	uint32_t uid_host, gid_host; /* who it is there; POLICY_USER_NOBODY: nobody */
	uint32_t calls;		     /* bits of enum callgroup */
	uint32_t npaths;
	bool net_host; /* the host's network, not one of its own with nothing in it */
	struct policy_path path[POLICY_PATHS_MAX];
	uint32_t ndevices;
	bool net_own; /* a network of its own, which it administers */
	char device[POLICY_DEVICES_MAX][POLICY_DEVICE_BYTES]; /* patterns of paths (jaildev.h) */
	uint32_t families;  /* bits of enum policy_family: of its sockets */
	bool net_limited;   /* it may connect to, and bind to, what these two name and nothing else */
	struct policy_addrs connect, bind;
	/* and at most; 0: no limit */
	uint32_t cpu_percent; /* of one processor */
	uint32_t descriptors; /* of the program, on the host */
	uint64_t file_size_bytes;
	uint64_t rate[POLICY_RATES]; /* bytes a second */
};

/** struct policy - Rules in the order of the file. */
struct policy {
	size_t nrules;
	struct policy_rule rule[];
};

/** struct policy_err - What is wrong with a file; line 0: the file as a whole. */
struct policy_err {
	unsigned int line;
	char why[POLICY_WHY_BYTES]; /* terminated, printable */
};

/** struct policy_query - What a guest wants; strings are terminated and not kept. */
struct policy_query {
	const char *vm, *program, *service;
	const uint8_t *sha256; /* DS_AGENT_SHA256_BYTES; NULL: not known */
	uint32_t uid;
	uint32_t mode; /* enum ds_agent_mode */
};

/**
 * policy_parse() - Reads a file's text
 * @policy: set to a new policy, the caller's to free(); NULL after an error
 * @text: any bytes, not terminated
 * @bytes: its length
 * @err: filled on an error
 *
 * Return: 0, -EINVAL, -EFBIG (bytes or rules beyond the limits), -ENOMEM.
 */
int policy_parse(struct policy **policy, const char *text, size_t bytes, struct policy_err *err);

/**
 * policy_load() - Reads a file
 * @policy: as in policy_parse()
 * @path: of the file
 * @err: filled on an error, also when the file cannot be read
 *
 * Return: as policy_parse(); -errno of open() and read(), -ENOENT among them; -EINVAL (not a regular file).
 */
int policy_load(struct policy **policy, const char *path, struct policy_err *err);

/**
 * policy_find() - The rule that decides
 * @policy: NULL: no rules
 * @query: what is asked for
 * @why: set to a word for it if the answer is no (static text); may be NULL
 * @line: set to the line of the rule that decided, 0 where none did; may be NULL
 *
 * Return: the rule that allows it; NULL: refused.
 */
const struct policy_rule *policy_find(const struct policy *policy, const struct policy_query *query, const char **why,
				      unsigned int *line);

/** policy_wants_hash() - Whether a rule that can be about this VM asks for hashes: then the guest should send them. */
bool policy_wants_hash(const struct policy *policy, const char *vm);

/** policy_glob() - Whether @text matches @pattern (rules above); @text may be any bytes, cut at DS_AGENT_PATH_BYTES. */
bool policy_glob(const char *pattern, const char *text);

#endif
