/*
 * Sending without a copy: memory of the application that lwIP's segments point to, until nobody reads it any more.
 *
 * Theory of operation. What is given to lwipy_tcp_send_held() must not change nor go away until its hold has come home.
 * A hold is the application's, and counts who refers to that memory. Each such call takes one of the references and
 * leaves a note behind the connection's last one: the hold, where the bytes are, and which of the stream they are. A
 * note is finished when nothing that lwIP has queued begins before its end, or when the pcb dies, in whatever way: the
 * notes hang on the state that dies with it (sending.c). Segments that cross a wire to another core refer to the memory
 * for themselves (lend.c). Whoever drops the last reference puts the hold on the list that is its home, of whichever
 * core that is, and in whatever order cores end. The application looks there when it likes; should it not have done so
 * for a while, it is reminded.
 *
 * Where lwIP keeps a packet beyond the pcb (for an address to be resolved) it makes a copy of such memory: see
 * PBUF_NEEDS_COPY in lwipopts.h. All links and stages copy what they keep, or are through with it when the call ends.
 *
 * Invariants:
 * 1. A hold comes home exactly once, and for the sender not before the call of the border is over in which its note
 *    was finished. A core that is closed drops all its references.
 * 2. The notes of a connection are in the order of sequence. Each byte of the stream between a note's `start` and `end`
 *    is the one at that place in its memory.
 * 3. Holds and their homes belong to no core: what is done to them is atomic.
 */
#include "held.h"
#include "sending.h"

#include "lwip/mem.h"
#include "lwip/priv/tcp_priv.h"

struct lwipy_held {
  struct lwipy_held *next;         /* of the connection, or of those that are finished */
  struct lwipy_held *before, *behind;   /* of all that the core has */
  lwipy_hold *hold;
  const u8_t *data;
  u32_t start, end;
};

#define REMIND 10000               /* microseconds */

static struct lwipy_held *all, *finished;

/* ---- Holds ---------------------------------------------------------------------------------------------------------- */

static void
remind(struct lwipy_deadline *deadline)
{
  LWIP_UNUSED_ARG(deadline);
  lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_RELEASED);
}

static struct lwipy_deadline reminder = { .due = LWIPY_NEVER, .run = remind };

void
lwipy_hold_drop(lwipy_hold *hold)
{
  if (lwipy_atomic_add(&hold->references, -1) > 0) {
    return;
  }
  do {
    hold->next = lwipy_atomic_get_pointer(hold->home);
  } while (!lwipy_atomic_replace(hold->home, hold->next, hold));
  if (reminder.due == LWIPY_NEVER) {
    lwipy_deadline_set(&reminder, lwipy_latest() + REMIND);
  }
}

/* ---- Notes ---------------------------------------------------------------------------------------------------------- */

struct lwipy_held *
lwipy_held_new(lwipy_hold *hold, const void *data)
{
  struct lwipy_held *held = mem_calloc(1, sizeof(*held));
  if (held != NULL) {
    held->hold = hold;
    held->data = data;
    held->behind = all;
    if (all != NULL) {
      all->before = held;
    }
    all = held;
  }
  return held;
}

void
lwipy_held_discard(struct lwipy_held *held)
{
  *(held->before != NULL ? &held->before->behind : &all) = held->behind;
  if (held->behind != NULL) {
    held->behind->before = held->before;
  }
  mem_free(held);
}

void
lwipy_held_add(struct lwipy_sending *sending, struct lwipy_held *held, u32_t start, u32_t end)
{
  held->start = start;
  held->end = end;
  *(sending->held != NULL ? &sending->last_held->next : &sending->held) = held;
  sending->last_held = held;
}

void
lwipy_held_release(struct lwipy_held *held)
{
  held->next = finished;
  finished = held;
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
  if (sending->found_held == held) {
    sending->found_held = NULL;
  }
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

u32_t
lwipy_held_find(struct lwipy_sending *sending, u32_t seq, u32_t length, struct lwipy_part *parts, u32_t room)
{
  struct lwipy_held *held = sending->found_held, *found = NULL;
  u32_t count = 0;
  if (held == NULL || TCP_SEQ_LT(seq, held->start)) {
    held = sending->held;          /* something goes again */
  }
  while (held != NULL && TCP_SEQ_LEQ(held->end, seq)) {
    held = held->next;
  }
  for (; length > 0; held = held->next) {
    struct lwipy_part part;
    if (held == NULL || TCP_SEQ_LT(seq, held->start)) {
      return 0;
    }
    part.hold = held->hold;
    part.data = held->data + (seq - held->start);
    part.length = LWIP_MIN(length, held->end - seq);
    seq += part.length;
    length -= part.length;
    found = held;
    if (count > 0 && parts[count - 1].hold == part.hold && parts[count - 1].data + parts[count - 1].length == part.data) {
      parts[count - 1].length += part.length;   /* sent bit by bit */
    } else if (count < room) {
      parts[count++] = part;
    } else {
      return 0;
    }
  }
  sending->found_held = found;
  return count;
}

/* ---- The core --------------------------------------------------------------------------------------------------------- */

void
lwipy_held_settle(void)
{
  struct lwipy_held *held;
  while ((held = finished) != NULL) {
    finished = held->next;
    lwipy_hold_drop(held->hold);
    lwipy_held_discard(held);
  }
}

void
lwipy_held_end(void)
{
  const struct lwipy_held *held;
  for (held = all; held != NULL; held = held->behind) {
    lwipy_hold_drop(held->hold);
  }
  all = finished = NULL;
}
