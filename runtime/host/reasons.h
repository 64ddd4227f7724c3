/* reasons.h - numbers that shadows and protocols give as reasons, in words
 *
 * A capsule holds no text (runtime/wire/shadow.h): it names a reason and numbers.  People read logs and guests read one
 * line: both get them from here.  What a capsule says is not believed, so every number is printed as a number, and
 * one that is no reason is called that.
 *
 * Pure; fills a buffer of the caller's, always terminated.
 */
#ifndef HOST_REASONS_H
#define HOST_REASONS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/agent.h"
#include "runtime/wire/shadow.h"

/** reasons_code() - enum ds_agent_code in a few words, for status displays.  Return: static text, never NULL. */
const char *reasons_code(uint32_t code);

/** reasons_refused() - What a capsule refused and why, with its numbers: one line without a full stop. */
void reasons_refused(char *text, size_t bytes, const struct ds_shadow_refused *refused);

/** reasons_refused_code() - Which enum ds_agent_code a guest is told for it. */
enum ds_agent_code reasons_refused_code(const struct ds_shadow_refused *refused);

/** reasons_fault() - What the fault was that ended a service. */
void reasons_fault(char *text, size_t bytes, const struct ds_shadow_fault *fault);

/** reasons_exit() - How a capsule ended: @status as of waitpid(2). */
void reasons_exit(char *text, size_t bytes, int status);

#endif
