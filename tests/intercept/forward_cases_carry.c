/* forward_cases_carry.c - descriptors of the host in messages of the guest's own sockets; see forward_cases.c */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/intercept/forward_cases.h"

#define ROOM CMSG_SPACE(8 * sizeof(int))

struct letter {
	char room[ROOM], byte;
	struct iovec iov;
	struct msghdr m;
};

static struct msghdr *letter(struct letter *l, const int *fds, size_t n)
{
	struct cmsghdr *c;

	memset(l, 0, sizeof(*l));
	l->byte = 'l';
	l->iov = (struct iovec){&l->byte, 1};
	l->m = (struct msghdr){.msg_iov = &l->iov, .msg_iovlen = 1, .msg_control = l->room, .msg_controllen = fds ? CMSG_SPACE(n * sizeof(int)) : ROOM};
	c = CMSG_FIRSTHDR(&l->m);
	if (fds) {
		*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))};
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return &l->m;
}

/* Prints what has come.  Return: how many descriptors. */
static int opened(const struct msghdr *m, int *fds)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int n = c && c->cmsg_type == SCM_RIGHTS ? (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;

	if (n)
		memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
	say("%d came, %zu bytes of control data, flags %x:", n, m->msg_controllen, (unsigned int)m->msg_flags);
	for (int i = 0; i < n; i++)
		say(" %d%s", fds[i], fcntl(fds[i], F_GETFD) ? " cloexec" : "");
	say("\n");
	return n;
}

/* Numbers are printed, so none is inherited. */
static void alone(void)
{
	close_range(3, 99, 0);
}

static void reads(int fd)
{
	char buf[8] = "";
	long n = read(fd, buf, 3);

	say("%ld \"%.3s\"\n", n, buf);
}

static void carried(void)
{
	int pair[2], fds[8], mine[4], nothing = -1;
	struct letter l;
	struct stat st;
	char path[32];

	alone();
	is(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	mine[0] = file("carried", "one two three four five six seven");
	is(pipe(mine + 1));
	mine[3] = open(dir, O_RDONLY | O_DIRECTORY);
	is(sendmsg(pair[0], letter(&l, (int[]){mine[0], mine[2], mine[3], mine[0]}, 4), 0));
	reads(mine[0]);
	is(close(mine[0]));
	is(close(mine[3]));
	is(recvmsg(pair[1], letter(&l, NULL, 0), MSG_PEEK));
	opened(&l.m, fds);
	reads(fds[3]);
	is(recvmsg(pair[1], letter(&l, NULL, 0), MSG_CMSG_CLOEXEC));
	opened(&l.m, fds + 4);
	for (int i = 0; i < 8; i += 3)
		reads(fds[i]);
	is(write(fds[5], "abc", 3));
	reads(mine[1]);
	is(fstatat(fds[6], "carried", &st, 0));
	say("%ld bytes\n", (long)st.st_size);
	is(fcntl(fds[4], F_SETFL, O_APPEND));
	is(fcntl(fds[0], F_GETFL) & O_APPEND);
	/* what cannot be sent; what nobody has room for */
	is(sendmsg(pair[0], letter(&l, &nothing, 1), 0));
	is(sendmsg(pair[0], letter(&l, (int[]){fds[0], 77}, 2), 0));
	is(sendmsg(pair[0], letter(&l, (int[]){fds[0], fds[4]}, 2), 0));
	letter(&l, NULL, 0);
	l.m.msg_controllen = CMSG_SPACE(sizeof(int)) - 4;
	is(recvmsg(pair[1], &l.m, 0));
	opened(&l.m, fds);
	is(sendmsg(pair[0], letter(&l, fds, 1), 0));
	is(recv(pair[1], path, 4, 0));
	/* there is no descriptor that nobody knows of */
	is(sendmsg(pair[0], letter(&l, fds, 1), 0));
	is(recvmsg(pair[1], letter(&l, NULL, 0), 0));
	opened(&l.m, fds);
	unlink(in("carried"));
}

static void carried_many(void)
{
	int pair[2], fds[8], f;
	struct letter l[3];
	struct mmsghdr many[3];

	alone();
	f = file("carried", "0123456789abcdef");
	is(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	for (int i = 0; i < 3; i++)
		many[i] = (struct mmsghdr){.msg_hdr = *letter(&l[i], i == 1 ? &pair[1] : &f, 1)};
	is(sendmmsg(pair[0], many, 3, 0));
	say("%u %u %u\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
	for (int i = 0; i < 3; i++)
		many[i] = (struct mmsghdr){.msg_hdr = *letter(&l[i], NULL, 0)};
	is(recvmmsg(pair[1], many, 3, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL));
	for (int i = 0; i < 3; i++)
		opened(&many[i].msg_hdr, fds + i);
	reads(fds[0]);
	reads(fds[2]);
	reads(f);
	unlink(in("carried"));
}

/* A writer that is on its way keeps a pipe open, and ends it when nobody can receive it any more. */
static void carried_ends(void)
{
	struct pollfd p = {.events = POLLIN};
	int pair[2], ends[2];
	struct letter l;

	fifo(ends);
	is(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	is(sendmsg(pair[0], letter(&l, ends + 1, 1), 0));
	is(close(ends[1]));
	p.fd = ends[0];
	is(poll(&p, 1, 50));
	is(close(pair[0]));
	is(poll(&p, 1, 50));
	is(close(pair[1]));
	is(poll(&p, 1, 30000));
	say("%x\n", (unsigned int)p.revents);
	reads(ends[0]);
}

/* The other end of the next case: a program that was executed, with the socket at 20. */
static void carried_end(void)
{
	int fds[8], made;
	struct letter l;

	is(recvmsg(20, letter(&l, NULL, 0), 0));
	opened(&l.m, fds);
	reads(fds[0]);
	made = file("carried", "made by the other one");
	is(sendmsg(20, letter(&l, (int[]){made, fds[0]}, 2), 0));
}

/* Of two processes one prints at a time. */
static void carried_between(void)
{
	int pair[2], fds[8], f, status = 1;
	struct letter l;
	pid_t pid;

	alone();
	f = file("carried", "one two three four five six seven");
	is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	if (!pid) { /* has not used anything of the host's, and sends it */
		alarm(60);
		is(sendmsg(pair[1], letter(&l, &f, 1), 0));
		is(close(f));
		is(recvmsg(pair[1], letter(&l, NULL, 0), 0));
		opened(&l.m, fds);
		reads(fds[0]);
		_exit(0);
	}
	recvmsg(pair[0], letter(&l, NULL, 0), 0);
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&l.m)), sizeof(*fds));
	lseek(fds[0], 1, SEEK_CUR);
	sendmsg(pair[0], letter(&l, fds, 1), 0);
	waitpid(pid, &status, 0);
	say("%d\n", status);
	reads(fds[0]);
	is(close(fds[0]));
	pid = fork();
	if (!pid) {
		dup2(pair[1], 20);
		fcntl(f, F_SETFD, FD_CLOEXEC);
		execl("/proc/self/exe", "forward_cases", dir, "carried_end", NULL);
		_exit(9);
	}
	sendmsg(pair[0], letter(&l, &f, 1), 0);
	waitpid(pid, &status, 0); /* what it has sent outlives it */
	say("%d\n", status);
	is(recvmsg(pair[0], letter(&l, NULL, 0), 0));
	opened(&l.m, fds);
	reads(fds[0]);
	reads(fds[1]);
	reads(f);
	unlink(in("carried"));
}

static int listening;

static void *accept_one(void *into)
{
	*(int *)into = accept(listening, NULL, NULL);
	return NULL;
}

/* Both ends of a socket of the host's. */
static void delivered(void)
{
	static const int kinds[] = {SOCK_STREAM, SOCK_SEQPACKET};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int ends[2], fds[8], got[8], f, s, other = -1, none = -1;
	struct letter l;
	pthread_t t;
	char buf[8] = "";

	alone();
	f = file("carried", "one two three four five six seven");
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", in("socket"));
	fifo(ends);
	for (int k = 0; k < 2; k++) {
		listening = socket(AF_UNIX, kinds[k], 0);
		s = socket(AF_UNIX, kinds[k], 0);
		is(bind(listening, (struct sockaddr *)&a, sizeof(a)));
		is(listen(listening, 1));
		pthread_create(&t, NULL, accept_one, &other);
		is(connect(s, (struct sockaddr *)&a, sizeof(a)));
		pthread_join(t, NULL);
		is(sendmsg(s, letter(&l, (int[]){f, ends[1], f}, 3), 0));
		is(recvmsg(other, letter(&l, NULL, 0), MSG_CMSG_CLOEXEC));
		is(opened(&l.m, got));
		reads(got[2]);
		is(write(got[1], "abc", 3));
		reads(ends[0]);
		is(sendmsg(other, letter(&l, got, 1), 0));
		is(recvmsg(s, letter(&l, NULL, 0), MSG_PEEK));
		opened(&l.m, fds);
		reads(fds[0]);
		is(recvmsg(s, letter(&l, NULL, 0), 0));
		opened(&l.m, fds + 1);
		reads(fds[1]);
		is(sendmsg(s, letter(&l, &none, 1), 0));
		is(recvmsg(s, letter(&l, NULL, 0), MSG_DONTWAIT));
		is(send(s, "plain", 5, 0));
		is(recvmsg(other, letter(&l, NULL, 0), 0));
		opened(&l.m, fds + 2);
		is(recv(other, buf, sizeof(buf), MSG_DONTWAIT));
		is(close(s));
		is(recvmsg(other, letter(&l, NULL, 0), 0));
		is(sendmsg(other, letter(&l, &f, 1), MSG_NOSIGNAL));
		for (int i = 0; i < 3; i++)
			close(got[i]);
		close(fds[0]);
		close(fds[1]);
		close(other);
		close(listening);
		is(unlink(a.sun_path));
	}
	unlink(in("carried"));
}

const struct forward_case forward_cases_carry[] = {
	{"carried", carried},
	{"carried_many", carried_many},
	{"carried_ends", carried_ends},
	{"carried_between", carried_between},
	{"delivered", delivered},
	{0},
};
const struct forward_case forward_cases_parts[] = {{"carried_end", carried_end}, {0}};
