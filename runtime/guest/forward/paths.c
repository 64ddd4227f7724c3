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

bool forward_path_inside(const struct forward_prefixes *p, const char *path)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (!strncmp(path, p->p[i].text, p->p[i].bytes) && (!path[p->p[i].bytes] || path[p->p[i].bytes] == '/'))
			return true;
	return false;
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
		p->p[p->n++].bytes = (uint32_t)(end - list);
		list = *end ? end + 1 : end;
	}
	return 0;
}
