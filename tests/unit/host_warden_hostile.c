/* host_warden_hostile.c - conversations that are cut anywhere, have a wrong byte anywhere, or are made up at random
 *
 * Whatever is sent, a warden ends when the stream does, by itself and not by a signal, its capsule has gone before, and the
 * capsule never has a page of the RAM mapped that the last map it was allowed does not have.
 *
 * WARDEN_FUZZ_SECONDS=60 tests/run build/tests/unit/host_warden_hostile makes up conversations for a minute, not two seconds;
 * WARDEN_FUZZ_SEED=N those of a run that failed.
 */
#include <sys/stat.h>
#include <time.h>

#include "tests/tap.h"
#include "tests/warden_host.h"

#define SMALL_PAGES 8u
#define NMESSAGES 6

#ifdef __SANITIZE_ADDRESS__
#define STEP 5 /* forks are slow there: not every place, others each time */
#else
#define STEP 1
#endif

static struct {
	uint8_t *data;
	size_t bytes;
} said[NMESSAGES]; /* a conversation in which every message is answered */

static void make_conversation(void)
{
	struct agent a = {0};
	struct ds_agent_hello hello = agent_hello(&a);
	struct ds_agent_attach attach_msg = agent_attach(&a, "/usr/bin/guest", "checksum", DS_AGENT_EAGER);
	const uint64_t request[2] = {HEAP_VPN * PAGE, 64};
	const struct ds_agent_range first = part(0, 1);
	struct ds_agent_call c;

	said[0].data = agent_join(&hello, sizeof(hello), NULL, 0, NULL, 0, &said[0].bytes);
	said[1].data = agent_attach_message(&attach_msg, page, SMALL_PAGES, &heap_range, 1, &said[1].bytes);
	c = (struct ds_agent_call){agent_head(&a, DS_AGENT_CALL, sizeof(c) + 16), 0, 16};
	said[2].data = agent_join(&c, sizeof(c), NULL, 0, request, 16, &said[2].bytes);
	said[3].data = agent_update_message(&a, page, SMALL_PAGES - 1, true, &heap_range, 1, &said[3].bytes);
	said[4].data = agent_drop_message(&a, &first, 1, &said[4].bytes);
	c.head = agent_head(&a, DS_AGENT_CALL, sizeof(c) + 16);
	said[5].data = agent_join(&c, sizeof(c), NULL, 0, request, 16, &said[5].bytes);
}

/* Whether warden and capsule are gone as they should be.  The stream is closed here. */
static bool ends_well(struct shadow *s)
{
	const pid_t capsule = (pid_t)s->a.started.host_pid;
	const int status = shadow_end(s);
	const bool gone = !capsule || (kill(capsule, 0) && errno == ESRCH);
	const bool ok = (status == 0 || status == 1) && gone && shadow_view(s).state == WARDEN_END;

	if (!ok) {
		printf("# exit status %d, capsule %d %s\n", status, (int)capsule, gone ? "gone" : "still there");
		shadow_logged(s, "(all of it)");
	}
	shadow_free(s);
	return ok;
}

static size_t phase(void)
{
	return (size_t)time(NULL) % STEP;
}

static void test_cut(void)
{
	unsigned int wrong = 0, n = 0;
	union agent_message m;

	for (int last = 0; last < NMESSAGES; last++)
		for (size_t bytes = phase(); bytes < said[last].bytes && wrong < 5; bytes += STEP, n++) {
			struct shadow s;

			shadow_start(&s, &(struct shadow_want){.policy = anything});
			for (int i = 0; i < last; i++)
				if (!agent_write(&s.a, said[i].data, said[i].bytes) ||
				    agent_receive(&s.a, &m, AGENT_TIMEOUT_MS) <= 0)
					wrong++;
			agent_write(&s.a, said[last].data, bytes);
			if (n % 2) /* half of them are cut before the rest is read, the others after */
				usleep(200);
			wrong += !ends_well(&s);
		}
	tap_ok(!wrong, "a stream cut at each of %u places leaves nothing behind", n);
}

static void test_wrong_byte(void)
{
	unsigned int wrong = 0, n = 0, refused = 0;
	union agent_message m;

	srand(99);
	for (int last = 0; last < NMESSAGES; last++)
		for (size_t at = phase(); at < said[last].bytes && wrong < 5; at += STEP, n++) {
			uint8_t *byte = &said[last].data[at];
			const uint8_t was = *byte;
			struct shadow s;
			int kind;

			shadow_start(&s, &(struct shadow_want){.policy = anything});
			for (int i = 0; i < last; i++)
				if (!agent_write(&s.a, said[i].data, said[i].bytes) ||
				    agent_receive(&s.a, &m, AGENT_TIMEOUT_MS) <= 0)
					wrong++;
			*byte ^= (uint8_t)(1 + rand() % 255);
			agent_write(&s.a, said[last].data, said[last].bytes);
			*byte = was;
			/* a length that has grown is waited for: then nothing comes */
			kind = agent_receive(&s.a, &m, 20);
			refused += kind == DS_AGENT_REFUSED || kind == DS_AGENT_ENDED;
			wrong += !ends_well(&s);
		}
	tap_ok(!wrong, "a wrong byte at each of %u places is survived (%u times it is noticed)", n, refused);
}

/* --- made up ----------------------------------------------------------------------------------------------------- */

/* Whether each page of the RAM that the capsule has mapped is one of @list. */
static bool only(pid_t pid, const struct guest_page *list, size_t n)
{
	uint64_t from, to, offset, ino;
	char path[64], line[512];
	struct stat st;
	bool ok = true;
	FILE *f;

	fstat(ram_fd, &st);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &from, &to, &offset, &ino) != 4 ||
		    ino != st.st_ino)
			continue;
		for (uint64_t vpn = from / PAGE; vpn < to / PAGE; vpn++) {
			const uint64_t file_page = offset / PAGE + vpn - from / PAGE;
			size_t i = 0;

			while (i < n && (list[i].vpn != vpn || ram_page(list[i].frame) != file_page))
				i++;
			ok = ok && i < n;
		}
	}
	if (f)
		fclose(f);
	return ok;
}

/* Some of the pages of the heap, rising. */
static size_t some_pages(struct guest_page *list)
{
	size_t n = 0;

	for (uint32_t i = 0; i < 40; i++)
		if (rand() % 4)
			list[n++] = (struct guest_page){HEAP_VPN + i, ram_frame((uint64_t)rand() % RAM_PAGES),
							rand() % 3 ? RW : RLE_ATTR_READ};
	return n;
}

/* One message, perhaps spoilt.  Return: whether it is as it was made. */
static bool say(struct shadow *s, uint8_t *data, size_t bytes, bool spoil)
{
	const int how = spoil ? rand() % 4 : -1;

	if (how == 0)
		data[(size_t)rand() % bytes] ^= (uint8_t)(1 << rand() % 8);
	else if (how == 1)
		bytes = (size_t)rand() % bytes;
	else if (how == 2)
		for (int i = 0; i < 8; i++)
			data[((size_t)rand() % bytes)] = (uint8_t)rand();
	agent_write(&s->a, data, bytes);
	if (how == 3)
		agent_write(&s->a, data, (size_t)rand() % bytes);
	free(data);
	return how < 0;
}

/* One made-up conversation.  Return: whether everything held. */
static bool converse(void)
{
	struct guest_page list[40], next[40];
	struct ds_agent_hello hello;
	struct ds_agent_attach attach_msg;
	union agent_message m;
	size_t n, bytes;
	struct shadow s;
	bool ok = true, sane;
	void *data;

	shadow_start(&s, &(struct shadow_want){.policy = anything, .times = {.hello_ms = 3000}});
	hello = agent_hello(&s.a);
	agent_ask(&s.a, &hello, sizeof(hello), false);
	n = some_pages(list);
	attach_msg = agent_attach(&s.a, "/usr/bin/guest", "checksum", DS_AGENT_EAGER);
	data = agent_attach_message(&attach_msg, list, n, &heap_range, 1, &bytes);
	sane = say(&s, data, bytes, rand() % 8 == 0);
	if (agent_receive(&s.a, &m, sane ? AGENT_TIMEOUT_MS : 20) != DS_AGENT_STARTED)
		return ends_well(&s) && !sane;
	for (int i = 0; sane && ok && i < 30; i++) {
		const uint64_t request[2] = {(HEAP_VPN + (uint64_t)rand() % 50) * PAGE, (uint64_t)rand() % 100000};
		const struct ds_agent_range range = part((uint64_t)rand() % 40, 1 + (uint64_t)rand() % 5);
		struct ds_agent_call c = {agent_head(&s.a, DS_AGENT_CALL, sizeof(c) + 16), (uint32_t)rand() % 2, 16};
		size_t nnext = 0, k;
		int kind;

		switch (rand() % 3) {
		case 0: data = agent_join(&c, sizeof(c), NULL, 0, request, 16, &bytes); break;
		case 1:
			nnext = some_pages(next);
			data = agent_update_message(&s.a, next, nnext, true, &heap_range, 1, &bytes);
			break;
		default: data = agent_drop_message(&s.a, &range, 1, &bytes);
		}
		kind = ((struct ds_agent_head *)data)->kind;
		sane = say(&s, data, bytes, rand() % 40 == 0);
		ok = agent_receive(&s.a, &m, sane ? AGENT_TIMEOUT_MS : 20) ==
			     (kind == DS_AGENT_CALL ? DS_AGENT_REPLY : DS_AGENT_DONE) ||
		     !sane;
		if (!sane || kind == DS_AGENT_CALL)
			continue;
		if (kind == DS_AGENT_UPDATE) {
			memcpy(list, next, sizeof(list));
			n = nnext;
		} else {
			for (k = nnext = 0; k < n; k++)
				if (list[k].vpn < range.vpn || list[k].vpn >= range.vpn + range.npages)
					list[nnext++] = list[k];
			n = nnext;
		}
		if (!only((pid_t)s.a.started.host_pid, list, n)) {
			printf("# the capsule has pages that are not in its map\n");
			ok = false;
		}
	}
	return ends_well(&s) && ok;
}

static void test_made_up(void)
{
	const char *seconds = getenv("WARDEN_FUZZ_SECONDS"), *seed = getenv("WARDEN_FUZZ_SEED");
	unsigned int first = seed ? (unsigned int)strtoul(seed, NULL, 0) : (unsigned int)time(NULL), n = 0;
	const time_t end = time(NULL) + (seconds ? atoi(seconds) : 2);
	bool ok = true;

	do {
		srand(first + n);
		ok = converse();
		n++;
	} while (ok && time(NULL) < end);
	tap_ok(ok, "%u conversations that are made up", n);
	if (!ok)
		printf("# again: WARDEN_FUZZ_SEED=%u\n", first + n - 1);
}

int main(void)
{
	const int fds = (prctl(PR_SET_CHILD_SUBREAPER, 1), ram_make(), lay_out(), make_conversation(), open_fds(getpid()));

	test_cut();
	test_wrong_byte();
	test_made_up();
	for (int i = 0; i < NMESSAGES; i++)
		free(said[i].data);
	tap_eq(left_processes(), 0, "no process is left");
	tap_eq(open_fds(getpid()), fds, "no descriptor is left");
	return tap_done();
}
