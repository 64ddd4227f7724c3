/* host_policy.c - the policy: which rule decides, globs against a model, what is refused and where, lines of the log */
#include "runtime/host/policy/policy.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host/policy/callgroup.h"
#include "runtime/host/log.h"
#include "runtime/wire/shadow.h"
#include "tests/tap.h"

static struct policy *policy;
static struct policy_err err;

static int parse(const char *text)
{
	free(policy);
	return policy_parse(&policy, text, strlen(text), &err);
}

/* The line of the rule that allows it; 0: no rule, -line: denied there. */
static int decide(const char *vm, const char *program, uint32_t uid, const char *service, uint32_t mode, const uint8_t *sha256)
{
	const struct policy_query q = {.vm = vm, .program = program, .uid = uid, .service = service, .mode = mode, .sha256 = sha256};
	const struct policy_rule *r;
	const char *why = NULL;
	unsigned int line;

	r = policy_find(policy, &q, &why, &line);
	if (!r != !!why)
		return 99999; /* a refusal has a reason, and nothing else has */
	return r ? (int)r->line : -(int)line;
}

static void test_rules(void)
{
	static const uint8_t hash[32] = {[0] = 0xab, [31] = 0x01}, other[32] = {0};
	const char *hex = "ab00000000000000000000000000000000000000000000000000000000000001";
	char text[512];

	tap_ok(!parse("") && !policy->nrules && decide("vm", "/bin/a", 0, "s", 0, NULL) == 0, "an empty file allows nothing");
	tap_eq(decide("vm", "/bin/a", 0, "s", 0, NULL), 0, "and so does no policy at all");
	tap_eq(parse("# comment\n\n \t\ndeny vm=bad-*\r\n"
		     "allow program=/usr/bin/* service=sum uid=1000 mode=eager executors=3 max-pages=77 memory=8K # why\n"
		     "allow vm=good program=\"/opt/a b/**\" service=sum\n"
		     "deny uid=0\n"
		     "allow program=** service=any.thing mode=demand"),
	       0, "a file with comments, blanks, quotes, and no newline at its end");
	tap_eq(policy->nrules, 5, "has five rules");
	tap_eq(decide("x", "/usr/bin/a", 1000, "sum", DS_AGENT_EAGER, NULL), 5, "the first rule that matches allows");
	tap_eq(decide("bad-1", "/usr/bin/a", 1000, "sum", DS_AGENT_EAGER, NULL), -4, "the first rule that matches denies");
	tap_eq(decide("x", "/usr/bin/a/b", 1000, "sum", DS_AGENT_EAGER, NULL), 0, "* stops at /");
	tap_eq(decide("x", "/usr/bin/a", 1001, "sum", DS_AGENT_EAGER, NULL), 0, "another user");
	tap_eq(decide("x", "/usr/bin/a", 1000, "sum2", DS_AGENT_EAGER, NULL), 0, "another service");
	tap_eq(decide("x", "/usr/bin/a", 1000, "sum", DS_AGENT_DEMAND, NULL), 0, "another mode");
	tap_eq(decide("good", "/opt/a b/c/d", 7, "sum", DS_AGENT_DEMAND, NULL), 6, "quotes, **, any user, any mode");
	tap_eq(decide("good2", "/opt/a b/c/d", 7, "sum", DS_AGENT_DEMAND, NULL), 0, "a name must match to its end");
	tap_eq(decide("x", "anything", 0, "any.thing", DS_AGENT_DEMAND, NULL), -7, "order decides");
	tap_eq(decide("x", "anything", 1, "any.thing", DS_AGENT_DEMAND, NULL), 8, "a rule in the last line");
	tap_ok(policy->rule[1].executors == 3 && policy->rule[1].max_pages == 77 && policy->rule[1].memory_bytes == 8192 &&
		       policy->rule[2].executors == POLICY_EXECUTORS && policy->rule[2].max_pages == POLICY_MAX_PAGES &&
		       policy->rule[2].memory_bytes == POLICY_MEMORY_BYTES,
	       "what an allowed shadow gets, and what it gets when nothing is said");

	snprintf(text, sizeof(text), "deny sha256=%s service=x\nallow sha256=%s program=* service=y vm=v*", hex, hex);
	tap_eq(parse(text), 0, "rules with a hash");
	tap_eq(decide("v", "a", 0, "y", 0, hash), 2, "the hash allows");
	tap_eq(decide("v", "a", 0, "y", 0, other), 0, "another one does not");
	tap_eq(decide("v", "a", 0, "y", 0, NULL), 0, "nor does none");
	tap_eq(decide("v", "a", 0, "x", 0, hash), -1, "the hash denies");
	tap_eq(decide("v", "a", 0, "x", 0, NULL), -1, "and so does none, which might be it");
	tap_ok(policy_wants_hash(policy, "any"), "the guest is asked for hashes");
	tap_ok(!parse("allow sha256=ab00000000000000000000000000000000000000000000000000000000000001 program=* service=y vm=v*") &&
		       !policy_wants_hash(policy, "w") && policy_wants_hash(policy, "v1"),
	       "only where a rule can be about its VM");
}

/* What a shadow may have of the host. */
static void test_host(void)
{
	const struct policy_rule *r;

	tap_eq(parse("allow program=/a service=f path=/data:/srv/data:ro path=\"/my files:/srv/my files:rw\" net=host user=1000:100 calls=file,info\n"
		     "allow program=/b service=f path=/data:/srv/data:ro\n"
		     "allow program=/c service=f net=host user=root\n"
		     "allow program=/d service=f user=33\n"
		     "allow program=/e service=f path=/data:/srv:rw path=/data2:/srv:rw net=none user=nobody"),
	       0, "rules that give shadows something of the host");
	r = policy->rule;
	tap_ok(r->npaths == 2 && !strcmp(r->path[0].guest, "/data") && !strcmp(r->path[0].host, "/srv/data") && !r->path[0].writable &&
		       !strcmp(r->path[1].guest, "/my files") && !strcmp(r->path[1].host, "/srv/my files") && r->path[1].writable,
	       "two paths, one to be read only, one with blanks");
	tap_ok(r->net_host && r->uid_host == 1000 && r->gid_host == 100 && r->calls == (CALLGROUP_FILE | CALLGROUP_INFO),
	       "the host's network, a user and group, groups of calls");
	tap_ok(r[1].calls == (CALLGROUP_FILE | CALLGROUP_DIR | CALLGROUP_POLL | CALLGROUP_INFO) && !r[1].net_host &&
		       r[1].uid_host == POLICY_USER_NOBODY && r[1].gid_host == POLICY_USER_NOBODY,
	       "with a path and nothing else said: files and directories, no network, nobody");
	tap_ok(r[2].calls & CALLGROUP_SOCKET && !(r[2].calls & CALLGROUP_DIR) && r[2].uid_host == 0 && r[2].gid_host == 0,
	       "with a network: sockets; root where that is said");
	tap_ok(r[3].uid_host == 33 && r[3].gid_host == 33 && !r[3].calls && !r[3].npaths && !r[3].net_host,
	       "a user is its group; without paths and network there are no calls");
	tap_ok(!r[3].ndevices, "no devices");
	tap_ok(r[4].npaths == 2 && r[4].uid_host == POLICY_USER_NOBODY, "paths may begin alike, and be the same on the host");
	tap_eq(parse("allow program=/a service=f device=/dev/kvm device=/dev/nvidia[0-9]* net=own"), 0, "a rule that gives devices");
	r = policy->rule;
	tap_ok(r->ndevices == 2 && !strcmp(r->device[0], "/dev/kvm") && !strcmp(r->device[1], "/dev/nvidia[0-9]*") && r->net_own && !r->net_host &&
		       r->calls & CALLGROUP_DEVICE && r->calls & CALLGROUP_FILE,
	       "two of them, commands for drivers, a network of its own");
}

/* How much of it, and which addresses. */
static void test_limits(void)
{
	const struct policy_rule *r;

	tap_eq(parse("allow program=/a service=f net=host cpu=250% descriptors=64 file-size=2G read-rate=10M write-rate=1K receive-rate=1G send-rate=4096\n"
		     "allow program=/b service=f net=host connect=127.0.0.1:6379,[::1]:6379 connect=udp:*:53 bind=*:8000-8010 family=inet\n"
		     "allow program=/c service=f net=host\n"
		     "allow program=/d service=f net=host bind=tcp:10.0.0.0/8:*\n"
		     "allow program=/e service=f family=unix\n"
		     "allow program=/f service=f net=host family=unix,inet connect=127.0.0.1:80"),
	       0, "rules that limit what shadows use");
	r = policy->rule;
	tap_ok(r->cpu_percent == 250 && r->descriptors == 64 && r->file_size_bytes == UINT64_C(2) << 30 && r->rate[POLICY_READ] == 10 << 20 &&
		       r->rate[POLICY_WRITE] == 1024 && r->rate[POLICY_RECEIVE] == 1 << 30 && r->rate[POLICY_SEND] == 4096 && !r->net_limited,
	       "processor, descriptors, size of files, bytes a second");
	tap_ok(r[1].net_limited && r[1].connect.n == 3 && r[1].bind.n == 1 && r[1].families == POLICY_INET && r[1].connect.spec[1].family == 6 &&
		       r[1].connect.spec[2].protocol == ADDRSPEC_UDP && r[1].bind.spec[0].first == 8000 && r[1].bind.spec[0].last == 8010,
	       "addresses to connect to, to bind to, and a family");
	tap_ok(!r[2].net_limited && r[2].families == (POLICY_INET | POLICY_INET6) && !r[2].cpu_percent && !r[2].rate[POLICY_READ] && !r[2].descriptors,
	       "without a word of them there is no limit");
	tap_ok(r[3].net_limited && !r[3].connect.n, "who may bind may not therefore connect");
	tap_ok(r[4].families == POLICY_UNIX && !r[4].net_host && !r[4].net_limited && r[4].calls & CALLGROUP_SOCKET, "unix sockets need no network");
	tap_ok(r[5].families == (POLICY_UNIX | POLICY_INET) && r[5].net_limited, "and go beside others");
}

static void wrong(const char *text, unsigned int line, const char *about)
{
	const int e = parse(text);

	tap_ok(e == -EINVAL && !policy && err.line == line && strstr(err.why, about), "line %u: %s", err.line, err.why);
}

static void test_host_errors(void)
{
	char text[1024], name[300];

	wrong("allow program=/a service=f\nallow program=/a service=f path=/data", 2, "path: expected GUESTPATH:HOSTPATH");
	wrong("allow program=/a service=f path=/data:/srv", 1, "GUESTPATH:HOSTPATH");
	wrong("allow program=/a service=f path=/data:/srv:rx", 1, "ro or rw");
	wrong("allow program=/a service=f path=/data:/a:b:ro", 1, "colon");
	wrong("allow program=/a service=f path=data:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data:srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data:/:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data/:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data:/srv/../etc:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/..:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data/./x:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data//x:/srv:ro", 1, "whole paths");
	wrong("allow program=/a service=f path=/data:/srv:ro path=/data:/etc:ro", 1, "within another");
	wrong("allow program=/a service=f path=/data:/srv:ro path=/data/x:/etc:ro", 1, "within another");
	wrong("allow program=/a service=f path=/data/x:/srv:ro path=/data:/etc:ro", 1, "within another");
	memset(name, 'x', 256);
	name[256] = 0;
	snprintf(text, sizeof(text), "allow program=/a service=f path=/%s:/srv:ro", name);
	wrong(text, 1, "255");
	snprintf(text, sizeof(text), "allow program=/a service=f path=/1:/a:ro path=/2:/a:ro path=/3:/a:ro path=/4:/a:ro path=/5:/a:ro "
				     "path=/6:/a:ro path=/7:/a:ro path=/8:/a:ro path=/9:/a:ro");
	wrong(text, 1, "at most 8");
	wrong("allow program=/a service=f net=all", 1, "own or host");
	wrong("allow program=/a service=f device=/etc/passwd", 1, "below /dev");
	wrong("allow program=/a service=f device=/dev/../etc/passwd", 1, "without . and ..");
	wrong("allow program=/a service=f device=/dev/kvm path=/dev/shm:/tmp:rw", 1, "in /dev");
	wrong("allow program=/a service=f path=/dev/shm:/tmp:rw device=/dev/kvm", 1, "in /dev");
	wrong("allow program=/a service=f net=host net=none", 1, "twice");
	wrong("allow program=/a service=f calls=", 1, "some of");
	wrong("allow program=/a service=f calls=file,mount", 1, "some of");
	wrong("allow program=/a service=f calls=file,file", 1, "some of");
	wrong("allow program=/a service=f calls=file,", 1, "some of");
	wrong("allow program=/a service=f user=0", 1, "user=root");
	wrong("allow program=/a service=f user=1000:0", 1, "user=root");
	wrong("allow program=/a service=f user=adm", 1, "UID");
	wrong("allow program=/a service=f user=1000:", 1, "UID");
	wrong("allow program=/a service=f user=4294967295", 1, "UID");
	wrong("allow program=/a service=f user=00000000000000000001:7", 1, "UID");
	wrong("allow program=/a service=f user=10000000000000000000000", 1, "UID");
	wrong("deny path=/data:/srv:ro", 1, "has no key");
}

static void test_limit_errors(void)
{
	char text[2048] = "allow program=/a service=f net=host connect=1.1.1.1:1";

	wrong("allow program=/a service=f cpu=50", 1, "percent of a processor");
	wrong("allow program=/a service=f cpu=%", 1, "percent");
	wrong("allow program=/a service=f cpu=0%", 1, "percent");
	wrong("allow program=/a service=f cpu=6401%", 1, "percent");
	wrong("allow program=/a service=f descriptors=0", 1, "1 to 4096");
	wrong("allow program=/a service=f descriptors=4097", 1, "1 to 4096");
	wrong("allow program=/a service=f file-size=0", 1, "file-size: expected bytes");
	wrong("allow program=/a service=f read-rate=1023", 1, "bytes a second");
	wrong("allow program=/a service=f write-rate=fast", 1, "bytes a second");
	wrong("allow program=/a service=f write-rate=9999999G", 1, "bytes a second");
	wrong("allow program=/a service=f receive-rate=1M", 1, "needs net=host for receive-rate=");
	wrong("allow program=/a service=f net=none send-rate=1M", 1, "needs net=host for send-rate=");
	wrong("allow program=/a service=f connect=*:80", 1, "needs net=host for connect=");
	wrong("allow program=/a service=f bind=*:80 net=none", 1, "needs net=host for bind=");
	wrong("allow program=/a service=f family=inet", 1, "needs net=host for family=");
	wrong("allow program=/a service=f family=unix,inet6", 1, "needs net=host for family=");
	wrong("allow program=/a service=f family=unix connect=*:80", 1, "needs net=host for connect=");
	wrong("allow program=/a service=f net=host family=vsock", 1, "family: expected some of inet,inet6,unix");
	wrong("allow program=/a service=f net=host family=inet,inet", 1, "family: expected some of inet,inet6,unix");
	wrong("allow program=/a service=f net=host connect=localhost:80", 1, "connect: expected ADDRESS:PORT");
	wrong("allow program=/a service=f net=host bind=1.2.3.4:80-70", 1, "second port");
	wrong("deny connect=*:80", 1, "has no key");
	for (int i = 0; i < 32; i++)
		strcat(text, ",1.1.1.1:1");
	wrong(text, 1, "at most 32 addresses");
}

static void test_errors(void)
{
	static char big[POLICY_FILE_BYTES_MAX + 2];
	size_t n = 0;

	wrong("permit vm=a", 1, "allow or deny");
	wrong("\n\nallowed program=/a service=b", 3, "allow or deny");
	wrong("allow service=b", 1, "needs program=");
	wrong("deny\nallow program=/a", 2, "needs service=");
	wrong("allow program=/a service=b colour=red", 1, "colour");
	wrong("allow program=/a service=b service=c", 1, "twice");
	wrong("deny executors=2", 1, "has no key");
	wrong("allow program=a service=b", 1, "whole paths");
	wrong("allow program=/a service=../b", 1, "service");
	wrong("allow program=/a service=b/c", 1, "service");
	wrong("allow program=/a service=012345678901234567890123456789012", 1, "service");
	wrong("allow program=/a service=b uid=-1", 1, "uid");
	wrong("allow program=/a service=b uid=4294967295", 1, "uid");
	wrong("allow program=/a service=b mode=lazy", 1, "mode");
	wrong("allow program=/a service=b executors=0", 1, "executors");
	wrong("allow program=/a service=b executors=65", 1, "executors");
	wrong("allow program=/a service=b executors=18446744073709551617", 1, "executors");
	wrong("allow program=/a service=b max-pages=0", 1, "max-pages");
	wrong("allow program=/a service=b memory=2G", 1, "memory");
	wrong("allow program=/a service=b memory=1000", 1, "memory");
	wrong("allow program=/a service=b memory=M", 1, "memory");
	wrong("allow program=/a service=b sha256=abc", 1, "sha256");
	wrong("allow program=/a service=b sha256=zb00000000000000000000000000000000000000000000000000000000000001", 1, "sha256");
	wrong("allow program=/a service=\"b", 1, "not closed");
	wrong("allow program=/a service=\"b\"c", 1, "closing quote");
	wrong("allow program=/a service=b\\c", 1, "backslash");
	wrong("allow program=\"/a\\n\" service=b", 1, "backslash");
	wrong("allow program = /a service=b", 1, "key=value");
	wrong("allow vm= program=/a service=b", 1, "vm");
	wrong("allow\x01\x1b[2J", 1, "\\x1b");
	tap_ok(policy_parse(&policy, "deny vm=a\0b", 11, &err) == -EINVAL && err.line == 1, "a byte 0: %s", err.why);
	memset(big, '\n', sizeof(big));
	tap_ok(policy_parse(&policy, big, sizeof(big) - 1, &err) == -EFBIG && !policy, "a file that is too long: %s", err.why);
	while (n + 5 < sizeof(big))
		n += (size_t)sprintf(big + n, "deny\n");
	tap_ok(policy_parse(&policy, big, n, &err) == -EFBIG && err.line == POLICY_RULES_MAX + 1, "too many rules: %s", err.why);
	tap_ok(policy_load(&policy, "/dev/null", &err) == -EINVAL && policy_load(&policy, "/nowhere/at/all", &err) == -ENOENT && *err.why,
	       "what is no file or is not there: %s", err.why);
}

/* The definition, read as it is written: tries every length that a star may take. */
static bool model(const char *p, const char *t)
{
	if (!*p)
		return !*t;
	if (p[0] == '*' && p[1] == '*') {
		for (;; t++) {
			if (model(p + 2, t))
				return true;
			if (!*t)
				return false;
		}
	}
	if (*p == '*') {
		for (;; t++) {
			if (model(p + 1, t))
				return true;
			if (!*t || *t == '/')
				return false;
		}
	}
	if (!*t || (*p == '?' ? *t == '/' : *p != *t))
		return false;
	return model(p + 1, t + 1);
}

static void test_globs(void)
{
	const char letters[] = "a/*?b";
	static char text[DS_AGENT_PATH_BYTES], pattern[DS_AGENT_PATH_BYTES];
	unsigned int bad = 0, hits = 0;
	uint64_t seed = 7;

	for (int i = 0; i < 200000; i++) {
		char p[8] = "", t[8] = "";

		for (int k = 0; k < 7; k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			p[k] = seed >> 40 & 7 && k < 6 ? letters[(seed >> 33) % 5] : 0;
			t[k] = seed >> 50 & 7 && k < 6 ? letters[(seed >> 45) % 5] : 0;
		}
		hits += model(p, t);
		bad += model(p, t) != policy_glob(p, t);
	}
	tap_ok(!bad && hits > 5000, "200000 small patterns match as the definition says (%u do not; %u matched)", bad, hits);
	memset(text, 'a', sizeof(text) - 1);
	for (size_t i = 0; i + 2 < sizeof(pattern); i += 2)
		memcpy(pattern + i, "*a", 2);
	alarm(20);
	tap_ok(!policy_glob(pattern, "ab") && policy_glob(pattern, text), "a long pattern and a long text match");
	pattern[sizeof(pattern) - 2] = 'b';
	tap_ok(!policy_glob(pattern, text), "and a pair that is made to take for ever does not take long");
	alarm(0);
}

static void test_log(void)
{
	char out[16], long_out[LOG_LINE_BYTES * 2], file[] = "/tmp/host_policy.XXXXXX";
	char *large = malloc(4 * LOG_LINE_BYTES);
	int fd = mkstemp(file), saved = dup(STDERR_FILENO);
	ssize_t n;

	tap_ok(!strcmp(log_escape(long_out, sizeof(long_out), "a\nb\x1b[31m\\\xc3\xa4 <3>"), "a\\nb\\x1b[31m\\\\\\xc3\\xa4 <3>"),
	       "what could forge a line or talk to a terminal is written out");
	tap_ok(!strcmp(log_escape(out, 6, "1234\n5"), "1234"), "cut before an escape that would not fit");
	memset(large, '\n', 4 * LOG_LINE_BYTES - 1);
	large[4 * LOG_LINE_BYTES - 1] = 0;
	unlink(file);
	dup2(fd, STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	log_line(LOG_LEVEL_ERR, "%s", large);
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_line(LOG_LEVEL_WARNING, "guest %s", "x\n<0>forged");
	log_line(LOG_LEVEL_DEBUG, "not asked for");
	dup2(saved, STDERR_FILENO);
	n = pread(fd, long_out, sizeof(long_out) - 1, 0);
	long_out[n > 0 ? n : 0] = 0;
	tap_ok(strchr(long_out, '\n') && strchr(long_out, '\n') - long_out <= LOG_LINE_BYTES + 8, "a line is cut");
	tap_ok(!strcmp(strchr(long_out, '\n') + 1, "<4>guest x\\n<0>forged\n"), "under systemd it begins with its priority, and what a guest says does not");
	close(fd);
	close(saved);
	free(large);
}

int main(void)
{
	test_rules();
	test_host();
	test_host_errors();
	test_limits();
	test_limit_errors();
	test_errors();
	test_globs();
	test_log();
	free(policy);
	return tap_done();
}
