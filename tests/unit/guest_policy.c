/* guest_policy.c - the guest's policy as text: what is read, what is refused and why; directories that the host calls otherwise */
#include "runtime/guest/forward/policy_text.h"

#include <asm/unistd.h>
#include <errno.h>
#include <string.h>

#include "runtime/guest/forward/paths.h"
#include "tests/tap.h"

static struct policy_text p;
static struct policy_text_fault fault;

static int parse(const char *text)
{
	memset(&p, 0, sizeof(p));
	return policy_text_read(&p, text, &fault);
}

static void test_rules(void)
{
	const struct policy_text_rule *r = p.rule;

	tap_ok(!parse("") && !p.n, "no text, no rules");
	tap_eq(parse("# a comment\n\n"
		     "forward path=/host/data\n"
		     "forward path=/data to=\"/srv/my data\"   # elsewhere\n"
		     "\tforward net=inet6\n"
		     "forward call=uname,sysinfo\r\n"
		     "local path=/host/data/cache/**\n"
		     "local call=openat,stat path=/host/*/x\n"
		     "deny error=EPERM call=unlink path=/host/**\n"
		     "deny error=ECONNREFUSED address=127.0.0.1:25,[::1]:25\n"
		     "deny error=EBADF fd=5 call=write\n"
		     "deny error=EAFNOSUPPORT family=inet6,unix\n"
		     "emulate value=-1 call=getuid\n"
		     "emulate nodename=a release=\"1 2\"\n"
		     "emulate cpus=1024\n"
		     "emulate clock=@7\n"
		     "emulate clock=-86400\n"
		     "emulate file=/proc/cpuinfo from=/etc/fake\n"
		     "emulate file=/etc/hostname text=\"say \\\"hi\\\"\"\n"
		     "trace call=openat"),
	       0, "a rule of each kind");
	tap_eq(p.n, 18, "are eighteen");
	tap_ok(r[0].verb == POLICY_TEXT_FORWARD && r[0].what == POLICY_TEXT_PATH && !strcmp(r[0].path, "/host/data") && !r[0].to, "a directory of the host");
	tap_ok(r[1].what == POLICY_TEXT_PATH && !strcmp(r[1].path, "/data") && !strcmp(r[1].to, "/srv/my data"), "one that it calls otherwise");
	tap_ok(r[2].what == POLICY_TEXT_NET && r[2].families == POLICY_TEXT_INET6, "sockets of a family");
	tap_ok(r[3].what == POLICY_TEXT_CALLS && policy_text_has(&r[3], __NR_uname) && policy_text_has(&r[3], __NR_sysinfo) && !policy_text_has(&r[3], __NR_open),
	       "calls that the host answers");
	tap_ok(r[4].verb == POLICY_TEXT_LOCAL && !r[4].has_calls && r[5].has_calls && !strcmp(r[5].path, "/host/*/x"), "what stays here");
	tap_ok(r[6].verb == POLICY_TEXT_DENY && r[6].error == EPERM && r[7].error == ECONNREFUSED && r[7].nspecs == 2 && r[7].spec[1].family == 6 &&
		       r[8].fd == 5 && r[6].fd == -1 && r[9].families == (POLICY_TEXT_INET6 | POLICY_TEXT_UNIX),
	       "what is denied: by path, address, descriptor, family");
	tap_ok(r[10].what == POLICY_TEXT_VALUE_OF && r[10].value == -1 && r[11].what == POLICY_TEXT_UNAME &&
		       !strcmp(r[11].names[POLICY_TEXT_NODENAME], "a") && !strcmp(r[11].names[POLICY_TEXT_RELEASE], "1 2") && !r[11].names[POLICY_TEXT_SYSNAME],
	       "a value, names");
	tap_ok(r[12].value == 1024 && r[13].clock_set && r[13].value == 7000000000 && !r[14].clock_set && r[14].value == -86400000000000, "processors, the time");
	tap_ok(!strcmp(r[15].to, "/etc/fake") && !r[15].text && !strcmp(r[16].text, "say \"hi\"") && r[17].verb == POLICY_TEXT_TRACE, "files, and a trace");
}

static void wrong(const char *text, uint32_t line, const char *about)
{
	const int rc = parse(text);

	tap_ok(rc && fault.line == line && fault.why && strstr(fault.why, about), "line %u: %s%s%.*s", fault.line, fault.why ? fault.why : "(nothing)",
	       fault.bytes ? ": " : "", (int)fault.bytes, fault.bytes ? fault.at : "");
}

static void test_errors(void)
{
	static char big[POLICY_TEXT_BYTES + 1], many[70 * 16];

	wrong("allow program=/a service=f", 1, "begins with forward, local");
	wrong("\nforward", 2, "path=, net=, address= or call=");
	wrong("forward path=/a net=inet", 1, "one of them");
	wrong("forward to=/a", 1, "one of them");
	wrong("forward path=/a/*", 1, "not a pattern");
	wrong("forward path=/", 1, "below /");
	wrong("forward path=a", 1, "whole path");
	wrong("forward path=/a/../b", 1, "whole path");
	wrong("forward path=/a to=/", 1, "other than /");
	wrong("forward net=unix", 1, "inet, inet6");
	wrong("forward call=openat", 1, "that ask something");
	wrong("forward call=uname,nosuch", 1, "names of system calls");
	wrong("forward address=udp:*:53", 1, "only the host");
	wrong("forward address=*:53 net=inet", 1, "one of them");
	wrong("local", 1, "which calls");
	wrong("local call=", 1, "names of system calls");
	wrong("local value=1 call=getuid", 1, "no such key");
	wrong("deny call=open", 1, "deny needs error=");
	wrong("deny error=EPERM", 1, "which calls");
	wrong("deny error=ENOWAY call=open", 1, "name of an errno");
	wrong("deny error=EPERM fd=-1", 1, "number of a descriptor");
	wrong("deny error=EPERM fd=1 path=/a", 1, "does not go with");
	wrong("deny error=EPERM address=tcp:*:80", 1, "only the host");
	wrong("deny error=EPERM address=*", 1, "ADDRESS:PORT");
	wrong("deny error=EPERM family=ipx", 1, "unix,inet");
	wrong("deny error=EPERM error=EIO call=open", 1, "twice");
	wrong("deny error = EPERM", 1, "key=value");
	wrong("deny colour=red", 1, "no such key");
	wrong("deny error=EPERM path=\"/a", 1, "not closed");
	wrong("emulate", 1, "emulate wants");
	wrong("emulate value=x call=getuid", 1, "a number");
	wrong("emulate value=1", 1, "emulate wants");
	wrong("emulate cpus=0", 1, "1 to 1024");
	wrong("emulate cpus=1025", 1, "1 to 1024");
	wrong("emulate cpus=4 nodename=a", 1, "emulate wants");
	wrong("emulate clock=5", 1, "+SECONDS");
	wrong("emulate clock=@-5", 1, "+SECONDS");
	wrong("emulate clock=+99999999999", 1, "+SECONDS");
	wrong("emulate nodename=", 1, "1 to 64");
	wrong("emulate nodename=0123456789012345678901234567890123456789012345678901234567890123x", 1, "1 to 64");
	wrong("emulate file=/a from=/b text=c", 1, "emulate wants");
	wrong("emulate file=/a* text=c", 1, "not a pattern");
	wrong("trace error=EPERM call=open", 1, "no such key");
	memset(big, '\n', sizeof(big) - 1);
	wrong(big, 0, "too much");
	for (int i = 0; i < 65; i++)
		strcat(many, "local fd=1\n");
	wrong(many, 65, "more than 64");
	tap_eq(policy_text_read(&p, "local fd=1", &fault), -1, "also behind those that are there");
}

static void test_renames(void)
{
	struct forward_prefixes d = {0};
	char path[32];

	tap_ok(!forward_prefixes_add(&d, "/data", "/srv/some/data") && !forward_prefixes_add(&d, "/host", NULL) && !forward_prefixes_add(&d, "/longer/name", "/x"),
	       "three directories, two of which the host calls otherwise");
	strcpy(path, "/data/a/b");
	tap_ok(!forward_path_there(&d, path, sizeof(path)) && !strcmp(path, "/srv/some/data/a/b"), "a path below one (%s)", path);
	tap_ok(!forward_path_back(&d, path, sizeof(path)) && !strcmp(path, "/data/a/b"), "and back (%s)", path);
	strcpy(path, "/longer/name");
	tap_ok(!forward_path_there(&d, path, sizeof(path)) && !strcmp(path, "/x"), "the directory itself (%s)", path);
	tap_ok(!forward_path_back(&d, path, sizeof(path)) && !strcmp(path, "/longer/name"), "and back (%s)", path);
	strcpy(path, "/database");
	tap_ok(!forward_path_there(&d, path, sizeof(path)) && !strcmp(path, "/database"), "not one that only begins alike");
	strcpy(path, "/host/x");
	tap_ok(!forward_path_there(&d, path, sizeof(path)) && !strcmp(path, "/host/x"), "and not one that has the same name there");
	strcpy(path, "/data/012345678901234567890123");
	tap_eq(forward_path_there(&d, path, sizeof(path)), -ENAMETOOLONG, "one that does not fit");
	tap_ok(!strcmp(path, "/data/012345678901234567890123"), "stays as it was");
}

int main(void)
{
	test_rules();
	test_errors();
	test_renames();
	return tap_done();
}
