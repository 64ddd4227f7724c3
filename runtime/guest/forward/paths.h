/* paths.h - which side a path is on
 *
 * Theory of operation
 *
 * Paths below a prefix are the host's.  What decides is the path as the program wrote it, put behind the directory it starts
 * from and simplified as text: "." and doubled slashes go, ".." takes the name before it away.  Symbolic links are not
 * followed for the decision: a link of the guest that leads below a prefix does not lead to the host, and on the host a link
 * leads where the host, within the shadow's jail, follows it to.
 *
 * Text only, no system calls.
 */
#ifndef GUEST_FORWARD_PATHS_H
#define GUEST_FORWARD_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORWARD_PREFIXES_MAX 64

/** struct forward_prefixes - Directories of the host, absolute, simplified, without a slash at the end. */
struct forward_prefixes {
	uint32_t n;
	bool renames; /* the host calls one of them otherwise */
	struct {
		const char *text; /* not terminated */
		uint32_t bytes, to_bytes;
		const char *to; /* what the host calls it; NULL: the same */
	} p[FORWARD_PREFIXES_MAX];
};

/**
 * forward_prefixes_take() - Reads "PATH:PATH..."
 * @list: must stay
 *
 * Return: 0; -EINVAL: a path is not absolute, is "/", or has "." or ".." or empty names in it; -E2BIG.
 */
int forward_prefixes_take(struct forward_prefixes *p, const char *list);

/**
 * forward_prefixes_add() - One more directory
 * @path: absolute, simplified, not "/"; must stay
 * @to: likewise, or NULL
 *
 * Return: 0, -E2BIG.
 */
int forward_prefixes_add(struct forward_prefixes *p, const char *path, const char *to);

/**
 * forward_path_there() - What the host calls a path
 * @path: simplified; changed in place
 * @room: bytes of it
 *
 * Return: 0; -ENAMETOOLONG.
 */
int forward_path_there(const struct forward_prefixes *p, char *path, size_t room);

/** forward_path_back() - The other way: what the program calls a path that the host has told; as forward_path_there(). */
int forward_path_back(const struct forward_prefixes *p, char *path, size_t room);

/**
 * forward_path_join() - @path as seen from @base, simplified as text
 * @base: absolute; may be NULL if @path is
 * @out: @room bytes, at least 2; terminated; a path that does not fit is cut behind a whole name
 *
 * Return: its length; -ENAMETOOLONG: it was cut.
 */
int forward_path_join(char *out, size_t room, const char *base, const char *path);

/** forward_path_inside() - Whether a simplified path is a prefix or below one. */
bool forward_path_inside(const struct forward_prefixes *p, const char *path);

/** forward_path_leads() - Whether a simplified path is above a prefix. */
bool forward_path_leads(const struct forward_prefixes *p, const char *path);

/** forward_path_climbs() - Whether one of the names in a path is "..". */
bool forward_path_climbs(const char *path);

#endif
