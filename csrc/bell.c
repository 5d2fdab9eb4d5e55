/*
 * See bell.h. On Linux a futex, because a sleep on it ends when a signal comes, as Python's own locks do.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "bell.h"

#ifdef _WIN32

void
lwipy_bell_open(lwipy_bell *bell)
{
  bell->event = CreateEventW(NULL, FALSE, FALSE, NULL);
}

void
lwipy_bell_close(lwipy_bell *bell)
{
  CloseHandle(bell->event);
}

void
lwipy_bell_ring(lwipy_bell *bell)
{
  SetEvent(bell->event);
}

int
lwipy_bell_wait(lwipy_bell *bell, int64_t microseconds)
{
  int64_t ms = (microseconds + 999) / 1000;
  DWORD limit = microseconds < 0 ? INFINITE : ms < 0x7fffffff ? (DWORD)ms : 0x7fffffff;
  return WaitForSingleObject(bell->event, limit) == WAIT_OBJECT_0;
}

#elif defined(__linux__)
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SILENT = 0, RUNG = 1, AWAITED = 2 };

void
lwipy_bell_open(lwipy_bell *bell)
{
  bell->state = SILENT;
}

void
lwipy_bell_close(lwipy_bell *bell)
{
  (void)bell;
}

void
lwipy_bell_ring(lwipy_bell *bell)
{
  if (__atomic_exchange_n(&bell->state, RUNG, __ATOMIC_SEQ_CST) == AWAITED) {
    syscall(SYS_futex, &bell->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  }
}

int
lwipy_bell_wait(lwipy_bell *bell, int64_t microseconds)
{
  struct timespec timeout = { (time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000 };
  uint32_t silent = SILENT;
  int reason = 0;
  if (__atomic_compare_exchange_n(&bell->state, &silent, AWAITED, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    while (reason == 0 && __atomic_load_n(&bell->state, __ATOMIC_SEQ_CST) == AWAITED) {
      /* A wake-up without a ring would begin the whole time anew; there is none but by chance. */
      if (syscall(SYS_futex, &bell->state, FUTEX_WAIT_PRIVATE, AWAITED, microseconds < 0 ? NULL : &timeout, NULL, 0) != 0 &&
          errno != EAGAIN) {
        reason = errno;
      }
    }
  }
  if (__atomic_exchange_n(&bell->state, SILENT, __ATOMIC_SEQ_CST) == RUNG) {
    return 1;
  }
  return reason == EINTR ? -1 : 0;
}

#else
#include <errno.h>
#include <time.h>

void
lwipy_bell_open(lwipy_bell *bell)
{
  pthread_mutex_init(&bell->mutex, NULL);
  pthread_cond_init(&bell->changed, NULL);
  bell->rung = 0;
}

void
lwipy_bell_close(lwipy_bell *bell)
{
  pthread_cond_destroy(&bell->changed);
  pthread_mutex_destroy(&bell->mutex);
}

void
lwipy_bell_ring(lwipy_bell *bell)
{
  pthread_mutex_lock(&bell->mutex);
  bell->rung = 1;
  pthread_cond_signal(&bell->changed);
  pthread_mutex_unlock(&bell->mutex);
}

static struct timespec
later(int64_t microseconds)
{
  struct timespec when;
  clock_gettime(CLOCK_REALTIME, &when);
  when.tv_sec += (time_t)(microseconds / 1000000);
  when.tv_nsec += (long)(microseconds % 1000000) * 1000;
  if (when.tv_nsec >= 1000000000) {
    when.tv_nsec -= 1000000000;
    when.tv_sec++;
  }
  return when;
}

int
lwipy_bell_wait(lwipy_bell *bell, int64_t microseconds)
{
  struct timespec end = later(microseconds < 0 ? 0 : microseconds);
  int rung, reason = 0;
  pthread_mutex_lock(&bell->mutex);
  while (!bell->rung && reason != ETIMEDOUT) {
    reason = microseconds < 0 ? pthread_cond_wait(&bell->changed, &bell->mutex)
                              : pthread_cond_timedwait(&bell->changed, &bell->mutex, &end);
  }
  rung = bell->rung;
  bell->rung = 0;
  pthread_mutex_unlock(&bell->mutex);
  return rung;
}
#endif
