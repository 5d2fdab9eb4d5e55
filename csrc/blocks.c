/*
 * Blocks: frames that cross a wire are copied once, into memory of the core that receives them.
 *
 * Theory of operation. A receiving core lays out blocks for its end of a wire, each with room for one frame, and hands
 * them to the wire; the sender fills them under the wire's mutex (wire.c). A filled one becomes a pbuf as it is, and what
 * merge.c keeps of it lies there until the application has read it. When it is freed it goes to the wire again, the
 * one freed last first: the same few hundred kilobytes go round, and stay in the processor's cache. How many there are
 * follows what was missing: a frame that found no block came by the wire's queue, and lwipy_blocks_grow() is told.
 *
 * Invariants:
 * 1. A block belongs to the wire (empty, or filled), or to the core that made it. It changes hands under the mutex.
 * 2. `count` blocks exist, together no more than MOST bytes or 1/SHARE of the arena.
 * 3. What is with the wire is spare memory (arena.c).
 * 4. While the wire is cut (`wire` is NULL) nothing is offered to it; the last block freed frees its home.
 */
#include "blocks.h"

#include "lwip/mem.h"
#include "lwip/pbuf.h"

#define MOST  ((size_t)1 << 20)
#define SHARE 64

struct lwipy_blocks {
  struct lwipy_wire *wire;
  int side;
  size_t room;
  u32_t count, most;
  struct lwipy_block_list idle;    /* to be offered; freed last, first */
  struct lwipy_blocks *next;       /* of those that have idle ones */
};

struct lwipy_blocks *lwipy_blocks_idle;

struct lwipy_blocks *
lwipy_blocks_open(struct lwipy_wire *wire, int side, size_t room)
{
  struct lwipy_blocks *blocks = mem_calloc(1, sizeof(*blocks));
  size_t size = sizeof(struct lwipy_block) + room;
  if (blocks != NULL) {
    blocks->wire = wire;
    blocks->side = side;
    blocks->room = room;
    blocks->most = (u32_t)(LWIP_MIN(MOST, lwipy_arena_limit() / SHARE) / size);
  }
  return blocks;
}

static void
forget_idle(const struct lwipy_blocks *blocks)
{
  struct lwipy_blocks **link = &lwipy_blocks_idle;
  while (*link != NULL && *link != blocks) {
    link = &(*link)->next;
  }
  if (*link != NULL) {
    *link = blocks->next;
  }
}

void
lwipy_blocks_drop(struct lwipy_block_list *list)
{
  struct lwipy_block *block;
  while ((block = lwipy_block_take(list)) != NULL) {
    block->home->count--;
    lwipy_arena_spare(block, 0);
    mem_free(block);
  }
}

void
lwipy_blocks_close(struct lwipy_blocks *blocks)
{
  forget_idle(blocks);
  lwipy_blocks_drop(&blocks->idle);
  blocks->wire = NULL;
  if (blocks->count == 0) {
    mem_free(blocks);
  }
}

size_t
lwipy_blocks_room(const struct lwipy_blocks *blocks)
{
  return blocks->room;
}

static void
to_idle(struct lwipy_block *block)
{
  struct lwipy_blocks *blocks = block->home;
  if (blocks->idle.first == NULL) {
    blocks->next = lwipy_blocks_idle;
    lwipy_blocks_idle = blocks;
    blocks->idle.last = block;
  }
  block->next = blocks->idle.first;
  blocks->idle.first = block;
  lwipy_arena_spare(block, 1);
}

static void
block_free(struct pbuf *p)
{
  struct lwipy_block *block = (struct lwipy_block *)(void *)p;
  struct lwipy_blocks *blocks = block->home;
  if (blocks->wire != NULL) {
    to_idle(block);
    return;
  }
  mem_free(block);
  if (--blocks->count == 0) {
    mem_free(blocks);
  }
}

void
lwipy_blocks_grow(struct lwipy_blocks *blocks, u32_t more)
{
  for (; more > 0 && blocks->count < blocks->most && !lwipy_arena_is_low(); more--) {
    struct lwipy_block *block = mem_malloc(sizeof(*block) + blocks->room);
    if (block == NULL) {
      return;
    }
    block->home = blocks;
    block->custom.custom_free_function = block_free;
    blocks->count++;
    to_idle(block);
  }
}

struct pbuf *
lwipy_block_pbuf(struct lwipy_block *block, size_t skip)
{
  u16_t length = (u16_t)(block->length - skip);
  lwipy_arena_spare(block, 0);
  return pbuf_alloced_custom(PBUF_RAW, length, PBUF_RAM, &block->custom, block->bytes + skip, length);
}

void
lwipy_blocks_offer(void)
{
  struct lwipy_blocks *blocks;
  while ((blocks = lwipy_blocks_idle) != NULL) {
    lwipy_blocks_idle = blocks->next;
    lwipy_wire_offer(blocks->wire, blocks->side, blocks, &blocks->idle);
    blocks->idle.first = NULL;
  }
}
