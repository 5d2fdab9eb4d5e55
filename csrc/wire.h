/*
 * A wire from inside: wire.c, and wire_offload.c for the frames that are longer than the interfaces' MTU.
 */
#ifndef LWIPY_WIRE_H
#define LWIPY_WIRE_H

#include "blocks.h"
#include "lane.h"
#include "netif.h"

#include "lwip/prot/ethernet.h"

#define LWIPY_LONG_FRAME ((size_t)UINT16_MAX + SIZEOF_ETH_HDR)

/* Blocks of one size, towards one end. */
struct lwipy_supply {
  struct lwipy_block_list empty;   /* under the mutex, as is the next */
  size_t room;                     /* of each block */
  struct lwipy_blocks *blocks;     /* the end's own */
};

struct lwipy_wire_end {
  lwipy_core *core;                /* whom to tell that frames wait for this side */
  struct lwipy_fifo queue;         /* frames towards this side; under the mutex, as all but the last */
  struct lwipy_block_list filled;
  struct lwipy_supply frames, segments, lent;   /* blocks for frames as they are, for long ones, for references (lend.c) */
  u32_t untold;                    /* frames since there was something to tell; see lwipy_wires_tell() */
  u32_t wanted;                    /* 1: a long frame found no block */
  u32_t wanted_lent;               /* how many of those by reference found none */
  u8_t offload;                    /* this side was joined for long frames */
  u8_t takes_long, takes_lent;     /* what it takes now; changed by this side alone, which reads it without the mutex */
  struct lwipy_fifo reading;       /* this side's own */
  struct lwipy_lane lane;          /* instead of the queue, of a group's wire: frames towards this side, without the mutex */
};

struct lwipy_wire {
  lwipy_mutex mutex;
  int ends;
  struct lwipy_wire_end end[2];
};

/* wire.c; under the mutex. A frame as it is: 0, or -1 when there is no room. A block that takes the next place, and is to
   be filled: NULL for none. What was put is told, unless there was something before. */
int lwipy_wire_put(struct lwipy_wire_end *to, const struct pbuf *p);
struct lwipy_block *lwipy_wire_next_block(struct lwipy_wire_end *to, struct lwipy_supply *supply);
void lwipy_wire_tell(struct lwipy_nic *nic, struct lwipy_wire_end *to, size_t used_before);

/* wire_lane.c */
void lwipy_wire_open_lanes(struct lwipy_wire *wire);
void lwipy_wire_receive_lane(struct lwipy_nic *nic, struct lwipy_lane *lane);

/* wire_offload.c. 1: the frame leaves as a part of a longer one, when the call ends or something else is sent. */
int lwipy_wire_bundle(struct lwipy_nic *nic, const struct pbuf *p);
void lwipy_wire_take_long(struct lwipy_nic *nic, struct lwipy_block *block);

#endif /* LWIPY_WIRE_H */
