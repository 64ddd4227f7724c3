/* outfile.c - files that are whole or not there (see outfile.h) */
#include "analysis/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int cannot_write(const char *name, int err, struct errmsg *e)
{
	return errmsg_set(e, -err, "%s: cannot write: %s; choose another place or make room", name, strerror(err));
}

static ssize_t sink_write(void *cookie, const char *bytes, size_t len)
{
	struct outfile_sink *sink = cookie;
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(sink->fd, bytes + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			sink->err = sink->err ? sink->err : errno;
			return 0;
		}
		done += (size_t)n;
	}
	return (ssize_t)len;
}

/* Everything but the file under its final name goes. */
static void release(struct outfile *o, bool keep)
{
	if (o->f)
		fclose(o->f);
	if (o->sink && o->sink->fd >= 0 && o->sink->fd != STDOUT_FILENO)
		close(o->sink->fd);
	if (o->part && !keep)
		unlink(o->part);
	free(o->part);
	free(o->sink);
	o->f = NULL;
	o->part = NULL;
	o->sink = NULL;
}

/* A device or a pipe is written as it is: a file renamed over /dev/null would take it away from the whole machine. */
static bool in_place(const char *name)
{
	struct stat st;

	return stat(name, &st) == 0 && !S_ISREG(st.st_mode);
}

int outfile_open(struct outfile *o, const char *name, struct errmsg *e)
{
	int err;

	*o = (struct outfile){.name = name, .sink = malloc(sizeof(*o->sink))};
	if (!o->sink)
		return errmsg_set(e, -ENOMEM, "out of memory");
	*o->sink = (struct outfile_sink){.fd = STDOUT_FILENO};
	if (strcmp(name, "-") != 0) {
		if (!in_place(name) && asprintf(&o->part, "%s.part", name) < 0) {
			o->part = NULL;
			release(o, false);
			return errmsg_set(e, -ENOMEM, "out of memory");
		}
		o->sink->fd = open(o->part ? o->part : name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (o->sink->fd < 0) {
			err = errno;
			release(o, true);
			return cannot_write(name, err, e);
		}
	}
	o->f = fopencookie(o->sink, "w", (cookie_io_functions_t){.write = sink_write});
	if (o->f)
		return 0;
	release(o, false);
	return errmsg_set(e, -ENOMEM, "out of memory");
}

int outfile_commit(struct outfile *o, struct errmsg *e)
{
	int err = fflush(o->f) != 0 || ferror(o->f) ? EIO : 0;

	err = o->sink->err ? o->sink->err : err;
	if (!err && o->part) {
		int fd = o->sink->fd;

		o->sink->fd = -1;
		if (close(fd) < 0 || rename(o->part, o->name) < 0)
			err = errno;
	}
	release(o, !err);
	return err ? cannot_write(o->name, err, e) : 0;
}

void outfile_abandon(struct outfile *o)
{
	release(o, false);
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
