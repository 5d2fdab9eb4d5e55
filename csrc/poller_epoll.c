/*
 * The poller on Linux: an eventfd to be woken by and, once there are descriptors to watch, an epoll set around it.
 *
 * Theory of operation. A stack without links sleeps on the eventfd alone and costs one descriptor. The first link,
 * watch, or event loop that asks makes the epoll set, which then holds the eventfd too, edge-triggered: a wake-up
 * costs one write and nothing is read to clear it. An event loop watches the epoll descriptor itself.
 *
 * Invariant: `poller` goes from -1 to a descriptor once, under the core's lock, and a sleeper on the eventfd alone is
 * woken when it does.
 */
#ifdef __linux__
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "core.h"
#include "poller.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int
lwipy_poller_open(lwipy_core *core)
{
  core->poller = -1;
  core->wake_fd[0] = core->wake_fd[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return core->wake_fd[0] >= 0 ? 0 : -1;
}

void
lwipy_poller_close(lwipy_core *core)
{
  close(core->wake_fd[0]);
  if (core->poller >= 0) {
    close(core->poller);
  }
}

void
lwipy_poller_kick(lwipy_core *core)
{
  uint64_t one = 1;
  /* A full counter is already a wake-up. */
  ssize_t written = write(core->wake_fd[1], &one, sizeof(one));
  (void)written;
}

int
lwipy_poller_fd(lwipy_core *core)
{
  struct epoll_event wake = { .events = EPOLLIN | EPOLLET, .data = { .u32 = LWIPY_TAG_WAKE } };
  int fd = __atomic_load_n(&core->poller, __ATOMIC_SEQ_CST);
  if (fd >= 0) {
    return fd;
  }
  if ((fd = epoll_create1(EPOLL_CLOEXEC)) < 0) {
    return LWIPY_ESYSTEM - errno;
  }
  if (epoll_ctl(fd, EPOLL_CTL_ADD, core->wake_fd[0], &wake) != 0) {
    int reason = errno;
    close(fd);
    return LWIPY_ESYSTEM - reason;
  }
  __atomic_store_n(&core->poller, fd, __ATOMIC_SEQ_CST);
  lwipy_poller_kick(core);
  return fd;
}

int
lwipy_poller_set(lwipy_core *core, int fd, uint32_t tag, int interest)
{
  struct epoll_event event = { .data = { .u32 = tag } };
  int poller = lwipy_poller_fd(core);
  if (poller < 0) {
    return poller;
  }
  event.events = (interest & LWIPY_POLL_IN ? EPOLLIN : 0) | (interest & LWIPY_POLL_OUT ? EPOLLOUT : 0) |
                 (interest & LWIPY_ONCE ? EPOLLONESHOT : 0) | (interest & LWIPY_EDGE ? EPOLLET : 0);
  if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event) != 0 &&
      (errno != ENOENT || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)) {
    return LWIPY_ESYSTEM - errno;
  }
  return 0;
}

void
lwipy_poller_unset(lwipy_core *core, int fd)
{
  if (core->poller >= 0) {
    epoll_ctl(core->poller, EPOLL_CTL_DEL, fd, NULL);
  }
}

static int
wait_for_wake(lwipy_core *core, int64_t microseconds)
{
  struct pollfd fds = { core->wake_fd[0], POLLIN, 0 };
  struct timespec timeout = { (time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000 };
  uint64_t count;
  int result = ppoll(&fds, 1, microseconds < 0 ? NULL : &timeout, NULL);
  if (result > 0) {
    ssize_t got = read(core->wake_fd[0], &count, sizeof(count));
    (void)got;
  }
  return result < 0 ? -1 : 0;
}

/* epoll_wait() counts in milliseconds; Linux 5.11 has a call that does better, which the C library may not know. */
static int
wait_for_events(int poller, struct epoll_event *events, int64_t microseconds)
{
#ifdef SYS_epoll_pwait2
  static int missing;
  if (microseconds > 0 && !missing) {
    struct { int64_t seconds, nanoseconds; } timeout = { microseconds / 1000000, microseconds % 1000000 * 1000 };
    long count = syscall(SYS_epoll_pwait2, poller, events, LWIPY_READY_ROOM, &timeout, NULL, (size_t)0);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM)) {
      return (int)count;
    }
    missing = 1;
  }
#endif
  int64_t ms = microseconds < 0 ? -1 : LWIP_MIN((microseconds + 999) / 1000, INT32_MAX);
  return epoll_wait(poller, events, LWIPY_READY_ROOM, (int)ms);
}

int
lwipy_poller_wait(lwipy_core *core, lwipy_readiness *out, int64_t microseconds)
{
  struct epoll_event events[LWIPY_READY_ROOM];
  int poller = __atomic_load_n(&core->poller, __ATOMIC_SEQ_CST), count, i;
  if (poller < 0) {
    return wait_for_wake(core, microseconds);
  }
  count = wait_for_events(poller, events, microseconds);
  for (i = 0; i < count; i++) {
    out[i].tag = events[i].data.u32;
    out[i].events = (events[i].events & EPOLLOUT ? LWIPY_POLL_OUT : 0) | (events[i].events & ~EPOLLOUT ? LWIPY_POLL_IN : 0);
  }
  return count < 0 ? -1 : count;
}

int
lwipy_poller_collect(lwipy_core *core, lwipy_readiness *out)
{
  return __atomic_load_n(&core->poller, __ATOMIC_SEQ_CST) < 0 ? 0 : lwipy_poller_wait(core, out, 0);
}
#endif
