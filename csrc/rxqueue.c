/*
 * Bytes received and not yet read.
 *
 * Theory of operation. lwIP hands over chains of pbufs; the queue links their members into one list of its own
 * (`tot_len` is 16 bits, so a chain cannot hold a window). Small payloads are copied together: a pbuf costs some
 * hundred bytes however little it carries, and a peer that sends single bytes must not eat the arena.
 *
 * Invariants:
 * 1. The queue owns one reference of every pbuf on the list; `next` links the list, `tot_len` means nothing there.
 * 2. `bytes` is the sum of `len` less `offset`, and never more than the window that was announced.
 * 3. `tail_room` > 0 only while the tail is a pbuf that the queue itself allocated.
 */
#include "tcp.h"
#include "copy.h"

#include <string.h>

#define SMALL   512
#define COLLECT 4096

static void
append(struct lwipy_rxqueue *queue, struct pbuf *p)
{
  if (queue->tail != NULL) {
    queue->tail->next = p;
  } else {
    queue->head = p;
  }
  queue->tail = p;
}

/* Copies a small payload behind the tail; 0 when there is no memory for a collecting pbuf. */
static int
collect(struct lwipy_rxqueue *queue, const struct pbuf *p)
{
  if (queue->tail_room < p->len) {
    struct pbuf *collector = pbuf_alloc(PBUF_RAW, COLLECT, PBUF_RAM);
    if (collector == NULL) {
      return 0;
    }
    collector->len = 0;
    append(queue, collector);
    queue->tail_room = COLLECT;
  }
  memcpy((u8_t *)queue->tail->payload + queue->tail->len, p->payload, p->len);
  queue->tail->len = (u16_t)(queue->tail->len + p->len);
  queue->tail_room -= p->len;
  return 1;
}

void
lwipy_rxqueue_put(struct lwipy_rxqueue *queue, struct pbuf *p)
{
  while (p != NULL) {
    struct pbuf *next = p->next;
    p->next = NULL;
    queue->bytes += p->len;
    if (p->len <= SMALL && queue->bytes > p->len && collect(queue, p)) {
      pbuf_free(p);
    } else if (p->len == 0) {
      pbuf_free(p);
    } else {
      append(queue, p);
      queue->tail_room = 0;
    }
    p = next;
  }
}

u32_t
lwipy_rxqueue_get(struct lwipy_rxqueue *queue, void *buffer, u32_t room, int peek)
{
  struct pbuf *p = queue->head;
  u32_t offset = queue->offset, done = 0;
  while (p != NULL && done < room) {
    u32_t part = LWIP_MIN(p->len - offset, room - done);
    lwipy_copy((u8_t *)buffer + done, (u8_t *)p->payload + offset, part);
    done += part;
    offset += part;
    if (offset == p->len) {
      struct pbuf *next = p->next;
      if (!peek) {
        p->next = NULL;
        pbuf_free(p);
        queue->head = next;
        if (next == NULL) {
          queue->tail = NULL;
          queue->tail_room = 0;
        }
      }
      p = next;
      offset = 0;
    }
  }
  if (!peek) {
    queue->offset = offset;
    queue->bytes -= done;
  }
  return done;
}

void
lwipy_rxqueue_clear(struct lwipy_rxqueue *queue)
{
  while (queue->head != NULL) {
    struct pbuf *next = queue->head->next;
    queue->head->next = NULL;
    pbuf_free(queue->head);
    queue->head = next;
  }
  memset(queue, 0, sizeof(*queue));
}
