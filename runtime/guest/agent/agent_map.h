/* agent_map.h - the map of a process for a local client
 *
 * A child of dsagent's does this: reading a page table may take long, and a process can hang whoever reads it.
 *
 * Who is not root gets runs without frames (FORM_RUNS).  Runs alone say where memory is contiguous and not where it is.  A map
 * blob with invented frame numbers would be a map that lies, so there is none in that answer.
 *
 * The child reads with root's rights, and between the request and the reading the process may execute a program that is not
 * its user's to look into (setuid).  So its owner is looked at again when its memory is open and nothing is read yet: what is
 * read then is of a program that passed, or empty.
 */
#ifndef GUEST_AGENT_MAP_H
#define GUEST_AGENT_MAP_H

#include "runtime/guest/agent/agent_target.h"

/**
 * agent_map_answer() - Scan a process and send MAPPED or REFUSED
 * @client_fd: the client's socket
 * @m: the request, checked
 * @t: the process, which the client may have
 * @caller: who asks; only root sees frame numbers
 *
 * Return: exit status: 0, an answer was sent.
 */
int agent_map_answer(int client_fd, const struct ds_local_map *m, const struct agent_target *t, const struct agent_caller *caller);

#endif
