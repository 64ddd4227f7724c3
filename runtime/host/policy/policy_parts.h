/* policy_parts.h - the parts of the policy's parser, for each other
 *
 *   policy.c          the file, its lines, the rule that decides
 *   policy_keys.c     verbs and keys, and the setters of keys that every service has
 *   policy_forward.c  setters for what a shadow may have of the host
 *   policy_net.c      setters for the addresses it may reach
 *   policy_limits.c   setters for how much of the host it may use
 *   policy_device.c   setters for devices
 *   policy_glob.c     patterns
 *
 * A setter puts a key's value (a terminated string of less than DS_AGENT_PATH_BYTES) into the rule.  Return: NULL, or what was
 * expected instead, in words: static text.
 */
#ifndef HOST_POLICY_PARTS_H
#define HOST_POLICY_PARTS_H

#include "runtime/host/policy/policy.h"
#include "runtime/wire/ruleline.h"

/** policy_number() - Digits only, at most @max.  Return: 0, -EINVAL. */
int policy_number(const char *text, uint64_t max, uint64_t *out);
/** policy_size() - A number of bytes, with K, M or G behind it; at most @max.  Return: 0, -EINVAL. */
int policy_size(const char *text, uint64_t max, uint64_t *out);

/* --- policy_keys.c --- */
/** policy_verb() - The verb of @n letters at @l->at.  Return: enum policy_verb, -1: there is none of that name. */
int policy_verb(const struct ruleline *l, size_t n);
/** policy_verb_name() - Its name. */
const char *policy_verb_name(enum policy_verb verb);
/** policy_key() - The key of @n letters at @l->at.  Return: its number; -1: there is none of that name. */
int policy_key(const struct ruleline *l, size_t n);
/** policy_key_name() - Its name. */
const char *policy_key_name(int key);

/** enum policy_key_fault - Why a key may not be given here. */
enum policy_key_fault { POLICY_KEY_FINE, POLICY_KEY_OF_ANOTHER_VERB, POLICY_KEY_TWICE };
/** policy_key_may() - Whether @verb has @key, and another of it; @seen: of the line so far, a bit each. */
enum policy_key_fault policy_key_may(enum policy_verb verb, int key, uint64_t seen);
/** policy_key_set() - Puts a value into the rule, and the key's bit into @seen.  Return: as of a setter. */
const char *policy_key_set(struct policy_rule *r, int key, const char *value, uint64_t *seen);
/**
 * policy_rule_finish() - The line has been read: what is missing, and what follows from the rest
 * @key: set to the name of a key, on an error
 *
 * Return: NULL, or what is wrong about the key: "needs", "needs net=host for".
 */
const char *policy_rule_finish(struct policy_rule *r, uint64_t seen, const char **key);

/* --- policy_forward.c --- */
/** policy_set_path() - path=GUESTPATH:HOSTPATH:ro|rw, one more of them. */
const char *policy_set_path(struct policy_rule *r, const char *value);
/** policy_set_net() - net=none|host. */
const char *policy_set_net(struct policy_rule *r, const char *value);
/** policy_set_calls() - calls=GROUP,GROUP... */
const char *policy_set_calls(struct policy_rule *r, const char *value);
/** policy_set_user() - user=UID[:GID]|nobody|root. */
const char *policy_set_user(struct policy_rule *r, const char *value);
extern const char policy_dev_taken[]; /* what is expected instead of a path in /dev beside devices */
/** policy_set_device() - device=PATTERN, one more of them. */
const char *policy_set_device(struct policy_rule *r, const char *value);
/** policy_forward_defaults() - A rule has been read: what it does not say follows from the rest. */
void policy_forward_defaults(struct policy_rule *r, bool calls_given);

/* --- policy_net.c --- */
/** policy_set_connect() - connect=SPEC,SPEC..., more of them; addrspec.h. */
const char *policy_set_connect(struct policy_rule *r, const char *value);
/** policy_set_bind() - bind=SPEC,SPEC..., likewise. */
const char *policy_set_bind(struct policy_rule *r, const char *value);
/** policy_set_family() - family=inet,inet6. */
const char *policy_set_family(struct policy_rule *r, const char *value);
/** policy_net_defaults() - As policy_forward_defaults().  Return: NULL, or what is wrong about "connect". */
const char *policy_net_defaults(struct policy_rule *r, bool families_given);

/* --- policy_limits.c --- */
/** policy_set_cpu() - cpu=N%. */
const char *policy_set_cpu(struct policy_rule *r, const char *value);
/** policy_set_descriptors() - descriptors=N. */
const char *policy_set_descriptors(struct policy_rule *r, const char *value);
/** policy_set_file_size() - file-size=BYTES. */
const char *policy_set_file_size(struct policy_rule *r, const char *value);
/** policy_set_read_rate() - read-rate=BYTES; the next three likewise. */
const char *policy_set_read_rate(struct policy_rule *r, const char *value);
/** policy_set_write_rate() - write-rate=BYTES. */
const char *policy_set_write_rate(struct policy_rule *r, const char *value);
/** policy_set_receive_rate() - receive-rate=BYTES. */
const char *policy_set_receive_rate(struct policy_rule *r, const char *value);
/** policy_set_send_rate() - send-rate=BYTES. */
const char *policy_set_send_rate(struct policy_rule *r, const char *value);

#endif
