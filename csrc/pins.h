/*
 * UDP flows of a group that stay with the member that began them: pins.c.
 */
#ifndef LWIPY_PINS_H
#define LWIPY_PINS_H

#include <stdint.h>

struct lwipy_pins;

void lwipy_pins_hold(struct lwipy_pins *pins);     /* one more has them; lwipy_pins_drop() lets go */
int lwipy_pins_find(struct lwipy_pins *pins, uint64_t hash);   /* the member, or -1 */
int lwipy_pins_set(struct lwipy_pins *pins, uint64_t hash, int member);   /* 1: it was not pinned so far */
void lwipy_pins_clear(struct lwipy_pins *pins, uint64_t hash);

#endif /* LWIPY_PINS_H */
