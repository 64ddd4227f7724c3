/* agent_devices.c - DEVICES: see agent_devices.h */
#include "runtime/guest/agent/agent_devices.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_host.h"
#include "runtime/guest/agent/agent_log.h"

#define CONNECT_MS 5000
#define ANSWER_MS 15000

static int tell(int fd, void *msg, size_t bytes, uint16_t kind, uint32_t seq)
{
	struct iovec iov = {msg, bytes};

	*(struct ds_agent_head *)msg = (struct ds_agent_head){
		.magic = DS_AGENT_MAGIC, .version = DS_AGENT_VERSION, .kind = kind, .bytes = (uint32_t)bytes, .seq = seq};
	return agent_host_send(fd, &iov, 1);
}

/* Waits for a message of @kind.  Return: 0, -EBADMSG (another one), -EACCES (a refusal, in @msg), -errno. */
static int hear(int fd, struct agent_hostmsg *in, uint16_t kind, const struct ds_agent_head **msg)
{
	const int64_t until = agent_now_ms() + ANSWER_MS;
	const char *why;
	int rc;

	while (!(rc = agent_hostmsg_next(in, msg, &why))) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		const int64_t left = until - agent_now_ms();

		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			return -ETIMEDOUT;
		rc = agent_host_receive(fd, in);
		if (rc < 0)
			return rc;
	}
	if (rc < 0)
		return rc;
	if ((*msg)->kind == DS_AGENT_REFUSED || (*msg)->kind == DS_AGENT_ENDED)
		return -EACCES;
	return (*msg)->kind == kind ? 0 : -EBADMSG;
}

/* Return: 0 and the host's answer in @msg; else @why is filled. */
static int ask(int fd, struct agent_hostmsg *in, const struct ds_local_devices *m, const struct agent_caller *caller,
	       const struct ds_agent_head **msg, struct agent_refusal *why)
{
	struct ds_agent_devices question = {.uid = caller->uid};
	struct ds_agent_hello hello = {0};
	struct utsname u;
	int rc = fd < 0 ? fd : agent_host_connected(fd, CONNECT_MS);

	_Static_assert(sizeof(question.service) == sizeof(m->service) && sizeof(question.program) == sizeof(m->program), "the same names");
	memcpy(question.service, m->service, sizeof(m->service));
	memcpy(question.program, m->program, sizeof(m->program));
	if (!uname(&u))
		snprintf(hello.release, sizeof(hello.release), "%.63s", u.release);
	rc = rc ? rc : tell(fd, &hello, sizeof(hello), DS_AGENT_HELLO, 1);
	rc = rc ? rc : hear(fd, in, DS_AGENT_WELCOME, msg);
	rc = rc ? rc : tell(fd, &question, sizeof(question), DS_AGENT_DEVICES, 2);
	rc = rc ? rc : hear(fd, in, DS_AGENT_GRANTED, msg);
	if (rc == -EACCES)
		return agent_refuse(why, DS_LOCAL_C_REFUSED, "%s", ((const struct ds_agent_refused *)*msg)->text);
	if (rc)
		return agent_refuse(why, DS_LOCAL_C_HOST, "the host does not answer on port %d: %s; is dshost there, and does it serve this VM?",
				    DS_AGENT_PORT, strerror(-rc));
	return 0;
}

int agent_devices_answer(int client_fd, const char *host, const struct ds_local_devices *m, const struct agent_caller *caller)
{
	static struct agent_hostmsg in; /* large */
	cleanup_close int fd = agent_host_connect(host);
	struct {
		struct ds_local_call head;
		uint8_t text[DS_LOCAL_PAYLOAD_MAX];
	} out;
	struct ds_local_refused no = {.pid = 0};
	const struct ds_agent_head *msg = NULL;
	const struct ds_agent_call *answer;
	struct agent_refusal why;

	if (ask(fd, &in, m, caller, &msg, &why)) {
		no.head = (struct ds_local_head){DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_REFUSED, sizeof(no), m->head.seq};
		no.code = why.code;
		snprintf(no.text, sizeof(no.text), "%s", why.text);
		return send(client_fd, &no, sizeof(no), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? 2 : 0;
	}
	answer = (const void *)msg;
	out.head = (struct ds_local_call){
		.head = {DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_GRANTED, (uint32_t)(sizeof(out.head) + answer->payload_bytes), m->head.seq},
		.executor = answer->executor,
		.payload_bytes = answer->payload_bytes,
	};
	memcpy(out.text, answer + 1, answer->payload_bytes); /* at most DS_AGENT_PAYLOAD_MAX, as checked when it came */
	return send(client_fd, &out, out.head.head.bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? 2 : 0;
}
