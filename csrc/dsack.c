/*
 * Telling the peer what it has sent twice (DSACK, RFC 2883): lwIP does not.
 *
 * Theory of operation. A segment that lies below what was received is answered by lwIP at once. For that one answer the
 * segment is put in front of the blocks that lwIP is about to report (pcb->rcv_sacks); when lwIP is through with it, the
 * blocks are as they were. The peer learns that what it sent again, or probed with, was needless: without that it would
 * take a late answer for a loss.
 *
 * Invariants:
 * 1. The blocks are changed only between the hook and the end of the segment's processing.
 * 2. Nothing is put in front while the list has no room for it, or the peer does not know SACK.
 * 3. lwIP frees no pcb for such a segment: the states in which it would (LAST_ACK) have no part in this.
 */
#include "sending.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"

static struct tcp_pcb *told;
static u32_t told_left;

void
lwipy_dsack_in(struct tcp_pcb *pcb, u32_t seqno, u32_t length)
{
  u32_t end = seqno + length;
  if (length == 0 || !(pcb->flags & TF_SACK) || pcb->state < ESTABLISHED || pcb->state >= CLOSE_WAIT ||
      TCP_SEQ_GT(end, pcb->rcv_nxt) ||
      LWIP_TCP_SACK_VALID(pcb, LWIP_TCP_MAX_SACK_NUM - 1)) {
    return;
  }
  memmove(&pcb->rcv_sacks[1], &pcb->rcv_sacks[0], sizeof(pcb->rcv_sacks) - sizeof(pcb->rcv_sacks[0]));
  pcb->rcv_sacks[0].left = told_left = seqno;
  pcb->rcv_sacks[0].right = end;
  told = pcb;
}

void
lwipy_dsack_through(void)
{
  struct tcp_pcb *pcb = told;
  told = NULL;
  if (pcb != NULL && pcb->rcv_sacks[0].left == told_left) {
    memmove(&pcb->rcv_sacks[0], &pcb->rcv_sacks[1], sizeof(pcb->rcv_sacks) - sizeof(pcb->rcv_sacks[0]));
    memset(&pcb->rcv_sacks[LWIP_TCP_MAX_SACK_NUM - 1], 0, sizeof(pcb->rcv_sacks[0]));
  }
}
