/* filter.h - which snapshots and samples a report is about
 *
 * Values of the same option are alternatives, different options must all hold.  Host and command names are shell
 * patterns, so a plain name matches itself.  A cgroup is a pattern when it has one of *?[, otherwise a path that
 * matches itself and everything below it: /system.slice matches /system.slice/cron.service, not /system.slice2.
 */
#ifndef ANALYSIS_FILTER_H
#define ANALYSIS_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analysis/errmsg.h"
#include "analysis/when.h"

/** struct filter_list - Alternatives; the texts belong to the caller (argv). */
struct filter_list {
	const char **text;
	size_t n, cap;
};

struct filter {
	struct when since, until;
	double since_s, until_s; /* resolved by filter_resolve() */
	struct filter_list host, comm, cgroup;
	uint32_t *uid;
	size_t nuid, uid_cap;
};

/** filter_add() - Add an alternative.  Return: 0 or -ENOMEM. */
int filter_add(struct filter_list *l, const char *text);

/**
 * filter_add_uid() - Add a user by number or by name
 * @f: filter
 * @text: a number, or a name that this machine knows (the database may come from another)
 * @e: sentence on error
 *
 * Return: 0, -ENOMEM, -ENOENT for an unknown name.
 */
int filter_add_uid(struct filter *f, const char *text, struct errmsg *e);

/**
 * filter_resolve() - Turn relative times into moments
 * @f: filter
 * @newest: time of the newest snapshot of all databases
 *
 * Both ends belong to the range; --until with a day or a minute means its end.
 */
void filter_resolve(struct filter *f, double newest);

/** filter_snapshot() - Does a snapshot belong?  After filter_resolve(). */
bool filter_snapshot(const struct filter *f, const char *host, double time_s);

/** filter_sample() - Does a sample?  @uid is negative and @cgroup NULL where the database does not know. */
bool filter_sample(const struct filter *f, const char *comm, int64_t uid, const char *cgroup);

/** filter_cgroup() - Does @path match one cgroup pattern or prefix? */
bool filter_cgroup(const char *pattern, const char *path);

/** filter_samples_set() - Is there a condition on samples (comm, uid, cgroup), not only on snapshots? */
bool filter_samples_set(const struct filter *f);

/** filter_free() - Free what the filter holds. */
void filter_free(struct filter *f);

#endif
