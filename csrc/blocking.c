/*
 * What a blocking socket does with the bytes of a connection, in one call: it tries, and waits (leader.c) as long as it
 * has to, without Python in between. While another thread is at work in the core it does not try: that one does it.
 *
 * A signal ends both early, for Python alone can say what that means. What was sent until then is told, else
 * LWIPY_EINTR. LWIPY_EWOULDBLOCK means that the time is over, LWIPY_ENOTSUP that threads do not wait here (any more).
 */
#include "core.h"
#include "errand.h"

/* Whoever drives may have done it meanwhile. 0: it is worth another try, which may tell an error, too; or why not. */
static int64_t
wait_until(lwipy_core *core, lwipy_handle handle, lwipy_errand *errand, int64_t end, int64_t *result)
{
  int64_t left = end == LWIPY_NEVER ? -1 : end - lwipy_monotonic();
  int why = end != LWIPY_NEVER && left <= 0 ? 0 : lwipy_wait_errand(core, handle, errand, left, result);
  return why == 0 ? LWIPY_EWOULDBLOCK : why == 2 ? LWIPY_EINTR : why == LWIPY_ENOTSUP ? why : 0;
}

/* What became of it, or why it is not over. */
static int64_t
run(lwipy_core *core, lwipy_handle handle, lwipy_errand *errand, int64_t microseconds)
{
  int64_t end = microseconds < 0 ? LWIPY_NEVER : lwipy_monotonic() + microseconds;
  int64_t result = LWIPY_EWOULDBLOCK, over = 0;
  errand->untried = 1;
  if (microseconds == 0 || !lwipy_leader_is_at_work(core)) {
    result = lwipy_errand_run(core, handle, errand);
  }
  while (result == LWIPY_EWOULDBLOCK && over == 0) {
    over = wait_until(core, handle, errand, end, &result);
    if (result == LWIPY_EWOULDBLOCK && (over == 0 || errand->untried)) {
      result = lwipy_errand_run(core, handle, errand);
    }
  }
  return result == LWIPY_EWOULDBLOCK ? over : result;
}

int64_t
lwipy_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int flags, int64_t microseconds)
{
  lwipy_errand errand = { .wanted = LWIPY_READABLE, .bytes = buffer, .length = room, .flags = flags };
  return run(core, handle, &errand, microseconds);
}

int64_t
lwipy_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length, int64_t microseconds,
           lwipy_hold *hold)
{
  lwipy_errand errand = { .wanted = LWIPY_WRITABLE, .bytes = (uint8_t *)(uintptr_t)data, .length = length,
                          .hold = hold };
  int64_t result = run(core, handle, &errand, microseconds);
  int is_unfinished = result == LWIPY_EWOULDBLOCK || result == LWIPY_EINTR || result == LWIPY_ENOTSUP;
  return is_unfinished && errand.done > 0 ? (int64_t)errand.done : result;
}
