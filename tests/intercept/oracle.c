/* oracle.c - runs a program under the monitor and writes down what it sees
 *
 * usage: oracle [-a NR=VALUE]... [-s FROM=TO]... [-l LOG] [-e] [-p LIB] PROGRAM [ARG...]
 *   -a   answers each call NR with VALUE, as a policy would
 *   -s   changes each call FROM to TO (-s FROM=TO)
 *   -l   appends to LOG: "call TID NR", "again TID NR" (the kernel makes it again), "made TID TID", "exec TID", "exit TID"
 *   -e   looks for calls that got by Syscall User Dispatch: once a program has set it (prctl 59), a call from outside its
 *        exempt range is an "escape TID NR PC" in LOG; what a program calls before, its loader does, is "early TID NR"
 *   -p   LD_PRELOAD for the program, not for this one
 *
 * Ends as the program does; 125: not started; 124 with -e: there was an escape.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/monitor/monitor.h"

#define MAX_RULES 16
#define MAX_THREADS 65536
#define SET_DISPATCH 59 /* PR_SET_SYSCALL_USER_DISPATCH */

struct rule {
	uint64_t nr;
	int64_t value;
	bool answer;
};

struct armed {
	pid_t tid;
	bool fresh;	       /* a new program, which is free to call from anywhere until it has set the range */
	uint64_t start, bytes; /* the exempt range; bytes 0: not set yet */
	uint64_t first, last;  /* places of a child's calls before that: it may be seen before its parent tells of it */
};

struct oracle {
	FILE *log;
	struct rule rule[MAX_RULES];
	unsigned int nrules, escapes;
	bool escape;
	struct armed *armed;
	size_t narmed;
};

static struct armed *armed_of(struct oracle *o, pid_t tid)
{
	for (size_t i = 0; i < o->narmed; i++)
		if (o->armed[i].tid == tid)
			return &o->armed[i];
	if (o->narmed == MAX_THREADS)
		abort();
	o->armed[o->narmed] = (struct armed){.tid = tid};
	return &o->armed[o->narmed++];
}

static void look(struct oracle *o, pid_t tid, const struct intercept_call *call)
{
	struct armed *a = armed_of(o, tid);
	bool outside = a->bytes && call->pc - a->start > a->bytes;

	if (!a->bytes && a->fresh) {
		fprintf(o->log, "early %d %lld\n", tid, (long long)call->nr);
	} else if (!a->bytes) {
		a->first = a->last && a->first < call->pc ? a->first : call->pc;
		a->last = a->last > call->pc ? a->last : call->pc;
	}
	if (call->nr == SYS_prctl && call->arg[0] == SET_DISPATCH && call->arg[1] == 1) {
		a->start = call->arg[2];
		a->bytes = call->arg[3];
		outside |= a->last && (a->first < a->start || a->last > a->start + a->bytes);
	}
	if (outside) {
		o->escapes++;
		fprintf(o->log, "escape %d %lld %#llx\n", tid, (long long)call->nr, (unsigned long long)call->pc);
	}
}

static bool enter(void *context, pid_t tid, struct intercept_call *call, int64_t *result)
{
	struct oracle *o = context;

	if (o->escape)
		look(o, tid, call);
	else if (o->log)
		fprintf(o->log, "%s %d %lld\n", call->trapped ? "again" : "call", tid, (long long)call->nr);
	for (unsigned int i = 0; i < o->nrules; i++) {
		if (o->rule[i].nr != call->nr)
			continue;
		if (o->rule[i].answer) {
			*result = o->rule[i].value;
			return true;
		}
		call->nr = (uint64_t)o->rule[i].value;
		break;
	}
	return false;
}

static void event(void *context, pid_t tid, enum monitor_event what, int64_t other)
{
	static const char *const names[] = {[MONITOR_MADE] = "made", [MONITOR_EXEC] = "exec", [MONITOR_EXIT] = "exit"};
	struct oracle *o = context;

	if (what == MONITOR_SIGNAL)
		return;
	if (o->log)
		fprintf(o->log, "%s %d %lld\n", names[what], tid, (long long)other);
	if (what == MONITOR_MADE) { /* a child's calls come from its parent's range from the first on */
		const struct armed *parent = armed_of(o, tid);
		struct armed *child = armed_of(o, (pid_t)other);

		if (!child->fresh && !child->bytes) { /* it may have run ahead of what its parent tells, into another program even */
			child->start = parent->start;
			child->bytes = parent->bytes;
			child->fresh = parent->fresh && !parent->bytes;
		}
	} else if (what == MONITOR_EXEC) {
		*armed_of(o, tid) = (struct armed){.tid = tid, .fresh = true};
	} else if (what == MONITOR_EXIT) {
		*armed_of(o, tid) = (struct armed){.tid = tid}; /* the number may come again */
	}
}

int main(int argc, char **argv)
{
	struct oracle o = {.armed = calloc(MAX_THREADS, sizeof(struct armed))};
	const struct monitor_config config = {.context = &o, .enter = enter, .event = event};
	int opt, status, rc;

	while ((opt = getopt(argc, argv, "+a:s:l:ep:")) != -1) {
		struct rule *r = &o.rule[o.nrules];

		switch (opt) {
		case 'a':
		case 's':
			r->answer = opt == 'a';
			if (o.nrules == MAX_RULES || sscanf(optarg, "%lu=%ld", &r->nr, &r->value) != 2)
				return 125;
			o.nrules++;
			break;
		case 'l':
			o.log = fopen(optarg, "ae");
			break;
		case 'e': o.escape = true; break;
		case 'p': setenv("LD_PRELOAD", optarg, 1); break;
		default: return 125;
		}
	}
	if (optind == argc || !o.armed || (o.escape && !o.log))
		return 125;
	rc = monitor_run(&config, argv + optind, &status);
	if (rc) {
		fprintf(stderr, "oracle: %s: %s\n", argv[optind], strerror(-rc));
		return 125;
	}
	if (o.log && fclose(o.log)) {
		perror("oracle: the log");
		return 125;
	}
	if (o.escapes)
		return 124;
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	return WEXITSTATUS(status);
}
