/*
 * Stages: what a frame passes between lwIP and the link of its interface (impair.c, pace.c, capture.c).
 *
 * Theory of operation. An interface has a chain of stages, empty as a rule. A frame for the wire enters at the stack's
 * end and goes from stage to stage towards the wire; a frame from the wire enters at the other end. Each stage passes
 * a frame on, drops it, or keeps a copy until it is due. When the earliest of them is due, lwipy_stages_run() is
 * called by core_poll(); so a stage's deadline is one of the stack's.
 *
 * Invariants:
 * 1. A pbuf given to a stage is the giver's: it is read or copied during the call, never kept.
 * 2. `lwipy_stages_due` is never later than the earliest deadline of any stage; it may be earlier, at the price of
 *    one look.
 * 3. In each direction a stage is entered at most once at a time: what lwIP sends in answer goes the other way.
 * 4. Stages next to the wire keep their place by rank, whatever order they were added in; among equals, the one added
 *    last is nearest the stack.
 */
#ifndef LWIPY_STAGE_H
#define LWIPY_STAGE_H

#include "core.h"

struct lwipy_nic;
struct lwipy_stage;

enum lwipy_rank { LWIPY_RANK_NESTED, LWIPY_RANK_PACING, LWIPY_RANK_WIRE };

struct lwipy_stage_kind {
  void (*frame)(struct lwipy_stage *stage, int direction, const struct pbuf *p);
  int64_t (*run)(struct lwipy_stage *stage, int64_t now);   /* does what is due; the next deadline, or LWIPY_NEVER */
  void (*end)(struct lwipy_stage *stage, int pass_on);      /* gives back what it has, frames it keeps first */
};

struct lwipy_stage {                   /* the first member of each kind's own structure */
  struct lwipy_stage *next[2];         /* LWIPY_IN: towards the stack; LWIPY_OUT: towards the wire; NULL: none there */
  const struct lwipy_stage_kind *kind;
  struct lwipy_nic *nic;
  int number, rank;
};

extern int64_t lwipy_stages_due;

/* For the kinds. lwipy_stage_new gives zeroed memory, already in its place; NULL: no memory. */
void *lwipy_stage_new(struct lwipy_nic *nic, const struct lwipy_stage_kind *kind, enum lwipy_rank rank, size_t size);
void *lwipy_stage_find(int nic, int number, const struct lwipy_stage_kind *kind);   /* NULL: no such stage */
void lwipy_stage_pass(struct lwipy_stage *stage, int direction, const struct pbuf *p);
void lwipy_stage_wake(int64_t due);
void lwipy_stage_end(struct lwipy_stage *stage);   /* without passing on what it keeps */

/* For netif.c and core.c. */
void lwipy_stages_enter(struct lwipy_nic *nic, int direction, const struct pbuf *p);
void lwipy_stages_enter_bytes(struct lwipy_nic *nic, const u8_t *frame, u16_t length);
void lwipy_stages_run(void);
void lwipy_stages_end(struct lwipy_nic *nic);

/* A frame that is kept: one block of the arena, one contiguous pbuf. */
struct lwipy_kept {
  struct lwipy_kept *next;
  int64_t due;                         /* when it goes on */
  int64_t sent;                        /* impair.c: when its last bit has left the transmitter */
  struct pbuf_custom frame;
  u8_t bytes[];
};

/* Kept frames in the order of their going on. Zeroed memory is an empty queue. */
struct lwipy_queue {
  struct lwipy_kept *first, *last;
  u32_t frames;
  size_t bytes;
};

struct lwipy_kept *lwipy_keep(const struct pbuf *p);   /* NULL: no memory */
void lwipy_kept_free(struct lwipy_kept *kept);
void lwipy_queue_put(struct lwipy_queue *queue, struct lwipy_kept *kept);
struct lwipy_kept *lwipy_queue_take(struct lwipy_queue *queue);   /* NULL: empty */
void lwipy_queue_clear(struct lwipy_queue *queue);

#endif /* LWIPY_STAGE_H */
