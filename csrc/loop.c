/*
 * Driving a core: run what is due, sleep, move frames, and go back to Python only for what Python has to do.
 *
 * Theory of operation. One turn (core.c) moves the frames of the links that are ready and runs what is due, under the
 * core's lock. lwipy_run() takes turns and sleeps between them without the lock, in one system call on the wake-up,
 * the links' descriptors and the watched ones (poller.h). An event loop watches that poller's descriptor and takes one
 * turn when it is readable (lwipy_poll). Whoever leaves work behind sets a bit in the attention word and wakes the
 * driver, if that one sleeps; an event loop says once that it will sleep by itself (lwipy_wake_fd), and from then on
 * every notification from outside wakes it.
 *
 * Invariants:
 * 1. The sleeper sets `sleeping` before it looks at the attention word for the last time, and the notifier sets the
 *    word before it looks at `sleeping`; so one of the two sees the other, and no wake-up is lost.
 * 2. The core's lock is never held in a sleep.
 * 3. LWIPY_WOKEN belongs to whoever drives: lwipy_run() and lwipy_serve() clear it as they return, lwipy_wake_clear()
 *    at once.
 */
#include "loop.h"
#include "core.h"
#include "leader.h"
#include "poller.h"

enum { AWAKE = 0, ASLEEP = 1, WATCHED = 2 };

/* ---- Waking ---------------------------------------------------------------------------------------------------- */

void
lwipy_notify(lwipy_core *core, uint32_t bits)
{
  uint32_t before = lwipy_atomic_get(&core->attention);
  lwipy_atomic_or(&core->attention, bits);
  if ((before & bits) != bits && lwipy_atomic_get(&core->sleeping) != AWAKE) {
    lwipy_poller_kick(core);
  }
}

int
lwipy_loop_is_asleep(lwipy_core *core)
{
  return (lwipy_atomic_get(&core->sleeping) & ASLEEP) != 0;
}

void
lwipy_loop_interrupt(lwipy_core *core)
{
  if (lwipy_loop_is_asleep(core)) {
    lwipy_poller_kick(core);
  }
}

void
lwipy_loop_leave(lwipy_core *core)
{
  uint32_t attention = lwipy_atomic_get(&core->attention);
  if (attention == 0) {
    return;
  }
  if ((lwipy_atomic_get(&core->sleeping) & ASLEEP) && (attention & lwipy_atomic_get(&core->heeds))) {
    lwipy_poller_kick(core);
  }
  if ((attention & LWIPY_FOR_PYTHON) && lwipy_atomic_get(&core->lead.admits)) {
    lwipy_leader_tell_driver(core);
  }
}

void
lwipy_wake(lwipy_core *core)
{
  lwipy_atomic_or(&core->attention, LWIPY_WOKEN);
  if (lwipy_atomic_get(&core->sleeping) != AWAKE) {
    lwipy_poller_kick(core);
  }
  lwipy_leader_tell_driver(core);
}

int
lwipy_wake_fd(lwipy_core *core)
{
  int fd;
  lwipy_mutex_lock(&core->lock);
  fd = lwipy_poller_fd(core);
  lwipy_mutex_unlock(&core->lock);
  if (fd >= 0) {
    lwipy_atomic_or(&core->sleeping, WATCHED);
  }
  return fd;
}

/* ---- Turns ----------------------------------------------------------------------------------------------------- */

int64_t
lwipy_poll(lwipy_core *core)
{
  lwipy_readiness ready[LWIPY_READY_ROOM];
  int i, count = lwipy_poller_collect(core, ready);
  count = LWIP_MAX(count, 0);
  for (i = 0; i < count; i++) {
    if (ready[i].tag == LWIPY_TAG_WAKE && (lwipy_atomic_get(&core->sleeping) & ASLEEP)) {
      lwipy_poller_kick(core);      /* it was meant for the sleeper, and is reported only once */
    }
  }
  return lwipy_turn(core, ready, count);
}

void
lwipy_wake_clear(lwipy_core *core)
{
  lwipy_atomic_and(&core->attention, ~(uint32_t)LWIPY_WOKEN);
}

int
lwipy_loop_sleep(lwipy_core *core, lwipy_readiness *ready, int64_t microseconds, uint32_t heeds, const uint32_t *call)
{
  int count;
  if (microseconds == 0) {
    return lwipy_poller_collect(core, ready);
  }
  lwipy_atomic_set(&core->heeds, heeds);
  lwipy_atomic_or(&core->sleeping, ASLEEP);
  count = (lwipy_atomic_get(&core->attention) & heeds) || (call != NULL && lwipy_atomic_get(call))
            ? lwipy_poller_collect(core, ready)
            : lwipy_poller_wait(core, ready, microseconds);
  lwipy_atomic_and(&core->sleeping, ~(uint32_t)ASLEEP);
  return count;
}

int
lwipy_run(lwipy_core *core, int64_t microseconds)
{
  lwipy_readiness ready[LWIPY_READY_ROOM];
  int count = lwipy_poller_collect(core, ready);
  int64_t end = microseconds < 0 ? LWIPY_NEVER : lwipy_monotonic() + microseconds;
  for (;;) {
    uint32_t news;
    int64_t wait = lwipy_turn(core, ready, LWIP_MAX(count, 0));
    if (wait < -1) {
      return (int)wait;
    }
    news = lwipy_atomic_get(&core->attention) & LWIPY_FOR_PYTHON;
    if (news != 0) {
      lwipy_atomic_and(&core->attention, ~(uint32_t)LWIPY_WOKEN);
      return (int)news;
    }
    if (end != LWIPY_NEVER) {
      int64_t left = end - lwipy_monotonic();
      if (left <= 0) {
        return 0;
      }
      wait = wait < 0 ? left : LWIP_MIN(wait, left);
    }
    count = lwipy_loop_sleep(core, ready, wait, LWIPY_FOR_DRIVER, NULL);
  }
}
