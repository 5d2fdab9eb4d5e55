/*
 * POSIX and Windows, see platform.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "platform.h"

int64_t
lwipy_monotonic(void)
{
  return lwipy_monotonic_ns() / 1000;
}

#ifdef _WIN32
#include <bcrypt.h>
#include <io.h>

int64_t
lwipy_monotonic_ns(void)
{
  LARGE_INTEGER ticks, frequency;
  QueryPerformanceCounter(&ticks);
  QueryPerformanceFrequency(&frequency);
  return (int64_t)((double)ticks.QuadPart * 1e9 / (double)frequency.QuadPart);
}

int
lwipy_system_random(void *out, size_t length)
{
  return BCryptGenRandom(NULL, out, (ULONG)length, BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0 ? 0 : -1;
}

void *
lwipy_reserve(size_t length)
{
  return VirtualAlloc(NULL, length, MEM_RESERVE, PAGE_READWRITE);
}

int
lwipy_commit(void *start, size_t length)
{
  return VirtualAlloc(start, length, MEM_COMMIT, PAGE_READWRITE) != NULL ? 0 : -1;
}

void
lwipy_unreserve(void *start, size_t length)
{
  (void)length;
  VirtualFree(start, 0, MEM_RELEASE);
}

long
lwipy_file_write(int fd, int regular, const void *data, size_t length)
{
  (void)regular;
  return _write(fd, data, (unsigned)length);
}

int
lwipy_file_is_regular(int fd)
{
  (void)fd;
  return 1;
}

void
lwipy_file_close(int fd)
{
  _close(fd);
}

#else
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t
lwipy_monotonic_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int
lwipy_system_random(void *out, size_t length)
{
  FILE *device = fopen("/dev/urandom", "rb");
  size_t got;
  if (device == NULL) {
    return -1;
  }
  got = fread(out, 1, length, device);
  fclose(device);
  return got == length ? 0 : -1;
}

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

void *
lwipy_reserve(size_t length)
{
  void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  return start == MAP_FAILED ? NULL : start;
}

int
lwipy_commit(void *start, size_t length)
{
  (void)start;
  (void)length;
  return 0;
}

void
lwipy_unreserve(void *start, size_t length)
{
  munmap(start, length);
}

/* A pipe that can be written to takes at least PIPE_BUF bytes without waiting. */
long
lwipy_file_write(int fd, int regular, const void *data, size_t length)
{
  struct pollfd ready = { fd, POLLOUT, 0 };
  ssize_t written;
  if (!regular) {
    if (poll(&ready, 1, 0) <= 0) {
      return 0;
    }
    length = length < PIPE_BUF ? length : PIPE_BUF;
  }
  written = write(fd, data, length);
  return written < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : (long)written;
}

int
lwipy_file_is_regular(int fd)
{
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

void
lwipy_file_close(int fd)
{
  close(fd);
}
#endif

/* ---- Pages: what Linux alone can be told of them ------------------------------------------------------------ */

#ifdef __linux__
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23       /* Linux 5.14; where it is not known, pages come as they are touched */
#endif

static void
advise(void *start, size_t length, int advice)
{
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = ((uintptr_t)start + page - 1) & ~(page - 1);
  if (at - (uintptr_t)start < length) {
    madvise((void *)at, length - (at - (uintptr_t)start), advice);
  }
}

void
lwipy_enlarge_pages(void *start, size_t length, int on)
{
  advise(start, length, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void
lwipy_populate(void *start, size_t length)
{
  advise(start, length, MADV_POPULATE_WRITE);
}

static int64_t
thread_ns(void)
{
  struct timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

/* By the thread's own time: what others do on this processor meanwhile says nothing of the page. */
int
lwipy_page_is_slow(void *at)
{
  int64_t before = thread_ns();
  *(volatile char *)at = 0;
  return thread_ns() - before > LWIPY_PAGE_NS;
}
#else
void
lwipy_enlarge_pages(void *start, size_t length, int on)
{
  (void)start;
  (void)length;
  (void)on;
}

int
lwipy_page_is_slow(void *at)
{
  (void)at;
  return 0;
}

void
lwipy_populate(void *start, size_t length)
{
  (void)start;
  (void)length;
}
#endif
