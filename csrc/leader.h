/*
 * Threads that wait for an endpoint in C: see leader.c.
 */
#ifndef LWIPY_LEADER_H
#define LWIPY_LEADER_H

#include "bell.h"
#include "lwipy.h"

struct lwipy_waiter;

struct lwipy_leadership {
  struct lwipy_waiter *waiters;    /* threads that wait for endpoints */
  uint32_t admits;                 /* a driver's thread is there, so threads may wait here */
  uint32_t role;                   /* who drives: leader.c */
  uint32_t turns;                  /* how often the role has gone to a waiting thread or been given up by one */
  uint32_t seen;                   /* `turns` when the driver's thread looked last */
  uint32_t wanted;                 /* a waiting thread wants the role that the driver's thread has; atomic */
  lwipy_readiness heard;           /* what woke a leader last, by itself; the leader's */
  uint32_t deep;                   /* the driver's thread sleeps without an end */
  lwipy_bell driver;               /* and on this */
};

void lwipy_leadership_open(lwipy_core *core);
void lwipy_leadership_close(lwipy_core *core);
void lwipy_leader_tell_driver(lwipy_core *core);                           /* there is something for it; any thread */
void lwipy_leader_signal(lwipy_core *core, lwipy_handle handle, uint32_t events);   /* with the core's lock */
void lwipy_leader_failed(lwipy_core *core);                                /* lwIP is dead: everyone shall look */

#endif /* LWIPY_LEADER_H */
