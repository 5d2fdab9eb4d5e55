/*
 * Deadlines of single connections, finer than lwIP's ticks: see deadlines.c.
 */
#ifndef LWIPY_DEADLINES_H
#define LWIPY_DEADLINES_H

#include "core.h"

struct lwipy_deadline {
  int64_t due;                     /* absolute; LWIPY_NEVER: not wanted */
  int64_t key;                     /* its place in the heap says so; never later than `due` */
  u32_t place;                     /* in the heap, from 1; 0: not there */
  void (*run)(struct lwipy_deadline *deadline);
};

/* `due` may be LWIPY_NEVER. Without memory for the heap nothing is run: whoever sets one has another way to go on. */
void lwipy_deadline_set(struct lwipy_deadline *deadline, int64_t due);
int64_t lwipy_deadlines_next(void);
void lwipy_deadlines_run(void);

#endif /* LWIPY_DEADLINES_H */
