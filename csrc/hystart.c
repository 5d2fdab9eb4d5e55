/*
 * HyStart++ (RFC 9406): leaving slow start when the round trip grows, before the queue overflows.
 *
 * Theory of operation. A round is one window's worth of data. When the least round trip of this round's first samples
 * is an eighth longer than the last round's (4 to 16 ms), a queue is building: conservative slow start begins, which
 * grows a quarter as fast. If the round trip falls again within five rounds the suspicion was wrong; else that was it.
 *
 * Invariants:
 * 1. Only the first slow start is watched: after a loss ssthresh is known (`over`).
 * 2. A round ends when everything that was in flight at its beginning is acknowledged.
 */
#include "sending.h"

#include "lwip/priv/tcp_priv.h"

#define LEAST_THRESHOLD 4000
#define MOST_THRESHOLD  16000
#define SAMPLES         8
#define CSS_DIVISOR     4
#define CSS_ROUNDS      5

static void
new_round(struct lwipy_hystart *hystart, struct lwipy_sending *sending)
{
  hystart->last_min = hystart->samples > 0 ? hystart->round_min : 0;
  hystart->round_min = UINT32_MAX;
  hystart->samples = 0;
  hystart->round_end = sending->pcb->snd_nxt;
  if (hystart->css && ++hystart->css_rounds >= CSS_ROUNDS) {
    sending->ssthresh = sending->cwnd;
    hystart->over = 1;
  }
}

static void
look(struct lwipy_hystart *hystart)
{
  u32_t threshold;
  if (hystart->samples < SAMPLES) {
    return;
  }
  if (hystart->css) {
    if (hystart->round_min < hystart->css_base) {
      hystart->css = 0;
    }
  } else if (hystart->last_min != 0) {
    threshold = LWIP_MIN(LWIP_MAX(hystart->last_min / 8, LEAST_THRESHOLD), MOST_THRESHOLD);
    if (hystart->round_min >= hystart->last_min + threshold) {
      hystart->css = 1;
      hystart->css_rounds = 0;
      hystart->css_base = hystart->round_min;
    }
  }
}

u32_t
lwipy_hystart_ack(struct lwipy_hystart *hystart, struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  if (hystart->over) {
    return ack->delivered;
  }
  if (hystart->round_end == 0 || TCP_SEQ_GEQ(sending->una, hystart->round_end)) {
    new_round(hystart, sending);
  }
  if (ack->rtt != 0) {
    hystart->round_min = LWIP_MIN(hystart->round_min, ack->rtt);
    if (hystart->samples < UINT16_MAX) {
      hystart->samples++;
    }
    look(hystart);
  }
  return hystart->css ? ack->delivered / CSS_DIVISOR : ack->delivered;
}
