/*
 * The few things that differ between POSIX and Windows: a mutex, the calling thread's identity, a monotonic
 * clock, random bytes, atomic bits, address space, writing to a file.
 */
#ifndef LWIPY_PLATFORM_H
#define LWIPY_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN        /* without winsock.h, which has an htonl() of its own */
#include <windows.h>
typedef SRWLOCK lwipy_mutex;
#define lwipy_mutex_init(m)    InitializeSRWLock(m)
#define lwipy_mutex_lock(m)    AcquireSRWLockExclusive(m)
#define lwipy_mutex_try(m)     TryAcquireSRWLockExclusive(m)
#define lwipy_mutex_unlock(m)  ReleaseSRWLockExclusive(m)
#define lwipy_mutex_destroy(m) ((void)(m))
typedef DWORD lwipy_thread;
#define lwipy_thread_self()    GetCurrentThreadId()
#define lwipy_thread_is(t)     ((t) == GetCurrentThreadId())
#else
#include <pthread.h>
typedef pthread_mutex_t lwipy_mutex;
#define lwipy_mutex_init(m)    pthread_mutex_init((m), NULL)
#define lwipy_mutex_lock(m)    pthread_mutex_lock(m)
#define lwipy_mutex_try(m)     (pthread_mutex_trylock(m) == 0)
#define lwipy_mutex_unlock(m)  pthread_mutex_unlock(m)
#define lwipy_mutex_destroy(m) pthread_mutex_destroy(m)
typedef pthread_t lwipy_thread;
#define lwipy_thread_self()    pthread_self()
#define lwipy_thread_is(t)     pthread_equal((t), pthread_self())
#endif

#ifdef _MSC_VER
#define lwipy_atomic_or(p, bits)  ((void)_InterlockedOr((volatile long *)(p), (long)(bits)))
#define lwipy_atomic_and(p, bits) ((void)_InterlockedAnd((volatile long *)(p), (long)(bits)))
#define lwipy_atomic_set(p, v)    ((void)_InterlockedExchange((volatile long *)(p), (long)(v)))
#define lwipy_atomic_get(p)       ((uint32_t)_InterlockedOr((volatile long *)(p), 0))
#define lwipy_atomic_add(p, n)    ((uint32_t)(_InterlockedExchangeAdd((volatile long *)(p), (n)) + (n)))   /* the sum */
/* Of pointers; replace: 1 if it was the expected one. */
#define lwipy_atomic_get_pointer(p) (_InterlockedCompareExchangePointer((void *volatile *)(p), NULL, NULL))
#define lwipy_atomic_swap(p, v)     (_InterlockedExchangePointer((void *volatile *)(p), (v)))
#define lwipy_atomic_replace(p, expected, v) \
  (_InterlockedCompareExchangePointer((void *volatile *)(p), (v), (expected)) == (expected))
#define LWIPY_EXPORT __declspec(dllexport)
#else
#define lwipy_atomic_or(p, bits)  ((void)__atomic_fetch_or((p), (bits), __ATOMIC_SEQ_CST))
#define lwipy_atomic_and(p, bits) ((void)__atomic_fetch_and((p), (bits), __ATOMIC_SEQ_CST))
#define lwipy_atomic_set(p, v)    __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define lwipy_atomic_get(p)       __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define lwipy_atomic_add(p, n)    __atomic_add_fetch((p), (uint32_t)(n), __ATOMIC_SEQ_CST)   /* the sum */
#define lwipy_atomic_get_pointer(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define lwipy_atomic_swap(p, v)     __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define lwipy_atomic_replace(p, expected, v) __sync_bool_compare_and_swap((p), (expected), (v))
#define LWIPY_EXPORT __attribute__((visibility("default")))
#endif

#define LWIPY_PAGE    ((size_t)2 << 20)           /* a large one */
#ifdef LWIPY_CHECKS
#define LWIPY_PAGE_NS 0                           /* both ways are gone: this one with sanitizers, the other without */
#else
#define LWIPY_PAGE_NS 1000000                     /* it takes a fifth of that to clear, and about that as small ones */
#endif

int64_t lwipy_monotonic(void);                    /* microseconds */
int64_t lwipy_monotonic_ns(void);
int lwipy_system_random(void *out, size_t length); /* 0, or -1 */
void *lwipy_reserve(size_t length);               /* address space that costs memory only where touched */
int lwipy_commit(void *start, size_t length);     /* makes a part of it usable; nothing to do on POSIX */
void lwipy_enlarge_pages(void *start, size_t length, int on);   /* few large ones, where the system can, once touched */
void lwipy_populate(void *start, size_t length);  /* with zeroed memory at once, where the system can */
int lwipy_page_is_slow(void *at);                 /* a large one, touched for the first time: small ones come faster */
void lwipy_unreserve(void *start, size_t length);

/* Writes what `fd` takes without waiting: bytes, 0 for none now, or -1 and errno. A regular file takes everything. */
long lwipy_file_write(int fd, int regular, const void *data, size_t length);
int lwipy_file_is_regular(int fd);
void lwipy_file_close(int fd);

#endif /* LWIPY_PLATFORM_H */
