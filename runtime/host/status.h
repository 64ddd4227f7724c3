/* status.h - what there is: made by the daemon, shown by `dshost status`
 *
 * The daemon copies what VM processes and wardens have written into their shared memory (shadows.h) into a file
 * (control.h, struct control_status) and gives it to whoever asked.  Strings in it hold printable ASCII only or are made so
 * when they are shown.
 */
#ifndef HOST_STATUS_H
#define HOST_STATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/host/shadows.h"

/**
 * status_make() - Writes the status file
 * @board: of each VM; read while others write
 * @nboards: how many
 * @rules: of the policy in force
 * @bytes: set to the file's length
 *
 * Return: a descriptor (memfd), the caller's; -errno.
 */
int status_make(const struct shadows_board *const *board, uint32_t nboards, uint64_t rules, uint64_t *bytes);

/**
 * status_print() - Shows a status file
 * @fd: the file
 * @bytes: its length, as the reply says
 * @json: as one JSON object instead of text
 *
 * Return: 0, -EBADMSG, -ENOMEM, -errno of read().
 */
int status_print(FILE *out, int fd, uint64_t bytes, bool json);

/**
 * status_find() - Takes one VM out of a status file
 * @fd: the file
 * @bytes: its length
 * @name: of the VM
 * @vm: filled; its strings are terminated
 *
 * Return: 0, -ENOENT, and as status_print().
 */
int status_find(int fd, uint64_t bytes, const char *name, struct control_vm *vm);

#endif
