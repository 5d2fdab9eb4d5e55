/*
 * Whoever waits drives: a thread that waits for an endpoint takes turns of the core itself, without another thread in
 * between.
 *
 * Theory of operation. A stack that a thread drives has one role to give: the one of driving, which is taking turns and
 * sleeping in the poller. A thread that has to wait for an endpoint (lwipy_wait) takes the role where it is free, and
 * leads: the frame that it waits for wakes it, and nobody else. Where another thread leads already it follows: it sleeps
 * on a bell of its own, which is rung when there are news for it (waiters.c), or to hand it the role. Where the driver's
 * own thread drives (lwipy_serve), it is asked to leave off. An endpoint that is `quiet` has no news for Python at all
 * (endpoints.c).
 *
 * The driver's thread does what only Python can, and drives while no thread waits. It does not fight for the role: it
 * looks every PAUSE whether the role has lain unused since its last look, and takes it only then; so what comes between
 * two waits of a program is served by the next wait, or PAUSE to two of it later (LONG_PAUSE, where the program waits
 * so often that the look itself would be felt). While one leader stays in its sleep, the driver's thread sleeps without
 * an end, and the leader wakes it when it leaves.
 *
 * Among many who wait the role would change hands with nearly every frame, each time to a thread that has to be woken
 * first, on whatever processor. So in a crowd the driver's thread claims the role, is given it at the next change, and
 * keeps it until the crowd is gone.
 *
 * Invariants:
 * 1. `role` and a waiter's `leads` are written under the lock of the list (waiters.c).
 * 2. At most one thread has the role. It hands it on when it leaves: to the driver's thread, if that claims it, else to a
 *    waiter that has no news, else to nobody; then the driver's thread is awake, or will be within LONG_PAUSE.
 * 3. A claim ends before the driver's thread goes back to Python.
 * 4. A leader that sleeps is woken by the poller's wake-up, any other waiter by its bell. It heeds what the core has to
 *    do; what Python has to do goes to the driver's thread, which alone runs callbacks.
 */
#include "waiters.h"
#include "core.h"
#include "errand.h"
#include "loop.h"
#include "poller.h"

#define PAUSE 1000                 /* microseconds */
#define BUSY  8                    /* takings and givings in a PAUSE from which on the next one is: */
#define LONG_PAUSE 4000
#define CROWD_LASTS 50000          /* threads that stream come and go: not always do many wait at once */

enum { NOBODY = 0, DRIVER = 1, WAITER = 2 };

void
lwipy_leader_failed(lwipy_core *core)
{
  lwipy_mutex_lock(&core->lead.lock);
  lwipy_waiters_tell_all(core);
  lwipy_mutex_unlock(&core->lead.lock);
  lwipy_loop_interrupt(core);
  lwipy_leader_tell_driver(core);
}

void
lwipy_leader_tell_driver(lwipy_core *core)
{
  lwipy_bell_ring(&core->lead.driver);
}

/* ---- The role ---------------------------------------------------------------------------------------------------- */

void
lwipy_leadership_open(lwipy_core *core, uint32_t without)
{
  core->lead.errands = !(without & LWIPY_WITHOUT_ERRANDS);
  core->lead.crowd = INT64_MIN / 2;
  lwipy_mutex_init(&core->lead.lock);
  lwipy_bell_open(&core->lead.driver);
}

void
lwipy_leadership_close(lwipy_core *core)
{
  lwipy_bell_close(&core->lead.driver);
  lwipy_mutex_destroy(&core->lead.lock);
}

void
lwipy_admit(lwipy_core *core, int on)
{
  lwipy_mutex_lock(&core->lead.lock);
  core->lead.admits = on != 0;
  if (!on) {
    lwipy_waiters_tell_all(core);
  }
  lwipy_mutex_unlock(&core->lead.lock);
}

/* Many threads wait, or did a moment ago. */
static int
is_crowded(const lwipy_core *core)
{
  return lwipy_monotonic() - core->lead.crowd < CROWD_LASTS;
}

int
lwipy_leader_is_at_work(lwipy_core *core)
{
  return core->lead.errands && lwipy_atomic_get(&core->lead.role) != NOBODY && !lwipy_loop_is_asleep(core);
}

static void
lead(lwipy_core *core, struct lwipy_waiter *waiter)
{
  lwipy_atomic_set(&core->lead.role, WAITER);
  core->lead.turns++;
  lwipy_atomic_or(&waiter->leads, 1);
}

/* The caller had the role. */
static void
hand_on(lwipy_core *core)
{
  struct lwipy_waiter *waiter = core->lead.waiters;
  while (waiter != NULL && lwipy_atomic_get(&waiter->news)) {
    waiter = waiter->next;
  }
  lwipy_atomic_and(&core->lead.wanted, 0);
  if (core->lead.claimed) {
    core->lead.turns++;
    lwipy_atomic_set(&core->lead.role, DRIVER);
    lwipy_leader_tell_driver(core);
    return;
  }
  if (waiter != NULL) {
    lead(core, waiter);
    lwipy_bell_ring(&waiter->bell);
    return;
  }
  core->lead.turns += core->lead.role == WAITER;
  lwipy_atomic_set(&core->lead.role, NOBODY);
  if (core->lead.deep) {
    core->lead.deep = 0;
    lwipy_leader_tell_driver(core);
  }
}

static int
take_the_lead(lwipy_core *core, struct lwipy_waiter *waiter)
{
  lwipy_mutex_lock(&core->lead.lock);
  if (core->lead.role == NOBODY) {
    lead(core, waiter);
  } else if (core->lead.role == DRIVER && !is_crowded(core) && !lwipy_atomic_get(&core->lead.wanted)) {
    lwipy_atomic_or(&core->lead.wanted, 1);
    lwipy_loop_interrupt(core);
  }
  lwipy_mutex_unlock(&core->lead.lock);
  return lwipy_atomic_get(&waiter->leads) != 0;
}

/* ---- Waiting ------------------------------------------------------------------------------------------------------- */

static void
leave(lwipy_core *core, struct lwipy_waiter *waiter)
{
  lwipy_waiters_leave(core, waiter);
  if (lwipy_atomic_get(&waiter->leads)) {
    hand_on(core);
  }
  lwipy_mutex_unlock(&core->lead.lock);
}

static int64_t
left_until(int64_t end)
{
  int64_t left = end == LWIPY_NEVER ? -1 : end - lwipy_monotonic();
  return end != LWIPY_NEVER && left < 0 ? 0 : left;
}

static int64_t
sooner(int64_t a, int64_t b)
{
  return a < 0 ? b : b < 0 ? a : LWIP_MIN(a, b);
}

/* The link that woke a leader last may have the next answer already: to look costs less than to ask the poller. */
static int
presume(const lwipy_core *core, lwipy_readiness *ready)
{
  ready[0] = core->lead.heard;
  return LWIPY_TAG_KIND(ready[0].tag) == LWIPY_TAG_KIND(LWIPY_TAG_LINK(0));
}

/* As lwipy_wait(). */
static int
lead_or_follow(lwipy_core *core, struct lwipy_waiter *waiter, int64_t end)
{
  lwipy_readiness ready[LWIPY_READY_ROOM];
  int count = 0, first = 1;
  for (;;) {
    int64_t wait = -1, left;
    int leads = lwipy_atomic_get(&waiter->leads) || take_the_lead(core, waiter);
    if (leads && first) {
      first = 0;
      count = presume(core, ready);
    }
    if (leads && (wait = lwipy_turn(core, ready, count)) < -1) {
      return (int)wait;
    }
    if (lwipy_atomic_get(&waiter->news)) {
      return 1;
    }
    if ((left = left_until(end)) == 0) {
      return 0;
    }
    count = leads ? lwipy_loop_sleep(core, ready, sooner(wait, left), LWIPY_FOR_CORE, &waiter->news)
                  : lwipy_bell_wait(&waiter->bell, left);
    if (count < 0) {
      return 2;
    }
    count = leads ? count : 0;
    if (count == 1) {
      core->lead.heard = ready[0];
    }
  }
}

static int
wait_as(lwipy_core *core, struct lwipy_waiter *waiter, int64_t microseconds)
{
  int64_t end = microseconds < 0 ? LWIPY_NEVER : lwipy_monotonic() + microseconds;
  int result = LWIPY_ENOTSUP, is_untried = waiter->errand != NULL && waiter->errand->untried;
  lwipy_bell_open(&waiter->bell);
  if (lwipy_waiters_join(core, waiter)) {
    result = is_untried ? 0 : lwipy_missed(core, waiter->handle, (int)waiter->wanted);
    if (is_untried) {
      lwipy_notify(core, LWIPY_HAS_ERRANDS);
    }
    if (result == 0) {
      result = lead_or_follow(core, waiter, end);
    }
    leave(core, waiter);
  }
  lwipy_bell_close(&waiter->bell);
  return result;
}

int
lwipy_wait(lwipy_core *core, lwipy_handle handle, int wanted, int64_t microseconds)
{
  struct lwipy_waiter waiter = { .handle = handle, .wanted = (uint32_t)wanted };
  return wait_as(core, &waiter, microseconds);
}

int
lwipy_wait_errand(lwipy_core *core, lwipy_handle handle, lwipy_errand *errand, int64_t microseconds, int64_t *result)
{
  struct lwipy_waiter waiter = { .handle = handle, .wanted = (uint32_t)errand->wanted,
                                 .errand = core->lead.errands ? errand : NULL, .result = LWIPY_EWOULDBLOCK };
  int why = wait_as(core, &waiter, microseconds);
  *result = waiter.result;
  return why;
}

/* ---- The driver's thread --------------------------------------------------------------------------------------- */

/* Why it has to go back to Python; 0 for no reason. */
static int
python_is_needed(lwipy_core *core)
{
  uint32_t news = lwipy_atomic_get(&core->attention) & LWIPY_FOR_PYTHON;
  if (news != 0) {
    lwipy_wake_clear(core);
  }
  return (int)news;
}

/* Until Python is needed, the time is over, or a waiting thread wants to drive. */
static int
drive(lwipy_core *core, int64_t end)
{
  lwipy_readiness ready[LWIPY_READY_ROOM];
  int count = 0;
  for (;;) {
    int64_t wait = lwipy_turn(core, ready, count), left = left_until(end);
    int news = wait < -1 ? (int)wait : python_is_needed(core);
    if (news != 0 || left == 0 || lwipy_atomic_get(&core->lead.wanted)) {
      return news;
    }
    count = lwipy_loop_sleep(core, ready, sooner(wait, left), LWIPY_FOR_DRIVER, &core->lead.wanted);
    count = LWIP_MAX(count, 0);
  }
}

/* Takes the role, if it was handed on to it or nobody has used it for a while; or says for how long to leave it alone. */
static int
may_drive(lwipy_core *core, int64_t *pause)
{
  struct lwipy_leadership *lead = &core->lead;
  int unused, busy, takes;
  lwipy_mutex_lock(&lead->lock);
  unused = lead->turns == lead->seen;
  busy = lead->turns - lead->seen >= BUSY;
  takes = lead->role == DRIVER || (lead->role == NOBODY && unused);
  if (takes) {
    lwipy_atomic_set(&lead->role, DRIVER);
  }
  lead->seen = lead->turns;
  lead->deep = lead->role == WAITER && unused;
  lead->claimed = lead->role == WAITER && is_crowded(core);
  *pause = lead->deep ? -1 : busy ? LONG_PAUSE : PAUSE;
  lwipy_mutex_unlock(&lead->lock);
  return takes;
}

/* What it had, or was just given. */
static void
leave_off(lwipy_core *core)
{
  lwipy_mutex_lock(&core->lead.lock);
  core->lead.claimed = 0;
  if (core->lead.role == DRIVER) {
    hand_on(core);
  }
  lwipy_mutex_unlock(&core->lead.lock);
}

int
lwipy_serve(lwipy_core *core, int64_t microseconds)
{
  int64_t end = microseconds < 0 ? LWIPY_NEVER : lwipy_monotonic() + microseconds, left, pause;
  int news = lwipy_failure(core) != NULL ? LWIPY_EFAILED : python_is_needed(core);
  while (news == 0 && (left = left_until(end)) != 0) {
    if (may_drive(core, &pause)) {
      news = drive(core, end);
      leave_off(core);
    } else {
      lwipy_bell_wait(&core->lead.driver, sooner(pause, left));
      news = lwipy_failure(core) != NULL ? LWIPY_EFAILED : python_is_needed(core);
    }
  }
  leave_off(core);
  return news;
}
