/*
 * Deadlines of single connections: a binary heap, so that thousands of them cost nothing until they are due.
 *
 * Theory of operation. Nearly every acknowledgement moves its connection's deadline later, and few deadlines are ever
 * reached. So a later time is only noted (`due`), and the place in the heap keeps the earlier one (`key`); when that is
 * reached, the deadline sinks to where it belongs. An earlier time, or none at all, changes the heap at once.
 *
 * Invariants:
 * 1. For each deadline in the heap key <= due, and no key is less than its parent's.
 * 2. A deadline that is not wanted (LWIPY_NEVER) is not in the heap: an idle connection wakes nobody.
 * 3. run() is called with its deadline out of the heap; it may set any deadline, its own too.
 */
#include "deadlines.h"

#include <string.h>

#include "lwip/mem.h"

#define ROUNDS 10000               /* of one call: deadlines that set themselves to now may not hold the core */

#define FIRST_ROOM 16

static struct lwipy_deadline *first_heap[FIRST_ROOM + 1];
static struct lwipy_deadline **heap = first_heap;   /* from 1 */
static u32_t count, room = FIRST_ROOM;

static void
put(u32_t place, struct lwipy_deadline *deadline)
{
  heap[place] = deadline;
  deadline->place = place;
}

static void
rise(u32_t place, struct lwipy_deadline *deadline)
{
  while (place > 1 && heap[place / 2]->key > deadline->key) {
    put(place, heap[place / 2]);
    place /= 2;
  }
  put(place, deadline);
}

static void
sink(u32_t place, struct lwipy_deadline *deadline)
{
  while (2 * place <= count) {
    u32_t child = 2 * place;
    if (child < count && heap[child + 1]->key < heap[child]->key) {
      child++;
    }
    if (heap[child]->key >= deadline->key) {
      break;
    }
    put(place, heap[child]);
    place = child;
  }
  put(place, deadline);
}

static int
grow(void)
{
  u32_t more = 2 * room;
  struct lwipy_deadline **larger = mem_malloc((more + 1) * sizeof(*larger));
  if (larger == NULL) {
    return -1;
  }
  memcpy(larger, heap, (room + 1) * sizeof(*larger));
  if (heap != first_heap) {
    mem_free(heap);
  }
  heap = larger;
  room = more;
  return 0;
}

static void
shrink(void)
{
  mem_free(heap);
  heap = first_heap;
  room = FIRST_ROOM;
}

static void
take_out(struct lwipy_deadline *deadline)
{
  u32_t place = deadline->place;
  struct lwipy_deadline *last = heap[count--];
  deadline->place = 0;
  if (last != deadline) {
    if (place > 1 && heap[place / 2]->key > last->key) {
      rise(place, last);
    } else {
      sink(place, last);
    }
  }
  if (count == 0 && heap != first_heap) {
    shrink();
  }
}

void
lwipy_deadline_set(struct lwipy_deadline *deadline, int64_t due)
{
  deadline->due = due;
  if (due == LWIPY_NEVER) {
    if (deadline->place != 0) {
      take_out(deadline);
    }
  } else if (deadline->place != 0) {
    if (due < deadline->key) {
      deadline->key = due;
      rise(deadline->place, deadline);
    }
  } else if (count < room || grow() == 0) {
    deadline->key = due;
    rise(++count, deadline);
  }
}

int64_t
lwipy_deadlines_next(void)
{
  return count > 0 ? heap[1]->key : LWIPY_NEVER;
}

void
lwipy_deadlines_run(void)
{
  int64_t now;
  int round;
  if (count == 0 || heap[1]->key > (now = lwipy_now())) {
    return;
  }
  lwipy_timers_stir();
  for (round = 0; count > 0 && heap[1]->key <= now && round < ROUNDS; round++) {
    struct lwipy_deadline *first = heap[1];
    if (first->due > now) {
      first->key = first->due;
      sink(1, first);
    } else {
      take_out(first);
      first->due = LWIPY_NEVER;
      first->run(first);
    }
  }
}
