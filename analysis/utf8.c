/* utf8.c - text that may be written into JSON and HTML (see utf8.h) */
#include "analysis/utf8.h"

#include <stdlib.h>
#include <string.h>

static bool continues(const char *p, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return false;
	return true;
}

size_t utf8_step(const char *p)
{
	unsigned char c = (unsigned char)p[0], d = c ? (unsigned char)p[1] : 0;

	if (c < 0x80)
		return c ? 1 : 0;
	if (c >= 0xc2 && c <= 0xdf)
		return continues(p, 2) ? 2 : 0;
	/* E0 would be overlong below A0, ED a surrogate from A0 on */
	if (c >= 0xe0 && c <= 0xef)
		return continues(p, 3) && !(c == 0xe0 && d < 0xa0) && !(c == 0xed && d >= 0xa0) ? 3 : 0;
	if (c >= 0xf0 && c <= 0xf4)
		return continues(p, 4) && !(c == 0xf0 && d < 0x90) && !(c == 0xf4 && d >= 0x90) ? 4 : 0;
	return 0;
}

bool utf8_valid(const char *text)
{
	while (*text) {
		size_t n = utf8_step(text);

		if (n == 0)
			return false;
		text += n;
	}
	return true;
}

char *utf8_clean(const char *text)
{
	char *out = malloc(3 * strlen(text) + 1), *to = out;

	if (!out)
		return NULL;
	while (*text) {
		size_t n = utf8_step(text);

		if (n) {
			memcpy(to, text, n);
			to += n;
			text += n;
		} else {
			to = stpcpy(to, "\xef\xbf\xbd");
			text++;
		}
	}
	*to = '\0';
	return out;
}
