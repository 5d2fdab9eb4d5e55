/*
 * Descriptors of Python's that the core sleeps on: listening sockets, connects in progress.
 *
 * Theory of operation. They are in the poller's set beside the links' descriptors, under numbers of Python's. What a
 * turn finds ready is noted, and Python fetches it. Readiness is by level, so what is not noted or not fetched now is
 * found again.
 *
 * Invariant: a number is noted at most once.
 */
#include "core.h"
#include "link.h"
#include "poller.h"

#include <string.h>

static int ready_watches[LWIPY_READY_ROOM], ready_watch_count;

void
lwipy_watch_is_ready(int number)
{
  int i;
  for (i = 0; i < ready_watch_count; i++) {
    if (ready_watches[i] == number) {
      return;
    }
  }
  /* One too many is no loss: it will be reported again. */
  if (ready_watch_count < LWIPY_READY_ROOM) {
    ready_watches[ready_watch_count++] = number;
    lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_WATCHED);
  }
}

int
core_watch(int fd, int number, int write)
{
  return lwipy_poller_set(lwipy_self, fd, LWIPY_TAG_WATCH(number), write ? LWIPY_POLL_OUT : LWIPY_POLL_IN);
}

int
core_unwatch(int fd)
{
  lwipy_poller_unset(lwipy_self, fd);
  return 0;
}

int
core_watched(int *out, int room)
{
  int count = LWIP_MIN(room, ready_watch_count);
  memcpy(out, ready_watches, (size_t)count * sizeof(*out));
  ready_watch_count -= count;
  memmove(ready_watches, ready_watches + count, (size_t)ready_watch_count * sizeof(*out));
  if (ready_watch_count == 0) {
    lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_WATCHED);
  }
  return count;
}
