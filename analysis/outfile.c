/* outfile.c - files that are whole or not there (see outfile.h) */
#include "analysis/outfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cannot_write(const char *name, int err, struct errmsg *e)
{
	return errmsg_set(e, -err, "%s: cannot write: %s; choose another place or make room", name, strerror(err));
}

int outfile_open(struct outfile *o, const char *name, struct errmsg *e)
{
	*o = (struct outfile){.name = name};
	if (strcmp(name, "-") == 0) {
		o->f = stdout;
		return 0;
	}
	if (asprintf(&o->part, "%s.part", name) < 0) {
		o->part = NULL;
		return errmsg_set(e, -ENOMEM, "out of memory");
	}
	o->f = fopen(o->part, "we");
	if (o->f)
		return 0;
	int err = errno;

	free(o->part);
	o->part = NULL;
	return cannot_write(name, err, e);
}

int outfile_commit(struct outfile *o, struct errmsg *e)
{
	int err = 0;

	errno = 0;
	if (fflush(o->f) != 0 || ferror(o->f))
		err = errno ? errno : EIO;
	if (o->part) {
		if (fclose(o->f) != 0 && !err)
			err = errno ? errno : EIO;
		if (!err && rename(o->part, o->name) < 0)
			err = errno;
		if (err)
			unlink(o->part);
		free(o->part);
	}
	o->part = NULL;
	o->f = NULL;
	return err ? cannot_write(o->name, err, e) : 0;
}

void outfile_abandon(struct outfile *o)
{
	if (o->part) {
		fclose(o->f);
		unlink(o->part);
		free(o->part);
	}
	o->part = NULL;
	o->f = NULL;
}

int outfile_write(const char *name, const void *bytes, size_t len, struct errmsg *e)
{
	struct outfile o;
	int rc = outfile_open(&o, name, e);

	if (rc < 0)
		return rc;
	fwrite(bytes, 1, len, o.f);
	return outfile_commit(&o, e);
}
