/*
 * The poller on macOS and the BSDs: one kqueue, which holds its own wake-up (a user event) beside the descriptors.
 */
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
#include "core.h"
#include "poller.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <sys/event.h>
#include <sys/time.h>
#include <unistd.h>

static int
change(int poller, int fd, int filter, int flags, uint32_t tag)
{
  struct kevent event;
  EV_SET(&event, fd, filter, flags, 0, 0, (void *)(uintptr_t)tag);
  return kevent(poller, &event, 1, NULL, 0, NULL);
}

int
lwipy_poller_open(lwipy_core *core)
{
  core->poller = kqueue();
  if (core->poller < 0) {
    return -1;
  }
  fcntl(core->poller, F_SETFD, FD_CLOEXEC);
  return change(core->poller, 0, EVFILT_USER, EV_ADD | EV_CLEAR, LWIPY_TAG_WAKE);
}

void
lwipy_poller_close(lwipy_core *core)
{
  close(core->poller);
}

void
lwipy_poller_kick(lwipy_core *core)
{
  struct kevent event;
  EV_SET(&event, 0, EVFILT_USER, 0, NOTE_TRIGGER, 0, (void *)(uintptr_t)LWIPY_TAG_WAKE);
  kevent(core->poller, &event, 1, NULL, 0, NULL);
}

int
lwipy_poller_fd(lwipy_core *core)
{
  return core->poller;
}

int
lwipy_poller_set(lwipy_core *core, int fd, uint32_t tag, int interest)
{
  int once = interest & LWIPY_ONCE ? EV_ONESHOT : 0;
  /* A filter that is not there cannot be deleted, which is no error here. */
  if (change(core->poller, fd, EVFILT_READ, interest & LWIPY_POLL_IN ? EV_ADD | once : EV_DELETE, tag) != 0 &&
      (interest & LWIPY_POLL_IN)) {
    return LWIPY_ESYSTEM - errno;
  }
  if (change(core->poller, fd, EVFILT_WRITE, interest & LWIPY_POLL_OUT ? EV_ADD | once : EV_DELETE, tag) != 0 &&
      (interest & LWIPY_POLL_OUT)) {
    return LWIPY_ESYSTEM - errno;
  }
  return 0;
}

void
lwipy_poller_unset(lwipy_core *core, int fd)
{
  change(core->poller, fd, EVFILT_READ, EV_DELETE, 0);
  change(core->poller, fd, EVFILT_WRITE, EV_DELETE, 0);
}

int
lwipy_poller_wait(lwipy_core *core, lwipy_readiness *out, int64_t microseconds)
{
  struct kevent events[LWIPY_READY_ROOM];
  struct timespec timeout = { (time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000 };
  int i, count = kevent(core->poller, NULL, 0, events, LWIPY_READY_ROOM, microseconds < 0 ? NULL : &timeout);
  for (i = 0; i < count; i++) {
    out[i].tag = (uint32_t)(uintptr_t)events[i].udata;
    out[i].events = events[i].filter == EVFILT_WRITE ? LWIPY_POLL_OUT : LWIPY_POLL_IN;
  }
  return count < 0 ? -1 : count;
}

int
lwipy_poller_collect(lwipy_core *core, lwipy_readiness *out)
{
  return lwipy_poller_wait(core, out, 0);
}
#endif
