/*
 * See stage.h.
 */
#include "merge.h"
#include "stage.h"
#include "link.h"

#include <string.h>

#include "lwip/mem.h"

int64_t lwipy_stages_due = LWIPY_NEVER;

static int last_number;

/* ---- Frames on their way ----------------------------------------------------------------------------------------- */

static void
go(struct lwipy_stage *stage, struct lwipy_nic *nic, int direction, const struct pbuf *p)
{
  if (stage != NULL) {
    stage->kind->frame(stage, direction, p);
  } else if (direction == LWIPY_OUT) {
    lwipy_nic_output(nic, p);
  } else {
    lwipy_nic_accept(nic, p->payload, p->len);
  }
}

void
lwipy_stage_pass(struct lwipy_stage *stage, int direction, const struct pbuf *p)
{
  go(stage->next[direction], stage->nic, direction, p);
}

void
lwipy_stages_enter(struct lwipy_nic *nic, int direction, const struct pbuf *p)
{
  go(nic->stages[direction], nic, direction, p);
}

void
lwipy_stages_enter_bytes(struct lwipy_nic *nic, const u8_t *frame, u16_t length)
{
  struct pbuf p;
  memset(&p, 0, sizeof(p));
  p.payload = (void *)(uintptr_t)frame;
  p.len = p.tot_len = length;
  p.ref = 1;
  go(nic->stages[LWIPY_IN], nic, LWIPY_IN, &p);
}

void
lwipy_stage_wake(int64_t due)
{
  lwipy_stages_due = LWIP_MIN(lwipy_stages_due, due);
}

void
lwipy_stages_run(void)
{
  int64_t now;
  int i;
  if (lwipy_stages_due == LWIPY_NEVER || lwipy_stages_due > (now = lwipy_now())) {
    return;
  }
  lwipy_stages_due = LWIPY_NEVER;
  lwipy_timers_stir();
  lwipy_batch_begin();
  for (i = 1; i < 256; i++) {
    struct lwipy_nic *nic = lwipy_nic(i);
    struct lwipy_stage *stage = nic != NULL ? nic->stages[LWIPY_OUT] : NULL;
    for (; stage != NULL; stage = stage->next[LWIPY_OUT]) {
      lwipy_stage_wake(stage->kind->run(stage, now));
    }
  }
  lwipy_batch_end();
}

/* ---- Life of a stage ---------------------------------------------------------------------------------------------- */

void *
lwipy_stage_new(struct lwipy_nic *nic, const struct lwipy_stage_kind *kind, enum lwipy_rank rank, size_t size)
{
  struct lwipy_stage *stage = mem_calloc(1, size), *before = NULL, *behind = nic->stages[LWIPY_OUT];
  if (stage == NULL) {
    return NULL;
  }
  for (; behind != NULL && behind->rank < (int)rank; behind = behind->next[LWIPY_OUT]) {
    before = behind;
  }
  stage->kind = kind;
  stage->nic = nic;
  stage->rank = rank;
  stage->number = ++last_number;
  stage->next[LWIPY_IN] = before;
  stage->next[LWIPY_OUT] = behind;
  *(before != NULL ? &before->next[LWIPY_OUT] : &nic->stages[LWIPY_OUT]) = stage;
  *(behind != NULL ? &behind->next[LWIPY_IN] : &nic->stages[LWIPY_IN]) = stage;
  lwipy_link_restage(nic);
  lwipy_wire_restage(nic);
  return stage;
}

void *
lwipy_stage_find(int number, int stage_number, const struct lwipy_stage_kind *kind)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct lwipy_stage *stage = nic != NULL ? nic->stages[LWIPY_OUT] : NULL;
  while (stage != NULL && (stage->number != stage_number || (kind != NULL && stage->kind != kind))) {
    stage = stage->next[LWIPY_OUT];
  }
  return stage;
}

/* Out of the chain first: frames that it passes on at its end, and what they cause, do not meet it again. */
static void
end(struct lwipy_stage *stage, int pass_on)
{
  struct lwipy_nic *nic = stage->nic;
  int direction;
  for (direction = LWIPY_IN; direction <= LWIPY_OUT; direction++) {
    struct lwipy_stage *giver = stage->next[1 - direction];
    *(giver != NULL ? &giver->next[direction] : &nic->stages[direction]) = stage->next[direction];
  }
  stage->kind->end(stage, pass_on);
  lwipy_link_restage(nic);
  lwipy_wire_restage(nic);
  mem_free(stage);
}

void
lwipy_stage_end(struct lwipy_stage *stage)
{
  end(stage, 0);
}

void
lwipy_stages_end(struct lwipy_nic *nic)
{
  while (nic->stages[LWIPY_OUT] != NULL) {
    end(nic->stages[LWIPY_OUT], 0);
  }
}

int
core_stage_remove(int number, int stage_number)
{
  struct lwipy_stage *stage = lwipy_stage_find(number, stage_number, NULL);
  if (stage == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  end(stage, 1);
  return 0;
}

/* ---- Kept frames --------------------------------------------------------------------------------------------------- */

static void
kept_free(struct pbuf *p)
{
  mem_free((u8_t *)p - offsetof(struct lwipy_kept, frame));
}

struct lwipy_kept *
lwipy_keep(const struct pbuf *p)
{
  struct lwipy_kept *kept = mem_malloc(sizeof(*kept) + p->tot_len);
  if (kept == NULL) {
    return NULL;
  }
  memset(kept, 0, sizeof(*kept));
  kept->frame.custom_free_function = kept_free;
  pbuf_alloced_custom(PBUF_RAW, p->tot_len, PBUF_REF, &kept->frame, kept->bytes, p->tot_len);
  pbuf_copy_partial(p, kept->bytes, p->tot_len, 0);
  return kept;
}

void
lwipy_kept_free(struct lwipy_kept *kept)
{
  pbuf_free(&kept->frame.pbuf);
}

void
lwipy_queue_put(struct lwipy_queue *queue, struct lwipy_kept *kept)
{
  kept->next = NULL;
  *(queue->last != NULL ? &queue->last->next : &queue->first) = kept;
  queue->last = kept;
  queue->frames++;
  queue->bytes += kept->frame.pbuf.tot_len;
}

struct lwipy_kept *
lwipy_queue_take(struct lwipy_queue *queue)
{
  struct lwipy_kept *kept = queue->first;
  if (kept != NULL) {
    queue->first = kept->next;
    if (queue->first == NULL) {
      queue->last = NULL;
    }
    queue->frames--;
    queue->bytes -= kept->frame.pbuf.tot_len;
  }
  return kept;
}

void
lwipy_queue_clear(struct lwipy_queue *queue)
{
  struct lwipy_kept *kept;
  while ((kept = lwipy_queue_take(queue)) != NULL) {
    lwipy_kept_free(kept);
  }
}
