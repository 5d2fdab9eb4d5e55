/*
 * RACK-TLP (RFC 8985): what was sent well before something that has arrived is lost; a lost tail is asked for.
 *
 * Theory of operation. Counting duplicates cannot tell reordering from loss, nor see that a segment sent again was lost
 * again. Time can: when a segment has arrived that was sent at `rack_at`, everything sent before then and not arrived
 * within a round trip and the reordering window is lost, for the first time or the third. The window is nothing as long
 * as no reordering was seen and there is other evidence; then a quarter of the least round trip, more for each round in
 * which the peer reported (by DSACK) what it had twice, and less again after 16 recoveries without such.
 *
 * The tail of a flight has nothing behind it that would arrive. Two round trips after the last segment went and without
 * an answer, one probe is sent: something new if there is, else the last segment again. Its acknowledgement tells
 * what is missing.
 *
 * Where this departs from the RFC: the probe waits 1.5 round trips and the delay with which the peer may acknowledge.
 * That delay is not taken for 200 ms from the beginning: it is 10 ms, and grows, for segments that are alone in flight,
 * when probe after probe turns out to have been needless.
 *
 * Invariants:
 * 1. Only what was sent earlier than something that has arrived is marked by time.
 * 2. At most one probe is out, and none while loss is being repaired.
 */
#include "sending.h"

#include "lwip/priv/tcp_priv.h"

#define PERSIST 16                 /* recoveries */
#define MOST_STEPS 20
#define LEAST_DELAY 10000          /* of an acknowledgement, microseconds */
#define MOST_DELAY 200000
#define TOLERATED 3                /* needless probes in a row */

/* RFC 8985 section 3: was `a` sent after `b`? */
static int
sent_after(u32_t at_a, u32_t end_a, u32_t at_b, u32_t end_b)
{
  return lwipy_later(at_a, at_b) || (at_a == at_b && TCP_SEQ_GT(end_a, end_b));
}

void
lwipy_rack_open(struct lwipy_sending *sending)
{
  sending->ack_delay = LEAST_DELAY;
}

void
lwipy_rack_delivered(struct lwipy_sending *sending, const struct lwipy_sent *sent, u32_t now)
{
  u32_t rtt = now - sent->sent_at;
  if (TCP_SEQ_GT(sent->end, sending->highest)) {
    sending->highest = sent->end;
  } else if (!(sent->flags & LWIPY_RESENT)) {
    sending->reordering = 1;
  }
  /* Sooner than any answer could come: it was the first copy that arrived. */
  if ((sent->flags & LWIPY_RESENT) && rtt < sending->min_rtt) {
    return;
  }
  if (sending->rack_rtt == 0 || sent_after(sent->sent_at, sent->end, sending->rack_at, sending->rack_end)) {
    sending->rack_at = sent->sent_at;
    sending->rack_end = sent->end;
    sending->rack_rtt = LWIP_MAX(rtt, 1);
  }
}

void
lwipy_rack_dsack(struct lwipy_sending *sending)
{
  if (!sending->dsack_noted || TCP_SEQ_GEQ(sending->una, sending->dsack_round)) {
    sending->dsack_noted = 1;
    sending->dsack_round = sending->pcb->snd_nxt;
    sending->reo_steps = (u8_t)LWIP_MIN(sending->reo_steps + 1, MOST_STEPS);
    sending->reo_persist = PERSIST;
  }
}

void
lwipy_rack_recovered(struct lwipy_sending *sending)
{
  if (sending->reo_persist > 0 && --sending->reo_persist == 0) {
    sending->reo_steps = 0;
  }
}

u32_t
lwipy_rack_window(struct lwipy_sending *sending)
{
  u32_t window;
  if (!sending->reordering && sending->reo_steps == 0 &&
      (sending->phase != LWIPY_OPEN || sending->flight.sacked >= 3)) {
    return 0;
  }
  window = sending->min_rtt == UINT32_MAX ? 0 : sending->min_rtt / 4;
  return LWIP_MIN(window * (sending->reo_steps + 1u), lwipy_rtt(sending));
}

u32_t
lwipy_rack_detect(struct lwipy_sending *sending, u32_t now, u32_t *wait)
{
  struct lwipy_flight *flight = &sending->flight;
  u32_t i, window, bytes = 0;
  *wait = 0;
  if (sending->rack_rtt == 0 || (flight->sacked == 0 && sending->phase == LWIPY_OPEN)) {
    return 0;                      /* everything left was sent later than what has arrived */
  }
  window = lwipy_rack_window(sending);
  for (i = 0; i < flight->count; i++) {
    struct lwipy_sent *sent = lwipy_sent(flight, i);
    s32_t left;
    if (sent->flags & (LWIPY_SACKED | LWIPY_LOST)) {
      continue;
    }
    if (!sent_after(sending->rack_at, sending->rack_end, sent->sent_at, sent->end)) {
      if (!(sent->flags & LWIPY_RESENT) && TCP_SEQ_GEQ(sent->seq, sending->highest)) {
        break;                     /* nor was anything behind it sent earlier */
      }
      continue;
    }
    left = (s32_t)(sent->sent_at + sending->rack_rtt + window - now);
    if (left <= 0) {
      lwipy_flight_set(flight, sent, LWIPY_LOST);
      sending->lost_segments++;
      bytes += lwipy_sent_length(sent);
    } else {
      *wait = LWIP_MAX(*wait, (u32_t)left);
    }
  }
  return bytes;
}

u32_t
lwipy_probe_timeout(const struct lwipy_sending *sending)
{
  u32_t rtt = sending->prompt8 / 8, delay = sending->flight.count > 1 ? LEAST_DELAY : sending->ack_delay;
  return rtt == 0 ? sending->rto : rtt + rtt / 2 + delay;
}

void
lwipy_probe_judged(struct lwipy_sending *sending, int needless)
{
  sending->probing = 0;
  if (!needless) {
    sending->needless_row = 0;
    return;
  }
  sending->needless++;
  if (++sending->needless_row > TOLERATED) {
    sending->ack_delay = LWIP_MIN(2 * sending->ack_delay, MOST_DELAY);
    sending->needless_row = TOLERATED;
  }
}
