/* filter.c - which snapshots and samples a report is about (see filter.h) */
#include "analysis/filter.h"

#include <fnmatch.h>
#include <math.h>
#include <pwd.h>
#include <string.h>

#include "analysis/vec.h"

int filter_add(struct filter_list *l, const char *text)
{
	if (vec_reserve(&l->text, &l->cap, l->n + 1, sizeof(*l->text)) < 0)
		return -ENOMEM;
	l->text[l->n++] = text;
	return 0;
}

int filter_add_uid(struct filter *f, const char *text, struct errmsg *e)
{
	const struct passwd *pw;
	unsigned long long v = 0;
	char *end;

	errno = 0;
	if (*text >= '0' && *text <= '9')
		v = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || v > UINT32_MAX) {
		pw = getpwnam(text);
		if (!pw)
			return errmsg_set(e, -ENOENT,
					  "--uid %s: this machine knows no such user; give the number (the database may come from another machine)",
					  text);
		v = pw->pw_uid;
	}
	if (vec_reserve(&f->uid, &f->uid_cap, f->nuid + 1, sizeof(*f->uid)) < 0)
		return errmsg_set(e, -ENOMEM, "out of memory");
	f->uid[f->nuid++] = (uint32_t)v;
	return 0;
}

void filter_resolve(struct filter *f, double newest)
{
	f->since_s = f->since.set ? when_resolve(&f->since, newest) : -INFINITY;
	f->until_s = f->until.set ? when_resolve(&f->until, newest) + f->until.span : INFINITY;
	/* the end of a day or a minute is the last moment before the next one begins */
	if (f->until.set && f->until.span > 0)
		f->until_s = nextafter(f->until_s, -INFINITY);
}

static bool matches(const struct filter_list *l, const char *text)
{
	for (size_t i = 0; i < l->n; i++)
		if (fnmatch(l->text[i], text, 0) == 0)
			return true;
	return l->n == 0;
}

bool filter_snapshot(const struct filter *f, const char *host, double time_s)
{
	return time_s >= f->since_s && time_s <= f->until_s && matches(&f->host, host);
}

bool filter_cgroup(const char *pattern, const char *path)
{
	size_t len = strlen(pattern);

	if (strpbrk(pattern, "*?["))
		return fnmatch(pattern, path, 0) == 0;
	while (len > 0 && pattern[len - 1] == '/')
		len--;
	return strncmp(path, pattern, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

bool filter_sample(const struct filter *f, const char *comm, int64_t uid, const char *cgroup)
{
	bool ok = matches(&f->comm, comm);

	if (ok && f->nuid) {
		ok = false;
		for (size_t i = 0; i < f->nuid && !ok; i++)
			ok = uid == (int64_t)f->uid[i];
	}
	if (ok && f->cgroup.n) {
		ok = false;
		for (size_t i = 0; i < f->cgroup.n && !ok; i++)
			ok = cgroup && filter_cgroup(f->cgroup.text[i], cgroup);
	}
	return ok;
}

bool filter_samples_set(const struct filter *f)
{
	return f->comm.n || f->nuid || f->cgroup.n;
}

void filter_free(struct filter *f)
{
	free(f->host.text);
	free(f->comm.text);
	free(f->cgroup.text);
	free(f->uid);
	*f = (struct filter){0};
}
