/*
 * The wires of a group's cores (steer.c): their frames go through lanes (lane.c), so that the mutex is taken once for
 * a burst, to tell the other side, and never while a frame is copied.
 */
#include "wire.h"
#include "merge.h"

#define SOME 16                    /* frames out of a lane, and their room is free */

/* Before anybody uses the wire; both ends ask for it. Without memory its queues do. */
void
lwipy_wire_open_lanes(struct lwipy_wire *wire)
{
  if (wire->end[0].lane.memory == NULL && lwipy_lane_open(&wire->end[0].lane) == 0 && lwipy_lane_open(&wire->end[1].lane) != 0) {
    lwipy_lane_close(&wire->end[0].lane);
  }
}

void
lwipy_wire_receive_lane(struct lwipy_nic *nic, struct lwipy_lane *lane)
{
  uint32_t at = lane->read, end = lwipy_lane_told(lane), done = 0;
  if (at == end) {
    return;
  }
  lwipy_batch_begin();
  while (at != end) {
    size_t length;
    const u8_t *frame = lwipy_lane_next(lane, &at, &length);
    lwipy_nic_input(nic, frame, length);
    if (++done % SOME == 0) {
      lwipy_lane_done(lane, at);
    }
  }
  lwipy_batch_end();
  lwipy_lane_done(lane, at);
}
