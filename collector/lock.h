/* lock.h - one dscollect a database
 *
 * Theory of operation
 *
 * FILE.lock beside the database is flock()ed for as long as the collector runs; the kernel lets go of it however the
 * holder ends.  The file is never removed: removing it would let two holders lock two different files of one name.
 * It holds the PID and the start of its holder for the message that the second one prints; both are decoration, the
 * lock is what counts.
 *
 * The workers must not keep the descriptor (pool.c closes it in them): an flock lives until the last copy is closed,
 * and a worker stuck in the kernel can outlive the collector.
 */
#ifndef COLLECTOR_LOCK_H
#define COLLECTOR_LOCK_H

#include <sys/types.h>

/** struct lock_holder - Who has the lock, as far as the file tells; pid 0: it does not. */
struct lock_holder {
	pid_t pid;
	long long since; /* Unix seconds */
};

/**
 * lock_take() - Lock a database against other collectors
 * @db: path of the database
 * @fd: set; close it to let go
 * @holder: filled on -EBUSY
 *
 * Return: 0; -EBUSY another collector has it; -ENAMETOOLONG; -errno of open() or flock().
 */
int lock_take(const char *db, int *fd, struct lock_holder *holder);

#endif
