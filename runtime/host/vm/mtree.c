/* mtree.c - parser of `info mtree -f`; theory in mtree.h */
#include "runtime/host/vm/mtree.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "runtime/host/vm/qmp.h"

/* What is left of a line, or of the text. */
struct span {
	const char *at, *end;
};

static int refuse(struct ramtable_err *err, int number, const char *why, uint64_t line, uint64_t gpa)
{
	if (err)
		*err = (struct ramtable_err){.why = why, .index = line, .value = gpa};
	return number;
}

static bool take_line(struct span *text, struct span *line)
{
	const char *newline;

	if (text->at == text->end)
		return false;
	newline = memchr(text->at, '\n', (size_t)(text->end - text->at));
	*line = (struct span){text->at, newline ? newline : text->end};
	text->at = newline ? newline + 1 : text->end;
	if (line->at < line->end && line->end[-1] == '\r') /* the monitor ends its lines as a terminal wants it */
		line->end--;
	return true;
}

static bool take(struct span *s, const char *word)
{
	const size_t n = strlen(word);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n))
		return false;
	s->at += n;
	return true;
}

/* Sixteen hexadecimal digits, as QEMU prints every address. */
static bool take_hex(struct span *s, uint64_t *value)
{
	if (s->end - s->at < 16)
		return false;
	*value = 0;
	for (int i = 0; i < 16; i++) {
		const char c = s->at[i];

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*value = *value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	s->at += 16;
	return true;
}

/* The bytes up to @stop, which is taken too. */
static bool take_until(struct span *s, const char *stop, struct span *found)
{
	const char *p = memmem(s->at, (size_t)(s->end - s->at), stop, strlen(stop));

	if (!p)
		return false;
	*found = (struct span){s->at, p};
	s->at = p + strlen(stop);
	return true;
}

static bool equals(struct span s, const char *word)
{
	return take(&s, word) && s.at == s.end;
}

/* The backend that a region's name means, or NULL. */
static const struct mtree_memdev *find_memdev(struct span name, const struct mtree_memdev *memdev, size_t nmemdevs)
{
	take(&name, "/objects/");
	for (size_t i = 0; i < nmemdevs; i++) {
		if (memdev[i].id[0] && equals(name, memdev[i].id))
			return &memdev[i];
	}
	return NULL;
}

/* One range of the view; adds it to the table if it is a backend's. */
static int parse_range(struct span s, const struct mtree_memdev *memdev, size_t nmemdevs, struct ramtable *t, uint64_t number,
		       struct ramtable_err *err)
{
	uint64_t first, last, offset = 0;
	const struct mtree_memdev *dev;
	struct span prio, kind, name;
	struct ramtable_file file;
	uint32_t index;
	int r;

	if (!take(&s, "  ") || !take_hex(&s, &first) || !take(&s, "-") || !take_hex(&s, &last) || last < first ||
	    !take(&s, " (prio ") || !take_until(&s, ", ", &prio) || !take_until(&s, "): ", &kind))
		return refuse(err, -EBADMSG, "the line of info mtree cannot be understood", number, 0);
	if (!take_until(&s, " ", &name)) {
		name = s;
		s.at = s.end;
	}
	dev = find_memdev(name, memdev, nmemdevs);
	if (!dev)
		return 0;
	if ((take(&s, "@") && !take_hex(&s, &offset)) || (take(&s, " "), s.at < s.end && !equals(s, "kvm")))
		return refuse(err, -EBADMSG, "the line of info mtree cannot be understood", number, first);
	if (!equals(kind, "ram") && !equals(kind, "rom") && !equals(kind, "nv-ram") && !equals(kind, "nv-rom"))
		return refuse(err, -EBADMSG, "a memory backend is shown as something that is no memory", number, first);
	if (!dev->share && !first)
		return refuse(err, -EOPNOTSUPP, "the VM's main memory is private to QEMU: it needs a backend with share=on", number,
			      first);
	if (!dev->share)
		return 0;
	if (last - first == UINT64_MAX)
		return refuse(err, -ERANGE, "a range of the RAM is beyond what an address can be", number, first);
	memset(&file, 0, sizeof(file));
	memcpy(file.name, dev->id, strnlen(dev->id, sizeof(file.name) - 1));
	file.npages = dev->bytes >> DS_PAGE_SHIFT;
	r = ramtable_add_file(t, &file, &index, err);
	if (!r)
		r = ramtable_add(t, first, last - first + 1, offset, index, err);
	if (r && err)
		err->index = number;
	return r;
}

int mtree_parse(const char *text, size_t text_bytes, const struct mtree_memdev *memdev, size_t nmemdevs, struct ramtable *t,
		struct ramtable_err *err)
{
	struct span rest = {text, text + text_bytes}, line;
	bool ours = false, ranges = false;
	uint64_t number = 0;
	int r;

	ramtable_init(t);
	while (take_line(&rest, &line)) {
		number++;
		if (ranges) {
			if (line.at == line.end) /* an empty line ends the view */
				return ramtable_finish(t, err);
			r = parse_range(line, memdev, nmemdevs, t, number, err);
			if (r)
				return r;
		} else if (take(&line, "FlatView #")) {
			ours = false;
		} else if (take(&line, " AS \"memory\", ")) {
			ours = true;
		} else if (ours && take(&line, " Root memory region: ")) {
			ranges = true;
		}
	}
	return refuse(err, -EBADMSG, ranges ? "info mtree ends within the view of the memory" : "info mtree shows no view of the memory",
		      number, 0);
}

/* From the answer of query-memdev. */
static int parse_memdevs(struct json_object *list, struct mtree_memdev *memdev, size_t *n, struct ramtable_err *err)
{
	if (!json_object_is_type(list, json_type_array))
		return refuse(err, -EBADMSG, "the answer of query-memdev is no list", RAMTABLE_NO_INDEX, 0);
	*n = json_object_array_length(list);
	if (*n > MTREE_MEMDEVS_MAX)
		return refuse(err, -E2BIG, "the VM has more memory backends than can be handled", RAMTABLE_NO_INDEX, 0);
	for (size_t i = 0; i < *n; i++) {
		struct json_object *dev = json_object_array_get_idx(list, i), *id, *size, *share;

		/* A backend without an id (an anonymous object) cannot be found in the tree: its name stays empty. */
		memset(&memdev[i], 0, sizeof(memdev[i]));
		if (!json_object_is_type(dev, json_type_object) || !json_object_object_get_ex(dev, "size", &size) ||
		    !json_object_object_get_ex(dev, "share", &share))
			return refuse(err, -EBADMSG, "query-memdev does not tell size and sharing", RAMTABLE_NO_INDEX, 0);
		memdev[i].bytes = json_object_get_uint64(size);
		memdev[i].share = json_object_get_boolean(share);
		if (!json_object_object_get_ex(dev, "id", &id))
			continue;
		if ((size_t)json_object_get_string_len(id) >= sizeof(memdev[i].id))
			return refuse(err, -EBADMSG, "the name of a memory backend is too long", RAMTABLE_NO_INDEX, 0);
		memcpy(memdev[i].id, json_object_get_string(id), (size_t)json_object_get_string_len(id));
	}
	return 0;
}

int mtree_read(struct qmp *q, struct ramtable *t, struct ramtable_err *err)
{
	__attribute__((cleanup(qmp_json_cleanup))) struct json_object *devs = NULL, *tree = NULL;
	struct mtree_memdev memdev[MTREE_MEMDEVS_MAX];
	size_t n;
	int r;

	r = qmp_command(q, "query-memdev", NULL, &devs);
	if (r)
		return refuse(err, r, "QEMU does not answer query-memdev", RAMTABLE_NO_INDEX, 0);
	r = parse_memdevs(devs, memdev, &n, err);
	if (r)
		return r;
	r = qmp_monitor(q, "info mtree -f", &tree);
	if (r)
		return refuse(err, r, "QEMU does not answer info mtree", RAMTABLE_NO_INDEX, 0);
	return mtree_parse(json_object_get_string(tree), (size_t)json_object_get_string_len(tree), memdev, n, t, err);
}
