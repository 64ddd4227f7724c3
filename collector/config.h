/* config.h - the settings, and the file that they can be written in
 *
 * The file (dscollect(5)) looks like a shell's assignments, because that is what /etc/default/ holds, but it is read by
 * this parser and never executed:
 *
 *	file       = { line newline }
 *	line       = [ blanks ] [ [ "export" blanks ] KEY "=" value [ blanks ] ] [ "#" anything ]
 *	value      = { unquoted | single-quoted | double-quoted }, put together without anything between
 *	unquoted   = any character but blanks, quotes and  $ ` \ ; & | < > ( )  ; a backslash makes the next one plain
 *	single     = ' anything but ' '
 *	double     = " anything but " $ ` " ; a backslash before one of  " \ $ `  makes it plain
 *
 * What a shell would expand or run is an error instead of being taken for text, an unknown key is an error, and so is a
 * key given twice: a setting that is silently not in force is worse.  A comment needs a blank before it, as in a shell.
 */
#ifndef COLLECTOR_CONFIG_H
#define COLLECTOR_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rle/src.h"

#define CONFIG_FILE_BYTES 65536 /* a longer file is refused */
#define CONFIG_WHY_BYTES 200

/** enum config_key - What can be set; config_set() has the names. */
enum config_key { CONFIG_DB, CONFIG_JOIN, CONFIG_JOBS, CONFIG_HISTORY, CONFIG_TIMEOUT_S, CONFIG_KEEP_RUNS, CONFIG_NKEY };

/** struct config - The settings.  config_default() makes one. */
struct config {
	char db[PATH_MAX];
	enum rle_join join;
	int jobs;	       /* workers */
	unsigned int history_days; /* 0: for ever */
	uint64_t timeout_ns;
	bool keep_runs;
	unsigned int set; /* bit config_key: given, not the default */
};

/** struct config_error - What is wrong with a file; line 0: the file as a whole. */
struct config_error {
	unsigned int line;
	char why[CONFIG_WHY_BYTES];
};

/** config_default() - The built-in settings. */
void config_default(struct config *c);

/**
 * config_set() - Set one value from text, from the file or the command line
 * @c: changed only on return 0
 * @value: terminated
 * @why: filled on an error: what is expected, and what came
 *
 * Return: 0 or -EINVAL.
 */
int config_set(struct config *c, enum config_key key, const char *value, char why[static CONFIG_WHY_BYTES]);

/**
 * config_parse() - Read a file's text
 * @c: values are set in here; after an error those before it are
 * @text: not terminated; any bytes
 * @bytes: its length
 * @e: filled on an error
 *
 * Return: 0 or -EINVAL.
 */
int config_parse(struct config *c, const char *text, size_t bytes, struct config_error *e);

/**
 * config_load() - Read a file
 * @path: the file
 * @e: filled on an error, also when the file cannot be read
 *
 * Return: 0; -EINVAL as config_parse(); -EFBIG; -errno of open() or read(), -ENOENT among them.
 */
int config_load(struct config *c, const char *path, struct config_error *e);

/** config_merge() - Take from @weaker whatever @c does not set itself: the command line wins over the file. */
void config_merge(struct config *c, const struct config *weaker);

#endif
