/* text.c - UTF-8 out of any bytes; see text.h */
#include "collector/text.h"

#include <stdint.h>
#include <string.h>

/* Length of the well-formed character at @s, 0 if there is none; the terminator stops every comparison. */
static size_t utf8_length(const unsigned char *s)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	/* The second byte has a narrower range where it would otherwise spell a longer form, a surrogate, or too much. */
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	for (size_t i = 1; i < n; i++) {
		if (s[i] < lo || s[i] > hi)
			return 0;
		lo = 0x80;
		hi = 0xbf;
	}
	return n;
}

void text_clean(char *out, size_t size, const char *in)
{
	const unsigned char *s = (const unsigned char *)in;
	size_t left = size - 1;

	while (*s) {
		size_t n = utf8_length(s);
		const void *from = n ? (const void *)s : "\xef\xbf\xbd";
		size_t bytes = n ? n : 3;

		if (bytes > left)
			break;
		memcpy(out, from, bytes);
		out += bytes;
		left -= bytes;
		s += n ? n : 1;
	}
	*out = '\0';
}
