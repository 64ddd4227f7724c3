/* policy_keys.c - verbs and keys of a rule: which there are, which verb has which, and what each value may be
 *
 * A key is a row of keys[] and a setter; which verbs have it is said in verbs[].  Setters that belong together are in a file
 * of their own (policy_forward.c), and those of no particular family here.
 */
#include <errno.h>
#include <string.h>

#include "rle/addr.h"
#include "runtime/host/policy/policy_parts.h"
#include "runtime/wire/shadow.h"

/* --- values ------------------------------------------------------------------------------------------------------- */

int policy_number(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		const uint64_t digit = (uint64_t)(*text - '0');

		if (*text < '0' || *text > '9' || digit > max || n > (max - digit) / 10)
			return -EINVAL;
		n = n * 10 + digit;
	}
	*out = n;
	return 0;
}

int policy_size(const char *text, uint64_t max, uint64_t *out)
{
	char digits[24];
	size_t n = strlen(text);
	unsigned int shift = 0;

	if (n && n < sizeof(digits)) {
		switch (text[n - 1]) {
		case 'G':
			shift += 10; /* fall through */
		case 'M':
			shift += 10; /* fall through */
		case 'K':
			shift += 10;
			n--;
		}
	}
	if (!n || n >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, n);
	digits[n] = 0;
	if (policy_number(digits, max >> shift, out))
		return -EINVAL;
	*out <<= shift;
	return 0;
}

/* --- who a rule is about -------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *set_sha256(struct policy_rule *r, const char *value)
{
	static const char wants[] = "64 hexadecimal digits";

	if (strlen(value) != 2 * DS_AGENT_SHA256_BYTES)
		return wants;
	for (size_t i = 0; i < DS_AGENT_SHA256_BYTES; i++) {
		const int high = hex_digit(value[2 * i]), low = hex_digit(value[2 * i + 1]);

		if (high < 0 || low < 0)
			return wants;
		r->sha256[i] = (uint8_t)(high << 4 | low);
	}
	r->has_sha256 = true;
	return NULL;
}

static const char *set_vm(struct policy_rule *r, const char *value)
{
	if (!*value || strlen(value) >= sizeof(r->vm))
		return "a pattern of VM names, up to 63 characters";
	strcpy(r->vm, value);
	return NULL;
}

static const char *set_program(struct policy_rule *r, const char *value)
{
	if (*value != '/' && *value != '*') /* the guest tells whole paths: another pattern would never match */
		return "a pattern of whole paths, which begins with / or *";
	strcpy(r->program, value);
	return NULL;
}

static const char *set_uid(struct policy_rule *r, const char *value)
{
	uint64_t n = 0;

	r->any_uid = !strcmp(value, "any");
	if (!r->any_uid && policy_number(value, UINT32_MAX - 1, &n))
		return "a user's number in the guest, or any";
	r->uid = (uint32_t)n;
	return NULL;
}

/* A service is a file of the services' folder: its name is never a path. */
static const char *set_service(struct policy_rule *r, const char *value)
{
	static const char wants[] = "a service's name: letters, digits, _ . -, up to 31";

	if (!*value || strlen(value) >= sizeof(r->service) || *value == '.' || *value == '-')
		return wants;
	for (const char *c = value; *c; c++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", *c))
			return wants;
	strcpy(r->service, value);
	return NULL;
}

static const char *set_mode(struct policy_rule *r, const char *value)
{
	if (!strcmp(value, "eager"))
		r->mode = DS_AGENT_EAGER;
	else if (!strcmp(value, "demand"))
		r->mode = DS_AGENT_DEMAND;
	else if (!strcmp(value, "any"))
		r->mode = POLICY_MODE_ANY;
	else
		return "eager, demand or any";
	return NULL;
}

/* --- what its shadow is given --------------------------------------------------------------------------------------- */

static const char *set_executors(struct policy_rule *r, const char *value)
{
	uint64_t n;

	if (policy_number(value, DS_SHADOW_EXECUTORS_MAX, &n) || !n)
		return "1 to 64";
	r->executors = (uint32_t)n;
	return NULL;
}

static const char *set_max_pages(struct policy_rule *r, const char *value)
{
	return policy_number(value, POLICY_MAX_PAGES, &r->max_pages) || !r->max_pages ? "a number of pages, 1 to 268435456" : NULL;
}

static const char *set_memory(struct policy_rule *r, const char *value)
{
	uint64_t n;

	if (policy_size(value, DS_SHADOW_HEAP_BYTES_MAX, &n) || !n || n % DS_PAGE_BYTES)
		return "bytes in whole pages, as in 512K, 16M, up to 1G";
	r->memory_bytes = n;
	return NULL;
}

/* --- verbs and keys ------------------------------------------------------------------------------------------------ */

enum key {
	KEY_VM,
	KEY_PROGRAM,
	KEY_SHA256,
	KEY_UID,
	KEY_SERVICE,
	KEY_MODE,
	KEY_EXECUTORS,
	KEY_MAX_PAGES,
	KEY_MEMORY,
	KEY_PATH,
	KEY_NET,
	KEY_CALLS,
	KEY_USER,
	KEY_DEVICE,
	KEY_CONNECT,
	KEY_BIND,
	KEY_FAMILY,
	KEY_CPU,
	KEY_DESCRIPTORS,
	KEY_FILE_SIZE,
	KEY_READ_RATE,
	KEY_WRITE_RATE,
	KEY_RECEIVE_RATE,
	KEY_SEND_RATE,
	NKEYS,
};
_Static_assert(NKEYS <= 64, "a bit each");
#define BIT(k) (UINT64_C(1) << (k))

static const struct {
	const char *name;
	const char *(*set)(struct policy_rule *r, const char *value);
	bool again; /* more than once */
} keys[NKEYS] = {
	[KEY_VM] = {"vm", set_vm, false},
	[KEY_PROGRAM] = {"program", set_program, false},
	[KEY_SHA256] = {"sha256", set_sha256, false},
	[KEY_UID] = {"uid", set_uid, false},
	[KEY_SERVICE] = {"service", set_service, false},
	[KEY_MODE] = {"mode", set_mode, false},
	[KEY_EXECUTORS] = {"executors", set_executors, false},
	[KEY_MAX_PAGES] = {"max-pages", set_max_pages, false},
	[KEY_MEMORY] = {"memory", set_memory, false},
	[KEY_PATH] = {"path", policy_set_path, true},
	[KEY_NET] = {"net", policy_set_net, false},
	[KEY_CALLS] = {"calls", policy_set_calls, false},
	[KEY_USER] = {"user", policy_set_user, false},
	[KEY_CONNECT] = {"connect", policy_set_connect, true},
	[KEY_BIND] = {"bind", policy_set_bind, true},
	[KEY_FAMILY] = {"family", policy_set_family, false},
	[KEY_CPU] = {"cpu", policy_set_cpu, false},
	[KEY_DESCRIPTORS] = {"descriptors", policy_set_descriptors, false},
	[KEY_FILE_SIZE] = {"file-size", policy_set_file_size, false},
	[KEY_READ_RATE] = {"read-rate", policy_set_read_rate, false},
	[KEY_WRITE_RATE] = {"write-rate", policy_set_write_rate, false},
	[KEY_RECEIVE_RATE] = {"receive-rate", policy_set_receive_rate, false},
	[KEY_SEND_RATE] = {"send-rate", policy_set_send_rate, false},
	[KEY_DEVICE] = {"device", policy_set_device, true},
};

/* A family of keys begins and ends with these two. */
#define KEYS(first, last) (BIT((last) + 1) - BIT(first))
#define WHO KEYS(KEY_VM, KEY_MODE)
#define GETS KEYS(KEY_EXECUTORS, KEY_SEND_RATE)

static const struct {
	const char *name;
	uint64_t has, needs; /* bits of keys */
} verbs[] = {
	[POLICY_ALLOW] = {"allow", WHO | GETS, BIT(KEY_PROGRAM) | BIT(KEY_SERVICE)},
	[POLICY_DENY] = {"deny", WHO, 0},
};

int policy_verb(const struct ruleline *l, size_t n)
{
	for (size_t v = 0; v < sizeof(verbs) / sizeof(verbs[0]); v++)
		if (ruleline_is(l, n, verbs[v].name))
			return (int)v;
	return -1;
}

const char *policy_verb_name(enum policy_verb verb)
{
	return verbs[verb].name;
}

int policy_key(const struct ruleline *l, size_t n)
{
	for (int k = 0; k < NKEYS; k++)
		if (ruleline_is(l, n, keys[k].name))
			return k;
	return -1;
}

enum policy_key_fault policy_key_may(enum policy_verb verb, int key, uint64_t seen)
{
	if (!(verbs[verb].has & BIT(key)))
		return POLICY_KEY_OF_ANOTHER_VERB;
	return seen & BIT(key) && !keys[key].again ? POLICY_KEY_TWICE : POLICY_KEY_FINE;
}

const char *policy_key_name(int key)
{
	return keys[key].name;
}

const char *policy_key_set(struct policy_rule *r, int key, const char *value, uint64_t *seen)
{
	*seen |= BIT(key);
	return keys[key].set(r, value);
}

const char *policy_rule_finish(struct policy_rule *r, uint64_t seen, const char **key)
{
	const char *wrong = NULL;

	for (int k = 0; k < NKEYS; k++)
		if (verbs[r->verb].needs & ~seen & BIT(k)) {
			*key = keys[k].name;
			return "needs";
		}
	policy_forward_defaults(r, seen & BIT(KEY_CALLS));
	*key = keys[r->connect.n ? KEY_CONNECT : r->bind.n ? KEY_BIND : KEY_FAMILY].name;
	wrong = policy_net_defaults(r, seen & BIT(KEY_FAMILY));
	if (!wrong && (r->rate[POLICY_RECEIVE] || r->rate[POLICY_SEND]) && !r->net_host) {
		*key = keys[r->rate[POLICY_RECEIVE] ? KEY_RECEIVE_RATE : KEY_SEND_RATE].name;
		wrong = "needs net=host for";
	}
	return wrong;
}
