/* text.c - the few functions of a C library that the interception needs, without vector registers
 *
 * The C library's own use them, and a program does not expect its registers to change over a system call.  The compiler
 * calls memcpy() and memset() for structs on its own.  Hidden: nobody else sees these.
 */
#include <string.h>

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

HIDDEN void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

HIDDEN int memcmp(const void *a, const void *b, size_t bytes)
{
	const unsigned char *x = a, *y = b;

	for (; bytes; bytes--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

HIDDEN void *memchr(const void *in, int byte, size_t bytes)
{
	const unsigned char *at = in;

	for (; bytes; bytes--, at++)
		if (*at == (unsigned char)byte)
			return (void *)at;
	return NULL;
}

HIDDEN size_t strlen(const char *text)
{
	const char *at = text;

	while (*at)
		at++;
	return (size_t)(at - text);
}

HIDDEN char *strchr(const char *text, int byte)
{
	for (; *text != (char)byte; text++)
		if (!*text)
			return NULL;
	return (char *)text;
}

HIDDEN int strncmp(const char *a, const char *b, size_t bytes)
{
	for (; bytes; bytes--, a++, b++) {
		if (*a != *b)
			return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
		if (!*a)
			break;
	}
	return 0;
}

HIDDEN char *strstr(const char *text, const char *what)
{
	const size_t bytes = strlen(what);

	for (; *text; text++)
		if (!strncmp(text, what, bytes))
			return (char *)text;
	return bytes ? NULL : (char *)text;
}

HIDDEN char *stpcpy(char *restrict to, const char *restrict from)
{
	const size_t bytes = strlen(from);

	memcpy(to, from, bytes + 1);
	return to + bytes;
}
