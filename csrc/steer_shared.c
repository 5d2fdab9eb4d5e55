/*
 * What the cores share that steer one interface's frames (steer.c): who of the members has a wire, and the pins.
 *
 * Theory of operation. A pin is a UDP flow that the hash would give to another member than the one it comes from. The
 * table has a fixed size: a flow's hash is its place, and a newer flow may take an older one's. What a member pins
 * before its datagram leaves is seen by whoever gets the answer. Of the members, each with a link of its own, the first
 * that has a wire speaks for all (steer.c).
 *
 * Invariants:
 * 1. A pin is one word, read and written as a whole: the hash, but for the bits that are its place, and the member.
 * 2. A member writes its own `wired` only, as one word.
 * 3. What is shared goes with the last core, or object of Python, that holds it.
 */
#include "steer_shared.h"
#include "lwipy.h"
#include "platform.h"

#include <stdlib.h>

#define PINS    1024               /* a power of two, and more than MEMBERS */
#define MEMBERS ((uintptr_t)127)   /* the bits of a word that are the member's number and one */

struct lwipy_shared {
  uint32_t users;
  uint32_t wired[LWIPY_STEER_MOST];
  void *pin[PINS];                 /* NULL: none */
};

struct lwipy_shared *
lwipy_shared_new(void)
{
  struct lwipy_shared *shared = calloc(1, sizeof(*shared));
  if (shared != NULL) {
    shared->users = 1;
  }
  return shared;
}

void
lwipy_shared_hold(struct lwipy_shared *shared)
{
  lwipy_atomic_add(&shared->users, 1);
}

void
lwipy_shared_drop(struct lwipy_shared *shared)
{
  if (lwipy_atomic_add(&shared->users, -1) == 0) {
    free(shared);
  }
}

static void **
place(struct lwipy_shared *shared, uint64_t hash)
{
  return &shared->pin[hash & (PINS - 1)];
}

static int
is_of(const void *pin, uint64_t hash)
{
  return pin != NULL && (((uintptr_t)pin ^ (uintptr_t)hash) & ~MEMBERS) == 0;
}

int
lwipy_shared_pinned(struct lwipy_shared *shared, uint64_t hash)
{
  void *pin = lwipy_atomic_get_pointer(place(shared, hash));
  return is_of(pin, hash) ? (int)((uintptr_t)pin & MEMBERS) - 1 : -1;
}

int
lwipy_shared_pin(struct lwipy_shared *shared, uint64_t hash, int member)
{
  void *pin = (void *)(((uintptr_t)hash & ~MEMBERS) | ((uintptr_t)member + 1));
  void *before = lwipy_atomic_get_pointer(place(shared, hash));
  return before != pin && !is_of(lwipy_atomic_swap(place(shared, hash), pin), hash);
}

void
lwipy_shared_unpin(struct lwipy_shared *shared, uint64_t hash)
{
  void *pin = lwipy_atomic_get_pointer(place(shared, hash));
  if (is_of(pin, hash)) {
    (void)lwipy_atomic_replace(place(shared, hash), pin, NULL);
  }
}

void
lwipy_shared_wire(struct lwipy_shared *shared, int member, int on)
{
  lwipy_atomic_set(&shared->wired[member], (uint32_t)on);
}

int
lwipy_shared_first(struct lwipy_shared *shared)
{
  int i;
  for (i = 0; i < LWIPY_STEER_MOST; i++) {
    if (lwipy_atomic_get(&shared->wired[i])) {
      return i;
    }
  }
  return 0;
}
