/* paths.c - see paths.h */
#include "runtime/guest/forward/paths.h"

#include <errno.h>
#include <string.h>

static size_t name_bytes(const char *at)
{
	size_t n = 0;

	while (at[n] && at[n] != '/')
		n++;
	return n;
}

/* Puts the names of @path behind @out[*len].  Return: 0 or -ENAMETOOLONG. */
static int add(char *out, size_t room, size_t *len, const char *path)
{
	while (*path) {
		const size_t n = name_bytes(path);

		if (n == 2 && path[0] == '.' && path[1] == '.') {
			while (*len && out[--*len] != '/')
				;
		} else if (n && !(n == 1 && path[0] == '.')) {
			if (*len + 1 + n >= room)
				return -ENAMETOOLONG;
			out[(*len)++] = '/';
			memcpy(out + *len, path, n);
			*len += n;
		}
		path += n;
		while (*path == '/')
			path++;
	}
	return 0;
}

int forward_path_join(char *out, size_t room, const char *base, const char *path)
{
	const size_t n = strlen(path);
	size_t len = 0;
	int rc = 0;

	if (*path != '/')
		rc = add(out, room, &len, base ? base : "");
	if (!rc)
		rc = add(out, room, &len, path);
	if (!rc && len && (path[n - 1] == '/' || (n > 1 && path[n - 1] == '.' && path[n - 2] == '/'))) {
		if (len + 1 >= room)
			rc = -ENAMETOOLONG;
		else
			out[len++] = '/'; /* it has to be a directory */
	}
	if (!len)
		out[len++] = '/';
	out[len] = 0;
	return rc ? rc : (int)len;
}

static bool is_inside(const char *path, const char *directory, size_t bytes)
{
	return !strncmp(path, directory, bytes) && (!path[bytes] || path[bytes] == '/');
}

bool forward_path_inside(const struct forward_prefixes *p, const char *path)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (is_inside(path, p->p[i].text, p->p[i].bytes))
			return true;
	return false;
}

int forward_prefixes_add(struct forward_prefixes *p, const char *path, const char *to)
{
	if (p->n == FORWARD_PREFIXES_MAX)
		return -E2BIG;
	p->p[p->n].text = path;
	p->p[p->n].bytes = (uint32_t)strlen(path);
	p->p[p->n].to = to;
	p->renames |= to != NULL;
	p->p[p->n++].to_bytes = to ? (uint32_t)strlen(to) : 0;
	return 0;
}

/* The first @from bytes of @path become @to. */
static int replace(char *path, size_t room, size_t from, const char *to, size_t bytes)
{
	const size_t rest = strlen(path + from) + 1;

	if (bytes + rest > room)
		return -ENAMETOOLONG;
	if (bytes > from) /* from behind, since there is no memmove() */
		for (size_t i = rest; i--;)
			path[bytes + i] = path[from + i];
	else
		for (size_t i = 0; i < rest; i++)
			path[bytes + i] = path[from + i];
	memcpy(path, to, bytes);
	return 0;
}

int forward_path_there(const struct forward_prefixes *p, char *path, size_t room)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (is_inside(path, p->p[i].text, p->p[i].bytes))
			return p->p[i].to ? replace(path, room, p->p[i].bytes, p->p[i].to, p->p[i].to_bytes) : 0;
	return 0;
}

int forward_path_back(const struct forward_prefixes *p, char *path, size_t room)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (p->p[i].to && is_inside(path, p->p[i].to, p->p[i].to_bytes))
			return replace(path, room, p->p[i].to_bytes, p->p[i].text, p->p[i].bytes);
	return 0;
}

bool forward_path_leads(const struct forward_prefixes *p, const char *path)
{
	size_t n = strlen(path);

	while (n && path[n - 1] == '/')
		n--;
	for (uint32_t i = 0; i < p->n; i++)
		if (n < p->p[i].bytes && !memcmp(p->p[i].text, path, n) && p->p[i].text[n] == '/')
			return true;
	return false;
}

bool forward_path_climbs(const char *path)
{
	for (; *path; path += *path == '/') {
		const size_t n = name_bytes(path);

		if (n == 2 && path[0] == '.' && path[1] == '.')
			return true;
		path += n;
	}
	return false;
}

int forward_prefixes_take(struct forward_prefixes *p, const char *list)
{
	p->n = 0;
	p->renames = false;
	while (*list) {
		const char *end = list;

		if (p->n == FORWARD_PREFIXES_MAX)
			return -E2BIG;
		while (*end && *end != ':') {
			size_t n;

			if (*end++ != '/')
				return -EINVAL;
			for (n = 0; end[n] && end[n] != '/' && end[n] != ':'; n++)
				;
			if (!n || (end[0] == '.' && (n == 1 || (n == 2 && end[1] == '.'))))
				return -EINVAL;
			end += n;
		}
		if (end == list)
			return -EINVAL;
		p->p[p->n].text = list;
		p->p[p->n].to = NULL;
		p->p[p->n++].bytes = (uint32_t)(end - list);
		list = *end ? end + 1 : end;
	}
	return 0;
}
