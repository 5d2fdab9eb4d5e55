/*
 * Threads that wait for an endpoint in C, and which of them drives: see leader.c.
 */
#ifndef LWIPY_LEADER_H
#define LWIPY_LEADER_H

#include "bell.h"
#include "lwipy.h"
#include "platform.h"

struct lwipy_waiter;

struct lwipy_leadership {
  lwipy_mutex lock;                /* of all this, and of what waiters are told; taken behind the core's, for moments */
  struct lwipy_waiter *waiters;    /* threads that wait for endpoints */
  uint32_t waiting;                /* how many; atomic */
  uint32_t turning;                /* a turn is taken: what is told waits for its end, when errands are done */
  uint32_t returning;              /* waiters have their errands done, and sleep on until the turn's frames have left */
  uint32_t errands;                /* errands are done at all; constant */
  int64_t crowd;                   /* when there were many last; microseconds */
  uint32_t admits;                 /* a driver's thread is there, so threads may wait here */
  uint32_t role;                   /* who drives: leader.c; atomic */
  uint32_t turns;                  /* how often the role has gone to a waiting thread or been given up by one */
  uint32_t seen;                   /* `turns` when the driver's thread looked last */
  uint32_t wanted;                 /* a waiting thread wants the role that the driver's thread has; atomic */
  uint32_t claimed;                /* the driver's thread wants the role that a waiting one has */
  lwipy_readiness heard;           /* what woke a leader last, by itself; the leader's */
  uint32_t deep;                   /* the driver's thread sleeps without an end */
  lwipy_bell driver;               /* and on this */
};

void lwipy_leadership_open(lwipy_core *core, uint32_t without);
void lwipy_leadership_close(lwipy_core *core);
void lwipy_leader_tell_driver(lwipy_core *core);                           /* there is something for it; any thread */
void lwipy_leader_failed(lwipy_core *core);                                /* lwIP is dead: everyone shall look */
int lwipy_leader_is_at_work(lwipy_core *core);                             /* it will soon look for errands; any thread */
/* As lwipy_wait(), and what became of the errand, unless it is not over. */
int lwipy_wait_errand(lwipy_core *core, lwipy_handle handle, lwipy_errand *errand, int64_t microseconds, int64_t *result);

#endif /* LWIPY_LEADER_H */
