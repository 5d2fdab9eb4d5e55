/*
 * A bucket of the demultiplexer, small enough for a table that is larger than the connections are many: see demux.c.
 *
 * A pcb's place is told in steps of eight bytes from the arena's first one. A tick has 32 bits: after three years of them
 * a bucket may be asked before it wants to be, never after.
 */
#ifndef LWIPY_BUCKETS_H
#define LWIPY_BUCKETS_H

#include "core.h"

#include "lwip/tcp.h"

#define LWIPY_NO_TICK UINT32_MAX

struct lwipy_bucket {
  u32_t active, time_wait;         /* the lists' heads; 0: empty */
  u32_t due;                       /* the tick that it wants, or LWIPY_NO_TICK */
};

static inline struct tcp_pcb *
lwipy_bucket_pcb(u32_t place)
{
  return place == 0 ? NULL : (struct tcp_pcb *)(void *)(lwipy_arena + (size_t)place * 8);
}

static inline u32_t
lwipy_bucket_place(const struct tcp_pcb *pcb)
{
  return pcb == NULL ? 0 : (u32_t)((size_t)((const u8_t *)pcb - lwipy_arena) / 8);
}

static inline u32_t
lwipy_bucket_tick(int64_t tick)
{
  return tick == LWIPY_NEVER ? LWIPY_NO_TICK : (u32_t)LWIP_MIN(tick, (int64_t)LWIPY_NO_TICK - 1);
}

static inline int64_t
lwipy_bucket_due(const struct lwipy_bucket *bucket)
{
  return bucket->due == LWIPY_NO_TICK ? LWIPY_NEVER : (int64_t)bucket->due;
}

/* Among many connections the next one is in no cache, and lwIP reads nearly all of its pcb: fetched in one go. */
static inline void
lwipy_bucket_prefetch(const struct tcp_pcb *pcb, size_t bytes)
{
#if defined(__GNUC__)
  size_t line;
  for (line = 0; pcb != NULL && line < bytes; line += 64) {
    __builtin_prefetch((const u8_t *)pcb + line, 1);
  }
#else
  (void)pcb, (void)bytes;
#endif
}

#endif /* LWIPY_BUCKETS_H */
