/*
 * Lanes: the frames of a wire between two cores of a group (steer.c), which work at the same time.
 *
 * Theory of operation. A wire's mutex is held while a frame is copied. Two threads that do little else stand in each
 * other's way there, and one that has to sleep costs as much as ten frames. So such a wire has a lane for each
 * direction: a circle of bytes with one writer and one reader, [length][frame] one behind the other, each in one piece
 * (a length of SKIP: the next one is at the circle's beginning). The writer tells how far it is once for a burst of
 * frames, the reader once for several how far it is; between that neither touches what the other writes.
 *
 * Invariants:
 * 1. Positions run on and wrap with 32 bits; `read` <= `told` <= `written` <= `read` + LWIPY_LANE_ROOM.
 * 2. `written` and `seen_read` are touched by the writer only, who holds its core's lock; `read` is written by the
 *    reader only, who holds its own core's.
 * 3. What lies from `read` to `told` does not change.
 */
#include "lane.h"
#include "copy.h"
#include "platform.h"

#include <stdlib.h>

#include "lwip/pbuf.h"

#define SKIP   UINT32_MAX
#define PREFIX ((uint32_t)sizeof(uint32_t))
#define ALIGN(length) (((length) + PREFIX + 7u) & ~7u)

int
lwipy_lane_open(struct lwipy_lane *lane)
{
  lane->memory = malloc(LWIPY_LANE_ROOM);
  return lane->memory != NULL ? 0 : -1;
}

void
lwipy_lane_close(struct lwipy_lane *lane)
{
  free(lane->memory);
  lane->memory = NULL;
}

static int
has_room(struct lwipy_lane *lane, uint32_t need)
{
  if (LWIPY_LANE_ROOM - (lane->written - lane->seen_read) < need) {
    lane->seen_read = lwipy_atomic_get(&lane->read);
  }
  return LWIPY_LANE_ROOM - (lane->written - lane->seen_read) >= need;
}

static uint8_t *
write_length(struct lwipy_lane *lane, uint32_t length)
{
  uint8_t *place = lane->memory + (lane->written & (LWIPY_LANE_ROOM - 1));
  memcpy(place, &length, PREFIX);
  return place + PREFIX;
}

int
lwipy_lane_put(struct lwipy_lane *lane, const struct pbuf *p)
{
  uint32_t need = ALIGN(p->tot_len), left = LWIPY_LANE_ROOM - (lane->written & (LWIPY_LANE_ROOM - 1));
  uint8_t *to;
  if (!has_room(lane, left < need ? left + need : need)) {
    return -1;
  }
  if (left < need) {
    write_length(lane, SKIP);
    lane->written += left;
  }
  to = write_length(lane, p->tot_len);
  lane->written += need;
  for (; p != NULL; p = p->next) {
    lwipy_copy(to, p->payload, p->len);
    to += p->len;
  }
  return 0;
}

void
lwipy_lane_tell(struct lwipy_lane *lane)
{
  lwipy_atomic_set(&lane->told, lane->written);
}

uint32_t
lwipy_lane_told(const struct lwipy_lane *lane)
{
  return lwipy_atomic_get((uint32_t *)(uintptr_t)&lane->told);
}

const uint8_t *
lwipy_lane_next(const struct lwipy_lane *lane, uint32_t *at, size_t *length)
{
  const uint8_t *place = lane->memory + (*at & (LWIPY_LANE_ROOM - 1));
  uint32_t size;
  memcpy(&size, place, PREFIX);
  if (size == SKIP) {
    *at += LWIPY_LANE_ROOM - (*at & (LWIPY_LANE_ROOM - 1));
    place = lane->memory;
    memcpy(&size, place, PREFIX);
  }
  *at += ALIGN(size);
  *length = size;
  return place + PREFIX;
}

void
lwipy_lane_done(struct lwipy_lane *lane, uint32_t at)
{
  lwipy_atomic_set(&lane->read, at);
}
