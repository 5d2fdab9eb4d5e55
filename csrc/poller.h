/*
 * What a driver sleeps on: one system call for the core's wake-up, the links' descriptors and the watched ones.
 *
 * One of three files implements it: poller_epoll.c (Linux), poller_kqueue.c (macOS and the BSDs), poller_wake.c
 * (elsewhere: wake-ups only, no descriptors). A tag says whose descriptor is ready; it is checked where it is used,
 * for the owner may be gone by then. Readiness is by level: what is not consumed is reported again.
 *
 * Whoever changes the set holds the core's lock; sleeping and waking need none.
 */
#ifndef LWIPY_POLLER_H
#define LWIPY_POLLER_H

#include "lwipy.h"

enum { LWIPY_POLL_IN = 1, LWIPY_POLL_OUT = 2, LWIPY_ONCE = 4, LWIPY_EDGE = 8 };
/* ONCE: silent after one report, until set again. EDGE: one report for each change (Linux). */

#define LWIPY_TAG_WAKE        0u
#define LWIPY_TAG_LINK(nic)   (1u << 28 | (uint32_t)(nic))
#define LWIPY_TAG_WATCH(id)   (2u << 28 | (uint32_t)(id))
#define LWIPY_TAG_KIND(tag)   ((tag) >> 28)
#define LWIPY_TAG_NUMBER(tag) ((tag) & 0x0fffffffu)

#define LWIPY_READY_ROOM 64

int lwipy_poller_open(lwipy_core *core);                /* 0, or -1: no descriptors left */
void lwipy_poller_close(lwipy_core *core);
void lwipy_poller_kick(lwipy_core *core);               /* wakes the sleeper; any thread */
int lwipy_poller_fd(lwipy_core *core);                  /* readable when there is something to do; or a code */
int lwipy_poller_set(lwipy_core *core, int fd, uint32_t tag, int interest);   /* 0, or a code */
void lwipy_poller_unset(lwipy_core *core, int fd);      /* before the descriptor is closed */

/* Sleeps at most so long (microseconds; -1: until something happens) and says how many are ready; -1: a signal came. */
int lwipy_poller_wait(lwipy_core *core, lwipy_readiness *out, int64_t microseconds);
int lwipy_poller_collect(lwipy_core *core, lwipy_readiness *out);   /* the same without sleeping */

#endif /* LWIPY_POLLER_H */
