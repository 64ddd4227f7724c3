/* utf8.h - text that may be written into JSON and HTML
 *
 * A process names itself with any bytes, and the kernel cuts names at 15: half a character is common.
 */
#ifndef ANALYSIS_UTF8_H
#define ANALYSIS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/** utf8_step() - Length of the well-formed UTF-8 character at @p (RFC 3629), 0 if there is none. */
size_t utf8_step(const char *p);

/** utf8_valid() - Is all of @text well-formed? */
bool utf8_valid(const char *text);

/** utf8_clean() - A copy with each ill-formed byte replaced by U+FFFD; the caller frees it.  NULL: out of memory. */
char *utf8_clean(const char *text);

#endif
