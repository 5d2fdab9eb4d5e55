/*
 * What a blocking socket does with the bytes of a connection, in one call: it tries, and waits (leader.c) as long as it
 * has to, without Python in between.
 *
 * A signal ends both early, for Python alone can say what that means. What was sent until then is told, else
 * LWIPY_EINTR. LWIPY_EWOULDBLOCK means that the time is over, LWIPY_ENOTSUP that threads do not wait here (any more).
 */
#include "core.h"

/* 0: it is worth another try, which may tell an error, too; or why not. */
static int
wait_until(lwipy_core *core, lwipy_handle handle, int wanted, int64_t end)
{
  int64_t left = end == LWIPY_NEVER ? -1 : end - lwipy_monotonic();
  int result = end != LWIPY_NEVER && left <= 0 ? 0 : lwipy_wait(core, handle, wanted, left);
  return result == 0 ? LWIPY_EWOULDBLOCK : result == 2 ? LWIPY_EINTR : result == LWIPY_ENOTSUP ? result : 0;
}

static int64_t
end_of(int64_t microseconds)
{
  return microseconds < 0 ? LWIPY_NEVER : lwipy_monotonic() + microseconds;
}

int64_t
lwipy_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int flags, int64_t microseconds)
{
  int64_t end = end_of(microseconds), got;
  int over = 0;
  while ((got = lwipy_tcp_recv(core, handle, buffer, room, flags)) == LWIPY_EWOULDBLOCK && over == 0) {
    over = wait_until(core, handle, LWIPY_READABLE, end);
  }
  return got == LWIPY_EWOULDBLOCK ? over : got;
}

/* Each part that is held takes a reference of its own. */
static int64_t
send_part(lwipy_core *core, lwipy_handle handle, const uint8_t *data, size_t length, lwipy_hold *hold)
{
  int64_t sent;
  if (hold == NULL) {
    return lwipy_tcp_send(core, handle, data, length);
  }
  (void)lwipy_atomic_add(&hold->references, 1);
  sent = lwipy_tcp_send_held(core, handle, data, length, hold);
  if (sent <= 0) {
    (void)lwipy_atomic_add(&hold->references, -1);
  }
  return sent;
}

int64_t
lwipy_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length, int64_t microseconds,
           lwipy_hold *hold)
{
  int64_t end = end_of(microseconds);
  size_t done = 0;
  int over = 0;
  while (over == 0) {
    int64_t sent = send_part(core, handle, (const uint8_t *)data + done, length - done, hold);
    if (sent < 0 && sent != LWIPY_EWOULDBLOCK) {
      return sent;                 /* an error is told once, so it must not be forgotten for what went before it */
    }
    done += sent > 0 ? (size_t)sent : 0;
    if (done == length) {
      break;
    }
    over = wait_until(core, handle, LWIPY_WRITABLE, end);
  }
  return done > 0 || length == 0 ? (int64_t)done : over;
}
