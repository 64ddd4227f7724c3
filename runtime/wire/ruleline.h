/* ruleline.h - the lines of a policy file, the same for the host's and the guest's: verb, keys, values
 *
 *	line    = [ blanks ] [ verb { blanks key "=" value } [ blanks ] ] [ "#" anything ]
 *	value   = characters but blanks, quotes and #  |  '"' characters, \" and \\ '"'
 *
 * What the words mean is for who reads them: runtime/host/policy/policy.h, runtime/guest/forward/policy_text.h.  Here words are
 * told apart, and what is no word is refused.
 *
 * No memory, no system calls, no C library but mem and str functions: it is read inside other people's programs too.
 */
#ifndef WIRE_RULELINE_H
#define WIRE_RULELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/** struct ruleline - What is left of a line; the text is borrowed, and not terminated. */
struct ruleline {
	const char *at, *end;
};

/** ruleline_blank() - Whether words are told apart by it. */
static inline bool ruleline_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/** ruleline_next() - Leaves @l at the next word.  Return: whether there is one. */
static inline bool ruleline_next(struct ruleline *l)
{
	while (l->at < l->end && ruleline_blank(*l->at))
		l->at++;
	return l->at < l->end && *l->at != '#';
}

/** ruleline_name() - How many letters the verb or key at @l->at has: a-z, 0-9 and "-"; 0: it is none. */
static inline size_t ruleline_name(const struct ruleline *l)
{
	const char *at = l->at;

	while (at < l->end && ((*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9') || *at == '-'))
		at++;
	return (size_t)(at - l->at);
}

/** ruleline_is() - Whether the @n letters at @l->at are @name. */
static inline bool ruleline_is(const struct ruleline *l, size_t n, const char *name)
{
	return strlen(name) == n && !memcmp(l->at, name, n);
}

/** ruleline_verb_ends() - Whether behind the @n letters of a verb comes what may come there. */
static inline bool ruleline_verb_ends(const struct ruleline *l, size_t n)
{
	return n && (l->at + n == l->end || ruleline_blank(l->at[n]) || l->at[n] == '#');
}

/**
 * ruleline_value() - Reads the value behind "key=", and leaves @l behind it
 * @value: filled, terminated
 * @room: bytes of it
 *
 * Return: NULL; or what is wrong, static text.
 */
static inline const char *ruleline_value(struct ruleline *l, char *value, size_t room)
{
	const bool quoted = l->at < l->end && *l->at == '"';
	size_t n = 0;

	l->at += quoted;
	for (; l->at < l->end; l->at++) {
		if (quoted ? *l->at == '"' : ruleline_blank(*l->at) || *l->at == '#')
			break;
		if (!*l->at)
			return "there is a byte 0 in a value";
		if (!quoted && (*l->at == '"' || *l->at == '\\'))
			return "a quote or backslash within a value: put the whole value in double quotes";
		if (quoted && *l->at == '\\' && (++l->at == l->end || (*l->at != '"' && *l->at != '\\')))
			return "in double quotes a backslash comes before \" or another backslash only";
		if (n == room - 1)
			return "a value is too long";
		value[n++] = *l->at;
	}
	value[n] = 0;
	if (!quoted)
		return NULL;
	if (l->at == l->end)
		return "a double quote is not closed";
	l->at++;
	if (l->at < l->end && !ruleline_blank(*l->at) && *l->at != '#')
		return "something follows a closing quote directly";
	return NULL;
}

#endif
