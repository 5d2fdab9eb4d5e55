/*
 * What of a connection is in flight, segment by segment: see flight.c.
 */
#ifndef LWIPY_FLIGHT_H
#define LWIPY_FLIGHT_H

#include "core.h"

/* What became of a segment. */
#define LWIPY_SACKED  1            /* the peer has it, though not all before it */
#define LWIPY_LOST    2            /* taken for lost, and not sent again yet */
#define LWIPY_RESENT  4            /* sent more than once: no round trip is measured over it (Karn) */
#define LWIPY_STARVED 8            /* sent when the application had nothing more: its rate says little */

struct lwipy_sent {
  u32_t seq, end;
  u32_t sent_at;                   /* microseconds, the lower 32 bits; of the last time */
  u32_t delivered, delivered_at;   /* the connection's, when this was sent */
  u32_t first_at;                  /* when the flight began that this segment was sent in */
  u8_t flags;
};

struct lwipy_flight {
  struct lwipy_sent *ring;
  u32_t head, count, room;         /* room is a power of 2 */
  struct lwipy_sent only;          /* enough for those who wait for each answer */
  u32_t pipe;                      /* bytes that are neither SACKED nor LOST: in the network (RFC 6675) */
  u32_t sacked, lost;              /* segments so marked */
};

static inline struct lwipy_sent *
lwipy_sent(const struct lwipy_flight *flight, u32_t index)
{
  return &flight->ring[(flight->head + index) & (flight->room - 1)];
}

static inline u32_t
lwipy_sent_length(const struct lwipy_sent *sent)
{
  return sent->end - sent->seq;
}

/* Is time `a` later than `b`? */
static inline int
lwipy_later(u32_t a, u32_t b)
{
  return (s32_t)(a - b) > 0;
}

void lwipy_flight_open(struct lwipy_flight *flight);
void lwipy_flight_clear(struct lwipy_flight *flight);
u32_t lwipy_flight_find(const struct lwipy_flight *flight, u32_t seq);   /* the first that ends behind `seq`, or `count` */
struct lwipy_sent *lwipy_flight_add(struct lwipy_flight *flight, u32_t seq, u32_t end);
void lwipy_flight_drop_first(struct lwipy_flight *flight);
void lwipy_flight_set(struct lwipy_flight *flight, struct lwipy_sent *sent, u8_t mark);   /* SACKED, LOST or 0 */

#endif /* LWIPY_FLIGHT_H */
