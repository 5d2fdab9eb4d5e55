/*
 * Sleeping and waking.
 *
 * Theory of operation. A driver sleeps in one system call until a deadline or until somebody wakes it. Whoever leaves
 * work behind sets a bit in the attention word and, if the driver sleeps, writes to its wake-up descriptor (an eventfd
 * on Linux, a pipe elsewhere). Two drivers exist: a thread sleeps in lwipy_wait(); an event loop watches the
 * descriptor by itself and says so once (lwipy_wake_fd), after which every notification from outside writes to it.
 *
 * Invariant: the sleeper sets `sleeping` before it looks at the attention word for the last time, and the notifier
 * sets the word before it looks at `sleeping`; so one of the two sees the other, and no wake-up is lost.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "loop.h"
#include "core.h"

enum { AWAKE = 0, ASLEEP = 1, WATCHED = 2 };

#ifdef _WIN32

int
lwipy_loop_open(lwipy_core *core)
{
  core->wake_event = CreateEventW(NULL, FALSE, FALSE, NULL);
  return core->wake_event != NULL ? 0 : -1;
}

void
lwipy_loop_close(lwipy_core *core)
{
  CloseHandle(core->wake_event);
}

void
lwipy_wake(lwipy_core *core)
{
  SetEvent(core->wake_event);
}

int
lwipy_wake_fd(lwipy_core *core)
{
  (void)core;
  return LWIPY_ENOTSUP;
}

void
lwipy_wake_clear(lwipy_core *core)
{
  (void)core;
}

static void
sleep_until_woken(lwipy_core *core, int64_t microseconds)
{
  DWORD ms = microseconds < 0 ? INFINITE : (DWORD)((microseconds + 999) / 1000);
  WaitForSingleObject(core->wake_event, ms);
}

#else
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

int
lwipy_loop_open(lwipy_core *core)
{
#ifdef __linux__
  core->wake_fd[0] = core->wake_fd[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return core->wake_fd[0] >= 0 ? 0 : -1;
#else
  int i;
  if (pipe(core->wake_fd) != 0) {
    return -1;
  }
  for (i = 0; i < 2; i++) {
    fcntl(core->wake_fd[i], F_SETFL, O_NONBLOCK);
    fcntl(core->wake_fd[i], F_SETFD, FD_CLOEXEC);
  }
  return 0;
#endif
}

void
lwipy_loop_close(lwipy_core *core)
{
  close(core->wake_fd[0]);
  if (core->wake_fd[1] != core->wake_fd[0]) {
    close(core->wake_fd[1]);
  }
}

void
lwipy_wake(lwipy_core *core)
{
  uint64_t one = 1;
  /* A full pipe or counter is already a wake-up. */
  ssize_t written = write(core->wake_fd[1], &one, sizeof(one));
  (void)written;
}

int
lwipy_wake_fd(lwipy_core *core)
{
  lwipy_atomic_or(&core->sleeping, WATCHED);
  return core->wake_fd[0];
}

void
lwipy_wake_clear(lwipy_core *core)
{
  uint64_t drain[8];
  while (read(core->wake_fd[0], drain, sizeof(drain)) == (ssize_t)sizeof(drain)) {
  }
}

static void
sleep_until_woken(lwipy_core *core, int64_t microseconds)
{
  struct pollfd fds = { core->wake_fd[0], POLLIN, 0 };
#ifdef __linux__
  struct timespec timeout;
  timeout.tv_sec = (time_t)(microseconds / 1000000);
  timeout.tv_nsec = (long)(microseconds % 1000000) * 1000;
  if (ppoll(&fds, 1, microseconds < 0 ? NULL : &timeout, NULL) > 0) {
#else
  if (poll(&fds, 1, microseconds < 0 ? -1 : (int)((microseconds + 999) / 1000)) > 0) {
#endif
    lwipy_wake_clear(core);
  }
}
#endif

void
lwipy_notify(lwipy_core *core, uint32_t bits)
{
  uint32_t before = lwipy_atomic_get(&core->attention);
  lwipy_atomic_or(&core->attention, bits);
  if ((before & bits) != bits && lwipy_atomic_get(&core->sleeping) != AWAKE) {
    lwipy_wake(core);
  }
}

void
lwipy_loop_leave(lwipy_core *core)
{
  if (lwipy_atomic_get(&core->sleeping) == ASLEEP && lwipy_atomic_get(&core->attention) != 0) {
    lwipy_wake(core);
  }
}

int
lwipy_wait(lwipy_core *core, int64_t microseconds)
{
  lwipy_atomic_or(&core->sleeping, ASLEEP);
  if (lwipy_atomic_get(&core->attention) == 0) {
    sleep_until_woken(core, microseconds);
  }
  lwipy_atomic_and(&core->sleeping, ~(uint32_t)ASLEEP);
  return (int)lwipy_atomic_get(&core->attention);
}
