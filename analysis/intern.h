/* intern.h - the same bytes get the same small number
 *
 * A name or a process key occurs in thousands of rows; the rows keep a 32-bit number instead.  Numbers are dense and
 * rise in order of first appearance, so that they depend on the data alone.  One open-addressing table (xxHash, linear
 * probing, at most half full), the bytes in one growing block.
 */
#ifndef ANALYSIS_INTERN_H
#define ANALYSIS_INTERN_H

#include <stddef.h>
#include <stdint.h>

struct intern {
	char *bytes;	  /* all keys, each followed by a NUL, so that text keys are C strings */
	size_t bytes_len, bytes_cap;
	size_t *offset;	  /* [id] where the key starts in bytes */
	uint32_t *len;	  /* [id] its length */
	size_t n, offset_cap, len_cap;
	uint32_t *slot;	  /* id + 1, 0 is free */
	size_t nslots;	  /* power of two */
};

/** No id: what stands for NULL in the database. */
#define INTERN_NONE UINT32_MAX

/**
 * intern_id() - The number of a key, a new one if it is new
 * @t: table; all zero is an empty one
 * @key: bytes, copied
 * @len: how many
 * @id: result
 *
 * Return: 0, -ENOMEM, or -EOVERFLOW past 2^31 keys.
 */
int intern_id(struct intern *t, const void *key, size_t len, uint32_t *id);

/** intern_text() - The key of a number, as a C string; "" for INTERN_NONE.  Valid until the next intern_id(). */
const char *intern_text(const struct intern *t, uint32_t id);

/** intern_free() - Free what the table holds, and empty it. */
void intern_free(struct intern *t);

#endif
