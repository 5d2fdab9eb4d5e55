/*
 * Sending where much is in flight already, or much is to be sent: what lwIP's tcp_output() need not do each time.
 *
 * Theory of operation. To append what it sends, tcp_output() walks the list of unacknowledged segments from its head, each
 * time it is called: with 4 MB in flight three thousand segments, for each acknowledgement that lets two more go. It uses
 * the list for nothing else but to see whether it is empty. So the last segment is remembered, the list begins there while
 * tcp_output() works, and is put together again behind it.
 *
 * A segment is freed when it has been acknowledged to its end, and not before; it may be moved to the list of unsent
 * ones, to be sent again (repair.c, lwIP's own timer). While it is there, the first one that waits to be sent does not
 * lie behind it; and where the peer's window has no room for all of it, lwIP's timer cuts it, so that its end comes
 * sooner. Its beginning stays what it was.
 *
 * Segments that a device puts into one frame (bundle.c) need the headers of the first alone. So tcp_output() sends one of
 * them, and those of the same size that follow are appended to what left, with all that it would have noted of them. What
 * is sent again, is the last or is shorter has lwIP's own decision.
 *
 * Invariants:
 * 1. `tail` is NULL, or nothing of it is acknowledged, so that it lives: looked at by where it begins, after every
 *    acknowledgement.
 * 2. The list begins at `tail` only while what is to be sent lies behind it: then it is on that list, and what is sent
 *    belongs behind it.
 * 3. A segment follows only what left in this very call, and only within the window; it is a full one, so that there is
 *    no reason to keep it back.
 */
#include "sending.h"
#include "offload.h"

#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"

static u32_t
seq_of(const struct tcp_seg *seg)
{
  return lwip_ntohl(seg->tcphdr->seqno);
}

static u32_t
end_of(const struct tcp_seg *seg)
{
  return seq_of(seg) + TCP_TCPLEN(seg);
}

static struct tcp_seg *
last_from(struct tcp_seg *seg)
{
  while (seg->next != NULL) {
    seg = seg->next;
  }
  return seg;
}

/* ---- Segments that follow ------------------------------------------------------------------------------------------ */

static int
may_follow(const struct tcp_pcb *pcb, const struct tcp_seg *seg, u32_t window)
{
  return seg != NULL && seg->len >= pcb->mss && seq_of(seg) - pcb->lastack + seg->len <= window && seg->p->ref == 1 &&
         seg->p->payload == seg->tcphdr && (pcb->flags & TF_NAGLEMEMERR) == 0;
}

static void
count_sent(const struct tcp_pcb *pcb, u32_t count)
{
  lwip_stats.tcp.xmit += count;
  if (IP_IS_V6_VAL(pcb->remote_ip)) {
    lwip_stats.ip6.xmit += count;
  } else {
    lwip_stats.ip.xmit += count;
  }
}

/* Behind `last`, the last one in flight; who is that now. */
static struct tcp_seg *
follow(struct tcp_pcb *pcb, struct tcp_seg *last, u32_t window)
{
  struct tcp_seg *seg;
  u32_t count = 0;
  while (may_follow(pcb, seg = pcb->unsent, window)) {
    TCPH_SET_FLAG(seg->tcphdr, TCP_ACK);
    if (!lwipy_bundle_follow(last->p, seg->p)) {
      break;
    }
    lwipy_sending_out(pcb, seg->tcphdr, seg->len);
    pcb->unsent = seg->next;
    pcb->snd_nxt = end_of(seg);
    seg->next = NULL;
    last = last->next = seg;
    count++;
  }
  if (pcb->unsent == NULL) {
    pcb->unsent_oversize = 0;
  }
  count_sent(pcb, count);
  return last;
}

/* tcp_output() of what is new: behind the only segment that is on the list of those in flight, if any. */
static void
send_new(struct tcp_pcb *pcb)
{
  u32_t gate = pcb->cwnd, window = LWIP_MIN(gate, pcb->snd_wnd);
  struct tcp_seg *first = pcb->unsent, *last;
  while (first != NULL && may_follow(pcb, first->next, window)) {
    pcb->cwnd = seq_of(first) - pcb->lastack + first->len;
    tcp_output(pcb);
    pcb->cwnd = gate;
    if (pcb->unsent == first) {
      return;
    }
    last = follow(pcb, first, window);
    pcb->unacked = last;
    if (last == first) {
      break;
    }
    first = pcb->unsent;
  }
  tcp_output(pcb);
}

/* ---- The list of what is in flight ----------------------------------------------------------------------------------- */

void
lwipy_output(struct lwipy_sending *sending)
{
  struct tcp_pcb *pcb = sending->pcb;
  struct tcp_seg *head = pcb->unacked, *tail = sending->tail, *first = pcb->unsent;
  if (tail != NULL && TCP_SEQ_LT(sending->tail_seq, pcb->lastack)) {
    sending->tail = tail = NULL;
  }
  if (first == NULL || pcb->state != ESTABLISHED || (pcb->flags & TF_RTO) || (lwipy_without & LWIPY_WITHOUT_TAIL) ||
      (tail != NULL && TCP_SEQ_LEQ(seq_of(first), sending->tail_seq))) {
    tcp_output(pcb);               /* little, or something goes again */
    return;
  }
  if (head != NULL) {
    tail = last_from(tail != NULL ? tail : head);
    if (TCP_SEQ_LT(seq_of(first), end_of(tail))) {
      tcp_output(pcb);
      return;
    }
    pcb->unacked = tail;
  }
  send_new(pcb);
  if (pcb->unacked != NULL) {
    sending->tail = last_from(pcb->unacked);
    sending->tail_seq = seq_of(sending->tail);
    pcb->unacked = head != NULL ? head : first;
  }
}
