/* text.h - names that processes give themselves, made fit for a database and for JSON
 *
 * A process may call itself any bytes but NUL.  SQLite's TEXT and JSON are UTF-8, and readers in other languages fail
 * on anything else, so bytes that are not UTF-8 are replaced once, where a name enters.
 */
#ifndef COLLECTOR_TEXT_H
#define COLLECTOR_TEXT_H

#include <stddef.h>

/**
 * text_clean() - Copy a string as valid UTF-8
 * @out: terminated, cut at a character's border when @size is too small
 * @size: of @out in bytes, at least 1
 * @in: terminated; must not overlap @out.  Each byte that belongs to no well-formed character (Unicode 15, table 3-7)
 *	becomes U+FFFD.
 */
void text_clean(char *out, size_t size, const char *in);

#endif
