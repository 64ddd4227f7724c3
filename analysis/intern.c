/* intern.c - the same bytes get the same small number (see intern.h) */
#include "analysis/intern.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "analysis/vec.h"

static size_t find_slot(const struct intern *t, const void *key, size_t len)
{
	size_t i = XXH3_64bits(key, len) & (t->nslots - 1);

	while (t->slot[i]) {
		uint32_t id = t->slot[i] - 1;

		if (t->len[id] == len && memcmp(t->bytes + t->offset[id], key, len) == 0)
			break;
		i = (i + 1) & (t->nslots - 1);
	}
	return i;
}

static int grow_slots(struct intern *t)
{
	uint32_t *old = t->slot;
	size_t nslots = t->nslots ? t->nslots * 2 : 256;
	uint32_t *slot = calloc(nslots, sizeof(*slot));

	if (!slot)
		return -ENOMEM;
	t->slot = slot;
	t->nslots = nslots;
	for (size_t id = 0; id < t->n; id++)
		slot[find_slot(t, t->bytes + t->offset[id], t->len[id])] = (uint32_t)id + 1;
	free(old);
	return 0;
}

int intern_id(struct intern *t, const void *key, size_t len, uint32_t *id)
{
	size_t i;

	if (len > UINT32_MAX || t->n >= INT32_MAX)
		return -EOVERFLOW;
	if (t->n * 2 >= t->nslots && grow_slots(t) < 0)
		return -ENOMEM;
	i = find_slot(t, key, len);
	if (!t->slot[i]) {
		if (vec_reserve(&t->bytes, &t->bytes_cap, t->bytes_len + len + 1, 1) < 0 ||
		    vec_reserve(&t->offset, &t->offset_cap, t->n + 1, sizeof(*t->offset)) < 0 ||
		    vec_reserve(&t->len, &t->len_cap, t->n + 1, sizeof(*t->len)) < 0)
			return -ENOMEM;
		memcpy(t->bytes + t->bytes_len, key, len);
		t->bytes[t->bytes_len + len] = '\0';
		t->offset[t->n] = t->bytes_len;
		t->len[t->n] = (uint32_t)len;
		t->bytes_len += len + 1;
		t->slot[i] = (uint32_t)++t->n;
	}
	*id = t->slot[i] - 1;
	return 0;
}

const char *intern_text(const struct intern *t, uint32_t id)
{
	return id < t->n ? t->bytes + t->offset[id] : "";
}

void intern_free(struct intern *t)
{
	free(t->bytes);
	free(t->offset);
	free(t->len);
	free(t->slot);
	*t = (struct intern){0};
}
