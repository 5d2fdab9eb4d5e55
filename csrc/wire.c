/*
 * A wire joins two interfaces, of one core or of two, without a system call.
 *
 * Theory of operation. Each end lays out blocks (blocks.c); a frame is copied out of the sender's arena into one of the
 * receiver's, which goes to lwIP as it is. Frames that find no block, and those so short that a block is not worth it,
 * go through a queue, which also has the order: a frame of no bytes there stands for the next filled block. The
 * receiver swaps the queue for its own empty one before it reads: the mutex is held for that, or for one frame's copy,
 * never while lwIP works. No core touches what belongs to the other at that time.
 *
 * Invariants:
 * 1. The wire belongs to both ends; the last one to let go frees it (`ends`).
 * 2. Only the wire's mutex is taken while a core's lock is held, and no core's lock while the mutex is held.
 * 3. `core` is NULL once that end has been cut: it has taken its blocks with it, and frames towards it are dropped and
 *    counted as full.
 * 4. In a queue there are as many frames of no bytes as there are filled blocks.
 */
#include "blocks.h"
#include "merge.h"
#include "netif.h"
#include "loop.h"

#include <stdlib.h>
#include <string.h>

#include "lwip/prot/ethernet.h"

#define SHORT 256                  /* such frames are copied faster than a block is handed over */

struct end {
  lwipy_core *core;                /* whom to tell that frames wait for this side */
  struct lwipy_fifo queue;         /* frames towards this side; under the mutex, as all but the last two */
  struct lwipy_block_list empty, filled;
  size_t room;                     /* of each block */
  struct lwipy_blocks *blocks;     /* this side's own, as is what it reads from */
  struct lwipy_fifo reading;
};

struct lwipy_wire {
  lwipy_mutex mutex;
  int ends;
  struct end end[2];
};

static u8_t spare[65536 + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR];

static void
fill(struct lwipy_block *block, const struct pbuf *p)
{
  u8_t *to = block->bytes;
  block->length = p->tot_len;
  for (; p != NULL; p = p->next) {
    memcpy(to, p->payload, p->len);
    to += p->len;
  }
}

/* 0, or -1 when there is no room. */
static int
put(struct end *end, const struct pbuf *p)
{
  if (p->tot_len > SHORT && p->tot_len <= end->room && end->empty.first != NULL) {
    if (lwipy_fifo_begin(&end->queue, 0) == 0) {
      struct lwipy_block *block = lwipy_block_take(&end->empty);
      fill(block, p);
      lwipy_block_put(&end->filled, block);
      return 0;
    }
    return -1;
  }
  return lwipy_fifo_put(&end->queue, p);
}

int
lwipy_wire_transmit(struct lwipy_nic *nic, const struct pbuf *p)
{
  struct lwipy_wire *wire = nic->wire;
  struct end *to = &wire->end[1 - nic->wire_side];
  int result = -1;
  lwipy_mutex_lock(&wire->mutex);
  if (to->core != NULL) {
    int first = to->queue.used == 0;      /* for the rest the other side has been told */
    result = put(to, p);
    if (first && result == 0) {
      lwipy_notify(to->core, LWIPY_HAS_INPUT);
    }
  }
  lwipy_mutex_unlock(&wire->mutex);
  return result;
}

/* The blocks that were wanting are made for the next time. */
static void
grow(struct lwipy_nic *nic, struct end *own, u32_t missed)
{
  if (own->blocks == NULL) {
    size_t longest = nic->netif.mtu + (nic->layer == LWIPY_L2 ? SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR : 0);
    own->blocks = lwipy_blocks_open(nic->wire, nic->wire_side, LWIP_MIN(longest, UINT16_MAX));
  }
  if (own->blocks != NULL) {
    lwipy_blocks_grow(own->blocks, missed);
  }
}

void
lwipy_wire_receive(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  struct end *own = &wire->end[nic->wire_side];
  struct lwipy_block_list filled;
  struct lwipy_fifo swap;
  const u8_t *frame;
  size_t length;
  u32_t missed = 0;
  lwipy_mutex_lock(&wire->mutex);
  swap = own->queue;
  own->queue = own->reading;
  own->reading = swap;
  filled = own->filled;
  own->filled.first = NULL;
  lwipy_mutex_unlock(&wire->mutex);
  lwipy_batch_begin();
  while ((frame = lwipy_fifo_peek(&own->reading, spare, &length)) != NULL) {
    if (length == 0) {
      lwipy_nic_input_pbuf(nic, lwipy_block_pbuf(lwipy_block_take(&filled)));
    } else {
      lwipy_nic_input(nic, frame, length);
      missed += length > SHORT;
    }
    lwipy_fifo_drop(&own->reading, length);
  }
  lwipy_batch_end();
  if (missed > 0 && !(lwipy_without & LWIPY_WITHOUT_BLOCKS)) {
    grow(nic, own, missed);
  }
}

void
lwipy_wire_offer(struct lwipy_wire *wire, int side, struct lwipy_block_list *idle)
{
  struct end *own = &wire->end[side];
  lwipy_mutex_lock(&wire->mutex);
  idle->last->next = own->empty.first;
  own->empty.first = idle->first;
  own->room = lwipy_blocks_room(own->blocks);
  lwipy_mutex_unlock(&wire->mutex);
}

void
lwipy_wire_cut(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  struct end *own;
  int last, side;
  if (wire == NULL) {
    return;
  }
  nic->wire = NULL;
  own = &wire->end[nic->wire_side];
  lwipy_mutex_lock(&wire->mutex);
  own->core = NULL;
  lwipy_mutex_unlock(&wire->mutex);
  if (own->blocks != NULL) {
    lwipy_blocks_drop(&own->empty);        /* nobody else looks at them from here on */
    lwipy_blocks_drop(&own->filled);
    lwipy_blocks_close(own->blocks);
  }
  lwipy_mutex_lock(&wire->mutex);
  last = --wire->ends == 0;
  lwipy_mutex_unlock(&wire->mutex);
  if (last) {
    for (side = 0; side < 2; side++) {
      lwipy_fifo_clear(&wire->end[side].queue);
      lwipy_fifo_clear(&wire->end[side].reading);
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
  there = nic->wire->end[1 - nic->wire_side].core != NULL;
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
  wire->end[side].core = lwipy_self;
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
