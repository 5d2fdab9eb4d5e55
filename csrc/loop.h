/*
 * Waking who sleeps: see loop.c.
 */
#ifndef LWIPY_LOOP_H
#define LWIPY_LOOP_H

#include "lwipy.h"

/* Sets attention bits of a core and wakes its driver, if that one sleeps. Any thread, no lock. */
void lwipy_notify(lwipy_core *core, uint32_t bits);

/* What a sleeper heeds of the attention word: what a turn does, what only Python does, both. */
#define LWIPY_FOR_CORE   (LWIPY_HAS_DEADLINE | LWIPY_HAS_INPUT | LWIPY_HAS_ERRANDS)
#define LWIPY_FOR_PYTHON (LWIPY_HAS_EVENTS | LWIPY_HAS_FRAMES | LWIPY_HAS_LINKS | LWIPY_HAS_WATCHED | \
                          LWIPY_HAS_TROUBLE | LWIPY_HAS_RELEASED | LWIPY_WOKEN)
#define LWIPY_FOR_DRIVER (LWIPY_FOR_CORE | LWIPY_FOR_PYTHON)

/* Called by the border after every function. */
void lwipy_loop_leave(lwipy_core *core);

/* Sleeps in the poller unless there is something in the attention word that is heeded, or `*call` is not 0; how many
   descriptors are ready, or -1 when a signal came. */
int lwipy_loop_sleep(lwipy_core *core, lwipy_readiness *ready, int64_t microseconds, uint32_t heeds,
                     const uint32_t *call);
int lwipy_loop_is_asleep(lwipy_core *core);    /* somebody is, in that sleep; any thread */
void lwipy_loop_interrupt(lwipy_core *core);   /* ends that sleep; any thread */

#endif /* LWIPY_LOOP_H */
