/*
 * The poller where there is neither epoll nor kqueue: wake-ups only, by a bell (Windows) or a pipe.
 */
#if !defined(__linux__) && !defined(__APPLE__) && !defined(__FreeBSD__) && !defined(__NetBSD__) && \
    !defined(__OpenBSD__) && !defined(__DragonFly__)
#include "core.h"
#include "poller.h"

int
lwipy_poller_set(lwipy_core *core, int fd, uint32_t tag, int interest)
{
  (void)core;
  (void)fd;
  (void)tag;
  (void)interest;
  return LWIPY_ENOTSUP;
}

void
lwipy_poller_unset(lwipy_core *core, int fd)
{
  (void)core;
  (void)fd;
}

#ifdef _WIN32

int
lwipy_poller_open(lwipy_core *core)
{
  lwipy_bell_open(&core->wake);
  return core->wake.event != NULL ? 0 : -1;
}

void
lwipy_poller_close(lwipy_core *core)
{
  lwipy_bell_close(&core->wake);
}

void
lwipy_poller_kick(lwipy_core *core)
{
  lwipy_bell_ring(&core->wake);
}

int
lwipy_poller_fd(lwipy_core *core)
{
  (void)core;
  return LWIPY_ENOTSUP;
}

int
lwipy_poller_wait(lwipy_core *core, lwipy_readiness *out, int64_t microseconds)
{
  (void)out;
  lwipy_bell_wait(&core->wake, microseconds);
  return 0;
}

int
lwipy_poller_collect(lwipy_core *core, lwipy_readiness *out)
{
  (void)core;
  (void)out;
  return 0;
}

#else
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

int
lwipy_poller_open(lwipy_core *core)
{
  int i;
  if (pipe(core->wake_fd) != 0) {
    return -1;
  }
  for (i = 0; i < 2; i++) {
    fcntl(core->wake_fd[i], F_SETFL, O_NONBLOCK);
    fcntl(core->wake_fd[i], F_SETFD, FD_CLOEXEC);
  }
  return 0;
}

void
lwipy_poller_close(lwipy_core *core)
{
  close(core->wake_fd[0]);
  close(core->wake_fd[1]);
}

void
lwipy_poller_kick(lwipy_core *core)
{
  /* A full pipe is already a wake-up. */
  ssize_t written = write(core->wake_fd[1], "", 1);
  (void)written;
}

int
lwipy_poller_fd(lwipy_core *core)
{
  return core->wake_fd[0];
}

int
lwipy_poller_wait(lwipy_core *core, lwipy_readiness *out, int64_t microseconds)
{
  struct pollfd fds = { core->wake_fd[0], POLLIN, 0 };
  char drain[64];
  int result = poll(&fds, 1, microseconds < 0 ? -1 : (int)((microseconds + 999) / 1000));
  (void)out;
  if (result > 0) {
    while (read(core->wake_fd[0], drain, sizeof(drain)) == (ssize_t)sizeof(drain)) {
    }
  }
  return result < 0 ? -1 : 0;
}

int
lwipy_poller_collect(lwipy_core *core, lwipy_readiness *out)
{
  return lwipy_poller_wait(core, out, 0);
}
#endif
#endif
