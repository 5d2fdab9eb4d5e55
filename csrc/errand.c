/*
 * Receiving and sending on behalf of a thread that waits.
 *
 * Theory of operation. A thread that waits for bytes says where they shall go, one that waits for room says what is to
 * be sent. Whoever drives (leader.c) does that for it in the same turn in which the bytes or the room came: they are
 * still in that processor's cache, and the thread is woken once, when there is nothing left but to return. If it looked
 * for itself, it would wait for the core's lock as long as a turn takes, again and again, and what it copies would go
 * from one processor's cache to another's.
 *
 * Invariants:
 * 1. It runs inside the core, with its lock; so an errand is either this turn's or, once taken back with the lock
 *    held, its thread's.
 * 2. LWIPY_EWOULDBLOCK means that it has to go on, and that its event is armed.
 */
#include "errand.h"
#include "core.h"

int64_t core_tcp_recv(lwipy_handle handle, void *buffer, size_t room, int flags);
int64_t core_tcp_send(lwipy_handle handle, const void *data, size_t length);
int64_t core_tcp_send_held(lwipy_handle handle, const void *data, size_t length, lwipy_hold *hold);
int64_t core_errand_run(lwipy_handle handle, lwipy_errand *errand);

/* Each part that is held takes a reference of its own. */
static int64_t
send_part(lwipy_handle handle, const u8_t *data, size_t length, lwipy_hold *hold)
{
  int64_t sent;
  if (hold == NULL) {
    return core_tcp_send(handle, data, length);
  }
  (void)lwipy_atomic_add(&hold->references, 1);
  sent = core_tcp_send_held(handle, data, length, hold);
  if (sent <= 0) {
    (void)lwipy_atomic_add(&hold->references, -1);
  }
  return sent;
}

int64_t
core_errand_run(lwipy_handle handle, lwipy_errand *errand)
{
  int64_t result;
  errand->untried = 0;
  if (errand->wanted == LWIPY_READABLE) {
    return core_tcp_recv(handle, errand->bytes, errand->length, errand->flags);
  }
  result = send_part(handle, errand->bytes + errand->done, errand->length - errand->done, errand->hold);
  if (result < 0) {
    return result;                 /* an error is told once, so it must not be forgotten for what went before it */
  }
  errand->done += (size_t)result;
  return errand->done == errand->length ? (int64_t)errand->length : LWIPY_EWOULDBLOCK;
}
