/*
 * The threads that wait, and what they are told: see waiters.c.
 */
#ifndef LWIPY_WAITERS_H
#define LWIPY_WAITERS_H

#include "leader.h"

#define LWIPY_WAITING_OVER 0x80000000u   /* news: nothing will be told here any more */

struct lwipy_waiter {
  struct lwipy_waiter *next, **link;
  lwipy_handle handle;
  uint32_t wanted;                 /* LWIPY_READABLE, LWIPY_WRITABLE */
  uint32_t news;                   /* atomic */
  uint32_t leads;                  /* atomic */
  lwipy_errand *errand;            /* what is to be done for it, or NULL */
  int64_t result;                  /* of that, when it is done */
  int is_to_return;                /* it is, and the thread sleeps on */
  lwipy_bell bell;
};

/* Of leader.c. */
int lwipy_waiters_join(lwipy_core *core, struct lwipy_waiter *waiter);   /* 0: threads do not wait here (any more) */
void lwipy_waiters_leave(lwipy_core *core, struct lwipy_waiter *waiter);   /* returns with the list's lock held */
void lwipy_waiters_tell_all(lwipy_core *core);                           /* that it is over; with the list's lock */

/* Inside, with the core's lock. */
void lwipy_waiters_signal(lwipy_core *core, lwipy_handle handle, uint32_t events);
void lwipy_waiters_begin(lwipy_core *core);                              /* a turn */
void lwipy_waiters_serve(lwipy_core *core);                              /* does their errands, at its end */
void lwipy_waiters_return(lwipy_core *core);                             /* wakes them, when its frames have left */

#endif /* LWIPY_WAITERS_H */
