/* host_agentmsg.c - messages of a guest's agent: taken from a stream in any pieces, refused as soon as they are wrong
 *
 * Good messages are built here field by field; each bad one differs from a good one in one thing.  What comes out is
 * compared with what went in, whatever the pieces were.
 */
#include "runtime/host/warden/agentmsg.h"

#include <errno.h>
#include <string.h>

#include "tests/agent_guest.h"
#include "tests/tap.h"

#define STREAM_MAX 65536

static struct agent nobody = {.fd = -1};
static const struct ds_agent_range ranges[2] = {{0x400, 16}, {0x7ffffffe0, 31}};
static const struct guest_page pages[3] = {{0x400, 7, 3}, {0x401, 9, 3}, {0x7ffffffe0, 1, 1}};

/* --- a stream in pieces ------------------------------------------------------------------------------------------ */

/* Feeds @bytes in pieces of @piece (0: as they fit).  Return: messages taken; -1: an error, which stays in @m. */
static int feed(struct agentmsg *m, const uint8_t *data, size_t bytes, size_t piece, uint8_t *out, size_t *out_bytes)
{
	const struct ds_agent_head *msg;
	int n = 0, r;

	*out_bytes = 0;
	while (bytes) {
		size_t room;
		void *at;

		if (agentmsg_room(m, &at, &room) || !room)
			return -1;
		room = room < bytes ? room : bytes;
		room = piece && room > piece ? piece : room;
		memcpy(at, data, room);
		agentmsg_got(m, room);
		data += room;
		bytes -= room;
		while ((r = agentmsg_next(m, &msg)) > 0) {
			memcpy(out + *out_bytes, msg, msg->bytes);
			*out_bytes += msg->bytes;
			agentmsg_done(m);
			n++;
		}
		if (r < 0)
			return -1;
	}
	return n;
}

/* All kinds, one after the other, one of them of an odd length. */
static size_t conversation(uint8_t *stream)
{
	struct ds_agent_hello hello = agent_hello(&nobody);
	struct ds_agent_attach attach = agent_attach(&nobody, "/bin/x", "checksum", DS_AGENT_EAGER);
	struct ds_agent_call call = {agent_head(&nobody, DS_AGENT_CALL, sizeof(call) + 5), 2, 5};
	struct {
		void *data;
		size_t bytes;
	} part[8] = {{&hello, sizeof(hello)}};
	size_t n = 1, total = 0;

	part[n].data = agent_attach_message(&attach, pages, 3, ranges, 2, &part[n].bytes), n++;
	part[n].data = agent_join(&call, sizeof(call), NULL, 0, "hello", 5, &part[n].bytes), n++;
	part[n].data = agent_update_message(&nobody, pages, 2, true, ranges, 2, &part[n].bytes), n++;
	part[n].data = agent_drop_message(&nobody, ranges, 2, &part[n].bytes), n++;
	part[n].data = agent_pages_message(&nobody, 9, pages, 1, &part[n].bytes), n++;
	for (size_t i = 0; i < n; i++) {
		memcpy(stream + total, part[i].data, part[i].bytes);
		total += part[i].bytes;
		if (i)
			free(part[i].data);
	}
	return total;
}

static void test_pieces(void)
{
	static uint8_t stream[STREAM_MAX], out[STREAM_MAX];
	const size_t bytes = conversation(stream);
	size_t got, wrong = 0;
	struct agentmsg m;

	for (size_t piece = 0; piece <= bytes; piece++) {
		agentmsg_init(&m);
		wrong += feed(&m, stream, bytes, piece, out, &got) != 6 || got != bytes || memcmp(out, stream, bytes) ||
			 agentmsg_under_way(&m);
		agentmsg_free(&m);
	}
	tap_eq(wrong, 0, "six messages come out as they went in, in pieces of 1 to %zu bytes", bytes);
	for (size_t end = wrong = 0; end < bytes; end++) {
		int n;

		agentmsg_init(&m);
		n = feed(&m, stream, end, 0, out, &got);
		wrong += n < 0 || n > 5 || got > end || memcmp(out, stream, got) || (got < end) != !!agentmsg_under_way(&m);
		agentmsg_free(&m);
	}
	tap_eq(wrong, 0, "a stream that ends anywhere has given its whole messages and no other");
}

static void test_many(void)
{
	static uint8_t stream[400 * 40], out[sizeof(stream)];
	struct agentmsg m;
	size_t got, bytes = 0;

	for (uint32_t i = 0; i < 400; i++) {
		struct ds_agent_call call = {agent_head(&nobody, DS_AGENT_CALL, sizeof(call) + i % 17), 0, i % 17};

		memcpy(stream + bytes, &call, sizeof(call));
		memset(stream + bytes + sizeof(call), (int)i, i % 17);
		bytes += call.head.bytes;
	}
	agentmsg_init(&m);
	tap_ok(feed(&m, stream, bytes, 0, out, &got) == 400 && got == bytes && !memcmp(out, stream, bytes),
	       "400 small messages in a row");
	tap_ok(m.room <= 8192, "take one small buffer");
	agentmsg_free(&m);
}

/* --- what is refused --------------------------------------------------------------------------------------------- */

static uint8_t good[STREAM_MAX];
static size_t good_bytes;

static void good_attach(uint32_t mode)
{
	struct ds_agent_attach attach = agent_attach(&nobody, "/bin/x", "checksum", mode);
	void *all = agent_attach_message(&attach, pages, 3, ranges, 2, &good_bytes);

	memcpy(good, all, good_bytes);
	free(all);
}

/* Return: the error of feeding @bytes of good[]; 0 if it is taken. */
static int verdict(size_t bytes, const char **why)
{
	static uint8_t out[STREAM_MAX];
	struct agentmsg m;
	size_t got;
	int n, r;

	agentmsg_init(&m);
	n = feed(&m, good, bytes, 0, out, &got);
	r = m.broken;
	*why = m.err.why;
	if (n < 0) { /* it stays so */
		const struct ds_agent_head *msg;
		size_t room;
		void *at;

		if (agentmsg_next(&m, &msg) != r || msg || agentmsg_room(&m, &at, &room) != r || agentmsg_peek(&m))
			r = 1;
	}
	agentmsg_free(&m);
	return r;
}

#define REFUSED(what, want, bytes_there, words)                                                                                  \
	do {                                                                                                                     \
		const char *why_;                                                                                                \
		int r_ = verdict(bytes_there, &why_);                                                                            \
		if (!tap_ok(r_ == (want) && why_ && strstr(why_, words), "refused: %s", what))                                   \
			printf("# %d: %s\n", r_, why_ ? why_ : "");                                                              \
	} while (0)

/* One field of a good ATTACH is changed; it is refused when @there of its bytes have arrived. */
#define BAD_ATTACH(what, there, words, change)                                                                                   \
	do {                                                                                                                     \
		struct ds_agent_attach *a = (struct ds_agent_attach *)(void *)good;                                              \
		struct ds_agent_range *range = (struct ds_agent_range *)(a + 1);                                                 \
		(void)range;                                                                                                     \
		good_attach(DS_AGENT_EAGER);                                                                                     \
		change;                                                                                                          \
		REFUSED(what, -EBADMSG, there, words);                                                                           \
	} while (0)
#define HEAD sizeof(struct ds_agent_head)
#define STRUCT sizeof(struct ds_agent_attach)

static void test_refused(void)
{
	const char *why;

	good_attach(DS_AGENT_EAGER);
	tap_eq(verdict(good_bytes, &why), 0, "the message that the others differ from is good");
	BAD_ATTACH("no magic number", HEAD, "magic", a->head.magic++);
	BAD_ATTACH("a kind that only the host sends", HEAD, "kind", a->head.kind = DS_AGENT_STARTED);
	BAD_ATTACH("a kind that does not exist", HEAD, "kind", a->head.kind = 7);
	BAD_ATTACH("shorter than its struct", HEAD, "length", a->head.bytes = STRUCT - 1);
	BAD_ATTACH("shorter than a head", HEAD, "length", a->head.bytes = 3);
	BAD_ATTACH("longer than any", HEAD, "length", a->head.bytes = UINT32_MAX);
	BAD_ATTACH("longer than its parts", STRUCT, "add up", a->head.bytes += 8);
	BAD_ATTACH("shorter than its parts", STRUCT, "add up", a->head.bytes -= 8);
	BAD_ATTACH("too many ranges", STRUCT, "ranges", a->nranges = DS_AGENT_RANGES_MAX + 1);
	BAD_ATTACH("as many ranges as make the sum of the parts right again by overflow", STRUCT, "ranges",
		   a->nranges += UINT64_C(1) << 60);
	BAD_ATTACH("a map too long", STRUCT, "longer", a->map_bytes = DS_AGENT_MAP_BYTES_MAX + 24);
	BAD_ATTACH("an unknown mode", STRUCT, "mode", a->mode = 2);
	BAD_ATTACH("no map in eager mode", STRUCT, "map", a->map_bytes = 0);
	BAD_ATTACH("a flag of 2", STRUCT, "flag", a->has_sha256 = 2);
	BAD_ATTACH("a service without an end", STRUCT, "no end", memset(a->service, 'a', sizeof(a->service)));
	BAD_ATTACH("arguments without an end", STRUCT, "no end", memset(a->args, 'a', sizeof(a->args)));
	BAD_ATTACH("a program without an end", STRUCT, "no end", memset(a->program, 'a', sizeof(a->program)));
	BAD_ATTACH("a reserved range in the kernel half", STRUCT, "user half",
		   (a->reserve = (struct ds_agent_range){UINT64_C(1) << 36, 1}));
	BAD_ATTACH("a reserved range that wraps", STRUCT, "user half",
		   (a->reserve = (struct ds_agent_range){4096, UINT64_MAX - 4000}));
	BAD_ATTACH("an empty range", good_bytes, "empty", range[0].npages = 0);
	BAD_ATTACH("ranges that overlap", good_bytes, "overlap", range[0].npages = UINT64_C(0x7ffffffe1) - 0x400);
	BAD_ATTACH("ranges that fall", good_bytes, "rise", range[1].vpn = 0x300);
	BAD_ATTACH("a range into the kernel half", good_bytes, "user half", range[1].npages = 32);
	BAD_ATTACH("a range that wraps", good_bytes, "user half", range[1].npages = UINT64_MAX);

	good_attach(DS_AGENT_EAGER);
	((struct ds_agent_head *)(void *)good)->version = 2;
	REFUSED("another version", -EPROTONOSUPPORT, HEAD, "version");
	good_attach(DS_AGENT_DEMAND);
	tap_eq(verdict(good_bytes, &why), 0, "in demand mode no map comes along");
	((struct ds_agent_attach *)(void *)good)->mode = DS_AGENT_EAGER;
	REFUSED("which eager mode does not have", -EBADMSG, good_bytes, "map");
}

static void test_others(void)
{
	const char *why;

	*(struct ds_agent_hello *)(void *)good = agent_hello(&nobody);
	memset(((struct ds_agent_hello *)(void *)good)->release, '6', 64);
	REFUSED("a release without an end", -EBADMSG, sizeof(struct ds_agent_hello), "no end");
	*(struct ds_agent_hello *)(void *)good = agent_hello(&nobody);
	((struct ds_agent_head *)(void *)good)->bytes++;
	REFUSED("a HELLO with something behind", -EBADMSG, HEAD, "length");

	*(struct ds_agent_drop *)(void *)good = (struct ds_agent_drop){agent_head(&nobody, DS_AGENT_DROP, 24), 0};
	tap_eq(verdict(24, &why), 0, "a DROP of nothing is a message");
	((struct ds_agent_drop *)(void *)good)->nranges = DS_AGENT_DROP_MAX + 1;
	((struct ds_agent_head *)(void *)good)->bytes = 24 + 16 * (DS_AGENT_DROP_MAX + 1);
	REFUSED("a DROP of too many ranges", -EBADMSG, HEAD, "length");

	*(struct ds_agent_call *)(void *)good = (struct ds_agent_call){agent_head(&nobody, DS_AGENT_CALL, 24 + 4096), 0, 4096};
	tap_eq(verdict(24 + 4096, &why), 0, "the longest CALL");
	((struct ds_agent_head *)(void *)good)->bytes++;
	REFUSED("one byte more", -EBADMSG, HEAD, "length");
	*(struct ds_agent_call *)(void *)good = (struct ds_agent_call){agent_head(&nobody, DS_AGENT_CALL, 24 + 8), 0, 9};
	REFUSED("a CALL with less payload than said", -EBADMSG, 24, "payload");

	*(struct ds_agent_pages *)(void *)good = (struct ds_agent_pages){agent_head(&nobody, DS_AGENT_PAGES, 24), 0};
	tap_eq(verdict(24, &why), 0, "PAGES without any map");
	((struct ds_agent_pages *)(void *)good)->map_bytes = 72;
	REFUSED("PAGES with less map than said", -EBADMSG, 24, "add up");
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

static void test_memory(void)
{
	const size_t big = 40u << 20;
	struct ds_agent_update update = {.head = agent_head(&nobody, DS_AGENT_UPDATE, sizeof(update) + big), .map_bytes = big};
	const struct ds_agent_head *msg = NULL;
	size_t worst = 0, fed = 0, room;
	struct agentmsg m;
	void *at;
	int r = 0;

	agentmsg_init(&m);
	agentmsg_room(&m, &at, &room);
	memcpy(at, &update, sizeof(update));
	agentmsg_got(&m, sizeof(update));
	r = agentmsg_next(&m, &msg);
	tap_ok(!r && agentmsg_peek(&m) && agentmsg_under_way(&m) == sizeof(update) + big,
	       "40 MiB are announced, the struct can be looked at");
	tap_ok(m.room <= 8192, "and no memory is taken for them");
	while (!r && !agentmsg_room(&m, &at, &room)) {
		memset(at, 0, room < 100000 ? room : 100000);
		fed += room < 100000 ? room : 100000;
		agentmsg_got(&m, room < 100000 ? room : 100000);
		r = agentmsg_next(&m, &msg);
		if (m.room > 8192 && m.room * 1000 / (fed + sizeof(update)) > worst)
			worst = m.room * 1000 / (fed + sizeof(update));
	}
	tap_ok(r == 1 && fed == big && msg->bytes == sizeof(update) + big, "it arrives");
	tap_ok(worst <= 3000 && m.room == sizeof(update) + big, "memory was never much more than had arrived (%zu of 1000)",
	       worst);
	agentmsg_done(&m);
	tap_ok(!m.room && !agentmsg_under_way(&m), "and is given back");

	update.head.bytes = (uint32_t)(sizeof(update) + big);
	agentmsg_room(&m, &at, &room);
	memcpy(at, &update, sizeof(update));
	agentmsg_got(&m, sizeof(update));
	r = agentmsg_next(&m, &msg);
	agentmsg_limit(&m, 1000000);
	tap_ok(!r && agentmsg_next(&m, &msg) == -EFBIG, "a limit set while a message is under way counts for it");
	agentmsg_free(&m);
}

int main(void)
{
	test_pieces();
	test_many();
	test_refused();
	test_others();
	test_memory();
	return tap_done();
}
