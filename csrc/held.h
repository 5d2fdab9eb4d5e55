/*
 * Memory of the application that is sent from: see held.c, and lend.c for what of it crosses a wire.
 */
#ifndef LWIPY_HELD_H
#define LWIPY_HELD_H

#include "core.h"

struct lwipy_held;
struct lwipy_sending;

/* A piece of such memory. */
struct lwipy_part {
  lwipy_hold *hold;
  const u8_t *data;
  u32_t length;
};

static inline void
lwipy_hold_keep(lwipy_hold *hold)
{
  (void)lwipy_atomic_add(&hold->references, 1);
}

void lwipy_hold_drop(lwipy_hold *hold);               /* who drops the last reference sends it home */

/* A note is the caller's until it is added, released or discarded. */
struct lwipy_held *lwipy_held_new(lwipy_hold *hold, const void *data);   /* NULL: no memory */
void lwipy_held_discard(struct lwipy_held *held);     /* the hold stays as it is */
void lwipy_held_release(struct lwipy_held *held);
void lwipy_held_add(struct lwipy_sending *sending, struct lwipy_held *held, u32_t start, u32_t end);
void lwipy_held_acked(struct lwipy_sending *sending); /* something may have been acknowledged */
void lwipy_held_clear(struct lwipy_sending *sending);
/* Where these bytes of the stream lie, in at most `room` parts: how many; 0: not all of them are held, or in too many. */
u32_t lwipy_held_find(struct lwipy_sending *sending, u32_t seq, u32_t length, struct lwipy_part *parts, u32_t room);

void lwipy_held_settle(void);                         /* at the end of every call: what was released is dropped */
void lwipy_held_end(void);                            /* the core is closed */

#endif /* LWIPY_HELD_H */
