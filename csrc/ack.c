/*
 * One acknowledgement for a batch: lwIP acknowledges every second segment, which is most of the work of a batch.
 *
 * Theory of operation. While a batch runs, the delayed ACK of each connection that receives is put off from segment to
 * segment; the end of the batch sends it, and so does every ACKS_EACH-th frame, for a peer whose window grows by the
 * number of ACKs. After a segment beyond a hole the next QUICK segments are acknowledged as lwIP does it: a sender that
 * recovers needs every one of them (without it, goodput under loss falls two to six times).
 *
 * Invariants:
 * 1. A delayed ACK that was put off is sent by lwIP meanwhile, or by lwipy_ack_batch_end().
 * 2. An ACK that nothing calls for is never sent: the peer would count it as a duplicate.
 */
#include "merge.h"
#include "tcp_endpoint.h"

#define ACKS_EACH 64
#define QUICK     500
#define MOST      8                /* connections of a batch; the others are acknowledged as lwIP does it */

struct owing {
  lwipy_handle handle;
  u32_t frames;                    /* since lwIP was last let acknowledge */
  u8_t put_off;                    /* a delayed ACK was taken back and not set again yet */
};

u32_t lwipy_frames_in_segment = 1;
static int in_batch;
static struct owing owing[MOST];
static unsigned count;

void
lwipy_ack_batch_begin(void)
{
  in_batch = !(lwipy_without & LWIPY_WITHOUT_ONE_ACK);
  count = 0;
}

static struct owing *
find(lwipy_handle handle)
{
  unsigned i;
  for (i = 0; i < count; i++) {
    if (owing[i].handle == handle) {
      return &owing[i];
    }
  }
  return NULL;
}

void
lwipy_ack_segment(struct tcp_pcb *pcb, u32_t seqno)
{
  struct lwipy_tcp *tcp = pcb->callback_arg;
  struct owing *own;
  if (tcp == NULL) {
    return;
  }
  if (tcp->quickack) {
    tcp_set_flags(pcb, TF_ACK_DELAY);      /* lwIP takes this segment for the second one */
    return;
  }
  if (TCP_SEQ_GT(seqno, pcb->rcv_nxt) || pcb->ooseq != NULL) {
    tcp->quick = QUICK;
  } else if (tcp->quick > 0) {
    tcp->quick--;
  }
  if (!in_batch || tcp->quick > 0) {
    return;
  }
  if ((own = find(tcp->end.handle)) == NULL) {
    if (count == MOST) {
      return;
    }
    own = &owing[count++];
    own->handle = tcp->end.handle;
    own->frames = 0;
  }
  own->frames += lwipy_frames_in_segment;
  own->put_off = 0;
  if (own->frames >= ACKS_EACH) {
    own->frames = 1;               /* lwIP acknowledges this one, if one was put off before it */
  } else if ((pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW)) == TF_ACK_DELAY) {
    own->put_off = 1;
    tcp_clear_flags(pcb, TF_ACK_DELAY);
  }
}

void
lwipy_ack_goes_out(const struct tcp_pcb *pcb)
{
  const struct lwipy_tcp *tcp = pcb->callback_arg;
  struct owing *own = count > 0 && tcp != NULL ? find(tcp->end.handle) : NULL;
  if (own != NULL) {
    own->frames = own->put_off = 0;
  }
}

void
lwipy_ack_batch_end(void)
{
  unsigned i;
  for (i = 0; i < count; i++) {
    struct lwipy_tcp *tcp = lwipy_end_find(owing[i].handle, LWIPY_KIND_TCP);
    if (tcp != NULL && tcp->pcb != NULL && tcp->connected &&
        (owing[i].put_off || ((tcp->pcb->flags & TF_ACK_DELAY) && owing[i].frames > 1))) {
      lwipy_tcp_use_window(tcp);
      tcp_ack_now(tcp->pcb);
      tcp_output(tcp->pcb);
    }
  }
  in_batch = 0;
  count = 0;
}
