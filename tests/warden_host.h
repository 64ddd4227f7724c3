/* warden_host.h - runs wardens for tests: a memfd plays the VM's RAM, a list of pages the guest's process
 *
 * The table of the RAM has two ranges, so that no frame of the guest has the number of its page in the file.
 */
#ifndef TESTS_WARDEN_HOST_H
#define TESTS_WARDEN_HOST_H

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "runtime/host/policy/policy.h"
#include "runtime/host/warden/warden.h"
#include "runtime/wire/shadow.h"
#include "tests/agent_guest.h"

#define PAGE 4096ul
#define RW (RLE_ATTR_READ | RLE_ATTR_WRITE)
#define RAM_PAGES 2048u /* of the file */
#define LOW_PAGES 1024u /* frames [0, LOW_PAGES) are the file's upper half, frames from HIGH_FRAME on its lower one */
#define HIGH_FRAME UINT64_C(0x100000)

#define HEAP_VPN (UINT64_C(0x7e1200000000) >> 12)
#define HEAP_PAGES 300u

static const char anything[] = "allow program=/usr/bin/guest service=checksum uid=any executors=2 max-pages=1000\n"
			       "allow program=/usr/bin/guest service=listwalk uid=any executors=1 max-pages=1000\n"
			       "allow program=/usr/bin/guest service=calls uid=any executors=3 max-pages=1000\n";

static struct guest_page page[HEAP_PAGES]; /* the guest's process: lay_out() */
static struct ds_agent_range heap_range = {HEAP_VPN, HEAP_PAGES};
static int ram_fd = -1;
static uint8_t *ram; /* the file, all of it */
static struct ramtable ram_table;
static char services_dir[512];

/* What page of the file a frame is. */
AGENT_UNUSED static uint64_t ram_page(uint64_t frame)
{
	return frame < LOW_PAGES ? RAM_PAGES - LOW_PAGES + frame : frame - HIGH_FRAME;
}

/* And back. */
AGENT_UNUSED static uint64_t ram_frame(uint64_t n)
{
	return n < RAM_PAGES - LOW_PAGES ? HIGH_FRAME + n : n - (RAM_PAGES - LOW_PAGES);
}

AGENT_UNUSED static void ram_make(void)
{
	const char *bin = getenv("BIN");
	struct ramtable_file file;
	uint32_t index;

	snprintf(services_dir, sizeof(services_dir), "%s/../shadow", bin ? bin : "build/bin");
	ram_fd = memfd_create("ram", MFD_CLOEXEC);
	if (ram_fd < 0 || ftruncate(ram_fd, RAM_PAGES * PAGE))
		err(2, "memfd");
	ram = mmap(NULL, RAM_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, 0);
	if (ram == MAP_FAILED)
		err(2, "mmap");
	ramtable_init(&ram_table);
	if (ramtable_check_fd(ram_fd, &file, NULL) || ramtable_add_file(&ram_table, &file, &index, NULL) ||
	    ramtable_add(&ram_table, 0, LOW_PAGES * PAGE, (RAM_PAGES - LOW_PAGES) * PAGE, index, NULL) ||
	    ramtable_add(&ram_table, HIGH_FRAME * PAGE, (RAM_PAGES - LOW_PAGES) * PAGE, 0, index, NULL) ||
	    ramtable_finish(&ram_table, NULL))
		errx(2, "the table of the RAM");
}

/* --- the guest's process ------------------------------------------------------------------------------------------- */

/* Every page of the heap lies anywhere in the RAM file; a few neighbours stay neighbours. */
AGENT_UNUSED static void lay_out(void)
{
	uint16_t order[RAM_PAGES / 4];

	srand(7);
	for (uint32_t i = 0; i < RAM_PAGES / 4; i++)
		order[i] = (uint16_t)i;
	for (uint32_t i = RAM_PAGES / 4 - 1; i > 0; i--) {
		const uint32_t k = (uint32_t)rand() % (i + 1);
		const uint16_t n = order[i];

		order[i] = order[k];
		order[k] = n;
	}
	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		page[i] = (struct guest_page){HEAP_VPN + i, ram_frame(order[i / 4] * 4u + i % 4), RW};
}

/* --- a warden ---------------------------------------------------------------------------------------------------- */

struct shadow {
	pid_t pid;
	struct agent a;
	struct warden_stat *stat;
	int log_fd;
};

struct shadow_want {
	const char *policy; /* its text */
	struct warden_times times;
	int devmem_fd; /* not 0: the RAM is in there as it would be in /dev/mem, */
	const struct ramtable *devmem_table; /* by this table */
};

AGENT_UNUSED static void shadow_start(struct shadow *s, const struct shadow_want *want)
{
	struct policy *policy = NULL;
	struct policy_err policy_err;
	int pair[2];

	if (policy_parse(&policy, want->policy, strlen(want->policy), &policy_err))
		errx(2, "policy: %s", policy_err.why);
	s->stat = mmap(NULL, sizeof(*s->stat), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	s->log_fd = memfd_create("log", MFD_CLOEXEC);
	if (s->stat == MAP_FAILED || s->log_fd < 0 || fcntl(s->log_fd, F_SETFL, O_APPEND) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(2, "a warden's surroundings");
	fflush(stdout);
	s->pid = fork();
	if (s->pid < 0)
		err(2, "fork");
	if (!s->pid) {
		const struct warden_params params = {
			.stream_fd = pair[1],
			.ram_fd = want->devmem_fd ? want->devmem_fd : ram_fd,
			.parent = getppid(),
			.table = want->devmem_fd ? want->devmem_table : &ram_table,
			.vm = "test-vm",
			.policy = policy,
			.services_dir = services_dir,
			.guest_port = 1000,
			.stat = s->stat,
			.times = want->times,
		};

		dup2(s->log_fd, 2);
		exit(warden_main(&params)); /* not _exit(): the leak sanitizer looks at exit */
	}
	close(pair[1]);
	free(policy);
	s->a = (struct agent){.fd = pair[0]};
}

/* A signal to the capsule, if it has started: 0 would be this test and all who are in its group. */
AGENT_UNUSED static void shadow_signal(const struct shadow *s, int number)
{
	if (s->a.started.host_pid)
		kill((pid_t)s->a.started.host_pid, number);
}

AGENT_UNUSED static struct warden_view shadow_view(const struct shadow *s)
{
	struct warden_view view;

	if (warden_stat_read(s->stat, &view))
		errx(2, "no consistent status");
	return view;
}

/* The status once @n calls have been answered: the reply may be here before the status says so. */
AGENT_UNUSED static struct warden_view shadow_view_after(const struct shadow *s, uint64_t n)
{
	struct warden_view view = shadow_view(s);

	for (int i = 0; i < 1000 && view.replies < n; i++) {
		usleep(1000);
		view = shadow_view(s);
	}
	return view;
}

/* Whether the log has @text in it. */
AGENT_UNUSED static bool shadow_logged(const struct shadow *s, const char *text)
{
	static char log[1u << 20];
	ssize_t n = pread(s->log_fd, log, sizeof(log) - 1, 0);

	log[n > 0 ? n : 0] = 0;
	if (strstr(log, text))
		return true;
	printf("# the log, without \"%s\":\n# %s", text, log);
	return false;
}

/* Waits for the warden's end and gives everything back.  Return: its exit status; 256 + signal; -1: it does not end. */
AGENT_UNUSED static int shadow_end(struct shadow *s)
{
	int status = 0;
	pid_t got = 0;

	if (s->a.fd >= 0)
		close(s->a.fd);
	s->a.fd = -1;
	for (int i = 0; i < AGENT_TIMEOUT_MS && (got = waitpid(s->pid, &status, WNOHANG)) == 0; i++)
		usleep(i < 20 ? 200 : 1000);
	if (got != s->pid) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, &status, 0);
		return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

AGENT_UNUSED static void shadow_free(struct shadow *s)
{
	munmap(s->stat, sizeof(*s->stat));
	close(s->log_fd);
}

/* --- conversations ------------------------------------------------------------------------------------------------- */

/* HELLO and ATTACH.  Return: the kind of the answer. */
AGENT_UNUSED static int attach(struct shadow *s, const char *program, const char *service)
{
	struct ds_agent_hello hello = agent_hello(&s->a);
	struct ds_agent_attach msg;
	size_t bytes;
	void *all;

	if (agent_ask(&s->a, &hello, sizeof(hello), false) != DS_AGENT_WELCOME)
		return -1;
	msg = agent_attach(&s->a, program, service, DS_AGENT_EAGER);
	all = agent_attach_message(&msg, page, HEAP_PAGES, &heap_range, 1, &bytes);
	return agent_ask(&s->a, all, bytes, true);
}

AGENT_UNUSED static void start(struct shadow *s, const char *service)
{
	shadow_start(s, &(struct shadow_want){.policy = anything});
	if (attach(s, "/usr/bin/guest", service) != DS_AGENT_STARTED) {
		printf("# %u: %s\n", s->a.refused.code, s->a.refused.text);
		shadow_logged(s, "the log is:");
	}
}

/* Pages [first, first + n) of the heap, as the guest names them. */
AGENT_UNUSED static struct ds_agent_range part(uint64_t first, uint64_t n)
{
	return (struct ds_agent_range){HEAP_VPN + first, n};
}

/* Return: the kind of the answer. */
AGENT_UNUSED static int drop(struct shadow *s, const struct ds_agent_range *ranges, size_t n)
{
	size_t bytes;
	void *all = agent_drop_message(&s->a, ranges, n, &bytes);

	return agent_ask(&s->a, all, bytes, true);
}

AGENT_UNUSED static int update(struct shadow *s, const struct guest_page *pages, size_t n)
{
	size_t bytes;
	void *all = agent_update_message(&s->a, pages, n, true, &heap_range, 1, &bytes);

	return agent_ask(&s->a, all, bytes, true);
}

/* --- what is left ------------------------------------------------------------------------------------------------ */

/* As a subreaper this process gets whatever a warden leaves behind.  Return: how many; they are killed. */
AGENT_UNUSED static int left_processes(void)
{
	int n = 0, status;
	pid_t pid;

	for (int i = 0; i < 200 && (pid = waitpid(-1, &status, WNOHANG)) >= 0; i++) {
		if (pid > 0)
			n++; /* it has ended, but nobody had waited for it */
		else
			usleep(10000);
	}
	while (waitpid(-1, &status, WNOHANG) == 0) {
		char path[64];
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
		f = fopen(path, "r");
		if (!f || fscanf(f, "%d", &pid) != 1)
			errx(2, "%s", path);
		fclose(f);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		n++;
	}
	return n;
}

AGENT_UNUSED static int open_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

#endif
