/*
 * A wire joins two interfaces, of one core or of two, without a system call.
 *
 * Theory of operation. Each end lays out blocks (blocks.c); a frame is copied out of the sender's arena into one of the
 * receiver's, which goes to lwIP as it is. Frames that find no block, and those so short that a block is not worth it,
 * go through a queue, which also has the order: a frame of no bytes there stands for the next filled block. The
 * receiver swaps the queue for its own empty one before it reads: the mutex is held for that, or for one frame's copy,
 * never while lwIP works. No core touches what belongs to the other at that time.
 *
 * A wire between two cores of a group has lanes in place of queue and blocks, which need no mutex: wire_lane.c.
 *
 * Segments of TCP that follow each other may cross as one long frame, in a block of its own kind: wire_offload.c. What
 * the sender holds may cross by reference, again in a block of its own kind: lend.c.
 *
 * To tell the other side that frames wait may wake a thread, which costs more than twenty frames do. So while a core
 * works through a batch or takes a turn, it tells the other sides when it is done (lwipy_wires_tell), or after BURST
 * frames, so that both work at the same time.
 *
 * Invariants:
 * 1. The wire belongs to both ends; the last one to let go frees it (`ends`).
 * 2. Only the wire's mutex is taken while a core's lock is held, and no core's lock while the mutex is held.
 * 3. `core` is NULL once that end has been cut: it has taken its blocks with it, and frames towards it are dropped and
 *    counted as full.
 * 4. In a queue there are as many frames of no bytes as there are filled blocks.
 * 5. The interface at this side of a wire whose other side has `untold` frames is in `owing`, until the call that sent
 *    them returns.
 */
#include "wire.h"
#include "lend.h"
#include "loop.h"
#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "lwip/prot/ethernet.h"

#define SHORT 256                  /* such frames are copied faster than a block is handed over */
#define BURST 64

static struct lwipy_nic *owing;    /* whose other sides have something to be told, by `owing` */
static int holding;                /* they are told when the call returns */
static u8_t spare[65536 + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR];

static void
fill(struct lwipy_block *block, const struct pbuf *p)
{
  block->length = pbuf_copy_partial(p, block->bytes, p->tot_len, 0);
}

struct lwipy_block *
lwipy_wire_next_block(struct lwipy_wire_end *to, struct lwipy_supply *supply)
{
  struct lwipy_block *block = supply->empty.first != NULL && lwipy_fifo_begin(&to->queue, 0) == 0 ?
                              lwipy_block_take(&supply->empty) : NULL;
  if (block != NULL) {
    block->segments = 1;
    block->lent = supply == &to->lent;
    lwipy_block_put(&to->filled, block);
  }
  return block;
}

int
lwipy_wire_put(struct lwipy_wire_end *to, const struct pbuf *p)
{
  if (p->tot_len > SHORT && p->tot_len <= to->frames.room && to->frames.empty.first != NULL) {
    struct lwipy_block *block = lwipy_wire_next_block(to, &to->frames);
    if (block != NULL) {
      fill(block, p);
    }
    return block != NULL ? 0 : -1;
  }
  return lwipy_fifo_put(&to->queue, p);
}

static void
owe(struct lwipy_nic *nic)
{
  if (!nic->owes) {
    nic->owes = 1;
    nic->owing = owing;
    owing = nic;
  }
}

void
lwipy_wire_tell(struct lwipy_nic *nic, struct lwipy_wire_end *to, size_t used_before)
{
  if (to->queue.used == used_before || (used_before > 0 && to->untold == 0)) {
    return;                            /* nothing new, or it knows of those before */
  }
  if (!holding || to->core == lwipy_self || to->untold + 1 == BURST) {
    to->untold = 0;
    lwipy_notify(to->core, LWIPY_HAS_INPUT);
  } else {
    to->untold++;
    owe(nic);
  }
}

/* What was put is there for the other side, which is told. */
static void
open_lane(struct lwipy_wire *wire, struct lwipy_wire_end *to)
{
  lwipy_lane_tell(&to->lane);
  lwipy_mutex_lock(&wire->mutex);
  if (to->core != NULL) {
    lwipy_notify(to->core, LWIPY_HAS_INPUT);
  }
  lwipy_mutex_unlock(&wire->mutex);
}

static int
put_in_lane(struct lwipy_nic *nic, struct lwipy_wire_end *to, const struct pbuf *p)
{
  if (lwipy_lane_put(&to->lane, p) != 0) {
    return -1;
  }
  if (!holding || to->untold + 1 == BURST) {
    to->untold = 0;
    open_lane(nic->wire, to);
  } else {
    to->untold++;
    owe(nic);
  }
  return 0;
}

int
lwipy_wire_transmit(struct lwipy_nic *nic, const struct pbuf *p)
{
  struct lwipy_wire *wire = nic->wire;
  struct lwipy_wire_end *to = &wire->end[1 - nic->wire_side];
  int result = -1;
  if (to->lane.memory != NULL) {
    return put_in_lane(nic, to, p);
  }
  if (lwipy_wire_bundle(nic, p)) {
    return 0;
  }
  lwipy_mutex_lock(&wire->mutex);
  if (to->core != NULL) {
    size_t used = to->queue.used;
    result = lwipy_wire_put(to, p);
    lwipy_wire_tell(nic, to, used);
  }
  lwipy_mutex_unlock(&wire->mutex);
  return result;
}

void
lwipy_wires_hold(void)
{
  holding = 1;
}

void
lwipy_wires_tell(void)
{
  struct lwipy_nic *nic;
  holding = 0;
  while ((nic = owing) != NULL) {
    struct lwipy_wire_end *to = &nic->wire->end[1 - nic->wire_side];
    owing = nic->owing;
    nic->owes = 0;
    if (to->lane.memory != NULL) {
      to->untold = 0;
      open_lane(nic->wire, to);
      continue;
    }
    lwipy_mutex_lock(&nic->wire->mutex);
    if (to->untold > 0 && to->core != NULL) {
      lwipy_notify(to->core, LWIPY_HAS_INPUT);
    }
    to->untold = 0;
    lwipy_mutex_unlock(&nic->wire->mutex);
  }
}

/* The blocks that were wanting are made for the next time. */
static void
grow(struct lwipy_nic *nic, struct lwipy_supply *supply, size_t room, u32_t missed)
{
  if (missed == 0 || (lwipy_without & LWIPY_WITHOUT_BLOCKS)) {
    return;
  }
  if (supply->blocks == NULL) {
    supply->blocks = lwipy_blocks_open(nic->wire, nic->wire_side, room);
  }
  if (supply->blocks != NULL) {
    lwipy_blocks_grow(supply->blocks, missed);
  }
}

static size_t
longest_frame(const struct lwipy_nic *nic)
{
  return LWIP_MIN(nic->netif.mtu + (nic->layer == LWIPY_L2 ? (size_t)SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR : 0), UINT16_MAX);
}

static void
take_block(struct lwipy_nic *nic, struct lwipy_block *block)
{
  if (block->segments > 1 || block->lent) {
    lwipy_wire_take_long(nic, block);
  } else {
    lwipy_nic_input_pbuf(nic, lwipy_block_pbuf(block, 0));
  }
}

void
lwipy_wire_receive(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  struct lwipy_wire_end *own = &wire->end[nic->wire_side];
  struct lwipy_block_list filled;
  struct lwipy_fifo swap;
  const u8_t *frame;
  size_t length;
  u32_t missed = 0, wanted, wanted_lent;
  if (own->lane.memory != NULL) {
    lwipy_wire_receive_lane(nic, &own->lane);
    return;
  }
  lwipy_mutex_lock(&wire->mutex);
  swap = own->queue;
  own->queue = own->reading;
  own->reading = swap;
  filled = own->filled;
  own->filled.first = NULL;
  wanted = own->wanted;
  wanted_lent = own->wanted_lent;
  own->wanted = own->wanted_lent = 0;
  lwipy_mutex_unlock(&wire->mutex);
  lwipy_batch_begin();
  while ((frame = lwipy_fifo_peek(&own->reading, spare, &length)) != NULL) {
    if (length == 0) {
      take_block(nic, lwipy_block_take(&filled));
    } else {
      lwipy_nic_input(nic, frame, length);
      missed += length > SHORT;
    }
    lwipy_fifo_drop(&own->reading, length);
  }
  lwipy_batch_end();
  grow(nic, &own->frames, longest_frame(nic), missed);
  grow(nic, &own->segments, LWIPY_LONG_FRAME, wanted);
  grow(nic, &own->lent, lwipy_lent_room, wanted_lent);
}

void
lwipy_wire_offer(struct lwipy_wire *wire, int side, struct lwipy_blocks *blocks, struct lwipy_block_list *idle)
{
  struct lwipy_wire_end *own = &wire->end[side];
  struct lwipy_supply *supply = blocks == own->segments.blocks ? &own->segments :
                                blocks == own->lent.blocks ? &own->lent : &own->frames;
  lwipy_mutex_lock(&wire->mutex);
  idle->last->next = supply->empty.first;
  supply->empty.first = idle->first;
  supply->room = lwipy_blocks_room(blocks);
  lwipy_mutex_unlock(&wire->mutex);
}

static void
end_supply(struct lwipy_supply *supply)
{
  if (supply->blocks != NULL) {
    lwipy_blocks_drop(&supply->empty);     /* nobody else looks at them from here on */
    lwipy_blocks_close(supply->blocks);
  }
}

static void
drop_filled(struct lwipy_wire_end *own)
{
  struct lwipy_block *block;
  for (block = own->filled.first; block != NULL; block = block->next) {
    if (block->lent) {
      lwipy_lent_drop(block);
    }
  }
  lwipy_blocks_drop(&own->filled);
}

void
lwipy_wire_cut(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  struct lwipy_wire_end *own;
  int last, side;
  if (wire == NULL) {
    return;
  }
  lwipy_wire_flush();
  lwipy_wires_tell();
  nic->wire = NULL;
  own = &wire->end[nic->wire_side];
  lwipy_mutex_lock(&wire->mutex);
  own->core = NULL;
  lwipy_mutex_unlock(&wire->mutex);
  drop_filled(own);
  end_supply(&own->frames);
  end_supply(&own->segments);
  end_supply(&own->lent);
  lwipy_mutex_lock(&wire->mutex);
  last = --wire->ends == 0;
  lwipy_mutex_unlock(&wire->mutex);
  if (last) {
    for (side = 0; side < 2; side++) {
      lwipy_fifo_clear(&wire->end[side].queue);
      lwipy_fifo_clear(&wire->end[side].reading);
      lwipy_lane_close(&wire->end[side].lane);
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
core_wire_join(int number, struct lwipy_wire *wire, int side, int offload)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_wire_cut(nic);
  lwipy_mutex_lock(&wire->mutex);
  if (nic->front != NULL && !(lwipy_without & LWIPY_WITHOUT_LANES)) {
    lwipy_wire_open_lanes(wire);
  }
  wire->end[side].core = lwipy_self;
  wire->end[side].offload = offload && !(lwipy_without & LWIPY_WITHOUT_WIRE_OFFLOAD);
  lwipy_mutex_unlock(&wire->mutex);
  nic->wire_side = side;
  nic->wire = wire;
  lwipy_wire_restage(nic);
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
