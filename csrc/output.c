/*
 * Sending where much is in flight already: lwIP's tcp_output() begins at the end of the list of unacknowledged segments.
 *
 * Theory of operation. To append what it sends, tcp_output() walks that list from its head, each time it is called: with
 * 4 MB in flight three thousand segments, for each acknowledgement that lets two more go. It uses the list for nothing
 * else but to see whether it is empty. So the last segment is remembered, the list begins there while tcp_output()
 * works, and is put together again behind it.
 *
 * A segment is freed when it has been acknowledged to its end, and not before; it may be moved to the list of unsent
 * ones, to be sent again (repair.c, lwIP's own timer). While it is there, the first one that waits to be sent does not
 * lie behind it.
 *
 * Invariants:
 * 1. `tail` is NULL, or its end lies behind lastack, so that it lives: looked at after every acknowledgement.
 * 2. The list begins at `tail` only while what is to be sent lies behind its end: then it is on that list, and what is
 *    sent belongs behind it.
 */
#include "sending.h"

#include "lwip/priv/tcp_priv.h"

static u32_t
end_of(const struct tcp_seg *seg)
{
  return lwip_ntohl(seg->tcphdr->seqno) + TCP_TCPLEN(seg);
}

static struct tcp_seg *
last_from(struct tcp_seg *seg)
{
  while (seg->next != NULL) {
    seg = seg->next;
  }
  return seg;
}

void
lwipy_output(struct lwipy_sending *sending)
{
  struct tcp_pcb *pcb = sending->pcb;
  struct tcp_seg *head = pcb->unacked, *tail = sending->tail;
  u32_t next;
  if (tail != NULL && TCP_SEQ_LEQ(sending->tail_end, pcb->lastack)) {
    sending->tail = tail = NULL;
  }
  if (head == NULL || pcb->unsent == NULL || pcb->state != ESTABLISHED || (pcb->flags & TF_RTO) ||
      (lwipy_without & LWIPY_WITHOUT_TAIL)) {
    tcp_output(pcb);
    return;
  }
  next = lwip_ntohl(pcb->unsent->tcphdr->seqno);
  if (tail != NULL && TCP_SEQ_LT(next, sending->tail_end)) {
    tcp_output(pcb);               /* something goes again */
    return;
  }
  tail = last_from(tail != NULL ? tail : head);
  if (TCP_SEQ_LT(next, end_of(tail))) {
    tcp_output(pcb);
    return;
  }
  pcb->unacked = tail;
  tcp_output(pcb);
  pcb->unacked = head;
  sending->tail = last_from(tail);
  sending->tail_end = end_of(sending->tail);
}
