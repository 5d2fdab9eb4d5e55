/*
 * The threads that wait for an endpoint: what they are told, and what is done for them.
 *
 * Theory of operation. Each waiting thread is on a list, with what it waits for. News of an endpoint are told in C, by
 * lwipy_signal(): the thread is woken, by its bell or out of the poller. A thread that waits for bytes, or for room for
 * its own, has an errand (errand.c): at the end of each turn that is done for those who have news or have just come,
 * and only who has it done is woken; not before the frames of the turn have left, for the peer, which waits for its
 * acknowledgements, has the longer way.
 *
 * Invariants:
 * 1. The list, and what waiters are told, change with the list's lock, which is taken behind the core's and held
 *    neither in a sleep nor while an errand is done.
 * 2. A waiter is on the list before it looks whether it missed its event (lwipy_missed), or before its errand is looked
 *    for (LWIPY_HAS_ERRANDS); and whoever has an event looks at the list. It is off the list before it returns: it lies
 *    on its thread's stack.
 * 3. An errand is the core's while it hangs on a listed waiter: its thread takes it back with the core's lock held.
 */
#include "waiters.h"
#include "core.h"
#include "errand.h"
#include "loop.h"

#define CROWD 3                    /* threads that wait at once */
#define NEWS  (~LWIPY_WAITING_OVER)

int64_t core_errand_run(lwipy_handle handle, lwipy_errand *errand);

static void
give_news(lwipy_core *core, struct lwipy_waiter *waiter, uint32_t news)
{
  lwipy_atomic_or(&waiter->news, news);
  if (!(news & LWIPY_WAITING_OVER) && waiter->errand != NULL && core->lead.turning) {
    return;                        /* it is served when the turn ends */
  }
  if (lwipy_atomic_get(&waiter->leads)) {
    lwipy_loop_interrupt(core);
  } else {
    lwipy_bell_ring(&waiter->bell);
  }
}

void
lwipy_waiters_signal(lwipy_core *core, lwipy_handle handle, uint32_t events)
{
  struct lwipy_waiter *waiter;
  if (lwipy_atomic_get(&core->lead.waiting) == 0) {
    return;
  }
  lwipy_mutex_lock(&core->lead.lock);
  for (waiter = core->lead.waiters; waiter != NULL; waiter = waiter->next) {
    if (waiter->handle == handle && (events & (waiter->wanted | ~(uint32_t)(LWIPY_READABLE | LWIPY_WRITABLE)))) {
      give_news(core, waiter, events);
    }
  }
  lwipy_mutex_unlock(&core->lead.lock);
}

void
lwipy_waiters_tell_all(lwipy_core *core)
{
  struct lwipy_waiter *waiter;
  for (waiter = core->lead.waiters; waiter != NULL; waiter = waiter->next) {
    give_news(core, waiter, LWIPY_WAITING_OVER);
  }
}

/* ---- The list ------------------------------------------------------------------------------------------------------ */

int
lwipy_waiters_join(lwipy_core *core, struct lwipy_waiter *waiter)
{
  struct lwipy_leadership *lead = &core->lead;
  int admitted;
  lwipy_mutex_lock(&lead->lock);
  if ((admitted = lead->admits != 0)) {
    waiter->next = lead->waiters;
    waiter->link = &lead->waiters;
    if (waiter->next != NULL) {
      waiter->next->link = &waiter->next;
    }
    lead->waiters = waiter;
    if (lwipy_atomic_add(&lead->waiting, 1) >= CROWD) {
      lead->crowd = lwipy_monotonic();
    }
  }
  lwipy_mutex_unlock(&lead->lock);
  return admitted;
}

void
lwipy_waiters_leave(lwipy_core *core, struct lwipy_waiter *waiter)
{
  lwipy_mutex_lock(&core->lead.lock);
  if (waiter->errand != NULL) {
    lwipy_mutex_unlock(&core->lead.lock);
    lwipy_mutex_lock(&core->lock);
    lwipy_mutex_lock(&core->lead.lock);
    lwipy_mutex_unlock(&core->lock);
  }
  *waiter->link = waiter->next;
  if (waiter->next != NULL) {
    waiter->next->link = waiter->link;
  }
  (void)lwipy_atomic_add(&core->lead.waiting, -1);
}

/* ---- Errands ------------------------------------------------------------------------------------------------------- */

void
lwipy_waiters_begin(lwipy_core *core)
{
  core->lead.turning = 1;
  if (lwipy_atomic_get(&core->attention) & LWIPY_HAS_ERRANDS) {
    lwipy_atomic_and(&core->attention, ~(uint32_t)LWIPY_HAS_ERRANDS);
  }
}

/* As far as it goes now. The list's lock is given up meanwhile. */
static int64_t
do_errand(lwipy_core *core, struct lwipy_waiter *waiter)
{
  int64_t result;
  lwipy_mutex_unlock(&core->lead.lock);
  do {
    lwipy_atomic_and(&waiter->news, ~NEWS);
    result = core_errand_run(waiter->handle, waiter->errand);
  } while (result == LWIPY_EWOULDBLOCK && (lwipy_atomic_get(&waiter->news) & NEWS));
  lwipy_mutex_lock(&core->lead.lock);
  return result;
}

static void
serve_all(lwipy_core *core)
{
  struct lwipy_waiter *waiter;
  int64_t result;
  lwipy_mutex_lock(&core->lead.lock);
  for (waiter = core->lead.waiters; waiter != NULL; waiter = waiter->next) {
    if (waiter->errand != NULL && (waiter->errand->untried || (lwipy_atomic_get(&waiter->news) & NEWS)) &&
        (result = do_errand(core, waiter)) != LWIPY_EWOULDBLOCK) {
      waiter->result = result;
      waiter->errand = NULL;
      waiter->is_to_return = core->lead.returning = 1;
    }
  }
  lwipy_mutex_unlock(&core->lead.lock);
}

void
lwipy_waiters_serve(lwipy_core *core)
{
  if (lwipy_atomic_get(&core->lead.waiting) > 0) {
    serve_all(core);
  }
  core->lead.turning = 0;
}

void
lwipy_waiters_return(lwipy_core *core)
{
  struct lwipy_waiter *waiter;
  if (!core->lead.returning) {
    return;
  }
  lwipy_mutex_lock(&core->lead.lock);
  for (waiter = core->lead.waiters; waiter != NULL; waiter = waiter->next) {
    if (waiter->is_to_return) {
      waiter->is_to_return = 0;
      give_news(core, waiter, waiter->wanted);
    }
  }
  core->lead.returning = 0;
  lwipy_mutex_unlock(&core->lead.lock);
}
