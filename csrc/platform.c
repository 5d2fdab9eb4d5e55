/*
 * POSIX and Windows, see platform.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "platform.h"

#ifdef _WIN32
#include <bcrypt.h>

int64_t
lwipy_monotonic(void)
{
  LARGE_INTEGER ticks, frequency;
  QueryPerformanceCounter(&ticks);
  QueryPerformanceFrequency(&frequency);
  return (int64_t)((double)ticks.QuadPart * 1e6 / (double)frequency.QuadPart);
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

#else
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

int64_t
lwipy_monotonic(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
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
#endif
