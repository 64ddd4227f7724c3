/* host_authority.c - what a shadow may map, held against a model that knows single pages and nothing else
 *
 * The model: two tables from page of the process to page of the RAM and what may be done with it, and a list of orders.
 * Hundreds of thousands of calls that are nearly right, over maps that change, get the same answer from both.
 */
#include <sys/mman.h>

#include "runtime/host/warden/authority.h"
#include "runtime/shadow/place.h"
#include "tests/capsule_host.h"
#include "tests/tap.h"

#define VPNS 96u /* of the process, from BASE on */
#define PFNS 48u
#define BASE UINT64_C(0x40000)
#define MODEL_ORDERS 64u

struct page {
	bool there;
	uint64_t pfn;
	bool read, write;
};

struct model {
	struct page now[VPNS], coming[VPNS];
	bool has_now, has_coming;
	struct ds_shadow_seg order[MODEL_ORDERS];
	uint32_t norders;
};

static struct model model;
static struct authority *a;
static struct rle_map now_map, coming_map;
static void *now_blob, *coming_blob;

/* What a page may be used for, told from the attributes alone: capsule_host.h says the same in letters. */
static bool may(uint32_t attr, char what)
{
	return strchr(model_prot(attr), what) != NULL;
}

/* A random map, as runs and in the model's table. */
static void *random_map(struct page *table, struct rle_map *map)
{
	static const uint32_t attrs[] = {RW, RLE_ATTR_READ, RLE_ATTR_READ | RLE_ATTR_EXEC, RW | RLE_ATTR_FILE, RW | RLE_ATTR_KSM,
					 RW | RLE_ATTR_FILE | RLE_ATTR_MAY_SHARE, 0};
	struct rle_run runs[VPNS];
	struct ds_shadow_data data;
	size_t n = 0;
	void *blob;
	int fd;

	memset(table, 0, VPNS * sizeof(*table));
	for (uint64_t vpn = host_random(4); vpn < VPNS;) {
		uint64_t npages = 1 + host_random(6), pfn = host_random(PFNS);
		uint32_t attr = attrs[host_random(7)];

		if (npages > VPNS - vpn)
			npages = VPNS - vpn;
		/* often the continuation of the run before, with other attributes */
		if (n && host_random(2) && runs[n - 1].vpn.n + runs[n - 1].npages == BASE + vpn)
			pfn = runs[n - 1].pfn.n + runs[n - 1].npages;
		runs[n++] = (struct rle_run){{BASE + vpn}, {pfn}, (uint32_t)npages, attr};
		for (uint64_t i = 0; i < npages; i++)
			table[vpn + i] = (struct page){true, pfn + i, may(attr, 'r'), may(attr, 'w')};
		vpn += npages + (host_random(2) ? 0 : host_random(4));
	}
	/* a map's runs must be canonical: host_data() writes them through rle/mapw.h, which joins what continues */
	fd = host_data(runs, n, NULL, 0, &data);
	blob = malloc(data.map_bytes);
	if (pread(fd, blob, data.map_bytes, 0) != (ssize_t)data.map_bytes || rle_map_open(map, blob, data.map_bytes, NULL))
		errx(2, "map");
	close(fd);
	return blob;
}

static bool model_by(const struct page *table, const struct authority_call *c)
{
	for (uint64_t i = 0; i < c->bytes / PAGE; i++) {
		const uint64_t vpn = c->address / PAGE + i - BASE;

		if (vpn >= VPNS || !table[vpn].there || table[vpn].pfn != c->offset / PAGE + i)
			return false;
		if ((c->prot & PROT_WRITE && !table[vpn].write) || (c->prot & PROT_READ && !table[vpn].read))
			return false;
	}
	return true;
}

static bool model_may(const struct authority_call *c)
{
	if (c->flags != (MAP_SHARED | MAP_FIXED) || c->prot > 3 || c->address % PAGE || c->bytes % PAGE || c->offset % PAGE || !c->bytes)
		return false;
	if (c->fd != (c->prot & PROT_WRITE ? DS_SHADOW_RAM_FD : DS_SHADOW_RAM_RO_FD))
		return false;
	for (uint32_t i = 0; i < model.norders; i++) {
		const struct ds_shadow_seg *s = &model.order[i];

		if (s->vpn * PAGE != c->address || s->pfn * PAGE != c->offset || s->npages * PAGE != c->bytes || s->prot != c->prot)
			continue;
		memmove(&model.order[i], &model.order[i + 1], (--model.norders - i) * sizeof(*s));
		return true;
	}
	if (model.has_now && model_by(model.now, c))
		return true;
	return model.has_coming && model_by(model.coming, c);
}

static struct authority_call random_call(void)
{
	struct authority_call c = {.flags = MAP_SHARED | MAP_FIXED, .prot = host_random(4)};
	uint64_t vpn = host_random(VPNS), npages = 1 + host_random(5), pfn = host_random(PFNS);
	const struct page *table = host_random(2) && model.has_coming ? model.coming : model.now;

	if (host_random(8) && table[vpn].there)
		pfn = table[vpn].pfn;
	if (model.norders && !host_random(4)) {
		const struct ds_shadow_seg *s = &model.order[host_random(model.norders)];

		vpn = s->vpn - BASE, npages = s->npages, pfn = s->pfn, c.prot = s->prot;
	}
	c.fd = c.prot & PROT_WRITE ? DS_SHADOW_RAM_FD : DS_SHADOW_RAM_RO_FD;
	c.address = (BASE + vpn) * PAGE;
	c.bytes = npages * PAGE;
	c.offset = pfn * PAGE;
	switch (host_random(40)) {
	case 0: c.fd ^= 1; break;
	case 1: c.flags |= 1u << host_random(32); break;
	case 2: c.address += host_random(PAGE); break;
	case 3: c.bytes += host_random(PAGE); break;
	case 4: c.offset += host_random(PAGE); break;
	case 5: c.prot |= UINT64_C(1) << host_random(64); break;
	default: break;
	}
	return c;
}

static void change(void)
{
	struct ds_shadow_seg segs[3];
	uint64_t vpn, npages;
	uint32_t n = 0;

	switch (host_random(6)) {
	case 0:
		free(coming_blob);
		coming_blob = random_map(model.coming, &coming_map);
		authority_coming(a, &coming_map);
		model.has_coming = true;
		break;
	case 1:
		if (!model.has_coming)
			break;
		free(now_blob);
		now_blob = coming_blob;
		coming_blob = NULL;
		/* the view moves: what was borrowed is put in its place */
		authority_commit(a);
		now_map = coming_map;
		authority_set(a, &now_map);
		memcpy(model.now, model.coming, sizeof(model.now));
		model.has_now = true;
		model.has_coming = false;
		break;
	case 2:
		authority_withdraw(a);
		model.has_coming = false;
		break;
	case 3:
	case 4:
		for (uint32_t i = 0; i < 3; i++)
			segs[i] = (struct ds_shadow_seg){BASE + host_random(VPNS), host_random(PFNS), (uint32_t)(1 + host_random(4)),
							 (uint32_t)host_random(4)};
		if (model.norders + 3 > MODEL_ORDERS)
			break;
		if (authority_order(a, segs, 3))
			errx(2, "authority_order");
		for (uint32_t i = 0; i < 3; i++)
			if (segs[i].prot)
				model.order[model.norders++] = segs[i];
		break;
	default:
		vpn = BASE + host_random(VPNS), npages = 1 + host_random(8);
		for (uint32_t i = 0; i < model.norders; i++) {
			const struct ds_shadow_seg *s = &model.order[i];

			if (s->vpn + s->npages <= vpn || vpn + npages <= s->vpn)
				model.order[n++] = *s;
		}
		if (authority_cancel(a, vpn, npages) != model.norders - n)
			errx(2, "authority_cancel");
		model.norders = n;
	}
}

static void test_model(void)
{
	unsigned int differ = 0, passed = 0, total = 300000, spans = 0;

	for (unsigned int i = 0; i < total; i++) {
		struct authority_call c;
		bool want, got;

		if (!host_random(20))
			change();
		c = random_call();
		want = model_may(&c);
		got = !authority_check(a, &c);
		passed += got;
		if (want != got && !differ++)
			printf("# %" PRIx64 " +%" PRIx64 " prot %" PRIu64 " flags %" PRIx64 " fd %" PRIu64 " offset %" PRIx64 ": model %d\n",
			       c.address, c.bytes, c.prot, c.flags, c.fd, c.offset, want);
		/* and what the proof from outside asks */
		if (model.has_now) {
			uint64_t vpn = host_random(VPNS), n = 0, pfn = model.now[vpn].pfn, asked = 1 + host_random(VPNS);
			bool write;

			while (n < asked && vpn + n < VPNS && model.now[vpn + n].there && model.now[vpn + n].pfn == pfn + n &&
			       model.now[vpn + n].write == model.now[vpn].write)
				n++;
			spans += authority_span(a, BASE + vpn, pfn, asked, &write) != n || (n && write != model.now[vpn].write);
		}
	}
	tap_eq(differ, 0, "%u calls, of which %u may be made: model and authority agree", total, passed);
	tap_eq(spans, 0, "so do they about what may be where");
	tap_ok(passed > total / 20 && passed < total - total / 20, "there are enough of both kinds");
}

static void test_bounds(void)
{
	static struct ds_shadow_seg many[AUTHORITY_ORDERS_MAX + 1];
	struct authority_call c = {BASE * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, DS_SHADOW_RAM_RO_FD, 0};
	const struct ds_shadow_seg hole = {BASE, 0, 1, 0};
	struct authority *b;

	if (authority_new(&b))
		err(2, "authority_new");
	tap_ok(authority_check(b, &c) != NULL, "a new one allows nothing");
	for (uint32_t i = 0; i <= AUTHORITY_ORDERS_MAX; i++)
		many[i] = (struct ds_shadow_seg){BASE + i, 0, 1, PROT_READ};
	tap_eq(authority_order(b, many, AUTHORITY_ORDERS_MAX + 1), -ENOSPC, "more orders than there is room for are refused");
	tap_ok(authority_check(b, &c) != NULL, "all of them");
	tap_eq(authority_order(b, many, AUTHORITY_ORDERS_MAX), 0, "as many as there is room for are taken");
	tap_eq(authority_order(b, &hole, 1), 0, "a hole needs no room");
	tap_eq(authority_order(b, many, 1), -ENOSPC, "and not one more");
	tap_ok(!authority_check(b, &c) && authority_check(b, &c), "one is good once");
	tap_eq(authority_order(b, many, 1), 0, "and makes room for another");
	c.address = (BASE + AUTHORITY_ORDERS_MAX - 1) * PAGE;
	tap_ok(!authority_check(b, &c), "orders need not be used in their order");
	tap_eq(authority_cancel(b, 0, UINT64_MAX), AUTHORITY_ORDERS_MAX - 1, "all that is left is taken back");
	c.address = (PLACE_VPN_END - 1) * PAGE;
	c.bytes = 2 * PAGE;
	tap_ok(authority_check(b, &c) != NULL, "nothing beyond the user half");
	authority_free(b);
	authority_free(NULL);
}

/* A file that is none of the capsule's own: that call and no other, once. */
static void test_file(void)
{
	const struct authority_call good = {(BASE + 7) * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
					    DS_SHADOW_HOLD_FD + 1, 2 * PAGE};
	struct authority_call c;
	struct authority *b;
	uint32_t passed = 0;

	if (authority_new(&b))
		err(2, "authority_new");
	tap_ok(authority_check(b, &good) != NULL, "a file that nobody has ordered is not mapped");
	authority_file(b, &good);
	for (int i = 0; i < 6; i++) {
		c = good;
		*(uint64_t *[]){&c.address, &c.bytes, &c.prot, &c.flags, &c.fd, &c.offset}[i] ^= i == 2 || i == 3 ? 4 : i == 4 ? DS_SHADOW_FDS_MAX : PAGE;
		passed += !authority_check(b, &c);
	}
	tap_eq(passed, 0, "nor another one than was ordered, or elsewhere, or for more");
	tap_ok(!authority_check(b, &good) && authority_check(b, &good), "the one that was ordered is, once");
	authority_file(b, &good);
	authority_file(b, NULL);
	tap_ok(authority_check(b, &good) != NULL, "and not when that was taken back");
	authority_file(b, &good);
	passed = 0;
	for (uint64_t fd = 0; fd <= DS_SHADOW_HOLD_FD; fd++) {
		c = good;
		c.fd = fd;
		passed += !authority_check(b, &c);
	}
	tap_eq(passed, 0, "the RAM cannot be had that way, nor what the service has opened");
	authority_free(b);
}

int main(void)
{
	if (authority_new(&a))
		err(2, "authority_new");
	now_blob = random_map(model.now, &now_map);
	authority_set(a, &now_map);
	model.has_now = true;
	test_model();
	test_bounds();
	test_file();
	authority_free(a);
	free(now_blob);
	free(coming_blob);
	return tap_done();
}
