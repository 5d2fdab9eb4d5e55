/*
 * Sending without a copy: memory of the application that lwIP's segments point to, until the peer has it.
 *
 * Theory of operation. What is given to lwipy_tcp_send_held() must not change nor go away until its token has been
 * told by lwipy_released(). Each such call leaves a note behind the connection's last one: the token, and the end of
 * its bytes in the stream. A note is finished when nothing that lwIP has queued begins before that end, or when the pcb
 * dies, in whatever way: the notes hang on the state that dies with it (sending.c). Tokens are told in batches, when
 * somebody asks; whoever has not asked for a while is reminded.
 *
 * Where lwIP keeps a packet beyond the pcb (for an address to be resolved) it makes a copy of such memory: see
 * PBUF_NEEDS_COPY in lwipopts.h. All links and stages copy what they keep, or are through with it when the call ends.
 *
 * Invariants:
 * 1. A token that a call took is told exactly once, and not before the call of the border is over in which its note was
 *    finished. When the core is closed those not told are forgotten: nothing is sent then.
 * 2. The notes of a connection are in the order of sequence.
 */
#include "sending.h"

#include "lwip/mem.h"
#include "lwip/priv/tcp_priv.h"

struct lwipy_held {
  struct lwipy_held *next;
  u64_t token;
  u32_t end;
};

#define REMIND 10000               /* microseconds */

static struct lwipy_held *released, **last_released = &released;

static void
remind(struct lwipy_deadline *deadline)
{
  LWIP_UNUSED_ARG(deadline);
  lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_RELEASED);
}

static struct lwipy_deadline reminder = { .due = LWIPY_NEVER, .run = remind };

struct lwipy_held *
lwipy_held_new(u64_t token)
{
  struct lwipy_held *held = mem_malloc(sizeof(*held));
  if (held != NULL) {
    held->next = NULL;
    held->token = token;
  }
  return held;
}

void
lwipy_held_add(struct lwipy_sending *sending, struct lwipy_held *held, u32_t end)
{
  held->end = end;
  *(sending->held != NULL ? &sending->last_held->next : &sending->held) = held;
  sending->last_held = held;
}

void
lwipy_held_release(struct lwipy_held *held)
{
  if (released == NULL) {
    lwipy_deadline_set(&reminder, lwipy_latest() + REMIND);
  }
  held->next = NULL;
  *last_released = held;
  last_released = &held->next;
}

static int
is_queued(const struct tcp_seg *seg, u32_t end)
{
  return seg != NULL && TCP_SEQ_LT(lwip_ntohl(seg->tcphdr->seqno), end);
}

static void
release_first(struct lwipy_sending *sending)
{
  struct lwipy_held *held = sending->held;
  sending->held = held->next;
  lwipy_held_release(held);
}

void
lwipy_held_acked(struct lwipy_sending *sending)
{
  const struct tcp_pcb *pcb = sending->pcb;
  while (sending->held != NULL && !is_queued(pcb->unacked, sending->held->end) &&
         !is_queued(pcb->unsent, sending->held->end)) {
    release_first(sending);
  }
}

void
lwipy_held_clear(struct lwipy_sending *sending)
{
  while (sending->held != NULL) {
    release_first(sending);
  }
}

int
core_released(uint64_t *tokens, int room)
{
  int count;
  for (count = 0; count < room && released != NULL; count++) {
    struct lwipy_held *held = released;
    tokens[count] = held->token;
    released = held->next;
    mem_free(held);
  }
  if (released == NULL) {
    last_released = &released;
    lwipy_deadline_set(&reminder, LWIPY_NEVER);
    lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_RELEASED);
  }
  return count;
}
