/*
 * A bell that one thread sleeps on and any thread rings. A ring that comes before the sleep ends it at once; several
 * rings count as one.
 */
#ifndef LWIPY_BELL_H
#define LWIPY_BELL_H

#include <stdint.h>

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
typedef struct { HANDLE event; } lwipy_bell;
#elif defined(__linux__)
typedef struct { uint32_t state; } lwipy_bell;
#else
#include <pthread.h>
typedef struct { pthread_mutex_t mutex; pthread_cond_t changed; int rung; } lwipy_bell;
#endif

void lwipy_bell_open(lwipy_bell *bell);
void lwipy_bell_close(lwipy_bell *bell);
void lwipy_bell_ring(lwipy_bell *bell);
/* Sleeps at most so long (microseconds; -1: until it rings). 1: it rang, 0: the time is over, -1: a signal came (where
   the system tells). */
int lwipy_bell_wait(lwipy_bell *bell, int64_t microseconds);

#endif /* LWIPY_BELL_H */
