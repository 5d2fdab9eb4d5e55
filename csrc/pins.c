/*
 * The UDP flows of a group's interface that the hash would give to another member than the one they come from (steer.c).
 *
 * Theory of operation. A table of fixed size, of all cores that steer the interface's frames: what a member pins before
 * its datagram leaves is seen by whoever gets the answer. The flow's hash is its place; a newer flow may take an older
 * one's.
 *
 * Invariants:
 * 1. A pin is one word, read and written as a whole: the hash, but for the bits that are its place, and the member.
 * 2. The table goes with the last one that has it.
 */
#include "pins.h"
#include "lwipy.h"
#include "platform.h"

#include <stdlib.h>

#define PINS    1024               /* a power of two, and more than MEMBERS */
#define MEMBERS ((uintptr_t)127)   /* the bits of a word that are the member's number and one */

struct lwipy_pins {
  uint32_t users;
  void *pin[PINS];                 /* NULL: none */
};

struct lwipy_pins *
lwipy_pins_new(void)
{
  struct lwipy_pins *pins = calloc(1, sizeof(*pins));
  if (pins != NULL) {
    pins->users = 1;
  }
  return pins;
}

void
lwipy_pins_hold(struct lwipy_pins *pins)
{
  lwipy_atomic_add(&pins->users, 1);
}

void
lwipy_pins_drop(struct lwipy_pins *pins)
{
  if (lwipy_atomic_add(&pins->users, -1) == 0) {
    free(pins);
  }
}

static void **
place(struct lwipy_pins *pins, uint64_t hash)
{
  return &pins->pin[hash & (PINS - 1)];
}

static int
is_of(const void *pin, uint64_t hash)
{
  return pin != NULL && (((uintptr_t)pin ^ (uintptr_t)hash) & ~MEMBERS) == 0;
}

int
lwipy_pins_find(struct lwipy_pins *pins, uint64_t hash)
{
  void *pin = lwipy_atomic_get_pointer(place(pins, hash));
  return is_of(pin, hash) ? (int)((uintptr_t)pin & MEMBERS) - 1 : -1;
}

int
lwipy_pins_set(struct lwipy_pins *pins, uint64_t hash, int member)
{
  void *pin = (void *)(((uintptr_t)hash & ~MEMBERS) | ((uintptr_t)member + 1));
  void *before = lwipy_atomic_get_pointer(place(pins, hash));
  return before != pin && !is_of(lwipy_atomic_swap(place(pins, hash), pin), hash);
}

void
lwipy_pins_clear(struct lwipy_pins *pins, uint64_t hash)
{
  void *pin = lwipy_atomic_get_pointer(place(pins, hash));
  if (is_of(pin, hash)) {
    (void)lwipy_atomic_replace(place(pins, hash), pin, NULL);
  }
}
