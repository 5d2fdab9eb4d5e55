/*
 * What the cores that steer one interface's frames share: steer_shared.c.
 */
#ifndef LWIPY_STEER_SHARED_H
#define LWIPY_STEER_SHARED_H

#include <stdint.h>

struct lwipy_shared;

void lwipy_shared_hold(struct lwipy_shared *shared);     /* one more has it; lwipy_shared_drop() lets go */
int lwipy_shared_pinned(struct lwipy_shared *shared, uint64_t hash);   /* the member, or -1 */
int lwipy_shared_pin(struct lwipy_shared *shared, uint64_t hash, int member);   /* 1: it was not pinned so far */
void lwipy_shared_unpin(struct lwipy_shared *shared, uint64_t hash);
void lwipy_shared_wire(struct lwipy_shared *shared, int member, int on);
int lwipy_shared_first(struct lwipy_shared *shared);     /* the first member that has a wire; 0 when none has */

#endif /* LWIPY_STEER_SHARED_H */
