/*
 * Blocks: memory of one core that frames for it are copied into by another one. See blocks.c.
 */
#ifndef LWIPY_BLOCKS_H
#define LWIPY_BLOCKS_H

#include "core.h"

struct lwipy_blocks;
struct lwipy_wire;

struct lwipy_block {
  struct pbuf_custom custom;       /* first: lwIP sees only this */
  struct lwipy_blocks *home;
  struct lwipy_block *next;
  u32_t length;                    /* of the frame in it, or of its headers: */
  u16_t lent;                      /* 1: the payload is elsewhere, see lend.c */
  u16_t segments;                  /* more than one: a long frame, see wire_offload.c */
  u32_t each, total;               /* and how long the first of those is, and all of them, as frames */
  u8_t bytes[];
};

/* A list that is emptied from the front. Zeroed memory is an empty one. */
struct lwipy_block_list {
  struct lwipy_block *first, *last;
};

static inline struct lwipy_block *
lwipy_block_take(struct lwipy_block_list *list)
{
  struct lwipy_block *block = list->first;
  if (block != NULL) {
    list->first = block->next;
  }
  return block;
}

static inline void
lwipy_block_put(struct lwipy_block_list *list, struct lwipy_block *block)
{
  block->next = NULL;
  *(list->first != NULL ? &list->last->next : &list->first) = block;
  list->last = block;
}

struct lwipy_blocks *lwipy_blocks_open(struct lwipy_wire *wire, int side, size_t room);   /* NULL: no memory */
/* The wire lets go. Blocks that lwIP or an endpoint still has go back to the arena when they are freed. */
void lwipy_blocks_close(struct lwipy_blocks *blocks);
size_t lwipy_blocks_room(const struct lwipy_blocks *blocks);         /* bytes of a frame that fit into one */
void lwipy_blocks_grow(struct lwipy_blocks *blocks, u32_t more);     /* as far as it is good */
/* The frame without its first `skip` bytes; pbuf_free() gives the block back. */
struct pbuf *lwipy_block_pbuf(struct lwipy_block *block, size_t skip);
void lwipy_blocks_drop(struct lwipy_block_list *list);               /* of a wire that is cut: back to the arena */

/* At the end of every call: blocks that were given back go to those who fill them. */
extern struct lwipy_blocks *lwipy_blocks_idle;
void lwipy_blocks_offer(void);

/* wire.c */
void lwipy_wire_offer(struct lwipy_wire *wire, int side, struct lwipy_blocks *blocks, struct lwipy_block_list *idle);

#endif /* LWIPY_BLOCKS_H */
