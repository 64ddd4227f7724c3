/* ramtable.c - the table of a VM's memory; theory in ramtable.h */
#include "runtime/host/vm/ramtable.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "rle/cleanup.h"
#include "rle/mapops.h"
#include "rle/mapw.h"

/* Fills @err, if there is one, and passes the error number on. */
static int refuse(struct ramtable_err *err, int number, const char *why, uint64_t index, uint64_t value)
{
	if (err)
		*err = (struct ramtable_err){.why = why, .index = index, .value = value};
	return number;
}

/* /dev/mem, by whatever name: Documentation/admin-guide/devices.txt. */
static bool is_dev_mem(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 1);
}

void ramtable_init(struct ramtable *t)
{
	memset(t, 0, sizeof(*t));
}

int ramtable_check_fd(int fd, struct ramtable_file *file, struct ramtable_err *err)
{
	struct statfs fs;
	struct stat st;
	int flags;

	memset(file, 0, sizeof(*file));
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &st) || fstatfs(fd, &fs))
		return refuse(err, -errno, "the descriptor of the RAM cannot be looked at", RAMTABLE_NO_INDEX, 0);
	if (fs.f_type == HUGETLBFS_MAGIC)
		return refuse(err, -EOPNOTSUPP, "the RAM is made of hugetlb pages, which cannot be mapped 4 KiB at a time",
			      RAMTABLE_NO_INDEX, 0);
	if (!S_ISREG(st.st_mode) && !is_dev_mem(&st))
		return refuse(err, -EINVAL, "the descriptor of the RAM is not a file", RAMTABLE_NO_INDEX, 0);
	if (flags & O_PATH || (flags & O_ACCMODE) != O_RDWR)
		return refuse(err, -EACCES, "the RAM file is not open for reading and writing", RAMTABLE_NO_INDEX, 0);
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	file->physical = is_dev_mem(&st);
	file->npages = file->physical ? DS_PFN_END : (uint64_t)st.st_size >> DS_PAGE_SHIFT;
	return 0;
}

static bool same_file(const struct ramtable_file *a, const struct ramtable_file *b)
{
	if (a->name[0] || b->name[0])
		return !strcmp(a->name, b->name);
	return a->dev == b->dev && a->ino == b->ino && a->device == b->device;
}

int ramtable_add_file(struct ramtable *t, const struct ramtable_file *file, uint32_t *index, struct ramtable_err *err)
{
	if (!memchr(file->name, 0, sizeof(file->name)) || (!file->name[0] && !file->ino))
		return refuse(err, -EINVAL, "a file of the RAM has neither name nor inode", RAMTABLE_NO_INDEX, 0);
	for (*index = 0; *index < t->nfiles; ++*index) {
		if (same_file(&t->file[*index], file))
			return 0;
	}
	if (t->nfiles == RAMTABLE_FILES_MAX)
		return refuse(err, -E2BIG, "the VM's memory is in more files than a table holds", RAMTABLE_NO_INDEX, 0);
	t->file[t->nfiles++] = *file;
	return 0;
}

int ramtable_add(struct ramtable *t, uint64_t gpa_bytes, uint64_t bytes, uint64_t offset_bytes, uint32_t file,
		 struct ramtable_err *err)
{
	const uint64_t end = DS_PFN_END << DS_PAGE_SHIFT;
	const uint32_t i = t->nranges;

	if (file >= t->nfiles)
		return refuse(err, -EINVAL, "a range of the RAM names no file of the table", i, gpa_bytes);
	if (i == RAMTABLE_RANGES_MAX)
		return refuse(err, -E2BIG, "the VM's memory has more ranges than a table holds", i, gpa_bytes);
	if (!bytes)
		return refuse(err, -EINVAL, "a range of the RAM is empty", i, gpa_bytes);
	if ((gpa_bytes | bytes | offset_bytes) & (DS_PAGE_BYTES - 1))
		return refuse(err, -EINVAL, "a range of the RAM is not in whole pages", i, gpa_bytes);
	if (bytes > end || gpa_bytes > end - bytes || offset_bytes > end - bytes)
		return refuse(err, -ERANGE, "a range of the RAM is beyond what an address can be", i, gpa_bytes);
	if ((offset_bytes + bytes) >> DS_PAGE_SHIFT > t->file[file].npages)
		return refuse(err, -ERANGE, "a range of the RAM is beyond the end of its file", i, gpa_bytes);
	t->finished = false;
	t->range[t->nranges++] = (struct ramtable_range){
		.frame = {gpa_bytes >> DS_PAGE_SHIFT},
		.page = {offset_bytes >> DS_PAGE_SHIFT},
		.npages = bytes >> DS_PAGE_SHIFT,
		.file = file,
	};
	return 0;
}

/* Whether @b continues @a, so that they are one range. */
static bool continues(const struct ramtable_range *a, const struct ramtable_range *b)
{
	return a->file == b->file && a->frame.n + a->npages == b->frame.n && a->page.n + a->npages == b->page.n;
}

/* Numbers files in the order of their first use; those that nothing uses go. */
static void renumber(struct ramtable *t)
{
	struct ramtable_file file[RAMTABLE_FILES_MAX] = {0};
	uint32_t number[RAMTABLE_FILES_MAX], n = 0;

	for (uint32_t i = 0; i < RAMTABLE_FILES_MAX; i++)
		number[i] = RAMTABLE_FILES_MAX;
	for (uint32_t i = 0; i < t->nranges; i++) {
		uint32_t *f = &t->range[i].file;

		if (number[*f] == RAMTABLE_FILES_MAX) {
			file[n] = t->file[*f];
			number[*f] = n++;
		}
		*f = number[*f];
	}
	memcpy(t->file, file, sizeof(file));
	t->nfiles = n;
}

/* /dev/mem has no length: it ends with the last range. */
static void measure(struct ramtable *t)
{
	for (uint32_t f = 0; f < t->nfiles; f++) {
		uint64_t end = 0;

		for (uint32_t i = 0; i < t->nranges; i++)
			if (t->range[i].file == f && t->range[i].page.n + t->range[i].npages > end)
				end = t->range[i].page.n + t->range[i].npages;
		if (t->file[f].physical)
			t->file[f].npages = end;
	}
}

int ramtable_finish(struct ramtable *t, struct ramtable_err *err)
{
	struct ramtable_range sorted[RAMTABLE_RANGES_MAX] = {0};
	uint32_t order[RAMTABLE_RANGES_MAX], n = 0;

	for (uint32_t i = 0; i < t->nranges; i++) { /* by insertion: there are 64 at most */
		uint32_t k = i;

		for (; k > 0 && t->range[order[k - 1]].frame.n > t->range[i].frame.n; k--)
			order[k] = order[k - 1];
		order[k] = i;
	}
	for (uint32_t i = 0; i < t->nranges; i++) {
		const struct ramtable_range *r = &t->range[order[i]], *last = n ? &sorted[n - 1] : NULL;

		if (last && last->frame.n + last->npages > r->frame.n)
			return refuse(err, -EINVAL, "ranges of the RAM overlap in the guest", order[i], r->frame.n << DS_PAGE_SHIFT);
		if (last && continues(last, r))
			sorted[n - 1].npages += r->npages;
		else
			sorted[n++] = *r;
	}
	if (!n)
		return refuse(err, -ENOENT, "no shared RAM: the VM needs a memory backend with share=on", RAMTABLE_NO_INDEX, 0);
	if (sorted[0].frame.n)
		return refuse(err, -ENOENT, "no shared RAM at guest address 0: the VM's main memory needs a backend with share=on",
			      RAMTABLE_NO_INDEX, 0);
	memcpy(t->range, sorted, sizeof(sorted));
	t->nranges = n;
	renumber(t);
	measure(t);
	t->finished = true;
	return 0;
}

/* The first range from @i on that is of the RAM file; nranges: none. */
static uint32_t next_main(const struct ramtable *t, uint32_t i)
{
	while (i < t->nranges && t->range[i].file)
		i++;
	return i;
}

uint64_t ramtable_bytes(const struct ramtable *t)
{
	uint64_t npages = 0;

	if (!t->nfiles || !t->file[0].physical)
		return t->nfiles ? t->file[0].npages << DS_PAGE_SHIFT : 0;
	for (uint32_t i = next_main(t, 0); i < t->nranges; i = next_main(t, i + 1))
		npages += t->range[i].npages;
	return npages << DS_PAGE_SHIFT;
}

bool ramtable_compare(const struct ramtable *a, const struct ramtable *b, struct ramtable_diff *diff)
{
	const bool alike = !a->nfiles || !b->nfiles || a->file[0].physical == b->file[0].physical;
	/* A finished table's first range is of the RAM file and holds guest frame 0. */
	const uint64_t from_a = alike ? 0 : a->range[0].page.n, from_b = alike ? 0 : b->range[0].page.n;
	struct ramtable_diff none;
	uint32_t i = next_main(a, 0), k = next_main(b, 0);

	if (!diff)
		diff = &none;
	*diff = (struct ramtable_diff){0};
	for (; i < a->nranges && k < b->nranges; i = next_main(a, i + 1), k = next_main(b, k + 1)) {
		const struct ramtable_range *r = &a->range[i], *s = &b->range[k];

		diff->gpa_bytes = (r->frame.n < s->frame.n ? r->frame.n : s->frame.n) << DS_PAGE_SHIFT;
		if (r->frame.n != s->frame.n)
			diff->why = "a range begins in one table only";
		else if (r->page.n - from_a != s->page.n - from_b)
			diff->why = "a range lies elsewhere in the file";
		else if (r->npages != s->npages)
			diff->why = "a range has another length";
		if (diff->why)
			return false;
	}
	if (i < a->nranges || k < b->nranges) {
		diff->why = "a range is in one table only";
		diff->gpa_bytes = (i < a->nranges ? a->range[i] : b->range[k]).frame.n << DS_PAGE_SHIFT;
	} else if (alike && a->nfiles && b->nfiles && a->file[0].npages != b->file[0].npages) {
		diff->why = "the RAM file has another length";
		diff->gpa_bytes = 0;
	}
	return !diff->why;
}

int ramtable_map(const struct ramtable *t, struct rle_map *map)
{
	const struct rle_map_meta meta = {
		.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_FRAME, .space = t->file[0].physical ? RLE_SPACE_HOST : RLE_SPACE_FILE};
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;
	cleanup_free void *blob = NULL;
	size_t bytes;
	int r;

	memset(map, 0, sizeof(*map));
	if (!t->finished)
		return -EINVAL;
	/* A range is cut at RLE_RUN_MAX_PAGES, 16 TiB; all ranges together have 2^40 pages at most, so 256 cuts. */
	r = rle_mapw_begin_mem(&w, &meta, sizeof(struct rle_map_header) + (RAMTABLE_RANGES_MAX + 512) * sizeof(struct rle_run));
	for (uint32_t i = next_main(t, 0); !r && i < t->nranges; i = next_main(t, i + 1))
		r = rle_mapw_add(w, t->range[i].frame, t->range[i].page, t->range[i].npages, 0);
	if (!r)
		r = rle_mapw_finish(w);
	if (r)
		return r;
	blob = rle_mapw_take(w, &bytes);
	r = rle_map_open(map, blob, bytes, NULL);
	if (r)
		return r;
	map->owned = blob;
	blob = NULL;
	return 0;
}

bool ramtable_device_frame(const struct ramtable *t, ds_pfn page, ds_vpn *frame, uint64_t *npages)
{
	for (uint32_t i = 0; t->finished && i < t->nranges; i++) {
		const struct ramtable_range *r = &t->range[i];
		const uint64_t at = page.n - r->page.n;

		if (!t->file[r->file].device || page.n < r->page.n || at >= r->npages)
			continue;
		frame->n = r->frame.n + at;
		*npages = r->npages - at;
		return true;
	}
	return false;
}

/* Why a GPA is not in the RAM file. */
static const char *outside(const struct ramtable *t, uint64_t frame)
{
	for (uint32_t i = 0; i < t->nranges; i++) {
		if (frame - t->range[i].frame.n < t->range[i].npages)
			return "a run leads to memory of another file than the VM's RAM file";
	}
	return "a run leads outside the VM's memory";
}

int ramtable_translate(const struct ramtable *t, const struct rle_map *guest, size_t max_bytes, void **blob, size_t *blob_bytes,
		       struct ramtable_err *err)
{
	const struct rle_compose_opt opt = {.max_pieces = max_bytes / sizeof(struct rle_run)};
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;
	__attribute__((cleanup(rle_map_close))) struct rle_map ram = {0};
	struct rle_map_meta meta = guest->meta;
	struct rle_compose_stat stat = {0};
	int r;

	*blob = NULL;
	*blob_bytes = 0;
	if (meta.key != RLE_SPACE_VIRTUAL || meta.space != RLE_SPACE_FRAME)
		return refuse(err, -EINVAL, "the map does not lead from virtual pages to guest frames", RAMTABLE_NO_INDEX, 0);
	if (meta.split != RLE_SPLIT_ATTR)
		return refuse(err, -EINVAL, "the map is not split by every attribute", RAMTABLE_NO_INDEX, 0);
	if (!t->finished)
		return refuse(err, -EINVAL, "the table of the RAM has not been finished", RAMTABLE_NO_INDEX, 0);
	r = ramtable_map(t, &ram);
	meta.space = ram.meta.space;
	if (!r)
		r = rle_mapw_begin_mem(&w, &meta, max_bytes);
	if (!r)
		r = rle_map_compose(guest, &ram, &opt, rle_mapw_run, w, &stat);
	if (r == -ENXIO) {
		const uint64_t gpa = stat.uncovered.pfn.n;

		return refuse(err, r, outside(t, gpa), rle_map_find(guest, stat.uncovered.vpn), gpa << DS_PAGE_SHIFT);
	}
	if (!r)
		r = rle_mapw_finish(w);
	if (r == -E2BIG)
		return refuse(err, r, "the map becomes longer than is allowed", RAMTABLE_NO_INDEX, 0);
	if (!r && !(*blob = rle_mapw_take(w, blob_bytes)))
		r = -ENOMEM;
	if (r)
		return refuse(err, r, "the map cannot be translated", RAMTABLE_NO_INDEX, 0);
	return 0;
}
