/*
 * Sending again what is lost: lwIP's tcp_rexmit(), for any segment.
 *
 * Theory of operation. lwIP keeps two lists, of segments that are unacknowledged and of those that are unsent, and sends
 * from the second. What is marked LOST (flight.c) is moved from the first to its place in the second; the gate
 * (sending.c) then lets it out like anything else, in the order of sequence.
 *
 * Invariants:
 * 1. Both lists stay in the order of sequence.
 * 2. A segment that the device still holds is left alone: the next alarm tries again.
 */
#include "sending.h"

#include "lwip/priv/tcp_priv.h"

/* `*link` points to the segment on the list of unacked ones. */
static void
queue_again(struct tcp_pcb *pcb, struct tcp_seg **link)
{
  struct tcp_seg *seg = *link, **place = &pcb->unsent;
  *link = seg->next;
  while (*place != NULL && TCP_SEQ_LT(lwip_ntohl((*place)->tcphdr->seqno), lwip_ntohl(seg->tcphdr->seqno))) {
    place = &(*place)->next;
  }
  seg->next = *place;
  *place = seg;
  if (seg->next == NULL) {
    pcb->unsent_oversize = 0;
  }
  pcb->rttest = 0;
}

/* Queues again what of [seq, end) is on the list behind `link`; where to go on. */
static struct tcp_seg **
queue_range(struct tcp_pcb *pcb, struct tcp_seg **link, u32_t seq, u32_t end)
{
  while (*link != NULL && TCP_SEQ_LT(lwip_ntohl((*link)->tcphdr->seqno), end)) {
    struct tcp_seg *seg = *link;
    if (TCP_SEQ_GT(lwip_ntohl(seg->tcphdr->seqno) + TCP_TCPLEN(seg), seq) && seg->p->ref == 1) {
      queue_again(pcb, link);
    } else {
      link = &seg->next;
    }
  }
  return link;
}

u32_t
lwipy_repair(struct lwipy_sending *sending, u32_t room)
{
  struct lwipy_flight *flight = &sending->flight;
  struct tcp_seg **link = &sending->pcb->unacked;
  u32_t i, left = flight->lost;
  for (i = 0; i < flight->count && left > 0 && room > 0; i++) {
    const struct lwipy_sent *sent = lwipy_sent(flight, i);
    if (sent->flags & LWIPY_LOST) {
      left--;
      link = queue_range(sending->pcb, link, sent->seq, sent->end);
      room -= LWIP_MIN(room, lwipy_sent_length(sent));
    }
  }
  return room;
}
