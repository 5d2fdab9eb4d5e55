/*
 * A queue of frames from one thread to another without a lock: lane.c.
 */
#ifndef LWIPY_LANE_H
#define LWIPY_LANE_H

#include <stddef.h>
#include <stdint.h>

#define LWIPY_LANE_ROOM ((uint32_t)2 << 20)   /* bytes, a power of two */
#define LWIPY_LINE      64                    /* of the processor's cache */

struct pbuf;

/* Zeroed memory is a lane that is not open. Each part on lines of its own: the other side's are slow to write. */
struct lwipy_lane {
  uint8_t *memory;                 /* NULL: not open */
  uint8_t gap[LWIPY_LINE];
  uint32_t written, seen_read;     /* the writer's own: how far it is, and how far it knows the reader to be */
  uint8_t gap_after_writer[LWIPY_LINE];
  uint32_t told;                   /* atomic; the writer's, for the reader */
  uint8_t gap_after_told[LWIPY_LINE];
  uint32_t read;                   /* atomic; the reader's, for the writer */
};

int lwipy_lane_open(struct lwipy_lane *lane);     /* 0, or -1: no memory */
void lwipy_lane_close(struct lwipy_lane *lane);

int lwipy_lane_put(struct lwipy_lane *lane, const struct pbuf *p);    /* 0, or -1 when full */
void lwipy_lane_tell(struct lwipy_lane *lane);    /* what was put is there for the reader */

/* For the reader. How far it may read now; the frame at `*at`, which is moved behind it; what lies before `at` is done. */
uint32_t lwipy_lane_told(const struct lwipy_lane *lane);
const uint8_t *lwipy_lane_next(const struct lwipy_lane *lane, uint32_t *at, size_t *length);
void lwipy_lane_done(struct lwipy_lane *lane, uint32_t at);

#endif /* LWIPY_LANE_H */
