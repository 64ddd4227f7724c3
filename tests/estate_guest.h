/* estate_guest.h - plays a guest that lays descriptors aside and claims them, beside forward_guest.h; estates are kept for `row` */
#ifndef TESTS_ESTATE_GUEST_H
#define TESTS_ESTATE_GUEST_H

#include "tests/forward_guest.h"

#include "runtime/host/warden/estate.h"

static struct estates *estates;

struct answer {
	struct ds_estate_reply head;
	uint16_t number[DS_ESTATE_PAIRS_MAX];
};

AGENT_UNUSED static void pump_all(void)
{
	if (estates_fd(estates) >= 0)
		estates_run(estates);
	pump(1);
}

AGENT_UNUSED static int estate_connect(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) || estates_accept(estates, pair[1]))
		errx(2, "estates_accept");
	return pair[0];
}

AGENT_UNUSED static void ask(int fd, uint16_t what, const uint8_t *token, const struct ds_estate_pair *pair, uint32_t n)
{
	struct ds_estate_request r = {.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = what, .npairs = n};

	if (token)
		memcpy(r.token, token, sizeof(r.token));
	if (write(fd, &r, sizeof(r)) != sizeof(r) || (n && write(fd, pair, n * sizeof(*pair)) != (ssize_t)(n * sizeof(*pair))))
		warn("estate");
}

/* Return: n of the reply, its error, or -1000: the stream has ended; -1001: nothing came. */
AGENT_UNUSED static int answer(int fd, struct answer *a)
{
	size_t have = 0;

	for (int i = 0; i < 20000; i++) {
		const size_t want = have < sizeof(a->head) ? sizeof(a->head) : sizeof(a->head) + a->head.n * sizeof(a->number[0]);
		const ssize_t n = recv(fd, (char *)a + have, want - have, MSG_DONTWAIT);

		if (n == 0)
			return -1000;
		if (n < 0)
			pump_all();
		else
			have += (size_t)n;
		if (have >= sizeof(a->head) && have == sizeof(a->head) + a->head.n * sizeof(a->number[0]))
			return a->head.error ? a->head.error : (int)a->head.n;
	}
	return -1001;
}

AGENT_UNUSED static int request(int fd, uint16_t what, const uint8_t *token, const struct ds_estate_pair *pair, uint32_t n, struct answer *a)
{
	ask(fd, what, token, pair, n);
	return answer(fd, a);
}

/* The keeper: the child of ours that is no warden. */
AGENT_UNUSED static pid_t keeper_pid(void)
{
	char path[64], name[32] = "";
	char list[256] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, list, sizeof(list) - 1) < 0)
		return 0;
	close(fd);
	for (char *at = strtok(list, " "); at; at = strtok(NULL, " ")) {
		snprintf(path, sizeof(path), "/proc/%s/comm", at);
		fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, name, sizeof(name) - 1) > 0 && !strncmp(name, "dshost-estates", 14)) {
			close(fd);
			return (pid_t)atoi(at);
		}
		if (fd >= 0)
			close(fd);
	}
	return 0;
}

#endif
