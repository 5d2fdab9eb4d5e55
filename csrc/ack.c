/*
 * One acknowledgement for many segments: lwIP acknowledges every second one, which is most of the work of a batch.
 * While `acknowledging` is some connection's, its delayed ACK is put off from segment to segment; the end of the batch
 * sends it. Segments out of order are acknowledged at once all the same: lwIP does that without the delay flag.
 */
#include "tcp_endpoint.h"

#define ACKS_EACH 16

static int in_batch;
static lwipy_handle acknowledging;
static unsigned put_off;

void
lwipy_tcp_batch_begin(void)
{
  in_batch = 1;
  acknowledging = 0;
}

void
lwipy_tcp_batch_segment(struct tcp_pcb *pcb)
{
  const struct lwipy_tcp *tcp = pcb->callback_arg;
  if (tcp != NULL && tcp->quickack) {
    tcp_set_flags(pcb, TF_ACK_DELAY);      /* lwIP takes this segment for the second one */
    return;
  }
  if (!in_batch || tcp == NULL || (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW)) != TF_ACK_DELAY) {
    return;
  }
  if (acknowledging == 0) {
    acknowledging = tcp->end.handle;
    put_off = 0;
  }
  if (acknowledging == tcp->end.handle && ++put_off % ACKS_EACH != 0) {
    tcp_clear_flags(pcb, TF_ACK_DELAY);
  }
}

void
lwipy_tcp_batch_end(void)
{
  struct lwipy_tcp *tcp = acknowledging != 0 ? lwipy_end_find(acknowledging, LWIPY_KIND_TCP) : NULL;
  in_batch = 0;
  acknowledging = 0;
  if (tcp != NULL && tcp->pcb != NULL && put_off > 0 && tcp->connected) {
    lwipy_tcp_use_window(tcp);
    tcp_ack_now(tcp->pcb);
    tcp_output(tcp->pcb);
  }
}
