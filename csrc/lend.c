/*
 * Lending: held memory crosses a wire by reference, and is copied once, when the receiver reads it.
 *
 * Theory of operation. A frame whose payload the sender holds (held.c) need not be copied to where the receiver reads
 * it from: it lies in this process, and neither changes nor goes away. Such a frame crosses as a block with the headers
 * and references to the parts of the payload. The receiver makes a chain of pbufs of it, whose first has the headers
 * and whose others point into the sender's memory. lwIP and the connection's queue treat them like any; whoever frees
 * one drops its reference. So that memory is held for longer than until it is acknowledged: until it was read, too, but
 * of a connection no more at a time than its window.
 *
 * What bytes a frame has is known by its connection, which is the last one that gave lwIP a segment to send, and by its
 * sequence number.
 *
 * Invariants:
 * 1. Each part of a frame on a wire, and each pbuf made of one, has a reference of its own. Those of a frame that nobody
 *    takes are dropped with it, those of the pbufs with these, or when their core is closed, which reads nothing then.
 * 2. Frames are lent only where nobody looks at them: see wire_offload.c's first invariant.
 * 3. `from` and `bundled` are NULL or live: the connection's end clears them.
 */
#include "lend.h"
#include "offload.h"
#include "sending.h"

#include "lwip/mem.h"
#include "lwip/pbuf.h"

#define PARTS 6

/* What such a block has. */
struct lent {
  u8_t headers[LWIPY_LONGEST_HEADERS];
  u16_t count;
  struct lwipy_part parts[PARTS];
};

/* A pbuf that points to others' memory. */
struct reference {
  struct pbuf_custom custom;       /* first: lwIP sees only this */
  lwipy_hold *hold;
  struct reference *before, *behind;
};

const size_t lwipy_lent_room = sizeof(struct lent);

static struct lwipy_sending *from, *bundled;
static struct reference *all;

static struct lent *
lent_of(struct lwipy_block *block)
{
  return (struct lent *)(void *)block->bytes;
}

/* ---- The sender ------------------------------------------------------------------------------------------------------ */

void
lwipy_lend_from(struct lwipy_sending *sending)
{
  from = sending;
}

void
lwipy_lend_bundled(void)
{
  bundled = from;
}

void
lwipy_lend_forget(const struct lwipy_sending *sending)
{
  from = from == sending ? NULL : from;
  bundled = bundled == sending ? NULL : bundled;
}

struct lwipy_block *
lwipy_lend(struct lwipy_wire_end *to, const struct lwipy_bundle *bundle)
{
  const struct pbuf *first = bundle->segments[0];
  struct lwipy_part parts[PARTS];
  struct lwipy_block *block;
  struct lent *lent;
  u32_t i, count;
  if (bundle->bytes < LWIPY_LEND_LEAST || bundled == NULL ||
      (count = lwipy_held_find(bundled, bundle->next - bundle->bytes, bundle->bytes, parts, PARTS)) == 0 ||
      first->len != bundle->at.payload || first->next->payload != parts[0].data) {
    return NULL;
  }
  if ((block = lwipy_wire_next_block(to, &to->lent)) == NULL) {
    to->wanted_lent++;
    return NULL;
  }
  lent = lent_of(block);
  lent->count = (u16_t)count;
  for (i = 0; i < count; i++) {
    lwipy_hold_keep(parts[i].hold);
    lent->parts[i] = parts[i];
  }
  return block;
}

/* ---- The receiver ---------------------------------------------------------------------------------------------------- */

static void
reference_free(struct pbuf *p)
{
  struct reference *reference = (struct reference *)(void *)p;
  *(reference->before != NULL ? &reference->before->behind : &all) = reference->behind;
  if (reference->behind != NULL) {
    reference->behind->before = reference->before;
  }
  lwipy_hold_drop(reference->hold);
  mem_free(reference);
}

/* The part's reference is the pbuf's now; NULL: no memory. */
static struct pbuf *
refer(const struct lwipy_part *part)
{
  struct reference *reference = mem_malloc(sizeof(*reference));
  if (reference == NULL) {
    return NULL;
  }
  reference->custom.custom_free_function = reference_free;
  reference->hold = part->hold;
  reference->before = NULL;
  reference->behind = all;
  if (all != NULL) {
    all->before = reference;
  }
  all = reference;
  return pbuf_alloced_custom(PBUF_RAW, (u16_t)part->length, PBUF_REF, &reference->custom,
                             (void *)(uintptr_t)part->data, (u16_t)part->length);
}

struct pbuf *
lwipy_lent_pbuf(struct lwipy_block *block, size_t skip)
{
  struct lent *lent = lent_of(block);
  struct pbuf *head = lwipy_block_pbuf(block, skip);
  u32_t left = 0;
  int i, missing = 0;
  for (i = lent->count - 1; i >= 0; i--) {
    struct pbuf *p = missing ? NULL : refer(&lent->parts[i]);
    if (p == NULL) {
      lwipy_hold_drop(lent->parts[i].hold);
      missing = 1;
    } else {
      left += p->len;
      p->tot_len = (u16_t)left;
      p->next = head->next;
      head->next = p;
    }
  }
  head->tot_len = (u16_t)(head->len + left);
  if (missing) {
    pbuf_free(head);
    return NULL;
  }
  return head;
}

void
lwipy_lent_drop(struct lwipy_block *block)
{
  const struct lent *lent = lent_of(block);
  u32_t i;
  for (i = 0; i < lent->count; i++) {
    lwipy_hold_drop(lent->parts[i].hold);
  }
}

void
lwipy_lent_end(void)
{
  const struct reference *reference;
  for (reference = all; reference != NULL; reference = reference->behind) {
    lwipy_hold_drop(reference->hold);
  }
  all = NULL;
}
