/* spin.h - how long a thread looks for the end of its call on the host before it sleeps; theory in spin.c */
#ifndef GUEST_FORWARD_SPIN_H
#define GUEST_FORWARD_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire/forward.h"

/**
 * forward_spin() - Looks for the end of the call in @slot, which has been posted
 * @spin_ns: of the settings; 0: looks once
 *
 * Return: whether it is done.
 */
bool forward_spin(const struct ds_forward_slot *slot, uint32_t spin_ns);

/** forward_spin_learn() - The call in @slot is done: how long it took there is remembered for the next one of its kind. */
void forward_spin_learn(const struct ds_forward_slot *slot, uint32_t spin_ns);

#endif
