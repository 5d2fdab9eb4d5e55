/*
 * Waking who sleeps: see loop.c.
 */
#ifndef LWIPY_LOOP_H
#define LWIPY_LOOP_H

#include "lwipy.h"

/* Sets attention bits of a core and wakes its driver, if that one sleeps. Any thread, no lock. */
void lwipy_notify(lwipy_core *core, uint32_t bits);

/* Called by the border after every function that left something to do. */
void lwipy_loop_leave(lwipy_core *core);

#endif /* LWIPY_LOOP_H */
