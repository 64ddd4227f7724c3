/* host_jailnet.c - addresses of a policy's rule: read, compared, and held against what the kernel lets a process of the cgroup do
 *
 * What the kernel answers is compared with addrspec_match(), and that with addresses whose answers are written here by hand.
 */
#include "runtime/host/jail/jailnet.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/jail/jailgroup.h"
#include "tests/tap.h"

#define LISTS_MAX 8

static const char *take(const char *text, struct addrspec *list, uint32_t *n)
{
	*n = 0;
	for (;; text++) {
		const char *wrong = addrspec_take(&text, &list[*n]);

		if (wrong)
			return wrong;
		++*n;
		if (!*text)
			return NULL;
	}
}

static bool match(const struct addrspec *list, uint32_t n, const char *address, uint16_t port, uint8_t protocol)
{
	uint8_t bytes[16] = {0}, family = 6;

	if (inet_pton(AF_INET, address, bytes) == 1)
		family = 4;
	else if (inet_pton(AF_INET6, address, bytes) == 1)
		family = addrspec_mapped(bytes);
	else
		errx(2, "%s", address);
	for (uint32_t i = 0; i < n; i++)
		if (addrspec_match(&list[i], family, bytes, port, protocol))
			return true;
	return false;
}

static void test_text(void)
{
	static const char *const bad[] = {"", ":", "1.2.3.4", "1.2.3:80", "1.2.3.256:80", "1.2.3.4.5:80", "1.2.3.4/33:80", "1.2.3.4/:80", "1.2.3.4:",
					  "1.2.3.4:65536", "1.2.3.4:90-80", "1.2.3.4:80-", "1.2.3.4:x", "::1:80", "[::1]", "[::1:80", "[1:2:3:4:5:6:7]:1",
					  "[1:2:3:4:5:6:7:8:9]:1", "[::1::]:1", "[12345::]:1", "[g::]:1", "[1:]:1", "[:1]:1", "[::]/129:1", "*/8:1", "ip:*:80",
					  "tcp:", "*:80 ", "1.2.3.4:80,", "*:80,,*:81", "[1:2:3:4:5:6:7:8::]:1", "[]:1", "1.2.3.4:000080"};
	static const char *const fine[] = {"::", "::1", "1::", "fe80::1:2", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "abcd:EF01::", "1::8"};
	struct addrspec list[LISTS_MAX];
	unsigned int passed = 0, differ = 0;
	uint32_t n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!take(bad[i], list, &n)) {
			printf("# \"%s\" passed\n", bad[i]);
			passed++;
		}
	tap_eq(passed, 0, "%zu texts that are no addresses are refused", sizeof(bad) / sizeof(bad[0]));
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		uint8_t want[16];
		char text[64];

		snprintf(text, sizeof(text), "[%s]:7", fine[i]);
		if (inet_pton(AF_INET6, fine[i], want) != 1)
			errx(2, "%s", fine[i]);
		addrspec_mapped(want);
		if (take(text, list, &n) || memcmp(list[0].address, want, 16)) {
			printf("# \"%s\" is read otherwise than by inet_pton()\n", fine[i]);
			differ++;
		}
	}
	tap_eq(differ, 0, "addresses of IPv6 are read as inet_pton(3) does");
}

static void test_match(void)
{
	struct addrspec list[LISTS_MAX];
	uint32_t n;

	tap_ok(!take("127.0.0.1:80,tcp:10.128.0.0/9:90-99,[fd00::]/8:443,udp:*:53,[::ffff:9.9.9.0]/120:1", list, &n) && n == 5, "five addresses");
	tap_ok(match(list, n, "127.0.0.1", 80, 6) && match(list, n, "127.0.0.1", 80, 17), "one address, one port, both protocols");
	tap_ok(!match(list, n, "127.0.0.2", 80, 6) && !match(list, n, "127.0.0.1", 81, 6), "and no other");
	tap_ok(match(list, n, "::ffff:127.0.0.1", 80, 6), "also as an address of IPv6");
	tap_ok(match(list, n, "10.128.0.0", 90, 6) && match(list, n, "10.255.255.255", 99, 6), "a range of addresses and ports, at both ends");
	tap_ok(!match(list, n, "10.127.255.255", 90, 6) && !match(list, n, "11.0.0.0", 90, 6) && !match(list, n, "10.200.0.1", 100, 6) &&
		       !match(list, n, "10.200.0.1", 89, 6) && !match(list, n, "10.200.0.1", 90, 17),
	       "and not beside it, nor by the other protocol");
	tap_ok(match(list, n, "fdff::1", 443, 6) && !match(list, n, "fe00::1", 443, 6) && !match(list, n, "::1", 443, 6), "of IPv6 too");
	tap_ok(match(list, n, "8.8.8.8", 53, 17) && match(list, n, "2000::1", 53, 17) && !match(list, n, "8.8.8.8", 53, 6), "any address");
	tap_ok(match(list, n, "9.9.9.77", 1, 6) && !match(list, n, "9.9.8.77", 1, 6), "IPv4 written as IPv6");
}

/* --- the kernel ---------------------------------------------------------------------------------------------------------- */

static union {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
} name;

static socklen_t set_name(const char *address, uint16_t port)
{
	memset(&name, 0, sizeof(name));
	if (inet_pton(AF_INET, address, &name.four.sin_addr) == 1) {
		name.four.sin_family = AF_INET;
		name.four.sin_port = htons(port);
		return sizeof(name.four);
	}
	inet_pton(AF_INET6, address, &name.six.sin6_addr);
	name.six.sin6_family = AF_INET6;
	name.six.sin6_port = htons(port);
	return sizeof(name.six);
}

enum act { CONNECT_TCP, CONNECT_UDP, SEND_UDP, BIND_TCP, BIND_UDP, NACTS };
static const char *const act_names[NACTS] = {"connect() of TCP", "connect() of UDP", "sendto() of UDP", "bind() of TCP", "bind() of UDP"};

/* Whether the kernel says EPERM. */
static bool denied(enum act act, const char *address, uint16_t port)
{
	const bool tcp = act == CONNECT_TCP || act == BIND_TCP;
	const socklen_t bytes = set_name(address, port);
	const int fd = socket(name.any.sa_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return false;
	if (act == SEND_UDP)
		rc = (int)sendto(fd, "x", 1, 0, &name.any, bytes);
	else
		rc = act < BIND_TCP ? connect(fd, &name.any, bytes) : bind(fd, &name.any, bytes);
	rc = rc < 0 && errno == EPERM;
	close(fd);
	return rc;
}

static struct {
	struct addrspec connect[LISTS_MAX], bind[LISTS_MAX];
	uint32_t nconnect, nbind;
} rule;

/* In the group.  Return: exit status: how often the kernel decided otherwise than the lists say. */
static int try_all(void)
{
	static const char *const addresses[] = {"127.0.0.1", "127.0.0.2", "127.128.3.4", "::1", "::ffff:127.0.0.1", "::ffff:127.0.0.9", "0.0.0.0", "::"};
	static const uint16_t ports[] = {0, 52001, 52002, 52010, 52019, 52020, 65535};
	int differ = 0, yes = 0, no = 0;

	for (int act = 0; act < NACTS; act++)
		for (size_t a = 0; a < sizeof(addresses) / sizeof(addresses[0]); a++)
			for (size_t p = 0; p < sizeof(ports) / sizeof(ports[0]); p++) {
				const uint8_t protocol = act == CONNECT_TCP || act == BIND_TCP ? ADDRSPEC_TCP : ADDRSPEC_UDP;
				const bool want = act < BIND_TCP ? match(rule.connect, rule.nconnect, addresses[a], ports[p], protocol) :
								   match(rule.bind, rule.nbind, addresses[a], ports[p], protocol);

				if (!ports[p] && act == SEND_UDP) /* EINVAL before anybody is asked */
					continue;
				if (denied(act, addresses[a], ports[p]) == want) {
					printf("# %s: %s port %u: %s\n", act_names[act], addresses[a], ports[p], want ? "denied" : "let pass");
					differ++;
				}
				yes += want;
				no += !want;
			}
	fflush(stdout);
	return yes > 20 && no > 20 ? differ : 99;
}

static int in_group(const struct jailgroup *g, int (*what)(void))
{
	struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
	struct jailgroup_doors doors;
	int status;
	pid_t pid;

	fflush(stdout);
	if (jailgroup_open(g, &doors))
		err(2, "open");
	args.cgroup = doors.two;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (!pid)
		_exit(jailgroup_enter(&doors) ? 98 : what());
	if (pid < 0)
		err(2, "clone3");
	jailgroup_close(&doors);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}

/* Return: exit status. */
static int talk(void)
{
	static char data[100000];
	const int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t bytes = sizeof(name);
	size_t got = 0;
	pid_t pid;
	int s;

	set_name("127.0.0.1", 0);
	if (bind(l, &name.any, bytes) || listen(l, 1) || getsockname(l, &name.any, &bytes) || connect(c, &name.any, bytes))
		return 1;
	s = accept(l, NULL, NULL);
	pid = fork();
	if (!pid)
		_exit(write(c, data, sizeof(data)) != (ssize_t)sizeof(data));
	while (got < sizeof(data)) {
		const ssize_t n = read(s, data, sizeof(data));

		if (n <= 0)
			return 2;
		got += (size_t)n;
	}
	waitpid(pid, NULL, 0);
	return 0;
}

static void test_kernel(void)
{
	const struct jailgroup_want bare = {.bare = true};
	struct jailnet_want want = {.limited = true};
	struct jailgroup g;
	struct jailnet net;
	uint64_t bytes[2] = {0};
	int rc = jailgroup_make(&g, &bare);

	if (take("127.0.0.1:52001,tcp:127.128.0.0/9:52010-52019,[::1]:52002,udp:*:65535", rule.connect, &rule.nconnect) ||
	    take("127.0.0.1:52001,[::1]:52002,tcp:*:52010-52019,udp:127.0.0.0/8:0", rule.bind, &rule.nbind))
		errx(2, "lists");
	want.connect = rule.connect, want.nconnect = rule.nconnect;
	want.bind = rule.bind, want.nbind = rule.nbind;
	rc = rc ? rc : jailnet_attach(g.two, &want, &net);
	if (rc) {
		printf("# %s\n", strerror(-rc));
		tap_skip("the kernel lets pass what the lists name", "it takes root, a cgroup of version 2 and BPF");
		jailgroup_remove(&g);
		return;
	}
	tap_eq(in_group(&g, try_all), 0, "the kernel lets pass what the lists name, and nothing else");
	tap_ok(!denied(BIND_UDP, "127.0.0.1", 0), "who is not in the group is not asked");
	jailnet_close(&net);
	tap_eq(jailgroup_remove(&g), 0, "the group can be removed");
	if (jailgroup_make(&g, &bare) || jailnet_attach(g.two, &(struct jailnet_want){.limited = true}, &net))
		errx(2, "again");
	rule.nconnect = rule.nbind = 0;
	tap_ok(in_group(&g, talk) == 1, "with empty lists there is nothing to bind to");
	jailnet_close(&net);
	jailgroup_remove(&g);
	if (jailgroup_make(&g, &bare) || jailnet_attach(g.two, &(struct jailnet_want){.counted = true}, &net))
		errx(2, "again");
	tap_eq(in_group(&g, talk), 0, "100000 bytes go from a process of the group to itself");
	rc = jailnet_counts(&net, bytes);
	tap_ok(!rc && bytes[0] > 100000 && bytes[0] < 200000 && bytes[1] > 100000 && bytes[1] < 200000,
	       "and are counted with their headers: %llu in, %llu out", (unsigned long long)bytes[0], (unsigned long long)bytes[1]);
	jailnet_close(&net);
	jailgroup_remove(&g);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_text();
	test_match();
	test_kernel();
	return tap_done();
}
