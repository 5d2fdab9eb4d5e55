/*
 * A wire joins two interfaces, of one core or of two, without a system call.
 *
 * Theory of operation. Each direction has a queue that the sender fills and the receiver swaps for its own empty one
 * before it reads: the mutex is held for a pointer swap or one frame's copy, never while lwIP works. A frame is
 * copied out of the sender's arena and into the receiver's, so neither core ever touches the other's memory.
 *
 * Invariants:
 * 1. The wire belongs to both ends; the last one to let go frees it (`ends`).
 * 2. Only the wire's mutex is taken while a core's lock is held, and no core's lock while the mutex is held.
 * 3. `core[side]` is NULL once that end has been cut: frames towards it are dropped and counted as full.
 */
#include "merge.h"
#include "netif.h"
#include "loop.h"

#include <stdlib.h>
#include <string.h>

#include "lwip/prot/ethernet.h"

struct lwipy_wire {
  lwipy_mutex mutex;
  int ends;
  lwipy_core *core[2];            /* whom to tell that frames wait for this side */
  struct lwipy_fifo queue[2];     /* frames towards this side; under the mutex */
  struct lwipy_fifo reading[2];   /* this side's own, while it reads */
};

static u8_t spare[65536 + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR];

int
lwipy_wire_transmit(struct lwipy_nic *nic, const struct pbuf *p)
{
  struct lwipy_wire *wire = nic->wire;
  int to = 1 - nic->wire_side, result = -1;
  lwipy_mutex_lock(&wire->mutex);
  if (wire->core[to] != NULL) {
    int first = wire->queue[to].used == 0;      /* for the rest the other side has been told */
    result = lwipy_fifo_put(&wire->queue[to], p);
    if (first && result == 0) {
      lwipy_notify(wire->core[to], LWIPY_HAS_INPUT);
    }
  }
  lwipy_mutex_unlock(&wire->mutex);
  return result;
}

void
lwipy_wire_receive(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  int side = nic->wire_side;
  struct lwipy_fifo *reading = &wire->reading[side], swap;
  const u8_t *frame;
  size_t length;
  lwipy_mutex_lock(&wire->mutex);
  swap = wire->queue[side];
  wire->queue[side] = *reading;
  *reading = swap;
  lwipy_mutex_unlock(&wire->mutex);
  lwipy_batch_begin();
  while ((frame = lwipy_fifo_peek(reading, spare, &length)) != NULL) {
    lwipy_nic_input(nic, frame, length);
    lwipy_fifo_drop(reading, length);
  }
  lwipy_batch_end();
}

void
lwipy_wire_cut(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  int last, side;
  if (wire == NULL) {
    return;
  }
  nic->wire = NULL;
  lwipy_mutex_lock(&wire->mutex);
  wire->core[nic->wire_side] = NULL;
  last = --wire->ends == 0;
  lwipy_mutex_unlock(&wire->mutex);
  if (last) {
    for (side = 0; side < 2; side++) {
      lwipy_fifo_clear(&wire->queue[side]);
      lwipy_fifo_clear(&wire->reading[side]);
    }
    lwipy_mutex_destroy(&wire->mutex);
    free(wire);
  }
}

int
lwipy_wire_leads_somewhere(const struct lwipy_nic *nic)
{
  int there;
  lwipy_mutex_lock(&nic->wire->mutex);
  there = nic->wire->core[1 - nic->wire_side] != NULL;
  lwipy_mutex_unlock(&nic->wire->mutex);
  return there;
}

/* One end of a new wire; NULL when memory is out. Freed by the last lwipy_wire_cut(). */
struct lwipy_wire *
lwipy_wire_new(void)
{
  struct lwipy_wire *wire = calloc(1, sizeof(*wire));
  if (wire != NULL) {
    lwipy_mutex_init(&wire->mutex);
    wire->ends = 2;
  }
  return wire;
}

void
lwipy_wire_free(struct lwipy_wire *wire)
{
  lwipy_mutex_destroy(&wire->mutex);
  free(wire);
}

/* The end that was never joined lets go. */
void
lwipy_wire_abandon(struct lwipy_wire *wire)
{
  lwipy_mutex_lock(&wire->mutex);
  wire->ends--;
  lwipy_mutex_unlock(&wire->mutex);
}

int
core_wire_join(int number, struct lwipy_wire *wire, int side)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_wire_cut(nic);
  lwipy_mutex_lock(&wire->mutex);
  wire->core[side] = lwipy_self;
  lwipy_mutex_unlock(&wire->mutex);
  nic->wire_side = side;
  nic->wire = wire;
  lwipy_fifo_clear(&nic->out);
  return 0;
}

int
core_unwire(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_wire_cut(nic);
  return 0;
}
