/*
 * The flight of a connection: one record for each segment sent and not yet acknowledged, in the order of sequence.
 *
 * Theory of operation. lwIP keeps its segments in a list that has room for neither times nor marks; so they are noted
 * here, as the segments pass the hook on their way out. The records lie in a ring of their own: acknowledged from the
 * front, added at the end, found by halving. A connection that waits for each answer needs one record, which it has.
 *
 * Invariants:
 * 1. The records are consecutive: each begins where the one before it ends.
 * 2. A record is SACKED, or LOST, or neither; `pipe` is the length of those that are neither, `sacked` and `lost` count.
 * 3. Without memory for a record its bytes join the last one: less is known then, nothing is forgotten.
 */
#include "flight.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/priv/tcp_priv.h"

#define FIRST_ROOM 16

void
lwipy_flight_open(struct lwipy_flight *flight)
{
  memset(flight, 0, sizeof(*flight));
  flight->ring = &flight->only;
  flight->room = 1;
}

void
lwipy_flight_clear(struct lwipy_flight *flight)
{
  if (flight->ring != &flight->only) {
    mem_free(flight->ring);
  }
  lwipy_flight_open(flight);
}

u32_t
lwipy_flight_find(const struct lwipy_flight *flight, u32_t seq)
{
  u32_t low = 0, high = flight->count;
  while (low < high) {
    u32_t middle = (low + high) / 2;
    if (TCP_SEQ_GT(lwipy_sent(flight, middle)->end, seq)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

static int
grow(struct lwipy_flight *flight)
{
  u32_t i, room = flight->room > 1 ? 2 * flight->room : FIRST_ROOM;
  struct lwipy_sent *ring = mem_malloc(room * sizeof(*ring));
  if (ring == NULL) {
    return -1;
  }
  for (i = 0; i < flight->count; i++) {
    ring[i] = *lwipy_sent(flight, i);
  }
  if (flight->ring != &flight->only) {
    mem_free(flight->ring);
  }
  flight->ring = ring;
  flight->room = room;
  flight->head = 0;
  return 0;
}

void
lwipy_flight_set(struct lwipy_flight *flight, struct lwipy_sent *sent, u8_t mark)
{
  u8_t before = sent->flags & (LWIPY_SACKED | LWIPY_LOST);
  if (before == mark) {
    return;
  }
  flight->sacked += (mark == LWIPY_SACKED) - (u32_t)(before == LWIPY_SACKED);
  flight->lost += (mark == LWIPY_LOST) - (u32_t)(before == LWIPY_LOST);
  if (before == 0) {
    flight->pipe -= lwipy_sent_length(sent);
  } else if (mark == 0) {
    flight->pipe += lwipy_sent_length(sent);
  }
  sent->flags = (u8_t)((sent->flags & ~(LWIPY_SACKED | LWIPY_LOST)) | mark);
}

struct lwipy_sent *
lwipy_flight_add(struct lwipy_flight *flight, u32_t seq, u32_t end)
{
  struct lwipy_sent *sent;
  if (flight->count == flight->room && grow(flight) != 0) {
    sent = lwipy_sent(flight, flight->count - 1);
    lwipy_flight_set(flight, sent, 0);
    sent->flags |= LWIPY_RESENT;
  } else {
    sent = lwipy_sent(flight, flight->count++);
    memset(sent, 0, sizeof(*sent));
    sent->seq = sent->end = seq;
  }
  flight->pipe += end - sent->end;
  sent->end = end;
  return sent;
}

void
lwipy_flight_drop_first(struct lwipy_flight *flight)
{
  lwipy_flight_set(flight, lwipy_sent(flight, 0), LWIPY_SACKED);
  flight->sacked--;
  flight->head++;
  if (--flight->count == 0) {
    lwipy_flight_clear(flight);
  }
}
